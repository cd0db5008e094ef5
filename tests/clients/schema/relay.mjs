// Runs relay-compiler over the schema and the example beside it, in a folder of its own. Usage: node schema/relay.mjs

import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import compiler from 'relay-compiler';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

const folder = mkdtempSync(join(tmpdir(), 'runql-relay-'));
try {
  cpSync(here('relay'), folder, { recursive: true });
  cpSync(here('../../../schema.graphql'), join(folder, 'schema.graphql'));
  // Its own watcher is of no use here, and it would be looked for.
  execFileSync(compiler, ['relay.config.json', '--output', 'verbose'], { cwd: folder, stdio: 'inherit' });
  const artifacts = readdirSync(join(folder, 'src/__generated__'));
  const expected = ['JobListPageQuery', 'JobListRowQuery', 'JobListStepsQuery', 'JobListEventsSubscription'];
  for (const name of expected) {
    if (!artifacts.includes(`${name}.graphql.ts`)) throw new Error(`${name} was not made: ${artifacts}`);
  }
  console.log(`${artifacts.length} artifacts`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
