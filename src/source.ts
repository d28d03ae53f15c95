import type { Disposition, Job, Outcome } from '../protocols/job.ts';
import type { Executor } from './executor.ts';
import type { Logger } from './log.ts';
import type { Registry } from './task.ts';

/** One claim on a job. It ends with exactly one `settle` or one `release`. */
export interface Delivery {
  readonly job: Job;
  /**
   * Called when the handler is about to start: record the start, and acknowledge if this system acknowledges early. Undefined when there is nothing
   * to write, so that a run without a start record costs no turn of the event loop. Resolves with an outcome when the system knows it already: then
   * the handler is not called, and the outcome is settled.
   */
  begin(): Promise<Outcome | void> | undefined;
  settle(outcome: Outcome): Promise<Disposition>;
  /** The system has the job again and delivers it again. The job must not be started here, and `release` does nothing. */
  readonly lost?: boolean;
  /** Give the job back untouched: the worker is stopping. No attempt is counted. */
  release(): Promise<void>;
  /** Record a custom state of the handler (progress), for systems that store states. */
  update?(state: string, meta: unknown): Promise<void>;
  /**
   * Why this worker cannot run this job although its task may have a handler: `it has a rate limit`. The worker treats it as an unknown task.
   * Undefined: it is an unknown task when the task has no handler.
   */
  readonly unknown?: string | undefined;
  /**
   * What the system itself does with a task it does not know: the outcome for `unknownTask: 'reject'`. Absent: `{ kind: 'fail' }` with an
   * UnknownTaskError.
   */
  rejectUnknown?(why: string): Outcome;
  /**
   * The key by which an unknown task is recognised when it comes back, where `job.id` is new at each delivery: a digest of its bytes, for example.
   * @default `job.id`
   */
  readonly unknownKey?: string | undefined;
  /** About how many bytes this delivery keeps in memory; bounds how many unknown tasks are held. @default not counted */
  readonly bytes?: number | undefined;
}

/**
 * What the worker does with a job that no handler here can run. `requeue`: it goes to the back of its queue for other workers, after a pause that
 * grows each time the same job comes back. `reject`: it ends as the system itself ends a task it does not know. `hold`: this worker keeps the claim
 * until it stops, then gives it back. `{ forward }`: it goes to another queue.
 */
export type UnknownTaskPolicy = 'requeue' | 'reject' | 'hold' | { readonly forward: string };

/** A source of deliveries: one system, one connection, some queues. */
export interface Source {
  readonly system: string;
  /** How many handlers may run at once. */
  readonly concurrency: number;
  /** How many claimed deliveries may wait in this process beyond the running ones. */
  readonly prefetch: number;
  readonly queues: readonly string[];
  readonly agents: readonly Agent[];
  /** Tasks that the system itself brings. The user's own tasks are searched first. */
  readonly tasks?: Registry;
  /** Where the handlers of this source's jobs run, unless their task has an executor. @default the worker's */
  readonly executor?: Executor | undefined;
  /** @default 'requeue' */
  readonly unknownTask?: UnknownTaskPolicy | undefined;
  /** The first pause before an unknown task goes back. @default 1 000 */
  readonly unknownTaskDelayMs?: number | undefined;
  /**
   * Called with the number of unknown tasks that the worker holds, for a broker that bounds how much is claimed (prefetch). At most once in a turn of
   * the event loop. A job that goes back is counted until that is written.
   */
  holding?(count: number): void;
  open(host: Host): Promise<void>;
  /** Resolves with up to `max` deliveries; waits for at least one; [] when `signal` aborts or there is nothing for now. */
  receive(max: number, signal: AbortSignal): Promise<readonly Delivery[]>;
  /** Take no more jobs; give back jobs that are buffered here and were never delivered. */
  quiet(): Promise<void>;
  close(): Promise<void>;
}

/** A background task that runs as long as the worker. Resolves when `signal` aborts; restarted with back-off if it rejects. */
export interface Agent {
  readonly name: string;
  run(signal: AbortSignal): Promise<void>;
}

/** The methods of the worker that its source may call: enough for heartbeats and remote control, nothing more. */
export interface Host {
  readonly identity: { readonly hostname: string; readonly pid: number; readonly nonce: string };
  readonly tasks: Registry;
  readonly log: Logger;
  /**
   * Abort a running or waiting job; its outcome is `cancelled`. With `waiting`, only a job whose handler has not been started. False when the job is
   * not in this worker.
   */
  cancel(jobId: string, reason: string, which?: 'any' | 'waiting'): boolean;
  /**
   * How many unknown tasks of this source are claimed here and wait. A worker that stops when only such jobs are left uses it. A job that goes back
   * is counted until that is written.
   */
  unknownHeld(source: Source): number;
  /** The source's `concurrency` or `prefetch` has changed. */
  resized(): void;
  /** Reports a message that could not become a delivery, and where its bytes are now. */
  poison(report: PoisonReport): void;
  quiet(): void;
  stop(): void;
}

/** A message that is not a valid job: its queue, its id where known, the reason, and where the bytes are stored. */
export interface PoisonReport {
  readonly system: string;
  readonly queue: string;
  readonly id: string | undefined;
  readonly code: string;
  readonly reason: string;
  /** Where the original bytes are stored, and what a person can do about them. */
  readonly kept: string;
}

/** An agent that calls `step` every `ms` milliseconds, give or take `jitter` (a share of `ms`), until it is stopped. */
export function every(name: string, ms: number, step: (signal: AbortSignal) => Promise<void>, jitter = 0.1): Agent {
  return {
    name,
    async run(signal) {
      while (!signal.aborted) {
        await pause(ms * (1 + jitter * (Math.random() * 2 - 1)), signal);
        if (!signal.aborted) await step(signal);
      }
    },
  };
}

/** The longest time that setTimeout can count, 24.8 days. For a longer time it fires at once. */
const LONGEST_MS = 2 ** 31 - 1;

/** Resolves after `ms`, at most 24.8 days, or at once when `signal` aborts. Never rejects. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, Math.min(ms, LONGEST_MS));
    signal?.addEventListener('abort', done, { once: true });
  });
}
