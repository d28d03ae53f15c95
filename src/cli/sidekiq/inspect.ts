import type { SetEntry, SetName, SidekiqApi } from '../../drivers/sidekiq/index.ts';
import { ConfigError } from '../../errors.ts';
import { seconds } from '../printable.ts';
import { closing, type Seen, show } from '../show.ts';
import type { Environment, Output } from '../system.ts';
import { appFor, type ClientFlags } from './settings.ts';

export interface InspectFlags extends ClientFlags {
  readonly find?: string;
  readonly limit?: number;
  readonly json?: boolean;
}

/** One command on the API, which is closed behind it. */
export async function withApi(
  flags: ClientFlags,
  env: Environment,
  cwd: string,
  work: (api: SidekiqApi) => Promise<number>,
): Promise<number> {
  const { SidekiqApi } = await import('../../drivers/sidekiq/index.ts');
  return closing(new SidekiqApi(await appFor(flags, env, cwd)), work);
}

/** `jobglot inspect sidekiq [WHAT] [NAME]`. */
export function inspect(
  what: string,
  name: string | undefined,
  flags: InspectFlags,
  env: Environment,
  cwd: string,
  { out }: Output,
): Promise<number> {
  return withApi(flags, env, cwd, async (api) => show(await look(api, what, name, flags), flags.json, out));
}

async function look(api: SidekiqApi, what: string, name: string | undefined, flags: InspectFlags): Promise<Seen> {
  switch (what) {
    case 'stats': {
      const stats = await api.stats();
      const lines = Object.entries(stats).map(([key, value]) => `${key.padEnd(10)} ${value}`);
      return { lines, plain: stats };
    }
    case 'processes': {
      const processes = await api.processes();
      const lines = processes.map(({ identity, busy, concurrency, quiet, info, rssKilobytes, beatMs }) => {
        const { tag, queues, version, jobglot } = info;
        const speaks = jobglot === undefined ? `Sidekiq ${text(version, '6')}` : `jobglot ${text(jobglot, '')}`;
        const state = quiet ? ', quiet' : '';
        return `${identity} [${text(tag, '')}] ${speaks}: ${busy} of ${concurrency} busy${state}, ${Math.round(rssKilobytes / 1024)} MiB, beat ${seconds(Date.now() - beatMs)} ago; ${Array.isArray(queues) ? queues.join(', ') : ''}`;
      });
      return { lines: lines.length === 0 ? ['no processes'] : lines, plain: processes };
    }
    case 'work': {
      const work = await api.work();
      const lines = work.map(
        ({ identity, tid, queue, runAtMs, hash }) =>
          `${text(hash['wrapped'] ?? hash['class'], '?')} ${text(hash['jid'], '')} of ${queue}: for ${seconds(Date.now() - runAtMs)} in ${identity} ${tid}`,
      );
      return { lines: lines.length === 0 ? ['nothing runs'] : lines, plain: work };
    }
    case 'retry':
    case 'schedule':
    case 'dead': {
      const entries = await entriesOf(api, what, flags);
      return { lines: entries.length === 0 ? ['none'] : entries.map(entryLine), plain: entries };
    }
    case 'queue': {
      if (name === undefined)
        throw new ConfigError('inspect sidekiq queue: which? Name one: inspect sidekiq queue default');
      const jobs = (await api.jobs(name, { limit: flags.limit ?? 25 })).map(String);
      return { lines: jobs.length === 0 ? ['empty'] : jobs, plain: jobs };
    }
    default:
      throw new ConfigError(
        `inspect sidekiq shows overview, queues, jobs, job, workers, schedules, stats, processes, work, retry, schedule, dead or queue NAME, not '${what}'`,
      );
  }
}

function entriesOf(api: SidekiqApi, set: SetName, { find, limit = 25 }: InspectFlags): Promise<readonly SetEntry[]> {
  return find === undefined ? api.list(set, { limit }) : api.find(set, find);
}

function entryLine({ atMs, jid, class: name, hash, set, member }: SetEntry): string {
  const at = new Date(atMs);
  // A score may be any number.
  const when = Number.isNaN(at.getTime()) ? `at no time (${atMs})` : at.toISOString();
  if (hash === undefined) return `${when} no job: ${Buffer.from(member).toString('latin1').slice(0, 100)}`;
  const { error_class: error, error_message: message, retry_count: count, queue } = hash;
  const why = error === undefined ? '' : ` ${text(error, '')}: ${text(message, '').split('\n')[0]}`;
  const times = set === 'schedule' || typeof count !== 'number' ? '' : ` failed ${count + 1} times,`;
  return `${when} ${name} ${jid} of ${text(queue, 'default')}${times}${why}`;
}

function text(value: unknown, otherwise: string): string {
  return typeof value === 'string' ? value : typeof value === 'number' ? String(value) : otherwise;
}
