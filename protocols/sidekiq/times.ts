import type { Dialect } from './dialect.ts';

/** Seconds as every version reads them: always with a fraction, since 8.x takes a whole number for milliseconds. */
export function seconds(ms: number): string {
  const text = String(ms / 1000);
  return text.includes('.') ? text : `${text}.0`;
}

/** A moment as members of a job hash have it. */
export function timestamp(ms: number, dialect: Dialect): string {
  return dialect.timestamps === 'milliseconds' ? String(Math.floor(ms)) : seconds(ms);
}

/** Later than this, a number cannot be meant as seconds: the year 5138. */
const LATEST_SECONDS = 1e11;

/** The last moment there is, in milliseconds: whatever wrote a later one, it can be no Date, and no page shows it. */
export const LATEST = 8.64e15;

/**
 * Milliseconds since the epoch of a member of a job hash, whichever version wrote it. Undefined for what is no time.
 * A whole number is milliseconds to 8.x and seconds to those before; which was meant shows by its size.
 */
export function readTimestamp(value: unknown): number | undefined {
  if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) return undefined;
  const ms = value < LATEST_SECONDS ? value * 1000 : value;
  return ms <= LATEST ? ms : undefined;
}
