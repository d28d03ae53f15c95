import { Buffer, isAscii, isUtf8 } from 'node:buffer';
import { undecodable } from './errors.ts';

/**
 * Text in a pickle. Python lets half a surrogate pair stand in a string and pickles it as three bytes ("surrogatepass"); so does
 * this. Only two halves side by side, which Python tells from the character they make, cannot be told apart in JavaScript.
 */

const SHORT = 24;

/** UTF-8, with three bytes for half a surrogate pair. `offset` is where it stands, for errors. */
export function readUtf8(bytes: Buffer, start: number, end: number): string {
  if (end - start <= SHORT) {
    let at = start;
    while (at < end && (bytes[at] as number) < 0x80) at += 1;
    if (at === end) return bytes.toString('latin1', start, end);
  }
  const view = bytes.subarray(start, end);
  if (isUtf8(view)) return bytes.toString('utf8', start, end);
  return joined(view, start);
}

/** The bytes of a text, half pairs included. */
export function utf8Bytes(text: string): Buffer {
  if (!HALF.test(text)) return Buffer.from(text, 'utf8');
  // Every second part is half a pair.
  const parts = text.split(HALF);
  return Buffer.concat(parts.map((part, index) => (index % 2 === 0 ? Buffer.from(part, 'utf8') : halfBytes(part))));
}

const HALF = /(\p{Surrogate})/u;

function halfBytes(half: string): Buffer {
  const unit = half.charCodeAt(0);
  return Buffer.of(0xe0 | (unit >> 12), 0x80 | ((unit >> 6) & 0x3f), 0x80 | (unit & 0x3f));
}

function joined(bytes: Buffer, offset: number): string {
  const parts: string[] = [];
  let clean = 0;
  for (let at = bytes.indexOf(0xed); at !== -1; at = bytes.indexOf(0xed, at + 1)) {
    const second = bytes[at + 1] ?? 0;
    const third = bytes[at + 2] ?? 0;
    if (second < 0xa0 || second > 0xbf || third < 0x80 || third > 0xbf) continue;
    parts.push(wellFormed(bytes.subarray(clean, at), offset));
    parts.push(String.fromCharCode(0xd000 | ((second & 0x3f) << 6) | (third & 0x3f)));
    clean = at + 3;
  }
  parts.push(wellFormed(bytes.subarray(clean), offset));
  return withoutPairs(parts, offset);
}

function wellFormed(bytes: Buffer, offset: number): string {
  if (isUtf8(bytes)) return bytes.toString('utf8');
  throw undecodable('a text that is not UTF-8', offset);
}

function withoutPairs(parts: readonly string[], offset: number): string {
  for (let index = 1; index < parts.length; index += 1) {
    // Between two halves always stands a part, if an empty one.
    const before = parts[index - 1] === '' ? (parts[index - 2] ?? '') : (parts[index - 1] as string);
    if (isHigh(before.charCodeAt(before.length - 1)) && isLow((parts[index] as string).charCodeAt(0))) {
      throw undecodable('a text with two halves of a character side by side, which JavaScript would join', offset);
    }
  }
  return parts.join('');
}

const isHigh = (unit: number): boolean => unit >= 0xd800 && unit <= 0xdbff;
const isLow = (unit: number): boolean => unit >= 0xdc00 && unit <= 0xdfff;

/** Protocol 0's text: latin-1, with `\uXXXX` and `\UXXXXXXXX` (Python's raw-unicode-escape). */
export function readRawUnicode(bytes: Buffer, start: number, end: number): string {
  const text = bytes.toString('latin1', start, end);
  if (!text.includes('\\')) return text;
  const parts: string[] = [];
  let clean = 0;
  for (let at = text.indexOf('\\'); at !== -1; at = text.indexOf('\\', at)) {
    const kind = text[at + 1];
    if (kind !== 'u' && kind !== 'U') {
      at += 2;
      continue;
    }
    const digits = text.slice(at + 2, at + (kind === 'u' ? 6 : 10));
    const code = HEX.test(digits) && digits.length === (kind === 'u' ? 4 : 8) ? Number.parseInt(digits, 16) : Infinity;
    if (code > 0x10ffff) throw undecodable('a text with a broken escape', start);
    parts.push(text.slice(clean, at), String.fromCodePoint(code));
    at += 2 + digits.length;
    clean = at;
  }
  parts.push(text.slice(clean));
  return withoutPairs(parts, start);
}

const HEX = /^[0-9a-fA-F]+$/;

/** A string of Python 2 as its `repr`, quotes included; as bytes. */
export function readQuoted(line: string, offset: number): Buffer {
  const quote = line[0];
  if (line.length < 2 || (quote !== "'" && quote !== '"') || line.at(-1) !== quote) {
    throw undecodable('a string without its quotes', offset);
  }
  const inner = line.slice(1, -1);
  if (!inner.includes('\\')) return Buffer.from(inner, 'latin1');
  const text = inner.replace(ESCAPE, (whole: string, body: string) => {
    const simple = ESCAPES[body];
    if (simple !== undefined) return simple;
    if (/^[0-7]/.test(body)) return String.fromCharCode(Number.parseInt(body, 8) & 0xff);
    if (/^x[0-9a-fA-F]{2}$/.test(body)) return String.fromCharCode(Number.parseInt(body.slice(1), 16));
    if (body === 'x' || body === '') throw undecodable('a string with a broken escape', offset);
    return whole;
  });
  return Buffer.from(text, 'latin1');
}

const ESCAPE = /\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|[^]|$)/g;
const ESCAPES: Readonly<Record<string, string>> = Object.freeze({
  // Without a prototype: the escapes come from the wire.
  __proto__: null,
  '\\': '\\',
  "'": "'",
  '"': '"',
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
  '\n': '',
} as unknown as Record<string, string>);

/** A string of Python 2, which Python 3 reads as ASCII; what is not ASCII stays bytes. */
export function python2String(bytes: Buffer): string | Buffer {
  return isAscii(bytes) ? bytes.toString('latin1') : bytes;
}
