import { type Command, InvalidArgumentError, Option } from 'commander';
import { type CommandSpec, COMMANDS } from '../../../protocols/celery/control/commands.ts';
import type { Inspector } from '../../inspector.ts';
import { collect, list, logOptions, seconds, secondsOrZero, whole } from '../flag-values.ts';
import { addInspectorActions, addInspectorViews, type OwnCommand } from '../inspector-commands.ts';
import type { CliContext, Environment, ResolvedSource, System, Verb } from '../system.ts';
import type { BeatFlags } from './beat.ts';
import { commandHelp, commandNames } from './command-list.ts';
import type { ControlFlags, EventsFlags } from './control.ts';
import type { EnqueueFlags } from './enqueue.ts';
import { BEAT_HELP, DECODE_HELP, ENQUEUE_HELP } from './help.ts';
import type { ResultFlags } from './result.ts';
import { CELERY_FLAGS, type CeleryWorkerFlags } from './settings.ts';

/** Celery's flags and commands. */
export const celery: System = {
  name: 'Celery',
  where: '--broker and --result-backend, or CELERY_BROKER_URL and CELERY_RESULT_BACKEND',
  section: 'celery',
  workerFlags: CELERY_FLAGS,
  chosenBy: ['celery', 'broker'],
  addWorkerFlags,
  async resolveSource(flags, env, config, cwd): Promise<ResolvedSource> {
    const { celerySource } = await import('./source.ts');
    return celerySource(flags as CeleryWorkerFlags, env, config, cwd);
  },
  addCommands,
  decodeHelp: DECODE_HELP,
  explain: async (bytes, now) => (await import('../../../protocols/celery/explain.ts')).explain(bytes, now),
};

function addWorkerFlags(worker: Command): void {
  worker
    .optionsGroup('Celery:')
    .addOption(new Option('--celery <url>', 'one URL for broker and results').conflicts('broker'))
    .option(
      '-b, --broker <url>',
      'where jobs come from: amqp://, amqps://, redis://, rediss://, sentinel://, filesystem:// (CELERY_BROKER_URL, REDIS_URL)',
    )
    .option('--result-backend <url>', 'where results go: redis://, rpc://, file:// (CELERY_RESULT_BACKEND)')
    .option(
      '-n, --hostname <name>',
      "the node's name; %h, %n, %d are the host, its name, its domain (default: celery@%h)",
    )
    .option('--prefetch-multiplier <n>', 'claimed jobs per slot (default: 4)', whole(1))
    .option('--time-limit <seconds>', 'hard limit of tasks that name none', seconds)
    .option('--soft-time-limit <seconds>', 'soft limit of tasks that name none', seconds)
    .option('--acks-late', 'acknowledge after the run, so that a job whose worker dies runs again')
    .option('-E, --task-events', 'tell of each task that is received, started and ended, for Flower and others')
    .option('--accept <types>', 'content types to read, with commas (default: json)', list)
    .option('-B, --beat', 'run the beat here too: send the entries of beatSchedule when they are due')
    .option('-s, --schedule <file>', 'keep the last runs of the beat in this file')
    .addOption(schedulerOption('--scheduler <name>'));
}

function addCommands(verb: Verb, root: Command, context: CliContext): void {
  const { env, cwd, out, err, done } = context;
  const output = { out, err };
  logOptions(
    root
      .command('beat')
      .description('send tasks when they are due: the beatSchedule of jobglot.config.ts, or the entries of a RedBeat')
      .option('--config <file>', 'the config file (default: ./jobglot.config.ts, .mts, .js or .mjs)')
      .option('-b, --broker <url>', 'where jobs go (CELERY_BROKER_URL, REDIS_URL)')
      .option('-s, --schedule <file>', 'keep last runs in this file (default: in the broker, where that is Redis)')
      .addOption(schedulerOption('-S, --scheduler <name>'))
      .option('--max-interval <seconds>', 'look at the schedule at least as often (default: 300)', seconds),
  )
    .addHelpText('after', BEAT_HELP)
    .action(async (flags: BeatFlags) => done(await (await import('./beat.ts')).runBeat(flags, env, cwd)));

  where(
    verb('enqueue')
      .command('celery')
      .description('send a task to Celery workers; prints its id')
      .argument('<name>', "the task's name: proj.tasks.add")
      .argument('[args]', "positional arguments as a JSON list: '[2, 3]'"),
  )
    .option('--kwargs <json>', 'keyword arguments as a JSON object')
    .option('--countdown <seconds>', 'run after so many seconds', secondsOrZero)
    .option('--eta <time>', 'run at this time: 2026-11-21T10:00:00Z')
    .option('--expires <when>', 'do not run after so many seconds, or this time')
    .option('-Q, --queue <name>', 'the queue (default: celery)')
    .option('--exchange <name>', 'an exchange instead of a queue')
    .option('--routing-key <key>', 'the routing key')
    .option('--priority <n>', '0 to 9; on Redis 0 runs first', whole(0))
    .option('--task-id <id>', 'the id (default: a new UUID)')
    .option('--serializer <name>', 'json, msgpack or yaml (default: json)')
    .option('--compression <name>', 'gzip, zlib, brotli or zstd')
    .option('--header <name=value>', 'a header of your own; may be repeated', collect)
    .option('--ignore-result', 'store no result')
    .option('--wait <seconds>', 'wait for the result and print it', seconds)
    .option('-j, --json', 'print JSON')
    .addHelpText('after', ENQUEUE_HELP)
    .action(async (name: string, args: string | undefined, flags: EnqueueFlags) =>
      done(await (await import('./enqueue.ts')).enqueue(name, args, flags, env, cwd, output)),
    );

  where(
    verb('result').command('celery').description('show what is stored about a task').argument('<id>', "the task's id"),
  )
    .option('--wait <seconds>', 'wait until it has ended', seconds)
    .option('-j, --json', 'print everything that is stored, as JSON')
    .action(async (id: string, flags: ResultFlags) =>
      done(await (await import('./result.ts')).showResult(id, flags, env, cwd, output)),
    );

  const inspect = asking(
    verb('inspect').command('celery').description('show what there is, and ask Celery workers of any language'),
  )
    .argument('<command>', 'one of the commands below, or one that workers answer: active, ping, stats ...')
    .argument('[arguments...]', 'as the command takes them')
    .option('-j, --json', 'print JSON')
    .addHelpText('after', commandHelp('inspect'))
    .action(async (name: string, words: readonly string[], flags: ControlFlags) =>
      done(await (await import('./control.ts')).control('inspect', name, words, flags, env, cwd, output)),
    );
  addInspectorViews(inspect, context, openInspector);
  const control = asking(
    verb('control').command('celery').description('act on jobs, queues and Celery workers of any language'),
  )
    .option('--terminate', 'revoke: stop running tasks too')
    .option('--signal <name>', 'revoke: what a Python worker stops them with (default: SIGTERM)');
  addInspectorActions(control, context, openInspector, controlCommands(context));

  broker(verb('events').command('celery').description('print the events of Celery workers and clients as they come'))
    .option('--dump', 'one line an event (default)')
    .option('-j, --json', 'one JSON object a line')
    .option('--enable', 'tell workers to send events of tasks')
    .option('--limit <n>', 'end after so many', whole(1))
    .action(async (flags: EventsFlags) => done(await (await import('./control.ts')).events(flags, env, cwd, output)));
}

/** The flags of commands that workers answer. */
function asking(command: Command): Command {
  return where(command)
    .option('-d, --destination <nodes>', 'commands of workers: only these nodes, with commas', list)
    .option('-t, --timeout <seconds>', 'how long to wait for answers of workers (default: 1)', seconds);
}

async function openInspector(flags: ControlFlags, env: Environment, cwd: string): Promise<Inspector> {
  return (await import('./control.ts')).inspectorFor(flags, env, cwd);
}

/** Celery's own control commands, by their names there. They win over actions of the same name. */
function controlCommands({ env, cwd, out, err }: CliContext): Readonly<Record<string, OwnCommand<ControlFlags>>> {
  return Object.fromEntries(
    commandNames('control').map((name) => {
      const { usage, help } = COMMANDS.get(name) as CommandSpec;
      const run: OwnCommand<ControlFlags>['run'] = async (words, flags) =>
        (await import('./control.ts')).control('control', name, words, flags, env, cwd, { out, err });
      return [name, { usage, help, run }];
    }),
  );
}

function broker(command: Command): Command {
  return command
    .option('-b, --broker <url>', 'where jobs go (CELERY_BROKER_URL, REDIS_URL)')
    .option('--config <file>', 'take what is not given from this config file (default: ./jobglot.config.ts)');
}

function where(command: Command): Command {
  return command
    .option('-b, --broker <url>', 'where jobs go (CELERY_BROKER_URL, REDIS_URL)')
    .option('--backend, --result-backend <url>', 'where results are (CELERY_RESULT_BACKEND)')
    .option('--config <file>', 'take what is not given from this config file (default: ./jobglot.config.ts)');
}

function schedulerOption(flags: string): Option {
  return new Option(flags, 'where last runs are kept: redis, redbeat, file or memory').argParser((value) => {
    const found = SCHEDULERS[value];
    if (found !== undefined) return found;
    throw new InvalidArgumentError('Expected redis, redbeat, file or memory.');
  });
}

/** Python's names as well, so that a command line can stay as it is. */
const SCHEDULERS: Readonly<Record<string, string>> = {
  redis: 'redis',
  redbeat: 'redbeat',
  'redbeat.RedBeatScheduler': 'redbeat',
  'redbeat.schedulers:RedBeatScheduler': 'redbeat',
  file: 'file',
  'celery.beat:PersistentScheduler': 'file',
  memory: 'memory',
};
