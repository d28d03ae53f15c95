import type { Job } from '../../../protocols/job.ts';
import { procline } from '../../../protocols/resque/presence.ts';
import type { ClientMiddleware } from '../../client.ts';
import { Discard, Postpone, Reject, Replace, Retry } from '../../signals.ts';
import type { TaskContext } from '../../task.ts';
import { FOLLOWS } from './process.ts';

type Args = readonly unknown[];
/** The middleware type of a worker. */
type Around = (job: Job, next: () => Promise<unknown>, context: TaskContext) => unknown;

/**
 * Resque's hooks around a job, with its names in camelCase. A class may have several hooks of one kind, with longer names; they run in the order of
 * their names: `beforePerform`, `beforePerformA`. Each hook gets the job's arguments.
 */
export interface PerformHooks {
  /** Runs before the job. Throw `DontPerform` to discard the job; any other error fails it. */
  readonly [before: `beforePerform${string}`]: (...args: Args) => unknown;
  /** These hooks nest in the order of their names. Each must call `perform`; otherwise the job does not run. */
  readonly [around: `aroundPerform${string}`]: (perform: () => Promise<unknown>, ...args: Args) => unknown;
  readonly [after: `afterPerform${string}`]: (...args: Args) => unknown;
  /** Called with the error of a failed job. The job fails in any case. */
  readonly [failure: `onFailure${string}`]: (error: unknown, ...args: Args) => unknown;
}

/** A `beforePerform` hook throws this to discard the job; no failure is recorded. Resque::Job::DontPerform. */
export class DontPerform extends Discard {
  constructor(reason = 'a hook would not have it performed') {
    super(reason);
  }
}

/**
 * Turns hooks of classes into middleware: `worker.use(performHooks({ HardJob: { beforePerform: … } }))`. Jobs of other systems pass through. Source:
 * resque job.rb perform, run_failure_hooks; plugin.rb.
 */
export function performHooks(byClass: Readonly<Record<string, PerformHooks>>): Around {
  const known = new Map(Object.entries(byClass).map(([name, hooks]) => [name, sorted(hooks)]));
  return async (job, next, { system }) => {
    const hooks = system === 'resque' ? known.get(job.task) : undefined;
    if (hooks === undefined) return next();
    const { args } = job;
    try {
      for (const before of hooks.before) await before(...args);
      const value = await inside(hooks.around, args, next);
      for (const after of hooks.after) await after(...args);
      return value;
    } catch (error) {
      // These are thrown on purpose and are not failures.
      if (
        error instanceof Discard ||
        error instanceof Retry ||
        error instanceof Postpone ||
        error instanceof Reject ||
        error instanceof Replace
      )
        throw error;
      for (const hear of hooks.failure) await hear(error, ...args);
      throw error;
    }
  };
}

type Hook = (...args: readonly never[]) => unknown;
interface Sorted {
  readonly before: readonly ((...args: Args) => unknown)[];
  readonly around: readonly ((perform: () => Promise<unknown>, ...args: Args) => unknown)[];
  readonly after: readonly ((...args: Args) => unknown)[];
  readonly failure: readonly ((error: unknown, ...args: Args) => unknown)[];
}

function sorted(hooks: PerformHooks): Sorted {
  const of = <T extends Hook>(prefix: string): readonly T[] =>
    Object.entries(hooks)
      .filter(([name]) => name.startsWith(prefix))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, hook]) => hook as unknown as T);
  return {
    before: of('beforePerform'),
    around: of('aroundPerform'),
    after: of('afterPerform'),
    failure: of('onFailure'),
  };
}

function inside(around: Sorted['around'], args: Args, perform: () => Promise<unknown>): Promise<unknown> {
  let value: unknown;
  const call = async (index: number): Promise<unknown> => {
    const layer = around[index];
    if (layer === undefined) return (value = await perform());
    await layer(() => call(index + 1), ...args);
    return value;
  };
  return call(0);
}

/** Resque's hooks around enqueuing. Each gets the job's arguments. If a `before` hook returns false, the job is not sent. */
export interface ClientHooks {
  readonly beforeEnqueue?: (...args: Args) => unknown;
  readonly afterEnqueue?: (...args: Args) => unknown;
  readonly beforeDequeue?: (...args: Args) => unknown;
  readonly afterDequeue?: (...args: Args) => unknown;
  /** resque-scheduler: before a delayed job is stored. */
  readonly beforeSchedule?: (...args: Args) => unknown;
  readonly afterSchedule?: (...args: Args) => unknown;
}

/**
 * Turns hooks of classes into middleware of a client: `client.use(enqueueHooks({ HardJob: { beforeEnqueue: … } }))`. The receipt of a job that a hook
 * has refused is false. Source: resque.rb enqueue_to; resque-scheduler delaying_extensions.rb enqueue_at_with_queue.
 */
export function enqueueHooks(byClass: Readonly<Record<string, ClientHooks>>): ClientMiddleware {
  return async (envelope, next) => {
    const { system, task, args } = envelope;
    const hooks = system === 'resque' && Object.hasOwn(byClass, task) ? byClass[task] : undefined;
    if (hooks === undefined) return next();
    const delayed = envelope.at !== undefined && envelope.at.getTime() > Date.now();
    const before = delayed ? hooks.beforeSchedule : hooks.beforeEnqueue;
    if (before !== undefined && (await before(...args)) === false) return false;
    const receipt = await next();
    await (delayed ? hooks.afterSchedule : hooks.afterEnqueue)?.(...args);
    return receipt;
  };
}

/** The title of a child process that runs a job, as in Resque: `childProcess({ tasks, title: jobTitle })`. worker.rb perform. */
export function jobTitle(job: Job): string {
  return procline(FOLLOWS, `Processing ${job.queue} since ${Math.floor(Date.now() / 1000)} [${job.task}]`);
}
