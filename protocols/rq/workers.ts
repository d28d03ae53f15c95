import type { Buffer } from 'node:buffer';
import * as json from '../formats/json.ts';
import type { Command, Exchange } from '../redis.ts';
import * as keys from './keys.ts';
import { readDate } from './times.ts';

/**
 * What workers say of themselves, read; and what is said to them. Source: rq/worker/base.py, rq/command.py, rq/suspension.py
 * (2.10).
 */
export interface WorkerRecord {
  readonly name: string;
  readonly hostname: string;
  readonly pid: number | undefined;
  readonly ipAddress: string;
  readonly version: string;
  /** `node v20.20.2` of ours. */
  readonly pythonVersion: string;
  readonly queues: readonly string[];
  /** `started`, `idle`, `busy`, `suspended`; `?` where it says nothing. */
  readonly state: string;
  readonly currentJob: string | undefined;
  /** What runs, `id:execution`, of workers that run several at once; RQ up to 2.10 does not tell. */
  readonly executions: readonly string[];
  readonly birth: Date | undefined;
  readonly death: Date | undefined;
  readonly lastHeartbeat: Date | undefined;
  readonly successfulJobCount: number;
  readonly failedJobCount: number;
  /** Seconds. */
  readonly totalWorkingTime: number;
}

/** Names of all workers, or of those of one queue; also of some that have died since. */
export function workerNames(queue?: string): Exchange<readonly string[]> {
  return {
    commands: [['SMEMBERS', queue === undefined ? keys.WORKERS : keys.workersKey(queue)]],
    atomic: false,
    read: ([reply]) => (reply as readonly Buffer[]).map((key) => String(key).slice(keys.workerKey('').length)).sort(),
  };
}

/** Workers by name; undefined for one that is gone. Nothing in a record can break the listing of the others. */
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

/** Whether RQ of this version looks for results in the hash of the job only: RQ before 1.12. Not so what is no version of RQ: ours. */
export function readsHashOnly(version: string): boolean {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(version) ?? [];
  return major === '0' || (major === '1' && Number(minor) < 12);
}

/** What a worker is told over `rq:pubsub:W`. Source: rq/command.py. */
export type WorkerCommand =
  | { readonly command: 'shutdown' | 'kill-horse' }
  | { readonly command: 'stop-job'; readonly jobId: string }
  /** RQ after 2.12, and ours. */
  | { readonly command: 'stop-execution'; readonly jobId: string; readonly executionId: string };

/** Says it to a worker. Returns whether anybody listens under that name; nobody answers. Source: rq/command.py send_command. */
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

/** Workers start nothing more, for so many seconds or until `resume`; what runs goes on. */
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
