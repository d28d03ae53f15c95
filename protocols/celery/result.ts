/** What is stored about a task. Source: celery/backends/base.py _get_result_meta, celery/states.py, celery/result.py (5.6). */

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

export interface MetaFormat {
  /** @default 'json' */
  readonly serializer?: string;
  /** Write dates, decimals and so on as kombu's typed JSON. @default true */
  readonly typed?: boolean;
}

/** The stored text (bytes for msgpack). Throws WireError `unencodable`. */
export declare function encodeMeta(meta: ResultMeta, format?: MetaFormat): string | Uint8Array;
/** The SUCCESS meta of a task without children: the hot path, JSON only. */
export declare function encodeSuccess(
  taskId: string,
  value: unknown,
  now: Date,
  groupId: string | undefined,
  parentId: string | undefined,
  typed?: boolean,
): string;
/** Throws WireError for bytes that are no task meta. */
export declare function decodeMeta(bytes: Uint8Array | string, serializer?: string): TaskMeta;
/** A task's result as a child or parent: `[[id, parent], null]`. */
export declare function resultTuple(id: string, parent?: ResultTuple | null): ResultTuple;
/** A group's: `[[id, parent], [children]]`. */
export declare function groupTuple(
  id: string,
  children: readonly ResultTuple[],
  parent?: ResultTuple | null,
): ResultTuple;
/** A tuple out of decoded data, or undefined when it has another shape. */
export declare function readTuple(value: unknown): ResultTuple | undefined;
/** What is stored for a saved group: `{"result": [[id, parent], [children]]}`. */
export declare function groupMeta(group: ResultTuple): string;
/** The group in what `groupMeta` wrote. Throws WireError. */
export declare function decodeGroupMeta(bytes: Uint8Array | string): ResultTuple;
