import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { WireError } from '../../../protocols/errors.ts';
import {
  decodeArgument,
  decodeArguments,
  Decimal,
  Duration,
  encodeArgument,
  encodeArguments,
  exceptionsKey,
  GlobalId,
  hashKind,
  keywordHash,
  nextRun,
  PlainDate,
  readJob,
  retryWait,
  RubyHash,
  RubyModule,
  RubyRange,
  RubySymbol,
  RubyTime,
  SerializedObject,
  splitKeywords,
  symbolKeys,
  symbolsOf,
  TimeWithZone,
  writeJob,
} from '../../../protocols/formats/active-job/index.ts';
import { parse, parseExact, stringify } from '../../../protocols/formats/json.ts';
import { DateTime, float, Numeral } from '../../../protocols/formats/values.ts';

const NAME = 'ActiveJob::Serializers::';

/** A JSON text through the codec and back. */
function again(text: string, exact = true): string {
  const value = exact ? parseExact(text) : parse(text);
  return stringify(encodeArgument(decodeArgument(value, { exact }), { rails: '8.1' }));
}

function refusal(run: () => unknown): WireError {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(WireError);
    return error as WireError;
  }
  throw new Error('it was not refused');
}

describe('what comes goes back as it came', () => {
  test.each([
    '{}',
    '{"_aj_symbol_keys": []}',
    '{"a": 1, "_aj_symbol_keys": ["a", "gone"]}',
    '{"_aj_symbol_keys": ["a"], "a": 1}',
    '{"a": 1, "_aj_hash_with_indifferent_access": true, "b": 2}',
    '{"a": 1, "_aj_hash_with_indifferent_access": false, "_aj_symbol_keys": ["a"]}',
    '{"a": 1, "_aj_hash_with_indifferent_access": true, "_aj_symbol_keys": ["a"]}',
    '{"_aj_ruby2_keywords": []}',
    '{"10": 1, "9": 2, "_aj_symbol_keys": []}',
    '{"__proto__": 1, "constructor": 2, "_aj_symbol_keys": ["__proto__"]}',
    '{"_aj_globalid": "gid://shop/Order/1", "more": 1}',
    '{"_aj_globalid": "gid://shop/Order/a%2Fb+c?x=1&y=%26"}',
    '{"_aj_globalid": "gid://shop/Order/1/2"}',
    `{"_aj_serialized": "${NAME}SymbolSerializer", "value": "a", "since": 9}`,
    `{"value": "a", "_aj_serialized": "${NAME}SymbolSerializer"}`,
    `{"_aj_serialized": "${NAME}DurationSerializer", "value": 1.0, "parts": [[{"_aj_serialized": "${NAME}SymbolSerializer", "value": "seconds"}, 1.0]]}`,
    `{"_aj_serialized": "${NAME}DurationSerializer", "value": 12345678901234567890, "parts": []}`,
    `{"_aj_serialized": "${NAME}TimeSerializer", "value": "2024-02-29T12:34:56Z"}`,
    `{"_aj_serialized": "${NAME}TimeSerializer", "value": "2024-02-29T12:34:56+0200"}`,
    `{"_aj_serialized": "${NAME}TimeSerializer", "value": "2024-02-29T12:34:56"}`,
    `{"_aj_serialized": "${NAME}TimeSerializer", "value": "12024-02-29T12:34:56.000000000Z"}`,
    `{"_aj_serialized": "${NAME}DateSerializer", "value": "-0044-03-15"}`,
    `{"_aj_serialized": "${NAME}TimeWithZoneSerializer", "value": "2024-02-29T12:34:56.000000000Z"}`,
    `{"_aj_serialized": "${NAME}TimeWithZoneSerializer", "value": "2024-02-29T12:34:56.000000000Z", "time_zone": null}`,
    `{"_aj_serialized": "${NAME}RangeSerializer", "begin": null, "end": {"_aj_serialized": "${NAME}DateSerializer", "value": "2024-01-01"}, "exclude_end": true}`,
    `{"_aj_serialized": "${NAME}RangeSerializer", "end": 1, "begin": 0}`,
    `{"_aj_serialized": "${NAME}BigDecimalSerializer", "value": "NaN"}`,
    '{"_aj_serialized": "MoneySerializer", "cents": 5, "parts": [{"_aj_globalid": "kept"}], "_aj_symbol_keys": 1}',
    '{"_aj_serialized": "MoneySerializer"}',
    '[1.0, 12345678901234567890, 1e+22, -0, [], [[]]]',
  ])('%s', (text) => {
    expect(again(text)).toBe(stringify(parseExact(text)));
  });

  test('a time that was changed is written anew, and so is a hash with another key', () => {
    const time = decodeArgument({ _aj_serialized: `${NAME}TimeSerializer`, value: '2024-02-29T12:34:56+0200', x: 1 });
    (time as RubyTime).setUTCFullYear(2025, 0, 1);
    expect(encodeArgument(time)).toEqual({
      _aj_serialized: `${NAME}TimeSerializer`,
      value: '2025-01-01T10:34:56+00:00',
    });
    const hash = decodeArgument({ _aj_symbol_keys: ['a'], a: 1, b: 2 }) as Record<string, unknown>;
    delete hash['b'];
    hash['c'] = 3;
    expect(encodeArgument(hash)).toEqual({ a: 1, c: 3, _aj_symbol_keys: ['a'] });
    const all = decodeArgument({ a: 1, _aj_symbol_keys: ['a'] }) as Record<string, unknown>;
    all['b'] = 2;
    expect(encodeArgument(all)).toEqual({ a: 1, b: 2, _aj_symbol_keys: ['a', 'b'] });
  });

  test('any JSON comes back, or is refused by name', () => {
    const key = fc.oneof(
      fc.string(),
      fc.constantFrom(
        '_aj_symbol_keys',
        '_aj_ruby2_keywords',
        '_aj_hash_with_indifferent_access',
        '_aj_globalid',
        '_aj_serialized',
        'value',
        '__proto__',
        '1',
      ),
    );
    const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
      tree: fc.oneof(
        { maxDepth: 4 },
        fc.constantFrom(null, true, 1, 1.5, 'a', '_aj_symbol_keys', 'gid://shop/Order/1', '2024-02-29T12:34:56Z'),
        fc
          .constantFrom('Symbol', 'Duration', 'Time', 'Range', 'Date', 'Module')
          .map((name) => `${NAME}${name}Serializer`),
        fc.array(tie('tree')),
        fc.array(fc.tuple(key, tie('tree'))).map((entries) => new Map(entries)),
      ),
    }));
    let kept = 0;
    fc.assert(
      fc.property(tree, (value) => {
        const text = stringify(value);
        try {
          expect(again(text)).toBe(text);
          kept += 1;
        } catch (error) {
          expect(error).toBeInstanceOf(WireError);
          expect((error as WireError).message).toMatch(/^active-job: /);
        }
      }),
      { numRuns: 2000 },
    );
    expect(kept).toBeGreaterThan(500);
  });
});

describe('reading', () => {
  test('plain objects have the members only, and remember the rest', () => {
    const [hash] = decodeArguments([{ a: { b: 1, _aj_symbol_keys: ['b'] }, _aj_symbol_keys: [] }]) as [{ a: object }];
    expect(hash).toEqual({ a: { b: 1 } });
    expect([hashKind(hash), [...symbolsOf(hash)], [...symbolsOf(hash.a)]]).toEqual(['hash', [], ['b']]);
    expect(hashKind({ ...hash })).toBeUndefined();
  });

  test('`__proto__` is a key like others', () => {
    const text = '{"__proto__": {"polluted": true}, "_aj_symbol_keys": []}';
    const hash = decodeArgument(parse(text)) as object;
    expect(Object.keys(hash)).toEqual(['__proto__']);
    expect(Object.getPrototypeOf(hash)).toBe(Object.prototype);
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
    const made = decodeArgument(parse('{"_aj_serialized": "__proto__", "__proto__": 1}'));
    expect(made).toEqual(new SerializedObject('__proto__', new Map([['__proto__', 1]])));
  });

  test('only a whole object of one key is a record', () => {
    expect(decodeArgument({ _aj_globalid: 'gid://a/B/1' })).toEqual(new GlobalId('a', 'B', 1));
    expect(decodeArgument({ _aj_globalid: 'gid://a/B/1', x: 1 })).toEqual({ _aj_globalid: 'gid://a/B/1', x: 1 });
  });

  test('the name of a record has its parts', () => {
    const id = GlobalId.parse('gid://my-shop/Billing::Invoice/a%2Fb+c?tenant=x%20y') as GlobalId;
    expect({ ...id, id: id.id, params: [...id.params] }).toEqual({
      uri: 'gid://my-shop/Billing::Invoice/a%2Fb+c?tenant=x%20y',
      app: 'my-shop',
      model: 'Billing::Invoice',
      id: 'a/b c',
      ids: ['a/b c'],
      params: [['tenant', 'x y']],
    });
    expect(GlobalId.parse('gid://shop/Line/7/3')?.ids).toEqual(['7', '3']);
    expect(new GlobalId('shop', 'Order', 'a/b *ü', { x: '1&2' }).uri).toBe('gid://shop/Order/a%2Fb+%2A%C3%BC?x=1%262');
    for (const text of [
      '',
      'gid://',
      'gid://a/B',
      'gid://a/B/',
      'http://a/B/1',
      'gid://a/B/%',
      'gid:// /B/1',
      'gid://a/B/1#x',
    ])
      expect(GlobalId.parse(text), text).toBeUndefined();
    for (const bad of ['', [], ['a', '']]) expect(() => new GlobalId('a', 'B', bad)).toThrow(TypeError);
  });

  test('a serializer of the application may have a meaning', () => {
    const options = {
      deserialize: ({ serializer, members }: SerializedObject) =>
        serializer === 'MoneySerializer' ? `${String(members.get('cents'))} cents` : undefined,
    };
    expect(
      decodeArguments([{ _aj_serialized: 'MoneySerializer', cents: 5 }, { _aj_serialized: 'Other' }], options),
    ).toEqual(['5 cents', new SerializedObject('Other', {})]);
  });

  test.each([
    [{ _aj_globalid: 5 }, 'arguments[1]: not a GlobalID: 5'],
    [{ _aj_globalid: 'nope' }, 'not a GlobalID: "nope"'],
    [{ _aj_serialized: 5 }, 'no name of a serializer: 5'],
    [{ _aj_serialized: `${NAME}SymbolSerializer` }, 'is a text, not undefined'],
    [{ _aj_serialized: `${NAME}TimeSerializer`, value: 'soon' }, 'not a time: "soon"'],
    [{ _aj_serialized: `${NAME}TimeWithZoneSerializer`, value: '2024-02-29T12:34:56Z', time_zone: 1 }, 'not 1'],
    [{ _aj_serialized: `${NAME}DurationSerializer`, value: '1', parts: [] }, 'not a duration'],
    [{ _aj_serialized: `${NAME}DurationSerializer`, value: 1, parts: [['days', 1]] }, 'not a part of a duration'],
    [{ a: 1, _aj_symbol_keys: 'a' }, '_aj_symbol_keys is a list of keys, not "a"'],
  ])('%j is refused: %s', (value, why) => {
    const error = refusal(() => decodeArguments([0, value]));
    expect([error.code, error.system]).toEqual(['undecodable', 'active-job']);
    expect(error.message).toContain(why);
    expect(error.message).toContain('arguments[1]');
  });

  test('what is too deep is refused, and depth costs nothing else', () => {
    const deep = (levels: number): unknown => parse(`${'['.repeat(levels)}${']'.repeat(levels)}`);
    expect(decodeArguments(deep(1000))).toHaveLength(1);
    expect(refusal(() => decodeArguments(deep(999), { maxDepth: 500 })).code).toBe('too-deep');
    const hashes = parse(`${'{"a":'.repeat(600)}1${'}'.repeat(600)}`);
    expect(refusal(() => decodeArguments([hashes], { maxDepth: 500 })).message).toBe(
      'active-job: arguments[0].a.a.a.a.a.a.a…: nested more than 500 levels deep',
    );
  });

  test('many keys and many symbols are read in time that grows with them', () => {
    const keys = Array.from({ length: 100_000 }, (_, index) => `k${index}`);
    const hash = { ...Object.fromEntries(keys.map((key) => [key, 1])), _aj_symbol_keys: keys };
    const read = decodeArgument(hash) as object;
    expect(symbolsOf(read).size).toBe(100_000);
    expect(stringify(encodeArgument(read))).toBe(stringify(hash));
  });
});

describe('writing', () => {
  test.each([
    ['undefined', undefined, 'null'],
    ['a hole', Object.assign([], { 1: 1 }), '[null, 1]'],
    ['a plain object', { a: 1 }, '{"a": 1, "_aj_symbol_keys": []}'],
    [
      'a Map',
      new Map([
        ['2', 1],
        ['1', 2],
      ]),
      '{"2": 1, "1": 2, "_aj_symbol_keys": []}',
    ],
    ['symbols for keys', symbolKeys({ a: 1 }), '{"a": 1, "_aj_symbol_keys": ["a"]}'],
    [
      'mixed keys',
      new RubyHash(
        [
          ['a', 1],
          ['b', 2],
        ],
        'hash',
        ['b'],
      ),
      '{"a": 1, "b": 2, "_aj_symbol_keys": ["b"]}',
    ],
    ['keywords in the middle', keywordHash({ a: 1 }), '{"a": 1, "_aj_ruby2_keywords": ["a"]}'],
    ['a bigint', 2n ** 64n, '18446744073709551616'],
    ['a float', float(2), '2.0'],
    [
      'a time with an offset of another system',
      new DateTime('2024-02-29T12:34:56.000001+02:00'),
      `{"_aj_serialized": "${NAME}TimeSerializer", "value": "2024-02-29T12:34:56.000001+02:00"}`,
    ],
    [
      'a time without',
      new DateTime('2024-02-29T12:34:56.000001'),
      `{"_aj_serialized": "${NAME}TimeSerializer", "value": "2024-02-29T12:34:56.000001Z"}`,
    ],
    [
      'a time of two digits',
      new DateTime('2024-02-29'),
      `{"_aj_serialized": "${NAME}TimeSerializer", "value": "2024-02-29T00:00:00.000000000Z"}`,
    ],
    [
      'a zone',
      new TimeWithZone('2024-07-01T09:00:00+02:00', 'Paris'),
      `{"_aj_serialized": "${NAME}TimeWithZoneSerializer", "value": "2024-07-01T09:00:00+02:00", "time_zone": "Paris"}`,
    ],
    ['a module', new RubyModule('A::B'), `{"_aj_serialized": "${NAME}ModuleSerializer", "value": "A::B"}`],
    ['an own object', new SerializedObject('S', { b: 1, '1': 2 }), '{"_aj_serialized": "S", "1": 2, "b": 1}'],
  ])('%s', (_, value, text) => {
    expect(stringify(encodeArgument(value))).toBe(text);
  });

  test('keywords are the last argument, and none are none', () => {
    expect(encodeArguments([5], { times: 2 })).toEqual([5, { times: 2, _aj_ruby2_keywords: ['times'] }]);
    expect(encodeArguments([5], {})).toEqual([5]);
    expect(encodeArguments([], symbolKeys({ a: 1 }))).toEqual([{ a: 1, _aj_ruby2_keywords: ['a'] }]);
    expect(splitKeywords(decodeArguments([{ a: 1, _aj_ruby2_keywords: ['a'] }, 1]))).toEqual({
      args: [{ a: 1 }, 1],
      kwargs: {},
    });
    expect(splitKeywords([])).toEqual({ args: [], kwargs: {} });
  });

  test('a class of the application may have a serializer', () => {
    class Money {
      readonly cents = 5;
    }
    const serialize = (value: object): SerializedObject | undefined =>
      value instanceof Money ? new SerializedObject('MoneySerializer', { cents: value.cents }) : undefined;
    expect(encodeArguments([[new Money()]], {}, { serialize })).toEqual([
      [{ _aj_serialized: 'MoneySerializer', cents: 5 }],
    ]);
    expect(refusal(() => encodeArguments([[new Money()]])).message).toBe(
      'active-job: cannot write args[0][0]: a Money has no form in Active Job. Pass plain data, or a GlobalId, or set `serialize`',
    );
  });

  test.each([
    ['a number that JSON has not', Number.NaN, 'has no NaN'],
    ['a float that JSON has not', new Numeral('Infinity'), 'has no Infinity'],
    ['a function', () => {}, 'a function'],
    ['a JavaScript symbol', Symbol('a'), `new RubySymbol('name')`],
    ['bytes', Buffer.from('a'), 'a Buffer has no form'],
    ['a set', new Set([1]), 'a Set has no form'],
    ['half a surrogate pair', 'a\ud800', 'half of a surrogate pair'],
    ['half a surrogate pair in a key', { '\udc00': 1 }, 'half of a surrogate pair'],
    ['a key that is no text', new Map([[1, 1]]), 'a key of a hash is a text'],
    ['a reserved key', { _aj_serialized: 1 }, '"_aj_serialized" is a key that Active Job keeps to itself'],
    ['an invalid Date', new Date(Number.NaN), 'an invalid Date'],
    ['a year of five digits', new Date('+010000-01-01T00:00:00Z'), 'a time of the year 10000'],
    [
      'a range, to any Rails',
      new RubyRange(1, 2),
      `Rails before 7.0 does not know a Range: pass its ends, or set rails: '7.0'`,
    ],
    ['a decimal, to any Rails', new Decimal('1.5'), 'Rails before 7.1 does not know a BigDecimal'],
  ])('%s is refused, by its place', (_, value, why) => {
    const error = refusal(() => encodeArguments([0, { at: [value] }]));
    expect(error.code).toBe('unencodable');
    expect(error.message).toContain('args[1].at[0]');
    expect(error.message).toContain(why);
    expect(refusal(() => encodeArguments([], { when: value })).message).toContain('kwargs.when');
  });

  test('what Rails does not know yet is refused until it does', () => {
    for (const rails of ['6.1', '7.0'] as const) {
      expect(refusal(() => encodeArgument(new Decimal('1'), { rails })).message).toContain(`rails is '${rails}'`);
    }
    expect(encodeArgument(new Decimal('1'), { rails: '7.1' })).toMatchObject({ value: '1' });
    expect(encodeArgument(new RubyRange(1, null), { rails: '7.0' })).toMatchObject({ end: null });
  });

  test('what is deeper than Ruby reads is refused', () => {
    const nested = (levels: number): unknown => {
      let value: unknown = 1;
      for (let level = 0; level < levels; level += 1) value = [value];
      return value;
    };
    expect(encodeArguments([nested(96)])).toHaveLength(1);
    expect(refusal(() => encodeArguments([nested(97)])).code).toBe('too-deep');
    expect(encodeArguments([nested(93), new RubySymbol('a')])).toHaveLength(2);
    const around = (levels: number, inner: unknown): unknown => {
      let value = inner;
      for (let level = 0; level < levels; level += 1) value = [value];
      return value;
    };
    expect(encodeArguments([around(92, Duration.of({ days: 1 }))])).toHaveLength(1);
    expect(refusal(() => encodeArguments([around(93, Duration.of({ days: 1 }))])).code).toBe('too-deep');
    expect(encodeArguments([new SerializedObject('S', { a: nested(95) })])).toHaveLength(1);
    expect(refusal(() => encodeArguments([new SerializedObject('S', { a: nested(96) })])).code).toBe('too-deep');
    const circle: unknown[] = [];
    circle.push(circle);
    expect(refusal(() => encodeArguments(circle)).message).toContain('it contains itself');
  });
});

describe('a job', () => {
  const enqueuedAt = new Date('2026-11-21T00:13:59.005Z');

  test('is written in the words of a version', () => {
    const job = { jobClass: 'AJob', jobId: 'id', queueName: 'q', enqueuedAt };
    expect(stringify(writeJob(job))).toBe(
      '{"job_class": "AJob", "job_id": "id", "provider_job_id": null, "queue_name": "q", "priority": null, "arguments": [], ' +
        '"executions": 0, "exception_executions": {}, "locale": "en", "timezone": "UTC", ' +
        '"enqueued_at": "2026-11-21T00:13:59.005000000Z", "scheduled_at": null}',
    );
    expect(writeJob(job, { rails: '7.0' })).toMatchObject({ enqueued_at: '2026-11-21T00:13:59Z' });
    expect(writeJob(job, { rails: '7.0' })).not.toHaveProperty('scheduled_at');
    expect(writeJob({ ...job, scheduledAt: enqueuedAt, priority: 0 }, { rails: '7.1' })).toMatchObject({
      scheduled_at: '2026-11-21T00:13:59.005000000Z',
      priority: 0,
    });
  });

  test('is read where little of it is there', () => {
    expect(readJob({ job_class: 'AJob' })).toMatchObject({
      jobClass: 'AJob',
      jobId: undefined,
      arguments: [],
      executions: 0,
      exceptionExecutions: new Map(),
      continuation: undefined,
    });
  });

  test.each([
    [null, 'an object, not null'],
    [[], 'an object, not []'],
    ['AJob', 'an object, not "AJob"'],
    [{}, 'job_class is the name of a class, not undefined'],
    [{ job_class: '' }, 'job_class'],
    [{ job_class: 'A', arguments: {} }, 'arguments is a list, not {}'],
    [{ job_class: 'A', executions: '1' }, 'executions is a number, not "1"'],
    [{ job_class: 'A', priority: [] }, 'priority is a number'],
    [{ job_class: 'A', exception_executions: [] }, 'exception_executions is an object'],
    [{ job_class: 'A', exception_executions: { '[E]': 'x' } }, '[E] is a number'],
    [{ job_class: 'A', continuation: { completed: [1] } }, 'not a continuation'],
    [{ job_class: 'A', continuation: [] }, 'an object, not []'],
  ])('%j is refused: %s', (data, why) => {
    const error = refusal(() => readJob(data));
    expect(error.code).toBe('undecodable');
    expect(error.message).toContain(why);
  });

  test('that runs again keeps what it has, and writes times as it had them', () => {
    const old = readJob(
      parseExact(
        '{"job_class":"A","job_id":"x","tenant":1.0,"executions":1,"enqueued_at":"2026-11-21T00:12:08Z","arguments":[1.0]}',
      ),
    );
    const next = { enqueuedAt, scheduledAt: enqueuedAt, executions: 2, exceptionExecutions: new Map([['[E]', 2]]) };
    expect(stringify(nextRun(old, next))).toBe(
      '{"job_class": "A", "job_id": "x", "tenant": 1.0, "executions": 2, "enqueued_at": "2026-11-21T00:13:59Z", "arguments": [1.0], ' +
        '"exception_executions": {"[E]": 2}}',
    );
    const now = readJob({ job_class: 'A', scheduled_at: null });
    expect(nextRun(now, next)).toMatchObject({ scheduled_at: '2026-11-21T00:13:59.005000000Z' });
  });

  test('that goes on writes its cursor as an argument', () => {
    const job = readJob({ job_class: 'A', continuation: { completed: [], current: ['s', 1] }, resumptions: 1 });
    const continuation = { completed: ['s'], current: { step: 't', cursor: new PlainDate('2024-01-01') } };
    const again = readJob(nextRun(job, { enqueuedAt, continuation, resumptions: 2 }));
    expect(again.continuation).toEqual(continuation);
    expect(again.fields.get('continuation')).toEqual({
      completed: ['s'],
      current: ['t', { _aj_serialized: `${NAME}DateSerializer`, value: '2024-01-01' }],
    });
    expect(readJob(nextRun(again, { enqueuedAt })).continuation).toEqual(continuation);
  });

  test('waits as retry_on has it', () => {
    expect(retryWait(3, 1, 0, 0.5)).toBe(3);
    expect(retryWait(3, 1, 0.15, 0.5)).toBeCloseTo(3.225);
    expect([1, 2, 3].map((runs) => retryWait('polynomially_longer', runs, 0, 0.5))).toEqual([3, 18, 83]);
    expect(retryWait('polynomially_longer', 2, 0.5, 0.5)).toBe(22);
    expect(exceptionsKey(['A', 'B::C'])).toBe('[A, B::C]');
  });
});
