// Runs an example of docs/subscriptions.md as a page would, under a connection that is cut, a server that is started anew
// and a cursor that expires: it has shown every event once and in order. Usage: node examples.mjs URL SECTION

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { Wire, allEvents, ask, data, runShell, steps, until } from './support.mjs';

const [url, section] = process.argv.slice(2);
const wire = await Wire.to(url);
let server = url;

const text = readFileSync(new URL('../../docs/subscriptions.md', import.meta.url), 'utf8');
const [block, ...others] = text
  .split(/^## /m)
  .filter((part) => part.startsWith(`${section}\n`))
  .flatMap((part) => [...part.matchAll(/^```js\n(.*?)^```$/gms)].map(([, code]) => code));
assert.ok(block && others.length === 0, `one example in the section "${section}"`);

// A page begins with what there is, and is told of nothing that was over before.
await allEvents(server, await runShell(server, 'true'));

// Beside the packages that it imports.
const file = fileURLToPath(new URL(`node_modules/.example-${process.pid}.mjs`, import.meta.url));
writeFileSync(file, block);
const page = spawn(process.execPath, ['--import', './page.mjs', file], {
  env: { ...process.env, RUNQL_URL: wire.url },
  // Its input ends with this script, however that ends, and the page with its input.
  stdio: ['pipe', 'pipe', 'inherit'],
});
process.on('exit', () => {
  page.kill('SIGKILL');
  rmSync(file, { force: true });
});
page.on('exit', (code) => {
  console.error(`the page ended: ${code}`);
  process.exit(1);
});

/** What the page shows: how many jobs it began with, each time that it began, its events, and its list at the end. */
const begun = [];
const shown = [];
let list;
createInterface({ input: page.stdout }).on('line', (line) => {
  const begin = /^showing (\d+) jobs$/.exec(line);
  if (begin) begun.push(Number(begin[1]));
  else if (line.startsWith('list ')) list = line.slice(5).split(' ');
  else if (/^[A-Z_]+ [0-9a-f-]{36}$/.test(line)) shown.push(line);
  else console.log(`page: ${line}`);
});

async function expected(ids) {
  const cursors = await allEvents(server, ids);
  const document = 'query ($id: ID!) { node(id: $id) { ... on Job { events(first: 100) { nodes { cursor type } } } } }';
  const words = new Map();
  for (const id of ids) {
    const { node } = await data(server, document, { id });
    for (const { cursor, type } of node.events.nodes) words.set(cursor, `${type} ${id}`);
  }
  return cursors.map((cursor) => words.get(cursor));
}

const ids = [];

await steps({
  async 'begins'() {
    await until('the page', () => begun.length === 1);
    assert.equal(begun[0], 1);
  },

  async 'resumes after cuts'() {
    for (let round = 0; round < 3; round += 1) {
      ids.push(...(await runShell(server, 'true', 'sleep 0.1; false')));
      await until('an event', () => shown.some((line) => line.endsWith(ids.at(-2))));
      const before = wire.accepted;
      assert.ok(wire.live > 0);
      wire.cut();
      ids.push(...(await runShell(server, 'true')));
      await until('a new connection', () => wire.accepted > before);
    }
    const all = await expected(ids);
    await until('all events', () => shown.length >= all.length);
    assert.deepEqual(shown, all);
  },

  async 'resumes after the server was started anew'() {
    server = await ask('please restart');
    wire.retarget(server);
    ids.push(...(await runShell(server, 'true')));
    const all = await expected(ids);
    await until('all events', () => shown.length >= all.length);
    assert.deepEqual(shown, all);
    assert.equal(begun.length, 1, 'the page resumed, and did not begin again');
  },

  async 'begins again where its cursor has expired'() {
    wire.hold = true;
    wire.cut();
    const missed = await runShell(server, 'true');
    await allEvents(server, missed);
    const { cleanup } = await data(server, 'mutation { cleanup(input: {}) { deletedCount errors { message } } }');
    assert.deepEqual(cleanup.errors, []);
    assert.ok(cleanup.deletedCount > ids.length);
    shown.length = 0;
    wire.hold = false;
    await until('the page to begin again', () => begun.length === 2);
    assert.equal(begun[1], 0);
    const fresh = await runShell(server, 'true', 'false');
    const all = await expected(fresh);
    await until('all events', () => shown.length >= all.length);
    assert.deepEqual(shown, all);
    if (section === 'Apollo Client') await until('the list', () => list?.join(' ') === 'FAILED COMPLETED');
  },
});
