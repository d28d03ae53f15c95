import { Buffer } from 'node:buffer';
import { WireError } from '../../errors.ts';
import * as json from '../../formats/json.ts';
import { groupResultKey, resultKey } from './keys.ts';
import { topicMatches, topicPattern } from './topic.ts';

/**
 * kombu's filesystem transport: one file a message, in one folder for all queues, and one file an exchange.
 *
 *     message file  = [ "0_" ] ms "_" uuid "." queue ".msg"      holds kombu's envelope (envelope.ts)
 *     exchange file = exchange ".exchange"                       holds [ [ routing_key, pattern, queue ], … ], newest first
 *
 * `ms` is the writer's monotonic clock. The prefix `0_` is ours: it sorts before every clock, and kombu, which looks for
 * ".<queue>.msg" anywhere in a name and sorts names as text, takes such a file first. Readers move a file away before they
 * read it. Source: kombu/transport/filesystem.py Channel._put, _get, _queue_bind, get_table (5.6).
 */
export interface MessageFile {
  readonly name: string;
  readonly queue: string;
  /** Given back to run next. */
  readonly front: boolean;
  readonly ms: number;
}

/**
 * A new message's file name. `sequence` counts the messages of one writer within one millisecond: it takes the place of the
 * UUID's first digits, so that they are read in the order they were written.
 */
export function messageFileName(queue: string, ms: number, sequence: number, uuid: string): string {
  return `${ms}_${sequence.toString(16).padStart(8, '0')}${uuid.slice(8)}.${fileNamePart(queue, 'queue')}.msg`;
}

/** The name under which a claimed message is read next: before all others, among its like in the order they were written. */
export function frontFileName(name: string): string {
  return name.startsWith(FRONT) ? name : FRONT + name;
}

/** Undefined for a file that holds no message. Stricter than kombu, which takes `x.a.b.msg` for a message of `b` too. */
export function messageFile(name: string): MessageFile | undefined {
  const match = MESSAGE_FILE.exec(name);
  if (match === null) return undefined;
  const [, front, ms, queue] = match;
  return { name, queue: queue as string, front: front !== undefined, ms: ms === undefined ? Infinity : Number(ms) };
}

/** Oldest first. By number, where kombu goes by text and runs new messages first when the clock gains a digit. */
export function byAge(a: MessageFile, b: MessageFile): number {
  if (a.front !== b.front) return a.front ? -1 : 1;
  if (a.ms !== b.ms) return a.ms < b.ms ? -1 : 1;
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}

const FRONT = '0_';
const MESSAGE_FILE = /^(0_(?=\d))?(\d+)?[^.]*\.(.+)\.msg$/s;

export type ExchangeType = 'direct' | 'topic' | 'fanout';

/** One line of an exchange's table; a text that does not apply is empty. */
export type Binding = readonly [routingKey: string, pattern: string, queue: string];

export function exchangeFileName(exchange: string): string {
  return `${fileNamePart(exchange, 'exchange')}.exchange`;
}

/** Throws WireError `undecodable` or `wrong-shape`. */
export function readTable(text: string): readonly Binding[] {
  const table = json.parse(text);
  if (!Array.isArray(table) || !table.every(isBinding)) {
    throw new WireError('celery', 'wrong-shape', 'an exchange table is not a list of [routing_key, pattern, queue]');
  }
  return table;
}

export function writeTable(table: readonly Binding[]): string {
  return json.stringify(table);
}

/** The table with a binding added as kombu adds it, or undefined when it is there already. */
export function withBinding(table: readonly Binding[], binding: Binding): readonly Binding[] | undefined {
  const known = table.some((other) => other.every((part, index) => part === binding[index]));
  return known ? undefined : [binding, ...table];
}

/** What a queue adds to its exchange's table. Source: kombu/transport/virtual/exchange.py prepare_bind (5.6). */
export function bindingOf(queue: string, routingKey: string, type: ExchangeType): Binding {
  return [routingKey, type === 'topic' ? topicPattern(routingKey) : '', queue];
}

/**
 * The queues a message for a named exchange goes to. The table does not say the exchange's type: where it is not known, a
 * line with a pattern is a topic's, one without a direct exchange's, as an undeclared exchange is for kombu.
 */
export function route(
  table: readonly Binding[],
  routingKey: string,
  type: ExchangeType | undefined,
): readonly string[] {
  const queues = new Set<string>();
  for (const [key, pattern, queue] of table) {
    if (queue === '') continue;
    // The pattern only says that it is a topic's: a regular expression from a file is never run.
    const topic = type === 'topic' || (type === undefined && pattern !== '');
    const reached =
      type === 'fanout' || (topic ? topicMatches(key.split('.'), routingKey.split('.')) : key === routingKey);
    if (reached) queues.add(queue);
  }
  return [...queues];
}

/** The type of an exchange that every Celery process knows without declaring it; `celeryev` shows by its patterns. */
export function knownExchangeType(exchange: string): ExchangeType | undefined {
  if (!exchange.endsWith('.pidbox')) return undefined;
  return exchange.startsWith('reply.') ? 'direct' : 'fanout';
}

/**
 * Results in a folder: one file a key, named like the key, holding the encoded meta.
 * Source: celery/backends/filesystem.py, celery/backends/base.py BaseKeyValueStoreBackend (5.6).
 */
export function resultFileName(id: string, prefix = ''): string {
  return resultKey(prefix, fileNamePart(id, 'task id'));
}

export function groupFileName(id: string, prefix = ''): string {
  return groupResultKey(prefix, fileNamePart(id, 'group id'));
}

/** Whether a clean-up may remove this file when it is old: a task's, a group's or a chord counter's. */
export function isResultFile(name: string, prefix = ''): boolean {
  return RESULT_PREFIXES.some((kind) => name.startsWith(prefix + kind));
}

const RESULT_PREFIXES = ['celery-task-meta-', 'celery-taskset-meta-', 'chord-unlock-'] as const;

/**
 * Whether what is stored stays, whatever comes: a SUCCESS does, and the end of a retry that ran before its RETRY came to be written.
 */
export function outlasts(stored: Uint8Array, next: Uint8Array | string): boolean {
  const state = statusOf(textOf(stored));
  if (state === 'SUCCESS') return true;
  if (state !== 'FAILURE' && state !== 'REVOKED') return false;
  return statusOf(typeof next === 'string' ? next : textOf(next)) === 'RETRY';
}

function statusOf(text: string): unknown {
  // The first member in every version: no need to read a large result.
  const state = /^\{"status": ?"(\w+)"/.exec(text)?.[1];
  if (state !== undefined) return state;
  try {
    const stored: unknown = json.parse(text);
    return typeof stored === 'object' && stored !== null && 'status' in stored ? stored.status : undefined;
  } catch {
    return undefined;
  }
}

/** Whether a file that Python writes in place looks complete: it is not empty, and a JSON object has its end. */
export function looksWhole(meta: Uint8Array): boolean {
  if (meta[0] !== OPEN_BRACE) return meta.length > 0;
  return textOf(meta.subarray(-8)).trimEnd().endsWith('}');
}

const OPEN_BRACE = 0x7b;

/** Names come over the wire: one that holds a separator would reach out of the folder. */
function fileNamePart(name: string, what: string): string {
  if (name === '' || /[/\\\0]/.test(name)) {
    throw new WireError('celery', 'bad-name', `the ${what} ${JSON.stringify(name)} cannot be part of a file name`);
  }
  return name;
}

function isBinding(line: unknown): line is Binding {
  return Array.isArray(line) && line.length === 3 && line.every((part) => typeof part === 'string');
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}
