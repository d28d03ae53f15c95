import { setMaxListeners } from 'node:events';
import type { Job, Outcome } from '../../protocols/job.ts';
import { type Logger, logs } from '../log.ts';
import { retryUntilWritten } from '../retry-until-written.ts';
import { type Delivery, pause, type Source } from '../source.ts';
import type { Handler, Registration, Registry } from '../task.ts';
import { RenewingSet } from '../renewing.ts';
import { backoff } from '../backoff.ts';
import type { Events } from '../events.ts';
import type { WorkerEvents } from './events.ts';
import type { Executors } from './executors.ts';
import { compose, type Middleware } from './middleware.ts';
import { CancelledError, type Ended, Run, ShutdownError } from './runner.ts';
import { UnknownTasks } from './unknown-tasks.ts';

export interface LaneOptions {
  readonly source: Source;
  readonly tasks: Registry;
  readonly middleware: readonly Middleware[];
  /** @default handlers run in the event loop */
  readonly executors?: Executors;
  readonly log: Logger;
  readonly events: Events<WorkerEvents>;
  /** How long a cancelled handler may take to notice its signal. */
  readonly cancelGraceMs: number;
}

/** How a task is run here. */
interface Found {
  readonly registration: Registration;
  /** Inside its middleware. */
  readonly handler: Handler;
}

/**
 * One source with its slots. The loop counts free slots, asks the source for so many, and starts each delivery without awaiting it; when all slots are
 * taken, it waits for a handler to end. A slot is a running handler. A settle under way takes none, but unsettled deliveries are bounded too: a store that
 * is down stops the fetching instead of filling the memory. Unknown tasks take no slot (`UnknownTasks`).
 */
export class Lane {
  readonly source: Source;
  readonly #options: LaneOptions;
  readonly #handlers = new Map<string, Found>();
  readonly #running = new RenewingSet<Run>();
  readonly #troubled = new WeakSet<Run>();
  readonly #fetching = new AbortController();
  readonly #giveUp = new AbortController();
  readonly #unknown: UnknownTasks;
  #waiting: Delivery[] = [];
  #next = 0;
  /** How many known deliveries have been taken. */
  #taken = 0;
  #unsettled = 0;
  #processed = 0;
  #room: (() => void) | undefined;
  #idle: (() => void) | undefined;
  #loop: Promise<void> | undefined;
  #lastReceiveAt = 0;

  constructor(options: LaneOptions) {
    this.#options = options;
    this.source = options.source;
    const { source, log } = options;
    this.#unknown = new UnknownTasks({
      source,
      log,
      settle: (delivery, outcome) => this.#settleUnknown(delivery, outcome),
    });
    // Each outcome that cannot be written listens to this signal.
    setMaxListeners(0, this.#giveUp.signal);
  }

  get running(): readonly Job[] {
    return Array.from(this.#running, (run) => run.job);
  }
  get processed(): number {
    return this.#processed;
  }
  /** How many jobs are claimed here that no handler can run. */
  get unknownHeld(): number {
    return this.#unknown.size;
  }
  /** `performance.now()` of the last answer of the source, empty or not. */
  get lastReceiveAt(): number {
    return this.#lastReceiveAt;
  }

  // A source may change both numbers while it runs.
  get #total(): number {
    return this.source.concurrency + this.source.prefetch;
  }
  get #unsettledLimit(): number {
    return Math.max(100, 4 * this.source.concurrency);
  }

  start(): void {
    this.#loop = this.#fetch();
  }

  /** Stop fetching and give back waiting deliveries. Running handlers go on. */
  async quiet(): Promise<void> {
    this.#fetching.abort();
    this.#unknown.stop();
    this.#room?.();
    try {
      await this.source.quiet();
    } catch (error) {
      const { system } = this.source;
      this.#options.log.warn(
        { system, error },
        'waiting jobs could not all be given back; the system will return them',
      );
    }
    await this.#loop;
    await this.#releaseWaiting();
  }

  /** Resolves when no handler runs and every outcome is written. */
  async drained(): Promise<void> {
    while (this.#running.size > 0 || this.#unsettled > 0 || this.#unknown.writing > 0)
      await new Promise<void>((resolve) => (this.#idle = resolve));
  }

  /** Ask every running handler to end. Jobs whose handlers end for that reason are given back. */
  abort(): void {
    for (const run of this.#running) run.abort(new ShutdownError());
  }

  /** Give back the jobs that still run, without waiting for their handlers. */
  releaseRunning(): void {
    for (const run of this.#running) run.end(undefined);
  }

  /** Stop writing outcomes that the store does not accept. */
  giveUp(): void {
    this.#giveUp.abort();
  }

  /** The source takes more or fewer jobs at once from now on. Running handlers go on. */
  resized(): void {
    this.#pump();
  }

  cancel(jobId: string, reason: string, which: 'any' | 'waiting' = 'any'): boolean {
    let found = false;
    for (const delivery of this.#waiting.slice(this.#next)) {
      if (delivery.job.id !== jobId) continue;
      found = true;
      this.#waiting.splice(this.#waiting.indexOf(delivery, this.#next), 1);
      void this.#finish(new Run(delivery, this.source.system, this.#options.log), { kind: 'cancelled', reason }, 0);
    }
    for (const delivery of this.#unknown.cancel(jobId)) {
      found = true;
      void this.#finish(new Run(delivery, this.source.system, this.#options.log), { kind: 'cancelled', reason }, 0);
    }
    if (which === 'waiting') return found;
    for (const run of this.#running) {
      if (run.job.id !== jobId) continue;
      found = true;
      run.abort(new CancelledError(reason));
      setTimeout(() => run.end({ kind: 'cancelled', reason }), this.#options.cancelGraceMs).unref();
    }
    return found;
  }

  async #fetch(): Promise<void> {
    const { signal } = this.#fetching;
    const { source, log, events } = this.#options;
    const { system } = source;
    const few = Math.max(1, Math.min(100, this.#total >> 1));
    for (let failures = 0; !signal.aborted;) {
      const waiting = this.#waiting.length - this.#next;
      const want = this.#total - this.#running.size - waiting;
      // Many small fetches cost round trips. Fetch again when half is free, or when a slot is free and no delivery waits for one.
      if (this.#unsettled >= this.#unsettledLimit || !(want >= few || (want > 0 && waiting === 0))) {
        await new Promise<void>((resolve) => (this.#room = resolve));
        this.#room = undefined;
        continue;
      }
      if (!this.#unknown.hasRoom) {
        await this.#unknown.room(signal);
        continue;
      }
      try {
        this.#unknown.fetching();
        const deliveries = await source.receive(want, signal).finally(() => this.#unknown.fetched());
        this.#lastReceiveAt = performance.now();
        if (failures > 0) {
          failures = 0;
          log.info({ system }, 'the source answers again');
          events.emit('source:up', { system });
        }
        if (deliveries.length > 0) this.#take(deliveries);
      } catch (error) {
        if (signal.aborted) return;
        if (failures++ === 0) {
          log.error({ system, error }, 'the source does not answer; trying again');
          events.emit('source:down', { system, error });
        }
        await pause(backoff(failures, Math.random()), signal);
      }
    }
  }

  #take(deliveries: readonly Delivery[]): void {
    const known = deliveries.some((delivery) => this.#isUnknown(delivery)) ? this.#holdUnknown(deliveries) : deliveries;
    this.#taken += known.length;
    this.#waiting = this.#next === 0 ? this.#waiting.concat(known) : this.#waiting.slice(this.#next).concat(known);
    this.#next = 0;
    this.#pump();
  }

  /** Returns the known ones. The others never take a slot, and never a place among those that wait for one. */
  #holdUnknown(deliveries: readonly Delivery[]): readonly Delivery[] {
    const known: Delivery[] = [];
    for (const delivery of deliveries) {
      if (this.#isUnknown(delivery)) this.#unknown.take(delivery, this.#taken + known.length);
      else known.push(delivery);
    }
    return known;
  }

  #isUnknown(delivery: Delivery): boolean {
    if (delivery.lost === true) return false;
    return delivery.unknown !== undefined || this.#find(delivery.job.task) === undefined;
  }

  #pump(): void {
    const { concurrency } = this.source;
    while (this.#running.size < concurrency && this.#next < this.#waiting.length && !this.#fetching.signal.aborted) {
      const delivery = this.#waiting[this.#next++] as Delivery;
      if (delivery.lost === true) void this.#release(delivery);
      else this.#start(delivery);
    }
    if (this.#next === this.#waiting.length && this.#next > 0) {
      this.#waiting = [];
      this.#next = 0;
    }
    this.#room?.();
  }

  #start(delivery: Delivery): void {
    const { events, log } = this.#options;
    const run = new Run(delivery, this.source.system, log);
    this.#running.add(run);
    if (events.wanted('job:started')) events.emit('job:started', { system: run.system, job: delivery.job });
    void this.#work(run);
  }

  async #work(run: Run): Promise<void> {
    const { delivery } = run;
    // Unknown tasks never come here.
    const { registration, handler } = this.#find(delivery.job.task) as Found;
    const started = performance.now();
    const ended = await run.execute(registration, handler, (error) => this.#report(run, error));
    this.#running.delete(run);
    await this.#finish(run, ended, performance.now() - started);
  }

  async #finish(run: Run, ended: Ended, ms: number): Promise<void> {
    this.#unsettled++;
    this.#pump();
    try {
      if (ended === undefined) await this.#release(run.delivery);
      else await this.#settle(run, ended, ms);
    } finally {
      this.#unsettled--;
      this.#processed++;
      this.#room?.();
      if (this.#running.size === 0 && this.#unsettled === 0) this.#idle?.();
    }
  }

  async #settle(run: Run, outcome: Outcome, ms: number): Promise<void> {
    const { events, log } = this.#options;
    const { system, delivery } = run;
    const { job } = delivery;
    const disposition = await retryUntilWritten(
      () => delivery.settle(outcome),
      this.#giveUp.signal,
      (error) => this.#report(run, error),
    );
    if (disposition === undefined) {
      log.error(
        { system, task: job.task, id: job.id, queue: job.queue },
        'the outcome could not be written; the system will run the job again',
      );
      return;
    }
    if (events.wanted('job:settled')) events.emit('job:settled', { system, job, outcome, disposition, ms });
    const failed = disposition.state === 'failed';
    // A line a task and minute says that they go back, not one for each of thousands.
    if (outcome.kind === 'unknown') return;
    if (!logs(log, failed ? 'error' : 'info')) return;
    const fields = { system, task: job.task, id: job.id, queue: job.queue, ms: Math.round(ms * 10) / 10 };
    if (failed) log.error({ ...fields, ...why(outcome) }, `failed in ${seconds(ms)}`);
    else if (disposition.state === 'retrying')
      log.info({ ...fields, ...why(outcome) }, `to be retried at ${moment(disposition.at)}`);
    else if (disposition.state === 'postponed')
      log.debug({ ...fields, ...why(outcome) }, `postponed until ${moment(disposition.at)}`);
    else log.info({ ...fields, ...why(outcome) }, `${disposition.state} in ${seconds(ms)}`);
  }

  /** It took no slot, and is not counted as processed. */
  async #settleUnknown(delivery: Delivery, outcome: Outcome): Promise<void> {
    if (delivery.lost === true) await this.#release(delivery);
    else await this.#settle(new Run(delivery, this.source.system, this.#options.log), outcome, 0);
    this.#idle?.();
  }

  async #release(delivery: Delivery): Promise<void> {
    const { system } = this.source;
    const { events, log } = this.#options;
    const { task, id, queue } = delivery.job;
    let error: unknown;
    const released = await retryUntilWritten(
      () => delivery.release().then(() => true),
      this.#giveUp.signal,
      (thrown) => (error = thrown),
    );
    if (released === true) events.emit('job:released', { system, job: delivery.job });
    else log.warn({ system, task, id, queue, error }, 'a job could not be given back; the system will return it');
  }

  async #releaseWaiting(): Promise<void> {
    const waiting = this.#waiting.slice(this.#next);
    this.#waiting = [];
    this.#next = 0;
    const first = this.#taken - waiting.length;
    const all: Delivery[] = [];
    // In the order of their arrival, known and unknown ones together.
    let next = 0;
    for (const { delivery, order } of this.#unknown.drain()) {
      while (next < waiting.length && first + next < order) all.push(waiting[next++] as Delivery);
      all.push(delivery);
    }
    all.push(...waiting.slice(next));
    // The first one waited longest: released last to the head of its queue, it runs first again.
    await Promise.all(all.reverse().map((delivery) => this.#release(delivery)));
  }

  #find(task: string): Found | undefined {
    let found = this.#handlers.get(task);
    if (found === undefined) {
      const { tasks, middleware, executors } = this.#options;
      const own = tasks.find(this.source.system, task);
      const registration = own ?? this.source.tasks?.find(this.source.system, task);
      if (registration === undefined) return undefined;
      // What a system itself brings knows this process's connections, and runs here.
      const executor = own === undefined ? undefined : executors?.of(own, this.source);
      const handler: Handler =
        executor === undefined ? registration.handler : (job, context) => executor.run(job, context);
      found = { registration, handler: compose(middleware, handler) };
      this.#handlers.set(task, found);
    }
    return found;
  }

  #report(run: Run, error: unknown): void {
    const { events, log } = this.#options;
    const { system, job } = run;
    // An hour without the store is one line of the log for each job, not thousands.
    if (!this.#troubled.has(run)) {
      this.#troubled.add(run);
      const fields = { system, task: job.task, id: job.id, queue: job.queue, error };
      log.warn(fields, 'a write for this job failed; trying again until it sticks');
    }
    events.emit('job:unsettled', { system, job, error });
  }
}

function why(outcome: Outcome): { readonly error?: string; readonly reason?: string } {
  switch (outcome.kind) {
    case 'success':
    case 'replace':
    case 'expired':
    case 'unknown':
      return {};
    case 'error':
    case 'fail':
      return { error: `${outcome.error.type}: ${outcome.error.message}` };
    case 'retry':
      return outcome.error === undefined ? {} : { error: `${outcome.error.type}: ${outcome.error.message}` };
    case 'discard':
    case 'reject':
    case 'cancelled':
    case 'postpone':
      return { reason: outcome.reason };
    case 'timeout':
      return { reason: `hard time limit (${outcome.limitMs / 1000}s) exceeded` };
  }
}

/** A time that no Date can hold is no reason to fail. */
function moment(at: Date): string {
  return Number.isNaN(at.getTime()) ? 'a time that cannot be written' : at.toISOString();
}

function seconds(ms: number): string {
  return ms < 10 ? `${(ms / 1000).toFixed(4)}s` : `${(ms / 1000).toFixed(2)}s`;
}
