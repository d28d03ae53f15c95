import { ConfigError } from '../../errors.ts';
import type { LogLevel } from '../../log.ts';
import { stderrLog } from '../console-log.ts';
import { EXIT } from '../exit.ts';
import { loadConfig } from '../load.ts';
import { given } from '../settings.ts';
import type { Environment } from '../system.ts';
import { type ClientFlags, resolveUrl } from './settings.ts';

/** The flags of `jobglot cron rq`, as commander names them. */
export interface CronFlags extends ClientFlags {
  readonly name?: string;
  readonly loglevel?: LogLevel;
  readonly logFormat?: 'json' | 'text';
}

/** `jobglot cron rq`. Resolves to the exit code once it was told to stop; rejects when it could not start. */
export async function runCron(flags: CronFlags, env: Environment, cwd: string): Promise<number> {
  const loaded = await loadConfig(cwd, flags.config);
  const config = loaded?.config ?? {};
  const { cron: jobs = [], redis, serializer } = config.rq ?? {};
  if (jobs.length === 0)
    throw new ConfigError(
      'there is nothing to send; give jobs as rq: { cron: [{ func, queueName, interval }] } in the config file',
    );
  const { url, from } = resolveUrl({ value: flags.url, name: '--url' }, env, config.rq ?? {});
  const format = flags.logFormat ?? config.logFormat ?? (process.stderr.isTTY ? 'text' : 'json');
  const log = config.log ?? stderrLog(flags.loglevel ?? config.logLevel ?? 'info', format, env);
  const { RqCron } = await import('../../drivers/rq/index.ts');
  const cron = new RqCron({
    url,
    jobs,
    log,
    ...given('configFile', loaded?.file),
    ...given('name', flags.name),
    ...given('redis', redis),
    ...given('serializer', serializer),
  });
  log.info({ redis: cron.address, from, name: cron.name, jobs: cron.jobs }, 'cron: starting');
  const stop = new AbortController();
  // The first asks; the second does not wait for a server that is away.
  const asked = (): void => (stop.signal.aborted ? process.exit(EXIT.failure) : stop.abort());
  process.on('SIGTERM', asked).on('SIGINT', asked);
  try {
    await cron.run(stop.signal);
  } finally {
    process.off('SIGTERM', asked).off('SIGINT', asked);
  }
  log.info({}, 'cron: stopped');
  return EXIT.ok;
}
