// A list of jobs as a page with Relay has it: fragments, pages, a job that is fetched again, live events, a mutation.
// relay-compiler reads it; nothing runs it.

import { graphql } from 'relay-runtime';

export const row = graphql`
  fragment JobList_row on Job @refetchable(queryName: "JobListRowQuery") {
    id
    name
    status
    durationMs
    progress {
      percentage
      step
    }
    error {
      code
      message
    }
    command {
      __typename
      ... on ScriptCommand {
        script
        parameters
      }
      ... on ShellCommand {
        command
      }
    }
  }
`;

export const list = graphql`
  fragment JobList_page on Query
  @argumentDefinitions(
    first: { type: "Int", defaultValue: 20 }
    after: { type: "String" }
    filter: { type: "JobFilter", defaultValue: { topLevel: true } }
  )
  @refetchable(queryName: "JobListPageQuery") {
    jobs(filter: $filter, first: $first, after: $after) @connection(key: "JobList_jobs", filters: ["filter"]) {
      edges {
        node {
          ...JobList_row
        }
      }
    }
  }
`;

export const steps = graphql`
  fragment JobList_steps on Job
  @argumentDefinitions(first: { type: "Int", defaultValue: 50 }, after: { type: "String" })
  @refetchable(queryName: "JobListStepsQuery") {
    children(first: $first, after: $after) @connection(key: "JobList_children") {
      edges {
        node {
          id
          key
          ...JobList_row
        }
      }
    }
    logs(last: 100) {
      edges {
        cursor
        node {
          number
          message
        }
      }
    }
  }
`;

export const page = graphql`
  query JobListQuery($id: ID!) {
    eventCursor
    ...JobList_page
    node(id: $id) {
      ...JobList_steps @alias
    }
  }
`;

export const events = graphql`
  subscription JobListEventsSubscription($after: String) {
    jobEvents(after: $after, filter: { topLevel: true }) {
      cursor
      type
      job {
        ...JobList_row
      }
    }
  }
`;

export const run = graphql`
  mutation JobListRunMutation($input: RunInput!, $connections: [ID!]!) {
    run(input: $input) {
      job @prependNode(connections: $connections, edgeTypeName: "JobEdge") {
        ...JobList_row
      }
      errors {
        code
        message
        path
      }
    }
  }
`;
