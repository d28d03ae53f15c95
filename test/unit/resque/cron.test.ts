import { describe, expect, test } from 'vitest';
import { zoneOf } from '../../../protocols/formats/zone.ts';
import { cron, duration, every } from '../../../protocols/resque/cron.ts';

const at = (text: string): number => Date.parse(text);
const next = (text: string, after: string, zone = 'UTC'): string | undefined => {
  const found = cron(text, zoneOf(zone)).next(at(after));
  return found === undefined ? undefined : new Date(found).toISOString().replace('.000Z', 'Z');
};

describe('cron', () => {
  // 2026-11-21 is a Saturday.
  test.each([
    ['* * * * *', '2026-11-21T10:00:00Z', '2026-11-21T10:01:00Z'],
    ['* * * * * *', '2026-11-21T10:00:00Z', '2026-11-21T10:00:01Z'],
    ['*/15 * * * *', '2026-11-21T10:07:31Z', '2026-11-21T10:15:00Z'],
    ['0 3 * * *', '2026-11-21T03:00:00Z', '2026-11-22T03:00:00Z'],
    ['30 9 * * 1-5', '2026-11-21T10:00:00Z', '2026-11-23T09:30:00Z'],
    ['30 9 * * mon-fri', '2026-11-20T09:29:59Z', '2026-11-20T09:30:00Z'],
    ['0 0 1 * *', '2026-11-21T00:00:00Z', '2026-12-01T00:00:00Z'],
    ['0 0 L * *', '2026-02-01T00:00:00Z', '2026-02-28T00:00:00Z'],
    ['0 0 -2 * *', '2026-02-01T00:00:00Z', '2026-02-27T00:00:00Z'],
    ['0 0 29 2 *', '2026-03-01T00:00:00Z', '2028-02-29T00:00:00Z'],
    ['0 0 13 * 5', '2026-11-21T00:00:00Z', '2026-11-27T00:00:00Z'],
    ['0 0 * * 7', '2026-11-21T00:00:00Z', '2026-11-22T00:00:00Z'],
    ['0 0 * * sun', '2026-11-21T00:00:00Z', '2026-11-22T00:00:00Z'],
    ['0 9 * * mon#1', '2026-11-21T00:00:00Z', '2026-12-07T09:00:00Z'],
    ['0 9 * * fri#-1', '2026-11-21T00:00:00Z', '2026-11-27T09:00:00Z'],
    ['0 22-2 * * *', '2026-11-21T22:30:00Z', '2026-11-21T23:00:00Z'],
    ['15,45 8-10/2 * jan,nov *', '2026-11-21T08:20:00Z', '2026-11-21T08:45:00Z'],
    ['5/20 * * * *', '2026-11-21T10:06:00Z', '2026-11-21T10:25:00Z'],
    ['@hourly', '2026-11-21T10:00:00Z', '2026-11-21T11:00:00Z'],
    ['@weekly', '2026-11-21T10:00:00Z', '2026-11-22T00:00:00Z'],
    ['0 9 * * * Europe/Berlin', '2026-07-01T00:00:00Z', '2026-07-01T07:00:00Z'],
    ['0 0 9 * * * America/New_York', '2026-11-21T00:00:00Z', '2026-11-21T14:00:00Z'],
  ])('%s after %s is %s', (text, after, expected) => {
    expect(next(text, after)).toBe(expected);
  });

  test('an hour that a clock never shows is left out, one it shows twice comes once', () => {
    // Berlin: 02:30 is not there on 29 March 2026, and twice on 25 October.
    expect(next('30 2 * * *', '2026-03-28T12:00:00Z', 'Europe/Berlin')).toBe('2026-03-30T00:30:00Z');
    const first = next('30 2 * * *', '2026-10-24T12:00:00Z', 'Europe/Berlin');
    expect(first).toBe('2026-10-25T00:30:00Z');
    expect(next('30 2 * * *', first!, 'Europe/Berlin')).toBe('2026-10-26T01:30:00Z');
  });

  test('a day that never comes', () => {
    expect(next('0 0 31 2 *', '2026-01-01T00:00:00Z')).toBeUndefined();
  });

  test.each([
    ['* * * *', 'it has 4 fields'],
    ['60 * * * *', "'60' among its minutes is not between 0 and 59"],
    ['* * * 13 *', "'13' among its months"],
    ['* * * * mon#6', "'mon#6' among its weekdays"],
    ['*/0 * * * *', 'has a step below 1'],
    ['a b c d e', 'not understood'],
    ['0 9 * * * Mars/Olympus', "there is no time zone 'Mars/Olympus'"],
  ])('%s is refused', (text, why) => {
    expect(() => cron(text)).toThrow(why.replace('not understood', "'a' among its minutes"));
  });
});

describe('every', () => {
  test.each([
    ['30s', 30_000],
    ['1h30m', 5_400_000],
    ['2d', 172_800_000],
    ['1.5h', 5_400_000],
    ['45', 45_000],
    ['1w', 604_800_000],
  ])('%s is %d ms', (text, ms) => {
    expect(duration(text)).toBe(ms);
  });

  test.each(['', 'soon', '5 parsecs', '-3s', '0s'])('%j is refused', (text) => {
    expect(() => duration(text)).toThrow('is no duration');
  });

  test('counts from the first', () => {
    const timing = every(1_000, 5_000);
    expect([0, 4_999, 5_000, 5_001, 6_999].map((after) => timing.next(after))).toEqual([
      5_000, 5_000, 6_000, 6_000, 7_000,
    ]);
  });
});
