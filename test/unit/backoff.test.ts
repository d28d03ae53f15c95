import { expect, test } from 'vitest';
import { backoff } from '../../src/backoff.ts';

test.each([
  [0, 50, 100],
  [1, 100, 200],
  [2, 200, 400],
  [3, 400, 800],
  [4, 800, 1_600],
  [5, 1_600, 3_200],
  [6, 2_500, 5_000],
  [1_000_000, 2_500, 5_000],
])('attempt %i waits between %i and %i ms', (attempt, least, most) => {
  expect(backoff(attempt, 0)).toBe(least);
  expect(backoff(attempt, 1)).toBe(most);
});

test('base and ceiling are the caller’s', () => {
  expect(backoff(3, 1, 10, 1_000)).toBe(80);
  expect(backoff(30, 1, 10, 1_000)).toBe(1_000);
});
