import type { Command, Exchange } from '../redis.ts';
import { stringify } from '../formats/ruby-json.ts';
import { Numeral } from '../formats/values.ts';
import type { Dialect } from './dialect.ts';
import { claimsKey, type Keyspace, processKey, signalsKey, workKey } from './keys.ts';
import { seconds } from './times.ts';

/**
 * How a process shows itself to Sidekiq Web and `Sidekiq::ProcessSet`: its hash, what it runs, and the signals it hears.
 * Mirrors lib/sidekiq/launcher.rb (heartbeat, to_data, clear_heartbeat) and api.rb.
 */

/** Seconds a process is shown after its last beat. */
export const PROCESS_TTL = 60;

/** `hostname:pid:nonce`. */
export function identity(process: { readonly hostname: string; readonly pid: number; readonly nonce: string }): string {
  return `${process.hostname}:${process.pid}:${process.nonce}`;
}

export interface Capsule {
  readonly name: string;
  readonly concurrency: number;
  readonly mode: 'strict' | 'weighted' | 'random';
  /** Queue → weight, in order; 0 where queues are strict. */
  readonly weights: readonly (readonly [queue: string, weight: number])[];
}

/** What a process says of itself once. */
export interface ProcessInfo {
  readonly identity: string;
  readonly hostname: string;
  readonly pid: number;
  readonly startedAtMs: number;
  readonly tag: string;
  readonly labels: readonly string[];
  readonly capsules: readonly Capsule[];
  /** Another process owns the signals: the UI offers no quiet and stop. */
  readonly embedded: boolean;
  /** Of this package. */
  readonly jobglot: string;
}

/**
 * The `info` of a process. Members that one version reads and another ignores are all there: `concurrency` is here up to 8.0 and a
 * field of its own in 8.1; `weights`, `version` and `embedded` are 7's, `capsules` are 8's.
 */
export function infoText(info: ProcessInfo, dialect: Dialect): string {
  const { capsules } = info;
  const queues = [...new Set(capsules.flatMap(({ weights }) => weights.map(([queue]) => queue)))];
  return stringify({
    hostname: info.hostname,
    started_at: new Numeral(seconds(info.startedAtMs)),
    pid: info.pid,
    tag: info.tag,
    concurrency: concurrencyOf(capsules),
    capsules: new Map(
      capsules.map(({ name, concurrency, mode, weights }) => [name, { concurrency, mode, weights: new Map(weights) }]),
    ),
    queues,
    weights: capsules.map(({ weights }) => new Map(weights)),
    labels: info.labels,
    identity: info.identity,
    version: dialect.version,
    embedded: info.embedded,
    jobglot: info.jobglot,
  });
}

export function concurrencyOf(capsules: readonly Capsule[]): number {
  return capsules.reduce((sum, { concurrency }) => sum + concurrency, 0);
}

/** One job that runs. */
export interface Work {
  /** Names the slot: any short text. */
  readonly tid: string;
  readonly queue: string;
  /** The job hash, as it was fetched. */
  readonly payload: string;
  readonly runAtMs: number;
}

/** What happened since the last beat. */
export interface Counts {
  readonly processed: number;
  readonly failed: number;
}

/** Five years. */
const STAT_TTL = 157_680_000;

/** Counters of the last beat: launcher.rb flush_stats. Zeros are written up to 6.5 only. */
export function flushCounts(keys: Keyspace, counts: Counts, now: Date, dialect: Dialect): readonly Command[] {
  const { processed, failed } = counts;
  if (processed === 0 && failed === 0 && !dialect.countsZeros) return [];
  const day = now.toISOString().slice(0, 10);
  return [
    ['INCRBY', keys.processed, processed],
    ['INCRBY', `${keys.processed}:${day}`, processed],
    ['EXPIRE', `${keys.processed}:${day}`, STAT_TTL],
    ['INCRBY', keys.failed, failed],
    ['INCRBY', `${keys.failed}:${day}`, failed],
    ['EXPIRE', `${keys.failed}:${day}`, STAT_TTL],
  ];
}

/** What runs now, in place of what ran before. To be sent in one MULTI. */
export function showWork(
  keys: Keyspace,
  identity: string,
  work: readonly Work[],
  dialect: Dialect,
  ttl: number = PROCESS_TTL,
): readonly Command[] {
  return dialect.work.flatMap((kind): readonly Command[] => {
    const key = workKey(keys, identity, kind);
    if (work.length === 0) return [['UNLINK', key]];
    const fields = work.flatMap((one) => [one.tid, workText(one)]);
    return [
      ['UNLINK', key],
      ['HSET', key, ...fields],
      ['EXPIRE', key, ttl],
    ];
  });
}

/** `run_at` is in whole seconds in every version. */
export function workText({ queue, payload, runAtMs }: Work): string {
  return stringify({ queue, payload, run_at: Math.floor(runAtMs / 1000) });
}

export interface Beat {
  readonly identity: string;
  readonly info: string;
  readonly concurrency: number;
  readonly busy: number;
  readonly nowMs: number;
  readonly rttMicros: number;
  readonly quiet: boolean;
  readonly rssKilobytes: number;
  /** Seconds the process is taken for alive after this. @default 60 */
  readonly ttl?: number;
}

export interface Heard {
  /** False after an outage, and at the first beat: others may have taken this process for dead. */
  readonly known: boolean;
  /** TSTP, TERM or TTIN. */
  readonly signal: string | undefined;
}

/** launcher.rb heartbeat: one signal a beat is heard. One MULTI. */
export function beat(keys: Keyspace, one: Beat): Exchange<Heard> {
  const key = processKey(keys, one.identity);
  return {
    commands: [
      ['SADD', keys.processes, one.identity],
      ['EXISTS', key],
      [
        'HSET',
        key,
        ...['info', one.info, 'concurrency', one.concurrency, 'busy', one.busy, 'beat', seconds(one.nowMs)],
        ...['rtt_us', one.rttMicros, 'quiet', String(one.quiet), 'rss', one.rssKilobytes],
      ],
      ['EXPIRE', key, one.ttl ?? PROCESS_TTL],
      ['RPOP', signalsKey(keys, one.identity)],
    ],
    atomic: true,
    read: ([, exists, , , signal]) => ({
      known: exists === 1,
      signal: signal === null || signal === undefined ? undefined : String(signal as Buffer),
    }),
  };
}

/** launcher.rb clear_heartbeat. The hash itself is left to expire. */
export function sayGoodbye(keys: Keyspace, identity: string, dialect: Dialect): readonly Command[] {
  return [
    ['SREM', keys.processes, identity],
    ...dialect.work.map((kind) => ['UNLINK', workKey(keys, identity, kind)] as const),
  ];
}

/** A process of the fleet, as far as others need to know it. */
export interface Peer {
  readonly identity: string;
  /** Undefined for 6.x, which does not say. */
  readonly version: string | undefined;
  /** One of ours speaks what the others speak. */
  readonly ours: boolean;
}

/** `SMEMBERS processes`, to be followed by `infosOf`. */
export function processes(keys: Keyspace): Exchange<readonly string[]> {
  return {
    commands: [['SMEMBERS', keys.processes]],
    atomic: false,
    read: ([members]) => (members as readonly Buffer[]).map(String),
  };
}

/** What these processes say of themselves; undefined for one that is gone. */
export function peers(keys: Keyspace, identities: readonly string[]): Exchange<readonly (Peer | undefined)[]> {
  return {
    commands: identities.map((one) => ['HGET', processKey(keys, one), 'info'] as const),
    atomic: false,
    read: (replies) => replies.map((reply, at) => readPeer(identities[at] as string, reply as Buffer | null)),
  };
}

function readPeer(identity: string, info: Buffer | null): Peer | undefined {
  if (info === null) return undefined;
  try {
    const { version, jobglot } = JSON.parse(String(info)) as { readonly version?: unknown; readonly jobglot?: unknown };
    return { identity, version: typeof version === 'string' ? version : undefined, ours: jobglot !== undefined };
  } catch {
    return { identity, version: undefined, ours: false };
  }
}

/** `SET process_cleanup NX`: one process a minute takes dead ones off the list. scheduled.rb cleanup. */
export function lockCleanup(keys: Keyspace): Exchange<boolean> {
  return {
    commands: [['SET', keys.processCleanup, '1', 'NX', 'EX', 60]],
    atomic: false,
    read: ([reply]) => reply !== null,
  };
}

export function forget(keys: Keyspace, identities: readonly string[]): Exchange<void> {
  return {
    commands: identities.length === 0 ? [] : [['SREM', keys.processes, ...identities]],
    atomic: false,
    read: () => undefined,
  };
}

export type SignalName = 'TSTP' | 'TERM' | 'TTIN';

/** Tell another process to take nothing more (TSTP), to stop (TERM), or to log what it runs (TTIN): api.rb signal. One MULTI. */
export function signal(keys: Keyspace, identity: string, name: SignalName): Exchange<void> {
  const key = signalsKey(keys, identity);
  return {
    commands: [
      ['LPUSH', key, name],
      ['EXPIRE', key, 60],
    ],
    atomic: true,
    read: () => undefined,
  };
}

/** Seconds between two polls of a process: scheduled.rb random_poll_interval. The more processes, the longer. */
export function pollInterval(
  processCount: number,
  averageSeconds: number,
  dialect: Dialect,
  random: number,
  fixedSeconds?: number,
): number {
  const interval = fixedSeconds ?? Math.max(1, processCount) * averageSeconds;
  return processCount < 10 ? interval * random + interval / 2 : interval * random * dialect.pollSpread;
}

/** How many claims a process has. */
export function countClaims(keys: Keyspace, identity: string): Command {
  return ['HLEN', claimsKey(keys, identity)];
}
