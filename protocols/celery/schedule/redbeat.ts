import type { Buffer } from 'node:buffer';
import { callScript, type Command, type Exchange, type Script } from '../../redis.ts';
import * as json from '../../formats/json.ts';
import { DateTime, float } from '../../formats/values.ts';
import { type Claimed, type Push, readClaimed, type RunState } from './beat.ts';
import {
  type BeatEntry,
  crontab,
  type CronField,
  interval,
  ParseException,
  type Schedule,
  SOLAR,
  utc,
  type Zone,
  zoneOf,
} from './schedule.ts';

/**
 * The keys of celery-redbeat 2.4, a scheduler for Celery's beat that keeps its entries in Redis. Source: redbeat/schedulers.py,
 * redbeat/decoder.py.
 *
 * | key | type | content |
 * |---|---|---|
 * | `redbeat:<name>` | hash | `definition` and `meta` of an entry, as JSON |
 * | `redbeat::schedule` | zset | those keys → unix time of the next run, whole seconds; below 0: never |
 * | `redbeat::statics` | set | names of the entries that a configuration brought |
 * | `redbeat::lock` | string | a lock of redis-py: the token of the process that leads |
 *
 *     definition = {"name", "task", "args", "kwargs", "options", "schedule", "enabled"}
 *     meta       = {"last_run_at": datetime | null, "total_run_count": integer}
 *     schedule   = {"__type__": "interval", "every": seconds, "relative": bool} | {"__type__": "crontab", fields …} | rrule
 *     datetime   = {"__type__": "datetime", "year" … "microsecond", "timezone": IANA name | seconds east of UTC}
 */
export interface RedBeatKeys {
  readonly prefix: string;
  readonly schedule: string;
  readonly statics: string;
  /** Undefined: without a lock, as with `redbeat_lock_key = None`. */
  readonly lock: string | undefined;
}

export function redbeatKeys(prefix = 'redbeat:', lockKey: string | null = `${prefix}:lock`): RedBeatKeys {
  const lock = lockKey === null || lockKey.startsWith(prefix) ? lockKey : prefix + lockKey;
  return { prefix, schedule: `${prefix}:schedule`, statics: `${prefix}:statics`, lock: lock ?? undefined };
}

/** An entry as it is stored. */
export interface RedBeatEntry extends BeatEntry {
  readonly enabled: boolean;
}

/** Throws WireError for a value that RedBeat's JSON cannot hold. */
export function encodeDefinition({ name, task, args, kwargs, options, schedule, enabled }: RedBeatEntry): string {
  const definition = { name, task, args, kwargs, options, schedule: scheduleDictionary(schedule), enabled };
  return json.stringify(definition, {
    at: `entry ${name}`,
    replace: (value) => (value instanceof Date ? datetimeDictionary(value.getTime(), utc) : undefined),
  });
}

function scheduleDictionary(schedule: Schedule): object {
  if (schedule.kind === 'interval')
    return { __type__: 'interval', every: float(schedule.everyMs / 1000), relative: schedule.relative };
  const { minute, hour, dayOfWeek, dayOfMonth, monthOfYear } = schedule.fields;
  return {
    __type__: 'crontab',
    minute,
    hour,
    day_of_week: dayOfWeek,
    day_of_month: dayOfMonth,
    month_of_year: monthOfYear,
  };
}

/** A moment as a datetime of `zone`: Python evaluates a crontab in the zone of the last run. */
function datetimeDictionary(ms: number, zone: Zone): object {
  const wall = new Date(zone.toWall(ms));
  return {
    __type__: 'datetime',
    year: wall.getUTCFullYear(),
    month: wall.getUTCMonth() + 1,
    day: wall.getUTCDate(),
    hour: wall.getUTCHours(),
    minute: wall.getUTCMinutes(),
    second: wall.getUTCSeconds(),
    microsecond: wall.getUTCMilliseconds() * 1000,
    timezone: zone.name,
  };
}

/**
 * Reads an entry's definition. Maps are dictionaries, so that what is sent is what was stored. Throws ParseException for an
 * rrule, which only Python evaluates, and for what is no definition.
 */
export function decodeDefinition(text: string): RedBeatEntry {
  const value = parsed(text, 'definition');
  const field = (name: string): unknown => value.get(name) ?? undefined;
  const name = field('name');
  const task = field('task');
  const args = field('args') ?? [];
  const kwargs = field('kwargs') ?? new Map();
  const options = field('options') ?? new Map();
  if (typeof name !== 'string') throw new ParseException('must be a text', 'name');
  if (typeof task !== 'string' || task === '') throw new ParseException('must be the name of a task', 'task');
  if (!Array.isArray(args)) throw new ParseException('must be a list', 'args');
  if (!(kwargs instanceof Map)) throw new ParseException('must be a dictionary', 'kwargs');
  if (!(options instanceof Map)) throw new ParseException('must be a dictionary', 'options');
  return {
    name,
    task,
    args: args.map(revive),
    kwargs: revive(kwargs) as BeatEntry['kwargs'],
    options: Object.fromEntries([...options].map(([key, option]) => [String(key), revive(option)])),
    schedule: readSchedule(field('schedule')),
    enabled: field('enabled') !== false,
  };
}

function readSchedule(value: unknown): Schedule {
  if (!(value instanceof Map)) throw new ParseException('must be an interval or a crontab', 'schedule');
  const field = (name: string): unknown => value.get(name) ?? undefined;
  switch (field('__type__')) {
    case 'interval':
      return interval(Number(field('every')), { relative: field('relative') === true });
    case 'crontab':
      return crontab({
        minute: cronField(field('minute')),
        hour: cronField(field('hour')),
        dayOfWeek: cronField(field('day_of_week')),
        dayOfMonth: cronField(field('day_of_month')),
        monthOfYear: cronField(field('month_of_year')),
      });
    case 'rrule':
      throw new ParseException(
        'an rrule is evaluated by Python only; the entry is left to a RedBeat there',
        'schedule',
      );
    case 'solar':
      throw new ParseException(SOLAR, 'schedule');
    default:
      throw new ParseException(`the type '${String(field('__type__'))}' is not known`, 'schedule');
  }
}

function cronField(value: unknown): CronField {
  return (value ?? '*') as CronField;
}

/** Datetimes inside arguments; other dictionaries stay what they are. */
function revive(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(revive);
  if (!(value instanceof Map)) return value;
  if (value.get('__type__') === 'datetime') {
    const ms = readDatetime(value);
    if (ms !== undefined) return new DateTime(`${new Date(ms).toISOString().slice(0, -1)}+00:00`);
  }
  return new Map([...value].map(([key, member]) => [key, revive(member)]));
}

/** Milliseconds, or undefined where it is no datetime. */
function readDatetime(value: ReadonlyMap<unknown, unknown>): number | undefined {
  const part = (name: string, least = 0): number => Number(value.get(name) ?? least);
  const wall = new Date(0);
  wall.setUTCFullYear(part('year', Number.NaN), part('month', Number.NaN) - 1, part('day', Number.NaN));
  wall.setUTCHours(part('hour'), part('minute'), part('second'), part('microsecond') / 1000);
  if (Number.isNaN(wall.getTime())) return undefined;
  const timezone = value.get('timezone') ?? 'UTC';
  return typeof timezone === 'string'
    ? zoneOf(timezone).fromWall(wall.getTime())
    : wall.getTime() - Number(timezone) * 1000;
}

export function encodeMeta({ lastRunAt, totalRunCount }: RunState, zone: Zone): string {
  return json.stringify({
    last_run_at: lastRunAt === undefined ? null : datetimeDictionary(lastRunAt, zone),
    total_run_count: totalRunCount,
  });
}

/** What an entry's meta says; an entry without one never ran. Throws WireError or ParseException where it cannot be read. */
export function decodeMeta(text: string | undefined): RunState {
  if (text === undefined || text === '') return { lastRunAt: undefined, totalRunCount: 0 };
  const meta = parsed(text, 'meta');
  const last = meta.get('last_run_at') ?? undefined;
  const lastRunAt = last instanceof Map ? readDatetime(last) : undefined;
  if (last !== undefined && lastRunAt === undefined) throw new ParseException('is no datetime', 'last_run_at');
  const count = meta.get('total_run_count');
  return { lastRunAt, totalRunCount: typeof count === 'number' ? count : 0 };
}

function parsed(text: string, what: string): ReadonlyMap<unknown, unknown> {
  const value = json.parseExact(text);
  if (!(value instanceof Map)) throw new ParseException(`the ${what} is no dictionary`);
  return value;
}

/** The stored hash of an entry. */
export interface RedBeatRecord {
  readonly key: string;
  readonly definition: string | undefined;
  readonly meta: string | undefined;
}

/** The keys of entries that may be due, and of the next one within `horizonMs`. Source: RedBeatScheduler.schedule. */
export function dueKeys(keys: RedBeatKeys, now: number, horizonMs: number): Exchange<readonly string[]> {
  const until = Math.floor(now / 1000);
  return {
    commands: [
      ['ZRANGEBYSCORE', keys.schedule, 0, until],
      ['ZRANGEBYSCORE', keys.schedule, `(${until}`, until + Math.ceil(horizonMs / 1000), 'LIMIT', 0, 1],
    ],
    atomic: true,
    read: (replies) => replies.flatMap((reply) => (reply as readonly unknown[]).map(String)),
  };
}

/** The keys of all entries, those that are due first; at most `limit`. */
export function allKeys(keys: RedBeatKeys, limit: number): Exchange<readonly string[]> {
  return {
    commands: [['ZRANGE', keys.schedule, 0, limit - 1]],
    atomic: false,
    read: ([reply]) => (reply as readonly unknown[]).map(String),
  };
}

export function records(entryKeys: readonly string[]): Exchange<readonly RedBeatRecord[]> {
  return {
    commands: entryKeys.map((key) => ['HMGET', key, 'definition', 'meta']),
    atomic: false,
    read: (replies) =>
      replies.map((reply, at) => {
        const [definition, meta] = (reply as readonly unknown[]).map((text) =>
          text === null ? undefined : (text as Buffer).toString(),
        );
        return { key: entryKeys[at] as string, definition, meta };
      }),
  };
}

/** Takes a key without an entry out of the schedule. */
export function forgetKey(keys: RedBeatKeys, key: string): Exchange<void> {
  return { commands: [['ZREM', keys.schedule, key]], atomic: false, read: () => undefined };
}

/** An entry of a configuration: its definition is written anew, its meta only where it has none. Source: save(). */
export function save(keys: RedBeatKeys, entry: RedBeatEntry, meta: string, nextRunAt: number): Exchange<void> {
  const key = keys.prefix + entry.name;
  return {
    commands: [
      ['HSET', key, 'definition', encodeDefinition(entry)],
      ['HSETNX', key, 'meta', meta],
      ['ZADD', keys.schedule, scoreOf(nextRunAt), key],
      ['SADD', keys.statics, entry.name],
    ],
    atomic: true,
    read: () => undefined,
  };
}

/** The names that configurations brought so far. */
export function statics(keys: RedBeatKeys): Exchange<readonly string[]> {
  return {
    commands: [['SMEMBERS', keys.statics]],
    atomic: false,
    read: ([reply]) => (reply as readonly unknown[]).map(String),
  };
}

/** Removes entries that the configuration has no more. Source: RedBeatScheduler.setup_schedule. */
export function removeStatics(keys: RedBeatKeys, names: readonly string[]): Exchange<void> {
  const commands = names.flatMap((name): Command[] => [
    ['ZREM', keys.schedule, keys.prefix + name],
    ['DEL', keys.prefix + name],
    ['SREM', keys.statics, name],
  ]);
  return { commands, atomic: commands.length > 1, read: () => undefined };
}

/** Unix seconds, whole, as RedBeat's to_timestamp. */
function scoreOf(ms: number): number {
  return Math.floor(ms / 1000);
}

/**
 * RedBeat's `next(entry)`, fenced: nothing is written unless this process holds the lock and the meta is the one that was read.
 * KEYS hash of the entry, schedule, lock, then a list a push. ARGV token ('' without a lock), meta as it was read ('' where there
 * was none), new meta, score, then an envelope a push.
 */
export const REDBEAT_RUN: Script = {
  name: 'redbeat-run',
  keys: 'variable',
  lua: `
if ARGV[1] ~= '' and redis.call('GET', KEYS[3]) ~= ARGV[1] then return 0 end
if redis.call('HEXISTS', KEYS[1], 'definition') == 0 then return 1 end
if (redis.call('HGET', KEYS[1], 'meta') or '') ~= ARGV[2] then return 1 end
redis.call('HSET', KEYS[1], 'meta', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[4], KEYS[1])
for i = 4, #KEYS do redis.call('LPUSH', KEYS[i], ARGV[i + 1]) end
return 2`,
};

export function claimRun(
  keys: RedBeatKeys,
  token: string,
  entry: { readonly key: string; readonly before: string; readonly after: string; readonly nextRunAt: number },
  pushes: readonly Push[] = [],
): Exchange<Claimed> {
  // Without a lock any key will do: the script does not look at it.
  const names = [entry.key, keys.schedule, keys.lock ?? keys.schedule, ...pushes.map(({ key }) => key)];
  const args = [
    keys.lock === undefined ? '' : token,
    entry.before,
    entry.after,
    scoreOf(entry.nextRunAt),
    ...pushes.map(({ envelope }) => envelope),
  ];
  return { commands: [callScript(REDBEAT_RUN, names, args)], atomic: false, read: readClaimed };
}
