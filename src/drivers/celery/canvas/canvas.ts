import type { Job } from '../../../../protocols/job.ts';
import { ConfigError } from '../../../errors.ts';

/**
 * Lets a running Celery task publish tasks as its children: each has the task's root and the task's id as its parent.
 * A signature is `{ task, args, kwargs, options, immutable }` with options under Celery's names, or a chain, group or chord of signatures.
 */
export interface Canvas {
  /**
   * Publishes a signature now. `args` are put in front of the signature's own. Returns the id of the result to wait for.
   * Throws WireError `bad-signature`.
   */
  send(signature: unknown, args?: readonly unknown[]): Promise<string | undefined>;
  /**
   * Publish one more member of the chord that this task is a member of: the body waits for it, too. The id of the task.
   * Throws WireError `bad-signature` where there is no chord, ConfigError where the result backend does not count chords.
   */
  addToChord(signature: unknown): Promise<string>;
}

/** The key of a job's canvas. Under a symbol it is copied along by middleware that copies the job. */
export const CANVAS: unique symbol = Symbol('jobglot.celery.canvas');

/** The canvas of the job that a handler was given. Throws ConfigError for a job of another system. */
export function canvas(job: Job): Canvas {
  const own = (job as Job & { readonly [CANVAS]?: Canvas })[CANVAS];
  if (own === undefined)
    throw new ConfigError(`canvas: '${job.task}' is not a job of a Celery worker, so it has no canvas`);
  return own;
}
