import { Buffer } from 'node:buffer';
import * as json from '../formats/json.ts';
import { callScript, type Command, type Exchange, type Script } from '../redis.ts';
import { cronSchedulerKey, SCHEDULERS } from './cron.ts';
import * as keys from './keys.ts';
import { LOOKING, RELEASING } from './lua.ts';
import { dateText, readDate } from './times.ts';

/**
 * What an inspector reads and changes, in bounded steps: a page of a registry or of a list, the jobs of a page, and changes by id. Reading changes
 * nothing, while RQ's own registries clean up before they are listed. A key of the wrong type is read as an empty key.
 */

/** The next page begins after this member. `at` is its score, or its position in a list. */
export interface PagePosition {
  readonly member: string;
  readonly at: string;
}

export interface PageEntry extends PagePosition {
  /** The member as it is stored: an id, or `id:execution` for a running job. Not always UTF-8. */
  readonly bytes: Buffer;
}

/**
 * Members of a sorted set after a given member. If that member is gone or has another score, the page begins at the first member with the given score,
 * so that none is left out. KEYS the set. ARGV asc or desc, score, member, count.
 */
export const ZSET_PAGE: Script = {
  name: 'zset-page',
  keys: 1,
  lua: `${LOOKING}
if wrong(KEYS[1], 'zset') then return {} end
local down, score, member, start = ARGV[1] == 'desc', ARGV[2], ARGV[3], 0
if score ~= '' then
  local same = redis.call('ZSCORE', KEYS[1], member) == score
  if same then start = redis.call(down and 'ZREVRANK' or 'ZRANK', KEYS[1], member) + 1
  elseif down then start = redis.call('ZCOUNT', KEYS[1], '(' .. score, '+inf')
  else start = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. score) end
end
return redis.call(down and 'ZREVRANGE' or 'ZRANGE', KEYS[1], start, start + ARGV[4] - 1, 'WITHSCORES')
`,
};

/**
 * Entries of a list after a given entry. If that entry is gone, it was taken from the head together with all entries before it, so the page begins at the
 * head. Redis before 6.0.6 cannot search a list, so its position is used. KEYS the list. ARGV position, entry, count. Returns the first position, entries.
 */
export const LIST_PAGE: Script = {
  name: 'list-page',
  keys: 1,
  lua: `${LOOKING}
if wrong(KEYS[1], 'list') then return {0, {}} end
local start = 0
if ARGV[1] ~= '' then
  local found = redis.pcall('LPOS', KEYS[1], ARGV[2], 'MAXLEN', ARGV[1] + 1000)
  if type(found) == 'number' then start = found + 1 elseif type(found) == 'table' then start = ARGV[1] + 1 end
end
return {start, redis.call('LRANGE', KEYS[1], start, start + ARGV[3] - 1)}
`,
};

export function zsetPage(
  key: string,
  order: 'asc' | 'desc',
  behind: PagePosition | undefined,
  count: number,
): Exchange<readonly PageEntry[]> {
  return {
    commands: [callScript(ZSET_PAGE, [key], [order, behind?.at ?? '', memberBytes(behind), count])],
    atomic: false,
    read([reply]) {
      const flat = reply as readonly Buffer[];
      const entries: PageEntry[] = [];
      for (let at = 0; at + 1 < flat.length; at += 2) {
        const bytes = flat[at] as Buffer;
        entries.push({ bytes, member: bytes.toString('latin1'), at: String(flat[at + 1]) });
      }
      return entries;
    },
  };
}

export function listPage(key: string, behind: PagePosition | undefined, count: number): Exchange<readonly PageEntry[]> {
  return {
    commands: [callScript(LIST_PAGE, [key], [behind?.at ?? '', memberBytes(behind), count])],
    atomic: false,
    read([reply]) {
      const [first, entries] = reply as readonly [number, readonly Buffer[]];
      return entries.map((bytes, at) => ({ bytes, member: bytes.toString('latin1'), at: String(first + at) }));
    },
  };
}

function memberBytes(behind: PagePosition | undefined): Buffer {
  return Buffer.from(behind?.member ?? '', 'latin1');
}

/** Everything about one job that one read returns. */
export interface JobFacts {
  /** The hash, flat; empty if it does not exist. */
  readonly hash: readonly Buffer[];
  /** The latest result: its id and its fields. */
  readonly result: readonly [id: Buffer, fields: readonly Buffer[]] | undefined;
}

/** The hash and the latest result of each job. KEYS per job its hash and its results. */
export const FACTS: Script = {
  name: 'facts',
  keys: 'variable',
  lua: `
local out = {}
for i = 1, #KEYS, 2 do
  local hash = redis.pcall('HGETALL', KEYS[i])
  local results = redis.pcall('XREVRANGE', KEYS[i + 1], '+', '-', 'COUNT', 1)
  out[#out + 1] = hash.err and {} or hash
  out[#out + 1] = results.err and {} or results
end
return out
`,
};

export function jobFacts(ids: readonly string[]): Exchange<readonly JobFacts[]> {
  return {
    commands:
      ids.length === 0
        ? []
        : [
            callScript(
              FACTS,
              ids.flatMap((id) => [keys.jobKey(id), keys.resultsKey(id)]),
              [],
            ),
          ],
    atomic: false,
    read: ([reply]) =>
      ids.map((_, at) => {
        const all = reply as readonly unknown[];
        return {
          hash: all[2 * at] as readonly Buffer[],
          result: (all[2 * at + 1] as readonly JobFacts['result'][])[0],
        };
      }),
  };
}

/** When a scheduled job is due; undefined if it is not scheduled. */
export function dueAt(id: string, queue: string): Exchange<Date | undefined> {
  return {
    commands: [['ZSCORE', keys.registryKey('scheduled', queue), id]],
    atomic: false,
    read: ([reply]) => (reply === null ? undefined : new Date(Number(reply) * 1000)),
  };
}

/** A short summary of a queue. */
export interface QueueFacts {
  readonly size: number;
  /** When the job at the head was enqueued. */
  readonly oldest: Date | undefined;
  readonly quarantined: number;
}

/** KEYS per queue its list and its quarantine. Returns per queue: length, when the head was enqueued, length of the quarantine. */
export const QUEUE_FACTS: Script = {
  name: 'queue-facts',
  keys: 'variable',
  lua: `
local out = {}
for i = 1, #KEYS, 2 do
  local length, head, aside = redis.pcall('LLEN', KEYS[i]), redis.pcall('LINDEX', KEYS[i], 0), redis.pcall('LLEN', KEYS[i + 1])
  local since = type(head) == 'string' and redis.pcall('HGET', 'rq:job:' .. head, 'enqueued_at')
  out[#out + 1] = {type(length) == 'number' and length or 0, type(since) == 'string' and since or '', type(aside) == 'number' and aside or 0}
end
return out
`,
};

export function queueFacts(queues: readonly string[]): Exchange<readonly QueueFacts[]> {
  return {
    commands:
      queues.length === 0
        ? []
        : [
            callScript(
              QUEUE_FACTS,
              queues.flatMap((queue) => [keys.queueKey(queue), keys.quarantineKey(queue)]),
              [],
            ),
          ],
    atomic: false,
    read: ([reply]) =>
      ((reply ?? []) as readonly (readonly [number, Buffer, number])[]).map(([size, since, quarantined]) => ({
        size,
        oldest: readDate(since.toString('latin1')),
        quarantined,
      })),
  };
}

/** The result of a change by id. `elsewhere`: the job exists, but not in the place that the change takes it from. */
export type Changed = 'done' | 'gone' | 'elsewhere';

const CHANGED: Readonly<Record<number, Changed>> = { 1: 'done', 0: 'gone', 2: 'elsewhere' };

/**
 * Puts scheduled jobs into their queue now, as the scheduler does when they are due. KEYS rq:scheduled:Q. ARGV queue, date, ids. Returns per id 1 done,
 * 0 the job does not exist, 2 it is not scheduled. Mirrors rq/scheduler.py enqueue_scheduled_jobs (2.10).
 */
export const RUN_SCHEDULED: Script = {
  name: 'run-scheduled',
  keys: 1,
  lua: `${RELEASING}
local queue, date, out = ARGV[1], ARGV[2], {}
local wrong_type = wrong(KEYS[1], 'zset') or wrong('rq:queue:' .. queue, 'list') or wrong('rq:queues', 'set')
if wrong_type then return refuse(wrong_type) end
for i = 3, #ARGV do
  local id = ARGV[i]
  local key = 'rq:job:' .. id
  local job = redis.pcall('HMGET', key, 'data', 'ttl', 'ended_at', 'enqueue_at_front_on_retry', 'enqueue_at_front', 'timeout')
  if job.err or not job[1] then
    redis.call('ZREM', KEYS[1], id)
    out[#out + 1] = 0
  elseif redis.call('ZREM', KEYS[1], id) == 0 then
    out[#out + 1] = 2
  else
    redis.call('HSET', key, 'status', 'queued', 'enqueued_at', date, 'origin', queue)
    if not job[6] or job[6] == '' then redis.call('HSET', key, 'timeout', 180) end
    keep(id, job[2])
    push(id, queue, is_on(job[4]) and job[3] and job[3] ~= '' or is_on(job[5]))
    out[#out + 1] = 1
  end
end
return out
`,
};

export function runScheduled(queue: string, ids: readonly string[], now: Date): Exchange<readonly Changed[]> {
  return {
    commands: [callScript(RUN_SCHEDULED, [keys.registryKey('scheduled', queue)], [queue, dateText(now), ...ids])],
    atomic: false,
    read: ([reply]) => (reply as readonly number[]).map((one) => CHANGED[one] as Changed),
  };
}

/**
 * Takes ids out of the quarantine of a queue, and puts them at the tail of the queue if asked. KEYS the quarantine, its reasons, the queue, rq:queues.
 * ARGV 1 to put them into the queue, ids. Returns per id 1 done, 0 not found.
 */
export const UNQUARANTINE: Script = {
  name: 'unquarantine',
  keys: 4,
  lua: `${LOOKING}
local wrong_type = wrong(KEYS[1], 'list') or wrong(KEYS[2], 'list') or wrong(KEYS[3], 'list') or wrong(KEYS[4], 'set')
if wrong_type then return refuse(wrong_type) end
local out, places, taken = {}, {}, 0
local ids = redis.call('LRANGE', KEYS[1], 0, -1)
for i = #ids, 1, -1 do places[ids[i]] = i end
for i = 2, #ARGV do
  local place = places[ARGV[i]]
  if place then
    places[ARGV[i]] = nil
    -- Both lists keep the same order: what is to go is marked, then taken away at once.
    redis.call('LSET', KEYS[1], place - 1, '\\0taken')
    redis.call('LSET', KEYS[2], place - 1, '\\0taken')
    taken = taken + 1
    if ARGV[1] == '1' then
      redis.call('RPUSH', KEYS[3], ARGV[i])
      redis.call('SADD', KEYS[4], KEYS[3])
    end
    out[#out + 1] = 1
  else
    out[#out + 1] = 0
  end
end
if taken > 0 then
  redis.call('LREM', KEYS[1], 0, '\\0taken')
  redis.call('LREM', KEYS[2], 0, '\\0taken')
end
return out
`,
};

export function unquarantine(
  queue: string,
  ids: readonly Uint8Array[],
  intoQueue: boolean,
): Exchange<readonly Changed[]> {
  const scriptKeys = [keys.quarantineKey(queue), keys.quarantineReasonsKey(queue), keys.queueKey(queue), keys.QUEUES];
  return {
    commands: [callScript(UNQUARANTINE, scriptKeys, [intoQueue ? 1 : 0, ...ids])],
    atomic: false,
    read: ([reply]) => (reply as readonly number[]).map((one) => CHANGED[one] as Changed),
  };
}

/** The reasons of the entries of a quarantine, from a position on. */
export function quarantineReasons(queue: string, first: number, count: number): Exchange<readonly string[]> {
  return {
    commands: [['LRANGE', keys.quarantineReasonsKey(queue), first, first + count - 1]],
    atomic: false,
    read: ([reply]) => (reply as readonly Buffer[]).map(String),
  };
}

/** Whether the command channel of each of these workers has a subscriber. A live worker subscribes to its channel. */
export function listening(workers: readonly string[]): Exchange<readonly boolean[]> {
  return {
    commands: workers.length === 0 ? [] : [['PUBSUB', 'NUMSUB', ...workers.map(keys.commandChannel)]],
    atomic: false,
    read: ([reply]) => workers.map((_, at) => Number((reply as readonly unknown[])[2 * at + 1]) > 0),
  };
}

/** Removes a worker without a hash from the lists. Only its name is left there. */
export function forgetWorker(worker: string, queues: readonly string[]): Exchange<void> {
  const key = keys.workerKey(worker);
  return {
    commands: [keys.WORKERS, ...queues.map(keys.workersKey)].map((list): Command => ['SREM', list, key]),
    atomic: true,
    read: () => undefined,
  };
}

/** One entry that a cron scheduler lists. */
export interface ListedCronJob {
  readonly scheduler: string;
  readonly record: Readonly<Record<string, unknown>>;
}

/** The names of the live cron schedulers, of Python and of jobglot. */
export function cronSchedulers(): Exchange<readonly string[]> {
  return {
    commands: [['ZRANGE', SCHEDULERS, 0, -1]],
    atomic: false,
    read: ([reply]) => (reply as readonly Buffer[]).map(String),
  };
}

/** The entries that these schedulers list. A list that cannot be read is left out. */
export function cronJobs(schedulers: readonly string[]): Exchange<readonly ListedCronJob[]> {
  return {
    commands: schedulers.map((name): Command => ['HGET', cronSchedulerKey(name), 'cron_jobs']),
    atomic: false,
    read: (replies) =>
      schedulers.flatMap((scheduler, at) => {
        const text = replies[at] as Buffer | null;
        if (text === null) return [];
        try {
          const list = json.parse(String(text));
          const records = (Array.isArray(list) ? list : []).filter(
            (one): one is ListedCronJob['record'] => typeof one === 'object' && one !== null,
          );
          return records.map((record) => ({ scheduler, record }));
        } catch {
          return [];
        }
      }),
  };
}

/**
 * Jobs of the package rq-scheduler, each with its next due time in seconds. Their `meta` holds the interval or the cron expression. Source:
 * rq_scheduler/scheduler.py (0.13).
 */
export function schedulerPackageJobs(
  limit: number,
): Exchange<readonly { readonly id: string; readonly due: number }[]> {
  return {
    commands: [['ZRANGE', 'rq:scheduler:scheduled_jobs', 0, limit - 1, 'WITHSCORES']],
    atomic: false,
    read([reply]) {
      const flat = reply as readonly Buffer[];
      return flat.flatMap((id, at) => (at % 2 === 0 ? [{ id: String(id), due: Number(flat[at + 1]) }] : []));
    },
  };
}

/** A hash in the form that `redis-cli --no-raw` prints and `explain` reads. */
export function printedHash(flat: readonly Buffer[]): Buffer {
  const width = String(flat.length).length;
  return Buffer.from(
    flat.map((one, at) => `${String(at + 1).padStart(width)}) "${escaped(one)}"`).join('\n'),
    'latin1',
  );
}

/** Redis's sdscatrepr: bytes that are not printable are escaped one by one. */
function escaped(bytes: Buffer): string {
  return bytes.toString('latin1').replaceAll(/[\\"\u0000-\u001f\u007f-\u00ff]/g, (one) => {
    const simple = ESCAPES[one];
    return simple ?? `\\x${one.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
}

const ESCAPES: Readonly<Record<string, string>> = {
  '\\': '\\\\',
  '"': '\\"',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\u0007': '\\a',
  '\b': '\\b',
};
