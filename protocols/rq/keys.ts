import { WireError } from '../errors.ts';

/**
 * RQ's keys. Source: rq/{queue,job,registry,executions,results,intermediate_queue,group,scheduler}.py, 2.10. `Q` is a queue's
 * name, `J` a job's id, `E` an execution's id, `W` a worker's name.
 *
 * | key | type | content |
 * |---|---|---|
 * | `rq:queues` | set | full keys of queues, `rq:queue:Q` |
 * | `rq:queue:Q` | list | ids of jobs; the id at the left end runs next |
 * | `rq:queue:Q:intermediate` | list | ids that a Python worker took and has not started |
 * | `rq:job:J` | hash | the job |
 * | `rq:job:J:dependents`, `rq:job::J:dependencies` | sets | ids of jobs; the second key has two colons |
 * | `rq:results:J` | stream | the results of its runs |
 * | `rq:execution:J:E` | hash | one run |
 * | `rq:executions:J` | zset | ids of its runs |
 * | `rq:wip:Q` | zset | `J:E` of running jobs; the score is the deadline after which the run counts as abandoned |
 * | `rq:finished:Q` and so on | zset | ids of jobs, by status |
 */
export const QUEUES = 'rq:queues';
export const SUSPENDED = 'rq:suspended';
export const WORKERS = 'rq:workers';
export const GROUPS = 'rq:groups';

const QUEUE = 'rq:queue:';

/** The zsets that list jobs by their state. */
export type RegistryName = 'wip' | 'finished' | 'failed' | 'deferred' | 'scheduled' | 'canceled';

export const queueKey = (queue: string): string => QUEUE + queue;
export const intermediateKey = (queue: string): string => `${QUEUE}${queue}:intermediate`;
export const firstSeenKey = (queue: string, id: string): string => `${QUEUE}${queue}:intermediate:first_seen:${id}`;
export const jobKey = (id: string): string => `rq:job:${id}`;
export const dependentsKey = (id: string): string => `rq:job:${id}:dependents`;
/** Two colons: the prefix already ends in one. Source: rq/job.py dependencies_key. */
export const dependenciesKey = (id: string): string => `rq:job::${id}:dependencies`;
export const resultsKey = (id: string): string => `rq:results:${id}`;
export const executionKey = (id: string, execution: string): string => `rq:execution:${id}:${execution}`;
export const executionsKey = (id: string): string => `rq:executions:${id}`;
export const registryKey = (registry: RegistryName, queue: string): string => `rq:${registry}:${queue}`;
export const workerKey = (worker: string): string => `rq:worker:${worker}`;
export const workersKey = (queue: string): string => `rq:workers:${queue}`;
/** The runs of a worker, written by RQ after 2.12. */
export const workerExecutionsKey = (worker: string): string => `rq:worker:${worker}:executions`;
export const commandChannel = (worker: string): string => `rq:pubsub:${worker}`;
export const maintenanceLockKey = (queue: string): string => `rq:clean_registries:${queue}`;
export const schedulerLockKey = (queue: string): string => `rq:scheduler-lock:${queue}`;
export const schedulerKey = (scheduler: string): string => `rq:scheduler:${scheduler}`;
export const groupKey = (group: string): string => `rq:group:${group}`;

/** jobglot only: ids that would break Python's tools in any registry. A second list holds the reasons. */
export const quarantineKey = (queue: string): string => `jobglot:rq:quarantine:${queue}`;
export const quarantineReasonsKey = (queue: string): string => `jobglot:rq:quarantine:${queue}:why`;

/** The queue's name in a key. Undefined if the key is not a queue's. Source: rq/queue.py from_queue_key. */
export function queueOf(key: string): string | undefined {
  return key.startsWith(QUEUE) ? key.slice(QUEUE.length) : undefined;
}

/** Whether RQ 2.8 and newer accept the text as a job id. */
export function isJobId(id: string): boolean {
  return JOB_ID.test(id);
}

const JOB_ID = /^[A-Za-z0-9_-]+$/;

/** Throws WireError `bad-id` unless every version of RQ can use the id. RQ 2 splits the members of its registries at a colon. */
export function checkJobId(id: string): string {
  if (isJobId(id)) return id;
  const what = `a job id consists of letters, digits, '_' and '-', and ${JSON.stringify(id.slice(0, 80))} does not`;
  throw new WireError('rq', 'bad-id', what);
}

/**
 * Throws WireError `bad-queue` for a name that breaks RQ. Workers separate their queues with commas, and keys of RQ and of jobglot
 * end in the name.
 */
export function checkQueueName(queue: string): string {
  if (isQueueName(queue)) return queue;
  const what = `${JSON.stringify(queue.slice(0, 80))} cannot name a queue: it is empty, has a comma, or ends as the key of an intermediate list does`;
  throw new WireError('rq', 'bad-queue', what);
}

export function isQueueName(queue: string): boolean {
  return queue !== '' && !queue.includes(',') && !/:intermediate(?::|$)/.test(queue);
}

/** The job and the run in a member of `rq:wip:Q`: `J:E`, or `J` as RQ 1 writes it. */
export function splitExecution(member: string): { readonly id: string; readonly execution: string | undefined } {
  const colon = member.lastIndexOf(':');
  return colon === -1
    ? { id: member, execution: undefined }
    : { id: member.slice(0, colon), execution: member.slice(colon + 1) };
}
