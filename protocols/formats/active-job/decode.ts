import { WireError } from '../../errors.ts';
import { MAX_DEPTH, pathText } from '../plain.ts';
import { DateTime, Decimal, Numeral, PlainDate } from '../values.ts';
import { hashKind, type HashKind, type Mark, mark, RubyHash, toObject } from './hashes.ts';
import { shown, undecodable } from './rails.ts';
import {
  BIG_DECIMAL,
  DATE,
  DATE_TIME,
  DURATION,
  GLOBAL_ID,
  INDIFFERENT,
  KEYWORDS,
  MEMBERS,
  MODULE,
  RANGE,
  SERIALIZED,
  SYMBOL,
  SYMBOL_KEYS,
  TIME,
  TIME_WITH_ZONE,
} from './serializers.ts';
import { isRubyTime } from './times.ts';
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

export interface DecodeOptions {
  /** Decode every hash to a RubyHash, which keeps the order of keys that look like numbers. @default false */
  readonly exact?: boolean;
  /** Deepest nesting of containers in the JSON. @default 1000 */
  readonly maxDepth?: number;
  /** Converts the output of a serializer of the application to a value of your own. Undefined leaves it a SerializedObject. */
  readonly deserialize?: (object: SerializedObject) => unknown;
}

/**
 * Decodes the arguments of a job: JSON as `parse` or `parseExact` returned it. Mirrors arguments.rb `deserialize` of Active Job 8.1. The keywords of
 * a call are its last argument, a hash whose `hashKind` is `keywords`: see `splitKeywords`.
 *
 * Data that Rails would fail to read is a WireError `undecodable`. Data with the name of a serializer that is not Rails' own is a SerializedObject.
 */
export function decodeArguments(list: unknown, options: DecodeOptions = {}): unknown[] {
  if (list === undefined || list === null) return [];
  if (!Array.isArray(list)) throw undecodable(`the arguments of a job are a list, not ${shown(list)}`);
  return new Reader(options, 'arguments').list(list, 0);
}

/** Splits the arguments of a call into positional arguments and keywords. */
export function splitKeywords(list: readonly unknown[]): {
  readonly args: readonly unknown[];
  readonly kwargs: Readonly<Record<string, unknown>>;
} {
  const last = list.at(-1);
  if (!isObject(last) || hashKind(last as object) !== 'keywords') return { args: list, kwargs: {} };
  return { args: list.slice(0, -1), kwargs: last as Readonly<Record<string, unknown>> };
}

/** Decodes one argument. */
export function decodeArgument(value: unknown, options: DecodeOptions = {}): unknown {
  return new Reader(options, 'argument').value(value, 0);
}

/** The original JSON of values that other software wrote in another form than Rails: they are written back in that form. */
const origins = new WeakMap<object, object>();

/** The original JSON of this value, where Rails would have written it in another way; undefined once the value has changed. */
export function originOf(value: object): object | undefined {
  const origin = origins.get(value);
  return origin !== undefined && value instanceof DateTime && value.iso !== memberOf(origin, 'value')
    ? undefined
    : origin;
}

function came<T extends object>(value: T, raw: object): T {
  // The begin and the end of a range are objects that may change.
  if (!(value instanceof RubyRange) || (!isObject(value.begin) && !isObject(value.end))) origins.set(value, raw);
  return value;
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null;
}

function memberOf(raw: object, key: string): unknown {
  return raw instanceof Map ? (raw as Map<string, unknown>).get(key) : (raw as Readonly<Record<string, unknown>>)[key];
}

class Reader {
  readonly #exact: boolean;
  readonly #maxDepth: number;
  readonly #deserialize: DecodeOptions['deserialize'];
  readonly #root: string;
  /** The path of the present value, for error messages. */
  readonly #path: (string | number)[] = [];

  constructor({ exact = false, maxDepth = MAX_DEPTH, deserialize }: DecodeOptions, root: string) {
    this.#exact = exact;
    this.#maxDepth = maxDepth;
    this.#deserialize = deserialize;
    this.#root = root;
  }

  list(list: readonly unknown[], depth: number): unknown[] {
    this.#deeper(depth);
    return list.map((item, index) => (isObject(item) ? this.#at(index, item, depth + 1) : item));
  }

  value(value: unknown, depth: number): unknown {
    if (typeof value !== 'object' || value === null || value instanceof Numeral) return value;
    if (Array.isArray(value)) return this.list(value, depth);
    this.#deeper(depth);
    const members: ReadonlyMap<string, unknown> = value instanceof Map ? value : new Map(Object.entries(value));
    // In the order of arguments.rb: a record is an object with only this one key, and an object with `_aj_serialized` belongs to a serializer.
    if (members.size === 1 && members.has(GLOBAL_ID)) return this.#record(members.get(GLOBAL_ID));
    if (members.has(SERIALIZED)) return this.#serialized(value, members, depth);
    return this.#hash(members, depth);
  }

  #hash(members: ReadonlyMap<string, unknown>, depth: number): object {
    const { kind, symbols, marks } = this.#markers(members);
    const entries: [string, unknown][] = [];
    for (const [key, item] of members) {
      if (marks.some(([name]) => name === key)) continue;
      entries.push([key, isObject(item) ? this.#at(key, item, depth + 1) : item]);
    }
    if (this.#exact) {
      const hash = new RubyHash(entries, kind, symbols);
      return mark(hash, { kind, symbols, came: { keys: [...hash.keys()], marks } });
    }
    const hash = toObject(entries);
    return mark(hash, { kind, symbols, came: { keys: Object.keys(hash), marks } });
  }

  /** arguments.rb `deserialize_hash`: removes the first mark that has a meaning, and the marks before it that have none. */
  #markers(members: ReadonlyMap<string, unknown>): Mark & Pick<NonNullable<Mark['came']>, 'marks'> {
    const marks: (readonly [string, unknown, number])[] = [];
    let kind: HashKind = 'bare';
    let symbols: ReadonlySet<string> = new Set();
    for (const [key, meaning] of MARKS) {
      if (!members.has(key)) continue;
      const value = members.get(key);
      marks.push([key, value, [...members.keys()].indexOf(key)]);
      if (value === null || value === false) continue;
      kind = meaning;
      if (key !== INDIFFERENT) {
        if (!Array.isArray(value)) throw this.#wrong(`${key} is a list of keys, not ${shown(value)}`);
        symbols = new Set(value.filter((name): name is string => typeof name === 'string'));
      }
      break;
    }
    return { kind, symbols, marks: marks.toSorted((a, b) => a[2] - b[2]) };
  }

  #record(uri: unknown): GlobalId {
    const id = typeof uri === 'string' ? GlobalId.parse(uri) : undefined;
    if (id === undefined) throw this.#wrong(`not a GlobalID: ${shown(uri)}; it is gid://app/Model/id`);
    return id;
  }

  #serialized(raw: object, members: ReadonlyMap<string, unknown>, depth: number): unknown {
    const name = members.get(SERIALIZED);
    if (typeof name !== 'string') throw this.#wrong(`no name of a serializer: ${shown(name)}`);
    const known = this.#known(name, members, depth);
    if (known !== undefined) return isUsual(name, members) ? known : came(known, raw);
    const rest = new Map(members);
    rest.delete(SERIALIZED);
    const object = came(new SerializedObject(name, rest), raw);
    return this.#deserialize?.(object) ?? object;
  }

  /** Undefined where the serializer is not Rails' own, or its value has a form that Ruby reads and JavaScript cannot. */
  #known(name: string, members: ReadonlyMap<string, unknown>, depth: number): object | undefined {
    const value = members.get('value');
    switch (name) {
      case SYMBOL:
        return new RubySymbol(this.#text(name, value));
      case MODULE:
        return new RubyModule(this.#text(name, value));
      case BIG_DECIMAL:
        return new Decimal(this.#text(name, value));
      case DATE: {
        const text = this.#text(name, value);
        return DATE_TEXT.test(text) ? new PlainDate(text) : undefined;
      }
      case TIME: {
        const iso = this.#time(name, value);
        return iso === undefined ? undefined : new RubyTime(iso);
      }
      case DATE_TIME: {
        const iso = this.#time(name, value);
        return iso === undefined ? undefined : new RubyDateTime(iso);
      }
      case TIME_WITH_ZONE: {
        const zone = members.get('time_zone') ?? undefined;
        const named = zone === undefined ? undefined : this.#text(name, zone);
        const iso = this.#time(name, value);
        return iso === undefined ? undefined : new TimeWithZone(iso, named);
      }
      case DURATION:
        return this.#duration(value, members.get('parts'), depth);
      case RANGE:
        return new RubyRange(
          this.#at('begin', members.get('begin') ?? null, depth + 1),
          this.#at('end', members.get('end') ?? null, depth + 1),
          isTrue(members.get('exclude_end')),
        );
      default:
        return undefined;
    }
  }

  #duration(seconds: unknown, parts: unknown, depth: number): Duration {
    if (!isNumber(seconds) || !Array.isArray(parts)) throw this.#wrong(`not a duration: ${shown(seconds)}`);
    const pairs = this.list(parts, depth + 1).map((pair): readonly [string, unknown] => {
      const [unit, amount] = Array.isArray(pair) ? (pair as readonly unknown[]) : [];
      if (!(unit instanceof RubySymbol) || !isNumber(amount) || originOf(unit) !== undefined)
        throw this.#wrong(`not a part of a duration: ${shown(pair)}`);
      return [unit.name, amount];
    });
    return new Duration(seconds, pairs);
  }

  #text(name: string, value: unknown): string {
    if (typeof value === 'string') return value;
    throw this.#wrong(`the value of ${name} is a text, not ${shown(value)}`);
  }

  /** Undefined for a time that JavaScript cannot represent; throws for a text that Ruby cannot read as a time either. */
  #time(name: string, value: unknown): string | undefined {
    const iso = this.#text(name, value);
    if (!isRubyTime(iso)) throw this.#wrong(`not a time: ${shown(iso)}`);
    return Number.isNaN(new DateTime(iso).getTime()) ? undefined : iso;
  }

  #at(key: string | number, item: unknown, depth: number): unknown {
    this.#path.push(key);
    const value = this.value(item, depth);
    this.#path.pop();
    return value;
  }

  #wrong(what: string): WireError {
    return undecodable(`${pathText(this.#root, this.#path)}: ${what}`);
  }

  #deeper(depth: number): void {
    if (depth < this.#maxDepth) return;
    const where = pathText(this.#root, this.#path.slice(0, 8));
    throw new WireError('active-job', 'too-deep', `${where}…: nested more than ${this.#maxDepth} levels deep`);
  }
}

const MARKS: readonly (readonly [string, HashKind])[] = [
  [INDIFFERENT, 'indifferent'],
  [SYMBOL_KEYS, 'hash'],
  [KEYWORDS, 'keywords'],
];

function isUsual(name: string, members: ReadonlyMap<string, unknown>): boolean {
  const wanted = MEMBERS.get(name) ?? [];
  const [first, ...others] = members.keys();
  const optional = name === TIME_WITH_ZONE && others.length === 1 ? wanted.slice(0, 1) : wanted;
  if (first !== SERIALIZED || others.length !== optional.length) return false;
  if (name === RANGE && typeof members.get('exclude_end') !== 'boolean') return false;
  if (name === TIME_WITH_ZONE && members.get('time_zone') === null) return false;
  return others.every((key, index) => key === optional[index]);
}

const DATE_TEXT = /^\d{4}-\d{2}-\d{2}$/;

function isNumber(value: unknown): boolean {
  return typeof value === 'number' || typeof value === 'bigint' || value instanceof Numeral;
}

function isTrue(value: unknown): boolean {
  return value !== undefined && value !== null && value !== false;
}
