import type { Buffer } from 'node:buffer';
import * as json from '../formats/json.ts';
import { callScript, type Exchange, type Script } from '../redis.ts';
import { type Crontab, nextAfter } from './crontab.ts';
import type { NewJob } from './enqueue.ts';
import { jobKey, queueKey, QUEUES } from './keys.ts';
import { writeJob } from './message.ts';
import { type Webhook, webhookRecord } from './options.ts';
import { dateText } from './times.ts';

/**
 * The keys by which `rq cron` shows itself. Source: rq/cron.py, rq/cron_scheduler_registry.py (2.10).
 *
 * | key | type | content |
 * |---|---|---|
 * | `rq:cron_schedulers` | zset | names; the score is the last heartbeat, seconds since the epoch |
 * | `rq:cron_scheduler:<name>` | hash | hostname, pid, name, created_at, config_file, cron_jobs (JSON) |
 * | `jobglot:rq:cron:<entry>` | string | jobglot only: when an entry was last enqueued, milliseconds since the epoch |
 *
 * RQ has no lock, so two processes enqueue everything twice. jobglot checks and sets the last key in the step that enqueues.
 */
export const SCHEDULERS = 'rq:cron_schedulers';
export const cronSchedulerKey = (name: string): string => `rq:cron_scheduler:${name}`;
export const cronEntryKey = (entry: string): string => `jobglot:rq:cron:${entry}`;

/** A cron entry, as it was registered. */
export interface CronEntry {
  readonly funcName: string;
  readonly queueName: string;
  readonly args: readonly unknown[];
  readonly kwargs: Readonly<Record<string, unknown>>;
  readonly schedule: { readonly interval: number } | { readonly cron: Crontab };
  readonly jobTimeout?: number | undefined;
  readonly resultTtl?: number | undefined;
  readonly ttl?: number | undefined;
  readonly failureTtl?: number | undefined;
  readonly meta?: Readonly<Record<string, unknown>> | ReadonlyMap<string, unknown> | undefined;
  readonly webhooks?: readonly Webhook[] | undefined;
}

/** When an entry was last enqueued, and when it is due next; milliseconds since the epoch. */
export interface CronTimes {
  readonly latest: number | undefined;
  readonly next: number | undefined;
}

/** When the entry is due next. An interval entry that was never enqueued is due immediately. Source: rq/cron.py CronJob.get_next_enqueue_time, should_run. */
export function nextTime({ schedule }: CronEntry, latest: number | undefined, now: Date): number {
  if ('cron' in schedule) return nextAfter(schedule.cron, latest === undefined ? now : new Date(latest)).getTime();
  return latest === undefined ? now.getTime() : latest + schedule.interval * 1000;
}

/** The entry as its scheduler lists it. Source: rq/cron.py CronJob.to_dict. */
export function cronRecord(entry: CronEntry, { latest, next }: CronTimes): Readonly<Record<string, unknown>> {
  const { schedule, meta, webhooks } = entry;
  const time = (ms: number | undefined): string | null => (ms === undefined ? null : dateText(new Date(ms)));
  const record: Record<string, unknown> = {
    func_name: entry.funcName,
    queue_name: entry.queueName,
    args: entry.args.length === 0 ? null : safeJson([...entry.args]),
    kwargs: Object.keys(entry.kwargs).length === 0 ? null : safeJson(entry.kwargs),
    interval: 'interval' in schedule ? schedule.interval : null,
    cron: 'cron' in schedule ? schedule.cron.text : null,
    latest_enqueue_time: time(latest),
    next_enqueue_time: time(next),
  };
  if (entry.jobTimeout !== undefined) record['job_timeout'] = entry.jobTimeout;
  if (entry.resultTtl !== undefined) record['result_ttl'] = entry.resultTtl;
  if (entry.ttl !== undefined) record['ttl'] = entry.ttl;
  if (entry.failureTtl !== undefined) record['failure_ttl'] = entry.failureTtl;
  if (meta !== undefined) record['meta'] = safeJson(meta);
  if (webhooks !== undefined && webhooks.length > 0) record['webhooks'] = json.stringify(webhooks.map(webhookRecord));
  return record;
}

/** Source: rq/utils.py safe_json_dumps. */
function safeJson(value: unknown): string {
  try {
    return json.stringify(value);
  } catch {
    return '<not JSON serializable>';
  }
}

export interface CronScheduler {
  readonly name: string;
  readonly hostname: string;
  readonly pid: number;
  readonly createdAt: Date;
  readonly configFile: string;
}

/**
 * A heartbeat. It writes everything again, so that it restores what another process's cleaning has removed. The hash is kept for 60
 * seconds at first, and for 120 later. Source: rq/cron.py register_birth, heartbeat, save_jobs_data.
 */
export function beat(
  scheduler: CronScheduler,
  entries: readonly Readonly<Record<string, unknown>>[],
  now: Date,
  seconds: number,
): Exchange<void> {
  const { name, hostname, pid, createdAt, configFile } = scheduler;
  const key = cronSchedulerKey(name);
  const fields = ['hostname', hostname, 'pid', pid, 'name', name, 'created_at', dateText(createdAt)];
  return {
    commands: [
      ['ZADD', SCHEDULERS, now.getTime() / 1000, name],
      ['HSET', key, ...fields, 'config_file', configFile, 'cron_jobs', json.stringify(entries)],
      ['EXPIRE', key, seconds],
    ],
    atomic: true,
    read: () => undefined,
  };
}

/** Removes the scheduler from the list. Its hash expires, as in RQ. Source: rq/cron.py register_death. */
export function death(name: string): Exchange<void> {
  return { commands: [['ZREM', SCHEDULERS, name]], atomic: false, read: () => undefined };
}

/** When each entry was last enqueued by any process. */
export function latestTimes(entries: readonly string[]): Exchange<readonly (number | undefined)[]> {
  return {
    commands: entries.length === 0 ? [] : [['MGET', ...entries.map(cronEntryKey)]],
    atomic: false,
    read: ([reply]) =>
      ((reply ?? []) as readonly (Buffer | null)[]).map((one) => (one === null ? undefined : Number(one))),
  };
}

/**
 * Enqueues the job of an entry. If another process has already done so, it returns the time of that run instead. It is one step, so a run is
 * neither lost nor doubled when a process dies. If it is called again after a lost reply, it returns the time of its own run.
 *
 * KEYS the entry, `rq:queues`, the queue, the hash. ARGV latest time of an earlier run, time of this run, milliseconds the entry is
 * remembered, id, ttl, key of the queue, fields.
 */
export const ENQUEUE_RUN: Script = {
  name: 'enqueueRun',
  keys: 4,
  lua: `
local last = redis.call('GET', KEYS[1])
if last and tonumber(last) > tonumber(ARGV[1]) then return last end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('HSET', KEYS[4], unpack(ARGV, 6))
if ARGV[5] ~= '' then redis.call('EXPIRE', KEYS[4], ARGV[5]) end
redis.call('SADD', KEYS[2], KEYS[3])
redis.call('RPUSH', KEYS[3], ARGV[4])
return 0
`,
};

export interface Run {
  /** The entry's name. It is the same in every process that has the entry. */
  readonly entry: string;
  /** Milliseconds since the epoch. A run that was enqueued at this time or before is an earlier run. */
  readonly before: number;
  readonly at: number;
  /** How long the entry is remembered: longer than the longest time between two runs, if that is known. */
  readonly rememberMs: number;
}

/** Enqueues a run. Undefined: this call enqueued it. Otherwise the time at which it was enqueued already. */
export function enqueueRun(
  { entry, before, at, rememberMs }: Run,
  { job, queue }: NewJob,
): Exchange<number | undefined> {
  const keys = [cronEntryKey(entry), QUEUES, queueKey(queue), jobKey(job.id)];
  const args = [before, at, Math.ceil(rememberMs), job.id, job.ttl ?? '', ...writeJob(job)];
  return {
    commands: [callScript(ENQUEUE_RUN, keys, args)],
    atomic: false,
    read: ([reply]) => (reply === 0 ? undefined : Number(reply)),
  };
}
