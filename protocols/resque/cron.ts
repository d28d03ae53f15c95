import { WireError } from '../errors.ts';
import { utc, type Zone, zoneOf } from '../formats/zone.ts';

/**
 * When a schedule is due, as resque-scheduler's rufus-scheduler reads it.
 *
 *     cron   = [ second ] minute hour day-of-month month day-of-week [ zone ]
 *     field  = "*" | part *( "," part ),   part = ( value | value "-" value | "*" ) [ "/" step ]
 *     day-of-month also "L" (the last) and negative numbers; day-of-week also names, 7, and "mon#1", "mon#-1"
 *     every  = *( number unit ),   unit = "y" "M" "w" "d" "h" "m" "s"; a number alone is seconds
 *
 * Where day of month and day of week are both given, either will do.
 * Source: fugit cron.rb and duration.rb (1.x), rufus-scheduler 3.
 */
export interface Timing {
  /** The first moment after this one, in milliseconds; undefined when there is none within five years. */
  next(after: number): number | undefined;
}

/** Throws WireError `schedule`, saying which field is wrong. `zone` counts where the text names none. */
export function cron(text: string, zone: Zone = utc): Timing {
  const words = (NICKNAMES[text.trim()] ?? text).trim().split(/\s+/);
  const own = words.length > 5 && /[A-Za-z]/.test(words.at(-1) as string) && !DAYS_IN_WEEK.test(words.at(-1) as string);
  const place = own ? zoneOf(words.pop() as string) : zone;
  if (words.length === 5) words.unshift('0');
  if (words.length !== 6)
    throw refused(text, `it has ${words.length} fields; expected 5, or 6 with seconds first, and perhaps a time zone`);
  const [second, minute, hour, day, month, weekday] = words as [string, string, string, string, string, string];
  const fields: Fields = {
    seconds: numbers(text, 'seconds', second, 0, 59),
    minutes: numbers(text, 'minutes', minute, 0, 59),
    hours: numbers(text, 'hours', hour === '24' ? '0' : hour, 0, 23),
    days: day === '*' ? undefined : daysOfMonth(text, day),
    months: numbers(text, 'months', month, 1, 12, MONTHS),
    weekdays: weekday === '*' ? undefined : daysOfWeek(text, weekday),
  };
  return { next: (after) => nextCron(fields, place, after) };
}

/** Every so many milliseconds from `first` on. */
export function every(ms: number, first: number): Timing {
  return { next: (after) => (after < first ? first : first + (Math.floor((after - first) / ms) + 1) * ms) };
}

/** `1h30m` in milliseconds. Throws WireError `schedule`. */
export function duration(text: string): number {
  const trimmed = text.trim();
  if (/^\d+(?:\.\d+)?$/.test(trimmed)) return Number(trimmed) * 1000;
  let ms = 0;
  let rest = trimmed;
  for (let match = PART.exec(rest); match !== null; match = PART.exec(rest)) {
    ms += Number(match[1]) * (UNITS[match[2] as string] as number);
    rest = rest.slice(match[0].length);
  }
  if (rest !== '' || ms <= 0) throw refused(text, 'it is no duration such as 30s, 5m or 1h30m');
  return ms;
}

const PART = /^\s*(\d+(?:\.\d+)?)\s*([yMwdhms])/;
const UNITS: Readonly<Record<string, number>> = {
  y: 365 * 86_400_000,
  M: 30 * 86_400_000,
  w: 7 * 86_400_000,
  d: 86_400_000,
  h: 3_600_000,
  m: 60_000,
  s: 1_000,
};

const NICKNAMES: Readonly<Record<string, string>> = {
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
  '@monthly': '0 0 1 * *',
  '@weekly': '0 0 * * 0',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@noon': '0 12 * * *',
  '@hourly': '0 * * * *',
};

const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const WEEKDAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const DAYS_IN_WEEK = /^(?:[\d,*/#-]|sun|mon|tue|wed|thu|fri|sat)+$/i;

interface Fields {
  readonly seconds: ReadonlySet<number>;
  readonly minutes: ReadonlySet<number>;
  readonly hours: ReadonlySet<number>;
  /** Negative: from the end of the month. */
  readonly days: ReadonlySet<number> | undefined;
  readonly months: ReadonlySet<number>;
  readonly weekdays: readonly { readonly day: number; readonly nth: number | undefined }[] | undefined;
}

function numbers(
  text: string,
  field: string,
  value: string,
  low: number,
  high: number,
  names: readonly string[] = [],
): ReadonlySet<number> {
  const found = new Set<number>();
  for (const part of value.toLowerCase().split(',')) {
    const match = /^(\*|[a-z\d]+)(?:-([a-z\d]+))?(?:\/(\d+))?$/.exec(part);
    if (match === null) throw refused(text, `'${part}' among its ${field} is not understood`);
    const [, first = '*', last, stepText] = match;
    const step = stepText === undefined ? 1 : Number(stepText);
    if (step < 1) throw refused(text, `'${part}' among its ${field} has a step below 1`);
    const from = first === '*' ? low : numberOf(text, field, first, low, high, names);
    const to =
      last !== undefined
        ? numberOf(text, field, last, low, high, names)
        : first === '*' || stepText !== undefined
          ? high
          : from;
    // A range over the end goes on at the start: 22-2.
    const length = to >= from ? to - from : to + (high - low + 1) - from;
    for (let at = 0; at <= length; at += step) found.add(low + ((from - low + at) % (high - low + 1)));
  }
  return found;
}

function numberOf(
  text: string,
  field: string,
  value: string,
  low: number,
  high: number,
  names: readonly string[],
): number {
  const named = names.indexOf(value.slice(0, 3));
  const number = named >= 0 && /^[a-z]+$/.test(value) ? low + named : /^\d+$/.test(value) ? Number(value) : Number.NaN;
  if (!(number >= low && number <= high))
    throw refused(text, `'${value}' among its ${field} is not between ${low} and ${high}`);
  return number;
}

function daysOfMonth(text: string, value: string): ReadonlySet<number> {
  const found = new Set<number>();
  for (const part of value.toLowerCase().split(',')) {
    if (part === 'l' || part === 'last') found.add(-1);
    else if (/^-\d+$/.test(part) && Number(part) >= -31 && Number(part) < 0) found.add(Number(part));
    else for (const day of numbers(text, 'days', part, 1, 31)) found.add(day);
  }
  return found;
}

function daysOfWeek(text: string, value: string): NonNullable<Fields['weekdays']> {
  return value
    .toLowerCase()
    .split(',')
    .flatMap((part) => {
      const [days = '', nthText] = part.split('#');
      const nth = nthText === undefined ? undefined : Number(nthText === 'l' || nthText === 'last' ? -1 : nthText);
      if (nth !== undefined && !(Number.isInteger(nth) && nth !== 0 && Math.abs(nth) <= 5))
        throw refused(text, `'${part}' among its weekdays is not understood`);
      // 7 is Sunday, and so is 0: a range may end with it.
      return [...new Set([...numbers(text, 'weekdays', days, 0, 7, WEEKDAYS)].map((day) => day % 7))].map((day) => ({
        day,
        nth,
      }));
    });
}

const DAY_MS = 86_400_000;
const HORIZON_DAYS = 5 * 366;

function nextCron(fields: Fields, zone: Zone, after: number): number | undefined {
  const from = zone.toWall(Math.floor(after / 1000) * 1000);
  const today = Math.floor(from / DAY_MS) * DAY_MS;
  for (let offset = 0; offset <= HORIZON_DAYS; offset++) {
    const day = today + offset * DAY_MS;
    if (!dayMatches(fields, new Date(day))) continue;
    for (const wall of timesOf(fields, day, offset === 0 ? from : day - 1)) {
      const at = zone.fromWall(wall);
      // An hour that a clock shows twice comes once; one it never shows does not come.
      if (at > after && zone.toWall(at) === wall) return at;
    }
  }
  return undefined;
}

function* timesOf({ hours, minutes, seconds }: Fields, day: number, after: number): Generator<number> {
  for (let hour = 0; hour < 24; hour++) {
    if (!hours.has(hour) || day + (hour + 1) * 3_600_000 <= after) continue;
    for (let minute = 0; minute < 60; minute++) {
      const start = day + hour * 3_600_000 + minute * 60_000;
      if (!minutes.has(minute) || start + 60_000 <= after) continue;
      for (let second = 0; second < 60; second++)
        if (seconds.has(second) && start + second * 1000 > after) yield start + second * 1000;
    }
  }
}

function dayMatches({ days, months, weekdays }: Fields, date: Date): boolean {
  if (!months.has(date.getUTCMonth() + 1)) return false;
  if (days === undefined && weekdays === undefined) return true;
  const day = date.getUTCDate();
  const length = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
  const byDay = days !== undefined && (days.has(day) || days.has(day - length - 1));
  const byWeekday =
    weekdays !== undefined &&
    weekdays.some(
      ({ day: weekday, nth }) =>
        weekday === date.getUTCDay() &&
        (nth === undefined || nth === Math.ceil(day / 7) || nth === -Math.ceil((length - day + 1) / 7)),
    );
  return byDay || byWeekday;
}

function refused(text: string, why: string): WireError {
  return new WireError('resque', 'schedule', `the schedule '${text}' cannot be read: ${why}`);
}
