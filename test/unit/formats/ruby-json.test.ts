import { describe, expect, test } from 'vitest';
import { edit, floatText, parse, stringify } from '../../../protocols/formats/ruby-json.ts';
import { Numeral } from '../../../protocols/formats/values.ts';

describe('JSON as Ruby writes it', () => {
  test.each<readonly [unknown, unknown]>([
    [{ a: [1, 'two', null, true] }, '{"a":[1,"two",null,true]}'],
    ['zwölf / 中文 \u2028 </x>', '"zwölf / 中文 \u2028 </x>"'],
    ['"\\\n\u0001', '"\\"\\\\\\n\\u0001"'],
    [-0, '-0.0'],
    [1.5, '1.5'],
    [1e20, '1.0e+20'],
    [1.5e300, '1.5e+300'],
    [1e-5, '1.0e-05'],
    [0.0001, '0.0001'],
    [9_007_199_254_740_991, '9007199254740991'],
    [12345678901234567890n, '12345678901234567890'],
    [new Numeral('1.0'), '1.0'],
    [
      new Map<string, unknown>([
        ['b', 1],
        ['a', new Numeral('2.50')],
      ]),
      '{"b":1,"a":2.50}',
    ],
    [{ left: undefined, out: [undefined, -0] }, '{"out":[null,-0.0]}'],
    [[undefined], '[null]'],
    [JSON.parse('{"__proto__": 1}'), '{"__proto__":1}'],
  ])('%#: %s', (value, text) => {
    expect(stringify(value)).toBe(text);
  });

  test.each<readonly [unknown, unknown]>([
    [[1, { when: new Date(0) }], 'args[1].when'],
    [[Number.NaN], 'args[0]'],
    [[() => 1], 'args[0]'],
    [[Symbol('s')], 'args[0]'],
    [[new Map([[1, 2]])], 'args[0]'],
    [[new (class Image {})()], 'args[0]'],
  ])('what has no form is refused by its place: %#', (value, place) => {
    expect(() => stringify(value, { at: 'args' })).toThrow(place);
  });

  test('a list that contains itself, half a surrogate pair, and too many levels are refused', () => {
    const self: unknown[] = [];
    self.push(self);
    expect(() => stringify(self)).toThrow('contains itself');
    expect(() => stringify(['\ud800'])).toThrow('surrogate');
    expect(stringify(['\\ud800'])).toBe('["\\\\ud800"]');
    let deep: unknown = 1;
    for (let level = 0; level < 101; level++) deep = [deep];
    expect(() => stringify(deep)).toThrow('too deep');
  });

  test.each([
    [1e16, '1.0e+16'],
    [1e15, '1.0e+15'],
    [1e14, '100000000000000.0'],
    [1234567890123456.5, '1234567890123456.5'],
    [100, '100.0'],
    [1.25e-7, '1.25e-07'],
  ])('Float#to_s of %d', (value, text) => {
    expect(floatText(value)).toBe(text);
  });

  test('what is read: large integers, no NaN, a hundred levels', () => {
    expect(parse('[12345678901234567890, 1.0]')).toEqual([12345678901234567890n, 1]);
    expect(() => parse('[NaN]')).toThrow('not JSON');
    expect(() => parse('[1,')).toThrow('not JSON');
    expect(parse(`${'['.repeat(100)}${']'.repeat(100)}`)).toBeDefined();
    expect(() => parse(`${'['.repeat(101)}${']'.repeat(101)}`)).toThrow('100 levels');
  });

  test('an edit adds in the same spacing', () => {
    expect(edit('{"a":1}', [{ path: ['b'], value: '2' }])).toBe('{"a":1,"b":2}');
    expect(edit('{}', [{ path: ['b'], value: '2' }])).toBe('{"b":2}');
    expect(edit('{"b":1.0,"a":1}', [{ path: ['b'], value: '3' }])).toBe('{"b":3,"a":1}');
  });
});
