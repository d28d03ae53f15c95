import { Buffer, isAscii, isUtf8 } from 'node:buffer';
import { WireError } from '../../errors.ts';
import * as json from '../../formats/json.ts';
import * as msgpack from '../../formats/msgpack.ts';
import * as pickle from '../../formats/pickle/index.ts';
import * as yaml from '../../formats/yaml.ts';
import { decompress } from './compression.ts';
import { flatten, hasMarks, mark, revive } from './typed-json.ts';

export { compress, decompress } from './compression.ts';

/**
 * The content of a message: what its content type, content encoding and compression say about its body.
 * Mirrors kombu/serialization.py (5.6).
 *
 *     json      application/json        utf-8
 *     msgpack   application/x-msgpack   binary
 *     yaml      application/x-yaml      utf-8
 *     pickle    application/x-python-serialize   binary
 *     raw       application/data        binary, or utf-8 for a string
 *
 * A pickle is read as data: nothing in it is imported or called (formats/pickle).
 */
export type SerializerName = 'json' | 'msgpack' | 'yaml' | 'pickle' | 'raw';

const CONTENT_TYPES: Readonly<Record<SerializerName, string>> = {
  json: 'application/json',
  msgpack: 'application/x-msgpack',
  yaml: 'application/x-yaml',
  pickle: 'application/x-python-serialize',
  raw: 'application/data',
};

/** Accepted always: no decoder ever runs on them. */
const TRUSTED = ['application/data', 'application/text'];
const UNDECODED: ReadonlySet<string> = new Set([...TRUSTED, 'text/plain']);

/** The content type of a serializer's name; a content type stays what it is. */
export function contentTypeOf(nameOrMime: string): string {
  if (Object.hasOwn(CONTENT_TYPES, nameOrMime)) return CONTENT_TYPES[nameOrMime as SerializerName];
  if (nameOrMime.includes('/')) return nameOrMime;
  throw new WireError(
    'celery',
    'unknown-content-type',
    `there is no serializer ${JSON.stringify(nameOrMime)}. ${ADVICE}`,
  );
}

/** The content types a consumer accepts, from names or content types. */
export function acceptSet(names: readonly string[]): ReadonlySet<string> {
  return new Set([...TRUSTED, ...names.map(contentTypeOf)]);
}

/** What one message may cost. */
export interface ContentLimits {
  /** Of the body, compressed and decompressed. */
  readonly maxBytes: number;
  /** Containers inside containers. */
  readonly maxDepth: number;
}

/** 64 MiB, 1000 levels. */
export const defaultLimits: ContentLimits = { maxBytes: 64 * 1024 * 1024, maxDepth: 1000 };

/** A serialized body, and what its message says about it. */
export interface Content {
  readonly body: Uint8Array;
  readonly contentType: string | undefined;
  readonly contentEncoding: string | undefined;
  readonly compression: string | undefined;
}

/** Which content types are read (`acceptSet` makes the set of names), and how large and deep a content may be. */
export interface DecodeOptions {
  readonly accept: ReadonlySet<string>;
  readonly limits: ContentLimits;
  /** Maps for objects, and numbers that write back as they were; kombu's marked values stay as they are. @default false */
  readonly exact?: boolean;
}

/**
 * The value in a body. Throws WireError with the code `content-disallowed`, `unknown-content-type`, `unknown-compression`,
 * `too-large`, `too-deep` or `undecodable`.
 */
export function decodeContent(content: Content, options: DecodeOptions): unknown {
  const { accept, limits, exact = false } = options;
  const type = plainType(content.contentType);
  if (!accept.has(type)) throw disallowed(type, accept);
  const body = bytesOf(content, limits.maxBytes);
  try {
    switch (type) {
      case 'application/json':
        return decodeJson(utf8Text(body), limits.maxDepth, exact);
      case 'application/x-msgpack':
        return msgpack.decode(body, { exact, maxDepth: limits.maxDepth });
      case 'application/x-yaml':
        return yaml.decode(utf8Text(body), { exact, maxDepth: limits.maxDepth });
      case 'application/x-python-serialize':
        return pickle.decode(body, { exact, maxDepth: limits.maxDepth, construct: signatureFields });
      default:
        if (UNDECODED.has(type)) return decodeRaw(body, content.contentEncoding);
        throw new WireError('celery', 'unknown-content-type', `no decoder for ${type}. ${ADVICE}`);
    }
  } catch (error) {
    if (!(error instanceof WireError) || error.system === 'celery') throw error;
    const { code, message, offset } = error;
    throw new WireError('celery', code, `cannot read a body of ${body.length} bytes as ${type}: ${message}`, {
      cause: error,
      ...(offset === undefined ? {} : { offset }),
    });
  }
}

/** How contents are written. */
export interface EncodeOptions {
  /** kombu's marks for dates, decimals, UUIDs and bytes in JSON. False writes what kombu before 5.3 wrote. @default true */
  readonly typed?: boolean;
}

/** A value as a body, with the content type and encoding its message must carry. */
export function encodeContent(
  serializer: string,
  value: unknown,
  options: EncodeOptions = {},
): { readonly body: Buffer; readonly contentType: string; readonly contentEncoding: string } {
  const contentType = contentTypeOf(serializer);
  switch (contentType) {
    case 'application/json':
      // Python's JSON is ASCII: latin1 is the fastest way to the same bytes.
      return { body: Buffer.from(encodeJson(value, options.typed), 'latin1'), contentType, contentEncoding: 'utf-8' };
    case 'application/x-msgpack':
      return { body: msgpack.encode(value), contentType, contentEncoding: 'binary' };
    case 'application/x-yaml':
      return { body: Buffer.from(yaml.encode(value), 'utf8'), contentType, contentEncoding: 'utf-8' };
    case 'application/x-python-serialize':
      return { body: pickle.encode(value), contentType, contentEncoding: 'binary' };
    case 'application/data':
      if (typeof value === 'string') return { body: Buffer.from(value, 'utf8'), contentType, contentEncoding: 'utf-8' };
      if (value instanceof Uint8Array) return { body: asBuffer(value), contentType, contentEncoding: 'binary' };
      throw new WireError(
        'celery',
        'unencodable',
        'the serializer raw writes strings and bytes only. Use json for other values',
      );
    default:
      throw new WireError('celery', 'unknown-content-type', `no encoder for ${contentType}. ${ADVICE}`);
  }
}

/** Exact data as a handler has it: objects, numbers, typed values. */
export function plain(exact: unknown, limits: ContentLimits = defaultLimits): unknown {
  try {
    return decodeJson(encodeJson(exact), limits.maxDepth, false);
  } catch (error) {
    if (!(error instanceof WireError) || error.code !== 'unencodable') throw error;
    // Only a pickle brings what JSON has no form for.
    return pickle.decode(pickle.encode(exact), { maxDepth: limits.maxDepth });
  }
}

/** True for a body whose values another serializer may have no form for. */
export function isPickle(contentType: string | undefined): boolean {
  return plainType(contentType) === CONTENT_TYPES.pickle;
}

/** A value as kombu's JSON text, always ASCII. `at` is what error messages call the value: `args`. */
export function encodeJson(value: unknown, typed = true, at = 'value'): string {
  return json.stringify(value, { replace: typed ? mark : flatten, at });
}

function decodeJson(text: string, maxDepth: number, exact: boolean): unknown {
  if (exact) return json.parseExact(text, { maxDepth });
  const parsed = json.parse(text, { maxDepth });
  return hasMarks(text) ? revive(parsed) : parsed;
}

function decodeRaw(body: Buffer, contentEncoding: string | undefined): unknown {
  const encoding = (contentEncoding ?? 'utf-8').toLowerCase().replaceAll('_', '-');
  switch (encoding) {
    case 'binary':
    case 'ascii-8bit':
      return body;
    case 'utf-8':
    case 'utf8':
      return utf8Text(body);
    case 'us-ascii':
    case 'ascii':
      if (isAscii(body)) return body.toString('latin1');
      throw new WireError('celery', 'undecodable', `a body of ${body.length} bytes is not ASCII, but says it is`);
    case 'latin-1':
    case 'latin1':
    case 'iso-8859-1':
      return body.toString('latin1');
    default:
      throw new WireError(
        'celery',
        'undecodable',
        `a body has the content encoding ${JSON.stringify(contentEncoding)}, which is unknown`,
      );
  }
}

function utf8Text(body: Buffer): string {
  if (isAscii(body)) return body.toString('latin1');
  if (isUtf8(body)) return body.toString('utf8');
  throw new WireError('celery', 'undecodable', `a body of ${body.length} bytes is not UTF-8`);
}

function bytesOf(content: Content, maxBytes: number): Buffer {
  if (content.body.length > maxBytes) {
    throw new WireError(
      'celery',
      'too-large',
      `a body of ${content.body.length} bytes is larger than ${maxBytes} bytes`,
    );
  }
  return content.compression ? decompress(content.compression, content.body, maxBytes) : asBuffer(content.body);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Without parameters, in lower case; what has no type is data (kombu/serialization.py loads). */
function plainType(contentType: string | undefined): string {
  if (contentType === 'application/json') return contentType;
  return (contentType?.split(';', 1)[0] ?? '').trim().toLowerCase() || 'application/data';
}

function disallowed(type: string, accept: ReadonlySet<string>): WireError {
  const name = Object.entries(CONTENT_TYPES).find(([, mime]) => mime === type)?.[0];
  const advice =
    name === undefined && !UNDECODED.has(type)
      ? ADVICE
      : `Add '${name ?? type}' to the accepted content to read it${name === 'pickle' ? '; here it is data, but Python workers run what is in it' : ''}`;
  return new WireError(
    'celery',
    'content-disallowed',
    `refused content of type ${type}; accepted are ${[...accept].join(', ')}. ${advice}`,
  );
}

const ADVICE = `Use one of ${Object.keys(CONTENT_TYPES).join(', ')}`;

/**
 * A signature is the dict of its fields in every serializer but this one, where it is a call with that dict
 * (celery/canvas.py Signature.__reduce__).
 */
function signatureFields({ module, name }: pickle.PyGlobal, args: readonly unknown[]): unknown {
  const [fields] = args;
  return module === 'celery.canvas' && name === 'signature' && args.length === 1 && isDict(fields) ? fields : undefined;
}

function isDict(value: unknown): boolean {
  return (
    value instanceof Map ||
    (typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype)
  );
}
