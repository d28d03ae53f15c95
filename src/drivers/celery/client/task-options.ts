import type { SignatureLike } from '../canvas/signature-types.ts';

/** Options of Celery's `apply_async`, in camelCase; seconds where Celery has seconds. */
export interface SignatureOptions {
  /** Seconds from now. */
  readonly countdown?: number;
  /** When to run. */
  readonly eta?: Date;
  /** Seconds from now, or the time after which the task is not run any more. */
  readonly expires?: number | Date;
  /** By name; the exchange and the key are then the queue's. @default by `taskRoutes`, else `taskDefaultQueue` */
  readonly queue?: string;
  /** With `routingKey`, in place of a queue. */
  readonly exchange?: string;
  /** @default the queue's name */
  readonly routingKey?: string;
  /** 0 to 9. On Redis 0 is the highest, on RabbitMQ the lowest. */
  readonly priority?: number;
  /** Of your own, beside those of Celery. */
  readonly headers?: Readonly<Record<string, unknown>>;
  /** Seconds. */
  readonly timeLimit?: number;
  /** Seconds. */
  readonly softTimeLimit?: number;
  /** Store no result; wins over what the task says where it runs. @default false */
  readonly ignoreResult?: boolean;
  /** `json`, `msgpack`, `yaml`, `pickle`. @default `taskSerializer` */
  readonly serializer?: string;
  /** `gzip`, `zlib`, `brotli`, `zstd`. @default `taskCompression` */
  readonly compression?: string;
  /** @default a new UUID */
  readonly taskId?: string;
  /** The name that logs and events show. */
  readonly shadow?: string;
  /** The group it is a member of; set by workflows. */
  readonly groupId?: string;
  /** Its place in the group, from 0. */
  readonly groupIndex?: number;
  /** The task that all began with. @default its own id */
  readonly rootId?: string;
  /** The task that sent it. */
  readonly parentId?: string;
  /** Where results over `rpc://` go. @default this client */
  readonly replyTo?: string;
  /** What logs and events show instead of the arguments; for hiding secrets. */
  readonly argsrepr?: string;
  /** As `argsrepr`, of keyword arguments. */
  readonly kwargsrepr?: string;
  /** Which retry this is; the first run is 0. */
  readonly retries?: number;
}

/** The options of `apply_async`, in camelCase. */
export interface EnqueueOptions extends SignatureOptions {
  /** Called with the result: signatures, or dictionaries as `{ task, args, kwargs, options, subtask_type, immutable }`. */
  readonly link?: SignatureLike | readonly SignatureLike[];
  /** Called when it fails, as Celery calls errbacks. */
  readonly linkError?: SignatureLike | readonly SignatureLike[];
}

/** So many seconds from now. */
export function inSeconds(seconds: number): Date {
  return new Date(Date.now() + seconds * 1000);
}
