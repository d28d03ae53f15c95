import { DateTime } from '../formats/values.ts';

/**
 * Times as RQ writes them.
 *
 *     date        2026-11-20T23:56:44.412289Z     UTC; read with one to six digits of a second, or none
 *     epoch       1795219015.018089               seconds, in executions and results
 *     score       1795219015                      whole seconds, in registries; `+inf` means for ever
 *
 * Source: rq/utils.py utcformat, utcparse.
 */
const DATE = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?Z$/;

/** Writes a date. A date that was read keeps its microseconds. */
export function dateText(date: Date): string {
  const m = date instanceof DateTime ? DATE.exec(date.iso) : null;
  if (m !== null) return `${m[1]}.${(m[2] ?? '').padEnd(6, '0')}Z`;
  // 2026-11-20T23:56:44.412Z
  return `${date.toISOString().slice(0, -1)}000Z`;
}

/** Undefined for a text that RQ would not read: with an offset, nine digits, no `Z`, or a day that does not exist. */
export function readDate(text: string): DateTime | undefined {
  if (!DATE.test(text) || text.startsWith('0000') || text.startsWith('24', 11)) return undefined;
  const date = new DateTime(text);
  return Number.isNaN(date.getTime()) ? undefined : date;
}

/** Seconds since the epoch, as Python writes the float: `1795219015.018`, `1795219015.0`. */
export function epochText(ms: number): string {
  const seconds = ms / 1000;
  return Number.isInteger(seconds) ? `${seconds}.0` : String(seconds);
}

/** Whole seconds since the epoch, cut off as `calendar.timegm` does. */
export function epochSeconds(date: Date): number {
  return Math.floor(date.getTime() / 1000);
}

/** A time as a score, rounded up so that it is never early. */
export function dueScore(date: Date): number {
  return Math.ceil(date.getTime() / 1000);
}

/** Reads seconds since the epoch as milliseconds. Undefined if the text is not a number. */
export function readEpoch(text: string): number | undefined {
  const seconds = Number(text);
  return text.trim() === '' || !Number.isFinite(seconds) ? undefined : seconds * 1000;
}
