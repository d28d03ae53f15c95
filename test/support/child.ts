import { type ChildProcess, spawn } from 'node:child_process';
import { hold } from './leash.mjs';
import { until } from './until.ts';

/** A program of another language, in a process group of its own so that a pool dies with its parent. */
export class Child {
  log = '';
  isGone = false;
  /** -1 while it runs, and when a signal ended it. */
  code = -1;
  readonly gone: Promise<void>;
  /** The language, for messages. */
  readonly #name: string;
  readonly #child: ChildProcess;

  constructor(name: string, program: string, args: readonly string[], cwd: string, env: NodeJS.ProcessEnv) {
    this.#name = name;
    this.#child = spawn(program, args, { cwd, env, detached: true, stdio: ['pipe', 'pipe', 'pipe'] });
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

  /** That it ended, with its log. */
  ended(): Error {
    return new Error(`the ${this.#name} process ended:\n${this.log}`);
  }

  /** Resolves when the log has these words; rejects, with the log, when it ends or takes too long: then it is killed. */
  async says(words: string | RegExp, timeoutMs: number): Promise<void> {
    // A worker writes there too, and must not block on a full pipe.
    this.stdout.on('data', (chunk: Buffer) => (this.log += chunk.toString()));
    const isThere = (): boolean => (typeof words === 'string' ? this.log.includes(words) : words.test(this.log));
    try {
      await until(`${this.#name} says '${String(words)}'`, timeoutMs, () => {
        if (this.isGone && !isThere()) throw new Error(`it ended with ${this.code}`);
        return isThere();
      });
    } catch (cause) {
      await this.end('SIGKILL');
      throw new Error(`no '${String(words)}' of ${this.#name}:\n${this.log}`, { cause });
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
