import { type ChildProcess, fork } from 'node:child_process';
import { constants } from 'node:os';
import { pathToFileURL } from 'node:url';
import type { Failure, Job } from '../../protocols/job.ts';
import { ChildDiedError, JobTimeoutError } from '../errors.ts';
import { Discard, Fail, Postpone, Reject, Replace, Retry } from '../signals.ts';
import type { TaskContext } from '../task.ts';
import type { FromChild, Thrown, ToChild } from './child-messages.ts';
import type { Middleware } from './middleware.ts';
import { CancelledError } from './runner.ts';

/** Which tasks the children load, and how they end. */
export interface ChildProcessOptions {
  /** The file that exports `tasks`, as a path or a URL: each child loads it for itself. */
  readonly tasks: string | URL;
  /** How many children wait, tasks loaded, for the next jobs. @default 1 */
  readonly ready?: number;
  /** How long a child may take to end after SIGTERM, before SIGKILL. @default 2 000 */
  readonly termTimeoutMs?: number;
  /** Told SIGTERM when its job is to end; false: SIGKILL at once. @default true */
  readonly termChild?: boolean;
  /** The title of the process that runs this job, as `ps` shows it. */
  readonly title?: (job: Job, system: string) => string;
  /** Options of Node for the children. @default those of this process */
  readonly execArgv?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

/**
 * A process for each job: what it leaks goes with it, and what hangs can be killed. It takes the handler's place, so it is the last
 * middleware: `worker.use(childProcess({ tasks: new URL('./tasks.ts', import.meta.url) }))`. Arguments and results are copied as
 * `structuredClone` copies them. A child that dies with its job fails it with ChildDiedError.
 */
export function childProcess(options: ChildProcessOptions): Middleware {
  const children = new Children(options);
  return (job, _next, context) => children.run(job, context);
}

class Children {
  readonly #options: ChildProcessOptions;
  readonly #file: string;
  readonly #ready: ChildProcess[] = [];

  constructor(options: ChildProcessOptions) {
    this.#options = options;
    const { tasks } = options;
    this.#file = tasks instanceof URL ? tasks.href : tasks.startsWith('file:') ? tasks : pathToFileURL(tasks).href;
  }

  async run(job: Job, context: TaskContext): Promise<unknown> {
    const child = this.#take();
    const { system, signal } = context;
    const ended = new Promise<unknown>((resolve, reject) => {
      child.on('message', (message: FromChild) => {
        if (message.kind === 'returned') resolve(message.value);
        else if (message.kind === 'threw') reject(rebuilt(message.thrown));
        else if (message.kind === 'update') context.update(message.state, message.meta).catch(reject);
      });
      child.once('error', reject);
      // After `close` nothing more is heard of it: what it had said came before.
      child.once('close', (code, name) => reject(died(child.pid, code, name)));
    });
    // Where the job cannot even be sent, nobody waits for its end.
    ended.catch(() => {});
    const stop = (): void => this.#end(child, signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    child.ref();
    child.channel?.ref();
    let sent = false;
    try {
      tell(child, { kind: 'run', system, job: plain(job), title: this.#options.title?.(job, system) });
      sent = true;
      if (signal.aborted) stop();
      return await ended;
    } finally {
      if (!sent) child.kill('SIGKILL');
      signal.removeEventListener('abort', stop);
      // It ends by itself; one that does not, because of what its job left behind, has had its time.
      setTimeout(() => child.kill('SIGKILL'), this.#termTimeoutMs).unref();
    }
  }

  get #termTimeoutMs(): number {
    return this.#options.termTimeoutMs ?? 2_000;
  }

  /** One that has loaded the tasks already, where there is one; the next is started meanwhile. */
  #take(): ChildProcess {
    let child: ChildProcess | undefined;
    while (child === undefined && this.#ready.length > 0) {
      const one = this.#ready.shift();
      if (one?.connected === true && one.exitCode === null && one.signalCode === null) child = one;
    }
    child ??= this.#start();
    setImmediate(() => {
      while (this.#ready.length < (this.#options.ready ?? 1)) this.#ready.push(this.#start());
    });
    return child;
  }

  #start(): ChildProcess {
    const { execArgv, env } = this.#options;
    const main = new URL(import.meta.url.endsWith('.ts') ? './child-main.ts' : './child-main.js', import.meta.url);
    const child = fork(main, [this.#file], {
      serialization: 'advanced',
      ...(execArgv === undefined ? {} : { execArgv: [...execArgv] }),
      ...(env === undefined ? {} : { env }),
    });
    // One that waits does not keep this process alive, and ends with it. What goes wrong before its job shows by its exit.
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
  // One that is gone hears nothing; its end is told by `close`.
  if (child.connected) child.send(message, () => {});
}

/** Only what is data: a job may have getters and symbols for those who run it here. */
function plain(job: Job): Job {
  const { id, task, args, kwargs, queue, attempt, enqueuedAt, expiresAt, timeoutMs, softTimeoutMs } = job;
  return Object.fromEntries(
    Object.entries({ id, task, args, kwargs, queue, attempt, enqueuedAt, expiresAt, timeoutMs, softTimeoutMs }).filter(
      ([, value]) => value !== undefined,
    ),
  ) as unknown as Job;
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
