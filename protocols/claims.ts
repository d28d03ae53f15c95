import type { Buffer } from 'node:buffer';
import { callScript, type Command, type Exchange, type Script } from './redis.ts';

/**
 * Claims: a job that a process has taken from its list and not settled, for systems whose own workers pop and hope (Sidekiq's basic
 * fetch, Resque). Invisible to the system's own processes: its keys are ours, its bytes are the job's.
 *
 * | key | type | content |
 * |---|---|---|
 * | `claims` | hash, one a process | `<number>:<queue>` → the job's bytes |
 * | `claimants` | set | every process that may have claims |
 * | `begun` | hash | process → number of the last claim whose handler began, as far as was told: those above it only waited |
 * | `alive` | string or hash with an end, one a process | there while the process lives; who finds it gone gives its claims back |
 */
export interface ClaimKeys {
  /** The hash of this process. */
  readonly claims: string;
  readonly claimants: string;
  readonly begun: string;
}

/** How many arguments one command may get: Lua's unpack and JavaScript's spread both have a limit. */
export const CHUNK = 1000;

/** Which end of its lists a system takes from: `head` is what LPOP takes. */
export type End = 'head' | 'tail';

/**
 * Take up to N jobs from their lists, in the order of the lists, in one step: a job is always in Redis until it is settled. The value of a
 * claim is the job's bytes. What is larger than a job may be goes to quarantine here and now. A list is read a few jobs at a time and
 * then as many as the size of those allows, so that a list of large ones does not fill the server's memory.
 *
 * A script that fails undoes nothing, so what it has taken is written down before it is cut off its list; a key that is no list counts as an
 * empty one.
 *
 * KEYS claims, claimants, begun, pause or '', then lists. ARGV max, number of the last claim, process, byte limit of one job, byte limit of all,
 * what stands before a queue's name in the key of its list, and in that of its quarantine list, how many begin at once.
 * Returns flat: for every read of a list: list number, count, jobs …; then 0, and what was set aside: list number, size, first bytes,
 * last bytes … While `pause` says `true`, only -1. LRANGE and LTRIM rather than a counted pop: every version of Redis has them, and a
 * client that tracks keys is told of the next push.
 */
const claimLua = (end: End): string => `
if KEYS[4] ~= '' then
  local pause = redis.pcall('GET', KEYS[4])
  if type(pause) == 'string' and string.match(string.lower(pause), '^%s*true%s*$') then return {-1} end
end
local left, last, biggest, budget = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4]), tonumber(ARGV[5])
local out, aside, n, skip = {}, {}, 0, #ARGV[6] + 1
for l = 5, #KEYS do
  local queue, step = string.sub(KEYS[l], skip), 4
  while left > 0 and budget > 0 do
    local want = math.min(left, step)
    local found = redis.pcall('LRANGE', KEYS[l], ${end === 'head' ? '0, want - 1' : '-want, -1'})
    if found.err or #found == 0 then break end
    local at, count, taken, bytes, hash = #out + 2, 0, 0, 0, {}
    out[#out + 1] = l - 4
    out[at] = 0
    for i = ${end === 'head' ? '1, #found' : '#found, 1, -1'} do
      if budget <= 0 then break end
      local job = found[i]
      local size = #job
      taken = taken + 1
      bytes = bytes + size
      if size > biggest then
        redis.call('LPUSH', ARGV[7] .. queue, job)
        aside[#aside + 1] = l - 4
        aside[#aside + 1] = size
        aside[#aside + 1] = string.sub(job, 1, 200)
        aside[#aside + 1] = string.sub(job, -200)
      else
        n = n + 1
        hash[#hash + 1] = (last + n) .. ':' .. queue
        hash[#hash + 1] = job
        count = count + 1
        out[at + count] = job
        budget = budget - size
        left = left - 1
      end
    end
    out[at] = count
    if count > 0 then
      redis.call('HMSET', KEYS[1], unpack(hash))
      redis.call('SADD', KEYS[2], ARGV[3])
    end
    redis.call('LTRIM', KEYS[l], ${end === 'head' ? 'taken, -1' : '0, -taken - 1'})
    if #found < want then break end
    step = math.max(1, math.floor(budget / math.max(1, bytes / taken)))
  end
end
local begun = last + math.min(n, tonumber(ARGV[8]))
if begun > last and begun > (tonumber(redis.pcall('HGET', KEYS[3], ARGV[3])) or 0) then
  redis.pcall('HSET', KEYS[3], ARGV[3], begun)
end
out[#out + 1] = 0
for i = 1, #aside do out[#out + 1] = aside[i] end
return out`;

export const CLAIM: Readonly<Record<End, Script>> = {
  head: { name: 'claim-head', keys: 'variable', lua: claimLua('head') },
  tail: { name: 'claim-tail', keys: 'variable', lua: claimLua('tail') },
};

export interface ClaimLimits {
  /** A larger job goes to quarantine. */
  readonly jobBytes: number;
  /** No more is fetched at once than this, or one job. */
  readonly batchBytes: number;
}

export interface ClaimedJob {
  readonly queue: string;
  /** Its field among the claims. */
  readonly claim: string;
  readonly bytes: Buffer;
}

export interface QuarantinedJob {
  readonly queue: string;
  readonly size: number;
  /** The first 200 bytes. */
  readonly start: Buffer;
  /** The last 200: an id may stand behind the arguments. */
  readonly end: Buffer;
}

export interface Claimed {
  readonly claimed: readonly ClaimedJob[];
  readonly aside: readonly QuarantinedJob[];
  readonly paused: boolean;
}

const PAUSED: Claimed = { claimed: [], aside: [], paused: true };

/** At most 1 000 at once. `last` is the number of the last claim this process made or asked for. */
export function claim(
  keys: ClaimKeys,
  queues: readonly string[],
  options: {
    /** What stands before a queue's name in the key of its list. */
    readonly listPrefix: string;
    /** And in that of the list which gets what is too large. */
    readonly quarantinePrefix: string;
    readonly end: End;
    /** Who claims: a member of the claimants. */
    readonly process: string;
    /** While this key says `true`, nothing is taken. */
    readonly pause?: string;
    readonly max: number;
    readonly last: number;
    /** So many of them begin as soon as they are here; the others wait for a slot. */
    readonly begin: number;
    readonly limits: ClaimLimits;
  },
): Exchange<Claimed> {
  const { listPrefix, quarantinePrefix, end, process, pause = '', max, last, begin, limits } = options;
  const command = callScript(
    CLAIM[end],
    [keys.claims, keys.claimants, keys.begun, pause, ...queues.map((queue) => listPrefix + queue)],
    [
      // HMSET gets two words a job.
      Math.min(max, CHUNK),
      last,
      process,
      limits.jobBytes,
      limits.batchBytes,
      listPrefix,
      quarantinePrefix,
      Math.max(0, begin),
    ],
  );
  return {
    commands: [command],
    atomic: false,
    read: ([reply]) => {
      const flat = reply as readonly unknown[];
      if (flat[0] === -1) return PAUSED;
      const claimed: ClaimedJob[] = [];
      const aside: QuarantinedJob[] = [];
      let at = 0;
      let number = last;
      while (flat[at] !== 0) {
        const queue = queues[(flat[at++] as number) - 1] ?? '';
        for (let count = flat[at++] as number; count > 0; count--)
          claimed.push({ queue, claim: `${++number}:${queue}`, bytes: flat[at++] as Buffer });
      }
      for (at++; at < flat.length; at += 4) {
        const queue = queues[(flat[at] as number) - 1] ?? '';
        const [size, start, end] = flat.slice(at + 1, at + 4) as [number, Buffer, Buffer];
        aside.push({ queue, size, start, end });
      }
      return { claimed, aside, paused: false };
    },
  };
}

/** The number and the queue of a claim. */
export function readClaim(field: string): { readonly number: number; readonly queue: string } {
  const colon = field.indexOf(':');
  return { number: Number(field.slice(0, colon)), queue: field.slice(colon + 1) };
}

/** KEYS begun. ARGV process, number. */
export const BEGUN: Script = {
  name: 'claims-begun',
  keys: 1,
  lua: `
if tonumber(ARGV[2]) > (tonumber(redis.call('HGET', KEYS[1], ARGV[1])) or 0) then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return 1`,
};

/** The handlers of all claims up to this number have begun, as far as they will: what waits begins in the order it was claimed. */
export function begunUpTo(keys: Pick<ClaimKeys, 'begun'>, process: string, number: number): Exchange<void> {
  return { commands: [callScript(BEGUN, [keys.begun], [process, number])], atomic: false, read: () => undefined };
}

/** Forget claims whose jobs are done: one command for a whole turn. */
export function acknowledge(claims: string, fields: readonly string[]): readonly Command[] {
  const commands: Command[] = [];
  for (let from = 0; from < fields.length; from += CHUNK)
    commands.push(['HDEL', claims, ...fields.slice(from, from + CHUNK)]);
  return commands;
}

/**
 * Lua of the two scripts below: commands as words behind their number, and whether what they write to is of the right kind. A script that fails
 * undoes nothing: so it is asked before anything is written, and counters, which are never worth a job, may fail.
 */
const COMMANDS_LUA = `
local kinds = { RPUSH = 'list', LPUSH = 'list', SADD = 'set', SREM = 'set', ZADD = 'zset', HSET = 'hash', HDEL = 'hash' }
local function misfit(at, stop)
  while at <= stop do
    local n, kind = tonumber(ARGV[at]), kinds[ARGV[at + 1]]
    if kind then
      local is = redis.call('TYPE', ARGV[at + 2]).ok
      if is ~= 'none' and is ~= kind then return 'WRONGTYPE ' .. ARGV[at + 2] .. ' is a ' .. is .. ', not a ' .. kind end
    end
    at = at + n + 1
  end
end
local function carry(at, stop)
  while at <= stop do
    local n = tonumber(ARGV[at])
    if ARGV[at + 1] == 'INCRBY' then redis.pcall(unpack(ARGV, at + 1, at + n))
    else redis.call(unpack(ARGV, at + 1, at + n)) end
    at = at + n + 1
  end
end`;

/**
 * Give up a claim and do what is to be done with its job, in one step; nothing when the claim is gone: then somebody took this
 * process for dead and the job is not ours any more. An error, and nothing done, where a key is not what a command needs.
 *
 * KEYS claims, then every key that the commands touch. ARGV the claim, then per command the number of its words, and its words.
 */
export const EXCHANGE_CLAIM: Script = {
  name: 'exchange-claim',
  keys: 'variable',
  lua: `${COMMANDS_LUA}
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local wrong = misfit(2, #ARGV)
if wrong then return redis.error_reply(wrong) end
carry(2, #ARGV)
return redis.call('HDEL', KEYS[1], ARGV[1])`,
};

/** False when the claim was gone and nothing was done. The commands write one key each, named by their second word. */
export function exchangeClaim(claims: string, field: string, commands: readonly Command[]): Exchange<boolean> {
  const { touched, words } = spread(commands);
  return {
    commands: [callScript(EXCHANGE_CLAIM, [claims, ...touched], [field, ...words])],
    atomic: false,
    read: ([done]) => done === 1,
  };
}

function spread(commands: readonly Command[]): {
  readonly touched: ReadonlySet<string>;
  readonly words: readonly (string | number | Uint8Array)[];
} {
  const touched = new Set<string>();
  const words: (string | number | Uint8Array)[] = [];
  for (const command of commands) {
    touched.add(String(command[1]));
    words.push(command.length, ...command);
  }
  return { touched, words };
}

/** The claims of a process, oldest first. */
export function claimsOf(claims: string): Exchange<readonly string[]> {
  return {
    commands: [['HKEYS', claims]],
    atomic: false,
    read: ([fields]) =>
      (fields as readonly Buffer[]).map(String).sort((a, b) => readClaim(a).number - readClaim(b).number),
  };
}

/** The claims of a process that is dead, oldest first, and up to which number they had begun; undefined where it did not tell. */
export function claimsLeft(
  keys: Pick<ClaimKeys, 'claims' | 'begun'>,
  process: string,
): Exchange<{ readonly fields: readonly string[]; readonly begun: number | undefined }> {
  const { commands, read } = claimsOf(keys.claims);
  return {
    commands: [...commands, ['HGET', keys.begun, process]],
    atomic: false,
    read: (replies) => ({
      fields: read(replies),
      begun: replies[1] === null ? undefined : Number(String(replies[1] as Buffer)),
    }),
  };
}

/** What these claims hold; undefined for one that is gone. */
export function claimedBytes(claims: string, fields: readonly string[]): Exchange<readonly (Buffer | undefined)[]> {
  if (fields.length === 0) return { commands: [], atomic: false, read: () => [] };
  return {
    commands: [['HMGET', claims, ...fields]],
    atomic: false,
    read: ([values]) => (values as readonly (Buffer | null)[]).map((value) => value ?? undefined),
  };
}

/** Every process that may have claims. */
export function claimants(key: string): Exchange<readonly string[]> {
  return {
    commands: [['SMEMBERS', key]],
    atomic: false,
    read: ([members]) => (members as readonly Buffer[]).map(String),
  };
}

/** Which of these keys are there. */
export function alive(keys: readonly string[]): Exchange<readonly boolean[]> {
  return {
    commands: keys.map((key) => ['EXISTS', key] as const),
    atomic: false,
    read: (replies) => replies.map((reply) => reply === 1),
  };
}

/** Seconds during which deaths of a process with the same job are counted. */
export const RESCUE_WINDOW: number = 72 * 3600;

/**
 * What the death of its process counts for a job that had begun, and for one that waited. A little for that one, too: a handler that ends its
 * process in the turn it begins in is one that nobody was told of.
 */
export const DEATH = { begun: 10, waited: 1 } as const;

/**
 * Give back a claim of a process that is dead; or bury its job, when it was given back so too often: then it is the job that kills
 * its process. Nothing when the process lives after all, or the claim is gone.
 *
 * KEYS claims, alive, counter of rescues, then every key that the commands touch. ARGV claim, limit, what this death counts (0: it is counted
 * already), seconds the counter lives, number of words of the first set of commands, then the commands of a rescue and those of a burial, as in exchange-claim.
 * Returns -1 it lives, 0 gone, 1 given back, 2 buried, 3 kept: a key is not what a command needs.
 */
export const RESCUE: Script = {
  name: 'rescue-claim',
  keys: 'variable',
  lua: `${COMMANDS_LUA}
if redis.call('EXISTS', KEYS[2]) == 1 then return -1 end
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
if misfit(6, #ARGV) then return 3 end
local limit, count, times = tonumber(ARGV[2]), tonumber(ARGV[3]), -1
if count > 0 then
  times = redis.call('INCRBY', KEYS[3], count)
  redis.call('EXPIRE', KEYS[3], ARGV[4])
end
local at, stop, done = 6, 5 + tonumber(ARGV[5]), 1
if times >= limit then
  at, stop, done = stop + 1, #ARGV, 2
  redis.call('DEL', KEYS[3])
end
carry(at, stop)
redis.call('HDEL', KEYS[1], ARGV[1])
return done`,
};

export type Rescued = 'alive' | 'gone' | 'back' | 'buried' | 'kept';

const RESCUED: Readonly<Record<number, Rescued>> = { [-1]: 'alive', 0: 'gone', 1: 'back', 2: 'buried', 3: 'kept' };

export interface Rescue {
  readonly claim: string;
  /** The key that counts how often this job's process died with it. */
  readonly counter: string;
  /** What gives it back. */
  readonly back: readonly Command[];
  /** What sets it aside for good. */
  readonly bury: readonly Command[];
  /** It was only held for others: no death is counted. */
  readonly harmless?: boolean;
}

/** `limit`: so many deaths of its process bury a job. `deaths`: what this one counts for each, see DEATH; 0 where it is counted already. */
export function rescue(
  keys: { readonly claims: string; readonly alive: string },
  rescues: readonly Rescue[],
  limit: number,
  deaths: readonly number[],
): Exchange<readonly Rescued[]> {
  return {
    commands: rescues.map((one, at) => {
      const back = spread(one.back);
      const bury = spread(one.bury);
      return callScript(
        RESCUE,
        [keys.claims, keys.alive, one.counter, ...new Set([...back.touched, ...bury.touched])],
        [
          one.claim,
          limit * DEATH.begun,
          deaths[at] ?? DEATH.begun,
          RESCUE_WINDOW,
          back.words.length,
          ...back.words,
          ...bury.words,
        ],
      );
    }),
    atomic: false,
    read: (replies) => replies.map((reply) => RESCUED[reply as number] ?? 'gone'),
  };
}

/** A process without claims needs no rescue. KEYS claims, claimants, begun. ARGV process. */
export const FORGET_CLAIMANT: Script = {
  name: 'forget-claimant',
  keys: 3,
  lua: `
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.pcall('HDEL', KEYS[3], ARGV[1])
return redis.call('SREM', KEYS[2], ARGV[1])`,
};

export function forgetClaimant(keys: ClaimKeys, process: string): Exchange<void> {
  return {
    commands: [callScript(FORGET_CLAIMANT, [keys.claims, keys.claimants, keys.begun], [process])],
    atomic: false,
    read: () => undefined,
  };
}
