import type { Beat, BeatOptions, CeleryOptions } from '../../drivers/celery/index.ts';
import { ConfigError } from '../../errors.ts';
import type { Logger, LogLevel } from '../../log.ts';
import { resolveClient } from './client.ts';
import { stderrLog } from '../console-log.ts';
import { EXIT } from '../exit.ts';
import type { Environment } from '../system.ts';
import { type ScheduleFlags, scheduleOptions } from './settings.ts';

/** The flags of `jobglot beat`, as commander names them. */
export interface BeatFlags extends ScheduleFlags {
  readonly config?: string;
  readonly broker?: string;
  readonly loglevel?: LogLevel;
  readonly logFormat?: 'json' | 'text';
}

/** `jobglot beat`. Resolves to the exit code once it was told to stop; rejects when it could not start. */
export async function runBeat(flags: BeatFlags, env: Environment, cwd: string): Promise<number> {
  const { options, connection, config } = await resolveClient(flags, env, cwd);
  const level = flags.loglevel ?? config.logLevel ?? 'info';
  const format = flags.logFormat ?? config.logFormat ?? (process.stderr.isTTY ? 'text' : 'json');
  const log = config.log ?? stderrLog(level, format, env);
  const beat = await beatOf({ ...options, ...scheduleOptions(flags) }, log);
  const stop = new AbortController();
  // The first asks; the second does not wait for a server that is away.
  const asked = (): void => (stop.signal.aborted ? process.exit(EXIT.failure) : stop.abort());
  process.on('SIGTERM', asked).on('SIGINT', asked);
  // A process that has said that it starts can be stopped.
  log.info(
    {
      broker: beat.client.broker.address,
      brokerFrom: connection.brokerFrom,
      scheduler: beat.scheduler,
      timezone: options.timezone ?? 'UTC',
      entries: beat.entries.map(({ name }) => name),
    },
    'beat: starting',
  );
  try {
    await beat.run(stop.signal);
  } finally {
    process.off('SIGTERM', asked).off('SIGINT', asked);
  }
  log.info({}, 'beat: stopped');
  return EXIT.ok;
}

/** The beat of these options. Throws ConfigError where it would have nothing to send, ever. */
export async function beatOf(options: CeleryOptions, log: Logger): Promise<Beat> {
  const { Beat } = await import('../../drivers/celery/index.ts');
  if (Object.keys(options.beatSchedule ?? {}).length === 0 && options.beatScheduler !== 'redbeat') {
    throw new ConfigError(
      'there is nothing to send; give entries as celery: { beatSchedule: { … } } in the config file, or share those of a RedBeat with --scheduler redbeat',
    );
  }
  return new Beat({ ...(options as BeatOptions), log });
}
