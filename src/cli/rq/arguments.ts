import { readFileSync } from 'node:fs';
import * as json from '../../../protocols/formats/json.ts';
import { parseLiteral } from '../../../protocols/formats/python-literal.ts';
import { ConfigError } from '../../errors.ts';

/**
 * The arguments of a call as `rq enqueue` takes them. Source: rq/cli/helpers.py parse_function_arg (2.10).
 *
 *     text          as it is              k=text         by name
 *     :json         JSON                  k:=json
 *     %literal      Python's own          k%=literal
 *     ...@file      from a file, behind any of these
 *
 * Numbers go as they are written: `:1.0` is a float for Python, and large integers stay whole. Throws ConfigError.
 */
export function readArguments(words: readonly string[]): {
  readonly args: readonly unknown[];
  readonly kwargs: Readonly<Record<string, unknown>>;
} {
  const args: unknown[] = [];
  const kwargs = new Map<string, unknown>();
  for (const word of words) {
    const { name, form, text } = formOf(word);
    const what = name ?? `argument ${args.length + 1}`;
    const value = valueOf(form, text.startsWith('@') ? fileText(text.slice(1)) : text, what);
    if (name === undefined) args.push(value);
    else if (kwargs.has(name)) throw new ConfigError(`${name} is given twice`);
    else kwargs.set(name, value);
  }
  return { args, kwargs: Object.fromEntries(kwargs) };
}

interface Form {
  readonly name: string | undefined;
  readonly form: 'text' | 'json' | 'literal';
  readonly text: string;
}

function formOf(word: string): Form {
  if (word.startsWith(':')) return { name: undefined, form: 'json', text: word.slice(1) };
  if (word.startsWith('%')) return { name: undefined, form: 'literal', text: word.slice(1) };
  const equals = word.indexOf('=');
  if (equals <= 0) return { name: undefined, form: 'text', text: word };
  const text = word.slice(equals + 1);
  // Only the first of each counts, as in RQ: `a:b:=1` is a text named `a:b:`.
  if (word.indexOf(':') === equals - 1) return { name: word.slice(0, equals - 1), form: 'json', text };
  if (word.indexOf('%') === equals - 1) return { name: word.slice(0, equals - 1), form: 'literal', text };
  return { name: word.slice(0, equals), form: 'text', text };
}

function valueOf(form: Form['form'], text: string, what: string): unknown {
  switch (form) {
    case 'text':
      return text;
    case 'json':
      try {
        return json.parseExact(text);
      } catch (cause) {
        throw new ConfigError(`${what} is not JSON: ${text.slice(0, 200)} (${messageOf(cause)})`, { cause });
      }
    case 'literal':
      try {
        return parseLiteral(text);
      } catch (cause) {
        throw new ConfigError(`${what} cannot be read as Python: ${text.slice(0, 200)} (${messageOf(cause)})`, {
          cause,
        });
      }
  }
}

function fileText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new ConfigError(`cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message.replace(/^\w+: /, '') : String(error);
}
