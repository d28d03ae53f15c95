import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import type { CeleryOptions } from '../../src/drivers/celery/index.ts';
import type { ResqueOptions } from '../../src/drivers/resque/index.ts';
import type { SidekiqOptions } from '../../src/drivers/sidekiq/index.ts';
import { hold } from '../support/leash.mjs';
import { until } from '../support/until.ts';

/** The options of the source in each `…-process.ts`. */
interface Systems {
  readonly celery: CeleryOptions;
  readonly resque: ResqueOptions;
  readonly sidekiq: SidekiqOptions;
}

/** A worker of ours in a process of its own, to be killed. */
export interface Program {
  readonly child: ChildProcess;
  /** Resolves when it has ended, and all it said has been read. */
  readonly gone: Promise<void>;
  /** SIGTERM; resolves when it is gone. */
  stop(): Promise<void>;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  /** What it said, for a failure message. */
  log(): string;
}

/** Starts the one of a system, which counts runs in the Redis at `counters`; resolves when it runs. Gone with the test. */
export async function startProgram<S extends keyof Systems>(
  system: S,
  options: Systems[S],
  counters: string,
): Promise<Program> {
  const name = `${system}-process.ts`;
  const path = fileURLToPath(new URL(name, import.meta.url));
  const child = spawn(process.execPath, ['--import', 'tsx', path, JSON.stringify(options), counters], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  hold(child);
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const gone = new Promise<void>((resolve) => child.once('close', () => resolve()));
  onTestFinished(() => void child.kill('SIGKILL'));
  await until(`${name} runs`, () => {
    if (child.exitCode !== null) throw new Error(`${name} ended at its start:\n${said}`);
    return said.includes('running');
  });
  const end = (signal: NodeJS.Signals): Promise<void> => {
    child.kill(signal);
    return gone;
  };
  return { child, gone, stop: () => end('SIGTERM'), kill: () => end('SIGKILL'), log: () => said };
}
