import type { Config } from '../../config.ts';
import type { RqClient, RqInspector, RqOptions } from '../../drivers/rq/index.ts';
import { loadConfig } from '../load.ts';
import { first, given, without } from '../settings.ts';
import type { Environment, WorkerFlags } from '../system.ts';

/** The flags of `jobglot worker` that are RQ's, under RQ's names. */
export interface RqWorkerFlags extends WorkerFlags {
  /** True where the flag has no URL. */
  readonly rq?: string | true;
  readonly name?: string;
  readonly burst?: boolean;
  readonly maxJobs?: number;
  readonly maxIdleTime?: number;
  readonly withScheduler?: boolean;
  readonly dequeueStrategy?: 'default' | 'round_robin' | 'random';
  readonly resultsTtl?: number;
  readonly resultsInHash?: boolean;
  readonly maintenanceInterval?: number;
  readonly jobMonitoringInterval?: number;
  readonly workerTtl?: number;
}

/** How RQ's own flags are written. */
export const RQ_FLAGS: Readonly<Record<string, string>> = {
  rq: '--rq',
  name: '--name',
  burst: '--burst',
  maxJobs: '--max-jobs',
  maxIdleTime: '--max-idle-time',
  withScheduler: '--with-scheduler',
  dequeueStrategy: '--dequeue-strategy',
  resultsTtl: '--results-ttl',
  resultsInHash: '--results-in-hash',
  maintenanceInterval: '--maintenance-interval',
  jobMonitoringInterval: '--job-monitoring-interval',
  workerTtl: '--worker-ttl',
} satisfies Partial<Record<keyof RqWorkerFlags, string>>;

/** Where Redis is, and who said so. */
export function resolveUrl(
  flag: { readonly value: string | undefined; readonly name: string },
  env: Environment,
  file: Partial<RqOptions>,
): { readonly url: string; readonly from: string } {
  const found = first<string>([
    [flag.value, flag.name],
    [env['RQ_REDIS_URL'], 'RQ_REDIS_URL'],
    [file.url, 'the config file'],
    [env['REDIS_URL'], 'REDIS_URL'],
  ]);
  return found === undefined
    ? { url: 'redis://localhost:6379/0', from: 'the default' }
    : { url: found.value, from: found.from };
}

/** The options of the one RQ source of `jobglot worker`. */
export function resolveRq(
  flags: RqWorkerFlags,
  env: Environment,
  config: Config,
): { readonly options: RqOptions; readonly from: string } {
  const file = config.rq ?? {};
  const { url, from } = resolveUrl({ value: flags.rq === true ? undefined : flags.rq, name: '--rq' }, env, file);
  const options: RqOptions = {
    ...without(file, ['url', 'cron']),
    url,
    ...given('queues', flags.queues),
    ...given('concurrency', flags.concurrency),
    ...given('name', flags.name),
    ...given('burst', flags.burst),
    ...given('maxJobs', flags.maxJobs),
    ...given('maxIdleTime', flags.maxIdleTime),
    ...given('withScheduler', flags.withScheduler),
    ...given('dequeueStrategy', flags.dequeueStrategy),
    ...given('resultsTtl', flags.resultsTtl),
    ...given('resultsInHash', flags.resultsInHash),
    ...given('maintenanceInterval', flags.maintenanceInterval),
    ...given('jobMonitoringInterval', flags.jobMonitoringInterval),
    ...given('workerTtl', flags.workerTtl),
    ...given('unknownTask', flags.unknownTask),
  };
  return { options, from };
}

export interface ClientFlags {
  readonly url?: string;
  readonly config?: string;
  readonly serializer?: 'pickle' | 'json';
}

/** A client for the Redis that a worker started in the same folder would use. */
export async function clientFor(flags: ClientFlags, env: Environment, cwd: string): Promise<RqClient> {
  const file = (await loadConfig(cwd, flags.config))?.config.rq ?? {};
  const { url } = resolveUrl({ value: flags.url, name: '--url' }, env, file);
  const { RqClient } = await import('../../drivers/rq/index.ts');
  return new RqClient({
    url,
    ...given('redis', file.redis),
    ...given('limits', file.limits),
    ...given('serializer', flags.serializer ?? file.serializer),
  });
}

/** An inspector of the Redis that a worker started in the same folder would use. */
export async function inspectorFor(flags: ClientFlags, env: Environment, cwd: string): Promise<RqInspector> {
  const file = (await loadConfig(cwd, flags.config))?.config.rq ?? {};
  const { url } = resolveUrl({ value: flags.url, name: '--url' }, env, file);
  const { RqInspector } = await import('../../drivers/rq/index.ts');
  return new RqInspector({ url, ...given('redis', file.redis), ...given('limits', file.limits) });
}
