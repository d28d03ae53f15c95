/** Times as Ruby's `iso8601` writes them. */

/** True for a text that `Time.iso8601` reads. */
export function isRubyTime(text: string): boolean {
  return ISO.test(text);
}

const ISO = /^\s*[+-]?\d{4,}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}(?::?\d{2})?)?\s*$/i;

/** `2026-11-21T00:13:59.005000000Z`: a time in an argument, and the times of a job in Active Job 7.1 and later. */
export function nanosText(date: Date): string {
  return `${date.toISOString().slice(0, -1)}000000Z`;
}

/** `2026-11-21T00:13:59Z`: the times of a job in Active Job before 7.1. */
export function secondsText(date: Date): string {
  return `${date.toISOString().slice(0, -5)}Z`;
}
