import { expect, it } from 'vitest';
import { readsHashOnly } from '../../../protocols/rq/workers.ts';

it.each([
  ['1.10.1', true],
  ['1.11.0', true],
  ['1.8', true],
  ['0.13.0', true],
  ['1.12.0', false],
  ['1.16.2', false],
  ['2.0.0', false],
  ['2.10.0', false],
  ['jobglot 1.0.0', false],
  ['', false],
])('a worker of version %j reads results in the hash only: %s', (version, is) => {
  expect(readsHashOnly(version)).toBe(is);
});
