import { Buffer } from 'node:buffer';
import { WireError } from '../../errors.ts';
import { MAX_DEPTH } from '../plain.ts';
import { tooLarge } from './errors.ts';
import { read } from './reader.ts';
import type { PyGlobal, Tuple } from './values.ts';
import { Writer, type WriteProtocol } from './writer.ts';

/**
 * Python's pickle as data. Protocols 0 to 5 are read; 4 is written, or 2.
 *
 * A pickle is a program for a machine that can import and call anything. This machine imports nothing, looks nothing up and calls
 * nothing: a class is its name (PyGlobal), an object is what would make it (PyObject), and both go back as they came. Only a
 * fixed table of constructors (`well-known.ts`) has a meaning of its own.
 *
 *     None                  null                        list                  array
 *     bool                  boolean                     tuple                 Tuple, an array
 *     int                   number, or bigint           set, frozenset        Set, FrozenSet
 *     float                 number; exact: Numeral 1.0  dict                  plain object; Map where a key is no text; exact: Map
 *     str                   string                      datetime, date, time  DateTime or ZonedDateTime, PlainDate, PlainTime
 *     bytes                 Buffer                      timedelta             TimeDelta
 *     bytearray             ByteArray                   Decimal, UUID         Decimal, Uuid
 *     classes, functions    PyGlobal                    everything else       PyObject
 *     the same by a number  PyExtension
 *
 * What `pickle.loads` of a peer may load is kept, also where its meaning is elsewhere: the number of an extension (EXT1, EXT2,
 * EXT4) goes back as that number. What it never loads is refused: persistent ids and out-of-band buffers stand for what was sent
 * another way.
 */

export * from './values.ts';
export type { WriteProtocol } from './writer.ts';

export interface DecodeOptions {
  /** A Map for every dict, and a Numeral for a whole float and NaN, so that all is written back as it was. @default false */
  readonly exact?: boolean;
  /** Containers inside containers. @default 1000 */
  readonly maxDepth?: number;
  /** Values in the pickle; a container counts as eight. @default 8000000 */
  readonly maxItems?: number;
  /** Values and characters, with what is shared counted in each place. @default 134217728 */
  readonly maxOutput?: number;
  /** Of one integer. @default 4096 */
  readonly maxIntegerBytes?: number;
  /**
   * Gives a call of a class or function a meaning of your own: a pure function of its name and arguments. Undefined leaves it a
   * PyObject.
   */
  readonly construct?: (callable: PyGlobal, args: Tuple) => unknown;
}

const MAX_ITEMS = 8_000_000;
const MAX_OUTPUT = 128 * 1024 * 1024;
const MAX_INTEGER_BYTES = 4096;

/** The one value in these bytes. Throws WireError `undecodable`, `too-large` or `too-deep`. */
export function decode(bytes: Uint8Array, options: DecodeOptions = {}): unknown {
  const { exact = false, construct } = options;
  const limits = {
    maxDepth: options.maxDepth ?? MAX_DEPTH,
    maxItems: options.maxItems ?? MAX_ITEMS,
    maxOutput: options.maxOutput ?? MAX_OUTPUT,
    maxIntegerBytes: options.maxIntegerBytes ?? MAX_INTEGER_BYTES,
  };
  try {
    return read(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), { exact, limits, construct });
  } catch (error) {
    // A text or a Map larger than the runtime can have.
    if (isTooMuch(error)) throw tooLarge('a value larger than this runtime can hold', undefined, error);
    throw error;
  }
}

export interface EncodeOptions {
  /** @default 4 */
  readonly protocol?: WriteProtocol;
  /** What error messages call the outermost value. @default 'value' */
  readonly at?: string;
}

/**
 * A value as a pickle. Arrays are lists, plain objects and Maps are dicts, a number is an int where it is whole (`float(1)` for a
 * float), a Date is an aware datetime in UTC, undefined is None. Throws WireError `unencodable`, `too-deep` or `too-large`.
 */
export function encode(value: unknown, options: EncodeOptions = {}): Buffer {
  try {
    return new Writer(options.protocol ?? 4, options.at ?? 'value').write(value);
  } catch (error) {
    if (isTooMuch(error)) throw tooLarge('a pickle larger than this runtime can hold', undefined, error);
    throw error;
  }
}

function isTooMuch(error: unknown): boolean {
  const code: unknown = error instanceof Error ? (error as { readonly code?: unknown }).code : undefined;
  return !(error instanceof WireError) && (error instanceof RangeError || code === 'ERR_STRING_TOO_LONG');
}
