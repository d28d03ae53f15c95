import type { Buffer } from 'node:buffer';
import { callScript, type Exchange, type Script } from '../redis.ts';
import { type Keyspace, quarantineKey, queueKey, workKey } from './keys.ts';
import { type DeadLimits, score } from './redis.ts';

/**
 * What an inspector asks of Sidekiq's lists and sets: pages that begin where the last one ended, entries by id without reading a whole list into this
 * process, and writes that name an entry by its bytes, never by its position.
 */

/** The sorted sets. */
export type SortedSet = 'schedule' | 'retry' | 'dead';

/** An entry of a sorted set. `score` is its text as Redis prints it, which is exact. */
export interface Scored {
  readonly member: Buffer;
  readonly score: string;
}

/**
 * Entries of a set from a score on, after the first `skip` of them: soonest first, of the dead set latest first, as Sidekiq's pages show them. `from`
 * undefined is the beginning.
 */
export function scored(
  keys: Keyspace,
  set: SortedSet,
  { from, skip, count }: { readonly from: string | undefined; readonly skip: number; readonly count: number },
): Exchange<readonly Scored[]> {
  const [name, first, last] = set === 'dead' ? ['ZREVRANGEBYSCORE', '+inf', '-inf'] : ['ZRANGEBYSCORE', '-inf', '+inf'];
  return {
    commands: [
      [name as string, keys[set], from ?? (first as string), last as string, 'WITHSCORES', 'LIMIT', skip, count],
    ],
    atomic: false,
    read: ([reply]) => pairs(reply as readonly Buffer[]),
  };
}

/** Entries of a set in the order of their scores, up to a score: for a walk that changes what it has read. */
export function scoredUpTo(
  keys: Keyspace,
  set: SortedSet,
  {
    from,
    to,
    skip,
    count,
  }: { readonly from: string; readonly to: string; readonly skip: number; readonly count: number },
): Exchange<readonly Scored[]> {
  return {
    commands: [['ZRANGEBYSCORE', keys[set], from, to, 'WITHSCORES', 'LIMIT', skip, count]],
    atomic: false,
    read: ([reply]) => pairs(reply as readonly Buffer[]),
  };
}

/** How many entries a set has. */
export function cardinality(keys: Keyspace, set: SortedSet): Exchange<number> {
  return { commands: [['ZCARD', keys[set]]], atomic: false, read: ([size]) => size as number };
}

/** How many entries a set has, and the highest score. */
export function extent(
  keys: Keyspace,
  set: SortedSet,
): Exchange<{ readonly size: number; readonly highest: string | undefined }> {
  return {
    commands: [
      ['ZCARD', keys[set]],
      ['ZREVRANGE', keys[set], 0, 0, 'WITHSCORES'],
    ],
    atomic: false,
    read: ([size, last]) => ({ size: size as number, highest: pairs(last as readonly Buffer[])[0]?.score }),
  };
}

function pairs(flat: readonly Buffer[]): readonly Scored[] {
  const found: Scored[] = [];
  for (let at = 0; at < flat.length; at += 2)
    found.push({ member: flat[at] as Buffer, score: String(flat[at + 1] as Buffer) });
  return found;
}

/** Entries of a list by their place from the left end, which is where new jobs come. */
export function fromLeft(list: string, from: number, count: number): Exchange<readonly Buffer[]> {
  return {
    commands: [['LRANGE', list, from, from + count - 1]],
    atomic: false,
    read: ([jobs]) => jobs as readonly Buffer[],
  };
}

/**
 * Entries that hold one of some texts, or whose SHA-1 is one of some digests. Redis looks, so that only entries that are found travel. A key of another
 * type holds none.
 *
 * KEYS list or set. ARGV the command that reads it, from, to, how many texts, texts, digests. Returns how many it looked at, then what it found.
 */
const FIND: Script = {
  name: 'sidekiq-find',
  keys: 1,
  lua: `
local entries = redis.pcall(ARGV[1], KEYS[1], ARGV[2], ARGV[3])
if entries.err then return {0} end
local texts, digests = tonumber(ARGV[4]), {}
for at = 5 + texts, #ARGV do digests[ARGV[at]] = true end
local out = {#entries}
for _, entry in ipairs(entries) do
  local hit = next(digests) ~= nil and digests[redis.sha1hex(entry)] or false
  for at = 5, 4 + texts do
    if hit then break end
    hit = string.find(entry, ARGV[at], 1, true) ~= nil
  end
  if hit then out[#out + 1] = entry end
end
return out`,
};

/** One step of a search, from a place on. */
export function find(
  key: string,
  kind: 'list' | 'set',
  {
    from,
    count,
    texts,
    digests,
  }: {
    readonly from: number;
    readonly count: number;
    readonly texts: readonly string[];
    readonly digests: readonly string[];
  },
): Exchange<{ readonly looked: number; readonly found: readonly Buffer[] }> {
  const range = kind === 'list' ? 'LRANGE' : 'ZRANGE';
  return {
    commands: [callScript(FIND, [key], [range, from, from + count - 1, texts.length, ...texts, ...digests])],
    atomic: false,
    read: ([reply]) => {
      const [looked, ...found] = reply as [number, ...Buffer[]];
      return { looked, found };
    },
  };
}

/** The scores of some members; undefined where one is gone. */
export function scoresOf(
  keys: Keyspace,
  set: SortedSet,
  members: readonly Uint8Array[],
): Exchange<readonly (string | undefined)[]> {
  return {
    commands: members.map((member) => ['ZSCORE', keys[set], member] as const),
    atomic: false,
    read: (replies) => replies.map((reply) => (reply === null ? undefined : String(reply as Buffer))),
  };
}

/** Remove members of a set one by one; whether each was there. */
export function removeEach(
  keys: Keyspace,
  set: SortedSet,
  members: readonly Uint8Array[],
): Exchange<readonly boolean[]> {
  return {
    commands: members.map((member) => ['ZREM', keys[set], member] as const),
    atomic: false,
    read: (replies) => replies.map((reply) => reply === 1),
  };
}

/** Where entries of a list go. */
export type Destination =
  | { readonly kind: 'nowhere' }
  | { readonly kind: 'dead'; readonly nowMs: number; readonly limits: DeadLimits }
  /** To the end of a queue that runs next, with the same bytes. */
  | { readonly kind: 'queue'; readonly queue: string };

/**
 * Takes entries out of a list by their bytes, each only if it is still there, and puts them where they go, in one step. An LREM for each would search
 * the list as often; here a part of the list is read once, and what is found in it is overwritten and removed together. The destination's type is looked
 * at first: a script that fails undoes nothing.
 *
 * KEYS list, destination. ARGV kind of the destination, its score, what is older leaves the dead set, how many stay, from, to ('' for the whole list,
 * searched by LREM), a text that is no job, entries. Returns for each entry 1, 0 where it was not found, or -1 where the destination has the wrong type.
 */
const TAKE: Script = {
  name: 'sidekiq-take',
  keys: 2,
  lua: `
local kind, out = ARGV[1], {}
if kind ~= '' then
  local is = redis.call('TYPE', KEYS[2]).ok
  if is ~= 'none' and is ~= (kind == 'dead' and 'zset' or 'list') then
    for at = 8, #ARGV do out[#out + 1] = -1 end
    return out
  end
end
local function put(entry)
  if kind == 'dead' then redis.call('ZADD', KEYS[2], ARGV[2], entry) end
  if kind == 'queue' then redis.call('RPUSH', KEYS[2], entry) end
end
local taken = 0
if ARGV[5] == '' then
  for at = 8, #ARGV do
    local there = redis.call('LREM', KEYS[1], -1, ARGV[at])
    out[#out + 1] = there
    taken = taken + there
    if there == 1 then put(ARGV[at]) end
  end
else
  local places = {}
  for at = 8, #ARGV do
    out[at - 7] = 0
    if not places[ARGV[at]] then places[ARGV[at]] = {} end
    table.insert(places[ARGV[at]], at - 7)
  end
  local from = tonumber(ARGV[5])
  for at, entry in ipairs(redis.call('LRANGE', KEYS[1], ARGV[5], ARGV[6])) do
    local place = places[entry] and table.remove(places[entry])
    if place then
      redis.call('LSET', KEYS[1], from + at - 1, ARGV[7])
      put(entry)
      out[place] = 1
      taken = taken + 1
    end
  end
  if taken > 0 then redis.call('LREM', KEYS[1], taken, ARGV[7]) end
end
if taken > 0 and kind == 'dead' then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[3])
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, ARGV[4])
end
return out`,
};

/** `refused`: the key of the destination is of another type, and nothing was done. */
export type Taken = 'gone' | 'taken' | 'refused';

/** What became of each. `within`: where in the list they are, from the left; without it the whole list is searched. */
export function take(
  keys: Keyspace,
  list: string,
  entries: readonly Uint8Array[],
  to: Destination,
  mark: string,
  within?: { readonly from: number; readonly to: number },
): Exchange<readonly Taken[]> {
  const key = to.kind === 'dead' ? keys.dead : to.kind === 'queue' ? queueKey(keys, to.queue) : list;
  const dead =
    to.kind === 'dead'
      ? [score(to.nowMs), score(to.nowMs - to.limits.deadTimeoutInSeconds * 1000), -to.limits.deadMaxJobs]
      : ['', '', ''];
  return {
    commands: [
      callScript(
        TAKE,
        [list, key],
        [to.kind === 'nowhere' ? '' : to.kind, ...dead, within?.from ?? '', within?.to ?? '', mark, ...entries],
      ),
    ],
    atomic: false,
    read: ([reply]) =>
      (reply as readonly number[]).map((one) => (one === 1 ? 'taken' : one === -1 ? 'refused' : 'gone')),
  };
}

/** A job in quarantine: it may be very large, so only its beginning and end travel. */
export interface Quarantined {
  readonly size: number;
  readonly sha1: string;
  readonly start: Buffer;
  readonly end: Buffer;
}

/** KEYS list. ARGV from, to, how many bytes of each. Returns flat: size, SHA-1, first bytes, last bytes. */
const QUARANTINED: Script = {
  name: 'sidekiq-quarantined',
  keys: 1,
  lua: `
local out, most = {}, tonumber(ARGV[3])
for at = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  local entry = redis.pcall('LINDEX', KEYS[1], at)
  if type(entry) ~= 'string' then break end
  out[#out + 1] = #entry
  out[#out + 1] = redis.sha1hex(entry)
  out[#out + 1] = string.sub(entry, 1, most)
  out[#out + 1] = #entry > most and string.sub(entry, -200) or ''
end
return out`,
};

/** Jobs of a quarantine list from the left, up to `most` bytes of each. */
export function quarantined(
  keys: Keyspace,
  queue: string,
  { from, count, most }: { readonly from: number; readonly count: number; readonly most: number },
): Exchange<readonly Quarantined[]> {
  return {
    commands: [callScript(QUARANTINED, [quarantineKey(keys, queue)], [from, from + count - 1, most])],
    atomic: false,
    read: ([reply]) => {
      const flat = reply as readonly unknown[];
      const found: Quarantined[] = [];
      for (let at = 0; at < flat.length; at += 4)
        found.push({
          size: flat[at] as number,
          sha1: String(flat[at + 1] as Buffer),
          start: flat[at + 2] as Buffer,
          end: flat[at + 3] as Buffer,
        });
      return found;
    },
  };
}

/**
 * Takes one job out of quarantine by its SHA-1, to the end of its queue that runs next, or away. The bytes never leave Redis.
 *
 * KEYS quarantine list, queue or ''. ARGV SHA-1, a text that is no job. Returns 1, 0 where it is gone, -1 where the queue's key is no list.
 */
const RELEASE: Script = {
  name: 'sidekiq-release',
  keys: 2,
  lua: `
if KEYS[2] ~= '' then
  local is = redis.call('TYPE', KEYS[2]).ok
  if is ~= 'none' and is ~= 'list' then return -1 end
end
for at = 0, redis.call('LLEN', KEYS[1]) - 1 do
  local entry = redis.call('LINDEX', KEYS[1], at)
  if redis.sha1hex(entry) == ARGV[1] then
    if KEYS[2] ~= '' then redis.call('RPUSH', KEYS[2], entry) end
    redis.call('LSET', KEYS[1], at, ARGV[2])
    redis.call('LREM', KEYS[1], 1, ARGV[2])
    return 1
  end
end
return 0`,
};

export function release(
  keys: Keyspace,
  queue: string,
  sha1: string,
  to: 'queue' | 'nowhere',
  mark: string,
): Exchange<Taken> {
  return {
    commands: [
      callScript(RELEASE, [quarantineKey(keys, queue), to === 'queue' ? queueKey(keys, queue) : ''], [sha1, mark]),
    ],
    atomic: false,
    read: ([reply]) => (reply === 1 ? 'taken' : reply === -1 ? 'refused' : 'gone'),
  };
}

/** How many jobs a list holds. */
export function length(key: string): Exchange<number> {
  return { commands: [['LLEN', key]], atomic: false, read: ([size]) => size as number };
}

/** How many jobs a process shows as running; the versions write one hash or the other, and a worker of this package may write both. */
export function workCount(keys: Keyspace, identity: string): Exchange<number> {
  return {
    commands: [
      ['HLEN', workKey(keys, identity, 'work')],
      ['HLEN', workKey(keys, identity, 'workers')],
    ],
    atomic: false,
    read: ([now, before]) => Math.max(now as number, before as number),
  };
}
