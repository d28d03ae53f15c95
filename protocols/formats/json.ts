import { WireError } from '../errors.ts';
import { isPlain, MAX_DEPTH, pathText, typeName } from './plain.ts';
import { floatText, Numeral } from './values.ts';

/**
 * JSON as Python writes and reads it.
 *
 *     value   = object | array | string | number | "true" | "false" | "null" | "NaN" | "Infinity" | "-Infinity"
 *     object  = "{" [ string ": " value *( ", " string ": " value ) ] "}"      the last of two equal keys counts
 *     array   = "[" [ value *( ", " value ) ] "]"
 *     number  = an integer of any size, or a float; `1` and `1.0` are not the same
 *
 * Mirrors json/encoder.py and json/scanner.py of CPython with their defaults (`ensure_ascii`, `strict`, `allow_nan`).
 */

export interface ParseOptions {
  /** Deepest nesting of containers. @default 1000 */
  readonly maxDepth?: number;
}

/**
 * Parses JSON to plain values, as `JSON.parse` does, except that integers beyond ±(2^53-1) are BigInt and that `NaN`, `Infinity` and `-Infinity` are
 * read. A `__proto__` key is data.
 */
export function parse(text: string, options: ParseOptions = {}): unknown {
  const maxDepth = options.maxDepth ?? MAX_DEPTH;
  // The first test is cheap; the second distinguishes a large integer from a float with many digits.
  if (DIGIT_RUN.test(text) && LARGE_INTEGER.test(text)) return new Reader(text, false, maxDepth).read();
  checkDepth(text, maxDepth);
  try {
    return JSON.parse(text);
  } catch {
    return new Reader(text, false, maxDepth).read();
  }
}

/**
 * Parses JSON and keeps everything that `stringify` could write back: every object is a Map, integers beyond ±(2^53-1) are BigInt, and a number that
 * would be written otherwise (`1.0`, `1e5`, `-0`) is a Numeral.
 */
export function parseExact(text: string, options: ParseOptions = {}): unknown {
  return new Reader(text, true, options.maxDepth ?? MAX_DEPTH).read();
}

export interface StringifyOptions {
  /** Called for every object that is not plain data. Its return value is written instead; undefined or the object itself: an error. */
  readonly replace?: (value: object) => unknown;
  /** The name of the outermost value in error messages: `args` makes `args[1].when`. @default 'value' */
  readonly at?: string;
}

/** A value as Python's `json.dumps` writes it, byte for byte. */
export function stringify(value: unknown, options: StringifyOptions = {}): string {
  switch (typeof value) {
    case 'string':
      return quote(value);
    case 'number':
      return numberText(value);
    default:
      return new Writer(options).write(value, '');
  }
}

/** One change to a JSON text: the raw JSON to put at a path of object keys, or undefined to remove the member. */
export interface Change {
  readonly path: readonly string[];
  readonly value: string | undefined;
}

/**
 * Replaces, adds (at the end of its object) or removes members, one change after the other; every other byte stays as it was. A parent that is
 * missing or is not an object is a WireError. `compact`: added members have no spaces, as Ruby writes JSON.
 */
export function edit(text: string, changes: readonly Change[], options: { readonly compact?: boolean } = {}): string {
  const space = options.compact === true ? '' : ' ';
  let edited = text;
  for (const { path, value } of changes) edited = change(edited, path, value, space);
  return edited;
}

/** The raw text of the member at a path of object keys; undefined where there is none. */
export function member(text: string, path: readonly string[]): string | undefined {
  let start = skipSpace(text, 0);
  for (const key of path) {
    if (text.charCodeAt(start) !== OPEN_BRACE) return undefined;
    const found = findMembers(text, start, key).matches.at(-1);
    if (found === undefined) return undefined;
    start = found.valueStart;
  }
  return text.slice(start, skipValue(text, start));
}

const DIGIT_RUN = /\d{16}/;
const LARGE_INTEGER = /(?:^|[\s,:[-])\d{16,}(?![\d.eE])/;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?/y;
const NUMERAL = /^(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?|NaN|-?Infinity)$/;
const INTEGER = /^-?\d+$/;
// CPython refuses longer integers, too (sys.int_info.default_max_str_digits): reading them takes quadratic time.
const MAX_INTEGER_DIGITS = 4300;

const QUOTE = 0x22;
const COMMA = 0x2c;
const MINUS = 0x2d;
const COLON = 0x3a;
const OPEN_BRACKET = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

const WORDS: readonly (readonly [string, unknown])[] = [
  ['true', true],
  ['false', false],
  ['null', null],
  ['NaN', Number.NaN],
  ['Infinity', Number.POSITIVE_INFINITY],
  ['-Infinity', Number.NEGATIVE_INFINITY],
];

type Container = unknown[] | Map<string, unknown> | Record<string, unknown>;

/** The parser for texts that `JSON.parse` reads wrongly. It has its own stack, so that nesting costs memory and not the call stack. */
class Reader {
  readonly #text: string;
  readonly #exact: boolean;
  readonly #maxDepth: number;
  #at = 0;

  constructor(text: string, exact: boolean, maxDepth: number) {
    this.#text = text;
    this.#exact = exact;
    this.#maxDepth = maxDepth;
  }

  read(): unknown {
    const outer: { readonly container: Container | undefined; readonly key: string }[] = [];
    let container: Container | undefined;
    let key = '';
    this.#space();
    for (;;) {
      let value: unknown;
      const code = this.#text.charCodeAt(this.#at);
      if (code === OPEN_BRACE || code === OPEN_BRACKET) {
        if (outer.length >= this.#maxDepth) throw tooDeep(this.#maxDepth, this.#at);
        const opened: Container = code === OPEN_BRACKET ? [] : this.#exact ? new Map<string, unknown>() : {};
        this.#at += 1;
        this.#space();
        if (this.#text.charCodeAt(this.#at) !== code + 2) {
          outer.push({ container, key });
          container = opened;
          if (code === OPEN_BRACE) key = this.#key();
          continue;
        }
        this.#at += 1;
        value = opened;
      } else {
        value = this.#scalar(code);
      }
      // The value is complete: put it in its place, and close every container that ends here.
      for (;;) {
        this.#space();
        if (container === undefined) {
          if (this.#at < this.#text.length) this.#fail('more text after the end of the value');
          return value;
        }
        put(container, key, value);
        const next = this.#text.charCodeAt(this.#at);
        const isArray = Array.isArray(container);
        if (next === COMMA) {
          this.#at += 1;
          this.#space();
          if (!isArray) key = this.#key();
          break;
        }
        if (next !== (isArray ? CLOSE_BRACKET : CLOSE_BRACE)) this.#fail(`expected "," or "${isArray ? ']' : '}'}"`);
        this.#at += 1;
        value = container;
        ({ container, key } = outer.pop() as { container: Container | undefined; key: string });
      }
    }
  }

  #key(): string {
    if (this.#text.charCodeAt(this.#at) !== QUOTE) this.#fail('expected a key in double quotes');
    const key = this.#string();
    this.#space();
    if (this.#text.charCodeAt(this.#at) !== COLON) this.#fail('expected ":"');
    this.#at += 1;
    this.#space();
    return key;
  }

  #scalar(code: number): unknown {
    if (code === QUOTE) return this.#string();
    if (code === MINUS || (code >= 0x30 && code <= 0x39)) {
      NUMBER.lastIndex = this.#at;
      const text = NUMBER.exec(this.#text)?.[0];
      if (text !== undefined) {
        const value = this.#number(text);
        this.#at += text.length;
        return value;
      }
    }
    for (const [word, value] of WORDS) {
      if (this.#text.startsWith(word, this.#at)) {
        this.#at += word.length;
        return value;
      }
    }
    return this.#fail('expected a value');
  }

  #string(): string {
    const end = skipString(this.#text, this.#at);
    const raw = this.#text.slice(this.#at, end);
    const start = this.#at;
    try {
      const value = JSON.parse(raw) as string;
      this.#at = end;
      return value;
    } catch (error) {
      throw undecodable('not a JSON string', this.#text, start, error);
    }
  }

  #number(text: string): unknown {
    const value = Number(text);
    if (INTEGER.test(text)) {
      if (Number.isSafeInteger(value)) {
        return this.#exact && Object.is(value, -0) ? new Numeral(text) : value;
      }
      if (text.length > MAX_INTEGER_DIGITS) this.#fail(`an integer of more than ${MAX_INTEGER_DIGITS} digits`);
      return BigInt(text);
    }
    return this.#exact && (text !== String(value) || text !== numberText(value)) ? new Numeral(text) : value;
  }

  #space(): void {
    this.#at = skipSpace(this.#text, this.#at);
  }

  #fail(what: string): never {
    throw undecodable(what, this.#text, this.#at);
  }
}

function put(container: Container, key: string, value: unknown): void {
  if (Array.isArray(container)) container.push(value);
  else if (container instanceof Map) container.set(key, value);
  else if (key !== '__proto__') container[key] = value;
  else Object.defineProperty(container, key, { value, writable: true, enumerable: true, configurable: true });
}

/** Throws where containers nest too deep. A text with few containers costs two `indexOf`, a text with many costs a scan. */
export function checkDepth(text: string, maxDepth: number): void {
  if (text.length <= 2 * maxDepth) return;
  let openers = 0;
  for (const opener of ['[', '{']) {
    for (let at = text.indexOf(opener); at !== -1 && openers <= maxDepth; at = text.indexOf(opener, at + 1))
      openers += 1;
  }
  if (openers <= maxDepth) return;
  let depth = 0;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      at = endOfString(text, at) - 1;
      if (at < 0) return;
    } else if (code === OPEN_BRACKET || code === OPEN_BRACE) {
      depth += 1;
      if (depth > maxDepth) throw tooDeep(maxDepth, at);
    } else if (code === CLOSE_BRACKET || code === CLOSE_BRACE) {
      depth -= 1;
    }
  }
}

class Writer {
  readonly #replace: ((value: object) => unknown) | undefined;
  readonly #root: string;
  /** The objects being written, and the key of each in the object before it; only the first `#depth` entries count. */
  readonly #open: object[] = [];
  readonly #keys: (string | number)[] = [];
  #depth = 0;

  constructor(options: StringifyOptions) {
    this.#replace = options.replace;
    this.#root = options.at ?? 'value';
  }

  write(value: unknown, key: string | number): string {
    switch (typeof value) {
      case 'string':
        return quote(value);
      case 'number':
        return numberText(value);
      case 'boolean':
        return value ? 'true' : 'false';
      case 'undefined':
        return 'null';
      case 'bigint':
        return value.toString();
      case 'object':
        return value === null ? 'null' : this.#object(value, key);
      case 'function':
      case 'symbol':
        throw this.#unencodable(value, key);
    }
  }

  #object(value: object, key: string | number): string {
    if (value instanceof Numeral) {
      if (NUMERAL.test(value.text)) return value.text;
      throw new WireError(
        'json',
        'unencodable',
        `cannot write ${this.#path(key)}: ${quote(value.text)} is not a number`,
      );
    }
    const depth = this.#depth;
    for (let outer = 0; outer < depth; outer += 1) {
      if (this.#open[outer] === value) {
        throw new WireError('json', 'unencodable', `cannot write ${this.#path(key)}: it contains itself`);
      }
    }
    if (depth >= MAX_DEPTH) {
      throw new WireError('json', 'too-deep', `cannot write a value nested more than ${MAX_DEPTH} levels deep`);
    }
    this.#open[depth] = value;
    this.#keys[depth] = key;
    this.#depth = depth + 1;
    const text = Array.isArray(value) ? this.#array(value) : this.#members(value, key);
    this.#depth = depth;
    return text;
  }

  #members(value: object, key: string | number): string {
    if (value instanceof Map) return this.#map(value);
    if (isPlain(value)) return this.#plain(value as Record<string, unknown>);
    const other = this.#replace?.(value);
    if (other === undefined || other === value) {
      this.#depth -= 1;
      throw this.#unencodable(value, key);
    }
    // Written at the same path, but a level deeper, so that endless replacing ends with an error.
    return this.write(other, '');
  }

  #array(value: readonly unknown[]): string {
    if (value.length === 0) return '[]';
    let text = `[${this.write(value[0], 0)}`;
    for (let index = 1; index < value.length; index += 1) text += `, ${this.write(value[index], index)}`;
    return `${text}]`;
  }

  #map(value: ReadonlyMap<unknown, unknown>): string {
    let text = '';
    for (const [key, item] of value) {
      const name = this.#mapKey(key);
      if (item !== undefined) text += `${text === '' ? '' : ', '}${quote(name)}: ${this.write(item, name)}`;
    }
    return `{${text}}`;
  }

  #mapKey(key: unknown): string {
    if (typeof key === 'string') return key;
    if (typeof key === 'number') return numberText(key);
    if (typeof key === 'bigint' || typeof key === 'boolean' || key === null) return String(key);
    if (key instanceof Numeral) return key.text;
    throw new WireError(
      'json',
      'unencodable',
      `cannot write a key of ${this.#path('')}: ${typeName(key)} cannot be a key; use a string or a number`,
    );
  }

  #plain(value: Record<string, unknown>): string {
    let text = '';
    for (const key of Object.keys(value)) {
      const item = value[key];
      if (item !== undefined) text += `${text === '' ? '' : ', '}${quote(key)}: ${this.write(item, key)}`;
    }
    return `{${text}}`;
  }

  #unencodable(value: unknown, key: string | number): WireError {
    return new WireError(
      'json',
      'unencodable',
      `cannot write ${this.#path(key)}: ${typeName(value)} has no form in JSON. Pass plain data instead`,
    );
  }

  #path(last: string | number): string {
    return pathText(this.#root, [...this.#keys.slice(0, this.#depth), last]);
  }
}

const PLAIN_TEXT = /^[ !#-[\]-~]*$/;
/** CPython escapes DEL as well. */
const NOT_PRINTABLE_ASCII = /[\u007f-\uffff]/g;

function quote(text: string): string {
  if (PLAIN_TEXT.test(text)) return `"${text}"`;
  return JSON.stringify(text).replace(NOT_PRINTABLE_ASCII, escapeUnit);
}

function escapeUnit(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

function numberText(value: number): string {
  if ((value | 0) === value && value !== 0) return `${value}`;
  return Number.isSafeInteger(value) && !Object.is(value, -0) ? String(value) : floatText(value);
}

interface Member {
  readonly keyStart: number;
  readonly valueStart: number;
  readonly valueEnd: number;
  /** Where the previous value ends, and where the next key starts; undefined at the ends of the object. */
  readonly previousEnd: number | undefined;
  readonly nextStart: number | undefined;
}

function change(text: string, path: readonly string[], value: string | undefined, space: string): string {
  const key = path.at(-1);
  if (key === undefined) throw new WireError('json', 'no-member', 'an edit needs a path of at least one key');
  let start = skipSpace(text, 0);
  for (const [index, parent] of path.slice(0, -1).entries()) {
    const found = text.charCodeAt(start) === OPEN_BRACE ? findMembers(text, start, parent).matches.at(-1) : undefined;
    if (found === undefined) throw noParent(path.slice(0, index + 1), start);
    start = found.valueStart;
  }
  if (text.charCodeAt(start) !== OPEN_BRACE) throw noParent(path.slice(0, -1), start);
  const { matches, lastEnd } = findMembers(text, start, key);
  if (value === undefined) return removeMembers(text, start, key);
  const found = matches.at(-1);
  if (found !== undefined) return text.slice(0, found.valueStart) + value + text.slice(found.valueEnd);
  return lastEnd === undefined
    ? `${text.slice(0, start + 1)}${quote(key)}:${space}${value}${text.slice(start + 1)}`
    : `${text.slice(0, lastEnd)},${space}${quote(key)}:${space}${value}${text.slice(lastEnd)}`;
}

/** Removes every member with that key: if the first of two equal keys stayed, it would count again. */
function removeMembers(text: string, objectStart: number, key: string): string {
  let left = text;
  for (;;) {
    const found = findMembers(left, objectStart, key).matches.at(-1);
    if (found === undefined) return left;
    if (found.previousEnd !== undefined) left = left.slice(0, found.previousEnd) + left.slice(found.valueEnd);
    else left = left.slice(0, found.keyStart) + left.slice(found.nextStart ?? found.valueEnd);
  }
}

/** The members of that key of the object that starts at `start`, and where the object's last value ends. */
function findMembers(
  text: string,
  start: number,
  key: string,
): { readonly matches: Member[]; readonly lastEnd: number | undefined } {
  const matches: Member[] = [];
  let previousEnd: number | undefined;
  let at = skipSpace(text, start + 1);
  if (text.charCodeAt(at) === CLOSE_BRACE) return { matches, lastEnd: undefined };
  for (;;) {
    const keyStart = at;
    if (text.charCodeAt(at) !== QUOTE) throw undecodable('expected a key in double quotes', text, at);
    at = skipString(text, at);
    const raw = text.slice(keyStart + 1, at - 1);
    const matched = raw === key ? !raw.includes('\\') : raw.includes('\\') && unquote(text, keyStart, at) === key;
    at = skipSpace(text, at);
    if (text.charCodeAt(at) !== COLON) throw undecodable('expected ":"', text, at);
    const valueStart = skipSpace(text, at + 1);
    const valueEnd = skipValue(text, valueStart);
    at = skipSpace(text, valueEnd);
    const last = text.charCodeAt(at) !== COMMA;
    if (last && text.charCodeAt(at) !== CLOSE_BRACE) throw undecodable('expected "," or "}"', text, at);
    if (!last) at = skipSpace(text, at + 1);
    if (matched) matches.push({ keyStart, valueStart, valueEnd, previousEnd, nextStart: last ? undefined : at });
    if (last) return { matches, lastEnd: valueEnd };
    previousEnd = valueEnd;
  }
}

function unquote(text: string, start: number, end: number): string {
  try {
    return JSON.parse(text.slice(start, end)) as string;
  } catch (error) {
    throw undecodable('not a JSON string', text, start, error);
  }
}

/** The position after the value that starts at `start`. Reads only brackets and strings. */
function skipValue(text: string, start: number): number {
  let depth = 0;
  let at = start;
  for (; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      at = skipString(text, at) - 1;
      if (depth === 0) return at + 1;
    } else if (code === OPEN_BRACE || code === OPEN_BRACKET) {
      depth += 1;
    } else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) {
      if (depth === 0) break;
      depth -= 1;
      if (depth === 0) return at + 1;
    } else if (depth === 0 && (code === COMMA || isSpace(code))) {
      break;
    }
  }
  if (depth > 0 || at === start) throw undecodable('expected a value', text, at);
  return at;
}

function skipString(text: string, start: number): number {
  const end = endOfString(text, start);
  if (end === -1) throw undecodable('a string without an end', text, start);
  return end;
}

/** The position after the closing quote of the string that starts at `start`, or -1. */
function endOfString(text: string, start: number): number {
  for (let quoteAt = text.indexOf('"', start + 1); quoteAt !== -1; quoteAt = text.indexOf('"', quoteAt + 1)) {
    let slashes = 0;
    while (text.charCodeAt(quoteAt - 1 - slashes) === BACKSLASH) slashes += 1;
    if (slashes % 2 === 0) return quoteAt + 1;
  }
  return -1;
}

function skipSpace(text: string, start: number): number {
  let at = start;
  while (isSpace(text.charCodeAt(at))) at += 1;
  return at;
}

function isSpace(code: number): boolean {
  return code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09;
}

function noParent(path: readonly string[], offset: number): WireError {
  const where = path.length === 0 ? 'the text' : `"${path.join('.')}"`;
  return new WireError('json', 'no-member', `cannot edit: ${where} is not an object`, { offset });
}

function tooDeep(maxDepth: number, offset: number): WireError {
  return new WireError('json', 'too-deep', `nested more than ${maxDepth} levels deep at offset ${offset}`, { offset });
}

function undecodable(what: string, text: string, offset: number, cause?: unknown): WireError {
  const excerpt = text.slice(Math.max(0, offset - 20), offset + 20);
  const where =
    offset < text.length ? `at offset ${offset}, near ${JSON.stringify(excerpt)}` : 'at the end of the text';
  return new WireError('json', 'undecodable', `not JSON: ${what} ${where}`, { offset, cause });
}
