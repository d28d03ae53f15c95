import { Buffer } from 'node:buffer';
import { WireError } from '../../errors.ts';
import { isPlain, MAX_DEPTH, pathText, typeName } from '../plain.ts';
import { Decimal, Numeral, PlainDate, PlainTime, Uuid } from '../values.ts';
import { dateArgs, dateTimeArgs, timeArgs } from './datetimes.ts';
import { tooDeep } from './errors.ts';
import { Hashability } from './hashable.ts';
import { integerBytes } from './integers.ts';
import * as op from './opcodes.ts';
import { Output } from './output.ts';
import { python2Name } from './python2-names.ts';
import { utf8Bytes } from './text.ts';
import { ByteArray, type Callable, FrozenSet, PyExtension, PyGlobal, PyObject, TimeDelta, Tuple } from './values.ts';

/** 4 is read by Python 3.4 and later, 2 by every Python. */
export type WriteProtocol = 2 | 4;

/** Members in one APPENDS, SETITEMS or ADDITEMS. */
const BATCH = 1000;
const INTEGER = /^-?\d+$/;
const NUMERAL = /^(?:-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|NaN|-?Infinity)$/;

const DATE = new PyGlobal('datetime', 'date');
const TIME = new PyGlobal('datetime', 'time');
const DATETIME = new PyGlobal('datetime', 'datetime');
const TIMEDELTA = new PyGlobal('datetime', 'timedelta');
const DECIMAL = new PyGlobal('decimal', 'Decimal');
const UUID = new PyGlobal('uuid', 'UUID');
const SET = new PyGlobal('builtins', 'set');
const FROZENSET = new PyGlobal('builtins', 'frozenset');
const BYTEARRAY = new PyGlobal('builtins', 'bytearray');
const BYTES = new PyGlobal('builtins', 'bytes');
const GETATTR = new PyGlobal('builtins', 'getattr');
const CODECS_ENCODE = new PyGlobal('_codecs', 'encode');
const PARTIAL = new PyGlobal('functools', 'partial');

/**
 * Writes as CPython's C pickler does, opcode by opcode (Modules/_pickle.c `save`), with one choice of its own: equal texts are one
 * text. Objects that stand in several places, or in themselves, are written once.
 */
export class Writer {
  readonly #out = new Output();
  readonly #protocol: WriteProtocol;
  readonly #root: string;
  readonly #texts = new Map<string, number>();
  readonly #globals = new Map<string, number>();
  readonly #objects = new Map<object, number>();
  readonly #hashability = new Hashability();
  readonly #path: (string | number)[] = [];
  #memoized = 0;
  #depth = 0;

  constructor(protocol: WriteProtocol, root: string) {
    this.#protocol = protocol;
    this.#root = root;
  }

  write(value: unknown): Buffer {
    this.#out.number(op.PROTO, this.#protocol, 1);
    if (this.#protocol >= 4) this.#out.startFraming();
    this.#save(value);
    this.#out.code(op.STOP);
    return this.#out.end();
  }

  #save(value: unknown): void {
    this.#out.boundary();
    switch (typeof value) {
      case 'string':
        return this.#text(value);
      case 'number':
        return Number.isSafeInteger(value) && !Object.is(value, -0) ? this.#integer(value) : this.#out.float(value);
      case 'boolean':
        return this.#out.code(value ? op.NEWTRUE : op.NEWFALSE);
      case 'undefined':
        return this.#out.code(op.NONE);
      case 'bigint':
        return this.#bigInteger(value);
      case 'object':
        return value === null ? this.#out.code(op.NONE) : this.#object(value);
      case 'function':
      case 'symbol':
        throw this.#unencodable(typeName(value));
    }
  }

  #object(value: object): void {
    const known = this.#objects.get(value);
    if (known !== undefined) return this.#get(known);
    if (this.#depth >= MAX_DEPTH) throw tooDeep(MAX_DEPTH);
    this.#depth += 1;
    if (Array.isArray(value)) {
      if (value instanceof Tuple) this.#tuple(value, value);
      else this.#list(value);
    } else if (value instanceof Map) {
      this.#mapping([...value], value);
    } else if (isPlain(value)) {
      this.#mapping(Object.entries(value), value);
    } else this.#special(value);
    this.#depth -= 1;
  }

  #special(value: object): void {
    if (value instanceof Numeral) return this.#numeral(value);
    if (value instanceof Uint8Array)
      return value instanceof ByteArray ? this.#byteArray(value) : this.#bytes(value, value);
    if (value instanceof Set) return value instanceof FrozenSet ? this.#frozenSet(value) : this.#set(value);
    if (value instanceof Date) {
      return this.#call(value, DATETIME, this.#known(dateTimeArgs(value), `the time ${String(value)}`));
    }
    if (value instanceof PlainDate)
      return this.#call(value, DATE, this.#known(dateArgs(value), `the date ${value.iso}`));
    if (value instanceof PlainTime)
      return this.#call(value, TIME, this.#known(timeArgs(value), `the time ${value.iso}`));
    if (value instanceof TimeDelta)
      return this.#call(value, TIMEDELTA, [value.days, value.seconds, value.microseconds]);
    if (value instanceof Decimal) return this.#call(value, DECIMAL, [value.text]);
    if (value instanceof Uuid) return this.#uuid(value);
    if (value instanceof PyGlobal) return this.#global(value);
    if (value instanceof PyObject) return this.#instance(value);
    if (value instanceof PyExtension) return this.#extension(value);
    throw this.#unencodable(`${typeName(value)}. Pass plain data instead`);
  }

  #integer(value: number): void {
    if (value >= 0 && value <= 0xff) this.#out.number(op.BININT1, value, 1);
    else if (value >= 0 && value <= 0xffff) this.#out.number(op.BININT2, value, 2);
    else if (value === (value | 0)) this.#out.number(op.BININT, value, 4);
    else this.#bigInteger(BigInt(value));
  }

  #bigInteger(value: bigint): void {
    if (value >= -0x8000_0000n && value <= 0x7fff_ffffn) return this.#integer(Number(value));
    const bytes = integerBytes(value);
    if (bytes.length <= 0xff) this.#out.counted(op.LONG1, bytes, 1);
    else this.#out.counted(op.LONG4, bytes, 4);
  }

  #numeral({ text }: Numeral): void {
    if (!NUMERAL.test(text)) throw this.#unencodable(`${JSON.stringify(text)}, which is not a number`);
    if (INTEGER.test(text) && text !== '-0') this.#bigInteger(BigInt(text));
    else this.#out.float(Number(text));
  }

  #text(text: string): void {
    const known = this.#texts.get(text);
    if (known !== undefined) return this.#get(known);
    this.#texts.set(text, this.#newText(text));
  }

  #newText(text: string): number {
    if (this.#protocol >= 4 && text.length <= SHORT_TEXT && PRINTABLE.test(text)) {
      this.#out.ascii(op.SHORT_BINUNICODE, text);
    } else {
      const bytes = utf8Bytes(text);
      if (this.#protocol >= 4 && bytes.length <= 0xff) this.#out.counted(op.SHORT_BINUNICODE, bytes, 1);
      else this.#out.counted(op.BINUNICODE, bytes, 4);
    }
    return this.#memoize();
  }

  #bytes(value: Uint8Array, owner: object | undefined): void {
    if (this.#protocol >= 4) {
      if (value.length <= 0xff) this.#out.counted(op.SHORT_BINBYTES, value, 1);
      else if (value.length <= 0xffff_ffff) this.#out.counted(op.BINBYTES, value, 4);
      else this.#out.counted(op.BINBYTES8, value, 8);
      return this.#remember(owner);
    }
    if (value.length === 0) return this.#call(owner, BYTES, []);
    const text = Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('latin1');
    this.#call(owner, CODECS_ENCODE, [text, 'latin1']);
  }

  #byteArray(value: ByteArray): void {
    this.#call(value, BYTEARRAY, value.length === 0 ? [] : [Buffer.from(value)]);
  }

  #list(items: readonly unknown[]): void {
    this.#out.code(op.EMPTY_LIST);
    this.#remember(items);
    this.#appends(items);
  }

  #appends(items: readonly unknown[]): void {
    if (items.length === 1) {
      this.#item(items[0], 0);
      this.#out.code(op.APPEND);
      return;
    }
    for (let start = 0; start < items.length; start += BATCH) {
      this.#out.code(op.MARK);
      const end = Math.min(items.length, start + BATCH);
      for (let index = start; index < end; index += 1) this.#item(items[index], index);
      this.#out.code(op.APPENDS);
    }
  }

  /** A member that is undefined is none, as in JSON. */
  #mapping(members: readonly (readonly [unknown, unknown])[], owner: object): void {
    this.#out.code(op.EMPTY_DICT);
    this.#remember(owner);
    this.#setItems(members.filter(([, item]) => item !== undefined));
  }

  #setItems(entries: readonly (readonly [unknown, unknown])[]): void {
    const size = entries.length;
    if (size === 0) return;
    if (size > 1) this.#out.code(op.MARK);
    let index = 0;
    for (const [key, item] of entries) {
      this.#key(key);
      this.#item(item, typeof key === 'string' || typeof key === 'number' ? key : '');
      index += 1;
      // After a full batch CPython begins another, though nothing may be left for it.
      if (size > 1 && index % BATCH === 0) {
        this.#out.code(op.SETITEMS);
        this.#out.code(op.MARK);
      }
    }
    this.#out.code(size > 1 ? op.SETITEMS : op.SETITEM);
  }

  #set(set: ReadonlySet<unknown>): void {
    if (this.#protocol < 4) return this.#call(set, SET, [[...set].map((member) => this.#hashable(member))]);
    this.#out.code(op.EMPTY_SET);
    this.#remember(set);
    if (set.size === 0) return;
    this.#out.code(op.MARK);
    let index = 0;
    for (const member of set) {
      this.#key(member);
      index += 1;
      if (index % BATCH === 0) {
        this.#out.code(op.ADDITEMS);
        this.#out.code(op.MARK);
      }
    }
    this.#out.code(op.ADDITEMS);
  }

  #frozenSet(set: FrozenSet): void {
    if (this.#protocol < 4) return this.#call(set, FROZENSET, [[...set].map((member) => this.#hashable(member))]);
    this.#out.code(op.MARK);
    for (const member of set) this.#key(member);
    const known = this.#objects.get(set);
    if (known === undefined) {
      this.#out.code(op.FROZENSET);
      this.#remember(set);
      return;
    }
    // It contains itself by way of one of its members, and was written there.
    this.#out.code(op.POP_MARK);
    this.#get(known);
  }

  #tuple(items: readonly unknown[], owner: object | undefined): void {
    if (items.length === 0) return this.#out.code(op.EMPTY_TUPLE);
    const short = items.length <= 3;
    if (!short) this.#out.code(op.MARK);
    for (let index = 0; index < items.length; index += 1) this.#item(items[index], index);
    const known = owner === undefined ? undefined : this.#objects.get(owner);
    if (known !== undefined) {
      // It contains itself by way of a list or the like, and was written there.
      if (!short) this.#out.code(op.POP_MARK);
      else for (let index = 0; index < items.length; index += 1) this.#out.code(op.POP);
      return this.#get(known);
    }
    this.#out.code(short ? op.TUPLE1 + items.length - 1 : op.TUPLE);
    this.#remember(owner);
  }

  #uuid(value: Uuid): void {
    if (!/^[0-9a-f]{32}$/.test(value.hex)) throw this.#unencodable(`${JSON.stringify(value.hex)}, which is no UUID`);
    this.#global(UUID);
    this.#out.code(op.EMPTY_TUPLE);
    this.#out.code(op.NEWOBJ);
    this.#remember(value);
    this.#save({ int: BigInt(`0x${value.hex}`) });
    this.#out.code(op.BUILD);
  }

  /** What Python makes by a call, with arguments that nothing else refers to. */
  #call(owner: object | undefined, callable: PyGlobal, args: readonly unknown[]): void {
    this.#global(callable);
    this.#tuple(args, undefined);
    this.#out.code(op.REDUCE);
    this.#made(owner);
  }

  /** Made by now, or already while its arguments were written: then that one counts. */
  #made(owner: object | undefined): void {
    const known = owner === undefined ? undefined : this.#objects.get(owner);
    if (known === undefined) return this.#remember(owner);
    this.#out.code(op.POP);
    this.#get(known);
  }

  #instance(object: PyObject): void {
    const { callable, args, making, kwargs } = object;
    if (making === 'instance') {
      this.#out.code(op.MARK);
      this.#save(callable);
      for (const [index, arg] of args.entries()) this.#item(arg, index);
      this.#out.code(op.OBJ);
    } else if (kwargs !== undefined && this.#protocol < 4) {
      this.#newByPartial(callable, args, kwargs);
    } else {
      this.#save(callable);
      this.#save(args);
      if (kwargs !== undefined) this.#save(kwargs);
      this.#out.code(making === 'reduce' ? op.REDUCE : kwargs === undefined ? op.NEWOBJ : op.NEWOBJ_EX);
    }
    this.#made(object);
    this.#appends(object.listItems);
    this.#setItems(object.dictItems);
    if (object.state === undefined) return;
    if (object.stateSetter === undefined) {
      this.#save(object.state);
      this.#out.code(op.BUILD);
      return;
    }
    this.#save(object.stateSetter);
    this.#save(object);
    this.#save(object.state);
    this.#out.code(op.TUPLE2);
    this.#out.code(op.REDUCE);
    this.#out.code(op.POP);
  }

  /** `__new__` with arguments by name, before protocol 4 had an opcode for it (Lib/pickle.py `save_reduce`). */
  #newByPartial(callable: Callable, args: Tuple, kwargs: unknown): void {
    const maker = new PyObject(GETATTR, Tuple.of<unknown>(callable, '__new__'));
    const partial = new PyObject(PARTIAL, Tuple.of<unknown>(maker));
    partial.state = Tuple.of<unknown>(maker, Tuple.of<unknown>(callable, ...args), kwargs, null);
    this.#save(partial);
    this.#out.code(op.EMPTY_TUPLE);
    this.#out.code(op.REDUCE);
  }

  #global({ module, name }: PyGlobal): void {
    const key = `${module}\n${name}`;
    const known = this.#globals.get(key);
    if (known !== undefined) return this.#get(known);
    const dot = name.lastIndexOf('.');
    if (this.#protocol >= 4) {
      this.#save(module);
      // `datetime` of `datetime` is two texts to CPython.
      if (name === module) this.#newText(name);
      else this.#save(name);
      this.#out.code(op.STACK_GLOBAL);
    } else if (dot > 0) {
      this.#global(GETATTR);
      this.#tuple([new PyGlobal(module, name.slice(0, dot)), name.slice(dot + 1)], undefined);
      this.#out.code(op.REDUCE);
    } else {
      const [module2, name2] = python2Name(module, name);
      if (`${module2}${name2}`.includes('\n')) throw this.#unencodable('a class with a line end in its name');
      this.#out.lines(op.GLOBAL, utf8Bytes(module2), utf8Bytes(name2));
    }
    this.#globals.set(key, this.#memoize());
  }

  #extension({ code }: PyExtension): void {
    if (!Number.isInteger(code) || code < 1 || code > 0x7fffffff)
      throw this.#unencodable(`the extension ${code}, which cannot be: codes are 1 to 2147483647`);
    if (code <= 0xff) this.#out.number(op.EXT1, code, 1);
    else if (code <= 0xffff) this.#out.number(op.EXT2, code, 2);
    else this.#out.number(op.EXT4, code, 4);
  }

  #item(value: unknown, key: string | number): void {
    this.#path.push(key);
    this.#save(value);
    this.#path.pop();
  }

  #key(value: unknown): void {
    this.#save(this.#hashable(value));
  }

  #hashable(value: unknown): unknown {
    const obstacle = this.#hashability.obstacle(value);
    if (obstacle === undefined) return value;
    throw this.#unencodable(`a ${obstacle} as a key or in a set, which Python cannot have; use a Tuple or a FrozenSet`);
  }

  #known<T>(value: T | undefined, what: string): T {
    if (value === undefined) throw this.#unencodable(`${what}, which Python cannot have`);
    return value;
  }

  #remember(owner: object | undefined): void {
    const index = this.#memoize();
    if (owner !== undefined) this.#objects.set(owner, index);
  }

  #memoize(): number {
    const index = this.#memoized;
    this.#memoized += 1;
    if (this.#protocol >= 4) this.#out.code(op.MEMOIZE);
    else if (index <= 0xff) this.#out.number(op.BINPUT, index, 1);
    else this.#out.number(op.LONG_BINPUT, index, 4);
    return index;
  }

  #get(index: number): void {
    if (index <= 0xff) this.#out.number(op.BINGET, index, 1);
    else this.#out.number(op.LONG_BINGET, index, 4);
  }

  #unencodable(what: string): WireError {
    return new WireError('pickle', 'unencodable', `cannot write ${pathText(this.#root, this.#path)}: ${what}`);
  }
}

const SHORT_TEXT = 0xff;
const PRINTABLE = /^[\0-\x7f]*$/;
