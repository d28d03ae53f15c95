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
     * One RQ source, as options, so that flags and RQ_REDIS_URL can change single ones; and what `jobglot cron rq` enqueues when. Not
     * beside `sources`.
     */
    readonly rq?: Partial<RqOptions> & { readonly cron?: readonly RqCronJob[] };
  }
}

/** What is known of RQ before its driver is loaded. */
export const rqSystem: System<'rq'> = {
  name: 'rq',
  title: 'RQ',
  example: "{ url: 'redis://localhost' }",
  taskOptions: {},
};
