import { Buffer } from 'node:buffer';
import { WireError } from '../errors.ts';
import { Tuple } from './pickle/index.ts';
import { MAX_DEPTH } from './plain.ts';
import { Numeral } from './values.ts';

/**
 * Parses a value in Python source syntax, as `ast.literal_eval` reads it. Nothing is evaluated.
 *
 *     value  = "None" | "True" | "False" | ["-" | "+"] number | 1*string | tuple | list | set | dict
 *     string = [prefix] quoted          prefix b, r, u and br; ' or ", also three of them
 *     tuple  = "(" [ value "," ... ] ")"       (1) is 1, (1,) is a tuple
 *
 * Complex numbers and f-strings are refused. Throws WireError `undecodable` or `too-deep`.
 */
export function parseLiteral(text: string): unknown {
  return new Reader(text).read();
}

const NUMBER =
  /(?:0[xX][\da-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|(?:\d[\d_]*)?\.?\d[\d_]*\.?(?:[eE][-+]?\d[\d_]*)?)(?![\w.])/y;
const STRING = /([bBrRuU]{0,2})('''|"""|'|")/y;
const NAME = /[A-Za-z_]\w*/y;
const SPACE = /(?:\s|#[^\n]*)*/y;

class Reader {
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
  }

  read(): unknown {
    this.#space();
    const value = this.#value();
    if (this.#at < this.#text.length) throw this.#wrong('more than one value');
    return value;
  }

  #value(): unknown {
    if (++this.#depth > MAX_DEPTH) throw new WireError('python', 'too-deep', `more than ${MAX_DEPTH} levels`);
    const value = this.#one();
    this.#depth--;
    this.#space();
    return value;
  }

  #one(): unknown {
    const next = this.#text[this.#at] ?? '';
    switch (next) {
      case '(':
        return this.#tuple();
      case '[':
        return this.#items(']');
      case '{':
        return this.#braces();
      case '-':
      case '+':
        this.#at++;
        this.#space();
        return this.#number(next === '-');
    }
    const name = this.#match(NAME, false);
    const quote = name === undefined || name.length > 2 ? '' : (this.#text[this.#at + name.length] ?? '');
    if (next === "'" || next === '"' || quote === "'" || quote === '"') return this.#strings();
    switch (name) {
      case undefined:
        return this.#number(false);
      case 'None':
        this.#at += name.length;
        return null;
      case 'True':
      case 'False':
        this.#at += name.length;
        return name === 'True';
      default:
        throw this.#wrong(`the name ${name.slice(0, 40)}, and only values can be read`);
    }
  }

  #number(negative: boolean): unknown {
    const digits = this.#match(NUMBER);
    if (digits === undefined) throw this.#wrong('no value');
    const plain = digits.replaceAll('_', '');
    if (/^0\d+$/.test(plain) && !/^0+$/.test(plain)) throw this.#wrong('a number that begins with 0');
    if (/^(?:0[xXoObB]|\d+$)/.test(plain)) {
      if (plain.length > 4300) throw this.#wrong('an integer of more than 4300 digits');
      const whole = BigInt(plain) * (negative ? -1n : 1n);
      return Number.isSafeInteger(Number(whole)) ? Number(whole) : whole;
    }
    // In JSON's form, so that it can be written as JSON: 1. and .5 are not.
    const float = Number(plain) * (negative ? -1 : 1);
    if (!Number.isFinite(float)) return float;
    return Number.isInteger(float) && Math.abs(float) < 1e16
      ? new Numeral(`${Object.is(float, -0) ? '-0' : float}.0`)
      : float;
  }

  #strings(): unknown {
    let texts = '';
    let parts: Buffer[] | undefined;
    let first = true;
    for (;;) {
      STRING.lastIndex = this.#at;
      const [all, prefix = '', quote = ''] = STRING.exec(this.#text) ?? [];
      if (all === undefined) break;
      const kinds = prefix.toLowerCase();
      if (!['', 'b', 'r', 'u', 'br', 'rb'].includes(kinds)) throw this.#wrong(`the prefix ${prefix}`);
      const bytes = kinds.includes('b');
      if (!first && bytes !== (parts !== undefined)) throw this.#wrong('bytes and text in one');
      first = false;
      this.#at += all.length;
      const body = this.#body(quote);
      const read = kinds.includes('r') ? body : this.#unescape(body, bytes);
      if (bytes) {
        if (/[^\u0000-\u00ff]/.test(read) || /[^\u0000-\u007f]/.test(body))
          throw this.#wrong('bytes that are not ASCII');
        (parts ??= []).push(Buffer.from(read, 'latin1'));
      } else texts += read;
      this.#space();
    }
    return parts === undefined ? texts : Buffer.concat(parts);
  }

  #body(quote: string): string {
    const start = this.#at;
    for (;;) {
      const next = this.#text[this.#at];
      if (next === undefined || (next === '\n' && quote.length === 1)) throw this.#wrong('a text that does not end');
      if (next === '\\') this.#at += 2;
      else if (this.#text.startsWith(quote, this.#at)) {
        const body = this.#text.slice(start, this.#at);
        this.#at += quote.length;
        return body;
      } else this.#at++;
    }
  }

  #unescape(body: string, bytes: boolean): string {
    const escape = bytes
      ? /\\(?:(\n)|([0-7]{1,3})|x([\da-fA-F]{2})|([^]))/g
      : /\\(?:(\n)|([0-7]{1,3})|x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|([^]))/g;
    return body.replace(escape, (all: string, ...groups: (string | undefined)[]) => {
      const [line, octal, two, four, eight, one] = bytes
        ? [groups[0], groups[1], groups[2], undefined, undefined, groups[3]]
        : groups;
      if (line !== undefined) return '';
      if (octal !== undefined) return String.fromCharCode(Number.parseInt(octal, 8));
      const hex = two ?? four ?? eight;
      if (hex !== undefined) {
        const code = Number.parseInt(hex, 16);
        if (code > 0x10ffff) throw this.#wrong(`the escape ${all}`);
        return String.fromCodePoint(code);
      }
      const simple = SIMPLE[one as string];
      if (simple !== undefined) return simple;
      if (one === 'x' || (!bytes && (one === 'u' || one === 'U' || one === 'N')))
        throw this.#wrong(`the escape ${all}`);
      return all;
    });
  }

  #tuple(): unknown {
    const comma = { seen: false };
    const items = this.#items(')', comma);
    return items.length === 1 && !comma.seen ? items[0] : Tuple.from(items);
  }

  #items(end: string, comma: { seen: boolean } = { seen: false }): unknown[] {
    const items: unknown[] = [];
    this.#at++;
    this.#space();
    while (this.#text[this.#at] !== end) {
      items.push(this.#value());
      if (this.#text[this.#at] !== ',') break;
      comma.seen = true;
      this.#at++;
      this.#space();
    }
    this.#expect(end);
    return items;
  }

  #braces(): unknown {
    this.#at++;
    this.#space();
    const entries: [unknown, unknown][] = [];
    const items = new Set<unknown>();
    while (this.#text[this.#at] !== '}') {
      const key = this.#value();
      if (this.#text[this.#at] === ':' && items.size === 0) {
        this.#at++;
        this.#space();
        entries.push([key, this.#value()]);
      } else if (entries.length === 0) items.add(key);
      else throw this.#wrong('a dict with a value alone');
      if (this.#text[this.#at] !== ',') break;
      this.#at++;
      this.#space();
    }
    this.#expect('}');
    if (items.size > 0) return items;
    return entries.every(([key]) => typeof key === 'string') ? Object.fromEntries(entries) : new Map(entries);
  }

  #expect(end: string): void {
    if (this.#text[this.#at] !== end) throw this.#wrong(`no ${end}`);
    this.#at++;
  }

  #match(pattern: RegExp, take = true): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (take && found !== undefined) this.#at += found.length;
    return found;
  }

  #space(): void {
    this.#match(SPACE);
  }

  #wrong(what: string): WireError {
    return new WireError('python', 'undecodable', `no literal of Python's: ${what} at character ${this.#at + 1}`, {
      offset: this.#at,
    });
  }
}

const SIMPLE: Readonly<Record<string, string>> = {
  '\\': '\\',
  "'": "'",
  '"': '"',
  a: '\u0007',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
};
