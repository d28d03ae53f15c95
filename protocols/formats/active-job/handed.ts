import type { Job } from '../../job.ts';
import type { ActiveJob } from './job.ts';

/** What Active Job says of the job that a handler got, from whichever system; undefined for one that Rails did not enqueue. */
export function activeJob<A extends readonly unknown[], K>(job: Job<A, K>): ActiveJob | undefined {
  return (job as Job<A, K> & { readonly activeJob?: ActiveJob }).activeJob;
}
