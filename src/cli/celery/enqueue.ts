import * as json from '../../../protocols/formats/json.ts';
import type { EnqueueOptions } from '../../drivers/celery/index.ts';
import { ConfigError } from '../../errors.ts';
import { type ClientFlags, clientFor } from './client.ts';
import { readArgs, readJson, readTime } from '../call.ts';
import { EXIT } from '../exit.ts';
import { printResult } from './result.ts';
import type { Environment, Output } from '../system.ts';

/** The flags of `jobglot enqueue celery`, as commander names them. */
export interface EnqueueFlags extends ClientFlags {
  readonly kwargs?: string;
  readonly countdown?: number;
  readonly eta?: string;
  readonly expires?: string;
  readonly queue?: string;
  readonly exchange?: string;
  readonly routingKey?: string;
  readonly priority?: number;
  readonly taskId?: string;
  readonly serializer?: string;
  readonly compression?: string;
  readonly header?: readonly string[];
  readonly ignoreResult?: boolean;
  readonly wait?: number;
  readonly json?: boolean;
}

/** `jobglot enqueue celery NAME [ARGS]`: prints the id, or with `--wait` the result. */
export async function enqueue(
  name: string,
  args: string | undefined,
  flags: EnqueueFlags,
  env: Environment,
  cwd: string,
  output: Output,
): Promise<number> {
  const call = readCall(args, flags);
  const { client, connection } = await clientFor(flags, env, cwd);
  if (flags.wait !== undefined && connection.backend === undefined) {
    throw new ConfigError(
      '--wait needs to know where results are; pass --backend redis://localhost:6379/0, or set CELERY_RESULT_BACKEND',
    );
  }
  try {
    const { id } = await client.enqueue(name, call);
    if (connection.tryOut !== undefined)
      output.err(`no broker was named: enqueued in the folder ${connection.tryOut.queue}\n`);
    if (flags.wait === undefined) {
      output.out(flags.json === true ? `${json.stringify({ id, task: name })}\n` : `${id}\n`);
      return EXIT.ok;
    }
    // The id first: it must not be lost when the wait ends without a result.
    output.err(`${id}\n`);
    return await printResult(client, id, flags, output);
  } finally {
    await client.close();
  }
}

/** The call that arguments and flags stand for. Throws ConfigError. */
export function readCall(
  args: string | undefined,
  flags: EnqueueFlags,
): { readonly args: readonly unknown[]; readonly kwargs: Readonly<Record<string, unknown>> } & EnqueueOptions {
  if (flags.eta !== undefined && flags.countdown !== undefined)
    throw new ConfigError('--eta and --countdown both say when; pass one of them');
  const given: Omit<EnqueueOptions, 'eta' | 'expires' | 'headers'> = picked(flags, [
    'countdown',
    'queue',
    'exchange',
    'routingKey',
    'priority',
    'taskId',
    'serializer',
    'compression',
    'ignoreResult',
  ]);
  return {
    args: readArgs(args),
    kwargs: readKwargs(flags.kwargs),
    ...given,
    ...(flags.eta === undefined ? {} : { eta: readTime('--eta', flags.eta) }),
    ...(flags.expires === undefined ? {} : { expires: readExpires(flags.expires) }),
    ...(flags.header === undefined ? {} : { headers: readHeaders(flags.header) }),
  };
}

function readKwargs(text = '{}'): Readonly<Record<string, unknown>> {
  const value = readJson('--kwargs', text);
  if (value instanceof Map) return Object.fromEntries(value as ReadonlyMap<string, unknown>);
  throw new ConfigError(`--kwargs must be a JSON object such as '{"width": 640}', not ${text}`);
}

function readExpires(text: string): number | Date {
  const seconds = text.trim() === '' ? Number.NaN : Number(text);
  return Number.isFinite(seconds) ? seconds : readTime('--expires (or a number of seconds)', text);
}

function readHeaders(pairs: readonly string[]): Readonly<Record<string, string>> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const equals = pair.indexOf('=');
      if (equals < 1) throw new ConfigError(`--header must be NAME=VALUE, not '${pair}'`);
      return [pair.slice(0, equals), pair.slice(equals + 1)];
    }),
  );
}

function picked<T extends object, Name extends keyof T>(
  from: T,
  names: readonly Name[],
): { [Key in Name]?: NonNullable<T[Key]> } {
  const some: { [Key in Name]?: NonNullable<T[Key]> } = {};
  for (const name of names) {
    const value = from[name];
    if (value !== undefined && value !== null) some[name] = value;
  }
  return some;
}
