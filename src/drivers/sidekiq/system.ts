import type { Failure, Job } from '../../../protocols/job.ts';
import { callable } from '../../check.ts';
import type { System } from '../../system.ts';
import type { SidekiqOptions } from './options.ts';

/** Options of one task that only Sidekiq has. */
export interface SidekiqTaskOptions {
  /**
   * Sidekiq: the delay in seconds before retry number `count` (0 is the first; some jitter is added). `'discard'` deletes the job, `'kill'` moves it
   * to the dead set now. Undefined: Sidekiq's own delay, or the delay of `retry`.
   */
  readonly retryIn?: (count: number, error: Failure, job: Job) => number | 'discard' | 'kill' | undefined;
  /** Sidekiq: called once when a job has used all its retries, or had none. With `'discard'` the job does not go to the dead set. */
  readonly retriesExhausted?: (job: Job, error: Failure) => void | 'discard' | Promise<void | 'discard'>;
}

declare module '../../task.ts' {
  interface Systems {
    readonly sidekiq: SidekiqOptions;
  }
  interface TaskOptions extends SidekiqTaskOptions {}
}

declare module '../../config.ts' {
  interface Config {
    /** Options of one Sidekiq source, so that flags and REDIS_URL can change single options. Not allowed beside `sources`. */
    readonly sidekiq?: Partial<SidekiqOptions>;
  }
}

/** The facts about Sidekiq that are needed before its driver is loaded. */
export const sidekiqSystem: System<'sidekiq'> = {
  name: 'sidekiq',
  title: 'Sidekiq',
  example: "{ url: 'redis://localhost' }",
  taskOptions: { retryIn: callable, retriesExhausted: callable } satisfies Record<keyof SidekiqTaskOptions, unknown>,
};
