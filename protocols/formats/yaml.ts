import { Buffer } from 'node:buffer';
import {
  Composer,
  type CST,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  Lexer,
  type Node,
  Parser,
  type Scalar,
  type YAMLMap,
  type YAMLSeq,
} from 'yaml';
import { WireError } from '../errors.ts';
import { isPlain, pathText, typeName } from './plain.ts';
import { DateTime, floatText, isoText, Numeral, parseIso, PlainDate } from './values.ts';

/**
 * YAML as PyYAML's `safe_load` and `safe_dump` define it: version 1.1, whose plain scalars differ from those of 1.2 (`yes`, `0o7`, `1e3` and `12:30`
 * all differ). The parser finds nodes; the meaning of a plain scalar is decided here. Mirrors yaml/resolver.py and yaml/constructor.py
 * SafeConstructor (PyYAML 6.0).
 */

export interface DecodeOptions {
  /** Decode mappings to Maps, and a whole float to a Numeral, so that it is written as a float again. @default false */
  readonly exact?: boolean;
  /** Deepest nesting of collections; at most 250. @default 250 */
  readonly maxDepth?: number;
}

/**
 * Decodes the one document in this text. Large integers are BigInt, timestamps DateTime or PlainDate, `!!binary` a Buffer, `!!set` a Set, `!!omap`
 * and `!!pairs` arrays of pairs. Every other tag is a WireError.
 */
export function decode(text: string, options: DecodeOptions = {}): unknown {
  const { exact = false, maxDepth = DEEPEST } = options;
  const limit = Math.min(maxDepth, DEEPEST);
  try {
    const document = compose(tokensOf(text, limit));
    if (document === undefined) return null;
    return new Construction(exact, limit).value(document.contents);
  } catch (error) {
    if (error instanceof WireError) throw error;
    if (error instanceof RangeError) throw tooDeep(limit, error);
    throw undecodable(error instanceof Error ? error.message : 'unreadable', undefined, error);
  }
}

/** A value as YAML that `safe_load` reads back equal: flow collections, and every string in double quotes. */
export function encode(value: unknown): string {
  return `${new Emission().write(value, '')}\n`;
}

const PARSE_OPTIONS = {
  version: '1.1',
  schema: 'failsafe',
  resolveKnownTags: false,
  uniqueKeys: false,
  logLevel: 'silent',
} as const;

const TAG = 'tag:yaml.org,2002:';
/** How many nodes all aliases of a document may expand to. The decoded value shares these nodes, but code that walks it visits each of them again. */
const MAX_ALIASED_NODES = 1_000_000;

const NULL = /^(?:~|null|Null|NULL|)$/;
const BOOL = /^(?:(yes|Yes|YES|true|True|TRUE|on|On|ON)|no|No|NO|false|False|FALSE|off|Off|OFF)$/;
const FLOAT =
  /^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$/;
const INT =
  /^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$/;
const TIMESTAMP =
  /^(\d{4})-(\d\d?)-(\d\d?)(?:(?:[Tt]|[ \t]+)(\d\d?):(\d\d):(\d\d)(?:\.(\d*))?(?:[ \t]*(?:(Z)|([-+])(\d\d?)(?::(\d\d))?))?)?$/;
const PLAIN_DATE = /^\d{4}-\d\d-\d\d$/;
const MAX_INTEGER_DIGITS = 4300;

interface Anchored {
  readonly value: unknown;
  readonly nodes: number;
}

class Construction {
  readonly #exact: boolean;
  readonly #maxDepth: number;
  /** Undefined while the node is being read: an alias to it from inside would be a cycle. */
  readonly #anchors = new Map<string, Anchored | undefined>();
  /** The mappings that a merge key may refer to. */
  readonly #entries = new Map<string, ReadonlyMap<unknown, unknown>>();
  #depth = 0;
  #nodes = 0;
  #aliased = 0;

  constructor(exact: boolean, maxDepth: number) {
    this.#exact = exact;
    this.#maxDepth = maxDepth;
  }

  value(node: Node | null): unknown {
    this.#nodes += 1;
    if (node === null) return null;
    if (isAlias(node)) return this.#alias(node.source, node);
    const anchor = (node as { readonly anchor?: string }).anchor;
    if (anchor === undefined) return this.#construct(node, undefined);
    const before = this.#nodes;
    this.#anchors.set(anchor, undefined);
    const value = this.#construct(node, anchor);
    this.#anchors.set(anchor, { value, nodes: this.#nodes - before + 1 });
    return value;
  }

  #alias(name: string, node: Node): unknown {
    const found = this.#anchors.get(name);
    if (found === undefined) {
      throw undecodable(
        this.#anchors.has(name)
          ? `the alias *${name} inside its own anchor`
          : `the alias *${name} without an anchor before it`,
        offsetOf(node),
      );
    }
    this.#aliased += found.nodes;
    this.#nodes += found.nodes;
    if (this.#aliased > MAX_ALIASED_NODES) {
      throw new WireError('yaml', 'too-large', `aliases stand for more than ${MAX_ALIASED_NODES} nodes`);
    }
    return found.value;
  }

  #construct(node: Node, anchor: string | undefined): unknown {
    const explicit = node.tag;
    if (isScalar(node)) return this.#scalar(node, explicit);
    this.#depth += 1;
    if (this.#depth > this.#maxDepth) throw tooDeep(this.#maxDepth);
    const value = this.#collection(node, explicit, anchor);
    this.#depth -= 1;
    return value;
  }

  #collection(node: Node, tag: string | undefined, anchor: string | undefined): unknown {
    if (isMap(node) && (tag === undefined || tag === '!' || tag === `${TAG}map`)) {
      const entries = this.#mapping(node);
      if (anchor !== undefined) this.#entries.set(anchor, entries);
      return this.#exact ? entries : plainObject(entries);
    }
    if (isMap(node) && tag === `${TAG}set`) return new Set(this.#mapping(node).keys());
    if (isSeq(node) && (tag === undefined || tag === '!' || tag === `${TAG}seq`)) {
      return node.items.map((item) => this.value(item as Node | null));
    }
    if (isSeq(node) && (tag === `${TAG}omap` || tag === `${TAG}pairs`)) return this.#pairs(node);
    throw unknownTag(node, tag);
  }

  #mapping(node: YAMLMap): Map<unknown, unknown> {
    const own = new Map<unknown, unknown>();
    const merged: ReadonlyMap<unknown, unknown>[] = [];
    for (const { key, value } of node.items) {
      const keyNode = key as Node | null;
      if (isScalar(keyNode) && keyNode.type === 'PLAIN' && keyNode.tag === undefined && keyNode.source === '<<') {
        merged.push(...this.#sources(value as Node | null));
        continue;
      }
      const name = this.#key(keyNode);
      own.set(name, this.value(value as Node | null));
    }
    if (merged.length === 0) return own;
    // Earlier sources override later ones, and the mapping's own keys override all.
    const all = new Map<unknown, unknown>();
    for (const source of merged.reverse()) for (const [name, value] of source) all.set(name, value);
    for (const [name, value] of own) all.set(name, value);
    return all;
  }

  #sources(node: Node | null): readonly ReadonlyMap<unknown, unknown>[] {
    if (isAlias(node)) {
      this.#alias(node.source, node);
      const entries = this.#entries.get(node.source);
      if (entries !== undefined) return [entries];
    } else if (isMap(node)) {
      this.#nodes += 1;
      this.#depth += 1;
      if (this.#depth > this.#maxDepth) throw tooDeep(this.#maxDepth);
      const entries = this.#mapping(node);
      this.#depth -= 1;
      return [entries];
    } else if (isSeq(node) && this.#depth < this.#maxDepth) {
      return node.items.flatMap((item) => {
        if (isSeq(item)) throw undecodable('a merge key with lists inside a list', offsetOf(item));
        return this.#sources(item as Node | null);
      });
    }
    throw undecodable('a merge key without a mapping to merge', offsetOf(node));
  }

  #key(node: Node | null): unknown {
    const key =
      isScalar(node) && node.type === 'PLAIN' && node.tag === undefined && node.source === '=' ? '=' : this.value(node);
    switch (typeof key) {
      case 'string':
      case 'number':
      case 'bigint':
      case 'boolean':
        return key;
      default:
        if (key === null) return key;
        if (key instanceof Numeral) return key.valueOf();
        if (key instanceof PlainDate || key instanceof DateTime) return key.iso;
        throw undecodable(`${typeName(key)} as a key`, offsetOf(node));
    }
  }

  #pairs(node: YAMLSeq): unknown[] {
    return node.items.map((item) => {
      const pair = isMap(item) && item.items.length === 1 ? item.items[0] : undefined;
      if (pair === undefined) throw undecodable('a list of pairs with something else in it', offsetOf(node));
      return [this.value(pair.key as Node | null), this.value(pair.value as Node | null)];
    });
  }

  #scalar(node: Scalar, explicit: string | undefined): unknown {
    const text = typeof node.value === 'string' ? node.value : (node.source ?? '');
    if (explicit === undefined)
      return node.type === 'PLAIN' || node.type === undefined ? this.#plain(text, node) : text;
    switch (explicit) {
      case '!':
      case `${TAG}str`:
        return text;
      case `${TAG}null`:
        return null;
      case `${TAG}bool`: {
        const match = BOOL.exec(text.toLowerCase());
        if (match === null) throw undecodable('not a boolean', offsetOf(node));
        return match[1] !== undefined;
      }
      case `${TAG}int`:
        if (!INT.test(text)) throw undecodable('not an integer', offsetOf(node));
        return integer(text, node);
      case `${TAG}float`:
        if (!FLOAT.test(text) && !/^[-+]?\d+(?:[eE][-+]?\d+)?$/.test(text))
          throw undecodable('not a float', offsetOf(node));
        return this.#float(text);
      case `${TAG}timestamp`:
        return timestamp(text, node);
      case `${TAG}binary`:
        return Buffer.from(text, 'base64');
      default:
        throw unknownTag(node, explicit);
    }
  }

  #plain(text: string, node: Scalar): unknown {
    if (NULL.test(text)) return null;
    const bool = BOOL.exec(text);
    if (bool !== null) return bool[1] !== undefined;
    if (INT.test(text)) return integer(text, node);
    if (FLOAT.test(text)) return this.#float(text);
    if (PLAIN_DATE.test(text) || (TIMESTAMP.test(text) && text.includes(':'))) return timestamp(text, node);
    if (text === '<<' || text === '=') throw undecodable(`a plain ${text} that is not a key`, offsetOf(node));
    return text;
  }

  #float(text: string): unknown {
    const value = float(text);
    return this.#exact && Number.isSafeInteger(value) ? new Numeral(floatText(value)) : value;
  }
}

function integer(text: string, node: Scalar): number | bigint {
  const digits = text.replaceAll('_', '').replace(/^[-+]/, '');
  if (digits.length > MAX_INTEGER_DIGITS)
    throw undecodable(`an integer of more than ${MAX_INTEGER_DIGITS} digits`, offsetOf(node));
  if (/^0[bx]?$/.test(digits) && digits !== '0') throw undecodable('an integer without digits', offsetOf(node));
  let size: bigint;
  if (digits.includes(':')) size = digits.split(':').reduce((sum, part) => sum * 60n + BigInt(part), 0n);
  else size = BigInt(/^0\d/.test(digits) ? `0o${digits.slice(1)}` : digits);
  const value = text.startsWith('-') ? -size : size;
  const double = Number(value);
  return Number.isSafeInteger(double) ? double : value;
}

function float(text: string): number {
  const plain = text.replaceAll('_', '').toLowerCase();
  const sign = plain.startsWith('-') ? -1 : 1;
  const size = plain.replace(/^[-+]/, '');
  if (size === '.inf') return sign * Number.POSITIVE_INFINITY;
  if (size === '.nan') return Number.NaN;
  return sign * size.split(':').reduce((sum, part) => sum * 60 + Number(part), 0);
}

function timestamp(text: string, node: Scalar): DateTime | PlainDate {
  const match = TIMESTAMP.exec(text);
  if (match === null) throw undecodable('not a timestamp', offsetOf(node));
  const [
    ,
    year,
    month = '',
    day = '',
    hour,
    minute,
    second,
    fraction = '',
    utc,
    sign,
    zoneHour = '',
    zoneMinute = '00',
  ] = match;
  const date = `${year}-${month.padStart(2, '0')}-${day.padStart(2, '0')}`;
  const micros = /^0*$/.test(fraction) ? '' : `.${fraction.slice(0, 6).padEnd(6, '0')}`;
  const zone =
    utc === undefined ? (sign === undefined ? '' : `${sign}${zoneHour.padStart(2, '0')}:${zoneMinute}`) : '+00:00';
  const iso = hour === undefined ? date : `${date}T${hour.padStart(2, '0')}:${minute}:${second}${micros}${zone}`;
  if (Number.isNaN(parseIso(iso))) throw undecodable('no such date', offsetOf(node));
  return hour === undefined ? new PlainDate(iso) : new DateTime(iso);
}

function plainObject(entries: ReadonlyMap<unknown, unknown>): Record<string, unknown> {
  const object: Record<string, unknown> = {};
  for (const [key, value] of entries) {
    const name = String(key);
    if (name !== '__proto__') object[name] = value;
    else Object.defineProperty(object, name, { value, writable: true, enumerable: true, configurable: true });
  }
  return object;
}

/**
 * Tokens are read without recursion, and nodes are made from them with recursion. Near the end of the stack V8 does not throw there but ends the
 * process. So the depth is checked first.
 */
function tokensOf(text: string, maxDepth: number): CST.Token[] {
  const parser = new Parser();
  const tokens: CST.Token[] = [];
  for (const lexeme of new Lexer().lex(text)) {
    tokens.push(...parser.next(lexeme));
    // The stack contains the document, the open collections and the token being read.
    if (parser.stack.length > maxDepth + 2) throw tooDeep(maxDepth);
  }
  tokens.push(...parser.end());
  return tokens;
}

/** The highest `maxDepth`: the parser's recursion takes several frames for each level, and PyYAML's own limit is below 500. */
const DEEPEST = 250;

/** The document in these tokens; undefined where there is no document. */
function compose(tokens: readonly CST.Token[]): Document.Parsed | undefined {
  const documents = [...new Composer(PARSE_OPTIONS).compose(tokens)];
  for (const { errors } of documents) {
    const [error] = errors;
    if (error !== undefined) throw undecodable(error.message.slice(0, 200), error.pos[0], error);
  }
  const [document, second] = documents;
  if (second !== undefined) throw undecodable('more than one document', second.range[0]);
  return document;
}

class Emission {
  readonly #open: object[] = [];
  readonly #keys: (string | number)[] = [];

  write(value: unknown, key: string | number): string {
    switch (typeof value) {
      case 'string':
        return quote(value);
      case 'number':
        return Number.isSafeInteger(value) && !Object.is(value, -0) ? String(value) : floatForm(value);
      case 'bigint':
        return value.toString();
      case 'boolean':
        return value ? 'true' : 'false';
      case 'undefined':
        return 'null';
      case 'object':
        return value === null ? 'null' : this.#object(value, key);
      case 'function':
      case 'symbol':
        throw this.#unencodable(key, typeName(value));
    }
  }

  #object(value: object, key: string | number): string {
    if (value instanceof Numeral) {
      return /^-?(?:0|[1-9]\d*)$/.test(value.text) && value.text !== '-0' ? value.text : floatForm(value.valueOf());
    }
    if (value instanceof Uint8Array) {
      return `!!binary "${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64')}"`;
    }
    if (value instanceof Date) return this.#timestamp(value, key);
    if (value instanceof PlainDate) return value.iso;
    if (this.#open.includes(value)) throw this.#unencodable(key, 'a value that contains itself');
    if (this.#open.length >= DEEPEST) {
      throw new WireError('yaml', 'too-deep', `cannot write a value nested more than ${DEEPEST} levels deep`);
    }
    this.#open.push(value);
    this.#keys.push(key);
    const text = this.#contents(value, key);
    this.#open.pop();
    this.#keys.pop();
    return text;
  }

  #contents(value: object, key: string | number): string {
    if (Array.isArray(value)) return `[${Array.from(value, (item, index) => this.write(item, index)).join(', ')}]`;
    if (value instanceof Set) return `!!set {${Array.from(value, (item) => this.#member(item, null)).join(', ')}}`;
    if (value instanceof Map) return this.#mapping(value);
    if (isPlain(value)) return this.#mapping(Object.entries(value));
    this.#keys.pop();
    throw this.#unencodable(key, typeName(value));
  }

  #mapping(entries: Iterable<readonly [unknown, unknown]>): string {
    const members: string[] = [];
    for (const [name, item] of entries) if (item !== undefined) members.push(this.#member(name, item));
    return `{${members.join(', ')}}`;
  }

  #member(name: unknown, item: unknown): string {
    if (typeof name === 'object' && name !== null) throw this.#unencodable('', `${typeName(name)} as a key`);
    const key = this.write(name, '');
    const value = this.write(item, typeof name === 'number' ? name : String(name));
    // PyYAML searches only 1024 characters for the colon of a key without `?`.
    return `${key.length > 128 ? '? ' : ''}${key}: ${value}`;
  }

  #timestamp(value: Date, key: string | number): string {
    const year = value.getUTCFullYear();
    if (!(year >= 1 && year <= 9999)) throw this.#unencodable(key, `${String(value)}, outside the years 1 to 9999,`);
    const iso = value instanceof DateTime ? value.iso : isoText(value);
    return TIMESTAMP.test(iso) && iso.includes(':') ? iso : isoText(value);
  }

  #unencodable(key: string | number, what: string): WireError {
    const path = pathText('value', [...this.#keys, key]);
    return new WireError('yaml', 'unencodable', `cannot write ${path}: ${what} has no form in YAML`);
  }
}

/** yaml/representer.py represent_float: without a dot it would be read as a string. */
function floatForm(value: number): string {
  if (Number.isNaN(value)) return '.nan';
  if (!Number.isFinite(value)) return value > 0 ? '.inf' : '-.inf';
  const text = floatText(value);
  return text.includes('.') ? text : text.replace('e', '.0e');
}

/** JSON's escapes are valid in YAML, except for characters that JSON writes as two escapes. */
function quote(text: string): string {
  return JSON.stringify(text).replace(/[\u{7f}-\u{10ffff}]/gu, (character) => {
    const code = character.codePointAt(0) as number;
    return code > 0xffff ? `\\U${code.toString(16).padStart(8, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`;
  });
}

function offsetOf(node: Node | null): number | undefined {
  return node?.range?.[0];
}

function unknownTag(node: Node, tag: string | undefined): WireError {
  return undecodable(`the tag ${tag ?? '(none)'} is not one of plain data`, offsetOf(node));
}

function tooDeep(maxDepth: number, cause?: unknown): WireError {
  return new WireError('yaml', 'too-deep', `nested more than ${maxDepth} levels deep`, { cause });
}

function undecodable(what: string, offset: number | undefined, cause?: unknown): WireError {
  return new WireError(
    'yaml',
    'undecodable',
    `not YAML: ${what}${offset === undefined ? '' : ` at offset ${offset}`}`,
    {
      cause,
      ...(offset === undefined ? {} : { offset }),
    },
  );
}
