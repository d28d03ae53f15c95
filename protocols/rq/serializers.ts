import { Buffer, constants, isUtf8 } from 'node:buffer';
import * as zlib from 'node:zlib';
import { WireError } from '../errors.ts';
import * as json from '../formats/json.ts';
import * as pickle from '../formats/pickle/index.ts';

/**
 * The encoding of `data`, `meta` and results. Redis does not store the name of the serializer. Both sides are configured with it, or
 * recognize it by the first byte.
 *
 *     data           zlib(serialized)           bytes that are not zlib are read as they are
 *     meta, result   serialized
 *     return_value   base64(serialized)         in results
 *     exc_string     base64(zlib(UTF-8))        in results
 *
 *     serialized     pickle (0x80 from protocol 2 on)  |  JSON as json.dumps writes it
 *
 * Source: rq/serializers.py, rq/job.py restore and to_dict, rq/results.py.
 */
export type SerializerName = 'pickle' | 'json';

/** Values beyond these limits are refused. */
export interface SerializerLimits {
  /** Bytes of one value once inflated. @default 64 MiB */
  readonly maxBytes: number;
  /** Containers inside containers. @default 1000 */
  readonly maxDepth: number;
}

/** The limits that apply if none are given. */
export const defaultLimits: SerializerLimits = { maxBytes: 64 * 2 ** 20, maxDepth: 1000 };

/** Serializes a value. Throws WireError `unencodable`, `too-deep` or `too-large`. `at` is the value's name in errors. */
export function dumps(serializer: SerializerName, value: unknown, at?: string): Buffer {
  const options = at === undefined ? {} : { at };
  return serializer === 'pickle'
    ? pickle.encode(value, options)
    : Buffer.from(json.stringify(value, options), 'latin1'); // ASCII by construction
}

/** Recognizes the serializer by the first byte: JSON if the bytes can only be JSON, else pickle. */
export function sniff(bytes: Uint8Array): SerializerName {
  const first = bytes[0];
  if (first === undefined || first >= 0x80) return 'pickle';
  // `[`, `{`, `"`, a digit, `-`, white space: no pickle begins with these. `t`, `f`, `N` and `I` may begin either, so more bytes are checked.
  if (JSON_STARTS.has(first)) return 'json';
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.byteLength, 10)).toString('latin1');
  return /^(?:true|false|null|NaN|Infinity)\s*$/.test(text) ? 'json' : 'pickle';
}

const JSON_STARTS: ReadonlySet<number> = new Set([...'[{"-0123456789 \t\r\n'].map((char) => char.charCodeAt(0)));

/** How values are read. */
export interface LoadOptions {
  readonly limits?: Partial<SerializerLimits>;
  /** Keep every detail that writing the value back needs: a Map for every dict, a Numeral for `1.0`. @default false */
  readonly exact?: boolean;
  /** @default recognized by the first byte */
  readonly serializer?: SerializerName;
}

/** Throws WireError `undecodable`, `too-large` or `too-deep`. Nothing is imported or called. */
export function loads(bytes: Uint8Array, options: LoadOptions = {}): unknown {
  const { maxBytes, maxDepth } = { ...defaultLimits, ...options.limits };
  if (bytes.byteLength > maxBytes) throw tooLarge(bytes.byteLength, maxBytes);
  if ((options.serializer ?? sniff(bytes)) === 'pickle')
    return pickle.decode(bytes, { maxDepth, exact: options.exact ?? false });
  if (!isUtf8(bytes)) throw new WireError('rq', 'undecodable', 'JSON that is not UTF-8');
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
  return options.exact === true ? json.parseExact(text, { maxDepth }) : json.parse(text, { maxDepth });
}

/** Level 6, as Python's `zlib.compress`. */
export function deflate(bytes: Uint8Array): Buffer {
  return zlib.deflateSync(bytes, { chunkSize: chunkFor(bytes.byteLength) });
}

/** zlib allocates a buffer of this size for each call. For a small job, its default size would be most of the garbage. */
function chunkFor(bytes: number): number {
  return Math.min(16_384, Math.max(256, bytes));
}

/**
 * Inflates bytes. Bytes that are not a zlib stream are returned as they are, as in RQ. Throws WireError `too-large` before more than
 * the limit is inflated.
 */
export function inflate(bytes: Uint8Array, maxBytes: number = defaultLimits.maxBytes): Buffer {
  // Python makes the same test before it inflates: the method, and a checksum of two bytes.
  const zlibbed = bytes.byteLength > 2 && ((bytes[0] as number) & 0x0f) === 8 && headerChecks(bytes);
  const plain = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!zlibbed) return plain;
  try {
    const maxOutputLength = Math.max(1, Math.min(maxBytes, constants.MAX_LENGTH));
    return zlib.inflateSync(plain, { maxOutputLength, chunkSize: chunkFor(4 * plain.byteLength) });
  } catch (error) {
    const { code } = error as { readonly code?: unknown };
    if (code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge(undefined, maxBytes, error);
    return plain;
  }
}

function headerChecks(bytes: Uint8Array): boolean {
  return (((bytes[0] as number) << 8) | (bytes[1] as number)) % 31 === 0;
}

function tooLarge(bytes: number | undefined, limit: number, cause?: unknown): WireError {
  const what = `${bytes === undefined ? 'a value' : `a value of ${bytes} bytes`}, more than the ${limit} allowed (limits.maxBytes)`;
  return new WireError('rq', 'too-large', what, { cause });
}
