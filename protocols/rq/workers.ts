import type { Buffer } from 'node:buffer';
import * as json from '../formats/json.ts';
import type { Command, Exchange } from '../redis.ts';
import * as keys from './keys.ts';
import { readDate } from './times.ts';

/**
 * Reading the data of workers, and sending them commands. Source: rq/worker/base.py, rq/command.py, rq/suspension.py
 * (2.10).
 */
export interface WorkerRecord {
  readonly name: string;
  readonly hostname: string;
  readonly pid: number | undefined;
  readonly ipAddress: string;
  readonly version: string;
  /** `node v20.20.2` for a jobglot worker. */
  readonly pythonVersion: string;
  readonly queues: readonly string[];
  /** `started`, `idle`, `busy`, `suspended`; `?` if the field is missing. */
  readonly state: string;
  readonly currentJob: string | undefined;
  /** The runs, as `id:execution`, of workers that run several jobs at once. RQ up to 2.10 does not write them. */
  readonly executions: readonly string[];
  readonly birth: Date | undefined;
  readonly death: Date | undefined;
  readonly lastHeartbeat: Date | undefined;
  readonly successfulJobCount: number;
  readonly failedJobCount: number;
  /** Seconds. */
  readonly totalWorkingTime: number;
}

/** The names of all workers, or of the workers of one queue. Some of them may have died since. */
export function workerNames(queue?: string): Exchange<readonly string[]> {
  return {
    commands: [['SMEMBERS', queue === undefined ? keys.WORKERS : keys.workersKey(queue)]],
    atomic: false,
    read: ([reply]) => (reply as readonly Buffer[]).map((key) => String(key).slice(keys.workerKey('').length)).sort(),
  };
}

/** Workers by name; undefined for a worker that is gone. A broken record does not break the listing of the other workers. */
export function fetchWorkers(names: readonly string[]): Exchange<readonly (WorkerRecord | undefined)[]> {
  return {
    commands: names.flatMap((name): Command[] => [
      ['HGETALL', keys.workerKey(name)],
      ['SMEMBERS', keys.workerExecutionsKey(name)],
    ]),
    atomic: false,
    read: (replies) =>
      names.map((name, at) =>
        readWorker(name, replies[2 * at] as readonly Buffer[], replies[2 * at + 1] as readonly Buffer[]),
      ),
  };
}

function readWorker(name: string, flat: readonly Buffer[], executions: readonly Buffer[]): WorkerRecord | undefined {
  if (flat.length === 0) return undefined;
  const fields = new Map<string, string>();
  for (let at = 0; at + 1 < flat.length; at += 2) fields.set(String(flat[at]), String(flat[at + 1]));
  const text = (field: string): string => fields.get(field) ?? '';
  const number = (field: string): number => {
    const value = Number(text(field));
    return Number.isFinite(value) ? value : 0;
  };
  return {
    name,
    hostname: text('hostname'),
    pid: /^\d+$/.test(text('pid')) ? Number(text('pid')) : undefined,
    ipAddress: text('ip_address') || 'unknown',
    version: text('version'),
    pythonVersion: text('python_version'),
    queues: text('queues') === '' ? [] : text('queues').split(','),
    state: text('state') || '?',
    currentJob: text('current_job') || undefined,
    executions: executions.map(String),
    birth: readDate(text('birth')),
    death: readDate(text('death')),
    lastHeartbeat: readDate(text('last_heartbeat')),
    successfulJobCount: number('successful_job_count'),
    failedJobCount: number('failed_job_count'),
    totalWorkingTime: number('total_working_time'),
  };
}

/** Whether this RQ version reads results only from the job hash: RQ before 1.12. False for a text that is not an RQ version, such as jobglot's. */
export function readsHashOnly(version: string): boolean {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(version) ?? [];
  return major === '0' || (major === '1' && Number(minor) < 12);
}

/** A command to a worker on `rq:pubsub:W`. Source: rq/command.py. */
export type WorkerCommand =
  | { readonly command: 'shutdown' | 'kill-horse' }
  | { readonly command: 'stop-job'; readonly jobId: string }
  /** RQ after 2.12, and jobglot. */
  | { readonly command: 'stop-execution'; readonly jobId: string; readonly executionId: string };

/** Sends a command to a worker. Returns whether the worker's channel has a subscriber. Workers do not reply. Source: rq/command.py send_command. */
export function sendCommand(worker: string, told: WorkerCommand): Exchange<boolean> {
  const payload: Record<string, unknown> = { command: told.command };
  if ('jobId' in told) payload['job_id'] = told.jobId;
  if ('executionId' in told) payload['execution_id'] = told.executionId;
  return {
    commands: [['PUBLISH', keys.commandChannel(worker), json.stringify(payload)]],
    atomic: false,
    read: ([reply]) => (reply as number) > 0,
  };
}

/** Workers start no more jobs, for this many seconds or until `resume`. Running jobs go on. */
export function suspend(seconds?: number): Exchange<void> {
  const limit = seconds === undefined ? [] : ['EX', seconds];
  return { commands: [['SET', keys.SUSPENDED, 1, ...limit]], atomic: false, read: () => undefined };
}

export function resume(): Exchange<void> {
  return { commands: [['DEL', keys.SUSPENDED]], atomic: false, read: () => undefined };
}

export function isSuspended(): Exchange<boolean> {
  return { commands: [['EXISTS', keys.SUSPENDED]], atomic: false, read: ([reply]) => reply === 1 };
}
