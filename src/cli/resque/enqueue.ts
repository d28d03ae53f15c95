import * as json from '../../../protocols/formats/json.ts';
import { parseIso } from '../../../protocols/formats/values.ts';
import { ConfigError } from '../../errors.ts';
import { EXIT } from '../exit.ts';
import { given } from '../settings.ts';
import type { Environment, Output } from '../system.ts';
import { appFor, type ClientFlags } from './settings.ts';

/** The flags of `jobglot enqueue resque`. */
export interface EnqueueFlags extends ClientFlags {
  readonly queue?: string;
  readonly in?: number;
  readonly at?: string;
  readonly activeJob?: boolean;
  readonly json?: boolean;
}

/** `jobglot enqueue resque CLASS [ARGS] -q QUEUE`. A job of Resque has no id; one of Active Job has, and it is printed. */
export async function enqueue(
  name: string,
  args: string | undefined,
  flags: EnqueueFlags,
  env: Environment,
  cwd: string,
  output: Output,
): Promise<number> {
  if (flags.in !== undefined && flags.at !== undefined)
    throw new ConfigError('--in and --at both say when; pass one of them');
  const { queue = 'default' } = flags;
  const at = flags.at === undefined ? undefined : readTime(flags.at);
  const call = { args: readArgs(args), queue, ...given('in', flags.in), ...given('at', at) };
  const { ResqueClient } = await import('../../drivers/resque/index.ts');
  const client = new ResqueClient(await appFor(flags, env, cwd));
  try {
    const id = flags.activeJob === true ? await client.performLater(name, call) : undefined;
    if (flags.activeJob !== true) await client.enqueue(name, call);
    if (flags.json === true) output.out(`${json.stringify({ class: name, queue, ...given('job_id', id) })}\n`);
    else output.out(`${id ?? `${name} in ${queue}`}\n`);
    return EXIT.ok;
  } finally {
    await client.close();
  }
}

/** Numbers keep their text: 1.0 stays a Float for Ruby, and large integers stay whole. */
function readArgs(text = '[]'): readonly unknown[] {
  let value: unknown;
  try {
    value = json.parseExact(text);
  } catch (cause) {
    throw new ConfigError(
      `ARGS is not JSON: ${text} (${(cause as Error).message.replace(/^json: /, '')}). Quote it for the shell: '[2, "three"]'`,
      { cause },
    );
  }
  if (Array.isArray(value)) return value;
  throw new ConfigError(`ARGS must be a JSON list such as '[1, "two"]', not ${text}`);
}

function readTime(text: string): Date {
  const at = parseIso(text);
  if (!Number.isNaN(at)) return new Date(at);
  throw new ConfigError(
    `--at must be an ISO 8601 time such as 2026-11-21T10:00:00Z (UTC where no offset is given), not '${text}'`,
  );
}
