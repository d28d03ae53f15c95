import { readFileSync } from 'node:fs';
import { freePort } from './free-port.ts';
import { PythonDriver, PythonProcess, pythonOf } from './python-process.ts';
import { PATIENCE_MS, until } from './until.ts';

/** The versions of RQ that the set-up has a Python for. */
export type RqVersion = '1.10' | '1.13' | '1.16' | '2.0' | '2.10' | '2.12';

export interface PythonRqVersions {
  readonly rq: string;
  readonly redis: string;
  readonly python: string;
}

/** How a job ended, as Python has it. */
export interface PythonRqOutcome {
  readonly status: 'finished' | 'failed' | 'stopped' | 'canceled';
  /** `job.return_value()` */
  readonly value: unknown;
  /** `repr` of it: exact where JSON is not. */
  readonly repr: string;
  /** `job.latest_result().exc_string` */
  readonly exc: string | null;
  readonly type: string | null;
}

export interface PythonRqJob {
  readonly status: string;
  readonly func: string;
  readonly args: readonly unknown[];
  readonly kwargs: Readonly<Record<string, unknown>>;
  readonly origin: string;
  readonly description: string;
  readonly meta: Readonly<Record<string, unknown>>;
  readonly timeout: number | null;
  readonly ttl: number | null;
  readonly result_ttl: number | null;
  readonly failure_ttl: number | null;
  readonly retries_left: number | null;
  readonly worker_name: string;
  readonly created_at: string | null;
  readonly enqueued_at: string | null;
  readonly started_at: string | null;
  readonly ended_at: string | null;
  readonly dependency_ids: readonly string[];
}

export interface PythonRqResult {
  readonly type: string;
  readonly value: unknown;
  readonly exc: string | null;
  readonly worker: string | null;
}

export interface PythonRqWorkerState {
  readonly name: string;
  readonly state: string;
  readonly queues: readonly string[];
  readonly pid: number;
  readonly hostname: string;
  readonly version: string;
  readonly current_job: string | null;
  readonly successful: number;
  readonly failed: number;
}

export type PythonRegistries = Readonly<
  Record<'started' | 'finished' | 'failed' | 'deferred' | 'scheduled' | 'canceled' | 'queued', readonly string[]>
>;

/** Real RQ as a client: one long-lived Python process, one operation at a time. */
export class PythonRq implements AsyncDisposable {
  readonly version: RqVersion;
  readonly #driver: PythonDriver<PythonRqVersions>;

  private constructor(version: RqVersion, driver: PythonDriver<PythonRqVersions>) {
    this.version = version;
    this.#driver = driver;
  }

  static async start(version: RqVersion, url: string): Promise<PythonRq> {
    const own = new PythonProcess(pythonOf(`rq-${version}`), ['rq_driver.py'], { RQ_URL: url });
    return new PythonRq(version, await PythonDriver.start<PythonRqVersions>(own));
  }

  get versions(): PythonRqVersions {
    return this.#driver.versions;
  }

  /** `Queue(queue).enqueue(name, args=args, kwargs=kwargs, **options)`: the id. */
  enqueue(
    name: string,
    args: readonly unknown[] = [],
    { kwargs = {}, queue = 'default', options = {} }: RqEnqueueOptions = {},
  ): Promise<string> {
    return this.#driver.call('enqueue', { name, args, kwargs, queue, options }) as Promise<string>;
  }

  /** How it ended. Rejects when it has not in time. */
  outcome(id: string, timeoutSeconds: number = PATIENCE_MS / 1000): Promise<PythonRqOutcome> {
    return this.#driver.call('outcome', { id, timeout: timeoutSeconds }) as Promise<PythonRqOutcome>;
  }

  /** `job.return_value()`, or an error that says how the job ended instead. */
  async value(id: string, timeoutSeconds?: number): Promise<unknown> {
    const { status, value, exc } = await this.outcome(id, timeoutSeconds);
    if (status === 'finished') return value;
    throw new Error(`${id} is ${status}: ${exc}`);
  }

  job(id: string): Promise<PythonRqJob> {
    return this.#driver.call('state', { id }) as Promise<PythonRqJob>;
  }

  /** The newest first. */
  results(id: string): Promise<readonly PythonRqResult[]> {
    return this.#driver.call('results', { id }) as Promise<readonly PythonRqResult[]>;
  }

  /** The ids of each registry; with `cleanup`, after Python's own cleaning of it. */
  registries(queue = 'default', cleanup = true): Promise<PythonRegistries> {
    return this.#driver.call('registries', { queue, cleanup }) as Promise<PythonRegistries>;
  }

  workers(): Promise<readonly PythonRqWorkerState[]> {
    return this.#driver.call('workers') as Promise<readonly PythonRqWorkerState[]>;
  }

  /** Run Python source with RQ's names, `connection` and `values` in scope; what it left in `result`. */
  run(source: string, values: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    return this.#driver.call('run', { source, values });
  }

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

export interface RqEnqueueOptions {
  readonly kwargs?: Readonly<Record<string, unknown>>;
  readonly queue?: string;
  /** RQ's own: `{ job_id: 'a', ttl: 60, at_front: true }`. */
  readonly options?: Readonly<Record<string, unknown>>;
}

export interface RqWorkerOptions {
  readonly url: string;
  readonly queues: readonly string[];
  /** @default 'Worker', which forks a process for each job */
  readonly kind?: 'Worker' | 'SimpleWorker';
  readonly name?: string;
  /** More arguments of `rq worker`: `['--with-scheduler']`. */
  readonly args?: readonly string[];
}

/** A real `rq worker`. */
export interface PythonRqWorker extends AsyncDisposable {
  readonly name: string;
  readonly pid: number;
  /** Warm shutdown (SIGTERM): it finishes what it runs. Killed after `timeoutMs`. @default 15 000 */
  stop(timeoutMs?: number): Promise<void>;
  /** SIGKILL for the worker and its work-horse. */
  kill(): Promise<void>;
  /** Resolves when it has ended. */
  readonly gone: Promise<void>;
  readonly isGone: boolean;
  log(): string;
}

let workers = 0;

/** Starts one, and resolves when it listens. */
export async function startRqWorker(version: RqVersion, options: RqWorkerOptions): Promise<PythonRqWorker> {
  const name = options.name ?? `python-${process.pid}-${++workers}`;
  const args = ['-m', 'rq.cli', 'worker', '-u', options.url, '-n', name, '-w', `rq.${options.kind ?? 'Worker'}`];
  const own = new PythonProcess(pythonOf(`rq-${version}`), [...args, ...(options.args ?? []), ...options.queues]);
  await own.says(/listening on /i, PATIENCE_MS);
  return {
    name,
    pid: own.pid,
    gone: own.gone,
    get isGone() {
      return own.isGone;
    },
    stop: (timeoutMs = 15_000) => endWithHorse(own, 'SIGTERM', timeoutMs),
    kill: () => endWithHorse(own, 'SIGKILL', 0),
    log: () => own.log,
    [Symbol.asyncDispose]: () => endWithHorse(own, 'SIGTERM', 5_000),
  };
}

/** A work-horse is in a process group of its own, and outlives its worker; then it would write how its job ended. */
async function endWithHorse(own: PythonProcess, signal: NodeJS.Signals, patienceMs: number): Promise<void> {
  if (own.isGone) return;
  // Asked while there is a parent to ask of. The worker goes first: it would write down the death of its horse.
  let horses = childrenOf(own.pid);
  const patience = setTimeout(() => {
    horses = childrenOf(own.pid);
    void own.end('SIGKILL');
    killAll(horses);
  }, patienceMs);
  const ended = own.end(signal, patienceMs + 1_000);
  if (signal === 'SIGKILL') killAll(horses);
  await ended;
  clearTimeout(patience);
}

function childrenOf(pid: number): readonly number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
  } catch {
    // It has ended, or this is no Linux.
    return [];
  }
}

function killAll(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // Gone already.
    }
  }
}

/** An `rq …` that runs to its end: `runRq('2.10', ['info', '-u', url])`. */
export async function runRq(
  version: RqVersion,
  args: readonly string[],
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  const own = new PythonProcess(pythonOf(`rq-${version}`), ['-m', 'rq.cli', ...args]);
  let stdout = '';
  own.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  own.stdin.end();
  const patience = setTimeout(() => void own.end('SIGKILL'), PATIENCE_MS);
  await own.gone;
  clearTimeout(patience);
  return { code: own.code, stdout, stderr: own.log };
}

/** A real `rq-dashboard`, until it is disposed of. */
export interface RqDashboard extends AsyncDisposable {
  /** Where its pages are, without a slash at the end. */
  readonly url: string;
  log(): string;
}

/** Starts one, and resolves when it answers. */
export async function startRqDashboard(redisUrl: string): Promise<RqDashboard> {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const args = ['-m', 'rq_dashboard', '--bind', '127.0.0.1', '--port', String(port), '--redis-url', redisUrl];
  const own = new PythonProcess(pythonOf('rq-dashboard'), args);
  await until('rq-dashboard answers', async () => {
    if (own.isGone) throw new Error(`rq-dashboard ended:\n${own.log}`);
    return fetch(url).then(
      () => true,
      () => false,
    );
  });
  return { url, log: () => own.log, [Symbol.asyncDispose]: () => own.end('SIGTERM', 3_000) };
}
