import { Buffer } from 'node:buffer';
import { WireError } from '../../errors.ts';
import { isoText, parseIso } from '../../formats/values.ts';
import {
  type ContentLimits,
  contentTypeOf,
  decodeContent,
  defaultLimits,
  encodeContent,
  encodeJson,
} from '../message/serializers.ts';

/**
 * What is stored about a task. The keys always come in this order, those in brackets only where there is something to say:
 *
 *     status result traceback children date_done [group_id] [parent_id]
 *     [name args kwargs worker retries queue [stamped_headers <each stamp>]] task_id
 *
 * Source: celery/backends/base.py _get_result_meta, celery/states.py, celery/result.py (5.6).
 */

/** States that end a task. */
export const READY_STATES: ReadonlySet<string> = new Set(['SUCCESS', 'FAILURE', 'REVOKED']);
/** States whose result is an exception, or null. */
export const EXCEPTION_STATES: ReadonlySet<string> = new Set(['RETRY', 'FAILURE', 'REVOKED']);
/** States that a waiting client raises. */
export const PROPAGATE_STATES: ReadonlySet<string> = new Set(['FAILURE', 'REVOKED']);

/** `[[id, parent], null]` for a task, `[[id, parent], [children]]` for a group. */
export type ResultTuple = readonly [
  self: readonly [id: string, parent: ResultTuple | null],
  children: readonly ResultTuple[] | null,
];

/** The fields that `result_extended` adds, in their order; stamps become members of their own. */
export interface ExtendedMeta {
  readonly name: string;
  /** Exact values where they came from a message. */
  readonly args: unknown;
  readonly kwargs: unknown;
  readonly worker: string | null;
  readonly retries: number;
  readonly queue: string | null;
  readonly stampedHeaders?: readonly string[];
  readonly stamps?: Readonly<Record<string, unknown>>;
}

/** A task's meta to be written. */
export interface ResultMeta {
  readonly status: string;
  /** The value; for exception states the map of `exceptionResult`, or null. */
  readonly result: unknown;
  readonly traceback: string | null;
  /** Null only where nobody knows the request: a revoke by remote control. */
  readonly children: readonly ResultTuple[] | null;
  /** `isoText(now)` in ready states, else null. */
  readonly dateDone: string | null;
  readonly groupId?: string | undefined;
  readonly parentId?: string | undefined;
  readonly extended?: ExtendedMeta | undefined;
  readonly taskId: string;
}

/** A task's meta as read: any field may be missing in what other versions wrote. */
export interface TaskMeta {
  readonly status: string;
  readonly result: unknown;
  readonly traceback: string | undefined;
  readonly children: readonly ResultTuple[];
  readonly dateDone: Date | undefined;
  readonly groupId: string | undefined;
  readonly parentId: string | undefined;
  readonly taskId: string | undefined;
  readonly name: string | undefined;
  readonly args: unknown;
  readonly kwargs: unknown;
  readonly worker: string | undefined;
  readonly retries: number | undefined;
  readonly queue: string | undefined;
}

/** How a result is written. */
export interface MetaFormat {
  /** @default 'json' */
  readonly serializer?: string;
  /** Write dates, decimals and so on as kombu's typed JSON. @default true */
  readonly typed?: boolean;
}

/** The stored text; bytes for serializers other than JSON. Throws WireError `unencodable`. */
export function encodeMeta(meta: ResultMeta, format: MetaFormat = {}): string | Uint8Array {
  const fields = new Map<string, unknown>([
    ['status', meta.status],
    ['result', meta.result ?? null],
    ['traceback', meta.traceback],
    ['children', meta.children],
    ['date_done', meta.dateDone],
  ]);
  if (meta.groupId !== undefined) fields.set('group_id', meta.groupId);
  if (meta.parentId !== undefined) fields.set('parent_id', meta.parentId);
  if (meta.extended !== undefined) {
    const { name, args, kwargs, worker, retries, queue, stampedHeaders, stamps } = meta.extended;
    fields.set('name', name).set('args', args).set('kwargs', kwargs).set('worker', worker);
    fields.set('retries', retries).set('queue', queue);
    if (stamps !== undefined && Object.keys(stamps).length > 0) {
      fields.set('stamped_headers', stampedHeaders ?? []);
      for (const [stamp, value] of Object.entries(stamps)) fields.set(stamp, value);
    }
  }
  fields.set('task_id', meta.taskId);
  const { serializer = 'json', typed = true } = format;
  return serializer === 'json' ? encodeJson(fields, typed) : encodeContent(serializer, fields, { typed }).body;
}

/**
 * The SUCCESS meta of a task that has published nothing: what most tasks end in, so it is put together from strings. JSON only.
 * Throws WireError `unencodable`.
 */
export function encodeSuccess(
  taskId: string,
  value: unknown,
  now: Date,
  groupId: string | undefined,
  parentId: string | undefined,
  typed = true,
): string {
  const group = groupId === undefined ? '' : `, "group_id": ${idText(groupId)}`;
  const parent = parentId === undefined ? '' : `, "parent_id": ${idText(parentId)}`;
  const result = value === undefined || value === null ? 'null' : encodeJson(value, typed);
  return `{"status": "SUCCESS", "result": ${result}, "traceback": null, "children": [], "date_done": "${doneText(now)}"${group}${parent}, "task_id": ${idText(taskId)}}`;
}

let knownSecond = Number.NaN;
let knownText = '';

/** `isoText`, remembering the last second: formatting a date costs more than all the rest of a meta. */
function doneText(now: Date): string {
  const time = now.getTime();
  const second = Math.floor(time / 1000);
  if (second !== knownSecond) {
    knownText = isoText(new Date(second * 1000)).slice(0, -'+00:00'.length);
    knownSecond = second;
  }
  const millis = time - second * 1000;
  return millis === 0 ? `${knownText}+00:00` : `${knownText}.${String(millis).padStart(3, '0')}000+00:00`;
}

// Nothing in here is ever escaped in JSON. Every id that Celery mints is of this form; any text is allowed.
const PLAIN_ID = /^[\w.:@/-]+$/;

function idText(id: string): string {
  return PLAIN_ID.test(id) ? `"${id}"` : encodeJson(id, false);
}

/** Reads a stored meta, of this or an older version. Throws WireError for bytes that are none. */
export function decodeMeta(
  bytes: Uint8Array | string,
  serializer = 'json',
  limits: ContentLimits = defaultLimits,
): TaskMeta {
  const fields = decodeFields(bytes, serializer, limits);
  const { status } = fields;
  if (typeof status !== 'string') throw new WireError('celery', 'bad-meta', 'the stored result has no status');
  const children = fields['children'];
  return {
    status,
    result: fields['result'] ?? null,
    traceback: textOf(fields['traceback']),
    children: Array.isArray(children) ? children.map(readTuple).filter((child) => child !== undefined) : [],
    dateDone: dateOf(fields['date_done']),
    groupId: textOf(fields['group_id']),
    parentId: textOf(fields['parent_id']),
    taskId: textOf(fields['task_id']),
    name: textOf(fields['name']),
    args: fields['args'],
    kwargs: fields['kwargs'],
    worker: textOf(fields['worker']),
    retries: typeof fields['retries'] === 'number' ? fields['retries'] : undefined,
    queue: textOf(fields['queue']),
  };
}

/** A task's result as a child or parent: `[[id, parent], null]`. Source: celery/result.py AsyncResult.as_tuple. */
export function resultTuple(id: string, parent: ResultTuple | null = null): ResultTuple {
  return [[id, parent], null];
}

/** A group's: `[[id, parent], [children]]`. Source: celery/result.py GroupResult.as_tuple. */
export function groupTuple(
  id: string,
  children: readonly ResultTuple[],
  parent: ResultTuple | null = null,
): ResultTuple {
  return [[id, parent], children];
}

/** A tuple out of decoded data, or undefined when it has another shape. Source: celery/result.py result_from_tuple. */
export function readTuple(value: unknown): ResultTuple | undefined {
  if (!Array.isArray(value)) return undefined;
  const [self, nodes] = value as readonly unknown[];
  const [id, parent] = Array.isArray(self) ? (self as readonly unknown[]) : [self, null];
  if (typeof id !== 'string') return undefined;
  const above = parent === null || parent === undefined ? null : (readTuple(parent) ?? null);
  if (!Array.isArray(nodes)) return [[id, above], null];
  return [[id, above], nodes.map(readTuple).filter((node) => node !== undefined)];
}

/** What is stored for a saved group: `{"result": [[id, parent], [children]]}`. */
export function groupMeta(group: ResultTuple): string {
  return encodeJson({ result: group }, false);
}

/** The group in what `groupMeta` wrote. Throws WireError. */
export function decodeGroupMeta(bytes: Uint8Array | string): ResultTuple {
  const group = readTuple(decodeFields(bytes, 'json', defaultLimits)['result']);
  if (group === undefined) throw new WireError('celery', 'bad-meta', 'the stored group has another shape');
  return group;
}

function decodeFields(
  bytes: Uint8Array | string,
  serializer: string,
  limits: ContentLimits,
): Readonly<Record<string, unknown>> {
  const body = typeof bytes === 'string' ? Buffer.from(bytes) : bytes;
  const contentType = contentTypeOf(serializer);
  const fields = decodeContent(
    { body, contentType, contentEncoding: undefined, compression: undefined },
    { accept: new Set([contentType]), limits },
  );
  if (typeof fields !== 'object' || fields === null || Array.isArray(fields)) {
    throw new WireError('celery', 'bad-meta', 'the stored result is not an object');
  }
  return fields as Readonly<Record<string, unknown>>;
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

/** Naive up to Celery 5.3, with an offset since; a typed datetime where somebody stored one. Naive is UTC. */
function dateOf(value: unknown): Date | undefined {
  const date = value instanceof Date ? value : typeof value === 'string' ? new Date(parseIso(value)) : undefined;
  return date === undefined || Number.isNaN(date.getTime()) ? undefined : date;
}
