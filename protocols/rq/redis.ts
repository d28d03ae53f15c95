import type { Buffer } from 'node:buffer';
import { callScript, type Command, type Exchange, type Script } from '../redis.ts';
import * as keys from './keys.ts';
import { LOOKING, RELEASING } from './lua.ts';
import { type JobHash, readJob } from './message.ts';
import { dateText, epochSeconds, epochText } from './times.ts';

/**
 * RQ's transitions as round trips. Each is one script that handles many jobs. Python needs three transactions and some single commands
 * for the same. Here no other process sees a transition half done. Scripts move values as bytes and do not parse them.
 */

/** Identifies a worker, and says how long it counts as alive without a heartbeat. */
export interface Claimant {
  readonly worker: string;
  /** The id of an execution is this prefix and twelve hex digits. */
  readonly prefix: string;
  /** Seconds without a heartbeat after which a run counts as abandoned. Python uses the monitoring interval plus 60. */
  readonly ttl: number;
}

export interface ClaimOptions extends Claimant {
  readonly max: number;
  /** The number of the first execution. */
  readonly number: number;
  readonly now: Date;
  /** `order`: takes all jobs of the first queue first. `turns`: takes one job of each queue in turn. */
  readonly strategy: 'order' | 'turns';
  /** Stop after this many bytes of hashes. */
  readonly batchBytes: number;
}

/** One run of a job that was started. */
export interface Claimed {
  readonly queue: string;
  readonly id: string;
  readonly execution: string;
  /** The hash as it was before the run, flat. */
  readonly fields: readonly Buffer[];
}

/** Why the job of an id cannot be started. */
export type QuarantineCode = 'bad-id' | 'not-a-hash';

export interface ClaimReply {
  /** `rq suspend` was called, so no job was taken. */
  readonly suspended: boolean;
  readonly claimed: readonly Claimed[];
  /** Ids that name no job. They are kept in quarantine. */
  readonly aside: readonly { readonly queue: string; readonly id: Buffer; readonly code: QuarantineCode }[];
  /** How many ids were removed because their job no longer exists: its `ttl` passed, or it was deleted. */
  readonly gone: number;
  /** Every queue was empty. */
  readonly drained: boolean;
  /** Queues with a key of the wrong type. No job is taken from them. */
  readonly wrongType: readonly string[];
}

/**
 * Takes up to `max` jobs and starts them, in one step. At no moment is an id only in this process, so the intermediate list is not
 * needed. Running jobs are listed as Python lists them, and under `rq:worker:W:executions` as RQ after 2.12 lists them. Mirrors
 * rq/queue.py dequeue_any, rq/executions.py create, rq/worker/base.py prepare_job_execution, rq/job.py perform.
 *
 * The script reads the ids first and removes them last. A script that ends in an error has therefore lost no id.
 *
 * KEYS rq:suspended, rq:worker:W:executions, then for each queue its list, `rq:wip:Q`, the quarantine and its reasons.
 * ARGV max, prefix, number, date, epoch, deadline, ttl, worker, strategy, bytes, then the queues' names.
 * Returns [suspended, claimed, aside, gone, drained, wrong_type]; claimed is flat: queue number, id, hash; aside: queue number, id, code;
 * wrong_type: queue numbers.
 */
export const CLAIM: Script = {
  name: 'claim',
  keys: 'variable',
  lua: `${LOOKING}
if wrong(KEYS[2], 'set') then return refuse(KEYS[2]) end
if redis.call('EXISTS', KEYS[1]) == 1 then return {1, {}, {}, 0, 0, {}} end
local left, prefix, number, date, epoch, deadline, ttl, worker, strategy, budget = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8], ARGV[9], tonumber(ARGV[10])
local claimed, aside, members, wip, gone, seen, wrong_type, is_wrong_type = {}, {}, {}, {}, 0, 0, {}, {}
local function start(q, id, key, hash)
  local e = prefix .. string.format('%012x', number)
  number = number + 1
  redis.call('HSET', key, 'last_heartbeat', date, 'status', 'started', 'started_at', date, 'worker_name', worker, 'origin', ARGV[10 + q])
  if redis.call('PERSIST', key) == 1 then
    redis.call('PERSIST', key .. ':dependents')
    redis.call('PERSIST', 'rq:job::' .. id .. ':dependencies')
  end
  local member = id .. ':' .. e
  redis.call('HSET', 'rq:execution:' .. member, 'id', e, 'created_at', epoch, 'last_heartbeat', epoch, 'job_id', id, 'worker_name', worker)
  redis.call('EXPIRE', 'rq:execution:' .. member, ttl)
  -- Whatever lies there: the job runs without being listed under itself.
  redis.pcall('ZADD', 'rq:executions:' .. id, deadline + 60, e)
  redis.call('EXPIRE', 'rq:executions:' .. id, ttl + 60)
  members[#members + 1] = member
  local w = wip[q]
  if not w then w = {} wip[q] = w end
  w[#w + 1] = deadline
  w[#w + 1] = member
  claimed[#claimed + 1] = q
  claimed[#claimed + 1] = id
  claimed[#claimed + 1] = hash
  left = left - 1
end
local function set_aside(q, id, code)
  local k = 4 * q + 1
  redis.call('RPUSH', KEYS[k], id)
  redis.call('RPUSH', KEYS[k + 1], code)
  aside[#aside + 1] = q
  aside[#aside + 1] = id
  aside[#aside + 1] = code
end
-- Python reads ids as UTF-8, in all its registries.
local function is_text(id)
  if not string.find(id, '[\\128-\\255]') then return true end
  local rest = id
  for _, character in ipairs({
    '[\\194-\\223][\\128-\\191]', '\\224[\\160-\\191][\\128-\\191]', '[\\225-\\236\\238\\239][\\128-\\191][\\128-\\191]',
    '\\237[\\128-\\159][\\128-\\191]', '\\240[\\144-\\191][\\128-\\191][\\128-\\191]',
    '[\\241-\\243][\\128-\\191][\\128-\\191][\\128-\\191]', '\\244[\\128-\\143][\\128-\\191][\\128-\\191]'
  }) do rest = string.gsub(rest, character, '-') end
  return not string.find(rest, '[\\128-\\255]')
end
local function take(q, id)
  seen = seen + 1
  if id == '' or string.find(id, ':', 1, true) or not is_text(id) then return set_aside(q, id, 'bad-id') end
  local key = 'rq:job:' .. id
  local hash = redis.pcall('HGETALL', key)
  if hash.err then return set_aside(q, id, 'not-a-hash') end
  if #hash == 0 then
    gone = gone + 1
    return
  end
  for i = 2, #hash, 2 do budget = budget - #hash[i] end
  start(q, id, key, hash)
end
local function waiting(q, last)
  local k = 4 * q - 1
  if is_wrong_type[q] == nil then
    -- Where its ends cannot be written, none of its jobs is begun.
    is_wrong_type[q] = (wrong(KEYS[k], 'list') or wrong(KEYS[k + 1], 'zset') or wrong(KEYS[k + 2], 'list') or wrong(KEYS[k + 3], 'list')
      or wrong('rq:finished:' .. ARGV[10 + q], 'zset') or wrong('rq:failed:' .. ARGV[10 + q], 'zset')) ~= false
    if is_wrong_type[q] then wrong_type[#wrong_type + 1] = q end
  end
  if is_wrong_type[q] then return {} end
  return redis.call('LRANGE', KEYS[k], 0, last)
end
local queues, drained = (#KEYS - 2) / 4, 1
if strategy == 'order' then
  for q = 1, queues do
    local list = KEYS[4 * q - 1]
    while left > 0 and budget > 0 and seen < 2000 do
      local ids = waiting(q, left - 1)
      if #ids == 0 then break end
      local taken = 0
      for i = 1, #ids do
        if budget <= 0 then break end
        take(q, ids[i])
        taken = i
      end
      redis.call('LTRIM', list, taken, -1)
    end
    if left <= 0 or budget <= 0 or seen >= 2000 then
      drained = 0
      break
    end
  end
else
  local found = true
  while found and left > 0 and budget > 0 and seen < 2000 do
    found = false
    for q = 1, queues do
      if left <= 0 or budget <= 0 then break end
      local list = KEYS[4 * q - 1]
      local ids = waiting(q, 0)
      if #ids == 1 then
        found = true
        take(q, ids[1])
        redis.call('LTRIM', list, 1, -1)
      end
    end
  end
  if found then drained = 0 end
end
for q, w in pairs(wip) do redis.call('ZADD', KEYS[4 * q], unpack(w)) end
if #members > 0 then
  redis.call('SADD', KEYS[2], unpack(members))
  redis.call('EXPIRE', KEYS[2], ttl)
end
return {0, claimed, aside, gone, drained, wrong_type}
`,
};

/** The number of jobs a script can pass as arguments of one call. */
export const MOST_CLAIMED = 2000;

export function claim(queues: readonly string[], options: ClaimOptions): Exchange<ClaimReply> {
  const { prefix, number, now, ttl, worker, strategy, batchBytes } = options;
  const max = Math.min(options.max, MOST_CLAIMED);
  const scriptKeys = [keys.SUSPENDED, keys.workerExecutionsKey(worker)];
  for (const queue of queues)
    scriptKeys.push(
      keys.queueKey(queue),
      keys.registryKey('wip', queue),
      keys.quarantineKey(queue),
      keys.quarantineReasonsKey(queue),
    );
  const seconds = epochSeconds(now);
  const args = [max, prefix, number, dateText(now), epochText(now.getTime()), seconds + ttl, ttl, worker, strategy];
  return {
    commands: [callScript(CLAIM, scriptKeys, [...args, batchBytes, ...queues])],
    atomic: false,
    read: ([reply]) => readClaim(reply, queues, prefix, number),
  };
}

function readClaim(reply: unknown, queues: readonly string[], prefix: string, first: number): ClaimReply {
  const [suspended, flat, odd, gone, drained, wrong] = reply as [
    number,
    unknown[],
    unknown[],
    number,
    number,
    number[],
  ];
  const claimed: Claimed[] = [];
  for (let at = 0; at < flat.length; at += 3) {
    claimed.push({
      queue: queues[(flat[at] as number) - 1] as string,
      id: (flat[at + 1] as Buffer).toString('utf8'),
      execution: executionName(prefix, first + at / 3),
      fields: flat[at + 2] as Buffer[],
    });
  }
  const aside: ClaimReply['aside'][number][] = [];
  for (let at = 0; at < odd.length; at += 3) {
    const code = String(odd[at + 2]) as QuarantineCode;
    aside.push({ queue: queues[(odd[at] as number) - 1] as string, id: odd[at + 1] as Buffer, code });
  }
  const wrongType = wrong.map((queue) => queues[queue - 1] as string);
  return { suspended: suspended === 1, claimed, aside, gone, drained: drained === 1, wrongType };
}

export function executionName(prefix: string, number: number): string {
  return prefix + number.toString(16).padStart(12, '0');
}

/** Whether there is a job to claim. It only reads, so that a connection that tracks keys is notified when the answer changes. */
export const LOOK: Script = {
  name: 'look',
  keys: 'variable',
  lua: `
local waiting = 0
for i = 2, #KEYS do
  local length = redis.pcall('LLEN', KEYS[i])
  if type(length) == 'number' and length > 0 then waiting = 1 end
end
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
return waiting
`,
};

export function anyWaiting(queues: readonly string[]): Exchange<boolean> {
  return {
    commands: [callScript(LOOK, [keys.SUSPENDED, ...queues.map(keys.queueKey)], [])],
    atomic: false,
    read: ([reply]) => reply === 1,
  };
}

/** What to write for the end of one run. A script writes it exactly. */
export interface Settlement {
  readonly id: string;
  /** Undefined for a run of RQ 1, which has no execution id. */
  readonly execution: string | undefined;
  /** The queue the job was found in. */
  readonly queue: string;
  /** Set for a run of a worker that is gone: settle it only if its deadline was not after this. @default the run is our own */
  readonly abandonedBefore?: number;
  /** Fields of the hash to set. A field with an undefined value is removed. */
  readonly fields: readonly (readonly [name: string, value: string | Uint8Array | undefined])[];
  /** Seconds the hash is kept: 0 deletes the job, -1 keeps it for ever, undefined leaves it as it is. */
  readonly ttl: number | undefined;
  /** One entry of the results, flat, and the seconds the results are kept; -1 is for ever. */
  readonly result?: { readonly entry: readonly string[]; readonly ttl: number | undefined };
  readonly registry?: { readonly name: 'finished' | 'failed'; readonly score: number | '+inf' };
  /** Where the job goes next: into a queue, or into the schedule. */
  readonly next?:
    { readonly push: 'head' | 'tail'; readonly queue: string } | { readonly at: number; readonly queue: string };
  /** How the job ended, for its dependents. Undefined if it has not ended. */
  readonly ended?: 'finished' | 'failed' | 'stopped';
  /** Why it failed, for the job's webhooks. */
  readonly excString?: string;
  /** Which counter of the worker is increased. */
  readonly counted?: 'successful' | 'failed';
  /** Seconds it ran. */
  readonly seconds: number;
  /** The id names no job: it goes into quarantine with this reason. */
  readonly aside?: string;
}

/** The worker's new state, written together with the runs it settles. */
export interface WorkerChange {
  readonly worker: string;
  readonly state?: string;
  /** Null: it runs no job. */
  readonly currentJob?: string | null;
}

/**
 * The result of a settlement. `done`: it was written. `NotOurs`: the worker did not hold the run any more, and nothing was written.
 * `WrongType`: it cannot be written.
 */
export type Settled = 'done' | NotOurs | WrongType;

/** The worker did not hold the run any more. `status` is the job's status now, undefined if the job is gone. */
export interface NotOurs {
  readonly status: string | undefined;
}
/** A key to write to has the wrong type, so nothing was written. The run can be settled once the key is repaired. */
export interface WrongType {
  readonly wrongType: string;
}

/**
 * Ends runs. If a run was taken from us (its job was given to another worker, cancelled or deleted), its end is not written. A job
 * that was deleted meanwhile does not come back. Dependents are released in the step that writes the status they wait for.
 * Mirrors rq/worker/base.py handle_job_success, handle_job_failure, handle_job_retry; rq/job.py retry, _handle_success,
 * _handle_failure, cleanup, dependencies_are_met; rq/queue.py enqueue_dependents; rq/repeat.py schedule.
 *
 * It also ends runs of another worker that is gone. Then the script checks the run's deadline, and not its worker.
 *
 * KEYS rq:worker:W, rq:worker:W:executions. ARGV date, seconds, state, current job ('-' for none, empty for no change), worker, number of items, then per item:
 * id, execution, queue, abandoned before, ttl, result ttl, registry, score, next (H, T, or a score), next queue, ended, counted, seconds, aside,
 * number of fields, fields, number of result fields, result fields. An empty text means that the value is not given.
 * Returns per item 1, or the job's status if the worker does not hold the run, or 0 if the job is gone, or a list with the key of the wrong type.
 */
export const SETTLE: Script = {
  name: 'settle',
  keys: 2,
  lua: `${RELEASING}
local date, at, out, gone = ARGV[1], 6, {}, {}
local worker, executions = KEYS[1], KEYS[2]
local good, bad, seconds = 0, 0, 0

local function is_ours(id, e, queue, member, before)
  local wip = 'rq:wip:' .. queue
  if before ~= '' then
    local score = redis.call('ZSCORE', wip, member)
    if not score or tonumber(score) > tonumber(before) then return false end
    redis.call('ZREM', wip, member)
    return true
  end
  if redis.call('ZREM', wip, member) == 1 then return true end
  -- RQ 1 takes off what it does not understand, and then nobody else has it.
  local job = redis.pcall('HMGET', 'rq:job:' .. id, 'status', 'worker_name')
  return job[1] == 'started' and job[2] == ARGV[5] and redis.pcall('ZCARD', 'rq:executions:' .. id) == 1
    and redis.call('ZSCORE', 'rq:executions:' .. id, e) ~= false
end

for item = 1, tonumber(ARGV[6]) do
  local a = at
  local id, e, queue, before, ttl, result_ttl, registry, score, next_, next_queue, ended, counted, ran, aside = unpack(ARGV, a + 1, a + 14)
  local fields = a + 15
  local results = fields + tonumber(ARGV[fields]) + 1
  at = results + tonumber(ARGV[results])
  local key, member = 'rq:job:' .. id, id
  if e ~= '' then member = id .. ':' .. e end
  local kind = redis.call('TYPE', key).ok
  local exists = kind ~= 'none'
  -- One job that cannot be written is not written half, and the others are.
  local wrong_type = aside == '' and kind ~= 'hash' and exists and key or wrong('rq:wip:' .. queue, 'zset')
    or at > results and ttl ~= '0' and wrong('rq:results:' .. id, 'stream')
    or registry ~= '' and wrong(registry, 'zset')
    or (next_ == 'H' or next_ == 'T') and (wrong('rq:queue:' .. next_queue, 'list') or wrong('rq:queues', 'set'))
    or next_ ~= '' and next_ ~= 'H' and next_ ~= 'T' and wrong('rq:scheduled:' .. next_queue, 'zset')
    or aside ~= '' and (wrong('jobglot:rq:quarantine:' .. queue, 'list') or wrong('jobglot:rq:quarantine:' .. queue .. ':why', 'list'))
  if wrong_type then
    out[item] = {wrong_type}
  else
    local ours = is_ours(id, e, queue, member, before)
    if ours and exists then
      out[item] = 1
      if aside ~= '' then
        redis.call('RPUSH', 'jobglot:rq:quarantine:' .. queue, id)
        redis.call('RPUSH', 'jobglot:rq:quarantine:' .. queue .. ':why', aside)
      else
        local set, take = {}, {}
        for i = fields + 1, results - 1, 3 do
          if ARGV[i + 2] == '1' then
            set[#set + 1] = ARGV[i]
            set[#set + 1] = ARGV[i + 1]
          else
            take[#take + 1] = ARGV[i]
          end
        end
        -- What is taken away may be set anew: a status that was none.
        if ttl ~= '0' and #take > 0 then redis.call('HDEL', key, unpack(take)) end
        if ttl ~= '0' and #set > 0 then redis.call('HSET', key, unpack(set)) end
        if ended ~= '' then release(id, ended, date) end
        if at > results and ttl ~= '0' then
          local stream = 'rq:results:' .. id
          redis.call('XADD', stream, 'MAXLEN', '~', 10, '*', unpack(ARGV, results + 1, at))
          if result_ttl == '-1' then redis.call('PERSIST', stream)
          elseif result_ttl ~= '' then redis.call('EXPIRE', stream, result_ttl) end
        end
        if ttl == '0' then
          local group = redis.call('HGET', key, 'group_id')
          if group and group ~= '' then redis.pcall('SREM', 'rq:group:' .. group, id) end
          redis.call('DEL', key, key .. ':dependents', 'rq:job::' .. id .. ':dependencies', 'rq:results:' .. id)
        else
          if registry ~= '' then redis.call('ZADD', registry, score, id) end
          if next_ == 'H' or next_ == 'T' then push(id, next_queue, next_ == 'H')
          elseif next_ ~= '' then redis.call('ZADD', 'rq:scheduled:' .. next_queue, next_, id) end
          if ttl ~= '' and ttl ~= '-1' then keep(id, ttl) end
        end
      end
      if counted == 'successful' then good = good + 1 elseif counted == 'failed' then bad = bad + 1 end
      seconds = seconds + tonumber(ran)
    else
      local status = exists and redis.pcall('HGET', key, 'status')
      out[item] = exists and (type(status) == 'string' and status or '') or 0
    end
    if e ~= '' then
      redis.call('DEL', 'rq:execution:' .. member)
      redis.pcall('ZREM', 'rq:executions:' .. id, e)
      gone[#gone + 1] = member
    end
  end
end
if #gone > 0 and not wrong(executions, 'set') then redis.call('SREM', executions, unpack(gone)) end
-- A worker that counts as dead is not brought back by a counter.
if worker ~= '' and redis.call('EXISTS', worker) == 1 and not wrong(worker, 'hash') then
  if good > 0 then redis.pcall('HINCRBY', worker, 'successful_job_count', good) end
  if bad > 0 then redis.pcall('HINCRBY', worker, 'failed_job_count', bad) end
  if seconds > 0 then redis.pcall('HINCRBYFLOAT', worker, 'total_working_time', string.format('%.6f', seconds)) end
  if ARGV[3] ~= '' then redis.call('HSET', worker, 'state', ARGV[3]) end
  if ARGV[4] == '-' then redis.call('HDEL', worker, 'current_job')
  elseif ARGV[4] ~= '' then redis.call('HSET', worker, 'current_job', ARGV[4]) end
end
return out
`,
};

export function settle(settlements: readonly Settlement[], by: WorkerChange, now: Date): Exchange<readonly Settled[]> {
  const commands: Command[] = [];
  let at = 0;
  // Runs once even without settlements, to write the change of the worker.
  do {
    const some = settlements.slice(at, at + SETTLED_AT_ONCE);
    at += some.length;
    const last = at === settlements.length;
    const args: Argument[] = [dateText(now), epochSeconds(now), (last ? by.state : undefined) ?? ''];
    const current = by.currentJob === null ? '-' : (by.currentJob ?? '');
    args.push(last ? current : '', by.worker, some.length);
    for (const settlement of some) addSettlement(args, settlement);
    commands.push(callScript(SETTLE, [keys.workerKey(by.worker), keys.workerExecutionsKey(by.worker)], args));
  } while (at < settlements.length);
  return {
    commands,
    atomic: false,
    read: (replies) =>
      (replies as readonly (readonly (number | Buffer | readonly Buffer[])[])[]).flat().map((one): Settled => {
        if (one === 1) return 'done';
        return Array.isArray(one) ? { wrongType: String(one[0]) } : { status: one === 0 ? undefined : String(one) };
      }),
  };
}

/** Redis runs nothing else during a script. A hundred jobs take about two milliseconds. */
const SETTLED_AT_ONCE = 100;

type Argument = string | number | Uint8Array;

function addSettlement(args: Argument[], settlement: Settlement): void {
  const { id, execution, queue, abandonedBefore, ttl, result, registry, next, ended, counted, aside } = settlement;
  args.push(id, execution ?? '', queue, abandonedBefore ?? '', ttl ?? '', result?.ttl ?? '');
  args.push(registry === undefined ? '' : keys.registryKey(registry.name, queue), registry?.score ?? '');
  args.push(next === undefined ? '' : 'push' in next ? (next.push === 'head' ? 'H' : 'T') : next.at, next?.queue ?? '');
  args.push(ended ?? '', counted ?? '', settlement.seconds, aside ?? '');
  args.push(settlement.fields.length * 3);
  for (const [name, value] of settlement.fields) args.push(name, value ?? '', value === undefined ? 0 : 1);
  const entry = result?.entry ?? [];
  args.push(entry.length, ...entry);
}

/** One job as it is now; undefined if it does not exist. */
export function fetchJob(id: string): Exchange<JobHash | undefined> {
  return {
    commands: [['HGETALL', keys.jobKey(id)]],
    atomic: false,
    read: ([reply]) => readJob(id, reply as Buffer[])?.job,
  };
}
