import * as json from '../../../protocols/formats/json.ts';
import { callString } from '../../../protocols/rq/description.ts';
import type { EnqueueOptions } from '../../drivers/rq/index.ts';
import { ConfigError } from '../../errors.ts';
import { EXIT } from '../exit.ts';
import { given } from '../settings.ts';
import type { Environment, Output } from '../system.ts';
import { readArguments } from './arguments.ts';
import { printResult } from './result.ts';
import { type ClientFlags, clientFor } from './settings.ts';

/** The flags of `jobglot enqueue rq`: those of `rq enqueue`, and some more. */
export interface EnqueueFlags extends ClientFlags {
  readonly queue?: string;
  readonly timeout?: string;
  readonly resultTtl?: string;
  readonly ttl?: string;
  readonly failureTtl?: string;
  readonly description?: string;
  readonly dependsOn?: readonly string[];
  readonly jobId?: string;
  readonly atFront?: boolean;
  readonly retryMax?: number;
  readonly retryInterval?: readonly number[];
  readonly scheduleIn?: string;
  readonly scheduleAt?: string;
  readonly meta?: string;
  readonly group?: string;
  readonly unique?: boolean;
  readonly quiet?: boolean;
  readonly wait?: number;
  readonly json?: boolean;
}

/** `jobglot enqueue rq FUNCTION [ARGUMENTS]`: prints the id, or with `--wait` the result. */
export async function enqueue(
  func: string,
  words: readonly string[],
  flags: EnqueueFlags,
  env: Environment,
  cwd: string,
  output: Output,
): Promise<number> {
  const call = readCall(func, words, flags);
  const client = await clientFor(flags, env, cwd);
  try {
    const job = await client.enqueue(func, call);
    if (flags.wait === undefined) {
      const { registered } = job;
      if (flags.json === true) output.out(`${json.stringify({ id: job.id, func, status: registered })}\n`);
      else if (flags.quiet !== true) output.out(`${job.id}\n`);
      return EXIT.ok;
    }
    // The id first: it must not be lost when the wait ends without a result.
    output.err(`${job.id}\n`);
    return await printResult(job, flags, output);
  } finally {
    await client.close();
  }
}

/** The call that arguments and flags stand for. Throws ConfigError. */
export function readCall(
  func: string,
  words: readonly string[],
  flags: EnqueueFlags,
): { readonly args: readonly unknown[]; readonly kwargs: Readonly<Record<string, unknown>> } & EnqueueOptions {
  if (flags.scheduleIn !== undefined && flags.scheduleAt !== undefined)
    throw new ConfigError('--schedule-in and --schedule-at both say when; pass one of them');
  const { args, kwargs } = readArguments(words);
  const { retryMax = 0, retryInterval } = flags;
  return {
    args,
    kwargs,
    // Here RQ cuts nothing.
    description: flags.description ?? callString(func, args, kwargs, Number.POSITIVE_INFINITY),
    ...given('queue', flags.queue),
    ...given('jobTimeout', flags.timeout),
    ...given('resultTtl', flags.resultTtl),
    ...given('ttl', flags.ttl),
    ...given('failureTtl', flags.failureTtl),
    ...given('dependsOn', flags.dependsOn),
    ...given('jobId', flags.jobId),
    ...given('atFront', flags.atFront),
    ...given('group', flags.group),
    ...given('unique', flags.unique),
    ...given('in', flags.scheduleIn),
    ...given('at', flags.scheduleAt === undefined ? undefined : readTime(flags.scheduleAt)),
    ...given('meta', flags.meta === undefined ? undefined : readMeta(flags.meta)),
    ...given('retry', retryMax > 0 ? { max: retryMax, ...given('interval', retryInterval) } : undefined),
  };
}

/** Without an offset it is a time here, as to RQ. */
function readTime(text: string): Date {
  const at = new Date(text);
  if (/^\d{4}-\d\d-\d\dT\d\d:\d\d/.test(text) && Number.isFinite(at.getTime())) return at;
  throw new ConfigError(
    `--schedule-at must be an ISO 8601 time such as 2026-11-21T10:00:00 (here), or 2026-11-21T10:00:00Z, not '${text}'`,
  );
}

function readMeta(text: string): ReadonlyMap<string, unknown> {
  let value: unknown;
  try {
    value = json.parseExact(text);
  } catch (cause) {
    throw new ConfigError(`--meta is not JSON: ${text}`, { cause });
  }
  if (value instanceof Map) return value as ReadonlyMap<string, unknown>;
  throw new ConfigError(`--meta must be a JSON object such as '{"a": 1}', not ${text}`);
}
