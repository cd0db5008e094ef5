// urql's core with its normalised cache: query, mutation, subscription over graphql-ws, and a list that an event keeps
// up to date. Usage: node urql.mjs URL

import assert from 'node:assert/strict';

import { Client, fetchExchange, gql, subscriptionExchange } from '@urql/core';
import { cacheExchange } from '@urql/exchange-graphcache';
import { getIntrospectionQuery } from 'graphql';
import { createClient } from 'graphql-ws';
import { pipe, subscribe } from 'wonka';
import WebSocket from 'ws';

import { data, runShell, steps, until } from './support.mjs';

const [url] = process.argv.slice(2);
// With the schema the cache knows interfaces and unions, and complains of fields that are not there.
const schema = await data(url, getIntrospectionQuery());
const complaints = [];
let requests = 0;

const socket = createClient({ url: url.replace(/^http/, 'ws'), webSocketImpl: WebSocket });
const client = new Client({
  url,
  preferGetMethod: false,
  exchanges: [
    cacheExchange({
      schema,
      // What is a part of its parent, and has no id of its own.
      keys: Object.fromEntries(
        ['JobConnection', 'JobEvent', 'RunPayload', 'UserError', 'ShellCommand', 'JobMetadata', 'Tag'].map((name) => [
          name,
          () => null,
        ]),
      ),
      logger: (kind, message) => kind !== 'debug' && complaints.push(`${kind}: ${message}`),
    }),
    fetchExchange,
    subscriptionExchange({
      forwardSubscription: ({ query, variables }) => ({
        subscribe: (sink) => ({ unsubscribe: socket.subscribe({ query, variables }, sink) }),
      }),
    }),
  ],
  fetch(...request) {
    requests += 1;
    return fetch(...request);
  },
});

const JOBS = gql`
  query Jobs {
    jobs(first: 20) {
      nodes {
        __typename
        id
        status
        command {
          ... on ShellCommand {
            command
          }
        }
      }
    }
  }
`;
const RUN = gql`
  mutation Run($input: RunInput!) {
    run(input: $input) {
      job {
        id
        status
      }
      errors {
        code
        path
      }
    }
  }
`;
const EVENTS = gql`
  subscription Events($after: String) {
    jobEvents(after: $after) {
      cursor
      type
      job {
        id
        status
      }
    }
  }
`;

await steps({
  async 'a query, then the same from the cache'() {
    const [id] = await runShell(url, 'echo once');
    const first = await client.query(JOBS, {}).toPromise();
    assert.equal(first.error, undefined);
    assert.deepEqual(first.data.jobs.nodes[0].command, { command: 'echo once' });
    assert.equal(first.data.jobs.nodes[0].id, id);
    const before = requests;
    await client.query(JOBS, {}).toPromise();
    assert.equal(requests, before);
  },

  async 'a refused mutation has its reasons in its payload'() {
    const { data, error } = await client.mutation(RUN, { input: { command: { exec: { program: 'true' } }, priority: 200 } }).toPromise();
    assert.equal(error, undefined);
    assert.equal(data.run.job, null);
    assert.equal(data.run.errors[0].code, 'INVALID');
  },

  async 'an input that is none is an error with a code'() {
    const { error } = await client.mutation(RUN, { input: { command: {} } }).toPromise();
    assert.equal(error.graphQLErrors[0].extensions.code, 'GRAPHQL_VALIDATION_FAILED', String(error));
  },

  async 'an event updates the cached list without a request'() {
    const { eventCursor } = await data(url, '{ eventCursor }');
    const ran = await client
      .mutation(RUN, { input: { command: { shell: { command: 'echo ::progress current=1::; sleep 0.3' } } } })
      .toPromise();
    const { id } = ran.data.run.job;
    const loaded = await client.query(JOBS, {}, { requestPolicy: 'network-only' }).toPromise();
    assert.ok(loaded.data.jobs.nodes.some((job) => job.id === id));
    const shown = [];
    const types = [];
    const before = requests;
    const list = pipe(
      client.query(JOBS, {}, { requestPolicy: 'cache-only' }),
      subscribe(({ data }) => shown.push(data.jobs.nodes.find((job) => job.id === id).status)),
    );
    const events = pipe(
      client.subscription(EVENTS, { after: eventCursor }),
      subscribe(({ data, error }) => {
        assert.equal(error, undefined);
        if (data.jobEvents.job.id === id) types.push(data.jobEvents.type);
      }),
    );
    await until('the end in the list', () => shown.at(-1) === 'COMPLETED');
    await until('the last event', () => types.at(-1) === 'COMPLETED');
    assert.deepEqual(types, ['CREATED', 'STARTED', 'PROGRESSED', 'COMPLETED']);
    assert.equal(requests, before, 'the page asked again');
    assert.deepEqual(complaints, []);
    list.unsubscribe();
    events.unsubscribe();
  },
});
