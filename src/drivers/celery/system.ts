import { amount, boolean, either, text } from '../../check.ts';
import type { System } from '../../system.ts';
import type { CeleryOptions } from './options.ts';

/** Options of one task that only Celery has. */
export interface CeleryTaskOptions {
  /** Celery: acknowledge after the run. @default the source's `acksLate` */
  readonly acksLate?: boolean;
  /** Celery: with `acksLate`, settle a failure as rejected when false. @default the source's */
  readonly acksOnFailureOrTimeout?: boolean;
  /** Celery: requeue when the process running the task is lost. @default the source's */
  readonly rejectOnWorkerLost?: boolean;
  /** Celery: store no result. A header in the message wins. */
  readonly ignoreResult?: boolean;
  /** Celery: store STARTED. */
  readonly trackStarted?: boolean;
  /**
   * Celery: where this task is linked as an errback, it is called in the process of the task that failed, with the arguments
   * (request, error, traceback); tasks without this are published with the failed task's id. @default false
   */
  readonly errback?: boolean;
  /** Celery: `10` (a second), `'100/m'`, `'5/h'`; per worker. */
  readonly rateLimit?: number | string;
}

declare module '../../task.ts' {
  interface Systems {
    readonly celery: CeleryOptions;
  }
  interface TaskOptions extends CeleryTaskOptions {}
}

declare module '../../config.ts' {
  interface Config {
    /** One Celery source, as options, so that flags and CELERY_BROKER_URL can change single ones. Not beside `sources`. */
    readonly celery?: Partial<CeleryOptions>;
  }
}

/** What is known of Celery before its driver is loaded. */
export const celerySystem: System<'celery'> = {
  name: 'celery',
  title: 'Celery',
  example: "{ broker: 'redis://localhost' }",
  taskOptions: {
    acksLate: boolean,
    acksOnFailureOrTimeout: boolean,
    rejectOnWorkerLost: boolean,
    ignoreResult: boolean,
    trackStarted: boolean,
    errback: boolean,
    rateLimit: either(amount('runs a second'), text),
  } satisfies Record<keyof CeleryTaskOptions, unknown>,
};
