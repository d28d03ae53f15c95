import { randomBytes } from 'node:crypto';

const BYTES = 12;
/** A call for random bytes costs more than making a job, so bytes for many ids are drawn at once. */
let pool = '';
let used = 0;

/** 24 hex digits, as in Sidekiq. */
export function newJid(): string {
  if (used === pool.length) {
    pool = randomBytes(BYTES * 1_024).toString('hex');
    used = 0;
  }
  return pool.slice(used, (used += 2 * BYTES));
}
