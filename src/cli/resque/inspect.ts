import * as json from '../../../protocols/formats/json.ts';
import type { ListedFailure, ResqueApi, WorkerInfo } from '../../drivers/resque/index.ts';
import { ConfigError } from '../../errors.ts';
import { seconds } from '../printable.ts';
import { closing, type Seen, show } from '../show.ts';
import type { Environment, Output } from '../system.ts';
import { appFor, type ClientFlags } from './settings.ts';

export interface InspectFlags extends ClientFlags {
  readonly queue?: string;
  readonly start?: number;
  readonly limit?: number;
  readonly json?: boolean;
}

/** One command on the API, which is closed behind it. */
export async function withApi(
  flags: ClientFlags,
  env: Environment,
  cwd: string,
  work: (api: ResqueApi) => Promise<number>,
): Promise<number> {
  const { ResqueApi } = await import('../../drivers/resque/index.ts');
  return closing(new ResqueApi(await appFor(flags, env, cwd)), work);
}

/** `jobglot inspect resque [WHAT]`, for words that are no view of every system. */
export function inspect(
  what: string,
  flags: InspectFlags,
  env: Environment,
  cwd: string,
  { out }: Output,
): Promise<number> {
  return withApi(flags, env, cwd, async (api) => show(await look(api, what, flags), flags.json, out));
}

async function look(api: ResqueApi, what: string, flags: InspectFlags): Promise<Seen> {
  switch (what) {
    case 'info': {
      const info = await api.info();
      const lines = [
        ...info.queues.map(({ name, size }) => `${name.padEnd(20)} ${size}`),
        `${info.pending} pending, ${info.processed} processed, ${info.failed} failed; ${info.working} of ${info.workers} workers at work`,
      ];
      return { lines, plain: info };
    }
    case 'working': {
      const workers = (await api.workers()).filter(({ working }) => working !== undefined);
      return { lines: workers.length === 0 ? ['none'] : workers.map(workerLine), plain: workers };
    }
    case 'failed': {
      const options = { start: flags.start ?? 0, count: flags.limit ?? 20 };
      const listed = await api.failures({ ...options, ...(flags.queue === undefined ? {} : { queue: flags.queue }) });
      return { lines: listed.length === 0 ? ['none'] : listed.flatMap(failureLines), plain: listed.map(plainFailure) };
    }
    default:
      throw new ConfigError(
        `inspect resque shows info, working, failed, overview, queues, jobs, job, workers or schedules, not '${what}'`,
      );
  }
}

function workerLine({ id, working, beatAt }: WorkerInfo): string {
  const beat = beatAt === undefined ? 'never beat' : `beat ${seconds(Date.now() - beatAt.getTime())} ago`;
  if (working === undefined) return `${id}: waits, ${beat}`;
  const since = working.runAt === undefined ? '' : ` for ${seconds(Date.now() - working.runAt.getTime())}`;
  return `${id}: ${working.class} of ${working.queue}${since}, ${beat}`;
}

function failureLines({ index, failure, text }: ListedFailure): readonly string[] {
  if (failure === undefined) return [`${index}: no failure: ${text.slice(0, 100)}`];
  const { failedAt, class: name, args, exception, error, queue, worker, retriedAt } = failure;
  const again = retriedAt === undefined ? '' : `; retried ${retriedAt}`;
  return [
    `${index}: ${failedAt} ${name} ${json.stringify(args).slice(0, 200)} of ${queue}${again}`,
    `   ${exception}: ${error.split('\n')[0]} (${worker})`,
  ];
}

function plainFailure({ index, text }: ListedFailure): unknown {
  try {
    return { index, ...(json.parse(text) as object) };
  } catch {
    return { index, text };
  }
}
