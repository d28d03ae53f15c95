import { existsSync } from 'node:fs';
import type { Config } from '../../config.ts';
import type { CeleryClient, CeleryOptions } from '../../drivers/celery/index.ts';
import { ConfigError } from '../../errors.ts';
import { loadConfig } from '../load.ts';
import type { Environment } from '../system.ts';
import { type Connection, type ConnectionFlags, resolveConnection } from './settings.ts';

export interface ClientFlags extends ConnectionFlags {
  readonly config?: string;
}

/** A client for the broker and results that a worker started in the same folder would use, and where they are from. */
export async function clientFor(
  flags: ClientFlags,
  env: Environment,
  cwd: string,
): Promise<{ readonly client: CeleryClient; readonly connection: Connection }> {
  const { options, connection } = await resolveClient(flags, env, cwd);
  const { CeleryClient } = await import('../../drivers/celery/index.ts');
  return { client: new CeleryClient(options), connection };
}

/** What a client of any kind is made from. */
export async function optionsFor(flags: ClientFlags, env: Environment, cwd: string): Promise<CeleryOptions> {
  return (await resolveClient(flags, env, cwd)).options;
}

/** A client that only reads results: it opens no broker. */
export async function resultClientFor(flags: ClientFlags, env: Environment, cwd: string): Promise<CeleryClient> {
  const { options, connection } = await resolveClient(flags, env, cwd);
  if (
    options.backend === undefined ||
    options.backend === '' ||
    (connection.tryOut !== undefined &&
      connection.backendFrom === 'the default' &&
      !existsSync(connection.tryOut.results))
  ) {
    throw new ConfigError(
      'where are the results? Pass --backend redis://localhost:6379/0, or set CELERY_RESULT_BACKEND',
    );
  }
  const { CeleryClient } = await import('../../drivers/celery/index.ts');
  const { brokerTransportOptions: _, ...rest } = options;
  return new CeleryClient({ ...rest, broker: 'memory://' });
}

/** The options that a worker started in the same folder would have, and where they are from. */
export async function resolveClient(
  flags: ClientFlags,
  env: Environment,
  cwd: string,
): Promise<{ readonly options: CeleryOptions; readonly connection: Connection; readonly config: Config }> {
  const config = (await loadConfig(cwd, flags.config))?.config ?? {};
  const file = config.celery ?? madeBy(config.sources ?? []);
  const connection = resolveConnection(flags, env, file, cwd);
  const { broker, backend, brokerTransportOptions } = connection;
  const options: CeleryOptions = {
    ...file,
    broker,
    ...(brokerTransportOptions === undefined ? {} : { brokerTransportOptions }),
    ...(backend === undefined ? {} : { backend }),
  };
  return { options, connection, config };
}

/** What a source that a config file has made sends to and reads from. */
function madeBy(sources: readonly { readonly system: string }[]): Partial<CeleryOptions> {
  const source = sources.find(({ system }) => system === 'celery') as Partial<CeleryOptions> | undefined;
  return source?.broker === undefined
    ? {}
    : { broker: source.broker, ...(source.backend === undefined ? {} : { backend: source.backend }) };
}
