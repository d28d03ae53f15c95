import type { RailsVersion } from '../../../protocols/formats/active-job/index.ts';
import type { ClientMiddleware } from '../../client.ts';
import type { Logger } from '../../log.ts';
import type { ClientHooks } from './hooks.ts';
import type { ResqueAppOptions } from './options.ts';

/** Where Redis is, and how jobs are enqueued. */
export interface ResqueClientOptions extends ResqueAppOptions {
  /** The queue of a job that names none. @default none: enqueue rejects and says that it needs one */
  readonly defaultQueue?: string;
  /** By class, as Resque's class methods of these names. They run inside all middleware. */
  readonly hooks?: Readonly<Record<string, ClientHooks>>;
  /** Around sending; the first one is the outermost. `use` adds more. @default none */
  readonly middleware?: readonly ClientMiddleware[];
  readonly log?: Logger;
}

/** Where and when a job is to run. */
export interface EnqueueOptions {
  /** @default the client's `defaultQueue` */
  readonly queue?: string;
  /** Not before then: kept where a scheduler, in Ruby or here, moves it from. */
  readonly at?: Date;
  /** Seconds from now. */
  readonly in?: number;
  /** A name for logs and events, kept in the payload. With it the payload is not the same text as Ruby's for the same call. */
  readonly id?: string;
  /**
   * Members of the payload beside its class and arguments, for `job.headers` of a worker here. Ruby keeps them and does not read them. With headers the
   * payload is not the same text as Ruby's for the same call.
   */
  readonly headers?: Readonly<Record<string, unknown>>;
}

/** As `set` and `perform_later` of Active Job take them. */
export interface PerformLaterOptions extends Omit<EnqueueOptions, 'id'> {
  /** A UUID. @default a new one */
  readonly jobId?: string;
  readonly priority?: number;
  /** @default 'en' */
  readonly locale?: string;
  /** The name of a zone as Rails knows it. @default 'UTC' */
  readonly timezone?: string;
  /** The oldest Rails that reads it. @default what every version reads */
  readonly rails?: RailsVersion;
}
