import { AsyncLocalStorage } from 'node:async_hooks';
import { type Task, taskName } from '../task.ts';

/** What was enqueued: the arguments as a worker would see them, and the options as they were passed. */
export type RecordedCall<
  Options,
  A extends readonly unknown[] = readonly unknown[],
  K = Readonly<Record<string, unknown>>,
> = Omit<Options, 'queue' | 'args' | 'kwargs'> & { readonly args: A; readonly kwargs: K; readonly queue: string };

/** Every call so far, oldest first: of one task, or of all with their names. */
export interface Enqueued<Options> {
  (): readonly (RecordedCall<Options> & { readonly task: string })[];
  (task: string): readonly RecordedCall<Options>[];
  <A extends readonly unknown[], K, R>(task: Task<A, K, R>): readonly RecordedCall<Options, A, K>[];
}

/** A job as it would be on the wire, decoded. */
export interface Sent {
  readonly task: string;
  readonly args: readonly unknown[];
  readonly kwargs: Readonly<Record<string, unknown>>;
  readonly queue: string;
}

type PassedOptions = Readonly<Record<string, unknown>>;

/** What a recorder remembers. */
export class Tape<Options> {
  readonly #system: string;
  readonly #calls = new AsyncLocalStorage<PassedOptions[]>();
  #entries: { readonly task: string; readonly call: RecordedCall<Options> }[] = [];

  constructor(system: string) {
    this.#system = system;
  }

  /** Remember one job. The options of its call are those of the first call of this `enqueue` that could be meant. */
  record({ task, args, kwargs, queue }: Sent): void {
    const calls = this.#calls.getStore() ?? [];
    const found = calls.findIndex((call) => call['queue'] === queue || call['queue'] === undefined);
    const [call = {}] = calls.splice(Math.max(found, 0), 1);
    const { args: _args, kwargs: _kwargs, queue: _queue, ...options } = call;
    this.#entries.push({ task, call: { args, kwargs, queue, ...options } as RecordedCall<Options> });
  }

  readonly enqueued = ((task?: Parameters<typeof taskName>[0]) => {
    if (task === undefined) return this.#entries.map(({ task: name, call }) => ({ task: name, ...call }));
    const name = taskName(task, this.#system);
    return this.#entries.filter((entry) => entry.task === name).map(({ call }) => call);
  }) as unknown as Enqueued<Options>;

  clear(): void {
    this.#entries = [];
  }

  /** From now on these methods of a client tell which calls they were given: `(task, call)` and `(task, calls)`. */
  follow(client: object, methods: readonly string[]): void {
    for (const name of methods) {
      const method: unknown = Reflect.get(client, name);
      if (typeof method !== 'function') continue;
      const followed = (...given: readonly unknown[]): unknown =>
        // RQ's client sends a list of prepared jobs for one call of `enqueue`, which has told of the call already.
        Array.isArray(given[0])
          ? Reflect.apply(method, client, given)
          : this.#calls.run(callsOf(given[1]), () => Reflect.apply(method, client, given) as unknown);
      Object.defineProperty(client, name, { value: followed, configurable: true });
    }
  }
}

/** Methods of clients that enqueue. Each system has some of them. */
export const ENQUEUES = ['enqueue', 'enqueueMany', 'performLater', 'performAllLater'] as const;

function callsOf(given: unknown): PassedOptions[] {
  return (Array.isArray(given) ? (given as readonly unknown[]) : [given]).map((call) =>
    typeof call === 'object' && call !== null && !Array.isArray(call) ? (call as PassedOptions) : {},
  );
}
