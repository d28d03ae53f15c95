import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Chores } from '../../src/chores.ts';
import type { Logger } from '../../src/log.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function recorded(): { readonly log: Logger; readonly lines: { level: string; fields: object; message: string }[] } {
  const lines: { level: string; fields: object; message: string }[] = [];
  const at =
    (level: string) =>
    (fields: object, message: string): void =>
      void lines.push({ level, fields, message });
  return { lines, log: { level: 'debug', debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') } };
}

/** Fails so many times, then succeeds. */
function failing(times: number): { readonly work: () => Promise<void>; calls: number } {
  const tried = {
    calls: 0,
    work: () => (++tried.calls <= times ? Promise.reject(new Error(`failure ${tried.calls}`)) : Promise.resolve()),
  };
  return tried;
}

describe('a chore', () => {
  test('is tried until it succeeds, and counted until then', async () => {
    const chores = new Chores();
    const { work } = failing(3);
    chores.add('give back a job', work);
    expect(chores.size).toBe(1);
    const settled = chores.settled();
    await vi.runAllTimersAsync();
    expect(await settled).toBe(true);
    expect(chores.size).toBe(0);
  });

  test('that fails is one line of the log, with what it is about', async () => {
    const { log, lines } = recorded();
    const chores = new Chores(() => log);
    chores.add('give back a job', failing(5).work, { queue: 'q', id: '7' });
    await vi.runAllTimersAsync();
    expect(lines).toMatchObject([
      {
        level: 'warn',
        fields: { queue: 'q', id: '7', error: { message: 'failure 1' } },
        message: 'could not give back a job; trying again until it is done or this worker stops',
      },
    ]);
  });

  test('beside another that fails is no second warning, until one has succeeded', async () => {
    const { log, lines } = recorded();
    const chores = new Chores(() => log);
    for (let id = 0; id < 3; id++) chores.add('give back a job', failing(1).work, { id });
    await vi.runAllTimersAsync();
    chores.add('give back a job', failing(1).work, { id: 3 });
    await vi.runAllTimersAsync();
    expect(lines.map(({ level, fields }) => [level, (fields as { id: number }).id])).toEqual([
      ['warn', 0],
      ['debug', 1],
      ['debug', 2],
      ['warn', 3],
    ]);
  });

  test('that does not succeed is given up at close', async () => {
    const chores = new Chores();
    const tried = failing(Number.POSITIVE_INFINITY);
    chores.add('give back a job', tried.work);
    expect(chores.signal.aborted).toBe(false);
    const settled = chores.settled(2_000);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(await settled).toBe(false);
    chores.close();
    expect(await chores.settled()).toBe(true);
    const { calls } = tried;
    await vi.advanceTimersByTimeAsync(60_000);
    expect([chores.signal.aborted, tried.calls - calls]).toEqual([true, 0]);
  });

  test('that is added while others are awaited is awaited too', async () => {
    const chores = new Chores();
    const order: string[] = [];
    chores.add('do the first', async () => {
      order.push('first');
      chores.add('do the second', async () => {
        await Promise.resolve();
        order.push('second');
      });
    });
    expect(await chores.settled()).toBe(true);
    expect(order).toEqual(['first', 'second']);
  });

  test('that is added after close is tried once', async () => {
    const chores = new Chores();
    chores.close();
    const tried = failing(9);
    chores.add('give back a job', tried.work);
    expect(await chores.settled()).toBe(true);
    expect(tried.calls).toBe(1);
  });
});
