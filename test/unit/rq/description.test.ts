import { describe, expect, it } from 'vitest';
import { Tuple } from '../../../protocols/formats/pickle/index.ts';
import { callString } from '../../../protocols/rq/description.ts';

// Against rq/utils.py get_call_string with max_length 75 (2.10).
describe('callString', () => {
  it.each<[readonly unknown[], Record<string, unknown>, string]>([
    [[], {}, 'jobs.add()'],
    [[1], { b: [1, 2] }, 'jobs.add(1, b=[1, 2])'],
    [['x', null, true, 1.5], {}, "jobs.add('x', None, True, 1.5)"],
    [[Tuple.of(1, 2)], {}, 'jobs.add((1, 2))'],
    [[], { b: 1, a: 2, B: 3 }, 'jobs.add(B=3, a=2, b=1)'],
    [[], { b: undefined }, 'jobs.add()'],
    [['x'.repeat(100)], {}, `jobs.add('${'x'.repeat(74)}...)`],
    [['x'.repeat(73)], {}, `jobs.add('${'x'.repeat(73)}')`],
    [[], { '\u{10000}': 1, '\uffff': 2 }, 'jobs.add(\uffff=2, \u{10000}=1)'],
  ])('of %j and %j', (args, kwargs, text) => {
    expect(callString('jobs.add', args, kwargs)).toBe(text);
  });

  it('is whole where no length is given', () => {
    expect(callString('f', ['x'.repeat(100)], {}, Number.POSITIVE_INFINITY)).toBe(`f('${'x'.repeat(100)}')`);
  });
});
