import type { Buffer } from 'node:buffer';
import { callScript, type Command, type Exchange, type Script } from '../redis.ts';
import * as keys from './keys.ts';
import { epochSeconds } from './times.ts';

/** Queues and their registries: counting, listing and emptying. Reading changes nothing, while RQ's own counts clean the registries first. */

export type Counts = Readonly<Record<'queued' | Exclude<keys.RegistryName, 'wip'> | 'started', number>>;

/** The names of all queues that have had jobs. A member that is not the key of a queue is left out. */
export function queueNames(): Exchange<readonly string[]> {
  return {
    commands: [['SMEMBERS', keys.QUEUES]],
    atomic: false,
    read: ([reply]) =>
      (reply as readonly Buffer[])
        .map((key) => keys.queueOf(String(key)))
        .filter((name) => name !== undefined)
        .sort(),
  };
}

/** How many jobs each queue has in each state. Expired entries are not counted, as if they were already cleaned up. */
export function counts(queues: readonly string[], now: Date): Exchange<readonly Counts[]> {
  const seconds = epochSeconds(now);
  return {
    commands: queues.flatMap((queue): Command[] => [
      ['LLEN', keys.queueKey(queue)],
      ...REGISTRIES.map((registry): Command => ['ZCARD', keys.registryKey(registry, queue)]),
      ...EXPIRING.map((registry): Command => ['ZCOUNT', keys.registryKey(registry, queue), 0, seconds]),
    ]),
    atomic: false,
    read: (replies) =>
      queues.map((_, at) => {
        const own = replies.slice(at * WIDTH, (at + 1) * WIDTH) as number[];
        const [queued, started, finished, failed, deferred, scheduled, canceled, oldFinished, oldFailed] = own as Nine;
        return {
          queued,
          started,
          finished: finished - oldFinished,
          failed: failed - oldFailed,
          deferred,
          scheduled,
          canceled,
        };
      }),
  };
}

type Nine = [number, number, number, number, number, number, number, number, number];

const REGISTRIES: readonly keys.RegistryName[] = ['wip', 'finished', 'failed', 'deferred', 'scheduled', 'canceled'];
const EXPIRING: readonly keys.RegistryName[] = ['finished', 'failed'];
const WIDTH = 1 + REGISTRIES.length + EXPIRING.length;

/** The ids of a queue. The job that runs next is first. */
export function queuedIds(queue: string, offset = 0, length = -1): Exchange<readonly string[]> {
  const end = length < 0 ? -1 : offset + length - 1;
  return {
    commands: [['LRANGE', keys.queueKey(queue), offset, end]],
    atomic: false,
    read: ([reply]) => (length === 0 ? [] : (reply as readonly Buffer[]).map(String)),
  };
}

/** A job in a registry. */
export interface RegistryEntry {
  readonly id: string;
  /** The run, for a running job. */
  readonly execution?: string;
  /**
   * Milliseconds since the epoch at which the job is due (scheduled), expires (finished, failed), counts as abandoned (wip), or was
   * added (deferred, canceled). Infinity: never.
   */
  readonly at: number;
}

/** The entries of a registry, in the order of their times. */
export function registryEntries(
  registry: keys.RegistryName,
  queue: string,
  offset = 0,
  length = -1,
): Exchange<readonly RegistryEntry[]> {
  const end = length < 0 ? -1 : offset + length - 1;
  return {
    commands: [['ZRANGE', keys.registryKey(registry, queue), offset, end, 'WITHSCORES']],
    atomic: false,
    read: ([reply]) => {
      if (length === 0) return [];
      const flat = reply as readonly Buffer[];
      const entries: RegistryEntry[] = [];
      for (let at = 0; at < flat.length; at += 2) {
        const score = String(flat[at + 1]);
        // RQ writes -1 if a failure is kept for ever.
        const seconds = score === 'inf' || score === '-1' ? Number.POSITIVE_INFINITY : Number(score);
        const member = String(flat[at]);
        const { id, execution } =
          registry === 'wip' ? keys.splitExecution(member) : { id: member, execution: undefined };
        entries.push({ id, at: seconds * 1000, ...(execution === undefined ? {} : { execution }) });
      }
      return entries;
    },
  };
}

/**
 * Takes up to a number of jobs off a queue and deletes them with their results. Python leaves the results. Returns how many jobs were
 * taken. Call it until it returns less than the number. Mirrors rq/queue.py empty (2.10). KEYS the queue. ARGV the number.
 */
export const EMPTY: Script = {
  name: 'empty',
  keys: 1,
  lua: `
local ids = redis.call('LRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1)
for i = 1, #ids do
  local key = 'rq:job:' .. ids[i]
  local group = redis.pcall('HGET', key, 'group_id')
  if type(group) == 'string' and group ~= '' then redis.pcall('SREM', 'rq:group:' .. group, ids[i]) end
  redis.call('DEL', key, key .. ':dependents', 'rq:job::' .. ids[i] .. ':dependencies', 'rq:results:' .. ids[i])
end
redis.call('LTRIM', KEYS[1], #ids, -1)
return #ids
`,
};

/** Jobs in one script. The number is limited because Redis runs nothing else during a script. */
export const EMPTY_BATCH = 1000;

export function empty(queue: string): Exchange<number> {
  return {
    commands: [callScript(EMPTY, [keys.queueKey(queue)], [EMPTY_BATCH])],
    atomic: false,
    read: ([reply]) => reply as number,
  };
}

/** Removes the queue itself, with the ids that are still in it. Source: rq/queue.py delete. */
export function forgetQueue(queue: string): Exchange<void> {
  return {
    commands: [
      ['SREM', keys.QUEUES, keys.queueKey(queue)],
      ['DEL', keys.queueKey(queue)],
    ],
    atomic: true,
    read: () => undefined,
  };
}

export function groupNames(): Exchange<readonly string[]> {
  return {
    commands: [['SMEMBERS', keys.GROUPS]],
    atomic: false,
    read: ([reply]) => (reply as readonly Buffer[]).map(String).sort(),
  };
}

/** The ids of a group, including ids of jobs that are gone. */
export function groupIds(group: string): Exchange<readonly string[]> {
  return {
    commands: [['SMEMBERS', keys.groupKey(group)]],
    atomic: false,
    read: ([reply]) => (reply as readonly Buffer[]).map(String).sort(),
  };
}
