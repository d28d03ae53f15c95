import type { RqClient, WorkerCommand } from '../../drivers/rq/index.ts';
import { ConfigError } from '../../errors.ts';
import { EXIT } from '../exit.ts';
import type { Environment, Output } from '../system.ts';
import { type ClientFlags, clientFor } from './settings.ts';

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

/** What `jobglot control rq` can say, and to what. */
export const COMMANDS: Readonly<Record<string, string>> = {
  shutdown: 'a worker: finish what runs, and end',
  'kill-horse': 'a worker: end what runs now',
  'stop-job': 'a job: end its run',
  cancel: 'a job: nobody starts it',
  delete: 'a job: away with it and its results',
};

/** `jobglot control rq COMMAND WORKER|JOB`. Ends 1 where nobody listens, or there is no such job. */
export function control(
  command: string,
  target: string,
  flags: ClientFlags,
  env: Environment,
  cwd: string,
  { out, err }: Output,
): Promise<number> {
  if (!Object.hasOwn(COMMANDS, command))
    throw new ConfigError(`there is no command '${command}'; there are ${Object.keys(COMMANDS).join(', ')}`);
  return withClient(flags, env, cwd, async (client) => {
    const job = client.job(target);
    let done: boolean;
    switch (command) {
      case 'stop-job':
        done = await job.stop();
        break;
      case 'cancel':
        await job.cancel();
        done = true;
        break;
      case 'delete':
        done = await job.delete();
        break;
      default:
        done = await client.command(target, { command: command as (WorkerCommand & { jobId?: never })['command'] });
    }
    if (done) out(`${command} ${target}: done\n`);
    else err(command === 'delete' ? `there is no job ${target}\n` : `${command} ${target}: nobody listens\n`);
    return done ? EXIT.ok : EXIT.failure;
  });
}
