/**
 * Names of Resque's keys. All stand behind one prefix: the namespace and a colon, as redis-namespace writes it.
 * Source: resque data_store.rb, resque-scheduler delaying_extensions.rb and lock, resque-retry plugins/retry.rb.
 *
 * | key | type | content |
 * |---|---|---|
 * | `queues` | set | names of queues |
 * | `queue:<queue>` | list | payloads; RPUSH to enqueue, the head runs next |
 * | `workers` | set | ids of workers |
 * | `worker:<id>` | string | what it does, there only while it does it |
 * | `worker:<id>:started` | string | since when it is there |
 * | `workers:heartbeat` | hash | id → time of the last beat |
 * | `pruning_dead_workers_in_progress` | string, 60 s | who looks for dead workers |
 * | `stat:<name>`, `stat:<name>:<id>` | string | counters `processed` and `failed`, of all and of one worker |
 * | `failed`; `failed_queues`, `<queue>_failed` | list; set, list | failures; the backend with a list a queue |
 * | `pause-all-workers` | string | `true` pauses every worker |
 * | `delayed_queue_schedule` | zset | second → second |
 * | `delayed:<second>` | list | items due at that second |
 * | `timestamps:<item>` | set | `delayed:<second>` of each second that has the item |
 * | `persistent_schedules`, `schedules_changed` | hash, set | dynamic schedules as JSON; names that changed |
 * | `delayed:last_enqueued_at` | hash | name of a schedule → when it was last sent |
 * | `<namespace>:resque_scheduler_master_lock` | string, 180 s | the scheduler that leads; the namespace is there twice |
 * | `resque-retry:<class>:<digest>`, `failure-resque-retry:…` | string | attempts of a job; its last failure while a retry is due |
 * | `jobglot:claims:<process>` | hash | ours: `<number>:<queue>` → payload, claimed and not settled |
 * | `jobglot:claimants`, `jobglot:alive:<process>` | set, string | ours: who may have claims, who lives |
 * | `jobglot:begun` | hash | ours: process → number of the last claim that began |
 * | `jobglot:rescues:<digest>` | string, 72 h | ours: how often a job's process died with it, ten for each time; one where it only waited |
 * | `jobglot:quarantine:<queue>`, `…:why` | lists | ours: what is no payload, byte for byte, and the reasons beside them |
 */
export interface Keyspace {
  readonly namespace: string;
  /** `resque:`, or nothing. */
  readonly prefix: string;
  readonly queues: string;
  readonly workers: string;
  readonly heartbeat: string;
  readonly pruning: string;
  readonly failed: string;
  readonly failedQueues: string;
  readonly pause: string;
  readonly schedule: string;
  readonly persistentSchedules: string;
  readonly schedulesChanged: string;
  readonly lastEnqueuedAt: string;
  readonly masterLock: string;
  readonly claimants: string;
  readonly begun: string;
}

/** `lockPrefix` is resque-scheduler's RESQUE_SCHEDULER_MASTER_LOCK_PREFIX. */
export function keyspace(namespace = 'resque', lockPrefix = ''): Keyspace {
  const prefix = namespace === '' ? '' : `${namespace}:`;
  return {
    namespace,
    prefix,
    queues: `${prefix}queues`,
    workers: `${prefix}workers`,
    heartbeat: `${prefix}workers:heartbeat`,
    pruning: `${prefix}pruning_dead_workers_in_progress`,
    failed: `${prefix}failed`,
    failedQueues: `${prefix}failed_queues`,
    pause: `${prefix}pause-all-workers`,
    schedule: `${prefix}delayed_queue_schedule`,
    persistentSchedules: `${prefix}persistent_schedules`,
    schedulesChanged: `${prefix}schedules_changed`,
    lastEnqueuedAt: `${prefix}delayed:last_enqueued_at`,
    // locking.rb writes the namespace into the name, and redis-namespace writes it in front.
    masterLock: `${prefix}${lockPrefix === '' ? '' : `${lockPrefix}:`}${prefix}resque_scheduler_master_lock`,
    claimants: `${prefix}jobglot:claimants`,
    begun: `${prefix}jobglot:begun`,
  };
}

/** `queue:Q`, a list of payloads; its head runs next. */
export function queueKey({ prefix }: Keyspace, queue: string): string {
  return `${prefix}queue:${queue}`;
}

/** `worker:W`, a string that is there while W works: what it does. */
export function workerKey({ prefix }: Keyspace, id: string): string {
  return `${prefix}worker:${id}`;
}

/** `worker:W:started`, a string: since when. */
export function startedKey(keys: Keyspace, id: string): string {
  return `${workerKey(keys, id)}:started`;
}

/** `stat:processed`, or `stat:processed:<worker>`. */
export function statKey({ prefix }: Keyspace, name: 'processed' | 'failed', worker?: string): string {
  return `${prefix}stat:${name}${worker === undefined ? '' : `:${worker}`}`;
}

/** The list of failures of one queue, as the backend redis_multi_queue names it, without the prefix. */
export function failedQueue(queue: string): string {
  return `${queue}_failed`;
}

/** `delayed:<second>` as it stands in `timestamps:…`; with the prefix it is the key. */
export function delayedName(second: number | string): string {
  return `delayed:${second}`;
}

/** `timestamps:J`, a set: the seconds (`delayed:S`) that have this delayed item. */
export function timestampsKey({ prefix }: Keyspace, item: string): string {
  return `${prefix}timestamps:${item}`;
}

/** `jobglot:claims:P`, a hash: what process P of ours has taken and not settled. */
export function claimsKey({ prefix }: Keyspace, process: string): string {
  return `${prefix}jobglot:claims:${process}`;
}

/** `jobglot:alive:P`, a string that expires: process P of ours lives. */
export function aliveKey({ prefix }: Keyspace, process: string): string {
  return `${prefix}jobglot:alive:${process}`;
}

/** `jobglot:rescues:D`, a counter that expires: how often a process died with the payload of this digest. */
export function rescuesKey({ prefix }: Keyspace, digest: string): string {
  return `${prefix}jobglot:rescues:${digest}`;
}

/** `jobglot:quarantine:Q`, a list: what is no payload, or was there at too many deaths. */
export function quarantineKey({ prefix }: Keyspace, queue: string): string {
  return `${prefix}jobglot:quarantine:${queue}`;
}
