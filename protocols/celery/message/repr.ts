import { Buffer, isUtf8 } from 'node:buffer';
import { Tuple } from '../../formats/pickle/index.ts';
import { reprLeaf, reprNumber } from '../../formats/python-repr.ts';

/**
 * Values as Python shows them, cut short: for logs, events and the headers `argsrepr` and `kwargsrepr`. For eyes only; strings
 * keep their line ends, and of quotes only `'` is escaped. Never throws.
 * Mirrors celery/utils/saferepr.py saferepr (5.6), with the 1024 characters of celery/app/amqp.py `argsrepr_maxsize`.
 *
 *     1 1.5 True None 'it\'s' [1, 2] (1,) {'k': 'v'} [[[...]]] ['aaa...', ...]
 */
export function repr(value: unknown): string {
  return printed((printer) => printer.print(value));
}

/** Positional arguments: a tuple. */
export function reprArgs(args: readonly unknown[]): string {
  return args.length === 0 ? '()' : printed((printer) => printer.sequence(args, '(', args.length === 1 ? ',)' : ')'));
}

/** Keyword arguments: a dict. */
export function reprKwargs(kwargs: Readonly<Record<string, unknown>> | ReadonlyMap<string, unknown>): string {
  return printed((printer) => printer.print(kwargs));
}

function printed(print: (printer: Printer) => void): string {
  try {
    const printer = new Printer(MAX_LENGTH);
    print(printer);
    return printer.text;
  } catch {
    // A getter or a proxy that throws.
    return '<unrepresentable>';
  }
}

const MAX_LENGTH = 1024;
const MAX_LEVELS = 3;

class Printer {
  text = '';
  /** How many characters there is room for. A token may exceed it; the next one is then replaced by `, ...`. */
  #room: number;
  #stopped = false;
  readonly #open: object[] = [];

  constructor(room: number) {
    this.#room = room;
  }

  print(value: unknown): void {
    switch (typeof value) {
      case 'string':
        return this.#token(this.#quoted(value));
      case 'number':
        return this.#token(this.#cut(reprNumber(value)));
      case 'boolean':
        return this.#token(value ? 'True' : 'False');
      case 'bigint':
        return this.#token(this.#cut(value.toString()));
      case 'undefined':
        return this.#token('None');
      case 'object':
        return value === null ? this.#token('None') : this.#object(value);
      case 'function':
      case 'symbol':
        return this.#token(
          this.#cut(`<${typeof value} ${typeof value === 'symbol' ? (value.description ?? '') : value.name}>`),
        );
    }
  }

  sequence(items: Iterable<unknown>, start: string, end: string): void {
    let first = true;
    if (!this.#enter(items, start, end)) return;
    for (const item of items) {
      if (this.#stopped) break;
      if (!first) this.#token(', ');
      first = false;
      if (!this.#stopped) this.print(item);
    }
    this.#leave(end);
  }

  #mapping(owner: object, keys: Iterable<unknown>, valueOf: (key: unknown) => unknown): void {
    let first = true;
    if (!this.#enter(owner, '{', '}')) return;
    for (const key of keys) {
      if (this.#stopped) break;
      if (!first) this.#token(', ');
      first = false;
      if (!this.#stopped) this.#key(key);
      if (!this.#stopped) this.#token(': ');
      if (!this.#stopped) this.print(valueOf(key));
    }
    this.#leave('}');
  }

  #object(value: object): void {
    if (value instanceof Tuple) return this.sequence(value, '(', value.length === 1 ? ',)' : ')');
    if (Array.isArray(value)) return this.sequence(value, '[', ']');
    if (value instanceof Map) return this.#mapping(value, value.keys(), (key) => value.get(key) as unknown);
    if (value instanceof Set) return value.size === 0 ? this.#token('set()') : this.sequence(value, '{', '}');
    if (value instanceof Uint8Array) return this.#token(this.#bytes(value));
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype !== null && prototype !== Object.prototype) return this.#token(this.#cut(otherRepr(value)));
    const members = value as Readonly<Record<string, unknown>>;
    const keys = Object.keys(members).filter((key) => members[key] !== undefined);
    this.#mapping(value, keys, (key) => members[key as string]);
  }

  #enter(container: object, start: string, end: string): boolean {
    if (this.#open.length >= MAX_LEVELS) {
      this.#token(this.#cut(`${start}...${end}`));
      return false;
    }
    if (this.#open.includes(container)) {
      this.#token(`<Recursion on ${start === '{' ? 'dict' : 'list'}>`);
      return false;
    }
    this.#open.push(container);
    this.#token(start);
    return true;
  }

  #leave(end: string): void {
    this.#open.pop();
    // What stays open after the stop is closed, however long that gets.
    if (this.#stopped) this.text += end;
    else this.#token(end);
  }

  #key(key: unknown): void {
    if (typeof key === 'string') return this.#token(this.#quoted(key));
    const printer = new Printer(this.#room);
    printer.print(key);
    this.#token(printer.text);
  }

  #token(text: string): void {
    if (this.#room <= 0) {
      this.text += ', ...';
      this.#stopped = true;
      return;
    }
    this.text += text;
    this.#room -= text.length;
  }

  #quoted(text: string): string {
    const shown = this.#cut(text);
    return shown.includes("'") ? `'${shown.replaceAll("'", "\\'")}'` : `'${shown}'`;
  }

  #bytes(value: Uint8Array): string {
    const tooLong = this.#room > 0 && value.length > this.#room;
    const bytes = Buffer.from(value.buffer, value.byteOffset, tooLong ? this.#room : value.length);
    return `b'${bytes.toString(isUtf8(bytes) ? 'utf8' : 'hex')}${tooLong ? '...' : ''}'`;
  }

  /** celery/utils/text.py truncate: cut at the last space before the end of the room. */
  #cut(text: string): string {
    if (text.length < this.#room || this.#room <= 0) return text;
    const head = text.slice(0, this.#room).replace(/[\uD800-\uDBFF]$/, '');
    const space = head.lastIndexOf(' ');
    return `${space === -1 ? head : head.slice(0, space)}...`;
  }
}

function otherRepr(value: object): string {
  try {
    const leaf = reprLeaf(value);
    if (leaf !== undefined) return leaf;
    const name = (value.constructor as { readonly name?: unknown } | undefined)?.name;
    const shown = typeof name === 'string' && name !== '' ? name : 'object';
    return value instanceof Error ? `${shown}(${repr(value.message)})` : `<${shown}>`;
  } catch {
    return '<unrepresentable>';
  }
}
