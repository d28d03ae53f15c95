import { rm, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Job } from '../../../protocols/job.ts';
import type { Config } from '../../config.ts';
import type { ResqueOptions, ResqueSource } from '../../drivers/resque/index.ts';
import type { Worker } from '../../worker/worker.ts';
import { importArguments } from '../load.ts';
import type { Companion, Environment, ResolvedSource } from '../system.ts';
import { maskUrl } from '../url.ts';
import { logLevelOf, resolveResque, type ResolvedResque, type ResqueWorkerFlags } from './settings.ts';

/** The one Resque source of `jobglot worker`. */
export async function resqueSource(
  flags: ResqueWorkerFlags,
  env: Environment,
  config: Config,
  cwd: string,
): Promise<ResolvedSource> {
  const resolved = resolveResque(flags, env, config);
  const { options, from, forkPerJob, termChild, termTimeoutMs, pidFile, shutdownTimeoutMs } = resolved;
  const { jobTitle, resque } = await import('../../drivers/resque/index.ts');
  const source = resque(options);
  const notes: string[] = [];
  if (options.namespace !== undefined) notes.push(`namespace '${options.namespace}'`);
  if (options.scheduler !== undefined && options.scheduler !== false) notes.push('scheduler');
  if (options.interval === 0) notes.push('ends when the queues are empty');
  if (forkPerJob) notes.push('a process for each job');
  if (options.unknownTask !== undefined) notes.push(`unknown tasks: ${shownPolicy(options.unknownTask)}`);
  const logLevel = logLevelOf(env);
  return {
    source,
    ...(logLevel === undefined ? {} : { logLevel }),
    ...(resolved.background ? { background: 'BACKGROUND' } : {}),
    origin: { address: maskUrl(options.url), broker: `from ${from}`, options: notes },
    ...(shutdownTimeoutMs === undefined ? {} : { shutdownTimeoutMs }),
    ...(pidFile === undefined ? {} : { companion: () => Promise.resolve(pidFileAt(resolve(cwd, pidFile))) }),
    ...(forkPerJob
      ? {
          executor: async (tasks) => {
            const { childProcess } = await import('../../worker/child-process.ts');
            const timeout = termTimeoutMs === undefined ? {} : { termTimeoutMs };
            const execArgv = [...process.execArgv, ...importArguments(tasks, cwd)];
            const title = (job: Job): string => (options.proclinePrefix ?? '') + jobTitle(job);
            return childProcess({ tasks, title, termChild, execArgv, ...timeout });
          },
        }
      : {}),
    signals: signalsOf(source, resolved),
  };
}

function shownPolicy(policy: NonNullable<ResqueOptions['unknownTask']>): string {
  return typeof policy === 'string' ? policy : `forward to ${policy.forward}`;
}

/** Resque's meanings of signals. TERM and INT are as for every worker: jobs that do not end in time go back to their queues. */
function signalsOf(source: ResqueSource, { gracefulTerm }: ResolvedResque): NonNullable<ResolvedSource['signals']> {
  const finish = (worker: Worker): void => void worker.stop({ timeoutMs: 2 ** 31 - 1 });
  return {
    SIGQUIT: finish,
    ...(gracefulTerm ? { SIGTERM: finish } : {}),
    SIGUSR1: (_worker, log) => log.warn({}, `SIGUSR1: ended ${source.killJobs()} jobs that ran`),
    SIGUSR2: (_worker, log) => void source.pause().catch((error: unknown) => log.error({ error }, 'a hook failed')),
    SIGCONT: (_worker, log) => void source.resume().catch((error: unknown) => log.error({ error }, 'a hook failed')),
  };
}

/** PIDFILE. */
function pidFileAt(file: string): Companion {
  return {
    start: () => writeFile(file, `${process.pid}\n`),
    stop: () => rm(file, { force: true }),
  };
}
