import { DateTime } from '../values.ts';

/** What Python pickles and JavaScript has no form for. All of it is data: nothing here can be called, and nothing here calls. */

/** A Python tuple: an array that is written as a tuple again. `Tuple.of(1, 2)`; what its methods make are plain arrays. */
export class Tuple<T = unknown> extends Array<T> {
  static override get [Symbol.species](): ArrayConstructor {
    return Array;
  }
}

/** A Python frozenset: a Set that is written as a frozenset again. */
export class FrozenSet<T = unknown> extends Set<T> {}

/** A Python bytearray. Other bytes (Buffer, Uint8Array) are Python's `bytes`. */
export class ByteArray extends Uint8Array {}

/** A Python timedelta as Python keeps it: days may be negative, the rest may not. */
export class TimeDelta {
  readonly days: number;
  /** 0 to 86399. */
  readonly seconds: number;
  /** 0 to 999999. */
  readonly microseconds: number;
  constructor(days: number, seconds = 0, microseconds = 0) {
    this.days = days;
    this.seconds = seconds;
    this.microseconds = microseconds;
  }
  static fromMilliseconds(ms: number): TimeDelta {
    const micros = Math.round(ms * 1000);
    const seconds = Math.floor(micros / 1e6);
    const days = Math.floor(seconds / DAY_SECONDS);
    return new TimeDelta(days, seconds - days * DAY_SECONDS, micros - seconds * 1e6);
  }
  /** Milliseconds, so that it can be added to a time. */
  valueOf(): number {
    return (this.days * DAY_SECONDS + this.seconds) * 1000 + this.microseconds / 1000;
  }
}

const DAY_SECONDS = 86_400;

/**
 * A datetime with more than its text can hold: a zone with rules or a name, or the second of two equal wall times. Its text has
 * the offset that the zone had then.
 */
export class ZonedDateTime extends DateTime {
  /** The tzinfo as it was pickled; undefined where there was none. */
  readonly zone: unknown;
  /** 1 for the second time a clock shows this. */
  readonly fold: 0 | 1;
  readonly #wasIso: string;
  constructor(iso: string, zone: unknown, fold: 0 | 1 = 0) {
    super(iso);
    this.zone = zone;
    this.fold = fold;
    this.#wasIso = iso;
  }
  /** True once a setter changed the time: then it is a moment in UTC. */
  get moved(): boolean {
    return this.iso !== this.#wasIso;
  }
}

/** A class or function by its name: `new PyGlobal('builtins', 'range')`. A nested one has dots: `Outer.Inner`. */
export class PyGlobal {
  readonly module: string;
  readonly name: string;
  constructor(module: string, name: string) {
    this.module = module;
    this.name = name;
  }
  toString(): string {
    return `${this.module}.${this.name}`;
  }
}

/**
 * A class or function by its number in the registry of extensions (`copyreg.add_extension`), 1 to 2147483647. Only the other side
 * knows the name; written again it is the same number, which whoever has registered it loads.
 */
export class PyExtension {
  readonly code: number;
  constructor(code: number) {
    this.code = code;
  }
  toString(): string {
    return `extension ${this.code}`;
  }
}

/** What stands where Python expects something to call. */
export type Callable = PyGlobal | PyExtension | PyObject;

/**
 * How Python would make the object: by calling (`reduce`), by `cls.__new__` (`new`), or as Python 2 made instances of its old
 * classes (`instance`).
 */
export type Making = 'reduce' | 'new' | 'instance';

/**
 * An object of a class that has no form in JavaScript: what Python would call to make it, and what it would put in. Written again
 * it is the same object in Python. `new PyObject(new PyGlobal('builtins', 'range'), Tuple.of(0, 10, 1))`.
 */
export class PyObject {
  readonly making: Making;
  readonly callable: Callable;
  readonly args: Tuple;
  /** Arguments by name, of `__new__` only. */
  readonly kwargs: unknown;
  /** What is appended to it: the items of a list's subclass, or of a deque. */
  readonly listItems: unknown[] = [];
  /** What is set in it by key: the items of a dict's subclass, an OrderedDict, a defaultdict. */
  readonly dictItems: [key: unknown, value: unknown][] = [];
  /** What `__setstate__` or the object's `__dict__` gets; undefined where nothing does. */
  state: unknown;
  /** A function that sets the state in place of `__setstate__`. */
  stateSetter: Callable | undefined;

  constructor(callable: Callable, args: Tuple = new Tuple(), making: Making = 'reduce', kwargs?: unknown) {
    this.callable = callable;
    this.args = args;
    this.making = making;
    this.kwargs = kwargs;
  }

  /** The name of its class, or of the function that makes it, where that is known: `uuid.UUID`, `collections.deque`. */
  get className(): string | undefined {
    return this.global?.toString();
  }

  /** The class, or the function that makes it, where it is one with a name. */
  get global(): PyGlobal | undefined {
    const { callable } = this;
    if (!(callable instanceof PyGlobal)) return undefined;
    // Protocols 0 and 1 make plain objects by a function of copyreg's.
    const first: unknown = this.args[0];
    return callable.module === 'copyreg' && callable.name === '_reconstructor' && first instanceof PyGlobal
      ? first
      : callable;
  }
}

/** True where it is that class or function. */
export function isGlobal(value: unknown, module: string, name: string): boolean {
  return value instanceof PyGlobal && value.name === name && value.module === module;
}
