import type { Buffer } from 'node:buffer';
import * as claims from '../claims.ts';
import { callScript, type Command, type Exchange, type Script } from '../redis.ts';
import { claimsKey, type Keyspace, quarantineKey, queueKey } from './keys.ts';

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

/** `ZADD schedule`: client.rb atomic_push. */
export function later(keys: Keyspace, atMs: number, text: string | Uint8Array): readonly Command[] {
  return [['ZADD', keys.schedule, score(atMs), text]];
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

/** Fetch up to N jobs in one step, from the first queue that has any on, into the claims of this process: ../claims.ts. */
export function claim(
  keys: Keyspace,
  identity: string,
  queues: readonly string[],
  options: { readonly max: number; readonly last: number; readonly begin: number; readonly limits: claims.ClaimLimits },
): Exchange<claims.Claimed> {
  const own = { claims: claimsKey(keys, identity), claimants: keys.claimants, begun: keys.begun };
  return claims.claim(own, queues, {
    ...options,
    listPrefix: queueKey(keys, ''),
    quarantinePrefix: quarantineKey(keys, ''),
    end: 'tail',
    process: identity,
  });
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
 * The member goes last: what the server refuses must leave it where it is. What cannot be pushed (its queue's key is no list) goes to
 * the dead set, so that it does not hold up the others.
 *
 * KEYS set, queues, dead, lists. ARGV now, what is older leaves the dead set, how many stay, then per member: the member, the number of its list (0: to the
 * dead set), its queue, the job as it goes there. Returns for each 1, 0 where it was gone, 2 where it could not be pushed and is dead.
 */
export const MOVE_DUE: Script = {
  name: 'move-due',
  keys: 'variable',
  lua: `
local moved, buried = {}, false
for at = 4, #ARGV, 4 do
  local there = redis.call('ZSCORE', KEYS[1], ARGV[at])
  moved[#moved + 1] = there and 1 or 0
  if there then
    local list = tonumber(ARGV[at + 1])
    if list > 0 then
      redis.call('SADD', KEYS[2], ARGV[at + 2])
      local pushed = redis.pcall('LPUSH', KEYS[3 + list], ARGV[at + 3])
      if type(pushed) == 'table' and pushed.err then list, moved[#moved] = 0, 2 end
    end
    if list == 0 then
      redis.call('ZADD', KEYS[3], ARGV[1], ARGV[at + 3])
      buried = true
    end
    redis.call('ZREM', KEYS[1], ARGV[at])
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

/** `refused`: the key of its queue is no list, and it is in the dead set. */
export type Moved = 'gone' | 'moved' | 'refused';

const MOVED: Readonly<Record<number, Moved>> = { 0: 'gone', 1: 'moved', 2: 'refused' };

/** What became of each. */
export function moveDue(
  keys: Keyspace,
  set: 'schedule' | 'retry' | 'dead',
  jobs: readonly DueJob[],
  { nowMs, dead }: { readonly nowMs: number; readonly dead: DeadLimits },
): Exchange<readonly Moved[]> {
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
    read: ([moved]) => (moved as readonly number[]).map((one) => MOVED[one] ?? 'gone'),
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
