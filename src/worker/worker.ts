import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import type { Job } from '../../protocols/job.ts';
import { amount, callable, checkOptions, type Checks, listOf, milliseconds } from '../check.ts';
import { ConfigError } from '../errors.ts';
import { type Executor, executor } from '../executor.ts';
import { type Logger, silent } from '../log.ts';
import { type Host, pause, type PoisonReport, type Source } from '../source.ts';
import type { Tasks } from '../task.ts';
import { Agents } from './agents.ts';
import { Events } from '../events.ts';
import type { WorkerEvents, WorkerState } from './events.ts';
import { Executors } from './executors.ts';
import { Lane } from './lane.ts';
import type { Middleware } from './middleware.ts';

/** The tasks of a worker, where its jobs come from, and how it stops. */
export interface WorkerOptions {
  readonly tasks: Tasks;
  /** Where jobs come from; each with its own concurrency. At least one. */
  readonly sources: readonly Source[];
  readonly middleware?: readonly Middleware[];
  /** Where handlers run, unless their task or their source names its own. @default in the event loop of this process */
  readonly executor?: Executor;
  /** Shaped like pino's. @default nothing is written */
  readonly log?: Logger;
  /** How many milliseconds `stop` waits for running handlers before it aborts their signals; Infinity for no limit. @default 25 000 */
  readonly shutdownTimeoutMs?: number;
  /** How many milliseconds aborted handlers may take to end before their jobs are given back without them. @default 3 000 */
  readonly abortGraceMs?: number;
}

const CHECKS: Checks<Required<WorkerOptions>> = {
  tasks: (value) => (hasMethods(value, 'find', 'names') ? undefined : 'must be a registry: new Tasks()'),
  sources: listOf(
    (value) => (hasMethods(value, 'open', 'receive', 'quiet', 'close') ? undefined : 'must be a source'),
    'sources, such as celery({ broker })',
  ),
  middleware: listOf(callable, 'functions: (job, next, context) => next()'),
  executor,
  log: (value) =>
    hasMethods(value, 'debug', 'info', 'warn', 'error')
      ? undefined
      : 'must be a logger with debug, info, warn and error, such as createLogger() or pino()',
  shutdownTimeoutMs: amount('milliseconds', { infinite: true }),
  abortGraceMs: milliseconds,
};

/**
 * The life of a worker: idle, running, quiet, stopping, stopped. Nothing happens in the constructor; no signal handlers are
 * installed. At least once: a job whose worker dies is run again by its system's own recovery.
 */
export class Worker implements AsyncDisposable {
  readonly events: Events<WorkerEvents> = new Events();
  readonly #options: WorkerOptions;
  readonly #middleware: Middleware[];
  readonly #log: Logger;
  readonly #agents: Agents;
  readonly #executors: Executors;
  #lanes: readonly Lane[] = [];
  #state: WorkerState = 'idle';
  #started: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;
  #quieted: Promise<void> | undefined;
  #hurry: AbortController = new AbortController();
  #ended: () => void = () => {};
  readonly #end: Promise<void> = new Promise((resolve) => (this.#ended = resolve));

  /** Throws ConfigError for an option that is unknown or wrong. */
  constructor(options: WorkerOptions) {
    checkOptions('Worker', options, CHECKS);
    if (options.sources.length === 0)
      throw new ConfigError('Worker: sources is empty; pass at least one, such as celery({ broker })');
    this.#options = options;
    this.#middleware = [...(options.middleware ?? [])];
    this.#log = options.log ?? silent;
    this.#agents = new Agents(this.#log, this.events);
    this.#executors = new Executors(options.executor, this.#log);
  }

  /** Its state. */
  get state(): WorkerState {
    return this.#state;
  }

  /** Jobs whose handlers run now. */
  get running(): readonly Job[] {
    return this.#lanes.flatMap((lane) => lane.running);
  }

  /** For each source: how many handlers run, how many jobs were processed, and milliseconds since the source last answered. */
  get health(): readonly {
    readonly system: string;
    readonly running: number;
    readonly processed: number;
    readonly silentMs: number;
  }[] {
    return this.#lanes.map((lane) => ({
      system: lane.source.system,
      running: lane.running.length,
      processed: lane.processed,
      silentMs: lane.lastReceiveAt === 0 ? Number.POSITIVE_INFINITY : performance.now() - lane.lastReceiveAt,
    }));
  }

  /** Add middleware; before `start`. */
  use(middleware: Middleware): this {
    if (this.#state !== 'idle') throw new ConfigError('Worker.use: add middleware before the worker starts');
    const wrong = callable(middleware);
    if (wrong !== undefined) throw new ConfigError(`Worker.use: a middleware ${wrong}: (job, next, context) => next()`);
    this.#middleware.push(middleware);
    return this;
  }

  /** Listen. The function that is returned ends that. */
  on<Name extends keyof WorkerEvents>(name: Name, listener: (event: WorkerEvents[Name]) => void): () => void {
    return this.events.on(name, listener);
  }

  /** The next event of this name that `matches` accepts, if it is given. */
  once<Name extends keyof WorkerEvents>(
    name: Name,
    matches?: (event: WorkerEvents[Name]) => boolean,
  ): Promise<WorkerEvents[Name]> {
    return this.events.once(name, matches);
  }

  /** Open every executor and source and begin to fetch. Rejects with ConnectionError where a source cannot be opened; then nothing runs. */
  start(): Promise<void> {
    if (this.#state !== 'idle')
      return Promise.reject(new ConfigError(`Worker.start: the worker is ${this.#state}; a worker starts once`));
    this.#enter('running');
    return (this.#started = this.#start());
  }

  async #start(): Promise<void> {
    const host = this.#host();
    const opened: Source[] = [];
    try {
      await this.#executors.open(this.#options.sources, this.#options.tasks, this.#middleware);
      for (const source of this.#options.sources) {
        opened.push(source);
        await source.open(host);
      }
    } catch (error) {
      await Promise.allSettled([...opened.map((source) => source.close()), this.#executors.close()]);
      this.#enter('stopped');
      this.#ended();
      throw error;
    }
    this.#lanes = this.#options.sources.map(
      (source) =>
        new Lane({
          source,
          tasks: this.#options.tasks,
          middleware: this.#middleware,
          executors: this.#executors,
          log: this.#log,
          events: this.events,
          cancelGraceMs: this.#options.abortGraceMs ?? 3_000,
        }),
    );
    for (const { agents } of this.#options.sources) for (const agent of agents) this.#agents.start(agent);
    for (const lane of this.#lanes) lane.start();
  }

  /** Start, and resolve when the worker has stopped: because `signal` aborted, or because of `stop`. */
  async run(signal?: AbortSignal): Promise<void> {
    await this.start();
    const stop = (): void => void this.stop();
    if (signal?.aborted) stop();
    else signal?.addEventListener('abort', stop, { once: true });
    await this.#end;
    signal?.removeEventListener('abort', stop);
  }

  /** Take no more jobs and give back waiting ones; running handlers go on. */
  quiet(): Promise<void> {
    return (this.#quieted ??= this.#quiet());
  }

  /**
   * Quiet; wait up to `timeoutMs` for running handlers; abort their signals; give back what still runs; close. A second call
   * with a shorter time hurries the first. `stop({ timeoutMs: 0 })` is stop now. Rejects with ConfigError where `timeoutMs` is no number.
   */
  stop(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    const timeoutMs = options.timeoutMs ?? this.#options.shutdownTimeoutMs ?? 25_000;
    if (typeof timeoutMs !== 'number' || Number.isNaN(timeoutMs))
      return Promise.reject(
        new ConfigError(`Worker.stop: timeoutMs must be a number of milliseconds, not ${timeoutMs}`),
      );
    if (timeoutMs <= 0) this.#hurry.abort();
    return (this.#stopped ??= this.#stop(timeoutMs));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#state !== 'idle') await this.stop();
  }

  async #quiet(): Promise<void> {
    if (this.#state === 'running') this.#enter('quiet');
    await Promise.all(this.#lanes.map((lane) => lane.quiet()));
  }

  async #stop(timeoutMs: number): Promise<void> {
    // A source that is half open cannot be closed. Where a source cannot be opened, the start itself ends the worker.
    await this.#started?.catch(() => undefined);
    if (this.#state === 'idle' || this.#state === 'stopped') {
      this.#enter('stopped');
      this.#ended();
      return;
    }
    const quieted = this.quiet();
    this.#enter('stopping');
    const drained = Promise.all(this.#lanes.map((lane) => lane.drained()));
    if (!(await ends(drained, timeoutMs, this.#hurry.signal))) {
      // Waiting jobs go back first. Running ones were ahead of them, and are ahead again when they go back last.
      await ends(quieted, 2_000);
      for (const lane of this.#lanes) lane.abort();
      // Where no handler runs any more, only writes are left, and they have a time of their own.
      if (this.running.length === 0 || !(await ends(drained, this.#options.abortGraceMs ?? 3_000))) {
        for (const lane of this.#lanes) lane.releaseRunning();
        // Writes under way may need a moment more. After that, the system's own recovery returns the jobs.
        if (!(await ends(drained, 2_000))) for (const lane of this.#lanes) lane.giveUp();
        await ends(drained, 2_000);
      }
    }
    if (!(await ends(quieted, 5_000))) for (const lane of this.#lanes) lane.giveUp();
    await this.#agents.stop();
    await Promise.all([...this.#options.sources.map((source) => this.#close(source)), this.#executors.close()]);
    this.#enter('stopped');
    this.#ended();
  }

  async #close(source: Source): Promise<void> {
    const { system } = source;
    try {
      if (!(await ends(source.close(), 5_000))) this.#log.warn({ system }, 'a source did not close in time');
    } catch (error) {
      this.#log.warn({ system, error }, 'a source did not close cleanly');
    }
  }

  #enter(state: WorkerState): void {
    this.#state = state;
    this.events.emit('worker:state', { state });
  }

  #host(): Host {
    return {
      identity: { hostname: hostname(), pid: process.pid, nonce: randomBytes(6).toString('hex') },
      tasks: this.#options.tasks,
      log: this.#log,
      cancel: (jobId, reason, which) => this.#lanes.some((lane) => lane.cancel(jobId, reason, which)),
      unknownHeld: (source) => this.#lanes.find((lane) => lane.source === source)?.unknownHeld ?? 0,
      resized: () => this.#lanes.forEach((lane) => lane.resized()),
      poison: (report: PoisonReport) => {
        const { reason, kept, ...fields } = report;
        this.#log.error(fields, `not a job: ${reason}. ${kept}`);
        this.events.emit('job:poison', report);
      },
      quiet: () => void this.quiet(),
      stop: () => void this.stop(),
    };
  }
}

function hasMethods(value: unknown, ...names: readonly string[]): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return names.every((one) => typeof (value as Readonly<Record<string, unknown>>)[one] === 'function');
}

/** Whether `work` ends within `ms` (or before `hurry` aborts). */
async function ends(work: Promise<unknown>, ms: number, hurry?: AbortSignal): Promise<boolean> {
  const limit = new AbortController();
  const late = pause(ms, hurry === undefined ? limit.signal : AbortSignal.any([limit.signal, hurry])).then(() => false);
  const ended = await Promise.race([work.then(() => true), late]);
  limit.abort();
  return ended;
}
