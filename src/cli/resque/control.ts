import type { ListedFailure, ResqueApi } from '../../drivers/resque/index.ts';
import { ConfigError } from '../../errors.ts';
import { EXIT } from '../exit.ts';
import type { Environment, Output } from '../system.ts';
import { withApi } from './inspect.ts';
import type { ClientFlags } from './settings.ts';

export interface ControlFlags extends ClientFlags {
  readonly queue?: string;
  readonly all?: boolean;
  readonly keep?: boolean;
}

/** `jobglot control resque COMMAND [NAMES]`. Ends 1 where something named was not there. */
export function control(
  command: string,
  names: readonly string[],
  flags: ControlFlags,
  env: Environment,
  cwd: string,
  { out, err }: Output,
): Promise<number> {
  return withApi(flags, env, cwd, async (api) => {
    switch (command) {
      case 'retry':
      case 'delete':
        return settle(api, command, names, flags, { out, err });
      case 'clear':
        await api.clear(listOf(flags));
        out('no failures any more\n');
        return EXIT.ok;
      case 'pause':
      case 'resume':
        await (command === 'pause' ? api.pauseAll() : api.resumeAll());
        out(`every worker is ${command}d\n`);
        return EXIT.ok;
      case 'remove-queue':
      case 'unregister':
        if (names.length === 0) throw new ConfigError(`control resque ${command}: which? Name them`);
        for (const name of names) {
          await (command === 'unregister' ? api.unregister(name) : api.removeQueue(name));
          out(`${name}: removed\n`);
        }
        return EXIT.ok;
      default:
        throw new ConfigError(
          `control resque knows retry, delete, clear, pause, resume, remove-queue and unregister, not '${command}'`,
        );
    }
  });
}

const SETTLED = { retry: 'retried', delete: 'deleted' } as const;

/** From the last to the first: what is taken away moves only those behind it. */
async function settle(
  api: ResqueApi,
  command: 'retry' | 'delete',
  names: readonly string[],
  flags: ControlFlags,
  { out, err }: Output,
): Promise<number> {
  const chosen = await failuresOf(api, command, names, flags);
  let missing = chosen.missing.length;
  for (const name of chosen.missing) err(`${name}: no such failure\n`);
  let done = 0;
  for (const one of chosen.found.toSorted((a, b) => b.index - a.index)) {
    try {
      const options = listOf(flags);
      const did =
        command === 'delete'
          ? await api.remove(one, options)
          : await api.retry(one, { ...options, remove: flags.keep !== true });
      if (did) done += 1;
      else {
        missing += 1;
        err(`${one.index}: stands there no longer; look again\n`);
      }
    } catch (error) {
      missing += 1;
      err(`${one.index}: ${(error as Error).message.replace(/^resque: /, '')}\n`);
    }
  }
  out(`${done} ${SETTLED[command]}\n`);
  return missing > 0 ? EXIT.failure : EXIT.ok;
}

async function failuresOf(
  api: ResqueApi,
  command: string,
  names: readonly string[],
  flags: ControlFlags,
): Promise<{ readonly found: readonly ListedFailure[]; readonly missing: readonly string[] }> {
  if (flags.all !== true && names.length === 0)
    throw new ConfigError(
      `control resque ${command}: which? Name their numbers in inspect resque failed, or pass --all`,
    );
  for (const name of names)
    if (!/^\d+$/.test(name)) throw new ConfigError(`control resque ${command}: '${name}' is no number of a failure`);
  if (flags.all === true) return { found: await all(api, flags), missing: [] };
  const found: ListedFailure[] = [];
  const missing: string[] = [];
  for (const name of new Set(names)) {
    const [one] = await api.failures({ ...listOf(flags), start: Number(name), count: 1 });
    if (one === undefined) missing.push(name);
    else found.push(one);
  }
  return { found, missing };
}

async function all(api: ResqueApi, flags: ControlFlags): Promise<readonly ListedFailure[]> {
  const found: ListedFailure[] = [];
  for (let start = 0; ; start += 500) {
    const some = await api.failures({ ...listOf(flags), start, count: 500 });
    found.push(...some);
    if (some.length < 500) return found;
  }
}

function listOf({ queue }: ControlFlags): { readonly queue?: string } {
  return queue === undefined ? {} : { queue };
}
