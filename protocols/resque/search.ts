import type { Buffer } from 'node:buffer';
import { callScript, type Exchange, type Script } from '../redis.ts';
import { delayedName, failedQueue, type Keyspace, quarantineKey, queueKey, workerKey } from './keys.ts';

/**
 * What an inspector asks of Resque's lists: pages that begin where the last one ended, entries by id without reading a whole list into this process,
 * and moves that name an entry by its SHA-1 and never by its position alone. Every script looks at a bounded part of a list.
 */

/** A list of jobs. `name` tells it from the other lists of its set: a queue, a second, a list of failures. */
export interface JobList {
  readonly name: string;
  readonly key: string;
}

/** The sets that are lists. */
export type ListSet = 'queued' | 'delayed' | 'failed' | 'quarantine';

/** An entry of a list. A large one is not whole: `bytes` is its beginning. */
export interface Entry {
  readonly size: number;
  readonly sha1: string;
  readonly bytes: Buffer;
}

/** Where delayed items go that cannot be jobs: schedule.ts. */
const UNREADABLE_DELAYED = 'delayed';

/** `queue:Q`, the list of failures of the backend redis_multi_queue, or `jobglot:quarantine:Q`. */
export function listOf(keys: Keyspace, set: Exclude<ListSet, 'delayed'>, name: string): JobList {
  switch (set) {
    case 'queued':
      return { name, key: queueKey(keys, name) };
    case 'failed':
      return { name, key: keys.prefix + name };
    case 'quarantine':
      return { name, key: quarantineKey(keys, name) };
  }
}

/** The lists of a set but delayed, in the order of their names: of one queue, or of all. `failed` comes before the lists of the queues. */
export function listsOf(
  keys: Keyspace,
  set: Exclude<ListSet, 'delayed'>,
  queue: string | undefined,
): Exchange<readonly JobList[]> {
  if (queue !== undefined) {
    const names = set === 'failed' ? ['failed', failedQueue(queue)] : [queue];
    return { commands: [], atomic: false, read: () => names.map((name) => listOf(keys, set, name)) };
  }
  return {
    commands: [['SMEMBERS', set === 'failed' ? keys.failedQueues : keys.queues]],
    atomic: false,
    read: ([members]) => {
      const names = (members as readonly Buffer[]).map(String).sort();
      if (set === 'failed') names.unshift('failed');
      if (set === 'quarantine' && !names.includes(UNREADABLE_DELAYED)) names.push(UNREADABLE_DELAYED);
      return names.map((name) => listOf(keys, set, name));
    },
  };
}

/** `delayed:<second>` of some seconds, the soonest first, from a second on. */
export function delayedLists(keys: Keyspace, from: string | undefined, count: number): Exchange<readonly JobList[]> {
  return {
    commands: [['ZRANGEBYSCORE', keys.schedule, from ?? '-inf', '+inf', 'LIMIT', 0, count]],
    atomic: false,
    read: ([seconds]) =>
      (seconds as readonly Buffer[]).map(String).map((name) => ({ name, key: keys.prefix + delayedName(name) })),
  };
}

/** How long each list is; 0 where a key is no list. KEYS lists. */
const LENGTHS: Script = {
  name: 'resque-lengths',
  keys: 'variable',
  lua: `
local out = {}
for at, key in ipairs(KEYS) do
  local length = redis.pcall('LLEN', key)
  out[at] = type(length) == 'number' and length or 0
end
return out`,
};

export function lengths(lists: readonly JobList[]): Exchange<readonly number[]> {
  if (lists.length === 0) return { commands: [], atomic: false, read: () => [] };
  return {
    commands: [
      callScript(
        LENGTHS,
        lists.map(({ key }) => key),
        [],
      ),
    ],
    atomic: false,
    read: ([reply]) => reply as readonly number[],
  };
}

/** More seconds than these are not counted. */
const MOST_SECONDS = 10_000;

/** KEYS schedule. ARGV the prefix of the lists, at most. Returns how many items are delayed, or -1 where there are too many seconds to count. */
const COUNT_DELAYED: Script = {
  name: 'resque-count-delayed',
  keys: 1,
  lua: `
local seconds = redis.pcall('ZRANGE', KEYS[1], 0, ARGV[2])
if seconds.err then return 0 end
if #seconds > tonumber(ARGV[2]) then return -1 end
local sum = 0
for _, second in ipairs(seconds) do
  local length = redis.pcall('LLEN', ARGV[1] .. second)
  if type(length) == 'number' then sum = sum + length end
end
return sum`,
};

/** How many items are delayed; undefined where they are spread over more than 10 000 seconds. */
export function countDelayed(keys: Keyspace): Exchange<number | undefined> {
  return {
    commands: [callScript(COUNT_DELAYED, [keys.schedule], [keys.prefix + delayedName(''), MOST_SECONDS])],
    atomic: false,
    read: ([count]) => (count === -1 ? undefined : (count as number)),
  };
}

/** How many of these workers do something. */
export function countWorking(keys: Keyspace, ids: readonly string[]): Exchange<number> {
  if (ids.length === 0) return { commands: [], atomic: false, read: () => 0 };
  return {
    commands: [['EXISTS', ...ids.map((id) => workerKey(keys, id))]],
    atomic: false,
    read: ([count]) => count as number,
  };
}

/** KEYS list. ARGV from, to, how many bytes of each. Returns flat: size, SHA-1, bytes. A key of another type has no entries. */
const READ: Script = {
  name: 'resque-read',
  keys: 1,
  lua: `
local entries = redis.pcall('LRANGE', KEYS[1], ARGV[1], ARGV[2])
local out, most = {}, tonumber(ARGV[3])
if entries.err then return out end
for _, entry in ipairs(entries) do
  out[#out + 1] = #entry
  out[#out + 1] = redis.sha1hex(entry)
  out[#out + 1] = string.sub(entry, 1, most)
end
return out`,
};

/** Entries from the head, which runs next: `count` from `from`, and up to `most` bytes of each. */
export function read(
  { key }: JobList,
  { from, count, most }: { readonly from: number; readonly count: number; readonly most: number },
): Exchange<readonly Entry[]> {
  return {
    commands: [callScript(READ, [key], [from, from + count - 1, most])],
    atomic: false,
    read: ([reply]) => {
      const flat = reply as readonly unknown[];
      const entries: Entry[] = [];
      for (let at = 0; at < flat.length; at += 3)
        entries.push({
          size: flat[at] as number,
          sha1: String(flat[at + 1] as Buffer),
          bytes: flat[at + 2] as Buffer,
        });
      return entries;
    },
  };
}

/**
 * Entries that hold one of some texts, or whose SHA-1 is one of some digests.
 * KEYS list. ARGV from, to, how many bytes of each, how many texts, texts, digests. Returns how many it looked at, then of each hit its place, size, SHA-1
 * and bytes.
 */
const FIND: Script = {
  name: 'resque-find',
  keys: 1,
  lua: `
local entries = redis.pcall('LRANGE', KEYS[1], ARGV[1], ARGV[2])
if entries.err then return {0} end
local first, most, texts, digests, wanted = tonumber(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4]), {}, false
for at = 5 + texts, #ARGV do
  digests[ARGV[at]] = true
  wanted = true
end
local out = {#entries}
for place, entry in ipairs(entries) do
  local hit, sha1 = false, wanted and redis.sha1hex(entry)
  if wanted then hit = digests[sha1] or false end
  for at = 5, 4 + texts do
    if hit then break end
    hit = string.find(entry, ARGV[at], 1, true) ~= nil
  end
  if hit then
    out[#out + 1] = first + place - 1
    out[#out + 1] = #entry
    out[#out + 1] = sha1 or redis.sha1hex(entry)
    out[#out + 1] = string.sub(entry, 1, most)
  end
end
return out`,
};

export interface FoundEntry extends Entry {
  /** Its place from the head when it was found. */
  readonly place: number;
}

/** One step of a search through a list. */
export function find(
  { key }: JobList,
  options: {
    readonly from: number;
    readonly count: number;
    readonly most: number;
    readonly texts: readonly string[];
    readonly digests: readonly string[];
  },
): Exchange<{ readonly looked: number; readonly found: readonly FoundEntry[] }> {
  const { from, count, most, texts, digests } = options;
  return {
    commands: [callScript(FIND, [key], [from, from + count - 1, most, texts.length, ...texts, ...digests])],
    atomic: false,
    read: ([reply]) => {
      const flat = reply as readonly unknown[];
      const found: FoundEntry[] = [];
      for (let at = 1; at < flat.length; at += 4)
        found.push({
          place: flat[at] as number,
          size: flat[at + 1] as number,
          sha1: String(flat[at + 2] as Buffer),
          bytes: flat[at + 3] as Buffer,
        });
      return { looked: flat[0] as number, found };
    },
  };
}

/** An entry that is to leave its list, and where it goes. */
export interface Leaving {
  readonly sha1: string;
  /** Undefined: it is deleted. */
  readonly to:
    | {
        readonly queue: string;
        /** Undefined: the entry itself. */
        readonly payload: string | undefined;
      }
    | undefined;
}

/** `refused`: the key of its queue is no list, and nothing was done. */
export type Left = 'done' | 'gone' | 'refused';

/**
 * Takes entries out of a list, each only if it is still there, and puts them where they go, in one step. Each is found by its SHA-1 within a part of the
 * list, overwritten, and removed together with the others. Types are looked at before anything is written: a script that fails undoes nothing.
 *
 * KEYS list, queues, schedule, the list of reasons, then the queue of each entry (the list itself where it goes nowhere). ARGV a text that is no entry,
 * from, to, the second of a delayed list or '', the prefix of `timestamps:…`, then of each entry its SHA-1, its queue or '', its payload or '' for the
 * entry itself. Returns for each entry 1, 0 where it was not found, or -1 where its queue's key is no list.
 */
const TAKE: Script = {
  name: 'resque-take',
  keys: 'variable',
  lua: `
local mark, from, second, count = ARGV[1], tonumber(ARGV[2]), ARGV[4], (#ARGV - 5) / 3
local out, wanted = {}, {}
for i = 1, count do
  out[i] = 0
  local sha1 = ARGV[3 + i * 3]
  wanted[sha1] = wanted[sha1] or {}
  table.insert(wanted[sha1], i)
end
if redis.call('TYPE', KEYS[1]).ok ~= 'list' then return out end
local function writable(key)
  local is = redis.call('TYPE', key).ok
  return is == 'none' or is == 'list'
end
local reasons = KEYS[4] ~= KEYS[1] and redis.pcall('LLEN', KEYS[4]) == redis.call('LLEN', KEYS[1])
local taken, items = 0, {}
for place, entry in ipairs(redis.call('LRANGE', KEYS[1], from, ARGV[3])) do
  local own = wanted[redis.sha1hex(entry)]
  local i = own and table.remove(own, 1)
  if i then
    local queue, payload = ARGV[4 + i * 3], ARGV[5 + i * 3]
    if queue ~= '' and not writable(KEYS[4 + i]) then out[i] = -1
    else
      if queue ~= '' then
        redis.pcall('SADD', KEYS[2], queue)
        redis.call('RPUSH', KEYS[4 + i], payload ~= '' and payload or entry)
      end
      redis.call('LSET', KEYS[1], from + place - 1, mark)
      if reasons then redis.call('LSET', KEYS[4], from + place - 1, mark) end
      items[#items + 1] = entry
      taken = taken + 1
      out[i] = 1
    end
  end
end
if taken == 0 then return out end
redis.call('LREM', KEYS[1], taken, mark)
if reasons then redis.call('LREM', KEYS[4], taken, mark) end
if second ~= '' then
  for _, item in ipairs(items) do
    if type(redis.pcall('LPOS', KEYS[1], item)) ~= 'number' then redis.pcall('SREM', ARGV[5] .. item, 'delayed:' .. second) end
  end
  if redis.call('EXISTS', KEYS[1]) == 0 then redis.pcall('ZREM', KEYS[3], second) end
end
return out`,
};

/** What became of each. `from` and `to`: the part of the list they are looked for in. */
export function take(
  keys: Keyspace,
  set: ListSet,
  { name, key }: JobList,
  entries: readonly Leaving[],
  range: { readonly from: number; readonly to: number },
  mark: string,
): Exchange<readonly Left[]> {
  const reasons = set === 'quarantine' ? `${key}:why` : key;
  return {
    commands: [
      callScript(
        TAKE,
        [
          key,
          keys.queues,
          keys.schedule,
          reasons,
          ...entries.map(({ to }) => (to === undefined ? key : queueKey(keys, to.queue))),
        ],
        [
          mark,
          range.from,
          range.to,
          set === 'delayed' ? name : '',
          `${keys.prefix}timestamps:`,
          ...entries.flatMap(({ sha1, to }) => [sha1, to?.queue ?? '', to?.payload ?? '']),
        ],
      ),
    ],
    atomic: false,
    read: ([reply]) =>
      (reply as readonly number[]).map((one) => (one === 1 ? 'done' : one === -1 ? 'refused' : 'gone')),
  };
}

/** Removes a queue and everything in it; false where there was neither. data_store.rb remove_queue. */
export function removeKnownQueue(keys: Keyspace, queue: string): Exchange<boolean> {
  return {
    commands: [
      ['SREM', keys.queues, queue],
      ['DEL', queueKey(keys, queue)],
    ],
    atomic: true,
    read: ([known, jobs]) => known === 1 || jobs === 1,
  };
}

/** Whether a worker is on the list, or beats. */
export function isKnownWorker(keys: Keyspace, id: string): Exchange<boolean> {
  return {
    commands: [
      ['SISMEMBER', keys.workers, id],
      ['HEXISTS', keys.heartbeat, id],
    ],
    atomic: false,
    read: (replies) => replies[0] === 1 || replies[1] === 1,
  };
}
