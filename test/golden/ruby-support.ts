import { Buffer } from 'node:buffer';
import { readdirSync, readFileSync } from 'node:fs';

/** The fixtures of Sidekiq, Active Job and Resque. What each member says is in fixtures/README.md. */

export type RubySet = 'sidekiq/6.4' | 'sidekiq/8.1' | 'active-job/6.1' | 'active-job/8.1' | 'resque/3.0';

export interface Capture {
  readonly name: string;
  readonly description: string;
  readonly software: Readonly<Record<string, string>>;
  /** What the Ruby call returned, as JSON has it. */
  readonly returned: unknown;
  /** Every key after the case. */
  readonly keys: ReadonlyMap<string, CapturedKey>;
  /** What Redis saw, in order; commands of scripts follow the script's own. Bodies of scripts are left out. */
  readonly monitor: readonly Seen[];
}

export interface CapturedKey {
  readonly type: 'string' | 'list' | 'set' | 'zset' | 'hash';
  /** Milliseconds to live, at the moment of looking; undefined where it has no end. */
  readonly ttlMs: number | undefined;
  /** A string's text; the members of a list from its head, of a set, of a sorted set by score; the values of a hash. */
  readonly values: readonly string[];
  /** The scores of a sorted set, as Redis writes them, in the order of `values`. */
  readonly scores: readonly string[];
  /** The fields of a hash, in the order of `values`. */
  readonly fields: readonly string[];
}

export interface Seen {
  /** Epoch seconds with six decimals, by the server's clock. */
  readonly at: string;
  /** Whether a script sent it. */
  readonly byScript: boolean;
  /** The command in capitals, then its arguments: bytes, read as Latin-1 where they are no UTF-8. */
  readonly words: readonly string[];
}

/** Every capture of a set whose name begins so. */
export function captures(set: RubySet, prefix = ''): readonly Capture[] {
  return readdirSync(folderOf(set))
    .filter((file) => file.endsWith('.json') && file.startsWith(prefix))
    .sort()
    .map((file) => capture(set, file.slice(0, -5)));
}

export function capture(set: RubySet, name: string): Capture {
  const raw = JSON.parse(readFileSync(new URL(`${name}.json`, folderOf(set)), 'utf8')) as RawCapture;
  return {
    name,
    description: raw.description,
    software: raw.software ?? {},
    returned: raw.returned,
    keys: new Map(raw.keys.filter(({ type }) => type !== undefined).map((key) => [key.key, capturedKey(key)])),
    monitor: (raw.monitor ?? []).map(seen),
  };
}

/** The jobs of a capture that were written by hand, for Ruby to run. */
export function handmade(set: RubySet, name: string): readonly string[] {
  const raw = JSON.parse(readFileSync(new URL(`${name}.json`, folderOf(set)), 'utf8')) as RawCapture;
  return raw.keys.map(({ value }) => value as string);
}

/** The text of a file of questions and answers: `foreign-data-acceptance.txt`. */
export function answers(set: RubySet, file: string): string {
  return readFileSync(new URL(file, folderOf(set)), 'utf8');
}

/** Every job that is in a list or a sorted set of this capture, or was ever written to one: its text, once. */
export function jobTexts({ keys, monitor }: Capture): readonly string[] {
  const texts = new Set<string>();
  for (const { type, values } of keys.values()) {
    if (type === 'list' || type === 'zset') for (const value of values) texts.add(value);
  }
  for (const { words } of monitor) {
    const [name = '', , ...rest] = words;
    if (name === 'LPUSH' || name === 'RPUSH') for (const value of rest) texts.add(value);
    if (name === 'ZADD') for (const [index, value] of rest.entries()) if (index % 2 === 1) texts.add(value);
  }
  return [...texts].filter((text) => text.startsWith('{'));
}

interface RawCapture {
  readonly description: string;
  readonly software?: Readonly<Record<string, string>>;
  readonly returned?: unknown;
  readonly keys: readonly RawKey[];
  readonly monitor?: readonly string[];
}

interface RawKey {
  readonly key: string;
  readonly type?: CapturedKey['type'];
  readonly pttl_ms: number;
  readonly value: unknown;
}

type RawText = string | { readonly __base64__: string };

function folderOf(set: RubySet): URL {
  return new URL(`../../fixtures/${set}/`, import.meta.url);
}

function capturedKey({ type = 'string', pttl_ms: ttl, value }: RawKey): CapturedKey {
  const common = { type, ttlMs: ttl < 0 ? undefined : ttl, scores: [], fields: [] };
  switch (type) {
    case 'string':
      return { ...common, values: [textOf(value as RawText)] };
    case 'list':
    case 'set':
      return { ...common, values: (value as readonly RawText[]).map(textOf) };
    case 'zset': {
      const rows = value as readonly { readonly member: RawText; readonly score: string | number }[];
      return {
        ...common,
        values: rows.map(({ member }) => textOf(member)),
        scores: rows.map(({ score }) => String(score)),
      };
    }
    case 'hash': {
      const entries = Object.entries(value as Readonly<Record<string, RawText>>);
      return { ...common, fields: entries.map(([field]) => field), values: entries.map(([, text]) => textOf(text)) };
    }
  }
}

function textOf(text: RawText): string {
  return typeof text === 'string' ? text : Buffer.from(text.__base64__, 'base64').toString('latin1');
}

const LINE = /^(\d+\.\d+) \[([^\]]*)\] (.*)$/s;
const WORD = /"((?:[^"\\]|\\.)*)"/gs;

/** A line of MONITOR: `1795219358.822624 [127.0.0.1] "sadd" "queues" "default"`. */
function seen(line: string): Seen {
  const [, at = '', from = '', rest = ''] = LINE.exec(line) ?? [];
  const words = [...rest.matchAll(WORD)].map(([, word = '']) => unescaped(word));
  const [name = '', ...args] = words;
  return { at, byScript: from === 'lua', words: [name.toUpperCase(), ...args] };
}

const ESCAPE = /\\(x[0-9a-f]{2}|.)/gis;
const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', a: '\x07', b: '\b' };

/** As sdscatrepr writes bytes, back to bytes. */
function unescaped(word: string): string {
  const bytes = word.replace(ESCAPE, (_, code: string) =>
    code.length === 3 ? String.fromCharCode(Number.parseInt(code.slice(1), 16)) : (ESCAPES[code] ?? code),
  );
  const buffer = Buffer.from(bytes, 'latin1');
  const text = buffer.toString('utf8');
  return text.includes('\ufffd') ? bytes : text;
}
