import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ByteArray,
  decode,
  encode,
  FrozenSet,
  PyExtension,
  PyGlobal,
  PyObject,
  TimeDelta,
  Tuple,
} from '../../protocols/formats/pickle/index.ts';
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
import { pythonFor } from '../support/python.ts';

const COUNT = 1500;
const SEED = 20_261_121;
const APP = fileURLToPath(new URL('apps/pickling.py', import.meta.url));

interface Written {
  readonly value: number;
  readonly protocol: number;
  readonly pickle: string;
}

describe(`what Python pickles (${COUNT} values)`, () => {
  const lines = python(['write', COUNT, SEED], []) as readonly (Written & { readonly lossy?: string })[];
  const written = lines.filter(({ pickle }) => pickle !== undefined);

  it('is there in every protocol', () => {
    for (const protocol of [0, 1, 2, 3, 4, 5]) {
      expect(written.filter((line) => line.protocol === protocol).length).toBeGreaterThan(COUNT * 0.95);
    }
  });

  it('is read, written as protocols 4 and 2, and is equal in Python with equal types and the same sharing', () => {
    // What CPython itself loses (the second of two wall times, before protocol 4), nobody can find again.
    const back = written
      .filter(({ lossy }) => lossy === undefined)
      .flatMap(({ value, pickle }) => {
        const read = decode(Buffer.from(pickle, 'base64'), { exact: true });
        return ([4, 2] as const).map((protocol) => ({ value, pickle: encode(read, { protocol }).toString('base64') }));
      });
    expect(back.length).toBeGreaterThan(COUNT * 10);
    expect(python(['check', COUNT, SEED], back)).toEqual([{ checked: true }]);
  });

  it('is read by handlers, too, and written again by the types that are left', () => {
    const back = written
      .filter(({ protocol }) => protocol === 5)
      .map(({ pickle }) => ({ pickle: encode(decode(Buffer.from(pickle, 'base64'))).toString('base64') }));
    expect(python(['load'], back)).toEqual(back.map(() => true));
  });
});

describe('classes that are numbers in the pickle, as copyreg.add_extension gives them', () => {
  const written = python(['extensions'], []) as readonly {
    readonly pickle: string;
    readonly codes: readonly number[];
  }[];
  const read = written.map(({ pickle }) => decode(Buffer.from(pickle, 'base64'), { exact: true }));
  const back = read.flatMap((value) =>
    ([4, 2] as const).map((protocol) => ({ pickle: encode(value, { protocol }).toString('base64') })),
  );

  it('stay those numbers: who has them loads the same objects', () => {
    for (const { codes } of written) expect(codes).toEqual([1, 255, 256, 65_535, 65_536, 2 ** 31 - 1]);
    for (const value of read) {
      expect(value).toMatchObject({ 0: { callable: new PyExtension(1) }, 6: new PyExtension(2 ** 31 - 1) });
    }
    expect(python(['extended'], back)).toEqual(back.map(() => null));
  });

  it('mean to whoever has not what they meant before they went through here', () => {
    const said = python(['unextended'], [...written, ...back]);
    expect(new Set(said)).toEqual(new Set(['unregistered extension code 1']));
  });
});

describe('what we pickle', () => {
  const values = fc.sample(anything(), { numRuns: 3000, seed: SEED });

  it.each([4, 2] as const)('as protocol %i is loaded by Python as the same values', (protocol) => {
    const lines = values.map((value) => ({ pickle: encode(value, { protocol }).toString('base64') }));
    const theirs = python(['show'], lines);
    for (const [index, value] of values.entries()) expect(theirs[index]).toEqual(shown(value));
  });
});

/** One Python for all lines: JSON lines in, JSON lines out. */
function python(args: readonly (string | number)[], lines: readonly unknown[]): unknown[] {
  const { status, stdout, stderr, error } = spawnSync(pythonFor('5.6'), [APP, ...args.map(String)], {
    input: lines.map((line) => JSON.stringify(line)).join('\n'),
    encoding: 'utf8',
    maxBuffer: 1 << 30,
  });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`Python ended with ${status}:\n${stderr}`);
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as unknown);
}

function anything(): fc.Arbitrary<unknown> {
  const text = fc.oneof(
    fc.string(),
    fc.string({ unit: 'binary' }),
    fc.constantFrom('__proto__', '\ud800', 'x\udfff', 'é'.repeat(130)),
  );
  const two = (most: number): fc.Arbitrary<string> =>
    fc.integer({ min: 0, max: most }).map((value) => String(value).padStart(2, '0'));
  const date = fc
    .tuple(fc.integer({ min: 1, max: 9999 }), fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 28 }))
    .map(([year, ...rest]) =>
      [String(year).padStart(4, '0'), ...rest.map((part) => String(part).padStart(2, '0'))].join('-'),
    );
  const clock = fc
    .tuple(two(23), two(59), two(59), fc.constantFrom('', '.000001', '.120000', '.999999'))
    .map(([hour, minute, second, fraction]) => `${hour}:${minute}:${second}${fraction}`);
  const zone = fc.constantFrom('', '+00:00', '+01:00', '-11:30', '+05:45', '+00:00:30', '-00:00:30.000001');
  const hashable = fc.oneof(
    text,
    fc.maxSafeInteger(),
    fc.bigInt(),
    fc.boolean(),
    fc.uint8Array({ maxLength: 9 }).map((bytes) => Buffer.from(bytes)),
    date.map((iso) => new PlainDate(iso)),
    fc.array(text, { maxLength: 3 }).map((items) => Tuple.from(items)),
    fc.array(text, { maxLength: 3 }).map((items) => new FrozenSet(items)),
  );
  const leaf = fc.oneof(
    hashable,
    fc.constantFrom(null, undefined, -0, Number.NaN, Infinity, -Infinity, 2 ** 53, 1e300),
    fc.integer(),
    fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }),
    fc.constantFrom(127n, 128n, -128n, -129n, 2n ** 2039n, 2n ** 2040n, -(2n ** 2039n)),
    fc.double(),
    fc.integer({ min: -1000, max: 1000 }).map(float),
    fc.constantFrom('1e5', '1.50', '-0.0', 'NaN', '12345678901234567890').map((digits) => new Numeral(digits)),
    fc.uint8Array({ maxLength: 300 }).map((bytes) => new ByteArray(bytes)),
    fc.uint8Array({ maxLength: 300 }),
    fc.tuple(date, clock, zone).map((parts) => new DateTime(`${parts[0]}T${parts[1]}${parts[2]}`)),
    fc.date({ min: new Date('0001-01-02T00:00:00Z'), max: new Date('9999-12-30T00:00:00Z'), noInvalidDate: true }),
    fc.tuple(clock, zone).map((parts) => new PlainTime(parts.join(''))),
    fc
      .tuple(fc.integer({ min: -99_999, max: 99_999 }), fc.nat(86_399), fc.nat(999_999))
      .map((of) => new TimeDelta(...of)),
    fc.constantFrom('1.50', '-0', 'NaN', 'Infinity', '1E+30').map((digits) => new Decimal(digits)),
    fc.uuid().map((id) => new Uuid(id)),
    fc.constant(new PyGlobal('builtins', 'len')),
    fc.tuple(fc.nat(99), fc.nat(99)).map((of) => new PyObject(new PyGlobal('builtins', 'range'), Tuple.from(of))),
  );
  return fc.letrec<{ tree: unknown }>((tie) => ({
    tree: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      leaf,
      fc.array(tie('tree'), { maxLength: 5 }),
      fc.array(tie('tree'), { maxLength: 5 }).map((items) => Tuple.from(items)),
      fc.dictionary(text, tie('tree'), { maxKeys: 5 }),
      fc.array(fc.tuple(text, tie('tree')), { maxLength: 5 }).map((entries) => new Map(entries)),
      fc.uniqueArray(fc.oneof(text, fc.bigInt()), { maxLength: 5 }).map((members) => new Set(members)),
      tie('tree').map((part) => [part, part]),
    ),
  })).tree;
}

/** What `pickling.py show` has for it. */
function shown(value: unknown): unknown {
  if (value === null || value === undefined) return 'None';
  if (typeof value === 'boolean') return `bool ${value ? 'True' : 'False'}`;
  if (typeof value === 'bigint') return `int ${value}`;
  if (typeof value === 'string') return `str ${value}`;
  if (typeof value === 'number') {
    return Number.isSafeInteger(value) && !Object.is(value, -0) ? `int ${value}` : `float ${floatText(value)}`;
  }
  if (value instanceof Numeral) {
    return /^-?\d+$/.test(value.text) ? `int ${value.text}` : `float ${floatText(Number(value.text))}`;
  }
  if (value instanceof Uint8Array) {
    return `${value instanceof ByteArray ? 'bytearray' : 'bytes'} ${Buffer.from(value).toString('hex')}`;
  }
  if (value instanceof DateTime) return `datetime ${value.iso}`;
  if (value instanceof Date) return `datetime ${isoText(value)}`;
  if (value instanceof PlainDate) return `date ${value.iso}`;
  if (value instanceof PlainTime) return `time ${value.iso}`;
  if (value instanceof TimeDelta) return `timedelta ${timedeltaText(value)}`;
  if (value instanceof Decimal) return `Decimal ${value.text}`;
  if (value instanceof Uuid) return `uuid ${value.hex}`;
  if (value instanceof PyGlobal) return 'builtins.builtin_function_or_method <built-in function len>';
  if (value instanceof PyObject) return `builtins.range range(${value.args.join(', ')})`;
  if (Array.isArray(value)) return [value instanceof Tuple ? 'tuple' : 'list', ...value.map(shown)];
  if (value instanceof Set) {
    const members = [...value].map(shown).toSorted((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1));
    return [value instanceof FrozenSet ? 'frozenset' : 'set', ...members];
  }
  const members: [unknown, unknown][] = value instanceof Map ? [...value] : Object.entries(value);
  const entries = members.filter(([, item]) => item !== undefined);
  return ['dict', ...entries.map(([key, item]) => [shown(key), shown(item)])];
}

/** JSON as Python writes it, by which it sorts: ASCII only. */
function sortKey(value: unknown): string {
  return JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function timedeltaText({ days, seconds, microseconds }: TimeDelta): string {
  const two = (part: number): string => String(part).padStart(2, '0');
  const day = days === 0 ? '' : `${days} day${Math.abs(days) === 1 ? '' : 's'}, `;
  const fraction = microseconds === 0 ? '' : `.${String(microseconds).padStart(6, '0')}`;
  const minutes = Math.floor(seconds / 60);
  return `${day}${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(seconds % 60)}${fraction}`;
}
