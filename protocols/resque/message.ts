import { type Buffer, isUtf8 } from 'node:buffer';
import { WireError } from '../errors.ts';
import { member } from '../formats/json.ts';
import * as json from '../formats/ruby-json.ts';
import type { Job } from '../job.ts';

/**
 * A payload.
 *
 *     payload = { "class": text, "args": [ value … ] }           in this order: jobs are compared as texts
 *     item    = { "class": text, "args": [ value … ], "queue": text }     delayed (resque-scheduler), in this order
 *
 * Other members are legal; Ruby does not read them. Here they are the job's headers, and `"id"` its name. Without `args` there are none.
 * Source: resque job.rb create, payload_class; resque-scheduler delaying_extensions.rb job_to_hash_with_queue.
 */
export interface Payload {
  /** The class as it stands there. Ruby camelises one with a dash: see `className`. */
  readonly class: string;
  readonly args: readonly unknown[];
  /** A member `id`, where it is a text: what our client adds if asked to. */
  readonly id: string | undefined;
  /** Members that are neither Resque's nor jobglot's own; undefined where there are none. */
  readonly headers: Readonly<Record<string, unknown>> | undefined;
  /** The payload itself, to the letter. */
  readonly text: string;
}

/** Reads a payload. Throws WireError `undecodable` naming what is wrong with it. */
export function decodePayload(bytes: Uint8Array): Payload {
  return payloadOf(readObject(bytes, 'the payload'));
}

/** An object read, and its text. */
interface Read {
  readonly text: string;
  readonly value: Readonly<Record<string, unknown>>;
}

function readObject(bytes: Uint8Array, what: string): Read {
  if (!isUtf8(bytes)) throw new WireError('resque', 'undecodable', `${what} is not UTF-8`);
  const text = (bytes as Buffer).toString();
  let value: unknown;
  try {
    value = json.parse(text);
  } catch (cause) {
    throw new WireError('resque', 'undecodable', `${what} is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new WireError('resque', 'undecodable', `${what} is no JSON object`);
  return { text, value: value as Record<string, unknown> };
}

function payloadOf({ text, value }: Read): Payload {
  const name = own(value, 'class');
  if (typeof name !== 'string' || name === '')
    throw new WireError('resque', 'undecodable', "the payload's class is missing or no text");
  const args = own(value, 'args') ?? [];
  if (!Array.isArray(args)) throw new WireError('resque', 'undecodable', `the payload's args are no list (${name})`);
  const id = own(value, 'id');
  return {
    class: name,
    args,
    id: typeof id === 'string' && id !== '' ? id : undefined,
    headers: headersOf(value),
    text,
  };
}

/** Members of a payload, and of a delayed item, that mean something here. */
export const OWN_MEMBERS: ReadonlySet<string> = new Set(['class', 'args', 'queue', 'id']);

function headersOf(value: Readonly<Record<string, unknown>>): Payload['headers'] {
  let headers: Record<string, unknown> | undefined;
  for (const name in value) {
    if (OWN_MEMBERS.has(name) || !Object.hasOwn(value, name)) continue;
    // An own property, whatever its name.
    Object.defineProperty((headers ??= {}), name, {
      value: value[name],
      enumerable: true,
      writable: true,
      configurable: true,
    });
  }
  return headers;
}

function own(value: Readonly<Record<string, unknown>>, key: string): unknown {
  return Object.hasOwn(value, key) ? value[key] : undefined;
}

/**
 * A payload's text, byte for byte what Ruby pushes for the same call. `id` and `headers` add members that Ruby keeps and does not look at. Throws
 * WireError `unencodable`, also for a header with a name of Resque's own.
 */
export function encodePayload(
  name: string,
  args: readonly unknown[],
  id?: string,
  headers: Readonly<Record<string, unknown>> = {},
): string {
  if (name === '') throw new WireError('resque', 'unencodable', 'a job needs a class: what Ruby calls perform on');
  let tail = id === undefined ? '' : `,"id":${json.stringify(id)}`;
  for (const [header, value] of Object.entries(headers)) {
    if (OWN_MEMBERS.has(header))
      throw new WireError('resque', 'unencodable', `a header cannot be named '${header}': it is a member of every job`);
    if (value !== undefined) tail += `,${json.stringify(header)}:${json.stringify(value, { at: `headers.${header}` })}`;
  }
  return `{"class":${json.stringify(name)},"args":${json.stringify(args, { at: 'args' })}${tail}}`;
}

/** A job of another, in the words it came in, to be run by the worker. `claim` names it where it has no name of its own. */
export function toJob(payload: Payload, queue: string, claim: string, attempt = 1): Job {
  const { id = claim, args, headers } = payload;
  const job: Job = { id, task: className(payload.class), args, kwargs: {}, queue, attempt };
  return headers === undefined ? job : { ...job, headers };
}

/** `my-job` is the class `MyJob`. Source: vendored helpers classify. */
export function className(text: string): string {
  if (!text.includes('-')) return text;
  return text
    .split('-')
    .map((word) => word.slice(0, 1).toUpperCase() + word.slice(1))
    .join('');
}

/** A payload as an item of `delayed:<second>`: the same bytes and its queue. */
export function encodeDelayed(payload: string, queue: string): string {
  return json.edit(payload, [{ path: ['queue'], value: json.stringify(queue) }]);
}

/** An item of `delayed:<second>` as the payload that goes to its queue: the same bytes without the queue. */
export function decodeDelayed(bytes: Uint8Array): { readonly queue: string; readonly payload: Payload } {
  const read = readObject(bytes, 'the delayed item');
  const queue = own(read.value, 'queue');
  if (typeof queue !== 'string' || queue === '')
    throw new WireError('resque', 'undecodable', "the delayed item's queue is missing or no text");
  payloadOf(read);
  const text = inOrder(json.edit(read.text, [{ path: ['queue'], value: undefined }]));
  return { queue, payload: payloadOf({ text, value: read.value }) };
}

/** Other producers write the members in another order; a payload begins with its class, since jobs are compared as texts. */
function inOrder(text: string): string {
  const name = member(text, ['class']);
  if (name === undefined || text.startsWith(`{"class":${name}`)) return text;
  const rest = json.edit(text, [{ path: ['class'], value: undefined }]);
  return rest === '{}' ? `{"class":${name}}` : `{"class":${name},${rest.slice(1).trimStart()}`;
}
