import type { Moment } from '../../job.ts';
import type { RetryPolicy } from '../../retry.ts';
import type { Chords, Publisher, Route } from '../message/call.ts';
import type { ExceptionNames } from './exceptions.ts';
import type { ExactMap, TaskMessage } from '../message/message.ts';
import type { ResultTuple } from './result.ts';

/** When a failed task is run again. */
export type RetryRules = Omit<RetryPolicy, 'on'>;

/** What the worker knows about a task, everything resolved; one object a task, made once. */
export interface CeleryPolicy {
  /** There is no result backend: whatever a message asks for, nothing is stored and nothing encoded. @default false */
  readonly resultsDisabled?: boolean;
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
  /** How chords are completed. @default 'polled' */
  readonly chords?: Chords | undefined;
  /** Whether this errback takes (request, error, traceback) and is called here, in this process. @default none does */
  readonly takesRequest?: ((task: string) => boolean) | undefined;
}

/** What is true at the end of a run. */
export interface RunMoment extends Moment {
  /** What the handler itself has published: children of the task. */
  readonly sent?: readonly ResultTuple[];
  /** The queue that the message was claimed from. */
  readonly queue?: string;
}

export function publisherOf(message: TaskMessage, policy: CeleryPolicy, moment: Moment): Publisher {
  return {
    now: moment.now,
    newId: moment.newId,
    origin: policy.origin,
    route: policy.route,
    replyTo: policy.replyTo,
    rootId: message.rootId,
    parentId: message.id,
    serializer: policy.taskSerializer,
    ...(policy.taskCompression === undefined ? {} : { compression: policy.taskCompression }),
    ...(policy.chords === undefined ? {} : { chords: policy.chords }),
    ...(policy.taskDefaults === undefined ? {} : { defaults: policy.taskDefaults }),
  };
}

export function storesErrors(message: TaskMessage, policy: CeleryPolicy): boolean {
  return storesSuccess(message, policy) || (policy.storeErrorsEvenIfIgnored && policy.resultsDisabled !== true);
}

export function storesSuccess(message: TaskMessage, policy: CeleryPolicy): boolean {
  return policy.resultsDisabled !== true && !(message.ignoreResult ?? policy.ignoreResult);
}
