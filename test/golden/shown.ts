import {
  ByteArray,
  FrozenSet,
  PyGlobal,
  type PyObject,
  TimeDelta,
  Tuple,
} from '../../protocols/formats/pickle/index.ts';
import { DateTime, Decimal, floatText, Numeral, PlainDate, PlainTime, Uuid } from '../../protocols/formats/values.ts';

/** What fixtures/capture/pickle/capture.py writes as `means`. */
export function shown(value: unknown, path: readonly unknown[] = []): unknown {
  if (path.includes(value)) return 'again';
  const inner = [...path, ...(typeof value === 'object' && value !== null ? [value] : [])];
  const each = (items: Iterable<unknown>): unknown[] => Array.from(items, (item) => shown(item, inner));
  if (value === null) return 'none';
  if (typeof value === 'boolean') return `bool ${value ? 'True' : 'False'}`;
  if (typeof value === 'bigint') return `int ${value}`;
  if (typeof value === 'string') return `str ${value}`;
  if (typeof value === 'number') {
    return Number.isSafeInteger(value) && !Object.is(value, -0) ? `int ${value}` : `float ${floatText(value)}`;
  }
  if (value instanceof Numeral) return `float ${value.text}`;
  if (value instanceof ByteArray) return `bytearray ${Buffer.from(value).toString('hex')}`;
  if (Buffer.isBuffer(value)) return `bytes ${value.toString('hex')}`;
  if (value instanceof DateTime) return `datetime ${value.iso}`;
  if (value instanceof PlainDate) return `date ${value.iso}`;
  if (value instanceof PlainTime) return `time ${value.iso}`;
  if (value instanceof TimeDelta) return `timedelta ${timedeltas.get(value.valueOf())}`;
  if (value instanceof Decimal) return `Decimal ${value.text}`;
  if (value instanceof Uuid) return `uuid ${value.hex}`;
  if (Array.isArray(value)) return [value instanceof Tuple ? 'tuple' : 'list', ...each(value)];
  if (value instanceof Set) return [value instanceof FrozenSet ? 'frozenset' : 'set', ...each(value)];
  if (value instanceof Map) return ['dict', ...[...value].map((entry) => each(entry))];
  if (value instanceof PyGlobal) return `class ${value.toString()}`;
  return `object ${(value as PyObject).className}`;
}

/** As Python prints them. */
const timedeltas: ReadonlyMap<number, string> = new Map([
  [86_402_000.003, '1 day, 0:00:02.000003'],
  [-86_400_000, '-1 day, 0:00:00'],
  [0, '0:00:00'],
]);
