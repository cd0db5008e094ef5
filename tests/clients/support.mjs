// What the scripts of this folder share: requests without any client, waiting by condition, a wire that can be cut, and
// the conversation with the test that started them. Not: anything of a particular client.

import { once } from 'node:events';
import net from 'node:net';
import { createInterface } from 'node:readline';

/** How long anything may take, in milliseconds. */
export const BOUND = 60_000;

/** How long a script may take, in milliseconds: less than the test runner allows, so that the script can say why. */
const WHOLE = 110_000;

/** The data of an operation that must not fail, by plain HTTP. */
export async function data(url, query, variables) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = await response.json();
  if (errors) throw new Error(JSON.stringify(errors));
  return data;
}

/** Stores jobs that run a line of a shell each, and gives their ids. */
export async function runShell(url, ...lines) {
  const document = 'mutation ($inputs: [RunInput!]!) { runMany(inputs: $inputs) { jobs { id } errors { message } } }';
  const inputs = lines.map((command) => ({ command: { shell: { command } } }));
  const { runMany } = await data(url, document, { inputs });
  if (runMany.errors.length > 0) throw new Error(JSON.stringify(runMany.errors));
  return runMany.jobs.map(({ id }) => id);
}

/** All events of a job, as the store has them: what a listener is compared with. */
async function storedEvents(url, id) {
  const document = 'query ($id: ID!) { job(id: $id) { events(first: 1000) { nodes { cursor type } } } }';
  const { job } = await data(url, document, { id });
  return job.events.nodes;
}

/** The cursors of events, in the order of their commits, for comparisons: clients take cursors as they are. */
export function inOrder(cursors) {
  const place = (cursor) => Buffer.from(cursor, 'base64url').readBigInt64BE(2);
  return [...cursors].sort((a, b) => (place(a) < place(b) ? -1 : 1));
}

/** All cursors of events of jobs, once these have ended, in order: what a listener must have seen. */
export async function allEvents(url, ids) {
  const cursors = [];
  for (const id of ids) {
    const events = await until('the end of the jobs', async () => {
      const events = await storedEvents(url, id);
      return ['COMPLETED', 'FAILED', 'CANCELLED'].includes(events.at(-1).type) && events;
    });
    cursors.push(...events.map(({ cursor }) => cursor));
  }
  return inOrder(cursors);
}

/** Waits until a condition gives something that is true, and gives that. */
export async function until(what, condition) {
  const end = Date.now() + BOUND;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Gives what a promise gives, or fails where it takes too long. */
export function within(what, promise, bound = BOUND) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), bound);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A server's address that stays while the server behind it is cut off or replaced. */
export class Wire {
  #target;
  #sockets = new Set();
  #listener = net.createServer((client) => this.#pass(client));
  /** Connections that were accepted. */
  accepted = 0;
  /** Whether new connections are cut at once. */
  hold = false;
  /** Connections that were cut. */
  cuts = 0;

  /** A wire to the server at this URL. */
  static async to(url) {
    const wire = new Wire();
    wire.retarget(url);
    wire.#listener.listen(0, '127.0.0.1');
    await once(wire.#listener, 'listening');
    return wire;
  }

  /** The URL of the same page through this wire. */
  get url() {
    const url = new URL(this.#target);
    url.port = this.#listener.address().port;
    return url.href;
  }

  get live() {
    return this.#sockets.size;
  }

  /** Passes new connections on to another server. */
  retarget(url) {
    this.#target = new URL(url);
  }

  /** Cuts every connection, in the middle of whatever is being said. */
  cut() {
    for (const socket of this.#sockets) socket.cut();
    return this.cuts;
  }

  async close() {
    this.cut();
    this.#listener.close();
    await once(this.#listener, 'close');
  }

  #pass(client) {
    if (this.hold) {
      client.resetAndDestroy();
      return;
    }
    this.accepted += 1;
    const server = net.connect(Number(this.#target.port), this.#target.hostname);
    const pair = {
      cut: () => {
        this.cuts += 1;
        // A reset, as a dead router sends it: no farewell, and what was under way is lost.
        client.resetAndDestroy();
        server.resetAndDestroy();
      },
    };
    this.#sockets.add(pair);
    for (const [from, to] of [
      [client, server],
      [server, client],
    ]) {
      from.on('error', () => to.destroy());
      from.on('close', () => {
        to.destroy();
        this.#sockets.delete(pair);
      });
      from.pipe(to);
    }
  }
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Asks the test that started this script for something that only it can do, and gives its answer. */
export async function ask(word) {
  console.log(word);
  const { value } = await within(`the answer to "${word}"`, lines.next());
  return value;
}

/** Runs a script's steps, one after the other, and says how it went: the first failure ends it with status 1. */
export async function steps(all) {
  for (const [name, step] of Object.entries(all)) {
    try {
      await within(name, step(), WHOLE);
      console.log(`ok ${name}`);
    } catch (error) {
      console.error(`failed ${name}:`, error);
      process.exit(1);
    }
  }
  process.exit(0);
}

/** A number generator whose numbers are the same for the same seed: a failure can be had again. */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
