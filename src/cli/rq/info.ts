import * as json from '../../../protocols/formats/json.ts';
import type { Counts, RqClient, WorkerRecord } from '../../drivers/rq/index.ts';
import { pause } from '../../source.ts';
import { EXIT } from '../exit.ts';
import { printable } from '../printable.ts';
import type { Environment, Output } from '../system.ts';
import { type ClientFlags, clientFor } from './settings.ts';

/** The flags of `rq info`. */
export interface InfoFlags extends ClientFlags {
  readonly interval?: number;
  readonly raw?: boolean;
  readonly onlyQueues?: boolean;
  readonly onlyWorkers?: boolean;
  readonly byQueue?: boolean;
  readonly json?: boolean;
}

/**
 * `jobglot inspect rq [QUEUES]`: what `rq info` shows, in its words. It changes nothing, where RQ cleans up registries and lists of
 * workers before it counts.
 */
export async function info(
  queues: readonly string[],
  flags: InfoFlags,
  env: Environment,
  cwd: string,
  { out }: Output,
): Promise<number> {
  const client = await clientFor(flags, env, cwd);
  const stop = new AbortController();
  const asked = (): void => stop.abort();
  if (flags.interval !== undefined) process.on('SIGINT', asked).on('SIGTERM', asked);
  try {
    for (;;) {
      const text = await page(client, queues, flags);
      out(flags.interval === undefined ? text : `\u001b[2J\u001b[H${text}`);
      if (flags.interval === undefined) return EXIT.ok;
      await pause(flags.interval * 1000, stop.signal);
      if (stop.signal.aborted) return EXIT.ok;
    }
  } finally {
    process.off('SIGINT', asked).off('SIGTERM', asked);
    await client.close();
  }
}

interface Facts {
  readonly queues: readonly (Counts & { readonly name: string })[];
  readonly workers: readonly WorkerRecord[];
}

async function page(client: RqClient, asked: readonly string[], flags: InfoFlags): Promise<string> {
  const names = asked.length > 0 ? asked : (await client.queues()).map(({ name }) => name);
  const counted = await client.counts(names);
  const all = await client.workers();
  const facts: Facts = {
    queues: names.map((name, at) => ({ name, ...(counted[at] as Counts) })),
    workers: all.filter(({ queues }) => names.length === 0 || queues.some((queue) => names.includes(queue))),
  };
  if (flags.json === true) return `${json.stringify(plain(facts, flags))}\n`;
  const raw = flags.raw === true;
  const lines: string[] = [];
  if (flags.onlyWorkers !== true) lines.push(...queueLines(facts, raw));
  if (flags.onlyWorkers !== true && flags.onlyQueues !== true && !raw) lines.push('');
  if (flags.onlyQueues !== true) lines.push(...workerLines(facts, raw, flags.byQueue === true));
  if (flags.onlyWorkers !== true && flags.onlyQueues !== true && !raw)
    lines.push('', `Updated: ${new Date().toISOString()}`);
  return `${lines.map(printable).join('\n')}\n`;
}

/** rq/cli/helpers.py show_queues. */
function queueLines({ queues }: Facts, raw: boolean): readonly string[] {
  const most = Math.max(0, ...queues.map(({ queued }) => queued));
  const scale = [20, 50, 100, 200, 400, 600, 800, 1000].find((one) => most <= one) ?? most;
  const lines = queues.map(({ name, queued, started, finished, failed }) => {
    const ends = `${queued}, ${started} executing, ${finished} finished, ${failed} failed`;
    return raw
      ? `queue ${name} ${ends}`
      : `${name.padEnd(12)} |${'█'.repeat(Math.floor((20 / scale) * queued))} ${ends}`;
  });
  const jobs = queues.reduce((sum, { queued }) => sum + queued, 0);
  return raw ? lines : [...lines, `${queues.length} queues, ${jobs} jobs total`];
}

/** rq/cli/helpers.py show_workers. */
function workerLines({ queues, workers }: Facts, raw: boolean, byQueue: boolean): readonly string[] {
  const width = Math.max(0, ...queues.map(({ name }) => name.length)) + 1;
  const lines = byQueue
    ? queues.map(({ name }) => {
        const here = workers.filter((worker) => worker.queues.includes(name));
        const shown = here.map((worker) => `${worker.name} (${worker.state})`).sort();
        return `${`${name}:`.padEnd(width)} ${shown.length === 0 ? '–' : shown.join(', ')}`;
      })
    : workers.map((worker) => {
        const where = `${worker.name} (${worker.hostname} ${worker.ipAddress} ${worker.pid ?? '?'})`;
        const does = `${worker.state} ${worker.queues.join(', ')}. jobs: ${worker.successfulJobCount} finished, ${worker.failedJobCount} failed`;
        return raw ? `worker ${where} ${does}` : `${where}: ${does}`;
      });
  return raw ? lines : [...lines, `${workers.length} workers, ${queues.length} queues`];
}

function plain({ queues, workers }: Facts, flags: InfoFlags): Readonly<Record<string, unknown>> {
  const time = (date: Date | undefined): string | null => date?.toISOString() ?? null;
  return {
    ...(flags.onlyWorkers === true ? {} : { queues }),
    ...(flags.onlyQueues === true
      ? {}
      : {
          workers: workers.map(({ birth, death, lastHeartbeat, pid, currentJob, ...rest }) => ({
            ...rest,
            pid: pid ?? null,
            currentJob: currentJob ?? null,
            birth: time(birth),
            death: time(death),
            lastHeartbeat: time(lastHeartbeat),
          })),
        }),
  };
}
