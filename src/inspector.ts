import type { Explanation } from '../protocols/explanation.ts';

/**
 * What a system shows of itself, and what may be done about it. One interface for every system: a board, `jobglot inspect`, metrics of queues and
 * checks are written against it. What a system cannot do is data (`can`, `sets`), so that no caller asks which system it is.
 */
export interface Inspector extends AsyncDisposable {
  readonly system: string;
  /** Where it looks, with the password hidden. */
  readonly address: string;
  /** The sets of jobs this system has, in the order a person wants to see them. */
  readonly sets: readonly JobSet[];
  /** What `act` can do here. An action that is false rejects with ConfigError. */
  readonly can: Readonly<Record<Action, boolean>>;
  /** Totals. Takes a number of commands that does not grow with the number of jobs. */
  overview(): Promise<Overview>;
  /** Every queue, by name. */
  queues(): Promise<readonly QueueInfo[]>;
  /** One page of a set. Rejects with ConfigError for a set that is not among `sets`, or a cursor that was not given by this method. */
  jobs(set: string, query?: JobsQuery): Promise<JobPage>;
  /** Everything stored about one job; undefined where nothing is. */
  job(id: string): Promise<InspectedJob | undefined>;
  /** Workers of every language that show themselves, and what each runs. */
  workers(): Promise<readonly WorkerInfo[]>;
  /** Periodic tasks that are stored where this system keeps them. */
  schedules(): Promise<readonly ScheduleInfo[]>;
  /**
   * Does one thing to one target. Twice at once does no harm: the second finds the target gone, and says so. Rejects with ConfigError where
   * `can[action]` is false or the target does not fit the action.
   */
  act(action: Action, target: Target, options?: ActOptions): Promise<ActResult>;
  /** Close the connections. */
  close(): Promise<void>;
}

/** What kind of set it is, in words that mean the same in every system. */
export type SetKind = 'waiting' | 'scheduled' | 'running' | 'retrying' | 'failed' | 'done' | 'deferred' | 'quarantined';

/** A set of jobs by the system's own name: `queued`, `retry`, `dead`, `failed`, `unacked` … */
export interface JobSet {
  readonly name: string;
  readonly kind: SetKind;
  /** The set is kept for each queue, and `JobsQuery.queue` chooses one. */
  readonly byQueue: boolean;
}

export interface Overview {
  /** Jobs by the name of the set. A set whose size the system does not tell is missing. */
  readonly counts: Readonly<Record<string, number>>;
  readonly workers: number;
  /** Workers that run at least one job now. */
  readonly busy: number;
  /** Jobs run since the system began to count, failures included; undefined where it does not count. */
  readonly processed: number | undefined;
  readonly failed: number | undefined;
}

export interface QueueInfo {
  readonly name: string;
  readonly size: number;
  /** Milliseconds the oldest job has waited; undefined where the queue is empty or the system does not tell. */
  readonly latencyMs: number | undefined;
  readonly paused: boolean;
  /** How many consumers it has, where known. */
  readonly consumers: number | undefined;
}

export interface JobsQuery {
  /** One queue only. A set that is kept by queue and no queue given: all queues, one after the other. */
  readonly queue?: string;
  /** What the last page said; undefined for the first page. */
  readonly cursor?: string;
  /** @default 25, at most 1000 */
  readonly limit?: number;
  readonly filter?: JobFilter;
}

/** What must be true of a job. All that are given. */
export interface JobFilter {
  readonly task?: string;
  readonly id?: string;
  /** Somewhere in what is stored of the job. */
  readonly text?: string;
}

export interface JobPage {
  readonly jobs: readonly InspectedJob[];
  /** Where the next page begins; undefined after the last. */
  readonly cursor: string | undefined;
  /** How many there are without the filter; undefined where the system does not tell. */
  readonly total: number | undefined;
  /** A search ended at its bound before the page was full: more may follow, `cursor` goes on. */
  readonly cut: boolean;
}

export interface InspectedJob {
  /** By which `job` and `act` find it. Of an entry without an id of its own: a digest of its bytes. */
  readonly id: string;
  /** The set it is in. */
  readonly set: string;
  /** The task's name; undefined where the bytes cannot be read. */
  readonly task: string | undefined;
  readonly queue: string | undefined;
  /** The state, in the system's own word. */
  readonly state: string;
  /** As the wire has them: exact numbers, opaque objects. Undefined where they cannot be read. */
  readonly args: readonly unknown[] | undefined;
  readonly kwargs: Readonly<Record<string, unknown>> | undefined;
  readonly enqueuedAt: Date | undefined;
  /** When it is due, or when its retry is. */
  readonly dueAt: Date | undefined;
  readonly startedAt: Date | undefined;
  readonly endedAt: Date | undefined;
  /** Runs so far, where the system counts. */
  readonly attempts: number | undefined;
  readonly error: InspectedError | undefined;
  /** What a successful run returned, where the system keeps it. */
  readonly result: unknown;
  /** Who runs it, or ran it last. */
  readonly worker: string | undefined;
  /** What is stored, as its bytes. */
  readonly raw: Uint8Array;
  /** Given by `job`, not by `jobs`: what every field means. */
  readonly explanation: Explanation | undefined;
  /** Ids of jobs that belong to this one, where the system says so. */
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
  /** The foreign traceback, as stored. */
  readonly traceback: string | undefined;
  readonly at: Date | undefined;
}

export interface WorkerInfo {
  /** By which `act` finds it. */
  readonly id: string;
  readonly hostname: string | undefined;
  readonly pid: number | undefined;
  /** `Node`, `Python` or `Ruby`, where it can be told. */
  readonly language: string | undefined;
  readonly version: string | undefined;
  readonly queues: readonly string[];
  readonly concurrency: number | undefined;
  readonly startedAt: Date | undefined;
  /** Its last sign of life. */
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
  /** Who keeps it: `beat`, `redbeat`, `rq-cron`, `resque-scheduler`, `sidekiq-cron`. */
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
 * - `delete`: remove a job, or empty a queue. `kill`: no retry; keep it as dead. `requeue`: back to its queue from wherever it is.
 * - `pause`, `resume`: a queue, or everything. `quiet`, `stop`: a worker. `unregister`: remove a worker that is gone from the list.
 * - `cancel`: a job that waits or runs is not to run, or is to end. `terminate`: end a running job now.
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

/** What an action is done to. */
export type Target =
  /** Jobs by id; `set` where a job may be in several. */
  | { readonly ids: readonly string[]; readonly set?: string }
  /** Every job of a set that matches, in bounded steps. */
  | { readonly set: string; readonly queue?: string; readonly filter?: JobFilter }
  | { readonly queue: string }
  | { readonly worker: string }
  /** Every queue, or every worker. */
  | { readonly all: true };

export interface ActOptions {
  /** Told after each step of a long action. */
  readonly onProgress?: (progress: { readonly done: number; readonly total: number | undefined }) => void;
  readonly signal?: AbortSignal;
}

export interface ActResult {
  /** How many targets it was done to. */
  readonly done: number;
  /** Ids, queues or workers that were named and are not there any more. */
  readonly gone: readonly string[];
  /** Targets that are there, and to which it cannot be done, each with its reason. */
  readonly refused: readonly { readonly id: string; readonly reason: string }[];
}

/** `can` of a system that can do these. */
export function canDo(...actions: readonly Action[]): Readonly<Record<Action, boolean>> {
  return Object.fromEntries(ACTIONS.map((action) => [action, actions.includes(action)])) as Record<Action, boolean>;
}
