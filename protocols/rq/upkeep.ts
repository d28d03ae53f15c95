import type { Buffer } from 'node:buffer';
import { callScript, type Exchange, type Script } from '../redis.ts';
import * as keys from './keys.ts';
import { type JobHash, readJob } from './message.ts';
import { LOOKING, RELEASING } from './lua.ts';
import { dateText, epochSeconds } from './times.ts';

/**
 * Maintenance that workers do for each other: they end runs whose worker is gone, requeue stuck ids, and clean registries and lists of
 * workers. Source:
 * rq/worker/base.py clean_registries, rq/registry.py, rq/intermediate_queue.py, rq/worker_registration.py, rq/group.py (2.10).
 */

/** A run past its deadline. */
export interface Overdue {
  /** `J:E`, or `J` of RQ 1. */
  readonly member: string;
  /** Its deadline, in seconds. */
  readonly score: number;
}

/** What needs maintenance in a queue. */
export interface Findings {
  readonly overdue: readonly Overdue[];
  /** The intermediate list has ids. */
  readonly stuck: boolean;
}

/** Reads what needs maintenance in a queue. Nothing is changed. */
export function inspect(queue: string, now: Date, limit = 200): Exchange<Findings> {
  return {
    commands: [
      ['ZRANGEBYSCORE', keys.registryKey('wip', queue), 0, epochSeconds(now), 'WITHSCORES', 'LIMIT', 0, limit],
      ['LLEN', keys.intermediateKey(queue)],
    ],
    atomic: false,
    read([flat, length]) {
      const overdue: Overdue[] = [];
      const members = flat as readonly Buffer[];
      for (let i = 0; i < members.length; i += 2)
        overdue.push({ member: String(members[i]), score: Number(members[i + 1]) });
      return { overdue, stuck: (length as number) > 0 };
    },
  };
}

/** Seconds after which the lock of a dead process is free. Python's lock lasts 899. */
const LOCK_SECONDS = 60;

/** Takes the lock under which a queue's registries are cleaned. Python and jobglot share it. */
export function lockMaintenance(queue: string, token: string): Exchange<boolean> {
  return {
    commands: [['SET', keys.maintenanceLockKey(queue), token, 'NX', 'EX', LOCK_SECONDS]],
    atomic: false,
    read: ([reply]) => reply !== null,
  };
}

/** Releases the lock if this process still holds it. KEYS lock. ARGV token. */
export const UNLOCK: Script = {
  name: 'unlock',
  keys: 1,
  lua: `if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end`,
};

export function unlockMaintenance(queue: string, token: string): Exchange<void> {
  return {
    commands: [callScript(UNLOCK, [keys.maintenanceLockKey(queue)], [token])],
    atomic: false,
    read: () => undefined,
  };
}

/**
 * Ids that a Python worker took and has not started for a minute go back to the head of their queue, because they never ran. RQ fails
 * them. As in RQ, the minute counts from when a worker first saw the id there.
 *
 * KEYS intermediate list, queue. ARGV epoch, prefix of the first_seen keys. Returns how many ids went back.
 */
export const UNSTICK: Script = {
  name: 'unstick',
  keys: 2,
  lua: `${LOOKING}
local wrong_type = wrong(KEYS[1], 'list') or wrong(KEYS[2], 'list')
if wrong_type then return refuse(wrong_type) end
local now, back = tonumber(ARGV[1]), 0
local ids = redis.call('LRANGE', KEYS[1], 0, 499)
for i = #ids, 1, -1 do
  local id = ids[i]
  local seen = ARGV[2] .. id
  local status = redis.pcall('HGET', 'rq:job:' .. id, 'status')
  if redis.call('EXISTS', 'rq:job:' .. id) == 0 then
    redis.call('LREM', KEYS[1], 1, id)
    redis.call('DEL', seen)
  elseif redis.call('EXISTS', 'rq:executions:' .. id) == 0 then
    if not redis.call('SET', seen, ARGV[1], 'NX', 'EX', 86400) then
      if now - (tonumber(redis.call('GET', seen)) or now) > 60 then
        redis.call('LREM', KEYS[1], 1, id)
        redis.call('DEL', seen)
        -- What is no job is for those who claim it: they say so.
        if status == 'queued' or type(status) ~= 'string' then
          redis.call('LPUSH', KEYS[2], id)
          back = back + 1
        end
      end
    end
  end
end
return back
`,
};

export function unstick(queue: string, now: Date): Exchange<number> {
  const lists = [keys.intermediateKey(queue), keys.queueKey(queue)];
  return {
    commands: [callScript(UNSTICK, lists, [now.getTime() / 1000, keys.firstSeenKey(queue, '')])],
    atomic: false,
    read: ([reply]) => reply as number,
  };
}

/**
 * Releases deferred jobs whose dependencies have already ended. Python's `enqueue` also defers a job whose dependency has just failed when
 * the job allows that failure, and then never releases it. A job whose dependencies are all gone stays deferred, because they were deleted.
 *
 * KEYS rq:deferred:Q. ARGV date, lowest score, highest score, offset, limit. Returns [number of jobs checked, number of jobs released].
 */
export const WAKE: Script = {
  name: 'wake',
  keys: 1,
  lua: `${RELEASING}
local ids, woken = redis.call('ZREVRANGEBYSCORE', KEYS[1], ARGV[3], ARGV[2], 'LIMIT', ARGV[4], ARGV[5]), 0
for i = 1, #ids do
  local id = ids[i]
  local job = redis.pcall('HMGET', 'rq:job:' .. id, 'status', 'origin', 'allow_dependency_failures', 'enqueue_at_front', 'ttl')
  if job[1] == 'deferred' and job[2] and job[2] ~= '' and may_leave(job[2]) then
    local parents, there = redis.pcall('SMEMBERS', 'rq:job::' .. id .. ':dependencies'), 0
    for p = 1, #parents do there = there + redis.call('EXISTS', 'rq:job:' .. parents[p]) end
    if there > 0 and may_run(id, '', is_on(job[3])) then
      redis.call('ZREM', KEYS[1], id)
      redis.call('HSET', 'rq:job:' .. id, 'status', 'queued', 'enqueued_at', ARGV[1])
      if is_on(job[5]) then keep(id, job[5]) end
      -- Python watches these while it releases, and then sees that it is done.
      for p = 1, #parents do redis.pcall('SREM', 'rq:job:' .. parents[p] .. ':dependents', id) end
      push(id, job[2], is_on(job[4]))
      woken = woken + 1
    end
  end
end
return {#ids, woken}
`,
};

/** How many jobs one script checks. */
export const WAKE_BATCH = 200;

/** `since`: checks only jobs that were deferred after it. `offset`: checks all jobs from this position on. */
export function wake(
  queue: string,
  now: Date,
  which: { readonly since: Date } | { readonly offset: number },
): Exchange<{ readonly seen: number; readonly woken: number }> {
  const range =
    'since' in which
      ? // Leaves out the last 3 seconds: the process that deferred a job may still be registering it.
        [epochSeconds(which.since), epochSeconds(now) - 3, 0]
      : ['-inf', '+inf', which.offset];
  return {
    commands: [callScript(WAKE, [keys.registryKey('deferred', queue)], [dateText(now), ...range, WAKE_BATCH])],
    atomic: false,
    read([reply]) {
      const [seen, woken] = reply as readonly number[];
      return { seen: seen as number, woken: woken as number };
    },
  };
}

/**
 * Removes expired members from the registries, and workers that are gone from the lists. KEYS rq:finished:Q, rq:failed:Q, rq:workers:Q, rq:workers.
 * ARGV seconds.
 */
export const CLEAN: Script = {
  name: 'clean',
  keys: 4,
  lua: `
redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], 0, ARGV[1])
local workers = redis.call('SMEMBERS', KEYS[3])
for i = 1, #workers do
  if redis.call('EXISTS', workers[i]) == 0 then
    redis.call('SREM', KEYS[3], workers[i])
    redis.call('SREM', KEYS[4], workers[i])
  end
end
`,
};

export function clean(queue: string, now: Date): Exchange<void> {
  const scriptKeys = [
    keys.registryKey('finished', queue),
    keys.registryKey('failed', queue),
    keys.workersKey(queue),
    keys.WORKERS,
  ];
  return { commands: [callScript(CLEAN, scriptKeys, [epochSeconds(now)])], atomic: false, read: () => undefined };
}

/**
 * Checks some members of a group from a cursor on. Removes members whose job is gone, and removes an empty group from the list of groups.
 * KEYS rq:group:<name>, rq:groups. ARGV name, cursor. Returns the next cursor.
 */
export const PRUNE_GROUP: Script = {
  name: 'prune-group',
  keys: 2,
  lua: `
local found = redis.call('SSCAN', KEYS[1], ARGV[2], 'COUNT', 200)
local ids = found[2]
for i = 1, #ids do
  if redis.call('EXISTS', 'rq:job:' .. ids[i]) == 0 then redis.call('SREM', KEYS[1], ids[i]) end
end
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('SREM', KEYS[2], ARGV[1]) end
return found[1]
`,
};

export function pruneGroup(group: string, cursor: string): Exchange<string> {
  return {
    commands: [callScript(PRUNE_GROUP, [keys.groupKey(group), keys.GROUPS], [group, cursor])],
    atomic: false,
    read: ([reply]) => String(reply),
  };
}

export function groups(): Exchange<readonly string[]> {
  return {
    commands: [['SMEMBERS', keys.GROUPS]],
    atomic: false,
    read: ([reply]) => (reply as readonly Buffer[]).map(String),
  };
}

/** Reads hashes. A missing hash is an empty list. KEYS hashes. */
export const FETCH: Script = {
  name: 'fetch',
  keys: 'variable',
  lua: `
local out = {}
for i = 1, #KEYS do
  local hash = redis.pcall('HGETALL', KEYS[i])
  out[i] = hash.err and {} or hash
end
return out
`,
};

/** Jobs as they are now. A job that does not exist, or cannot be read at all, is undefined. */
export function fetchAll(ids: readonly string[]): Exchange<readonly (JobHash | undefined)[]> {
  return {
    commands: ids.length === 0 ? [] : [callScript(FETCH, ids.map(keys.jobKey), [])],
    atomic: false,
    read: ([replies]) =>
      ids.map((id, at) => readJob(id, (replies as readonly (readonly Buffer[])[])[at] as readonly Buffer[])?.job),
  };
}

/** The name of a worker's connection, by which other workers see that it lives. It has no spaces, because CLIENT LIST separates fields by spaces. */
export function connectionName(worker: string): string {
  return `jobglot:rq:${worker.replaceAll(/[^!-~]/g, '_')}`;
}

/** Takes the turn to look for dead workers. One worker of those with the same queues gets it in each interval, because CLIENT LIST may be long. */
export function takeTurn(queues: readonly string[], ms: number): Exchange<boolean> {
  return {
    commands: [['SET', `jobglot:rq:watch:${[...queues].sort().join(',')}`, '1', 'NX', 'PX', ms]],
    atomic: false,
    read: ([reply]) => reply !== null,
  };
}

/** The registered workers, and the names of the connections to Redis. */
export function attendance(): Exchange<{
  readonly workers: readonly string[];
  readonly connections: ReadonlySet<string>;
}> {
  return {
    commands: [
      ['SMEMBERS', keys.WORKERS],
      ['CLIENT', 'LIST', 'TYPE', 'normal'],
    ],
    atomic: false,
    read: ([workers, clients]) => ({
      workers: (workers as readonly Buffer[]).map((key) => String(key).slice(keys.workerKey('').length)),
      connections: new Set(Array.from(String(clients).matchAll(/ name=(\S*)/g), ([, name]) => name as string)),
    }),
  };
}

/** A jobglot worker without a connection: since how long, and its runs. */
export interface Missing {
  readonly worker: string;
  readonly queues: readonly string[];
  readonly missedMs: number;
  readonly members: readonly string[];
}

/**
 * For workers without a connection: how long each has had none. The time is that of Redis, because the clocks of the workers may differ. KEYS per
 * worker its hash, its executions, and the key of when it was first missed.
 */
export const MISS: Script = {
  name: 'miss',
  keys: 'variable',
  lua: `${LOOKING}
local out, time = {}, redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 1, #KEYS, 3 do
  local version = not wrong(KEYS[i], 'hash') and redis.call('HGET', KEYS[i], 'version')
  local runs = wrong(KEYS[i + 1], 'set') and {} or redis.call('SMEMBERS', KEYS[i + 1])
  if #runs > 0 and (not version or string.sub(version, 1, 7) == 'jobglot') then
    redis.call('SET', KEYS[i + 2], string.format('%.0f', now), 'NX', 'EX', 600)
    local missed = now - (tonumber(redis.call('GET', KEYS[i + 2])) or now)
    out[#out + 1] = {(i - 1) / 3, missed, runs, version and redis.call('HGET', KEYS[i], 'queues') or ''}
  end
end
return out
`,
};

export function missing(workers: readonly string[]): Exchange<readonly Missing[]> {
  if (workers.length === 0) return { commands: [], atomic: false, read: () => [] };
  const scriptKeys = workers.flatMap((worker) => [
    keys.workerKey(worker),
    keys.workerExecutionsKey(worker),
    missedKey(worker),
  ]);
  return {
    commands: [callScript(MISS, scriptKeys, [])],
    atomic: false,
    read: ([reply]) =>
      (reply as readonly (readonly [number, number, readonly Buffer[], Buffer])[]).map(
        ([at, missedMs, members, queues]) => ({
          worker: workers[at] as string,
          queues: String(queues)
            .split(',')
            .filter((queue) => queue !== ''),
          missedMs,
          members: members.map(String),
        }),
      ),
  };
}

/** Clears the missed times of workers that are back, or whose runs were recovered. */
export function notMissing(workers: readonly string[]): Exchange<void> {
  return {
    commands: workers.length === 0 ? [] : [['DEL', ...workers.map(missedKey)]],
    atomic: false,
    read: () => undefined,
  };
}

function missedKey(worker: string): string {
  return `jobglot:rq:missed:${worker}`;
}
