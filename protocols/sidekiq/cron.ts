import { parse } from '../formats/ruby-json.ts';
import type { Exchange } from '../redis.ts';
import type { Keyspace } from './keys.ts';

/**
 * Periodic jobs of the gem sidekiq-cron, as it stores them. The set `cron_jobs:default` (1.x: `cron_jobs`) holds full key names; each is a hash of texts.
 * Mirrors sidekiq-cron lib/sidekiq/cron/job.rb (1.12 to 2.3).
 */
export interface CronJob {
  readonly name: string;
  readonly class: string | undefined;
  readonly queue: string | undefined;
  /** A cron line of fugit: 5 or 6 fields, perhaps a zone, or English. */
  readonly cron: string;
  readonly enabled: boolean;
  readonly lastEnqueuedAtMs: number | undefined;
}

/** The keys of the periodic jobs. */
export function cronKeys(keys: Keyspace): Exchange<readonly string[]> {
  return {
    commands: [
      ['SMEMBERS', `${keys.prefix}cron_jobs:default`],
      ['SMEMBERS', `${keys.prefix}cron_jobs`],
    ],
    atomic: false,
    read: (replies) => [...new Set(replies.flatMap((members) => (members as readonly Buffer[]).map(String)))].sort(),
  };
}

const FIELDS = ['name', 'klass', 'cron', 'status', 'message', 'last_enqueue_time'] as const;

/** The jobs behind these keys; undefined for one that is gone. */
export function cronJobs(keys: Keyspace, names: readonly string[]): Exchange<readonly (CronJob | undefined)[]> {
  return {
    commands: names.map((name) => ['HMGET', keys.prefix + name, ...FIELDS] as const),
    atomic: false,
    read: (replies) => replies.map((reply) => readCronJob(reply as readonly (Buffer | null)[])),
  };
}

function readCronJob(fields: readonly (Buffer | null)[]): CronJob | undefined {
  const [name, klass, cron, status, message, last] = fields.map((one) => (one === null ? '' : String(one)));
  if (name === undefined || name === '') return undefined;
  return {
    name,
    class: klass === '' ? undefined : klass,
    queue: queueOf(message ?? ''),
    cron: cron ?? '',
    enabled: status !== 'disabled',
    lastEnqueuedAtMs: readTime(last ?? ''),
  };
}

function queueOf(message: string): string | undefined {
  try {
    const { queue } = parse(message) as { readonly queue?: unknown };
    return typeof queue === 'string' && queue !== '' ? queue : undefined;
  } catch {
    return undefined;
  }
}

/** `2026-11-30 19:45:00 +0000`. */
function readTime(text: string): number | undefined {
  const [, day, time, hours, minutes] = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) ([-+]\d\d)(\d\d)$/.exec(text) ?? [];
  const ms = Date.parse(`${day}T${time}${hours}:${minutes}`);
  return Number.isNaN(ms) ? undefined : ms;
}
