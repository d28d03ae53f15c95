import { WireError } from '../errors.ts';
import { type Change, checkDepth, edit as editJson, parse as parseJson } from './json.ts';
import { isPlain, pathText, typeName } from './plain.ts';
import { Numeral } from './values.ts';

/**
 * JSON as Ruby's json gem writes and reads it: no spaces, raw UTF-8, `"`, `\` and control characters escaped, no NaN, at most a hundred nested
 * containers. Ruby finds a member of a set by its text. If Ruby would write a job in another form than the one stored, it would not find the job. So
 * this writes exactly as Ruby does.
 *
 * Mirrors json/ext/generator (2.x) and Float#to_s.
 */

/** `max_nesting` of Ruby's parser and generator: a container deeper than this raises NestingError there. */
export const MAX_NESTING: number = 100;

const DIGIT_RUN = /\d{16}/;

/** Parses JSON to plain values, as Ruby's `JSON.parse` does; integers beyond ±(2^53-1) are BigInt. A `__proto__` key is data. Throws WireError. */
export function parse(text: string): unknown {
  if (DIGIT_RUN.test(text)) return parseJson(text, { maxDepth: MAX_NESTING });
  checkDepth(text, MAX_NESTING);
  try {
    return JSON.parse(text);
  } catch (cause) {
    // This parser reports the position of the error. NaN, which Python reads, is not JSON for Ruby.
    parseJson(text, { maxDepth: MAX_NESTING });
    throw new WireError('json', 'undecodable', `not JSON: ${(cause as Error).message}`, { cause });
  }
}

export interface StringifyOptions {
  /** The name of the outermost value in error messages: `args` makes `args[1].when`. @default 'value' */
  readonly at?: string;
  /** Deepest nesting of containers. @default 100 */
  readonly maxDepth?: number;
}

/**
 * Writes a value as Ruby does: strings, numbers, booleans, null, arrays, plain objects, Maps with string keys, BigInts and Numerals. Members that are
 * undefined are left out; undefined elsewhere is null. Throws WireError `unencodable`, with the path, for everything else.
 */
export function stringify(value: unknown, options: StringifyOptions = {}): string {
  const root = options.at ?? 'value';
  const keys: (string | number)[] = [];
  // JSON.stringify is fastest, and correct for values that this walk finds simple.
  const simple = isSimple(value, options.maxDepth ?? MAX_NESTING, root, keys, []);
  return simple ? wellFormed(JSON.stringify(value) ?? 'null', root) : wellFormed(write(value), root);
}

/** Replaces, adds or removes members, as `edit` of json.ts, in Ruby's spacing. */
export function edit(text: string, changes: readonly Change[]): string {
  return editJson(text, changes, { compact: true });
}

/** A double as Ruby's Float#to_s: `1.0e+20`, `1.0e-05`, `0.0001`, `100.0`. Throws WireError for NaN and the infinities. */
export function floatText(value: number): string {
  if (!Number.isFinite(value)) throw new WireError('json', 'unencodable', `${value} has no form in JSON`);
  const size = Math.abs(value);
  // A whole number gets an exponent sooner than a number with a fraction.
  if (size !== 0 && (size >= (Number.isInteger(value) ? 1e15 : 1e16) || size < 1e-4)) {
    const [mantissa, exponent] = value.toExponential().split('e') as [string, string];
    const digits = exponent.slice(1);
    const whole = mantissa.includes('.') ? mantissa : `${mantissa}.0`;
    return `${whole}e${exponent[0]}${digits.length < 2 ? `0${digits}` : digits}`;
  }
  if (Number.isInteger(value)) return `${Object.is(value, -0) ? '-0' : value}.0`;
  return String(value);
}

/** Whether JSON.stringify writes the value as Ruby would. Throws for a value that has no form in JSON. */
function isSimple(value: unknown, left: number, root: string, keys: (string | number)[], open: object[]): boolean {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return true;
    case 'number': {
      if ((value | 0) === value) return value !== 0 || !Object.is(value, -0);
      if (!Number.isFinite(value)) throw unencodable(`${value} has no form in JSON`, root, keys);
      if (Number.isSafeInteger(value)) return true;
      const size = Math.abs(value);
      return size >= 1e-4 && size < 1e16 && !Number.isInteger(value);
    }
    case 'bigint':
      return false;
    case 'object':
      return value === null || isSimpleObject(value, left, root, keys, open);
    case 'undefined':
      return true;
    case 'function':
    case 'symbol':
      throw unencodable(`${typeName(value)} has no form in JSON. Pass plain data instead`, root, keys);
  }
}

const NUMERAL = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?$/;

function isSimpleObject(value: object, left: number, root: string, keys: (string | number)[], open: object[]): boolean {
  if (value instanceof Numeral) {
    if (NUMERAL.test(value.text)) return false;
    throw unencodable(`${JSON.stringify(value.text)} is not a number`, root, keys);
  }
  if (open.includes(value)) throw unencodable('it contains itself', root, keys);
  if (left <= 0) throw unencodable('nested too deep: Ruby reads a hundred levels', root, []);
  open.push(value);
  let simple = true;
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index += 1) {
      keys.push(index);
      if (!isSimple(value[index], left - 1, root, keys, open)) simple = false;
      keys.pop();
    }
  } else if (value instanceof Map) {
    simple = false;
    for (const [key, item] of value as ReadonlyMap<unknown, unknown>) {
      if (typeof key !== 'string') throw unencodable(`${typeName(key)} cannot be a key; use a string`, root, keys);
      if (item === undefined) continue;
      keys.push(key);
      isSimple(item, left - 1, root, keys, open);
      keys.pop();
    }
  } else if (isPlain(value)) {
    for (const key of Object.keys(value)) {
      const item = (value as Record<string, unknown>)[key];
      if (item === undefined) continue;
      keys.push(key);
      if (!isSimple(item, left - 1, root, keys, open)) simple = false;
      keys.pop();
    }
  } else {
    throw unencodable(`${typeName(value)} has no form in JSON. Pass plain data instead`, root, keys);
  }
  open.pop();
  return simple;
}

/** Writes a value that isSimple has checked: nothing here can fail. */
function write(value: unknown): string {
  if (typeof value === 'number') return numberText(value);
  if (typeof value === 'bigint') return value.toString();
  if (value === undefined) return 'null';
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  if (value instanceof Numeral) return value.text;
  if (Array.isArray(value)) return `[${value.map(write).join(',')}]`;
  const entries = value instanceof Map ? [...(value as ReadonlyMap<string, unknown>)] : Object.entries(value);
  const members = entries.filter(([, item]) => item !== undefined);
  return `{${members.map(([key, item]) => `${JSON.stringify(key)}:${write(item)}`).join(',')}}`;
}

function numberText(value: number): string {
  return Number.isSafeInteger(value) && !Object.is(value, -0) ? String(value) : floatText(value);
}

const LONE_SURROGATE = /(?<!\\)(?:\\\\)*\\ud[89a-f]/;

/** Throws for half a surrogate pair: JSON.stringify escapes it, and Ruby reads that as a string it cannot write again. */
function wellFormed(text: string, root: string): string {
  if (text.includes('\\ud') && LONE_SURROGATE.test(text))
    throw new WireError(
      'json',
      'unencodable',
      `cannot write ${root}: a string holds half a surrogate pair, which is no UTF-8`,
    );
  return text;
}

function unencodable(why: string, root: string, keys: readonly (string | number)[]): WireError {
  return new WireError('json', 'unencodable', `cannot write ${pathText(root, keys)}: ${why}`);
}
