import { Buffer } from 'node:buffer';
import { float } from '../values.ts';
import { Cursor } from './cursor.ts';
import { tooLarge, undecodable } from './errors.ts';
import { Hashability } from './hashable.ts';
import { readInteger } from './integers.ts';
import { checkDepth, measure } from './measure.ts';
import * as op from './opcodes.ts';
import { python3Name } from './python2-names.ts';
import { python2String, readQuoted, readRawUnicode, readUtf8 } from './text.ts';
import { ByteArray, type Callable, FrozenSet, type Making, PyExtension, PyGlobal, PyObject, Tuple } from './values.ts';
import { construct, constructUuid } from './well-known.ts';

export interface Limits {
  /** Containers inside containers. */
  readonly maxDepth: number;
  /** What may be put on the stack and into the memo; a container counts as eight. */
  readonly maxItems: number;
  /** Values and characters, with what is shared counted in each place. */
  readonly maxOutput: number;
  /** Of one integer. */
  readonly maxIntegerBytes: number;
}

export interface ReaderOptions {
  readonly exact: boolean;
  readonly limits: Limits;
  /** Asked before a REDUCE becomes a PyObject. Undefined: it does. */
  readonly construct: ((callable: PyGlobal, args: Tuple) => unknown) | undefined;
}

/**
 * Reads one pickle. Dicts are plain objects until a key comes that is no text; then they are replaced by a Map. Where the object
 * was already seen elsewhere (a dict that contains itself), all is read once more, with Maps from the start.
 */
export function read(bytes: Buffer, options: ReaderOptions): unknown {
  const first = new Machine(bytes, options, undefined);
  const value = first.run();
  if (!first.stale) return value;
  const second = new Machine(bytes, options, new DictNotes());
  second.run();
  return new Machine(bytes, options, second.notes).run();
}

/** Beyond the one that every opcode costs. */
const CONTAINER_COST = 7;
const MARK_COST = 3;
/** Between a UUID and its BUILD stand its state and the name in it; of protocol 1 also a class and its arguments. */
const NEWEST = 8;
/** How deep a function may call itself without a thought for the stack. */
const SAFE_DEPTH = 2000;
const HIGHEST_PROTOCOL = 5;
const INTEGER = /^[+-]?\d+$/;
const FLOATING = /^[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?|nan)$/i;

/** Which dicts, by the byte they began at, had keys that are no texts. */
class DictNotes {
  readonly maps: Set<number> = new Set();
  readonly born: Map<object, number> = new Map();
}

type Dict = Map<unknown, unknown> | Record<string, unknown>;

class Machine {
  readonly notes: DictNotes | undefined;
  /** True once a dict was replaced that stands elsewhere, too. */
  stale = false;

  readonly #in: Cursor;
  readonly #options: ReaderOptions;
  readonly #limits: Limits;
  readonly #stack: unknown[] = [];
  readonly #marks: number[] = [];
  /** Below here the stack belongs to before the last mark. */
  #fence = 0;
  readonly #memo: unknown[] = [];
  /** Memo entries whose numbers leave gaps. */
  readonly #farMemo = new Map<number, unknown>();
  /** Dicts that were replaced, and the Map in place of each. */
  readonly #replaced = new Map<object, Map<unknown, unknown>>();
  readonly #shared = new Set<object>();
  readonly #hashability = new Hashability();
  #protocol = 0;
  #items = 0;
  #containers = 0;
  #sharedText = 0;
  /** Where the opcode stands. */
  #at = 0;

  constructor(bytes: Buffer, options: ReaderOptions, notes: DictNotes | undefined) {
    this.#in = new Cursor(bytes);
    this.#options = options;
    this.#limits = options.limits;
    this.notes = notes;
  }

  run(): unknown {
    const input = this.#in;
    for (;;) {
      this.#at = input.at;
      const code = input.byte();
      if (code === op.STOP) return this.#end();
      this.#step(code);
      this.#items += 1;
      if (this.#items > this.#limits.maxItems) {
        throw tooLarge(`more than ${this.#limits.maxItems} values in a pickle`, this.#at);
      }
    }
  }

  #end(): unknown {
    const value = this.#pop();
    if (this.#stack.length > 0 || this.#marks.length > 0) throw this.#fail('it ends with more than one value');
    if (this.#in.left > 0) throw undecodable(`${this.#in.left} bytes after its end`, this.#in.at);
    const { maxDepth, maxOutput } = this.#limits;
    if (this.#shared.size > 0) measure(value, { maxDepth, maxOutput });
    else if (this.#containers > maxDepth) {
      if (maxDepth <= SAFE_DEPTH) checkDepth(value, maxDepth);
      else measure(value, { maxDepth, maxOutput });
    }
    return value;
  }

  #step(code: number): void {
    const input = this.#in;
    const stack = this.#stack;
    switch (code) {
      case op.SHORT_BINUNICODE:
        return this.#text(input.byte());
      case op.MEMOIZE:
        return this.#put(this.#memo.length + this.#farMemo.size);
      case op.BINPUT:
        return this.#put(input.byte());
      case op.LONG_BINPUT:
        return this.#put(input.u32());
      case op.BINGET:
        return this.#get(input.byte());
      case op.LONG_BINGET:
        return this.#get(input.u32());
      case op.BININT1:
        stack.push(input.byte());
        return;
      case op.BININT2:
        stack.push(input.u16());
        return;
      case op.BININT:
        stack.push(input.i32());
        return;
      case op.BINFLOAT:
        stack.push(this.#float(input.f64()));
        return;
      case op.NONE:
        stack.push(null);
        return;
      case op.NEWTRUE:
        stack.push(true);
        return;
      case op.NEWFALSE:
        stack.push(false);
        return;
      case op.MARK:
        this.#marks.push(stack.length);
        this.#items += MARK_COST;
        this.#fence = stack.length;
        return;
      case op.EMPTY_DICT:
        stack.push(this.#dict());
        return;
      case op.SETITEM: {
        const start = stack.length - 2;
        if (start < this.#fence) throw this.#underflow();
        return this.#setItems(start);
      }
      case op.SETITEMS:
        return this.#setItems(this.#mark());
      case op.EMPTY_LIST:
        stack.push(this.#container([]));
        return;
      case op.APPEND: {
        const start = stack.length - 1;
        if (start < this.#fence) throw this.#underflow();
        return this.#append(start);
      }
      case op.APPENDS:
        return this.#append(this.#mark());
      case op.EMPTY_TUPLE:
        stack.push(this.#container(new Tuple()));
        return;
      case op.TUPLE1:
      case op.TUPLE2:
      case op.TUPLE3: {
        const start = stack.length - (code - op.TUPLE1 + 1);
        if (start < this.#fence) throw this.#underflow();
        return this.#tuple(start);
      }
      case op.TUPLE:
        return this.#tuple(this.#mark());
      case op.BINUNICODE:
        return this.#text(input.u32());
      case op.BINUNICODE8:
        return this.#text(input.u64());
      case op.SHORT_BINBYTES:
        return this.#bytes(input.byte());
      case op.BINBYTES:
        return this.#bytes(input.u32());
      case op.BINBYTES8:
        return this.#bytes(input.u64());
      case op.BYTEARRAY8: {
        const start = input.skip(input.u64());
        stack.push(new ByteArray(input.bytes.subarray(start, input.at)));
        return;
      }
      case op.FRAME: {
        // How the sender cut its writes says nothing about what they mean.
        if (input.u64() > input.left) throw this.#fail('a frame that is cut short');
        return;
      }
      case op.PROTO: {
        const version = input.byte();
        if (version > HIGHEST_PROTOCOL) throw this.#fail(`protocol ${version}, which is unknown`);
        this.#protocol = version;
        return;
      }
      case op.LONG1:
        return this.#integer(input.byte());
      case op.LONG4:
        return this.#integer(input.u32());
      case op.STACK_GLOBAL: {
        const name = this.#pop();
        const module = this.#pop();
        if (typeof name !== 'string' || typeof module !== 'string') throw this.#fail('a class whose name is no text');
        stack.push(this.#global(module, name));
        return;
      }
      case op.GLOBAL:
        stack.push(this.#global(this.#name(), this.#name()));
        return;
      case op.REDUCE: {
        const args = this.#pop();
        return this.#reduce(this.#pop(), args);
      }
      case op.NEWOBJ: {
        const args = this.#pop();
        return this.#make(this.#pop(), args, 'new', undefined);
      }
      case op.NEWOBJ_EX: {
        const kwargs = this.#pop();
        const args = this.#pop();
        if (!isDict(kwargs)) throw this.#fail('arguments by name that are no dict');
        return this.#make(this.#pop(), args, 'new', kwargs);
      }
      case op.BUILD:
        return this.#build(this.#pop());
      case op.EMPTY_SET:
        stack.push(this.#container(new Set()));
        return;
      case op.ADDITEMS:
        return this.#addItems(this.#mark());
      case op.FROZENSET: {
        const start = this.#mark();
        const set = new FrozenSet();
        this.#addTo(set, start);
        stack.push(this.#container(set));
        return;
      }
      case op.POP:
        return this.#discard();
      case op.POP_MARK:
        stack.length = this.#mark();
        return;
      case op.DUP: {
        const value = this.#top();
        this.#share(value);
        this.#items += CONTAINER_COST;
        stack.push(value);
        return;
      }
      case op.LIST: {
        const items = stack.splice(this.#mark());
        stack.push(this.#container(items));
        return;
      }
      case op.DICT: {
        const start = this.#mark();
        stack.splice(start, 0, this.#dict());
        return this.#setItems(start + 1);
      }
      case op.INT:
        stack.push(this.#decimalOrBoolean());
        return;
      case op.LONG:
        stack.push(this.#decimal(input.line().replace(/L$/, '')));
        return;
      case op.FLOAT:
        stack.push(this.#float(this.#floatLine()));
        return;
      case op.UNICODE: {
        const { start, end } = input.lineBounds();
        stack.push(readRawUnicode(input.bytes, start, end));
        return;
      }
      case op.STRING:
        stack.push(python2String(readQuoted(input.line(), this.#at)));
        return;
      case op.BINSTRING:
        return this.#python2(input.u32());
      case op.SHORT_BINSTRING:
        return this.#python2(input.byte());
      case op.PUT:
        return this.#put(this.#index());
      case op.GET:
        return this.#get(this.#index());
      case op.INST: {
        const callable = this.#global(this.#name(), this.#name());
        this.#tuple(this.#mark());
        return this.#make(callable, this.#pop(), 'instance', undefined);
      }
      case op.OBJ: {
        const start = this.#mark();
        if (start >= stack.length) throw this.#underflow();
        this.#tuple(start + 1);
        const args = this.#pop();
        return this.#make(this.#pop(), args, 'instance', undefined);
      }
      case op.EXT1:
        return this.#extension(input.byte());
      case op.EXT2:
        return this.#extension(input.u16());
      case op.EXT4:
        return this.#extension(input.i32());
      case op.PERSID:
      case op.BINPERSID:
        throw this.#fail('a persistent id: it stands for an object that only its sender has');
      case op.NEXT_BUFFER:
      case op.READONLY_BUFFER:
        throw this.#fail('an out-of-band buffer: its bytes were sent another way');
      default:
        throw this.#fail(`the byte 0x${code.toString(16).padStart(2, '0')}, which is no opcode`);
    }
  }

  #pop(): unknown {
    if (this.#stack.length <= this.#fence) throw this.#underflow();
    return this.#stack.pop();
  }

  #top(): unknown {
    if (this.#stack.length <= this.#fence) throw this.#underflow();
    return this.#stack[this.#stack.length - 1];
  }

  /** Takes the last mark away: where the values after it begin. */
  #mark(): number {
    const mark = this.#marks.pop();
    if (mark === undefined) throw this.#fail('the end of something that was not begun');
    this.#fence = this.#marks[this.#marks.length - 1] ?? 0;
    return mark;
  }

  /** POP_MARK's little brother; a mark goes like a value. */
  #discard(): void {
    const stack = this.#stack;
    if (stack.length === this.#fence && this.#marks.length > 0) {
      stack.length = this.#mark();
      return;
    }
    const gone = this.#pop();
    // A class with a state setter (the sixth item of `__reduce__`) has it called with the object and the state, for nothing.
    const object = stack[stack.length - 1];
    if (!(gone instanceof PyObject) || !(object instanceof PyObject) || gone.args.length !== 2) return;
    if (gone.args[0] !== object || gone.making !== 'reduce' || object.state !== undefined) return;
    object.stateSetter = gone.callable;
    object.state = gone.args[1];
  }

  #put(index: number): void {
    const value = this.#top();
    const memo = this.#memo;
    if (index <= memo.length && this.#farMemo.size === 0) memo[index] = value;
    else if (index < memo.length) memo[index] = value;
    else this.#farMemo.set(index, value);
  }

  #get(index: number): void {
    let value = index < this.#memo.length ? this.#memo[index] : this.#farMemo.get(index);
    if (value === undefined) throw this.#fail(`memo entry ${index}, which is not there`);
    if (typeof value === 'object' && value !== null && this.#replaced.size > 0)
      value = this.#replaced.get(value) ?? value;
    this.#share(value);
    this.#stack.push(value);
  }

  #share(value: unknown): void {
    if (typeof value === 'string') this.#spend(value.length);
    else if (value instanceof Uint8Array) this.#spend(value.length);
    else if (typeof value === 'object' && value !== null && !(value instanceof PyGlobal)) this.#shared.add(value);
  }

  #spend(size: number): void {
    this.#sharedText += size;
    if (this.#sharedText > this.#limits.maxOutput) {
      throw tooLarge(`texts of more than ${this.#limits.maxOutput} characters, most of them the same`, this.#at);
    }
  }

  #container<T extends object>(value: T): T {
    this.#containers += 1;
    this.#items += CONTAINER_COST;
    return value;
  }

  #dict(): Dict {
    const { exact } = this.#options;
    const dict = exact || this.notes?.maps.has(this.#at) === true ? new Map<unknown, unknown>() : {};
    this.notes?.born.set(dict, this.#at);
    return this.#container(dict);
  }

  #text(length: number): void {
    const start = this.#in.skip(length);
    this.#stack.push(readUtf8(this.#in.bytes, start, this.#in.at));
  }

  /** A copy: the pickle's own bytes need not stay in memory. */
  #bytes(length: number): void {
    const start = this.#in.skip(length);
    this.#stack.push(Buffer.from(this.#in.bytes.subarray(start, this.#in.at)));
  }

  #python2(length: number): void {
    const start = this.#in.skip(length);
    this.#stack.push(python2String(Buffer.from(this.#in.bytes.subarray(start, this.#in.at))));
  }

  #integer(length: number): void {
    const start = this.#in.skip(length);
    if (length > this.#limits.maxIntegerBytes) {
      throw tooLarge(`an integer of ${length} bytes; at most ${this.#limits.maxIntegerBytes} are read`, this.#at);
    }
    this.#stack.push(readInteger(this.#in.bytes.subarray(start, this.#in.at)));
  }

  #decimalOrBoolean(): number | bigint | boolean {
    const line = this.#in.line();
    return line === '01' ? true : line === '00' ? false : this.#decimal(line);
  }

  #decimal(line: string): number | bigint {
    const digits = line.trim();
    // A byte is a little more than two digits.
    if (digits.length > 2 * this.#limits.maxIntegerBytes) {
      throw tooLarge(
        `an integer of ${digits.length} digits; at most ${2 * this.#limits.maxIntegerBytes} are read`,
        this.#at,
      );
    }
    if (!INTEGER.test(digits)) throw this.#fail('an integer that is none');
    const value = Number(digits);
    // Python has no negative zero among its integers.
    return Number.isSafeInteger(value) ? value + 0 : BigInt(digits.replace(/^\+/, ''));
  }

  #floatLine(): number {
    const line = this.#in.line().trim();
    if (!FLOATING.test(line)) throw this.#fail('a float that is none');
    const value = line.toLowerCase().replace(/^\+/, '');
    if (value.endsWith('nan')) return Number.NaN;
    return value.includes('inf') ? (value.startsWith('-') ? -Infinity : Infinity) : Number(value);
  }

  /** Exact: also what a Map takes for another key than Python does, -0 for 0 and each NaN for the same. */
  #float(value: number): unknown {
    return this.#options.exact && (Number.isSafeInteger(value) || Number.isNaN(value)) ? float(value) : value;
  }

  #index(): number {
    const line = this.#in.line();
    const index = Number(line);
    if (!/^\d{1,10}$/.test(line) || index > 0xffff_ffff) throw this.#fail('a memo number that is none');
    return index;
  }

  #name(): string {
    const { start, end } = this.#in.lineBounds();
    return readUtf8(this.#in.bytes, start, end);
  }

  #global(module: string, name: string): PyGlobal {
    const [module3, name3] = this.#protocol < 3 ? python3Name(module, name) : [module, name];
    return this.#container(new PyGlobal(module3, name3));
  }

  #extension(code: number): void {
    if (code <= 0) throw this.#fail(`extension ${code}, which cannot be`);
    this.#stack.push(this.#container(new PyExtension(code)));
  }

  #tuple(start: number): void {
    const stack = this.#stack;
    const size = stack.length - start;
    const tuple = new Tuple<unknown>();
    for (let index = 0; index < size; index += 1) tuple.push(stack[start + index]);
    stack.length = start;
    stack.push(this.#container(tuple));
  }

  #append(start: number): void {
    const stack = this.#stack;
    const list = this.#under(start);
    const items =
      list instanceof PyObject ? list.listItems : Array.isArray(list) && !(list instanceof Tuple) ? list : undefined;
    if (items === undefined) throw this.#fail('an item for something that is no list');
    for (let index = start; index < stack.length; index += 1) items.push(stack[index]);
    stack.length = start;
  }

  #addItems(start: number): void {
    const set = this.#under(start);
    if (!(set instanceof Set) || set instanceof FrozenSet) throw this.#fail('a member for something that is no set');
    this.#addTo(set, start);
  }

  #addTo(set: Set<unknown>, start: number): void {
    const stack = this.#stack;
    for (let index = start; index < stack.length; index += 1) set.add(this.#hashable(stack[index]));
    stack.length = start;
  }

  #setItems(start: number): void {
    const stack = this.#stack;
    const target = this.#under(start);
    if ((stack.length - start) % 2 !== 0) throw this.#fail('a key without a value');
    if (target instanceof PyObject) {
      for (let index = start; index < stack.length; index += 2) {
        target.dictItems.push([stack[index], stack[index + 1]]);
        this.#items += CONTAINER_COST;
      }
    } else {
      if (!isDict(target)) throw this.#fail('a key for something that is no dict');
      let dict = target;
      for (let index = start; index < stack.length; index += 2) {
        const key = stack[index];
        if (dict instanceof Map) dict.set(this.#hashable(key), stack[index + 1]);
        else if (typeof key === 'string') putMember(dict, key, stack[index + 1]);
        else {
          dict = this.#replace(dict);
          stack[start - 1] = dict;
          dict.set(this.#hashable(key), stack[index + 1]);
        }
      }
    }
    stack.length = start;
  }

  #replace(dict: Record<string, unknown>): Map<unknown, unknown> {
    const map = new Map<unknown, unknown>(Object.entries(dict));
    this.#replaced.set(dict, map);
    if (this.#shared.has(dict)) this.stale = true;
    const born = this.notes?.born.get(dict);
    if (born !== undefined) this.notes?.maps.add(born);
    return map;
  }

  /** What stands just under there; it must belong to the same mark. */
  #under(start: number): unknown {
    if (start - 1 < this.#fence) throw this.#underflow();
    return this.#stack[start - 1];
  }

  #hashable(value: unknown): unknown {
    const obstacle = this.#hashability.obstacle(value);
    if (obstacle !== undefined) throw this.#fail(`a ${obstacle} as a key or in a set, which Python cannot have`);
    return value;
  }

  #reduce(callable: unknown, args: unknown): void {
    if (callable instanceof PyGlobal && args instanceof Tuple) {
      // The same arguments can be given again and again, and what is made of them is made anew each time.
      for (const arg of args.slice(0, 2)) {
        if (Array.isArray(arg)) this.#items += arg.length;
        else if (typeof arg === 'string' || arg instanceof Uint8Array) this.#spend(arg.length);
      }
      const value = construct(callable, args) ?? this.#options.construct?.(callable, args);
      if (value !== undefined) {
        if (value instanceof Set) for (const member of value) this.#hashable(member);
        this.#stack.push(typeof value === 'object' && value !== null ? this.#container(value) : value);
        return;
      }
    }
    this.#make(callable, args, 'reduce', undefined);
  }

  #make(callable: unknown, args: unknown, making: Making, kwargs: unknown): void {
    if (!isCallable(callable)) throw this.#fail('something to call that is no class and no function');
    if (!(args instanceof Tuple)) throw this.#fail('arguments that are no tuple');
    this.#stack.push(this.#container(new PyObject(callable, args, making, kwargs)));
  }

  #build(state: unknown): void {
    const object = this.#top();
    if (!(object instanceof PyObject)) throw this.#fail('a state for something that has none');
    if (object.state !== undefined) throw this.#fail('a second state for an object');
    const uuid = constructUuid(object, state);
    if (uuid === undefined) {
      object.state = state;
      return;
    }
    // It went into the memo before it was complete, and there as the newest.
    const memo = this.#memo;
    for (let index = memo.length - 1; index >= 0 && index >= memo.length - NEWEST; index -= 1) {
      if (memo[index] === object) memo[index] = uuid;
    }
    this.#stack[this.#stack.length - 1] = uuid;
  }

  #underflow(): Error {
    return this.#fail('it takes more from its stack than there is');
  }

  #fail(what: string): Error {
    return undecodable(what, this.#at);
  }
}

function isDict(value: unknown): value is Dict {
  return (
    value instanceof Map ||
    (typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype)
  );
}

function isCallable(value: unknown): value is Callable {
  return value instanceof PyGlobal || value instanceof PyObject || value instanceof PyExtension;
}

function putMember(object: Record<string, unknown>, key: string, value: unknown): void {
  if (key !== '__proto__') object[key] = value;
  else Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true });
}
