import { floatText } from '../formats/ruby-json.ts';
import { Numeral } from '../formats/values.ts';
import type { Command } from '../redis.ts';
import type { Keyspace } from './keys.ts';

/**
 * resque-retry: how often a job was tried is kept beside it, under a digest of its arguments as Ruby joins them, so that a job may fail
 * in Ruby and be tried again here, and the reverse.
 * Source: resque-retry plugins/retry.rb redis_retry_key, retry_identifier, before_perform_retry, try_again.
 */

/** resque-retry's ExponentialBackoff: seconds before the first, second, … retry. */
export const BACKOFF_STRATEGY: readonly number[] = [0, 60, 600, 3600, 10_800, 21_600];

/** How Ruby prints a hash: `{"a"=>1}` up to 3.3, `{"a" => 1}` since. */
export type RubyInspect = '3.3' | '3.4';

/**
 * `args.join('-')`: what the digest is made of. Nested lists are joined the same way, nothing is an empty text, hashes are printed.
 */
export function retryIdentifier(args: readonly unknown[], inspect: RubyInspect = '3.3'): string {
  return args.map((arg) => joined(arg, inspect)).join('-');
}

function joined(value: unknown, inspect: RubyInspect): string {
  if (typeof value === 'string') return value;
  if (value === null || value === undefined) return '';
  return Array.isArray(value) ? retryIdentifier(value, inspect) : inspected(value, inspect);
}

/** A value as Ruby's `inspect` prints it. */
export function inspected(value: unknown, inspect: RubyInspect = '3.3'): string {
  if (value === null || value === undefined) return 'nil';
  if (typeof value === 'string') return quoted(value);
  if (typeof value === 'number')
    return Number.isSafeInteger(value) && !Object.is(value, -0) ? String(value) : floatText(value);
  if (value instanceof Numeral) return /^-?\d+$/.test(value.text) ? value.text : floatText(Number(value.text));
  if (Array.isArray(value)) return `[${value.map((item) => inspected(item, inspect)).join(', ')}]`;
  if (typeof value === 'object') {
    const arrow = inspect === '3.3' ? '=>' : ' => ';
    return `{${Object.entries(value)
      .map(([key, item]) => `${quoted(key)}${arrow}${inspected(item, inspect)}`)
      .join(', ')}}`;
  }
  return String(value as bigint | boolean);
}

const NAMED: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\f': '\\f',
  '\v': '\\v',
  '\b': '\\b',
  '\x07': '\\a',
  '\x1b': '\\e',
};

/** String#inspect of UTF-8: what cannot be printed is escaped (a next line, U+0085, can), and so is a `#` that would begin an interpolation. */
function quoted(text: string): string {
  const escaped = text.replace(/["\\\p{Cn}\p{Cs}\u2028\u2029]|(?!\u0085)\p{Cc}|#(?=[{$@])/gu, (letter) => {
    if (letter === '#') return '\\#';
    const named = NAMED[letter];
    if (named !== undefined) return named;
    const code = letter.codePointAt(0) as number;
    const hex = code.toString(16).toUpperCase();
    return code > 0xffff ? `\\u{${hex}}` : `\\u${hex.padStart(4, '0')}`;
  });
  return `"${escaped}"`;
}

/** Without the prefix: `resque-retry:RetryJob:26d3…`. `digest` is the SHA-1 of the identifier in hex; undefined for a job without arguments. */
export function retryName(className: string, digest: string | undefined): string {
  return `resque-retry:${className}${digest === undefined ? '' : `:${digest}`}`.replaceAll(/\s/g, '');
}

/** The key that counts, and the one that holds the last failure while a retry is due. */
export function retryKeys({ prefix }: Keyspace, name: string): { readonly attempts: string; readonly failure: string } {
  return { attempts: prefix + name, failure: `${prefix}failure-${name}` };
}

/** The number of the run to come, 1 for the first, from what is stored: -1 or nothing before the first, then the number of retries done. */
export function attemptOf(stored: string | undefined): number {
  if (stored === undefined) return 1;
  const count = Number(stored);
  return Number.isSafeInteger(count) && count >= -1 ? count + 2 : 1;
}

/** A run failed and there will be another: what before_perform of the next one expects to find. `attempt` is the run's number, from 1. */
export function countAttempt(key: string, attempt: number): Command {
  return ['SET', key, String(attempt - 1)];
}
