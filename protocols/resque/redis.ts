import type { Buffer } from 'node:buffer';
import * as claims from '../claims.ts';
import { callScript, type Command, type Exchange, type Script } from '../redis.ts';
import {
  aliveKey,
  claimsKey,
  failedQueue,
  type Keyspace,
  quarantineKey,
  queueKey,
  rescuesKey,
  startedKey,
  statKey,
} from './keys.ts';
import { unregister } from './presence.ts';

/** Round trips of a Resque client and of a worker's claims. Source: resque data_store.rb, job.rb, and for claims ../claims.ts. */

const nothing = (): undefined => undefined;

/** `SADD queues`, `RPUSH queue:<queue>`: in one step, so that a queue with jobs is always known. data_store.rb push_to_queue. */
export function push(keys: Keyspace, queue: string, payloads: readonly string[]): readonly Command[] {
  const commands: Command[] = [['SADD', keys.queues, queue]];
  for (let at = 0; at < payloads.length; at += claims.CHUNK)
    commands.push(['RPUSH', queueKey(keys, queue), ...payloads.slice(at, at + claims.CHUNK)]);
  return commands;
}

/** What one client enqueues in one turn: a command a queue. Names of queues first, so that a queue with jobs is always known. */
export function pushAll(
  keys: Keyspace,
  items: readonly { readonly queue: string; readonly payload: string }[],
): Exchange<void> {
  const byQueue = new Map<string, string[]>();
  for (const { queue, payload } of items) {
    const payloads = byQueue.get(queue);
    if (payloads === undefined) byQueue.set(queue, [payload]);
    else payloads.push(payload);
  }
  const commands = [...byQueue].flatMap(([queue, payloads]) => push(keys, queue, payloads));
  return { commands, atomic: false, read: nothing };
}

export function queues(keys: Keyspace): Exchange<readonly string[]> {
  return {
    commands: [['SMEMBERS', keys.queues]],
    atomic: false,
    read: ([names]) => (names as readonly Buffer[]).map(String).sort(),
  };
}

export function size(keys: Keyspace, queue: string): Exchange<number> {
  return { commands: [['LLEN', queueKey(keys, queue)]], atomic: false, read: ([length]) => length as number };
}

export function sizes(keys: Keyspace, names: readonly string[]): Exchange<ReadonlyMap<string, number>> {
  return {
    commands: names.map((queue) => ['LLEN', queueKey(keys, queue)] as const),
    atomic: false,
    read: (lengths) => new Map(names.map((queue, at) => [queue, lengths[at] as number])),
  };
}

/** `count` payloads from `start`, the next to run first. data_store.rb peek_in_queue, list_range. */
export function peek(keys: Keyspace, queue: string, start: number, count: number): Exchange<readonly Buffer[]> {
  const one = count === 1;
  return {
    commands: [
      one ? ['LINDEX', queueKey(keys, queue), start] : ['LRANGE', queueKey(keys, queue), start, start + count - 1],
    ],
    atomic: false,
    read: ([reply]) => (one ? (reply === null ? [] : [reply as Buffer]) : (reply as readonly Buffer[])),
  };
}

/** Everything that waits goes with it. data_store.rb remove_queue. */
export function removeQueue(keys: Keyspace, queue: string): Exchange<void> {
  return {
    commands: [
      ['SREM', keys.queues, queue],
      ['DEL', queueKey(keys, queue)],
    ],
    atomic: true,
    read: nothing,
  };
}

/** Take every payload of exactly this text out of its queue: how many there were. job.rb destroy. */
export function remove(keys: Keyspace, queue: string, payloads: readonly (string | Uint8Array)[]): Exchange<number> {
  return {
    commands: payloads.map((payload): Command => ['LREM', queueKey(keys, queue), 0, payload]),
    atomic: false,
    read: (counts) => (counts as readonly number[]).reduce((sum, count) => sum + count, 0),
  };
}

/** Totals, or those of one worker. */
export function stats(
  keys: Keyspace,
  worker?: string,
): Exchange<{ readonly processed: number; readonly failed: number }> {
  return {
    commands: [
      ['GET', statKey(keys, 'processed', worker)],
      ['GET', statKey(keys, 'failed', worker)],
    ],
    atomic: false,
    read: ([processed, failed]) => ({ processed: countOf(processed), failed: countOf(failed) }),
  };
}

function countOf(reply: unknown): number {
  return reply === null ? 0 : Number((reply as Buffer).toString());
}

/** Who is registered, and since when. */
export function workers(keys: Keyspace): Exchange<readonly string[]> {
  return {
    commands: [['SMEMBERS', keys.workers]],
    atomic: false,
    read: ([ids]) => (ids as readonly Buffer[]).map(String).sort(),
  };
}

export function startedAt(keys: Keyspace, ids: readonly string[]): Exchange<readonly (string | undefined)[]> {
  if (ids.length === 0) return { commands: [], atomic: false, read: () => [] };
  return {
    commands: [['MGET', ...ids.map((id) => startedKey(keys, id))]],
    atomic: false,
    read: ([values]) =>
      (values as readonly (Buffer | null)[]).map((value) => (value === null ? undefined : String(value))),
  };
}

/** Pause or resume every worker (Resque 2.3 and later). */
export function pauseAll(keys: Keyspace, paused: boolean): Exchange<void> {
  return { commands: [paused ? ['SET', keys.pause, 'true'] : ['DEL', keys.pause]], atomic: false, read: nothing };
}

/** Whether every worker is paused: as Ruby reads the key. worker.rb pause_all?. */
export function isPaused(keys: Keyspace): Exchange<boolean> {
  return {
    commands: [['GET', keys.pause]],
    atomic: false,
    read: ([value]) => /^\s*true\s*$/i.test(String(value as Buffer | null)),
  };
}

/** How many failures there are, in each list that may have some. */
export function failureCounts(keys: Keyspace, queueNames: readonly string[]): Exchange<readonly number[]> {
  return {
    commands: [
      ['LLEN', keys.failed],
      ...queueNames.map((queue) => ['LLEN', keys.prefix + failedQueue(queue)] as const),
    ],
    atomic: false,
    read: (lengths) => lengths as readonly number[],
  };
}

/** Claim up to `max` payloads of these queues, strictly in their order. Nothing while every worker is paused. */
export function claim(
  keys: Keyspace,
  process: string,
  names: readonly string[],
  options: { readonly max: number; readonly last: number; readonly begin: number; readonly limits: claims.ClaimLimits },
): Exchange<claims.Claimed> {
  return claims.claim(claimKeys(keys, process), names, {
    ...options,
    listPrefix: queueKey(keys, ''),
    quarantinePrefix: quarantineKey(keys, ''),
    end: 'head',
    process,
    pause: keys.pause,
  });
}

function claimKeys(keys: Keyspace, process: string): claims.ClaimKeys {
  return { claims: claimsKey(keys, process), claimants: keys.claimants, begun: keys.begun };
}

/** A payload back at the head of its queue: it runs next. */
export function giveBack(keys: Keyspace, queue: string, payload: string | Uint8Array): readonly Command[] {
  return [
    ['SADD', keys.queues, queue],
    ['LPUSH', queueKey(keys, queue), payload],
  ];
}

/** A payload at the tail of its queue: others run first. */
export function putBehind(keys: Keyspace, queue: string, payload: string | Uint8Array): readonly Command[] {
  return [
    ['SADD', keys.queues, queue],
    ['RPUSH', queueKey(keys, queue), payload],
  ];
}

/** What is no payload, set aside as it is, and why. */
export function quarantine(keys: Keyspace, queue: string, bytes: Uint8Array, why: string): readonly Command[] {
  const list = quarantineKey(keys, queue);
  return [
    ['LPUSH', list, bytes],
    ['LPUSH', `${list}:why`, why],
  ];
}

/** What becomes of a claim of a dead process: next in its queue again, or set aside when its process died with it too often. */
export function rescueOf(
  keys: Keyspace,
  claimed: string,
  bytes: Uint8Array,
  digest: string,
  why: string,
): claims.Rescue {
  const { queue } = claims.readClaim(claimed);
  return {
    claim: claimed,
    counter: rescuesKey(keys, digest),
    back: giveBack(keys, queue, bytes),
    bury: quarantine(keys, queue, bytes, why),
  };
}

export function claimants(keys: Keyspace): Exchange<readonly string[]> {
  return claims.claimants(keys.claimants);
}

/** This process goes: its workers are off the list, and where it holds no claim it is forgotten. What it could not give back is found at once. */
export function leave(keys: Keyspace, process: string, ids: readonly string[]): Exchange<void> {
  return {
    commands: [
      ...unregister(keys, ids),
      ...claims.forgetClaimant(claimKeys(keys, process), process).commands,
      ['DEL', aliveKey(keys, process)],
    ],
    atomic: false,
    read: nothing,
  };
}

/**
 * Take the slots of a dead process off the list, if it is dead.
 * KEYS alive, claimants, then every key the commands touch. ARGV process, then the commands as in exchange-claim.
 */
export const BURY: Script = {
  name: 'bury-process',
  keys: 'variable',
  lua: `
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local at = 2
while at <= #ARGV do
  local n = tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, at + n))
  at = at + n + 1
end
return 1`,
};

export function bury(keys: Keyspace, process: string, commands: readonly Command[]): Exchange<boolean> {
  const touched = new Set(commands.map((command) => String(command[1])));
  return {
    commands: [
      callScript(
        BURY,
        [aliveKey(keys, process), ...touched],
        [process, ...commands.flatMap((command) => [command.length, ...command])],
      ),
    ],
    atomic: false,
    read: ([done]) => done === 1,
  };
}
