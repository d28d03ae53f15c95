import type { SidekiqPolicy } from '../../../protocols/sidekiq/lifecycle.ts';
import type { TimeLimits } from '../../../protocols/sidekiq/message.ts';
import { backoff } from '../../backoff.ts';
import type { RetryPolicy } from '../../../protocols/retry.ts';
import type { Registration, Registry, TaskOptions } from '../../task.ts';
import { ITERABLE } from './iterable.ts';

/** How jobs of one class are run here. */
export interface ClassRule {
  readonly limits: TimeLimits;
  readonly policy: Pick<SidekiqPolicy, 'retry' | 'delayMs' | 'onlyRetriable'>;
  readonly options: TaskOptions;
  /** Its handler was made by `iterable`. */
  readonly iterable: boolean;
}

/** Rules by class, made once for each that is handled here. */
export class ClassRules {
  readonly #registry: Registry;
  readonly #rules = new Map<string, ClassRule>();

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  /** Undefined for a class that nobody handles here. */
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
    policy: {
      ...(retry?.max === undefined || retry.max === null ? {} : { retry: retry.max }),
      ...(retry === undefined ? {} : { delayMs: delayOf(retry) }),
      ...(retry?.on === undefined ? {} : { onlyRetriable: true }),
    },
    options,
    iterable: ITERABLE in handler,
  };
}

function delayOf({ delayMs, backoff: growing }: RetryPolicy): ((count: number) => number) | undefined {
  if (growing !== undefined) {
    const { factorMs = 1_000, maxMs = 600_000, jitter = true } = growing;
    return (count) =>
      jitter ? backoff(count, Math.random(), factorMs, maxMs) : Math.min(maxMs, factorMs * 2 ** count);
  }
  if (delayMs === undefined) return undefined;
  return typeof delayMs === 'number' ? () => delayMs : (count) => delayMs(count + 1);
}
