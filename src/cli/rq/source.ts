import type { Config } from '../../config.ts';
import type { Environment, ResolvedSource } from '../system.ts';
import { maskUrl } from '../url.ts';
import { resolveRq, type RqWorkerFlags } from './settings.ts';

/** The one RQ source of `jobglot worker`. */
export async function rqSource(flags: RqWorkerFlags, env: Environment, config: Config): Promise<ResolvedSource> {
  const { options, from } = resolveRq(flags, env, config);
  const { rq } = await import('../../drivers/rq/index.ts');
  const { burst, maxJobs, maxIdleTime, withScheduler, dequeueStrategy, unknownTask } = options;
  const notes: string[] = [];
  if (burst === true) notes.push('burst');
  if (maxJobs !== undefined) notes.push(`at most ${maxJobs} jobs`);
  if (maxIdleTime !== undefined) notes.push(`ends after ${maxIdleTime} s without a job`);
  if (withScheduler === false) notes.push('no scheduler');
  if (dequeueStrategy !== undefined) notes.push(`dequeue strategy ${dequeueStrategy}`);
  if (typeof unknownTask === 'string') notes.push(`unknown tasks: ${unknownTask}`);
  return { source: rq(options), origin: { address: maskUrl(options.url), broker: `from ${from}`, options: notes } };
}
