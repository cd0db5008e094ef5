// Compares the schema with the one that clients write against: that of the last tag, or where there is none that of the
// default branch, or there that before its last change. A change that breaks a client is red, unless docs/breaking-changes.md says that it
// is meant. Usage: node schema/changes.mjs, anywhere in a clone; or node schema/changes.mjs OLD NEW ACCEPTED for files

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { CriticalityLevel, DiffRule, diff } from '@graphql-inspector/core';
import { buildSchema } from 'graphql';

const root = fileURLToPath(new URL('../../..', import.meta.url));

function git(...command) {
  try {
    return execFileSync('git', command, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return null;
  }
}

/** The commit whose schema clients write against, and what it is called. */
function base(schema) {
  const tag = git('describe', '--tags', '--abbrev=0');
  if (tag) return [tag, `the last tag, ${tag}`];
  const head = git('rev-parse', 'HEAD');
  const ahead = git('merge-base', 'HEAD', 'origin/HEAD') ?? git('merge-base', 'HEAD', 'origin/main');
  if (ahead && ahead !== head) return [ahead, 'the default branch'];
  if (git('show', 'HEAD:schema.graphql') !== schema.trim()) return [head, 'the last commit'];
  return [git('rev-list', '--max-count=1', '--skip=1', 'HEAD', '--', 'schema.graphql'), 'the version before'];
}

function read() {
  const [old, changed, accepted] = process.argv.slice(2);
  if (old) return [old, readFileSync(old, 'utf8'), readFileSync(changed, 'utf8'), accepted];
  const schema = readFileSync(`${root}/schema.graphql`, 'utf8');
  const [commit, name] = base(schema);
  return [name, commit && git('show', `${commit}:schema.graphql`), schema];
}

const [name, old, changed, list = `${root}/docs/breaking-changes.md`] = read();
if (!old) {
  // A clone of one commit, or the first commit with a schema.
  console.log('there is no earlier schema to compare with');
  process.exit(0);
}

// Each breaking change that is meant is an item of the list, as this script prints it.
const accepted = new Set(
  (existsSync(list) ? readFileSync(list, 'utf8') : '')
    .split('\n')
    .filter((line) => line.startsWith('- '))
    .map((line) => line.slice(2).trim()),
);
// Words for people break nobody, and would hide the rest.
const changes = await diff(buildSchema(old), buildSchema(changed), [DiffRule.ignoreDescriptionChanges]);
const breaking = changes.filter(({ criticality }) => criticality.level === CriticalityLevel.Breaking);
const unmeant = breaking.filter(({ message }) => !accepted.has(message));
console.log(`${changes.length} changes since ${name}, ${breaking.length} of them breaking`);
for (const { criticality, message } of changes) {
  const meant = criticality.level === CriticalityLevel.Breaking && accepted.has(message) ? ', meant' : '';
  console.log(`- ${message} (${criticality.level.toLowerCase()}${meant})`);
}
if (unmeant.length > 0) {
  console.error('These break clients. Where that is meant, add them to docs/breaking-changes.md:');
  for (const { message } of unmeant) console.error(`- ${message}`);
  process.exit(1);
}
