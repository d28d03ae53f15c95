import { Buffer } from 'node:buffer';

/** Two's complement, little-endian, as LONG1 and LONG4 carry it. No bytes are zero. */
export function readInteger(bytes: Buffer): number | bigint {
  if (bytes.length === 0) return 0;
  if (bytes.length <= 6) return bytes.readIntLE(0, bytes.length);
  const hex = Buffer.from(bytes).reverse().toString('hex');
  return narrow(BigInt.asIntN(bytes.length * 8, BigInt(`0x${hex}`)));
}

/** The shortest two's complement of a number; of zero, no bytes (CPython's encode_long). */
export function integerBytes(value: bigint): Buffer {
  if (value === 0n) return Buffer.alloc(0);
  // One bit is the sign's: -128 fits in a byte, 128 does not.
  const bits = (value < 0n ? -value - 1n : value).toString(2);
  const length = (bits === '0' ? 0 : bits.length >> 3) + 1;
  const hex = BigInt.asUintN(length * 8, value)
    .toString(16)
    .padStart(length * 2, '0');
  return Buffer.from(hex, 'hex').reverse();
}

/** A number where JavaScript counts exactly, else the bigint. */
export function narrow(value: bigint): number | bigint {
  const double = Number(value);
  return Number.isSafeInteger(double) ? double : value;
}
