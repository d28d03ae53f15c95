import type { Config } from '../../config.ts';
import type { Environment, ResolvedSource } from '../system.ts';
import { maskUrl } from '../url.ts';
import { resolveRq, type RqWorkerFlags } from './settings.ts';

/** The one RQ source of `jobglot worker`. */
export async function rqSource(flags: RqWorkerFlags, env: Environment, config: Config): Promise<ResolvedSource> {
  const { options, from } = resolveRq(flags, env, config);
  const { rq } = await import('../../drivers/rq/index.ts');
  const { burst, maxJobs, maxIdleTime, withScheduler, dequeueStrategy, unknownTask } = options;
  const told: string[] = [];
  if (burst === true) told.push('burst');
  if (maxJobs !== undefined) told.push(`at most ${maxJobs} jobs`);
  if (maxIdleTime !== undefined) told.push(`ends after ${maxIdleTime} s without a job`);
  if (withScheduler === false) told.push('no scheduler');
  if (dequeueStrategy !== undefined) told.push(`dequeue strategy ${dequeueStrategy}`);
  if (typeof unknownTask === 'string') told.push(`unknown tasks: ${unknownTask}`);
  return { source: rq(options), told: { address: maskUrl(options.url), broker: `from ${from}`, options: told } };
}
