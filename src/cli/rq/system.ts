import { type Command, InvalidArgumentError, Option } from 'commander';
import { collect, logOptions, seconds, whole } from '../flag-values.ts';
import { addInspectorActions, addInspectorViews, type OpenInspector, type OwnCommand } from '../inspector-commands.ts';
import type { ResolvedSource, CliContext, System, Verb } from '../system.ts';
import type { CronFlags } from './cron.ts';
import type { EnqueueFlags } from './enqueue.ts';
import { CRON_HELP, DECODE_HELP, ENQUEUE_HELP, OWN } from './help.ts';
import type { InfoFlags } from './info.ts';
import type { EmptyFlags, RequeueFlags, SuspendFlags } from './manage.ts';
import type { ResultFlags } from './result.ts';
import { type ClientFlags, RQ_FLAGS, type RqWorkerFlags } from './settings.ts';

/** RQ's flags and commands, under RQ's names where it has them. */
export const rq: System = {
  name: 'RQ',
  where: '--rq or --url, or RQ_REDIS_URL',
  section: 'rq',
  workerFlags: RQ_FLAGS,
  chosenBy: ['rq'],
  addWorkerFlags,
  async resolveSource(flags, env, config): Promise<ResolvedSource> {
    const { rqSource } = await import('./source.ts');
    return rqSource(flags as RqWorkerFlags, env, config);
  },
  addCommands,
  decodeHelp: DECODE_HELP,
  explain: async (bytes) => (await import('../../../protocols/rq/explain.ts')).explain(bytes),
};

function addWorkerFlags(worker: Command): void {
  worker
    .optionsGroup('RQ:')
    .option('--rq [url]', 'work RQ queues: redis://, rediss://, unix://, sentinel:// (RQ_REDIS_URL, REDIS_URL)')
    .option('--name <name>', 'how RQ shows this worker')
    .option('--burst', 'end when the queues are empty')
    .option('--max-jobs <n>', 'end after so many jobs', whole(1))
    .option('--max-idle-time <seconds>', 'end after so long without a job', whole(1))
    .option('--with-scheduler', 'put scheduled jobs into their queues when they are due (default)')
    .option('--no-with-scheduler', 'leave that to others')
    .addOption(
      new Option('--dequeue-strategy <name>', 'the order of several queues (default: default)').choices([
        'default',
        'random',
        'round_robin',
      ]),
    )
    .option('--results-ttl <seconds>', 'how long results are kept of jobs that do not say (default: 500)', integer)
    .option(
      '--results-in-hash',
      'write results into the hash of the job, too, for programs with RQ 1.10 or 1.11 (default: where such a worker is)',
    )
    .option('--no-results-in-hash', 'write them into the stream only')
    .option('--maintenance-interval <seconds>', 'how often registries are cleaned up (default: 600)', whole(1))
    .option('--job-monitoring-interval <seconds>', 'how often running jobs show a sign of life (default: 30)', whole(1))
    .option(
      '--worker-ttl <seconds>',
      'how long an idle worker without a sign of life is shown, and a minute more (default: that interval; RQ: 420)',
      whole(1),
    );
}

function addCommands(verb: Verb, _root: Command, context: CliContext): void {
  const { env, cwd, out, err, done } = context;
  const output = { out, err };
  const command = (name: Parameters<Verb>[0], description: string): Command =>
    verb(name)
      .command('rq')
      .description(description)
      .option('-u, --url <url>', 'where Redis is (RQ_REDIS_URL, REDIS_URL)')
      .option('--config <file>', 'take what is not given from this config file (default: ./jobglot.config.ts)');

  serializer(command('enqueue', 'send a job to RQ workers; prints its id'))
    .argument('<function>', 'its dotted name: app.tasks.send')
    .argument('[arguments...]', 'text, :json, %python-literal, k=text, k:=json, k%=literal, each also as @file')
    .option('-q, --queue <name>', 'the queue (default: default)')
    .option('--timeout <time>', 'how long it may run: 180, 3m, -1 for ever (default: 180)')
    .option('--result-ttl <time>', 'how long its result is kept')
    .option('--ttl <time>', 'how long it may wait to be run')
    .option('--failure-ttl <time>', 'how long its failure is kept')
    .option('--description <text>', 'what it is called in listings')
    .option('--depends-on <id>', 'run it when this job has succeeded; may be repeated', collect)
    .option('--job-id <id>', 'the id (default: a new UUID)')
    .option('--at-front', 'at the head of the queue')
    .option('--retry-max <n>', 'run it again so many times when it fails', whole(0))
    .option('--retry-interval <seconds>', 'how long before each; may be repeated', numbers)
    .option('--schedule-in <time>', 'into the queue after so long: 10s, 5m, 2d')
    .option('--schedule-at <time>', 'into the queue then: 2026-11-21T10:00:00, here')
    .option('--meta <json>', 'what it carries beside its arguments, as a JSON object')
    .option('--group <name>', 'the group it belongs to')
    .option('--unique', 'only if there is no job of this --job-id')
    .option('--quiet', 'print nothing')
    .option('--wait <seconds>', 'wait for the result and print it', seconds)
    .option('-j, --json', 'print JSON')
    .addHelpText('after', ENQUEUE_HELP)
    .action(async (func: string, words: readonly string[], flags: EnqueueFlags) =>
      done(await (await import('./enqueue.ts')).enqueue(func, words, flags, env, cwd, output)),
    );

  command('result', 'show what a job returned, or why it failed')
    .argument('<id>', "the job's id")
    .option('--wait <seconds>', 'wait until it has ended', seconds)
    .option('-j, --json', 'print everything that is stored, as JSON')
    .action(async (id: string, flags: ResultFlags) =>
      done(await (await import('./result.ts')).showResult(id, flags, env, cwd, output)),
    );

  const inspect = command('inspect', 'show queues and workers, as rq info does; or what every system shows')
    .argument('[queues...]', 'only these queues; behind the word info, where one is called as a command here is')
    .option('-i, --interval <seconds>', 'again every so often', seconds)
    .option('-r, --raw', 'numbers only, no bars and sums')
    .option('-Q, --only-queues', 'no workers')
    .option('-W, --only-workers', 'no queues')
    .option('-R, --by-queue', 'workers by queue')
    .option('-j, --json', 'print JSON')
    .action(async (queues: readonly string[], flags: InfoFlags) =>
      done(
        await (
          await import('./info.ts')
        ).info(queues[0] === 'info' ? queues.slice(1) : queues, flags, env, cwd, output),
      ),
    );
  const open: OpenInspector<ClientFlags> = async (flags) =>
    (await import('./settings.ts')).inspectorFor(flags, env, cwd);
  addInspectorViews(inspect, context, open);

  const own = (name: keyof typeof OWN): OwnCommand<ClientFlags> => ({
    ...OWN[name],
    run: async (names, flags) => (await import('./manage.ts')).command(name, names, flags, env, cwd, output),
  });
  addInspectorActions(command('control', 'do something about jobs, queues and workers of RQ'), context, open, {
    shutdown: own('shutdown'),
    'kill-horse': own('kill-horse'),
    'stop-job': own('stop-job'),
  });

  logOptions(command('cron', 'send jobs to RQ workers when they are due: rq: { cron: [...] } of jobglot.config.ts'))
    .option('--name <name>', 'how RQ shows it (default: host:pid:6 hex digits)')
    .addHelpText('after', CRON_HELP)
    .action(async (flags: CronFlags) => done(await (await import('./cron.ts')).runCron(flags, env, cwd)));

  command('requeue', 'put failed jobs into their queue again')
    .argument('[ids...]', 'which')
    .requiredOption('--queue <name>', 'whose jobs')
    .option('-a, --all', 'all that have failed')
    .action(async (ids: readonly string[], flags: RequeueFlags) =>
      done(await (await import('./manage.ts')).requeue(ids, flags, env, cwd, output)),
    );

  command('empty', 'delete the jobs that wait in queues')
    .argument('[queues...]', 'which')
    .option('-a, --all', 'all queues')
    .action(async (queues: readonly string[], flags: EmptyFlags) =>
      done(await (await import('./manage.ts')).empty(queues, flags, env, cwd, output)),
    );

  command('suspend', 'let no worker of RQ start anything more; what runs goes on')
    .option('--duration <seconds>', 'for so long (default: until resume)', whole(1))
    .action(async (flags: SuspendFlags) => done(await (await import('./manage.ts')).suspend(flags, env, cwd, output)));

  command('resume', 'let workers of RQ start jobs again').action(async (flags: ClientFlags) =>
    done(await (await import('./manage.ts')).resume(flags, env, cwd, output)),
  );
}

function serializer(command: Command): Command {
  return command.addOption(
    new Option('-S, --serializer <name>', 'how arguments are written (default: pickle)').choices(['pickle', 'json']),
  );
}

function numbers(value: string, before: readonly number[] = []): readonly number[] {
  return [...before, whole(0)(value)];
}

function integer(value: string): number {
  if (/^-?\d+$/.test(value)) return Number(value);
  throw new InvalidArgumentError('Expected a whole number of seconds; -1 is for ever.');
}
