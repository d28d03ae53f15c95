import { callScript, type Command, type Exchange, type Script } from '../redis.ts';
import { claimsKey, type Keyspace, quarantineKey, queueKey, rescuesKey } from './keys.ts';

/**
 * Round trips of a client and a worker as data. What Ruby writes too is written with the same commands; ours is the fetch that
 * cannot lose a job. Mirrors lib/sidekiq/{client,fetch,job_retry,scheduled,api}.rb.
 */

/** How many arguments one command may get: Lua's unpack and JavaScript's spread both have a limit. */
const CHUNK = 1000;

export const nothing: Exchange<void> = { commands: [], atomic: false, read: () => undefined };

/** Commands whose replies nobody needs. */
export function writes(commands: readonly Command[], atomic = false): Exchange<void> {
  return { commands, atomic, read: () => undefined };
}

/** A job on its way: the queue it is for, or with `at` (milliseconds) the time at which it will be put there. */
export interface Payload {
  readonly queue: string;
  readonly text: string | Uint8Array;
  readonly at?: number;
}

/** `SADD queues`, one `LPUSH` a queue, one `ZADD schedule`: client.rb atomic_push. */
export function push(keys: Keyspace, payloads: readonly Payload[]): Exchange<void> {
  const queues = new Map<string, (string | Uint8Array)[]>();
  const later: (string | number | Uint8Array)[] = [];
  for (const { queue, text, at } of payloads) {
    if (at !== undefined) {
      later.push(score(at), text);
      continue;
    }
    const list = queues.get(queue);
    if (list === undefined) queues.set(queue, [text]);
    else list.push(text);
  }
  const commands: Command[] = [];
  for (let from = 0; from < later.length; from += 2 * CHUNK)
    commands.push(['ZADD', keys.schedule, ...later.slice(from, from + 2 * CHUNK)]);
  if (queues.size > 0) commands.push(['SADD', keys.queues, ...queues.keys()]);
  for (const [queue, texts] of queues) {
    for (let from = 0; from < texts.length; from += CHUNK)
      commands.push(['LPUSH', queueKey(keys, queue), ...texts.slice(from, from + CHUNK)]);
  }
  return writes(commands);
}

/** A score: seconds, with whatever fraction there is. */
export function score(ms: number): string {
  return String(ms / 1000);
}

/** `ZADD retry`: job_retry.rb process_retry. */
export function retryLater(keys: Keyspace, atMs: number, text: string | Uint8Array): readonly Command[] {
  return [['ZADD', keys.retry, score(atMs), text]];
}

/** What the dead set keeps. */
export interface DeadLimits {
  /** @default 10000; the trim keeps one less, as Sidekiq's does */
  readonly deadMaxJobs: number;
  /** @default 15552000, half a year */
  readonly deadTimeoutInSeconds: number;
}

export const DEAD_LIMITS: DeadLimits = { deadMaxJobs: 10_000, deadTimeoutInSeconds: 15_552_000 };

/** Into the dead set, and trim it: job_retry.rb send_to_morgue. To be sent in one MULTI. */
export function bury(
  keys: Keyspace,
  nowMs: number,
  text: string | Uint8Array,
  limits: DeadLimits = DEAD_LIMITS,
): readonly Command[] {
  return [
    ['ZADD', keys.dead, score(nowMs), text],
    ['ZREMRANGEBYSCORE', keys.dead, '-inf', score(nowMs - limits.deadTimeoutInSeconds * 1000)],
    ['ZREMRANGEBYRANK', keys.dead, 0, -limits.deadMaxJobs],
  ];
}

/** Back to its queue: next out (`front`, fetch.rb requeue), or behind all others. */
export function requeue(
  keys: Keyspace,
  queue: string,
  text: string | Uint8Array,
  where: 'front' | 'back',
): readonly Command[] {
  return [[where === 'front' ? 'RPUSH' : 'LPUSH', queueKey(keys, queue), text]];
}

/** fetch.rb BasicFetch: waits up to `waitSeconds` for one job, which from then on is in this process's memory only. */
export function brpop(
  keys: Keyspace,
  queues: readonly string[],
  waitSeconds: number,
): Exchange<{ readonly queue: string; readonly bytes: Buffer } | undefined> {
  const start = keys.prefix.length + 'queue:'.length;
  return {
    commands: [['BRPOP', ...queues.map((queue) => queueKey(keys, queue)), waitSeconds]],
    atomic: false,
    read: ([reply]) => {
      if (reply === null || reply === undefined) return undefined;
      const [list, bytes] = reply as [Buffer, Buffer];
      return { queue: String(list).slice(start), bytes };
    },
  };
}

/**
 * Fetch up to N jobs in one step, from the first queue that has any on: moved by one script from their lists to this process's
 * claims, so that a job is always in Redis until it is settled. A claim is a number of this process and the queue's name; its
 * value is the job's bytes. What is larger than a job may be goes to quarantine here and now.
 *
 * KEYS claims, claimants, then lists. ARGV max, number of the last claim, identity, byte limit of one job, byte limit of all,
 * then per list: the queue's name, its quarantine list.
 * Returns flat: for every list with jobs: list number, count, jobs …; then 0, and what was set aside: list number, size, first and last bytes …
 * LRANGE and LTRIM rather than a counted RPOP: every version of Redis has them, and a client that tracks keys is told of the next push.
 */
export const CLAIM: Script = {
  name: 'claim',
  keys: 'variable',
  lua: `
local left, last, biggest, budget = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4]), tonumber(ARGV[5])
local out, aside, hash, n = {}, {}, {}, 0
for l = 3, #KEYS do
  if left <= 0 or budget <= 0 then break end
  local found = redis.call('LRANGE', KEYS[l], -left, -1)
  if #found > 0 then
    local queue, at, count, taken = ARGV[(l - 3) * 2 + 6], #out + 2, 0, 0
    out[#out + 1] = l - 2
    out[at] = 0
    for i = #found, 1, -1 do
      if budget <= 0 then break end
      local job = found[i]
      local size = #job
      taken = taken + 1
      if size > biggest then
        redis.call('LPUSH', ARGV[(l - 3) * 2 + 7], job)
        aside[#aside + 1] = l - 2
        aside[#aside + 1] = size
        aside[#aside + 1] = string.sub(job, 1, 200) .. string.sub(job, -200)
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
    redis.call('LTRIM', KEYS[l], 0, -taken - 1)
  end
end
if n > 0 then
  redis.call('HMSET', KEYS[1], unpack(hash))
  redis.call('SADD', KEYS[2], ARGV[3])
end
out[#out + 1] = 0
for i = 1, #aside do out[#out + 1] = aside[i] end
return out`,
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

export interface SetAside {
  readonly queue: string;
  readonly size: number;
  /** The first 200 bytes and the last 200: Ruby writes the jid behind the arguments. */
  readonly ends: Buffer;
}

export interface Claimed {
  readonly claimed: readonly ClaimedJob[];
  readonly aside: readonly SetAside[];
}

/** At most 1 000 at once (Lua's unpack). `last` is the number of the last claim this process made or asked for. */
export function claim(
  keys: Keyspace,
  identity: string,
  queues: readonly string[],
  { max, last, limits }: { readonly max: number; readonly last: number; readonly limits: ClaimLimits },
): Exchange<Claimed> {
  const command = callScript(
    CLAIM,
    [claimsKey(keys, identity), keys.claimants, ...queues.map((queue) => queueKey(keys, queue))],
    [
      Math.min(max, CHUNK),
      last,
      identity,
      limits.jobBytes,
      limits.batchBytes,
      ...queues.flatMap((queue) => [queue, quarantineKey(keys, queue)]),
    ],
  );
  return {
    commands: [command],
    atomic: false,
    read: ([reply]) => {
      const flat = reply as readonly unknown[];
      const claimed: ClaimedJob[] = [];
      const aside: SetAside[] = [];
      let at = 0;
      let number = last;
      while (flat[at] !== 0) {
        const queue = queues[(flat[at++] as number) - 1] ?? '';
        for (let count = flat[at++] as number; count > 0; count--)
          claimed.push({ queue, claim: `${++number}:${queue}`, bytes: flat[at++] as Buffer });
      }
      for (at++; at < flat.length; at += 3) {
        const queue = queues[(flat[at] as number) - 1] ?? '';
        aside.push({ queue, size: flat[at + 1] as number, ends: flat[at + 2] as Buffer });
      }
      return { claimed, aside };
    },
  };
}

/** The number and the queue of a claim. */
export function readClaim(field: string): { readonly number: number; readonly queue: string } {
  const colon = field.indexOf(':');
  return { number: Number(field.slice(0, colon)), queue: field.slice(colon + 1) };
}

/** Forget claims whose jobs are done: one command for a whole turn. */
export function acknowledge(keys: Keyspace, identity: string, claims: readonly string[]): Exchange<void> {
  const commands: Command[] = [];
  for (let from = 0; from < claims.length; from += CHUNK)
    commands.push(['HDEL', claimsKey(keys, identity), ...claims.slice(from, from + CHUNK)]);
  return writes(commands);
}

/**
 * Give up a claim and do what is to be done with its job, in one step; nothing when the claim is gone: then somebody took this
 * process for dead and the job is not ours any more.
 *
 * KEYS claims, then every key that the commands touch. ARGV the claim, then per command the number of its words, and its words.
 */
export const EXCHANGE_CLAIM: Script = {
  name: 'exchange-claim',
  keys: 'variable',
  lua: `
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
local at = 2
while at <= #ARGV do
  local n = tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, at + n))
  at = at + n + 1
end
return 1`,
};

/** False when the claim was gone and nothing was done. */
export function exchangeClaim(
  keys: Keyspace,
  identity: string,
  claimed: string,
  commands: readonly Command[],
): Exchange<boolean> {
  const touched = new Set<string>();
  const words: (string | number | Uint8Array)[] = [];
  for (const command of commands) {
    touched.add(String(command[1]));
    words.push(command.length, ...command);
  }
  return {
    commands: [callScript(EXCHANGE_CLAIM, [claimsKey(keys, identity), ...touched], [claimed, ...words])],
    atomic: false,
    read: ([done]) => done === 1,
  };
}

/** The claims of a process, as their names. */
export function claimsOf(keys: Keyspace, identity: string): Exchange<readonly string[]> {
  return {
    commands: [['HKEYS', claimsKey(keys, identity)]],
    atomic: false,
    read: ([fields]) => (fields as readonly Buffer[]).map(String),
  };
}

/** What these claims hold; undefined for one that is gone. */
export function claimedBytes(
  keys: Keyspace,
  identity: string,
  claims: readonly string[],
): Exchange<readonly (Buffer | undefined)[]> {
  if (claims.length === 0) return { commands: [], atomic: false, read: () => [] };
  return {
    commands: [['HMGET', claimsKey(keys, identity), ...claims]],
    atomic: false,
    read: ([values]) => (values as readonly (Buffer | null)[]).map((value) => value ?? undefined),
  };
}

/** Every process that may have claims, and whether it still beats. */
export function claimants(keys: Keyspace): Exchange<readonly string[]> {
  return {
    commands: [['SMEMBERS', keys.claimants]],
    atomic: false,
    read: ([members]) => (members as readonly Buffer[]).map(String),
  };
}

export function alive(keys: Keyspace, identities: readonly string[]): Exchange<readonly boolean[]> {
  return {
    commands: identities.map((identity) => ['EXISTS', keys.prefix + identity] as const),
    atomic: false,
    read: (replies) => replies.map((reply) => reply === 1),
  };
}

/**
 * Give back a claim of a process that is dead: next out of its queue, or to the dead set when it was given back so too often,
 * since then it is the job that kills its process. Nothing when the process beats after all, or the claim is gone.
 *
 * KEYS claims, process, list, counter of rescues, dead. ARGV claim, bytes, limit, seconds the counter lives, now, what is older
 * leaves the dead set, how many stay, bytes for the dead set. Returns -1 it lives, 0 gone, 1 given back, 2 dead.
 */
export const RESCUE: Script = {
  name: 'rescue',
  keys: 5,
  lua: `
if redis.call('EXISTS', KEYS[2]) == 1 then return -1 end
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
local times = redis.call('INCR', KEYS[4])
redis.call('EXPIRE', KEYS[4], ARGV[4])
if times < tonumber(ARGV[3]) then
  redis.call('RPUSH', KEYS[3], ARGV[2])
  return 1
end
redis.call('ZADD', KEYS[5], ARGV[5], ARGV[8])
redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', ARGV[6])
redis.call('ZREMRANGEBYRANK', KEYS[5], 0, ARGV[7])
redis.call('DEL', KEYS[4])
return 2`,
};

export type Rescued = 'alive' | 'gone' | 'back' | 'dead';

const RESCUED: Readonly<Record<number, Rescued>> = { [-1]: 'alive', 0: 'gone', 1: 'back', 2: 'dead' };

/** Seconds during which deaths of a process with the same job are counted. */
export const RESCUE_WINDOW: number = 72 * 3600;

export interface Rescue {
  readonly claim: string;
  readonly bytes: Uint8Array;
  /** Names the job among the counters: its jid, or a digest of its bytes. */
  readonly id: string;
  /** The job as the dead set would have it. */
  readonly dead: string | Uint8Array;
}

/** `limit`: so many deaths of its process send a job to the dead set. */
export function rescue(
  keys: Keyspace,
  identity: string,
  rescues: readonly Rescue[],
  { limit, nowMs, dead }: { readonly limit: number; readonly nowMs: number; readonly dead: DeadLimits },
): Exchange<readonly Rescued[]> {
  return {
    commands: rescues.map((one) =>
      callScript(
        RESCUE,
        [
          claimsKey(keys, identity),
          keys.prefix + identity,
          queueKey(keys, readClaim(one.claim).queue),
          rescuesKey(keys, one.id),
          keys.dead,
        ],
        [
          one.claim,
          one.bytes,
          limit,
          RESCUE_WINDOW,
          score(nowMs),
          score(nowMs - dead.deadTimeoutInSeconds * 1000),
          -dead.deadMaxJobs,
          one.dead,
        ],
      ),
    ),
    atomic: false,
    read: (replies) => replies.map((reply) => RESCUED[reply as number] ?? 'gone'),
  };
}

/** A process without claims needs no rescue. KEYS claims, claimants. ARGV identity. */
export const FORGET_CLAIMANT: Script = {
  name: 'forget-claimant',
  keys: 2,
  lua: `
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
return redis.call('SREM', KEYS[2], ARGV[1])`,
};

export function forgetClaimant(keys: Keyspace, identity: string): Exchange<void> {
  return writes([callScript(FORGET_CLAIMANT, [claimsKey(keys, identity), keys.claimants], [identity])]);
}

/** What is due in `schedule` or `retry`, soonest first. */
export function due(
  keys: Keyspace,
  set: 'schedule' | 'retry',
  nowMs: number,
  limit: number,
): Exchange<readonly Buffer[]> {
  return {
    commands: [['ZRANGEBYSCORE', keys[set], '-inf', score(nowMs), 'LIMIT', 0, limit]],
    atomic: false,
    read: ([members]) => members as readonly Buffer[],
  };
}

/** When the soonest of both sets is due, in milliseconds; undefined when they are empty. */
export function soonest(keys: Keyspace): Exchange<number | undefined> {
  return {
    commands: [
      ['ZRANGE', keys.schedule, 0, 0, 'WITHSCORES'],
      ['ZRANGE', keys.retry, 0, 0, 'WITHSCORES'],
    ],
    atomic: false,
    read: (replies) => {
      const times = (replies as readonly (readonly Buffer[])[])
        .map(([, at]) => Number(String(at)) * 1000)
        .filter((at) => !Number.isNaN(at));
      return times.length === 0 ? undefined : Math.min(...times);
    },
  };
}

/**
 * Move members of `schedule` or `retry` to their queues, each only if it is still there: whoever removes a member pushes its
 * job, in the same step. Ruby's poller pops first and pushes after, and loses the job when it dies in between.
 *
 * KEYS set, queues, dead, lists. ARGV now, what is older leaves the dead set, how many stay, then per member: the member, the number of its list (0: to the
 * dead set), its queue, the job as it goes there. Returns 1 or 0 for each.
 */
export const MOVE_DUE: Script = {
  name: 'move-due',
  keys: 'variable',
  lua: `
local moved, buried = {}, false
for at = 4, #ARGV, 4 do
  local done = redis.call('ZREM', KEYS[1], ARGV[at])
  moved[#moved + 1] = done
  if done == 1 then
    local list = tonumber(ARGV[at + 1])
    if list == 0 then
      redis.call('ZADD', KEYS[3], ARGV[1], ARGV[at + 3])
      buried = true
    else
      redis.call('SADD', KEYS[2], ARGV[at + 2])
      redis.call('LPUSH', KEYS[3 + list], ARGV[at + 3])
    end
  end
end
if buried then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', ARGV[2])
  redis.call('ZREMRANGEBYRANK', KEYS[3], 0, ARGV[3])
end
return moved`,
};

export interface DueJob {
  /** As it is in its set. */
  readonly member: Uint8Array;
  /** Undefined: it is no job, and goes to the dead set. */
  readonly queue: string | undefined;
  readonly text: string | Uint8Array;
}

/** How many were still there, and are moved. */
export function moveDue(
  keys: Keyspace,
  set: 'schedule' | 'retry' | 'dead',
  jobs: readonly DueJob[],
  { nowMs, dead }: { readonly nowMs: number; readonly dead: DeadLimits },
): Exchange<readonly boolean[]> {
  const lists = [...new Set(jobs.map(({ queue }) => queue).filter((queue) => queue !== undefined))];
  return {
    commands: [
      callScript(
        MOVE_DUE,
        [keys[set], keys.queues, keys.dead, ...lists.map((queue) => queueKey(keys, queue))],
        [
          score(nowMs),
          score(nowMs - dead.deadTimeoutInSeconds * 1000),
          -dead.deadMaxJobs,
          ...jobs.flatMap(({ member, queue, text }) => [
            member,
            queue === undefined ? 0 : lists.indexOf(queue) + 1,
            queue ?? '',
            text,
          ]),
        ],
      ),
    ],
    atomic: false,
    read: ([moved]) => (moved as readonly number[]).map((one) => one === 1),
  };
}

/** The queues that are paused. */
export function paused(keys: Keyspace): Exchange<readonly string[]> {
  return {
    commands: [['SMEMBERS', keys.paused]],
    atomic: false,
    read: ([members]) => (members as readonly Buffer[]).map(String),
  };
}
