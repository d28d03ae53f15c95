import { describe, expect, test } from 'vitest';
import { rate, RateLimit } from '../../../src/drivers/celery/consumer/rate-limit.ts';
import { ConfigError } from '../../../src/errors.ts';

describe('rate', () => {
  test.each([
    [10, 10],
    [0, 0],
    ['10', 10],
    ['10/s', 10],
    ['100/m', 100 / 60],
    ['5/h', 5 / 3600],
    ['0.5/s', 0.5],
    [' 2/s ', 2],
    ['0/m', 0],
  ])('%j is %d runs a second', (limit, expected) => {
    expect(rate(limit)).toBeCloseTo(expected, 10);
  });

  test.each(['', 'fast', '10/d', '10 per second', '-1/s', '1/s/s'])('%j is refused by name', (limit) => {
    expect(() => rate(limit)).toThrow(ConfigError);
    expect(() => rate(limit)).toThrow(`'${limit}'`);
  });
});

describe('RateLimit', () => {
  test('turns are spaced evenly; the first is now', () => {
    const limit = new RateLimit(4);
    const turns: number[] = [];
    for (let run = 0; run < 4; run++) {
      turns.push(limit.next(1_000));
      limit.take(1_000);
    }
    expect(turns).toEqual([1_000, 1_250, 1_500, 1_750]);
  });

  test('turns nobody used do not add up to a burst', () => {
    const limit = new RateLimit(4);
    limit.take(0);
    expect(limit.next(60_000)).toBe(60_000);
    limit.take(60_000);
    expect(limit.next(60_000)).toBe(60_250);
  });

  test('looking at the next turn does not use it', () => {
    const limit = new RateLimit(1);
    expect([limit.next(5), limit.next(5)]).toEqual([5, 5]);
  });
});
