import { Command, InvalidArgumentError, Option } from 'commander';
import type { BeatFlags } from './celery/beat.ts';
import { commandHelp } from './celery/command-list.ts';
import type { ControlFlags, EventsFlags } from './celery/control.ts';
import type { EnqueueFlags } from './celery/enqueue.ts';
import type { Output, ResultFlags } from './celery/result.ts';
import type { Environment, WorkerFlags } from './celery/settings.ts';
import { version } from '../version.ts';

export interface Surroundings extends Output {
  readonly env: Environment;
  readonly cwd: string;
  /** Told the exit code of the command that ran. */
  readonly done: (code: number) => void;
}

/** The commands and their flags; each loads what it needs when it runs. Wrong usage throws CommanderError; so do help and version, once they are printed. */
export function program({ env, cwd, out, err, done }: Surroundings): Command {
  const output: Output = { out, err };
  const root = new Command('jobglot')
    .description("A worker and client for Celery's queues, beside Python")
    .exitOverride()
    .configureOutput({ writeOut: out, writeErr: err })
    .showHelpAfterError('(--help lists commands and options)')
    .version(version(), '-V, --version')
    .addHelpText('after', EXAMPLES);

  root
    .command('worker')
    .description('run the tasks of a file, or of jobglot.config.ts, for jobs that arrive')
    .option(
      '-A, --app <file>',
      'the file that exports your tasks (default: that of the config file, else ./tasks.ts or .js)',
    )
    .option('--config <file>', 'the config file (default: ./jobglot.config.ts, .mts, .js or .mjs)')
    .addOption(new Option('--celery <url>', 'one URL for broker and results').conflicts('broker'))
    .option(
      '-b, --broker <url>',
      'where jobs come from: amqp://, amqps://, redis://, rediss://, sentinel://, filesystem:// (CELERY_BROKER_URL, REDIS_URL)',
    )
    .option('--result-backend <url>', 'where results go: redis://, rpc://, file:// (CELERY_RESULT_BACKEND)')
    .option('-Q, --queues <names>', 'queues to consume, with commas (default: celery)', list)
    .option('-c, --concurrency <n>', 'jobs at once (default: 10)', whole(1))
    .option(
      '-n, --hostname <name>',
      "the node's name; %h, %n, %d are the host, its name, its domain (default: celery@%h)",
    )
    .option('-l, --loglevel <level>', 'debug, info, warning, error or silent (default: info)', level)
    .addOption(
      new Option('--log-format <format>', 'text or json (default: text on a terminal)').choices(['text', 'json']),
    )
    .option('--prefetch-multiplier <n>', 'claimed jobs per slot (default: 4)', whole(1))
    .option('--time-limit <seconds>', 'hard limit of tasks that name none', seconds)
    .option('--soft-time-limit <seconds>', 'soft limit of tasks that name none', seconds)
    .option('--acks-late', 'acknowledge after the run, so that a job whose worker dies runs again')
    .option('-E, --task-events', 'tell of each task that is received, started and ended, for Flower and others')
    .option('--accept <types>', 'content types to read, with commas (default: json)', list)
    .addOption(
      new Option('--unknown-task <what>', 'what becomes of a task without a handler (default: requeue)').choices([
        'requeue',
        'reject',
      ]),
    )
    .option('-B, --beat', 'run the beat here too: send the entries of beatSchedule when they are due')
    .option('-s, --schedule <file>', 'keep the last runs of the beat in this file')
    .addOption(schedulerOption('--scheduler <name>'))
    .option('--shutdown-timeout <seconds>', 'how long a stop waits for running jobs (default: 25)', secondsOrZero)
    .addHelpText('after', WORKER_HELP)
    .action(async (flags: WorkerFlags) => done(await (await import('./worker.ts')).runWorker(flags, env, cwd)));

  root
    .command('beat')
    .description('send tasks when they are due: the beatSchedule of jobglot.config.ts, or the entries of a RedBeat')
    .option('--config <file>', 'the config file (default: ./jobglot.config.ts, .mts, .js or .mjs)')
    .option('-b, --broker <url>', 'where jobs go (CELERY_BROKER_URL, REDIS_URL)')
    .option('-s, --schedule <file>', 'keep last runs in this file (default: in the broker, where that is Redis)')
    .addOption(schedulerOption('-S, --scheduler <name>'))
    .option('--max-interval <seconds>', 'look at the schedule at least as often (default: 300)', seconds)
    .option('-l, --loglevel <level>', 'debug, info, warning, error or silent (default: info)', level)
    .addOption(
      new Option('--log-format <format>', 'text or json (default: text on a terminal)').choices(['text', 'json']),
    )
    .addHelpText('after', BEAT_HELP)
    .action(async (flags: BeatFlags) => done(await (await import('./celery/beat.ts')).runBeat(flags, env, cwd)));

  const enqueueCommand = root.command('enqueue').description('send a task');
  where(
    enqueueCommand
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
    .option('--json', 'print JSON')
    .addHelpText('after', ENQUEUE_HELP)
    .action(async (name: string, args: string | undefined, flags: EnqueueFlags) =>
      done(await (await import('./celery/enqueue.ts')).enqueue(name, args, flags, env, cwd, output)),
    );

  const resultCommand = root.command('result').description('show the result of a task');
  where(
    resultCommand.command('celery').description('show what is stored about a task').argument('<id>', "the task's id"),
  )
    .option('--wait <seconds>', 'wait until it has ended', seconds)
    .option('--json', 'print everything that is stored, as JSON')
    .action(async (id: string, flags: ResultFlags) =>
      done(await (await import('./celery/result.ts')).showResult(id, flags, env, cwd, output)),
    );

  for (const type of ['inspect', 'control'] as const) {
    const command = root.command(type).description(type === 'inspect' ? 'ask workers' : 'tell workers what to do');
    const celery = broker(
      command
        .command('celery')
        .description(`${type === 'inspect' ? 'ask' : 'tell'} Celery workers, whatever their language`)
        .argument('<command>', type === 'inspect' ? 'active, ping, stats ...' : 'revoke, rate_limit, shutdown ...')
        .argument('[arguments...]', 'as the command takes them'),
    )
      .option('-d, --destination <nodes>', 'only these nodes, with commas', list)
      .option('-t, --timeout <seconds>', 'how long to wait for answers (default: 1)', seconds)
      .option('-j, --json', 'print JSON');
    if (type === 'control') {
      celery
        .option('--terminate', 'revoke: stop running tasks too')
        .option('--signal <name>', 'revoke: what a Python worker stops them with (default: SIGTERM)');
    }
    celery
      .addHelpText('after', commandHelp(type))
      .action(async (name: string, words: readonly string[], flags: ControlFlags) =>
        done(await (await import('./celery/control.ts')).control(type, name, words, flags, env, cwd, output)),
      );
  }

  const eventsCommand = root.command('events').description('watch what workers tell');
  broker(eventsCommand.command('celery').description('print the events of Celery workers and clients as they come'))
    .option('--dump', 'one line an event (default)')
    .option('-j, --json', 'one JSON object a line')
    .option('--enable', 'tell workers to send events of tasks')
    .option('--limit <n>', 'end after so many', whole(1))
    .action(async (flags: EventsFlags) => done(await (await import('./celery/control.ts')).events(flags, env, cwd, output)));

  const decodeCommand = root.command('decode').description('explain a stored message field by field');
  decodeCommand
    .command('celery')
    .description('explain a message, a claimed message, a body or a stored result of Celery')
    .argument('[file]', 'a file, or - for standard input', '-')
    .option('--json', 'print JSON')
    .addHelpText('after', DECODE_HELP)
    .action(async (file: string, flags: { readonly json?: boolean }) =>
      done(await (await import('./decode.ts')).decode('celery', file, flags, output)),
    );

  return root;
}

function broker(command: Command): Command {
  return command
    .option('-b, --broker <url>', 'where jobs go (CELERY_BROKER_URL, REDIS_URL)')
    .option('--config <file>', 'take the broker from this config file (default: ./jobglot.config.ts)');
}

function where(command: Command): Command {
  return command
    .option('-b, --broker <url>', 'where jobs go (CELERY_BROKER_URL, REDIS_URL)')
    .option('--backend, --result-backend <url>', 'where results are (CELERY_RESULT_BACKEND)')
    .option('--config <file>', 'take broker and results from this config file (default: ./jobglot.config.ts)');
}

function schedulerOption(flags: string): Option {
  return new Option(flags, 'where last runs are kept: redis, redbeat, file or memory').argParser((value) => {
    const found = SCHEDULERS[value];
    if (found !== undefined) return found;
    throw new InvalidArgumentError('Expected redis, redbeat, file or memory.');
  });
}

function list(value: string, before: readonly string[] = []): readonly string[] {
  const names = value.split(',').map((name) => name.trim());
  if (names.some((name) => name === '')) throw new InvalidArgumentError('Expected names with commas between them.');
  return [...before, ...names];
}

function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

function whole(least: number): (value: string) => number {
  return (value) => {
    if (/^\d+$/.test(value) && Number(value) >= least) return Number(value);
    throw new InvalidArgumentError(`Expected a whole number of at least ${least}.`);
  };
}

function seconds(value: string): number {
  const number = secondsOrZero(value);
  if (number > 0) return number;
  throw new InvalidArgumentError('Expected a number of seconds above 0.');
}

function secondsOrZero(value: string): number {
  if (/^\d+(?:\.\d+)?$/.test(value)) return Number(value);
  throw new InvalidArgumentError('Expected a number of seconds.');
}

/** Python's names of levels as well. */
function level(value: string): string {
  const found = LEVELS[value.toLowerCase()];
  if (found !== undefined) return found;
  throw new InvalidArgumentError('Expected debug, info, warning, error or silent.');
}

const LEVELS: Readonly<Record<string, string>> = {
  debug: 'debug',
  info: 'info',
  warn: 'warn',
  warning: 'warn',
  error: 'error',
  critical: 'error',
  fatal: 'error',
  silent: 'silent',
};

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

const EXAMPLES = `
Examples:
  jobglot worker                                              # ./jobglot.config.ts, else ./tasks.ts; without a broker, a folder to try it out
  jobglot worker -A ./tasks.ts --celery redis://localhost -Q celery,high -c 20
  jobglot enqueue celery proj.tasks.add '[2, 3]' --broker redis://localhost --countdown 10
  jobglot beat                                                # the beatSchedule of ./jobglot.config.ts
  jobglot result celery 3f1c2f9e-5a4b-4d0a-9a6e-8f4a1c0d7b11 --backend redis://localhost --wait 10
  redis-cli lindex celery 0 | jobglot decode celery
  jobglot inspect celery active --broker redis://localhost
  jobglot control celery revoke 3f1c2f9e-5a4b-4d0a-9a6e-8f4a1c0d7b11 --terminate --broker redis://localhost

Exit codes: 0 done, 1 failed or stopped at once, 64 wrong usage or configuration, 69 broker or results not reachable.`;

const WORKER_HELP = `
A flag wins over the environment, the environment over the config file.

A config file:
  import { defineConfig } from 'jobglot';
  import { tasks } from './tasks.ts';
  export default defineConfig({ tasks, celery: { broker: 'redis://localhost', queues: ['celery'], concurrency: 20 } });

Signals: TERM or INT stops when running jobs are done, or at the shutdown timeout; again, or QUIT, stops now and gives jobs back.
TSTP takes nothing more. USR1 writes what runs to the log. REMAP_SIGTERM=SIGQUIT makes TERM stop now.`;

const BEAT_HELP = `
A config file:
  import { defineConfig } from 'jobglot';
  import { crontab } from 'jobglot/celery';
  export default defineConfig({
    celery: {
      broker: 'redis://localhost',
      timezone: 'Europe/Berlin',
      beatSchedule: {
        tidy: { task: 'proj.tidy', schedule: 30 },
        report: { task: 'proj.report', schedule: crontab('0 7 * * mon-fri'), args: ['daily'], options: { queue: 'slow' } },
      },
    },
  });

With redis and redbeat several processes may run; one sends, and another takes over when it ends. redbeat shares its keys with
a RedBeat in Python. TERM or INT stops.`;

const ENQUEUE_HELP = `
Numbers go as they are written: 1.0 is a float for Python, and large integers stay whole.

Examples:
  jobglot enqueue celery proj.tasks.add '[2, 3]' --wait 10 --broker redis://localhost --backend redis://localhost
  jobglot enqueue celery images.resize '["a.png"]' --kwargs '{"width": 640}' -Q images --expires 60`;

const DECODE_HELP = `
Examples:
  redis-cli lindex celery 0 | jobglot decode celery
  redis-cli hget unacked 6e1f… | jobglot decode celery
  redis-cli get celery-task-meta-3f1c… | jobglot decode celery --json`;
