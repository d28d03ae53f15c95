import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { hold } from './leash.mjs';
import { root, venvPython } from './setup.mjs';
import { fromTagged, toTagged } from './tagged.ts';
import { PATIENCE_MS } from './until.ts';

export type CeleryVersion = '5.2' | '5.4' | '5.6';

/** A Python of the set-up: one with this Celery, or with Celery 5.6 and RedBeat. */
export type PythonEnvironment = CeleryVersion | 'redbeat' | 'flower';

const apps = join(root, 'test/interop/apps');

const PATIENCE_SECONDS = PATIENCE_MS / 1000;

/** The Python that has this Celery: JOBGLOT_PYTHON_52, _54, _56, else the one the set-up made. */
export function pythonFor(version: PythonEnvironment): string {
  const python = process.env[`JOBGLOT_PYTHON_${version.replace('.', '')}`] ?? venvPython(`celery-${version}`);
  if (!existsSync(python)) {
    throw new Error(
      `no Python with Celery ${version}: run \`node test/support/setup.mjs celery-${version}\` (npm test does it by itself)`,
    );
  }
  return python;
}

/** What the Python application is given (test/interop/apps/app.py). */
export interface PythonAppOptions {
  readonly broker: string;
  readonly backend?: string;
  /** Celery's settings under their own names: `{ task_protocol: 1, accept_content: ['json', 'yaml'] }`. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** The application's name. @default 'interop' */
  readonly name?: string;
  /** Python source run with `app` in scope, for what one test needs. */
  readonly prelude?: string;
  /** More environment. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface PythonVersions {
  readonly celery: string;
  readonly kombu: string;
  readonly redis: string;
  readonly python: string;
}

/** What AsyncResult.get came to, as Python has it. */
export type PythonOutcome =
  | {
      readonly ok: true;
      readonly state: string | null;
      readonly value: unknown;
      /** `repr(value)`: exact where JSON is not (`3.0`, tuples, classes). */
      readonly repr: string;
    }
  | {
      readonly ok: false;
      readonly state: string | null;
      readonly type: string;
      readonly module: string;
      /** The names of its base classes, nearest first. */
      readonly bases: readonly string[];
      readonly args: readonly unknown[];
      readonly message: string;
      readonly traceback: string | null;
    };

/** A canvas, as the driver builds it. */
export type PythonCanvas = (
  | {
      readonly task: string;
      readonly args?: readonly unknown[];
      readonly kwargs?: Readonly<Record<string, unknown>>;
      readonly options?: Readonly<Record<string, unknown>>;
      readonly immutable?: boolean;
    }
  | { readonly chain: readonly PythonCanvas[] }
  | { readonly group: readonly PythonCanvas[] }
  | { readonly chord: readonly PythonCanvas[]; readonly body: PythonCanvas }
  | { readonly map: PythonCanvas; readonly it: readonly unknown[]; readonly options?: SendOptions }
  | { readonly starmap: PythonCanvas; readonly it: readonly unknown[]; readonly options?: SendOptions }
  | { readonly chunks: PythonCanvas; readonly it: readonly unknown[]; readonly n: number }
) & { readonly link?: readonly PythonCanvas[]; readonly link_error?: readonly PythonCanvas[] };

/** Options of apply_async and send_task, under their own names and units. */
export type SendOptions = Readonly<Record<string, unknown>>;

interface Reply {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: { readonly type: string; readonly message: string; readonly traceback: string };
}

/**
 * Real Celery as a client: one long-lived Python process, one operation at a time (a waiting `get` holds up the next call;
 * use a second instance where that matters).
 */
export class PythonCelery implements AsyncDisposable {
  readonly version: CeleryVersion;
  readonly versions: PythonVersions;
  readonly #process: PythonProcess;
  readonly #pending: Map<number, Waiting>;
  #lastId = 0;

  private constructor(
    version: PythonEnvironment,
    versions: PythonVersions,
    own: PythonProcess,
    pending: Map<number, Waiting>,
  ) {
    this.version = version === 'redbeat' || version === 'flower' ? '5.6' : version;
    this.versions = versions;
    this.#process = own;
    this.#pending = pending;
  }

  static async start(version: PythonEnvironment, options: PythonAppOptions): Promise<PythonCelery> {
    const own = new PythonProcess(version, ['driver.py'], options);
    const pending = new Map<number, Waiting>();
    const hello = withResolvers();
    pending.set(0, hello);
    createInterface({ input: own.stdout }).on('line', (line) => {
      const reply = JSON.parse(line) as Reply;
      const waiting = pending.get(reply.id);
      pending.delete(reply.id);
      if (reply.error === undefined) waiting?.resolve(fromTagged(reply.value));
      else waiting?.reject(new PythonError(reply.error));
    });
    void own.gone.then(() => {
      for (const waiting of pending.values()) waiting.reject(new Error(`the Python process ended:\n${own.log}`));
      pending.clear();
    });
    return new PythonCelery(version, (await hello.promise) as PythonVersions, own, pending);
  }

  /** send_task: by name, for a task of the other side. The task's id. */
  send(name: string, args: readonly unknown[] = [], kwargs: object = {}, options: SendOptions = {}): Promise<string> {
    return this.call('send', { name, args, kwargs, options }) as Promise<string>;
  }

  /** apply_async of a task the Python application has itself (`py.…`, `both.…`), with that task's own defaults. */
  applyAsync(
    name: string,
    args: readonly unknown[] = [],
    kwargs: object = {},
    options: SendOptions = {},
  ): Promise<string> {
    return this.call('call', { name, args, kwargs, options }) as Promise<string>;
  }

  /** AsyncResult(id).get(), or of the group or chord applied under this id. Rejects when there is none in time. */
  async get(id: string, timeoutSeconds = PATIENCE_SECONDS): Promise<PythonOutcome> {
    const { kind, ...outcome } = (await this.call('get', { id, timeout: timeoutSeconds })) as {
      kind: string;
      state: string | null;
    };
    if (kind === 'timeout')
      throw new Error(`Python had no result of ${id} within ${timeoutSeconds} s; its state is ${outcome.state}`);
    return { ok: kind === 'value', ...outcome } as PythonOutcome;
  }

  /** The value, or an error that says how the task ended instead. */
  async value(id: string, timeoutSeconds = PATIENCE_SECONDS): Promise<unknown> {
    const outcome = await this.get(id, timeoutSeconds);
    if (outcome.ok) return outcome.value;
    throw new Error(`${id} ended ${outcome.state}: ${outcome.type}: ${outcome.message}\n${outcome.traceback}`);
  }

  state(id: string): Promise<string> {
    return this.call('state', { id }) as Promise<string>;
  }

  info(id: string): Promise<unknown> {
    return this.call('info', { id });
  }

  /** The stored record, as Celery decodes it. */
  meta(id: string): Promise<Readonly<Record<string, unknown>>> {
    return this.call('meta', { id }) as Promise<Readonly<Record<string, unknown>>>;
  }

  children(id: string): Promise<readonly string[]> {
    return this.call('children', { id }) as Promise<readonly string[]>;
  }

  forget(id: string): Promise<void> {
    return this.call('forget', { id }) as Promise<void>;
  }

  /** Send a canvas. `get(id)` waits for the last of it. */
  apply(
    spec: PythonCanvas,
    options: SendOptions = {},
  ): Promise<{ readonly id: string; readonly parents: readonly string[]; readonly members: readonly string[] }> {
    return this.call('apply', { spec, options }) as ReturnType<PythonCelery['apply']>;
  }

  /** The dictionary Celery makes of a canvas. */
  signature(spec: PythonCanvas): Promise<unknown> {
    return this.call('signature', { spec });
  }

  revoke(id: string, options: SendOptions = {}): Promise<void> {
    return this.call('revoke', { id, options }) as Promise<void>;
  }

  /** app.control.broadcast(command, arguments, **options): `{ reply: true, timeout: 2, destination: [...] }`. */
  control(command: string, args: object = {}, options: SendOptions = {}): Promise<unknown> {
    return this.call('control', { command, arguments: args, options });
  }

  /** app.control.inspect(**options).<command>(*args): replies by worker, or null. */
  inspect(
    command: string,
    args: readonly unknown[] = [],
    options: SendOptions = {},
  ): Promise<Readonly<Record<string, unknown>> | null> {
    return this.call('inspect', { command, arguments: args, options }) as Promise<Readonly<
      Record<string, unknown>
    > | null>;
  }

  ping(options: SendOptions = {}): Promise<readonly Readonly<Record<string, unknown>>[]> {
    return this.call('ping', { options }) as Promise<readonly Readonly<Record<string, unknown>>[]>;
  }

  /** Run Python source with `app`, `celery`, `kombu` and `values` in scope; what it left in `result`. */
  run(source: string, values: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    return this.call('run', { source, values });
  }

  /** Any operation of driver.py, by its name. Rejects with PythonError when Python raises. */
  call(op: string, params: object = {}): Promise<unknown> {
    const id = ++this.#lastId;
    const waiting = withResolvers();
    this.#pending.set(id, waiting);
    if (this.#process.isGone) {
      this.#pending.delete(id);
      return Promise.reject(new Error(`the Python process ended:\n${this.#process.log}`));
    }
    this.#process.stdin.write(`${JSON.stringify({ id, op, params: toTagged(params) })}\n`);
    return waiting.promise;
  }

  /** What it wrote to its standard error, for a failure message. */
  log(): string {
    return this.#process.log;
  }

  async stop(): Promise<void> {
    await this.#process.end('SIGTERM');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

/** What Celery raised in the driver. */
export class PythonError extends Error {
  override readonly name = 'PythonError';
  readonly type: string;
  readonly traceback: string;
  constructor(error: { readonly type: string; readonly message: string; readonly traceback: string }) {
    super(`${error.type}: ${error.message}`);
    this.type = error.type;
    this.traceback = error.traceback;
  }
}

export interface PythonWorkerOptions extends PythonAppOptions {
  /** @default Celery's own: task_queues of the config, else `celery` */
  readonly queues?: readonly string[];
  /** @default 'solo' */
  readonly pool?: 'solo' | 'prefork' | 'threads';
  /** @default 1 */
  readonly concurrency?: number;
  /** @default 'INFO' */
  readonly loglevel?: string;
  /** `-n`, where `%h` is the host. @default one of its own */
  readonly hostname?: string;
  /** More arguments of `celery worker`: `['--without-mingle']`. */
  readonly args?: readonly string[];
}

/** A real `celery -A app worker`. */
export interface PythonWorker extends AsyncDisposable {
  readonly version: CeleryVersion;
  /** The node name it answers remote control under. */
  readonly hostname: string;
  readonly pid: number;
  /** Warm shutdown (SIGTERM): it finishes what it runs. Killed after `timeoutMs`. @default 15 000 */
  stop(timeoutMs?: number): Promise<void>;
  /** SIGKILL for the worker and its pool, as the kernel does when memory runs out. */
  kill(): Promise<void>;
  /** One signal to the main process only. */
  signal(signal: NodeJS.Signals): void;
  /** Resolves when it has ended. */
  readonly gone: Promise<void>;
  log(): string;
}

let workers = 0;

/** Starts one, and resolves when it is ready to consume. */
export async function startPythonWorker(version: CeleryVersion, options: PythonWorkerOptions): Promise<PythonWorker> {
  const hostname = options.hostname ?? `python-${process.pid}-${++workers}@test`;
  const args = ['-m', 'celery', '-A', 'app', 'worker', '-n', hostname, '-l', options.loglevel ?? 'INFO'];
  args.push('--pool', options.pool ?? 'solo', '--concurrency', String(options.concurrency ?? 1));
  if (options.queues !== undefined) args.push('-Q', options.queues.join(','));
  args.push(...(options.args ?? []));
  const own = new PythonProcess(version, args, options);
  await own.says('jobglot: worker ready', PATIENCE_MS);
  return {
    version,
    hostname,
    pid: own.pid,
    gone: own.gone,
    stop: (timeoutMs = 15_000) => own.end('SIGTERM', timeoutMs),
    kill: () => own.end('SIGKILL'),
    signal: (signal) => process.kill(own.pid, signal),
    log: () => own.log,
    [Symbol.asyncDispose]: () => own.end('SIGTERM', 5_000),
  };
}

/** A real `celery -A app beat` with RedBeat's scheduler. */
export interface PythonBeat extends AsyncDisposable {
  /** Resolves when it leads. */
  leads(): Promise<void>;
  /** SIGTERM: it gives its lock back. */
  stop(): Promise<void>;
  kill(): Promise<void>;
  log(): string;
}

/** Starts one, and resolves when it asks for the lock. It looks at the schedule, and for the lock, each second. */
export async function startRedBeat(options: PythonAppOptions): Promise<PythonBeat> {
  const args = ['-m', 'celery', '-A', 'app', 'beat', '-S', 'redbeat.RedBeatScheduler', '-l', 'DEBUG'];
  const own = new PythonProcess('redbeat', [...args, '--max-interval', '1', '--pidfile='], options);
  await own.says('beat: Acquiring lock', PATIENCE_MS);
  return {
    leads: () => own.says('beat: Acquired lock', PATIENCE_MS),
    stop: () => own.end('SIGTERM', 5_000),
    kill: () => own.end('SIGKILL'),
    log: () => own.log,
    [Symbol.asyncDispose]: () => own.end('SIGTERM', 5_000),
  };
}

/** A `celery -A app …` that runs to its end. */
export async function runCelery(
  version: CeleryVersion,
  options: PythonAppOptions,
  args: readonly string[],
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  const own = new PythonProcess(version, ['-m', 'celery', '-A', 'app', ...args], options);
  let stdout = '';
  own.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  own.stdin.end();
  const patience = setTimeout(() => void own.end('SIGKILL'), 30_000);
  await own.gone;
  clearTimeout(patience);
  return { code: own.code, stdout, stderr: own.log };
}

/** A `celery -A app …` that runs until it is stopped: `events --dump`. */
export interface RunningCelery extends AsyncDisposable {
  /** What it has printed. */
  readonly output: string;
}

export function startCelery(
  version: PythonEnvironment,
  options: PythonAppOptions,
  args: readonly string[],
): RunningCelery {
  const own = new PythonProcess(version, ['-m', 'celery', '-A', 'app', ...args], options);
  let output = '';
  own.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  return {
    get output() {
      return output + own.log;
    },
    [Symbol.asyncDispose]: () => own.end('SIGTERM', 3_000),
  };
}

/** One Python in test/interop/apps, in a process group of its own so that a pool dies with its parent. */
class PythonProcess {
  log = '';
  isGone = false;
  /** -1 while it runs, and when a signal ended it. */
  code = -1;
  readonly gone: Promise<void>;
  readonly #child: ChildProcess;

  constructor(version: PythonEnvironment, args: readonly string[], { env, ...app }: PythonAppOptions) {
    this.#child = spawn(pythonFor(version), args, {
      cwd: apps,
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
      env: {
        ...process.env,
        PYTHONDONTWRITEBYTECODE: '1',
        PYTHONUNBUFFERED: '1',
        PYTHONPATH: apps,
        // As root, Celery warns about pickle at every start.
        C_FORCE_ROOT: '1',
        JOBGLOT_APP: JSON.stringify(
          toTagged({
            broker: app.broker,
            backend: app.backend,
            config: app.config,
            name: app.name,
            prelude: app.prelude,
          }),
        ),
        ...env,
      },
    });
    hold(this.#child, { group: true });
    this.#child.stderr?.on('data', (chunk: Buffer) => (this.log += chunk.toString()));
    // Writing to a process that is gone is told by `gone`.
    this.#child.stdin?.on('error', () => {});
    this.gone = new Promise((resolve) => {
      const gone = (): void => {
        this.isGone = true;
        resolve();
      };
      this.#child.once('error', (error) => {
        this.log += error.message;
        gone();
      });
      this.#child.once('close', (code) => {
        this.code = code ?? -1;
        gone();
      });
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get stdin(): NodeJS.WritableStream {
    return this.#child.stdin as NodeJS.WritableStream;
  }

  get stdout(): NodeJS.ReadableStream {
    return this.#child.stdout as NodeJS.ReadableStream;
  }

  /** Resolves when the log has these words; rejects, with the log, when it ends or takes too long. */
  async says(words: string, timeoutMs: number): Promise<void> {
    // A worker writes there too, and must not block on a full pipe.
    this.stdout.on('data', (chunk: Buffer) => (this.log += chunk.toString()));
    const deadline = Date.now() + timeoutMs;
    while (!this.log.includes(words)) {
      if (this.isGone) throw new Error(`the Python process ended before '${words}':\n${this.log}`);
      if (Date.now() > deadline) {
        await this.end('SIGKILL');
        throw new Error(`no '${words}' within ${timeoutMs} ms:\n${this.log}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async end(signal: NodeJS.Signals, patienceMs = 5_000): Promise<void> {
    if (this.isGone) return;
    if (signal === 'SIGKILL') this.#killGroup();
    else this.#child.kill(signal);
    const patience = setTimeout(() => this.#killGroup(), patienceMs);
    await this.gone;
    clearTimeout(patience);
  }

  #killGroup(): void {
    try {
      process.kill(-this.pid, 'SIGKILL');
    } catch {
      // Gone already.
    }
  }
}

interface Waiting {
  readonly promise: Promise<unknown>;
  resolve(value: unknown): void;
  reject(error: Error): void;
}

function withResolvers(): Waiting {
  let resolve!: (value: unknown) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<unknown>((yes, no) => ([resolve, reject] = [yes, no]));
  return { promise, resolve, reject };
}
