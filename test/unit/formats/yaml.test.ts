import { describe, expect, it } from 'vitest';
import { WireError } from '../../../protocols/errors.ts';
import { decode, encode } from '../../../protocols/formats/yaml.ts';
import { DateTime, float, Numeral, PlainDate } from '../../../protocols/formats/values.ts';

describe('decode means what PyYAML means', () => {
  it.each<[string, unknown]>([
    ['yes', true],
    ['Off', false],
    ['y', 'y'],
    ['~', null],
    ['', null],
    ['Null', null],
    ['1_000', 1000],
    ['017', 15],
    ['0o17', '0o17'],
    ['0x1F', 31],
    ['-0b101', -5],
    ['1:30:00', 5400],
    ['09', '09'],
    ['12345678901234567890', 12345678901234567890n],
    ['1e3', '1e3'],
    ['1.0e3', '1.0e3'],
    ['1.0e+3', 1000],
    ['.5', 0.5],
    ['-.5', '-.5'],
    ['1.', 1],
    ['1:30.5', 90.5],
    ['-.INF', -Infinity],
    ['.NaN', Number.NaN],
    ['2020-01-02', new PlainDate('2020-01-02')],
    ['2020-1-2', '2020-1-2'],
    ['"2020-01-02"', '2020-01-02'],
    ['!!str 12', '12'],
    ['!!int "12"', 12],
    ['!!float 12', 12],
    ['!!bool "yes"', true],
    ['!!binary aGk=', Buffer.from('hi')],
    ['!!set {a, b}', new Set(['a', 'b'])],
    [
      '!!omap [a: 1, b: 2]',
      [
        ['a', 1],
        ['b', 2],
      ],
    ],
    ['{1: a, true: b, null: c}', { 1: 'a', true: 'b', null: 'c' }],
    ['{a: 1, a: 2}', { a: 2 }],
    ['[&x {a: 1}, *x]', [{ a: 1 }, { a: 1 }]],
    ['a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}', { a: { p: 1, q: 2 }, b: { p: 1, q: 3 } }],
    ['<<: [{a: 1}, {a: 2, b: 3}]\nc: 4', { a: 1, b: 3, c: 4 }],
    ['- a\n- b: |\n    c\n    d\n', ['a', { b: 'c\nd\n' }]],
    ['=: 1', { '=': 1 }],
  ])('%j', (text, value) => {
    expect(decode(text)).toEqual(value);
  });

  it.each([
    ['2020-01-02 03:04:05', '2020-01-02T03:04:05'],
    ['2020-01-02T03:04:05.123456789Z', '2020-01-02T03:04:05.123456+00:00'],
    ['2020-1-2 3:04:05.5 -5:30', '2020-01-02T03:04:05.500000-05:30'],
  ])('a timestamp: %s', (text, iso) => {
    const value = decode(text);
    expect(value).toBeInstanceOf(DateTime);
    expect((value as DateTime).iso).toBe(iso);
  });

  it('exact mode gives Maps, keys as they are, and Numerals for whole floats', () => {
    expect(decode('{b: 1.0, 1: {a: 2.5}}', { exact: true })).toEqual(
      new Map<unknown, unknown>([
        ['b', new Numeral('1.0')],
        [1, new Map([['a', 2.5]])],
      ]),
    );
  });

  it('__proto__ is data', () => {
    for (const text of ['__proto__: {x: 1}', '<<: {__proto__: {x: 1}}']) {
      const value = decode(text) as object;
      expect(Object.keys(value)).toEqual(['__proto__']);
      expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
    }
  });
});

describe('hostile text', () => {
  const bomb = `a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n${Array.from({ length: 9 }, (_, i) => `a${i + 1}: &a${i + 1} [${Array(10).fill(`*a${i}`).join(',')}]`).join('\n')}`;

  it.each<[string, string, string]>([
    ['a Python object', '!!python/object/apply:os.system [ls]', 'undecodable'],
    ['a Python name', '!!python/name:os.system', 'undecodable'],
    ['an unknown tag', 'a: !foo 1', 'undecodable'],
    ['two documents', 'a\n---\nb', 'undecodable'],
    ['a tab', '\t- a', 'undecodable'],
    ['a circle', '&a [*a]', 'undecodable'],
    ['an alias of nothing', '*a', 'undecodable'],
    ['a list as key', '? [a]\n: 1', 'undecodable'],
    ['no such date', '2020-13-01', 'undecodable'],
    ['a merge of nothing', '<<: 3', 'undecodable'],
    ['an open quote', '"abc', 'undecodable'],
    ['a long integer', '1'.repeat(5000), 'undecodable'],
    ['an alias bomb', bomb, 'too-large'],
    [
      'a merge bomb',
      bomb.replaceAll('[1,1,1,1,1,1,1,1,1,1]', '{x: 1}').replaceAll(/\[(\*.*)\]/g, '{<<: [$1], y: [$1]}'),
      'too-large',
    ],
    ['brackets', '['.repeat(1_000_000), 'too-deep'],
    ['closed brackets', '['.repeat(5000) + ']'.repeat(5000), 'too-deep'],
    ['dashes', `${'- '.repeat(5000)}a`, 'too-deep'],
    ['question marks', `${'? '.repeat(5000)}a`, 'too-deep'],
    ['braces', '{a: '.repeat(5000) + '}'.repeat(5000), 'too-deep'],
  ])('%s is a WireError', (_, text, code) => {
    expect(codeOf(() => decode(text))).toBe(code);
  });

  it('the caller may want less depth, but not more than the parser bears', () => {
    expect(codeOf(() => decode('[[[1]]]', { maxDepth: 2 }))).toBe('too-deep');
    expect(decode('[[1]]', { maxDepth: 2 })).toEqual([[1]]);
    expect(codeOf(() => decode('['.repeat(9000), { maxDepth: 100_000 }))).toBe('too-deep');
    expect(decode('['.repeat(250) + ']'.repeat(250))).toHaveLength(1);
  });
});

describe('encode', () => {
  it.each<[unknown, string]>([
    [['yes', '1e3', '2020-01-01', ''], '["yes", "1e3", "2020-01-01", ""]'],
    [[1, float(1), 1e22, -0, Number.NaN, -Infinity], '[1, 1.0, 1.0e+22, -0.0, .nan, -.inf]'],
    ['é😀\u007f\u2028', '"\\u00e9\\U0001f600\\u007f\\u2028"'],
    [{ a: null, b: undefined }, '{"a": null}'],
    [new Map<unknown, unknown>([[1, true]]), '{1: true}'],
    [Buffer.from('hi'), '!!binary "aGk="'],
    [new Set(['a']), '!!set {"a": null}'],
    [new Date(0), '1970-01-01T00:00:00+00:00'],
    [new DateTime('2020-01-02T03:04:05.000001'), '2020-01-02T03:04:05.000001'],
    [new PlainDate('2020-01-02'), '2020-01-02'],
    [10n ** 20n, '100000000000000000000'],
  ])('writes %o', (value, text) => {
    expect(encode(value)).toBe(`${text}\n`);
  });

  it('announces long keys, which PyYAML would not find the end of', () => {
    expect(encode({ ['k'.repeat(2000)]: 1 })).toMatch(/^\{\? "k+": 1\}\n$/);
  });

  it.each<[unknown, string]>([
    [{ a: [() => 1] }, 'value.a[0]: a function'],
    [[new URL('http://a')], 'value[0]: an URL'],
    [[new Date(Number.NaN)], 'value[0]: Invalid Date'],
    [new Map([[{}, 1]]), 'an Object as a key'],
  ])('refuses %o with its path', (value, words) => {
    expect(() => encode(value)).toThrow(words);
    expect(codeOf(() => encode(value))).toBe('unencodable');
  });

  it('refuses what contains itself', () => {
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
