import type { Config } from '../../config.ts';
import type { UnknownTaskPolicy } from '../../source.ts';
import type { Environment, ResolvedSource } from '../system.ts';
import { maskUrl } from '../url.ts';
import { resolveSidekiq, type SidekiqWorkerFlags } from './settings.ts';

/** The Sidekiq source of `jobglot worker`, with the capsules of `config/sidekiq.yml`. */
export async function sidekiqSource(
  flags: SidekiqWorkerFlags,
  env: Environment,
  config: Config,
  cwd: string,
): Promise<ResolvedSource> {
  const { options, from, yml } = resolveSidekiq(flags, env, config, cwd);
  const { sidekiq } = await import('../../drivers/sidekiq/index.ts');
  const source = sidekiq(options);
  const notes: string[] = [];
  if (options.fetch === 'basic') notes.push('basic fetch: a job is lost with its process');
  if (options.dialect !== undefined) notes.push(`speaks Sidekiq ${options.dialect}`);
  if (options.unknownTask !== undefined) notes.push(`unknown tasks: ${policyText(options.unknownTask)}`);
  if (yml !== undefined) notes.push(`options from ${yml.file}`);
  if (yml !== undefined && yml.ignored.length > 0) notes.push(`not for us there: ${yml.ignored.join(', ')}`);
  // Queues named by a flag are all there is to work on.
  const capsules = flags.queues === undefined ? (yml?.capsules ?? []) : [];
  return {
    source,
    more: capsules.map(([name, own]) => source.capsule(name, own)),
    ...(yml?.shutdownTimeoutMs === undefined ? {} : { shutdownTimeoutMs: yml.shutdownTimeoutMs }),
    origin: { address: maskUrl(options.url), broker: `from ${from}`, options: notes },
  };
}

function policyText(policy: UnknownTaskPolicy): string {
  return typeof policy === 'string' ? policy : `forwarded to ${policy.forward}`;
}
