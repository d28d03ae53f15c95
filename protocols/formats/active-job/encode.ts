import { WireError } from '../../errors.ts';
import { isPlain, pathText, typeName } from '../plain.ts';
import { DateTime, Decimal, Numeral, PlainDate } from '../values.ts';
import { originOf } from './decode.ts';
import { entriesOf, hashKind, keywordHash, type Mark, markOf, toJson } from './hashes.ts';
import { isSince, type RailsVersion, unencodable } from './rails.ts';
import {
  BIG_DECIMAL,
  DATE,
  DATE_TIME,
  DURATION,
  GLOBAL_ID,
  INDIFFERENT,
  KEYWORDS,
  MODULE,
  RANGE,
  RESERVED,
  SERIALIZED,
  SYMBOL,
  SYMBOL_KEYS,
  TIME,
  TIME_WITH_ZONE,
} from './serializers.ts';
import { isRubyTime, nanosText } from './times.ts';
import {
  Duration,
  GlobalId,
  RubyDateTime,
  RubyModule,
  RubyRange,
  RubySymbol,
  RubyTime,
  SerializedObject,
  TimeWithZone,
} from './values.ts';

export interface EncodeOptions {
  /**
   * The oldest version of Rails that must read it. A value that this version does not know is refused: a RubyRange before 7.0, a Decimal before 7.1.
   * @default the values that every version from 6.1 on reads
   */
  readonly rails?: RailsVersion;
  /**
   * Deepest nesting of containers. Ruby's JSON reads no text deeper than 100, and a job has three containers around its list of arguments. @default
   * 97
   */
  readonly maxDepth?: number;
  /** Called for every object that has no form here. Its return value is written. Undefined: an error. */
  readonly serialize?: (value: object) => SerializedObject | undefined;
  /** The name of the arguments in error messages. @default 'args' */
  readonly at?: string;
}

/**
 * Encodes the arguments of a job as JSON: values for `stringify`. Mirrors arguments.rb `serialize` of Active Job 8.1. `kwargs` are the keywords of
 * the call.
 *
 * A Date becomes a Time in UTC. A plain object becomes a hash with texts for keys (`symbolKeys` makes a hash with symbols), and so does a Map.
 * undefined becomes nil. A value that Ruby could not read again is a WireError `unencodable` that names the argument.
 */
export function encodeArguments(
  args: readonly unknown[],
  kwargs: Readonly<Record<string, unknown>> | ReadonlyMap<string, unknown> = {},
  options: EncodeOptions = {},
): unknown[] {
  const writer = new Writer(options);
  const list = writer.list(args, 0);
  // Empty keywords that were decoded are written again.
  if (entriesOf(kwargs).length > 0 || hashKind(kwargs) === 'keywords') list.push(writer.keywords(kwargs));
  return list;
}

/** Encodes one argument. */
export function encodeArgument(value: unknown, options: EncodeOptions = {}): unknown {
  return new Writer({ at: 'value', ...options }).value(value, 0);
}

const MAX_LIST_DEPTH = 97;

class Writer {
  readonly #rails: RailsVersion | undefined;
  readonly #maxDepth: number;
  readonly #serialize: EncodeOptions['serialize'];
  readonly #root: string;
  readonly #path: (string | number)[] = [];

  constructor({ rails, maxDepth = MAX_LIST_DEPTH, serialize, at = 'args' }: EncodeOptions) {
    this.#rails = rails;
    this.#maxDepth = maxDepth;
    this.#serialize = serialize;
    this.#root = at;
  }

  list(items: readonly unknown[], depth: number): unknown[] {
    this.#deeper(depth);
    // Not `map`: a hole in an array becomes nil, too.
    return Array.from(items, (item, index) => this.#at(index, item, depth + 1));
  }

  keywords(kwargs: Readonly<Record<string, unknown>> | ReadonlyMap<string, unknown>): object {
    this.#path.push('kwargs');
    const own = markOf(kwargs);
    const made = this.#hash(entriesOf(kwargs), own?.kind === 'keywords' ? own : keywordHash(kwargs), 1);
    this.#path.pop();
    return made;
  }

  value(value: unknown, depth: number): unknown {
    switch (typeof value) {
      case 'string':
        return this.#text(value);
      case 'number':
        if (Number.isFinite(value)) return value;
        throw this.#refused(`Ruby's JSON has no ${value}`);
      case 'boolean':
      case 'bigint':
        return value;
      case 'undefined':
        return null;
      case 'function':
        throw this.#refused('a function cannot be passed to another process');
      case 'symbol':
        throw this.#refused(`a JavaScript symbol stays here; for Ruby's use new RubySymbol('name')`);
      case 'object':
        return value === null ? null : this.#object(value, depth);
    }
  }

  #object(value: object, depth: number): unknown {
    if (value instanceof Numeral) {
      if (Number.isFinite(value.valueOf())) return value;
      throw this.#refused(`Ruby's JSON has no ${value.text}`);
    }
    if (Array.isArray(value)) return this.list(value, depth);
    const origin = originOf(value);
    if (origin !== undefined) return origin;
    this.#deeper(depth);
    return this.#known(value, depth) ?? this.#other(value, depth);
  }

  #known(value: object, depth: number): object | undefined {
    if (value instanceof RubySymbol) return serialized(SYMBOL, { value: this.#text(value.name) });
    if (value instanceof RubyModule) return serialized(MODULE, { value: this.#text(value.name) });
    if (value instanceof GlobalId) return { [GLOBAL_ID]: this.#text(value.uri) };
    if (value instanceof Date) return this.#time(value);
    if (value instanceof PlainDate) return serialized(DATE, { value: this.#text(value.iso) });
    if (value instanceof Duration) {
      const parts = value.parts.map(([unit, amount]) => [
        serialized(SYMBOL, { value: unit }),
        this.value(amount, depth),
      ]);
      this.#deeper(depth + 3);
      return serialized(DURATION, { value: this.value(value.seconds, depth), parts });
    }
    if (value instanceof RubyRange) {
      this.#knows('7.0', 'a Range', 'pass its ends');
      const begin = this.#at('begin', value.begin, depth + 1);
      const end = this.#at('end', value.end, depth + 1);
      return serialized(RANGE, { begin, end, exclude_end: value.excludeEnd });
    }
    if (value instanceof Decimal) {
      this.#knows('7.1', 'a BigDecimal', 'pass its text');
      return serialized(BIG_DECIMAL, { value: this.#text(value.text) });
    }
    return value instanceof SerializedObject ? this.#own(value, depth) : undefined;
  }

  #other(value: object, depth: number): object {
    const own = markOf(value);
    if (value instanceof Map) {
      for (const key of value.keys()) if (typeof key !== 'string') throw this.#refused('a key of a hash is a text');
      return this.#hash([...(value as Map<string, unknown>)], own, depth);
    }
    if (own !== undefined || isPlain(value)) return this.#hash(Object.entries(value), own, depth);
    const made = this.#serialize?.(value);
    if (made !== undefined) return this.#own(made, depth);
    throw this.#refused(
      `${typeName(value)} has no form in Active Job. Pass plain data, or a GlobalId, or set \`serialize\``,
    );
  }

  #own({ serializer, members }: SerializedObject, depth: number): object {
    this.#deeper(depth + depthOf(members, this.#maxDepth) - 1);
    return toJson([[SERIALIZED, this.#text(serializer)], ...members]);
  }

  #time(value: Date): object {
    if (Number.isNaN(value.getTime())) throw this.#refused('an invalid Date');
    const year = value.getUTCFullYear();
    if (year < 0 || year > 9999) throw this.#refused(`a time of the year ${year}`);
    const text = timeText(value);
    if (value instanceof TimeWithZone) {
      const zone = value.zone === undefined ? {} : { time_zone: this.#text(value.zone) };
      return serialized(TIME_WITH_ZONE, { value: text, ...zone });
    }
    return serialized(value instanceof RubyDateTime ? DATE_TIME : TIME, { value: text });
  }

  #hash(entries: readonly (readonly [string, unknown])[], own: Mark | undefined, depth: number): object {
    this.#deeper(depth);
    const { came } = own ?? {};
    const made: (readonly [string, unknown])[] = entries.map(([key, item]) => {
      if (RESERVED.has(key) && came?.keys.includes(key) !== true)
        throw this.#refused(`${JSON.stringify(key)} is a key that Active Job keeps to itself`);
      return [this.#text(key), this.#at(key, item, depth + 1)];
    });
    const keys = entries.map(([key]) => key);
    if (
      came !== undefined &&
      keys.length === came.keys.length &&
      keys.every((key, index) => key === came.keys[index])
    ) {
      for (const [key, value, at] of came.marks) made.splice(at, 0, [key, value]);
    } else if (own?.kind === 'indifferent') {
      made.push([INDIFFERENT, true]);
    } else if (own?.kind !== 'bare') {
      const symbols = symbolsAmong(keys, own);
      made.push([own?.kind === 'keywords' ? KEYWORDS : SYMBOL_KEYS, symbols]);
    }
    return toJson(made);
  }

  #at(key: string | number, item: unknown, depth: number): unknown {
    this.#path.push(key);
    const made = this.value(item, depth);
    this.#path.pop();
    return made;
  }

  /** Ruby's parser refuses half of a surrogate pair, and then it refuses the whole job. */
  #text(text: string): string {
    if (!LONE_SURROGATE.test(text)) return text;
    throw this.#refused('a text with half of a surrogate pair, which Ruby cannot read');
  }

  #knows(since: RailsVersion, what: string, instead: string): void {
    if (isSince(this.#rails, since)) return;
    const asked =
      this.#rails === undefined ? `set rails: '${since}' where all are that new` : `rails is '${this.#rails}'`;
    throw this.#refused(`Rails before ${since} does not know ${what}: ${instead}, or ${asked}`);
  }

  #deeper(depth: number): void {
    if (depth < this.#maxDepth) return;
    const at = pathText(this.#root, this.#path.slice(0, 8));
    throw new WireError(
      'active-job',
      'too-deep',
      `cannot write ${at}…: nested more than ${this.#maxDepth} levels deep, or it contains itself; Ruby reads no job deeper than 100`,
    );
  }

  #refused(why: string): WireError {
    const path =
      this.#path[0] === 'kwargs' ? pathText('kwargs', this.#path.slice(1)) : pathText(this.#root, this.#path);
    return unencodable(`cannot write ${path}: ${why}`);
  }
}

const LONE_SURROGATE = /\p{Surrogate}/u;

/** A RubyTime keeps its text. A DateTime of another system is in UTC where its text has no offset. */
function timeText(value: Date): string {
  if (!(value instanceof DateTime) || !isRubyTime(value.iso)) return nanosText(value);
  const isOurs = value instanceof RubyTime || value instanceof RubyDateTime || value instanceof TimeWithZone;
  return isOurs || OFFSET.test(value.iso) ? value.iso : `${value.iso}Z`;
}

const OFFSET = /(?:Z|[+-]\d{2}:?\d{2})$/i;

/** The depth of nested containers in JSON. */
function depthOf(raw: unknown, limit: number): number {
  if (typeof raw !== 'object' || raw === null || raw instanceof Numeral || limit === 0) return 0;
  const items: Iterable<unknown> = raw instanceof Map ? raw.values() : Object.values(raw);
  let deepest = 0;
  for (const item of items) deepest = Math.max(deepest, depthOf(item, limit - 1));
  return deepest + 1;
}

function serialized(name: string, members: Readonly<Record<string, unknown>>): object {
  return { [SERIALIZED]: name, ...members };
}

/** Where all keys of the decoded hash were symbols, a new key is a symbol, too. */
function symbolsAmong(keys: readonly string[], own: Mark | undefined): string[] {
  if (own === undefined) return [];
  const before = own.came?.keys;
  const all = before !== undefined && before.length > 0 && before.every((key) => own.symbols.has(key));
  return keys.filter((key) => own.symbols.has(key) || (all && !before.includes(key)));
}
