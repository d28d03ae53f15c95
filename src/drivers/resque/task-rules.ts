import type { RetryPolicy } from '../../../protocols/retry.ts';
import { ConfigError } from '../../errors.ts';
import type { Registration, Registry } from '../../task.ts';

/** How jobs of one class run here. */
export interface ClassRule {
  readonly timeoutMs: number | undefined;
  readonly softTimeoutMs: number | undefined;
  /** Undefined: no scheduler moves delayed jobs, and nothing is retried. */
  readonly retry: RetryPolicy | undefined;
}

/** Rules by class. Each is made once for a class with a handler here. */
export class ClassRules {
  readonly #registry: Registry;
  readonly #retries: boolean;
  readonly #rules = new Map<string, ClassRule>();

  /** Throws ConfigError if a task asks for retries that are not possible. */
  constructor(registry: Registry, retries: boolean) {
    this.#registry = registry;
    this.#retries = retries;
    if (retries) return;
    for (const name of registry.names('resque')) {
      const own = registry.find('resque', name);
      if (own?.options.retry !== undefined && own.task.names['resque'] !== undefined)
        throw new ConfigError(
          `resque: the task '${name}' has a retry policy, but no scheduler is configured. Pass scheduler: true, or leave the policy out`,
        );
    }
  }

  /** Undefined for a class without a handler here. */
  find(name: string): ClassRule | undefined {
    let rule = this.#rules.get(name);
    if (rule === undefined) {
      const registration = this.#registry.find('resque', name);
      if (registration === undefined) return undefined;
      this.#rules.set(name, (rule = this.#ruleOf(registration)));
    }
    return rule;
  }

  #ruleOf({ options: { timeoutMs, softTimeoutMs, retry } }: Registration): ClassRule {
    return { timeoutMs, softTimeoutMs, retry: this.#retries ? (retry ?? {}) : undefined };
  }
}
