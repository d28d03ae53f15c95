import { randomUUID } from 'node:crypto';
import type * as lifecycle from '../../../../protocols/celery/outcome/lifecycle.ts';
import type { Registration } from '../../../task.ts';
import type { ResultBackend } from '../brokers/broker.ts';
import { chordsOf } from '../results/chords.ts';
import type { DeliveryRules } from './delivery.ts';
import { type CeleryOptions, originOf, type ResolvedApp } from '../options.ts';
import { rate, RateLimit } from './rate-limit.ts';
import { signatureRoute } from '../client/routes.ts';

/** The rules for one task, resolved once. */
export interface TaskRule extends DeliveryRules {
  readonly rate: RateLimit | undefined;
}

/** Limits that remote control has set. They override the limits of the task and of the worker. */
export interface NewLimits {
  readonly rate?: number | string;
  readonly time?: { readonly hard: number | undefined; readonly soft: number | undefined };
}

export interface TaskRulesOptions {
  readonly options: CeleryOptions;
  readonly app: ResolvedApp;
  readonly backend: ResultBackend;
  readonly nodename: string;
  readonly find: (task: string) => Registration | undefined;
}

/** The rules for running tasks, by task name. Remote control overrides the task's own options, and these override the worker's options. */
export class TaskRules {
  readonly #options: CeleryOptions;
  readonly #app: ResolvedApp;
  readonly #backend: ResultBackend;
  readonly #nodename: string;
  readonly #find: (task: string) => Registration | undefined;
  readonly #known = new Map<string, TaskRule>();
  readonly #newLimits = new Map<string, NewLimits>();

  constructor({ options, app, backend, nodename, find }: TaskRulesOptions) {
    this.#options = options;
    this.#app = app;
    this.#backend = backend;
    this.#nodename = nodename;
    this.#find = find;
  }

  /** Whether the rules of this task were resolved before. If so, this worker has a handler for it. */
  knows(task: string): boolean {
    return this.#known.has(task);
  }

  /** The rules of a task. They are resolved once and kept. */
  of(task: string): TaskRule {
    let known = this.#known.get(task);
    if (known === undefined) this.#known.set(task, (known = this.resolve(task)));
    return known;
  }

  /** Sets new limits for a task, from now on. */
  limit(task: string, limits: NewLimits): void {
    this.#newLimits.set(task, { ...this.#newLimits.get(task), ...limits });
    this.#known.delete(task);
  }

  /** Resolves the rules of a task without keeping them: for tasks that have no handler here. */
  resolve(task: string): TaskRule {
    const o = this.#options;
    const t = this.#find(task)?.options ?? {};
    const acksLate = t.acksLate ?? o.acksLate ?? false;
    const limits = this.#newLimits.get(task);
    const limit = rate(limits?.rate ?? t.rateLimit ?? o.taskDefaultRateLimit ?? 0);
    const { max, delayMs, backoff } = t.retry ?? {};
    return {
      limits: {
        timeoutMs:
          limits?.time === undefined
            ? (t.timeoutMs ?? milliseconds(o.taskTimeLimit))
            : milliseconds(limits.time.hard ?? o.taskTimeLimit),
        softTimeoutMs:
          limits?.time === undefined
            ? (t.softTimeoutMs ?? milliseconds(o.taskSoftTimeLimit))
            : milliseconds(limits.time.soft ?? o.taskSoftTimeLimit),
      },
      trackStarted: t.trackStarted ?? o.trackStarted ?? false,
      rejectOnWorkerLost: t.rejectOnWorkerLost ?? o.rejectOnWorkerLost ?? acksLate,
      rate: limit > 0 ? new RateLimit(limit) : undefined,
      policy: {
        resultsDisabled: this.#backend.kind === 'disabled',
        ignoreResult: t.ignoreResult ?? o.ignoreResult ?? false,
        storeErrorsEvenIfIgnored: o.storeErrorsEvenIfIgnored ?? false,
        acksLate,
        acksOnFailureOrTimeout: t.acksOnFailureOrTimeout ?? o.acksOnFailureOrTimeout ?? true,
        retry: {
          ...(max === undefined ? {} : { max }),
          ...(delayMs === undefined ? {} : { delayMs }),
          ...(backoff === undefined ? {} : { backoff }),
        },
        resultSerializer: this.#app.resultSerializer,
        resultExtended: o.resultExtended ?? false,
        typed: this.#app.typedJson,
        nodename: this.#nodename,
        ...(o.exceptions === undefined ? {} : { exceptions: o.exceptions }),
        ...this.publisher(),
        taskSerializer: this.#app.taskSerializer,
        taskCompression: this.#app.taskCompression,
        inheritParentPriority: o.taskInheritParentPriority ?? false,
        chords: chordsOf(this.#backend),
        takesRequest: (name) => this.#find(name)?.options.errback === true,
      },
    };
  }

  /** The fields that identify this worker in the messages it publishes. */
  publisher(): Pick<lifecycle.CeleryPolicy, 'origin' | 'replyTo' | 'route'> & { readonly newId: () => string } {
    return {
      origin: originOf(),
      replyTo: this.#backend.replyTo ?? '',
      route: signatureRoute(this.#app.taskRoutes, this.#app.taskDefaultQueue),
      newId: randomUUID,
    };
  }

  /** The attributes of a Celery task that have a meaning here. Source: celery/app/task.py Task. */
  attribute(task: string, attribute: string): unknown {
    const { limits, policy, trackStarted, rejectOnWorkerLost } = this.of(task);
    const { max = 3, delayMs = 180_000 } = policy.retry;
    switch (attribute) {
      case 'rate_limit':
        return (
          this.#newLimits.get(task)?.rate ?? this.#find(task)?.options.rateLimit ?? this.#options.taskDefaultRateLimit
        );
      case 'max_retries':
        return max;
      case 'default_retry_delay':
        return typeof delayMs === 'number' ? delayMs / 1000 : undefined;
      case 'time_limit':
        return limits.timeoutMs === undefined ? undefined : limits.timeoutMs / 1000;
      case 'soft_time_limit':
        return limits.softTimeoutMs === undefined ? undefined : limits.softTimeoutMs / 1000;
      case 'acks_late':
        return policy.acksLate;
      case 'acks_on_failure_or_timeout':
        return policy.acksOnFailureOrTimeout;
      case 'ignore_result':
        return policy.ignoreResult;
      case 'store_errors_even_if_ignored':
        return policy.storeErrorsEvenIfIgnored;
      case 'track_started':
        return trackStarted;
      case 'reject_on_worker_lost':
        return rejectOnWorkerLost;
      case 'serializer':
        return policy.taskSerializer;
      case 'send_events':
        return true;
      default:
        return undefined;
    }
  }
}

function milliseconds(seconds: number | undefined): number | undefined {
  return seconds === undefined ? undefined : seconds * 1000;
}
