import { describe, expect, test } from 'vitest';
import { fetchOrder, readQueues } from '../../../protocols/sidekiq/queues.ts';

/** Numbers in [0, 1) that are the same in every run. */
function numbers(seed = 1): () => number {
  let state = seed;
  return () => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
}

describe('queues', () => {
  test.each([
    [['a', 'b'], 'strict', { a: 0, b: 0 }],
    [{ a: 5, b: 1 }, 'weighted', { a: 5, b: 1 }],
    [{ a: 1, b: 1 }, 'random', { a: 1, b: 1 }],
    [['a,5', 'b'], 'weighted', { a: 5, b: 0 }],
    [
      [
        ['a', 3],
        ['b', 1],
      ],
      'weighted',
      { a: 3, b: 1 },
    ],
    [['a', 'a'], 'strict', { a: 0 }],
  ] as const)('%j are %s', (queues, mode, weights) => {
    const read = readQueues(queues as Parameters<typeof readQueues>[0]);
    expect([read.mode, Object.fromEntries(read.weights)]).toEqual([mode, weights]);
  });
  test.each([[['']], [['a,x']], [{ a: -1 }], [{ a: 1.5 }]])('%j is refused', (queues) => {
    expect(() => readQueues(queues as never)).toThrow('queues:');
  });
  test('strict keeps its order, without what is paused', () => {
    const queues = readQueues(['a', 'b', 'c']);
    expect(fetchOrder(queues, new Set(['b']), numbers())).toEqual(['a', 'c']);
  });
  test('weighted: the first is drawn as often as it weighs, and none is missing', () => {
    const queues = readQueues({ heavy: 6, light: 3, least: 1 });
    const random = numbers();
    const firsts: Record<string, number> = { heavy: 0, light: 0, least: 0 };
    for (let draw = 0; draw < 10_000; draw++) {
      const order = fetchOrder(queues, new Set(), random);
      expect(order.toSorted()).toEqual(['heavy', 'least', 'light']);
      firsts[order[0] as string]! += 1;
    }
    expect(firsts['heavy']! / 10_000).toBeCloseTo(0.6, 1);
    expect(firsts['light']! / 10_000).toBeCloseTo(0.3, 1);
    expect(firsts['least']! / 10_000).toBeCloseTo(0.1, 1);
  });
});
