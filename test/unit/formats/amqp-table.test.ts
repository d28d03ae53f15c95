import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { WireError } from '../../../protocols/errors.ts';
import { decodeTable, decodeTableExact, encodeTable, TableField } from '../../../protocols/formats/amqp-table.ts';
import { Decimal, float, Numeral } from '../../../protocols/formats/values.ts';

/** What `amqp.serialization.dumps('F', [...])` of py-amqp 5.3 wrote, without its length. */
const FROM_PYTHON =
  '01735300000002c3a9016e56017474010166740001694900000007036e656749fffffffb036269674c0020000000000001046c6f6e674c0000010000' +
  '0000000164643ff80000000000000177644000000000000000016c410000000c4900000001530000000161560146460000001d095f5f70726f746f5f' +
  '5f46000000070178490000000101214900000003015454000000006b00df00014444020000007d';

describe('a field table', () => {
  it('is read as py-amqp wrote it', () => {
    const table = decodeTable(Buffer.from(FROM_PYTHON, 'hex'));
    const { F, ...rest } = table as { F: object };
    expect(rest).toEqual({
      s: 'é',
      n: null,
      t: true,
      f: false,
      i: 7,
      neg: -5,
      big: 2n ** 53n + 1n,
      long: 2 ** 40,
      d: 1.5,
      w: 2,
      l: [1, 'a', null],
      T: new Date('2026-11-21T00:00:00Z'),
      D: new Decimal('1.25'),
    });
    expect(Object.entries(F)).toEqual([
      ['__proto__', { x: 1 }],
      ['!', 3],
    ]);
    expect(Object.getPrototypeOf(F)).toBe(Object.prototype);
  });

  it('goes back byte for byte, but for what was changed', () => {
    const bytes = Buffer.from(FROM_PYTHON, 'hex');
    const exact = decodeTableExact(bytes);
    expect(exact.get('s')).toBe('é');
    expect(exact.get('n')).toBeNull();
    expect(exact.get('big')).toBeInstanceOf(TableField);
    expect(Buffer.from(encodeTable(exact)).toString('hex')).toBe(FROM_PYTHON);
    exact.set('i', 8).delete('F');
    expect(decodeTable(encodeTable(exact))).toEqual({ ...without(decodeTable(bytes), 'F'), i: 8 });
  });

  it.each<[string, unknown, string]>([
    ['text', 'é', '53 00000002 c3a9'],
    ['null', null, '56'],
    ['true', true, '74 01'],
    ['a small integer, in 32 bits', 1, '49 00000001'],
    ['300, not as the short that old py-amqp takes for a text', 300, '49 0000012c'],
    ['an integer of 33 bits', 2 ** 32, '6c 0000000100000000'],
    ['a bigint', -(2n ** 63n), '6c 8000000000000000'],
    ['a fraction', 1.5, '64 3ff8000000000000'],
    ['a float that is whole', float(2), '64 4000000000000000'],
    ['a numeral without a fraction', new Numeral('9007199254740993'), '6c 0020000000000001'],
    ['minus zero', -0, '64 8000000000000000'],
    ['a date', new Date(1.5e12 + 900), '54 0000000059682f00'],
    ['bytes', Buffer.from('ab'), '78 00000002 6162'],
    ['a list', [1, null], '41 00000006 49 00000001 56'],
    ['a map', new Map([['!', 1]]), '46 00000007 0121 49 00000001'],
    ['an object', { a: {} }, '46 00000007 0161 46 00000000'],
  ])('writes %s', (_, value, hex) => {
    expect(Buffer.from(encodeTable({ k: value })).toString('hex')).toBe(`016b${hex.replaceAll(' ', '')}`);
  });

  it('reads every width of integer, and single floats', () => {
    const fields = [
      ['b', 'ff'],
      ['B', 'ff'],
      ['s', 'fffe'],
      ['U', 'fffd'],
      ['u', 'ffff'],
      ['i', 'ffffffff'],
      ['L', 'ffffffffffffffff'],
      ['f', '3fc00000'],
    ] as const;
    const bytes = Buffer.concat(
      fields.map(([letter, hex]) => Buffer.from(`\x01${letter}${letter}${raw(hex)}`, 'latin1')),
    );
    expect(decodeTable(bytes)).toEqual({ b: -1, B: 255, s: -2, U: -3, u: 65535, i: 4294967295, L: -1, f: 1.5 });
  });

  it('reads a text that is not UTF-8 as its bytes', () => {
    const bytes = Buffer.from('016b5300000002ff41', 'hex');
    expect(decodeTable(bytes)).toEqual({ k: Buffer.from([0xff, 0x41]) });
    expect(Buffer.from(encodeTable(decodeTableExact(bytes)))).toEqual(bytes);
  });

  it('names a letter it does not know, and fields that are cut', () => {
    expect(() => decodeTable(Buffer.from('016b5a', 'hex'))).toThrow(/letter "Z" is no type/);
    expect(() => decodeTable(Buffer.from('016b53000000ff41', 'hex'))).toThrow(/middle of a field/);
    expect(() => decodeTable(Buffer.from('016b46000000ff', 'hex'))).toThrow(/middle of a field/);
  });

  it('stops at a depth, reading and writing', () => {
    let nested = Buffer.alloc(0);
    for (let level = 0; level < 5_000; level++) {
      const head = Buffer.from('016146' + nested.length.toString(16).padStart(8, '0'), 'hex');
      nested = Buffer.concat([head, nested]);
    }
    expect(() => decodeTable(nested)).toThrow(expect.objectContaining({ code: 'too-deep' }));
    let value: unknown = 1;
    for (let level = 0; level < 200; level++) value = [value];
    expect(() => encodeTable({ value })).toThrow(expect.objectContaining({ code: 'unencodable' }));
  });

  it('refuses what AMQP has no room for', () => {
    expect(() => encodeTable({ big: 2n ** 63n })).toThrow(/'big' is an integer of more than 64 bits/);
    expect(() => encodeTable({ ['k'.repeat(256)]: 1 })).toThrow(/256 bytes/);
    expect(() => encodeTable({ f: () => 1 })).toThrow(/'f' is of a kind/);
  });

  it('of any noise is a table or a WireError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        try {
          decodeTable(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(WireError);
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it('of any values comes back as it was', () => {
    const leaf = fc.oneof(
      fc.string(),
      fc.boolean(),
      fc.constant(null),
      fc.maxSafeInteger(),
      fc.bigInt({ min: 2n ** 53n, max: 2n ** 63n - 1n }),
      fc.double({ noNaN: true, noInteger: true }),
    );
    const { tree } = fc.letrec((tie) => ({
      tree: fc.dictionary(
        fc.string({ maxLength: 20 }),
        fc.oneof({ maxDepth: 3, depthSize: 'small' }, leaf, fc.array(tie('tree'), { maxLength: 3 }), tie('tree')),
      ),
    }));
    fc.assert(
      fc.property(tree, (value) => {
        const plain = structuredClone(value);
        expect(decodeTable(encodeTable(value as Record<string, unknown>))).toEqual(plain);
      }),
    );
  });
});

function without(record: Record<string, unknown>, name: string): Record<string, unknown> {
  return Object.fromEntries(Object.entries(record).filter(([key]) => key !== name));
}

function raw(hex: string): string {
  return Buffer.from(hex, 'hex').toString('latin1');
}
