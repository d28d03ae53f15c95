import { spawn, type ChildProcess } from 'node:child_process';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { temporaryFolder } from '../../support/folder.ts';
import { hold } from '../../support/leash.mjs';
import { root } from '../../support/setup.mjs';
import { PATIENCE_MS } from '../../support/until.ts';

export const bin = join(root, 'dist/src/cli/index.js');

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string;
  readonly bin?: string;
}

/** The command line, under way. */
export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** Resolves when its standard error has these words. */
  says(words: string, timeoutMs?: number): Promise<void>;
  /** Its standard error so far. */
  log(): string;
}

/** Starts the built command in an environment of its own: no broker is named but by the test. */
export function start(args: readonly string[], options: RunOptions): Running {
  const env = { ...process.env };
  for (const name of ['CELERY_BROKER_URL', 'CELERY_RESULT_BACKEND', 'RQ_REDIS_URL', 'REDIS_URL', 'NODE_OPTIONS'])
    delete env[name];
  const child = spawn(process.execPath, [options.bin ?? bin, ...args], {
    cwd: options.cwd,
    env: { ...env, ...options.env },
    stdio: 'pipe',
  });
  hold(child);
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdin.on('error', () => {});
  child.stdin.end(options.stdin ?? '');
  let over = false;
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      over = true;
      resolve({ code, stdout, stderr });
    });
  });
  return {
    child,
    ended,
    log: () => stderr,
    async says(words, timeoutMs = PATIENCE_MS) {
      const deadline = Date.now() + timeoutMs;
      while (!stderr.includes(words)) {
        if (over || Date.now() > deadline) throw new Error(`no '${words}' in:\n${stderr}\n${stdout}`);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    },
  };
}

export function run(args: readonly string[], options: RunOptions): Promise<Ended> {
  return start(args, options).ended;
}

/** A project folder with these files, in which `jobglot` is installed. */
export async function project(files: Readonly<Record<string, string>> = {}): Promise<string> {
  const folder = temporaryFolder('jobglot-cli-');
  await mkdir(join(folder, 'node_modules'));
  await symlink(root, join(folder, 'node_modules/jobglot'));
  for (const [name, text] of Object.entries({ 'package.json': '{"type": "module"}', ...files })) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), text);
  }
  return folder;
}

export const TASKS = `
import { defineTask, Retry, Tasks } from 'jobglot';
let runs = 0;
export const tasks = new Tasks()
  .handle(defineTask('proj.add'), ({ args: [x, y] }) => x + y)
  .handle(defineTask('proj.flaky'), () => { if (runs++ < 2) throw new Retry({ delayMs: 1 }); return runs; })
  .handle(defineTask('proj.fail'), () => { throw new TypeError('on purpose'); })
  .handle(defineTask('proj.hang'), (job, { signal }) => new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason));
    setTimeout(resolve, 600_000);
  }));
`;
