import { type Command, Option } from 'commander';
import { secondsOrZero, whole } from '../flag-values.ts';
import type { ResolvedSource, CliContext, System, Verb } from '../system.ts';
import type { ControlFlags } from './control.ts';
import type { EnqueueFlags } from './enqueue.ts';
import { CONTROL_HELP, DECODE_HELP, ENQUEUE_HELP, INSPECT_HELP } from './help.ts';
import type { InspectFlags } from './inspect.ts';
import { RESQUE_FLAGS, type ResqueWorkerFlags } from './settings.ts';

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

function addCommands(verb: Verb, _root: Command, { env, cwd, out, err, done }: CliContext): void {
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

  command('inspect', 'show queues, workers and failures')
    .argument('[what]', 'queues, workers, working or failed', 'queues')
    .option('-q, --queue <name>', 'failures of this queue, where each has a list of its own')
    .option('--start <n>', 'number of the first failure (default: 0)', whole(0))
    .option('--limit <n>', 'at most so many (default: 20)', whole(1))
    .option('-j, --json', 'print JSON')
    .addHelpText('after', INSPECT_HELP)
    .action(async (what: string, flags: InspectFlags) =>
      done(await (await import('./inspect.ts')).inspect(what, flags, env, cwd, output)),
    );

  command('control', 'retry, delete and clear failures; pause workers; remove queues')
    .argument('<command>', 'retry, delete, clear, pause, resume, remove-queue, unregister')
    .argument('[names...]', 'numbers of failures, queues or workers')
    .option('-q, --queue <name>', 'failures of this queue, where each has a list of its own')
    .option('-a, --all', 'all failures')
    .option('--keep', 'retry: leave the failure, and note when it was retried')
    .addHelpText('after', CONTROL_HELP)
    .action(async (name: string, names: readonly string[], flags: ControlFlags) =>
      done(await (await import('./control.ts')).control(name, names, flags, env, cwd, output)),
    );
}
