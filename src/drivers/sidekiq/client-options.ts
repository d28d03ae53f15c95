import type { RailsVersion } from '../../../protocols/formats/active-job/index.ts';
import type { JobOptions, Timing } from '../../../protocols/sidekiq/options.ts';
import type { Call } from '../../client.ts';
import type { ClientMiddleware } from '../../client.ts';
import type { Logger } from '../../log.ts';
import type { SidekiqAppOptions } from './options.ts';

/** Where Redis is, and how jobs are pushed. */
export interface SidekiqClientOptions extends SidekiqAppOptions {
  /**
   * What the client does while Redis cannot be reached. `error`: the caller gets ConnectionError. `buffer`: the client keeps up to `bufferLimit` jobs
   * in this process and sends them, in their order, when Redis is back. If the process ends first, these jobs are lost. @default 'error'
   */
  readonly whenAway?: 'error' | 'buffer';
  /** @default 1000 */
  readonly bufferLimit?: number;
  /** Default options for every job; the options of a job override them. */
  readonly defaults?: JobOptions;
  /** Middleware that runs around every job that is sent. The first entry is the outermost. @default none */
  readonly middleware?: readonly ClientMiddleware[];
  readonly log?: Logger;
}

/** How a job is sent: Sidekiq's options in camelCase, and the time at which to run it. */
export type EnqueueOptions = JobOptions & Timing;

/** Additional options of Active Job. */
export interface PerformLaterOptions extends Omit<EnqueueOptions, 'wrapped' | 'displayClass'> {
  /** A lower number runs sooner, in systems that support priorities. Sidekiq does not. */
  readonly priority?: number;
  /** @default 'en' */
  readonly locale?: string;
  /** The time zone under its Rails name: `'Europe/Paris'`. @default 'UTC' */
  readonly timezone?: string;
  /** A UUID. It stays the same over all runs of the job. @default a new one */
  readonly jobId?: string;
  /** The oldest version of Rails that must read the job. Values that this version does not support are refused. @default every version from 6.1 on */
  readonly rails?: RailsVersion;
}

/** One job of Active Job. */
export type LaterCall<A extends readonly unknown[], K> = Call<A, K, PerformLaterOptions>;

/** The result of sending one job. */
export interface Pushed {
  readonly jid: string;
  /** `pushed`: Redis has the job. `buffered`: this process keeps the job until Redis is back. `halted`: a middleware did not pass the job on. */
  readonly state: 'pushed' | 'buffered' | 'halted';
}

/** The result of sending one job of Active Job. */
export type PushedLater = Pushed & { readonly jobId: string };
