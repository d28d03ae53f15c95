import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { WireError } from '../../../protocols/errors.ts';
import { decode, encode } from '../../../protocols/formats/msgpack.ts';
import { float, Numeral } from '../../../protocols/formats/values.ts';

describe('encode and decode', () => {
  it.each<[unknown, string]>([
    [null, 'c0'],
    [undefined, 'c0'],
    [true, 'c3'],
    [1, '01'],
    [-1, 'ff'],
    [2 ** 32, 'd30000000100000000'],
    [2n ** 64n - 1n, 'cfffffffffffffffff'],
    [-(2n ** 63n), 'd38000000000000000'],
    [2.5, 'cb4004000000000000'],
    [float(2), 'cb4000000000000000'],
    [new Numeral('7'), '07'],
    [-0, 'cb8000000000000000'],
    ['é', 'a2c3a9'],
    [new Uint8Array([1, 2]), 'c4020102'],
    [[1, [2]], '920191' + '02'],
    [{ a: 1, b: undefined }, '81a16101'],
    [new Map([['a', 1]]), '81a16101'],
    [[float(1), Buffer.alloc(7), float(3)], '93cb3ff0000000000000c40700000000000000cb4008000000000000'],
  ])('writes %o as %s', (value, hex) => {
    expect(encode(value).toString('hex')).toBe(hex);
  });

  it('reads 64 bit integers without loss', () => {
    expect(decode(encode([2n ** 53n - 1n, 2n ** 53n, -(2n ** 53n), 2n ** 64n - 1n, -(2n ** 63n)]))).toEqual([
      2 ** 53 - 1,
      2n ** 53n,
      -(2n ** 53n),
      2n ** 64n - 1n,
      -(2n ** 63n),
    ]);
  });

  it('reads __proto__ as data', () => {
    const value = decode(encode(new Map([['__proto__', { x: 1 }]]))) as object;
    expect(Object.keys(value)).toEqual(['__proto__']);
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
  });

  it('gives Maps and Numerals in exact mode, and writes them back as the same bytes', () => {
    const value = new Map<string, unknown>([
      ['b', [1, float(1), Buffer.alloc(7), -0.5]],
      ['1', { a: float(-3) }],
    ]);
    const bytes = encode(value);
    const exact = decode(bytes, { exact: true });
    expect(exact).toEqual(
      new Map<string, unknown>([
        ['b', [1, new Numeral('1.0'), Buffer.alloc(7), -0.5]],
        ['1', new Map([['a', new Numeral('-3.0')]])],
      ]),
    );
    expect(encode(exact).equals(bytes)).toBe(true);
    expect(decode(Buffer.from('ca3f800000', 'hex'), { exact: true })).toEqual(new Numeral('1.0'));
  });

  it('does not change the bytes it reads, nor what it read when they change places', () => {
    const bytes = encode([float(1), 'x']);
    const copy = Buffer.from(bytes);
    decode(bytes, { exact: true });
    decode(new Uint8Array(bytes));
    expect(bytes.equals(copy)).toBe(true);
  });

  it('gives back what it was given', () => {
    const value = fc.letrec((tie) => ({
      value: fc.oneof(
        { depthSize: 'small' },
        fc.constantFrom(null, true, false),
        fc.string({ unit: 'binary' }),
        fc.maxSafeInteger(),
        fc.double({ noDefaultInfinity: false }).filter((number) => !Number.isInteger(number) || number > 2 ** 53),
        fc.uint8Array().map((bytes) => Buffer.from(bytes)),
        fc.array(tie('value')),
        fc.dictionary(fc.string({ unit: 'binary' }), tie('value'), { noNullPrototype: true }),
      ),
    })).value;
    fc.assert(
      fc.property(value, (item) => {
        expect(decode(encode(item))).toEqual(item);
      }),
    );
  });
});

describe('hostile bytes', () => {
  it.each([
    ['nothing', ''],
    ['a lone array head', '91'],
    ['a second value', '0101'],
    ['a string cut short', 'a361'],
    ['a float cut short', 'cb00'],
    ['a length cut short', 'da00'],
    ['an array of four billion', 'ddffffffff'],
    ['a map of four billion', 'dfffffffff'],
    ['bytes of four billion', 'c6ffffffff'],
    ['the unused byte', 'c1'],
    ['an integer key', '810101'],
    ['a string that is not UTF-8', 'a1ff'],
    ['a timestamp', 'd6ff00000000'],
    ['a record definition', 'd4724091a16101'],
    ['a regular expression', 'c7047892a161a0'],
    ['an error', 'd46500' + '92a5' + '4572726f72a161'],
    ['a set', 'd4730091' + '01'],
    ['a big integer', 'd4420' + '1'],
  ])('%s is a WireError', (_, hex) => {
    expect(codeOf(() => decode(Buffer.from(hex, 'hex')))).toBe('undecodable');
  });

  it('nesting is limited', () => {
    const deep = (levels: number): Buffer => Buffer.concat([Buffer.alloc(levels, 0x91), Buffer.from([1])]);
    expect(codeOf(() => decode(deep(1001)))).toBe('too-deep');
    expect(codeOf(() => decode(deep(1_000_000)))).toBe('too-deep');
    expect(codeOf(() => decode(deep(3), { maxDepth: 2 }))).toBe('too-deep');
    expect(codeOf(() => decode(deep(1_000_000), { maxDepth: Infinity }))).toBe('too-deep');
    expect(decode(deep(2), { maxDepth: 2 })).toEqual([[1]]);
  });

  it('any bytes are a value or a WireError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.boolean(), (bytes, exact) => {
        try {
          decode(bytes, { exact });
        } catch (error) {
          expect(error).toBeInstanceOf(WireError);
        }
      }),
      { numRuns: 5000 },
    );
  });
});

describe('what has no form', () => {
  it.each<[unknown, string]>([
    [{ a: [new Date(0)] }, 'value.a[0]: a Date'],
    [[2n ** 64n], 'value[0]: an integer'],
    [['\ud800'], 'value[0]: half a character'],
    [new Map([[{}, 1]]), 'an Object as a key'],
    [[() => 1], 'value[0]: a function'],
    [new Set(), 'value: a Set'],
  ])('%o is refused with its path', (value, words) => {
    expect(() => encode(value)).toThrow(words);
    expect(codeOf(() => encode(value))).toBe('unencodable');
  });

  it('what contains itself is refused', () => {
    const circle: unknown[] = [];
    circle.push(circle);
    expect(codeOf(() => encode(circle))).toBe('unencodable');
  });
});

function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    expect(error).toBeInstanceOf(WireError);
    return (error as WireError).code;
  }
  throw new Error('nothing was thrown');
}
