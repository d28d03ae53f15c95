import { resolve } from 'node:path';
import type { Config } from '../config.ts';
import type { Beat, CeleryOptions } from '../drivers/celery/index.ts';
import { ConfigError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { Source } from '../source.ts';
import { Tasks } from '../task.ts';
import { Worker } from '../worker/worker.ts';
import { beatOf } from './celery/beat.ts';
import { banner, type Facts, factsOf, type SourceFacts } from './banner.ts';
import { stderrLog } from './console-log.ts';
import { EXIT } from './exit.ts';
import { conventionalTasks, loadConfig, loadTasks } from './load.ts';
import { type Connection, type Environment, refuseSourceFlags, resolveCelery, type WorkerFlags } from './celery/settings.ts';
import { StopSignals } from './stop-signals.ts';
import { systems } from './systems.ts';
import { version } from '../version.ts';

/** `jobglot worker`. Resolves to the exit code once the worker has stopped; rejects when it could not start. */
export async function runWorker(flags: WorkerFlags, env: Environment, cwd: string): Promise<number> {
  const loaded = await loadConfig(cwd, flags.config);
  const config = loaded?.config ?? {};
  const { tasks, file: app } = await tasksFor(flags, config, cwd);
  const { sources, connection, options } = await sourcesFor(flags, env, config, cwd, loaded?.file);
  const level = flags.loglevel ?? config.logLevel ?? 'info';
  const format = flags.logFormat ?? config.logFormat ?? (process.stderr.isTTY ? 'text' : 'json');
  const log = config.log ?? stderrLog(level, format, env);
  if (tasks.names('celery').length === 0 && connection?.tryOut === undefined) {
    throw new ConfigError('there are no tasks to run; pass the file that exports them: -A ./tasks.ts');
  }
  const shutdownTimeoutMs =
    flags.shutdownTimeout === undefined ? (config.shutdownTimeoutMs ?? 25_000) : flags.shutdownTimeout * 1000;
  const worker = new Worker({
    tasks,
    sources,
    log,
    shutdownTimeoutMs,
    middleware: config.middleware ?? [],
    ...(config.abortGraceMs === undefined ? {} : { abortGraceMs: config.abortGraceMs }),
  });
  const beat = flags.beat === true && options !== undefined ? await embeddedBeat(options, log) : undefined;
  tell(
    {
      version: version(),
      node: process.versions.node,
      pid: process.pid,
      config: loaded?.file,
      app,
      shutdownTimeoutMs,
      logLevel: config.log?.level ?? level,
      sources: sources.map((source) => factsOf(source, tasks, namesOf(flags, connection))),
      tryOut: connection?.tryOut,
    },
    log,
    config.log === undefined && format === 'text' && level !== 'silent',
  );
  return live(worker, log, env, shutdownTimeoutMs, sources, beat);
}

/** It has connections of its own, which close before the worker's. */
function embeddedBeat(options: CeleryOptions, log: Logger): Promise<Beat> {
  if (typeof options.broker === 'string' && typeof (options.backend ?? '') === 'string') return beatOf(options, log);
  throw new ConfigError('--beat needs broker and backend as URLs; run jobglot beat beside the worker instead');
}

/** With the worker, and no longer: another process may lead while this one finishes its jobs. */
async function startBeat(beat: Beat | undefined, worker: Worker): Promise<void> {
  if (beat === undefined) return;
  worker.on('worker:state', ({ state }) => {
    if (state === 'stopping') void beat.stop();
  });
  try {
    await beat.start();
  } catch (error) {
    await worker.stop({ timeoutMs: 0 });
    throw error;
  }
}

/** From the start to the end of a worker: signals, errors nobody catches, the exit code. */
async function live(
  worker: Worker,
  log: Logger,
  env: Environment,
  shutdownTimeoutMs: number,
  sources: readonly Source[],
  beat: Beat | undefined,
): Promise<number> {
  const signals = new StopSignals({ worker, log, env, shutdownTimeoutMs, exit: (code) => process.exit(code) });
  const stopped = worker.once('worker:state', ({ state }) => state === 'stopped');
  const fatal = (error: unknown): void => signals.fatal(error);
  // Nothing is claimed before the start is through: until then a signal may simply end the process.
  const leave = (): void => process.exit(EXIT.ok);
  process.once('SIGTERM', leave).once('SIGINT', leave);
  worker.on('job:settled', ({ system, job: { task, id }, outcome, disposition }) => {
    if (disposition.state !== 'failed' || !('error' in outcome) || outcome.error === undefined) return;
    log.error({ system, task, id, traceback: outcome.error.traceback }, 'threw');
  });
  try {
    await worker.start();
    await startBeat(beat, worker);
  } finally {
    process.off('SIGTERM', leave).off('SIGINT', leave);
  }
  signals.install();
  process.on('uncaughtException', fatal);
  for (const source of sources) log.info({ system: source.system, queues: source.queues }, `${nameOf(source)} ready`);
  await stopped;
  await beat?.stop();
  process.off('uncaughtException', fatal);
  signals.remove();
  log.info({}, signals.code === EXIT.ok ? 'stopped' : 'stopped, not cleanly');
  return signals.code;
}

async function tasksFor(
  flags: WorkerFlags,
  config: Config,
  cwd: string,
): Promise<{ readonly tasks: Tasks; readonly file: string | undefined }> {
  if (flags.app !== undefined) return loadTasks(cwd, flags.app);
  if (config.tasks !== undefined) return { tasks: config.tasks, file: undefined };
  const conventional = conventionalTasks(cwd);
  return conventional === undefined ? { tasks: new Tasks(), file: undefined } : loadTasks(cwd, conventional);
}

async function sourcesFor(
  flags: WorkerFlags,
  env: Environment,
  config: Config,
  cwd: string,
  file: string | undefined,
): Promise<{
  readonly sources: readonly Source[];
  readonly connection: Connection | undefined;
  readonly options?: CeleryOptions;
}> {
  if (config.sources !== undefined) {
    refuseSourceFlags(flags, file ?? 'the config file');
    return { sources: config.sources, connection: undefined };
  }
  const { options, connection } = resolveCelery(flags, env, config, resolve(cwd));
  const { celery } = await systems.celery.driver();
  return { sources: [celery(options)], connection, options };
}

function tell(facts: Facts, log: Logger, asText: boolean): void {
  if (asText) {
    process.stderr.write(banner(facts));
    return;
  }
  const { tryOut, ...rest } = facts;
  log.info(rest, 'starting');
  if (tryOut !== undefined)
    log.warn(
      { folder: tryOut.queue },
      'no broker was named, so a folder stands in for one: for trying out only; pass --broker',
    );
}

/** Who set what, for the banner. */
function namesOf(
  flags: WorkerFlags,
  connection: Connection | undefined,
): { readonly broker?: string; readonly results?: string; readonly options?: readonly string[] } {
  if (connection === undefined) return {};
  const options: string[] = [];
  if (flags.acksLate === true) options.push('acknowledge late');
  if (flags.taskEvents === true) options.push('task events');
  if (flags.timeLimit !== undefined) options.push(`time limit ${flags.timeLimit} s`);
  if (flags.softTimeLimit !== undefined) options.push(`soft time limit ${flags.softTimeLimit} s`);
  if (flags.accept !== undefined) options.push(`accept ${flags.accept.join(', ')}`);
  if (flags.unknownTask !== undefined) options.push(`unknown tasks: ${flags.unknownTask}`);
  if (flags.beat === true) options.push('beat');
  return {
    broker: `from ${connection.brokerFrom}`,
    results: connection.backend === undefined ? connection.backendFrom : `from ${connection.backendFrom}`,
    options,
  };
}

function nameOf(source: Source): string {
  const { nodename }: Partial<Pick<SourceFacts & { nodename: string }, 'nodename'>> = source as { nodename?: string };
  return nodename ?? source.system;
}
