// Generates types over the schema, as GraphQL Code Generator's client preset does, and compiles a program that uses them.
// Usage: node schema/codegen.mjs

import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { preset } from '@graphql-codegen/client-preset';
import { codegen } from '@graphql-codegen/core';
import { buildSchema, parse } from 'graphql';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

const sdl = readFileSync(here('../../../schema.graphql'), 'utf8');
const location = here('codegen/operations.graphql');
const rawSDL = readFileSync(location, 'utf8');

// Below this package, so that the compiler finds what the generated files import.
const folder = mkdtempSync(here('../node_modules/.codegen-'));
try {
  cpSync(here('codegen'), folder, { recursive: true });
  const files = await preset.buildGeneratesSection({
    baseOutputDir: `${folder}/generated/`,
    schema: parse(sdl),
    schemaAst: buildSchema(sdl),
    documents: [{ location, rawSDL, document: parse(rawSDL) }],
    config: {
      strictScalars: true,
      scalars: { DateTime: 'string', JSON: 'unknown', SafeInt: 'number' },
    },
    presetConfig: {},
    plugins: [],
    pluginMap: {},
  });
  mkdirSync(`${folder}/generated`, { recursive: true });
  for (const file of files) writeFileSync(file.filename, await codegen(file));
  const typescript = createRequire(import.meta.url).resolve('typescript/package.json');
  execFileSync(process.execPath, [join(dirname(typescript), 'bin/tsc'), '-p', folder], { stdio: 'inherit' });
  console.log(`${files.length} files were generated, and the program compiles`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
