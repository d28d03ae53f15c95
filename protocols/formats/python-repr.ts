import { Buffer } from 'node:buffer';
import {
  ByteArray,
  FrozenSet,
  PyExtension,
  PyGlobal,
  PyObject,
  TimeDelta,
  Tuple,
  ZonedDateTime,
} from './pickle/index.ts';
import { DateTime, Decimal, floatText, isoText, Numeral, PlainDate, PlainTime, Uuid } from './values.ts';

/**
 * Shows values as Python's `repr` does. For display only: a value without a form in Python is shown in a readable form. Never throws.
 *
 *     1 1.5 True None 'it' "it's" b'\x00' [1, 2] (1,) {'k': 'v'} {1, 2} datetime.date(2026, 1, 2) Decimal('1.50')
 *
 * A value that contains itself is shown as `[...]` at that place, as in Python.
 */
export function pythonRepr(value: unknown, maxLength: number = Number.POSITIVE_INFINITY): string {
  // A character outside the basic plane has length 1 in Python and 2 in JavaScript.
  const printer = new Printer(maxLength * 2);
  try {
    printer.print(value);
  } catch {
    // A getter or a proxy that throws.
    printer.text += '<unrepresentable>';
  }
  return cut(printer.text, maxLength);
}

/** Its first `maxLength` characters and `...` where it has more. */
function cut(text: string, maxLength: number): string {
  if (text.length <= maxLength) return text;
  let end = 0;
  for (let seen = 0; seen < maxLength && end < text.length; seen++)
    end += (text.codePointAt(end) as number) > 0xffff ? 2 : 1;
  return end < text.length ? `${text.slice(0, end)}...` : text;
}

/** A whole text in quotes: in double quotes where that saves escaping; characters that do not print are escaped. */
export function reprText(text: string): string {
  const quote = quoteFor(text.includes("'"), text.includes('"'));
  return quote + escapeText(text, quote) + quote;
}

/** A JavaScript number: an int where it is whole, unless `isFloat`. */
export function reprNumber(value: number, isFloat = false): string {
  if (!isFloat && Number.isSafeInteger(value) && !Object.is(value, -0)) return `${value}`;
  if (Number.isFinite(value)) return floatText(value);
  return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
}

/** A value that is not a container: dates, decimals, classes and objects of Python. Undefined for other values. */
export function reprLeaf(value: object): string | undefined {
  if (value instanceof ZonedDateTime) return zonedRepr(value);
  if (value instanceof Date) return dateTimeRepr(value instanceof DateTime ? value.iso : isoText(value));
  if (value instanceof Numeral) return INTEGER.test(value.text) ? value.text : reprNumber(Number(value.text), true);
  if (value instanceof Decimal) return `Decimal('${value.text}')`;
  if (value instanceof Uuid) return `UUID('${value.toString()}')`;
  if (value instanceof PlainDate) return `datetime.date(${numbers(value.iso.split('-'))})`;
  if (value instanceof PlainTime) return `datetime.time(${timeNumbers(value.iso)})`;
  if (value instanceof TimeDelta) return timeDeltaRepr(value);
  if (value instanceof PyGlobal || value instanceof PyExtension) return `<${value.toString()}>`;
  if (value instanceof PyObject) return `<${className(value)}>`;
  return undefined;
}

function className({ className: name, callable }: PyObject): string {
  return name ?? (callable instanceof PyExtension ? callable.toString() : 'object');
}

class Printer {
  text = '';
  readonly #most: number;
  readonly #open: object[] = [];

  constructor(most: number) {
    this.#most = most;
  }

  print(value: unknown): void {
    switch (typeof value) {
      case 'string':
        return this.#string(value);
      case 'number':
        return this.#add(reprNumber(value));
      case 'boolean':
        return this.#add(value ? 'True' : 'False');
      case 'bigint':
        return this.#add(value.toString());
      case 'undefined':
        return this.#add('None');
      case 'object':
        return value === null ? this.#add('None') : this.#object(value);
      case 'function':
        return this.#add(`<function ${value.name}>`);
      case 'symbol':
        return this.#add(`<symbol ${value.description ?? ''}>`);
    }
  }

  get #full(): boolean {
    return this.text.length > this.#most;
  }

  #add(text: string): void {
    this.text += text;
  }

  #string(text: string): void {
    const quote = quoteFor(text.includes("'"), text.includes('"'));
    // Text beyond the limit is not read.
    this.#add(quote + escapeText(text.slice(0, this.#most + 2), quote) + quote);
  }

  #object(value: object): void {
    if (value instanceof Tuple) return this.#items(value, '(', value.length === 1 ? ',)' : ')');
    if (Array.isArray(value)) return this.#items(value, '[', ']');
    if (value instanceof Map) return this.#dict(value, value.entries());
    if (value instanceof FrozenSet)
      return value.size === 0 ? this.#add('frozenset()') : this.#items(value, 'frozenset({', '})');
    if (value instanceof Set) return value.size === 0 ? this.#add('set()') : this.#items(value, '{', '}');
    if (value instanceof ByteArray) return this.#add(`bytearray(${this.#bytes(value)})`);
    if (value instanceof Uint8Array) return this.#add(this.#bytes(value));
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype === null || prototype === Object.prototype)
      return this.#dict(
        value,
        Object.entries(value).filter(([, member]) => member !== undefined),
      );
    const leaf = value instanceof PyObject ? undefined : reprLeaf(value);
    if (leaf !== undefined) return this.#add(leaf);
    if (value instanceof PyObject) return this.#instance(value);
    if (value instanceof Error) return this.#add(`${value.name}(${reprText(value.message)})`);
    const name = (value.constructor as { readonly name?: unknown } | undefined)?.name;
    this.#add(`<${typeof name === 'string' && name !== '' ? name : 'object'} object>`);
  }

  /** Every Python shows exceptions with their arguments. For other objects, only their class defines the form. */
  #instance(object: PyObject): void {
    const name = object.global?.name ?? 'object';
    if (object.making === 'reduce' && /(?:Error|Exception|Warning|Interrupt|Exit)$/.test(name)) {
      this.#add(name.slice(name.lastIndexOf('.') + 1));
      return this.#items(object.args, '(', ')');
    }
    this.#add(`<${className(object)} object>`);
  }

  #items(items: Iterable<unknown>, start: string, end: string): void {
    if (!this.#enter(items, `${start}...${end.replace(',', '')}`)) return;
    this.#add(start);
    let first = true;
    for (const item of items) {
      if (this.#full) break;
      if (!first) this.#add(', ');
      first = false;
      this.print(item);
    }
    this.#add(end);
    this.#open.pop();
  }

  #dict(owner: object, entries: Iterable<readonly [unknown, unknown]>): void {
    if (!this.#enter(owner, '{...}')) return;
    this.#add('{');
    let first = true;
    for (const [key, value] of entries) {
      if (this.#full) break;
      if (!first) this.#add(', ');
      first = false;
      this.print(key);
      this.#add(': ');
      this.print(value);
    }
    this.#add('}');
    this.#open.pop();
  }

  #enter(container: object, instead: string): boolean {
    if (this.#open.includes(container) || this.#open.length >= MAX_LEVELS) {
      this.#add(instead);
      return false;
    }
    this.#open.push(container);
    return true;
  }

  #bytes(value: Uint8Array): string {
    const quote = quoteFor(value.includes(0x27), value.includes(0x22));
    const shown = Buffer.from(value.buffer, value.byteOffset, Math.min(value.length, this.#most + 2)).toString(
      'latin1',
    );
    const escaped = shown.replace(/[\\'\u0000-\u001f\u007f-\u00ff]/g, (byte) => escapeOne(byte, quote));
    return `b${quote}${escaped}${quote}`;
  }
}

const MAX_LEVELS = 1000;

function quoteFor(single: boolean, double: boolean): "'" | '"' {
  return single && !double ? '"' : "'";
}

function escapeText(text: string, quote: string): string {
  return text.replace(/[\\'\p{C}\p{Zl}\p{Zp}\u00a0]|(?! )\p{Zs}/gu, (character) => escapeOne(character, quote));
}

function escapeOne(character: string, quote: string): string {
  if (character === "'") return quote === "'" ? "\\'" : "'";
  const short = SHORT_ESCAPES[character];
  if (short !== undefined) return short;
  const code = character.codePointAt(0) as number;
  if (code <= 0xff) return `\\x${code.toString(16).padStart(2, '0')}`;
  return code <= 0xffff ? `\\u${code.toString(16).padStart(4, '0')}` : `\\U${code.toString(16).padStart(8, '0')}`;
}

const SHORT_ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };

const INTEGER = /^-?\d+$/;
const ISO = /^(\d{4})-?(\d{2})-?(\d{2})(?:[T ](.*))?$/;
const TIME = /^(\d{2})(?::?(\d{2}))?(?::?(\d{2}))?(?:[.,](\d+))?\s?(Z|[+-][\d:.]+)?$/i;

function dateTimeRepr(iso: string): string {
  const [, year = '', month = '', day = '', time = '00:00'] = ISO.exec(iso) ?? [];
  return `datetime.datetime(${numbers([year, month, day])}, ${timeNumbers(time)})`;
}

function zonedRepr(value: ZonedDateTime): string {
  const plain = dateTimeRepr(value.iso);
  if (value.moved || value.fold === 0) return plain;
  const zone = plain.indexOf(', tzinfo=');
  return zone < 0 ? `${plain.slice(0, -1)}, fold=1)` : `${plain.slice(0, zone)}, fold=1${plain.slice(zone)}`;
}

function timeDeltaRepr({ days, seconds, microseconds }: TimeDelta): string {
  const parts = Object.entries({ days, seconds, microseconds }).filter(([, size]) => size !== 0);
  return `datetime.timedelta(${parts.length === 0 ? '0' : parts.map(([name, size]) => `${name}=${size}`).join(', ')})`;
}

/** Seconds and microseconds are left out where they, and all numbers after them, are zero. */
function timeNumbers(time: string): string {
  const [, hour = '0', minute = '0', second = '0', fraction = '', zone] = TIME.exec(time) ?? [];
  const parts = [hour, minute, second, fraction.slice(0, 6).padEnd(6, '0')];
  if (Number(parts[3]) === 0) parts.pop();
  if (parts.length === 3 && Number(second) === 0) parts.pop();
  return `${numbers(parts)}${zone === undefined ? '' : `, tzinfo=${zoneRepr(zone)}`}`;
}

function zoneRepr(zone: string): string {
  const [hours = '0', minutes = '0', seconds = '0'] = zone.slice(1).match(/\d{2}/g) ?? [];
  const size = Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds);
  if (size === 0) return 'datetime.timezone.utc';
  const delta = zone.startsWith('-') ? `days=-1, seconds=${86_400 - size}` : `seconds=${size}`;
  return `datetime.timezone(datetime.timedelta(${delta}))`;
}

function numbers(texts: readonly string[]): string {
  return texts.map(Number).join(', ');
}
