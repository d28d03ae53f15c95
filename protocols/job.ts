/** The types that all systems share. Plain data: what to run, the outcome of a run, and what the system stores afterwards. */

/** What to run. `args` and `kwargs` are as the wire has them; systems without keyword arguments leave `kwargs` empty. */
export interface Job<A extends readonly unknown[] = readonly unknown[], K = Readonly<Record<string, unknown>>> {
  readonly id: string;
  readonly task: string;
  readonly args: A;
  readonly kwargs: K;
  readonly queue: string;
  /** 1 on the first run. */
  readonly attempt: number;
  readonly enqueuedAt?: Date;
  readonly expiresAt?: Date;
  /** Hard limit: past it the run is settled as `timeout`, whatever the handler does. */
  readonly timeoutMs?: number;
  /** Soft limit: past it the handler's signal is aborted, and the handler may still end in its own way. */
  readonly softTimeoutMs?: number;
  /**
   * Metadata sent with the job beside its arguments, as the wire has it. Celery: the message's own headers. Sidekiq and Resque: top-level members
   * that are not the system's own. RQ: `meta`. Active Job: `__otel_headers` is included. Absent where there is none.
   */
  readonly headers?: Readonly<Record<string, unknown>>;
}

/** An error as data, in the fields that the wire needs: a type, perhaps its module, its arguments and a traceback text. */
export interface Failure {
  /** The error's class name: `TypeError`, `ValueError`, `shop.OutOfStock`. */
  readonly type: string;
  /** The module of the class in its own language, where it is known: `builtins`. */
  readonly module?: string;
  readonly message: string;
  /** Constructor arguments, where they are more than the message. */
  readonly args?: readonly unknown[];
  readonly traceback: string;
}

/** The result of one run of a handler. It states what happened, and nothing about storage. */
export type Outcome =
  | { readonly kind: 'success'; readonly value: unknown }
  /** The handler threw. `retriable`: the task's own retry policy asks for another run, if the limits permit it. */
  | { readonly kind: 'error'; readonly error: Failure; readonly retriable: boolean }
  /** The handler asked to be run again. */
  | { readonly kind: 'retry'; readonly delayMs: number | undefined; readonly error: Failure | undefined }
  /** Never retry this job. */
  | { readonly kind: 'fail'; readonly error: Failure }
  | { readonly kind: 'discard'; readonly reason: string }
  /** The handler refuses the job. It goes back to its queue for other workers, or it is refused as the system refuses a message. */
  | { readonly kind: 'reject'; readonly reason: string; readonly requeue: boolean }
  /** Another job replaces this job. It takes over the id and the jobs that follow this job. `by` is in the system's own terms. */
  | { readonly kind: 'replace'; readonly by: unknown }
  /** The hard time limit passed. */
  | { readonly kind: 'timeout'; readonly limitMs: number }
  | { readonly kind: 'expired' }
  | { readonly kind: 'cancelled'; readonly reason: string }
  /** Run the job later. No attempt is counted, no error is recorded; the job gives up its place in the queue. */
  | { readonly kind: 'postpone'; readonly delayMs: number; readonly reason: string }
  /**
   * No handler here knows the task. The job goes to the back of its queue, or of `queue` where one is given, with the same bytes. No attempt is
   * counted, no error is recorded.
   */
  | { readonly kind: 'unknown'; readonly queue?: string };

/** The state of the job in the system after the outcome is written. */
export type Disposition =
  | { readonly state: 'succeeded' | 'failed' | 'discarded' | 'cancelled' | 'requeued' | 'replaced' }
  | { readonly state: 'retrying' | 'postponed'; readonly at: Date };

/** Where a job goes next, and what must be written for it to get there. */
export interface Transition<Write> {
  readonly disposition: Disposition;
  readonly write: Write;
}

/** All that a pure function may know about the world. `random` is in [0, 1); `newId` gives a new unique id (a UUID). */
export interface Moment {
  readonly now: Date;
  readonly random: number;
  readonly newId: () => string;
}
