import { deflateSync, gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import {
  acceptSet,
  compress,
  contentTypeOf,
  decodeContent,
  decompress,
  defaultLimits,
  encodeContent,
  encodeJson,
} from '../../../protocols/celery/message/serializers.ts';
import { WireError } from '../../../protocols/errors.ts';
import { decode as unpickle, PyGlobal, PyObject, Tuple } from '../../../protocols/formats/pickle/index.ts';
import { DateTime, Decimal, Numeral, PlainDate, PlainTime, Uuid } from '../../../protocols/formats/values.ts';

const accept = acceptSet(['json', 'msgpack', 'yaml', 'text/plain', 'application/x-strange']);

function decode(
  body: string | Uint8Array,
  more: Partial<Parameters<typeof decodeContent>[0]> & { exact?: boolean } = {},
): unknown {
  const { exact, ...content } = more;
  return decodeContent(
    {
      body: typeof body === 'string' ? Buffer.from(body) : body,
      contentType: 'application/json',
      contentEncoding: 'utf-8',
      compression: undefined,
      ...content,
    },
    { accept, limits: defaultLimits, ...(exact === undefined ? {} : { exact }) },
  );
}

describe('content types', () => {
  it('have names', () => {
    expect(['json', 'msgpack', 'yaml', 'raw', 'application/x-foo'].map(contentTypeOf)).toEqual([
      'application/json',
      'application/x-msgpack',
      'application/x-yaml',
      'application/data',
      'application/x-foo',
    ]);
  });

  it.each(['bson', 'toString', '', 'JSON'])('%j is none', (name) => {
    expect(caught(() => contentTypeOf(name)).code).toBe('unknown-content-type');
  });

  it('pickle is accepted only by its name', () => {
    for (const name of ['pickle', 'application/x-python-serialize']) {
      expect(acceptSet([name]).has('application/x-python-serialize')).toBe(true);
    }
    expect(acceptSet(['json', 'msgpack', 'yaml', 'raw']).has('application/x-python-serialize')).toBe(false);
  });

  it('data and text are always accepted', () => {
    expect([...acceptSet(['json'])]).toEqual(['application/data', 'application/text', 'application/json']);
  });
});

describe('decodeContent', () => {
  it('refuses a type that is not accepted, and says how to accept it', () => {
    const content = {
      body: Buffer.from('[]'),
      contentType: 'application/x-yaml',
      contentEncoding: 'utf-8',
      compression: undefined,
    };
    const error = caught(() => decodeContent(content, { accept: acceptSet(['json']), limits: defaultLimits }));
    expect([error.system, error.code]).toEqual(['celery', 'content-disallowed']);
    expect(error.message).toContain('refused content of type application/x-yaml');
    expect(error.message).toContain("Add 'yaml' to the accepted content");
  });

  it('refuses pickle where it is not accepted, and says what it does to Python', () => {
    const error = caught(() => decode('\x80\x04N.', { contentType: 'application/x-python-serialize' }));
    expect(error.code).toBe('content-disallowed');
    expect(error.message).toContain('Python workers run what is in it');
  });

  it('reads pickle as data where it is accepted, and a signature in it as its fields', () => {
    const contentType = 'application/x-python-serialize';
    const read = (pickle: string, exact = false): unknown =>
      decodeContent(
        { body: Buffer.from(pickle, 'latin1'), contentType, contentEncoding: 'binary', compression: undefined },
        { accept: acceptSet(['pickle']), limits: defaultLimits, exact },
      );
    expect(read("cos\nsystem\n(S'touch /tmp/x'\ntR.")).toEqual(
      new PyObject(new PyGlobal('os', 'system'), Tuple.of<unknown>('touch /tmp/x')),
    );
    const signature = "ccelery.canvas\nsignature\n(}S'task'\nS'app.add'\nstR.";
    expect(read(signature)).toEqual({ task: 'app.add' });
    expect(read(signature, true)).toEqual(new Map([['task', 'app.add']]));
    expect(caught(() => read('\x80\x04N')).code).toBe('undecodable');
  });

  it('writes pickle', () => {
    const { body, contentType, contentEncoding } = encodeContent('pickle', [1, { a: null }]);
    expect([contentType, contentEncoding]).toEqual(['application/x-python-serialize', 'binary']);
    expect(unpickle(body)).toEqual([1, { a: null }]);
  });

  it('has no decoder for an accepted type it does not know', () => {
    expect(caught(() => decode('x', { contentType: 'application/x-strange' })).code).toBe('unknown-content-type');
  });

  it('reads each serializer', () => {
    for (const name of ['json', 'msgpack', 'yaml']) {
      const content = encodeContent(name, { a: [1, 'é', null] });
      expect(decodeContent({ ...content, compression: undefined }, { accept, limits: defaultLimits })).toEqual({
        a: [1, 'é', null],
      });
      expect(
        decodeContent({ ...content, compression: undefined }, { accept, limits: defaultLimits, exact: true }),
      ).toEqual(new Map([['a', [1, 'é', null]]]));
    }
  });

  it.each([
    ['utf-8', 'é', 'é'],
    [undefined, 'é', 'é'],
    ['us-ascii', 'e', 'e'],
    ['latin-1', Buffer.from([0xe9]), 'é'],
    ['binary', 'é', Buffer.from('é')],
    ['ascii-8bit', 'é', Buffer.from('é')],
  ])('reads data in %s as text, or as bytes', (contentEncoding, body, value) => {
    expect(decode(body, { contentType: 'application/data', contentEncoding })).toEqual(value);
    expect(decode(body, { contentType: 'text/plain', contentEncoding })).toEqual(value);
    expect(decode(body, { contentType: undefined, contentEncoding })).toEqual(value);
  });

  it('reads a type with parameters, and of any case', () => {
    expect(decode('[1]', { contentType: 'Application/JSON; charset=utf-8' })).toEqual([1]);
  });

  it.each<[string, string | Uint8Array, object, string]>([
    ['broken JSON', '[1', {}, 'undecodable'],
    ['an empty body', '', {}, 'undecodable'],
    ['broken UTF-8', Buffer.from([0x22, 0xff, 0x22]), {}, 'undecodable'],
    ['half a surrogate pair in UTF-8', Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]), {}, 'undecodable'],
    ['broken UTF-8 in YAML', Buffer.from([0xff]), { contentType: 'application/x-yaml' }, 'undecodable'],
    ['broken MessagePack', Buffer.from([0x91]), { contentType: 'application/x-msgpack' }, 'undecodable'],
    ['text that is not ASCII', 'é', { contentType: 'text/plain', contentEncoding: 'us-ascii' }, 'undecodable'],
    ['an unknown encoding', 'e', { contentType: 'text/plain', contentEncoding: 'utf-7' }, 'undecodable'],
    ['deep nesting', '['.repeat(2000), {}, 'too-deep'],
    ['deep MessagePack', Buffer.alloc(2000, 0x91), { contentType: 'application/x-msgpack' }, 'too-deep'],
    ['deep YAML', '['.repeat(2000), { contentType: 'application/x-yaml' }, 'too-deep'],
    ['an unknown compression', '[]', { compression: 'application/x-strange' }, 'unknown-compression'],
    ['what is not compressed', '[]', { compression: 'gzip' }, 'undecodable'],
    ['what is cut short', deflateSync('[1, 2, 3]').subarray(0, 8), { compression: 'zlib' }, 'undecodable'],
  ])('%s is an error of celery', (_, body, more, code) => {
    const error = caught(() => decode(body, more));
    expect([error.system, error.code]).toEqual(['celery', code]);
  });

  it('limits the body, compressed or not', () => {
    const limits = { maxBytes: 1000, maxDepth: 10 };
    const read = (body: Uint8Array, compression?: string): unknown =>
      decodeContent(
        { body, contentType: 'application/json', contentEncoding: 'utf-8', compression },
        { accept, limits },
      );
    const bomb = deflateSync(Buffer.alloc(100_000_000, ' '));
    expect(caught(() => read(Buffer.alloc(1001, ' '))).code).toBe('too-large');
    expect(caught(() => read(bomb.subarray(0, 1000), 'gzip')).code).toBe('too-large');
    expect(caught(() => read(compress('brotli', Buffer.alloc(1_000_000, 32)).body, 'brotli')).code).toBe('too-large');
    expect(read(compress('gzip', Buffer.from(`[1]${' '.repeat(997)}`)).body, 'gzip')).toEqual([1]);
  });
});

describe('marked values', () => {
  const cases: readonly (readonly [string, unknown])[] = [
    [
      '{"__type__": "datetime", "__value__": "2026-11-21T00:01:25.636720+00:00"}',
      new DateTime('2026-11-21T00:01:25.636720+00:00'),
    ],
    ['{"__type__": "datetime", "__value__": "2026-11-21T00:01:25"}', new DateTime('2026-11-21T00:01:25')],
    ['{"__type__": "date", "__value__": "2026-11-21"}', new PlainDate('2026-11-21')],
    ['{"__type__": "time", "__value__": "10:20:30.000001"}', new PlainTime('10:20:30.000001')],
    ['{"__type__": "decimal", "__value__": "1.50"}', new Decimal('1.50')],
    ['{"__type__": "decimal", "__value__": "NaN"}', new Decimal('NaN')],
    [
      '{"__type__": "uuid", "__value__": {"hex": "0123456789abcdef0123456789abcdef"}}',
      new Uuid('01234567-89ab-cdef-0123-456789abcdef'),
    ],
    ['{"__type__": "bytes", "__value__": "h\\u00e9"}', Buffer.from('hé')],
    ['{"__type__": "base64", "__value__": "//8="}', Buffer.from([255, 255])],
  ];

  it.each(cases)('%s both ways', (text, value) => {
    expect(decode(`[{"a": ${text}}]`)).toEqual([{ a: value }]);
    expect(encodeJson([{ a: value }])).toBe(`[{"a": ${text}}]`);
    expect(decode(text)).toEqual(value);
  });

  it("are written for Dates, in Python's form", () => {
    expect(encodeJson(new Date(1_700_000_000_000))).toBe(
      '{"__type__": "datetime", "__value__": "2023-11-14T22:13:20+00:00"}',
    );
    expect(encodeJson(new Date(1_700_000_000_001))).toContain('"2023-11-14T22:13:20.001000+00:00"');
  });

  it.each([
    ['2026-11-21T00:01:25Z', '2026-11-21T00:01:25+00:00'],
    ['2026-11-21T00:01:25.6367Z', '2026-11-21T00:01:25.636700+00:00'],
    ['2026-11-21T00:01:25.123456789+0130', '2026-11-21T00:01:25.123456+01:30'],
    ['20261121T000125-02', '2026-11-21T00:01:25-02:00'],
    ['2026-11-21', '2026-11-21T00:00:00'],
    ['2026-11-21 00:01', '2026-11-21T00:01:00'],
  ])('a DateTime of %s is written so that every Python reads it', (iso, written) => {
    expect(encodeJson(new DateTime(iso))).toBe(`{"__type__": "datetime", "__value__": "${written}"}`);
  });

  it('of unknown types stay what they are, and go back as they came', () => {
    const text = '[{"__type__": "money", "__value__": {"__type__": "decimal", "__value__": "1.50"}}]';
    expect(decode(text)).toEqual([{ __type__: 'money', __value__: new Decimal('1.50') }]);
    expect(encodeJson(decode(text))).toBe(text);
  });

  it.each([
    '{"__type__": "date", "__value__": "2026-11-21", "more": 1}',
    '{"__type__": "date"}',
    '["__type__", "__value__"]',
    '{"a": "__type__"}',
  ])('need exactly two keys: %s', (text) => {
    expect(decode(text)).toEqual(JSON.parse(text));
  });

  it.each([
    '{"__type__": "datetime", "__value__": "tomorrow"}',
    '{"__type__": "datetime", "__value__": "2026-13-21"}',
    '{"__type__": "date", "__value__": 5}',
    '{"__type__": "time", "__value__": "noon"}',
    '{"__type__": "decimal", "__value__": "1,5"}',
    '{"__type__": "uuid", "__value__": "0123456789abcdef0123456789abcdef"}',
    '{"__type__": "uuid", "__value__": null}',
    '{"__type__": "uuid", "__value__": {"hex": "12"}}',
    '{"__type__": "bytes", "__value__": null}',
  ])('that are none are undecodable: %s', (text) => {
    expect(caught(() => decode(text)).code).toBe('undecodable');
  });

  it('are left alone in exact mode', () => {
    const text = '{"__type__": "datetime", "__value__": "tomorrow"}';
    expect(decode(text, { exact: true })).toEqual(
      new Map([
        ['__type__', 'datetime'],
        ['__value__', 'tomorrow'],
      ]),
    );
  });

  it('live under a __proto__ key, too', () => {
    const value = decode('{"__proto__": {"__type__": "decimal", "__value__": "1"}}') as object;
    expect(Object.entries(value)).toEqual([['__proto__', new Decimal('1')]]);
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
  });

  it('are revived at any depth that is allowed', () => {
    const text = `${'['.repeat(999)}{"__type__": "decimal", "__value__": "1"}${']'.repeat(999)}`;
    expect(JSON.stringify(decode(text))).toContain('"text":"1"');
  });
});

describe('without marks, as kombu before 5.3', () => {
  it.each<[unknown, string]>([
    [new Date(1_700_000_000_000), '"2023-11-14T22:13:20Z"'],
    [new DateTime('2026-11-21T00:01:25.636720+01:00'), '"2026-11-21T00:01:25.636720+01:00"'],
    [new DateTime('2026-11-21T00:01:25.636720'), '"2026-11-21T00:01:25.636720"'],
    [new PlainDate('2026-11-21'), '"2026-11-21T00:00:00"'],
    [new PlainTime('10:20:30'), '"10:20:30"'],
    [new Decimal('1.50'), '"1.50"'],
    [new Uuid('0123456789abcdef0123456789abcdef'), '"01234567-89ab-cdef-0123-456789abcdef"'],
  ])('%o is %s', (value, text) => {
    expect(encodeJson([value], false)).toBe(`[${text}]`);
    expect(encodeContent('json', [value], { typed: false }).body.toString()).toBe(`[${text}]`);
  });

  it('bytes have no form', () => {
    const error = caught(() => encodeJson([{ data: Buffer.from('x') }], false, 'args'));
    expect(error.code).toBe('unencodable');
    expect(error.message).toContain('args[0].data: a Buffer');
  });
});

describe('encodeContent', () => {
  it('says what it wrote', () => {
    expect(encodeContent('json', ['é', new Numeral('1.0')])).toEqual({
      body: Buffer.from('["\\u00e9", 1.0]'),
      contentType: 'application/json',
      contentEncoding: 'utf-8',
    });
    expect(encodeContent('msgpack', [1])).toEqual({
      body: Buffer.from([0x91, 1]),
      contentType: 'application/x-msgpack',
      contentEncoding: 'binary',
    });
    expect(encodeContent('yaml', [1])).toMatchObject({ contentType: 'application/x-yaml', contentEncoding: 'utf-8' });
    expect(encodeContent('raw', 'é')).toMatchObject({ body: Buffer.from('é'), contentEncoding: 'utf-8' });
    expect(encodeContent('raw', new Uint8Array([1]))).toMatchObject({
      body: Buffer.from([1]),
      contentEncoding: 'binary',
    });
  });

  it('asks objects for their toJSON, as kombu asks for __json__', () => {
    expect(encodeJson({ url: new URL('http://a/') })).toBe('{"url": "http://a/"}');
  });

  it.each<[string, unknown, string]>([
    ['json', [new Set()], 'unencodable'],
    ['json', new Date(Number.NaN), 'unencodable'],
    ['json', new Date(Date.UTC(12_000, 1)), 'unencodable'],
    ['msgpack', [new Date()], 'unencodable'],
    ['raw', [1], 'unencodable'],
    ['pickle', [() => 1], 'unencodable'],
    ['application/x-foo', 1, 'unknown-content-type'],
  ])('%s of %o is refused', (serializer, value, code) => {
    expect(caught(() => encodeContent(serializer, value)).code).toBe(code);
  });
});

describe('compression', () => {
  it.each([
    ['gzip', 'application/x-gzip'],
    ['zlib', 'application/x-gzip'],
    ['brotli', 'application/x-brotli'],
    ['application/x-brotli', 'application/x-brotli'],
  ])('%s both ways', (method, header) => {
    const body = Buffer.from('x'.repeat(1000));
    const compressed = compress(method, body);
    expect(compressed.header).toBe(header);
    expect(compressed.body.length).toBeLessThan(100);
    expect(decompress(compressed.header, compressed.body, 1000).equals(body)).toBe(true);
    expect(decompress(method, compressed.body, 1000).equals(body)).toBe(true);
    expect(caught(() => decompress(header, compressed.body, 999)).code).toBe('too-large');
  });

  it('gzip is a zlib stream, and real gzip is read as well', () => {
    expect(compress('gzip', Buffer.from('x')).body[0]).toBe(0x78);
    expect(decompress('gzip', gzipSync('x'), 10).toString()).toBe('x');
  });

  it.each(['bzip2', 'application/x-bz2', 'lzma', 'xz', 'snappy', '__proto__'])(
    '%s is refused by name, with what there is',
    (method) => {
      for (const act of [() => compress(method, Buffer.alloc(1)), () => decompress(method, Buffer.alloc(1), 10)]) {
        const error = caught(act);
        expect(error.code).toBe('unknown-compression');
        expect(error.message).toContain(JSON.stringify(method));
        expect(error.message).toMatch(/gzip, brotli/);
      }
    },
  );

  it('zstd works where node:zlib has it, else the error says which Node does', () => {
    const body = Buffer.from('x'.repeat(1000));
    try {
      const compressed = compress('zstd', body);
      expect(compressed.header).toBe('application/zstd');
      expect(decompress('zstandard', compressed.body, 1000).equals(body)).toBe(true);
      expect(caught(() => decompress('zstd', compressed.body, 999)).code).toBe('too-large');
      for (const length of [0, 3, 5, 8, compressed.body.length - 1]) {
        expect(caught(() => decompress('zstd', compressed.body.subarray(0, length), 1000)).code).toBe('undecodable');
      }
      for (const size of [0, 1, 255, 256, 300, 70_000]) {
        expect(decompress('zstd', compress('zstd', Buffer.alloc(size)).body, 100_000)).toHaveLength(size);
      }
    } catch (error) {
      expect(error).toMatchObject({ code: 'unknown-compression' });
      expect((error as WireError).message).toContain('Node 22.15');
    }
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
