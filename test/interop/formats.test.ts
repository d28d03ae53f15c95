import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { repr, reprArgs } from '../../protocols/celery/message/repr.ts';
import {
  acceptSet,
  compress,
  decodeContent,
  defaultLimits,
  encodeContent,
  type SerializerName,
} from '../../protocols/celery/message/serializers.ts';
import { decodeTable, decodeTableExact, encodeTable } from '../../protocols/formats/amqp-table.ts';
import { parseExact, stringify } from '../../protocols/formats/json.ts';
import {
  DateTime,
  Decimal,
  float,
  floatText,
  isoText,
  Numeral,
  PlainDate,
  PlainTime,
  Uuid,
} from '../../protocols/formats/values.ts';
import { type CeleryVersion, pythonFor } from '../support/python.ts';

const SERIALIZERS = ['json', 'msgpack', 'yaml'] as const satisfies readonly SerializerName[];
const EACH = 2000;
const PLAIN = { exact: false };
const EXACT = { exact: true };
const accept = acceptSet([...SERIALIZERS]);

describe('what we write', () => {
  const cases = SERIALIZERS.flatMap((serializer) =>
    fc
      .sample(valueFor(serializer), { numRuns: EACH, seed: 20_261_121 })
      .map((value) => ({ value, ...encodeContent(serializer, value) })),
  );

  it(`is read by kombu as the same values (${cases.length} of them)`, () => {
    const lines = cases.map(({ body, contentType, contentEncoding }) => ({
      body: body.toString('base64'),
      type: contentType,
      encoding: contentEncoding,
    }));
    const read = python(READ, lines);
    for (const [index, { value, contentType, body }] of cases.entries()) {
      expect({ contentType, body: body.toString(), read: comparable(read[index], EXACT) }).toEqual({
        contentType,
        body: body.toString(),
        read: comparable(canonical(value, EXACT), EXACT),
      });
    }
  });

  it('is shown by repr as saferepr shows it', () => {
    const values = fc.sample(fc.array(shown(), { maxLength: 30 }), { numRuns: EACH, seed: 20_261_121 });
    const lines = values.map((value) => ({ json: stringify(value) }));
    const theirs = python(REPR, lines);
    for (const [index, value] of values.entries()) {
      expect([repr(value), reprArgs(value)]).toEqual(theirs[index]);
    }
  });

  it('compressed is read by kombu', () => {
    const body = Buffer.from(JSON.stringify(Array.from({ length: 100_000 }, (_, index) => index)));
    const methods = ['gzip', 'zlib', 'brotli', ...(zstdHere() ? ['zstd'] : [])];
    const lines = methods.map((method) => {
      const compressed = compress(method, body);
      return { body: compressed.body.toString('base64'), header: compressed.header };
    });
    expect(python(DECOMPRESS, lines)).toEqual(methods.map(() => body.toString('base64')));
  });
});

describe.each(['5.2', '5.6'] as const)(
  'field tables, which are the headers on AMQP, of py-amqp beside Celery %s',
  (version) => {
    it(`what we write is read as the same values (${EACH} tables)`, () => {
      const tables = fc.sample(tableFields(), { numRuns: EACH, seed: 20_261_121 });
      const lines = tables.map((fields) => ({ bytes: Buffer.from(encodeTable(fields)).toString('base64') }));
      const read = python(READ_TABLES, lines, version);
      for (const [index, fields] of tables.entries()) {
        expect({ line: lines[index], read: read[index] }).toEqual({
          line: lines[index],
          read: canonical(fields, EXACT),
        });
      }
    });

    it(`what py-amqp writes is read as the same values, and goes back byte for byte (${EACH} tables)`, () => {
      const lines = python(WRITE_TABLES, [{ count: EACH }], version) as readonly { bytes: string; value: unknown }[];
      expect(lines).toHaveLength(EACH);
      for (const { bytes, value } of lines) {
        const table = Buffer.from(bytes, 'base64');
        expect({ bytes, read: comparable(canonical(decodeTable(table), PLAIN), PLAIN) }).toEqual({
          bytes,
          read: comparable(value, PLAIN),
        });
        expect(Buffer.from(encodeTable(decodeTableExact(table))).equals(table)).toBe(true);
      }
    });
  },
);

describe('what kombu writes', () => {
  const lines = python(WRITE, [{ count: EACH, serializers: SERIALIZERS }]) as readonly Written[];

  it.each(SERIALIZERS)('as %s is read as the same values', (serializer) => {
    const written = lines.filter((line) => line.serializer === serializer);
    expect(written).toHaveLength(EACH);
    for (const line of written) {
      const content = { ...contentOf(line), compression: undefined };
      const body = content.body.toString();
      const plain = decodeContent(content, { accept, limits: defaultLimits });
      expect({ body, read: comparable(canonical(plain, PLAIN), PLAIN) }).toEqual({
        body,
        read: comparable(line.value, PLAIN),
      });
      if (serializer === 'json') continue; // Exact JSON leaves kombu's marks alone.
      const exact = decodeContent(content, { accept, limits: defaultLimits, exact: true });
      expect({ body, read: comparable(canonical(exact, EXACT), EXACT) }).toEqual({
        body,
        read: comparable(line.value, EXACT),
      });
    }
  });

  it('as JSON goes back byte for byte', () => {
    for (const line of lines.filter(({ serializer }) => serializer === 'json')) {
      const text = Buffer.from(line.body, 'base64').toString();
      expect(stringify(parseExact(text))).toBe(text);
      // Read to plain values and written again, nothing but whole floats and the place of keys like "1" changes.
      const plain = decodeContent({ ...contentOf(line), compression: undefined }, { accept, limits: defaultLimits });
      if (!/\d\.0\b|-0\b|"\d+":/.test(text)) expect(encodeContent('json', plain).body.toString()).toBe(text);
    }
  });

  it.each(['gzip', 'brotli', ...(zstdHere() ? ['zstd'] : [])])('compressed with %s is read', (method) => {
    const [line] = python(COMPRESS, [{ method }]) as readonly { readonly body: string; readonly header: string }[];
    if (line === undefined) throw new Error('Python wrote nothing');
    const content = {
      body: Buffer.from(line.body, 'base64'),
      contentType: 'application/json',
      contentEncoding: 'utf-8',
      compression: line.header,
    };
    expect(decodeContent(content, { accept, limits: defaultLimits })).toEqual({ data: 'x'.repeat(10_000) });
  });
});

interface Written {
  readonly serializer: string;
  readonly body: string;
  readonly type: string;
  readonly encoding: string;
  readonly value: unknown;
}

function contentOf(line: Written): { body: Buffer; contentType: string; contentEncoding: string } {
  return { body: Buffer.from(line.body, 'base64'), contentType: line.type, contentEncoding: line.encoding };
}

function zstdHere(): boolean {
  try {
    compress('zstd', Buffer.from('x'));
    return true;
  } catch {
    return false;
  }
}

/** One Python for all lines: JSON lines in, JSON lines out. */
function python(script: string, lines: readonly unknown[], version: CeleryVersion = '5.6'): unknown[] {
  const { status, stdout, stderr, error } = spawnSync(pythonFor(version), ['-c', PRELUDE + script], {
    input: lines.map((line) => JSON.stringify(line)).join('\n'),
    encoding: 'utf8',
    maxBuffer: 1 << 30,
  });
  if (status !== 0) throw new Error(`Python ended with ${status}:\n${stderr}`, { cause: error });
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as unknown);
}

const PRELUDE = `
import base64, json, random, sys, uuid
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from kombu import compression, serialization

def canonical(v):
    if v is None: return 'none'
    if isinstance(v, bool): return 'bool ' + str(v).lower()
    if isinstance(v, int): return 'int ' + str(v)
    if isinstance(v, float): return 'float ' + json.dumps(v)
    if isinstance(v, str): return 'str ' + v
    if isinstance(v, bytes): return 'bytes ' + v.hex()
    if isinstance(v, datetime): return 'datetime ' + v.isoformat()
    if isinstance(v, date): return 'date ' + v.isoformat()
    if isinstance(v, time): return 'time ' + v.isoformat()
    if isinstance(v, Decimal): return 'decimal ' + str(v)
    if isinstance(v, uuid.UUID): return 'uuid ' + v.hex
    if isinstance(v, set): return ['set', *[canonical(i) for i in v]]
    if isinstance(v, (list, tuple)): return ['list', *[canonical(i) for i in v]]
    return ['dict', *[[canonical(k), canonical(i)] for k, i in v.items()]]

def lines():
    for line in sys.stdin:
        yield json.loads(line)

def out(v):
    print(json.dumps(v))
`;

const READ = `
for line in lines():
    value = serialization.loads(base64.b64decode(line['body']), line['type'], line['encoding'], accept={line['type']})
    out(canonical(value))
`;

const REPR = `
from celery.utils.saferepr import saferepr
for line in lines():
    value = json.loads(line['json'])
    out([saferepr(value, 1024), saferepr(tuple(value), 1024)])
`;

const READ_TABLES = `
from amqp.serialization import loads
for line in lines():
    table = base64.b64decode(line['bytes'])
    out(canonical(loads('F', len(table).to_bytes(4, 'big') + table, 0)[0][0]))
`;

const WRITE_TABLES = `
from amqp.serialization import dumps

def text(r):
    return ''.join(r.choice('ab é日😀\\x00"\\n') for _ in range(r.choice([0, 3, 12, 300])))

def value(r, depth=0):
    n = r.randrange(8 if depth < 4 else 6)
    if n == 6: return [value(r, depth + 1) for _ in range(r.randrange(4))]
    if n == 7: return fields(r, depth + 1)
    return [
        lambda: r.choice([None, True, False]),
        lambda: text(r),
        lambda: r.randrange(-2**63, 2**63),
        lambda: r.choice([0, -1, 2**31 - 1, 2**31, -2**31, 2**53 - 1, 2**53 + 1, -2**53 - 1, 2**63 - 1, -2**63]),
        lambda: r.choice([0.0, 1.0, 1.5, -0.1, 1e300, 5e-324, float('inf'), float('nan'), r.uniform(-1e6, 1e6)]),
        lambda: r.choice([datetime(2026, 11, 21, 10, 20, 30, tzinfo=timezone.utc), Decimal('1.25'), Decimal('17')]),
    ][n]()

def fields(r, depth=0):
    return {r.choice('abcdé') + str(r.randrange(100)): value(r, depth) for _ in range(r.randrange(6))}

for line in lines():
    r = random.Random(20261121)
    for _ in range(line['count']):
        v = fields(r)
        out({'bytes': base64.b64encode(dumps('F', [v])[4:]).decode(), 'value': canonical(v)})
`;

const DECOMPRESS = `
for line in lines():
    out(base64.b64encode(compression.decompress(base64.b64decode(line['body']), line['header'])).decode())
`;

const COMPRESS = `
for line in lines():
    _, _, body = serialization.dumps({'data': 'x' * 10000}, 'json')
    body, header = compression.compress(body, line['method'])
    out({'body': base64.b64encode(body).decode(), 'header': header})
`;

const WRITE = `
def text(r):
    n = r.randrange(6)
    if n == 0: return r.choice(['yes', 'no', 'y', '1e3', '12:30', '2020-01-01', '~', '', ' a', 'a: b', '<<', '=', '0x1f', '017', "it's", '__proto__', '- x', '#', 'null', '.5', '1_0', 'a\\n\\nb\\n'])
    if n == 1: return ''.join(chr(r.choice([r.randrange(32), r.randrange(32, 127), r.randrange(127, 0xd800), r.randrange(0xe000, 0xfffe), r.randrange(0x10000, 0x110000)])) for _ in range(r.randrange(12)))
    return ''.join(r.choice('abcdefghij klmno') for _ in range(r.randrange(20)))

def printable(v):
    return ''.join(c for c in v if c in '\\t\\n' or 32 <= ord(c) < 127 or ord(c) == 0x85 or 0xa0 <= ord(c) < 0xd800 or 0xe000 <= ord(c) < 0xfffe or ord(c) > 0xffff)

def number(r):
    return r.choice([
        lambda: r.randrange(-200, 200),
        lambda: r.randrange(-2**63, 2**64),
        lambda: r.choice([2**53 - 1, 2**53, -2**53, 2**53 + 1, 2**64 - 1, -2**63, 2**31, -2**31 - 1]),
        lambda: r.uniform(-1000, 1000),
        lambda: r.choice([0.0, -0.0, 1.0, 1e16, 1e22, 1e-5, 1e-7, 5e-324, 1.7976931348623157e308, 1e300, 0.1, 123456789012345680.0]),
        lambda: float(r.randrange(-10**17, 10**17)),
        lambda: r.choice([float('nan'), float('inf'), float('-inf')]),
    ])()

def moment(r):
    zone = r.choice([None, timezone.utc, timezone(timedelta(hours=r.randrange(-12, 13), minutes=r.choice([0, 30])))])
    return datetime(r.randrange(1, 9999), r.randrange(1, 13), r.randrange(1, 28), r.randrange(24), r.randrange(60), r.randrange(60), r.choice([0, 1, 120000, r.randrange(10**6)]), zone)

def other(r, s):
    if s == 'msgpack': return bytes(r.randrange(256) for _ in range(r.choice([0, 3, 7, 300])))
    common = [lambda: moment(r), lambda: date(r.randrange(1, 9999), r.randrange(1, 13), r.randrange(1, 28)), lambda: bytes(r.randrange(256) for _ in range(r.randrange(9))), lambda: text(r).encode()]
    if s == 'yaml': return r.choice([*common, lambda: {text(r) for _ in range(3)}])()
    return r.choice([*common, lambda: time(r.randrange(24), r.randrange(60), r.randrange(60), r.choice([0, 5, 999999])), lambda: Decimal(r.randrange(-10**9, 10**9)).scaleb(-r.randrange(12)), lambda: uuid.UUID(int=r.getrandbits(128))])()

def value(r, s, depth=0):
    n = r.randrange(10)
    if n < 3 and depth < 5: return [value(r, s, depth + 1) for _ in range(r.randrange(5))]
    if n < 5 and depth < 5: return {text(r): value(r, s, depth + 1) for _ in range(r.randrange(5))}
    if n < 6: return other(r, s)
    if n < 7: return r.choice([None, True, False])
    if n < 8: return number(r)
    return text(r)

for line in lines():
    for s in line['serializers']:
        r = random.Random(20261121)
        for _ in range(line['count']):
            v = value(r, s)
            type_, encoding, body = serialization.dumps(v, s)
            body = body.encode() if isinstance(body, str) else body
            out({'serializer': s, 'type': type_, 'encoding': encoding, 'body': base64.b64encode(body).decode(), 'value': canonical(serialization.loads(body, type_, encoding, accept={type_}))})
`;

/** The same as `canonical` in Python. */
function canonical(value: unknown, options: { readonly exact: boolean }): unknown {
  if (value === null || value === undefined) return 'none';
  switch (typeof value) {
    case 'boolean':
      return `bool ${value}`;
    case 'bigint':
      return `int ${value}`;
    case 'string':
      return `str ${value}`;
    case 'number':
      if (!Number.isSafeInteger(value) || (options.exact && Object.is(value, -0))) return `float ${floatText(value)}`;
      return `int ${value}`;
    default:
  }
  if (value instanceof Numeral)
    return /^-?\d+$/.test(value.text) ? `int ${value}` : `float ${floatText(Number(value))}`;
  if (value instanceof Uint8Array) return `bytes ${Buffer.from(value).toString('hex')}`;
  if (value instanceof DateTime) return `datetime ${value.iso.replace(' ', 'T')}`;
  if (value instanceof Date) return `datetime ${isoText(value)}`;
  if (value instanceof PlainDate) return `date ${value.iso}`;
  if (value instanceof PlainTime) return `time ${value.iso}`;
  if (value instanceof Decimal) return `decimal ${value.text}`;
  if (value instanceof Uuid) return `uuid ${value.hex}`;
  if (Array.isArray(value)) return ['list', ...value.map((item) => canonical(item, options))];
  if (value instanceof Set) return ['set', ...Array.from(value, (item) => canonical(item, options))];
  const entries = value instanceof Map ? [...value] : Object.entries(value);
  return ['dict', ...entries.map(([key, item]) => [canonical(key, options), canonical(item, options)])];
}

/** Without what does not count: the order in a set; of plain values, the order of keys, and 2.0 and 2 being different. */
function comparable(value: unknown, options: { readonly exact: boolean }): unknown {
  if (Array.isArray(value)) {
    const [kind, ...items] = value.map((item: unknown) => comparable(item, options));
    const unordered = kind === 'set' || (kind === 'dict' && !options.exact);
    return [kind, ...(unordered ? items.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)) : items)];
  }
  if (options.exact || typeof value !== 'string' || !value.startsWith('float ')) return value;
  const number = Number(value.slice(6));
  return Number.isSafeInteger(number) ? `int ${number}` : value;
}

function text(): fc.Arbitrary<string> {
  return fc.oneof(
    fc.string({ unit: 'binary', maxLength: 12 }),
    fc.string({ unit: 'grapheme-ascii', maxLength: 20 }),
    fc.string({ unit: fc.constantFrom(...'abc def'), minLength: 100, maxLength: 1500 }),
    fc.constantFrom(
      'yes',
      'n',
      '1e3',
      '12:30',
      '2020-01-01',
      '~',
      '',
      '<<',
      '=',
      '__proto__',
      "it's",
      '- x',
      '\u0085',
      '\u2028',
      '\ufeff',
    ),
  );
}

function number(): fc.Arbitrary<unknown> {
  return fc.oneof(
    fc.integer(),
    fc.maxSafeInteger(),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }),
    fc.double(),
    fc.double({ noNaN: true, noDefaultInfinity: true, noInteger: false }).map((value) => float(value)),
    fc.integer().map((value) => float(value)),
    fc.constantFrom(1e16, 1e22, 1e-5, 1e-7, 5e-324, -0, 0.0001, 2 ** 53),
  );
}

function valueFor(serializer: (typeof SERIALIZERS)[number]): fc.Arbitrary<unknown> {
  const bytes = fc.uint8Array({ maxLength: 20 }).map((value) => Buffer.from(value));
  const moments = fc.date({ min: new Date('0001-01-02'), max: new Date('9999-12-30'), noInvalidDate: true });
  const day = moments.map((date) => new PlainDate(date.toISOString().slice(0, 10)));
  const dateTime = fc
    .tuple(moments, fc.constantFrom('', '+00:00', '-03:30', '+14:00'), fc.constantFrom('', '.000001', '.120000'))
    .map(([date, zone, fraction]) => new DateTime(`${date.toISOString().slice(0, 19)}${fraction}${zone}`));
  const others: Record<typeof serializer, fc.Arbitrary<unknown>> = {
    json: fc.oneof(
      bytes,
      moments,
      day,
      dateTime,
      moments.map((date) => new PlainTime(date.toISOString().slice(11, 19))),
      fc.integer().map((value) => new Decimal(`${value}.50`)),
      fc.uuid().map((value) => new Uuid(value)),
    ),
    msgpack: bytes,
    yaml: fc.oneof(
      bytes,
      moments,
      day,
      dateTime,
      fc.uniqueArray(text(), { maxLength: 3 }).map((items) => new Set(items)),
    ),
  };
  return fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.constantFrom(null, true, false),
      text(),
      number(),
      others[serializer],
      fc.array(tie('value'), { maxLength: 5 }),
      fc.dictionary(text(), tie('value'), { maxKeys: 5 }),
      fc.array(fc.tuple(text(), tie('value')), { maxLength: 5 }).map((entries) => new Map(entries)),
    ),
  })).value;
}

/** What has a type in AMQP and in Python. */
function tableFields(): fc.Arbitrary<ReadonlyMap<string, unknown>> {
  const { fields } = fc.letrec<{ value: unknown; fields: ReadonlyMap<string, unknown> }>((tie) => ({
    value: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.constantFrom(null, true, false),
      fc.string({ unit: 'grapheme', maxLength: 300 }),
      fc.integer(),
      fc.maxSafeInteger(),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      fc.double({ noInteger: true }),
      fc.integer().map((value) => float(value)),
      fc.array(tie('value'), { maxLength: 4 }),
      tie('fields'),
    ),
    fields: fc
      .array(fc.tuple(fc.string({ unit: 'grapheme', maxLength: 20 }), tie('value')), { maxLength: 5 })
      .map((entries) => new Map(entries)),
  }));
  return fields;
}

/** What saferepr can be compared on: lengths count in UTF-16 here and in code points there. */
function shown(): fc.Arbitrary<unknown> {
  const short = fc.oneof(fc.string({ unit: 'grapheme-ascii', maxLength: 300 }), fc.constantFrom("it's", 'a\nb', ''));
  return fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.constantFrom(null, true, false),
      short,
      fc.integer(),
      fc.double(),
      fc.array(tie('value'), { maxLength: 8 }),
      fc.array(fc.tuple(short, tie('value')), { maxLength: 8 }).map((entries) => new Map(entries)),
    ),
  })).value;
}
