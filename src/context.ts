import type { Logger } from './log.ts';

/** What a handler gets beside the job. */
export interface TaskContext {
  /** The system the job came from. */
  readonly system: string;
  /** Aborts at the soft time limit, when the job is cancelled, and when the worker must stop now. */
  readonly signal: AbortSignal;
  readonly log: Logger;
  /** Record a state of your own (`PROGRESS`), where the system keeps states; rejects with ConfigError where it does not. */
  update(state: string, meta?: unknown): Promise<void>;
}
