import { randomUUID } from 'node:crypto';
import { decodeEnvelope, encodeEnvelope } from '../../protocols/celery/brokers/envelope.ts';
import {
  type CeleryJob,
  decodeTask,
  encodeTask,
  type Publication,
  type TaskCall,
  type TaskMessage,
  toJob,
} from '../../protocols/celery/message/message.ts';
import { acceptSet, defaultLimits } from '../../protocols/celery/message/serializers.ts';
import { isoText } from '../../protocols/formats/values.ts';
import type { AnyCall } from '../client.ts';
import { ConfigError } from '../errors.ts';
import { type Task, taskName } from '../task.ts';

/** The options of a call: the same as `EnqueueOptions` of `jobglot/celery`. */
export interface CallOptions {
  readonly countdown?: number;
  readonly eta?: Date;
  readonly expires?: number | Date;
  readonly queue?: string;
  readonly exchange?: string;
  readonly routingKey?: string;
  readonly priority?: number;
  readonly headers?: Readonly<Record<string, unknown>>;
  readonly timeLimit?: number;
  readonly softTimeLimit?: number;
  readonly ignoreResult?: boolean;
  readonly serializer?: string;
  readonly compression?: string;
  readonly taskId?: string;
  readonly link?: CallSignature | readonly CallSignature[];
  readonly linkError?: CallSignature | readonly CallSignature[];
  readonly shadow?: string;
  readonly groupId?: string;
  readonly groupIndex?: number;
  readonly rootId?: string;
  readonly parentId?: string;
  readonly replyTo?: string;
  readonly argsrepr?: string;
  readonly kwargsrepr?: string;
  readonly retries?: number;
}

/** A call as data: `{ task: 'proj.add', args: [2] }`. */
export interface CallSignature {
  readonly task: string;
  readonly args?: readonly unknown[];
  readonly kwargs?: Readonly<Record<string, unknown>>;
  readonly options?: Readonly<Record<string, unknown>>;
  readonly subtask_type?: string | null;
  readonly immutable?: boolean;
}

/** How calls are written: the settings of the application that is tested. */
export interface WireOptions {
  /** @default 'json' */
  readonly serializer?: string;
  /** Write dates, Decimals, UUIDs and bytes as kombu >= 5.3 does. @default true */
  readonly typedJson?: boolean;
  /** The queue of calls that name none. @default 'celery' */
  readonly defaultQueue?: string;
}

/** The message the real client would publish. Throws WireError `unencodable` for arguments the wire cannot hold. */
export function publicationOf(
  task: Pick<Task, 'name' | 'names'> | string,
  call: AnyCall<CallOptions>,
  wire: WireOptions,
): Publication {
  const name = taskName(task, 'celery');
  const id = call.taskId ?? randomUUID();
  if (id === '')
    throw new ConfigError(`testing: the taskId of '${name}' is empty; a Python worker would end on it. Leave it out`);
  const { exchange = '' } = call;
  const fields: Mutable<TaskCall> = {
    task: name,
    id,
    args: call.args ?? [],
    kwargs: (call.kwargs ?? {}) as Readonly<Record<string, unknown>>,
    origin: `gen${process.pid}@testing`,
    serializer: call.serializer ?? wire.serializer ?? 'json',
    exchange,
    routingKey:
      exchange === ''
        ? (call.queue ?? call.routingKey ?? wire.defaultQueue ?? 'celery')
        : (call.routingKey ?? call.queue ?? ''),
  };
  const { priority = 0 } = call;
  if (!Number.isInteger(priority) || priority < 0 || priority > 255) {
    throw new ConfigError(`testing: the priority of '${name}' must be a whole number from 0 to 9, not ${priority}`);
  }
  fields.priority = priority;
  if (call.countdown !== undefined || call.eta !== undefined) {
    fields.eta = isoText(call.eta ?? inSeconds('countdown', call.countdown as number));
  }
  if (call.expires !== undefined) {
    fields.expires = isoText(typeof call.expires === 'number' ? inSeconds('expires', call.expires) : call.expires);
  }
  if (call.link !== undefined) fields.callbacks = signatures(call.link);
  if (call.linkError !== undefined) fields.errbacks = signatures(call.linkError);
  if (call.compression !== undefined) fields.compression = call.compression;
  if (call.headers !== undefined) fields.headers = call.headers;
  if (call.timeLimit !== undefined) fields.timeLimit = call.timeLimit;
  if (call.softTimeLimit !== undefined) fields.softTimeLimit = call.softTimeLimit;
  if (call.ignoreResult !== undefined) fields.ignoreResult = call.ignoreResult;
  if (call.shadow !== undefined) fields.shadow = call.shadow;
  if (call.groupId !== undefined) fields.group = call.groupId;
  if (call.groupIndex !== undefined) fields.groupIndex = call.groupIndex;
  if (call.rootId !== undefined) fields.rootId = call.rootId;
  if (call.parentId !== undefined) fields.parentId = call.parentId;
  if (call.replyTo !== undefined) fields.replyTo = call.replyTo;
  if (call.argsrepr !== undefined) fields.argsrepr = call.argsrepr;
  if (call.kwargsrepr !== undefined) fields.kwargsrepr = call.kwargsrepr;
  if (call.retries !== undefined) fields.retries = call.retries;
  return encodeTask(fields, { typed: wire.typedJson ?? true });
}

/** What a worker reads of a publication, after its bytes were an item of a broker. */
export function received(publication: Publication): TaskMessage {
  const envelope = Buffer.from(encodeEnvelope(publication, randomUUID()));
  // Read in the form it was written in: a test's own calls need no accept list.
  return decodeTask(decodeEnvelope(envelope), { accept: acceptSet([publication.contentType]), limits: defaultLimits });
}

/** The job a handler would see. */
export function jobOf(
  message: TaskMessage,
  limits: { readonly timeoutMs?: number | undefined; readonly softTimeoutMs?: number | undefined } = {},
): CeleryJob {
  return toJob(message, message.routingKey, limits);
}

export type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

function signatures(link: CallSignature | readonly CallSignature[]): readonly unknown[] {
  return (Array.isArray(link) ? (link as readonly CallSignature[]) : [link as CallSignature]).map(
    ({ task, args = [], kwargs = {}, options = {}, subtask_type = null, immutable = false }) => ({
      ...{ task, args, kwargs, options, subtask_type, immutable },
    }),
  );
}

function inSeconds(name: string, seconds: number): Date {
  const date = new Date(Date.now() + seconds * 1000);
  if (Number.isNaN(date.getTime()))
    throw new ConfigError(`testing: ${name} must be a number of seconds, not ${seconds}`);
  return date;
}
