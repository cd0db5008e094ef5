// A listener over graphql-ws whose connection is cut at random moments while jobs run has seen every event exactly
// once, and in order. Usage: node cuts.mjs URL [CUTS] [SEED]

import assert from 'node:assert/strict';

import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

import { Wire, allEvents, data, random, runShell, steps, until } from './support.mjs';

const [url, cuts = '200', seed = String(Date.now() % 2 ** 31)] = process.argv.slice(2);
const chance = random(Number(seed));
console.log(`seed ${seed}`);

const wire = await Wire.to(url);
const query = 'subscription ($after: String) { jobEvents(after: $after) { cursor type job { id } } }';
const seen = [];
let stopped = false;
let connections = 0;

async function listen(after) {
  const client = createClient({
    url: wire.url.replace(/^http/, 'ws'),
    webSocketImpl: WebSocket,
    // This listener begins each subscription itself, at its own cursor.
    retryAttempts: 0,
    on: { connected: () => (connections += 1) },
  });
  while (!stopped) {
    try {
      for await (const { data, errors } of client.iterate({ query, variables: { after } })) {
        assert.equal(errors, undefined, JSON.stringify(errors));
        seen.push(data.jobEvents);
        after = data.jobEvents.cursor;
      }
    } catch (closed) {
      // 1006, or an error's event: the connection was cut. All else is the server's answer, and wrong here.
      const cut = closed.code === 1006 || closed.type === 'error';
      if (!cut && !stopped) throw new Error(`${closed} ${closed.code} ${JSON.stringify(closed)}`);
    }
  }
  await client.dispose();
}

await steps({
  async 'every event exactly once and in order'() {
    const { eventCursor } = await data(url, '{ eventCursor }');
    let failure;
    const listener = listen(eventCursor).catch((error) => (failure = error));
    const ids = [];
    const target = Number(cuts);
    while (wire.cuts < target) {
      if (failure) throw failure;
      // So that some jobs run or wait at any time, and the history stays short.
      if (ids.length < 40 + wire.cuts * 2) {
        ids.push(...(await runShell(url, 'true', 'echo ::progress current=1 total=2::half; echo done', 'false')));
      }
      // At any moment from the handshake to the middle of a replay; now and then two cuts hit one attempt to connect.
      const before = wire.accepted;
      await new Promise((resolve) => setTimeout(resolve, chance() * 40));
      if (wire.live > 0) wire.cut();
      if (chance() < 0.8) await until('a new connection', () => failure || wire.accepted > before);
    }
    const expected = await allEvents(url, ids);
    await until('all events', () => failure || seen.length >= expected.length);
    if (failure) throw failure;
    assert.deepEqual(
      seen.map(({ cursor }) => cursor),
      expected,
    );
    stopped = true;
    await wire.close();
    await listener;
    console.log(`${wire.cuts} cuts, ${connections} sessions, ${ids.length} jobs, ${seen.length} events`);
  },
});
