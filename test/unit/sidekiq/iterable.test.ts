import { expect, test } from 'vitest';
import { iteration } from '../../../protocols/sidekiq/iteration.ts';
import { keyspace } from '../../../protocols/sidekiq/keys.ts';
import { ITERATION, iterable, type IterationStore } from '../../../src/drivers/sidekiq/iterable.ts';
import { silent } from '../../../src/log.ts';
import { Reject } from '../../../src/signals.ts';
import type { TaskContext } from '../../../src/task.ts';

const context: TaskContext = {
  system: 'sidekiq',
  signal: new AbortController().signal,
  log: silent,
  update: () => Promise.resolve(),
};

/** What an iterable job told, run with this store. */
async function run(store: Partial<IterationStore> | undefined, options: { readonly maxRuntimeMs?: number } = {}) {
  const told: string[] = [];
  const saved: unknown[] = [];
  const handler = iterable<readonly [], number, number>(
    {
      async *items(_job, cursor = 0) {
        for (let at: number = cursor; at < 3; at++) yield [at * 10, at];
      },
      each: (item) => void told.push(`item ${item}`),
      onStart: () => told.push('start'),
      onResume: () => told.push('resume'),
      onStop: () => told.push('stop'),
      onCancel: () => told.push('cancel'),
      onComplete: () => told.push('complete'),
    },
    options,
  );
  const whole: IterationStore = {
    load: () => Promise.resolve(undefined),
    save: (state) => {
      saved.push(state.cursor);
      return Promise.resolve(false);
    },
    end: () => Promise.resolve(void told.push('end')),
    stopping: false,
    interrupted: () => void told.push('interrupted'),
    ...store,
  };
  const job = { args: [], kwargs: {}, id: 'j', ...(store === undefined ? {} : { [ITERATION]: whole }) };
  let thrown: unknown;
  await Promise.resolve(handler(job as never, context)).catch((error: unknown) => (thrown = error));
  return { told, saved, thrown };
}

test('outside of a worker of Sidekiq it runs from the beginning to the end', async () => {
  expect((await run(undefined)).told).toEqual(['start', 'item 0', 'item 10', 'item 20', 'complete']);
});
test('it goes on from its cursor, that item included', async () => {
  const load: IterationStore['load'] = () =>
    Promise.resolve({ executions: 1, cursor: 1, runtime: 5, cancelled: false });
  expect((await run({ load })).told).toEqual(['resume', 'item 10', 'item 20', 'complete', 'end']);
});
test('when the worker stops it is given back before the next item', async () => {
  const { told, saved, thrown } = await run({ stopping: true });
  expect([told, saved]).toEqual([['start', 'stop', 'interrupted'], [0]]);
  expect(thrown).toBeInstanceOf(Reject);
});
test('after its time it is given back, so that others get their turn', async () => {
  expect((await run({}, { maxRuntimeMs: -1 })).told).toEqual(['start', 'stop', 'interrupted']);
});
test('cancelled while it ran, it ends before the next item', async () => {
  const save = (): Promise<boolean> => Promise.resolve(true);
  const { told, thrown } = await run({ stopping: true, save });
  expect([told, thrown]).toEqual([['start', 'cancel', 'end'], undefined]);
});
test('cancelled before, it does not run', async () => {
  const load: IterationStore['load'] = () =>
    Promise.resolve({ executions: 0, cursor: undefined, runtime: 0, cancelled: true });
  expect((await run({ load })).told).toEqual(['cancel', 'end']);
});

test('an error of an item is what it failed with, also where its cursor cannot be stored', async () => {
  const save: IterationStore['save'] = () => Promise.reject(new Error('away'));
  const boom = new Error('boom');
  const own = { load: () => Promise.resolve(undefined), save, end: () => Promise.resolve(), stopping: false };
  const handler = iterable<readonly [], number, number>({
    items: () => [[1, 0]],
    each: () => {
      throw boom;
    },
  });
  const job = { args: [], kwargs: {}, id: 'j', [ITERATION]: { ...own, interrupted: () => undefined } };
  await expect(handler(job as never, context)).rejects.toBe(boom);
});

test('a cursor beyond 2^53 is read as it was written', () => {
  const reply = ['ex', '1', 'c', '{"id":12345678901234567890,"__proto__":1}', 'rt', '0.5'].map((one) =>
    Buffer.from(one),
  );
  const { cursor } = iteration(keyspace(), 'j').read([reply])!;
  expect((cursor as { readonly id: bigint }).id).toBe(12345678901234567890n);
  expect(Object.keys(cursor as object)).toEqual(['id', '__proto__']);
});
