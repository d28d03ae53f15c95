import { Buffer } from 'node:buffer';
import type { Change } from '../formats/json.ts';
import { edit, parse } from '../formats/ruby-json.ts';
import type { Exchange } from '../redis.ts';
import type { Dialect } from './dialect.ts';
import { type Keyspace, processKey, queueKey, workKey } from './keys.ts';
import { displayClass, type JobHash, jidOf } from './message.ts';
import type { DueJob } from './redis.ts';
import { writes } from './redis.ts';
import { readTimestamp, timestamp } from './times.ts';

/**
 * What `Sidekiq::API` and the web pages read and do: statistics, queues, sets, processes. Mirrors lib/sidekiq/api.rb.
 */
export interface Stats {
  readonly processed: number;
  readonly failed: number;
  readonly scheduled: number;
  readonly retries: number;
  readonly dead: number;
  readonly processes: number;
}

/** Stats.new fetch_stats_fast! */
export function stats(keys: Keyspace): Exchange<Stats> {
  return {
    commands: [
      ['GET', keys.processed],
      ['GET', keys.failed],
      ['ZCARD', keys.schedule],
      ['ZCARD', keys.retry],
      ['ZCARD', keys.dead],
      ['SCARD', keys.processes],
    ],
    atomic: false,
    read: (replies) => {
      const [processed = 0, failed = 0, scheduled = 0, retries = 0, dead = 0, processes = 0] = replies.map((reply) =>
        typeof reply === 'number' ? reply : Number(reply === null ? 0 : String(reply as Buffer)),
      );
      return { processed, failed, scheduled, retries, dead, processes };
    },
  };
}

/** Jobs run and failed since Sidekiq began to count. */
export function counters(keys: Keyspace): Exchange<{ readonly processed: number; readonly failed: number }> {
  return {
    commands: [
      ['GET', keys.processed],
      ['GET', keys.failed],
    ],
    atomic: false,
    read: (replies) => {
      const [processed = 0, failed = 0] = replies.map((reply) => Number(reply === null ? 0 : String(reply as Buffer)));
      return { processed, failed };
    },
  };
}

/** A queue of the set `queues`. */
export interface QueueState {
  readonly name: string;
  readonly size: number;
  /** How long the next job has waited, in milliseconds; 0 for an empty queue, undefined where it does not say. */
  readonly latencyMs: number | undefined;
  readonly paused: boolean;
}

export function queueNames(keys: Keyspace): Exchange<readonly string[]> {
  return {
    commands: [['SMEMBERS', keys.queues]],
    atomic: false,
    read: ([names]) => (names as readonly Buffer[]).map(String).sort(),
  };
}

export function queues(keys: Keyspace, names: readonly string[], nowMs: number): Exchange<readonly QueueState[]> {
  return {
    commands: [
      ['SMEMBERS', keys.paused],
      ...names.flatMap(
        (name) =>
          [
            ['LLEN', queueKey(keys, name)],
            ['LINDEX', queueKey(keys, name), -1],
          ] as const,
      ),
    ],
    atomic: false,
    read: ([members, ...replies]) => {
      const paused = new Set((members as readonly Buffer[]).map(String));
      return names.map((name, at) => {
        const next = replies[2 * at + 1] as Buffer | null;
        return {
          name,
          size: replies[2 * at] as number,
          latencyMs: next === null ? 0 : latency(next, nowMs),
          paused: paused.has(name),
        };
      });
    },
  };
}

function latency(bytes: Buffer, nowMs: number): number | undefined {
  const hash = hashOf(bytes);
  const since = readTimestamp(hash?.['enqueued_at']) ?? readTimestamp(hash?.['created_at']);
  return since === undefined ? undefined : Math.max(0, nowMs - since);
}

/** A process of the set `processes`, of Ruby or ours; `beatMs` is its last beat, in milliseconds since the epoch. */
export interface ProcessState {
  readonly identity: string;
  /** As the process says it: hostname, pid, tag, queues, labels … */
  readonly info: JobHash;
  readonly concurrency: number;
  readonly busy: number;
  readonly beatMs: number;
  readonly quiet: boolean;
  readonly rssKilobytes: number;
  readonly rttMicros: number;
}

export function processStates(
  keys: Keyspace,
  identities: readonly string[],
): Exchange<readonly (ProcessState | undefined)[]> {
  return {
    commands: identities.map(
      (one) =>
        ['HMGET', processKey(keys, one), 'info', 'concurrency', 'busy', 'beat', 'quiet', 'rss', 'rtt_us'] as const,
    ),
    atomic: false,
    read: (replies) => replies.map((reply, at) => readProcess(identities[at] as string, reply as readonly unknown[])),
  };
}

function readProcess(identity: string, fields: readonly unknown[]): ProcessState | undefined {
  const [info, concurrency, busy, beat, quiet, rss, rtt] = fields.map((field) =>
    field === null || field === undefined ? undefined : String(field as Buffer),
  );
  if (info === undefined) return undefined;
  const said = hashOf(info) ?? {};
  const { concurrency: earlier } = said;
  return {
    identity,
    info: said,
    concurrency: Number(concurrency ?? (typeof earlier === 'number' ? earlier : 0)),
    busy: Number(busy ?? 0),
    beatMs: Number(beat ?? 0) * 1000,
    quiet: quiet === 'true',
    rssKilobytes: Number(rss ?? 0),
    rttMicros: Number(rtt ?? 0),
  };
}

/** A job that runs, by the hash of its process; `runAtMs` is since when, in milliseconds since the epoch. */
export interface WorkState {
  readonly identity: string;
  readonly tid: string;
  readonly queue: string;
  readonly runAtMs: number;
  readonly hash: JobHash;
}

/** What runs in these processes, by any version. */
export function workStates(keys: Keyspace, identities: readonly string[]): Exchange<readonly WorkState[]> {
  return {
    commands: identities.flatMap(
      (one) =>
        [
          ['HGETALL', workKey(keys, one, 'work')],
          ['HGETALL', workKey(keys, one, 'workers')],
        ] as const,
    ),
    atomic: false,
    read: (replies) => {
      const found = new Map<string, WorkState>();
      for (const [at, reply] of replies.entries()) {
        const identity = identities[at >> 1] as string;
        const flat = reply as readonly Buffer[];
        for (let field = 0; field < flat.length; field += 2) {
          const work = readWork(identity, String(flat[field]), flat[field + 1] as Buffer);
          if (work !== undefined) found.set(`${identity} ${work.tid}`, work);
        }
      }
      return [...found.values()].sort((a, b) => a.runAtMs - b.runAtMs);
    },
  };
}

function readWork(identity: string, tid: string, bytes: Buffer): WorkState | undefined {
  const work = hashOf(bytes);
  if (work === undefined) return undefined;
  const { queue, payload, run_at: runAt } = work;
  const hash = typeof payload === 'string' ? hashOf(payload) : (payload as JobHash | undefined);
  return {
    identity,
    tid,
    queue: typeof queue === 'string' ? queue : '',
    runAtMs: typeof runAt === 'number' ? runAt * 1000 : 0,
    hash: hash ?? {},
  };
}

/** The sorted sets of jobs: what is due later, what is tried again, what is dead. */
export type SetName = 'schedule' | 'retry' | 'dead';

/** A job in one of the sets. */
export interface SetEntry {
  readonly set: SetName;
  /** When it is due, or died, in milliseconds. */
  readonly atMs: number;
  /** Its bytes: what names it among the others. */
  readonly member: Uint8Array;
  /** Undefined for bytes that are no job hash. */
  readonly hash: JobHash | undefined;
  readonly jid: string;
  /** The class as the pages show it. */
  readonly class: string;
}

/** Entries `from` to `to`, both with, soonest first; of the dead set the latest first, as the pages show them. */
export function page(keys: Keyspace, set: SetName, from: number, to: number): Exchange<readonly SetEntry[]> {
  const command = set === 'dead' ? 'ZREVRANGE' : 'ZRANGE';
  return {
    commands: [[command, keys[set], from, to, 'WITHSCORES']],
    atomic: false,
    read: ([reply]) => readEntries(set, reply as readonly Buffer[]),
  };
}

/** One step of a search by a text that the members hold: a jid, a class. */
export function scan(
  keys: Keyspace,
  set: SetName,
  cursor: string,
  text: string,
): Exchange<{ readonly cursor: string; readonly entries: readonly SetEntry[] }> {
  // What is a pattern to Redis is a text to us.
  const pattern = `*${text.replaceAll(/[\\*?[\]^]/g, '\\$&')}*`;
  return {
    commands: [['ZSCAN', keys[set], cursor, 'MATCH', pattern, 'COUNT', 1000]],
    atomic: false,
    read: ([reply]) => {
      const [next, flat] = reply as readonly [Buffer, readonly Buffer[]];
      return { cursor: String(next), entries: readEntries(set, flat) };
    },
  };
}

function readEntries(set: SetName, flat: readonly Buffer[]): readonly SetEntry[] {
  const entries: SetEntry[] = [];
  for (let at = 0; at < flat.length; at += 2) {
    const member = flat[at] as Buffer;
    const hash = hashOf(member);
    entries.push({
      set,
      atMs: Number(String(flat[at + 1])) * 1000,
      member,
      hash,
      jid: hash === undefined ? '' : jidOf(hash),
      class: hash === undefined ? '' : shownClass(hash),
    });
  }
  return entries;
}

/** `display_class`, or the class behind Active Job's wrapper. */
export function shownClass(hash: JobHash): string {
  const { display_class: shown } = hash;
  return typeof shown === 'string' ? shown : displayClass(hash);
}

/**
 * An entry on its way to its queue by hand: SortedEntry#retry counts one failure less, #add_to_queue (of scheduled jobs) does
 * not. Undefined for what is no job.
 */
export function toQueue(
  { set, member, hash }: SetEntry,
  { dialect, nowMs }: { readonly dialect: Dialect; readonly nowMs: number },
): DueJob | undefined {
  if (hash === undefined || typeof hash['class'] !== 'string') return undefined;
  const { retry_count: count, queue } = hash;
  const changes: Change[] = [];
  if (set !== 'schedule' && typeof count === 'number')
    changes.push({ path: ['retry_count'], value: String(count - 1) });
  changes.push({ path: ['enqueued_at'], value: timestamp(nowMs, dialect) });
  const name = typeof queue === 'string' && queue !== '' ? queue : 'default';
  return { member, queue: name, text: edit(textOf(member), changes) };
}

/** Take entries away. How many were still there. */
export function remove(keys: Keyspace, set: SetName, members: readonly Uint8Array[]): Exchange<number> {
  if (members.length === 0) return { commands: [], atomic: false, read: () => 0 };
  return { commands: [['ZREM', keys[set], ...members]], atomic: false, read: ([removed]) => removed as number };
}

/** Empty a set. */
export function clearSet(keys: Keyspace, set: SetName): Exchange<void> {
  return writes([['UNLINK', keys[set]]]);
}

/** Queue#clear: its jobs, and its name among the queues. One MULTI. */
export function clearQueue(keys: Keyspace, queue: string): Exchange<void> {
  return writes(
    [
      ['UNLINK', queueKey(keys, queue)],
      ['SREM', keys.queues, queue],
    ],
    true,
  );
}

/** Jobs of a queue, the next to run first. */
export function queuePage(keys: Keyspace, queue: string, from: number, count: number): Exchange<readonly Buffer[]> {
  return {
    commands: [['LRANGE', queueKey(keys, queue), -from - count, -from - 1]],
    atomic: false,
    read: ([jobs]) => (jobs as readonly Buffer[]).toReversed(),
  };
}

/** JobRecord#delete: by its bytes, from the end that runs next. Whether it was still there. */
export function removeFromQueue(keys: Keyspace, queue: string, bytes: Uint8Array): Exchange<boolean> {
  return {
    commands: [['LREM', queueKey(keys, queue), -1, bytes]],
    atomic: false,
    read: ([removed]) => (removed as number) > 0,
  };
}

/** Queue#pause! of Sidekiq Pro, which our workers heed. */
export function setPaused(keys: Keyspace, queue: string, paused: boolean): Exchange<void> {
  return writes([[paused ? 'SADD' : 'SREM', keys.paused, queue]]);
}

/** The job hash in these bytes, or undefined. */
export function hashOf(bytes: Uint8Array | string): JobHash | undefined {
  try {
    const value = parse(typeof bytes === 'string' ? bytes : textOf(bytes));
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JobHash) : undefined;
  } catch {
    return undefined;
  }
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
}
