import { describe, expect, test } from 'vitest';
import { PollInterval } from '../../../src/drivers/resque/polls.ts';

/** Resque 3.0: worker.rb work. */
describe('the waits between looks at empty queues', () => {
  const waits = (looks: PollInterval, count: number): readonly number[] =>
    Array.from({ length: count }, () => looks.next());

  test('are as long as `interval`, unless bounds are given', () => {
    expect(waits(new PollInterval({}), 3)).toEqual([5_000, 5_000, 5_000]);
    expect(waits(new PollInterval({ interval: 0.5 }), 2)).toEqual([500, 500]);
  });

  test('grow up to `maxInterval`, and begin at `minInterval` after a job', () => {
    const looks = new PollInterval({ interval: 1, minInterval: 1, maxInterval: 4, backoffInterval: 2 });
    expect(waits(looks, 3)).toEqual([3_000, 4_000, 4_000]);
    looks.found();
    expect(waits(looks, 2)).toEqual([3_000, 4_000]);
  });

  test('end with an interval of 0: at the first look, or after a job where that is what `minInterval` says', () => {
    expect(new PollInterval({ interval: 0 }).over).toBe(true);
    expect(new PollInterval({ interval: 0, minInterval: 1, maxInterval: 2 }).over).toBe(false);
    const looks = new PollInterval({ interval: 5, minInterval: 0 });
    expect(looks.over).toBe(false);
    looks.found();
    expect(looks.over).toBe(true);
  });

  test('are numbers of seconds', () => {
    expect(() => new PollInterval({ interval: -1 })).toThrow('resque: interval must be a number of seconds');
    expect(() => new PollInterval({ backoffInterval: Number.NaN })).toThrow('backoffInterval');
  });
});
