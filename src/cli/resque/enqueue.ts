import * as json from '../../../protocols/formats/json.ts';
import { ConfigError } from '../../errors.ts';
import { readArgs, readTime } from '../call.ts';
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
  const at = flags.at === undefined ? undefined : readTime('--at', flags.at);
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
