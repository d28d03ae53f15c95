import type { Job } from '../../../../protocols/job.ts';
import { ConfigError } from '../../../errors.ts';

/**
 * What a running Celery task may publish as its own: it becomes a child of the task, with its root and its id as the parent.
 * A signature is `{ task, args, kwargs, options, immutable }`, options under Celery's names, or a chain, group or chord of them.
 */
export interface Canvas {
  /** Publish a signature now; `args` go in front of its own. The id of what one waits for. Throws WireError `bad-signature`. */
  send(signature: unknown, args?: readonly unknown[]): Promise<string | undefined>;
  /**
   * Publish one more member of the chord that this task is a member of: the body waits for it, too. The id of the task.
   * Throws WireError `bad-signature` where there is no chord, ConfigError where the result backend does not count chords.
   */
  addToChord(signature: unknown): Promise<string>;
}

/** The delivery of a job goes with the job, also through middleware that copies it. */
export const CANVAS: unique symbol = Symbol('jobglot.celery.canvas');

/** The canvas of the job that a handler was given. Throws ConfigError for a job of another system. */
export function canvas(job: Job): Canvas {
  const own = (job as Job & { readonly [CANVAS]?: Canvas })[CANVAS];
  if (own === undefined) throw new ConfigError(`canvas: '${job.task}' is no job of a Celery worker; it has no canvas`);
  return own;
}
