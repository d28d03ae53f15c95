import type { Buffer } from 'node:buffer';
import { member } from '../formats/json.ts';
import * as json from '../formats/ruby-json.ts';
import { callScript, type Command, type Exchange, type Script } from '../redis.ts';
import { encodeFailure, type FailureBackend, PRUNED, saveFailure } from './failure.ts';
import { aliveKey, type Keyspace, startedKey, statKey, workerKey } from './keys.ts';
import { isoOffset, isoSecond, readTime, rubyTime } from './times.ts';

/**
 * Workers as Resque's web pages see them. A worker is one job at a time, so a process of ours is as many workers as it has slots.
 *
 *     id = host ":" pid ":" queue *( "," queue )
 *
 * Ruby takes a worker of its own host for dead when `ps` does not show its pid as a Resque worker; ours have a host of their own
 * (`web1-1f2e3d-7`: host, process, slot), so that only their heartbeat says whether they live, in containers too.
 * An id without two colons, or with an empty part, stops every Ruby worker from starting.
 * Source: worker.rb to_s, find, register_worker, unregister_worker, prune_dead_workers; data_store.rb Workers.
 */
export interface WorkerIdentity {
  /** What all slots of a process have in common, and nobody else has: `web1-1f2e3d`. */
  readonly process: string;
  readonly pid: number;
  /** As given, with `*`: `high,default`. */
  readonly queues: string;
}

/** A hostname fit for an id, where a colon ends it, and for a path of the web pages. */
export function processName(hostname: string, nonce: string): string {
  return `${hostname.replaceAll(/[^\w.-]/g, '-') || 'node'}-${nonce}`;
}

/** `slot` counts from 1. */
export function workerId({ process, pid, queues }: WorkerIdentity, slot: number): string {
  return `${process}-${slot}:${pid}:${queues}`;
}

/** Whether this id is one of that process's slots. */
export function isSlotOf(process: string, id: string): boolean {
  return id.startsWith(`${process}-`) && /^\d+:/.test(id.slice(process.length + 1));
}

/** The parts of an id; undefined for what is none. A hostname with a colon is misread, here as in Ruby. */
export function readWorkerId(
  id: string,
): { readonly host: string; readonly pid: string; readonly queues: readonly string[] } | undefined {
  const match = /^([^:]*):([^:]*):(.*)$/s.exec(id);
  if (match === null) return undefined;
  return { host: match[1] as string, pid: match[2] as string, queues: (match[3] as string).split(',') };
}

/** A process title that `ps` shows and Ruby takes for a living worker: it looks for `resque-` and a digit. worker.rb procline. */
export function procline(version: string, doing: string): string {
  return `resque-${version}: ${doing}`;
}

/** The server's clock, by which heartbeats are judged. */
export function serverTime(): Exchange<Date> {
  return { commands: [['TIME']], atomic: false, read: ([reply]) => timeOf(reply) };
}

function timeOf(reply: unknown): Date {
  const [seconds, micros] = (reply as readonly Buffer[]).map(Number) as [number, number];
  return new Date(seconds * 1000 + Math.floor(micros / 1000));
}

/** These workers live. `at` is the server's time. */
export function heartbeat(keys: Keyspace, ids: readonly string[], at: Date): Command {
  const beat = isoOffset(at);
  return ['HSET', keys.heartbeat, ...ids.flatMap((id) => [id, beat])];
}

/** This process lives, for whoever would give its claims back. False: it had been silent for so long that somebody may have. */
export function sayAlive(keys: Keyspace, process: string, seconds: number, at: Date): Exchange<boolean> {
  return {
    commands: [
      ['EXISTS', aliveKey(keys, process)],
      ['SET', aliveKey(keys, process), isoSecond(at), 'EX', seconds],
      ['SADD', keys.claimants, process],
    ],
    atomic: true,
    read: ([known]) => known === 1,
  };
}

/** worker.rb startup and register_worker: beats first, so that nobody sees a worker that never beat. */
export function register(keys: Keyspace, ids: readonly string[], at: Date, started: Date = at): Exchange<void> {
  return {
    commands: [
      heartbeat(keys, ids, at),
      ['SADD', keys.workers, ...ids],
      ...ids.map((id): Command => ['SET', startedKey(keys, id), rubyTime(started)]),
    ],
    atomic: true,
    read: () => undefined,
  };
}

/** worker.rb unregister_worker. */
export function unregister(keys: Keyspace, ids: readonly string[]): readonly Command[] {
  return ids.flatMap((id): readonly Command[] => [
    ['SREM', keys.workers, id],
    ['DEL', workerKey(keys, id)],
    ['DEL', startedKey(keys, id)],
    ['HDEL', keys.heartbeat, id],
    ['DEL', statKey(keys, 'processed', id)],
    ['DEL', statKey(keys, 'failed', id)],
  ]);
}

/** What a worker does, for the pages `workers` and `working`. worker.rb working_on. */
export function working(keys: Keyspace, id: string, queue: string, payload: string, at: Date): Command {
  return [
    'SET',
    workerKey(keys, id),
    `{"queue":${json.stringify(queue)},"run_at":"${isoSecond(at)}","payload":${payload}}`,
  ];
}

/** worker.rb done_working. */
export function done(keys: Keyspace, id: string): readonly Command[] {
  return [
    ['DEL', workerKey(keys, id)],
    ['INCRBY', statKey(keys, 'processed'), 1],
    ['INCRBY', statKey(keys, 'processed', id), 1],
  ];
}

/** Many at once: the total is one command. */
export function doneAll(keys: Keyspace, ids: readonly string[]): readonly Command[] {
  if (ids.length === 0) return [];
  const each = new Map<string, number>();
  for (const id of ids) each.set(id, (each.get(id) ?? 0) + 1);
  return [
    ['INCRBY', statKey(keys, 'processed'), ids.length],
    ...Array.from(each, ([id, count]): Command => ['INCRBY', statKey(keys, 'processed', id), count]),
  ];
}

/** Job::fail counts a failure of the job; a death of its process is not counted. */
export function countFailed(keys: Keyspace, id: string): readonly Command[] {
  return [
    ['INCRBY', statKey(keys, 'failed'), 1],
    ['INCRBY', statKey(keys, 'failed', id), 1],
  ];
}

/** Seconds that one worker has the pruning for itself, and after which a worker that does not beat is dead. Source: worker.rb, resque.rb. */
export const PRUNING_LOCK_SECONDS = 60;
export const PRUNE_INTERVAL_SECONDS = 300;

/** True when this worker may look for dead ones. worker.rb acquire_pruning_dead_worker_lock. */
export function lockPruning(keys: Keyspace, id: string): Exchange<boolean> {
  return {
    commands: [['SET', keys.pruning, id, 'EX', PRUNING_LOCK_SECONDS, 'NX']],
    atomic: false,
    read: ([reply]) => reply !== null,
  };
}

/** Everybody who is or was there. */
export function roster(keys: Keyspace): Exchange<{
  readonly workers: readonly string[];
  readonly beats: ReadonlyMap<string, string>;
  readonly now: Date;
}> {
  return {
    commands: [['SMEMBERS', keys.workers], ['HGETALL', keys.heartbeat], ['TIME']],
    atomic: false,
    read: ([workers, flat, time]) => {
      const beats = new Map<string, string>();
      const texts = (flat as readonly Buffer[]).map(String);
      for (let at = 0; at < texts.length; at += 2) beats.set(texts[at] as string, texts[at + 1] as string);
      return { workers: (workers as readonly Buffer[]).map(String), beats, now: timeOf(time) };
    },
  };
}

/**
 * Ids whose last beat is older than the limit. Who never beat is left alone, and so is a beat nobody can read: the living are not
 * taken for dead. Ruby's other rule, that a worker of one's own host has to show in `ps`, is not ours: containers share names, not processes.
 */
export function expired(
  beats: ReadonlyMap<string, string>,
  now: Date,
  seconds: number = PRUNE_INTERVAL_SECONDS,
): readonly { readonly id: string; readonly beat: string }[] {
  const dead: { id: string; beat: string }[] = [];
  for (const [id, beat] of beats) {
    const at = readTime(beat);
    if (at !== undefined && now.getTime() - at.getTime() > seconds * 1000) dead.push({ id, beat });
  }
  return dead;
}

/**
 * Take a dead worker off the list and record the job it died with, in one step, if it has not beaten and does what it did when it was
 * looked at: two that prune at once record one failure.
 *
 * KEYS heartbeats, what the worker does, then every key the commands touch. ARGV id, beat, what it did or '', then the commands as in
 * exchange-claim. Source: worker.rb prune_dead_workers.
 */
export const PRUNE: Script = {
  name: 'prune',
  keys: 'variable',
  lua: `
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[3] then return 0 end
local at = 4
while at <= #ARGV do
  local n = tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, at + n))
  at = at + n + 1
end
return 1`,
};

export function prune(
  keys: Keyspace,
  dead: { readonly id: string; readonly beat: string; readonly doing: string | undefined },
  backends: readonly FailureBackend[],
  now: Date,
): Exchange<boolean> {
  const commands: Command[] = [...diedWith(keys, dead, backends, now), ...unregister(keys, [dead.id])];
  const touched = new Set(commands.map((command) => String(command[1])));
  return {
    commands: [
      callScript(
        PRUNE,
        [keys.heartbeat, workerKey(keys, dead.id), ...touched],
        [dead.id, dead.beat, dead.doing ?? '', ...commands.flatMap((command) => [command.length, ...command])],
      ),
    ],
    atomic: false,
    read: ([done]) => done === 1,
  };
}

function diedWith(
  keys: Keyspace,
  { id, doing }: { readonly id: string; readonly doing: string | undefined },
  backends: readonly FailureBackend[],
  now: Date,
): readonly Command[] {
  const work = doing === undefined ? undefined : readWork(doing);
  if (work === undefined) return [];
  const text = encodeFailure({
    failedAt: now,
    payload: work.payload,
    exception: PRUNED,
    error: `Worker ${id} did not gracefully exit while processing ${work.class}`,
    backtrace: [],
    worker: id,
    queue: work.queue,
  });
  return saveFailure(keys, backends, work.queue, text);
}

/** What `worker:<id>` says; undefined for what nobody can read. */
export function readWork(
  text: string,
): { readonly queue: string; readonly runAt: string; readonly class: string; readonly payload: string } | undefined {
  try {
    const value = json.parse(text) as {
      readonly queue?: unknown;
      readonly run_at?: unknown;
      readonly payload?: { readonly class?: unknown };
    };
    const payload = member(text, ['payload']);
    if (typeof value.queue !== 'string' || payload === undefined) return undefined;
    const name = value.payload?.class;
    return {
      queue: value.queue,
      runAt: typeof value.run_at === 'string' ? value.run_at : '',
      class: typeof name === 'string' ? name : '',
      payload,
    };
  } catch {
    return undefined;
  }
}

/** What these workers do; undefined for one that does nothing. */
export function doing(keys: Keyspace, ids: readonly string[]): Exchange<readonly (string | undefined)[]> {
  if (ids.length === 0) return { commands: [], atomic: false, read: () => [] };
  return {
    commands: [['MGET', ...ids.map((id) => workerKey(keys, id))]],
    atomic: false,
    read: ([values]) =>
      (values as readonly (Buffer | null)[]).map((value) => (value === null ? undefined : String(value))),
  };
}
