import type { Logger } from './log.ts';

/** The second argument of a handler, after the job. */
export interface TaskContext {
  /** The system the job came from. */
  readonly system: string;
  /** Aborts at the soft time limit, when the job is cancelled, and when the worker must stop now. */
  readonly signal: AbortSignal;
  readonly log: Logger;
  /** Record a custom state (`PROGRESS`), where the system stores states; rejects with ConfigError where it does not. */
  update(state: string, meta?: unknown): Promise<void>;
}
