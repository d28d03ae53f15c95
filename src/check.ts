import type { RetryPolicy } from '../protocols/retry.ts';
import { ConfigError } from './errors.ts';

/**
 * The error of a value, as the end of a sentence that begins with the value's name: `must be a whole number, 1 or more`. Undefined when the value is
 * valid.
 */
export type Check = (value: unknown) => string | undefined;

/** A check for every option of an object. */
export type Checks<Options = Readonly<Record<string, unknown>>> = Readonly<Record<keyof Options & string, Check>>;

/**
 * Names that other software gives to an option, with the name here: `{ broker_url: 'broker' }`. Case, `-` and `_` are ignored. The name here may also
 * be a path: `brokerTransportOptions.visibilityTimeout`.
 */
export type OtherNames = Readonly<Record<string, string>>;

/**
 * Checks options from a caller, once, where they come in. An option that is undefined counts as left out. Throws ConfigError, which names the option,
 * its valid values, and for an unknown name the nearest known one. `where` begins its message: `sidekiq`, `celery: enqueue`.
 */
export function checkOptions(
  where: string,
  value: unknown,
  checks: Readonly<Record<string, Check>>,
  otherNames: OtherNames = {},
): void {
  if (!isRecord(value)) throw new ConfigError(`${where}: options must be an object, not ${shown(value)}`);
  for (const [name, option] of Object.entries(value)) {
    if (!Object.hasOwn(checks, name))
      throw new ConfigError(`${where}: ${unknownOption(name, Object.keys(checks), otherNames)}`);
    const wrong = option === undefined ? undefined : (checks[name] as Check)(option);
    if (wrong !== undefined) throw new ConfigError(`${where}: ${name} ${withValue(wrong, option, name)}`);
  }
}

/**
 * Checks a RetryPolicy from a caller; undefined means no policy. Throws ConfigError, as `checkOptions` does. `where` begins its message:
 * `tasks.handle: 'shop.charge': retry`.
 */
export function checkRetryPolicy(where: string, value: unknown): void {
  if (value === undefined) return;
  checkOptions(where, value, RETRY_POLICY);
  const { backoff } = value as RetryPolicy;
  if (backoff !== undefined) checkOptions(`${where}.backoff`, backoff, RETRY_BACKOFF);
}

/** The middle of an error message about an unknown name. */
export function unknownOption(name: string, known: readonly string[], otherNames: OtherNames = {}): string {
  const near = otherName(name, otherNames) ?? nearest(name, known);
  return near === undefined
    ? `unknown option '${name}'; known are ${known.toSorted().join(', ')}`
    : `unknown option '${name}'; did you mean '${near}'?`;
}

/**
 * The known name that the caller most probably meant: one that differs only in case, `-` and `_`, or in a few letters. Undefined where no name is
 * near.
 */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const wanted = plain(name);
  let best: { readonly name: string; readonly distance: number } | undefined;
  for (const one of known) {
    const distance = editDistance(wanted, plain(one));
    if (distance <= Math.max(1, Math.floor(one.length / 4)) && (best === undefined || distance < best.distance))
      best = { name: one, distance };
  }
  return best?.name;
}

function otherName(name: string, otherNames: OtherNames): string | undefined {
  const wanted = plain(name);
  return Object.entries(otherNames).find(([other]) => plain(other) === wanted)?.[1];
}

function plain(text: string): string {
  return text.toLowerCase().replaceAll(/[-_]/g, '');
}

export const anything: Check = () => undefined;
export const text: Check = (value) => (typeof value === 'string' ? undefined : 'must be a text');
export const name: Check = (value) =>
  typeof value === 'string' && value !== '' ? undefined : 'must be a text that is not empty';
export const boolean: Check = (value) => (typeof value === 'boolean' ? undefined : 'must be true or false');
export const callable: Check = (value) => (typeof value === 'function' ? undefined : 'must be a function');
export const record: Check = (value) => (isRecord(value) ? undefined : 'must be an object');
export const date: Check = (value) =>
  value instanceof Date && !Number.isNaN(value.getTime()) ? undefined : 'must be a Date';

/** A list of texts, such as names of queues. */
export const names: Check = (value) =>
  Array.isArray(value) && value.every((one) => typeof one === 'string' && one !== '')
    ? undefined
    : "must be a list of texts: ['default']";

/** `wholeNumber(1)`: 1 or more. */
export function wholeNumber(least = 0, most: number = Number.MAX_SAFE_INTEGER): Check {
  const range = most === Number.MAX_SAFE_INTEGER ? `${least} or more` : `from ${least} to ${most}`;
  return (value) =>
    Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most
      ? undefined
      : `must be a whole number, ${range}`;
}

/** A number of some unit, perhaps with a fraction; Infinity where `infinite`. */
export function amount(
  unit: string,
  { least = 0, infinite = false }: { readonly least?: number; readonly infinite?: boolean } = {},
): Check {
  return (value) =>
    typeof value === 'number' && value >= least && (Number.isFinite(value) || (infinite && value > 0))
      ? undefined
      : `must be a number of ${unit}, ${least} or more${infinite ? '; Infinity for no limit' : ''}`;
}
export const milliseconds: Check = amount('milliseconds');
export const seconds: Check = amount('seconds');

export function oneOf(...values: readonly (string | number | boolean | null)[]): Check {
  const list = values.map((one) => (typeof one === 'string' ? `'${one}'` : String(one)));
  const said = list.length < 2 ? list.join('') : `${list.slice(0, -1).join(', ')} or ${list.at(-1) as string}`;
  return (value) => (values.includes(value as string) ? undefined : `must be ${said}`);
}

/** Passes when one of several checks passes. The message joins the messages of all. */
export function either(...checks: readonly Check[]): Check {
  return (value) => {
    const wrong = checks.map((check) => check(value));
    return wrong.includes(undefined) ? undefined : wrong.join(', or ').replaceAll(', or must be', ', or');
  };
}

/** A list in which every item passes the check. */
export function listOf(check: Check, what: string): Check {
  return (value) =>
    Array.isArray(value) && value.every((one) => check(one) === undefined) ? undefined : `must be a list of ${what}`;
}

/** An object with these options and no others. The message names the option of the object. */
export function object(checks: Readonly<Record<string, Check>>, otherNames: OtherNames = {}): Check {
  return (value) => {
    if (!isRecord(value)) return 'must be an object';
    for (const [key, option] of Object.entries(value)) {
      if (!Object.hasOwn(checks, key)) return `has an ${unknownOption(key, Object.keys(checks), otherNames)}`;
      const wrong = option === undefined ? undefined : (checks[key] as Check)(option);
      if (wrong !== undefined) return `has an option '${key}' that ${withValue(wrong, option, key)}`;
    }
    return undefined;
  };
}

const RETRY_POLICY: Checks<RetryPolicy> = {
  max: either(oneOf(null), wholeNumber(0)),
  delayMs: either(callable, milliseconds),
  backoff: record,
  on: callable,
};
const RETRY_BACKOFF: Checks<NonNullable<RetryPolicy['backoff']>> = {
  factorMs: milliseconds,
  maxMs: amount('milliseconds', { infinite: true }),
  jitter: boolean,
};

/** Adds the actual value to a message about what the value must be. */
function withValue(wrong: string, value: unknown, name: string): string {
  return wrong.startsWith('must ') ? `${wrong}, not ${shown(value, name)}` : wrong;
}

/** Names of options whose values stay out of logs. */
const SECRET = /pass|secret|token|credential/i;

/** A value for an error message: short, on one line, and without a possible password. */
function shown(value: unknown, of = ''): string {
  const secret = SECRET.test(of);
  if (typeof value === 'string') {
    if (value.includes('://')) return 'a URL';
    // This may be a URL without its scheme: `user:password@host`.
    return secret || value.includes('@') ? 'a text' : JSON.stringify(value.slice(0, 80));
  }
  if (secret && ['number', 'bigint'].includes(typeof value)) return 'a number';
  if (Array.isArray(value)) return 'a list';
  if (value === null || ['number', 'boolean', 'bigint', 'undefined'].includes(typeof value)) return String(value);
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** How many letters must be added, removed, changed, or swapped with their neighbour. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let least = Math.min(
        (last[j] as number) + 1,
        (row[j - 1] as number) + 1,
        (last[j - 1] as number) + (same ? 0 : 1),
      );
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, (before[j - 2] as number) + 1);
      row.push(least);
    }
    before = last;
    last = row;
  }
  return last[b.length] as number;
}
