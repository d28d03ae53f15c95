import fc from 'fast-check';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { DelayQueue } from '../../../src/delay-queue.ts';

beforeEach(() => {
  vi.useFakeTimers({ now: 0 });
});
afterEach(() => {
  vi.useRealTimers();
});

test('what is due comes out, soonest first, and the rest stays, whatever the order it was added in', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(1_000)), fc.nat(1_000), (times, now) => {
      const holds = new DelayQueue<number>();
      for (const at of times) holds.add(at, at);
      const sorted = times.toSorted((a, b) => a - b);
      expect(holds.due(now)).toEqual(sorted.filter((at) => at <= now));
      expect(holds.size).toBe(sorted.filter((at) => at > now).length);
      expect(holds.clear()).toEqual(sorted.filter((at) => at > now));
      expect(holds.size).toBe(0);
    }),
  );
});

test('next resolves when the soonest is due', async () => {
  const holds = new DelayQueue<string>();
  holds.add(500, 'later');
  const woken = vi.fn();
  void holds.next().then(woken);
  await vi.advanceTimersByTimeAsync(499);
  expect(woken).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(1);
  expect(woken).toHaveBeenCalledOnce();
  expect(holds.due(Date.now())).toEqual(['later']);
});

test('next resolves earlier when something sooner is added while it waits', async () => {
  const holds = new DelayQueue<string>();
  holds.add(500, 'later');
  const woken = vi.fn();
  void holds.next().then(woken);
  holds.add(100, 'sooner');
  await vi.advanceTimersByTimeAsync(100);
  expect(woken).toHaveBeenCalledOnce();
  expect(holds.due(Date.now())).toEqual(['sooner']);
});

test('what fell due while nobody waited resolves next at once', async () => {
  const holds = new DelayQueue<string>();
  holds.add(100, 'due');
  await vi.advanceTimersByTimeAsync(5_000);
  const woken = vi.fn();
  void holds.next().then(woken);
  await vi.advanceTimersByTimeAsync(0);
  expect(woken).toHaveBeenCalledOnce();
});

test('a time further off than a timer can count does not fire at once', async () => {
  const holds = new DelayQueue<string>();
  const year = 365 * 86_400_000;
  holds.add(year, 'next year');
  const woken = vi.fn();
  void holds.next().then(woken);
  await vi.advanceTimersByTimeAsync(86_400_000);
  expect(woken).not.toHaveBeenCalled();
  expect(holds.due(Date.now())).toEqual([]);
});

test('an empty one keeps no timer', () => {
  const holds = new DelayQueue<string>();
  holds.add(100, 'one');
  expect(vi.getTimerCount()).toBe(1);
  holds.clear();
  expect(vi.getTimerCount()).toBe(0);
});
