import type { SignatureLike } from '../canvas/signature-types.ts';

/** Options of Celery's `apply_async`, in camelCase. Times are in seconds where Celery has seconds. */
export interface SignatureOptions {
  /** Seconds from now. */
  readonly countdown?: number;
  /** When to run. */
  readonly eta?: Date;
  /** Seconds from now, or the time after which the task is no longer run. */
  readonly expires?: number | Date;
  /** The queue's name. The exchange and the key are then those of the queue. @default by `taskRoutes`, else `taskDefaultQueue` */
  readonly queue?: string;
  /** Used with `routingKey`, instead of a queue. */
  readonly exchange?: string;
  /** @default the queue's name */
  readonly routingKey?: string;
  /** 0 to 9. On Redis 0 is the highest, on RabbitMQ the lowest. */
  readonly priority?: number;
  /** Your own headers, beside Celery's. */
  readonly headers?: Readonly<Record<string, unknown>>;
  /** Seconds. */
  readonly timeLimit?: number;
  /** Seconds. */
  readonly softTimeLimit?: number;
  /** Store no result. Wins over the task's own option in the worker. @default false */
  readonly ignoreResult?: boolean;
  /** `json`, `msgpack`, `yaml`, `pickle`. @default `taskSerializer` */
  readonly serializer?: string;
  /** `gzip`, `zlib`, `brotli`, `zstd`. @default `taskCompression` */
  readonly compression?: string;
  /** @default a new UUID */
  readonly taskId?: string;
  /** The name that logs and events show. */
  readonly shadow?: string;
  /** The id of the group that the task is a member of; set by workflows. */
  readonly groupId?: string;
  /** Its place in the group, from 0. */
  readonly groupIndex?: number;
  /** The id of the first task of the workflow. @default its own id */
  readonly rootId?: string;
  /** The id of the task that sent this one. */
  readonly parentId?: string;
  /** The queue that results over `rpc://` are sent to. @default this client's */
  readonly replyTo?: string;
  /** The text that logs and events show instead of the arguments, for hiding secrets. */
  readonly argsrepr?: string;
  /** Like `argsrepr`, for the keyword arguments. */
  readonly kwargsrepr?: string;
  /** The number of this retry; the first run is 0. */
  readonly retries?: number;
}

/** The options of `apply_async`, in camelCase. */
export interface EnqueueOptions extends SignatureOptions {
  /** Callbacks, called with the result: signatures, or dictionaries like `{ task, args, kwargs, options, subtask_type, immutable }`. */
  readonly link?: SignatureLike | readonly SignatureLike[];
  /** Errbacks, called when the task fails, in the way Celery calls them. */
  readonly linkError?: SignatureLike | readonly SignatureLike[];
}

/** The time this many seconds from now. */
export function inSeconds(seconds: number): Date {
  return new Date(Date.now() + seconds * 1000);
}
