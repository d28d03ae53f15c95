import type { Buffer } from 'node:buffer';
import { WireError } from '../errors.ts';
import * as json from '../formats/json.ts';
import { callScript, type Exchange, type Script } from '../redis.ts';
import { callString } from './description.ts';
import { checkQueueName } from './keys.ts';
import { LOOKING } from './lua.ts';
import { type Call, type JobHash, writeCall, writeJob } from './message.ts';
import { type JobSettings, webhookRecord } from './options.ts';
import { dumps, type SerializerName } from './serializers.ts';
import { dueScore, epochSeconds } from './times.ts';

/** The data of a new job, except its options. */
export interface Making {
  readonly call: Call;
  readonly id: string;
  readonly queue: string;
  readonly serializer: SerializerName;
  readonly now: Date;
  /** When the job goes into its queue. @default now */
  readonly due?: Date | undefined;
}

/** A job to register: its hash, and its place once its dependencies have ended. */
export interface NewJob {
  readonly job: JobHash;
  readonly funcName: string;
  readonly queue: string;
  readonly atFront: boolean;
  readonly due: Date | undefined;
  readonly unique: boolean;
  /** The caller chose the id, so an earlier job may have had it. */
  readonly named: boolean;
}

/**
 * Makes a job as RQ's `create_job` does. Throws WireError `bad-queue`, `bad-option`, and `unencodable`, `too-deep` or `too-large` for
 * values that the serializer cannot write. Source: rq/queue.py create_job, _prepare_for_queue, enqueue_at; rq/job.py create (2.10).
 */
export function newJob(settings: JobSettings, making: Making): NewJob {
  const { call, id, now, due, serializer } = making;
  const queue = checkQueueName(making.queue);
  const { onSuccess, onFailure, onStopped, webhooks, dependencyIds, meta } = settings;
  if (due !== undefined) checkDue(due, settings, now);
  const job: Mutable<JobHash> = {
    id,
    createdAt: now,
    data: writeCall(serializer, call),
    origin: queue,
    description: settings.description === '' ? callString(call.funcName, call.args, call.kwargs) : settings.description,
    timeout: settings.timeout,
    status: due === undefined ? 'queued' : 'scheduled',
  };
  if (due === undefined) job.enqueuedAt = now;
  if (onSuccess !== undefined)
    [job.successCallbackName, job.successCallbackTimeout] = [onSuccess.name, onSuccess.timeout];
  if (onFailure !== undefined)
    [job.failureCallbackName, job.failureCallbackTimeout] = [onFailure.name, onFailure.timeout];
  if (onStopped !== undefined)
    [job.stoppedCallbackName, job.stoppedCallbackTimeout] = [onStopped.name, onStopped.timeout];
  if (settings.groupId !== undefined) job.groupId = settings.groupId;
  if (settings.retriesLeft !== undefined) job.retriesLeft = settings.retriesLeft;
  if (settings.retryIntervals !== undefined) job.retryIntervals = settings.retryIntervals;
  if (settings.enqueueAtFrontOnRetry) job.enqueueAtFrontOnRetry = true;
  if (settings.repeatsLeft !== undefined) job.repeatsLeft = settings.repeatsLeft;
  if (settings.repeatIntervals !== undefined) job.repeatIntervals = settings.repeatIntervals;
  if (webhooks.length > 0) job.webhooks = json.stringify(webhooks.map(webhookRecord));
  if (settings.resultTtl !== undefined) job.resultTtl = settings.resultTtl;
  if (settings.failureTtl !== undefined) job.failureTtl = settings.failureTtl;
  if (settings.ttl !== undefined) job.ttl = settings.ttl;
  if (dependencyIds.length > 0) job.dependencyIds = dependencyIds;
  if (settings.allowDependencyFailures !== undefined) job.allowDependencyFailures = settings.allowDependencyFailures;
  const later = due === undefined ? settings.enqueueAtFront : settings.atFront || undefined;
  if (later !== undefined) job.enqueueAtFront = later;
  if (meta !== undefined && (meta instanceof Map ? meta.size : Object.keys(meta).length) > 0)
    job.meta = dumps(serializer, meta, 'meta');
  return {
    job,
    funcName: call.funcName,
    queue,
    // The flag of a dependency counts even if the dependency has already ended. Python ignores it in `enqueue` and applies it in `enqueue_many`.
    atFront: settings.atFront || settings.enqueueAtFront === true,
    due,
    unique: settings.unique,
    named: settings.id !== undefined,
  };
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

function checkDue(due: Date, { dependencyIds, ttl }: JobSettings, now: Date): void {
  if (!Number.isFinite(due.getTime())) throw new WireError('rq', 'bad-option', 'at must be a valid Date');
  // RQ stores the dependencies of such a job, but runs it when it is due, even if they have not ended.
  if (dependencyIds.length > 0)
    throw new WireError('rq', 'bad-option', 'dependsOn cannot be had with in or at: RQ would not wait for it');
  if (ttl !== undefined && due.getTime() - now.getTime() >= ttl * 1000)
    throw new WireError('rq', 'bad-option', `ttl ends before the job is due: ${ttl} seconds, due ${due.toISOString()}`);
}

/** A job by its id, and the ids of those it depends on. */
export interface Ordered {
  readonly job: Pick<JobHash, 'id' | 'dependencyIds'>;
}

/**
 * Orders a batch so that a job comes after the jobs it depends on. Otherwise the order is kept. Throws WireError `bad-option` for a circle
 * of dependencies, whose jobs would wait for ever, and for an id that occurs twice.
 */
export function inOrder<Job extends Ordered>(jobs: readonly Job[]): readonly Job[] {
  const byId = new Map(jobs.map((one) => [one.job.id, one]));
  if (byId.size < jobs.length) {
    const twice = jobs.find((one) => byId.get(one.job.id) !== one) as Job;
    throw new WireError('rq', 'bad-option', `jobId: ${twice.job.id} is there twice`);
  }
  if (!jobs.some(({ job }) => job.dependencyIds?.some((id) => byId.has(id)) === true)) return jobs;
  const waiting = new Map<string, number>();
  const followers = new Map<string, Job[]>();
  for (const one of jobs) {
    const inside = (one.job.dependencyIds ?? []).filter((id) => byId.has(id));
    waiting.set(one.job.id, inside.length);
    for (const id of inside) followers.set(id, [...(followers.get(id) ?? []), one]);
  }
  const order = jobs.filter(({ job }) => waiting.get(job.id) === 0);
  for (let at = 0; at < order.length; at++) {
    for (const follower of followers.get((order[at] as Job).job.id) ?? []) {
      const left = (waiting.get(follower.job.id) as number) - 1;
      waiting.set(follower.job.id, left);
      if (left === 0) order.push(follower);
    }
  }
  if (order.length === jobs.length) return order;
  const circle = jobs.filter(({ job }) => (waiting.get(job.id) as number) > 0).map(({ job }) => job.id);
  throw new WireError('rq', 'bad-option', `dependsOn: ${circle.slice(0, 5).join(', ')} wait for each other`);
}

/** The state of a new job. `duplicate`: a job with its id existed, so this job was not registered. */
export interface Registered {
  readonly state: 'queued' | 'scheduled' | 'deferred' | 'duplicate';
  /** The id of the last result of an earlier job with this id: `<milliseconds>-<number>`. */
  readonly after: string | undefined;
}

/**
 * Registers jobs. Each job is registered in one step with its hash, its dependencies, its place in queue or schedule, and its group. No
 * other process sees a job half registered, and no dependency ends between the check and the registration.
 *
 * A dependency is met if it is gone or finished. A failed one is met too if failures are allowed, so that the job does not wait for
 * something that has already happened. (A job of Python waits for ever then.) A `ttl` counts from now. A job without a `ttl` does not
 * expire, even if an earlier job with its id was about to expire.
 *
 * Mirrors rq/queue.py enqueue_job, setup_dependencies, schedule_job, enqueue_many; rq/job.py register_dependency,
 * dependencies_are_met; rq/scripts.py; rq/group.py enqueue_many (2.10). Python needs four to six round trips for the same.
 *
 * KEYS rq:queues. ARGV score for deferred jobs, then per job: id, queue, where (R, L, or its score), ttl, unique, named, failures
 * allowed, group, number of dependencies, dependencies, number of fields, fields.
 * Returns per job 0 duplicate, 1 queued, 2 scheduled, 3 deferred, and the id of its last result or an empty text.
 */
export const REGISTER: Script = {
  name: 'register',
  keys: 1,
  lua: `${LOOKING}
if wrong(KEYS[1], 'set') then return refuse(KEYS[1]) end
local score, at, out, known = ARGV[1], 2, {}, {}
while at <= #ARGV do
  local id, queue, where, ttl, unique, named, failures, group = unpack(ARGV, at, at + 7)
  local deps = at + 9
  local fields = deps + tonumber(ARGV[at + 8]) + 1
  local last = fields + tonumber(ARGV[fields - 1]) - 1
  at = last + 1
  local key = 'rq:job:' .. id
  local state, before = 0, ''
  if unique == '0' or redis.call('EXISTS', key) == 0 then
    local there, waits = {}, false
    for i = deps, fields - 2 do
      local status = redis.pcall('HGET', 'rq:job:' .. ARGV[i], 'status')
      if type(status) == 'string' then
        local ended = status == 'finished' or (status == 'failed' and failures == '1')
        there[#there + 1] = {ARGV[i], status == 'finished' or status == 'failed'}
        if not ended then waits = true end
      end
    end
    if named == '1' then
      local result = redis.call('EXISTS', 'rq:results:' .. id) == 1 and redis.call('XREVRANGE', 'rq:results:' .. id, '+', '-', 'COUNT', 1)
      if result and result[1] then before = result[1][1] end
    end
    local list = (where == 'R' or where == 'L') and wrong('rq:queue:' .. queue, 'list')
    local wrong_type = waits and wrong('rq:deferred:' .. queue, 'zset') or not waits and (list or where ~= 'R' and where ~= 'L' and wrong('rq:scheduled:' .. queue, 'zset'))
      or group ~= '' and (wrong('rq:group:' .. group, 'set') or wrong('rq:groups', 'set'))
      or waits and wrong('rq:job::' .. id .. ':dependencies', 'set')
    for i = 1, waits and #there or 0 do wrong_type = wrong_type or wrong('rq:job:' .. there[i][1] .. ':dependents', 'set') end
    if wrong_type then return refuse(wrong_type) end
    redis.call('HSET', key, unpack(ARGV, fields, last))
    if waits then
      state = 3
      redis.call('HSET', key, 'status', 'deferred')
      redis.call('HDEL', key, 'enqueued_at')
      redis.call('ZADD', 'rq:deferred:' .. queue, score, id)
      for i = 1, #there do
        local dependents = 'rq:job:' .. there[i][1] .. ':dependents'
        redis.call('SADD', dependents, id)
        redis.call('SADD', 'rq:job::' .. id .. ':dependencies', there[i][1])
        -- The set of one that has ended goes with it.
        local left = there[i][2] and redis.call('TTL', 'rq:job:' .. there[i][1]) or -1
        if left > 0 then redis.call('EXPIRE', dependents, left) end
      end
    elseif where == 'R' then
      state = 1
      redis.call('RPUSH', 'rq:queue:' .. queue, id)
    elseif where == 'L' then
      state = 1
      redis.call('LPUSH', 'rq:queue:' .. queue, id)
    else
      state = 2
      redis.call('ZADD', 'rq:scheduled:' .. queue, where, id)
    end
    if ttl ~= '' then
      redis.call('EXPIRE', key, ttl)
      redis.call('EXPIRE', key .. ':dependents', ttl)
      redis.call('EXPIRE', 'rq:job::' .. id .. ':dependencies', ttl)
    elseif named == '1' then
      redis.call('PERSIST', key)
      redis.call('PERSIST', key .. ':dependents')
    end
    if group ~= '' then
      redis.call('SADD', 'rq:group:' .. group, id)
      redis.call('SADD', 'rq:groups', group)
    end
    if not known[queue] then
      known[queue] = true
      redis.call('SADD', KEYS[1], 'rq:queue:' .. queue)
    end
  end
  out[#out + 1] = state
  out[#out + 1] = before
end
return out
`,
};

/** The score of deferred jobs. Use `+inf` if workers of RQ 2.0 to 2.7 clean the registries: they fail deferred jobs with another score. */
export type DeferredScore = 'now' | '+inf';

/**
 * Registers jobs in one script: it writes their hashes and puts each job into its queue, its registry or the sets of its dependencies. The reply has the
 * state of each job, in the order of `jobs`. `deferredScore` is the score of deferred jobs. Source: rq/queue.py enqueue_job, enqueue_many, setup_dependencies.
 */
export function register(
  jobs: readonly NewJob[],
  now: Date,
  deferredScore: DeferredScore = 'now',
): Exchange<readonly Registered[]> {
  if (jobs.length === 0) return { commands: [], atomic: false, read: () => [] };
  const args: (string | number | Buffer)[] = [deferredScore === 'now' ? epochSeconds(now) : deferredScore];
  for (const { job, queue, atFront, due, unique, named } of jobs) {
    const { dependencyIds = [], ttl, groupId, allowDependencyFailures } = job;
    const fields = writeJob(job);
    args.push(job.id, queue, due === undefined ? (atFront ? 'L' : 'R') : dueScore(due), ttl ?? '');
    args.push(unique ? 1 : 0, named ? 1 : 0, allowDependencyFailures === true ? 1 : 0, groupId ?? '');
    args.push(dependencyIds.length, ...dependencyIds, fields.length, ...fields);
  }
  return {
    commands: [callScript(REGISTER, ['rq:queues'], args)],
    atomic: false,
    read: ([reply]) => readRegistered(reply),
  };
}

const STATES = ['duplicate', 'queued', 'scheduled', 'deferred'] as const;

function readRegistered(reply: unknown): readonly Registered[] {
  const flat = reply as readonly (number | Buffer)[];
  const registered: Registered[] = [];
  for (let at = 0; at < flat.length; at += 2) {
    const after = String(flat[at + 1]);
    registered.push({
      state: STATES[flat[at] as number] as Registered['state'],
      after: after === '' ? undefined : after,
    });
  }
  return registered;
}
