import type { Job } from '../../../protocols/job.ts';
import type { SidekiqJob } from '../../../protocols/sidekiq/message.ts';
import { ConfigError } from '../../errors.ts';

/**
 * The current job of a handler or of middleware, in Sidekiq's terms: its whole hash, and the data of Active Job. Throws ConfigError for a job of
 * another system.
 */
export function sidekiqJob<A extends readonly unknown[], K>(job: Job<A, K>): SidekiqJob<A, K> {
  if (isOurs(job)) return job;
  throw new ConfigError(`sidekiqJob: '${job.task}' is no job of a Sidekiq worker; look at context.system first`);
}

function isOurs<A extends readonly unknown[], K>(job: Job<A, K>): job is SidekiqJob<A, K> {
  return 'hash' in job && typeof job.hash === 'object' && job.hash !== null && 'class' in job.hash;
}
