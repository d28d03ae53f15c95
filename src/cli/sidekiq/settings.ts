import type { Config } from '../../config.ts';
import type { QueuesOption, SidekiqAppOptions, SidekiqInspector, SidekiqOptions } from '../../drivers/sidekiq/index.ts';
import { ConfigError } from '../../errors.ts';
import { loadConfig } from '../load.ts';
import { first, given, without } from '../settings.ts';
import type { Environment, WorkerFlags } from '../system.ts';
import { readSidekiqYml, type SidekiqYml } from './sidekiq-yml.ts';

/** The flags of `jobglot worker` that are Sidekiq's. */
export interface SidekiqWorkerFlags extends WorkerFlags {
  /** True where the flag has no URL. */
  readonly sidekiq?: string | true;
  readonly sidekiqConfig?: string;
  readonly basicFetch?: boolean;
  readonly tag?: string;
  readonly label?: readonly string[];
  readonly namespace?: string;
  readonly dialect?: string;
}

/** How Sidekiq's own flags are written. */
export const SIDEKIQ_FLAGS: Readonly<Record<string, string>> = {
  sidekiq: '--sidekiq',
  sidekiqConfig: '--sidekiq-config',
  basicFetch: '--basic-fetch',
  tag: '--tag',
  label: '--label',
  namespace: '--namespace',
  dialect: '--dialect',
} satisfies Partial<Record<keyof SidekiqWorkerFlags, string>>;

/** Where Redis is, and who said so: REDIS_PROVIDER names the variable that holds the URL, as in Sidekiq. */
export function resolveUrl(
  flag: { readonly value: string | undefined; readonly name: string },
  env: Environment,
  file: Partial<SidekiqOptions>,
): { readonly url: string; readonly from: string } {
  const provider = env['REDIS_PROVIDER'];
  if (provider !== undefined && provider.includes(':'))
    throw new ConfigError('REDIS_PROVIDER must name the variable that holds the URL, not the URL itself');
  const found = first<string>([
    [flag.value, flag.name],
    [file.url, 'the config file'],
    [provider === undefined ? undefined : env[provider], `${provider} (REDIS_PROVIDER)`],
    [env['REDIS_URL'], 'REDIS_URL'],
  ]);
  return found === undefined
    ? { url: 'redis://localhost:6379/0', from: 'the default' }
    : { url: found.value, from: found.from };
}

/** The options of the Sidekiq source of `jobglot worker`, and what Sidekiq's own file says beside. */
export function resolveSidekiq(
  flags: SidekiqWorkerFlags,
  env: Environment,
  config: Config,
  cwd: string,
): { readonly options: SidekiqOptions; readonly from: string; readonly yml: SidekiqYml | undefined } {
  const file = config.sidekiq ?? {};
  const { url, from } = resolveUrl(
    { value: flags.sidekiq === true ? undefined : flags.sidekiq, name: '--sidekiq' },
    env,
    file,
  );
  const yml = readSidekiqYml(cwd, flags.sidekiqConfig, env);
  const options: SidekiqOptions = {
    ...yml?.options,
    ...without(file, ['url']),
    url,
    ...given('queues', flags.queues === undefined ? undefined : weighted(flags.queues)),
    ...given('concurrency', flags.concurrency),
    ...given('fetch', flags.basicFetch === true ? ('basic' as const) : undefined),
    ...given('tag', flags.tag),
    ...given('labels', flags.label),
    ...given('namespace', flags.namespace),
    ...given('dialect', flags.dialect),
    ...given('unknownTask', flags.unknownTask),
  };
  return { options, from, yml };
}

/** `-Q critical,5 -Q default`: a number is the weight of the queue before it. Throws ConfigError for one without. */
export function weighted(words: readonly string[]): QueuesOption {
  const queues: [string, number][] = [];
  for (const word of words) {
    if (!/^\d+$/.test(word)) {
      queues.push([word, 0]);
      continue;
    }
    const queue = queues.at(-1);
    if (queue === undefined || queue[1] !== 0)
      throw new ConfigError(`--queues: ${word} is a weight without a queue; write -Q critical,5 -Q default`);
    queue[1] = Number(word);
  }
  return queues;
}

export interface ClientFlags {
  readonly url?: string;
  readonly config?: string;
  readonly namespace?: string;
  readonly dialect?: string;
}

/** Where a worker started in the same folder would work. */
export async function appFor(flags: ClientFlags, env: Environment, cwd: string): Promise<SidekiqAppOptions> {
  const file = (await loadConfig(cwd, flags.config))?.config.sidekiq ?? {};
  const { url } = resolveUrl({ value: flags.url, name: '--url' }, env, file);
  return {
    url,
    ...given('namespace', flags.namespace ?? file.namespace),
    ...given('dialect', flags.dialect ?? file.dialect),
    ...given('tls', file.tls),
    ...given('masterName', file.masterName),
    ...given('sentinelPassword', file.sentinelPassword),
    ...given('username', file.username),
    ...given('password', file.password),
  };
}

/** The inspector of what `appFor` finds. Throws ConfigError. */
export async function inspectorFor(flags: ClientFlags, env: Environment, cwd: string): Promise<SidekiqInspector> {
  const { SidekiqInspector } = await import('../../drivers/sidekiq/index.ts');
  return new SidekiqInspector(await appFor(flags, env, cwd));
}
