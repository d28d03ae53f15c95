import type { Command } from 'commander';
import { ConfigError } from '../errors.ts';
import type { Inspector } from '../inspector.ts';
import type { ActFlags } from './act.ts';
import { whole } from './flag-values.ts';
import type { InspectorFlags, View } from './inspect.ts';
import type { CliContext, Environment } from './system.ts';

/** Makes the inspector that the flags of a command ask for. It connects when it is first asked. */
export type OpenInspector<Flags> = (flags: Flags, env: Environment, cwd: string) => Promise<Inspector>;

/**
 * Adds what every system shows to `jobglot inspect SYSTEM`: `overview`, `queues`, `jobs SET`, `job ID`, `workers`, `schedules`. The command may have
 * flags, arguments and an action of its own; they answer all other words. Flags of its own (`--url`) may stand anywhere.
 */
export function addInspectorViews<Flags extends object>(
  inspect: Command,
  { env, cwd, out, err, done }: CliContext,
  open: OpenInspector<Flags>,
): void {
  const view = (name: View, description: string): Command =>
    inspect.command(name).description(description).option('-j, --json', 'print JSON');
  const run = async (name: View, of: string | undefined, command: Command): Promise<void> => {
    const flags = command.optsWithGlobals<Flags & InspectorFlags>();
    const inspector = await open(flags, env, cwd);
    try {
      done(await (await import('./inspect.ts')).inspect(inspector, name, of, flags, { out, err }));
    } finally {
      await inspector.close();
    }
  };
  for (const [name, description] of [
    ['overview', 'how many jobs each set has, and how many workers there are'],
    ['queues', 'each queue: its size, and how long its oldest job has waited'],
    ['workers', 'workers of every language, and what each runs'],
    ['schedules', 'periodic tasks, where the system stores them'],
  ] as const)
    view(name, description).action((_flags: object, command: Command) => run(name, undefined, command));
  view('jobs', 'the jobs of a set, a page at a time')
    .argument('[set]', 'which set; overview lists them')
    .option('-q, --queue <name>', 'only jobs of this queue')
    .option('--limit <n>', 'at most so many (default: 25, at most 1000)', whole(1))
    .option('--cursor <text>', 'go on where the last page ended')
    .option('--task <name>', 'only jobs of this task')
    .option('--text <text>', 'only jobs that hold this text anywhere')
    .action((set: string | undefined, _flags: object, command: Command) => run('jobs', set, command));
  view('job', 'everything that is stored about one job')
    .argument('<id>', "the job's id")
    .action((id: string, _flags: object, command: Command) => run('job', id, command));
}

/** A command of a system's own beside the actions. It wins over an action of the same name. */
export interface OwnCommand<Flags> {
  readonly usage: string;
  readonly help: string;
  readonly run: (names: readonly string[], flags: Flags) => Promise<number>;
}

/**
 * Makes `jobglot control SYSTEM COMMAND [NAMES]`: the actions that the system's inspector can do, and commands of the system's own. Adds the arguments,
 * `--set`, `--queue`, `--worker`, `--all`, `--task`, `--text` and `--json`; the caller adds flags of the system and of its own commands.
 */
export function addInspectorActions<Flags extends object>(
  control: Command,
  { env, cwd, out, err, done }: CliContext,
  open: OpenInspector<Flags>,
  own: Readonly<Record<string, OwnCommand<Flags & ActFlags>>> = {},
): void {
  control
    .argument('<command>', 'what to do')
    .argument(
      '[names...]',
      'to what: ids of jobs; names of workers for quiet, stop, unregister; of queues for pause, resume',
    )
    .option('--set <name>', 'the jobs of this set; with --queue, --task and --text only some of them')
    .option('-q, --queue <name>', 'this queue, or the jobs of a set that are of this queue')
    .option('--worker <name>', 'this worker')
    .option('-a, --all', 'every queue, or every worker')
    .option('--task <name>', 'of a set, only jobs of this task')
    .option('--text <text>', 'of a set, only jobs that hold this text anywhere')
    .option('-j, --json', 'print JSON')
    .addHelpText('after', actionHelp(own))
    .action(async (command: string, names: readonly string[], flags: Flags & ActFlags) => {
      if (Object.hasOwn(own, command)) return done(await (own[command] as OwnCommand<Flags>).run(names, flags));
      const inspector = await open(flags, env, cwd);
      const stop = new AbortController();
      const asked = (): void => stop.abort();
      process.once('SIGINT', asked).once('SIGTERM', asked);
      try {
        const { act, actionsOf } = await import('./act.ts');
        const known = [...Object.keys(own), ...actionsOf(inspector)];
        if (!known.includes(command))
          throw new ConfigError(
            `control: ${inspector.system} has no command '${command}'; there are ${known.join(', ')}`,
          );
        done(await act(inspector, command, names, flags, { out, err }, stop.signal));
      } finally {
        process.off('SIGINT', asked).off('SIGTERM', asked);
        await inspector.close();
      }
    });
}

function actionHelp(own: Readonly<Record<string, { readonly usage: string; readonly help: string }>>): string {
  const rows = Object.entries(own).map(([name, { usage, help }]) => [`${name} ${usage}`.trim(), help] as const);
  const width = Math.max(0, ...rows.map(([call]) => call.length));
  return [
    ...(rows.length === 0 ? [] : ['', 'Commands of this system:']),
    ...rows.map(([call, help]) => `  ${call.padEnd(width)}  ${help}`),
    '',
    'Actions, where the system has them: retry, run, delete, kill, requeue, cancel, terminate (jobs, or the jobs of a --set);',
    'pause, resume (queues); quiet, stop, unregister (workers). A word that is neither lists those the system has.',
  ].join('\n');
}
