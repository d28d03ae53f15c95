import type { ListedFailure, ResqueApi } from '../../drivers/resque/index.ts';
import { ConfigError } from '../../errors.ts';
import { act, type ActFlags } from '../act.ts';
import { EXIT } from '../exit.ts';
import { oneLine } from '../printable.ts';
import { closing } from '../show.ts';
import type { Environment, Output } from '../system.ts';
import type { OWN } from './help.ts';
import { withApi } from './inspect.ts';
import { type ClientFlags, inspectorFor } from './settings.ts';

export interface ControlFlags extends ClientFlags, ActFlags {
  readonly keep?: boolean;
}

/** One of those commands. Ends 1 where something named was not there. */
export async function command(
  name: keyof typeof OWN,
  names: readonly string[],
  flags: ControlFlags,
  env: Environment,
  cwd: string,
  { out, err }: Output,
): Promise<number> {
  switch (name) {
    case 'retry':
    case 'delete':
      if (!byNumber(names, flags))
        return closing(await inspectorFor(flags, env, cwd), (inspector) =>
          act(inspector, name, names, flags, { out, err }),
        );
      return withApi(flags, env, cwd, (api) => settle(api, name, names, flags, { out, err }));
    case 'clear':
      return withApi(flags, env, cwd, async (api) => {
        await api.clear(listOf(flags));
        out('no failures any more\n');
        return EXIT.ok;
      });
    case 'pause':
    case 'resume':
      if (names.length > 0 || flags.queue !== undefined)
        throw new ConfigError(
          `control resque ${name}: it is for every worker at once; Resque has no pause of one queue`,
        );
      return withApi(flags, env, cwd, async (api) => {
        await (name === 'pause' ? api.pauseAll() : api.resumeAll());
        out(`every worker is ${name}d\n`);
        return EXIT.ok;
      });
    case 'remove-queue':
      if (names.length === 0) throw new ConfigError('control resque remove-queue: which? Name them');
      return withApi(flags, env, cwd, async (api) => {
        for (const queue of names) {
          await api.removeQueue(queue);
          out(`${oneLine(queue)}: removed\n`);
        }
        return EXIT.ok;
      });
  }
}

/** Failures by their numbers in `inspect resque failed`, or all of them; anything else is an id, or a set. */
function byNumber(names: readonly string[], { set, all }: ControlFlags): boolean {
  return set === undefined && (all === true || names.every((name) => /^\d+$/.test(name)));
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
      `control resque ${command}: which? Name their ids, their numbers in inspect resque failed, or pass --all or --set`,
    );
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

function listOf({ queue }: ActFlags): { readonly queue?: string } {
  return queue === undefined ? {} : { queue };
}
