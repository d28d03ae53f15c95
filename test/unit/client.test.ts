import { expect, test } from 'vitest';
import { type ClientMiddleware, type Envelope, NotEnqueuedError, sendManyThrough } from '../../src/client.ts';

const envelope = (task: string): Envelope => ({
  system: 'toy',
  id: undefined,
  task,
  args: [],
  kwargs: {},
  queue: undefined,
  at: undefined,
  headers: {},
  options: {},
});
const envelopes = ['a', 'b', 'c'].map(envelope);

async function sent(...middleware: readonly ClientMiddleware[]): Promise<{
  readonly batches: readonly string[];
  readonly receipts: readonly string[] | Error;
}> {
  const batches: string[] = [];
  const receipts = await sendManyThrough(middleware, envelopes, async (batch) => {
    batches.push(batch.map(({ task }) => task).join(''));
    return batch.map(({ task }) => `sent ${task}`);
  }).catch((error: unknown) => error as Error);
  return { batches, receipts };
}

test('what leaves the middleware in one turn is sent together, in the order of the calls', async () => {
  const slowFirst: ClientMiddleware = async ({ task }, next) => {
    if (task === 'a') await Promise.resolve();
    return next();
  };
  expect(await sent(slowFirst)).toEqual({ batches: ['abc'], receipts: ['sent a', 'sent b', 'sent c'] });
});

test('a middleware that lets one job pass after the other does not stop the batch', async () => {
  let last: Promise<unknown> = Promise.resolve();
  const single: ClientMiddleware = (_, proceed) => (last = last.then(() => proceed()));
  expect(await sent(single)).toEqual({ batches: ['a', 'b', 'c'], receipts: ['sent a', 'sent b', 'sent c'] });
});

test('a middleware that refuses one job leaves the others sent', async () => {
  const { batches, receipts } = await sent(({ task }, next) => (task === 'b' ? undefined : next()));
  expect(batches).toEqual(['ac']);
  expect(receipts).toBeInstanceOf(NotEnqueuedError);
  expect((receipts as Error).message).toBe("toy: 'b' was not enqueued: a client middleware did not call next()");
});
