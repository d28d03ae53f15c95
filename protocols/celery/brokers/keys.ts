import { priorityOf } from '../message/message.ts';

/**
 * kombu on Redis: the names of its keys. Source: kombu/transport/redis.py (5.6).
 *
 * | key | type | content |
 * |---|---|---|
 * | `<queue>` | list | messages of priority 0; LPUSH to publish, right end runs next |
 * | `<queue>\x06\x16<3|6|9>` | list | messages of the other priority steps |
 * | `_kombu.binding.<exchange>` | set | `routing key SEP pattern SEP queue` |
 * | `unacked` | hash | claim → `[<envelope>, "<exchange>", "<routing key>"]` |
 * | `unacked_index` | zset | claim → unix time of the claim |
 * | `unacked_mutex` | string | held while one process restores abandoned claims |
 * | `<oid>.reply.celery.pidbox` | list | replies to a control client; expires when nobody fetches them |
 * | `jobglot:parked`, `jobglot:parked:messages` | zset, hash | ours: messages waiting for a far ETA |
 * | `jobglot:quarantine:<queue>`, `…:why` | lists | ours: messages nobody can read, byte for byte, and the reasons beside them |
 */
export const SEPARATOR = '\x06\x16';
export const DEFAULT_PRIORITY_STEPS: readonly number[] = [0, 3, 6, 9];

/** Names of the keys, all under one verbatim prefix (`global_keyprefix`). */
export interface Keyspace {
  readonly prefix: string;
  readonly unacked: string;
  readonly unackedIndex: string;
  readonly unackedMutex: string;
  readonly prioritySteps: readonly number[];
  readonly separator: string;
}

export function keyspace(options: Partial<Keyspace> = {}): Keyspace {
  const prefix = options.prefix ?? '';
  return {
    prefix,
    unacked: `${prefix}${options.unacked ?? 'unacked'}`,
    unackedIndex: `${prefix}${options.unackedIndex ?? 'unacked_index'}`,
    unackedMutex: `${prefix}${options.unackedMutex ?? 'unacked_mutex'}`,
    prioritySteps: [...(options.prioritySteps ?? DEFAULT_PRIORITY_STEPS)].sort((a, b) => a - b),
    separator: options.separator ?? SEPARATOR,
  };
}

/** The list a message of this priority goes to: the largest step not above it. On Redis, 0 is the highest priority. */
export function listKey(keys: Keyspace, queue: string, priority: unknown = 0): string {
  const wanted = priorityOf(priority);
  let step = keys.prioritySteps[0] ?? 0;
  for (const candidate of keys.prioritySteps) if (candidate <= wanted) step = candidate;
  return stepKey(keys, queue, step);
}

function stepKey(keys: Keyspace, queue: string, step: number): string {
  // kombu stores priority 0 under the bare queue name; only the other steps get a suffix.
  return step === 0 ? keys.prefix + queue : `${keys.prefix}${queue}${keys.separator}${step}`;
}

/** Every list of these queues in the order they are polled: all queues' first step, then all queues' second, and so on. */
export function listsOf(
  keys: Keyspace,
  queues: readonly string[],
): readonly { readonly key: string; readonly queue: string }[] {
  return keys.prioritySteps.flatMap((step) => queues.map((queue) => ({ key: stepKey(keys, queue, step), queue })));
}

export function quarantineKey(keys: Keyspace, queue: string): string {
  return `${keys.prefix}jobglot:quarantine:${queue}`;
}

export function parkedKeys(keys: Keyspace): { readonly index: string; readonly messages: string } {
  return { index: `${keys.prefix}jobglot:parked`, messages: `${keys.prefix}jobglot:parked:messages` };
}

export function bindingKey(keys: Keyspace, exchange: string): string {
  return `${keys.prefix}_kombu.binding.${exchange}`;
}

/** Results: `celery-task-meta-<id>`; the channel that tells who waits has the same name. */
export function resultKey(prefix: string, id: string): string {
  return `${prefix}celery-task-meta-${id}`;
}
export function groupResultKey(prefix: string, groupId: string): string {
  return `${prefix}celery-taskset-meta-${groupId}`;
}
