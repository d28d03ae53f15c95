import type { RailsVersion } from '../../../protocols/formats/active-job/index.ts';
import type { ClientMiddleware } from '../../client.ts';
import type { Logger } from '../../log.ts';
import type { ClientHooks } from './hooks.ts';
import type { ResqueAppOptions } from './options.ts';

/** Where Redis is, and how jobs are enqueued. */
export interface ResqueClientOptions extends ResqueAppOptions {
  /** The queue of a job that names no queue. @default none: enqueue rejects and reports that it needs a queue */
  readonly defaultQueue?: string;
  /** Hooks by class, named as Resque's class methods. They run inside all middleware. */
  readonly hooks?: Readonly<Record<string, ClientHooks>>;
  /** Middleware around sending; the first entry is the outermost. `use` adds more. @default none */
  readonly middleware?: readonly ClientMiddleware[];
  readonly log?: Logger;
}

/** Where and when a job runs. */
export interface EnqueueOptions {
  /** @default the client's `defaultQueue` */
  readonly queue?: string;
  /** The earliest time to run the job. Until then it is a delayed job, which a scheduler in Ruby or here moves to its queue. */
  readonly at?: Date;
  /** Seconds from now. */
  readonly in?: number;
  /** An id for logs and events, kept in the payload. With it, the payload differs in bytes from Ruby's payload for the same call. */
  readonly id?: string;
  /**
   * Members of the payload in addition to its class and arguments; a worker of this package has them as `job.headers`. Ruby keeps them and does not
   * read them. With headers, the payload differs in bytes from Ruby's payload for the same call.
   */
  readonly headers?: Readonly<Record<string, unknown>>;
}

/** The options of `set` and `perform_later` of Active Job. */
export interface PerformLaterOptions extends Omit<EnqueueOptions, 'id'> {
  /** A UUID. @default a new one */
  readonly jobId?: string;
  readonly priority?: number;
  /** @default 'en' */
  readonly locale?: string;
  /** The name of a time zone in Rails. @default 'UTC' */
  readonly timezone?: string;
  /** The oldest version of Rails that must read the job. @default the format that every version reads */
  readonly rails?: RailsVersion;
}
