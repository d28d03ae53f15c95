#!/usr/bin/env node
import { CommanderError } from 'commander';
import { JobglotError, WireError } from '../errors.ts';
import { EXIT, exitCodeOf } from './exit.ts';
import { program } from './program.ts';
import { systems } from './systems.ts';

// `jobglot decode … | head`: whoever read has seen enough.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(EXIT.ok);
    throw error;
  });
}

let exitCode: number = EXIT.ok;
try {
  await program({
    env: process.env,
    cwd: process.cwd(),
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    done: (code) => (exitCode = code),
  }).parseAsync();
} catch (error) {
  exitCode = report(error);
}
await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
// A task file's own connections and timers must not keep a finished command alive.
process.exit(exitCode);

/** Says what went wrong, once, for a reader at a terminal. The exit code. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  const code = exitCodeOf(error);
  if (error instanceof JobglotError || error instanceof WireError || code !== EXIT.failure) {
    const { message, cause } = error as Error;
    process.stderr.write(`jobglot: ${message}\n`);
    // What a task file threw is found by its stack.
    if (
      code === EXIT.usage &&
      cause instanceof Error &&
      cause.stack !== undefined &&
      !('code' in cause && cause.code === 'undecodable')
    )
      process.stderr.write(`\n${cause.stack}\n`);
    if (code === EXIT.unavailable)
      process.stderr.write(
        `Is it running, and is the URL right? It is named by ${systems()
          .map(({ name, where }) => `${where} (${name})`)
          .join('; ')}.\n`,
      );
    return code;
  }
  process.stderr.write(`jobglot: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  return code;
}

function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    if (stream.destroyed || !stream.writable) resolve();
    else stream.write('', () => resolve());
  });
}
