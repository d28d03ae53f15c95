import type { Config } from '../config.ts';
import { ConfigError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { Source } from '../source.ts';
import { Tasks } from '../task.ts';
import type { Executor } from '../executor.ts';
import { Worker } from '../worker/worker.ts';
import { intoBackground } from './background.ts';
import { banner, type Facts, factsOf, type SourceFacts } from './banner.ts';
import { stderrLog } from './console-log.ts';
import { EXIT } from './exit.ts';
import { conventionalTasks, loadConfig, loadTasks } from './load.ts';
import { resolveSources } from './sources.ts';
import { StopSignals } from './stop-signals.ts';
import type { Companion, Environment, ResolvedSource, WorkerFlags } from './system.ts';
import { version } from '../version.ts';

/** `jobglot worker`. Resolves to the exit code once the worker has stopped; rejects when it could not start. */
export async function runWorker(flags: WorkerFlags, env: Environment, cwd: string): Promise<number> {
  const loaded = await loadConfig(cwd, flags.config);
  const config = loaded?.config ?? {};
  const { tasks, file: app } = await tasksFor(flags, config, cwd);
  const resolved = await resolveSources(flags, env, config, cwd, loaded?.file);
  const sources = resolved.flatMap(({ source, more = [] }) => [source, ...more]);
  const tryOut = resolved.find((one) => one.tryOut !== undefined)?.tryOut;
  const level =
    flags.loglevel ?? config.logLevel ?? resolved.find((one) => one.logLevel !== undefined)?.logLevel ?? 'info';
  const format = flags.logFormat ?? config.logFormat ?? (process.stderr.isTTY ? 'text' : 'json');
  const log = config.log ?? stderrLog(level, format, env);
  if (tryOut === undefined && sources.every(({ system }) => tasks.names(system).length === 0)) {
    throw new ConfigError('there are no tasks to run; pass the file that exports them: -A ./tasks.ts');
  }
  const background = resolved.find((one) => one.background !== undefined)?.background;
  if (background !== undefined) return intoBackground(background, env, log);
  const shutdownTimeoutMs =
    flags.shutdownTimeout !== undefined
      ? flags.shutdownTimeout * 1000
      : (config.shutdownTimeoutMs ??
        resolved.find((one) => one.shutdownTimeoutMs !== undefined)?.shutdownTimeoutMs ??
        25_000);
  const worker = new Worker({
    tasks,
    sources,
    log,
    shutdownTimeoutMs,
    middleware: config.middleware ?? [],
    ...(await executorOf(resolved, app)),
    ...(config.abortGraceMs === undefined ? {} : { abortGraceMs: config.abortGraceMs }),
  });
  const companions = await Promise.all(resolved.flatMap(({ companion }) => companion?.(log) ?? []));
  tell(
    {
      version: version(),
      node: process.versions.node,
      pid: process.pid,
      config: loaded?.file,
      app,
      shutdownTimeoutMs,
      logLevel: config.log?.level ?? level,
      sources: resolved.flatMap(({ source, more = [], origin }) =>
        [source, ...more].map((one) => factsOf(one, tasks, origin)),
      ),
      tryOut,
    },
    log,
    config.log === undefined && format === 'text' && level !== 'silent',
  );
  const signals = resolved.length === 1 ? resolved[0]?.signals : undefined;
  return live(worker, log, env, { shutdownTimeoutMs, sources, companions, signals });
}

/** Where a system's own settings say that handlers run. Throws ConfigError where that takes the file of the tasks and there is none. */
async function executorOf(
  resolved: readonly ResolvedSource[],
  app: string | undefined,
): Promise<{ readonly executor?: Executor }> {
  const make = resolved.find(({ executor }) => executor !== undefined)?.executor;
  if (make === undefined) return {};
  if (app === undefined)
    throw new ConfigError(
      'a process for each job loads the tasks for itself; pass the file that exports them: -A ./tasks.ts',
    );
  return { executor: await make(app) };
}

/** With the worker, and no longer: another process may lead while this one finishes its jobs. */
async function startCompanions(companions: readonly Companion[], worker: Worker): Promise<void> {
  worker.on('worker:state', ({ state }) => {
    if (state === 'stopping') for (const companion of companions) void companion.stop();
  });
  try {
    for (const companion of companions) await companion.start();
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
  {
    shutdownTimeoutMs,
    sources,
    companions,
    signals: own,
  }: {
    readonly shutdownTimeoutMs: number;
    readonly sources: readonly Source[];
    readonly companions: readonly Companion[];
    readonly signals: ResolvedSource['signals'];
  },
): Promise<number> {
  const signals = new StopSignals({
    worker,
    log,
    env,
    shutdownTimeoutMs,
    ...(own === undefined ? {} : { own }),
    exit: (code) => process.exit(code),
  });
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
    await startCompanions(companions, worker);
  } finally {
    process.off('SIGTERM', leave).off('SIGINT', leave);
  }
  signals.install();
  process.on('uncaughtException', fatal);
  for (const source of sources) log.info({ system: source.system, queues: source.queues }, `${nameOf(source)} ready`);
  await stopped;
  for (const companion of companions) await companion.stop();
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

function tell(facts: Facts, log: Logger, asText: boolean): void {
  if (asText) {
    process.stderr.write(banner(facts));
    return;
  }
  const { tryOut, ...rest } = facts;
  log.info(rest, 'starting');
  if (tryOut !== undefined)
    log.warn(
      { folder: tryOut.folder },
      'no broker was named, so a folder stands in for one: for trying out only; pass --broker',
    );
}

function nameOf(source: Source): string {
  const { nodename }: Partial<Pick<SourceFacts & { nodename: string }, 'nodename'>> = source as { nodename?: string };
  return nodename ?? source.system;
}
