import type { Disposition, Job, Outcome } from '../protocols/job.ts';
import type { Executor } from './executor.ts';
import type { Logger } from './log.ts';
import type { Registry } from './task.ts';

/** One claim on a job. Ends in exactly one `settle` or one `release`. */
export interface Delivery {
  readonly job: Job;
  /**
   * The handler is about to start: record it, and acknowledge if this system acknowledges early.
   * Undefined when there is nothing to write, so that a run without a start record costs no turn of the event loop.
   * An outcome where the system knows it already: the handler is not called, and the outcome is settled.
   */
  begin(): Promise<Outcome | void> | undefined;
  settle(outcome: Outcome): Promise<Disposition>;
  /** The system has the job again and delivers it anew: it must not be started, and `release` leaves it alone. */
  readonly lost?: boolean;
  /** Give the job back untouched: the worker is stopping. No attempt is counted. */
  release(): Promise<void>;
  /** Record a state of the handler's own (progress), for systems that keep states. */
  update?(state: string, meta: unknown): Promise<void>;
  /**
   * Why nobody here can run this job although its task may have a handler: `it has a rate limit`. The worker treats it as an unknown task. Undefined:
   * whether the task has a handler decides.
   */
  readonly unknown?: string | undefined;
  /**
   * What the system itself does with a task it does not know: the outcome for `unknownTask: 'reject'`. Absent: `{ kind: 'fail' }` with an
   * UnknownTaskError.
   */
  rejectUnknown?(why: string): Outcome;
  /**
   * By what an unknown task is recognised when it comes back, where `job.id` is new at each delivery: a digest of its bytes, for one. @default `job.id`
   */
  readonly unknownKey?: string | undefined;
  /** How many bytes this delivery keeps in memory, about; bounds how many unknown tasks are held. @default not counted */
  readonly bytes?: number | undefined;
}

/**
 * What the worker does with a job that no handler here can run. `requeue`: it goes to the back of its queue for other workers, after a pause that
 * grows each time the same job comes back. `reject`: it ends as the system itself ends a task it does not know. `hold`: this worker keeps the claim
 * until it stops, then gives it back. `{ forward }`: it goes to another queue.
 */
export type UnknownTaskPolicy = 'requeue' | 'reject' | 'hold' | { readonly forward: string };

/** Where deliveries come from: one system, one connection, some queues. */
export interface Source {
  readonly system: string;
  /** How many handlers may run at once. */
  readonly concurrency: number;
  /** How many claimed deliveries may wait in this process beyond the running ones. */
  readonly prefetch: number;
  readonly queues: readonly string[];
  readonly agents: readonly Agent[];
  /** Tasks that the system itself brings, found after the user's own. */
  readonly tasks?: Registry;
  /** Where handlers of this source's jobs run, unless their task names its own. @default the worker's */
  readonly executor?: Executor | undefined;
  /** @default 'requeue' */
  readonly unknownTask?: UnknownTaskPolicy | undefined;
  /** The first pause before an unknown task goes back. @default 1 000 */
  readonly unknownTaskDelayMs?: number | undefined;
  /**
   * Told how many unknown tasks the worker holds, where a broker bounds what is claimed (prefetch). At most once a turn of the event loop. One that goes
   * back is counted until that is written.
   */
  holding?(count: number): void;
  open(host: Host): Promise<void>;
  /** Up to `max`; waits for at least one; [] when `signal` aborts or there is nothing for now. */
  receive(max: number, signal: AbortSignal): Promise<readonly Delivery[]>;
  /** Take nothing more; give back what is buffered here but was never handed out. */
  quiet(): Promise<void>;
  close(): Promise<void>;
}

/** A chore that lives as long as the worker. Resolves when `signal` aborts; restarted with back-off if it rejects. */
export interface Agent {
  readonly name: string;
  run(signal: AbortSignal): Promise<void>;
}

/** What a source may ask of the worker it runs in: enough for heartbeats and remote control, nothing more. */
export interface Host {
  readonly identity: { readonly hostname: string; readonly pid: number; readonly nonce: string };
  readonly tasks: Registry;
  readonly log: Logger;
  /**
   * Abort a running or waiting job; its outcome is `cancelled`. With `waiting`, only one whose handler has not been started.
   * False when no such job is here.
   */
  cancel(jobId: string, reason: string, which?: 'any' | 'waiting'): boolean;
  /**
   * How many unknown tasks of this source are claimed here and wait: for a worker that stops when nothing else is left. One that goes back is counted
   * until that is written.
   */
  unknownHeld(source: Source): number;
  /** The source's `concurrency` or `prefetch` has changed. */
  resized(): void;
  /** A message that could not become a delivery, and where its bytes are now. */
  poison(report: PoisonReport): void;
  quiet(): void;
  stop(): void;
}

/** What happened to a message that is not a job: which queue, which id where known, why, and where the bytes went. */
export interface PoisonReport {
  readonly system: string;
  readonly queue: string;
  readonly id: string | undefined;
  readonly code: string;
  readonly reason: string;
  /** Where the original bytes are kept, and what a person can do about them. */
  readonly kept: string;
}

/** An agent that calls `step` every `ms` milliseconds, give or take `jitter` (a share of `ms`), until stopped. */
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

/** The longest time that setTimeout can count, 24.8 days. It fires at once for a longer one. */
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
