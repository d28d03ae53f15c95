import { describe, expect, expectTypeOf, test } from 'vitest';
import type { AsyncResult, EnqueueOptions } from '../../../src/drivers/celery/index.ts';
import type { Client } from '../../../src/index.ts';
import {
  defineTask,
  Discard,
  Fail,
  RemoteError,
  ResultTimeoutError,
  Retry,
  Tasks,
  UnknownTaskError,
  WireError,
} from '../../../src/index.ts';
import { type CallOptions, inline, type InlineResult } from '../../../src/testing/index.ts';

const add = defineTask<(x: number, y: number) => number>('proj.add');
const resize = defineTask<(key: string) => string, { width?: number }>('images.resize');
const echo = defineTask('proj.echo');
const flaky = defineTask<(times: number) => number>('proj.flaky');
const never = defineTask('proj.never');
const fails = defineTask<(how: string) => void>('proj.fails');

class OutOfStock extends Error {
  override readonly name = 'OutOfStock';
}

function tasksOf(): Tasks {
  return new Tasks()
    .handle(add, ({ args: [x, y] }) => x + y)
    .handle(resize, ({ args: [key], kwargs: { width = 640 } }) => `${key}@${width}`)
    .handle(echo, ({ args }) => args)
    .handle(flaky, ({ args: [times], attempt }) => {
      if (attempt <= times) throw new Retry({ delayMs: 60_000 });
      return attempt;
    })
    .handle(
      never,
      () => {
        throw new TypeError('never');
      },
      { retry: { max: 2, delayMs: 60_000 } },
    )
    .handle(fails, ({ args: [how] }) => {
      if (how === 'fail') throw new Fail('no more');
      if (how === 'discard') throw new Discard();
      throw new OutOfStock('none left');
    });
}

const now = inline(tasksOf());

describe('an inline client', () => {
  test('runs the handler and gives its result', async () => {
    expect(await (await now.enqueue(add, { args: [2, 3] })).get()).toBe(5);
    expect(await (await now.enqueue(resize, { args: ['a.png'], kwargs: { width: 80 } })).get()).toBe('a.png@80');
    expect(
      await Promise.all((await now.enqueueMany(add, [{ args: [1, 1] }, { args: [2, 2] }])).map((one) => one.get())),
    ).toEqual([2, 4]);
  });

  test('does not wait for a countdown', async () => {
    expect(await (await now.enqueue(add, { args: [2, 3], countdown: 3600 })).get()).toBe(5);
  });

  test('hands over what the wire makes of the arguments', async () => {
    const when = new Date('2026-11-21T10:00:00Z');
    const result = await now.enqueue(echo, { args: [undefined, { a: undefined, b: 1n }, when] });
    expect(await result.get()).toEqual([null, { b: 1 }, when]);
  });

  test('refuses arguments the wire cannot hold, before anything runs', async () => {
    await expect(now.enqueue(echo, { args: [() => 1] })).rejects.toThrow(WireError);
    await expect(now.enqueue(echo, { args: [new Map([[{}, 1]])] })).rejects.toThrow(WireError);
  });

  test('fails a task whose result the wire cannot hold', async () => {
    const tasks = new Tasks().handle(echo, () => () => 1);
    const result = await inline(tasks).enqueue(echo);
    await expect(result.get()).rejects.toThrow(RemoteError);
  });

  test('retries at once, up to the maximum', async () => {
    expect(await (await now.enqueue(flaky, { args: [2] })).get()).toBe(3);
    await expect((await now.enqueue(flaky, { args: [9] })).get()).rejects.toMatchObject({
      type: 'MaxRetriesExceededError',
    });
    await expect((await now.enqueue(never)).get()).rejects.toMatchObject({ type: 'TypeError' });
  });

  test('ends retries that have no maximum', async () => {
    const tasks = new Tasks().handle(echo, () => Promise.reject(new Retry()), { retry: { max: null } });
    await expect(inline(tasks).enqueue(echo)).rejects.toThrow(/more than 1000 runs/);
  });

  test('gives the error of a handler as Python would see it', async () => {
    const client = inline(tasksOf(), { exceptions: { OutOfStock: 'shop.errors.OutOfStock' } });
    const result = await client.enqueue(fails, { args: ['error'] });
    await expect(result.get()).rejects.toMatchObject({
      name: 'RemoteError',
      type: 'OutOfStock',
      module: 'shop.errors',
      args: ['none left'],
    });
    expect(await result.state()).toBe('FAILURE');
    await expect((await now.enqueue(fails, { args: ['fail'] })).get()).rejects.toThrow('no more');
  });

  test('has no result where none is stored', async () => {
    const discarded = await now.enqueue(fails, { args: ['discard'] });
    expect(await discarded.state()).toBe('PENDING');
    await expect(discarded.get()).rejects.toThrow(ResultTimeoutError);
    await expect((await now.enqueue(add, { args: [1, 1], ignoreResult: true })).get()).rejects.toThrow(
      ResultTimeoutError,
    );
  });

  test('revokes what has expired', async () => {
    const result = await now.enqueue(add, { args: [1, 1], expires: new Date(0) });
    await expect(result.get()).rejects.toMatchObject({ type: 'TaskRevokedError' });
  });

  test('knows no task without a handler', async () => {
    await expect(now.enqueue('proj.missing')).rejects.toThrow(UnknownTaskError);
  });

  test('runs links that have a handler here, and keeps the others', async () => {
    const client = inline(tasksOf());
    const result = await client.enqueue(add, {
      args: [1, 1],
      link: [
        { task: 'proj.add', args: [10], options: { task_id: 'linked' } },
        { task: 'py.notify', kwargs: { loud: true } },
      ],
    });
    expect(await result.get()).toBe(2);
    expect(await client.result('linked').get()).toBe(12);
    expect(client.sent).toEqual([{ task: 'py.notify', args: [2], kwargs: { loud: true } }]);
  });

  test('keeps a state of the handler', async () => {
    const tasks = new Tasks().handle(echo, async (_job, context) => {
      await context.update('PROGRESS', { done: 1 });
      throw new Discard();
    });
    const result = await inline(tasks).enqueue(echo);
    expect(await result.meta()).toMatchObject({ status: 'PROGRESS', result: { done: 1 } });
  });

  test('reads and writes other serializers', async () => {
    const client = inline(tasksOf(), { serializer: 'msgpack', resultSerializer: 'msgpack' });
    expect(await (await client.enqueue(add, { args: [2, 3] })).get()).toBe(5);
  });
});

describe('its types', () => {
  test('are as strict as those of the real client', () => {
    expectTypeOf<CallOptions>().toEqualTypeOf<EnqueueOptions>();
    expectTypeOf(now).toExtend<Client<EnqueueOptions, { readonly id: string }>>();
    expectTypeOf(now.enqueue(add, { args: [1, 2] })).resolves.toEqualTypeOf<InlineResult<number>>();
    expectTypeOf<Pick<InlineResult<number>, 'id' | 'get' | 'state' | 'ready' | 'meta' | 'forget'>>().toExtend<
      Pick<AsyncResult<number>, 'id' | 'state' | 'ready' | 'meta' | 'forget'>
    >();
    const refused = (): unknown[] => [
      // @ts-expect-error an argument of another type
      now.enqueue(add, { args: ['2', 3] }),
      // @ts-expect-error too few arguments
      now.enqueue(add, { args: [2] }),
      // @ts-expect-error a keyword argument of another type
      now.enqueue(resize, { args: ['a'], kwargs: { width: 'wide' } }),
      // @ts-expect-error no such option
      now.enqueue(add, { args: [1, 2], delay: 1 }),
    ];
    expect(refused).toBeTypeOf('function');
  });
});
