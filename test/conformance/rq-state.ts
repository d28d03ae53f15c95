import { Buffer } from 'node:buffer';
import type { Redis } from 'ioredis';
import { DEFAULT_FAILURE_TTL } from '../../protocols/rq/lifecycle.ts';
import { inflate, loads } from '../../protocols/rq/index.ts';
import { type Argument, bytesOf, textOf } from '../golden/support.ts';
import { flatOf, type Held, type State } from '../golden/rq-support.ts';

/** What Redis holds, put there and read back in the form in which it is compared with a fixture. */

export async function restore(client: Redis, state: State): Promise<void> {
  const all = client.multi();
  for (const [key, { type, value, ttl }] of Object.entries(state)) {
    switch (type) {
      case 'string':
        all.set(key, bytesOf(value));
        break;
      case 'list':
        all.rpush(key, ...value.map(bytesOf));
        break;
      case 'set':
        all.sadd(key, ...value.map(bytesOf));
        break;
      case 'zset':
        all.zadd(key, ...value.flatMap(([member, score]) => [score, bytesOf(member)]));
        break;
      case 'hash':
        all.hset(key, ...flatOf(value));
        break;
      case 'stream':
        for (const entry of value) all.xadd(key, '*', ...flatOf(entry));
    }
    if (ttl !== undefined) all.expire(key, ttl);
  }
  await all.exec();
}

/** RQ cuts the second off at which a job is due; here it is never before its time. */
export function due(key: string, held: Held): Held {
  if (!key.startsWith('rq:scheduled:') || held.type !== 'zset') return held;
  return { ...held, value: held.value.map(([id, score]) => [id, String(Number(score) + 1)] as const) };
}

export type Shown = { readonly value: unknown; readonly ttl?: number };

/** A key as it is compared: with ours, what only one of the two keeps is left out. */
export function shown(held: Held, told: readonly string[]): Shown {
  const { type, value } = held;
  const ttl = held.ttl === undefined ? {} : { ttl: held.ttl };
  switch (type) {
    case 'string':
      return { value: textOf(value), ...ttl };
    case 'list':
      return { value: value.map(textOf), ...ttl };
    case 'set':
      return { value: value.map(textOf).sort(), ...ttl };
    case 'zset':
      return { value: value.map(([member, score]) => [textOf(member), score]), ...ttl };
    case 'hash':
      return { value: fieldsOf(flatOf(value), told), ...ttl };
    case 'stream':
      return {
        value: value.map((entry) => entryOf(flatOf(entry), told)),
        // RQ keeps the results of a failed job for ever, where it says nothing of that itself.
        ...(held.ttl === undefined && failedEntry(value) ? { ttl: DEFAULT_FAILURE_TTL } : ttl),
      };
  }
}

function failedEntry(entries: readonly (readonly (readonly [string, Argument])[])[]): boolean {
  const type = entries.at(-1)?.find(([name]) => name === 'type')?.[1];
  return textOf(type) !== '1';
}

function fieldsOf(flat: readonly Buffer[], told: readonly string[]): Readonly<Record<string, string>> {
  const fields: Record<string, string> = {};
  for (let at = 0; at < flat.length; at += 2) {
    const name = String(flat[at]);
    // Ours: how many runs ended in an exception. Theirs: a result that is written into the hash, too.
    if (name === 'jobglot_attempts' || name === 'result' || told.includes(name)) continue;
    const bytes = flat[at + 1] as Buffer;
    fields[name] = (name === 'data' || name === 'meta' ? pickled(inflate(bytes)) : bytes).toString('latin1');
  }
  return fields;
}

/** Python writes the newest protocol of pickle, we an older one: what we write differs in its number alone. */
function pickled(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  if (copy[0] === 0x80) copy[1] = 4;
  return copy;
}

/** One entry of the results: a pickle by its value, a traceback by its last line, and the execution by its being there. */
function entryOf(flat: readonly Buffer[], told: readonly string[]): unknown {
  const fields: Record<string, unknown> = {};
  for (let at = 0; at < flat.length; at += 2) {
    const name = String(flat[at]);
    const text = String(flat[at + 1]);
    if (told.includes(name)) continue;
    if (name === 'execution_id') fields[name] = text.length;
    else if (name === 'return_value') {
      const value = loads(Buffer.from(text, 'base64'));
      fields[name] = (value as { className?: string }).className ?? value;
    } else if (name === 'exc_string')
      fields[name] = inflate(Buffer.from(text, 'base64')).toString().trim().split('\n').at(-1);
    else fields[name] = text;
  }
  return fields;
}

/** What a worker says of itself is compared where it is what the test is about. */
const OF_WORKERS = /^rq:(worker|clean)/;

/** All keys but those of this kind. */
export async function dump(
  client: Redis,
  told: readonly string[],
  without: RegExp = OF_WORKERS,
): Promise<Readonly<Record<string, Shown>>> {
  const state: Record<string, Shown> = {};
  for (const key of (await client.keys('*')).sort()) {
    if (without.test(key)) continue;
    const left = await client.pttl(key);
    const ttl = left < 0 ? {} : { ttl: Math.ceil(left / 1000) };
    const held = { ...(await heldBy(client, key)), ...ttl } as Held;
    state[key] = shown(held, told);
  }
  return state;
}

async function heldBy(client: Redis, key: string): Promise<object> {
  const argument = (bytes: Buffer): Argument => ({ base64: bytes.toString('base64') });
  const type = await client.type(key);
  switch (type) {
    case 'list':
      return { type, value: (await client.lrangeBuffer(key, 0, -1)).map(argument) };
    case 'set':
      return { type, value: (await client.smembersBuffer(key)).map(argument) };
    case 'zset': {
      const flat = await client.zrangeBuffer(key, 0, '-1', 'WITHSCORES');
      return { type, value: pairsOf(flat).map(([member, score]) => [argument(member), String(score)]) };
    }
    case 'hash':
      return {
        type,
        value: pairsOf(await flatHash(client, key)).map(([name, value]) => [String(name), argument(value)]),
      };
    case 'stream': {
      const entries = await client.xrangeBuffer(key, '-', '+');
      return {
        type,
        value: entries.map(([, flat]) => pairsOf(flat).map(([name, value]) => [String(name), argument(value)])),
      };
    }
    default:
      return { type: 'string', value: argument((await client.getBuffer(key)) as Buffer) };
  }
}

async function flatHash(client: Redis, key: string): Promise<readonly Buffer[]> {
  const hash = await client.hgetallBuffer(key);
  return Object.entries(hash).flatMap(([name, value]) => [Buffer.from(name), value]);
}

function pairsOf(flat: readonly Buffer[]): readonly (readonly [Buffer, Buffer])[] {
  return flat.flatMap((one, at) => (at % 2 === 0 ? [[one, flat[at + 1] as Buffer] as const] : []));
}

/** A state of a fixture in the same form. */
export function shownState(
  state: State,
  told: readonly string[],
  without: RegExp = OF_WORKERS,
): Readonly<Record<string, Shown>> {
  const kept = Object.entries(state).filter(([key]) => !without.test(key));
  return Object.fromEntries(kept.map(([key, held]) => [key, shown(held, told)]));
}
