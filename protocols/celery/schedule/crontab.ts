import { WireError } from '../../errors.ts';

/**
 * Celery's crontab: its dialect and its arithmetic. Source: celery/schedules.py crontab_parser, crontab (5.6).
 *
 *     groups  :: expr ( ',' expr ) *
 *     expr    :: ( '*' | range ) ( '/' number ) ?
 *     range   :: value ( '-' value ) ?
 *     value   :: number | month name | weekday name          three letters count: jan, january
 *
 * A range may wrap around (`fri-mon`, `22-4`). Steps count from the start of the range, or from the field's least value.
 * Days of the week are 0 to 6, Sunday is 0; 7 is refused. Unlike cron's, a day must match the day of the week *and* the day
 * of the month.
 */
export interface Crontab {
  readonly kind: 'crontab';
  /** As they were given: what is written to a store, and what `*` is told from a list of everything by. */
  readonly fields: Required<CrontabFields>;
  readonly minutes: readonly number[];
  readonly hours: readonly number[];
  readonly daysOfWeek: readonly number[];
  readonly daysOfMonth: readonly number[];
  readonly monthsOfYear: readonly number[];
}

/** `'mon-fri'`, `'1,13,30-45/2'`, a number, or a list of numbers. */
export type CronField = string | number | readonly number[];

/** What is left out is `*`. */
export interface CrontabFields {
  /** 0 to 59. */
  readonly minute?: CronField;
  /** 0 to 23. */
  readonly hour?: CronField;
  /** 0 to 6, Sunday is 0; or names. */
  readonly dayOfWeek?: CronField;
  /** 1 to 31. */
  readonly dayOfMonth?: CronField;
  /** 1 to 12, or names. */
  readonly monthOfYear?: CronField;
}

/** A schedule that cannot be read, or that never comes; Celery's exception of this name. `field` is Python's name of it. */
export class ParseException extends WireError {
  override readonly name: string = 'ParseException';
  readonly field: string | undefined;
  constructor(message: string, field?: string) {
    super('celery', 'schedule', field === undefined ? message : `${field}: ${message}`);
    this.field = field;
  }
}

/**
 * `crontab({ hour: 7, minute: 30, dayOfWeek: 'mon-fri' })`, or cron's five fields as one text, minute first:
 * `crontab('30 7 * * mon-fri')`. Throws ParseException naming the field.
 */
export function crontab(given: CrontabFields | string = {}): Crontab {
  const from = typeof given === 'string' ? fromText(given) : given;
  const fields: Required<CrontabFields> = {
    minute: from.minute ?? '*',
    hour: from.hour ?? '*',
    dayOfWeek: from.dayOfWeek ?? '*',
    dayOfMonth: from.dayOfMonth ?? '*',
    monthOfYear: from.monthOfYear ?? '*',
  };
  return {
    kind: 'crontab',
    fields,
    minutes: expand('minute', fields.minute, 0, 59),
    hours: expand('hour', fields.hour, 0, 23),
    daysOfWeek: expand('day_of_week', fields.dayOfWeek, 0, 6),
    daysOfMonth: expand('day_of_month', fields.dayOfMonth, 1, 31),
    monthsOfYear: expand('month_of_year', fields.monthOfYear, 1, 12),
  };
}

function fromText(text: string): Required<CrontabFields> {
  const parts = text.trim().split(/\s+/);
  if (parts.length !== 5) {
    throw new ParseException(
      `'${text}' has ${parts.length} fields; a crontab has five: minute, hour, day of month, month, day of week`,
    );
  }
  const [minute, hour, dayOfMonth, monthOfYear, dayOfWeek] = parts as [string, string, string, string, string];
  return { minute, hour, dayOfWeek, dayOfMonth, monthOfYear };
}

/** The values of a field, ascending. */
function expand(field: string, spec: CronField, least: number, most: number): readonly number[] {
  if (typeof spec === 'string') return ascending(new FieldParser(field, least, most).parse(spec));
  const values = typeof spec === 'number' ? [spec] : spec;
  if (!Array.isArray(values) || values.some((value) => !Number.isInteger(value)))
    throw new ParseException('must be a text, a whole number or a list of whole numbers', field);
  if (values.length === 0) throw new ParseException('the list is empty', field);
  for (const value of values as readonly number[]) {
    if (value < least || value > most)
      throw new ParseException(`Valid range is ${least}-${most}. '${value}' was found.`, field);
  }
  return ascending(values as readonly number[]);
}

function ascending(values: readonly number[]): readonly number[] {
  return [...new Set(values)].sort((a, b) => a - b);
}

// As Python's re.match: from the start, and what follows is not looked at.
const RANGE_STEPS = /^([\p{L}\p{N}_]+?)-([\p{L}\p{N}_]+)\/([\p{L}\p{N}_]+)?/u;
const RANGE = /^([\p{L}\p{N}_]+?)-([\p{L}\p{N}_]+)/u;
const STAR_STEPS = /^\*\/([\p{L}\p{N}_]+)?/u;

const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];

class FieldParser {
  readonly #field: string;
  readonly #least: number;
  readonly #most: number;

  constructor(field: string, least: number, most: number) {
    this.#field = field;
    this.#least = least;
    this.#most = most;
  }

  parse(spec: string): readonly number[] {
    return spec.split(',').flatMap((part) => {
      if (part === '') throw this.#error('empty part');
      return this.#part(part);
    });
  }

  #part(part: string): readonly number[] {
    const stepped = RANGE_STEPS.exec(part);
    if (stepped !== null) return this.#steps(this.#range(stepped[1] as string, stepped[2] as string), stepped[3], part);
    const range = RANGE.exec(part);
    if (range !== null) return this.#range(range[1] as string, range[2] as string);
    const star = STAR_STEPS.exec(part);
    if (star !== null) return this.#steps(from(this.#least, this.#most), star[1], part);
    if (part === '*') return from(this.#least, this.#most);
    return [this.#value(part)];
  }

  #range(first: string, last: string): readonly number[] {
    const start = this.#value(first);
    const end = this.#value(last);
    return end < start ? [...from(start, this.#most), ...from(this.#least, end)] : from(start, end);
  }

  #steps(values: readonly number[], step: string | undefined, part: string): readonly number[] {
    if (step === undefined) throw this.#error(`empty filter in '${part}'`);
    const size = wholeNumber(step);
    if (size === undefined || size < 1) throw this.#error(`'${step}' is no step; a step is a whole number from 1 on`);
    return values.filter((_, at) => at % size === 0);
  }

  /** A number or a name. Any field takes names of months and of days, as in Celery. */
  #value(text: string): number {
    if (text.startsWith('-')) throw this.#error('negative numbers not supported');
    const number = wholeNumber(text) ?? nameOf(text);
    if (number === undefined) throw this.#error(`Invalid weekday literal '${text}'.`);
    if (number > this.#most) throw this.#error(`Invalid end range: ${number} > ${this.#most}.`);
    if (number < this.#least) throw this.#error(`Invalid beginning range: ${number} < ${this.#least}.`);
    return number;
  }

  #error(message: string): ParseException {
    return new ParseException(message, this.#field);
  }
}

function from(first: number, last: number): readonly number[] {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, at) => first + at);
}

/** What Python's `int()` takes, in ASCII digits. */
function wholeNumber(text: string): number | undefined {
  return /^\s*\+?\d+(?:_\d+)*\s*$/.test(text) ? Number(text.replaceAll('_', '')) : undefined;
}

function nameOf(text: string): number | undefined {
  const short = text.slice(0, 3).toLowerCase();
  const month = MONTHS.indexOf(short);
  if (month >= 0) return month + 1;
  const day = DAYS.indexOf(short);
  return day >= 0 ? day : undefined;
}

/** Celery gives up where so many months and years brought no day that exists. */
const ROLL_OVERS = 2000;
const DAY_MS = 86_400_000;

/**
 * When it is next due after a last run, on the wall clock (see `Zone`); `nowWall` says only whether the last run's day is still
 * under way. Throws ParseException for a date that never comes, such as 30 February. Source: crontab.remaining_delta.
 */
export function nextWall(schedule: Crontab, lastWall: number, nowWall: number): number {
  const { minutes, hours, daysOfWeek, daysOfMonth, monthsOfYear } = schedule;
  const last = new Date(lastWall);
  const weekday = last.getUTCDay();
  const day = last.getUTCDate();
  const hour = last.getUTCHours();
  const minute = last.getUTCMinutes();
  const startOfDay = lastWall - mod(lastWall, DAY_MS);
  const at = (dayStart: number, atHour: number, atMinute: number): number =>
    dayStart + (atHour * 60 + atMinute) * 60_000;

  const thisDate =
    monthsOfYear.includes(last.getUTCMonth() + 1) && daysOfMonth.includes(day) && daysOfWeek.includes(weekday);
  const sameDay = startOfDay === nowWall - mod(nowWall, DAY_MS);
  if (thisDate && sameDay && hours.includes(hour)) {
    const later = minutes.find((candidate) => candidate > minute);
    if (later !== undefined) return at(startOfDay, hour, later);
  }
  const firstMinute = minutes[0] as number;
  const laterHour = thisDate ? hours.find((candidate) => candidate > hour) : undefined;
  if (laterHour !== undefined) return at(startOfDay, laterHour, firstMinute);
  const firstHour = hours[0] as number;
  if (schedule.fields.dayOfMonth === '*' && schedule.fields.monthOfYear === '*') {
    const next = daysOfWeek.find((candidate) => candidate > weekday) ?? (daysOfWeek[0] as number);
    const days = next === weekday ? 7 : mod(next - weekday, 7);
    return at(startOfDay + days * DAY_MS, firstHour, firstMinute);
  }
  return at(
    nextDate(schedule, last, (dayStart) => at(dayStart, firstHour, firstMinute) < lastWall),
    firstHour,
    firstMinute,
  );
}

/** The start of the next day that matches. Source: crontab._delta_to_next. */
function nextDate(
  { daysOfWeek, daysOfMonth, monthsOfYear }: Crontab,
  last: Date,
  isBeforeLastRun: (dayStart: number) => boolean,
): number {
  const lastMonth = last.getUTCMonth() + 1;
  let year = last.getUTCFullYear();
  const inMonth = monthsOfYear.indexOf(lastMonth);
  let day = inMonth < 0 ? 0 : countUpTo(daysOfMonth, last.getUTCDate());
  let month = inMonth < 0 ? countUpTo(monthsOfYear, lastMonth) % monthsOfYear.length : inMonth;
  const candidate = (): number | undefined => {
    if (day === daysOfMonth.length) return undefined;
    const start = startOf(year, monthsOfYear[month] as number, daysOfMonth[day] as number);
    return start === undefined || isBeforeLastRun(start) ? undefined : start;
  };
  for (;;) {
    let start = candidate();
    for (let turns = 0; start === undefined; start = candidate()) {
      if (++turns > ROLL_OVERS) {
        throw new ParseException('unable to rollover, time specification is probably invalid: the date never comes');
      }
      day = 0;
      if (++month === monthsOfYear.length) {
        month = 0;
        year++;
      }
    }
    if (daysOfWeek.includes(new Date(start).getUTCDay())) return start;
    day++;
  }
}

/** Undefined for a day that the month does not have. */
function startOf(year: number, month: number, day: number): number | undefined {
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  return date.getUTCMonth() === month - 1 ? date.getTime() : undefined;
}

/** How many of these ascending values are not above `value`. */
function countUpTo(values: readonly number[], value: number): number {
  return values.filter((candidate) => candidate <= value).length;
}

function mod(value: number, by: number): number {
  return ((value % by) + by) % by;
}
