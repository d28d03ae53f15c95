import type { System } from '../../system.ts';
import type { RqCronJob } from './cron.ts';
import type { RqOptions } from './options.ts';

declare module '../../task.ts' {
  interface Systems {
    readonly rq: RqOptions;
  }
}

declare module '../../config.ts' {
  interface Config {
    /**
     * Options of one RQ source, so that flags and RQ_REDIS_URL can change single options; and the jobs that `jobglot cron rq` enqueues, with their
     * schedules. Not allowed beside `sources`.
     */
    readonly rq?: Partial<RqOptions> & { readonly cron?: readonly RqCronJob[] };
  }
}

/** The facts about RQ that are needed before its driver is loaded. */
export const rqSystem: System<'rq'> = {
  name: 'rq',
  title: 'RQ',
  example: "{ url: 'redis://localhost' }",
  taskOptions: {},
};
