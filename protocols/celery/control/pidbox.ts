import { WireError } from '../../errors.ts';
import { nodeMatches } from './matcher.ts';
import type { Publication, WireMessage } from '../message/message.ts';
import { decodeContent, type DecodeOptions, encodeContent } from '../message/serializers.ts';

/**
 * Remote control: kombu's pidbox.
 *
 *     request   exchange <namespace>.pidbox (fanout), routing key ''; headers {"clock": n, "expires": unix time or 0}
 *               {"method", "arguments": {}, "destination": [node…] | null, "pattern", "matcher",
 *                "ticket": uuid, "reply_to": {"exchange", "routing_key"}}        the last two where a reply is wanted
 *     reply     exchange reply.<namespace>.pidbox (direct), routing key of reply_to; headers {"ticket", "clock"}
 *               {"<node>": reply}
 *
 * Each worker hears requests on `<node>.<namespace>.pidbox`; who asks hears replies on `<oid>.reply.<namespace>.pidbox`.
 * Source: kombu/pidbox.py, celery/worker/pidbox.py (5.6).
 */
export interface ControlRequest {
  readonly method: string;
  /** Names of the sender's choosing. Ask with `Object.hasOwn`. */
  readonly arguments: Readonly<Record<string, unknown>>;
  readonly destination?: readonly string[] | undefined;
  readonly pattern?: string | undefined;
  /** `glob` or `pcre`. */
  readonly matcher?: string | undefined;
  readonly ticket?: string | undefined;
  readonly replyTo?: ReplyTo | undefined;
}

/** Where an answer goes: an exchange (`reply.celery.pidbox`) and the id of who asked. */
export interface ReplyTo {
  readonly exchange: string;
  readonly routingKey: string;
}

/** A request as it was heard. */
export interface HeardRequest extends ControlRequest {
  readonly clock: unknown;
}

/** What nodes answered, in one message: usually one node. */
export interface ControlReply {
  readonly ticket: string | undefined;
  readonly clock: unknown;
  readonly nodes: readonly (readonly [node: string, reply: unknown])[];
}

/** The fanout exchange of requests: `celery.pidbox`. */
export function pidboxExchange(namespace = 'celery'): string {
  return `${namespace}.pidbox`;
}

/** The direct exchange of answers: `reply.celery.pidbox`. */
export function replyExchange(namespace = 'celery'): string {
  return `reply.${namespace}.pidbox`;
}

/** A worker's queue of requests: `celery@host.celery.pidbox`. */
export function pidboxQueue(node: string, namespace = 'celery'): string {
  return `${node}.${namespace}.pidbox`;
}

/** The queue of answers of who asks under this id: `<oid>.reply.celery.pidbox`. */
export function replyQueue(oid: string, namespace = 'celery'): string {
  return `${oid}.reply.${namespace}.pidbox`;
}

/** Whom requests and replies are for, and how they are written. `typed`: dates and the like with kombu's marks, true unless it says false. */
export interface PidboxFormat {
  /** @default 'celery' */
  readonly namespace?: string;
  /** @default 'json' */
  readonly serializer?: string;
  readonly typed?: boolean;
}

/** `expires` is the unix time after which nobody waits for replies any more; workers do not look at it. */
export function encodeRequest(
  request: ControlRequest,
  headers: { readonly clock: number; readonly expires: number },
  format: PidboxFormat = {},
): Publication {
  const { method, destination, pattern, matcher, ticket, replyTo } = request;
  const body = {
    method,
    arguments: request.arguments,
    destination: destination ?? null,
    pattern: pattern ?? null,
    matcher: matcher ?? null,
    ...(replyTo === undefined
      ? {}
      : { ticket, reply_to: { exchange: replyTo.exchange, routing_key: replyTo.routingKey } }),
  };
  // kombu sends requests without saying how, and its default is 2.
  return publication(pidboxExchange(format.namespace), '', body, new Map(Object.entries(headers)), 2, format);
}

/** Throws WireError `wrong-shape` for what is no request, and whatever `decodeContent` throws. */
export function decodeRequest(wire: WireMessage, options: DecodeOptions): HeardRequest {
  const body = contentOf(wire, options);
  if (!isRecord(body)) throw wrongShape('a control message is not an object');
  const { method, destination, ticket } = body;
  if (typeof method !== 'string') throw wrongShape('a control message names no method');
  const given = body['arguments'];
  if (isFilled(given) && !isRecord(given)) throw wrongShape(`the arguments of '${cut(method)}' are not an object`);
  const replyTo = readReplyTo(body['reply_to']);
  return {
    method,
    arguments: isRecord(given) ? given : {},
    destination: readDestination(destination),
    pattern: text(body['pattern']),
    matcher: text(body['matcher']),
    ticket: text(ticket),
    replyTo,
    clock: wire.headers['clock'],
  };
}

/** Whether a request is for this node: its name is listed, or matches, or the request is for everybody. */
export function isFor(request: ControlRequest, node: string): boolean {
  const { destination, pattern, matcher } = request;
  if (destination !== undefined) return destination.includes(node);
  return pattern === undefined || matcher === undefined || nodeMatches(node, pattern, matcher);
}

/** Throws WireError `unencodable` for a reply that the serializer cannot hold. */
export function encodeReply(
  replyTo: ReplyTo,
  node: string,
  reply: unknown,
  headers: { readonly ticket: string | undefined; readonly clock: number },
  format: PidboxFormat = {},
): Publication {
  const { ticket = null, clock } = headers;
  return publication(
    replyTo.exchange,
    replyTo.routingKey,
    new Map([[node, reply ?? null]]),
    new Map<string, unknown>([
      ['ticket', ticket],
      ['clock', clock],
    ]),
    1,
    format,
  );
}

/** Throws WireError as `decodeRequest` does. */
export function decodeReply(wire: WireMessage, options: DecodeOptions): ControlReply {
  const body = contentOf(wire, options);
  if (!isRecord(body)) throw wrongShape('a reply to a control message is not an object');
  return { ticket: text(wire.headers['ticket']), clock: wire.headers['clock'], nodes: Object.entries(body) };
}

function publication(
  exchange: string,
  routingKey: string,
  body: unknown,
  headers: ReadonlyMap<string, unknown>,
  deliveryMode: 1 | 2,
  { serializer = 'json', typed = true }: PidboxFormat,
): Publication {
  return {
    exchange,
    routingKey,
    ...encodeContent(serializer, body, { typed }),
    headers,
    properties: new Map<string, unknown>([
      ['delivery_mode', deliveryMode],
      ['priority', 0],
    ]),
    priority: 0,
  };
}

function contentOf({ body, contentType, contentEncoding, headers }: WireMessage, options: DecodeOptions): unknown {
  return decodeContent({ body, contentType, contentEncoding, compression: text(headers['compression']) }, options);
}

/** A text is one name; what is empty is everybody. */
function readDestination(destination: unknown): readonly string[] | undefined {
  if (!isFilled(destination)) return undefined;
  if (typeof destination === 'string') return [destination];
  if (Array.isArray(destination)) return destination.filter((node) => typeof node === 'string');
  throw wrongShape('the destination of a control message is not a list of nodes');
}

function readReplyTo(replyTo: unknown): ReplyTo | undefined {
  if (!isFilled(replyTo)) return undefined;
  const { exchange, routing_key: routingKey }: Readonly<Record<string, unknown>> = isRecord(replyTo) ? replyTo : {};
  if (typeof exchange !== 'string' || typeof routingKey !== 'string')
    throw wrongShape('`reply_to` of a control message is not {exchange, routing_key}');
  return { exchange, routingKey };
}

/** What Python takes for true. */
function isFilled(value: unknown): boolean {
  if (value === undefined || value === null || value === false || value === 0 || value === '') return false;
  if (Array.isArray(value)) return value.length > 0;
  return !isRecord(value) || Object.keys(value).length > 0;
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function cut(name: string): string {
  return name.slice(0, 60);
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
  return new WireError('celery', 'wrong-shape', what);
}
