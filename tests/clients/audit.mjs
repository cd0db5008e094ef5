// Runs every audit that graphql-http has for a GraphQL over HTTP server: MUST, SHOULD and MAY.
// Usage: node audit.mjs http://127.0.0.1:8000/graphql
// Prints what fails, and ends with an error unless all of them pass.

import { auditServer } from 'graphql-http';

const [url] = process.argv.slice(2);
if (!url) throw new Error('usage: node audit.mjs URL');

const results = await auditServer({ url });
const failed = results.filter(({ status }) => status !== 'ok');
for (const { id, name, status, reason } of failed) {
  console.error(`${status} ${id} ${name}: ${reason}`);
}
console.log(`${results.length - failed.length} passed, ${failed.length} failed`);
process.exitCode = failed.length === 0 && results.length > 0 ? 0 : 1;
