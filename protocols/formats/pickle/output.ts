import { Buffer } from 'node:buffer';
import * as op from './opcodes.ts';

/** CPython ends a frame at the first value after so many bytes, and writes what is as long without one. */
const FRAME_SIZE = 64 * 1024;
/** A shorter frame costs more than it saves. */
const SHORTEST_FRAME = 4;
const FRAME_HEADER = 9;
const FIRST_SIZE = 256;

/** The bytes of a pickle as they grow, cut into frames where the protocol has them (Modules/_pickle.c `_Pickler_Write`). */
export class Output {
  #buffer = Buffer.allocUnsafe(FIRST_SIZE);
  #at = 0;
  #framing = false;
  #frameStart = -1;

  /** From here on, in frames. */
  startFraming(): void {
    this.#framing = true;
  }

  /** Between two values: a frame that has grown long ends. */
  boundary(): void {
    if (this.#frameStart >= 0 && this.#at - this.#frameStart - FRAME_HEADER >= FRAME_SIZE) this.#endFrame();
  }

  code(code: number): void {
    this.#room(1);
    this.#buffer[this.#at] = code;
    this.#at += 1;
  }

  /** An opcode with a number of so many bytes. */
  number(code: number, value: number, width: 1 | 2 | 4): void {
    this.#room(1 + width);
    this.#buffer[this.#at] = code;
    if (width === 4) this.#buffer.writeInt32LE(value | 0, this.#at + 1);
    else this.#buffer.writeUIntLE(value, this.#at + 1, width);
    this.#at += 1 + width;
  }

  float(value: number): void {
    this.#room(9);
    this.#buffer[this.#at] = op.BINFLOAT;
    this.#buffer.writeDoubleBE(value, this.#at + 1);
    this.#at += 9;
  }

  /** An opcode with a length of one, four or eight bytes, and so many bytes. */
  counted(code: number, bytes: Uint8Array, width: 1 | 4 | 8): void {
    const large = this.#framing && bytes.length >= FRAME_SIZE;
    if (large) {
      this.#endFrame();
      this.#framing = false;
    }
    this.#room(1 + width + bytes.length);
    this.#buffer[this.#at] = code;
    if (width === 8) this.#buffer.writeBigUInt64LE(BigInt(bytes.length), this.#at + 1);
    else this.#buffer.writeUIntLE(bytes.length, this.#at + 1, width);
    this.#buffer.set(bytes, this.#at + 1 + width);
    this.#at += 1 + width + bytes.length;
    if (large) this.#framing = true;
  }

  /** A short text of which every character is a byte. */
  ascii(code: number, text: string): void {
    this.#room(2 + text.length);
    this.#buffer[this.#at] = code;
    this.#buffer[this.#at + 1] = text.length;
    this.#buffer.write(text, this.#at + 2, 'latin1');
    this.#at += 2 + text.length;
  }

  /** An opcode and its lines. */
  lines(code: number, ...lines: readonly Uint8Array[]): void {
    this.code(code);
    for (const line of lines) {
      this.#room(line.length + 1);
      this.#buffer.set(line, this.#at);
      this.#buffer[this.#at + line.length] = 0x0a;
      this.#at += line.length + 1;
    }
  }

  end(): Buffer {
    this.#endFrame();
    return this.#buffer.subarray(0, this.#at);
  }

  #endFrame(): void {
    if (this.#frameStart < 0) return;
    const start = this.#frameStart;
    const length = this.#at - start - FRAME_HEADER;
    if (length >= SHORTEST_FRAME) {
      this.#buffer[start] = op.FRAME;
      this.#buffer.writeBigUInt64LE(BigInt(length), start + 1);
    } else {
      this.#buffer.copyWithin(start, start + FRAME_HEADER, this.#at);
      this.#at -= FRAME_HEADER;
    }
    this.#frameStart = -1;
  }

  #room(count: number): void {
    const begin = this.#framing && this.#frameStart < 0;
    const needed = this.#at + count + (begin ? FRAME_HEADER : 0);
    if (needed > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, needed));
      this.#buffer.copy(larger, 0, 0, this.#at);
      this.#buffer = larger;
    }
    if (begin) {
      this.#frameStart = this.#at;
      this.#at += FRAME_HEADER;
    }
  }
}
