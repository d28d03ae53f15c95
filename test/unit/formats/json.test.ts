import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { WireError } from '../../../protocols/errors.ts';
import { edit, member, parse, parseExact, stringify } from '../../../protocols/formats/json.ts';
import { float, Numeral } from '../../../protocols/formats/values.ts';

describe('parse', () => {
  it.each<[string, unknown]>([
    ['NaN', Number.NaN],
    ['[Infinity, -Infinity]', [Infinity, -Infinity]],
    ['9007199254740991', 9007199254740991],
    ['9007199254740992', 9007199254740992n],
    ['-12345678901234567890', -12345678901234567890n],
    [
      '{"a": 12345678901234567890, "b": "12345678901234567890"}',
      { a: 12345678901234567890n, b: '12345678901234567890' },
    ],
    ['12345678901234567890.0', 12345678901234567890],
    ['12345678901234567890e2', 1234567890123456789000],
    ['[0.12345678901234567890]', [0.12345678901234568]],
    ['1e400', Infinity],
    ['"\\ud83d\\ude00 \\ud800"', '😀 \ud800'],
    [' [ ] ', []],
    ['{"a": 1, "a": 2, "b": NaN}', { a: 2, b: Number.NaN }],
    ['["\\"NaN\\\\", NaN, {}, true, false, null, -1.5e-3]', ['"NaN\\', Number.NaN, {}, true, false, null, -0.0015]],
  ])('reads %s', (text, value) => {
    expect(parse(text)).toEqual(value);
  });

  it('agrees with JSON.parse on what JSON.stringify writes, on both ways through', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const text = JSON.stringify(value);
        fc.pre(!/\d{16}/.test(text));
        expect(parse(text)).toEqual(JSON.parse(text));
        // One token that JSON.parse cannot read sends the text through the other parser.
        expect(parse(`[${text}, NaN]`)).toEqual([JSON.parse(text), Number.NaN]);
      }),
    );
  });

  it.each(['{"__proto__": {"x": 1}}', '{"__proto__": {"x": NaN}}', '{"__proto__": {"x": 12345678901234567890}}'])(
    'keeps the key __proto__ as data: %s',
    (text) => {
      const value = parse(text) as object;
      expect(Object.keys(value)).toEqual(['__proto__']);
      expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
      expect((value as { x?: unknown }).x).toBeUndefined();
    },
  );

  it.each([
    ['', 0],
    ['[1, 2', 5],
    ['[1,]', 3],
    ['{"a": 1,}', 8],
    ["{'a': 1}", 1],
    ['{"a" 1}', 5],
    ['[1 2]', 3],
    ['[01]', 2],
    ['[1.]', 2],
    ['[+1]', 1],
    ['[-]', 1],
    ['nul', 0],
    ['nan', 0],
    ['--Infinity', 0],
    ['"a\nb"', 0],
    ['"\\x"', 0],
    ['"abc', 0],
    ['[1] 2', 4],
    ['\ufeff[]', 0],
    ['undefined', 0],
    ['[1}', 2],
  ])('refuses %j, naming the place', (text, offset) => {
    expect(codeOf(() => parse(text))).toEqual(['json', 'undecodable', offset]);
  });

  it('refuses integers of more digits than Python reads', () => {
    expect(codeOf(() => parse(`[${'1'.repeat(5000)}]`))[1]).toBe('undecodable');
    expect(parse('1'.repeat(4300))).toBe(BigInt('1'.repeat(4300)));
  });

  it.each<[string, string]>([
    ['arrays', '['.repeat(1001) + ']'.repeat(1001)],
    ['objects', '{"a":'.repeat(1001) + '1' + '}'.repeat(1001)],
    ['a million brackets', '['.repeat(1_000_000)],
    ['large integers inside', `${'['.repeat(5000)}12345678901234567890`],
  ])('refuses deep nesting: %s', (_, text) => {
    expect(codeOf(() => parse(text))[1]).toBe('too-deep');
    expect(codeOf(() => parseExact(text))[1]).toBe('too-deep');
  });

  it('counts levels, not brackets', () => {
    expect(parse('['.repeat(1000) + ']'.repeat(1000))).toBeDefined();
    expect(parse(`[${'[],'.repeat(5000)}"${'['.repeat(5000)}\\"${'['.repeat(5000)}"]`)).toHaveLength(5001);
    expect(codeOf(() => parse('[[[1]]]', { maxDepth: 2 }))[1]).toBe('too-deep');
    expect(parse('[[1], [2]]', { maxDepth: 2 })).toEqual([[1], [2]]);
  });
});

describe('parseExact', () => {
  it.each<[string, unknown]>([
    ['1', 1],
    ['1.0', new Numeral('1.0')],
    ['1e5', new Numeral('1e5')],
    ['-0.0', new Numeral('-0.0')],
    ['-0', new Numeral('-0')],
    ['1e-7', new Numeral('1e-7')],
    ['0.1', 0.1],
    ['1.50', new Numeral('1.50')],
    ['12345678901234567890', 12345678901234567890n],
    ['NaN', Number.NaN],
    [
      '{"b": 1, "a": {"__proto__": 2}, "b": 3}',
      new Map<string, unknown>([
        ['b', 3],
        ['a', new Map([['__proto__', 2]])],
      ]),
    ],
  ])('reads %s', (text, value) => {
    expect(parseExact(text)).toEqual(value);
  });

  it('keeps keys that look like indexes in their place', () => {
    expect(stringify(parseExact('{"b": 1, "1": 2, "a": 3}'))).toBe('{"b": 1, "1": 2, "a": 3}');
  });

  it('gives back every number as it was', () => {
    const number = fc
      .tuple(
        fc.constantFrom('', '-'),
        fc.bigInt({ min: 0n, max: 10n ** 25n }),
        fc.option(fc.bigInt({ min: 0n, max: 10n ** 20n })),
        fc.option(fc.tuple(fc.constantFrom('e', 'E', 'e+', 'e-'), fc.nat(400))),
      )
      .map(
        ([sign, whole, part, exponent]) =>
          `${sign}${whole}${part === null ? '' : `.${part}`}${exponent?.join('') ?? ''}`,
      );
    fc.assert(
      fc.property(number, (text) => {
        expect(stringify(parseExact(text))).toBe(text);
      }),
    );
  });
});

describe('stringify', () => {
  it.each<[unknown, string]>([
    [[[1, 2], {}, { callbacks: null, chord: null }], '[[1, 2], {}, {"callbacks": null, "chord": null}]'],
    [[], '[]'],
    [{ a: undefined, b: [undefined] }, '{"b": [null]}'],
    [undefined, 'null'],
    [[true, false], '[true, false]'],
    ['é😀\ud800', '"\\u00e9\\ud83d\\ude00\\ud800"'],
    ['"\\/\b\f\n\r\t\0\u001f\u007f', '"\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\\u007f"'],
    [2 ** 53, '9007199254740992.0'],
    [9007199254740991, '9007199254740991'],
    [-0, '-0.0'],
    [0.5, '0.5'],
    [1e16, '1e+16'],
    [1e22, '1e+22'],
    [1e-5, '1e-05'],
    [123456.789, '123456.789'],
    [[Number.NaN, Infinity, -Infinity], '[NaN, Infinity, -Infinity]'],
    [float(2), '2.0'],
    [new Numeral('1.50'), '1.50'],
    [10n ** 30n, '1000000000000000000000000000000'],
    [
      new Map<unknown, unknown>([
        ['b', 1],
        [1, 2],
        [1.5, 3],
        [true, undefined],
      ]),
      '{"b": 1, "1": 2, "1.5": 3}',
    ],
    [Object.assign(Object.create(null) as object, { a: 1 }), '{"a": 1}'],
    [JSON.parse('{"__proto__": 1}'), '{"__proto__": 1}'],
  ])('writes %o', (value, text) => {
    expect(stringify(value)).toBe(text);
  });

  it('is read back by JSON.parse as what it was', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(JSON.parse(stringify(value))).toEqual(value);
      }),
    );
  });

  it('asks replace for what is not plain, and writes what it says', () => {
    const replace = (value: object): unknown => (value instanceof Date ? { at: [value.getTime()] } : undefined);
    expect(stringify({ when: new Date(5) }, { replace })).toBe('{"when": {"at": [5]}}');
  });

  it.each<[unknown, string]>([
    [{ when: new Date(0) }, 'args.when: a Date'],
    [[1, { 'a b': [new Set()] }], 'args[1]["a b"][0]: a Set'],
    [[() => 1], 'args[0]: a function'],
    [[Symbol('x')], 'args[0]: a symbol'],
    [{ toJSON: () => 1 }, 'args: an Object'],
    [new Map([['k', new Uint8Array(1)]]), 'args.k: an Uint8Array'],
    [[new Numeral('1; drop')], 'args[0]: "1; drop" is not a number'],
    [new Map([[{}, 1]]), 'a key of args'],
  ])('refuses %o, naming the path and the type', (value, words) => {
    const error = caught(() => stringify(value, { at: 'args' }));
    expect(error.code).toBe('unencodable');
    expect(error.message).toContain(words);
  });

  it('refuses what contains itself, or replaces itself for ever', () => {
    const circle: unknown[] = [{}];
    (circle[0] as { back: unknown }).back = circle;
    expect(caught(() => stringify(circle)).message).toContain('value[0].back: it contains itself');
    class Endless {}
    expect(caught(() => stringify(new Endless(), { replace: () => [new Endless()] })).code).toBe('too-deep');
    const shared = { a: 1 };
    expect(stringify([shared, shared])).toBe('[{"a": 1}, {"a": 1}]');
  });

  it('refuses nesting without end', () => {
    let deep: unknown = 1;
    for (let level = 0; level < 100_000; level += 1) deep = [deep];
    expect(caught(() => stringify(deep)).code).toBe('too-deep');
  });
});

describe('edit', () => {
  const text = '{"body": "ab\\"c", "headers" : { "id":"1", "x": {"y": [1, {"id": 2}]}} , "n": 1.0}';

  it.each<[string, readonly { path: readonly string[]; value: string | undefined }[], string]>([
    ['replaces', [{ path: ['n'], value: '2' }], text.replace('1.0', '2')],
    ['replaces inside', [{ path: ['headers', 'x', 'y'], value: '[]' }], text.replace('[1, {"id": 2}]', '[]')],
    ['adds at the end', [{ path: ['new'], value: '"v"' }], text.replace('1.0}', '1.0, "new": "v"}')],
    ['adds inside', [{ path: ['headers', 'z'], value: 'null' }], text.replace(']}} ,', ']}, "z": null} ,')],
    ['removes the first', [{ path: ['body'], value: undefined }], text.replace('"body": "ab\\"c", ', '')],
    ['removes the last', [{ path: ['n'], value: undefined }], text.replace(' , "n": 1.0', '')],
    ['removes between', [{ path: ['headers'], value: undefined }], '{"body": "ab\\"c" , "n": 1.0}'],
    ['removes what is not there', [{ path: ['no'], value: undefined }], text],
    [
      'makes several changes, one after the other',
      [
        { path: ['headers', 'x'], value: '{}' },
        { path: ['headers', 'x', 'deep'], value: '1' },
        { path: ['n'], value: undefined },
      ],
      '{"body": "ab\\"c", "headers" : { "id":"1", "x": {"deep": 1}}}',
    ],
  ])('%s', (_, changes, expected) => {
    expect(edit(text, changes)).toBe(expected);
  });

  it('adds to an empty object, and empties one', () => {
    expect(edit('{ }', [{ path: ['a'], value: '1' }])).toBe('{"a": 1 }');
    expect(edit('{"a":1}', [{ path: ['a'], value: undefined }])).toBe('{}');
  });

  it('changes the last of two equal keys, and removes both', () => {
    expect(edit('{"a":1,"b":2,"a":3}', [{ path: ['a'], value: '9' }])).toBe('{"a":1,"b":2,"a":9}');
    expect(edit('{"a":1,"b":2,"a":3}', [{ path: ['a'], value: undefined }])).toBe('{"b":2}');
  });

  it('finds keys however they are escaped, and writes them as Python would', () => {
    expect(edit('{"\\u00e9": 1}', [{ path: ['é'], value: '2' }])).toBe('{"\\u00e9": 2}');
    expect(edit('{"é": 1}', [{ path: ['é'], value: '2' }])).toBe('{"é": 2}');
    expect(edit('{}', [{ path: ['é"'], value: '2' }])).toBe('{"\\u00e9\\"": 2}');
    expect(member('{"a\\\\": 1}', ['a\\'])).toBe('1');
    expect(member('{"a\\\\": 1}', ['a\\\\'])).toBeUndefined();
  });

  it.each<[string, readonly string[]]>([
    ['{"a": 1}', ['b', 'c']],
    ['{"a": 1}', ['a', 'c']],
    ['{"a": null}', ['a', 'c']],
    ['[1]', ['a']],
    ['{}', []],
  ])('refuses %s at %j: no parent', (json, path) => {
    expect(codeOf(() => edit(json, [{ path, value: '1' }]))[1]).toBe('no-member');
  });

  it.each(['', '{', '{"a"', '{"a":', '{"a":}', '{"a": 1', '{"a": [1', '{"a": "x', '{a: 1}', '{"a": 1,'])(
    'refuses broken text: %s',
    (broken) => {
      expect(caught(() => edit(broken, [{ path: ['a'], value: '1' }]))).toBeInstanceOf(WireError);
    },
  );

  it('leaves every other byte alone', () => {
    const object = fc.dictionary(fc.string(), fc.jsonValue(), { minKeys: 1, noNullPrototype: true });
    fc.assert(
      fc.property(object, fc.jsonValue(), fc.nat(), (value, item, at) => {
        const json = JSON.stringify(value, null, at % 3);
        const key = Object.keys(value)[at % Object.keys(value).length] as string;
        const raw = member(json, [key]) as string;
        expect(JSON.parse(raw)).toEqual(JSON.parse(JSON.stringify(value[key])));
        expect(edit(json, [{ path: [key], value: raw }])).toBe(json);
        const edited = edit(json, [{ path: [key], value: JSON.stringify(item) }]);
        expect(JSON.parse(edited)[key]).toEqual(JSON.parse(JSON.stringify(item)));
        const { [key]: _, ...rest } = JSON.parse(json) as Record<string, unknown>;
        expect(JSON.parse(edit(json, [{ path: [key], value: undefined }]))).toEqual(rest);
      }),
    );
  });
});

describe('member', () => {
  it('gives the raw text, or undefined', () => {
    const text = ' {"a": {"b": [1.0, "}"]}, "c":"\\u00e9" , "d":-1 }';
    expect(member(text, ['a', 'b'])).toBe('[1.0, "}"]');
    expect(member(text, ['c'])).toBe('"\\u00e9"');
    expect(member(text, ['d'])).toBe('-1');
    expect(member(text, ['a', 'x'])).toBeUndefined();
    expect(member(text, ['c', 'x'])).toBeUndefined();
    expect(member(text, [])).toBe(text.trim());
  });
});

function caught(act: () => unknown): WireError {
  try {
    act();
  } catch (error) {
    expect(error).toBeInstanceOf(WireError);
    return error as WireError;
  }
  throw new Error('nothing was thrown');
}

function codeOf(act: () => unknown): [string, string, number | undefined] {
  const { system, code, offset } = caught(act);
  return [system, code, offset];
}
