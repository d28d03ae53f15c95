import { isGlobal, PyGlobal, PyObject, TimeDelta } from './values.ts';

/**
 * The offset from UTC of a pickled tzinfo, in microseconds, at a wall time; undefined for a class that is not known here.
 *
 *     datetime.timezone(timedelta[, name])                       any offset
 *     getattr(zoneinfo.ZoneInfo, '_unpickle')(key, from_cache)   by the runtime's own tables
 *     zoneinfo.ZoneInfo._unpickle(key, from_cache)               the same, where a name may have dots
 *     pytz._p(name, seconds, dst, abbreviation), pytz._UTC(), pytz.FixedOffset(minutes)
 *     dateutil.tz.tz.tzutc
 *
 * `wallMs` is what a clock shows, as the milliseconds that the same digits would be in UTC.
 */
export function offsetAt(zone: unknown, wallMs: number, fold: 0 | 1): number | undefined {
  if (!(zone instanceof PyObject)) return undefined;
  const { callable, args } = zone;
  const [first, second] = args as readonly unknown[];
  if (isZoneInfo(callable)) return typeof first === 'string' ? namedOffset(first, wallMs, fold) : undefined;
  if (!(callable instanceof PyGlobal)) return undefined;
  switch (callable.toString()) {
    case 'datetime.timezone':
      return first instanceof TimeDelta ? inADay(first.valueOf() * 1000) : undefined;
    case 'pytz._UTC':
    case 'dateutil.tz.tz.tzutc':
      return 0;
    case 'pytz._p':
      return typeof second === 'number' ? inADay(second * 1e6) : first === 'UTC' ? 0 : undefined;
    case 'pytz._FixedOffset':
    case 'pytz.FixedOffset':
      return typeof first === 'number' ? inADay(first * 60e6) : undefined;
    default:
      return undefined;
  }
}

function isZoneInfo(callable: unknown): boolean {
  if (isGlobal(callable, 'zoneinfo', 'ZoneInfo._unpickle')) return true;
  return (
    callable instanceof PyObject &&
    isGlobal(callable.callable, 'builtins', 'getattr') &&
    isGlobal(callable.args[0], 'zoneinfo', 'ZoneInfo') &&
    callable.args[1] === '_unpickle'
  );
}

function inADay(micros: number): number | undefined {
  return Math.abs(micros) < 86_400_000_000 ? micros : undefined;
}

function namedOffset(name: string, wallMs: number, fold: 0 | 1): number | undefined {
  if (name === 'UTC') return 0;
  const zone = zoneOf(name);
  if (zone === undefined) return undefined;
  const day = Math.floor(wallMs / DAY_MS);
  const [before, after] = [offsetOfDay(zone, day - 1), offsetOfDay(zone, day + 2)];
  // No zone changes twice within so long.
  if (before === after) return inADay(before * 1000);
  const fits = [before, after].filter((offset) => offsetMs(zone.format, wallMs - offset) === offset);
  // Shown twice: `fold` says which. Never shown: Python takes the offset from before, or with fold=1 from after.
  const offset = fits.length === 1 ? (fits[0] as number) : fold === 0 ? before : after;
  return inADay(offset * 1000);
}

const DAY_MS = 86_400_000;

interface Zone {
  readonly format: Intl.DateTimeFormat;
  /** Offsets in milliseconds at the beginning of days, which are counted from 1970. */
  readonly days: Map<number, number>;
}

function offsetOfDay(zone: Zone, day: number): number {
  let offset = zone.days.get(day);
  if (offset === undefined) {
    offset = offsetMs(zone.format, day * DAY_MS);
    if (zone.days.size >= MOST_DAYS) zone.days.clear();
    zone.days.set(day, offset);
  }
  return offset;
}

/** Ten years of a zone. */
const MOST_DAYS = 3653;

function offsetMs(format: Intl.DateTimeFormat, ms: number): number {
  const whole = Math.floor(ms / 1000) * 1000;
  const parts: Record<string, string> = {};
  for (const { type, value } of format.formatToParts(whole)) parts[type] = value;
  const number = (type: string): number => Number(parts[type]);
  const wall = new Date(0);
  const year = parts['era'] === 'B' ? 1 - number('year') : number('year');
  wall.setUTCFullYear(year, number('month') - 1, number('day'));
  wall.setUTCHours(number('hour'), number('minute'), number('second'));
  return wall.getTime() - whole;
}

const zones = new Map<string, Zone>();
/** More than there are. */
const MOST_ZONES = 1000;

function zoneOf(name: string): Zone | undefined {
  // To Intl, `EUROPE/berlin` is one, too; each spelling would cost as much as a zone.
  const key = name.toLowerCase();
  const known = zones.get(key);
  // An offset is a zone to Intl, but no key of Python's.
  if (known !== undefined || !/^[A-Za-z]/.test(name)) return known;
  try {
    const format = new Intl.DateTimeFormat('en-US', {
      timeZone: name,
      calendar: 'gregory',
      numberingSystem: 'latn',
      hourCycle: 'h23',
      era: 'narrow',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    });
    const zone = { format, days: new Map<number, number>() };
    if (zones.size < MOST_ZONES) zones.set(key, zone);
    return zone;
  } catch {
    return undefined;
  }
}
