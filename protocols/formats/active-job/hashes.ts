/**
 * Ruby's hashes. Beside keys and values a hash has this: which of its keys are symbols, whether it is the keywords of a call, and whether both forms
 * of a key find a value. A plain object does not show this, but it is remembered for the object: passed on unchanged, it becomes the same hash again.
 * For a copy (`{ ...hash }`) it is not remembered.
 */

/**
 * `hash`: a Hash. `keywords`: the keywords of a call. `indifferent`: ActiveSupport's HashWithIndifferentAccess. `bare`: an object that other software
 * wrote, without Rails' marks; Ruby reads it as a hash with texts for keys.
 */
export type HashKind = 'hash' | 'keywords' | 'indifferent' | 'bare';

/** A hash that contains its kind, and keeps the order of its keys. */
export class RubyHash extends Map<string, unknown> {
  readonly kind: HashKind;
  /** The keys that are symbols. */
  readonly symbols: ReadonlySet<string>;
  constructor(
    entries: Iterable<readonly [string, unknown]> = [],
    kind: HashKind = 'hash',
    symbols: Iterable<string> = [],
  ) {
    super(entries);
    this.kind = kind;
    this.symbols = new Set(symbols);
  }
}

/** `{ a: 1 }` as Ruby's `{a: 1}`, with symbols for keys. Without this, TypeScript's `{ a: 1 }` becomes Ruby's `{"a" => 1}`. */
export function symbolKeys(members: Readonly<Record<string, unknown>> | ReadonlyMap<string, unknown>): RubyHash {
  const entries = entriesOf(members);
  return new RubyHash(
    entries,
    'hash',
    entries.map(([key]) => key),
  );
}

/** A HashWithIndifferentAccess. */
export function indifferentHash(members: Readonly<Record<string, unknown>> | ReadonlyMap<string, unknown>): RubyHash {
  return new RubyHash(entriesOf(members), 'indifferent');
}

/** The keywords of a call, as its last argument. */
export function keywordHash(members: Readonly<Record<string, unknown>> | ReadonlyMap<string, unknown>): RubyHash {
  const entries = entriesOf(members);
  return new RubyHash(
    entries,
    'keywords',
    entries.map(([key]) => key),
  );
}

/** The kind of a hash that was decoded, or that was made a RubyHash; undefined for any other object. */
export function hashKind(hash: object): HashKind | undefined {
  return markOf(hash)?.kind;
}

/** The keys of this hash that are symbols in Ruby. */
export function symbolsOf(hash: object): ReadonlySet<string> {
  return markOf(hash)?.symbols ?? new Set();
}

export interface Mark {
  readonly kind: HashKind;
  readonly symbols: ReadonlySet<string>;
  /** Its decoded form; undefined where Rails would have written the same form. */
  readonly came?: {
    readonly keys: readonly string[];
    /** The marks among the members, each with its position. */
    readonly marks: readonly (readonly [key: string, value: unknown, at: number])[];
  };
}

const marks = new WeakMap<object, Mark>();

export function mark<T extends object>(hash: T, what: Mark): T {
  marks.set(hash, what);
  return hash;
}

export function markOf(hash: object): Mark | undefined {
  return marks.get(hash) ?? (hash instanceof RubyHash ? hash : undefined);
}

export function entriesOf(
  members: Readonly<Record<string, unknown>> | ReadonlyMap<string, unknown>,
): [string, unknown][] {
  return members instanceof Map ? [...(members as Map<string, unknown>)] : Object.entries(members);
}

/** Members as an object of JSON. A Map where an object would change their order. */
export function toJson(entries: readonly (readonly [string, unknown])[]): object {
  return entries.some(([key]) => INDEX.test(key)) ? new Map(entries) : toObject(entries);
}

/** Members as a plain object; `__proto__` is an ordinary member. */
export function toObject(entries: Iterable<readonly [string, unknown]>): Record<string, unknown> {
  const made: Record<string, unknown> = {};
  for (const [key, value] of entries) {
    if (key !== '__proto__') made[key] = value;
    else Object.defineProperty(made, key, { value, writable: true, enumerable: true, configurable: true });
  }
  return made;
}

const INDEX = /^(?:0|[1-9]\d{0,9})$/;
