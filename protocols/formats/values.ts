/**
 * Values of other languages for which JavaScript has no type. Each keeps its original text, so that it is written as the same text. Each compares and
 * prints as a person would expect.
 */

/**
 * A number whose text matters: `1.0` (which Python distinguishes from `1`), `1e5`, a decimal with more digits than a double holds. `new
 * Numeral('2.0')`, or `float(2)`.
 */
export class Numeral {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
  valueOf(): number {
    return Number(this.text);
  }
  toString(): string {
    return this.text;
  }
}

/** A number that Python must read as a float even where it is whole: `float(2)` is written `2.0`. */
export function float(value: number): Numeral {
  return new Numeral(
    Number.isInteger(value) && Math.abs(value) < 1e16 ? `${Object.is(value, -0) ? '-0' : value}.0` : floatText(value),
  );
}

/** A double as Python's `repr` writes it: `1e+16`, `1e-07`, `NaN`, `-Infinity`. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? 'Infinity' : '-Infinity';
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e16 || size < 1e-4)) {
    const [mantissa, exponent] = value.toExponential().split('e') as [string, string];
    const digits = exponent.slice(1);
    return `${mantissa}e${exponent[0]}${digits.length < 2 ? `0${digits}` : digits}`;
  }
  if (Number.isInteger(value)) return `${Object.is(value, -0) ? '-0' : value}.0`;
  return String(value);
}

/**
 * A Python `datetime`: a JavaScript Date (to the millisecond) that keeps its own text, so that microseconds, a missing time zone and the original
 * offset are not lost. A text without an offset is read as UTC, as Celery does.
 */
export class DateTime extends Date {
  readonly #iso: string;
  readonly #stamp: number;
  constructor(iso: string) {
    super(parseIso(iso));
    this.#iso = iso;
    this.#stamp = this.getTime();
  }
  /** The original text; once a setter changed the time, the new time in Python's form. */
  get iso(): string {
    return this.getTime() === this.#stamp ? this.#iso : isoText(this);
  }
}

/** A Python `date`: `2026-11-21`. */
export class PlainDate {
  readonly iso: string;
  constructor(iso: string) {
    this.iso = iso;
  }
  toString(): string {
    return this.iso;
  }
}

/** A Python `time`: `10:20:30.000001`. */
export class PlainTime {
  readonly iso: string;
  constructor(iso: string) {
    this.iso = iso;
  }
  toString(): string {
    return this.iso;
  }
}

/** A Python `Decimal`, kept as its text: `1.50`. Do arithmetic with a decimal library of your choice. */
export class Decimal {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
  toString(): string {
    return this.text;
  }
  valueOf(): number {
    return Number(this.text);
  }
}

/** A Python `UUID`: 32 hex digits, printed with dashes. */
export class Uuid {
  readonly hex: string;
  constructor(text: string) {
    this.hex = text.replaceAll('-', '').toLowerCase();
  }
  toString(): string {
    const h = this.hex;
    return `${h.slice(0, 8)}-${h.slice(8, 12)}-${h.slice(12, 16)}-${h.slice(16, 20)}-${h.slice(20)}`;
  }
}

/** A Date as Python's `isoformat()` writes it in UTC: `2026-11-21T00:01:25.636000+00:00`, no fraction when it is zero. */
export function isoText(date: Date): string {
  const text = date.toISOString(); // 2026-11-21T00:01:25.636Z
  const dot = text.length - 5;
  const fraction = text.slice(dot + 1, -1);
  return `${text.slice(0, dot)}${fraction === '000' ? '' : `.${fraction}000`}+00:00`;
}

const ISO =
  /^(\d{4})-?(\d{2})-?(\d{2})(?:[T ](\d{2}):?(\d{2})(?::?(\d{2})(?:[.,](\d{1,9}))?)?)?\s?(Z|[+-]\d{2}(?::?\d{2}(?::?\d{2}(?:\.\d+)?)?)?)?$/i;

/** Milliseconds since the epoch of an ISO 8601 text; a text without an offset is UTC. NaN where the text is not ISO 8601. */
export function parseIso(text: string): number {
  const m = ISO.exec(text);
  if (!m) return Number.NaN;
  const [, year, month, day, hour = '0', minute = '0', second = '0', fraction = '', zone = 'Z'] = m;
  const millis = fraction === '' ? 0 : Math.floor(Number(`0.${fraction}`) * 1000 + 1e-6);
  const base = new Date(0);
  base.setUTCFullYear(Number(year), Number(month) - 1, Number(day));
  if (base.getUTCMonth() !== Number(month) - 1 || base.getUTCDate() !== Number(day)) return Number.NaN;
  if (Number(hour) > 24 || Number(minute) > 59 || Number(second) > 59) return Number.NaN;
  base.setUTCHours(Number(hour), Number(minute), Number(second), millis);
  return base.getTime() - offsetMillis(zone);
}

function offsetMillis(zone: string): number {
  if (zone === 'Z' || zone === 'z') return 0;
  const digits = zone.slice(1).replaceAll(':', '');
  const minutes = Number(digits.slice(0, 2)) * 60 + Number(digits.slice(2, 4) || '0');
  const millis = minutes * 60_000 + Number(digits.slice(4, 6) || '0') * 1000;
  return zone.startsWith('-') ? -millis : millis;
}
