import type { Config } from '../../config.ts';
import type { FailureBackend, ResqueAppOptions, ResqueOptions, SchedulerOptions } from '../../drivers/resque/index.ts';
import { ConfigError } from '../../errors.ts';
import type { Inspector } from '../../inspector.ts';
import { loadConfig } from '../load.ts';
import { first, given, without } from '../settings.ts';
import type { Environment, WorkerFlags } from '../system.ts';

/** The flags of `jobglot worker` that are Resque's. */
export interface ResqueWorkerFlags extends WorkerFlags {
  /** True where the flag has no URL. */
  readonly resque?: string | true;
  readonly resqueNamespace?: string;
  readonly interval?: number;
  readonly forkPerJob?: boolean;
  readonly resqueScheduler?: boolean;
  readonly failureBackend?: FailureBackend;
}

/** How Resque's own flags are written. */
export const RESQUE_FLAGS: Readonly<Record<string, string>> = {
  resque: '--resque',
  resqueNamespace: '--resque-namespace',
  interval: '--interval',
  forkPerJob: '--fork-per-job',
  resqueScheduler: '--resque-scheduler',
  failureBackend: '--failure-backend',
} satisfies Partial<Record<keyof ResqueWorkerFlags, string>>;

/** Where Redis is, and who said so. */
export function resolveUrl(
  flag: { readonly value: string | undefined; readonly name: string },
  env: Environment,
  file: Partial<ResqueOptions>,
): { readonly url: string; readonly from: string } {
  const found = first<string>([
    [flag.value, flag.name],
    [env['RESQUE_REDIS_URL'], 'RESQUE_REDIS_URL'],
    [file.url, 'the config file'],
    [env['REDIS_URL'], 'REDIS_URL'],
  ]);
  return found === undefined
    ? { url: 'redis://localhost:6379/0', from: 'the default' }
    : { url: found.value, from: found.from };
}

export interface ResolvedResque {
  readonly options: ResqueOptions;
  readonly from: string;
  readonly forkPerJob: boolean;
  /** TERM is as QUIT: GRACEFUL_TERM. */
  readonly gracefulTerm: boolean;
  /** How a child is ended: TERM_CHILD, RESQUE_TERM_TIMEOUT. */
  readonly termChild: boolean;
  readonly termTimeoutMs: number | undefined;
  /** RESQUE_PRE_SHUTDOWN_TIMEOUT. */
  readonly shutdownTimeoutMs: number | undefined;
  readonly pidFile: string | undefined;
  /** BACKGROUND. */
  readonly background: boolean;
}

/** The options of the one Resque source of `jobglot worker`, from flags, Resque's environment and the config file. Throws ConfigError. */
export function resolveResque(flags: ResqueWorkerFlags, env: Environment, config: Config): ResolvedResque {
  const file = config.resque ?? {};
  const asked = { value: flags.resque === true ? undefined : flags.resque, name: '--resque' };
  const { url, from } = resolveUrl(asked, env, file);
  const options: ResqueOptions = {
    ...without(file, ['url']),
    url,
    ...given('queues', flags.queues ?? names(env['QUEUES'] ?? env['QUEUE']) ?? file.queues),
    ...given('concurrency', flags.concurrency ?? number(env, 'COUNT') ?? file.concurrency),
    ...given('interval', flags.interval ?? number(env, 'INTERVAL') ?? file.interval),
    ...given('minInterval', number(env, 'MIN_INTERVAL') ?? file.minInterval),
    ...given('maxInterval', number(env, 'MAX_INTERVAL') ?? file.maxInterval),
    ...given('backoffInterval', number(env, 'BACKOFF_INTERVAL') ?? file.backoffInterval),
    ...given('proclinePrefix', env['RESQUE_PROCLINE_PREFIX'] ?? file.proclinePrefix),
    ...given('namespace', flags.resqueNamespace ?? file.namespace),
    ...given('scheduler', schedulerOf(flags.resqueScheduler, env, file.scheduler)),
    ...given('schedulerLockPrefix', env['RESQUE_SCHEDULER_MASTER_LOCK_PREFIX'] ?? file.schedulerLockPrefix),
    ...given('failure', flags.failureBackend ?? backend(env['FAILURE_BACKEND']) ?? file.failure),
    ...given('unknownTask', flags.unknownTask ?? file.unknownTask),
  };
  const preShutdown = number(env, 'RESQUE_PRE_SHUTDOWN_TIMEOUT');
  const termTimeout = number(env, 'RESQUE_TERM_TIMEOUT');
  return {
    options,
    from,
    forkPerJob: flags.forkPerJob ?? env['FORK_PER_JOB'] === 'true',
    gracefulTerm: isSet(env['GRACEFUL_TERM']),
    termChild: isSet(env['TERM_CHILD']) || !('TERM_CHILD' in env),
    termTimeoutMs: termTimeout === undefined ? undefined : termTimeout * 1000,
    shutdownTimeoutMs: preShutdown === undefined ? undefined : preShutdown * 1000,
    pidFile: env['PIDFILE'] === '' ? undefined : env['PIDFILE'],
    background: isSet(env['BACKGROUND']),
  };
}

/** The scheduler beside the worker: what the flag asks for, with what the file says of it, under resque-scheduler's environment. */
function schedulerOf(
  flag: boolean | undefined,
  env: Environment,
  file: ResqueOptions['scheduler'],
): ResqueOptions['scheduler'] {
  const asked = flag === true && typeof file === 'object' ? { ...file, run: true } : (flag ?? file);
  if (asked === undefined || asked === false) return asked;
  const dynamic = env['DYNAMIC_SCHEDULE'];
  const own: SchedulerOptions = {
    ...given('interval', number(env, 'RESQUE_SCHEDULER_INTERVAL')),
    ...given('lockTimeout', number(env, 'LOCK_TIMEOUT')),
    ...given('dynamic', dynamic === undefined || dynamic === '' ? undefined : /^(?:1|t|true|on)$/i.test(dynamic)),
    ...given('env', env['RAILS_ENV'] === '' ? undefined : env['RAILS_ENV']),
  };
  return Object.keys(own).length === 0 ? asked : { ...(asked === true ? {} : asked), ...own };
}

/** How much to log, where no flag says: VVERBOSE, VERBOSE, LOGGING. */
export function logLevelOf(env: Environment): 'debug' | 'info' | undefined {
  if (isSet(env['VVERBOSE'])) return 'debug';
  return isSet(env['VERBOSE']) || isSet(env['LOGGING']) ? 'info' : undefined;
}

function isSet(value: string | undefined): boolean {
  return value !== undefined && value !== '' && value !== '0' && value !== 'false';
}

function names(text: string | undefined): readonly string[] | undefined {
  return text === undefined || text === '' ? undefined : text.split(',').map((name) => name.trim());
}

/** Throws ConfigError. */
function number(env: Environment, name: string): number | undefined {
  const text = env[name];
  if (text === undefined || text === '') return undefined;
  if (/^\d+(?:\.\d+)?$/.test(text)) return Number(text);
  throw new ConfigError(`${name} must be a number, not '${text}'`);
}

function backend(text: string | undefined): FailureBackend | undefined {
  if (text === undefined || text === '') return undefined;
  if (text === 'redis' || text === 'redis_multi_queue') return text;
  throw new ConfigError(`FAILURE_BACKEND must be redis or redis_multi_queue, not '${text}'`);
}

export interface ClientFlags {
  readonly url?: string;
  readonly config?: string;
  readonly namespace?: string;
}

/** What looks at the Redis of these flags, for `inspect` and `control`. */
export async function inspectorFor(flags: ClientFlags, env: Environment, cwd: string): Promise<Inspector> {
  const { ResqueInspector } = await import('../../drivers/resque/index.ts');
  return new ResqueInspector(await appFor(flags, env, cwd));
}

/** Where a worker started in the same folder would work. */
export async function appFor(flags: ClientFlags, env: Environment, cwd: string): Promise<ResqueAppOptions> {
  const file = (await loadConfig(cwd, flags.config))?.config.resque ?? {};
  const { url } = resolveUrl({ value: flags.url, name: '--url' }, env, file);
  return {
    url,
    ...given('namespace', flags.namespace ?? file.namespace),
    ...given('tls', file.tls),
    ...given('masterName', file.masterName),
    ...given('sentinelPassword', file.sentinelPassword),
    ...given('username', file.username),
    ...given('password', file.password),
  };
}
