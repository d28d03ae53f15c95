import { describe, expect, it } from 'vitest';
import { Tuple } from '../../../protocols/formats/pickle/index.ts';
import { parseLiteral } from '../../../protocols/formats/python-literal.ts';
import { pythonRepr } from '../../../protocols/formats/python-repr.ts';
import { float } from '../../../protocols/formats/values.ts';

// What ast.literal_eval makes of them (CPython 3.11).
describe('parseLiteral', () => {
  it.each<[string, unknown]>([
    ['None', null],
    ['True', true],
    [' False ', false],
    ['1', 1],
    ['-1', -1],
    ['- 1', -1],
    ['+1', 1],
    ['1_000', 1000],
    ['0x1F', 31],
    ['0o17', 15],
    ['0b101', 5],
    ['00', 0],
    ['12345678901234567890', 12345678901234567890n],
    ['1.5', 1.5],
    ['1.0', float(1)],
    ['-1.0', float(-1)],
    ['1.', float(1)],
    ['.5', 0.5],
    ['1e3', float(1000)],
    ['1e400', Infinity],
    ["'a'", 'a'],
    ['"it\'s"', "it's"],
    ["'a' 'b'", 'ab'],
    ["'''a\nb'''", 'a\nb'],
    [String.raw`'\n\t\x41\u00e9\U0001f600\101\\\''`, "\n\tAé😀A\\'"],
    [String.raw`'\d'`, '\\d'],
    [String.raw`r'\n'`, '\\n'],
    ["u'é'", 'é'],
    [String.raw`b'a\xff\n'`, Buffer.from([97, 255, 10])],
    [String.raw`br'\x'`, Buffer.from('\\x')],
    ['[]', []],
    ['[1, [2],]', [1, [2]]],
    ['()', new Tuple()],
    ['(1)', 1],
    ['(1,)', Tuple.of(1)],
    ['(1, 2)', Tuple.of(1, 2)],
    ['{}', {}],
    ["{'a': 1, 'b': (2,)}", { a: 1, b: Tuple.of(2) }],
    ['{1: 2}', new Map([[1, 2]])],
    ['{1, 2}', new Set([1, 2])],
    ['[1, # one\n 2]', [1, 2]],
  ])('of %s', (text, value) => {
    expect(parseLiteral(text)).toEqual(value);
    // A tuple is no list.
    expect(parseLiteral(text) instanceof Tuple).toBe(value instanceof Tuple);
  });

  it.each([
    '',
    'nan',
    'x',
    'f()',
    '1 2',
    '[1',
    '(1, 2',
    "'a",
    "'a\nb'",
    "f'a'",
    "b'é'",
    "'a' b'b'",
    '1j',
    '01',
    '1 + 2',
    '{1: 2, 3}',
    '{1, 2: 3}',
    String.raw`'\x4'`,
    String.raw`'\U00110000'`,
    '__import__("os")',
    '[,]',
    '1.2.3',
  ])('refuses %s', (text) => {
    expect(() => parseLiteral(text)).toThrow(/no literal of Python's/);
  });

  it('reads what repr has written', () => {
    const value = [
      1,
      float(2),
      -0.5,
      'é\n\'"',
      null,
      true,
      Tuple.of<unknown>(1, [Buffer.from([0, 200])]),
      { a: { b: [] } },
    ];
    expect(parseLiteral(pythonRepr(value))).toEqual(value);
  });

  it('has an end to levels and length', () => {
    expect(() => parseLiteral('['.repeat(100_000))).toThrow(/levels/);
    expect(() => parseLiteral('9'.repeat(100_000))).toThrow(/4300/);
    expect(() => parseLiteral(`'${'\\'.repeat(1_000_001)}`)).toThrow(/does not end/);
  });
});
