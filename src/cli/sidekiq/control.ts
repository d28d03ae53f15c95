import type { Action } from '../../inspector.ts';
import { ConfigError } from '../../errors.ts';
import { act, type ActFlags } from '../act.ts';
import type { OpenInspector } from '../inspector-commands.ts';
import type { Environment, Output } from '../system.ts';
import type { OWN } from './help.ts';
import type { ClientFlags } from './settings.ts';

export type ControlFlags = ClientFlags & ActFlags;

/**
 * Sidekiq's own words for actions: `quiet` and `stop` mean every process where none is named; `retry`, `kill` and `delete` with `--all` mean a whole set,
 * `retry` where none is given; `clear` and `unpause` are `delete` and `resume` of queues. Resolves to the exit code of the action.
 */
export async function control(
  command: keyof typeof OWN,
  names: readonly string[],
  flags: ControlFlags,
  open: OpenInspector<ClientFlags>,
  env: Environment,
  cwd: string,
  output: Output,
): Promise<number> {
  const inspector = await open(flags, env, cwd);
  const stop = new AbortController();
  const asked = (): void => stop.abort();
  process.once('SIGINT', asked).once('SIGTERM', asked);
  const run = (action: Action, targets: readonly string[], more: ActFlags = flags): Promise<number> =>
    act(inspector, action, targets, more, output, stop.signal);
  try {
    switch (command) {
      case 'quiet':
      case 'stop':
        return await run(
          command,
          names,
          names.length === 0 && flags.worker === undefined ? { ...flags, all: true } : flags,
        );
      case 'retry':
      case 'kill':
      case 'delete': {
        const { all, ...rest } = flags;
        if (all !== true || names.length > 0) return await run(command, names);
        return await run(command, names, { ...rest, set: flags.set ?? 'retry' });
      }
      case 'unpause':
        return await run('resume', names);
      case 'clear': {
        if (names.length === 0) throw new ConfigError('control sidekiq clear: which queues? Name them');
        let code = 0;
        for (const queue of names) code = Math.max(code, await run('delete', [], { ...flags, queue }));
        return code;
      }
    }
  } finally {
    process.off('SIGINT', asked).off('SIGTERM', asked);
    await inspector.close();
  }
}
