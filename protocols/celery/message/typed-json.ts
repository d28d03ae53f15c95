import { Buffer, isUtf8 } from 'node:buffer';
import { WireError } from '../../errors.ts';
import { DateTime, Decimal, isoText, parseIso, PlainDate, PlainTime, Uuid } from '../../formats/values.ts';

/**
 * Values that JSON has no form for, as kombu marks them.
 *
 *     marked   = { "__type__": type, "__value__": value }      exactly these two keys
 *     datetime   "2026-11-21T00:01:25.636720+00:00"            DateTime (from Date and DateTime)
 *     date       "2026-11-21"                                  PlainDate
 *     time       "10:20:30.000001"                             PlainTime
 *     decimal    "1.50"                                        Decimal
 *     uuid       { "hex": "<32 hex digits>" }                  Uuid
 *     bytes      "text", where the bytes are valid UTF-8       Buffer (from Uint8Array)
 *     base64     "//8=", where they are not                    Buffer (from Uint8Array)
 *
 * A type that is none of these stays the plain object it is, and so goes back as it came.
 * Mirrors kombu/utils/json.py JSONEncoder.default and object_hook (5.6).
 */

const MARK = '__type__';

/** True where a JSON text may hold marked values. */
export function hasMarks(text: string): boolean {
  return text.includes(MARK);
}

/** Puts values in the place of marked objects, anywhere in parsed JSON. Changes the containers it is given. */
export function revive(parsed: unknown): unknown {
  const root = { value: parsed };
  const open: object[] = [root];
  for (let container = open.pop(); container !== undefined; container = open.pop()) {
    const items = container as Record<string, unknown>;
    for (const key of Object.keys(items)) {
      const item = items[key];
      if (typeof item !== 'object' || item === null) continue;
      const value = isMarked(item) ? reviveOne(item) : item;
      if (value === item) open.push(item);
      else items[key] = value;
    }
  }
  return root.value;
}

/** What to write for an object that JSON has no form for; undefined where kombu has none either. */
export function mark(value: object): unknown {
  if (value instanceof Date) return marked('datetime', dateTimeText(value));
  if (value instanceof Uint8Array) {
    const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
    return isUtf8(bytes) ? marked('bytes', bytes.toString('utf8')) : marked('base64', bytes.toString('base64'));
  }
  if (value instanceof PlainDate) return marked('date', value.iso);
  if (value instanceof PlainTime) return marked('time', value.iso);
  if (value instanceof Decimal) return marked('decimal', value.text);
  if (value instanceof Uuid) return marked('uuid', { hex: value.hex });
  return jsonForm(value);
}

/** What kombu before 5.3 wrote instead: text without a mark, and nothing for bytes (kombu/utils/json.py, 5.2). */
export function flatten(value: object): unknown {
  if (value instanceof Date) return dateTimeText(value).replace(/\+00:00$/, 'Z');
  if (value instanceof Uint8Array) return undefined;
  if (value instanceof PlainDate) return `${value.iso}T00:00:00`;
  if (value instanceof PlainTime) return value.iso;
  if (value instanceof Decimal) return value.text;
  if (value instanceof Uuid) return value.toString();
  return jsonForm(value);
}

interface Marked {
  readonly __type__: unknown;
  readonly __value__: unknown;
}

function isMarked(item: object): item is Marked {
  return Object.hasOwn(item, '__type__') && Object.hasOwn(item, '__value__') && Object.keys(item).length === 2;
}

function reviveOne(item: Marked): unknown {
  const { __type__: type, __value__: value } = item;
  switch (type) {
    case 'datetime':
      return typeof value === 'string' && !Number.isNaN(parseIso(value)) ? new DateTime(value) : refuse(item);
    case 'date':
      return typeof value === 'string' && !Number.isNaN(parseIso(value))
        ? new PlainDate(value.slice(0, DATE.exec(value)?.[0].length ?? value.length))
        : refuse(item);
    case 'time':
      return typeof value === 'string' && TIME.test(value) ? new PlainTime(value) : refuse(item);
    case 'decimal':
      return typeof value === 'string' && DECIMAL.test(value) ? new Decimal(value) : refuse(item);
    case 'uuid': {
      const hex: unknown = (value as { readonly hex?: unknown } | null)?.hex;
      return typeof hex === 'string' && UUID.test(hex) ? new Uuid(hex) : refuse(item);
    }
    case 'bytes':
      return typeof value === 'string' ? Buffer.from(value, 'utf8') : refuse(item);
    case 'base64':
      return typeof value === 'string' ? Buffer.from(value, 'base64') : refuse(item);
    default:
      return item;
  }
}

const DATE = /^\d{4}-\d{2}-\d{2}/;
const TIME = /^\d{2}(?::?\d{2}(?::?\d{2}(?:[.,]\d+)?)?)?(?:Z|[+-]\d{2}(?::?\d{2}(?::?\d{2}(?:\.\d+)?)?)?)?$/;
const DECIMAL = /^\s*[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?|s?nan\d*)\s*$/i;
const UUID = /^(?:[0-9a-f]-?){32}$/i;

function refuse(item: Marked): never {
  throw new WireError(
    'celery',
    'undecodable',
    `not a ${String(item.__type__)}: ${JSON.stringify(item.__value__)?.slice(0, 80)}`,
  );
}

function marked(type: string, value: unknown): Marked {
  return { __type__: type, __value__: value };
}

/** kombu asks an object for its `__json__`; the method of that meaning in JavaScript is `toJSON`. */
function jsonForm(value: object): unknown {
  const { toJSON } = value as { readonly toJSON?: unknown };
  return typeof toJSON === 'function' ? (toJSON.call(value) as unknown) : undefined;
}

function dateTimeText(value: Date): string {
  const year = value.getUTCFullYear();
  if (!(year >= 1 && year <= 9999)) {
    throw new WireError('celery', 'unencodable', `cannot write ${String(value)}: Python has the years 1 to 9999 only`);
  }
  return value instanceof DateTime ? value.iso.replace(ISO, isoParts) : isoText(value);
}

const ISO =
  /^(\d{4})-?(\d{2})-?(\d{2})(?:[T ](\d{2})(?::?(\d{2})(?::?(\d{2})(?:[.,](\d+))?)?)?)?\s?(?:(Z)|([+-]\d{2}):?(\d{2})?(.*))?$/i;

// Before 3.11 Python reads an offset only with its colon and no `Z`, and a fraction only of three or six digits.
function isoParts(text: string, ...parts: (string | undefined)[]): string {
  const [
    year,
    month,
    day,
    hour = '00',
    minute = '00',
    second = '00',
    fraction,
    utc,
    offset,
    offsetMinute = '00',
    rest,
  ] = parts;
  if (year === undefined) return text;
  const micros =
    fraction === undefined ? '' : `.${fraction.length === 3 ? fraction : fraction.slice(0, 6).padEnd(6, '0')}`;
  const zone = utc === undefined ? (offset === undefined ? '' : `${offset}:${offsetMinute}${rest ?? ''}`) : '+00:00';
  return `${year}-${month}-${day}T${hour}:${minute}:${second}${micros}${zone}`;
}
