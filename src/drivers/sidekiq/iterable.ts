import type { SidekiqJob } from '../../../protocols/sidekiq/message.ts';
import { Reject } from '../../signals.ts';
import type { Handler, TaskContext } from '../../task.ts';

/** Where a delivery of an iterable job keeps its state. */
export const ITERATION: unique symbol = Symbol('sidekiq iteration');
/** Marks a handler that was made by `iterable`. */
export const ITERABLE: unique symbol = Symbol('sidekiq iterable');

/** What an iterable job needs of its delivery. */
export interface IterationStore {
  /** What is known of earlier runs; undefined for the first. */
  load(): Promise<
    | { readonly executions: number; readonly cursor: unknown; readonly runtime: number; readonly cancelled: boolean }
    | undefined
  >;
  /** Whether the job was cancelled meanwhile. */
  save(state: { readonly executions: number; readonly cursor: unknown; readonly runtime: number }): Promise<boolean>;
  end(): Promise<void>;
  /** The worker takes nothing more: whoever can go on elsewhere should. */
  readonly stopping: boolean;
  /** The job goes back to its queue, behind the others, and goes on from its cursor. */
  interrupted(): void;
}

type SomeJob<A extends readonly unknown[]> = SidekiqJob<A>;

/** A job in steps, as Sidekiq's IterableJob (7.3). */
export interface Iterable<A extends readonly unknown[], Item, Cursor> {
  /**
   * Items with their cursors, from `cursor` on, that one included; undefined is the beginning. A cursor is what JSON can hold.
   */
  readonly items: (
    job: SomeJob<A>,
    cursor: Cursor | undefined,
    context: TaskContext,
  ) =>
    AsyncIterable<readonly [item: Item, cursor: Cursor]> | globalThis.Iterable<readonly [item: Item, cursor: Cursor]>;
  /** One item. It may be run again after a crash, so it must bear that. */
  readonly each: (item: Item, job: SomeJob<A>, context: TaskContext) => unknown;
  readonly onStart?: (job: SomeJob<A>) => unknown;
  readonly onResume?: (job: SomeJob<A>) => unknown;
  /** It is given back, to go on later. */
  readonly onStop?: (job: SomeJob<A>) => unknown;
  readonly onCancel?: (job: SomeJob<A>) => unknown;
  readonly onComplete?: (job: SomeJob<A>) => unknown;
}

/** How long an iterable job may keep its slot. */
export interface IterableOptions {
  /** After so long the job goes back to its queue and goes on later, so that others get their turn. Milliseconds. @default never */
  readonly maxRuntimeMs?: number;
}

/** How often the cursor is stored, and it is asked whether the job was cancelled. */
const FLUSH_MS = 5_000;

/**
 * A handler of a job in steps: `tasks.handle(task, iterable({ items, each }))`. When the worker stops, it is given back between two items
 * and goes on from there, in Ruby or here; after a crash from a cursor at most five seconds old. `SidekiqClient.cancel` ends it.
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
    // A retry goes on from the item that failed; where that cannot be stored, from the last one that was.
    if (!(error instanceof Reject))
      await save().catch((lost: unknown) => context.log.warn({ id: job.id, error: lost }, 'the cursor was not stored'));
    throw error;
  }
  await steps.onComplete?.(job);
  await store.end();
}

/** Outside of a worker of Sidekiq: from the beginning to the end. */
const nowhere: IterationStore = {
  load: () => Promise.resolve(undefined),
  save: () => Promise.resolve(false),
  end: () => Promise.resolve(),
  stopping: false,
  interrupted: () => {},
};
