import { describe, expect, it } from 'vitest';
import {
  ByteArray,
  FrozenSet,
  PyExtension,
  PyGlobal,
  PyObject,
  TimeDelta,
  Tuple,
  ZonedDateTime,
} from '../../../protocols/formats/pickle/index.ts';
import { pythonRepr } from '../../../protocols/formats/python-repr.ts';
import { DateTime, Decimal, float, Numeral, PlainDate, PlainTime, Uuid } from '../../../protocols/formats/values.ts';

// The texts on the right are CPython's own.
describe('pythonRepr', () => {
  it.each<[unknown, string]>([
    [null, 'None'],
    [undefined, 'None'],
    [true, 'True'],
    [0, '0'],
    [-0, '-0.0'],
    [1e16, '1e+16'],
    [1e-5, '1e-05'],
    [0.1, '0.1'],
    [Number.NaN, 'nan'],
    [-Infinity, '-inf'],
    [float(1), '1.0'],
    [new Numeral('1e5'), '100000.0'],
    [12345678901234567890n, '12345678901234567890'],
    ['text', "'text'"],
    ["it's", '"it\'s"'],
    ['a"b', "'a\"b'"],
    ['it\'s "x"', "'it\\'s \"x\"'"],
    ['ab\tc\\\n\r', "'ab\\tc\\\\\\n\\r'"],
    ['é\u00ad\u200b😀\u{E0001}\ud800\0\u007f\u00a0\u3000', "'é\\xad\\u200b😀\\U000e0001\\ud800\\x00\\x7f\\xa0\\u3000'"],
    [Buffer.from("it's"), 'b"it\'s"'],
    [Buffer.from([0, 255, 10, 34, 39]), "b'\\x00\\xff\\n\"\\''"],
    [ByteArray.from([120]), "bytearray(b'x')"],
    [[], '[]'],
    [[1, [2.5, null]], '[1, [2.5, None]]'],
    [new Tuple(), '()'],
    [Tuple.of(1), '(1,)'],
    [Tuple.of<unknown>(1, 'a'), "(1, 'a')"],
    [new Set(), 'set()'],
    [new Set([1, 2]), '{1, 2}'],
    [new FrozenSet(), 'frozenset()'],
    [new FrozenSet([1]), 'frozenset({1})'],
    [{}, '{}'],
    [{ a: 1, b: undefined }, "{'a': 1}"],
    [
      new Map<unknown, unknown>([
        [1, 'a'],
        [Tuple.of(1, 2), [null]],
      ]),
      "{1: 'a', (1, 2): [None]}",
    ],
    [new Decimal('1.50'), "Decimal('1.50')"],
    [new Uuid('0123456789abcdef0123456789abcdef'), "UUID('01234567-89ab-cdef-0123-456789abcdef')"],
    [new PlainDate('2026-01-02'), 'datetime.date(2026, 1, 2)'],
    [
      new PlainTime('01:02:00-03:00'),
      'datetime.time(1, 2, tzinfo=datetime.timezone(datetime.timedelta(days=-1, seconds=75600)))',
    ],
    [new Date(0), 'datetime.datetime(1970, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)'],
    [new DateTime('2026-11-21T00:01:25.636720'), 'datetime.datetime(2026, 11, 21, 0, 1, 25, 636720)'],
    [
      new ZonedDateTime('2026-01-01T01:00:00+00:00', undefined, 1),
      'datetime.datetime(2026, 1, 1, 1, 0, fold=1, tzinfo=datetime.timezone.utc)',
    ],
    [new TimeDelta(0), 'datetime.timedelta(0)'],
    [new TimeDelta(-1, 5), 'datetime.timedelta(days=-1, seconds=5)'],
    [new PyObject(new PyGlobal('builtins', 'ValueError'), Tuple.of<unknown>('x', 1)), "ValueError('x', 1)"],
    [new PyObject(new PyGlobal('builtins', 'ValueError'), Tuple.of('x')), "ValueError('x')"],
    [new PyObject(new PyGlobal('app', 'Point'), new Tuple(), 'new'), '<app.Point object>'],
    [new PyGlobal('app', 'Point'), '<app.Point>'],
    [new PyExtension(300), '<extension 300>'],
    [new PyObject(new PyExtension(300)), '<extension 300 object>'],
    [new URL('http://a'), '<URL object>'],
    [new Error("no 'x'"), 'Error("no \'x\'")'],
    [new Date(Number.NaN), '<unrepresentable>'],
  ])('shows %o as %s', (value, text) => {
    expect(pythonRepr(value)).toBe(text);
  });

  it('marks what contains itself, as Python does', () => {
    const list: unknown[] = [1];
    list.push(list);
    const inner: unknown[] = [];
    const tuple = Tuple.of(inner);
    inner.push(tuple);
    const dict: Record<string, unknown> = {};
    dict['a'] = dict;
    expect([list, tuple, dict].map((one) => pythonRepr(one))).toEqual(['[1, [...]]', '([(...)],)', "{'a': {...}}"]);
  });

  it('shows what occurs twice twice', () => {
    const shared = [1];
    expect(pythonRepr([shared, shared])).toBe('[[1], [1]]');
  });

  it('cuts between characters, not inside of one', () => {
    expect(pythonRepr('abcdef', 5)).toBe("'abcd...");
    expect(pythonRepr('abc', 5)).toBe("'abc'");
    expect(pythonRepr('😀😀😀😀', 3)).toBe("'😀😀...");
    expect(pythonRepr('😀😀😀', 5)).toBe("'😀😀😀'");
  });

  it('does not look at more than it shows', () => {
    let looked = 0;
    const endless = new Proxy([], {
      get: (target, key) =>
        key === Symbol.iterator
          ? function* () {
              for (;;) yield looked++;
            }
          : (Reflect.get(target, key) as unknown),
    });
    expect(pythonRepr(endless, 10)).toBe('[0, 1, 2, ...');
    expect(looked).toBeLessThan(30);
    expect(pythonRepr('x'.repeat(50_000_000), 3)).toBe("'xx...");
  });

  it('never throws', () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    expect(pythonRepr([1, proxy])).toContain('<unrepresentable>');
    let deep: unknown = [];
    for (let level = 0; level < 100_000; level++) deep = [deep];
    expect(pythonRepr(deep)).toContain('[...]');
  });
});
