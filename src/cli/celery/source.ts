import { resolve } from 'node:path';
import type { Config } from '../../config.ts';
import type { CeleryOptions } from '../../drivers/celery/index.ts';
import { ConfigError } from '../../errors.ts';
import type { Environment, ResolvedSource } from '../system.ts';
import { beatOf } from './beat.ts';
import { type CeleryWorkerFlags, type Connection, resolveCelery, type TryOut } from './settings.ts';

/** The one Celery source of `jobglot worker`, and the beat beside it where it is asked for. */
export async function celerySource(
  flags: CeleryWorkerFlags,
  env: Environment,
  config: Config,
  cwd: string,
): Promise<ResolvedSource> {
  const { options, connection } = resolveCelery(flags, env, config, resolve(cwd));
  const { celery } = await import('../../drivers/celery/index.ts');
  const { tryOut } = connection;
  return {
    source: celery(options),
    origin: originOf(flags, connection),
    tryOut: tryOut === undefined ? undefined : { folder: tryOut.queue, words: tryOutWords(tryOut) },
    companion: flags.beat === true ? (log) => beatOf(withUrls(options), log) : undefined,
  };
}

/** The beat has connections of its own, which close before the worker's. */
function withUrls(options: CeleryOptions): CeleryOptions {
  if (typeof options.broker === 'string' && typeof (options.backend ?? '') === 'string') return options;
  throw new ConfigError('--beat needs broker and backend as URLs; run jobglot beat beside the worker instead');
}

/** Who set what, for the banner. */
function originOf(flags: CeleryWorkerFlags, connection: Connection): ResolvedSource['origin'] {
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

/** How to reach a worker that has no broker but a folder. */
function tryOutWords({ queue, control, results }: TryOut): readonly string[] {
  const python = (path: string): string => JSON.stringify(path);
  return [
    ' FOR TRYING OUT: no broker was named, so a folder of this machine stands in for one.',
    ' Name one with --broker redis://localhost:6379/0, CELERY_BROKER_URL or a config file.',
    '',
    " Enqueue from here:    jobglot enqueue celery NAME '[1, 2]' --wait 10",
    ' Enqueue from Python:  app.conf.update(',
    `     broker_url='filesystem://', result_backend=${python(`file://${results}`)},`,
    `     broker_transport_options={'data_folder_in': ${python(queue)},`,
    `         'data_folder_out': ${python(queue)}, 'control_folder': ${python(control)}})`,
  ];
}
