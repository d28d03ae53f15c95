import { Buffer, isUtf8 } from 'node:buffer';
import { Packr, Unpackr } from 'msgpackr';
import { WireError } from '../errors.ts';
import { isPlain, MAX_DEPTH, pathText, typeName } from './plain.ts';
import { floatText, Numeral } from './values.ts';

/**
 * MessagePack as kombu's `packb(use_bin_type=True)` writes it and `unpackb(raw=False)` reads it: nil, booleans, integers of
 * 64 bits, floats, UTF-8 strings, bytes, arrays, maps with string keys. No extension type is written, and none is read.
 *
 * msgpackr encodes and decodes. It expects JavaScript at both ends, so the types that only Python distinguishes are handled here: `walk` checks every
 * byte before msgpackr reads it, and marks the positions of floats.
 */

export interface DecodeOptions {
  /** Decode maps to Maps, and a whole float to a Numeral, so that it is written as a float again. @default false */
  readonly exact?: boolean;
  /** Deepest nesting of containers; at most 1024. @default 1000 */
  readonly maxDepth?: number;
}

/** The one value in these bytes. Integers beyond ±(2^53-1) are BigInt, bytes are Buffers that share the memory of the input. */
export function decode(bytes: Uint8Array, options: DecodeOptions = {}): unknown {
  const { exact = false } = options;
  const maxDepth = Math.min(options.maxDepth ?? MAX_DEPTH, DEEPEST);
  // A new view: msgpackr sets properties on the view that it reads.
  let source = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const floats = new Map<number, Numeral>();
  walk(source, maxDepth, (token, at) => {
    if (!exact || (token !== FLOAT_32 && token !== FLOAT_64)) return;
    const value = token === FLOAT_64 ? source.readDoubleBE(at + 1) : source.readFloatBE(at + 1);
    if (Number.isSafeInteger(value)) floats.set(at, new Numeral(floatText(value)));
  });
  if (floats.size > 0) source = Buffer.from(source);
  // msgpackr returns 2 for 2.0. So each float is replaced by bytes of the same size, whose position then shows which float it was.
  for (const at of floats.keys()) {
    const size = source[at] === FLOAT_64 ? 7 : 3;
    source[at] = BIN_8;
    source[at + 1] = size;
  }
  try {
    const value: unknown = unpackr.unpack(source);
    return exact ? exactValue(value, source.byteOffset, floats) : plainValue(value);
  } catch (error) {
    if (error instanceof RangeError) throw tooDeep(maxDepth, error);
    throw undecodable(error instanceof Error ? error.message : 'unreadable', 0, error);
  }
}

/** A value as MessagePack. A Numeral is a float64, unless it is written as an integer. */
export function encode(value: unknown): Buffer {
  const bins: (number | undefined)[] = [];
  const prepared = new Preparation(bins).prepare(value, '');
  const packed = packr.pack(prepared);
  if (bins.some((float) => float !== undefined)) {
    let index = 0;
    walk(packed, Number.POSITIVE_INFINITY, (token, at) => {
      if (token !== BIN_8 && token !== BIN_16 && token !== BIN_32) return;
      const float = bins[index];
      index += 1;
      if (float === undefined) return;
      packed[at] = FLOAT_64;
      packed.writeDoubleBE(float, at + 1);
    });
  }
  return packed;
}

const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: false, int64AsType: 'bigint' });
const packr = new Packr({ useRecords: false, moreTypes: false, structuredClone: false, encodeUndefinedAsNil: true });

/** The highest `maxDepth`: msgpack-python's own limit, and msgpackr calls itself for each level. */
const DEEPEST = 1024;

const BIN_8 = 0xc4;
const BIN_16 = 0xc5;
const BIN_32 = 0xc6;
const FLOAT_32 = 0xca;
const FLOAT_64 = 0xcb;
/** As many bytes as a float64, nine: token, length, seven bytes. */
const FLOAT_PLACEHOLDER = Buffer.alloc(7);

/**
 * One pass over the bytes, calling `visit` for each token. Throws unless they are exactly one value that Python could have written: where they are
 * cut short, followed by more bytes, nested too deep, or contain an extension type, a key that is not a string, or broken UTF-8.
 */
function walk(bytes: Buffer, maxDepth: number, visit: (token: number, at: number) => void): void {
  /** How many items each open container still needs. A map counts keys and values, so that an even number means a key. */
  const missing: number[] = [];
  const isMap: boolean[] = [];
  let at = 0;
  do {
    const last = missing.length - 1;
    const isKey = isMap[last] === true && (missing[last] as number) % 2 === 0;
    if (last >= 0) missing[last] = (missing[last] as number) - 1;
    const token = bytes[at];
    if (token === undefined) throw undecodable('cut short', at);
    const { head, kind, size } = readHead(bytes, token, at);
    const end = at + head + (kind === 'map' || kind === 'array' ? 0 : size);
    if (end > bytes.length) throw undecodable('cut short', at);
    if (isKey && kind !== 'string') throw undecodable('a key that is not a string', at);
    if (kind === 'string' && !isUtf8(bytes.subarray(at + head, end)))
      throw undecodable('a string that is not UTF-8', at);
    visit(token, at);
    at = end;
    if (kind === 'map' || kind === 'array') {
      if (missing.length >= maxDepth) throw tooDeep(maxDepth);
      // Each item takes at least one byte: a wrong count is found before memory is allocated for it.
      if (size > bytes.length - at) throw undecodable('cut short', at);
      missing.push(size);
      isMap.push(kind === 'map');
    }
    while (missing.at(-1) === 0) {
      missing.pop();
      isMap.pop();
    }
  } while (missing.length > 0);
  if (at < bytes.length) throw undecodable('more bytes after the end of the value', at);
}

interface Head {
  /** Bytes before the contents. */
  readonly head: number;
  readonly kind: 'map' | 'array' | 'string' | 'bin' | 'scalar';
  /** Bytes of contents; of a container, items. */
  readonly size: number;
}

function readHead(bytes: Buffer, token: number, at: number): Head {
  if (token < 0x80 || token >= 0xe0) return SCALAR[0] as Head;
  if (token < 0x90) return { head: 1, kind: 'map', size: 2 * (token & 0x0f) };
  if (token < 0xa0) return { head: 1, kind: 'array', size: token & 0x0f };
  if (token < 0xc0) return { head: 1, kind: 'string', size: token & 0x1f };
  switch (token) {
    case 0xc0:
    case 0xc2:
    case 0xc3:
      return SCALAR[0] as Head;
    case BIN_8:
    case BIN_16:
    case BIN_32:
      return counted(bytes, at, 2 ** (token - BIN_8), 'bin');
    case FLOAT_32:
      return SCALAR[4] as Head;
    case FLOAT_64:
      return SCALAR[8] as Head;
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
      return SCALAR[2 ** (token - 0xcc)] as Head;
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
      return SCALAR[2 ** (token - 0xd0)] as Head;
    case 0xd9:
    case 0xda:
    case 0xdb:
      return counted(bytes, at, 2 ** (token - 0xd9), 'string');
    case 0xdc:
    case 0xdd:
      return counted(bytes, at, 2 ** (token - 0xdb), 'array');
    case 0xde:
    case 0xdf:
      return counted(bytes, at, 2 ** (token - 0xdd), 'map');
    case 0xc1:
      throw undecodable('the byte 0xc1, which means nothing', at);
    default:
      throw undecodable('an extension type. kombu has none, and so none is read', at);
  }
}

const SCALAR: readonly Head[] = Array.from({ length: 9 }, (_, size) => ({ head: 1, kind: 'scalar', size }));

function counted(bytes: Buffer, at: number, width: number, kind: Head['kind']): Head {
  if (at + 1 + width > bytes.length) throw undecodable('cut short', at);
  const count = bytes.readUIntBE(at + 1, width);
  return { head: 1 + width, kind, size: kind === 'map' ? 2 * count : count };
}

function plainValue(value: unknown): unknown {
  if (typeof value === 'bigint') return number(value);
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index += 1) value[index] = plainValue(value[index]);
    return value;
  }
  if (!(value instanceof Map)) return value;
  const object: Record<string, unknown> = {};
  for (const [key, item] of value as ReadonlyMap<string, unknown>) {
    if (key !== '__proto__') object[key] = plainValue(item);
    else
      Object.defineProperty(object, key, {
        value: plainValue(item),
        writable: true,
        enumerable: true,
        configurable: true,
      });
  }
  return object;
}

function exactValue(value: unknown, base: number, floats: ReadonlyMap<number, Numeral>): unknown {
  if (typeof value === 'bigint') return number(value);
  if (value instanceof Uint8Array) return floats.get(value.byteOffset - base - 2) ?? value;
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index += 1) value[index] = exactValue(value[index], base, floats);
  } else if (value instanceof Map) {
    for (const [key, item] of value) value.set(key, exactValue(item, base, floats));
  }
  return value;
}

function number(value: bigint): number | bigint {
  const double = Number(value);
  return Number.isSafeInteger(double) ? double : value;
}

/** Converts a value so that msgpackr writes it as Python would. Records each run of bytes: undefined, or the float in its place. */
class Preparation {
  readonly #bins: (number | undefined)[];
  readonly #open: object[] = [];
  readonly #keys: (string | number)[] = [];

  constructor(bins: (number | undefined)[]) {
    this.#bins = bins;
  }

  prepare(value: unknown, key: string | number): unknown {
    switch (typeof value) {
      case 'string':
        return this.#string(value, key);
      case 'number':
        // msgpackr has no -0, and writes integers beyond 32 bits as floats.
        if (Object.is(value, -0)) return this.#float(value);
        return Number.isSafeInteger(value) && (value > 0xffff_ffff || value < -0x8000_0000) ? BigInt(value) : value;
      case 'bigint':
        if (value >= -(2n ** 63n) && value < 2n ** 64n) return value;
        throw this.#unencodable(key, 'an integer of more than 64 bits');
      case 'boolean':
      case 'undefined':
        return value;
      case 'object':
        return value === null ? null : this.#object(value, key);
      case 'function':
      case 'symbol':
        throw this.#unencodable(key, typeName(value));
    }
  }

  #object(value: object, key: string | number): unknown {
    if (value instanceof Uint8Array) {
      this.#bins.push(undefined);
      return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
    }
    if (value instanceof Numeral) {
      return /^-?\d+$/.test(value.text) && value.text !== '-0'
        ? this.prepare(number(BigInt(value.text)), key)
        : this.#float(value.valueOf());
    }
    if (this.#open.includes(value)) throw this.#unencodable(key, 'a value that contains itself');
    if (this.#open.length >= MAX_DEPTH) {
      throw new WireError('msgpack', 'too-deep', `cannot write a value nested more than ${MAX_DEPTH} levels deep`);
    }
    this.#open.push(value);
    this.#keys.push(key);
    const prepared = Array.isArray(value)
      ? Array.from(value, (item, index) => this.prepare(item, index))
      : this.#map(value, key);
    this.#open.pop();
    this.#keys.pop();
    return prepared;
  }

  #map(value: object, key: string | number): ReadonlyMap<string, unknown> {
    if (!(value instanceof Map) && !isPlain(value)) {
      this.#keys.pop();
      throw this.#unencodable(key, typeName(value));
    }
    const entries: Iterable<[unknown, unknown]> = value instanceof Map ? value : Object.entries(value);
    const prepared = new Map<string, unknown>();
    for (const [name, item] of entries) {
      if (item === undefined) continue;
      if (typeof name !== 'string' && typeof name !== 'number')
        throw this.#unencodable('', `${typeName(name)} as a key`);
      const text = this.#string(String(name), '');
      prepared.set(text, this.prepare(item, text));
    }
    return prepared;
  }

  #string(text: string, key: string | number): string {
    if (/\p{Surrogate}/u.test(text)) throw this.#unencodable(key, 'half a character (a lone surrogate)');
    return text;
  }

  #float(value: number): Buffer {
    this.#bins.push(value);
    return FLOAT_PLACEHOLDER;
  }

  #unencodable(key: string | number, what: string): WireError {
    const path = pathText('value', [...this.#keys, key]);
    return new WireError('msgpack', 'unencodable', `cannot write ${path}: ${what} has no form in MessagePack`);
  }
}

function tooDeep(maxDepth: number, cause?: unknown): WireError {
  return new WireError('msgpack', 'too-deep', `nested more than ${maxDepth} levels deep`, { cause });
}

function undecodable(what: string, offset: number, cause?: unknown): WireError {
  return new WireError('msgpack', 'undecodable', `not MessagePack: ${what} at byte ${offset}`, { offset, cause });
}
