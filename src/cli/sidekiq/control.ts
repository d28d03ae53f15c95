import type { SetEntry, SetName, SidekiqApi } from '../../drivers/sidekiq/index.ts';
import { ConfigError } from '../../errors.ts';
import { EXIT } from '../exit.ts';
import type { Environment, Output } from '../system.ts';
import { withApi } from './inspect.ts';
import type { ClientFlags } from './settings.ts';

export interface ControlFlags extends ClientFlags {
  readonly set?: SetName;
  readonly all?: boolean;
}

const SETTLED: Readonly<Record<string, string>> = { retry: 'retried', kill: 'killed', delete: 'deleted' };

/** `jobglot control sidekiq COMMAND [NAMES]`. Ends 1 where something named was not there. */
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
      case 'quiet':
      case 'stop': {
        const told: string[] = [];
        if (names.length === 0) told.push(...(await api[command]()));
        for (const name of names) told.push(...(await api[command](name)));
        out(
          told.length === 0
            ? 'no processes\n'
            : told.map((one) => `${one}: told, and hears it with its next beat\n`).join(''),
        );
        return EXIT.ok;
      }
      case 'retry':
      case 'kill':
      case 'delete': {
        const entries = await chosen(api, command, names, flags);
        const found = new Set(entries.map(({ jid }) => jid));
        const missing = flags.all === true ? [] : names.filter((name) => !found.has(name));
        for (const name of missing) err(`${name}: not in ${flags.set ?? 'retry'}\n`);
        const done = await api[command](entries);
        out(`${done} ${SETTLED[command]}\n`);
        return missing.length > 0 || done < entries.length ? EXIT.failure : EXIT.ok;
      }
      case 'clear':
      case 'pause':
      case 'unpause': {
        if (names.length === 0) throw new ConfigError(`control sidekiq ${command}: which queues? Name them`);
        for (const queue of names) {
          await (command === 'clear' ? api.clearQueue(queue) : api[command](queue));
          out(`${queue}: ${command === 'clear' ? 'cleared' : `${command}d`}\n`);
        }
        return EXIT.ok;
      }
      default:
        throw new ConfigError(
          `control sidekiq knows quiet, stop, retry, kill, delete, clear, pause and unpause, not '${command}'`,
        );
    }
  });
}

async function chosen(
  api: SidekiqApi,
  command: string,
  jids: readonly string[],
  { set = 'retry', all }: ControlFlags,
): Promise<readonly SetEntry[]> {
  if (command === 'kill' && set === 'dead')
    throw new ConfigError('control sidekiq kill: what is in the dead set is dead');
  if (all === true) {
    if (jids.length > 0) throw new ConfigError(`control sidekiq ${command}: pass jids or --all, not both`);
    // All there are now; what comes meanwhile is not meant.
    return api.list(set, { limit: Number.MAX_SAFE_INTEGER });
  }
  if (jids.length === 0) throw new ConfigError(`control sidekiq ${command}: which jobs? Pass jids, or --all`);
  const found: SetEntry[] = [];
  for (const jid of jids) found.push(...(await api.find(set, jid)).filter((entry) => entry.jid === jid));
  return found;
}
