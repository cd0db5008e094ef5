// Lints the schema with graphql-eslint, by eslint.config.mjs. Usage: node schema/lint.mjs

import { fileURLToPath } from 'node:url';

import { ESLint } from 'eslint';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const eslint = new ESLint({ cwd: root, overrideConfigFile: fileURLToPath(new URL('eslint.config.mjs', import.meta.url)) });
const results = await eslint.lintFiles(['schema.graphql']);
const formatter = await eslint.loadFormatter('stylish');
const report = await formatter.format(results);
if (report) console.error(report);
const problems = results.reduce((sum, { errorCount, warningCount }) => sum + errorCount + warningCount, 0);
if (results.length !== 1) throw new Error('the schema was not looked at');
console.log(`${problems} problems in schema.graphql`);
process.exitCode = problems === 0 ? 0 : 1;
