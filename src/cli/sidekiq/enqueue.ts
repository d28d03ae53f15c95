import * as json from '../../../protocols/formats/json.ts';
import type { EnqueueOptions } from '../../drivers/sidekiq/index.ts';
import { ConfigError } from '../../errors.ts';
import { readArgs, readTime } from '../call.ts';
import { EXIT } from '../exit.ts';
import { given } from '../settings.ts';
import type { Environment, Output } from '../system.ts';
import { appFor, type ClientFlags } from './settings.ts';

/** The flags of `jobglot enqueue sidekiq`. */
export interface EnqueueFlags extends ClientFlags {
  readonly queue?: string;
  readonly in?: number;
  readonly at?: string;
  readonly retry?: boolean | number;
  readonly retryFor?: number;
  readonly expiresIn?: number;
  readonly jid?: string;
  readonly tag?: readonly string[];
  readonly set?: readonly string[];
  readonly activeJob?: boolean;
  readonly json?: boolean;
}

/** `jobglot enqueue sidekiq CLASS [ARGS]`: prints the jid. */
export async function enqueue(
  name: string,
  args: string | undefined,
  flags: EnqueueFlags,
  env: Environment,
  cwd: string,
  output: Output,
): Promise<number> {
  const call = { args: readArgs(args), ...readOptions(flags) };
  const { SidekiqClient } = await import('../../drivers/sidekiq/index.ts');
  const client = new SidekiqClient(await appFor(flags, env, cwd));
  try {
    const pushed = flags.activeJob === true ? await client.performLater(name, call) : await client.enqueue(name, call);
    const { jid } = pushed;
    if (flags.json !== true) output.out(`${jid}\n`);
    else output.out(`${json.stringify({ ...pushed, class: name })}\n`);
    return EXIT.ok;
  } finally {
    await client.close();
  }
}

/** The options that flags stand for. Throws ConfigError. */
export function readOptions(flags: EnqueueFlags): EnqueueOptions {
  if (flags.in !== undefined && flags.at !== undefined)
    throw new ConfigError('--in and --at both say when; pass one of them');
  const custom = Object.fromEntries((flags.set ?? []).map(readMember));
  return {
    ...given('queue', flags.queue),
    ...given('in', flags.in),
    ...given('at', flags.at === undefined ? undefined : readTime('--at', flags.at)),
    ...given('retry', flags.retry),
    ...given('retryFor', flags.retryFor),
    ...given('expiresIn', flags.expiresIn),
    ...given('jid', flags.jid),
    ...given('tags', flags.tag),
    ...(flags.set === undefined ? {} : { custom }),
  };
}

/** `name=json`, or `name=text` for what is no JSON. */
function readMember(word: string): readonly [string, unknown] {
  const equals = word.indexOf('=');
  if (equals < 1) throw new ConfigError(`--set must be NAME=VALUE, not '${word}'`);
  const text = word.slice(equals + 1);
  try {
    return [word.slice(0, equals), json.parseExact(text)];
  } catch {
    return [word.slice(0, equals), text];
  }
}
