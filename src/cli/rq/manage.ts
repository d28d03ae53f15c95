import type { RqClient } from '../../drivers/rq/index.ts';
import { ConfigError } from '../../errors.ts';
import { EXIT } from '../exit.ts';
import type { Environment, Output } from '../system.ts';
import { OWN } from './help.ts';
import { type ClientFlags, clientFor, inspectorFor } from './settings.ts';

/** One command on one client, which is closed behind it. */
async function withClient(
  flags: ClientFlags,
  env: Environment,
  cwd: string,
  work: (client: RqClient) => Promise<number>,
): Promise<number> {
  const client = await clientFor(flags, env, cwd);
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}

export interface RequeueFlags extends ClientFlags {
  readonly queue: string;
  readonly all?: boolean;
}

/** `jobglot requeue rq --queue NAME [-a] [IDS]`. Ends 1 where one of them could not be requeued. */
export function requeue(
  ids: readonly string[],
  flags: RequeueFlags,
  env: Environment,
  cwd: string,
  { out, err }: Output,
): Promise<number> {
  return withClient(flags, env, cwd, async (client) => {
    const failed = client.queue(flags.queue).registry('failed');
    const asked = flags.all === true ? await failed.ids() : ids;
    if (asked.length === 0) {
      out('Nothing to do\n');
      return EXIT.ok;
    }
    out(`Requeueing ${asked.length} jobs from failed queue\n`);
    const left = asked.length - (await failed.requeue(asked));
    if (left === 0) return EXIT.ok;
    err(`Unable to requeue ${left} jobs from failed job registry\n`);
    return EXIT.failure;
  });
}

export interface EmptyFlags extends ClientFlags {
  readonly all?: boolean;
}

/** `jobglot empty rq [-a] [QUEUES]`. */
export function empty(
  names: readonly string[],
  flags: EmptyFlags,
  env: Environment,
  cwd: string,
  { out }: Output,
): Promise<number> {
  return withClient(flags, env, cwd, async (client) => {
    const queues = flags.all === true ? await client.queues() : names.map((name) => client.queue(name));
    if (queues.length === 0) out('Nothing to do\n');
    for (const queue of queues) out(`${await queue.empty()} jobs removed from ${queue.name} queue\n`);
    return EXIT.ok;
  });
}

export interface SuspendFlags extends ClientFlags {
  readonly duration?: number;
}

/** `jobglot suspend rq [--duration SECONDS]`. */
export function suspend(flags: SuspendFlags, env: Environment, cwd: string, { out }: Output): Promise<number> {
  return withClient(flags, env, cwd, async (client) => {
    await client.suspend(flags.duration);
    const until = flags.duration === undefined ? '' : ` for ${flags.duration} seconds`;
    out(`Suspending workers${until}. No new jobs will be started. But current jobs will be completed\n`);
    return EXIT.ok;
  });
}

/** `jobglot resume rq`. */
export function resume(flags: ClientFlags, env: Environment, cwd: string, { out }: Output): Promise<number> {
  return withClient(flags, env, cwd, async (client) => {
    await client.resume();
    out('Resuming workers.\n');
    return EXIT.ok;
  });
}

/** `jobglot control rq shutdown|kill-horse|stop-job NAME`. Ends 1 where nobody listens, or there is no such job. */
export async function command(
  name: keyof typeof OWN,
  targets: readonly string[],
  flags: ClientFlags,
  env: Environment,
  cwd: string,
  { out, err }: Output,
): Promise<number> {
  const [target] = targets;
  if (target === undefined || targets.length > 1)
    throw new ConfigError(`control rq ${name}: pass one ${OWN[name].usage}`);
  const said = (done: boolean): number => {
    if (done) out(`${name} ${target}: done\n`);
    else err(`${name} ${target}: nobody listens\n`);
    return done ? EXIT.ok : EXIT.failure;
  };
  if (name === 'kill-horse')
    return withClient(flags, env, cwd, async (client) => said(await client.command(target, { command: 'kill-horse' })));
  const inspector = await inspectorFor(flags, env, cwd);
  try {
    if (name === 'shutdown') return said((await inspector.act('stop', { worker: target })).done === 1);
    const { done, gone, refused } = await inspector.act('terminate', { ids: [target] });
    if (gone.length > 0) err(`there is no job ${target}\n`);
    else if (refused[0] !== undefined) err(`stop-job ${target}: ${refused[0].reason}\n`);
    else return said(done === 1);
    return EXIT.failure;
  } finally {
    await inspector.close();
  }
}
