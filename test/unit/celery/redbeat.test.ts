import { describe, expect, test } from 'vitest';
import {
  decodeDefinition,
  decodeMeta,
  encodeDefinition,
  encodeMeta,
  redbeatKeys,
} from '../../../protocols/celery/schedule/redbeat.ts';
import { crontab, interval, zoneOf } from '../../../protocols/celery/schedule/schedule.ts';
import { WireError } from '../../../protocols/errors.ts';

const when = { __type__: 'interval', every: 1, relative: false };

/** A definition with these members instead of its own; `undefined` leaves one out. */
function definition(members: Readonly<Record<string, unknown>>): string {
  return JSON.stringify({ name: 'x', task: 't', schedule: when, ...members });
}

test('keys are those of RedBeat, and a lock of one own name is under the prefix', () => {
  expect(redbeatKeys()).toMatchObject({ schedule: 'redbeat::schedule', lock: 'redbeat::lock' });
  expect(redbeatKeys('mine:', 'leader').lock).toBe('mine:leader');
  expect(redbeatKeys('mine:', 'mine:leader').lock).toBe('mine:leader');
  expect(redbeatKeys('mine:', null).lock).toBeUndefined();
});

describe('a definition', () => {
  test('comes back as it was, with floats, large integers and keys of any name', () => {
    const text =
      '{"name": "x", "task": "t", "args": [1.0, 12345678901234567890, {"b": 1, "a": {"__proto__": 2}}], ' +
      '"kwargs": {"__proto__": 1, "10": 2, "9": 3}, "options": {}, ' +
      '"schedule": {"__type__": "interval", "every": 0.5, "relative": true}, "enabled": false}';
    expect(encodeDefinition(decodeDefinition(text))).toBe(text);
  });

  test('reads crontabs, and members that are null or missing', () => {
    const schedule = { __type__: 'crontab', minute: '*/5', hour: [1, 2], day_of_week: 0 };
    expect(decodeDefinition(definition({ schedule, args: null, kwargs: null, options: null }))).toEqual({
      name: 'x',
      task: 't',
      args: [],
      kwargs: new Map(),
      options: {},
      schedule: crontab({ minute: '*/5', hour: [1, 2], dayOfWeek: 0 }),
      enabled: true,
    });
    expect(decodeDefinition(definition({})).schedule).toEqual(interval(1));
  });

  test.each([
    'nonsense',
    '[]',
    '{}',
    definition({ task: 1 }),
    definition({ args: {} }),
    definition({ kwargs: [] }),
    definition({ options: 'x' }),
    definition({ schedule: null }),
    definition({ schedule: 5 }),
    definition({ schedule: { __type__: 'rrule', freq: 3 } }),
    definition({ schedule: { __type__: 'solar', event: 'dusk' } }),
    definition({ schedule: { __type__: 'interval', every: 'x' } }),
    definition({ schedule: { __type__: 'interval', every: -1 } }),
    definition({ schedule: { __type__: 'crontab', minute: { a: 1 } } }),
    definition({ schedule: { __type__: 'crontab', hour: '25' } }),
    definition({ args: [{ __type__: 'datetime', year: 2026, month: 1, day: 1, timezone: 'Mars/Olympus' }] }),
  ])('that is %s is refused in our own words', (text) => {
    expect(() => decodeDefinition(text)).toThrow(WireError);
  });
});

test('a solar schedule is refused with what to do about it', () => {
  expect(() => decodeDefinition(definition({ schedule: { __type__: 'solar', event: 'dusk_civil' } }))).toThrow(
    /schedule: solar schedules are computed by Python only\. Leave this entry to a beat of Python/,
  );
});

describe('a last run', () => {
  test('is written in the zone that crontabs are read in', () => {
    expect(
      encodeMeta({ lastRunAt: Date.UTC(2026, 6, 1, 12, 0, 0, 250), totalRunCount: 3 }, zoneOf('Europe/Berlin')),
    ).toBe(
      '{"last_run_at": {"__type__": "datetime", "year": 2026, "month": 7, "day": 1, "hour": 14, "minute": 0, "second": 0, ' +
        '"microsecond": 250000, "timezone": "Europe/Berlin"}, "total_run_count": 3}',
    );
  });

  test.each<[string | undefined, number | undefined, number]>([
    [undefined, undefined, 0],
    ['{"last_run_at": null}', undefined, 0],
    [
      '{"last_run_at": {"__type__": "datetime", "year": 2026, "month": 1, "day": 2, "hour": 3, "timezone": 7200.0}, "total_run_count": 4}',
      Date.UTC(2026, 0, 2, 1),
      4,
    ],
    [
      '{"last_run_at": {"__type__": "datetime", "year": 2026, "month": 7, "day": 2, "microsecond": 999999, "timezone": "America/New_York"}}',
      Date.UTC(2026, 6, 2, 4, 0, 0, 999),
      0,
    ],
  ])('of %s is read', (text, lastRunAt, totalRunCount) => {
    expect(decodeMeta(text)).toEqual({ lastRunAt, totalRunCount });
  });

  test.each(['nonsense', '1', '{"last_run_at": 5}', '{"last_run_at": {"__type__": "datetime"}}'])(
    'that is %s is refused',
    (text) => {
      expect(() => decodeMeta(text)).toThrow(WireError);
    },
  );
});
