import { type ChildProcess, fork } from 'node:child_process';
import { constants } from 'node:os';
import { pathToFileURL } from 'node:url';
import type { Failure, Job } from '../../protocols/job.ts';
import {
  boolean,
  callable,
  checkOptions,
  type Checks,
  listOf,
  milliseconds,
  name,
  record,
  text,
  wholeNumber,
} from '../check.ts';
import type { TaskContext } from '../context.ts';
import { ChildDiedError, JobTimeoutError } from '../errors.ts';
import type { Executor } from '../executor.ts';
import { Discard, Fail, Postpone, Reject, Replace, Retry } from '../signals.ts';
import type { FromChild, Thrown, ToChild } from './child-messages.ts';
import type { Middleware } from './middleware.ts';
import { CancelledError } from './runner.ts';

/** Which tasks the children load, how many there are, and how they end. */
export interface ChildProcessOptions {
  /** The file that exports `tasks`, as a path or a URL: each child loads it for itself. */
  readonly tasks: string | URL;
  /** How many jobs run at once, at most. Beyond it a job that was started waits, and its time limits run. @default as many as the worker starts */
  readonly size?: number;
  /** How many children wait, tasks loaded, for the next jobs. @default 1 */
  readonly ready?: number;
  /** How many milliseconds a child may take to end after SIGTERM, before SIGKILL. @default 2 000 */
  readonly termTimeoutMs?: number;
  /** Whether a child gets SIGTERM when its job is to end; false: SIGKILL at once. @default true */
  readonly termChild?: boolean;
  /** The title of the process that runs this job, as `ps` shows it. */
  readonly title?: (job: Job, system: string) => string;
  /** Options of Node for the children. @default those of this process */
  readonly execArgv?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

/** An executor, which is also middleware: as middleware it takes the handler's place, so it is the last one. */
export type ChildProcessExecutor = Middleware & Executor;

/**
 * A process for each job: what it leaks goes with it, and what hangs can be killed.
 * `new Worker({ executor: childProcess({ tasks: new URL('./tasks.ts', import.meta.url) }), … })`, or for one task
 * `tasks.handle(task, handler, { executor })`; as middleware, `worker.use(childProcess({ … }))`. Arguments and results are copied as
 * `structuredClone` copies them. A child that dies with its job fails the job with ChildDiedError. Throws ConfigError for a wrong option.
 */
export function childProcess(options: ChildProcessOptions): ChildProcessExecutor {
  checkOptions('childProcess', options, CHECKS);
  const children = new Children(options);
  const middleware: Middleware = (job, _next, context) => children.run(job, context);
  return Object.assign(middleware, {
    run: (job: Job, context: TaskContext) => children.run(job, context),
    open: () => children.open(),
    close: () => children.close(),
  });
}

const CHECKS: Checks<Required<ChildProcessOptions>> = {
  tasks: (value) => (value instanceof URL ? undefined : name(value)),
  size: wholeNumber(1),
  ready: wholeNumber(0),
  termTimeoutMs: milliseconds,
  termChild: boolean,
  title: callable,
  execArgv: listOf(text, 'texts'),
  env: record,
};

class Children {
  readonly #options: ChildProcessOptions;
  readonly #file: string;
  readonly #ready: ChildProcess[] = [];
  readonly #running = new Set<ChildProcess>();
  /** Jobs that wait for a process, the first one longest. */
  readonly #waiting: (() => void)[] = [];
  #busy = 0;
  #closed = false;

  constructor(options: ChildProcessOptions) {
    this.#options = options;
    const { tasks } = options;
    this.#file = tasks instanceof URL ? tasks.href : tasks.startsWith('file:') ? tasks : pathToFileURL(tasks).href;
  }

  /** Children begin to load the tasks before the first job comes. */
  open(): Promise<void> {
    this.#closed = false;
    this.#prepare();
    return Promise.resolve();
  }

  /** Resolves when no child is left. */
  async close(): Promise<void> {
    this.#closed = true;
    const children = [...this.#ready.splice(0), ...this.#running];
    const left = children.filter((child) => child.exitCode === null && child.signalCode === null);
    await Promise.all(
      left.map((child) => {
        const ended = new Promise((resolve) => child.once('exit', resolve));
        child.kill('SIGKILL');
        return ended;
      }),
    );
  }

  async run(job: Job, context: TaskContext): Promise<unknown> {
    if (this.#busy < this.#size) this.#busy++;
    else await this.#place(context.signal);
    try {
      return await this.#run(job, context);
    } finally {
      this.#busy--;
      this.#waiting.shift()?.();
    }
  }

  /** Waits while as many run as may, then counts as one of them. Rejects with the signal's reason where the job is to end before. */
  async #place(signal: AbortSignal): Promise<void> {
    while (this.#busy >= this.#size) {
      if (signal.aborted) throw signal.reason;
      await new Promise<void>((resolve) => {
        const go = (): void => {
          signal.removeEventListener('abort', leave);
          resolve();
        };
        const leave = (): void => {
          this.#waiting.splice(this.#waiting.indexOf(go), 1);
          resolve();
        };
        this.#waiting.push(go);
        signal.addEventListener('abort', leave, { once: true });
      });
    }
    this.#busy++;
  }

  async #run(job: Job, context: TaskContext): Promise<unknown> {
    if (this.#closed) throw new Error('the executor of this job is closed');
    const child = this.#take();
    const { system, signal } = context;
    const ended = new Promise<unknown>((resolve, reject) => {
      // A handler may send messages of its own with process.send, null among them. They are not for the worker.
      child.on('message', (message: FromChild | null) => {
        if (message === null)
          reject(new Error('the handler called process.send(null), which is no message to a worker'));
        else if (message.kind === 'returned') resolve(message.value);
        else if (message.kind === 'threw') reject(rebuilt(message.thrown));
        else if (message.kind === 'update') context.update(message.state, message.meta).catch(reject);
      });
      child.once('error', reject);
      // After `close` no message of it comes: those it had sent came before.
      child.once('close', (code, signalName) => reject(died(child.pid, code, signalName)));
    });
    // Where the job cannot even be sent, no code waits for its end.
    ended.catch(() => {});
    const stop = (): void => this.#end(child, signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    child.ref();
    child.channel?.ref();
    this.#running.add(child);
    child.once('exit', () => this.#running.delete(child));
    let sent = false;
    try {
      tell(child, { kind: 'run', system, job: plain(job), title: this.#options.title?.(job, system) });
      sent = true;
      if (signal.aborted) stop();
      return await ended;
    } finally {
      if (!sent) child.kill('SIGKILL');
      signal.removeEventListener('abort', stop);
      // It ends by itself. One that does not, because of what its job left behind, has had its time.
      setTimeout(() => child.kill('SIGKILL'), this.#termTimeoutMs).unref();
    }
  }

  get #size(): number {
    return this.#options.size ?? Number.POSITIVE_INFINITY;
  }

  get #termTimeoutMs(): number {
    return this.#options.termTimeoutMs ?? 2_000;
  }

  /** A child that has loaded the tasks already, where there is one. The next is started meanwhile. */
  #take(): ChildProcess {
    let child: ChildProcess | undefined;
    while (child === undefined && this.#ready.length > 0) {
      const one = this.#ready.shift();
      if (one?.connected === true && one.exitCode === null && one.signalCode === null) child = one;
    }
    child ??= this.#start();
    setImmediate(() => this.#prepare());
    return child;
  }

  #prepare(): void {
    while (!this.#closed && this.#ready.length < (this.#options.ready ?? 1)) this.#ready.push(this.#start());
  }

  #start(): ChildProcess {
    const { execArgv, env } = this.#options;
    const main = new URL(import.meta.url.endsWith('.ts') ? './child-main.ts' : './child-main.js', import.meta.url);
    const child = fork(main, [this.#file], {
      serialization: 'advanced',
      ...(execArgv === undefined ? {} : { execArgv: [...execArgv] }),
      ...(env === undefined ? {} : { env }),
    });
    // A child that waits for a job does not keep this process alive, and ends with it. An error before its job shows by its exit.
    child.on('error', () => {});
    child.unref();
    child.channel?.unref();
    return child;
  }

  #end(child: ChildProcess, reason: unknown): void {
    const soft = reason instanceof JobTimeoutError && reason.kind === 'soft';
    const error = reason instanceof Error ? reason : new Error(String(reason));
    tell(child, { kind: 'abort', name: error.name, message: error.message });
    if (soft) return;
    const hard = reason instanceof JobTimeoutError || reason instanceof CancelledError;
    if (hard || this.#options.termChild === false) child.kill('SIGKILL');
    else {
      child.kill('SIGTERM');
      setTimeout(() => child.kill('SIGKILL'), this.#termTimeoutMs).unref();
    }
  }
}

function tell(child: ChildProcess, message: ToChild): void {
  // A child that is gone gets nothing; `close` tells of its end.
  if (child.connected) child.send(message, () => {});
}

/** The job's data alone: a driver may add getters and symbols of its own, for handlers in this process. */
function plain(job: Job): Job {
  const { id, task, args, kwargs, queue, attempt, enqueuedAt, expiresAt, timeoutMs, softTimeoutMs, headers } = job;
  const data = { id, task, args, kwargs, queue, attempt, enqueuedAt, expiresAt, timeoutMs, softTimeoutMs, headers };
  return Object.fromEntries(Object.entries(data).filter(([, value]) => value !== undefined)) as unknown as Job;
}

function died(pid: number | undefined, code: number | null, name: NodeJS.Signals | null): ChildDiedError {
  const what =
    name === null
      ? `Child process exited with code ${code} before its job had ended, pid ${pid}`
      : `Child process received unhandled signal pid ${pid} ${name} (signal ${constants.signals[name]})`;
  return new ChildDiedError(what, code, name);
}

function rebuilt({ failure, name, signal }: Thrown): Error {
  switch (signal?.kind) {
    case 'Retry': {
      const { delayMs, cause } = signal;
      return new Retry({
        message: failure.message,
        ...(delayMs === undefined ? {} : { delayMs }),
        ...(cause === undefined ? {} : { cause: errorOf(cause, cause.type) }),
      });
    }
    case 'Fail':
      return new Fail(signal.cause === undefined ? failure.message : errorOf(signal.cause, signal.cause.type));
    case 'Discard':
      return new Discard(failure.message);
    case 'Postpone':
      return new Postpone({ delayMs: signal.delayMs, reason: failure.message });
    case 'Reject':
      return new Reject(failure.message, { requeue: signal.requeue });
    case 'Replace':
      return new Replace(signal.by);
    case undefined:
      return errorOf(failure, name);
  }
}

/** The error of another process: its name, type, words and stack. */
function errorOf({ type, module, message, args, traceback }: Failure, name: string): Error {
  const error = new Error(message);
  Object.defineProperty(error, 'name', { value: name, configurable: true, writable: true });
  error.stack = traceback;
  return Object.assign(error, {
    type,
    ...(module === undefined ? {} : { module }),
    ...(args === undefined ? {} : { args }),
  });
}
