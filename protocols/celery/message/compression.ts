import { Buffer, constants } from 'node:buffer';
import * as zlib from 'node:zlib';
import { WireError } from '../../errors.ts';

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
    decompress:
      zstdDecompressSync === undefined ? undefined : (body, options) => whole(body, zstdDecompressSync(body, options)),
    advice: 'It comes with Node 22.15 and newer',
  },
  { name: 'bzip2', header: 'application/x-bz2', aliases: ['bzip2', 'bzip'] },
  { name: 'lzma', header: 'application/x-lzma', aliases: ['lzma', 'xz'] },
];

/**
 * node:zlib gives what there is of a frame cut short, without an error. The frame says how much there should be: kombu's
 * decompressor cannot do without. RFC 8878, 3.1.1.1:
 *
 *     frame = magic (4) descriptor (1) [window (1)] [dictionary id (0, 1, 2, 4)] [content size (0, 1, 2, 4, 8)] blocks
 */
function whole(frame: Uint8Array, content: Buffer): Buffer {
  const header = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength);
  if (header.length < 6) throw new RangeError('no frame');
  const descriptor = header.readUInt8(4);
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const at = 5 + (isSingleSegment ? 0 : 1) + ([0, 1, 2, 4][descriptor & 0x03] ?? 0);
  const width = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  if (width === 0) return content;
  // A size of two bytes counts from 256.
  const size =
    width === 8 ? Number(header.readBigUInt64LE(at)) : header.readUIntLE(at, width) + (width === 2 ? 256 : 0);
  if (content.length < size) throw new RangeError(`${content.length} of ${size} bytes`);
  return content;
}

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
