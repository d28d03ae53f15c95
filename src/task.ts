import type { Job } from '../protocols/job.ts';
import type { RetryPolicy } from '../protocols/retry.ts';
import { anything, type Check, checkOptions, checkRetryPolicy, milliseconds } from './check.ts';
import type { TaskContext } from './context.ts';
import { ConfigError } from './errors.ts';
import { type Executor, executor } from './executor.ts';
import { registeredSystems } from './system.ts';

/** The systems in which a task may have a name, each with the options of its source. Each driver merges its own into this interface. */
export interface Systems {}

/** The name of a system. Any string is allowed, so that a system that is not in `Systems` may be named, too. */
export type SystemName = Extract<keyof Systems, string> | (string & {});

export type { TaskContext };

declare const signature: unique symbol;

/**
 * A task is a contract: its name on the wire, and the types of its arguments and result. The code that enqueues and the code that handles share it,
 * whatever the language of the other side is.
 */
export interface Task<
  A extends readonly unknown[] = readonly unknown[],
  K = Readonly<Record<string, unknown>>,
  R = unknown,
> {
  readonly name: string;
  /** Names that differ in some systems, by the name of the system. */
  readonly names: Readonly<Record<string, string>>;
  /** Types only; never present at run time. */
  readonly [signature]?: { readonly args: A; readonly kwargs: K; readonly result: R };
}

// With `never[]` parameters any function type can be a contract.
type AnyFunction = (...args: never[]) => unknown;

/**
 * Declare a task by its name on the wire: `defineTask<(x: number, y: number) => number>('proj.tasks.add')`. The second type parameter names the
 * keyword arguments. `names` gives a task another name in some systems.
 */
export function defineTask<
  F extends AnyFunction = (...args: unknown[]) => unknown,
  K = Readonly<Record<string, unknown>>,
>(
  name: string,
  options: { readonly names?: Partial<Record<SystemName, string>> } = {},
): Task<Parameters<F>, K, Awaited<ReturnType<F>>> {
  if (name === '') throw new ConfigError('defineTask: a task needs a name, as it is on the wire');
  return { name, names: { ...(options.names as Record<string, string> | undefined) } };
}

/** The name of a task in one system. */
export function taskName(
  task: { readonly name: string; readonly names: Readonly<Record<string, string>> } | string,
  system: string,
): string {
  if (typeof task === 'string') return task;
  return Object.hasOwn(task.names, system) ? (task.names[system] as string) : task.name;
}

/**
 * Runs a job. Its return value is the job's result, where the system stores results. An error that it throws is a failure by the system's rules,
 * except `Retry`, `Fail`, `Discard`, `Reject` and `Replace`, which are requests to the worker.
 */
export type Handler<
  A extends readonly unknown[] = readonly unknown[],
  K = Readonly<Record<string, unknown>>,
  R = unknown,
> = (job: Job<A, K>, context: TaskContext) => R | Promise<R>;

/** How one task is run. A driver merges options that only its system has into this interface; the other systems ignore these options. */
export interface TaskOptions {
  readonly retry?: RetryPolicy;
  /** Hard limit in milliseconds; a limit in the message wins. */
  readonly timeoutMs?: number;
  /** Soft limit in milliseconds; a limit in the message wins. */
  readonly softTimeoutMs?: number;
  /** Where the handler runs. @default the source's `executor`, or the worker's */
  readonly executor?: Executor;
}

/** Options that mean the same in every system. */
const COMMON: Readonly<Record<string, Check>> = {
  retry: anything,
  timeoutMs: milliseconds,
  softTimeoutMs: milliseconds,
  executor,
};

/** A task with its handler and its options. */
export interface Registration {
  readonly task: Task;
  readonly handler: Handler;
  readonly options: TaskOptions;
}

/** The part of the registry that sources use. */
export interface Registry {
  find(system: string, name: string): Registration | undefined;
  /** Every name known in this system, sorted. */
  names(system: string): readonly string[];
}

/** The registry: which handler runs which task. One handler may have several names and serve several systems. */
export class Tasks implements Registry {
  readonly #byName = new Map<string, Registration>();
  readonly #bySystem = new Map<string, Map<string, Registration>>();

  /** Register a handler for a task, or for several tasks of the same type. Throws ConfigError when a name is taken, or an option is not valid. */
  handle<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | readonly Task<A, K, R>[],
    handler: Handler<NoInfer<A>, NoInfer<K>, NoInfer<R>>,
    options: TaskOptions = {},
  ): this {
    for (const one of (Array.isArray(task) ? task : [task]) as readonly Task<A, K, R>[]) {
      // JavaScript callers easily pass a name instead of a task.
      if (typeof one !== 'object' || one === null)
        throw new ConfigError(
          `Tasks.handle: not a task: ${String(one)}. Pass one made by defineTask('proj.tasks.add')`,
        );
      checkTaskOptions(`tasks.handle: '${one.name}'`, options);
      const registration: Registration = {
        task: one as unknown as Task,
        handler: handler as unknown as Handler,
        options,
      };
      claim(this.#byName, one.name, registration);
      for (const [system, name] of Object.entries(one.names)) {
        let names = this.#bySystem.get(system);
        if (names === undefined) this.#bySystem.set(system, (names = new Map<string, Registration>()));
        claim(names, name, registration);
      }
    }
    return this;
  }

  find(system: string, name: string): Registration | undefined {
    const own = this.#bySystem.get(system)?.get(name);
    if (own !== undefined) return own;
    const found = this.#byName.get(name);
    // A task that has another name in this system is not found there under its common name.
    return found !== undefined && Object.hasOwn(found.task.names, system) ? undefined : found;
  }

  names(system: string): readonly string[] {
    const names = new Set(this.#bySystem.get(system)?.keys());
    for (const [name, { task }] of this.#byName) if (!Object.hasOwn(task.names, system)) names.add(name);
    return [...names].sort();
  }
}

/** Checks the options of a task. When no system is registered, the valid options are not known, and each is accepted. */
function checkTaskOptions(where: string, options: TaskOptions): void {
  const systems = registeredSystems();
  const known = Object.assign({}, COMMON, ...systems.map(({ taskOptions }) => taskOptions)) as Record<string, Check>;
  if (systems.length === 0) for (const name of Object.keys(options)) known[name] ??= anything;
  checkOptions(where, options, known);
  checkRetryPolicy(`${where}: retry`, options.retry);
}

function claim(map: Map<string, Registration>, name: string, registration: Registration): void {
  if (map.has(name)) throw new ConfigError(`tasks.handle: '${name}' already has a handler; a name is handled once`);
  map.set(name, registration);
}
