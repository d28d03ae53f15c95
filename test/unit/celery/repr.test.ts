import { describe, expect, it } from 'vitest';
import { repr, reprArgs, reprKwargs } from '../../../protocols/celery/message/repr.ts';
import { DateTime, Decimal, float, Numeral, PlainDate, PlainTime, Uuid } from '../../../protocols/formats/values.ts';

describe('repr', () => {
  it.each<[unknown, string]>([
    [null, 'None'],
    [undefined, 'None'],
    [true, 'True'],
    [false, 'False'],
    [1, '1'],
    [1.5, '1.5'],
    [float(2), '2.0'],
    [new Numeral('1e5'), '100000.0'],
    [1e22, '1e+22'],
    [Number.NaN, 'nan'],
    [-Infinity, '-inf'],
    [12345678901234567890n, '12345678901234567890'],
    ["it's", "'it\\'s'"],
    ['a\n"b"\\', '\'a\n"b"\\\''],
    [[], '[]'],
    [[1, 'a', null], "[1, 'a', None]"],
    [{}, '{}'],
    [{ a: 1, b: [true], c: undefined }, "{'a': 1, 'b': [True]}"],
    [
      new Map<unknown, unknown>([
        [1, 'x'],
        ['y', 2],
      ]),
      "{1: 'x', 'y': 2}",
    ],
    [new Set(), 'set()'],
    [new Set([1, 2]), '{1, 2}'],
    [Buffer.from('hé'), "b'hé'"],
    [Buffer.from([255, 0]), "b'ff00'"],
    [new Decimal('1.50'), "Decimal('1.50')"],
    [new Uuid('0123456789abcdef0123456789abcdef'), "UUID('01234567-89ab-cdef-0123-456789abcdef')"],
    [new PlainDate('2026-01-02'), 'datetime.date(2026, 1, 2)'],
    [new PlainTime('10:20:30.000001'), 'datetime.time(10, 20, 30, 1)'],
    [new PlainTime('10:00'), 'datetime.time(10, 0)'],
    [new Date(0), 'datetime.datetime(1970, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)'],
    [new DateTime('2026-11-21T00:01:25.636720'), 'datetime.datetime(2026, 11, 21, 0, 1, 25, 636720)'],
    [
      new DateTime('2026-11-21T00:01:25-03:30'),
      'datetime.datetime(2026, 11, 21, 0, 1, 25, tzinfo=datetime.timezone(datetime.timedelta(days=-1, seconds=73800)))',
    ],
    [new Error("no 'x'"), "Error('no \\'x\\'')"],
    [new URL('http://a'), '<URL>'],
    [new Date(Number.NaN), '<unrepresentable>'],
    [() => 1, '<function >'],
  ])('shows %o as %s', (value, text) => {
    expect(repr(value)).toBe(text);
  });

  it('never throws', () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    const hostile = Object.defineProperty({}, 'x', {
      enumerable: true,
      get: () => {
        throw new Error('no');
      },
    });
    expect(repr([proxy])).toContain('unrepresentable');
    expect(repr(hostile)).toContain('unrepresentable');
  });

  it('stops at three levels', () => {
    expect(repr([[[[1]]]])).toBe('[[[[...]]]]');
    expect(repr({ a: { b: { c: { d: 1 } } } })).toBe("{'a': {'b': {'c': {...}}}}");
  });

  it('names what contains itself', () => {
    const circle: unknown[] = [1];
    circle.push(circle);
    expect(repr(circle)).toBe('[1, <Recursion on list>]');
  });

  it('stops after 1024 characters, and closes what is open', () => {
    expect(repr('x'.repeat(5000))).toBe(`'${'x'.repeat(1024)}...'`);
    expect(repr('ab '.repeat(1000))).toMatch(/^'(ab )+ab\.\.\.'$/);
    const long = repr([{ a: Array.from({ length: 1000 }, () => 1) }]);
    expect(long.length).toBeLessThan(1040);
    expect(long).toMatch(/, \.\.\.\]\}\]$/);
    expect(repr('😀'.repeat(2000))).not.toMatch(/\p{Surrogate}/u);
  });

  it('takes no longer for a hundred megabytes', () => {
    // Of the processor's time, which a busy machine does not stretch.
    const before = process.cpuUsage();
    repr(Array.from({ length: 100 }, () => 'x'.repeat(1_000_000)));
    const { user, system } = process.cpuUsage(before);
    expect((user + system) / 1000).toBeLessThan(500);
  });
});

describe('arguments', () => {
  it('are a tuple', () => {
    expect([reprArgs([]), reprArgs([1]), reprArgs([1, 'a']), reprArgs([[[[1]]]])]).toEqual([
      '()',
      '(1,)',
      "(1, 'a')",
      '([[[...]]],)',
    ]);
  });

  it('by name are a dict', () => {
    expect([reprKwargs({}), reprKwargs({ a: 1 }), reprKwargs(new Map([['a', 'b']]))]).toEqual([
      '{}',
      "{'a': 1}",
      "{'a': 'b'}",
    ]);
  });
});
