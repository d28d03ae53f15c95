import type { Buffer } from 'node:buffer';
import { callScript, type Command, type Exchange, type Script } from '../redis.ts';
import * as keys from './keys.ts';
import { RELEASING } from './lua.ts';
import { type BrokenField, type JobHash, type JobStatus, readJob } from './message.ts';
import { readResult, type StoredEntry } from './result.ts';
import { dateText, epochSeconds } from './times.ts';

/** Reading one job, and changing it as a person may. Each change is one script, and changes only a job that exists. */

export interface FetchedJob {
  readonly job: JobHash;
  /** Fields over which RQ's own readers would raise. */
  readonly broken: readonly BrokenField[];
}

/** Jobs by id, in the order of `ids`; undefined for a job that does not exist. Source: rq/job.py fetch_many. */
export function fetchJobs(ids: readonly string[]): Exchange<readonly (FetchedJob | undefined)[]> {
  return {
    commands: ids.map((id): Command => ['HGETALL', keys.jobKey(id)]),
    atomic: false,
    read: (replies) => replies.map((reply, at) => readJob(ids[at] as string, reply as readonly Buffer[])),
  };
}

export function status(id: string): Exchange<JobStatus | undefined> {
  return {
    commands: [['HGET', keys.jobKey(id), 'status']],
    atomic: false,
    read: ([reply]) => (reply === null ? undefined : (String(reply as Buffer) as JobStatus)),
  };
}

/** The stored results of a job, the newest first. Throws WireError for a result that cannot be read. Source: rq/results.py all. */
export function results(id: string, count?: number): Exchange<readonly StoredEntry[]> {
  const some = count === undefined ? [] : ['COUNT', count];
  return {
    commands: [['XREVRANGE', keys.resultsKey(id), '+', '-', ...some]],
    atomic: false,
    read: ([reply]) => readEntries(reply),
  };
}

function readEntries(reply: unknown): readonly StoredEntry[] {
  return (reply as readonly (readonly [Buffer, readonly Buffer[]])[]).map(([id, flat]) => readResult(String(id), flat));
}

/** The part of a job that decides whether the wait for its result ends. */
export interface Progress {
  /** Undefined: the job is gone, or never existed. */
  readonly status: JobStatus | undefined;
  readonly latest: StoredEntry | undefined;
  /** RQ before 1.12, and any RQ on Redis before 5, keep results in the hash. */
  readonly legacyResult: Buffer | undefined;
  readonly legacyExcInfo: Buffer | undefined;
}

/** Two plain reads for each job, so that a connection that tracks keys is notified when one of them changes. */
export function progress(ids: readonly string[]): Exchange<readonly (Progress | Error)[]> {
  return {
    commands: ids.flatMap((id): Command[] => [
      // A worker writes both in one step. The status is read first, so a result that is newer than the status only confirms it.
      ['HMGET', keys.jobKey(id), 'status', 'result', 'exc_info'],
      ['XREVRANGE', keys.resultsKey(id), '+', '-', 'COUNT', 1],
    ]),
    atomic: false,
    read: (replies) =>
      ids.map((_, at) => {
        const [state, legacyResult, legacyExcInfo] = replies[2 * at] as readonly (Buffer | null)[];
        try {
          return {
            status: state === null || state === undefined ? undefined : (String(state) as JobStatus),
            latest: readEntries(replies[2 * at + 1])[0],
            legacyResult: legacyResult ?? undefined,
            legacyExcInfo: legacyExcInfo ?? undefined,
          };
        } catch (error) {
          return error as Error;
        }
      }),
  };
}

/** The ids of a job's dependencies and of its dependents. */
export function relatives(id: string): Exchange<{ readonly dependencies: string[]; readonly dependents: string[] }> {
  return {
    commands: [
      ['SMEMBERS', keys.dependenciesKey(id)],
      ['SMEMBERS', keys.dependentsKey(id)],
    ],
    atomic: false,
    read: ([dependencies, dependents]) => ({
      dependencies: (dependencies as readonly Buffer[]).map(String),
      dependents: (dependents as readonly Buffer[]).map(String),
    }),
  };
}

/** The job's position in its queue: 0 runs next, undefined is not in the queue. Redis 6.0.6 and newer. Source: rq/queue.py get_job_position. */
export function position(id: string, queue: string): Exchange<number | undefined> {
  return {
    commands: [['LPOS', keys.queueKey(queue), id]],
    atomic: false,
    read: ([reply]) => (reply as number | null) ?? undefined,
  };
}

/** Writes fields of a job if it exists. Returns 0 if it does not. KEYS the hash. ARGV fields. */
export const UPDATE: Script = {
  name: 'update',
  keys: 1,
  lua: `
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1
`,
};

/** Writes the meta of a job that exists. Source: rq/job.py save_meta, which brings a deleted job back with only its meta; this does not. */
export function saveMeta(id: string, meta: Uint8Array): Exchange<boolean> {
  return {
    commands: [callScript(UPDATE, [keys.jobKey(id)], ['meta', meta])],
    atomic: false,
    read: ([reply]) => reply === 1,
  };
}

/** Lua that several scripts share. */
const SHARED = `${RELEASING}
-- Out of its queue and every registry; what runs of it counts as nobody's any more.
local function take_off(id, queue)
  -- What is of another type has no place of it.
  redis.pcall('LREM', 'rq:queue:' .. queue, 0, id)
  for _, registry in ipairs({'finished', 'failed', 'deferred', 'scheduled', 'canceled'}) do
    redis.pcall('ZREM', 'rq:' .. registry .. ':' .. queue, id)
  end
  local executions = redis.pcall('ZRANGE', 'rq:executions:' .. id, 0, -1)
  if executions.err then executions = {} end
  for i = 1, #executions do redis.pcall('ZREM', 'rq:wip:' .. queue, id .. ':' .. executions[i]) end
  -- RQ 1.
  redis.pcall('ZREM', 'rq:wip:' .. queue, id)
  return executions
end
`;

/** What a cancellation does to other jobs. */
export interface CancelOptions {
  /** Release the jobs that wait for this one. @default false */
  readonly enqueueDependents?: boolean;
  /** Remove the job from the `dependents` sets of its dependencies. @default false */
  readonly removeFromDependencies?: boolean;
}

/**
 * Cancels a job. Returns how many dependents were released, or why nothing was done: the job is gone, or already canceled.
 * Mirrors rq/job.py cancel (2.10). KEYS the hash. ARGV id, date, seconds, enqueue dependents, remove from dependencies.
 */
export const CANCEL: Script = {
  name: 'cancel',
  keys: 1,
  lua: `${SHARED}
local id, date, now = ARGV[1], ARGV[2], ARGV[3]
local job = redis.call('HMGET', KEYS[1], 'status', 'origin')
if not job[1] then return -1 end
if job[1] == 'canceled' then return -2 end
local queue, released = job[2] or '', 0
if wrong('rq:canceled:' .. queue, 'zset') then return refuse('rq:canceled:' .. queue) end
redis.call('HSET', KEYS[1], 'status', 'canceled')
if ARGV[4] == '1' then released = release(id, 'finished', date) end
if ARGV[5] == '1' then
  local dependencies = redis.pcall('SMEMBERS', 'rq:job::' .. id .. ':dependencies')
  for i = 1, #dependencies do redis.pcall('SREM', 'rq:job:' .. dependencies[i] .. ':dependents', id) end
end
take_off(id, queue)
redis.call('ZADD', 'rq:canceled:' .. queue, now, id)
return released
`,
};

export function cancel(
  id: string,
  now: Date,
  { enqueueDependents = false, removeFromDependencies = false }: CancelOptions = {},
): Exchange<number | 'gone' | 'canceled'> {
  const args = [id, dateText(now), epochSeconds(now), enqueueDependents ? 1 : 0, removeFromDependencies ? 1 : 0];
  return {
    commands: [callScript(CANCEL, [keys.jobKey(id)], args)],
    atomic: false,
    read: ([reply]) => (reply === -1 ? 'gone' : reply === -2 ? 'canceled' : (reply as number)),
  };
}

export type Requeued = 'queued' | 'gone' | 'elsewhere';

/**
 * Puts jobs of a registry into their queues again. The fields of the last run are removed. The expiry that the end of the run set is
 * removed too; with Python the job can expire in its queue. `gone`: only the id was left, and it is removed. `elsewhere`: the job is
 * not in the registry. Mirrors rq/registry.py requeue (2.10). KEYS the registry. ARGV queue, date, at front, ids.
 */
export const REQUEUE: Script = {
  name: 'requeue',
  keys: 1,
  lua: `${SHARED}
local queue, date, out = ARGV[1], ARGV[2], {}
for i = 4, #ARGV do
  local id = ARGV[i]
  local key = 'rq:job:' .. id
  local job = redis.pcall('HMGET', key, 'origin', 'ttl')
  local into = job[1] and job[1] ~= '' and job[1] or queue
  local wrong_type = job.err and key or wrong('rq:queue:' .. into, 'list') or wrong('rq:queues', 'set')
  if wrong_type then return refuse(wrong_type) end
  if redis.call('ZREM', KEYS[1], id) == 0 then
    out[#out + 1] = 0
  elseif redis.call('EXISTS', key) == 0 then
    out[#out + 1] = -1
  else
    redis.call('HSET', key, 'status', 'queued', 'enqueued_at', date, 'started_at', '', 'ended_at', '')
    redis.call('HDEL', key, 'exc_info')
    if job[2] and (tonumber(job[2]) or 0) > 0 then
      keep(id, job[2])
    else
      redis.call('PERSIST', key)
      redis.call('PERSIST', key .. ':dependents')
      redis.call('PERSIST', 'rq:job::' .. id .. ':dependencies')
    end
    push(id, into, ARGV[3] == '1')
    out[#out + 1] = 1
  end
end
return out
`,
};

export function requeue(
  registry: Exclude<keys.RegistryName, 'wip'>,
  queue: string,
  ids: readonly string[],
  now: Date,
  atFront = false,
): Exchange<readonly Requeued[]> {
  if (ids.length === 0) return { commands: [], atomic: false, read: () => [] };
  // The id that is pushed to the front last runs first.
  const order = atFront ? [...ids].reverse() : ids;
  return {
    commands: [
      callScript(REQUEUE, [keys.registryKey(registry, queue)], [queue, dateText(now), atFront ? 1 : 0, ...order]),
    ],
    atomic: false,
    read: ([reply]) => {
      const states = (reply as readonly number[]).map((one): Requeued =>
        one === 1 ? 'queued' : one === 0 ? 'elsewhere' : 'gone',
      );
      return atFront ? states.reverse() : states;
    },
  };
}

/** What is deleted together with the job. */
export interface DeleteOptions {
  /** Also delete the job's dependents, and the dependents of those. @default false */
  readonly deleteDependents?: boolean;
}

/**
 * Deletes a job with everything that belongs to it: its place in queue and registries, its runs, its results, and its id in its group
 * and in the sets of its dependencies. Python leaves the last three. Returns how many jobs were deleted. A dependent that is not deleted
 * goes on waiting, as in RQ. Mirrors rq/job.py delete, delete_dependents (2.10). KEYS the hash. ARGV id, delete dependents.
 */
export const DELETE: Script = {
  name: 'delete',
  keys: 1,
  lua: `${SHARED}
local todo, seen, deleted = {ARGV[1]}, {[ARGV[1]] = true}, 0
local at = 1
while at <= #todo do
  local id = todo[at]
  at = at + 1
  local key = 'rq:job:' .. id
  local job = redis.pcall('HMGET', key, 'origin', 'group_id')
  if job[1] then
    local executions = take_off(id, job[1])
    redis.pcall('LREM', 'rq:queue:' .. job[1] .. ':intermediate', 0, id)
    for i = 1, #executions do redis.call('DEL', 'rq:execution:' .. id .. ':' .. executions[i]) end
  end
  if job[2] and job[2] ~= '' then redis.pcall('SREM', 'rq:group:' .. job[2], id) end
  local dependencies = redis.pcall('SMEMBERS', 'rq:job::' .. id .. ':dependencies')
  for i = 1, #dependencies do redis.pcall('SREM', 'rq:job:' .. dependencies[i] .. ':dependents', id) end
  if ARGV[2] == '1' then
    local waiting = redis.pcall('SMEMBERS', key .. ':dependents')
    for i = 1, #waiting do
      if not seen[waiting[i]] then
        seen[waiting[i]] = true
        todo[#todo + 1] = waiting[i]
      end
    end
  end
  deleted = deleted + redis.call('DEL', key)
  redis.call('DEL', key .. ':dependents', 'rq:job::' .. id .. ':dependencies', 'rq:results:' .. id, 'rq:executions:' .. id)
end
return deleted
`,
};

export function deleteJob(id: string, { deleteDependents = false }: DeleteOptions = {}): Exchange<number> {
  return {
    commands: [callScript(DELETE, [keys.jobKey(id)], [id, deleteDependents ? 1 : 0])],
    atomic: false,
    read: ([reply]) => reply as number,
  };
}
