import { type Crontab, crontab, type CrontabFields, nextWall, ParseException } from './crontab.ts';
import type { Zone } from '../../formats/zone.ts';

export { type CronField, type Crontab, crontab, type CrontabFields, ParseException } from './crontab.ts';
export { utc, type Zone, zoneOf } from '../../formats/zone.ts';

/** Every so often after the last run. Source: celery/schedules.py schedule (5.6). */
export interface Interval {
  readonly kind: 'interval';
  readonly everyMs: number;
  /** Rounded down to a whole day, hour, minute or second: the largest of these that fits into the interval. */
  readonly relative: boolean;
}

/** When something is due, as Celery's beat knows it. Solar schedules are not known here, and refused by that name. */
export type Schedule = Interval | Crontab;

/** A hundred years; dates have an end. */
const LONGEST_SECONDS = 100 * 366 * 86_400;

/** `interval(30)`: every 30 seconds. Throws ParseException unless it is a number above 0, and no century. */
export function interval(seconds: number, { relative = false }: { readonly relative?: boolean } = {}): Interval {
  if (!(seconds > 0 && seconds <= LONGEST_SECONDS))
    throw new ParseException(
      `an interval must be a number of seconds above 0 and within a century, not ${seconds}`,
      'schedule',
    );
  return { kind: 'interval', everyMs: seconds * 1000, relative };
}

export interface DueOptions {
  /** Milliseconds: a run of a crontab that is later than this is left out (`beat_cron_starting_deadline`). */
  readonly startingDeadlineMs?: number | undefined;
}

/** Whether it is due, and in how many milliseconds to look again. */
export interface Due {
  readonly due: boolean;
  readonly nextMs: number;
  /** The moment it was or will be due: the next one after the last run. */
  readonly at: number;
}

/**
 * Milliseconds from `now` to the next run after `last`, below 0 when that has passed: exactly Celery's `remaining_estimate`.
 * Computed on the wall clock, as Python computes: a day from now is the same time tomorrow, in a night of 23 hours too.
 */
export function remainingMs(schedule: Schedule, last: number, now: number, zone: Zone): number {
  return fromWallOf(schedule, zone.toWall(last), now, zone) - now;
}

/**
 * Celery's `is_due`, with one difference. In the hour that a clock shows twice, Celery takes the second pass for the first, finds
 * the next run to lie before the last, and sends the entry again and again until the hour is over. Here the next run is always
 * after the last: an interval goes on counting, and a crontab has the times of such an hour once, in the first pass.
 */
export function isDue(schedule: Schedule, last: number, now: number, zone: Zone, options: DueOptions = {}): Due {
  const at = nextAfter(schedule, last, now, zone);
  let due = at <= now;
  const late = due && isTooLate(schedule, last, now, zone, options.startingDeadlineMs);
  if (late) due = false;
  if (!due && !late) return { due, nextMs: at - now, at };
  const nextMs = schedule.kind === 'interval' ? schedule.everyMs : nextAfter(schedule, now, now, zone) - now;
  return { due, nextMs, at };
}

/** The first time it is due after `last`. */
function nextAfter(schedule: Schedule, last: number, now: number, zone: Zone): number {
  let at = fromWallOf(schedule, zone.toWall(last), now, zone);
  if (at > last) return at;
  if (schedule.kind === 'interval') return last + schedule.everyMs;
  while (at <= last) at = fromWallOf(schedule, zone.toWall(at), at, zone);
  return at;
}

function fromWallOf(schedule: Schedule, lastWall: number, now: number, zone: Zone): number {
  if (schedule.kind === 'crontab') return zone.fromWall(nextWall(schedule, lastWall, zone.toWall(now)));
  const end = lastWall + schedule.everyMs;
  return zone.fromWall(schedule.relative ? roundedDown(end, schedule.everyMs) : end);
}

const RESOLUTIONS = [86_400_000, 3_600_000, 60_000];

/** Source: celery/utils/time.py delta_resolution. */
function roundedDown(wallMs: number, everyMs: number): number {
  const unit = RESOLUTIONS.find((size) => everyMs >= size) ?? 1000;
  return Math.floor(wallMs / unit) * unit;
}

/** Source: celery/schedules.py crontab.is_due. */
function isTooLate(schedule: Schedule, last: number, now: number, zone: Zone, deadlineMs: number | undefined): boolean {
  if (deadlineMs === undefined || schedule.kind !== 'crontab') return false;
  let checked = zone.toWall(last);
  let left = fromWallOf(schedule, checked, now, zone) - now;
  let latest = left;
  while (left < 0) {
    checked += Math.abs(left);
    left = fromWallOf(schedule, checked, now, zone) - now;
    if (left < 0) latest = left;
  }
  return -latest > deadlineMs;
}

/** One entry of `beat_schedule`: what to send, and when. */
export interface BeatEntry {
  readonly name: string;
  readonly task: string;
  readonly schedule: Schedule;
  readonly args: readonly unknown[];
  readonly kwargs: Readonly<Record<string, unknown>>;
  /** Options of `apply_async` by Celery's names: `{ queue, expires, routing_key }`. */
  readonly options: Readonly<Record<string, unknown>>;
}

/** A schedule as it may be written down: seconds, cron's five fields, `{ every, relative }`, or a crontab's fields by Python's names or ours. */
export type ScheduleLike =
  | Schedule
  | number
  | string
  | { readonly every: number; readonly relative?: boolean }
  | CrontabFields
  | CrontabDictionary;

/** A crontab's fields by Python's names. */
export interface CrontabDictionary {
  readonly minute?: CrontabFields['minute'];
  readonly hour?: CrontabFields['hour'];
  readonly day_of_week?: CrontabFields['dayOfWeek'];
  readonly day_of_month?: CrontabFields['dayOfMonth'];
  readonly month_of_year?: CrontabFields['monthOfYear'];
}

const CRONTAB_NAMES: Readonly<Record<string, keyof CrontabFields>> = {
  minute: 'minute',
  hour: 'hour',
  dayOfWeek: 'dayOfWeek',
  day_of_week: 'dayOfWeek',
  dayOfMonth: 'dayOfMonth',
  day_of_month: 'dayOfMonth',
  monthOfYear: 'monthOfYear',
  month_of_year: 'monthOfYear',
};

/** Reads what `schedule` of an entry may be. Throws ParseException. */
export function readSchedule(value: unknown, relative = false): Schedule {
  if (typeof value === 'number') return interval(value, { relative });
  if (typeof value === 'string') return crontab(value);
  if (!isRecord(value)) throw new ParseException(`${describe(value)} is no schedule`, 'schedule');
  if (value['kind'] === 'interval')
    return interval(Number(value['everyMs']) / 1000, { relative: value['relative'] === true });
  if (value['kind'] === 'crontab') return crontab(value['fields'] as CrontabFields);
  if (Object.hasOwn(value, 'event') || value['kind'] === 'solar' || value['__type__'] === 'solar')
    throw new ParseException(SOLAR, 'schedule');
  if (Object.hasOwn(value, 'every')) {
    const { every, relative: own = relative, ...rest } = value;
    refuse(Object.keys(rest), 'an interval');
    return interval(typeof every === 'number' ? every : Number.NaN, { relative: own === true });
  }
  const fields: { -readonly [Name in keyof CrontabFields]: CrontabFields[Name] } = {};
  refuse(
    Object.keys(value).filter((name) => !Object.hasOwn(CRONTAB_NAMES, name)),
    'a crontab',
  );
  for (const [name, field] of Object.entries(value))
    if (field !== undefined) fields[CRONTAB_NAMES[name] as keyof CrontabFields] = field as string;
  return crontab(fields);
}

/** What a solar schedule is answered with: `solar('sunset', lat, lon)` is a computation of Python's `ephem`. */
export const SOLAR =
  'solar schedules are computed by Python only. Leave this entry to a beat of Python, which sends it to the same queue; or write a crontab, and let the task see where the sun stands';

const ENTRY_NAMES = ['task', 'schedule', 'args', 'kwargs', 'options', 'relative'];

/**
 * Reads one entry of a `beat_schedule` dictionary: `{ task, schedule, args, kwargs, options, relative }`. Throws ParseException
 * naming what is wrong.
 */
export function readEntry(name: string, value: unknown): BeatEntry {
  if (!isRecord(value)) throw new ParseException(`${describe(value)} is no entry; write { task, schedule }`);
  refuse(
    Object.keys(value).filter((key) => !ENTRY_NAMES.includes(key)),
    'an entry',
  );
  const { task, schedule, args = [], kwargs = {}, options = {}, relative = false } = value;
  if (typeof task !== 'string' || task === '') throw new ParseException('must be the name of a task', 'task');
  if (!Array.isArray(args)) throw new ParseException('must be a list', 'args');
  if (!isRecord(kwargs)) throw new ParseException('must be a dictionary', 'kwargs');
  if (!isRecord(options)) throw new ParseException('must be a dictionary', 'options');
  if (typeof relative !== 'boolean') throw new ParseException('must be true or false', 'relative');
  return { name, task, schedule: readSchedule(schedule, relative), args, kwargs, options };
}

function refuse(names: readonly string[], what: string): void {
  if (names.length > 0) throw new ParseException(`${what} has no '${names.join("', '")}'`);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function describe(value: unknown): string {
  return value === null ? 'null' : Array.isArray(value) ? 'a list' : `a ${typeof value}`;
}
