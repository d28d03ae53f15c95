import type { Redis } from 'ioredis';
import { sidekiqJob } from '../../../src/drivers/sidekiq/index.ts';
import { pause } from '../../../src/source.ts';
import { Fail } from '../../../src/signals.ts';
import { defineTask, Tasks } from '../../../src/task.ts';

/** What ran, where: the list `ran`, which apps/ruby/app.rb writes to as well. */
export interface Ran {
  readonly side: 'ruby' | 'node';
  readonly class: string;
  readonly jid?: string;
  readonly args: readonly unknown[];
  readonly run?: number;
  readonly at?: 'start' | 'end';
  /** Of Active Job. */
  readonly id?: string;
  readonly provider?: string;
  readonly executions?: number;
  readonly keywords?: unknown;
}

export class Boom extends Error {
  override readonly name = 'Boom';
}

/** The twins of the jobs of apps/ruby/app.rb, and `NodeJob`, which Ruby has not. */
export function sidekiqTasks(store: Redis): Tasks {
  const note = async (
    { id, task, args }: { id: string; task: string; args: readonly unknown[] },
    more: object = {},
  ) => {
    await store.rpush('ran', JSON.stringify({ side: 'node', class: task, jid: id, args, ...more }, bigText));
  };
  return new Tasks()
    .handle(defineTask('NodeJob'), (job) => note(job))
    .handle(defineTask('BothJob'), (job) => note(job))
    .handle(defineTask('HashJob'), (job) => note(job, { hash: sidekiqJob(job).hash }))
    .handle(defineTask<(failures: number) => void>('FlakyJob'), async (job) => {
      const run = await store.incr(`runs:${job.id}`);
      await note(job, { run });
      if (run <= job.args[0]) throw new Boom(`run ${run} é`);
    })
    .handle(defineTask('FailJob'), async (job) => {
      await note(job);
      throw new Boom('on purpose');
    })
    .handle(defineTask('KillJob'), async (job) => {
      await note(job);
      throw new Fail('never again');
    })
    .handle(defineTask<(seconds: number) => void>('SlowJob'), async (job, { signal }) => {
      await note(job, { at: 'start' });
      await pause(job.args[0] * 1000, signal);
      signal.throwIfAborted();
      await note(job, { at: 'end' });
    });
}

/** Integers beyond 2^53 as Ruby writes them would not be read again by JSON.parse: here they are texts. */
function bigText(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}
