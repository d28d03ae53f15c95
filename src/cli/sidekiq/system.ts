import { type Command, InvalidArgumentError } from 'commander';
import { collect, seconds, secondsOrZero, whole } from '../flag-values.ts';
import { addInspectorActions, addInspectorViews, type OpenInspector, type OwnCommand } from '../inspector-commands.ts';
import type { ResolvedSource, CliContext, System, Verb } from '../system.ts';
import type { ControlFlags } from './control.ts';
import type { EnqueueFlags } from './enqueue.ts';
import { DECODE_HELP, ENQUEUE_HELP, INSPECT_HELP, OWN } from './help.ts';
import type { InspectFlags } from './inspect.ts';
import { type ClientFlags, SIDEKIQ_FLAGS, type SidekiqWorkerFlags } from './settings.ts';

/** Sidekiq's flags and commands, under Sidekiq's names where it has them. */
export const sidekiq: System = {
  name: 'Sidekiq',
  where: '--sidekiq or --url, or REDIS_URL',
  section: 'sidekiq',
  workerFlags: SIDEKIQ_FLAGS,
  chosenBy: ['sidekiq', 'sidekiqConfig'],
  addWorkerFlags,
  async resolveSource(flags, env, config, cwd): Promise<ResolvedSource> {
    const { sidekiqSource } = await import('./source.ts');
    return sidekiqSource(flags as SidekiqWorkerFlags, env, config, cwd);
  },
  addCommands,
  decodeHelp: DECODE_HELP,
  explain: async (bytes, now) => (await import('../../../protocols/sidekiq/explain.ts')).explain(bytes, now),
};

function addWorkerFlags(worker: Command): void {
  worker
    .optionsGroup('Sidekiq:')
    .option(
      '--sidekiq [url]',
      'work Sidekiq queues, with weights as in -Q critical,5 -Q default: redis://, rediss://, unix://, sentinel:// (REDIS_PROVIDER, REDIS_URL)',
    )
    .option('--sidekiq-config <file>', "Sidekiq's own configuration (default: config/sidekiq.yml, where there is one)")
    .option('--basic-fetch', 'fetch as Sidekiq does: a job is lost with its process')
    .option('--tag <text>', 'shown beside the process in the UI')
    .option('--label <text>', 'shown beside the process in the UI; may be repeated', collect)
    .option('--namespace <name>', 'a redis-namespace, for Sidekiq up to 6.x')
    .option('--dialect <version>', 'which Sidekiq to speak (default: what the processes that run can read)', version);
}

function addCommands(verb: Verb, _root: Command, context: CliContext): void {
  const { env, cwd, out, err, done } = context;
  const output = { out, err };
  const command = (name: Parameters<Verb>[0], description: string): Command =>
    verb(name)
      .command('sidekiq')
      .description(description)
      .option('-u, --url <url>', 'where Redis is (REDIS_PROVIDER, REDIS_URL)')
      .option('--namespace <name>', 'a redis-namespace, for Sidekiq up to 6.x')
      .option('--dialect <version>', 'which Sidekiq to speak', version)
      .option('--config <file>', 'take what is not given from this config file (default: ./jobglot.config.ts)');

  command('enqueue', 'send a job to Sidekiq workers; prints its jid')
    .argument('<class>', 'its class: HardJob')
    .argument('[args]', 'its arguments as a JSON list: \'[1, "two"]\'')
    .option('-q, --queue <name>', 'the queue (default: default)')
    .option('--in <seconds>', 'run after so many seconds', secondsOrZero)
    .option('--at <time>', 'run at this time: 2026-11-21T10:00:00Z')
    .option('--retry <what>', 'true, false or a number of retries (default: true)', retry)
    .option('--retry-for <seconds>', 'try again for so long', seconds)
    .option('--expires-in <seconds>', 'do not run after so long', seconds)
    .option('--jid <id>', 'the id (default: a new one)')
    .option('--tag <text>', 'a tag; may be repeated', collect)
    .option('--set <name=value>', 'a member of your own, as JSON or text; may be repeated', collect)
    .option('--active-job', 'a class of Active Job, as perform_later')
    .option('-j, --json', 'print JSON')
    .addHelpText('after', ENQUEUE_HELP)
    .action(async (name: string, args: string | undefined, flags: EnqueueFlags) =>
      done(await (await import('./enqueue.ts')).enqueue(name, args, flags, env, cwd, output)),
    );

  const inspect = command('inspect', 'show statistics, queues, processes and jobs')
    .argument('[what]', 'stats, processes, work, retry, schedule, dead or queue', 'stats')
    .argument('[name]', 'of the queue')
    .option('--find <text>', 'only jobs that hold this text: a jid, a class')
    .option('--limit <n>', 'at most so many (default: 25)', whole(1))
    .option('-j, --json', 'print JSON')
    .addHelpText('after', INSPECT_HELP)
    .action(async (what: string, name: string | undefined, flags: InspectFlags) =>
      done(await (await import('./inspect.ts')).inspect(what, name, flags, env, cwd, output)),
    );
  const open: OpenInspector<ClientFlags> = async (flags) =>
    (await import('./settings.ts')).inspectorFor(flags, env, cwd);
  addInspectorViews(inspect, context, open);

  const own = (name: keyof typeof OWN): OwnCommand<ControlFlags> => ({
    ...OWN[name],
    run: async (names, flags) => (await import('./control.ts')).control(name, names, flags, open, env, cwd, output),
  });
  addInspectorActions<ClientFlags>(
    command('control', 'quiet and stop processes; retry, kill and delete jobs; clear and pause queues'),
    context,
    open,
    {
      ...{ quiet: own('quiet'), stop: own('stop'), retry: own('retry'), kill: own('kill'), delete: own('delete') },
      ...{ clear: own('clear'), unpause: own('unpause') },
    },
  );
}

function retry(value: string): boolean | number {
  if (value === 'true' || value === 'false') return value === 'true';
  return whole(0)(value);
}

function version(value: string): string {
  if (/^\d+\.\d+(?:\.\d+)?$/.test(value)) return value;
  throw new InvalidArgumentError('Expected a version such as 7.3.');
}
