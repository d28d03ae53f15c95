import type { RailsVersion } from '../../../protocols/formats/active-job/index.ts';
import type { JobOptions, Timing } from '../../../protocols/sidekiq/options.ts';
import type { Call } from '../../client.ts';
import type { ClientMiddleware } from '../../client.ts';
import type { Logger } from '../../log.ts';
import type { SidekiqAppOptions } from './options.ts';

/** Where Redis is, and how jobs are pushed. */
export interface SidekiqClientOptions extends SidekiqAppOptions {
  /**
   * While Redis is away: `error` (the caller gets ConnectionError), or `buffer`: up to `bufferLimit` jobs are kept in this
   * process and sent, in their order, when it is back. They are lost with the process. @default 'error'
   */
  readonly whenAway?: 'error' | 'buffer';
  /** @default 1000 */
  readonly bufferLimit?: number;
  /** Options of every job, below its own. */
  readonly defaults?: JobOptions;
  /** Runs around every job that is sent; the first one is the outermost. @default none */
  readonly middleware?: readonly ClientMiddleware[];
  readonly log?: Logger;
}

/** How a job is sent: Sidekiq's options in camelCase, and when it is to run. */
export type EnqueueOptions = JobOptions & Timing;

/** What Active Job knows beside. */
export interface PerformLaterOptions extends Omit<EnqueueOptions, 'wrapped' | 'displayClass'> {
  /** Lower is sooner, for systems that heed it; Sidekiq does not. */
  readonly priority?: number;
  /** @default 'en' */
  readonly locale?: string;
  /** As Rails names it: `'Europe/Paris'`. @default 'UTC' */
  readonly timezone?: string;
  /** A UUID: the same over all runs. @default a new one */
  readonly jobId?: string;
  /** The oldest Rails that shall read it: what that one does not know is refused. @default every version from 6.1 on */
  readonly rails?: RailsVersion;
}

/** One job of Active Job. */
export type LaterCall<A extends readonly unknown[], K> = Call<A, K, PerformLaterOptions>;

/** What became of a job. */
export interface Pushed {
  readonly jid: string;
  /** `pushed`: Redis has it. `buffered`: this process keeps it until Redis is back. `halted`: middleware did not let it through. */
  readonly state: 'pushed' | 'buffered' | 'halted';
}

/** And of one of Active Job. */
export type PushedLater = Pushed & { readonly jobId: string };
