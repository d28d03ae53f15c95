import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { hold } from '../../support/leash.mjs';
import { until } from '../../support/until.ts';

const folder = fileURLToPath(new URL('node-resque', import.meta.url));

export interface NeighbourOptions {
  readonly port: number;
  readonly worker?: { readonly queues: readonly string[]; readonly name?: string };
  readonly scheduler?: boolean;
}

interface Line {
  readonly id?: number;
  readonly value?: unknown;
  readonly error?: string;
  readonly event?: string;
  readonly args?: readonly unknown[];
  readonly message?: string;
}

/** node-resque 9.7, alive in a process of its own. */
export class NodeResque implements AsyncDisposable {
  /** What its jobs were called with, in the order they ran. */
  readonly ran: (readonly unknown[])[] = [];
  readonly events: Line[] = [];
  log = '';
  readonly #child: ChildProcess;
  readonly #gone: Promise<void>;
  readonly #pending = new Map<
    number,
    { readonly resolve: (value: unknown) => void; readonly reject: (error: Error) => void }
  >();
  #last = 0;

  private constructor(options: NeighbourOptions) {
    this.#child = spawn(process.execPath, ['neighbour.mjs', JSON.stringify(options)], { cwd: folder });
    hold(this.#child);
    this.#gone = new Promise((resolve) => this.#child.once('close', () => resolve()));
    this.#child.stderr?.on('data', (chunk: Buffer) => (this.log += chunk.toString()));
    createInterface({ input: this.#child.stdout as NonNullable<ChildProcess['stdout']> }).on('line', (line) =>
      this.#hear(JSON.parse(line) as Line),
    );
  }

  static async start(options: NeighbourOptions): Promise<NodeResque> {
    install();
    const one = new NodeResque(options);
    await until('node-resque is ready', () => {
      if (one.log !== '') throw new Error(`node-resque did not start:\n${one.log}`);
      return one.events.some(({ event }) => event === 'ready');
    });
    return one;
  }

  /** Calls a method of its Queue. */
  call<T>(method: string, ...args: readonly unknown[]): Promise<T> {
    const id = ++this.#last;
    return new Promise<T>((resolve, reject) => {
      this.#pending.set(id, { resolve: resolve as (value: unknown) => void, reject });
      this.#child.stdin?.write(`${JSON.stringify({ id, method, args })}\n`);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin?.end();
    const patience = setTimeout(() => this.#child.kill('SIGKILL'), 5_000);
    await this.#gone;
    clearTimeout(patience);
  }

  #hear(line: Line): void {
    if (line.id === undefined) {
      this.events.push(line);
      if (line.event === 'ran') this.ran.push(line.args ?? []);
      return;
    }
    const waiting = this.#pending.get(line.id);
    this.#pending.delete(line.id);
    if (line.error === undefined) waiting?.resolve(line.value);
    else waiting?.reject(new Error(line.error));
  }
}

function install(): void {
  if (existsSync(`${folder}/node_modules/node-resque`)) return;
  const { status, stderr } = spawnSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: folder, encoding: 'utf8' });
  if (status !== 0) throw new Error(`npm ci in ${folder} failed (${status}): ${stderr}`);
}
