import type { Buffer } from 'node:buffer';
import { callScript, type Command, type Exchange, type Script } from '../../redis.ts';
import { type Keyspace, listsOf, parkedKeys, quarantineKey } from './keys.ts';

/** What an inspector reads and changes in kombu's keys. Nothing here takes a message from a worker. */

/** How much there is. The number of commands depends on the queues, not on the messages. */
export interface Sizes {
  /** Of each queue, all priorities together. */
  readonly queued: ReadonlyMap<string, number>;
  readonly quarantined: ReadonlyMap<string, number>;
  readonly unacked: number;
  readonly parked: number;
}

export function sizes(keys: Keyspace, queues: readonly string[]): Exchange<Sizes> {
  const lists = listsOf(keys, queues);
  const commands: Command[] = [
    ['HLEN', keys.unacked],
    ['ZCARD', parkedKeys(keys).index],
    ...lists.map(({ key }): Command => ['LLEN', key]),
    ...queues.map((queue): Command => ['LLEN', quarantineKey(keys, queue)]),
  ];
  return {
    commands,
    atomic: false,
    read: ([unacked, parked, ...lengths]) => {
      const queued = new Map(queues.map((queue) => [queue, 0]));
      for (const [at, { queue }] of lists.entries())
        queued.set(queue, (queued.get(queue) as number) + (lengths[at] as number));
      const quarantined = new Map(queues.map((queue, at) => [queue, lengths[lists.length + at] as number]));
      return { queued, quarantined, unacked: unacked as number, parked: parked as number };
    },
  };
}

/** Up to `count` messages of a list from the end that runs next, after the first `offset`. */
export function fromNext(list: string, offset: number, count: number): Exchange<readonly Buffer[]> {
  return {
    commands: [['LRANGE', list, -offset - count, -offset - 1]],
    atomic: false,
    read: ([items]) => (items as readonly Buffer[]).toReversed(),
  };
}

/** Up to `count` messages of a quarantine list and what is noted about each, oldest last. */
export function quarantined(
  keys: Keyspace,
  queue: string,
  offset: number,
  count: number,
): Exchange<readonly { readonly bytes: Buffer; readonly why: string | undefined }[]> {
  const list = quarantineKey(keys, queue);
  return {
    commands: [
      ['LRANGE', list, offset, offset + count - 1],
      ['LRANGE', `${list}:why`, offset, offset + count - 1],
      ['LLEN', list],
      ['LLEN', `${list}:why`],
    ],
    atomic: true,
    read: ([items, reasons, length, noted]) =>
      (items as readonly Buffer[]).map((bytes, at) => ({
        bytes,
        // Both lists grow together; where one has lost an entry, none can be told to belong to a message.
        why: length === noted ? (reasons as readonly Buffer[])[at]?.toString() : undefined,
      })),
  };
}

/** Names of claims, at most `limit`. */
export function claimNames(keys: Keyspace, limit: number): Exchange<readonly string[]> {
  return {
    commands: [['ZRANGE', keys.unackedIndex, 0, limit - 1]],
    atomic: false,
    read: ([tags]) => (tags as readonly Buffer[]).map(String),
  };
}

/** Names of parked messages, those that are due first, with the unix time when each is due. */
export function parkedNames(
  keys: Keyspace,
  offset: number,
  count: number,
): Exchange<readonly { readonly name: string; readonly at: number }[]> {
  return {
    commands: [['ZRANGE', parkedKeys(keys).index, offset, offset + count - 1, 'WITHSCORES']],
    atomic: false,
    read: ([reply]) => {
      const flat = (reply as readonly unknown[]).flat().map(String);
      return flat.flatMap((name, at) => (at % 2 === 0 ? [{ name, at: Number(flat[at + 1]) }] : []));
    },
  };
}

/** Parked messages by name, each with the list it goes to. */
export function parkedMessages(
  keys: Keyspace,
  names: readonly string[],
): Exchange<readonly ({ readonly list: string; readonly bytes: Buffer } | undefined)[]> {
  if (names.length === 0) return { commands: [], atomic: false, read: () => [] };
  return {
    commands: [['HMGET', parkedKeys(keys).messages, ...names]],
    atomic: false,
    read: ([values]) =>
      (values as readonly (Buffer | null)[]).map((value) => {
        const cut = value?.indexOf(0) ?? -1;
        if (value === null || cut < 0) return undefined;
        return { list: value.subarray(0, cut).toString(), bytes: value.subarray(cut + 1) };
      }),
  };
}

/** Removes one copy of a message from a list, searching from the end that runs next. */
export function removeQueued(list: string, message: Uint8Array): Exchange<boolean> {
  return { commands: [['LREM', list, -1, message]], atomic: false, read: ([count]) => count === 1 };
}

/**
 * Takes a parked message out of its wait: to its list, where it runs next, or away for good.
 * KEYS parked, parked:messages, list. ARGV name, 1 to run it. Returns 0 where it is gone.
 */
export const TAKE_PARKED: Script = {
  name: 'take-parked',
  keys: 3,
  lua: `
local value = redis.call('HGET', KEYS[2], ARGV[1])
if not value then return 0 end
-- A script that fails undoes nothing: the message is in its list before it leaves the others.
if ARGV[2] == '1' then redis.call('RPUSH', KEYS[3], string.sub(value, string.find(value, '\\0', 1, true) + 1)) end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
return 1`,
};

export function takeParked(keys: Keyspace, name: string, list: string, run: boolean): Exchange<boolean> {
  const { index, messages } = parkedKeys(keys);
  return {
    commands: [callScript(TAKE_PARKED, [index, messages, list], [name, run ? '1' : '0'])],
    atomic: false,
    read: ([taken]) => taken === 1,
  };
}

/**
 * Takes a message out of quarantine, and the note about it: to the back of a list, or away for good.
 * KEYS quarantine, quarantine:why, list. ARGV message, 1 to put it into the list. Returns 0 where it is gone.
 */
export const TAKE_QUARANTINED: Script = {
  name: 'take-quarantined',
  keys: 3,
  lua: `
local at = redis.call('LPOS', KEYS[1], ARGV[1])
if not at then return 0 end
-- A script that fails undoes nothing: the message is in its list before it leaves quarantine.
if ARGV[2] == '1' then redis.call('LPUSH', KEYS[3], ARGV[1]) end
if redis.call('LLEN', KEYS[1]) == redis.call('LLEN', KEYS[2]) then
  redis.call('LSET', KEYS[2], at, '\\0')
  redis.call('LREM', KEYS[2], 1, '\\0')
end
redis.call('LREM', KEYS[1], 1, ARGV[1])
return 1`,
};

export function takeQuarantined(
  keys: Keyspace,
  queue: string,
  message: Uint8Array,
  list: string,
  requeue: boolean,
): Exchange<boolean> {
  const from = quarantineKey(keys, queue);
  return {
    commands: [callScript(TAKE_QUARANTINED, [from, `${from}:why`, list], [message, requeue ? '1' : '0'])],
    atomic: false,
    read: ([taken]) => taken === 1,
  };
}

/** Empties the lists of a queue in one step, as `celery purge` does. KEYS lists. Returns how many messages there were. */
export const PURGE: Script = {
  name: 'purge',
  keys: 'variable',
  lua: `
local count = 0
for i = 1, #KEYS do
  count = count + redis.call('LLEN', KEYS[i])
  redis.call('DEL', KEYS[i])
end
return count`,
};

export function purge(keys: Keyspace, queue: string): Exchange<number> {
  return {
    commands: [
      callScript(
        PURGE,
        listsOf(keys, [queue]).map(({ key }) => key),
        [],
      ),
    ],
    atomic: false,
    read: ([count]) => count as number,
  };
}

/** One step of a scan: names of keys, and the cursor of the next step; '0' is the end. */
export interface ScanStep {
  readonly next: string;
  readonly keys: readonly string[];
}

/** Tables of exchanges, in a scan of 1 000 keys a step. */
export function bindingTables(keys: Keyspace, cursor: string): Exchange<ScanStep> {
  return scan(['SCAN', cursor, 'MATCH', `${globEscaped(keys.prefix)}_kombu.binding.*`, 'COUNT', 1000]);
}

/** Lists, of Celery or not, in a scan of 1 000 keys a step. Redis 6 and later. */
export function lists(keys: Keyspace, cursor: string): Exchange<ScanStep> {
  return scan(['SCAN', cursor, 'MATCH', `${globEscaped(keys.prefix)}*`, 'COUNT', 1000, 'TYPE', 'list']);
}

function scan(command: Command): Exchange<ScanStep> {
  return {
    commands: [command],
    atomic: false,
    read: ([reply]) => {
      const [next, found] = reply as readonly [unknown, readonly unknown[]];
      return { next: String(next), keys: found.map(String) };
    },
  };
}

function globEscaped(text: string): string {
  return text.replaceAll(/[*?[\]\\]/g, '\\$&');
}
