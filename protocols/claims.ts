import type { Buffer } from 'node:buffer';
import { callScript, type Command, type Exchange, type Script } from './redis.ts';

/**
 * A claim is a job that a process has taken from its list and not settled. Claims are for systems whose own workers use an at-most-once pop
 * (Sidekiq's basic fetch, Resque). The system's own processes do not see claims: jobglot adds the keys, and the value of each claim is the job's
 * bytes, unchanged.
 *
 * | key | type | content |
 * |---|---|---|
 * | `claims` | hash, one per process | `<number>:<queue>` → the job's bytes |
 * | `claimants` | set | every process that may have claims |
 * | `begun` | hash | process → number of the last claim whose handler is known to have begun; claims with a higher number only waited |
 * | `alive` | string or hash that expires, one per process | exists while the process lives; when it is gone, another process gives the claims back |
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
 * Take up to N jobs from their lists, in the order of the lists, in one step: a job is always in Redis until it is settled. The value of a claim is
 * the job's bytes. A job above the byte limit goes to quarantine in the same step. A list is read a few jobs at a time at first. After that the size
 * of the jobs read so far limits the next read, so that a list of large jobs does not fill the server's memory.
 *
 * A script that fails does not roll back. So the claims are written before the jobs are cut off their list. A key that is not a list counts as an
 * empty list.
 *
 * KEYS claims, claimants, begun, pause or '', then lists. ARGV max, number of the last claim, process, byte limit of one job, byte limit of all jobs,
 * prefix of a queue's name in the key of its list, prefix of a queue's name in the key of its quarantine list, how many jobs begin at once. Returns a
 * flat list. For every read of a list: list number, count, jobs …; then 0. Then for each quarantined job: list number, size, first bytes, last bytes.
 * While the value of `pause` is `true`, the reply is only -1. The script uses LRANGE and LTRIM rather than a counted pop, because every version of
 * Redis has them. LRANGE also reads the key, so a client that tracks keys is notified of the next push.
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
  /** At most this many bytes are fetched at once, but always at least one job. */
  readonly batchBytes: number;
}

export interface ClaimedJob {
  readonly queue: string;
  /** Its field in the hash of claims. */
  readonly claim: string;
  readonly bytes: Buffer;
}

export interface QuarantinedJob {
  readonly queue: string;
  readonly size: number;
  /** The first 200 bytes. */
  readonly start: Buffer;
  /** The last 200 bytes: an id may come after the arguments. */
  readonly end: Buffer;
}

export interface Claimed {
  readonly claimed: readonly ClaimedJob[];
  readonly aside: readonly QuarantinedJob[];
  readonly paused: boolean;
}

const PAUSED: Claimed = { claimed: [], aside: [], paused: true };

/** Claims at most 1 000 jobs at once. `last` is the number of the last claim that this process made or asked for. */
export function claim(
  keys: ClaimKeys,
  queues: readonly string[],
  options: {
    /** Prefix of a queue's name in the key of its list. */
    readonly listPrefix: string;
    /** Prefix of a queue's name in the key of its quarantine list, which gets jobs that are too large. */
    readonly quarantinePrefix: string;
    readonly end: End;
    /** The process that claims: a member of the set of claimants. */
    readonly process: string;
    /** While the value of this key is `true`, no job is taken. */
    readonly pause?: string;
    readonly max: number;
    readonly last: number;
    /** How many of these jobs begin as soon as they arrive; the others wait for a slot. */
    readonly begin: number;
    readonly limits: ClaimLimits;
  },
): Exchange<Claimed> {
  const { listPrefix, quarantinePrefix, end, process, pause = '', max, last, begin, limits } = options;
  const command = callScript(
    CLAIM[end],
    [keys.claims, keys.claimants, keys.begun, pause, ...queues.map((queue) => listPrefix + queue)],
    [
      // HMSET gets two words for each job.
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

/**
 * Records that the handlers of all claims up to this number have begun, except those that will never begin. Waiting claims begin in the order they
 * were claimed.
 */
export function begunUpTo(keys: Pick<ClaimKeys, 'begun'>, process: string, number: number): Exchange<void> {
  return { commands: [callScript(BEGUN, [keys.begun], [process, number])], atomic: false, read: () => undefined };
}

/** Delete claims whose jobs are done: one command for all of one turn of the event loop. */
export function acknowledge(claims: string, fields: readonly string[]): readonly Command[] {
  const commands: Command[] = [];
  for (let from = 0; from < fields.length; from += CHUNK)
    commands.push(['HDEL', claims, ...fields.slice(from, from + CHUNK)]);
  return commands;
}

/**
 * Lua that the two scripts below share. It takes commands as words, each command after the number of its words. `misfit` checks that every key a
 * command writes to has the right type. A script that fails does not roll back, so the check comes before the first write. Counters are never worth a
 * job, so they may fail.
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
 * Give up a claim and run the commands for its job, in one step. When the claim is gone, nothing is done: another process took this process for dead,
 * and the job no longer belongs to this process. When a key has the wrong type for a command, the script returns an error and does nothing.
 *
 * KEYS claims, then every key that the commands touch. ARGV the claim, then for each command the number of its words, and its words.
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

/** False when the claim was gone and nothing was done. Each command writes one key, which is its second word. */
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

/** The claims of a dead process, oldest first, and the number of the last claim that had begun; undefined where the process did not record it. */
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

/** The jobs' bytes of these claims; undefined for a claim that is gone. */
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

/** Which of these keys exist. */
export function alive(keys: readonly string[]): Exchange<readonly boolean[]> {
  return {
    commands: keys.map((key) => ['EXISTS', key] as const),
    atomic: false,
    read: (replies) => replies.map((reply) => reply === 1),
  };
}

/** For how many seconds the deaths of processes that held the same job are counted. */
export const RESCUE_WINDOW: number = 72 * 3600;

/**
 * How much one death of the process counts for a job that had begun, and for a job that waited. A waiting job counts a little, too: a handler that
 * kills its process in the same turn in which it begins was never recorded as begun.
 */
export const DEATH = { begun: 10, waited: 1 } as const;

/**
 * Give back a claim of a dead process. When the job was given back too often in this way, bury it instead: then the job is what kills its process.
 * Nothing is done when the process is alive after all, or when the claim is gone.
 *
 * KEYS claims, alive, counter of rescues, then every key that the commands touch. ARGV claim, limit, how much this death counts (0: it is counted
 * already), seconds the counter lives, number of words of the first set of commands, then the commands of a rescue and the commands of a burial, as
 * in exchange-claim. Returns -1 the process is alive, 0 the claim is gone, 1 given back, 2 buried, 3 kept: a key has the wrong type for a command.
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
  /** The key that counts how often a process died while it held this job. */
  readonly counter: string;
  /** The commands that give the job back. */
  readonly back: readonly Command[];
  /** The commands that bury the job. */
  readonly bury: readonly Command[];
  /** The claim was only held for other workers: no death is counted. */
  readonly harmless?: boolean;
}

/**
 * `limit`: how many deaths of its process bury a job. `deaths`: how much this death counts for each job, see DEATH; 0 where it is counted already.
 */
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

/** Remove a process without claims from the claimants: it needs no rescue. KEYS claims, claimants, begun. ARGV process. */
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
