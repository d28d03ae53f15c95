import { Command, Option } from 'commander';
import { list, logOptions, secondsOrZero, whole } from './flag-values.ts';
import { type CliContext, type Verb, VERBS, type WorkerFlags } from './system.ts';
import { systems } from './systems.ts';
import { version } from '../version.ts';

/** The commands and their flags; each loads what it needs when it runs. Wrong usage throws CommanderError; so do help and version, once they are printed. */
export function program(context: CliContext): Command {
  const { env, cwd, out, err, done } = context;
  const root = new Command('jobglot')
    .description(`A worker and client for the queues of ${listed(systems().map(({ name }) => name))}`)
    .exitOverride()
    .configureOutput({ writeOut: out, writeErr: err })
    .showHelpAfterError('(--help lists commands and options)')
    .version(version(), '-V, --version')
    .addHelpText('after', EXAMPLES);

  const worker = logOptions(
    root
      .command('worker')
      .description('run the jobs that arrive with the tasks of a file, or of jobglot.config.ts')
      .option(
        '-A, --app <file>',
        'the file that exports your tasks (default: that of the config file, else ./tasks.ts or .js)',
      )
      .option('--config <file>', 'the config file (default: ./jobglot.config.ts, .mts, .js or .mjs)')
      .option('-Q, --queues <names>', "queues to consume, with commas (default: the system's own)", list)
      .option('-c, --concurrency <n>', 'jobs at once (default: 10)', whole(1)),
  )
    .addOption(
      new Option(
        '--unknown-task <what>',
        'where a job goes whose task has no handler: back to its queue, what its system does, or held until this worker stops (default: requeue)',
      ).choices(['requeue', 'reject', 'hold']),
    )
    .option('--shutdown-timeout <seconds>', 'how long a stop waits for running jobs (default: 25)', secondsOrZero);
  for (const system of systems()) system.addWorkerFlags(worker);
  worker
    .addHelpText('after', WORKER_HELP)
    .action(async (flags: WorkerFlags) => done(await (await import('./worker.ts')).runWorker(flags, env, cwd)));

  const verbs = new Map<string, Command>();
  const verb: Verb = (name) => {
    const found = verbs.get(name) ?? root.command(name).description(VERBS[name]);
    verbs.set(name, found);
    return found;
  };
  for (const system of systems()) {
    system.addCommands(verb, root, context);
    verb('decode')
      .command(system.section)
      .description(`explain what ${system.name} stores`)
      .argument('[file]', 'a file, or - for standard input', '-')
      .option('-j, --json', 'print JSON')
      .addHelpText('after', system.decodeHelp)
      .action(async (file: string, flags: { readonly json?: boolean }) =>
        done(await (await import('./decode.ts')).decode(system, file, flags, context)),
      );
  }
  return root;
}

function listed(names: readonly string[]): string {
  return `${names.slice(0, -1).join(', ')} and ${names.at(-1) ?? ''}`;
}

const EXAMPLES = `
Examples:
  jobglot worker                                              # ./jobglot.config.ts, else ./tasks.ts; without a broker, a folder to try it out
  jobglot worker -A ./tasks.ts --celery redis://localhost -Q celery,high -c 20
  jobglot worker -A ./tasks.ts --rq redis://localhost -Q high,default                  # and --sidekiq, --resque
  jobglot enqueue celery proj.tasks.add '[2, 3]' --broker redis://localhost --countdown 10
  jobglot enqueue rq app.tasks.add :2 :3 --url redis://localhost --wait 10
  jobglot enqueue sidekiq HardJob '[1]' --url redis://localhost --in 300               # and resque
  jobglot beat                                                # the beatSchedule of ./jobglot.config.ts
  jobglot result celery 3f1c2f9e-5a4b-4d0a-9a6e-8f4a1c0d7b11 --backend redis://localhost --wait 10
  redis-cli lindex celery 0 | jobglot decode celery
  jobglot inspect celery active --broker redis://localhost                             # and rq, sidekiq, resque
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
