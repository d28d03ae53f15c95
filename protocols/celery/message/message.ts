import { Buffer } from 'node:buffer';
import { WireError } from '../../errors.ts';
import { decodeTableExact } from '../../formats/amqp-table.ts';
import * as json from '../../formats/json.ts';
import { parseIso } from '../../formats/values.ts';
import type { Job } from '../../job.ts';
import { reprArgs, reprKwargs } from './repr.ts';
import { compress, decodeContent, type DecodeOptions, encodeContent, encodeJson, isPickle } from './serializers.ts';

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
  /** The headers as an encoded field table, where the message came over AMQP. */
  readonly headerTable?: Uint8Array;
}

/** A message on its way to a broker. Exchange `''` with the queue's name as routing key is the default route. */
export interface Publication {
  readonly exchange: string;
  readonly routingKey: string;
  /** Where `routingKey` names a queue: the key to send with to its exchange, if that is not a direct one. @default the queue's own */
  readonly queueKey?: string | undefined;
  /** It goes to the queue that `routingKey` names and past that queue's exchange, which might copy it to other queues. */
  readonly pastExchange?: true;
  readonly body: Uint8Array;
  readonly contentType: string;
  readonly contentEncoding: string;
  /** In the order they are written. */
  readonly headers: ReadonlyMap<string, unknown>;
  /** `correlation_id`, `reply_to`, `delivery_mode`, `priority`, `expiration` ...; the broker adds its own. */
  readonly properties: ReadonlyMap<string, unknown>;
  /** The property, as it is on the wire. */
  readonly priority: unknown;
  /** `headers`, and `properties` without its braces and with a comma after each member, as JSON, where they were made as text. */
  readonly text?: { readonly headers: string; readonly properties: string };
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
export interface CeleryJob<
  A extends readonly unknown[] = readonly unknown[],
  K = Readonly<Record<string, unknown>>,
> extends Job<A, K> {
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
  readonly queueKey?: string | undefined;
}

/**
 * Reads a task message of protocol 2 or 1 (or the hybrid: protocol 2 headers over a protocol 1 body).
 * Throws WireError: `content-disallowed`, `unknown-compression`, `too-large`, `too-deep`, `undecodable`, `wrong-shape`,
 * `missing-id`, `missing-task`, `bad-eta`. `queue`, where it was found, is its routing key if it names none. Source: celery/worker/strategy.py, celery/worker/request.py (5.6).
 */
export function decodeTask(wire: WireMessage, options: DecodeOptions, queue = ''): TaskMessage {
  const payload = decodeContent(contentOf(wire), options);
  if (wire.headers['task'] === undefined) {
    if (!isRecord(payload) || payload['task'] === undefined) {
      throw new WireError(
        'celery',
        'missing-task',
        'neither the headers nor the body name a task; this is not a task message',
      );
    }
    return new DecodedTask(
      wire,
      1,
      payload,
      payload['args'] ?? [],
      payload['kwargs'] ?? {},
      protocol1Embed(payload),
      options,
      queue,
    );
  }
  if (isRecord(payload) && Object.hasOwn(payload, 'args')) {
    return new DecodedTask(
      wire,
      1,
      { ...payload, ...wire.headers },
      payload['args'] ?? [],
      payload['kwargs'] ?? {},
      protocol1Embed(payload),
      options,
      queue,
    );
  }
  if (!Array.isArray(payload) || payload.length !== 3) {
    throw wrongShape(
      `the body is not the array [args, kwargs, embed]${Array.isArray(payload) ? ` but has ${payload.length} elements` : ''}`,
    );
  }
  return new DecodedTask(wire, 2, wire.headers, payload[0] ?? [], payload[1] ?? {}, payload[2], options, queue);
}

/** The task's name and id as far as the headers tell, for reports about messages that cannot be read. */
export function peek(wire: WireMessage | undefined): {
  readonly task: string | undefined;
  readonly id: string | undefined;
} {
  return {
    task: textOf(wire?.headers['task']),
    id: textOf(wire?.headers['id']) ?? textOf(wire?.properties['correlation_id']),
  };
}

class DecodedTask implements TaskMessage {
  readonly wire: WireMessage;
  readonly protocol: 1 | 2;
  readonly id: string;
  readonly task: string;
  readonly args: readonly unknown[];
  readonly kwargs: Readonly<Record<string, unknown>>;
  readonly linked: boolean;
  readonly retries: number;
  readonly eta: Date | undefined;
  readonly expires: Date | undefined;
  readonly hardLimitMs: number | undefined;
  readonly softLimitMs: number | undefined;
  readonly #fields: Readonly<Record<string, unknown>>;
  readonly #options: DecodeOptions;
  readonly #queue: string;
  #embed: Embed | undefined;

  constructor(
    wire: WireMessage,
    protocol: 1 | 2,
    fields: Readonly<Record<string, unknown>>,
    args: unknown,
    kwargs: unknown,
    embed: unknown,
    options: DecodeOptions,
    queue: string,
  ) {
    const { task, id, timelimit } = fields;
    if (typeof task !== 'string' || task === '')
      throw new WireError('celery', 'missing-task', 'the task name is not a text');
    if (typeof id !== 'string' || id === '') {
      throw new WireError(
        'celery',
        'missing-id',
        `the message for '${task}' has no id; a Python worker would end on it`,
      );
    }
    if (!Array.isArray(args)) throw wrongShape(`the arguments of '${task}' are not a list`);
    if (!isRecord(kwargs)) throw wrongShape(`the keyword arguments of '${task}' are not an object`);
    this.wire = wire;
    this.protocol = protocol;
    this.#fields = fields;
    this.#options = options;
    this.#queue = queue;
    this.id = id;
    this.task = task;
    this.args = args;
    this.kwargs = kwargs;
    this.linked = hasLinks(embed);
    const { retries, eta, expires } = fields;
    this.retries = typeof retries === 'number' && retries > 0 ? Math.floor(retries) : 0;
    this.eta = eta === undefined || eta === null ? undefined : instant(eta, 'eta', task);
    this.expires = expires === undefined || expires === null ? undefined : instant(expires, 'expires', task);
    // The code's order, hard first; the protocol document has it the other way round.
    const limits = Array.isArray(timelimit) ? (timelimit as readonly unknown[]) : NO_LIMITS;
    this.hardLimitMs = seconds(limits[0]);
    this.softLimitMs = seconds(limits[1]);
  }

  get shownAs(): string {
    const { shadow } = this.#fields;
    return typeof shadow === 'string' && shadow !== '' ? shadow : this.task;
  }
  get group(): string | undefined {
    return textOf(this.#fields['taskset']) ?? textOf(this.#fields['group']);
  }
  get groupIndex(): number | undefined {
    const index = this.#fields['group_index'];
    return typeof index === 'number' ? index : undefined;
  }
  get rootId(): string {
    return textOf(this.#fields['root_id']) ?? this.id;
  }
  get parentId(): string | undefined {
    return textOf(this.#fields['parent_id']);
  }
  get ignoreResult(): boolean | undefined {
    const ignore = this.#fields['ignore_result'];
    return typeof ignore === 'boolean' ? ignore : undefined;
  }
  get replyTo(): string | undefined {
    return textOf(this.wire.properties['reply_to']);
  }
  get priority(): number {
    return priorityOf(this.wire.properties['priority']);
  }
  get redelivered(): boolean {
    return this.#deliveryInfo()['redelivered'] === true || this.wire.headers['redelivered'] === true;
  }
  get exchange(): string {
    return textOf(this.#deliveryInfo()['exchange']) ?? '';
  }
  get routingKey(): string {
    return textOf(this.#deliveryInfo()['routing_key']) ?? (this.exchange === '' ? this.#queue : '');
  }
  get stampedHeaders(): readonly string[] {
    const names = this.#fields['stamped_headers'];
    return Array.isArray(names) ? names.filter((name) => typeof name === 'string') : [];
  }
  get stamps(): Readonly<Record<string, unknown>> {
    const stamps = this.#fields['stamps'];
    return isRecord(stamps) ? stamps : {};
  }
  get embed(): Embed {
    return (this.#embed ??= this.linked ? readEmbed(this.#exactBody(), this.protocol) : NO_LINKS);
  }

  exactArguments(): { readonly args: readonly unknown[]; readonly kwargs: ExactMap } {
    const body = this.#exactBody();
    const [args, kwargs] = Array.isArray(body)
      ? (body as unknown[])
      : [exactMember(body, 'args'), exactMember(body, 'kwargs')];
    return {
      args: Array.isArray(args) ? args : [],
      kwargs: kwargs instanceof Map ? kwargs : new Map<string, unknown>(),
    };
  }

  #exactBody(): unknown {
    return decodeContent(contentOf(this.wire), { ...this.#options, exact: true });
  }
  #deliveryInfo(): Readonly<Record<string, unknown>> {
    const info = this.wire.properties['delivery_info'];
    return isRecord(info) ? info : {};
  }
}

/** The job a handler sees. Limits of the task's own options are filled in by the driver. */
export function toJob(
  request: TaskMessage,
  queue: string,
  limits: { readonly timeoutMs?: number | undefined; readonly softTimeoutMs?: number | undefined } = {},
): CeleryJob {
  const timeoutMs = request.hardLimitMs ?? limits.timeoutMs;
  const softTimeoutMs = request.softLimitMs ?? limits.softTimeoutMs;
  const headers = foreignHeaders(request.wire.headers);
  return {
    id: request.id,
    task: request.task,
    args: request.args,
    kwargs: request.kwargs,
    queue,
    attempt: request.retries + 1,
    request,
    ...(request.expires === undefined ? undefined : { expiresAt: request.expires }),
    ...(timeoutMs === undefined ? undefined : { timeoutMs }),
    ...(softTimeoutMs === undefined ? undefined : { softTimeoutMs }),
    ...(headers === undefined ? undefined : { headers }),
  };
}

/** What Celery and the brokers write themselves; every other header is the sender's. Source: celery/app/amqp.py as_task_v2, celery/beat.py (5.6). */
const OWN_HEADERS: ReadonlySet<string> = new Set(
  (
    'lang task id shadow eta expires group group_index retries timelimit root_id parent_id argsrepr kwargsrepr origin ignore_result ' +
    'replaced_task_nesting stamped_headers stamps compression periodic_task_name celery_beat_task'
  ).split(' '),
);

/** The headers that the sender added. Undefined where there are none, which is most often so. */
function foreignHeaders(all: WireMessage['headers']): Record<string, unknown> | undefined {
  let headers: Record<string, unknown> | undefined;
  for (const name of Object.keys(all)) {
    if (OWN_HEADERS.has(name) || DELIVERY_HEADERS.test(name)) continue;
    // A header may be named `__proto__`.
    headers ??= Object.create(null) as Record<string, unknown>;
    headers[name] = all[name];
  }
  return headers;
}

/** Headers as they came: key order, big integers and `1.0` kept; over AMQP every field that is no text, null or boolean, byte for byte. */
export function exactHeaders(wire: WireMessage): Map<string, unknown> {
  if (wire.headerTable !== undefined) return decodeTableExact(wire.headerTable);
  if (wire.raw !== undefined) {
    const headers = exactMember(json.parseExact(Buffer.from(wire.raw).toString('utf8')), 'headers');
    if (headers instanceof Map) return headers as Map<string, unknown>;
  }
  return new Map(Object.entries(wire.headers));
}

/**
 * The message of a new task, protocol 2, every header the original writes, in its order.
 * Throws WireError `unencodable` for arguments the serializer cannot hold.
 * Source: celery/app/amqp.py as_task_v2; kombu/messaging.py Producer._prepare (5.6).
 */
export function encodeTask(call: TaskCall, options: { readonly typed?: boolean } = {}): Publication {
  const serializer = call.serializer ?? 'json';
  const embed = {
    callbacks: call.callbacks ?? null,
    errbacks: call.errbacks ?? null,
    chain: call.chain ?? null,
    chord: call.chord ?? null,
  };
  const typed = options.typed ?? true;
  const content =
    serializer === 'json'
      ? {
          body: Buffer.from(
            `[${encodeJson(call.args, typed)}, ${encodeJson(call.kwargs, typed)}, ${isUnlinked(embed) ? UNLINKED : encodeJson(embed, typed)}]`,
          ),
          contentType: 'application/json',
          contentEncoding: 'utf-8',
        }
      : encodeContent(serializer, [call.args, call.kwargs, embed], { typed });
  if (call.compression) {
    const { body, header } = compress(call.compression, content.body);
    return new EncodedTask(call, { ...content, body }, header);
  }
  return new EncodedTask(call, content, undefined);
}

/** A new task on its way. Its headers are text for brokers that want text, a map for those that want a table; never both. */
class EncodedTask implements Publication {
  readonly body: Uint8Array;
  readonly contentType: string;
  readonly contentEncoding: string;
  readonly exchange: string;
  readonly routingKey: string;
  readonly queueKey: string | undefined;
  readonly priority: number;
  readonly #call: TaskCall;
  readonly #compression: string | undefined;

  constructor(
    call: TaskCall,
    content: { readonly body: Uint8Array; readonly contentType: string; readonly contentEncoding: string },
    compression: string | undefined,
  ) {
    this.body = content.body;
    this.contentType = content.contentType;
    this.contentEncoding = content.contentEncoding;
    this.exchange = call.exchange;
    this.routingKey = call.routingKey;
    this.queueKey = call.queueKey;
    this.priority = call.priority ?? 0;
    this.#call = call;
    this.#compression = compression;
  }

  get headers(): ReadonlyMap<string, unknown> {
    const call = this.#call;
    const headers = new Map<string, unknown>([
      ['lang', call.lang ?? 'js'],
      ['task', call.task],
      ['id', call.id],
      ['shadow', call.shadow ?? null],
      ['eta', call.eta ?? null],
      ['expires', call.expires ?? null],
      ['group', call.group ?? null],
      ['group_index', call.groupIndex ?? null],
      ['retries', call.retries ?? 0],
      ['timelimit', [call.timeLimit ?? null, call.softTimeLimit ?? null]],
      ['root_id', call.rootId ?? call.id],
      ['parent_id', call.parentId ?? null],
      ['argsrepr', call.argsrepr ?? reprArgs(call.args)],
      ['kwargsrepr', call.kwargsrepr ?? reprKwargs(call.kwargs)],
      ['origin', call.origin],
      ['ignore_result', call.ignoreResult ?? false],
      ['replaced_task_nesting', call.replacedTaskNesting ?? 0],
      ['stamped_headers', call.stampedHeaders ?? null],
      ['stamps', call.stamps ?? {}],
    ]);
    if (call.headers !== undefined) {
      for (const [name, value] of call.headers instanceof Map ? call.headers : Object.entries(call.headers))
        headers.set(name as string, value);
    }
    if (this.#compression !== undefined) headers.set('compression', this.#compression);
    return headers;
  }

  get properties(): ReadonlyMap<string, unknown> {
    const call = this.#call;
    const properties = new Map<string, unknown>([
      ['correlation_id', call.id],
      ['reply_to', call.replyTo ?? ''],
      ['delivery_mode', call.deliveryMode ?? 2],
      ['priority', this.priority],
    ]);
    if (call.expiration !== undefined) properties.set('expiration', call.expiration);
    return properties;
  }

  /** The same as the two above, ten times cheaper: most calls set a handful of fields, and maps of twenty members are large. */
  get text(): { readonly headers: string; readonly properties: string } {
    const call = this.#call;
    if (call.headers !== undefined)
      return { headers: json.stringify(this.headers), properties: this.#propertiesText() };
    const id = json.stringify(call.id);
    const text = (value: string | null | undefined): string =>
      value === undefined || value === null ? 'null' : json.stringify(value);
    return {
      headers:
        `{"lang": ${text(call.lang ?? 'js')}, "task": ${text(call.task)}, "id": ${id}, "shadow": ${text(call.shadow)}, "eta": ${text(call.eta)}, ` +
        `"expires": ${text(call.expires)}, "group": ${text(call.group)}, "group_index": ${number(call.groupIndex)}, "retries": ${number(call.retries ?? 0)}, ` +
        `"timelimit": [${number(call.timeLimit)}, ${number(call.softTimeLimit)}], "root_id": ${text(call.rootId ?? call.id)}, ` +
        `"parent_id": ${text(call.parentId)}, "argsrepr": ${text(call.argsrepr ?? reprArgs(call.args))}, ` +
        `"kwargsrepr": ${text(call.kwargsrepr ?? reprKwargs(call.kwargs))}, "origin": ${text(call.origin)}, ` +
        `"ignore_result": ${call.ignoreResult ?? false}, "replaced_task_nesting": ${number(call.replacedTaskNesting ?? 0)}, ` +
        `"stamped_headers": ${json.stringify(call.stampedHeaders ?? null)}, "stamps": ${call.stamps === undefined ? '{}' : json.stringify(call.stamps)}` +
        `${this.#compression === undefined ? '' : `, "compression": ${text(this.#compression)}`}}`,
      properties: this.#propertiesText(),
    };
  }

  #propertiesText(): string {
    const { id, replyTo, deliveryMode, expiration } = this.#call;
    const lead = `"correlation_id": ${json.stringify(id)}, "reply_to": ${json.stringify(replyTo ?? '')}, "delivery_mode": ${deliveryMode ?? 2}, `;
    return expiration === undefined ? lead : `${lead}"expiration": ${json.stringify(expiration)}, `;
  }
}

function number(value: number | null | undefined): string {
  return value === undefined || value === null ? 'null' : json.stringify(value);
}

/**
 * The same task once more: same id, same body bytes, every header and property kept, known or not. Only what a retry changes
 * is changed: `retries`, `eta`, what is left of the time until it expires, and the parent, which becomes the task itself where there was none.
 * Source: celery/app/task.py Task.retry, signature_from_request (5.6).
 */
export function retryOf(
  message: TaskMessage,
  change: { readonly retries: number; readonly eta: string | null; readonly origin: string; readonly now: Date },
): Publication {
  const { exchange, routingKey, wire } = message;
  if (message.protocol === 1) return encodeTask(protocol1Call(message, change));
  const headers = exactHeaders(wire);
  withoutDeliveryHeaders(headers);
  headers.set('retries', change.retries);
  headers.set('eta', change.eta);
  if (headers.get('parent_id') === null || headers.get('parent_id') === undefined) headers.set('parent_id', message.id);
  const properties = new Map<string, unknown>();
  for (const [name, value] of Object.entries(wire.properties)) {
    if (!OF_ONE_DELIVERY.has(name)) properties.set(name, value);
  }
  const leftMs = message.expires === undefined ? 0 : message.expires.getTime() - change.now.getTime();
  // What has expired is for the worker to say; RabbitMQ would drop it without a word.
  if (leftMs > 0) properties.set('expiration', String(Math.trunc(leftMs)));
  return {
    body: wire.body,
    contentType: wire.contentType ?? 'application/data',
    contentEncoding: wire.contentEncoding ?? 'binary',
    exchange,
    routingKey,
    headers,
    properties,
    priority: wire.properties['priority'] ?? 0,
  };
}

/**
 * The same message in `queue`, to run at `eta` (ISO 8601): every other header, the body and the properties stay as they are, no retry is counted.
 * A message of protocol 1 has its ETA beside its arguments and becomes one of protocol 2.
 */
export function postponedOf(
  message: TaskMessage,
  change: { readonly queue: string; readonly eta: string; readonly origin: string; readonly now: Date },
): Publication {
  const { queue, eta } = change;
  const target = { exchange: '', routingKey: queue, pastExchange: true } as const;
  const again = retryOf(message, { ...change, retries: message.retries });
  if (message.protocol === 1) return { ...again, ...target };
  const headers = exactHeaders(message.wire);
  withoutDeliveryHeaders(headers);
  headers.set('eta', eta);
  return { ...again, headers, ...target };
}

/** The same message in another queue: headers and body as they were. */
export function forwardedTo(queue: string, wire: WireMessage): Publication {
  const headers = exactHeaders(wire);
  withoutDeliveryHeaders(headers);
  return {
    body: wire.body,
    contentType: wire.contentType ?? 'application/data',
    contentEncoding: wire.contentEncoding ?? 'binary',
    exchange: '',
    routingKey: queue,
    headers,
    properties: new Map(Object.entries(wire.properties)),
    priority: wire.properties['priority'] ?? 0,
  };
}

/** Takes out the marks that brokers put on one delivery. Whether there were any. */
export function withoutDeliveryHeaders(headers: Map<string, unknown>): boolean {
  let found = false;
  for (const name of [...headers.keys()]) if (DELIVERY_HEADERS.test(name)) found = headers.delete(name);
  return found;
}

/** RabbitMQ counts `expiration` anew from each publication. */
const OF_ONE_DELIVERY: ReadonlySet<string> = new Set(['delivery_info', 'delivery_tag', 'body_encoding', 'expiration']);

/** Marks that brokers put on one delivery; they do not belong to the next. Source: celery/app/task.py X_DEATH_HEADERS. */
const DELIVERY_HEADERS = /^(?:redelivered|x-death|x-first-death-.*|x-last-death-.*|x-delivery-count|x-acquired-count)$/;

function protocol1Call(
  message: TaskMessage,
  change: { readonly retries: number; readonly eta: string | null; readonly origin: string },
): TaskCall {
  const { args, kwargs } = message.exactArguments();
  return {
    task: message.task,
    id: message.id,
    args,
    kwargs,
    callbacks: orNull(message.embed.callbacks),
    errbacks: orNull(message.embed.errbacks),
    chord: message.embed.chord ?? null,
    retries: change.retries,
    eta: change.eta,
    expires: message.expires === undefined ? null : message.expires.toISOString().replace('Z', '000+00:00'),
    group: message.group ?? null,
    groupIndex: message.groupIndex ?? null,
    rootId: message.rootId,
    parentId: message.parentId ?? message.id,
    timeLimit: message.hardLimitMs === undefined ? null : message.hardLimitMs / 1000,
    softTimeLimit: message.softLimitMs === undefined ? null : message.softLimitMs / 1000,
    origin: change.origin,
    replyTo: message.replyTo ?? '',
    priority: message.priority,
    exchange: message.exchange,
    routingKey: message.routingKey,
    // Its arguments may have no form in JSON.
    ...(isPickle(message.wire.contentType) ? { serializer: 'pickle' } : {}),
  };
}

/** A priority as kombu reads it: 0 to 9, anything unreadable 0. */
export function priorityOf(value: unknown): number {
  const number =
    typeof value === 'string' ? Number.parseInt(value, 10) : typeof value === 'number' ? Math.trunc(value) : 0;
  return Number.isNaN(number) ? 0 : Math.min(9, Math.max(0, number));
}

const UNLINKED = '{"callbacks": null, "errbacks": null, "chain": null, "chord": null}';
const NO_LINKS: Embed = { callbacks: [], errbacks: [], chain: [], chord: undefined };
const NO_LIMITS: readonly unknown[] = [];

function isUnlinked(embed: { callbacks: unknown; errbacks: unknown; chain: unknown; chord: unknown }): boolean {
  return embed.callbacks === null && embed.errbacks === null && embed.chain === null && embed.chord === null;
}

function hasLinks(embed: unknown): boolean {
  if (!isRecord(embed)) return false;
  const { callbacks, errbacks, chain, chord } = embed;
  return isFilled(callbacks) || isFilled(errbacks) || isFilled(chain) || (chord !== null && chord !== undefined);
}

function isFilled(list: unknown): boolean {
  return Array.isArray(list) && list.length > 0;
}

function protocol1Embed(payload: Readonly<Record<string, unknown>>): unknown {
  const { callbacks, errbacks, chord } = payload;
  return { callbacks, errbacks, chain: null, chord };
}

function readEmbed(body: unknown, protocol: 1 | 2): Embed {
  const embed = protocol === 2 && Array.isArray(body) ? (body[2] as unknown) : body;
  const list = (name: string): readonly ExactMap[] => {
    const items = exactMember(embed, name);
    return Array.isArray(items) ? items.filter((item): item is ExactMap => item instanceof Map) : [];
  };
  const chord = exactMember(embed, 'chord');
  return {
    callbacks: list('callbacks'),
    errbacks: list('errbacks'),
    chain: protocol === 2 ? list('chain') : [],
    chord: chord instanceof Map ? (chord as ExactMap) : undefined,
  };
}

function exactMember(value: unknown, name: string): unknown {
  return value instanceof Map ? (value as ExactMap).get(name) : undefined;
}

function contentOf(wire: WireMessage): {
  body: Uint8Array;
  contentType: string | undefined;
  contentEncoding: string | undefined;
  compression: string | undefined;
} {
  return {
    body: wire.body,
    contentType: wire.contentType,
    contentEncoding: wire.contentEncoding,
    compression: textOf(wire.headers['compression']),
  };
}

function instant(value: unknown, field: string, task: string): Date {
  const date = value instanceof Date ? value : typeof value === 'string' ? new Date(parseIso(value)) : undefined;
  if (date === undefined || Number.isNaN(date.getTime())) {
    throw new WireError(
      'celery',
      'bad-eta',
      `\`${field}\` of '${task}' is not an ISO 8601 time: ${JSON.stringify(value)?.slice(0, 80)}`,
    );
  }
  return date;
}

function seconds(value: unknown): number | undefined {
  return typeof value === 'number' && value > 0 ? value * 1000 : undefined;
}

function orNull<T>(list: readonly T[]): readonly T[] | null {
  return list.length > 0 ? list : null;
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    !(value instanceof Date) &&
    !ArrayBuffer.isView(value)
  );
}

function wrongShape(what: string): WireError {
  return new WireError(
    'celery',
    'wrong-shape',
    `${what}; expected [args, kwargs, {callbacks, errbacks, chain, chord}]`,
  );
}
