import { PythonDriver, PythonProcess, pythonOf } from './python-process.ts';
import { toTagged } from './tagged.ts';
import { PATIENCE_MS } from './until.ts';

export { PythonError } from './python-process.ts';

export type CeleryVersion = '5.2' | '5.4' | '5.6';

/** A Python of the set-up: one with this Celery, or with Celery 5.6 and RedBeat. */
export type PythonEnvironment = CeleryVersion | 'redbeat' | 'flower';

const PATIENCE_SECONDS = PATIENCE_MS / 1000;

/** The Python that has this Celery. */
export function pythonFor(version: PythonEnvironment): string {
  return pythonOf(`celery-${version}`);
}

function startPython(version: PythonEnvironment, args: readonly string[], options: PythonAppOptions): PythonProcess {
  const { broker, backend, config, name, prelude, env } = options;
  return new PythonProcess(pythonFor(version), args, {
    // As root, Celery warns about pickle at every start.
    C_FORCE_ROOT: '1',
    JOBGLOT_APP: JSON.stringify(toTagged({ broker, backend, config, name, prelude })),
    ...env,
  });
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

/**
 * Real Celery as a client: one long-lived Python process, one operation at a time (a waiting `get` holds up the next call;
 * use a second instance where that matters).
 */
export class PythonCelery implements AsyncDisposable {
  readonly version: CeleryVersion;
  readonly #driver: PythonDriver<PythonVersions>;

  private constructor(version: PythonEnvironment, driver: PythonDriver<PythonVersions>) {
    this.version = version === 'redbeat' || version === 'flower' ? '5.6' : version;
    this.#driver = driver;
  }

  static async start(version: PythonEnvironment, options: PythonAppOptions): Promise<PythonCelery> {
    const driver = await PythonDriver.start<PythonVersions>(startPython(version, ['driver.py'], options));
    return new PythonCelery(version, driver);
  }

  get versions(): PythonVersions {
    return this.#driver.versions;
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
    return this.#driver.call(op, params);
  }

  /** What it wrote to its standard error, for a failure message. */
  log(): string {
    return this.#driver.log();
  }

  stop(): Promise<void> {
    return this.#driver.stop();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
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
  const own = startPython(version, args, options);
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
  const own = startPython('redbeat', [...args, '--max-interval', '1', '--pidfile='], options);
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
  const own = startPython(version, ['-m', 'celery', '-A', 'app', ...args], options);
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
  const own = startPython(version, ['-m', 'celery', '-A', 'app', ...args], options);
  let output = '';
  own.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  return {
    get output() {
      return output + own.log;
    },
    [Symbol.asyncDispose]: () => own.end('SIGTERM', 3_000),
  };
}
