import type { Buffer } from 'node:buffer';
import * as json from '../formats/ruby-json.ts';
import { callScript, type Command, type Exchange, type Script } from '../redis.ts';
import { delayedName, type Keyspace, quarantineKey, queueKey, timestampsKey } from './keys.ts';
import { decodeDelayed } from './message.ts';
import { rubyTime } from './times.ts';

/**
 * resque-scheduler's delayed jobs, and the lead among schedulers.
 * Source: resque-scheduler delaying_extensions.rb, scheduler.rb, lock/resilient.rb, scheduling_extensions.rb (5.0).
 */

/** The whole second a job is kept under: not before its time. */
export function secondOf(at: Date): number {
  return Math.ceil(at.getTime() / 1000);
}

/** delaying_extensions.rb delayed_push: three commands, which must be one step. */
export function pushDelayed(keys: Keyspace, item: string, at: Date): readonly Command[] {
  const second = secondOf(at);
  return [
    ['RPUSH', keys.prefix + delayedName(second), item],
    ['SADD', timestampsKey(keys, item), delayedName(second)],
    ['ZADD', keys.schedule, second, second],
  ];
}

export function enqueueDelayed(keys: Keyspace, item: string, at: Date): Exchange<void> {
  return { commands: pushDelayed(keys, item, at), atomic: true, read: () => undefined };
}

/** `delayed:<second>` of each second that has this item. */
export function secondsOf(keys: Keyspace, item: string): Exchange<readonly string[]> {
  return {
    commands: [['SMEMBERS', timestampsKey(keys, item)]],
    atomic: false,
    read: ([names]) => (names as readonly Buffer[]).map(String),
  };
}

/** Take an item out of these seconds (as `secondsOf` names them): how many there were. delaying_extensions.rb remove_delayed_job. */
export function removeDelayed(keys: Keyspace, item: string, names: readonly string[]): Exchange<number> {
  return {
    commands: names.flatMap((name): readonly Command[] => [
      ['LREM', keys.prefix + name, 0, item],
      ['SREM', timestampsKey(keys, item), name],
    ]),
    atomic: true,
    read: (replies) => replies.reduce<number>((sum, reply, at) => (at % 2 === 0 ? sum + (reply as number) : sum), 0),
  };
}

/** The soonest second that is due, or undefined. scheduler.rb handle_delayed_items. */
export function dueSecond(keys: Keyspace, now: Date): Exchange<string | undefined> {
  return {
    commands: [['ZRANGEBYSCORE', keys.schedule, '-inf', Math.floor(now.getTime() / 1000), 'LIMIT', 0, 1]],
    atomic: false,
    read: ([seconds]) => (seconds as readonly Buffer[]).map(String)[0],
  };
}

/** When the soonest second is, due or not; undefined when nothing is delayed. */
export function nextSecond(keys: Keyspace): Exchange<number | undefined> {
  return {
    commands: [['ZRANGE', keys.schedule, 0, 0, 'WITHSCORES']],
    atomic: false,
    read: ([flat]) => {
      const [, score] = flat as readonly Buffer[];
      const at = Number(String(score));
      return Number.isFinite(at) ? at : undefined;
    },
  };
}

/** How many items of a second are moved in one step: DELAYED_REQUEUE_BATCH_SIZE. */
export const BATCH = 100;

export function itemsOf(keys: Keyspace, second: string, count: number = BATCH): Exchange<readonly Buffer[]> {
  return {
    commands: [['LRANGE', keys.prefix + delayedName(second), 0, count - 1]],
    atomic: false,
    read: ([items]) => items as readonly Buffer[],
  };
}

/** Nobody looks at this second any more. */
export function forgetSecond(keys: Keyspace, second: string): Exchange<void> {
  return { commands: [['ZREM', keys.schedule, second]], atomic: false, read: () => undefined };
}

/**
 * Move the first items of a second to their queues, in one step, if they are still the first: Ruby's scheduler watches the list and
 * starts anew when it changes under it, and so do we. A second that is empty then is forgotten. A script that fails undoes nothing, and would
 * move the same items again: what goes to a key that is no list is set aside.
 *
 * KEYS list, schedule, queues, quarantine, then `timestamps:…` and target of each item. ARGV second, `delayed:<second>`, number of items, then of
 * each: the item, its queue ('' for quarantine), payload, why. Returns 0 when they are not the first any more, 1 when more are left, 2 when the
 * second is done; then the numbers of items that were set aside.
 */
export const MOVE_DELAYED: Script = {
  name: 'move-delayed',
  keys: 'variable',
  lua: `
local count = tonumber(ARGV[3])
local found = redis.call('LRANGE', KEYS[1], 0, count - 1)
if #found ~= count then return {0} end
for i = 1, count do if found[i] ~= ARGV[i * 4] then return {0} end end
local function odd(key)
  local is = redis.call('TYPE', key).ok
  return is ~= 'none' and is ~= 'list' and key .. ' is a ' .. is .. ', not a list'
end
local spoilt = odd(KEYS[4])
if spoilt then return redis.error_reply('WRONGTYPE ' .. spoilt) end
local reply = {1}
for i = 1, count do
  redis.pcall('SREM', KEYS[3 + i * 2], ARGV[2])
  local queue, target, why = ARGV[i * 4 + 1], KEYS[4 + i * 2], ARGV[i * 4 + 3]
  local wrong = queue ~= '' and odd(target)
  if queue == '' or wrong then
    redis.call('LPUSH', KEYS[4], ARGV[i * 4])
    redis.pcall('LPUSH', KEYS[4] .. ':why', wrong or why)
    reply[#reply + 1] = i
  else
    redis.pcall('SADD', KEYS[3], queue)
    redis.call('RPUSH', target, ARGV[i * 4 + 2])
  end
end
redis.call('LTRIM', KEYS[1], count, -1)
if redis.call('EXISTS', KEYS[1]) == 1 then return reply end
redis.call('ZREM', KEYS[2], ARGV[1])
reply[1] = 2
return reply`,
};

export interface Moved {
  /** Whether the items were still the first of their second, and whether it has more. */
  readonly state: 'changed' | 'more' | 'done';
  /** Which of them were set aside, counted from 0. */
  readonly aside: readonly number[];
}

const STATES: readonly Moved['state'][] = ['changed', 'more', 'done'];

/** An item that was read: where it goes, or why it cannot be a job. */
export interface DueItem {
  readonly bytes: Uint8Array;
  readonly queue: string | undefined;
  readonly payload: string;
  readonly why: string;
}

/** What becomes of an item: the payload it holds, or the reason it is set aside. */
export function readDue(bytes: Uint8Array): DueItem {
  try {
    const { queue, payload } = decodeDelayed(bytes);
    return { bytes, queue, payload: payload.text, why: '' };
  } catch (error) {
    return { bytes, queue: undefined, payload: '', why: (error as Error).message };
  }
}

export function moveDelayed(keys: Keyspace, second: string, items: readonly DueItem[]): Exchange<Moved> {
  return {
    commands: [
      callScript(
        MOVE_DELAYED,
        [
          keys.prefix + delayedName(second),
          keys.schedule,
          keys.queues,
          quarantineKey(keys, 'delayed'),
          ...items.flatMap(({ bytes, queue }) => [
            timestampsKey(keys, String(bytes)),
            queue === undefined ? quarantineKey(keys, 'delayed') : queueKey(keys, queue),
          ]),
        ],
        [
          second,
          delayedName(second),
          items.length,
          ...items.flatMap(({ bytes, queue, payload, why }) => [bytes, queue ?? '', payload, why]),
        ],
      ),
    ],
    atomic: false,
    read: ([reply]) => {
      const [state = 0, ...numbers] = reply as readonly number[];
      return { state: STATES[state] ?? 'changed', aside: numbers.map((number) => number - 1) };
    },
  };
}

/** Seconds the lead lasts without being renewed: LOCK_TIMEOUT. */
export const LOCK_SECONDS = 180;

/**
 * Take or renew the lead: `SETNX` and `EXPIRE`, as Ruby's scheduler does, in one script. lock/resilient.rb acquire!, locked?.
 * KEYS lock. ARGV who, seconds.
 */
export const LEAD: Script = {
  name: 'lead',
  keys: 1,
  lua: `
if redis.call('SETNX', KEYS[1], ARGV[1]) == 1 or redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  return 1
end
return 0`,
};

/** True while this one leads. `who` is `<host>:<pid>`. */
export function lead(keys: Keyspace, who: string, seconds: number = LOCK_SECONDS): Exchange<boolean> {
  return {
    commands: [callScript(LEAD, [keys.masterLock], [who, seconds])],
    atomic: false,
    read: ([reply]) => reply === 1,
  };
}

/** KEYS lock. ARGV who. */
export const STEP_DOWN: Script = {
  name: 'step-down',
  keys: 1,
  lua: `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`,
};

export function stepDown(keys: Keyspace, who: string): Exchange<void> {
  return {
    commands: [callScript(STEP_DOWN, [keys.masterLock], [who])],
    atomic: false,
    read: () => undefined,
  };
}

/** What a schedule sends, and when. */
export interface ScheduleEntry {
  readonly name: string;
  readonly class: string;
  readonly queue: string;
  readonly args: readonly unknown[];
  /** `cron` or `every` as given: see cron.ts. */
  readonly cron: string | undefined;
  readonly every: string | undefined;
  /** `["1h", { "first_in": "5m" }]`. */
  readonly firstIn: string | undefined;
}

/**
 * A schedule as resque-scheduler's YAML and `persistent_schedules` have it. The class defaults to the name; `args` that is no list is the
 * one argument. Undefined for one without a time, or without a queue, which nobody could run; `why` says so.
 */
export function readSchedule(
  name: string,
  config: Readonly<Record<string, unknown>>,
): { readonly entry: ScheduleEntry | undefined; readonly why: string } {
  const own = (key: string): unknown => (Object.hasOwn(config, key) ? config[key] : undefined);
  const className = own('custom_job_class') ?? own('class') ?? name;
  const queue = own('queue');
  const args = own('args');
  const [every, firstIn] = readEvery(own('every'));
  const cron = typeof own('cron') === 'string' ? (own('cron') as string) : undefined;
  if (typeof className !== 'string') return { entry: undefined, why: 'its class is no text' };
  if (typeof queue !== 'string' || queue === '') return { entry: undefined, why: 'it names no queue' };
  if (cron === undefined && every === undefined) return { entry: undefined, why: 'it has neither cron nor every' };
  const list = args === undefined || args === null ? [] : Array.isArray(args) ? (args as readonly unknown[]) : [args];
  return { entry: { name, class: className, queue, args: list, cron, every, firstIn }, why: '' };
}

function readEvery(every: unknown): readonly [string | undefined, string | undefined] {
  if (typeof every === 'string') return [every, undefined];
  if (typeof every === 'number') return [`${every}s`, undefined];
  if (!Array.isArray(every)) return [undefined, undefined];
  const [interval, options] = every as readonly unknown[];
  const first =
    typeof options === 'object' && options !== null && Object.hasOwn(options, 'first_in')
      ? (options as Record<string, unknown>)['first_in']
      : undefined;
  return [
    typeof interval === 'string' ? interval : typeof interval === 'number' ? `${interval}s` : undefined,
    typeof first === 'string' ? first : typeof first === 'number' ? `${first}s` : undefined,
  ];
}

/** Dynamic schedules, by name, as their texts. scheduling_extensions.rb all_schedules. */
export function persistentSchedules(keys: Keyspace): Exchange<ReadonlyMap<string, string>> {
  return {
    commands: [['HGETALL', keys.persistentSchedules]],
    atomic: false,
    read: ([flat]) => {
      const texts = (flat as readonly Buffer[]).map(String);
      const schedules = new Map<string, string>();
      for (let at = 0; at < texts.length; at += 2) schedules.set(texts[at] as string, texts[at + 1] as string);
      return schedules;
    },
  };
}

/** When each schedule was last sent, by name. */
export function lastEnqueued(keys: Keyspace): Exchange<ReadonlyMap<string, string>> {
  return { ...persistentSchedules(keys), commands: [['HGETALL', keys.lastEnqueuedAt]] };
}

/** scheduling_extensions.rb set_schedule, of a dynamic one. */
export function setSchedule(keys: Keyspace, name: string, config: Readonly<Record<string, unknown>>): Exchange<void> {
  return {
    commands: [
      ['HSET', keys.persistentSchedules, name, json.stringify(config, { at: name })],
      ['SADD', keys.schedulesChanged, name],
    ],
    atomic: true,
    read: () => undefined,
  };
}

export function removeSchedule(keys: Keyspace, name: string): Exchange<void> {
  return {
    commands: [
      ['HDEL', keys.persistentSchedules, name],
      ['SADD', keys.schedulesChanged, name],
    ],
    atomic: true,
    read: () => undefined,
  };
}

/** Whether a dynamic schedule changed since the leader looked: it takes the names, as Ruby's does. scheduler.rb update_schedule. */
export function changedSchedules(keys: Keyspace): Exchange<boolean> {
  return {
    commands: [
      ['SCARD', keys.schedulesChanged],
      ['DEL', keys.schedulesChanged],
    ],
    atomic: true,
    read: ([count]) => (count as number) > 0,
  };
}

/**
 * Send a scheduled job, and note when, if the lead is still ours: whoever took it over sends the next. Tried again, because the answer was
 * lost, it does nothing when this very time is noted. An error, and nothing done, where a key is not what it should be.
 * KEYS lock, queues, queue, last enqueued. ARGV who, queue, payload, name, time, '1' when it is tried again.
 */
export const FIRE: Script = {
  name: 'fire',
  keys: 4,
  lua: `
local kinds = {nil, 'set', 'list', 'hash'}
for i = 2, 4 do
  local is = redis.call('TYPE', KEYS[i]).ok
  if is ~= 'none' and is ~= kinds[i] then
    return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' is a ' .. is .. ', not a ' .. kinds[i])
  end
end
if ARGV[6] == '1' and redis.call('HGET', KEYS[4], ARGV[4]) == ARGV[5] then return 1 end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('RPUSH', KEYS[3], ARGV[3])
redis.call('HSET', KEYS[4], ARGV[4], ARGV[5])
return 1`,
};

/** False: the lead is another's. `again`: it was tried with this time, and not heard of. */
export function fire(
  keys: Keyspace,
  who: string,
  entry: { readonly name: string; readonly queue: string; readonly payload: string },
  at: Date,
  again = false,
): Exchange<boolean> {
  return {
    commands: [
      callScript(
        FIRE,
        [keys.masterLock, keys.queues, queueKey(keys, entry.queue), keys.lastEnqueuedAt],
        [who, entry.queue, entry.payload, entry.name, rubyTime(at), again ? '1' : '0'],
      ),
    ],
    atomic: false,
    read: ([reply]) => reply === 1,
  };
}
