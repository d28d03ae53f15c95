import type { SidekiqPolicy } from '../../../protocols/sidekiq/lifecycle.ts';
import type { TimeLimits } from '../../../protocols/sidekiq/message.ts';
import { DEFAULT_MAX_RETRIES, type RetryPolicy, retryDelayMs } from '../../../protocols/retry.ts';
import type { Registration, Registry, TaskOptions } from '../../task.ts';
import { ITERABLE } from './iterable.ts';

/** How jobs of one class run here. */
export interface ClassRule {
  readonly limits: TimeLimits;
  readonly policy: Pick<SidekiqPolicy, 'maxRetries' | 'delayMs' | 'onlyRetriable'>;
  readonly options: TaskOptions;
  /** The handler was made by `iterable`. */
  readonly iterable: boolean;
}

/** Rules by class. Each is made once, when a class with a handler is first used. */
export class ClassRules {
  readonly #registry: Registry;
  readonly #rules = new Map<string, ClassRule>();

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  /** Undefined for a class without a handler here. */
  find(name: string): ClassRule | undefined {
    let rule = this.#rules.get(name);
    if (rule === undefined) {
      const registration = this.#registry.find('sidekiq', name);
      if (registration === undefined) return undefined;
      rule = ruleOf(registration);
      this.#rules.set(name, rule);
    }
    return rule;
  }
}

function ruleOf({ options, handler }: Registration): ClassRule {
  const { timeoutMs, softTimeoutMs, retry } = options;
  return {
    limits: { timeoutMs, softTimeoutMs },
    policy: retry === undefined ? {} : policyOf(retry),
    options,
    iterable: ITERABLE in handler,
  };
}

/**
 * A task's policy as Sidekiq's lifecycle takes it. `max` counts where the message says `retry: true` or leaves it out; a number in the message wins.
 * `random` gives numbers in [0, 1).
 */
export function policyOf(retry: RetryPolicy, random: () => number = Math.random): ClassRule['policy'] {
  const { max = DEFAULT_MAX_RETRIES, on } = retry;
  return {
    maxRetries: max ?? Number.POSITIVE_INFINITY,
    delayMs: (count) => retryDelayMs(retry, count + 1, random()),
    ...(on === undefined ? {} : { onlyRetriable: true }),
  };
}
