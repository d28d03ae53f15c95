import { WireError } from '../../errors.ts';

/**
 * Patterns of node names, as control messages carry them: `glob` (Python's fnmatch, all of the name) and `pcre` (Python's
 * re.match, its beginning). They come off the wire, so they never become a regular expression of ours: each is read into a tree
 * and matched by sets of positions, in time that no pattern can blow up. Source: kombu/matcher.py (5.6).
 */
export function nodeMatches(name: string, pattern: string, matcher: string): boolean {
  switch (matcher) {
    case 'glob':
      return ends(readGlob(pattern), name).has(name.length);
    case 'pcre':
      return ends(new Reader(pattern).read(), name).size > 0;
    default:
      throw new WireError('celery', 'unknown-matcher', `no matcher is called ${JSON.stringify(matcher.slice(0, 40))}`);
  }
}

type Node =
  | { readonly kind: 'one'; readonly is: (character: string) => boolean }
  | { readonly kind: 'start' | 'end' }
  | { readonly kind: 'all'; readonly nodes: readonly Node[] }
  | { readonly kind: 'any'; readonly nodes: readonly Node[] }
  | { readonly kind: 'repeat'; readonly node: Node; readonly least: number; readonly most: number };

const LONGEST_PATTERN = 500;
const DEEPEST = 20;
const MOST_REPEATS = 255;

function ends(node: Node, name: string): ReadonlySet<number> {
  return step(node, name, new Set([0]));
}

/** Where a match may end that starts at one of `from`. */
function step(node: Node, name: string, from: ReadonlySet<number>): ReadonlySet<number> {
  if (from.size === 0) return from;
  switch (node.kind) {
    case 'one':
      return new Set([...from].filter((at) => at < name.length && node.is(name[at] as string)).map((at) => at + 1));
    case 'start':
      return new Set([...from].filter((at) => at === 0));
    case 'end':
      return new Set([...from].filter((at) => at === name.length));
    case 'all':
      return node.nodes.reduce((at, each) => step(each, name, at), from);
    case 'any':
      return new Set(node.nodes.flatMap((each) => [...step(each, name, from)]));
    case 'repeat': {
      let at = from;
      for (let times = 0; times < node.least; times++) at = step(node.node, name, at);
      const seen = new Set(at);
      for (let times = node.least; times < node.most && at.size > 0; times++) {
        at = new Set([...step(node.node, name, at)].filter((position) => !seen.has(position)));
        for (const position of at) seen.add(position);
      }
      return seen;
    }
  }
}

const ANY: Node = { kind: 'one', is: () => true };
const MANY: Node = { kind: 'repeat', node: ANY, least: 0, most: Number.POSITIVE_INFINITY };

function literal(character: string): Node {
  return { kind: 'one', is: (other) => other === character };
}

/** `*`, `?`, `[seq]`, `[!seq]`; a bracket that is never closed is itself. */
function readGlob(pattern: string): Node {
  if (pattern.length > LONGEST_PATTERN) throw refused('it is too long');
  const nodes: Node[] = [];
  for (let at = 0; at < pattern.length; at++) {
    const character = pattern[at] as string;
    if (character === '*') nodes.push(MANY);
    else if (character === '?') nodes.push(ANY);
    else {
      const negated = pattern[at + 1] === '!';
      const first = at + (negated ? 2 : 1);
      const close = character === '[' ? pattern.indexOf(']', first + 1) : -1;
      if (close === -1) {
        nodes.push(literal(character));
        continue;
      }
      const within = members(pattern.slice(first, close));
      nodes.push({ kind: 'one', is: (other) => within(other) !== negated });
      at = close;
    }
  }
  return { kind: 'all', nodes };
}

/** Characters and ranges `a-z`, nothing escaped. */
function members(text: string): (character: string) => boolean {
  const ranges: (readonly [string, string])[] = [];
  for (let at = 0; at < text.length; at++) {
    const from = text[at] as string;
    if (text[at + 1] === '-' && at + 2 < text.length) {
      ranges.push([from, text[at + 2] as string]);
      at += 2;
    } else ranges.push([from, from]);
  }
  return (character) => ranges.some(([from, to]) => character >= from && character <= to);
}

const CLASSES: Readonly<Record<string, RegExp>> = { d: /\p{Nd}/u, w: /[\p{L}\p{N}_]/u, s: /\s/ };

/** The part of Python's expressions that names are matched with; look-around, back references and flags are refused. */
class Reader {
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    if (text.length > LONGEST_PATTERN) throw refused('it is too long');
    this.#text = text;
  }

  read(): Node {
    const node = this.#choice();
    if (this.#at < this.#text.length) throw refused('a parenthesis is not opened');
    return node;
  }

  #choice(): Node {
    const nodes = [this.#sequence()];
    while (this.#take('|')) nodes.push(this.#sequence());
    return nodes.length === 1 ? (nodes[0] as Node) : { kind: 'any', nodes };
  }

  #sequence(): Node {
    const nodes: Node[] = [];
    while (this.#at < this.#text.length && !'|)'.includes(this.#text[this.#at] as string)) {
      nodes.push(this.#repeated(this.#atom()));
    }
    return { kind: 'all', nodes };
  }

  #atom(): Node {
    const character = this.#text[this.#at++] as string;
    switch (character) {
      case '.':
        return ANY;
      case '^':
        return { kind: 'start' };
      case '$':
        return { kind: 'end' };
      case '(':
        return this.#group();
      case '[':
        return this.#set();
      case '\\':
        return this.#escape();
      case '*':
      case '+':
      case '?':
        throw refused('nothing to repeat');
      default:
        return literal(character);
    }
  }

  #group(): Node {
    if (++this.#depth > DEEPEST) throw refused('it is nested too deep');
    if (this.#take('?') && !this.#take(':')) throw refused('only plain groups are known');
    const node = this.#choice();
    if (!this.#take(')')) throw refused('a parenthesis is not closed');
    this.#depth--;
    return node;
  }

  #escape(): Node {
    const character = this.#text[this.#at++];
    if (character === undefined) throw refused('it ends in a backslash');
    const known = Object.hasOwn(CLASSES, character.toLowerCase()) ? CLASSES[character.toLowerCase()] : undefined;
    if (known !== undefined) {
      const wanted = character === character.toLowerCase();
      return { kind: 'one', is: (other) => known.test(other) === wanted };
    }
    if (character === 'A') return { kind: 'start' };
    if (character === 'Z') return { kind: 'end' };
    if (/[a-z0-9]/i.test(character)) throw refused(`\\${character} is not known`);
    return literal(character);
  }

  #set(): Node {
    const negated = this.#take('^');
    const tests: ((character: string) => boolean)[] = [];
    for (let first = true; first || !this.#take(']'); first = false) {
      if (this.#at >= this.#text.length) throw refused('a bracket is not closed');
      const from = this.#member();
      if (
        typeof from === 'string' &&
        this.#text[this.#at] === '-' &&
        !['', ']'].includes(this.#text[this.#at + 1] ?? '')
      ) {
        this.#at++;
        const to = this.#member();
        if (typeof to !== 'string' || to < from) throw refused('a range is the wrong way round');
        tests.push((other) => other >= from && other <= to);
      } else if (typeof from === 'string') tests.push((other) => other === from);
      else tests.push(from);
    }
    return { kind: 'one', is: (other) => tests.some((test) => test(other)) !== negated };
  }

  #member(): string | ((character: string) => boolean) {
    const character = this.#text[this.#at++] as string;
    if (character !== '\\') return character;
    const escaped = this.#text[this.#at];
    const node = this.#escape();
    if (node.kind !== 'one') throw refused('an anchor is no member of a set');
    return escaped !== undefined && !/[a-z]/i.test(escaped) ? escaped : node.is;
  }

  #repeated(node: Node): Node {
    let repeated = node;
    for (let stacked = 0; ; stacked++) {
      const [least, most] = this.#count() ?? [];
      if (least === undefined || most === undefined) return repeated;
      if (stacked > 0) throw refused('multiple repeat');
      repeated = { kind: 'repeat', node: repeated, least, most };
      // Lazy and greedy end at the same places.
      this.#take('?');
    }
  }

  #count(): readonly [least: number, most: number] | undefined {
    if (this.#take('*')) return [0, Number.POSITIVE_INFINITY];
    if (this.#take('+')) return [1, Number.POSITIVE_INFINITY];
    if (this.#take('?')) return [0, 1];
    const braces = /^\{(\d*)(,?)(\d*)\}/.exec(this.#text.slice(this.#at, this.#at + 20));
    if (braces === null || (braces[1] === '' && braces[2] === '')) return undefined;
    this.#at += braces[0].length;
    const least = Number(braces[1]);
    const most = braces[3] !== '' ? Number(braces[3]) : braces[2] === '' ? least : Number.POSITIVE_INFINITY;
    if (least > MOST_REPEATS || (most !== Number.POSITIVE_INFINITY && most > MOST_REPEATS) || most < least)
      throw refused('a count is not sensible');
    return [least, most];
  }

  #take(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }
}

function refused(why: string): WireError {
  return new WireError('celery', 'bad-pattern', `the pattern of a control message is refused: ${why}`);
}
