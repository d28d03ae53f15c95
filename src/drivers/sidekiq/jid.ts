import { randomBytes } from 'node:crypto';

const BYTES = 12;
/** Asking for random bytes costs more than making a job: many at once. */
let pool = '';
let used = 0;

/** 24 hex digits, as Sidekiq's. */
export function newJid(): string {
  if (used === pool.length) {
    pool = randomBytes(BYTES * 1_024).toString('hex');
    used = 0;
  }
  return pool.slice(used, (used += 2 * BYTES));
}
