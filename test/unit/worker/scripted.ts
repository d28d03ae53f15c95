import type { Disposition, Job, Outcome } from '../../../protocols/job.ts';
import type { Agent, Delivery, Host, Source, UnknownTaskPolicy } from '../../../src/source.ts';
import { defineTask, type Handler, type TaskOptions, Tasks } from '../../../src/task.ts';

/** A source in memory that does what a test tells it, and writes down what it was told. */
export class ScriptedSource implements Source {
  readonly system: string;
  readonly concurrency: number;
  readonly prefetch: number;
  readonly queues = ['default'];
  readonly agents: readonly Agent[];
  readonly unknownTask?: UnknownTaskPolicy;
  readonly unknownTaskDelayMs?: number;
  host: Host | undefined;
  /** How many unknown tasks the worker says that it holds. */
  held = 0;
  /** Waiting to be received, the next one first. */
  readonly queue: ScriptedDelivery[] = [];
  /** Everything that happened, in order: `begin 1`, `settle 1 success`, `release 2`, `quiet`, `close`. */
  readonly log: string[] = [];
  /** What each receive asked for. */
  readonly asked: number[] = [];
  /** The next receive rejects with it, once. */
  failure: Error | undefined;
  openFailure: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(
    options: {
      readonly system?: string;
      readonly concurrency?: number;
      readonly prefetch?: number;
      readonly agents?: readonly Agent[];
      readonly unknownTask?: UnknownTaskPolicy;
      readonly unknownTaskDelayMs?: number;
    } = {},
  ) {
    this.system = options.system ?? 'scripted';
    this.concurrency = options.concurrency ?? 2;
    this.prefetch = options.prefetch ?? 0;
    this.agents = options.agents ?? [];
    if (options.unknownTask !== undefined) this.unknownTask = options.unknownTask;
    if (options.unknownTaskDelayMs !== undefined) this.unknownTaskDelayMs = options.unknownTaskDelayMs;
  }

  push(...jobs: readonly (Partial<Job> & { readonly id: string })[]): readonly ScriptedDelivery[] {
    const deliveries = jobs.map((job) => new ScriptedDelivery(this.log, job));
    this.queue.push(...deliveries);
    this.#wake?.();
    return deliveries;
  }

  holding(count: number): void {
    this.held = count;
  }

  async open(host: Host): Promise<void> {
    this.host = host;
    this.log.push('open');
    if (this.openFailure !== undefined) throw this.openFailure;
  }

  async receive(max: number, signal: AbortSignal): Promise<readonly Delivery[]> {
    this.asked.push(max);
    while (this.queue.length === 0 && this.failure === undefined && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          signal.removeEventListener('abort', wake);
          resolve();
        };
        this.#wake = wake;
        signal.addEventListener('abort', wake, { once: true });
      });
    }
    if (this.failure !== undefined) {
      const { failure } = this;
      this.failure = undefined;
      throw failure;
    }
    return signal.aborted ? [] : this.queue.splice(0, max);
  }

  fail(error: Error): void {
    this.failure = error;
    this.#wake?.();
  }

  async quiet(): Promise<void> {
    this.log.push('quiet');
  }
  async close(): Promise<void> {
    this.log.push('close');
  }
}

export class ScriptedDelivery implements Delivery {
  readonly job: Job;
  outcome: Outcome | undefined;
  released = false;
  /** These many settles, begins, releases reject before one succeeds. */
  settleFailures = 0;
  beginFailures = 0;
  releaseFailures = 0;
  lost = false;
  unknown: string | undefined;
  unknownKey: string | undefined;
  bytes: number | undefined;
  declare rejectUnknown?: (why: string) => Outcome;
  /** A settle takes as long as this. */
  settling: Promise<void> | undefined;
  readonly #log: string[];

  constructor(log: string[], job: Partial<Job> & { readonly id: string }) {
    this.#log = log;
    this.job = { task: 'work', args: [], kwargs: {}, queue: 'default', attempt: 1, ...job };
  }

  begin(): Promise<Outcome | void> | undefined {
    if (this.beginFailures-- > 0) return Promise.reject(new Error('begin failed'));
    this.#log.push(`begin ${this.job.id}`);
    return undefined;
  }

  async settle(outcome: Outcome): Promise<Disposition> {
    await this.settling;
    if (this.settleFailures-- > 0) throw new Error('settle failed');
    this.outcome = outcome;
    this.#log.push(`settle ${this.job.id} ${outcome.kind}`);
    return outcome.kind === 'success' ? { state: 'succeeded' } : { state: 'failed' };
  }

  async release(): Promise<void> {
    if (this.releaseFailures-- > 0) throw new Error('release failed');
    this.released = true;
    this.#log.push(`release ${this.job.id}`);
  }

  async update(state: string): Promise<void> {
    this.#log.push(`update ${this.job.id} ${state}`);
  }
}

export function tasksOf(handler: Handler, options: TaskOptions = {}): Tasks {
  return new Tasks().handle(defineTask('work'), handler, options);
}

/** Handlers that wait until the test lets each of them go. */
export class Gate {
  readonly started: string[] = [];
  most = 0;
  #running = 0;
  readonly #waiting = new Map<string, () => void>();

  readonly handler: Handler = async ({ id }) => {
    this.started.push(id);
    this.most = Math.max(this.most, ++this.#running);
    await new Promise<void>((resolve) => this.#waiting.set(id, resolve));
    this.#running--;
    return id;
  };

  open(...ids: readonly string[]): void {
    for (const id of ids.length > 0 ? ids : [...this.#waiting.keys()]) {
      this.#waiting.get(id)?.();
      this.#waiting.delete(id);
    }
  }
}
