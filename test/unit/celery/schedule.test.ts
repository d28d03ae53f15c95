import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  crontab,
  type CrontabFields,
  interval,
  isDue,
  ParseException,
  readEntry,
  readSchedule,
  remainingMs,
  type Schedule,
  type Zone,
  zoneOf,
} from '../../../protocols/celery/schedule/schedule.ts';
import { root } from '../../support/setup.mjs';

type Spec = CrontabFields['minute'];

interface Table<Row> {
  readonly zones: readonly string[];
  readonly crontabs: readonly (readonly Spec[])[];
  readonly intervals: readonly (readonly [number, boolean])[];
  readonly rows: readonly Row[];
}

type Answer = readonly [
  schedule: number,
  zone: number,
  last: number,
  now: number,
  left: number,
  due: 0 | 1,
  next: number,
];

/** What real Celery answered: fixtures/capture/celery/schedules.py. */
function captured<T>(name: string): T {
  return JSON.parse(readFileSync(join(root, 'fixtures/celery/5.6/schedules', `${name}.json`), 'utf8')) as T;
}

function crontabOf([minute, hour, dayOfWeek, dayOfMonth, monthOfYear]: readonly Spec[]): Schedule {
  return crontab({ minute, hour, dayOfWeek, dayOfMonth, monthOfYear } as CrontabFields);
}

/** Rows in which Celery finds the next run before the last: the second pass of an hour that the clock shows twice. */
function goesBack(schedule: Schedule, last: number, now: number, zone: Zone): boolean {
  return (
    now + remainingMs(schedule, last, now, zone) <= last || (now >= last && remainingMs(schedule, now, now, zone) <= 0)
  );
}

describe.each(['crontab', 'interval'])('%s', (name) => {
  const { zones, crontabs, intervals, rows } = captured<Table<Answer>>(name);
  const schedules =
    name === 'crontab' ? crontabs.map(crontabOf) : intervals.map(([every, relative]) => interval(every, { relative }));
  const cases = rows.map(([schedule, zone, ...rest]) => ({
    schedule: schedules[schedule] as Schedule,
    zone: zoneOf(zones[zone] as string),
    row: rest,
  }));

  test('the time remaining is what Celery says, over every change of the clock', () => {
    const wrong = cases.filter(
      ({ schedule, zone, row: [last, now, left] }) => remainingMs(schedule, last, now, zone) !== left,
    );
    expect(wrong).toEqual([]);
    expect(cases.length).toBeGreaterThan(700);
  });

  test('what is due, and when to look again, is what Celery says', () => {
    const wrong = cases.filter(({ schedule, zone, row: [last, now, , due, next] }) => {
      if (goesBack(schedule, last, now, zone)) return false;
      const ours = isDue(schedule, last, now, zone);
      return ours.due !== (due === 1) || ours.nextMs !== next;
    });
    expect(wrong).toEqual([]);
  });

  test('in an hour that the clock shows twice nothing is due before its last run', () => {
    const again = cases.filter(({ schedule, zone, row: [last, now] }) => goesBack(schedule, last, now, zone));
    expect(again.length).toBeGreaterThan(5);
    for (const { schedule, zone, row } of again)
      expect(isDue(schedule, row[0], row[1], zone).at).toBeGreaterThan(row[0]);
  });
});

test('a run later than the starting deadline is left out, as in Celery', () => {
  type Row = readonly [
    crontab: number,
    zone: number,
    last: number,
    now: number,
    deadline: number,
    due: 0 | 1,
    next: number,
  ];
  const { zones, crontabs, rows } = captured<Table<Row>>('deadline');
  const wrong = rows.filter(([spec, zoneAt, last, now, deadline, due, next]) => {
    const schedule = crontabOf(crontabs[spec] as readonly Spec[]);
    const zone = zoneOf(zones[zoneAt] as string);
    if (goesBack(schedule, last, now, zone)) return false;
    const ours = isDue(schedule, last, now, zone, { startingDeadlineMs: deadline * 1000 });
    return ours.due !== (due === 1) || ours.nextMs !== next;
  });
  expect(wrong).toEqual([]);
  expect(rows.filter(([, , , , , due]) => due === 1).length).toBeGreaterThan(20);
});

describe('the second pass of an hour that the clock shows twice', () => {
  const berlin = zoneOf('Europe/Berlin');
  const last = Date.UTC(2026, 9, 25, 1, 30); // 02:30 for the second time

  test('an interval goes on', () => {
    expect(isDue(interval(10), last, last + 1_000, berlin)).toMatchObject({ due: false, nextMs: 9_000 });
    expect(isDue(interval(10), last, last + 10_000, berlin)).toMatchObject({ due: true, nextMs: 10_000 });
  });

  test('a crontab had these times in the first pass, and is due when the hour is over', () => {
    expect(isDue(crontab('*/5 * * * *'), last, last + 1_000, berlin).at).toBe(Date.UTC(2026, 9, 25, 2, 0));
  });
});

describe('the fields of a crontab', () => {
  type Field = 'minute' | 'hour' | 'day_of_week' | 'day_of_month' | 'month_of_year';
  const { read, refused } = captured<{
    readonly read: readonly (readonly [Field, Spec, readonly number[]])[];
    readonly refused: readonly (readonly [Field, Spec, string])[];
  }>('fields');
  const values = {
    minute: 'minutes',
    hour: 'hours',
    day_of_week: 'daysOfWeek',
    day_of_month: 'daysOfMonth',
    month_of_year: 'monthsOfYear',
  } as const;
  const parse = (field: Field, spec: Spec): ReturnType<typeof crontab> =>
    readSchedule({ [field]: spec }) as ReturnType<typeof crontab>;

  test('what Celery reads means the same here', () => {
    for (const [field, spec, expected] of read)
      expect(parse(field, spec)[values[field]], `${field} ${String(spec)}`).toEqual(expected);
    expect(read.length).toBeGreaterThan(100);
  });

  test('what Celery refuses is refused, naming the field', () => {
    for (const [field, spec] of refused) {
      let thrown: unknown;
      try {
        parse(field, spec);
      } catch (error) {
        thrown = error;
      }
      expect(thrown, `${field} ${String(spec)}`).toBeInstanceOf(ParseException);
      expect(thrown).toMatchObject({ name: 'ParseException', field });
      expect(String(thrown)).toContain(`${field}: `);
    }
    expect(refused.length).toBeGreaterThan(100);
  });

  test('of a text are in the order of cron', () => {
    expect(crontab('30 7 1,15 jan mon-fri')).toMatchObject({
      minutes: [30],
      hours: [7],
      daysOfMonth: [1, 15],
      monthsOfYear: [1],
      daysOfWeek: [1, 2, 3, 4, 5],
    });
    expect(() => crontab('30 7 * *')).toThrow("'30 7 * *' has 4 fields");
  });

  test('that name no date at all are told apart from a long wait', () => {
    const now = Date.UTC(2026, 0, 1);
    const utc = zoneOf('UTC');
    expect(() => remainingMs(crontab({ dayOfMonth: 30, monthOfYear: 2 }), now, now, utc)).toThrow('never comes');
    expect(now + remainingMs(crontab('0 0 29 feb sun'), now, now, utc)).toBe(Date.UTC(2032, 1, 29));
  });
});

describe('an entry of a schedule dictionary', () => {
  test('is read with Python names and ours', () => {
    expect(
      readEntry('report', {
        task: 'proj.report',
        schedule: { minute: '0', hour: 4, day_of_week: 'mon' },
        args: [1],
        kwargs: { to: 'x' },
        options: { queue: 'slow', expires: 60 },
      }),
    ).toEqual({
      name: 'report',
      task: 'proj.report',
      schedule: crontab({ minute: '0', hour: 4, dayOfWeek: 'mon' }),
      args: [1],
      kwargs: { to: 'x' },
      options: { queue: 'slow', expires: 60 },
    });
    expect(readEntry('x', { task: 't', schedule: 30, relative: true }).schedule).toEqual(
      interval(30, { relative: true }),
    );
    expect(readEntry('x', { task: 't', schedule: { every: 1.5 } }).schedule).toEqual(interval(1.5));
  });

  test.each([
    [null, 'null is no entry'],
    [{ schedule: 1 }, 'task: must be the name of a task'],
    [{ task: 't' }, 'schedule: a undefined is no schedule'],
    [
      { task: 't', schedule: 0 },
      'schedule: an interval must be a number of seconds above 0 and within a century, not 0',
    ],
    [{ task: 't', schedule: 1e300 }, 'within a century, not 1e+300'],
    [{ task: 't', schedule: Number.NaN }, 'not NaN'],
    [{ task: 't', schedule: 1, args: {} }, 'args: must be a list'],
    [{ task: 't', schedule: 1, kwargs: [] }, 'kwargs: must be a dictionary'],
    [{ task: 't', schedule: 1, option: {} }, "an entry has no 'option'"],
    [{ task: 't', schedule: { minutes: 1 } }, "a crontab has no 'minutes'"],
    [{ task: 't', schedule: { __proto__: null, minute: [99] } }, "minute: Valid range is 0-59. '99' was found."],
  ])('that is %j is refused', (value, message) => {
    expect(() => readEntry('x', value)).toThrow(message);
  });
});

test('a time zone nobody knows is named', () => {
  expect(() => zoneOf('Mars/Olympus')).toThrow("there is no time zone 'Mars/Olympus'");
});
