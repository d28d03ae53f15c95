import type { Moment, Outcome, Transition } from '../job.ts';
import type { ExceptionNames } from './exceptions.ts';
import type { ExactMap, Publication, TaskMessage } from './message.ts';
import type { Route } from './signature.ts';

/** One result to be stored, unless a SUCCESS is there already. */
export interface ResultWrite {
  readonly id: string;
  readonly meta: string | Uint8Array;
}

/** A finished member of a chord's header: the chord's counter is to be told. */
export interface ChordPart {
  readonly id: string;
  readonly group: string | undefined;
  readonly groupIndex: number | undefined;
  /** The chord's body. */
  readonly body: ExactMap;
  readonly state: 'SUCCESS' | 'FAILURE' | 'REVOKED';
  /** The value, or the map of `exceptionResult`. */
  readonly result: unknown;
}

/** What settling a task writes. A driver carries it out in this order: publish, results, chord parts, ack. */
export interface CeleryWrites {
  readonly publish: readonly Publication[];
  readonly results: readonly ResultWrite[];
  readonly chordParts: readonly ChordPart[];
  /** `done`: it was acknowledged at begin; acknowledge it if that did not happen. `reject`: without requeue. */
  readonly ack: 'ack' | 'reject' | 'requeue' | 'done';
}

/** When a task is run again. */
export interface RetryRules {
  /** Retries after the first run; null is forever. @default 3 */
  readonly max?: number | null;
  /** Before retry number `attempt` (1 is the first). @default 180 000 */
  readonly delayMs?: number | ((attempt: number) => number);
  /** `factorMs · 2^retries`, at most `maxMs` (600 000), full jitter. Wins over `delayMs`. */
  readonly backoff?: { readonly factorMs?: number; readonly maxMs?: number; readonly jitter?: boolean };
}

/** What the worker knows about a task, everything resolved; one object a task, made once. */
export interface CeleryPolicy {
  /** The task's option; a header in the message wins. */
  readonly ignoreResult: boolean;
  readonly storeErrorsEvenIfIgnored: boolean;
  readonly acksLate: boolean;
  readonly acksOnFailureOrTimeout: boolean;
  readonly retry: RetryRules;
  readonly resultSerializer: string;
  readonly resultExtended: boolean;
  /** Typed JSON in results and arguments. */
  readonly typed: boolean;
  /** `celery@host`, for extended results. */
  readonly nodename: string;
  readonly exceptions?: ExceptionNames | undefined;
  /** `gen<pid>@<host>`. */
  readonly origin: string;
  readonly replyTo: string;
  readonly route: Route;
  readonly taskSerializer: string;
  readonly taskCompression?: string | null | undefined;
  /** Options of tasks known here, for callbacks published by name. */
  readonly taskDefaults?: ((task: string) => ExactMap | undefined) | undefined;
  readonly inheritParentPriority: boolean;
}

/** What one run adds to the policy. */
export interface Run {
  /** The thrown error is one that the task retries by itself. Decided by the driver, which has the error. @default false */
  readonly retriable?: boolean;
}

/** What an outcome of a task comes to on the wire. Pure. Source: celery/app/trace.py, celery/worker/request.py (5.6). */
export declare function settle(
  message: TaskMessage,
  outcome: Outcome,
  policy: CeleryPolicy,
  moment: Moment,
  run?: Run,
): Transition<CeleryWrites>;
/** STARTED, for tasks that track it; undefined when results are ignored. */
export declare function started(
  message: TaskMessage,
  by: { readonly pid: number; readonly hostname: string },
  policy: CeleryPolicy,
): ResultWrite | undefined;
/** A state of the handler's own. Throws WireError `reserved-state` for the states that Celery writes by itself. */
export declare function custom(
  message: TaskMessage,
  state: string,
  meta: unknown,
  policy: CeleryPolicy,
): ResultWrite | undefined;
/** A task that nobody here runs. `reject` is Celery's way: it fails the task; `requeue` leaves it to others. */
export declare function unknownTask(
  message: TaskMessage,
  way: 'reject' | 'requeue',
  policy: CeleryPolicy,
  moment: Moment,
): Transition<CeleryWrites>;
/** A task that is revoked or expired when it arrives. */
export declare function revokedBeforeStart(
  message: TaskMessage,
  reason: 'revoked' | 'expired',
  policy: CeleryPolicy,
  moment: Moment,
): Transition<CeleryWrites>;
/** What a `revoke` command stores at once. */
export declare function revokedByCommand(
  id: string,
  policy: Pick<CeleryPolicy, 'resultSerializer' | 'typed'>,
  moment: Moment,
): ResultWrite;
/** Milliseconds before the next retry, as Celery computes them. */
export declare function retryDelayMs(rules: RetryRules, retries: number, random: number): number;
