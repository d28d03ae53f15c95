import { Buffer } from 'node:buffer';
import { DateTime, isoText, PlainDate, PlainTime } from '../values.ts';
import { isGlobal, PyGlobal, PyObject, TimeDelta, Tuple, ZonedDateTime } from './values.ts';
import { offsetAt } from './zones.ts';

/**
 * The bytes that Python's date, time and datetime pickle themselves as (Lib/datetime.py `_getstate`), big-endian.
 *
 *     date      year(2) month day
 *     time      hour minute second microsecond(3)
 *     datetime  year(2) month day hour minute second microsecond(3)
 *
 * `fold` is the highest bit of the month of a datetime, and of the hour of a time. A zone stands beside the bytes.
 */

const FOLD = 0x80;
const DAY_MICROS = 86_400_000_000;

/** Undefined for bytes that are no date. */
export function readDate(bytes: Buffer): PlainDate | undefined {
  if (bytes.length !== 4 || !isDate(bytes)) return undefined;
  return new PlainDate(dateText(bytes));
}

/**
 * Undefined for bytes that are no time, null for a time that its text cannot hold: with a zone that has rules or a name, or the
 * second of two.
 */
export function readTime(bytes: Buffer, zone: unknown): PlainTime | undefined | null {
  if (bytes.length !== 6) return undefined;
  const fold = ((bytes[0] as number) & FOLD) !== 0;
  const clock = Buffer.from(bytes);
  clock[0] = (clock[0] as number) & ~FOLD;
  if (!isClock(clock, 0)) return undefined;
  const micros = zone === null || zone === undefined ? undefined : plainOffset(zone);
  if (fold || (micros === undefined && zone !== null && zone !== undefined)) return null;
  return new PlainTime(`${clockText(clock, 0)}${micros === undefined ? '' : offsetText(micros)}`);
}

/** Undefined for bytes that are no datetime, null for one whose zone is unknown here: then nobody knows when it was. */
export function readDateTime(bytes: Buffer, zone: unknown): DateTime | undefined | null {
  if (bytes.length !== 10) return undefined;
  const fold = ((bytes[2] as number) & FOLD) === 0 ? 0 : 1;
  const plain = Buffer.from(bytes);
  plain[2] = (plain[2] as number) & ~FOLD;
  if (!isDate(plain) || !isClock(plain, 4)) return undefined;
  const wall = `${dateText(plain)}T${clockText(plain, 4)}`;
  if (zone === null || zone === undefined)
    return fold === 0 ? new DateTime(wall) : new ZonedDateTime(wall, undefined, 1);
  const fixed = plainOffset(zone);
  if (fixed !== undefined && fold === 0) return new DateTime(`${wall}${offsetText(fixed)}`);
  const micros = fixed ?? offsetAt(zone, new DateTime(wall).getTime(), fold);
  if (micros === undefined) return null;
  return new ZonedDateTime(`${wall}${offsetText(micros)}`, zone, fold);
}

/** What Python is given to make it; undefined for a time that Python cannot have. */
export function dateTimeArgs(value: Date): unknown[] | undefined {
  const text = value instanceof DateTime ? value.iso : Number.isNaN(value.getTime()) ? '' : isoText(value);
  const m = DATE_TIME.exec(text);
  if (m === null) return undefined;
  const [, year, month, day, hour = '0', minute = '0', second = '0', fraction = '', zone] = m;
  const bytes = Buffer.alloc(10);
  bytes.writeUInt16BE(Number(year), 0);
  bytes.set([month, day, hour, minute, second].map(Number), 2);
  bytes.writeUIntBE(Number(fraction.slice(0, 6).padEnd(6, '0')), 7, 3);
  if (!isDate(bytes) || !isClock(bytes, 4)) return undefined;
  // Once a setter changed the time, its zone no longer says when it is.
  if (value instanceof ZonedDateTime && !value.moved) {
    if (value.fold === 1) bytes[2] = (bytes[2] as number) | FOLD;
    return value.zone === undefined ? [bytes] : [bytes, value.zone];
  }
  return withZone(bytes, zone);
}

/** What Python is given to make it; undefined for a text that is no date. */
export function dateArgs(value: PlainDate): unknown[] | undefined {
  const m = DATE_TIME.exec(value.iso);
  if (m === null || m[4] !== undefined) return undefined;
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16BE(Number(m[1]), 0);
  bytes.set([Number(m[2]), Number(m[3])], 2);
  return isDate(bytes) ? [bytes] : undefined;
}

/** What Python is given to make it; undefined for a text that is no time. */
export function timeArgs(value: PlainTime): unknown[] | undefined {
  const m = TIME.exec(value.iso);
  if (m === null) return undefined;
  const [, hour, minute = '0', second = '0', fraction = '', zone] = m;
  const bytes = Buffer.alloc(6);
  bytes.set([hour, minute, second].map(Number), 0);
  bytes.writeUIntBE(Number(fraction.slice(0, 6).padEnd(6, '0')), 3, 3);
  return isClock(bytes, 0) ? withZone(bytes, zone) : undefined;
}

const OFFSET = String.raw`(Z|[+-]\d{2}(?::?\d{2}(?::?\d{2}(?:\.\d{1,6})?)?)?)?`;
const CLOCK = String.raw`(\d{2})(?::?(\d{2})(?::?(\d{2})(?:[.,](\d+))?)?)?`;
const DATE_TIME = new RegExp(String.raw`^(\d{4})-?(\d{2})-?(\d{2})(?:[T ]${CLOCK}\s?${OFFSET})?$`, 'i');
const TIME = new RegExp(`^${CLOCK}${OFFSET}$`, 'i');

function withZone(bytes: Buffer, zone: string | undefined): unknown[] | undefined {
  if (zone === undefined) return [bytes];
  const micros = offsetMicros(zone);
  return Math.abs(micros) < DAY_MICROS ? [bytes, zoneOf(micros)] : undefined;
}

/** `datetime.timezone` of an offset. Equal offsets are one object, as `timezone.utc` is in Python. */
function zoneOf(micros: number): PyObject {
  let zone = zones.get(micros);
  if (zone === undefined) {
    zone = new PyObject(TIMEZONE, Tuple.of(TimeDelta.fromMilliseconds(micros / 1000)));
    if (zones.size < MOST_ZONES) zones.set(micros, zone);
  }
  return zone;
}

const TIMEZONE = new PyGlobal('datetime', 'timezone');
const zones = new Map<number, PyObject>();
const MOST_ZONES = 1000;

/** The offset of a `datetime.timezone` without a name, in microseconds. */
function plainOffset(zone: unknown): number | undefined {
  if (!(zone instanceof PyObject) || zone.args.length !== 1 || !isGlobal(zone.callable, 'datetime', 'timezone')) {
    return undefined;
  }
  const delta = zone.args[0];
  if (!(delta instanceof TimeDelta)) return undefined;
  const micros = (delta.days * 86_400 + delta.seconds) * 1e6 + delta.microseconds;
  return Math.abs(micros) < DAY_MICROS ? micros : undefined;
}

function offsetMicros(zone: string): number {
  if (zone === 'Z' || zone === 'z') return 0;
  const digits = zone.slice(1).replaceAll(':', '');
  const seconds =
    Number(digits.slice(0, 2)) * 3600 + Number(digits.slice(2, 4) || '0') * 60 + Number(digits.slice(4, 6) || '0');
  const micros = seconds * 1e6 + Number(digits.slice(7).padEnd(6, '0'));
  return zone.startsWith('-') ? -micros : micros;
}

/** As `isoformat()` has it: seconds and microseconds only where there are some. */
function offsetText(micros: number): string {
  const size = Math.abs(micros);
  const seconds = Math.floor(size / 1e6);
  const fraction = size - seconds * 1e6;
  const parts = [two(Math.floor(seconds / 3600)), two(Math.floor(seconds / 60) % 60)];
  if (seconds % 60 !== 0 || fraction !== 0) parts.push(two(seconds % 60));
  return `${micros < 0 ? '-' : '+'}${parts.join(':')}${fraction === 0 ? '' : `.${String(fraction).padStart(6, '0')}`}`;
}

function isDate(bytes: Buffer): boolean {
  const year = bytes.readUInt16BE(0);
  const [month, day] = [bytes[2] as number, bytes[3] as number];
  if (year < 1 || year > 9999 || month < 1 || month > 12 || day < 1) return false;
  const leap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  return day <= (month === 2 && leap ? 29 : (DAYS[month - 1] as number));
}

const DAYS: readonly number[] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

function isClock(bytes: Buffer, at: number): boolean {
  return (
    (bytes[at] as number) < 24 &&
    (bytes[at + 1] as number) < 60 &&
    (bytes[at + 2] as number) < 60 &&
    bytes.readUIntBE(at + 3, 3) < 1_000_000
  );
}

function dateText(bytes: Buffer): string {
  const year = String(bytes.readUInt16BE(0)).padStart(4, '0');
  return `${year}-${two(bytes[2] as number)}-${two(bytes[3] as number)}`;
}

function clockText(bytes: Buffer, at: number): string {
  const micros = bytes.readUIntBE(at + 3, 3);
  const clock = `${two(bytes[at] as number)}:${two(bytes[at + 1] as number)}:${two(bytes[at + 2] as number)}`;
  return micros === 0 ? clock : `${clock}.${String(micros).padStart(6, '0')}`;
}

function two(value: number): string {
  return String(value).padStart(2, '0');
}
