import { type Command, Option } from 'commander';
import { secondsOrZero, whole } from '../flag-values.ts';
import { addInspectorActions, addInspectorViews, type OpenInspector, type OwnCommand } from '../inspector-commands.ts';
import type { ResolvedSource, CliContext, System, Verb } from '../system.ts';
import type { ControlFlags } from './control.ts';
import type { EnqueueFlags } from './enqueue.ts';
import { DECODE_HELP, ENQUEUE_HELP, INSPECT_HELP, OWN } from './help.ts';
import type { InspectFlags } from './inspect.ts';
import { type ClientFlags, RESQUE_FLAGS, type ResqueWorkerFlags } from './settings.ts';

/** Resque's flags and commands. */
export const resque: System = {
  name: 'Resque',
  where: '--resque or --url, or RESQUE_REDIS_URL',
  section: 'resque',
  workerFlags: RESQUE_FLAGS,
  chosenBy: ['resque'],
  addWorkerFlags,
  async resolveSource(flags, env, config, cwd): Promise<ResolvedSource> {
    const { resqueSource } = await import('./source.ts');
    return resqueSource(flags as ResqueWorkerFlags, env, config, cwd);
  },
  addCommands,
  decodeHelp: DECODE_HELP,
  explain: async (bytes) => (await import('../../../protocols/resque/explain.ts')).explain(bytes),
};

function backends(flags: string): Option {
  return new Option(flags, 'where failures go (default: redis)').choices(['redis', 'redis_multi_queue']);
}

function addWorkerFlags(worker: Command): void {
  worker
    .optionsGroup('Resque:')
    .option(
      '--resque [url]',
      "work Resque queues, as in -Q 'high,*' (QUEUE, QUEUES, COUNT): redis://, rediss://, host:port:db/namespace (RESQUE_REDIS_URL, REDIS_URL)",
    )
    .option('--resque-namespace <name>', 'what stands before every key (default: resque)')
    .option(
      '--interval <seconds>',
      'between two looks at empty queues, where nobody tells of jobs (default: 5); 0: end when they are empty',
      secondsOrZero,
    )
    .option('--fork-per-job', 'run each job in a process of its own')
    .option('--resque-scheduler', 'move delayed jobs and send scheduled ones too, as resque-scheduler does')
    .addOption(backends('--failure-backend <name>'));
}

function addCommands(verb: Verb, _root: Command, context: CliContext): void {
  const { env, cwd, out, err, done } = context;
  const output = { out, err };
  const command = (name: Parameters<Verb>[0], description: string): Command =>
    verb(name)
      .command('resque')
      .description(description)
      .option('-u, --url <url>', 'where Redis is (RESQUE_REDIS_URL, REDIS_URL)')
      .option('--namespace <name>', 'what stands before every key (default: resque)')
      .option('--config <file>', 'take what is not given from this config file (default: ./jobglot.config.ts)');

  command('enqueue', 'send a job to Resque workers')
    .argument('<class>', 'its class: HardJob')
    .argument('[args]', 'its arguments as a JSON list: \'[1, "two"]\'')
    .option('-q, --queue <name>', 'the queue (default: default)')
    .option('--in <seconds>', 'run after so many seconds', secondsOrZero)
    .option('--at <time>', 'run at this time: 2026-11-21T10:00:00Z')
    .option('--active-job', 'a class of Active Job, as perform_later; prints its job id')
    .option('-j, --json', 'print JSON')
    .addHelpText('after', ENQUEUE_HELP)
    .action(async (name: string, args: string | undefined, flags: EnqueueFlags) =>
      done(await (await import('./enqueue.ts')).enqueue(name, args, flags, env, cwd, output)),
    );

  const inspect = command('inspect', 'show queues, workers and failures; or what every system shows')
    .argument('[what]', 'info, working or failed', 'info')
    .option('-q, --queue <name>', 'of this queue: jobs, or failures where each queue has a list of its own')
    .option('--start <n>', 'failed: number of the first failure (default: 0)', whole(0))
    .option('--limit <n>', 'at most so many', whole(1))
    .option('-j, --json', 'print JSON')
    .addHelpText('after', INSPECT_HELP)
    .action(async (what: string, flags: InspectFlags) =>
      done(await (await import('./inspect.ts')).inspect(what, flags, env, cwd, output)),
    );
  const open: OpenInspector<ClientFlags> = async (flags) =>
    (await import('./settings.ts')).inspectorFor(flags, env, cwd);
  addInspectorViews(inspect, context, open);

  const own = (name: keyof typeof OWN): OwnCommand<ControlFlags> => ({
    ...OWN[name],
    run: async (names, flags) => (await import('./control.ts')).command(name, names, flags, env, cwd, output),
  });
  const control = command('control', 'do something about jobs, failures, queues and workers of Resque');
  addInspectorActions<ControlFlags>(control, context, open, {
    retry: own('retry'),
    delete: own('delete'),
    clear: own('clear'),
    pause: own('pause'),
    resume: own('resume'),
    'remove-queue': own('remove-queue'),
  });
  control.option('--keep', 'retry by number: leave the failure, and note when it was retried');
}
