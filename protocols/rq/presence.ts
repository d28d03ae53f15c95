import type { Buffer } from 'node:buffer';
import { callScript, type Exchange, type Script } from '../redis.ts';
import * as keys from './keys.ts';
import { settle, type WorkerChange } from './redis.ts';
import type { WorkerCommand } from './workers.ts';
import { dateText, epochSeconds, epochText } from './times.ts';

/** The fields that RQ shows of a worker: the hash `rq:worker:W`. Source: rq/worker/base.py serialize, register_birth. */
export interface WorkerRecord {
  readonly name: string;
  readonly queues: readonly string[];
  readonly birth: Date;
  readonly pid: number;
  readonly hostname: string;
  /** `address:port` of the worker's connection. */
  readonly ipAddress: string;
  readonly version: string;
  /** The runtime of the worker: `node v22.1.0`. */
  readonly pythonVersion: string;
}

export type WorkerState = 'started' | 'idle' | 'busy' | 'suspended';

/**
 * Registers a worker. Returns 0 if a worker of this name lives. KEYS rq:worker:W, rq:workers, rq:worker:W:executions, then rq:workers:Q. ARGV ttl, 1 to take
 * over the name of a worker that is known to be dead, then the hash.
 */
export const BIRTH: Script = {
  name: 'birth',
  keys: 'variable',
  lua: `
if ARGV[2] == '0' and redis.call('EXISTS', KEYS[1]) == 1 and redis.call('HEXISTS', KEYS[1], 'death') == 0 then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('SADD', KEYS[2], KEYS[1])
for i = 4, #KEYS do redis.call('SADD', KEYS[i], KEYS[1]) end
return 1
`,
};

export function birth(record: WorkerRecord, ttl: number, now: Date, takeOver = false): Exchange<boolean> {
  return {
    commands: [
      callScript(BIRTH, workerKeys(record), [ttl, takeOver ? 1 : 0, ...workerFields(record, now), 'state', 'started']),
    ],
    atomic: false,
    read: ([reply]) => reply === 1,
  };
}

/** The fields of the hash, in RQ's order. */
export function workerFields(record: WorkerRecord, now: Date): string[] {
  return [
    ['birth', dateText(record.birth)],
    ['last_heartbeat', dateText(now)],
    ['queues', record.queues.join(',')],
    ['pid', String(record.pid)],
    ['hostname', record.hostname],
    ['ip_address', record.ipAddress],
    ['version', record.version],
    ['python_version', record.pythonVersion],
  ].flat();
}

function workerKeys(record: WorkerRecord): string[] {
  const { name, queues } = record;
  return [keys.workerKey(name), keys.WORKERS, keys.workerExecutionsKey(name), ...queues.map(keys.workersKey)];
}

/** Removes a worker from the lists. Its hash is kept for a minute, as in RQ. Source: rq/worker/base.py register_death. */
export function unregister(worker: string, queues: readonly string[], now: Date): Exchange<void> {
  const key = keys.workerKey(worker);
  return {
    commands: [
      ['SREM', keys.WORKERS, key],
      ...queues.map((queue) => ['SREM', keys.workersKey(queue), key] as const),
      ['HSET', key, 'death', dateText(now)],
      ['EXPIRE', key, 60],
    ],
    atomic: true,
    read: () => undefined,
  };
}

/** A run that is still running. */
export interface Beat {
  readonly id: string;
  readonly execution: string;
  readonly queue: string;
}

/**
 * One heartbeat for a worker and all its runs. A worker whose hash has expired is registered again. A run that was taken from the
 * worker is not restored, and neither is a deleted job. Mirrors rq/worker/base.py maintain_heartbeats.
 *
 * KEYS rq:worker:W, rq:workers, rq:worker:W:executions, then rq:workers:Q. ARGV date, epoch, seconds, ttl of the runs, ttl of the worker, state, current job, working time, fields of
 * the worker, their number before them, then per run: id, execution, queue.
 * Returns the indexes of the runs that this worker does not hold any more.
 */
export const HEARTBEAT: Script = {
  name: 'heartbeat',
  keys: 'variable',
  lua: `
local date, epoch, now, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local count = tonumber(ARGV[9])
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], unpack(ARGV, 10, 9 + count))
end
-- Also where somebody took it for dead.
redis.call('HDEL', KEYS[1], 'death')
redis.call('SADD', KEYS[2], KEYS[1])
for i = 4, #KEYS do redis.call('SADD', KEYS[i], KEYS[1]) end
redis.call('HSET', KEYS[1], 'last_heartbeat', date, 'state', ARGV[6], 'current_job_working_time', ARGV[8])
if ARGV[7] == '' then redis.call('HDEL', KEYS[1], 'current_job') else redis.call('HSET', KEYS[1], 'current_job', ARGV[7]) end
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('EXPIRE', KEYS[3], ttl)
local lost = {}
for at = 10 + count, #ARGV, 3 do
  local id, e, queue = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local member = id .. ':' .. e
  -- A run whose keys are of another type gets no sign of life; the others do.
  local score = redis.pcall('ZSCORE', 'rq:wip:' .. queue, member)
  if type(score) == 'table' then score = false end
  if score then
    redis.call('ZADD', 'rq:wip:' .. queue, now + ttl, member)
    redis.pcall('HSET', 'rq:execution:' .. member, 'last_heartbeat', epoch)
    redis.call('EXPIRE', 'rq:execution:' .. member, ttl)
    redis.pcall('ZADD', 'rq:executions:' .. id, now + ttl + 60, e)
    redis.call('EXPIRE', 'rq:executions:' .. id, ttl + 60)
    if redis.call('EXISTS', 'rq:job:' .. id) == 1 then redis.pcall('HSET', 'rq:job:' .. id, 'last_heartbeat', date) end
  else
    lost[#lost + 1] = (at - 10 - count) / 3
  end
end
return lost
`,
};

export interface HeartbeatOptions {
  readonly record: WorkerRecord;
  readonly state: WorkerState;
  readonly currentJob: string | undefined;
  /** Seconds that `currentJob` has run. */
  readonly workingTime: number;
  /** Seconds that the heartbeat keeps the runs alive. */
  readonly ttl: number;
  /** Seconds that the heartbeat keeps the worker alive. Python uses `worker_ttl` plus 60, or the monitoring interval plus 60 while a job runs. */
  readonly workerTtl: number;
  readonly now: Date;
}

/** Sends the heartbeat. Returns the runs that this worker does not hold any more. */
export function heartbeat(runs: readonly Beat[], options: HeartbeatOptions): Exchange<readonly Beat[]> {
  const { record, state, currentJob, workingTime, ttl, workerTtl, now } = options;
  const fields = workerFields(record, now);
  const args = [
    dateText(now),
    epochText(now.getTime()),
    epochSeconds(now),
    ttl,
    workerTtl,
    state,
    currentJob ?? '',
    workingTime,
    fields.length,
    ...fields,
  ];
  for (const { id, execution, queue } of runs) args.push(id, execution, queue);
  return {
    commands: [callScript(HEARTBEAT, workerKeys(record), args)],
    atomic: false,
    read: ([reply]) => (reply as readonly number[]).map((at) => runs[at] as Beat),
  };
}

/** Writes a change of the worker's state. If the worker's hash has expired, nothing is written before its next heartbeat. */
export function show(change: WorkerChange | undefined): Exchange<void> {
  if (change === undefined) return { commands: [], atomic: false, read: () => undefined };
  return { ...settle([], change, new Date(0)), read: () => undefined };
}

/** Writes when the shutdown of the worker was requested, while it runs its last jobs. Source: rq/worker/base.py set_shutdown_requested_date. */
export function shutdownRequested(worker: string, now: Date): Exchange<void> {
  return {
    commands: [['HSET', keys.workerKey(worker), 'shutdown_requested_date', dateText(now)]],
    atomic: false,
    read: () => undefined,
  };
}

/** Whether the worker of this name is a jobglot worker, and the number of connections with its connection name. */
export function whoIs(
  worker: string,
  connection: string,
): Exchange<{ readonly ours: boolean; readonly clients: number }> {
  return {
    commands: [
      ['HGET', keys.workerKey(worker), 'version'],
      ['CLIENT', 'LIST', 'TYPE', 'normal'],
    ],
    atomic: false,
    read: ([version, clients]) => ({
      ours: String(version).startsWith('jobglot'),
      clients: String(clients)
        .split('\n')
        .filter((line) => line.includes(` name=${connection} `)).length,
    }),
  };
}

/** `address:port` of this connection, as RQ shows it; undefined if the server does not report it. */
export function clientAddress(): Exchange<string | undefined> {
  return {
    commands: [['CLIENT', 'INFO']],
    atomic: false,
    read: ([reply]) => / addr=(\S+)/.exec(String(reply))?.[1],
  };
}

/** The runs that Redis lists for this worker, each as `J:E`. */
export function ownExecutions(worker: string): Exchange<readonly string[]> {
  return {
    commands: [['SMEMBERS', keys.workerExecutionsKey(worker)]],
    atomic: false,
    read: ([reply]) => (reply as readonly Buffer[]).map(String),
  };
}

/**
 * Reads a message from `rq:pubsub:W`. Undefined for an unknown command, which is ignored, as in RQ. Text that is not JSON is ignored
 * too; RQ stops listening over it. Source: rq/command.py.
 */
export function readCommand(text: string): WorkerCommand | undefined {
  let read: unknown;
  try {
    read = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof read !== 'object' || read === null) return undefined;
  const { command, job_id: jobId, execution_id: executionId } = read as Readonly<Record<string, unknown>>;
  switch (command) {
    case 'shutdown':
    case 'kill-horse':
      return { command };
    case 'stop-job':
      return typeof jobId === 'string' ? { command, jobId } : undefined;
    case 'stop-execution':
      return typeof jobId === 'string' && typeof executionId === 'string' ? { command, jobId, executionId } : undefined;
    default:
      return undefined;
  }
}
