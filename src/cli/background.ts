import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Logger } from '../log.ts';
import { EXIT } from './exit.ts';
import type { Environment } from './system.ts';

/**
 * Starts this very command again in a session of its own, with nothing to read or write, and is done: what was started goes on when the
 * terminal is closed. `asked` is the variable that asked for it; the other process does not see it. Source: Ruby's `Process.daemon`.
 */
export async function intoBackground(asked: string, env: Environment, log: Logger): Promise<number> {
  const { [asked]: _, ...rest } = env;
  const command = [...process.execArgv, ...process.argv.slice(1)];
  const child = spawn(process.execPath, command, { detached: true, stdio: 'ignore', env: rest });
  await once(child, 'spawn');
  child.unref();
  log.info({ pid: child.pid }, 'works in the background');
  return EXIT.ok;
}
