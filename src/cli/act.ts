import * as json from '../../protocols/formats/json.ts';
import { ConfigError } from '../errors.ts';
import { type Action, ACTIONS, type ActResult, type Inspector, type Target } from '../inspector.ts';
import { EXIT } from './exit.ts';
import { checkSet, filterOf } from './inspect.ts';
import { oneLine } from './printable.ts';
import type { Output } from './system.ts';

/** The flags of `jobglot control SYSTEM ACTION`, as commander names them. */
export interface ActFlags {
  readonly set?: string;
  readonly queue?: string;
  readonly worker?: string;
  readonly all?: boolean;
  readonly task?: string;
  readonly text?: string;
  readonly json?: boolean;
}

/** What the names behind an action are. Of an action that is not here: ids of jobs. */
const NAMED: Readonly<Partial<Record<Action, 'queue' | 'worker'>>> = {
  pause: 'queue',
  resume: 'queue',
  quiet: 'worker',
  stop: 'worker',
  unregister: 'worker',
};

/** The actions that an inspector has, in the order of a help text. */
export function actionsOf({ can }: Inspector): readonly Action[] {
  return ACTIONS.filter((action) => can[action]);
}

/**
 * Does one action and prints what came of it; asks nothing. Resolves to the exit code: 1 where a target was gone or refused, or the command was
 * interrupted. Rejects with ConfigError for an action that the system does not have, and for targets that contradict each other.
 */
export async function act(
  inspector: Inspector,
  action: string,
  names: readonly string[],
  flags: ActFlags,
  output: Output,
  signal?: AbortSignal,
): Promise<number> {
  const known = actionsOf(inspector);
  if (!known.includes(action as Action))
    throw new ConfigError(`${inspector.system} has no action '${action}'; there are ${known.join(', ')}`);
  const total: { done: number; gone: string[]; refused: ActResult['refused'][number][] } = {
    done: 0,
    gone: [],
    refused: [],
  };
  for (const target of targetsOf(inspector, action as Action, names, flags)) {
    if (signal?.aborted === true) break;
    const result = await inspector.act(action as Action, target, {
      onProgress: progressTo(action, output),
      ...(signal === undefined ? {} : { signal }),
    });
    total.done += result.done;
    total.gone.push(...result.gone);
    total.refused.push(...result.refused);
  }
  return report(action, total, flags, output, signal?.aborted === true);
}

/** What flags and names stand for. Throws ConfigError. */
export function targetsOf(
  inspector: Inspector,
  action: Action,
  names: readonly string[],
  flags: ActFlags,
): readonly Target[] {
  const { set, queue, worker, all } = flags;
  const filter = filterOf(flags);
  const where = `control ${inspector.system} ${action}`;
  if (filter !== undefined && (set === undefined || names.length > 0))
    throw new ConfigError(`${where}: --task and --text choose among the jobs of a --set`);
  if (names.length > 0) {
    if (queue !== undefined || worker !== undefined || all === true)
      throw new ConfigError(`${where}: pass names, or one of --queue, --worker and --all, not both`);
    const kind = NAMED[action];
    if (kind === 'queue') return names.map((one) => ({ queue: one }));
    if (kind === 'worker') return names.map((one) => ({ worker: one }));
    return [{ ids: names, ...(set === undefined ? {} : { set: checkSet(inspector, set) }) }];
  }
  if (worker !== undefined) {
    if (set !== undefined || queue !== undefined || all === true)
      throw new ConfigError(`${where}: --worker is a target of its own; pass it alone`);
    return [{ worker }];
  }
  if (set !== undefined)
    return [
      {
        set: checkSet(inspector, set),
        ...(queue === undefined ? {} : { queue }),
        ...(filter === undefined ? {} : { filter }),
      },
    ];
  if (queue !== undefined && all === true) throw new ConfigError(`${where}: pass either --queue or --all, not both`);
  if (queue !== undefined) return [{ queue }];
  if (all === true) return [{ all: true }];
  const what = NAMED[action] === undefined ? 'ids of jobs' : `names of ${NAMED[action]}s`;
  throw new ConfigError(`${where}: to what? Pass ${what}, --set, --queue, --worker or --all`);
}

/** How far a long action is, on standard error, twice a second at most. */
function progressTo(
  action: string,
  { err }: Output,
): (progress: { readonly done: number; readonly total: number | undefined }) => void {
  let said = Number.NEGATIVE_INFINITY;
  return ({ done, total }) => {
    if (performance.now() - said < 500) return;
    said = performance.now();
    err(`${action}: ${done}${total === undefined ? '' : ` of ${total}`} …\n`);
  };
}

function report(
  action: string,
  { done, gone, refused }: ActResult,
  flags: ActFlags,
  { out, err }: Output,
  interrupted: boolean,
): number {
  if (flags.json === true) out(`${json.stringify({ action, done, gone, refused })}\n`);
  else {
    for (const id of gone) err(`${oneLine(id)}: gone\n`);
    for (const { id, reason } of refused) err(`${oneLine(id)}: refused: ${oneLine(reason)}\n`);
    const rest = [
      ...(gone.length === 0 ? [] : [`${gone.length} gone`]),
      ...(refused.length === 0 ? [] : [`${refused.length} refused`]),
    ];
    out(`${action}: ${[`${done} done`, ...rest].join(', ')}\n`);
  }
  if (interrupted) err(`${action}: interrupted; what is done stays done\n`);
  return gone.length > 0 || refused.length > 0 || interrupted ? EXIT.failure : EXIT.ok;
}
