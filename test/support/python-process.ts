import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { hold } from './leash.mjs';
import { root, venvPython } from './setup.mjs';
import { fromTagged, toTagged } from './tagged.ts';

const apps = join(root, 'test/interop/apps');

/** The Python of an environment of the set-up: the one in `JOBGLOT_PYTHON_RQ_2_10`, else the one that was made. */
export function pythonOf(environment: string): string {
  const own = process.env[`JOBGLOT_PYTHON_${environment.toUpperCase().replace(/[^A-Z0-9]/g, '_')}`];
  const python = own ?? venvPython(environment);
  if (!existsSync(python)) {
    throw new Error(
      `no Python environment ${environment}: run \`node test/support/setup.mjs ${environment}\` (npm test does it by itself)`,
    );
  }
  return python;
}

/** A Python whose working folder is test/interop/apps, in a process group of its own so that a pool dies with its parent. */
export class PythonProcess {
  log = '';
  isGone = false;
  /** -1 while it runs, and when a signal ended it. */
  code = -1;
  readonly gone: Promise<void>;
  readonly #child: ChildProcess;

  constructor(python: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.#child = spawn(python, args, {
      cwd: apps,
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1', PYTHONUNBUFFERED: '1', PYTHONPATH: apps, ...env },
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
  async says(words: string | RegExp, timeoutMs: number): Promise<void> {
    // A worker writes there too, and must not block on a full pipe.
    this.stdout.on('data', (chunk: Buffer) => (this.log += chunk.toString()));
    const deadline = Date.now() + timeoutMs;
    const isThere = (): boolean => (typeof words === 'string' ? this.log.includes(words) : words.test(this.log));
    while (!isThere()) {
      if (this.isGone) throw new Error(`the Python process ended before '${String(words)}':\n${this.log}`);
      if (Date.now() > deadline) {
        await this.end('SIGKILL');
        throw new Error(`no '${String(words)}' within ${timeoutMs} ms:\n${this.log}`);
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

/** The other end of test/interop/apps/pipe.py: operations by their names, one at a time. */
export class PythonDriver<Versions> implements AsyncDisposable {
  readonly versions: Versions;
  readonly #process: PythonProcess;
  readonly #pending: Map<number, Waiting>;
  #lastId = 0;

  private constructor(versions: Versions, own: PythonProcess, pending: Map<number, Waiting>) {
    this.versions = versions;
    this.#process = own;
    this.#pending = pending;
  }

  /** Resolves when it has said which versions it is made of. */
  static async start<Versions>(own: PythonProcess): Promise<PythonDriver<Versions>> {
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
    return new PythonDriver((await hello.promise) as Versions, own, pending);
  }

  /** Any operation of the driver, by its name. Rejects with PythonError when Python raises. */
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

/** What Python raised in an operation. */
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

interface Reply {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: { readonly type: string; readonly message: string; readonly traceback: string };
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
