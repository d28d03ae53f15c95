/**
 * Lua that checks types before a script writes. A command that meets a key of the wrong type ends its script in the middle, and earlier writes
 * stay. `wrong` returns the key if it has the wrong type. `refuse` returns the error.
 */
export const LOOKING: string = `
local kinds = {}
local function wrong(key, want)
  local kind = kinds[key]
  if kind == nil then
    kind = redis.call('TYPE', key).ok
    kinds[key] = kind
  end
  return kind ~= want and kind ~= 'none' and key
end
local function refuse(key)
  return redis.error_reply('WRONGTYPE ' .. key .. ' is of another type than RQ has there: rename or delete it; nothing was written')
end
`;

/**
 * Lua at the beginning of several scripts.
 *
 * `keep` sets the expiry of a job and its two sets. `push` puts a job into a queue. `release` puts dependents of a job into their own queues, at
 * the head if their `enqueue_at_front` is set. It releases a dependent if the job ended as the dependent needs and no other dependency is open.
 * A dependency that no longer exists is not waited for. A dependent goes on waiting if it cannot be put into its queue because a key has the
 * wrong type. Mirrors rq/job.py cleanup, dependencies_are_met; rq/queue.py push_job_id, enqueue_dependents.
 */
export const RELEASING: string = `${LOOKING}local function keep(id, ttl)
  -- Of other people's making: an EXPIRE that is refused would end the script in the middle, a negative one delete the job.
  local seconds = math.floor(math.min(tonumber(ttl) or 0, 1e12))
  if not (seconds > 0) then return end
  ttl = string.format('%.0f', seconds)
  local key, dependents, dependencies = 'rq:job:' .. id, 'rq:job:' .. id .. ':dependents', 'rq:job::' .. id .. ':dependencies'
  redis.call('EXPIRE', key, ttl)
  if redis.call('EXISTS', dependents, dependencies) > 0 then
    redis.call('EXPIRE', dependents, ttl)
    redis.call('EXPIRE', dependencies, ttl)
  end
end
local function push(id, queue, front)
  redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
  redis.call(front and 'LPUSH' or 'RPUSH', 'rq:queue:' .. queue, id)
end
local function is_on(flag)
  return flag and (tonumber(flag) or 0) ~= 0
end
local function may_run(id, without, failures)
  local others = redis.pcall('SMEMBERS', 'rq:job::' .. id .. ':dependencies')
  if others.err then return false end
  for i = 1, #others do
    if others[i] ~= without then
      local status = redis.pcall('HGET', 'rq:job:' .. others[i], 'status')
      if type(status) == 'string' and status ~= 'finished' and not (status == 'failed' and failures) then return false end
    end
  end
  return true
end
local function may_leave(queue)
  return not (wrong('rq:deferred:' .. queue, 'zset') or wrong('rq:queue:' .. queue, 'list') or wrong('rq:queues', 'set'))
end
local function release(id, ended, date)
  local key, released = 'rq:job:' .. id .. ':dependents', 0
  if ended == 'stopped' then return released end
  local waiting = redis.pcall('SMEMBERS', key)
  if waiting.err then return released end
  for i = 1, #waiting do
    local d = waiting[i]
    local job = redis.pcall('HMGET', 'rq:job:' .. d, 'status', 'origin', 'allow_dependency_failures', 'enqueue_at_front', 'ttl')
    local failures = is_on(job[3])
    if job[1] == 'deferred' and job[2] and job[2] ~= '' and (ended == 'finished' or failures) and may_run(d, id, failures) and may_leave(job[2]) then
      redis.call('ZREM', 'rq:deferred:' .. job[2], d)
      redis.call('HSET', 'rq:job:' .. d, 'status', 'queued', 'enqueued_at', date)
      if is_on(job[5]) then keep(d, job[5]) end
      push(d, job[2], is_on(job[4]))
      redis.call('SREM', key, d)
      released = released + 1
    end
  end
  return released
end
`;
