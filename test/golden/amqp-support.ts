import { Buffer } from 'node:buffer';
import { readdirSync, readFileSync } from 'node:fs';
import type { AmqpArguments, AmqpProperties, Declaration } from '../../protocols/amqp.ts';
import type { AmqpDelivery } from '../../protocols/celery/brokers/amqp.ts';
import { parseExact } from '../../protocols/formats/json.ts';
import type { Recorded } from './calls.ts';
import { type Argument, bytesOf, type CeleryVersion, type Fixture } from './support.ts';

/** The fixtures of AMQP, typed. What each member says is in fixtures/README.md. */

export interface AmqpFixture<Means> extends Omit<Fixture<Means>, 'wire'> {
  readonly wire: readonly Method[];
}

/** A method of AMQP 0-9-1, with its message where it carries one. */
export interface Method {
  readonly connection: number;
  readonly from: 'client' | 'server';
  readonly method: string;
  readonly arguments: Readonly<Record<string, unknown>>;
  readonly properties?: Readonly<Record<string, unknown>>;
  readonly body?: Argument;
}

/** `base64` is the table without its length, `fields` the same read: name, letter of the type, value. */
export interface Table {
  readonly base64: string;
  readonly fields: readonly Field[];
}

export type Field = readonly [name: string, type: string, value: unknown];

export interface AmqpLife {
  readonly message: Recorded;
  readonly outcome: { readonly kind: string };
  readonly settled: 'ack' | 'reject' | 'requeue';
  readonly published: readonly Recorded[];
}

/** Every fixture of a version whose name begins so. */
export function loadAmqp<Means>(version: CeleryVersion, prefix: string): readonly AmqpFixture<Means>[] {
  const folder = new URL(`../../fixtures/celery/${version}/amqp/`, import.meta.url);
  return readdirSync(folder)
    .filter((file) => file.startsWith(prefix))
    .sort()
    .map((file) => {
      const text = readFileSync(new URL(file, folder), 'utf8');
      const exact = (parseExact(text) as ReadonlyMap<string, unknown>).get('means') as ReadonlyMap<string, unknown>;
      return { ...(JSON.parse(text) as Omit<AmqpFixture<Means>, 'name' | 'exact'>), name: file.slice(0, -5), exact };
    });
}

/** What the client declared, in our words, each thing once. */
export function declaredIn(wire: readonly Method[]): readonly Declaration[] {
  const seen = new Map<string, Declaration>();
  for (const { method, arguments: given } of wire) {
    const declaration = declarationOf(method, given);
    if (declaration !== undefined) seen.set(JSON.stringify(declaration), declaration);
  }
  return [...seen.values()];
}

function declarationOf(method: string, given: Readonly<Record<string, unknown>>): Declaration | undefined {
  const text = (name: string): string => given[name] as string;
  const flag = (name: string): boolean => given[name] as boolean;
  switch (method) {
    case 'exchange.declare':
      return {
        kind: 'exchange',
        name: text('exchange'),
        type: text('type'),
        durable: flag('durable'),
        autoDelete: flag('auto_delete'),
        arguments: argumentsOf(given),
        ...(flag('passive') ? { passive: true } : {}),
      };
    case 'queue.declare':
      return {
        kind: 'queue',
        name: text('queue'),
        durable: flag('durable'),
        autoDelete: flag('auto_delete'),
        exclusive: flag('exclusive'),
        arguments: argumentsOf(given),
        ...(flag('passive') ? { passive: true } : {}),
      };
    case 'queue.bind':
    case 'exchange.bind':
      return {
        kind: 'binding',
        to: method === 'queue.bind' ? 'queue' : 'exchange',
        destination: method === 'queue.bind' ? text('queue') : text('destination'),
        source: method === 'queue.bind' ? text('exchange') : text('source'),
        routingKey: text('routing_key'),
        arguments: argumentsOf(given),
      };
    default:
      return undefined;
  }
}

function argumentsOf(given: Readonly<Record<string, unknown>>): AmqpArguments {
  const { fields } = given['arguments'] as Table;
  return Object.fromEntries(fields.map(([name, , value]) => [name, value])) as AmqpArguments;
}

/** The messages of tasks that were published, or delivered. */
export function taskMethods(wire: readonly Method[], method: 'basic.publish' | 'basic.deliver'): readonly Method[] {
  return wire.filter((each) => each.method === method && each.properties?.['reply_to'] !== undefined);
}

export function headersOf(method: Method): Table {
  return method.properties?.['headers'] as Table;
}

/** A recorded message as the transport hands it over. */
export function deliveryOf(method: Method): AmqpDelivery {
  const given = method.arguments;
  return {
    properties: propertiesOf(method),
    exchange: given['exchange'] as string,
    routingKey: given['routing_key'] as string,
    redelivered: given['redelivered'] === true,
    ...(typeof given['consumer_tag'] === 'string' ? { consumerTag: given['consumer_tag'] } : {}),
    body: bytesOf(method.body as Argument),
  };
}

/** The recorded properties in our names, the headers as the bytes they were. */
export function propertiesOf(method: Method): AmqpProperties {
  const entries = Object.entries(method.properties ?? {}).map(([name, value]) => [
    name.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()),
    name === 'headers' ? Buffer.from((value as Table).base64, 'base64') : value,
  ]);
  return Object.fromEntries(entries) as AmqpProperties;
}

/** The type letters of a table's fields, nested ones too. */
export function lettersOf(fields: readonly Field[]): unknown {
  return fields.map(([name, type, value]) => [name, letterOf(type, value)]);
}

function letterOf(type: string, value: unknown): unknown {
  if (type === 'F') return ['F', lettersOf(value as readonly Field[])];
  if (type === 'A')
    return ['A', (value as readonly (readonly [string, unknown])[]).map(([inner, item]) => letterOf(inner, item))];
  return type;
}

/** The same of an encoded table, read with eyes of its own: no decoder of ours judges our encoder. */
export function lettersIn(table: Uint8Array): unknown {
  const bytes = Buffer.from(table);
  let at = 0;
  const take = (count: number): number => (at += count) - count;
  const value = (): unknown => {
    const letter = bytes.toString('latin1', take(1), at);
    if (letter === 'F' || letter === 'A') {
      const end = bytes.readUInt32BE(take(4)) + at;
      return [letter, letter === 'F' ? fields(end) : items(end)];
    }
    if (letter === 'S' || letter === 'x') take(bytes.readUInt32BE(take(4)));
    else take({ t: 1, I: 4, l: 8, L: 8, d: 8, T: 8, D: 5, V: 0 }[letter] ?? Number.NaN);
    return letter;
  };
  const items = (end: number): unknown[] => {
    const found: unknown[] = [];
    while (at < end) found.push(value());
    return found;
  };
  const fields = (end: number): unknown[] => {
    const found: unknown[] = [];
    while (at < end) {
      const length = bytes.readUInt8(take(1));
      const name = bytes.toString('utf8', take(length), at);
      found.push([name, value()]);
    }
    return found;
  };
  return fields(bytes.length);
}
