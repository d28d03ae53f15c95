import type { Explanation } from '../protocols/explanation.ts';

/**
 * The jobs, queues and workers of a system, and the actions on them. One interface for every system: a board, `jobglot inspect`, metrics of queues
 * and checks are written against it. The abilities of a system are data (`can`, `sets`), so that no caller asks which system it is.
 */
export interface Inspector extends AsyncDisposable {
  readonly system: string;
  /** The address of the server, with the password hidden. */
  readonly address: string;
  /** The sets of jobs this system has, in the order a person wants to see them. */
  readonly sets: readonly JobSet[];
  /** What `act` can do here. An action that is false rejects with ConfigError. */
  readonly can: Readonly<Record<Action, boolean>>;
  /** Totals. Sends a number of commands that does not grow with the number of jobs. */
  overview(): Promise<Overview>;
  /** Every queue, by name. */
  queues(): Promise<readonly QueueInfo[]>;
  /** One page of a set. Rejects with ConfigError for a set that is not in `sets`, and for a cursor that this method did not return. */
  jobs(set: string, query?: JobsQuery): Promise<JobPage>;
  /** Everything stored about one job; undefined where nothing is stored. */
  job(id: string): Promise<InspectedJob | undefined>;
  /** Workers of every language that register themselves, and what each one runs. */
  workers(): Promise<readonly WorkerInfo[]>;
  /** Periodic tasks that are stored in this system. */
  schedules(): Promise<readonly ScheduleInfo[]>;
  /**
   * Does one action to one target. Two calls at the same time do no harm: the second one finds the target gone, and reports that. Rejects with
   * ConfigError where `can[action]` is false or the target does not fit the action.
   */
  act(action: Action, target: Target, options?: ActOptions): Promise<ActResult>;
  /** Close the connections. */
  close(): Promise<void>;
}

/** The kind of a set, in words that mean the same in every system. */
export type SetKind = 'waiting' | 'scheduled' | 'running' | 'retrying' | 'failed' | 'done' | 'deferred' | 'quarantined';

/** A set of jobs by the system's own name: `queued`, `retry`, `dead`, `failed`, `unacked` … */
export interface JobSet {
  readonly name: string;
  readonly kind: SetKind;
  /** There is one such set for each queue, and `JobsQuery.queue` chooses one. */
  readonly byQueue: boolean;
}

export interface Overview {
  /** The number of jobs by the name of the set. A set is left out where the system does not report its size. */
  readonly counts: Readonly<Record<string, number>>;
  readonly workers: number;
  /** The number of workers that run at least one job now. */
  readonly busy: number;
  /** Jobs run since the system began to count, including failures; undefined where it does not count. */
  readonly processed: number | undefined;
  readonly failed: number | undefined;
}

export interface QueueInfo {
  readonly name: string;
  readonly size: number;
  /** Milliseconds that the oldest job has waited; undefined where the queue is empty or the system does not report it. */
  readonly latencyMs: number | undefined;
  readonly paused: boolean;
  /** How many consumers it has, where known. */
  readonly consumers: number | undefined;
}

export interface JobsQuery {
  /** One queue only. When there is a set for each queue and no queue is given: all queues, one after the other. */
  readonly queue?: string;
  /** `cursor` of the last page; undefined for the first page. */
  readonly cursor?: string;
  /** @default 25, at most 1000 */
  readonly limit?: number;
  readonly filter?: JobFilter;
}

/** Conditions for a job. All that are given must be true. */
export interface JobFilter {
  readonly task?: string;
  readonly id?: string;
  /** A text anywhere in the stored data of the job. */
  readonly text?: string;
}

export interface JobPage {
  readonly jobs: readonly InspectedJob[];
  /** Where the next page begins; undefined after the last. */
  readonly cursor: string | undefined;
  /** How many jobs there are without the filter; undefined where the system does not report it. */
  readonly total: number | undefined;
  /** A search ended at its limit before the page was full. More jobs may follow; `cursor` continues the search. */
  readonly cut: boolean;
}

export interface InspectedJob {
  /** The id for `job` and `act`. For an entry without an id: a digest of its bytes. */
  readonly id: string;
  /** The set it is in. */
  readonly set: string;
  /** The task's name; undefined where the bytes cannot be read. */
  readonly task: string | undefined;
  readonly queue: string | undefined;
  /** The state, in the system's own word. */
  readonly state: string;
  /** The arguments as the wire has them: exact numbers, opaque objects. Undefined where they cannot be read. */
  readonly args: readonly unknown[] | undefined;
  readonly kwargs: Readonly<Record<string, unknown>> | undefined;
  readonly enqueuedAt: Date | undefined;
  /** When the job or its retry is due. */
  readonly dueAt: Date | undefined;
  readonly startedAt: Date | undefined;
  readonly endedAt: Date | undefined;
  /** Runs so far, where the system counts. */
  readonly attempts: number | undefined;
  readonly error: InspectedError | undefined;
  /** The result of a successful run, where the system stores it. */
  readonly result: unknown;
  /** The worker that runs it, or ran it last. */
  readonly worker: string | undefined;
  /** The stored bytes. */
  readonly raw: Uint8Array;
  /** What every field means. Only `job` sets it, not `jobs`. */
  readonly explanation: Explanation | undefined;
  /** Ids of related jobs, where the system stores them. */
  readonly links: {
    readonly parent?: string;
    readonly root?: string;
    readonly group?: string;
    readonly children?: readonly string[];
    readonly dependencies?: readonly string[];
    readonly dependents?: readonly string[];
  };
}

export interface InspectedError {
  readonly type: string;
  readonly message: string;
  /** The traceback, as stored. */
  readonly traceback: string | undefined;
  readonly at: Date | undefined;
}

export interface WorkerInfo {
  /** The id for `act`. */
  readonly id: string;
  readonly hostname: string | undefined;
  readonly pid: number | undefined;
  /** `Node`, `Python` or `Ruby`, where it is known. */
  readonly language: string | undefined;
  readonly version: string | undefined;
  readonly queues: readonly string[];
  readonly concurrency: number | undefined;
  readonly startedAt: Date | undefined;
  /** Its last heartbeat. */
  readonly seenAt: Date | undefined;
  /** In the system's own word: `idle`, `busy`, `quiet`, `suspended` … */
  readonly state: string;
  readonly running: readonly {
    readonly id: string | undefined;
    readonly task: string | undefined;
    readonly queue: string | undefined;
    readonly startedAt: Date | undefined;
  }[];
}

export interface ScheduleInfo {
  readonly name: string;
  /** The scheduler that stores it: `beat`, `redbeat`, `rq-cron`, `resque-scheduler`, `sidekiq-cron`. */
  readonly kind: string;
  readonly task: string | undefined;
  readonly queue: string | undefined;
  /** As it is written: `0 4 * * *`, `every 30s`. */
  readonly when: string;
  readonly enabled: boolean;
  readonly lastRunAt: Date | undefined;
  readonly nextRunAt: Date | undefined;
}

/**
 * - `retry`: run a job that failed, or waits for a retry, again now. `run`: move a scheduled job to its queue now.
 * - `delete`: remove a job, or empty a queue. `kill`: move a job to the dead jobs; it is not retried. `requeue`: put it back into its queue from any set.
 * - `pause`, `resume`: a queue, or all queues. `quiet`, `stop`: a worker. `unregister`: remove a dead worker from the list.
 * - `cancel`: do not run a waiting job, or end a running one. `terminate`: end a running job now.
 */
export type Action =
  | 'retry'
  | 'run'
  | 'delete'
  | 'kill'
  | 'requeue'
  | 'pause'
  | 'resume'
  | 'quiet'
  | 'stop'
  | 'unregister'
  | 'cancel'
  | 'terminate';

export const ACTIONS: readonly Action[] = [
  'retry',
  'run',
  'delete',
  'kill',
  'requeue',
  'pause',
  'resume',
  'quiet',
  'stop',
  'unregister',
  'cancel',
  'terminate',
];

/** The target of an action. */
export type Target =
  /** Jobs by id; `set` where a job may be in several sets. */
  | { readonly ids: readonly string[]; readonly set?: string }
  /** Every job of a set that matches, in bounded steps. */
  | { readonly set: string; readonly queue?: string; readonly filter?: JobFilter }
  | { readonly queue: string }
  | { readonly worker: string }
  /** Every queue, or every worker. */
  | { readonly all: true };

export interface ActOptions {
  /** Called after each step of a long action. */
  readonly onProgress?: (progress: { readonly done: number; readonly total: number | undefined }) => void;
  readonly signal?: AbortSignal;
}

export interface ActResult {
  /** How many targets the action changed. */
  readonly done: number;
  /** Ids, queues or workers that were named and no longer exist. */
  readonly gone: readonly string[];
  /** Targets that exist and to which the action cannot be done, each with its reason. */
  readonly refused: readonly { readonly id: string; readonly reason: string }[];
}

/** `can` of a system that has these actions. */
export function canDo(...actions: readonly Action[]): Readonly<Record<Action, boolean>> {
  return Object.fromEntries(ACTIONS.map((action) => [action, actions.includes(action)])) as Record<Action, boolean>;
}
