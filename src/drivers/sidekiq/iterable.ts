import type { SidekiqJob } from '../../../protocols/sidekiq/message.ts';
import { Reject } from '../../signals.ts';
import type { Handler, TaskContext } from '../../task.ts';

/** The key under which the delivery of an iterable job keeps its state. */
export const ITERATION: unique symbol = Symbol('sidekiq iteration');
/** Marks a handler that was made by `iterable`. */
export const ITERABLE: unique symbol = Symbol('sidekiq iterable');

/** The store that an iterable job gets from its delivery. */
export interface IterationStore {
  /** The stored state of earlier runs; undefined for the first run. */
  load(): Promise<
    | { readonly executions: number; readonly cursor: unknown; readonly runtime: number; readonly cancelled: boolean }
    | undefined
  >;
  /** Stores the cursor. Returns whether the job was cancelled meanwhile. */
  save(state: { readonly executions: number; readonly cursor: unknown; readonly runtime: number }): Promise<boolean>;
  end(): Promise<void>;
  /** The worker is stopping. A job that can continue elsewhere should give up its slot. */
  readonly stopping: boolean;
  /** The job goes back to the end of its queue, and later continues from its cursor. */
  interrupted(): void;
}

type SomeJob<A extends readonly unknown[]> = SidekiqJob<A>;

/** A job in steps, as Sidekiq's IterableJob (7.3). */
export interface Iterable<A extends readonly unknown[], Item, Cursor> {
  /** Items with their cursors, beginning with the item at `cursor`. Undefined means the beginning. A cursor must be a value that JSON can hold. */
  readonly items: (
    job: SomeJob<A>,
    cursor: Cursor | undefined,
    context: TaskContext,
  ) =>
    AsyncIterable<readonly [item: Item, cursor: Cursor]> | globalThis.Iterable<readonly [item: Item, cursor: Cursor]>;
  /** Handles one item. After a crash the same item may be handled again, so this must be safe to run twice. */
  readonly each: (item: Item, job: SomeJob<A>, context: TaskContext) => unknown;
  readonly onStart?: (job: SomeJob<A>) => unknown;
  readonly onResume?: (job: SomeJob<A>) => unknown;
  /** The job is given back and will continue later. */
  readonly onStop?: (job: SomeJob<A>) => unknown;
  readonly onCancel?: (job: SomeJob<A>) => unknown;
  readonly onComplete?: (job: SomeJob<A>) => unknown;
}

/** Limits how long an iterable job may keep its slot. */
export interface IterableOptions {
  /** After this time the job goes back to its queue and continues later, so that other jobs can use the slot. Milliseconds. @default never */
  readonly maxRuntimeMs?: number;
}

/** The interval at which the cursor is stored. The same step checks whether the job was cancelled. */
const FLUSH_MS = 5_000;

/**
 * A handler of a job in steps: `tasks.handle(task, iterable({ items, each }))`. When the worker stops, the job is given back between two items and
 * continues from there, in Ruby or here. After a crash it continues from a cursor that is at most five seconds old. `SidekiqClient.cancel` ends the
 * job.
 */
export function iterable<A extends readonly unknown[], Item, Cursor>(
  steps: Iterable<A, Item, Cursor>,
  options: IterableOptions = {},
): Handler<A, Readonly<Record<string, unknown>>, void> {
  const handler: Handler<A, Readonly<Record<string, unknown>>, void> = async (job, context) => {
    const own = job as SomeJob<A> & { readonly [ITERATION]?: IterationStore };
    await run(steps, own, context, own[ITERATION] ?? nowhere, options);
  };
  return Object.assign(handler, { [ITERABLE]: true });
}

async function run<A extends readonly unknown[], Item, Cursor>(
  steps: Iterable<A, Item, Cursor>,
  job: SomeJob<A>,
  context: TaskContext,
  store: IterationStore,
  { maxRuntimeMs = Number.POSITIVE_INFINITY }: IterableOptions,
): Promise<void> {
  const before = await store.load();
  const cancel = async (): Promise<void> => {
    await steps.onCancel?.(job);
    await store.end();
  };
  if (before?.cancelled === true) return cancel();
  const executions = (before?.executions ?? 0) + 1;
  let cursor = before?.cursor as Cursor | undefined;
  const started = performance.now();
  const save = (): Promise<boolean> =>
    store.save({ executions, cursor, runtime: (before?.runtime ?? 0) + (performance.now() - started) / 1000 });
  let savedAt = started;
  await (cursor === undefined ? steps.onStart : steps.onResume)?.(job);
  try {
    for await (const [item, at] of steps.items(job, cursor, context)) {
      cursor = at;
      const now = performance.now();
      const leave = store.stopping || context.signal.aborted || now - started > maxRuntimeMs;
      if (leave || now - savedAt >= FLUSH_MS) {
        savedAt = now;
        if (await save()) return await cancel();
      }
      if (leave) {
        await steps.onStop?.(job);
        store.interrupted();
        throw new Reject('interrupted; it goes on from its cursor', { requeue: true });
      }
      await steps.each(item, job, context);
    }
  } catch (error) {
    // A retry continues from the item that failed. If that cursor cannot be stored, the retry continues from the last stored cursor.
    if (!(error instanceof Reject))
      await save().catch((lost: unknown) => context.log.warn({ id: job.id, error: lost }, 'the cursor was not stored'));
    throw error;
  }
  await steps.onComplete?.(job);
  await store.end();
}

/** For use outside a Sidekiq worker: the job runs from the beginning to the end. */
const nowhere: IterationStore = {
  load: () => Promise.resolve(undefined),
  save: () => Promise.resolve(false),
  end: () => Promise.resolve(),
  stopping: false,
  interrupted: () => {},
};
