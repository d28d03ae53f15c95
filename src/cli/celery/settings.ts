import { join } from 'node:path';
import type { Config } from '../../config.ts';
import type { CeleryBroker, CeleryOptions, ResultBackend } from '../../drivers/celery/index.ts';
import { ConfigError } from '../../errors.ts';
import { first, given, without } from '../settings.ts';
import type { Environment, WorkerFlags } from '../system.ts';

/** Where to, as flags. */
export interface ConnectionFlags {
  readonly celery?: string;
  readonly broker?: string;
  readonly resultBackend?: string;
}

/** When to send what, as flags. */
export interface ScheduleFlags {
  readonly schedule?: string;
  readonly scheduler?: 'redis' | 'redbeat' | 'file' | 'memory';
  readonly maxInterval?: number;
}

/** The flags of `jobglot worker` that are Celery's. */
export interface CeleryWorkerFlags extends WorkerFlags, ConnectionFlags, ScheduleFlags {
  readonly beat?: boolean;
  readonly hostname?: string;
  readonly prefetchMultiplier?: number;
  readonly timeLimit?: number;
  readonly softTimeLimit?: number;
  readonly acksLate?: boolean;
  readonly taskEvents?: boolean;
  readonly accept?: readonly string[];
}

/** A broker and a result store, and who named them. */
export interface Connection {
  readonly broker: string | CeleryBroker;
  readonly brokerTransportOptions?: CeleryOptions['brokerTransportOptions'];
  readonly brokerFrom: string;
  /** Undefined: results are not stored. */
  readonly backend: string | ResultBackend | undefined;
  readonly backendFrom: string;
  /** The folder that stands in for a broker nobody named. */
  readonly tryOut: TryOut | undefined;
}

/** The server-less default: kombu's filesystem transport, which Python speaks too. */
export interface TryOut {
  readonly queue: string;
  readonly control: string;
  readonly results: string;
}

/**
 * Flag over environment over file over default. REDIS_URL names a broker only where nothing that is Celery's own does: it is
 * often set for something else.
 */
export function resolveConnection(
  flags: ConnectionFlags,
  env: Environment,
  file: Partial<CeleryOptions>,
  cwd: string,
): Connection {
  if (flags.celery !== undefined && flags.broker !== undefined) {
    throw new ConfigError('--celery and --broker both name a broker; pass one of them');
  }
  const broker = first<string | CeleryBroker>([
    [flags.celery, '--celery'],
    [flags.broker, '--broker'],
    [env['CELERY_BROKER_URL'], 'CELERY_BROKER_URL'],
    [file.broker, 'the config file'],
    [env['REDIS_URL'], 'REDIS_URL'],
  ]);
  const backend = first<string | ResultBackend>([
    [flags.resultBackend, '--result-backend'],
    [env['CELERY_RESULT_BACKEND'], 'CELERY_RESULT_BACKEND'],
    [file.backend, 'the config file'],
    // One URL for everything keeps the results there too, where it can.
    ['--celery', 'REDIS_URL'].includes(broker?.from ?? '') && isRedis(broker?.value)
      ? [broker?.value as string, broker?.from as string]
      : [undefined, ''],
  ]);
  if (broker !== undefined) {
    const transport = file.brokerTransportOptions;
    return {
      broker: broker.value,
      ...(transport === undefined || broker.from !== 'the config file' ? {} : { brokerTransportOptions: transport }),
      brokerFrom: broker.from,
      backend: backend?.value,
      backendFrom: backend?.from ?? 'nobody asked for results; pass --result-backend',
      tryOut: undefined,
    };
  }
  const tryOut = tryOutIn(cwd);
  return {
    broker: 'filesystem://',
    brokerTransportOptions: { dataFolderIn: tryOut.queue, dataFolderOut: tryOut.queue, controlFolder: tryOut.control },
    brokerFrom: 'the default',
    backend: backend?.value ?? fileUrl(tryOut.results),
    backendFrom: backend?.from ?? 'the default',
    tryOut,
  };
}

/** The options of the one Celery source of `jobglot worker`. */
export function resolveCelery(
  flags: CeleryWorkerFlags,
  env: Environment,
  config: Config,
  cwd: string,
): { readonly options: CeleryOptions; readonly connection: Connection } {
  const file = config.celery ?? {};
  const connection = resolveConnection(flags, env, file, cwd);
  const options: CeleryOptions = {
    ...without(file, ['broker', 'backend', 'brokerTransportOptions']),
    broker: connection.broker,
    ...given('brokerTransportOptions', connection.brokerTransportOptions),
    ...given('backend', connection.backend),
    ...given('queues', flags.queues),
    ...given('concurrency', flags.concurrency),
    ...given('prefetchMultiplier', flags.prefetchMultiplier),
    ...given('nodename', flags.hostname),
    ...given('acksLate', flags.acksLate),
    ...given('workerSendTaskEvents', flags.taskEvents),
    ...given('taskTimeLimit', flags.timeLimit),
    ...given('taskSoftTimeLimit', flags.softTimeLimit),
    ...given('acceptContent', flags.accept),
    ...given('unknownTask', flags.unknownTask),
    ...scheduleOptions(flags),
  };
  return { options, connection };
}

/** A file that is named is one to use. */
export function scheduleOptions(flags: ScheduleFlags): Partial<CeleryOptions> {
  return {
    ...given('beatScheduleFilename', flags.schedule),
    ...given('beatScheduler', flags.scheduler ?? (flags.schedule === undefined ? undefined : 'file')),
    ...given('beatMaxLoopInterval', flags.maxInterval),
  };
}

/** How Celery's own flags are written. */
export const CELERY_FLAGS: Readonly<Record<string, string>> = {
  celery: '--celery',
  broker: '--broker',
  resultBackend: '--result-backend',
  hostname: '--hostname',
  prefetchMultiplier: '--prefetch-multiplier',
  timeLimit: '--time-limit',
  softTimeLimit: '--soft-time-limit',
  acksLate: '--acks-late',
  taskEvents: '--task-events',
  accept: '--accept',
  beat: '--beat',
  schedule: '--schedule',
  scheduler: '--scheduler',
} satisfies Partial<Record<keyof CeleryWorkerFlags, string>>;

/** The folders of the server-less default. */
export function tryOutIn(cwd: string): TryOut {
  const folder = join(cwd, '.jobglot');
  return { queue: join(folder, 'queue'), control: join(folder, 'control'), results: join(folder, 'results') };
}

function fileUrl(path: string): string {
  const slashes = path.replaceAll('\\', '/');
  return `file://${slashes.startsWith('/') ? '' : '/'}${slashes}`;
}

function isRedis(broker: unknown): boolean {
  return typeof broker === 'string' && /^(?:rediss?|sentinel|redis\+socket):/i.test(broker);
}
