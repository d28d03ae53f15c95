import { Buffer } from 'node:buffer';
import { deflateSync, inflateSync } from 'node:zlib';
import type { Dialect } from './dialect.ts';

/** No backtrace is longer than this once it is inflated: a small text may stand for gigabytes. */
const MAX_BYTES = 16 * 2 ** 20;

/** `error_backtrace`: base64 of zlib of a JSON array of lines. job_retry.rb compress_backtrace. */
export function compressBacktrace(lines: readonly string[], dialect: Dialect): string {
  const base64 = deflateSync(Buffer.from(JSON.stringify(lines))).toString('base64');
  return dialect.base64 === 'strict' ? base64 : base64.replaceAll(/.{1,60}/g, '$&\n');
}

/** The lines of an `error_backtrace` of any version; undefined for what is none. */
export function readBacktrace(value: unknown): readonly string[] | undefined {
  // Up to 6.4 a plain array was read as well.
  if (Array.isArray(value)) return value.map(String);
  if (typeof value !== 'string') return undefined;
  try {
    const text = inflateSync(Buffer.from(value, 'base64'), { maxOutputLength: MAX_BYTES }).toString();
    const lines: unknown = JSON.parse(text);
    return Array.isArray(lines) ? lines.map(String) : undefined;
  } catch {
    return undefined;
  }
}

/** The frames of a traceback text, as Ruby has them: without the message that a JavaScript stack begins with. */
export function framesOf(traceback: string): readonly string[] {
  const lines = traceback.split('\n').map((line) => line.trim());
  const frames = lines.filter((line) => line.startsWith('at ') || line.startsWith('Caused by: '));
  return (frames.length > 0 ? frames : lines).filter((line) => line !== '').map((line) => line.replace(/^at /, ''));
}
