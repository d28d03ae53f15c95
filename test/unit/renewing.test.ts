import { describe, expect, test } from 'vitest';
import { RenewingMap, RenewingSet } from '../../src/renewing.ts';

/** Long enough for several renewals. */
const MANY = 5_000;

describe('what comes and goes by the thousand', () => {
  test('a set keeps what was not deleted, in the order it came', () => {
    const set = new RenewingSet<number>();
    for (let n = 0; n < MANY; n++) {
      set.add(n);
      // One in a hundred stays.
      if (n >= 50 && (n - 50) % 100 !== 0) expect(set.delete(n - 50)).toBe(true);
    }
    const stayed = Array.from({ length: MANY }, (_, n) => n).filter((n) => n % 100 === 0 || n >= MANY - 50);
    expect([...set]).toEqual(stayed);
    expect(set.size).toBe(stayed.length);
    expect(set.has(100)).toBe(true);
    expect(set.has(101)).toBe(false);
    expect(set.delete(101)).toBe(false);
  });

  test('a map does, with what it knows of each', () => {
    const map = new RenewingMap<string, number>();
    for (let n = 0; n < MANY; n++) {
      map.set(`k${n}`, n);
      if (n >= 3) expect(map.delete(`k${n - 3}`)).toBe(true);
    }
    expect([...map]).toEqual([MANY - 3, MANY - 2, MANY - 1].map((n) => [`k${n}`, n]));
    expect([...map.keys()]).toEqual([...map].map(([key]) => key));
    expect([...map.values()]).toEqual([...map].map(([, value]) => value));
    expect(map.get(`k${MANY - 1}`)).toBe(MANY - 1);
    expect(map.get('k0')).toBeUndefined();
    expect(map.has('k0')).toBe(false);
  });

  test('everything can be deleted on the way through', () => {
    const set = new RenewingSet<number>();
    for (let n = 0; n < MANY; n++) set.add(n);
    const seen: number[] = [];
    for (const n of set) {
      seen.push(n);
      set.delete(n);
    }
    expect(seen).toHaveLength(MANY);
    expect(new Set(seen).size).toBe(MANY);
    expect(set.size).toBe(0);
  });
});
