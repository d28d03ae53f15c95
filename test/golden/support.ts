import { Buffer } from 'node:buffer';
import { readdirSync, readFileSync } from 'node:fs';
import { parseExact } from '../../protocols/formats/json.ts';
import { DateTime, Decimal, Numeral, PlainDate, PlainTime, Uuid } from '../../protocols/formats/values.ts';

/** The fixtures, typed. What each member says is in fixtures/README.md. */

export interface Fixture<Means> {
  readonly name: string;
  readonly about: string;
  readonly upstream: Readonly<Record<string, string>>;
  readonly frozen: {
    readonly clock: string;
    readonly workerClock?: string;
    readonly host: string;
    readonly pid: number;
    readonly oid: string;
    readonly ids: readonly string[];
  };
  readonly wire: readonly Step[];
  readonly means: Means;
  /** `means` once more as exact data: maps that keep the order of their keys, numbers as they were written. */
  readonly exact: ReadonlyMap<string, unknown>;
}

export interface Step {
  readonly connection: number;
  readonly command: readonly Argument[];
  readonly reply: unknown;
}

export type Argument = { readonly text: string } | { readonly base64: string };

export interface Message {
  readonly list?: string;
  readonly channel?: string;
  readonly exchange: string;
  readonly routingKey: string;
  readonly protocol: 1 | 2;
  readonly id: string;
  readonly task: string;
  readonly args: readonly unknown[];
  readonly kwargs: Readonly<Record<string, unknown>>;
  readonly embed: Readonly<Record<'callbacks' | 'errbacks' | 'chain' | 'chord', unknown>>;
  readonly retries: number;
  readonly eta: string | null;
  readonly expires: string | null;
  readonly group: string | null;
  readonly groupIndex: number | null;
  readonly rootId: string | null;
  readonly parentId: string | null;
  readonly hardLimit: number | null;
  readonly softLimit: number | null;
  readonly replyTo: string;
  readonly priority: number;
  readonly deliveryTag: string;
  readonly contentType: string;
  readonly contentEncoding: string;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly properties: Readonly<Record<string, unknown>>;
  readonly body: Argument;
}

export interface Binding {
  readonly exchange: string;
  readonly routingKey: string;
  readonly pattern: string;
  readonly queue: string;
}

export interface Enqueued {
  readonly bindings: readonly Binding[];
  readonly messages: readonly Message[];
  readonly chord?: readonly (readonly string[])[];
}

export interface StoredResult {
  readonly key: string;
  readonly expires: number | null;
  readonly text: string;
  readonly meta: Readonly<Record<string, unknown>>;
}

export interface Life {
  readonly message: Message;
  readonly claim: { readonly deliveryTag: string; readonly score: string };
  readonly outcome: RecordedOutcome;
  readonly settled: 'ack' | 'requeue';
  readonly results: readonly StoredResult[];
  readonly published: readonly Message[];
  readonly chord: readonly (readonly string[])[];
}

export type RecordedOutcome =
  | { readonly kind: 'success'; readonly value: unknown }
  | { readonly kind: 'error'; readonly error: RecordedError }
  | { readonly kind: 'retry'; readonly delayMs: number; readonly error: RecordedError }
  | { readonly kind: 'ignore' | 'expired' | 'unknown-task' }
  | { readonly kind: 'reject'; readonly requeue: boolean };

export interface RecordedError {
  readonly type: string;
  readonly module: string;
  readonly args: readonly unknown[];
}

export const CELERY_VERSIONS = ['5.2', '5.4', '5.6'] as const;
export type CeleryVersion = (typeof CELERY_VERSIONS)[number];

/** Every fixture of a version whose name begins so. */
export function load<Means>(
  version: CeleryVersion,
  prefix: `${'enqueue' | 'life'}-${string}`,
): readonly Fixture<Means>[] {
  const folder = new URL(`../../fixtures/celery/${version}/redis/`, import.meta.url);
  return readdirSync(folder)
    .filter((file) => file.startsWith(prefix))
    .sort()
    .map((file) => {
      const text = readFileSync(new URL(file, folder), 'utf8');
      const exact = (parseExact(text) as ReadonlyMap<string, unknown>).get('means') as ReadonlyMap<string, unknown>;
      return { ...(JSON.parse(text) as Omit<Fixture<Means>, 'name' | 'exact'>), name: file.slice(0, -5), exact };
    });
}

export function bytesOf(argument: Argument): Buffer {
  return 'text' in argument ? Buffer.from(argument.text) : Buffer.from(argument.base64, 'base64');
}

export function textOf(argument: Argument | undefined): string {
  return argument === undefined ? '' : bytesOf(argument).toString('utf8');
}

/** A command as its words. */
export function wordsOf(step: Step): readonly string[] {
  return step.command.map(textOf);
}

/** Every envelope that was pushed to a list or published on a channel, in order. */
export function envelopesOf(wire: readonly Step[]): readonly { readonly target: string; readonly envelope: string }[] {
  return wire
    .map(wordsOf)
    .filter(
      ([name, , what = '']) =>
        (name === 'LPUSH' || name === 'RPUSH' || name === 'PUBLISH') && what.startsWith('{"body"'),
    )
    .map(([, target = '', envelope = '']) => ({ target, envelope }));
}

/** What a `BRPOP` brought. */
export function takenFrom(wire: readonly Step[]): { readonly list: string; readonly envelope: string } {
  const pop = wire.find((step) => textOf(step.command[0]) === 'BRPOP');
  const reply = pop?.reply as { readonly array: readonly Argument[] } | undefined;
  const [list, envelope] = reply?.array ?? [];
  return { list: textOf(list), envelope: textOf(envelope) };
}

/**
 * A value of `means` as JavaScript has it: bigint, number, Buffer, and with `typed` kombu's dates and so on. Objects stay
 * objects, maps stay maps; floats stay Numerals where `exact`.
 */
export function valueOf(value: unknown, as: { readonly typed: boolean; readonly exact?: boolean }): unknown {
  if (Array.isArray(value)) return value.map((item) => valueOf(item, as));
  if (typeof value !== 'object' || value === null || value instanceof Numeral) return value;
  const entries = value instanceof Map ? [...(value as ReadonlyMap<string, unknown>)] : Object.entries(value);
  const [only] = entries;
  if (entries.length === 1 && only !== undefined && typeof only[1] === 'string') {
    const [mark, text] = only as [string, string];
    if (mark === '$int') return BigInt(text);
    if (mark === '$float') return as.exact ? new Numeral(text) : Number(text.toLowerCase() === 'nan' ? 'NaN' : text);
    if (mark === '$bytes') return Buffer.from(text, 'base64');
  }
  if (as.typed && entries.length === 2 && entries[0]?.[0] === '__type__' && entries[1]?.[0] === '__value__') {
    return typedValue(entries[0][1] as string, entries[1][1]);
  }
  const items = entries.map(([key, item]) => [key, valueOf(item, as)] as const);
  return value instanceof Map ? new Map(items) : Object.fromEntries(items);
}

function typedValue(type: string, value: unknown): unknown {
  switch (type) {
    case 'datetime':
      return new DateTime(value as string);
    case 'date':
      return new PlainDate(value as string);
    case 'time':
      return new PlainTime(value as string);
    case 'decimal':
      return new Decimal(value as string);
    case 'bytes':
      return Buffer.from(value as string, 'utf8');
    case 'base64':
      return Buffer.from(value as string, 'base64');
    case 'uuid':
      return new Uuid(
        (value instanceof Map
          ? (value as ReadonlyMap<string, unknown>).get('hex')
          : (value as { hex: string }).hex) as string,
      );
    default:
      throw new Error(`a fixture has the type ${type}, which no test knows`);
  }
}
