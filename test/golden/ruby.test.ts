import { describe, expect, test } from 'vitest';
import { captures, type RubySet } from './ruby-support.ts';

const SETS: readonly RubySet[] = ['sidekiq/6.4', 'sidekiq/8.1', 'active-job/6.1', 'active-job/8.1', 'resque/3.0'];

/** Captures of a client alone, whose jobs nobody took. */
const PUSHES = /^(client-push-(simple|options|set|bulk$)|enqueue-|(sidekiq|resque)-aj-(args|set))/;

describe.each(SETS)('the captures of %s', (set) => {
  const all = captures(set);

  test('are read', () => {
    expect(all.length).toBeGreaterThan(10);
    for (const { name, monitor } of all) {
      for (const { at, words } of monitor) {
        expect(Number(at), name).toBeGreaterThan(1.79e9);
        expect(words[0], name).toMatch(/^[A-Z]+$/);
      }
    }
  });

  test('have in their lists what Redis saw pushed, to the letter', () => {
    for (const { name, keys, monitor } of all.filter((one) => PUSHES.test(one.name))) {
      const pushed = monitor.flatMap(({ words: [command, , ...values] }) =>
        command === 'LPUSH' ? values.toReversed() : command === 'RPUSH' ? values : [],
      );
      const kept = [...keys].flatMap(([, { type, values }]) => (type === 'list' ? values : []));
      expect(kept.toSorted(), name).toEqual(pushed.toSorted());
    }
  });
});

test('a job is the same text in a list and in what Redis saw, whatever its letters', () => {
  const [one] = captures('sidekiq/8.1', 'client-push-simple');
  expect(one?.keys.get('queue:default')?.values).toEqual([
    one?.monitor.find(({ words }) => words[0] === 'LPUSH')?.words[2],
  ]);
  expect(one?.keys.get('queue:default')?.values[0]).toContain('é 😀 </x> \u2028 &');
});
