import * as json from '../../protocols/formats/json.ts';
import { parseIso } from '../../protocols/formats/values.ts';
import { ConfigError } from '../errors.ts';

/** Arguments of a call, and when it is due, as they are typed. Each throws ConfigError. */

/** A JSON list. Numbers keep their text: 1.0 stays a float for Python and Ruby, and large integers stay whole. */
export function readArgs(text = '[]'): readonly unknown[] {
  const value = readJson('ARGS', text);
  if (Array.isArray(value)) return value;
  throw new ConfigError(`ARGS must be a JSON list such as '[2, "three"]', not ${text}`);
}

/** Objects are maps, so that no key is special. */
export function readJson(what: string, text: string): unknown {
  try {
    return json.parseExact(text);
  } catch (cause) {
    throw new ConfigError(
      `${what} is not JSON: ${text} (${(cause as Error).message.replace(/^json: /, '')}). Quote it for the shell: '[2, "three"]'`,
      { cause },
    );
  }
}

export function readTime(flag: string, text: string): Date {
  const at = parseIso(text);
  if (!Number.isNaN(at)) return new Date(at);
  throw new ConfigError(
    `${flag} must be an ISO 8601 time such as 2026-11-21T10:00:00Z (UTC where no offset is given), not '${text}'`,
  );
}
