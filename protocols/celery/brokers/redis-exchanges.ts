import type { Buffer } from 'node:buffer';
import type { Exchange } from '../../redis.ts';
import { bindingKey, type Keyspace, listsOf } from './keys.ts';
import { topicMatches, topicPattern } from './topic.ts';

/**
 * Exchanges. Redis keeps the bindings of an exchange, not its type: each process knows that from its own declarations.
 * A member is `routing key SEP pattern SEP queue`; the pattern is the regular expression the binder wrote, since Python
 * matches with it.
 */
export interface Binding {
  readonly routingKey: string;
  readonly pattern: string;
  readonly queue: string;
}

export function bind(
  keys: Keyspace,
  exchange: string,
  type: 'direct' | 'topic' | 'fanout',
  routingKey: string,
  queue: string,
): Exchange<void> {
  const member = bindingMember(keys, type, routingKey, queue);
  return { commands: [['SADD', bindingKey(keys, exchange), member]], atomic: false, read: () => undefined };
}

/** Take a queue of broadcasts away: its binding, and its lists of all priorities. Source: kombu/transport/redis.py _delete. */
export function unbind(
  keys: Keyspace,
  exchange: string,
  type: 'direct' | 'topic' | 'fanout',
  routingKey: string,
  queue: string,
): Exchange<void> {
  return {
    commands: [
      ['SREM', bindingKey(keys, exchange), bindingMember(keys, type, routingKey, queue)],
      ['DEL', ...listsOf(keys, [queue]).map(({ key }) => key)],
    ],
    atomic: false,
    read: () => undefined,
  };
}

function bindingMember(keys: Keyspace, type: 'direct' | 'topic' | 'fanout', routingKey: string, queue: string): string {
  return [routingKey, type === 'topic' ? topicPattern(routingKey) : '', queue].join(keys.separator);
}

export function bindings(keys: Keyspace, exchange: string): Exchange<readonly Binding[]> {
  return {
    commands: [['SMEMBERS', bindingKey(keys, exchange)]],
    atomic: false,
    read: ([members]) =>
      (members as readonly Buffer[]).map((member) => {
        const [routingKey = '', pattern = '', queue = ''] = String(member).split(keys.separator);
        return { routingKey, pattern, queue };
      }),
  };
}

/**
 * The queues a message goes to. Where the type is not known, a binding with a pattern is a topic exchange's. Own matching of
 * topic keys: the stored pattern is data from the wire, never run as one.
 */
export function route(
  type: 'direct' | 'topic' | undefined,
  table: readonly Binding[],
  routingKey: string,
): readonly string[] {
  const matches = ({ routingKey: key, pattern }: Binding): boolean =>
    type === 'topic' || (type === undefined && pattern !== '')
      ? topicMatches(key.split('.'), routingKey.split('.'))
      : key === routingKey;
  return [...new Set(table.filter(matches).map(({ queue }) => queue))].sort();
}

/** The channel of a fanout exchange. `prefix` true is `/<db>.`. */
export function fanoutChannel(
  keys: Keyspace,
  db: number,
  exchange: string,
  routingKey: string,
  fanoutPrefix: boolean | string = true,
  patterns = true,
): string {
  const lead =
    fanoutPrefix === true ? `/${db}.` : fanoutPrefix === false ? '' : fanoutPrefix.replaceAll('{db}', String(db));
  return `${keys.prefix}${lead}${exchange}${patterns && routingKey !== '' ? `/${routingKey}` : ''}`;
}
