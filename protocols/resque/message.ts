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
 * Other members are legal and meant for nobody; ours may have `"id"`. Without `args` there are none.
 * Source: resque job.rb create, payload_class; resque-scheduler delaying_extensions.rb job_to_hash_with_queue.
 */
export interface Payload {
  /** The class as it stands there. Ruby camelises one with a dash: see `className`. */
  readonly class: string;
  readonly args: readonly unknown[];
  /** A member `id`, where it is a text: what our client adds if asked to. */
  readonly id: string | undefined;
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
  return { class: name, args, id: typeof id === 'string' && id !== '' ? id : undefined, text };
}

function own(value: Readonly<Record<string, unknown>>, key: string): unknown {
  return Object.hasOwn(value, key) ? value[key] : undefined;
}

/** A payload's text, byte for byte what Ruby pushes for the same call. `id` adds a member that Ruby keeps and does not look at. */
export function encodePayload(name: string, args: readonly unknown[], id?: string): string {
  if (name === '') throw new WireError('resque', 'unencodable', 'a job needs a class: what Ruby calls perform on');
  const tail = id === undefined ? '' : `,"id":${json.stringify(id)}`;
  return `{"class":${json.stringify(name)},"args":${json.stringify(args, { at: 'args' })}${tail}}`;
}

/** A job of another, in the words it came in, to be run by the worker. `claim` names it where it has no name of its own. */
export function toJob(payload: Payload, queue: string, claim: string, attempt = 1): Job {
  return { id: payload.id ?? claim, task: className(payload.class), args: payload.args, kwargs: {}, queue, attempt };
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
