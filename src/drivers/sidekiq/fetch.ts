import type { QuarantinedJob } from '../../../protocols/claims.ts';

/** A fetched job. */
export interface Fetched {
  readonly queue: string;
  readonly bytes: Buffer;
  /** Where Redis keeps the job until it is settled. Undefined with basic fetch: Redis then keeps no copy. */
  readonly claim: string | undefined;
}

/** The strategy that takes jobs from their queues. */
export interface Fetch {
  open(): Promise<void>;
  /**
   * Returns up to `max` jobs, of which `begin` begin at once. Waits for at least one job. Returns [] when `signal` aborts, or when no job came for a
   * while.
   */
  receive(max: number, begin: number, signal: AbortSignal): Promise<readonly Fetched[]>;
  /** Stop taking jobs. Jobs that wait in the fetch go back to their queues. */
  quiet(): Promise<void>;
  close(): Promise<void>;
}

/** The parts of the source that a fetch uses. */
export interface FetchHost {
  /** The queues to fetch from, in the order for this fetch. */
  order(): readonly string[];
  /** Called for a job that is too large to be fetched. */
  aside(job: QuarantinedJob): void;
}
