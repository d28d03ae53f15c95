/**
 * The keys of Sidekiq, and ours beside them. Sidekiq 7 and later has no prefix; up to 6.x a redis-namespace may stand before
 * every key.
 *
 * | key | type | content |
 * |---|---|---|
 * | `queues` | set | names of queues; SADD at every push |
 * | `queue:<name>` | list | job hashes as JSON; LPUSH to push, right end runs next |
 * | `schedule`, `retry`, `dead` | zset | job hashes; score: when to run, when to try again, when it died (seconds) |
 * | `paused` | set | queues that are not fetched from (Pro's, honoured here) |
 * | `processes` | set | identities `host:pid:nonce` |
 * | `<identity>` | hash | info, busy, beat, rtt_us, quiet, rss, concurrency; expires 60 s after the last beat |
 * | `<identity>:work` (`:workers` up to 6.4) | hash | what runs |
 * | `<identity>-signals` | list | TSTP, TERM, TTIN from the API |
 * | `process_cleanup` | string | held while one process sweeps dead ones |
 * | `stat:processed`, `stat:failed`, `…:YYYY-MM-DD` | counters | |
 * | `it-<jid>` | hash | state of an iterable job |
 * | `jobglot:sidekiq:claims:<identity>` | hash | ours: what this process has fetched and not finished: `<number>:<queue>` → the bytes |
 * | `jobglot:sidekiq:claimants` | set | ours: identities that may have claims |
 * | `jobglot:sidekiq:begun` | hash | ours: identity → number of the last claim that began |
 * | `jobglot:sidekiq:rescues:<jid>` | counter | ours: how often this job's process died, for 72 hours: ten for each time; one where it only waited |
 * | `jobglot:sidekiq:quarantine:<queue>` | list | ours: what is larger than a job may be, byte for byte |
 */
export interface Keyspace {
  /** `''`, or a namespace with its colon. */
  readonly prefix: string;
  readonly queues: string;
  readonly schedule: string;
  readonly retry: string;
  readonly dead: string;
  readonly paused: string;
  readonly processes: string;
  readonly processCleanup: string;
  readonly processed: string;
  readonly failed: string;
  readonly claimants: string;
  readonly begun: string;
}

/** The key names under a redis-namespace (Sidekiq up to 6.x), or without one. */
export function keyspace(namespace = ''): Keyspace {
  const prefix = namespace === '' ? '' : `${namespace}:`;
  return {
    prefix,
    queues: `${prefix}queues`,
    schedule: `${prefix}schedule`,
    retry: `${prefix}retry`,
    dead: `${prefix}dead`,
    paused: `${prefix}paused`,
    processes: `${prefix}processes`,
    processCleanup: `${prefix}process_cleanup`,
    processed: `${prefix}stat:processed`,
    failed: `${prefix}stat:failed`,
    claimants: `${prefix}jobglot:sidekiq:claimants`,
    begun: `${prefix}jobglot:sidekiq:begun`,
  };
}

/** `queue:Q`, a list of jobs; its right end runs next. */
export function queueKey(keys: Keyspace, queue: string): string {
  return `${keys.prefix}queue:${queue}`;
}

/** The hash of a process, under its bare identity. */
export function processKey(keys: Keyspace, identity: string): string {
  return keys.prefix + identity;
}

/** `<identity>:work` (`:workers` up to 6.x), a hash: what the process runs. */
export function workKey(keys: Keyspace, identity: string, kind: 'work' | 'workers'): string {
  return `${keys.prefix}${identity}:${kind}`;
}

/** `<identity>-signals`, a list: what the process is told. */
export function signalsKey(keys: Keyspace, identity: string): string {
  return `${keys.prefix}${identity}-signals`;
}

/** `it-J`, a hash: how far an iterable job has come. */
export function iterationKey(keys: Keyspace, jid: string): string {
  return `${keys.prefix}it-${jid}`;
}

/** `jobglot:sidekiq:claims:<identity>`, a hash: what a process of ours has fetched and not settled. */
export function claimsKey(keys: Keyspace, identity: string): string {
  return `${keys.prefix}jobglot:sidekiq:claims:${identity}`;
}

/** `jobglot:sidekiq:rescues:J`, a counter that expires: how often a process died with the job. */
export function rescuesKey(keys: Keyspace, jid: string): string {
  return `${keys.prefix}jobglot:sidekiq:rescues:${jid}`;
}

/** `jobglot:sidekiq:quarantine:Q`, a list: what is set aside. */
export function quarantineKey(keys: Keyspace, queue: string): string {
  return `${keys.prefix}jobglot:sidekiq:quarantine:${queue}`;
}
/** `stat:processed:2026-11-21`, by the UTC day. */
export function dayKey(key: string, now: Date): string {
  return `${key}:${now.toISOString().slice(0, 10)}`;
}
