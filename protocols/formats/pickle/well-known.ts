import { Buffer } from 'node:buffer';
import { Decimal, Uuid } from '../values.ts';
import { readDate, readDateTime, readTime } from './datetimes.ts';
import {
  ByteArray,
  type Callable,
  FrozenSet,
  isGlobal,
  PyGlobal,
  type PyObject,
  TimeDelta,
  type Tuple,
} from './values.ts';

/**
 * The constructors whose meaning is known: what a REDUCE of them stands for. They are a fixed table by exact names; everything
 * else stays a PyObject. Undefined where the arguments are not those that the pickler writes.
 *
 *     builtins set, frozenset, bytearray, bytes      as protocols 0 to 4 spell what later ones have opcodes for
 *     _codecs encode                                 the bytes of protocols 0 to 2
 *     datetime date, time, datetime, timedelta       (`timezone` stays a PyObject)
 *     decimal Decimal
 */
export function construct(callable: Callable, args: Tuple): unknown {
  return callable instanceof PyGlobal ? CONSTRUCTORS.get(`${callable.module} ${callable.name}`)?.(args) : undefined;
}

const CONSTRUCTORS: ReadonlyMap<string, (args: readonly unknown[]) => unknown> = new Map<
  string,
  (args: readonly unknown[]) => unknown
>([
  ['builtins set', (args) => setOf(args, new Set())],
  ['builtins frozenset', (args) => setOf(args, new FrozenSet())],
  ['builtins bytes', (args) => (args.length === 0 ? Buffer.alloc(0) : undefined)],
  ['builtins bytearray', byteArray],
  ['_codecs encode', ([text, codec, ...more]) => (isLatin1(codec) && more.length === 0 ? latin1(text) : undefined)],
  ['datetime date', (args) => (args.length === 1 ? fromBytes(args[0], readDate) : undefined)],
  ['datetime time', (args) => timed(args, readTime)],
  ['datetime datetime', (args) => timed(args, readDateTime)],
  ['datetime timedelta', timeDelta],
  ['decimal Decimal', ([text, ...more]) => (isDecimal(text) && more.length === 0 ? new Decimal(text) : undefined)],
]);

/**
 * The UUID that a BUILD completes: `uuid.UUID` is made empty and then given its number. Undefined for other objects, and for a
 * UUID that knows more of itself (`is_safe`).
 */
export function constructUuid(object: PyObject, state: unknown): Uuid | undefined {
  if (!isGlobal(object.global, 'uuid', 'UUID') || object.kwargs !== undefined) return undefined;
  if (object.callable === object.global && (object.args.length > 0 || object.making !== 'new')) return undefined;
  const entries = state instanceof Map ? [...state] : Object.entries(state ?? {});
  const [name, value] = (entries[0] ?? []) as readonly unknown[];
  if (entries.length !== 1 || name !== 'int' || (typeof value !== 'number' && typeof value !== 'bigint'))
    return undefined;
  if (value < 0 || value >= 1n << 128n) return undefined;
  return new Uuid(BigInt(value).toString(16).padStart(32, '0'));
}

/** Whether its members can stand in a set is the reader's to check. */
function setOf(args: readonly unknown[], set: Set<unknown>): Set<unknown> | undefined {
  if (args.length === 0) return set;
  if (args.length !== 1 || !Array.isArray(args[0])) return undefined;
  for (const item of args[0]) set.add(item);
  return set;
}

function byteArray([source, codec, ...more]: readonly unknown[]): ByteArray | undefined {
  if (more.length > 0) return undefined;
  if (source === undefined) return new ByteArray(0);
  const bytes = codec === undefined ? source : isLatin1(codec) ? latin1(source) : undefined;
  return Buffer.isBuffer(bytes) ? new ByteArray(bytes) : undefined;
}

function isLatin1(codec: unknown): boolean {
  return codec === 'latin1' || codec === 'latin-1';
}

/** Each character is a byte; undefined for a text that has others. */
function latin1(text: unknown): Buffer | undefined {
  return typeof text === 'string' && !/[^\0-\xff]/.test(text) ? Buffer.from(text, 'latin1') : undefined;
}

/** Python 2 pickled these bytes as a string; it may be ASCII. */
function fromBytes<T>(bytes: unknown, read: (bytes: Buffer) => T): T | undefined {
  const source = typeof bytes === 'string' ? latin1(bytes) : bytes;
  return Buffer.isBuffer(source) ? read(source) : undefined;
}

function timed([bytes, zone, ...more]: readonly unknown[], read: (bytes: Buffer, zone: unknown) => unknown): unknown {
  return more.length > 0 ? undefined : (fromBytes(bytes, (source) => read(source, zone)) ?? undefined);
}

function timeDelta(args: readonly unknown[]): TimeDelta | undefined {
  const [days, seconds, microseconds] = args as readonly number[];
  if (args.length !== 3 || !args.every((part) => Number.isInteger(part))) return undefined;
  if (days === undefined || seconds === undefined || microseconds === undefined) return undefined;
  if (Math.abs(days) > 999_999_999 || seconds < 0 || seconds >= 86_400 || microseconds < 0 || microseconds >= 1e6) {
    return undefined;
  }
  return new TimeDelta(days, seconds, microseconds);
}

function isDecimal(text: unknown): text is string {
  return typeof text === 'string' && DECIMAL.test(text);
}

const DECIMAL = /^[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?|s?nan\d*)$/i;
