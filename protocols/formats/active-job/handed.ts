import type { Job } from '../../job.ts';
import type { ActiveJob } from './job.ts';

/** The Active Job data of the job that a handler got, from any system; undefined for a job that Rails did not enqueue. */
export function activeJob<A extends readonly unknown[], K>(job: Job<A, K>): ActiveJob | undefined {
  return (job as Job<A, K> & { readonly activeJob?: ActiveJob }).activeJob;
}
