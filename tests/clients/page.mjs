// What a page has and Node.js has not, for the examples of docs/subscriptions.md: an address, sockets, event streams.
// Used as: RUNQL_URL=… node --import ./page.mjs EXAMPLE

import { EventSource } from 'eventsource';
import WebSocket from 'ws';

globalThis.location = new URL(process.env.RUNQL_URL);
globalThis.WebSocket = WebSocket;
globalThis.EventSource = EventSource;

// A page ends with its browser.
process.stdin.on('end', () => process.exit()).resume();
