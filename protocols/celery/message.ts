import type { Job } from '../job.ts';

/**
 * A message as any broker hands it over, in kombu's terms. The body is still serialized (and perhaps compressed), but no longer
 * wrapped in base64. `raw` is the envelope it came in, where the broker has one (Redis, filesystem).
 */
export interface WireMessage {
  readonly body: Uint8Array;
  readonly contentType: string | undefined;
  readonly contentEncoding: string | undefined;
  /** Plain values, as JSON.parse gives them. For moving headers on unchanged, use `exactHeaders`. */
  readonly headers: Readonly<Record<string, unknown>>;
  readonly properties: Readonly<Record<string, unknown>>;
  readonly raw: Uint8Array | undefined;
}

/** A message on its way to a broker. Exchange `''` with the queue's name as routing key is the default route. */
export interface Publication {
  readonly exchange: string;
  readonly routingKey: string;
  readonly body: Uint8Array;
  readonly contentType: string;
  readonly contentEncoding: string;
  /** In the order they are written. */
  readonly headers: ReadonlyMap<string, unknown>;
  /** `correlation_id`, `reply_to`, `delivery_mode`, `priority`, `expiration` ...; the broker adds its own. */
  readonly properties: ReadonlyMap<string, unknown>;
}

/** A signature, a callback, a step of a chain: exact data (maps keep key order, Numeral keeps `1.0`). */
export type ExactMap = ReadonlyMap<string, unknown>;

/** The third element of a body. Signature dictionaries as exact maps; `chain` is reversed: the next step is the last. */
export interface Embed {
  readonly callbacks: readonly ExactMap[];
  readonly errbacks: readonly ExactMap[];
  readonly chain: readonly ExactMap[];
  readonly chord: ExactMap | undefined;
}

/** A task message read and checked. */
export interface TaskMessage {
  readonly wire: WireMessage;
  readonly protocol: 1 | 2;
  readonly id: string;
  readonly task: string;
  /** For logs: the header `shadow`, else the task's name. */
  readonly shownAs: string;
  readonly args: readonly unknown[];
  readonly kwargs: Readonly<Record<string, unknown>>;
  /** Empty lists where the message has none. Read when first asked for. */
  readonly embed: Embed;
  /** True when there is anything in `embed`: ask before reading it. */
  readonly linked: boolean;
  /** `args` and `kwargs` as exact values, for passing them on unchanged. */
  exactArguments(): { readonly args: readonly unknown[]; readonly kwargs: ExactMap };
  readonly retries: number;
  readonly eta: Date | undefined;
  readonly expires: Date | undefined;
  readonly group: string | undefined;
  readonly groupIndex: number | undefined;
  readonly rootId: string;
  readonly parentId: string | undefined;
  /** Milliseconds. */
  readonly hardLimitMs: number | undefined;
  readonly softLimitMs: number | undefined;
  /** The header, when it says true or false; undefined leaves it to the task's own option. */
  readonly ignoreResult: boolean | undefined;
  readonly replyTo: string | undefined;
  readonly priority: number;
  readonly redelivered: boolean;
  readonly exchange: string;
  readonly routingKey: string;
  readonly stampedHeaders: readonly string[];
  readonly stamps: Readonly<Record<string, unknown>>;
}

/** A Celery job, as handlers see it: the common fields, and the request's own. */
export interface CeleryJob<A extends readonly unknown[] = readonly unknown[], K = Readonly<Record<string, unknown>>>
  extends Job<A, K> {
  readonly request: TaskMessage;
}

/**
 * One task to publish, every field of `apply_async` resolved to what goes on the wire.
 * Source: celery/app/amqp.py as_task_v2, celery/app/base.py send_task (5.6).
 */
export interface TaskCall {
  readonly task: string;
  readonly id: string;
  readonly args: readonly unknown[];
  readonly kwargs: Readonly<Record<string, unknown>> | ExactMap;
  readonly callbacks?: readonly unknown[] | null;
  readonly errbacks?: readonly unknown[] | null;
  /** Reversed: the next step is the last. */
  readonly chain?: readonly unknown[] | null;
  readonly chord?: unknown;
  readonly retries?: number;
  readonly eta?: string | null;
  readonly expires?: string | null;
  readonly group?: string | null;
  readonly groupIndex?: number | null;
  readonly rootId?: string | null;
  readonly parentId?: string | null;
  /** Seconds. */
  readonly timeLimit?: number | null;
  readonly softTimeLimit?: number | null;
  readonly shadow?: string | null;
  readonly ignoreResult?: boolean;
  readonly replacedTaskNesting?: number;
  readonly stampedHeaders?: readonly string[] | null;
  readonly stamps?: Readonly<Record<string, unknown>>;
  readonly argsrepr?: string;
  readonly kwargsrepr?: string;
  /** `gen<pid>@<host>`. */
  readonly origin: string;
  /** @default 'js' */
  readonly lang?: string;
  /** Custom headers, merged over the ones above. */
  readonly headers?: ReadonlyMap<string, unknown> | Readonly<Record<string, unknown>>;
  readonly replyTo?: string;
  readonly priority?: number;
  readonly deliveryMode?: 1 | 2;
  /** Milliseconds as text; what RabbitMQ enforces. */
  readonly expiration?: string;
  /** @default 'json' */
  readonly serializer?: string;
  readonly compression?: string | null;
  readonly exchange: string;
  readonly routingKey: string;
}
