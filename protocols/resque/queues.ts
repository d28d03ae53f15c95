/**
 * Which queues a worker takes from, and in which order. A list of names and patterns: `*`, `?` and `[ab]` as fnmatch reads them, over the
 * set `queues`, sorted within each pattern; `!name` and `!pattern` take away. First come, first served by position: strict priority.
 * Source: worker.rb queues, glob_match, static_queues (2.2.1 and later).
 */
export interface QueueList {
  /** As given, without what is taken away: the last part of a worker's id. */
  readonly shown: string;
  /** Whether the set `queues` has to be read. */
  readonly dynamic: boolean;
  /** The queues to ask, in their order. `known` is the set `queues`. */
  expand(known: readonly string[]): readonly string[];
}

const DYNAMIC = /[*?{}[\]]/;

/** Reads names, patterns and `!` of a worker's list; blanks around them and empty ones are left out. Never throws. */
export function queueList(given: readonly string[]): QueueList {
  const names = given.map((name) => name.trim()).filter((name) => name !== '');
  const wanted = names.filter((name) => !name.startsWith('!'));
  const refused = names.filter((name) => name.startsWith('!')).map((name) => pattern(name.slice(1)));
  const dynamic = names.some((name) => name.startsWith('!') || DYNAMIC.test(name));
  const matchers = wanted.map((name) => ({ name, matches: DYNAMIC.test(name) ? pattern(name) : undefined }));
  return {
    shown: wanted.join(','),
    dynamic,
    expand(known) {
      if (!dynamic) return [...new Set(wanted)];
      const sorted = [...known].sort(byBytes);
      const found = new Set<string>();
      for (const { name, matches } of matchers) {
        if (matches === undefined) found.add(name);
        else for (const queue of sorted) if (matches(queue)) found.add(queue);
      }
      return [...found].filter((queue) => !refused.some((matches) => matches(queue)));
    },
  };
}

/** Ruby compares the bytes of two texts; code points compare the same. */
function byBytes(a: string, b: string): number {
  const left = Array.from(a, (letter) => letter.codePointAt(0) as number);
  const right = Array.from(b, (letter) => letter.codePointAt(0) as number);
  for (let at = 0; at < left.length && at < right.length; at++)
    if (left[at] !== right[at]) return (left[at] as number) - (right[at] as number);
  return left.length - right.length;
}

/**
 * File.fnmatch?(pattern, name) without flags: `*` takes `/` too, `*` and `?` do not take a dot at the start, a backslash takes the next letter as it is,
 * and braces are plain letters. Matched without a regular expression: a pattern of many stars takes a quadratic time, never more.
 */
function pattern(text: string): (name: string) => boolean {
  const tokens = tokenize(text);
  const first = tokens[0];
  const dots = first !== undefined && first !== 'star' && first('.') && isDot(text);
  return (name) => {
    const letters = Array.from(name);
    return letters[0] === '.' && !dots ? false : matches(tokens, letters);
  };
}

type Token = 'star' | ((letter: string) => boolean);

/** Only a dot that is written down takes a dot at the start. */
function isDot(text: string): boolean {
  return text.startsWith('.') || text.startsWith('\\.');
}

function tokenize(text: string): readonly Token[] {
  const letters = Array.from(text);
  const tokens: Token[] = [];
  for (let at = 0; at < letters.length; at++) {
    const letter = letters[at] as string;
    if (letter === '*') tokens.push('star');
    else if (letter === '?') tokens.push(() => true);
    else if (letter === '\\' && at + 1 < letters.length) {
      const plain = letters[++at];
      tokens.push((other) => other === plain);
    } else if (letter === '[') {
      const end = letters.indexOf(']', at + 2);
      // Without its end it matches nothing, as in Ruby.
      if (end < 0) return [() => false];
      tokens.push(oneOf(letters.slice(at + 1, end)));
      at = end;
    } else tokens.push((other) => other === letter);
  }
  return tokens;
}

function oneOf(letters: readonly string[]): (letter: string) => boolean {
  const negated = letters[0] === '!' || letters[0] === '^';
  const set = negated ? letters.slice(1) : letters;
  return (letter) => {
    let found = false;
    for (let at = 0; at < set.length; at++) {
      const from = set[at] as string;
      const to = set[at + 1] === '-' && at + 2 < set.length ? (set[at + 2] as string) : undefined;
      if (to === undefined) found ||= letter === from;
      else {
        found ||= from <= letter && letter <= to;
        at += 2;
      }
    }
    return found !== negated;
  };
}

function matches(tokens: readonly Token[], letters: readonly string[]): boolean {
  let token = 0;
  let letter = 0;
  let star = -1;
  let from = 0;
  while (letter < letters.length) {
    const now = tokens[token];
    if (now === 'star') {
      star = token++;
      from = letter;
    } else if (now !== undefined && now(letters[letter] as string)) {
      token++;
      letter++;
    } else if (star >= 0) {
      token = star + 1;
      letter = ++from;
    } else return false;
  }
  while (tokens[token] === 'star') token++;
  return token === tokens.length;
}
