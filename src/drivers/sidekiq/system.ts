import type { Failure, Job } from '../../../protocols/job.ts';
import { callable } from '../../check.ts';
import type { System } from '../../system.ts';
import type { SidekiqOptions } from './options.ts';

/** Options of one task that only Sidekiq has. */
export interface SidekiqTaskOptions {
  /**
   * Sidekiq: seconds before retry number `count` (0 is the first; some jitter is added), `'discard'` to forget the job, `'kill'` to
   * move it to the dead set now. Undefined: Sidekiq's own delay, or that of `retry`.
   */
  readonly retryIn?: (count: number, error: Failure, job: Job) => number | 'discard' | 'kill' | undefined;
  /** Sidekiq: told once a job has used up its retries, or had none. With `'discard'` it does not go to the dead set. */
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
    /** One Sidekiq source, as options, so that flags and REDIS_URL can change single ones. Not beside `sources`. */
    readonly sidekiq?: Partial<SidekiqOptions>;
  }
}

/** What is known of Sidekiq before its driver is loaded. */
export const sidekiqSystem: System<'sidekiq'> = {
  name: 'sidekiq',
  title: 'Sidekiq',
  example: "{ url: 'redis://localhost' }",
  taskOptions: { retryIn: callable, retriesExhausted: callable } satisfies Record<keyof SidekiqTaskOptions, unknown>,
};
