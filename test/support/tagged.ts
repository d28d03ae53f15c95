/**
 * Values that JSON cannot hold, crossing the pipe to Python as `{"$": tag, "v": text or list}`.
 * The mirror of test/interop/apps/tagged.py.
 */

/** A value of a Python type that JavaScript has no twin of. */
export class PyValue {
  readonly type: PyType;
  /** Text (`2020-01-02`, `1.50`), or the items of a tuple, set or dict with keys that are not all text. */
  readonly value: string | readonly unknown[];
  constructor(type: PyType, value: string | readonly unknown[]) {
    this.type = type;
    this.value = value;
  }
}

export type PyType =
  | 'datetime'
  | 'date'
  | 'time'
  | 'timedelta'
  | 'decimal'
  | 'uuid'
  | 'tuple'
  | 'set'
  | 'frozenset'
  | 'dict'
  // From Python only: [class, module, args], and "class: repr" of anything else.
  | 'exception'
  | 'repr';

/** Python's types by name: `py('decimal', '1.50')`, `py('tuple', [1, 2])`, `py('datetime', '2020-01-02T03:04:05+00:00')`. */
export function py(type: PyType, value: string | readonly unknown[]): PyValue {
  return new PyValue(type, value);
}

/** What goes over the pipe. bigint is int, a Buffer is bytes, a Date is a datetime with an offset, NaN is a float. */
export function toTagged(value: unknown): unknown {
  if (typeof value === 'bigint') return tag('int', value.toString());
  if (typeof value === 'number') {
    return Number.isFinite(value) ? value : tag('float', Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf');
  }
  if (value instanceof Uint8Array) return tag('bytes', Buffer.from(value).toString('base64'));
  if (value instanceof Date) return tag('datetime', value.toISOString());
  if (value instanceof PyValue) {
    return tag(value.type, typeof value.value === 'string' ? value.value : value.value.map(toTagged));
  }
  if (Array.isArray(value)) return value.map(toTagged);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  if (entries.some(([key]) => key === '$'))
    return tag(
      'dict',
      entries.map(([key, item]) => [key, toTagged(item)]),
    );
  return Object.fromEntries(entries.map(([key, item]) => [key, toTagged(item)]));
}

/** The way back. An int beyond 2^53 is a bigint, bytes are a Buffer; datetimes and the like stay PyValue, with their text. */
export function fromTagged(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(fromTagged);
  if (typeof value !== 'object' || value === null) return value;
  if (!('$' in value)) return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, fromTagged(item)]));
  const { $: type, v: content } = value as { $: string; v: string | unknown[] };
  if (typeof content !== 'string') return new PyValue(type as PyType, content.map(fromTagged));
  switch (type) {
    case 'int':
      return BigInt(content);
    case 'float':
      return content === 'nan' ? Number.NaN : content === 'inf' ? Infinity : -Infinity;
    case 'bytes':
      return Buffer.from(content, 'base64');
    default:
      return new PyValue(type as PyType, content);
  }
}

function tag(type: string, content: string | readonly unknown[]): unknown {
  return { $: type, v: content };
}
