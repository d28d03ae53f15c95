import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  ByteArray,
  decode,
  encode,
  FrozenSet,
  PyGlobal,
  PyObject,
  TimeDelta,
  Tuple,
} from '../../protocols/formats/pickle/index.ts';
import { DateTime, float, PlainDate, Uuid } from '../../protocols/formats/values.ts';
import { shown } from './shown.ts';

type Bytes = { readonly base64: string } | { readonly length: number; readonly sha256: string };

interface Fixture {
  readonly about: string;
  readonly wire: Readonly<Record<string, Bytes>>;
  readonly means?: unknown;
}

const FOLDER = new URL('../../fixtures/pickle/3.11/', import.meta.url);
const fixtures = new Map(
  readdirSync(FOLDER).map((file) => [
    file.replace('.json', ''),
    JSON.parse(readFileSync(new URL(file, FOLDER), 'utf8')) as Fixture,
  ]),
);

describe.each([...fixtures])('%s', (name, { about, wire, means }) => {
  const whole = Object.entries(wire).flatMap(([protocol, bytes]) =>
    'base64' in bytes ? [{ protocol, bytes: Buffer.from(bytes.base64, 'base64') }] : [],
  );

  if (means !== undefined) {
    it(`${about} is read in every protocol that is here`, () => {
      for (const { bytes } of whole) expect(shown(decode(bytes, { exact: true }))).toEqual(means);
    });
  }

  it.each([4, 2] as const)('read and written as protocol %i, it has the bytes of CPython', (protocol) => {
    for (const { protocol: from, bytes } of whole) {
      if (from !== String(protocol)) continue;
      expect(encode(decode(bytes, { exact: true }), { protocol }).toString('hex')).toBe(bytes.toString('hex'));
    }
  });

  const make = ours[name];
  if (make === undefined) return;
  it('made here, it has the bytes of CPython', () => {
    for (const protocol of [4, 2] as const) {
      const expected = wire[protocol] as Bytes;
      const made = encode(make(), { protocol });
      if ('base64' in expected) expect(made.toString('base64')).toBe(expected.base64);
      else expect({ length: made.length, sha256: sha256(made) }).toEqual(expected);
    }
  });
});

it('every value that is made here is among the fixtures', () => {
  expect(Object.keys(ours).filter((name) => !fixtures.has(name))).toEqual([]);
});

function count(size: number): number[] {
  return Array.from({ length: size }, (_, index) => index);
}

/** The same values, as a handler would write them. */
const ours: Readonly<Record<string, () => unknown>> = {
  none: () => null,
  booleans: () => [true, false],
  integers: () => [0, 1, 255, 256, 65535, 65536, -1, 2 ** 31 - 1, -(2 ** 31)],
  'integers-large': () => [
    ...[2 ** 31, -(2 ** 31) - 1, 2 ** 53 - 1, 2n ** 53n, -(2n ** 53n), -5000000000, 2n ** 63n, 2n ** 64n, -(2n ** 63n)],
    ...[-129, 10n ** 30n, 2n ** 2039n, 2n ** 2040n],
  ],
  floats: () => [float(0), -0, float(1), float(-3), 0.1, 1e16, 1e-7, 2 ** 53, Infinity, -Infinity, Number.NaN],
  texts: () => ['', 'a', 'é', '😀', 'line\nend', 'back\\slash', '\\u0041', 'nul\0', '\ud800', 'x\udfffy'],
  'text-255': () => 'x'.repeat(255),
  'text-256': () => 'x'.repeat(256),
  'text-long': () => 'x'.repeat(65536),
  'text-almost-long': () => 'x'.repeat(65535),
  'texts-repeated': () => ['name', { name: 'name' }],
  bytes: () => [Buffer.alloc(0), Buffer.from('abc'), Uint8Array.from(count(256))],
  'bytes-long': () => [Buffer.alloc(65536, 'y'), 'between', Buffer.alloc(70000, 'z')],
  bytearray: () => [new ByteArray(0), ByteArray.from(Buffer.from('abc'))],
  'list-empty': () => [],
  'list-one': () => [1],
  'list-nested': () => [[1, [2]], [[]], ['a']],
  'list-1000': () => count(1000),
  'list-1001': () => count(1001),
  tuples: () => [
    new Tuple(),
    Tuple.from([1]),
    Tuple.of(1, 2),
    Tuple.of(1, 2, 3),
    Tuple.of(1, 2, 3, 4),
    Tuple.of(new Tuple()),
  ],
  'dict-empty': () => ({}),
  'dict-one': () => ({ a: 1 }),
  'dict-1000': () => new Map(count(1000).map((index) => [index, -index + 0])),
  'dict-1001': () => new Map(count(1001).map((index) => [String(index), index])),
  'set-1000': () => new Set(count(1000)),
  sets: () => [new Set(), new Set([1]), new Set(['a']), new FrozenSet(), new FrozenSet([1])],
  shared: () => {
    const part = [1];
    return [part, part, Tuple.of(part, part)];
  },
  'recursive-list': () => {
    const list: unknown[] = [];
    list.push(list);
    return list;
  },
  'recursive-tuple': () => {
    const list: unknown[] = [];
    const tuple = Tuple.of<unknown>(list, 1);
    list.push(tuple);
    return tuple;
  },
  'memo-over-255': () => [...count(300).map((index) => [index]), ...count(300).map((index) => `text ${index}`)],
  frames: () => count(6000).map((index) => [index, `number ${index}`, index % 3 === 0 ? float(index / 3) : index / 3]),
  'datetime-utc': () => new Date('2026-11-21T10:20:30Z'),
  'datetime-offset': () => new DateTime('2026-11-21T10:20:30-03:30'),
  date: () => new PlainDate('2026-11-21'),
  timedeltas: () => Tuple.of(new TimeDelta(1, 2, 3), new TimeDelta(-1), new TimeDelta(0)),
  uuid: () => new Uuid('12345678-1234-5678-1234-567812345678'),
  range: () => new PyObject(new PyGlobal('builtins', 'range'), Tuple.of(0, 10, 2)),
  class: () => new PyGlobal('builtins', 'dict'),
  exception: () => new PyObject(new PyGlobal('builtins', 'ValueError'), Tuple.of<unknown>('no', 1)),
  job: () =>
    Tuple.of<unknown>('app.tasks.send', null, Tuple.of<unknown>('ann@example.org', 3), {
      when: new Date('2026-11-21T00:00:00Z'),
      copy: false,
    }),
};

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
