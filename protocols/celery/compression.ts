import { type Buffer, constants } from 'node:buffer';
import * as zlib from 'node:zlib';
import { WireError } from '../errors.ts';

/**
 * Compressed bodies. The `compression` header holds the content type; an alias is read as well.
 * Mirrors kombu/compression.py (5.6).
 *
 *     application/x-gzip     gzip, zlib        a zlib stream (RFC 1950), in spite of its name
 *     application/x-brotli   brotli
 *     application/zstd       zstd, zstandard   where node:zlib has it: Node 22.15 and newer
 *     application/x-bz2      bzip2, bzip       not available to Node
 *     application/x-lzma     lzma, xz          not available to Node
 */
interface Method {
  readonly name: string;
  readonly header: string;
  readonly aliases: readonly string[];
  readonly compress?: ((body: Uint8Array) => Buffer) | undefined;
  readonly decompress?: ((body: Uint8Array, options: { readonly maxOutputLength: number }) => Buffer) | undefined;
  /** What to do where this Node lacks the method. */
  readonly advice?: string;
}

/** Compresses a body; `header` goes into the message header `compression`. */
export function compress(method: string, body: Uint8Array): { readonly body: Buffer; readonly header: string } {
  const found = methodOf(method);
  if (found.compress === undefined) throw unknownCompression(method, found);
  return { body: found.compress(body), header: found.header };
}

/** Decompresses a body, and stops with `too-large` before the result exceeds `maxBytes`. */
export function decompress(nameOrMime: string, body: Uint8Array, maxBytes: number): Buffer {
  const found = methodOf(nameOrMime);
  if (found.decompress === undefined) throw unknownCompression(nameOrMime, found);
  // What zlib takes as a limit: one byte at least, and no more than a Buffer can hold.
  const maxOutputLength = Math.max(1, Math.min(maxBytes, constants.MAX_LENGTH));
  try {
    return found.decompress(body, { maxOutputLength });
  } catch (error) {
    if ((error as { readonly code?: unknown }).code === 'ERR_BUFFER_TOO_LARGE') {
      throw new WireError(
        'celery',
        'too-large',
        `a body compressed with ${found.name} is larger than ${maxBytes} bytes`,
        {
          cause: error,
        },
      );
    }
    throw new WireError(
      'celery',
      'undecodable',
      `cannot decompress a body of ${body.length} bytes with ${found.name}`,
      {
        cause: error,
      },
    );
  }
}

/** Node 22.15 and newer. The types are those of Node 20, the oldest we run on. */
const { zstdCompressSync, zstdDecompressSync } = zlib as {
  readonly zstdCompressSync?: Method['compress'];
  readonly zstdDecompressSync?: Method['decompress'];
};

const METHODS: readonly Method[] = [
  {
    name: 'gzip',
    header: 'application/x-gzip',
    aliases: ['gzip', 'zlib'],
    compress: (body) => zlib.deflateSync(body),
    // Reads both: a zlib stream, which kombu writes, and real gzip, which others write under that name.
    decompress: (body, options) => zlib.unzipSync(body, options),
  },
  {
    name: 'brotli',
    header: 'application/x-brotli',
    aliases: ['brotli'],
    compress: (body) => zlib.brotliCompressSync(body),
    decompress: (body, options) => zlib.brotliDecompressSync(body, options),
  },
  {
    name: 'zstd',
    header: 'application/zstd',
    aliases: ['zstd', 'zstandard'],
    compress: zstdCompressSync,
    decompress: zstdDecompressSync,
    advice: 'It comes with Node 22.15 and newer',
  },
  { name: 'bzip2', header: 'application/x-bz2', aliases: ['bzip2', 'bzip'] },
  { name: 'lzma', header: 'application/x-lzma', aliases: ['lzma', 'xz'] },
];

const BY_NAME: ReadonlyMap<string, Method> = new Map(
  METHODS.flatMap((method) => [method.header, ...method.aliases].map((name) => [name, method] as const)),
);

function methodOf(nameOrMime: string): Method {
  const found = BY_NAME.get(nameOrMime) ?? BY_NAME.get(nameOrMime.toLowerCase());
  if (found === undefined) throw unknownCompression(nameOrMime, undefined);
  return found;
}

function unknownCompression(asked: string, method: Method | undefined): WireError {
  const supported = METHODS.filter((each) => each.decompress !== undefined).map((each) => each.name);
  const advice = method?.advice === undefined ? '' : `${method.advice}. `;
  return new WireError(
    'celery',
    'unknown-compression',
    `compression ${JSON.stringify(asked)} is not available on this Node. ${advice}Publish with one of ${supported.join(', ')}, or uncompressed`,
  );
}
