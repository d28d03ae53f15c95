import type { Buffer } from 'node:buffer';
import { callScript, type Exchange, type Script } from '../redis.ts';
import * as keys from './keys.ts';
import { RELEASING } from './lua.ts';
import { dateText, epochSeconds } from './times.ts';

/**
 * The scheduler: one process at a time moves the due jobs of a queue into it. `rq:scheduler-lock:Q` names this process: by its name since
 * RQ 2.10, by its pid before. Source: rq/scheduler.py, 2.10.
 */
export interface SchedulerRecord {
  readonly name: string;
  readonly hostname: string;
  readonly pid: number;
  readonly queues: readonly string[];
  readonly createdAt: Date;
}

/** Seconds. Source: rq/scheduler.py, interval + 60. */
const LOCK_TTL = 61;

/** Jobs of one queue in one script. The number is limited because Redis runs nothing else during a script. */
export const SCHEDULED_AT_ONCE = 500;

/**
 * One tick over all queues. It takes the free locks, renews our own locks, and moves due jobs into their queues. Python reads and writes
 * in separate round trips, so it goes on even if it lost the lock in between.
 *
 * KEYS rq:scheduler:<name>, then per queue the lock, rq:scheduled:Q, rq:queue:Q. ARGV name, lock ttl, seconds, date, limit, number of fields, fields
 * of the scheduler, then the queues' names.
 * Returns [number of queues whose lock this scheduler holds, number of jobs moved, 1 if more are due, keys of the wrong type].
 */
export const TICK: Script = {
  name: 'tick',
  keys: 'variable',
  lua: `${RELEASING}
local name, ttl, now, date, limit, count = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local held, put, more, odd = 0, 0, 0, {}
for q = 1, (#KEYS - 1) / 3 do
  local lock, due, list, queue = KEYS[3 * q - 1], KEYS[3 * q], KEYS[3 * q + 1], ARGV[6 + count + q]
  -- A queue one of whose keys is of another type does not hold up the others.
  local wrong_type = wrong(lock, 'string') or wrong(due, 'zset') or wrong(list, 'list') or wrong('rq:queues', 'set')
  local owner = wrong_type or redis.call('GET', lock)
  if wrong_type then odd[#odd + 1] = wrong_type end
  if not owner then
    redis.call('SET', lock, name, 'EX', ttl)
    owner = name
  end
  if owner == name and not wrong_type then
    held = held + 1
    redis.call('EXPIRE', lock, ttl)
    local ids = redis.call('ZRANGEBYSCORE', due, 0, now, 'LIMIT', 0, limit)
    if #ids == limit then more = 1 end
    for i = 1, #ids do
      local id = ids[i]
      local key = 'rq:job:' .. id
      local job = redis.pcall('HMGET', key, 'status', 'ttl', 'ended_at', 'enqueue_at_front_on_retry', 'enqueue_at_front', 'timeout', 'data')
      if not job.err and job[7] and job[1] ~= 'canceled' then
        redis.call('HSET', key, 'status', 'queued', 'enqueued_at', date, 'origin', queue)
        if not job[6] or job[6] == '' then redis.call('HSET', key, 'timeout', 180) end
        keep(id, job[2])
        local again = job[4] and (tonumber(job[4]) or 0) ~= 0 and job[3] and job[3] ~= ''
        local front = again or (job[5] and (tonumber(job[5]) or 0) ~= 0)
        redis.call(front and 'LPUSH' or 'RPUSH', list, id)
        put = put + 1
      end
      redis.call('ZREM', due, id)
    end
    if #ids > 0 then redis.call('SADD', 'rq:queues', list) end
  end
end
if held > 0 then
  redis.call('HSET', KEYS[1], unpack(ARGV, 7, 6 + count))
  redis.call('EXPIRE', KEYS[1], ttl)
end
return {held, put, more, odd}
`,
};

export interface Ticked {
  /** How many queues this scheduler holds the lock of. */
  readonly held: number;
  readonly put: number;
  readonly more: boolean;
  /** Keys of the wrong type. Nothing was done for their queues. */
  readonly wrongType: readonly string[];
}

export function tick(record: SchedulerRecord, now: Date): Exchange<Ticked> {
  const { name, hostname, pid, queues, createdAt } = record;
  const scriptKeys = [keys.schedulerKey(name)];
  for (const queue of queues)
    scriptKeys.push(keys.schedulerLockKey(queue), keys.registryKey('scheduled', queue), keys.queueKey(queue));
  const fields = [
    ['name', name],
    ['hostname', hostname],
    ['pid', String(pid)],
    ['queues', queues.join(',')],
    ['created_at', dateText(createdAt)],
    ['last_heartbeat', dateText(now)],
  ].flat();
  const args = [
    name,
    LOCK_TTL,
    epochSeconds(now),
    dateText(now),
    SCHEDULED_AT_ONCE,
    fields.length,
    ...fields,
    ...queues,
  ];
  return {
    commands: [callScript(TICK, scriptKeys, args)],
    atomic: false,
    read([reply]) {
      const [held, put, more, wrongType] = reply as readonly [number, number, number, readonly Buffer[]];
      return { held, put, more: more === 1, wrongType: wrongType.map(String) };
    },
  };
}

/** Releases our own locks, and no other scheduler's. KEYS rq:scheduler:<name>, then locks. ARGV name. */
export const RESIGN: Script = {
  name: 'resign',
  keys: 'variable',
  lua: `
redis.call('DEL', KEYS[1])
for i = 2, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[1] then redis.call('DEL', KEYS[i]) end
end
`,
};

export function resign({ name, queues }: SchedulerRecord): Exchange<void> {
  const scriptKeys = [keys.schedulerKey(name), ...queues.map(keys.schedulerLockKey)];
  return { commands: [callScript(RESIGN, scriptKeys, [name])], atomic: false, read: () => undefined };
}
