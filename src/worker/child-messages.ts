import type { Failure, Job } from '../../protocols/job.ts';

/** Messages from a parent to the child that runs one of its jobs. */
export type ToChild =
  | { readonly kind: 'run'; readonly system: string; readonly job: Job; readonly title: string | undefined }
  /** The handler's signal is to abort, for this reason. */
  | { readonly kind: 'abort'; readonly name: string; readonly message: string };

/** Messages from the child to its parent. */
export type FromChild =
  | { readonly kind: 'ready' }
  | { readonly kind: 'returned'; readonly value: unknown }
  | { readonly kind: 'threw'; readonly thrown: Thrown }
  | { readonly kind: 'update'; readonly id: number; readonly state: string; readonly meta: unknown };

/** An error, or one of the signals a handler may throw on purpose. */
export interface Thrown {
  readonly failure: Failure;
  /** The error's name, which is not always the type it is recorded under. */
  readonly name: string;
  readonly signal:
    | { readonly kind: 'Retry'; readonly delayMs: number | undefined; readonly cause: Failure | undefined }
    | { readonly kind: 'Fail'; readonly cause: Failure | undefined }
    | { readonly kind: 'Discard' }
    | { readonly kind: 'Postpone'; readonly delayMs: number }
    | { readonly kind: 'Reject'; readonly requeue: boolean }
    | { readonly kind: 'Replace'; readonly by: unknown }
    | undefined;
}
