// What a program does with generated types. The compiler reads it; nothing runs it.

import type { ResultOf, VariablesOf } from '@graphql-typed-document-node/core';

import { useFragment } from './generated/fragment-masking';
import { EventsDocument, JobRowFragmentDoc, type JobsQuery, RunDocument } from './generated/graphql';

export function describe(page: JobsQuery): string[] {
  return page.jobs.nodes.map((node) => {
    const job = useFragment(JobRowFragmentDoc, node);
    const milliseconds: number | null | undefined = job.durationMs;
    const since: string = job.createdAt;
    switch (job.command.__typename) {
      case 'ScriptCommand':
        return `${job.command.script} ${since} ${milliseconds}`;
      case 'ShellCommand':
        return job.command.command;
      default:
        return job.name;
    }
  });
}

export const request: VariablesOf<typeof RunDocument> = {
  input: { command: { script: { name: 'hello.sh', parameters: { name: 'Ada' } } }, priority: 1 },
};

export const twoAtOnce: VariablesOf<typeof RunDocument> = {
  // @ts-expect-error exactly one of a command's fields is given: @oneOf
  input: { command: { script: { name: 'hello.sh' }, shell: { command: 'true' } } },
};

export function resume({ jobEvents }: ResultOf<typeof EventsDocument>): VariablesOf<typeof EventsDocument> {
  return { after: jobEvents.cursor };
}

export function refused({ run }: ResultOf<typeof RunDocument>): string[] {
  // @ts-expect-error the job may be null: then `errors` says why
  run.job.id.toUpperCase();
  return run.errors.map(({ code, message, path }) => `${path.join('.')}: ${message} (${code})`);
}
