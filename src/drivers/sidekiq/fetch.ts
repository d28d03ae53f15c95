import type { QuarantinedJob } from '../../../protocols/claims.ts';

/** A job that was fetched. */
export interface Fetched {
  readonly queue: string;
  readonly bytes: Buffer;
  /** Where Redis keeps it until it is settled; undefined with basic fetch, which keeps it nowhere. */
  readonly claim: string | undefined;
}

/** How jobs come out of their queues. */
export interface Fetch {
  open(): Promise<void>;
  /** Up to `max`, of which `begin` begin at once; waits for at least one; [] when `signal` aborts, or nothing came for a while. */
  receive(max: number, begin: number, signal: AbortSignal): Promise<readonly Fetched[]>;
  /** Take nothing more; what waits here goes back. */
  quiet(): Promise<void>;
  close(): Promise<void>;
}

/** What a fetch needs of the source it works for. */
export interface FetchHost {
  /** The queues to ask, in their order this time. */
  order(): readonly string[];
  /** Told of what is too large to be fetched. */
  aside(job: QuarantinedJob): void;
}
