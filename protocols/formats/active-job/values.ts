import { DateTime } from '../values.ts';

/**
 * Values that Ruby passes to an Active Job and for which JavaScript has no type. All of them are data: no name is looked up, and no code is called.
 * Each keeps its original text.
 */

/** A Ruby symbol: `new RubySymbol('daily')` is `:daily`. */
export class RubySymbol {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
  toString(): string {
    return this.name;
  }
}

/** A Ruby class or module by its name: `new RubyModule('Billing::Invoice')`. */
export class RubyModule {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
  toString(): string {
    return this.name;
  }
}

/**
 * A reference to a record of a Rails application: `gid://shop/Order/42`. The Rails application loads the record; here there is only the reference.
 *
 *     new GlobalId('shop', 'Order', 42)     GlobalId.parse('gid://shop/Order/42')
 */
export class GlobalId {
  /** The whole text. */
  readonly uri: string;
  readonly app: string;
  /** The class: `Order`, `Billing::Invoice`. */
  readonly model: string;
  /** The key's parts, decoded: one, or several where the key is composite. */
  readonly ids: readonly string[];
  readonly params: ReadonlyMap<string, string>;

  constructor(
    app: string,
    model: string,
    id: string | number | bigint | readonly (string | number | bigint)[],
    params: Readonly<Record<string, string>> = {},
  ) {
    const ids: readonly unknown[] = Array.isArray(id) ? id : [id];
    const query = Object.entries(params).map(([key, value]) => `${escape(key)}=${escape(value)}`);
    const path = ids.map((part) => escape(String(part))).join('/');
    const uri = `gid://${app}/${model}/${path}${query.length === 0 ? '' : `?${query.join('&')}`}`;
    const parts = GID.exec(uri);
    if (parts === null || ids.some((part) => String(part) === ''))
      throw new TypeError(`not the name of a record: ${uri}; it is gid://app/Model/id`);
    this.uri = uri;
    this.app = app;
    this.model = model;
    this.ids = ids.map(String);
    this.params = new Map(Object.entries(params));
  }

  /** Undefined where the text is not a GlobalID. */
  static parse(uri: string): GlobalId | undefined {
    const [, app, model, path, query] = GID.exec(uri) ?? [];
    if (app === undefined || model === undefined || path === undefined) return undefined;
    try {
      const made = Object.create(GlobalId.prototype) as { -readonly [Key in keyof GlobalId]: GlobalId[Key] };
      made.uri = uri;
      made.app = app;
      made.model = model;
      made.ids = path.split('/').map(unescape);
      made.params = new Map(pairs(query));
      return made as GlobalId;
    } catch {
      // A percent sign without two digits after it.
      return undefined;
    }
  }

  /** The key: its parts joined with `/` where there are several. */
  get id(): string {
    return this.ids.join('/');
  }
  toString(): string {
    return this.uri;
  }
}

const GID = /^gid:\/\/([A-Za-z0-9._-]+)\/([^/?#\s]+)\/([^?#\s]+)(?:\?([^#\s]*))?$/;

function pairs(query: string | undefined): [string, string][] {
  return (query ?? '')
    .split('&')
    .filter((pair) => pair !== '')
    .map((pair) => {
      const at = pair.indexOf('=');
      return at === -1 ? [unescape(pair), ''] : [unescape(pair.slice(0, at)), unescape(pair.slice(at + 1))];
    });
}

/** Ruby's CGI.escape. */
function escape(text: string): string {
  return encodeURIComponent(text)
    .replaceAll('%20', '+')
    .replace(/[!'()*]/g, (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`);
}

function unescape(text: string): string {
  return decodeURIComponent(text.replaceAll('+', ' '));
}

/** A Ruby `Time`: a JavaScript Date (to the millisecond) that remembers its nanoseconds and its offset: `2024-02-29T12:34:56.789000000+02:00`. */
export class RubyTime extends DateTime {}

/** A Ruby `DateTime`, which is a class of its own beside `Time`. */
export class RubyDateTime extends DateTime {}

/** Rails' `TimeWithZone`: a time with the name of its zone; undefined where Rails before 7.1 wrote it, which kept the offset only. */
export class TimeWithZone extends DateTime {
  readonly zone: string | undefined;
  constructor(iso: string, zone: string | undefined) {
    super(iso);
    this.zone = zone;
  }
}

export type DurationUnit = 'years' | 'months' | 'weeks' | 'days' | 'hours' | 'minutes' | 'seconds';

/**
 * Rails' `Duration`: `Duration.of({ months: 1, days: 3 })`. A month added to a date is a calendar month. Its seconds are those of an average month.
 */
export class Duration {
  /** A number; a Numeral or bigint where a number would lose something. */
  readonly seconds: unknown;
  /** In the order they were given. */
  readonly parts: readonly (readonly [unit: string, amount: unknown])[];
  constructor(seconds: unknown, parts: readonly (readonly [unit: string, amount: unknown])[]) {
    this.seconds = seconds;
    this.parts = parts;
  }
  static of(parts: Readonly<Partial<Record<DurationUnit, number>>>): Duration {
    const given = Object.entries(parts) as [DurationUnit, number][];
    return new Duration(
      given.reduce((sum, [unit, amount]) => sum + amount * SECONDS[unit], 0),
      given,
    );
  }
  /** Milliseconds, so that it can be added to a time. */
  valueOf(): number {
    return Number(this.seconds) * 1000;
  }
}

/** ActiveSupport::Duration: a year is 365.2425 days, a month is a twelfth of that. */
const SECONDS: Readonly<Record<DurationUnit, number>> = {
  years: 31_556_952,
  months: 2_629_746,
  weeks: 604_800,
  days: 86_400,
  hours: 3600,
  minutes: 60,
  seconds: 1,
};

/** A Ruby range: `new RubyRange(1, 5)` is `1..5`, `new RubyRange(1, 5, true)` is `1...5`; null is an open begin or end. */
export class RubyRange<T = unknown> {
  readonly begin: T | null;
  readonly end: T | null;
  readonly excludeEnd: boolean;
  constructor(begin: T | null, end: T | null, excludeEnd = false) {
    this.begin = begin;
    this.end = end;
    this.excludeEnd = excludeEnd;
  }
}

/**
 * The output of a serializer of the application, unchanged: `new SerializedObject('MoneySerializer', { cents: 5 })`. The members are JSON, and
 * nothing in them is decoded.
 */
export class SerializedObject {
  readonly serializer: string;
  readonly members: ReadonlyMap<string, unknown>;
  constructor(serializer: string, members: ReadonlyMap<string, unknown> | Readonly<Record<string, unknown>>) {
    this.serializer = serializer;
    this.members = members instanceof Map ? new Map(members) : new Map(Object.entries(members));
  }
}
