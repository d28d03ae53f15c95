import { Buffer, isUtf8 } from 'node:buffer';
import { WireError } from '../errors.ts';
import { DateTime, Decimal, Numeral } from './values.ts';

/**
 * AMQP 0-9-1 field tables (message headers), with the type letters that RabbitMQ and py-amqp agree on. The bytes of a table here are its fields,
 * without the four bytes of length before them. Source: rabbitmq's amqp-0-9-1-errata; amqp/serialization.py (py-amqp 5).
 */

/** A field that is copied as its original bytes: a number of a width that JavaScript does not have, a nested table, a timestamp. */
export class TableField {
  /** The type's letter and the value. */
  readonly bytes: Uint8Array;
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
}

export interface TableLimits {
  /** Deepest nesting of tables and arrays. @default 100 */
  readonly maxDepth?: number;
}

const MAX_DEPTH = 100;

/**
 * Decodes a table to plain values: integers beyond 2^53 as bigint, timestamps as Date, decimals as Decimal, byte arrays and strings that are not
 * UTF-8 as Buffer. A field named `__proto__` is an ordinary field. Throws WireError `undecodable` or `too-deep`.
 */
export function decodeTable(bytes: Uint8Array, limits: TableLimits = {}): Record<string, unknown> {
  const reader = new Reader(bytes, limits.maxDepth ?? MAX_DEPTH);
  return reader.fields(reader.buffer.length, 0);
}

/**
 * Decodes a table so that some fields can be changed and the others written back unchanged: texts, null and booleans as values, everything else as
 * TableField. Throws WireError `undecodable` or `too-deep`.
 */
export function decodeTableExact(bytes: Uint8Array, limits: TableLimits = {}): Map<string, unknown> {
  return new Reader(bytes, limits.maxDepth ?? MAX_DEPTH).exactFields();
}

/**
 * Encodes a table: Maps and objects as tables, integers as 32 or 64 bits, other numbers and Numerals with a fraction as doubles. Shorter integers are
 * never written: older py-amqp reads their letter `s` as a text. Throws WireError `unencodable`.
 */
export function encodeTable(fields: ReadonlyMap<string, unknown> | Readonly<Record<string, unknown>>): Uint8Array {
  const writer = new Writer();
  writer.fields(fields, 0);
  return writer.taken();
}

class Reader {
  readonly buffer: Buffer;
  readonly #maxDepth: number;
  #at = 0;

  constructor(bytes: Uint8Array, maxDepth: number) {
    this.buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#maxDepth = maxDepth;
  }

  fields(end: number, depth: number): Record<string, unknown> {
    const fields: Record<string, unknown> = {};
    while (this.#at < end) {
      const name = this.#name(end);
      const value = this.#value(end, depth);
      if (name === '__proto__') {
        Object.defineProperty(fields, name, { value, enumerable: true, configurable: true, writable: true });
      } else fields[name] = value;
    }
    return fields;
  }

  exactFields(): Map<string, unknown> {
    const end = this.buffer.length;
    const fields = new Map<string, unknown>();
    while (this.#at < end) {
      const name = this.#name(end);
      const start = this.#at;
      const value = this.#value(end, 0);
      const isExact = value === null || typeof value === 'string' || typeof value === 'boolean';
      fields.set(name, isExact ? value : new TableField(this.buffer.subarray(start, this.#at)));
    }
    return fields;
  }

  #name(end: number): string {
    const length = this.buffer[this.#take(1, end)] as number;
    const start = this.#take(length, end);
    return nameAt(this.buffer, start, length);
  }

  #value(end: number, depth: number): unknown {
    const { buffer } = this;
    const letter = buffer[this.#take(1, end)] as number;
    switch (letter) {
      case 0x53: // S
        return this.#text(end);
      case 0x56: // V
        return null;
      case 0x74: // t
        return buffer[this.#take(1, end)] !== 0;
      case 0x49: // I
        return buffer.readInt32BE(this.#take(4, end));
      case 0x6c: // l
      case 0x4c: // L
        return safe(buffer.readBigInt64BE(this.#take(8, end)));
      case 0x64: // d
        return buffer.readDoubleBE(this.#take(8, end));
      case 0x46: // F
        return this.fields(this.#inner(end, depth), depth + 1);
      case 0x41: // A
        return this.#array(this.#inner(end, depth), depth + 1);
      case 0x54: // T
        return new Date(Number(buffer.readBigUInt64BE(this.#take(8, end))) * 1000);
      case 0x78: // x
        return Buffer.from(this.#span(end));
      case 0x44: // D
        return this.#decimal(end);
      case 0x66: // f
        return buffer.readFloatBE(this.#take(4, end));
      case 0x62: // b
        return buffer.readInt8(this.#take(1, end));
      case 0x42: // B
        return buffer[this.#take(1, end)];
      case 0x73: // s
      case 0x55: // U
        return buffer.readInt16BE(this.#take(2, end));
      case 0x75: // u
        return buffer.readUInt16BE(this.#take(2, end));
      case 0x69: // i
        return buffer.readUInt32BE(this.#take(4, end));
      default:
        throw undecodable(`the letter ${JSON.stringify(String.fromCharCode(letter))} is no type of a field`);
    }
  }

  #array(end: number, depth: number): unknown[] {
    const values: unknown[] = [];
    while (this.#at < end) values.push(this.#value(end, depth));
    return values;
  }

  /** The position where the table or the array that starts here ends. */
  #inner(end: number, depth: number): number {
    if (depth >= this.#maxDepth) {
      throw new WireError('celery', 'too-deep', `the headers are nested more than ${this.#maxDepth} levels deep`);
    }
    const length = this.buffer.readUInt32BE(this.#take(4, end));
    const inner = this.#at + length;
    if (inner > end) throw cut();
    return inner;
  }

  #decimal(end: number): Decimal {
    const places = this.buffer[this.#take(1, end)] as number;
    const digits = this.buffer.readInt32BE(this.#take(4, end));
    const text = String(Math.abs(digits)).padStart(places + 1, '0');
    const whole = text.slice(0, text.length - places);
    return new Decimal(`${digits < 0 ? '-' : ''}${places === 0 ? whole : `${whole}.${text.slice(-places)}`}`);
  }

  #text(end: number): string | Buffer {
    const { buffer } = this;
    const length = buffer.readUInt32BE(this.#take(4, end));
    const start = this.#take(length, end);
    const text = buffer.toString('utf8', start, start + length);
    if (!text.includes('\ufffd')) return text;
    const bytes = buffer.subarray(start, start + length);
    return isUtf8(bytes) ? text : Buffer.from(bytes);
  }

  #span(end: number): Buffer {
    const length = this.buffer.readUInt32BE(this.#take(4, end));
    const start = this.#take(length, end);
    return this.buffer.subarray(start, start + length);
  }

  /** The position where the next `count` bytes start. */
  #take(count: number, end: number): number {
    const start = this.#at;
    if (start + count > end) throw cut();
    this.#at = start + count;
    return start;
  }
}

class Writer {
  #buffer = Buffer.allocUnsafe(1024);
  #at = 0;

  taken(): Uint8Array {
    return this.#buffer.subarray(0, this.#at);
  }

  fields(fields: ReadonlyMap<string, unknown> | Readonly<Record<string, unknown>>, depth: number): void {
    const entries = fields instanceof Map ? fields : Object.entries(fields);
    for (const [name, value] of entries as Iterable<readonly [string, unknown]>) {
      if (value === undefined) continue;
      const length = Buffer.byteLength(name);
      if (length > 255) throw unencodable(`the name of a header has ${length} bytes; AMQP has room for 255`);
      this.#room(1 + length);
      this.#buffer[this.#at] = length;
      this.#buffer.write(name, this.#at + 1);
      this.#at += 1 + length;
      this.#value(name, value, depth);
    }
  }

  #value(name: string, value: unknown, depth: number): void {
    if (typeof value === 'string') return this.#text('S', Buffer.byteLength(value), value);
    if (value === null || value === undefined) return void this.#letter('V', 0);
    if (typeof value === 'boolean') {
      const at = this.#letter('t', 1);
      this.#buffer[at] = value ? 1 : 0;
    } else if (typeof value === 'number') {
      if (Number.isInteger(value) && !Object.is(value, -0)) this.#integer(name, value);
      else this.#double(value);
    } else if (typeof value === 'bigint') {
      this.#integer(name, value);
    } else if (value instanceof Numeral) {
      if (/^-?\d+$/.test(value.text)) this.#integer(name, BigInt(value.text));
      else this.#double(value.valueOf());
    } else if (value instanceof TableField) {
      this.#room(value.bytes.byteLength);
      this.#buffer.set(value.bytes, this.#at);
      this.#at += value.bytes.byteLength;
    } else if (value instanceof DateTime || value instanceof Date) {
      const seconds = Math.floor(value.getTime() / 1000);
      if (!(seconds >= 0)) throw unencodable(`the header '${name}' is a time that AMQP cannot hold`);
      const at = this.#letter('T', 8);
      this.#buffer.writeBigUInt64BE(BigInt(seconds), at);
    } else if (value instanceof Uint8Array) {
      this.#bytes(value);
    } else if (Array.isArray(value)) {
      this.#nested('A', name, depth, () => {
        for (const item of value as readonly unknown[]) this.#value(name, item, depth + 1);
      });
    } else if (value instanceof Map || isPlain(value)) {
      this.#nested('F', name, depth, () => this.fields(value as Readonly<Record<string, unknown>>, depth + 1));
    } else {
      throw unencodable(`the header '${name}' is of a kind that AMQP has no type for`);
    }
  }

  #integer(name: string, value: number | bigint): void {
    if (value >= -0x80000000 && value <= 0x7fffffff) {
      const at = this.#letter('I', 4);
      this.#buffer.writeInt32BE(Number(value), at);
      return;
    }
    const whole = BigInt(value);
    if (BigInt.asIntN(64, whole) !== whole)
      throw unencodable(`the header '${name}' is an integer of more than 64 bits`);
    const at = this.#letter('l', 8);
    this.#buffer.writeBigInt64BE(whole, at);
  }

  #double(value: number): void {
    const at = this.#letter('d', 8);
    this.#buffer.writeDoubleBE(value, at);
  }

  #text(letter: string, length: number, value: string): void {
    const start = this.#letter(letter, 4 + length);
    this.#buffer.writeUInt32BE(length, start);
    this.#buffer.write(value, start + 4);
  }

  #bytes(value: Uint8Array): void {
    const start = this.#letter('x', 4 + value.byteLength);
    this.#buffer.writeUInt32BE(value.byteLength, start);
    this.#buffer.set(value, start + 4);
  }

  #nested(letter: string, name: string, depth: number, write: () => void): void {
    if (depth >= MAX_DEPTH) throw unencodable(`the header '${name}' is nested more than ${MAX_DEPTH} levels deep`);
    const start = this.#letter(letter, 4);
    write();
    this.#buffer.writeUInt32BE(this.#at - start - 4, start);
  }

  /** Writes a type's letter, and makes room for `count` bytes after it. Returns where these start. `buffer` may be a new one afterwards. */
  #letter(letter: string, count: number): number {
    this.#room(1 + count);
    this.#buffer[this.#at] = letter.charCodeAt(0);
    const start = this.#at + 1;
    this.#at = start + count;
    return start;
  }

  #room(count: number): void {
    if (this.#at + count <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#at + count));
    this.#buffer.copy(larger, 0, 0, this.#at);
    this.#buffer = larger;
  }
}

/**
 * Field names decoded before, by their length and two of their bytes. Most tables have the same twenty names, and comparing is cheaper than decoding.
 */
const names: (string | undefined)[] = [];

function nameAt(buffer: Buffer, start: number, length: number): string {
  if (length < 2) return buffer.toString('utf8', start, start + length);
  const slot =
    ((length & 31) << 12) | (((buffer[start + 1] as number) & 63) << 6) | ((buffer[start + length - 1] as number) & 63);
  const known = names[slot];
  if (known?.length === length && isAt(buffer, start, known)) return known;
  return (names[slot] = buffer.toString('utf8', start, start + length));
}

function isAt(buffer: Buffer, start: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) if (buffer[start + i] !== text.charCodeAt(i)) return false;
  return true;
}

function safe(value: bigint): number | bigint {
  return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function cut(): WireError {
  return undecodable('the headers end in the middle of a field');
}

function undecodable(what: string): WireError {
  return new WireError('celery', 'undecodable', what);
}

function unencodable(what: string): WireError {
  return new WireError('celery', 'unencodable', what);
}
