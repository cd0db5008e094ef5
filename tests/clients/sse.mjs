// graphql-sse and a browser's EventSource: each goes on where it was when its connection was cut, by the header
// Last-Event-ID. Usage: node sse.mjs URL [CUTS] [SEED]

import assert from 'node:assert/strict';

import { EventSource } from 'eventsource';
import { createClient } from 'graphql-sse';

import { Wire, allEvents, ask, data, random, runShell, steps, until } from './support.mjs';

const [url, cuts = '20', seed = String(Date.now() % 2 ** 31)] = process.argv.slice(2);
const chance = random(Number(seed));
console.log(`seed ${seed}`);

const wire = await Wire.to(url);
// The server without the wire between; another one once it was started anew.
let server = url;
const query = 'subscription ($after: String) { jobEvents(after: $after) { cursor type job { id } } }';

/** Runs jobs and cuts the wire meanwhile; then what was seen must be what is stored, once and in order. */
async function compare(seen, cut) {
  const ids = [];
  for (let round = 0; round < Number(cuts); round += 1) {
    ids.push(...(await runShell(server, 'true', 'echo ::progress current=1::; false')));
    const before = wire.accepted;
    await until('a connection', () => wire.live > 0);
    await new Promise((resolve) => setTimeout(resolve, chance() * 30));
    await cut(round);
    await until('a new connection', () => wire.accepted > before);
  }
  const expected = await allEvents(server, ids);
  await until('all events', () => seen.length >= expected.length);
  assert.deepEqual(seen, expected);
  console.log(`${wire.cuts} cuts, ${seen.length} events`);
}

await steps({
  async 'graphql-sse resumes with the header'() {
    const { eventCursor } = await data(server, '{ eventCursor }');
    let last = eventCursor;
    const seen = [];
    const client = createClient({
      url: wire.url,
      // Read anew for each attempt.
      headers: () => ({ 'last-event-id': last }),
      retryAttempts: Infinity,
      retry: () => new Promise((resolve) => setTimeout(resolve, 5)),
    });
    let failure;
    const stop = client.subscribe(
      { query },
      {
        next({ data, errors }) {
          if (errors) failure = errors;
          last = data.jobEvents.cursor;
          seen.push(last);
        },
        error: (error) => (failure = error),
        complete: () => {},
      },
    );
    await compare(seen, () => wire.cut());
    assert.equal(failure, undefined);
    stop();
    client.dispose();
  },

  async 'an EventSource resumes by itself'() {
    const { eventCursor } = await data(server, '{ eventCursor }');
    const address = new URL(wire.url);
    address.searchParams.set('query', query);
    // It stays in the URL for good: what the browser saw later goes before it.
    address.searchParams.set('variables', JSON.stringify({ after: eventCursor }));
    const seen = [];
    const source = new EventSource(address);
    const ids = [];
    source.addEventListener('next', ({ data, lastEventId }) => {
      const event = JSON.parse(data).data.jobEvents;
      assert.equal(lastEventId, event.cursor);
      seen.push(event.cursor);
    });
    const round = async (cut) => {
      ids.push(...(await runShell(server, 'true')));
      await until('the event', () => seen.length >= ids.length * 3);
      const before = wire.accepted;
      await cut();
      ids.push(...(await runShell(server, 'true')));
      await until('a new connection', () => wire.accepted > before && source.readyState === EventSource.OPEN);
    };
    await round(() => wire.cut());
    await round(async () => {
      server = await ask('please restart');
      wire.retarget(server);
    });
    const expected = await allEvents(server, ids);
    await until('all events', () => seen.length >= expected.length);
    assert.deepEqual(seen, expected);
    source.close();
  },

  async 'an EventSource is told of the end'() {
    const [id] = await runShell(server, 'true');
    const address = new URL(wire.url);
    address.searchParams.set('query', `subscription { job(id: "${id}") { status } }`);
    const source = new EventSource(address);
    const seen = [];
    source.addEventListener('next', ({ data }) => seen.push(JSON.parse(data).data.job.status));
    await new Promise((resolve) => source.addEventListener('complete', resolve));
    source.close();
    assert.equal(seen.at(-1), 'COMPLETED');
  },
});
