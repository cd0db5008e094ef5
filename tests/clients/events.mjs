// Executes one operation with graphql-sse, the reference client of GraphQL over server-sent events in its distinct
// connections mode, and prints each result as a line of JSON. Usage: node events.mjs URL DOCUMENT [COUNT]
// Ends after COUNT results, or with the operation. An error ends it with status 1.

import { createClient } from 'graphql-sse';

const [url, query, count = 'Infinity'] = process.argv.slice(2);
if (!query) throw new Error('usage: node events.mjs URL DOCUMENT [COUNT]');

const token = process.env.RUNQL_TOKEN;
const client = createClient({
  url,
  headers: token ? { authorization: `Bearer ${token}` } : undefined,
  // Events of the connection go to the other stream, so that a test can wait for a reconnection.
  on: { connected: (reconnected) => console.error(reconnected ? 'reconnected' : 'connected') },
});

try {
  let seen = 0;
  for await (const result of client.iterate({ query })) {
    console.log(JSON.stringify(result));
    if (++seen >= Number(count)) break;
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
client.dispose();
