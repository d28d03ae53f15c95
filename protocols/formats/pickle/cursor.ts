import type { Buffer } from 'node:buffer';
import { undecodable } from './errors.ts';

/** Reads forward through bytes; every length is checked against what is left before anything is made for it. */
export class Cursor {
  readonly bytes: Buffer;
  at = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  get left(): number {
    return this.bytes.length - this.at;
  }

  /** Steps over so many bytes: where they start. */
  skip(length: number): number {
    const start = this.at;
    if (length > this.bytes.length - start) throw undecodable('cut short', start);
    this.at = start + length;
    return start;
  }

  byte(): number {
    const value = this.bytes[this.at];
    if (value === undefined) throw undecodable('cut short', this.at);
    this.at += 1;
    return value;
  }

  u16(): number {
    return this.bytes.readUInt16LE(this.skip(2));
  }

  u32(): number {
    return this.bytes.readUInt32LE(this.skip(4));
  }

  i32(): number {
    return this.bytes.readInt32LE(this.skip(4));
  }

  /** A length of 64 bits. Beyond 2^53 it loses its last digits: it is longer than anything anyway. */
  u64(): number {
    const start = this.skip(8);
    return this.bytes.readUInt32LE(start) + this.bytes.readUInt32LE(start + 4) * 0x1_0000_0000;
  }

  f64(): number {
    return this.bytes.readDoubleBE(this.skip(8));
  }

  /** A line without its end. */
  line(): string {
    const { start, end } = this.lineBounds();
    return this.bytes.toString('latin1', start, end);
  }

  lineBounds(): { readonly start: number; readonly end: number } {
    const start = this.at;
    const end = this.bytes.indexOf(0x0a, start);
    if (end === -1) throw undecodable('a line without an end', start);
    this.at = end + 1;
    return { start, end };
  }
}
