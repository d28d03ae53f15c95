import zlib from 'node:zlib';
import { encodeTask, type Publication, type TaskCall } from '../../protocols/celery/message/message.ts';
import { type CeleryVersion, type Message, valueOf } from './support.ts';

/** Recorded messages as the calls that mean them. */

/** A recorded message, whatever it came in. AMQP may leave the priority out. */
export type Recorded = Omit<Message, 'list' | 'channel' | 'deliveryTag' | 'priority'> & {
  readonly priority: number | null;
};

/** Headers that every task has, in their order; what else is there came from the caller. */
const HEADERS = [
  'lang', 'task', 'id', 'shadow', 'eta', 'expires', 'group', 'group_index', 'retries', 'timelimit', 'root_id', 'parent_id',
  'argsrepr', 'kwargsrepr', 'origin', 'ignore_result', 'replaced_task_nesting', 'stamped_headers', 'stamps', 'compression',
]; // prettier-ignore

/** Headers that came with 5.3. */
const SINCE_5_3 = new Set(['replaced_task_nesting', 'stamped_headers', 'stamps']);

const COMPRESSIONS: Readonly<Record<string, string>> = {
  'application/x-gzip': 'gzip',
  'application/x-bz2': 'bzip2',
  'application/x-lzma': 'lzma',
  'application/zstd': 'zstd',
  'application/x-brotli': 'brotli',
};

/** What we publish for a recorded message. */
export function publicationOf(
  version: CeleryVersion,
  message: Recorded,
  exact: ReadonlyMap<string, unknown>,
): Publication {
  const publication = encodeTask(callOf(message, exact));
  if (version !== '5.2') return publication;
  // What 5.2 does not know yet is left out; everything else must be the same.
  const { body, contentEncoding, contentType, exchange, priority, properties, routingKey } = publication;
  const headers = new Map([...publication.headers].filter(([name]) => !SINCE_5_3.has(name)));
  return { body, contentEncoding, contentType, exchange, priority, properties, routingKey, headers };
}

/** The call that means this message. */
export function callOf(message: Recorded, exact: ReadonlyMap<string, unknown>): TaskCall {
  const value = (name: string): unknown => valueOf(exact.get(name), { typed: true, exact: true });
  const headers = value('headers') as ReadonlyMap<string, unknown>;
  const embed = value('embed') as ReadonlyMap<string, unknown>;
  const custom = new Map([...headers].filter(([name]) => !HEADERS.includes(name)));
  const { compression } = message.headers;
  const expiration = message.properties['expiration'];
  return {
    task: message.task,
    id: message.id,
    args: value('args') as readonly unknown[],
    kwargs: value('kwargs') as ReadonlyMap<string, unknown>,
    callbacks: embed.get('callbacks') as readonly unknown[] | null,
    errbacks: embed.get('errbacks') as readonly unknown[] | null,
    chain: embed.get('chain') as readonly unknown[] | null,
    chord: embed.get('chord'),
    retries: message.retries,
    eta: message.eta,
    expires: message.expires,
    group: message.group,
    groupIndex: message.groupIndex,
    rootId: message.rootId,
    parentId: message.parentId,
    timeLimit: message.hardLimit,
    softTimeLimit: message.softLimit,
    shadow: headers.get('shadow') as string | null,
    ignoreResult: headers.get('ignore_result') as boolean,
    stampedHeaders: (headers.get('stamped_headers') ?? null) as readonly string[] | null,
    stamps: (message.headers['stamps'] ?? {}) as Readonly<Record<string, unknown>>,
    argsrepr: headers.get('argsrepr') as string,
    kwargsrepr: headers.get('kwargsrepr') as string,
    origin: headers.get('origin') as string,
    lang: headers.get('lang') as string,
    ...(custom.size > 0 ? { headers: custom } : {}),
    replyTo: message.replyTo,
    ...(message.priority === null ? {} : { priority: message.priority }),
    deliveryMode: message.properties['delivery_mode'] as 1 | 2,
    ...(typeof expiration === 'string' ? { expiration } : {}),
    serializer: message.contentType,
    ...(typeof compression === 'string' ? { compression: COMPRESSIONS[compression] ?? compression } : {}),
    exchange: message.exchange,
    routingKey: message.routingKey,
  };
}

/** Signatures stay exact, marks and all: nobody here looks into them. */
export function embedOf(message: ReadonlyMap<string, unknown>): unknown {
  const embed = valueOf(message.get('embed'), { typed: false, exact: true }) as ReadonlyMap<string, unknown>;
  const { callbacks, errbacks, chain, chord } = Object.fromEntries(embed);
  return { callbacks: callbacks ?? [], errbacks: errbacks ?? [], chain: chain ?? [], chord: chord ?? undefined };
}

export function millisOf(iso: string | null): number | undefined {
  return iso === null ? undefined : Date.parse(/[+-]\d\d:\d\d$/.test(iso) ? iso : `${iso}Z`);
}

/** Why this Node cannot read it. */
export function unreadableHere(message: Recorded): string | undefined {
  const { compression } = message.headers;
  if (compression === 'application/x-bz2' || compression === 'application/x-lzma')
    return ` [skipped: no ${COMPRESSIONS[compression]} in Node]`;
  if (compression === 'application/zstd' && !('zstdDecompressSync' in zlib))
    return ' [skipped: zstd from Node 22.15 on]';
  return undefined;
}
