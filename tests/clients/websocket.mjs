// Executes one operation with graphql-ws, the reference client of graphql-transport-ws, and prints each result as a
// line of JSON. Usage: node websocket.mjs URL DOCUMENT [COUNT]
// Ends after COUNT results, or with the operation. An error of the operation or the connection ends it with status 1.

import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

const [url, query, count = 'Infinity'] = process.argv.slice(2);
if (!query) throw new Error('usage: node websocket.mjs URL DOCUMENT [COUNT]');

const client = createClient({
  url: url.replace(/^http/, 'ws'),
  webSocketImpl: WebSocket,
  connectionParams: process.env.RUNQL_TOKEN ? { token: process.env.RUNQL_TOKEN } : undefined,
  // Events of the connection go to the other stream, so that a test can wait for a reconnection.
  on: {
    connected: (_socket, _payload, wasRetry) => console.error(wasRetry ? 'reconnected' : 'connected'),
    closed: ({ code, reason }) => console.error(`closed ${code} ${reason}`),
  },
});

try {
  let seen = 0;
  for await (const result of client.iterate({ query })) {
    console.log(JSON.stringify(result));
    if (++seen >= Number(count)) break;
  }
} catch (error) {
  console.error(error instanceof Error ? error.message : JSON.stringify(error.code ? error.code : error));
  process.exitCode = 1;
}
await client.dispose();
