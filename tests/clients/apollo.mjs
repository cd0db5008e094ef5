// Apollo Client as a page has it: queries and mutations over HTTP with persisted queries, subscriptions over graphql-ws,
// a normalised cache, and a listener that resumes. Usage: node apollo.mjs URL

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';

import { ApolloClient, ApolloLink, CombinedGraphQLErrors, HttpLink, InMemoryCache, gql } from '@apollo/client';
import { PersistedQueryLink } from '@apollo/client/link/persisted-queries';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
import { OperationTypeNode } from 'graphql';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

import { Wire, allEvents, ask, runShell, steps, until } from './support.mjs';

// What a browser has, and older Node.js has not.
globalThis.WebSocket ??= WebSocket;

const [url] = process.argv.slice(2);
const wire = await Wire.to(url);
// The server without the wire between; another one once it was started anew.
let server = url;

/** The bodies of all HTTP requests, and the addresses of those without one. */
const requests = [];
const http = new HttpLink({
  uri: wire.url,
  fetch(address, options) {
    requests.push(options.body ?? String(address));
    return fetch(address, options);
  },
});
const socket = createClient({ url: wire.url.replace(/^http/, 'ws'), webSocketImpl: WebSocket, retryAttempts: 0 });
const persisted = new PersistedQueryLink({
  sha256: (text) => createHash('sha256').update(text).digest('hex'),
  useGETForHashedQueries: true,
});
const client = new ApolloClient({
  link: ApolloLink.split(
    ({ operationType }) => operationType === OperationTypeNode.SUBSCRIPTION,
    new GraphQLWsLink(socket),
    ApolloLink.from([persisted, http]),
  ),
  cache: new InMemoryCache({
    typePolicies: { Query: { fields: { jobs: { keyArgs: ['filter', 'orderBy'] } } } },
  }),
});

const JOB = gql`
  fragment JobRow on Job {
    id
    name
    status
    exitCode
  }
`;
const JOBS = gql`
  query Jobs {
    jobs(first: 20) {
      nodes {
        ...JobRow
      }
    }
  }
  ${JOB}
`;
const RUN = gql`
  mutation Run($input: RunInput!) {
    run(input: $input) {
      job {
        ...JobRow
      }
      errors {
        code
        message
        path
      }
    }
  }
  ${JOB}
`;
const EVENTS = gql`
  subscription Events($after: String) {
    jobEvents(after: $after) {
      cursor
      type
      job {
        ...JobRow
      }
    }
  }
  ${JOB}
`;
const CURSOR = gql`
  query Cursor {
    eventCursor
  }
`;

const shell = (command) => ({ input: { command: { shell: { command } } } });

/** Listens from a cursor on, again after each cut, and hands on each event. */
function listen(after, seen) {
  let subscription;
  let stopped = false;
  const begin = () => {
    if (stopped) return;
    subscription = client.subscribe({ query: EVENTS, variables: { after } }).subscribe({
      next({ data, error }) {
        if (CombinedGraphQLErrors.is(error)) throw error;
        if (error) return setTimeout(begin, 50);
        after = data.jobEvents.cursor;
        seen.push(data.jobEvents);
      },
    });
  };
  begin();
  return () => {
    stopped = true;
    subscription.unsubscribe();
  };
}

await steps({
  async 'a query is sent as a hash, and in full only once'() {
    const first = await client.query({ query: JOBS });
    assert.deepEqual(first.data.jobs.nodes, []);
    assert.equal(requests.length, 2, 'the hash was unknown, so the document followed');
    assert.ok(requests[0].includes('persistedQuery') && !requests[0].includes('query='), requests[0]);
    assert.match(requests[1], /query Jobs/);
    await client.query({ query: JOBS, fetchPolicy: 'network-only' });
    assert.equal(requests.length, 3);
    assert.ok(!/query Jobs|query=/.test(requests[2]), requests[2]);
  },

  async 'a refused mutation has its reasons in its payload'() {
    const { data } = await client.mutate({
      mutation: RUN,
      variables: { input: { command: { script: { name: 'nothing-of-that-name.sh' } } } },
    });
    assert.equal(data.run.job, null);
    assert.equal(data.run.errors[0].code, 'NOT_FOUND');
    assert.deepEqual(data.run.errors[0].path, ['input', 'command', 'script', 'name']);
  },

  async 'an operation that is wrong is an error with a code'() {
    const query = gql`
      query Wrong {
        jobs(first: -1) {
          nodes {
            id
          }
        }
      }
    `;
    await assert.rejects(client.query({ query, fetchPolicy: 'network-only' }), (error) => {
      assert.ok(CombinedGraphQLErrors.is(error), String(error));
      assert.equal(error.errors[0].extensions.code, 'BAD_USER_INPUT');
      assert.ok(error.errors[0].extensions.requestId);
      return true;
    });
  },

  async 'an event updates the cached list without a request'() {
    const { data } = await client.mutate({ mutation: RUN, variables: shell('until [ -e go ]; do sleep 0.05; done') });
    const { id } = data.run.job;
    await client.query({ query: JOBS, fetchPolicy: 'network-only' });
    const shown = [];
    const watching = client
      .watchQuery({ query: JOBS, fetchPolicy: 'cache-first' })
      .subscribe(({ data }) => shown.push(data.jobs.nodes.find((job) => job.id === id).status));
    const { data: start } = await client.query({ query: CURSOR, fetchPolicy: 'network-only' });
    const seen = [];
    const stop = listen(start.eventCursor, seen);
    const before = requests.length;
    // The request goes beside the client, which so knows of the job's end by its event alone.
    await cancel(id);
    await until('the end in the list', () => shown.at(-1) === 'CANCELLED');
    assert.equal(requests.length, before, 'the page asked again');
    assert.equal(client.cache.extract()[`Job:${id}`].status, 'CANCELLED');
    assert.deepEqual(
      seen.filter((event) => event.job.id === id).map(({ type }) => type).at(-1),
      'CANCELLED',
    );
    watching.unsubscribe();
    stop();
  },

  async 'a listener goes on where it was when the server was started anew'() {
    const { data: start } = await client.query({ query: CURSOR, fetchPolicy: 'network-only' });
    const seen = [];
    const stop = listen(start.eventCursor, seen);
    const ids = [];
    for (const word of ['restart', 'kill']) {
      ids.push(...(await runShell(server, 'true', 'true')));
      await until('an event', () => seen.some(({ job }) => job.id === ids.at(-1)));
      server = await ask(`please ${word}`);
      wire.retarget(server);
      wire.cut();
      // The listener still waits to connect again, and misses this.
      ids.push(...(await runShell(server, 'true')));
    }
    const expected = await allEvents(server, ids);
    await until('all events', () => seen.length >= expected.length);
    assert.deepEqual(
      seen.map(({ cursor }) => cursor),
      expected,
    );
    stop();
  },
});

async function cancel(id) {
  const query = 'mutation ($id: ID!) { cancel(input: { id: $id }) { errors { message } } }';
  const response = await fetch(server, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query, variables: { id } }),
  });
  assert.deepEqual((await response.json()).data.cancel.errors, []);
}
