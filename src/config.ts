import type { CeleryOptions } from './drivers/celery/options.ts';
import type { RqCronJob } from './drivers/rq/cron.ts';
import type { ResqueOptions } from './drivers/resque/options.ts';
import type { RqOptions } from './drivers/rq/options.ts';
import type { SidekiqOptions } from './drivers/sidekiq/options.ts';
import { ConfigError } from './errors.ts';
import type { Logger, LogLevel } from './log.ts';
import type { Source } from './source.ts';
import type { Tasks } from './task.ts';
import type { Middleware } from './worker/middleware.ts';

/** What `jobglot.config.ts` (or .js, .mjs) exports by default: what `jobglot worker` runs. Flags and environment win over it. */
export interface Config {
  /** Which handler runs which task. The flag `-A FILE` takes its place. */
  readonly tasks?: Tasks;
  /** One Celery source, as options, so that flags and CELERY_BROKER_URL can change single ones. Not beside `sources`. */
  readonly celery?: Partial<CeleryOptions>;
  /**
   * One RQ source, as options, so that flags and RQ_REDIS_URL can change single ones; and what `jobglot cron rq` enqueues when. Not
   * beside `sources`.
   */
  readonly rq?: Partial<RqOptions> & { readonly cron?: readonly RqCronJob[] };
  /** One Sidekiq source, as options, so that flags and REDIS_URL can change single ones. Not beside `sources`. */
  readonly sidekiq?: Partial<SidekiqOptions>;
  /** One Resque source, as options, so that flags and Resque's environment can change single ones. Not beside `sources`. */
  readonly resque?: Partial<ResqueOptions>;
  /** Sources already made, one or several: `[celery({ broker })]`. Flags about the broker or queues are then refused. */
  readonly sources?: readonly Source[];
  readonly middleware?: readonly Middleware[];
  /** A logger of your own, shaped like pino's. @default text on a terminal, else JSON lines, on standard error */
  readonly log?: Logger;
  /** @default 'info' */
  readonly logLevel?: LogLevel;
  /** @default 'text' on a terminal, else 'json' */
  readonly logFormat?: 'json' | 'text';
  /** How long a stop waits for running handlers before it aborts their signals. @default 25 000 */
  readonly shutdownTimeoutMs?: number;
  /** How long aborted handlers may take to end before their jobs are given back without them. @default 3 000 */
  readonly abortGraceMs?: number;
}

const KNOWN: Readonly<Record<keyof Config, (value: unknown) => string | undefined>> = {
  tasks: (value) => (isTasks(value) ? undefined : 'must be a Tasks: new Tasks().handle(task, handler)'),
  celery: (value) => (isRecord(value) ? undefined : "must be an object of options: { broker: 'redis://localhost' }"),
  rq: (value) => (isRecord(value) ? undefined : "must be an object of options: { url: 'redis://localhost' }"),
  sidekiq: (value) => (isRecord(value) ? undefined : "must be an object of options: { url: 'redis://localhost' }"),
  resque: (value) => (isRecord(value) ? undefined : "must be an object of options: { url: 'redis://localhost' }"),
  sources: (value) =>
    Array.isArray(value) && value.every(isSource) ? undefined : 'must be a list of sources: [celery({ broker })]',
  middleware: (value) =>
    Array.isArray(value) && value.every((one) => typeof one === 'function') ? undefined : 'must be a list of functions',
  log: (value) =>
    isRecord(value) && typeof value['info'] === 'function' ? undefined : "must be a logger shaped like pino's",
  logLevel: (value) =>
    ['debug', 'info', 'warn', 'error', 'silent'].includes(value as string)
      ? undefined
      : 'must be debug, info, warn, error or silent',
  logFormat: (value) => (value === 'json' || value === 'text' ? undefined : 'must be json or text'),
  shutdownTimeoutMs: milliseconds,
  abortGraceMs: milliseconds,
};

/** Types for a config file, checked: `export default defineConfig({ tasks, celery: { broker } })`. Throws ConfigError. */
export function defineConfig(config: Config): Config {
  return checkConfig(config, 'defineConfig');
}

/** The same for a value of any kind; `where` is what its errors begin with. */
export function checkConfig(value: unknown, where: string): Config {
  if (!isRecord(value))
    throw new ConfigError(`${where}: the configuration must be an object: { tasks, celery: { broker } }`);
  for (const [name, option] of Object.entries(value)) {
    if (!Object.hasOwn(KNOWN, name))
      throw new ConfigError(`${where}: unknown option '${name}'; known are ${Object.keys(KNOWN).join(', ')}`);
    const wrong = option === undefined ? undefined : KNOWN[name as keyof Config](option);
    if (wrong !== undefined) throw new ConfigError(`${where}: ${name} ${wrong}`);
  }
  for (const system of ['celery', 'rq', 'sidekiq', 'resque'] as const) {
    if (value[system] !== undefined && value['sources'] !== undefined)
      throw new ConfigError(`${where}: pass either ${system} (options) or sources (made by ${system}()), not both`);
  }
  return value;
}

/** By its shape: a task file may have loaded another copy of this package. */
export function isTasks(value: unknown): value is Tasks {
  return isRecord(value) && typeof value['find'] === 'function' && typeof value['names'] === 'function';
}

function isSource(value: unknown): value is Source {
  return isRecord(value) && typeof value['receive'] === 'function' && typeof value['system'] === 'string';
}

function milliseconds(value: unknown): string | undefined {
  return typeof value === 'number' && value >= 0 ? undefined : 'must be a number of milliseconds';
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
