import { describe, expect, expectTypeOf, test } from 'vitest';
import { type Client, defineTask, WireError } from '../../../src/index.ts';
import type { EnqueueOptions } from '../../../src/drivers/celery/index.ts';
import { recorder } from '../../../src/testing/index.ts';

const charge = defineTask<(order: number) => void, { note?: string }>('shop.charge');
const mail = defineTask<(to: string) => void>('shop.mail');

/** What an application does with a client of any kind. */
async function placeOrder(client: Client<EnqueueOptions, { readonly id: string }>): Promise<string> {
  await client.enqueue(mail, { args: ['a@b.c'], queue: 'mail', countdown: 60 });
  return (await client.enqueue(charge, { args: [42], kwargs: { note: 'now' } })).id;
}

describe('a recorder', () => {
  test('remembers what was enqueued, of one task or of all', async () => {
    const tape = recorder();
    expect(await placeOrder(tape)).toMatch(/^[0-9a-f-]{36}$/);
    expect(tape.enqueued(charge)).toEqual([{ args: [42], kwargs: { note: 'now' }, queue: 'celery' }]);
    expect(tape.enqueued()).toEqual([
      { task: 'shop.mail', args: ['a@b.c'], kwargs: {}, queue: 'mail', countdown: 60 },
      { task: 'shop.charge', args: [42], kwargs: { note: 'now' }, queue: 'celery' },
    ]);
    expect(tape.enqueued('shop.mail')).toHaveLength(1);
    tape.clear();
    expect(tape.enqueued()).toEqual([]);
  });

  test('shows arguments as a worker sees them, and refuses what the wire cannot hold', async () => {
    const tape = recorder({ defaultQueue: 'node' });
    await tape.enqueue('any', { args: [undefined, { a: undefined }] });
    expect(tape.enqueued('any')).toEqual([{ args: [null, {}], kwargs: {}, queue: 'node' }]);
    await expect(tape.enqueue('any', { args: [Symbol('x')] })).rejects.toThrow(WireError);
    expect(tape.enqueued()).toHaveLength(1);
  });

  test('has no results', async () => {
    await expect((await recorder().enqueue(charge, { args: [1] })).get()).rejects.toThrow(/recorded, not run/);
  });

  test('is typed as the tasks are', async () => {
    const tape = recorder();
    await tape.enqueue(charge, { args: [42] });
    expectTypeOf(tape.enqueued(charge)[0]!.args).toEqualTypeOf<[order: number]>();
    expectTypeOf(tape.enqueued(charge)[0]!.kwargs).toEqualTypeOf<{ note?: string }>();
    // @ts-expect-error an argument of another type
    const refused = (): unknown => tape.enqueue(charge, { args: ['42'] });
    expect(refused).toBeTypeOf('function');
  });
});
