import type { ExactMap, TaskCall } from './message.ts';
import type { ResultTuple } from './result.ts';

/** A call that is data. `subtaskType`: null, chain, group, chord, xmap, xstarmap, chunks. */
export interface Signature {
  readonly task: string;
  readonly args: readonly unknown[];
  readonly kwargs: ExactMap;
  readonly options: ExactMap;
  readonly subtaskType: string | null;
  readonly immutable: boolean;
}

/** Where a task goes. The options may hold `queue`, `exchange`, `routing_key`, and then win over any route. */
export type Route = (task: string, options: ExactMap) => { readonly exchange: string; readonly routingKey: string };

/** Who publishes, and when. */
export interface Publisher {
  readonly now: Date;
  readonly mint: () => string;
  /** `gen<pid>@<host>`. */
  readonly origin: string;
  readonly route: Route;
  /** Where rpc replies go. @default '' */
  readonly replyTo?: string;
  /** The running task's root and id, when a task publishes. */
  readonly rootId?: string | null;
  readonly parentId?: string | null;
  /** @default 'json' */
  readonly serializer?: string;
  readonly compression?: string | null;
  /** Options of tasks known here (`queue`, `priority`, `serializer` ...); those of the signature win. */
  readonly defaults?: (task: string) => ExactMap | undefined;
}

/** What a call adds to a signature: arguments in front, keyword arguments and options over. */
export interface Extra {
  readonly args?: readonly unknown[];
  readonly kwargs?: ExactMap;
  readonly options?: ExactMap;
}

/** What applying a signature comes to. */
export interface Application {
  /** In the order they are to be published. */
  readonly calls: readonly TaskCall[];
  /** What a parent records as its child. Undefined for an empty group. */
  readonly child: ResultTuple | undefined;
}

/** Reads a signature dictionary (exact map or plain record); tolerant of what is missing, WireError `bad-signature` for the rest. */
export declare function readSignature(value: unknown): Signature;
export declare function signatureToMap(signature: Signature): ExactMap;
/** Every task to publish now for a signature. Source: celery/canvas.py apply_async of each type, celery/app/base.py send_task (5.6). */
export declare function apply(signature: Signature, extra: Extra, publisher: Publisher): Application;
