import { WireError } from '../errors.ts';
import { stringify } from '../formats/ruby-json.ts';
import { Numeral } from '../formats/values.ts';
import type { Dialect } from './dialect.ts';
import type { Payload } from './redis.ts';
import { seconds, timestamp } from './times.ts';

/**
 * What a client may say of a job, checked and made into a job hash. Names and units are Sidekiq's; camelCase here, snake_case
 * on the wire. Mirrors lib/sidekiq/job_util.rb (validate, normalize_item) and client.rb.
 */
export interface JobOptions {
  /** @default 'default' */
  readonly queue?: string;
  /** True is 25 retries; a number is so many, and 0 sends it to the dead set at once; false forgets it when it fails. @default true */
  readonly retry?: boolean | number;
  /** Seconds for which it is tried again, instead of a number of times. At most 1e9. */
  readonly retryFor?: number;
  /** The queue its retries go to. */
  readonly retryQueue?: string;
  /** False: no dead job when its retries are used up. @default true */
  readonly dead?: boolean;
  /** Keep the backtrace of its failure: all lines, or so many. @default false */
  readonly backtrace?: boolean | number;
  /** Shown in the UI, and logged. */
  readonly tags?: readonly string[];
  /** 24 hex digits by custom. @default a new one */
  readonly jid?: string;
  /** Current attributes: `{ user_id: 7 }`. As a plain object, which Sidekiq 6 to 8 all read. */
  readonly cattr?: Readonly<Record<string, unknown>>;
  /** Seconds within which it must have started, from when it is due (Sidekiq Pro's `expires_in`, honoured by our workers). */
  readonly expiresIn?: number;
  /** The class shown in the UI. */
  readonly displayClass?: string;
  /** The class behind a wrapper: counted and shown in its place. */
  readonly wrapped?: string;
  /** Members of your own, as middleware of the application would add them: `{ tenant_id: 7 }`. */
  readonly custom?: Readonly<Record<string, unknown>>;
}

/** When: at a time, or so many seconds from now. */
export interface Timing {
  readonly at?: Date;
  /** Seconds. */
  readonly in?: number;
}

/** What the wire needs to know beside the call. */
export interface PushMoment {
  readonly now: Date;
  readonly dialect: Dialect;
  /** A new jid. */
  readonly newId: () => string;
}

/** A job before it is written down, as middleware sees it: the hash, with `at` (milliseconds) when it is for later. */
export interface Item {
  class: string;
  args: readonly unknown[];
  jid: string;
  queue: string;
  /** Every other member, in order, by its name on the wire. */
  readonly members: Map<string, unknown>;
  at: number | undefined;
}

/** Members that have a place of their own. */
const OWN = new Set(['class', 'args', 'jid', 'queue', 'at', 'created_at', 'enqueued_at']);
/** Longer than this is a point in time that somebody took for a duration. */
const LONGEST = 1_000_000_000;

/** Checks a call and makes an item of it. Throws WireError `bad-option`, naming the option and what it may be. */
export function item(
  name: string,
  args: readonly unknown[],
  options: JobOptions & Timing,
  { now, newId }: PushMoment,
): Item {
  if (!isText(name)) throw bad(String(name), 'class', 'the name of a Ruby class', name);
  if (!Array.isArray(args)) throw bad(name, 'args', 'an array', args);
  const queue = checked(name, 'queue', options.queue ?? 'default', isText, 'a name');
  const members = new Map<string, unknown>();
  const { retry = true, retryFor, tags, backtrace, jid, cattr, expiresIn } = options;
  members.set('retry', checked(name, 'retry', retry, isCountOrFlag, 'true, false or a number of retries'));
  if (retryFor !== undefined) {
    checked(name, 'retryFor', retryFor, isRetryFor, 'seconds, at most 1e9');
    members.set('retry_for', Math.floor(retryFor));
  }
  set(members, name, 'retryQueue', 'retry_queue', options.retryQueue, isText, 'the name of a queue');
  set(members, name, 'dead', 'dead', options.dead, isFlag, 'true or false');
  set(members, name, 'backtrace', 'backtrace', backtrace, isCountOrFlag, 'true, false or a number of lines');
  set(members, name, 'tags', 'tags', tags, isTexts, 'an array of strings');
  set(members, name, 'wrapped', 'wrapped', options.wrapped, isText, 'the name of a class');
  set(members, name, 'displayClass', 'display_class', options.displayClass, isText, 'the name of a class');
  set(members, name, 'cattr', 'cattr', cattr, isObject, 'an object');
  const at = timeOf(name, options, now);
  if (expiresIn !== undefined) {
    checked(name, 'expiresIn', expiresIn, isSeconds, 'a number of seconds, below 1e9');
    members.set('expires_in', expiresIn);
    members.set('expiry', new Numeral(seconds((at ?? now.getTime()) + expiresIn * 1000)));
  }
  for (const [key, value] of Object.entries(options.custom ?? {})) {
    if (OWN.has(key) || members.has(key))
      throw bad(name, `custom.${key}`, 'a member that no option of its own sets', value);
    members.set(key, value);
  }
  const id = jid === undefined ? newId() : checked(name, 'jid', jid, isText, 'a text');
  return { class: name, args, jid: id, queue, members, at };
}

/** The text of an item, with the times of now. Throws WireError `unencodable`, naming the argument. */
export function payload(one: Item, moment: Pick<PushMoment, 'now' | 'dialect'>): Payload {
  return payloads(one, [{ args: one.args, jid: one.jid }], moment)[0] as Payload;
}

/** The texts of many jobs that differ in nothing but their arguments and jids; `one` says the rest. Throws as `payload`. */
export function payloads(
  one: Item,
  jobs: readonly { readonly args: readonly unknown[]; readonly jid: string }[],
  { now, dialect }: Pick<PushMoment, 'now' | 'dialect'>,
): Payload[] {
  const created = timestamp(now.getTime(), dialect);
  const { members, queue, at } = one;
  // client.rb: options, then args, class, jid, created_at, enqueued_at.
  let before = `{"retry":${written(one, members.get('retry'), 'retry')},"queue":${JSON.stringify(queue)}`;
  for (const [key, value] of members) {
    if (key !== 'retry' && value !== undefined) before += `,${JSON.stringify(key)}:${written(one, value, key)}`;
  }
  before += ',"args":';
  const between = `,"class":${JSON.stringify(one.class)},"jid":`;
  const after = `,"created_at":${created}${at === undefined ? `,"enqueued_at":${created}` : ''}}`;
  return jobs.map(({ args, jid }) => {
    const text = before + written(one, args, 'args') + between + JSON.stringify(jid) + after;
    return at === undefined ? { queue, text } : { queue, text, at };
  });
}

/** When it runs, in milliseconds; undefined for now, and for what is past: client.rb perform_in. */
function timeOf(name: string, { at, in: delay }: Timing, now: Date): number | undefined {
  if (at !== undefined && delay !== undefined) throw bad(name, 'at', 'left out where `in` says when', at);
  let when: number;
  if (at !== undefined) {
    if (!(at instanceof Date) || Number.isNaN(at.getTime())) throw bad(name, 'at', 'a Date', at);
    when = at.getTime();
  } else if (delay === undefined) {
    return undefined;
  } else {
    if (typeof delay !== 'number' || !(delay > -LONGEST && delay < LONGEST))
      throw bad(name, 'in', 'seconds from now, below 1e9 (for a point in time there is `at`)', delay);
    when = now.getTime() + delay * 1000;
  }
  return when <= now.getTime() ? undefined : when;
}

function written(one: Item, value: unknown, at: string): string {
  try {
    // The job hash and its args are levels themselves.
    return stringify(value, { at, maxDepth: 99 });
  } catch (cause) {
    if (!(cause instanceof WireError)) throw cause;
    const why = cause.message.replace(/^json: /, '');
    throw new WireError('sidekiq', cause.code, `${one.class}: ${why}`, { cause });
  }
}

function set<T>(
  members: Map<string, unknown>,
  task: string,
  option: string,
  key: string,
  value: T | undefined,
  accepts: (value: unknown) => boolean,
  expected: string,
): void {
  if (value !== undefined) members.set(key, checked(task, option, value, accepts, expected));
}

function checked<T>(task: string, option: string, value: T, accepts: (value: unknown) => boolean, expected: string): T {
  if (accepts(value)) return value;
  throw bad(task, option, expected, value);
}

function bad(task: string, option: string, expected: string, value: unknown): WireError {
  return new WireError('sidekiq', 'bad-option', `${task}: ${option} must be ${expected}, not ${shown(value)}`);
}

function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value);
  if (value instanceof Date) return `the date ${String(value)}`;
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'an array' : 'an object';
  return String(value);
}

/** Half a surrogate pair cannot be written as UTF-8, so it would be another name in Redis. */
const isText = (value: unknown): boolean => typeof value === 'string' && value !== '' && !/\p{Cs}/u.test(value);
const isFlag = (value: unknown): boolean => typeof value === 'boolean';
const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null && !Array.isArray(value);
const isTexts = (value: unknown): boolean => Array.isArray(value) && value.every((one) => typeof one === 'string');
const isSeconds = (value: unknown): boolean => typeof value === 'number' && value > 0 && value < LONGEST;
const isRetryFor = (value: unknown): boolean => typeof value === 'number' && value > 0 && value <= LONGEST;
const isCountOrFlag = (value: unknown): boolean =>
  typeof value === 'boolean' || (typeof value === 'number' && Number.isInteger(value) && value >= 0);
