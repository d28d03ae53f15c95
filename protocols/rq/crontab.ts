import { WireError } from '../errors.ts';

/**
 * Cron expressions as RQ reads them, by croniter, in UTC.
 *
 *     expression = minute hour day month weekday [second]  |  "@hourly" and the like
 *     field      = item *( "," item )
 *     item       = "*" | "?" | value | value "-" value, each with [ "/" step ]
 *     value      = number | jan ... dec | sun ... sat          Sunday is 0 and 7
 *     day        also l, the last one;   weekday also 2#3, the third Tuesday, and l5, the last Friday
 *
 * A range may wrap around (`fri-mon`, `22-4`), and `10/5` is `10-59/5`. If both day and weekday are restricted, a date that matches one of
 * them is enough. Years, W, H and R are not supported. Two forms are refused because versions of croniter read them differently: a range
 * from a value to itself, and a day of month together with some weekdays of a month.
 */
export interface Crontab {
  readonly text: string;
  readonly seconds: ReadonlySet<number>;
  readonly minutes: ReadonlySet<number>;
  readonly hours: ReadonlySet<number>;
  readonly months: ReadonlySet<number>;
  /** Undefined: any. */
  readonly days: ReadonlySet<number> | undefined;
  readonly lastDay: boolean;
  readonly weekdays: ReadonlySet<number> | undefined;
  /** Weekdays of which only some in a month count: the first to the fifth, or the last. */
  readonly nth: ReadonlyMap<number, ReadonlySet<number | 'last'>>;
}

/** Reads an expression. Throws WireError `bad-option` with the field's name. */
export function crontab(text: string): Crontab {
  const trimmed = text.trim().toLowerCase();
  const fields = (Object.hasOwn(ALIASES, trimmed) ? (ALIASES[trimmed] as string) : trimmed).split(/\s+/);
  if (fields.length !== 5 && fields.length !== 6)
    throw bad(
      text,
      `it has ${fields.length} fields; five are read (minute, hour, day, month, weekday), and seconds behind them`,
    );
  const [minute, hour, day, month, weekday, second = '0'] = fields as [string, string, string, string, string, string?];
  const days = read(text, DAY, day);
  const weekdays = read(text, WEEKDAY, weekday);
  if (weekdays.nth.size > 0 && day !== '*' && day !== '?')
    throw bad(
      text,
      `day of week: '${weekday}' cannot be had with a day of month; croniter takes it for different things`,
    );
  return {
    text,
    minutes: read(text, MINUTE, minute).values,
    hours: read(text, HOUR, hour).values,
    months: read(text, MONTH, month).values,
    seconds: read(text, SECOND, second).values,
    // A list of all values counts as `*`, unless the other field has no `*`.
    days:
      day === '*' || day === '?' || (days.values.size === 31 && !days.lastDay && weekday.includes('*'))
        ? undefined
        : days.values,
    lastDay: days.lastDay,
    weekdays:
      weekday === '*' || weekday === '?' || (weekdays.values.size === 7 && day.includes('*'))
        ? undefined
        : weekdays.values,
    nth: weekdays.nth,
  };
}

/** The first time after `after` that the expression matches. Throws WireError `bad-option` if there is none in the next fifty years. */
export function nextAfter(tab: Crontab, after: Date): Date {
  let at = (Math.floor(after.getTime() / 1000) + 1) * 1000;
  const end = after.getTime() + FIFTY_YEARS_MS;
  while (at < end) {
    const date = new Date(at);
    const [year, month, day] = [date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()];
    const [hour, minute] = [date.getUTCHours(), date.getUTCMinutes()];
    if (!tab.months.has(month + 1)) at = Date.UTC(year, month + 1);
    else if (!dayMatches(tab, year, month, day)) at = Date.UTC(year, month, day + 1);
    else if (!tab.hours.has(hour)) at = Date.UTC(year, month, day, hour + 1);
    else if (!tab.minutes.has(minute)) at = Date.UTC(year, month, day, hour, minute + 1);
    else if (!tab.seconds.has(date.getUTCSeconds())) at += 1000;
    else return date;
  }
  throw bad(tab.text, 'it never comes');
}

const FIFTY_YEARS_MS = 50 * 366 * 86_400_000;

function dayMatches({ days, lastDay, weekdays, nth }: Crontab, year: number, month: number, day: number): boolean {
  if (days === undefined && weekdays === undefined) return true;
  const inMonth = new Date(Date.UTC(year, month + 1, 0)).getUTCDate();
  const weekday = new Date(Date.UTC(year, month, day)).getUTCDay();
  const byDay = days !== undefined && (days.has(day) || (lastDay && day === inMonth));
  if (byDay || weekdays === undefined) return byDay;
  const some = nth.get(weekday);
  if (some !== undefined) return some.has(Math.ceil(day / 7)) || (some.has('last') && day + 7 > inMonth);
  return weekdays.has(weekday);
}

interface FieldSpec {
  readonly name: string;
  readonly least: number;
  readonly most: number;
  readonly names?: readonly string[];
}

const MINUTE: FieldSpec = { name: 'minute', least: 0, most: 59 };
const HOUR: FieldSpec = { name: 'hour', least: 0, most: 23 };
const DAY: FieldSpec = { name: 'day of month', least: 1, most: 31 };
const MONTH: FieldSpec = {
  name: 'month',
  least: 1,
  most: 12,
  names: ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'],
};
const WEEKDAY: FieldSpec = {
  name: 'day of week',
  least: 0,
  most: 6,
  names: ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'],
};
const SECOND: FieldSpec = { name: 'second', least: 0, most: 59 };

const ALIASES: Readonly<Record<string, string>> = {
  '@midnight': '0 0 * * *',
  '@hourly': '0 * * * *',
  '@daily': '0 0 * * *',
  '@weekly': '0 0 * * 0',
  '@monthly': '0 0 1 * *',
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
};

interface ReadField {
  readonly values: ReadonlySet<number>;
  readonly lastDay: boolean;
  readonly nth: ReadonlyMap<number, ReadonlySet<number | 'last'>>;
}

function read(text: string, spec: FieldSpec, field: string): ReadField {
  const values = new Set<number>();
  const nth = new Map<number, Set<number | 'last'>>();
  let lastDay = false;
  const items = field.split(',');
  for (const item of items) {
    const [, weekday, which] = (spec === WEEKDAY && /^(\w+)#(\d+)$/.exec(item)) || [];
    const last = spec === WEEKDAY ? /^l(\d)$/.exec(item)?.[1] : undefined;
    if (item === '*' || item === '?') {
      if (items.length > 1 || (item === '?' && spec !== DAY && spec !== WEEKDAY)) throw wrong(text, spec, item);
      for (let value = spec.least; value <= spec.most; value++) values.add(value);
    } else if (spec === DAY && item === 'l') lastDay = true;
    else if (weekday !== undefined || last !== undefined) {
      const value = valueOf(text, spec, (weekday ?? last) as string);
      if (which !== undefined && !(Number(which) >= 1 && Number(which) <= 5)) throw wrong(text, spec, item);
      nth.set(value, (nth.get(value) ?? new Set()).add(which === undefined ? 'last' : Number(which)));
    } else for (const value of rangeOf(text, spec, item)) values.add(value);
  }
  if (nth.size > 0 && values.size > 0)
    throw bad(text, `${spec.name}: '${field}' mixes plain weekdays with some of a month`);
  return { values, lastDay, nth };
}

function rangeOf(text: string, spec: FieldSpec, item: string): readonly number[] {
  const [, from = '', to, stepText] = /^(\*|\w+)(?:-(\w+))?(?:\/(\d+))?$/.exec(item) ?? [];
  const step = stepText === undefined ? 1 : Number(stepText);
  if (from === '' || step === 0 || (from === '*' && to !== undefined)) throw wrong(text, spec, item);
  if (from === '*') return steps(spec.least, spec.most, step);
  const low = valueOf(text, spec, from);
  if (to === undefined) return stepText === undefined ? [low] : steps(low, spec.most, step);
  const high = spec === DAY && to === 'l' ? 31 : valueOf(text, spec, to);
  if (low === high) throw bad(text, `${spec.name}: '${item}' begins where it ends; write '${from}', or '*'`);
  if (low < high) return steps(low, high, step);
  // croniter goes on counting past the end of the field. Only for long steps it starts again at the beginning.
  const first = steps(low, spec.most, step);
  const after = spec.most - (first.at(-1) as number);
  const skip =
    (first.at(-1) as number) - spec.least + step > spec.most - spec.least + 1 && after < step ? step - after : 0;
  return [...first, ...steps(spec.least + skip, high, step)];
}

function steps(from: number, to: number, step: number): number[] {
  const values: number[] = [];
  for (let value = from; value <= to; value += step) values.push(value);
  return values;
}

function valueOf(text: string, spec: FieldSpec, word: string): number {
  const named = spec.names?.indexOf(word) ?? -1;
  if (named !== -1) return named + spec.least;
  const value = /^\d{1,2}$/.test(word) ? Number(word) : Number.NaN;
  const plain = spec === WEEKDAY && value === 7 ? 0 : value;
  if (plain >= spec.least && plain <= spec.most) return plain;
  throw wrong(text, spec, word);
}

function wrong(text: string, { name, least, most }: FieldSpec, item: string): WireError {
  return bad(text, `${name}: '${item}' is none; ${least} to ${most} can be had`);
}

function bad(text: string, why: string): WireError {
  return new WireError('rq', 'bad-option', `cron '${text.slice(0, 100)}': ${why}`);
}
