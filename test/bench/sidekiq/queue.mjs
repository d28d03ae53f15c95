// Fills a queue with what real Sidekiq would have written: one job is taken from its own client, the rest are that one with ids of
// their own.
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { counted } from '../drain.mjs';

export const here = fileURLToPath(new URL('.', import.meta.url));
const ROOM = 500;

/** A function that makes job after job of one call. */
export async function template({ redis, url, ruby, task, args }) {
  await redis.flushall();
  await promisify(execFile)(ruby, ['jobs.rb', 'template', task, JSON.stringify(args)], {
    cwd: here,
    env: { ...process.env, BENCH_REDIS: url },
  });
  const text = await redis.rpop('queue:bench');
  const [before, after] = text.split(JSON.parse(text).jid);
  return () => before + randomBytes(12).toString('hex') + after;
}

/** The queue as the bench sees it. */
export function lineOf({ redis, pid }) {
  redis.defineCommand('left', {
    numberOfKeys: 2,
    lua: `local left = redis.call('LLEN', KEYS[1])
      for _, one in ipairs(redis.call('SMEMBERS', KEYS[2])) do left = left + redis.call('HLEN', 'jobglot:sidekiq:claims:' .. one) end
      return left`,
  });
  return {
    redis,
    pid,
    empty: () => redis.flushall(),
    async fill(make, jobs) {
      await redis.sadd('queues', 'bench');
      for (let i = 0; i < jobs;) {
        const messages = [];
        for (const end = Math.min(jobs, i + ROOM); i < end; i++) messages.push(make(i));
        await redis.lpush('queue:bench', ...messages);
      }
    },
    push: (message) => void redis.lpush('queue:bench', message).catch(() => {}),
    /** Waiting, and taken by a worker that keeps what it took in Redis. Sidekiq's own is in its memory: done when taken. */
    left: () => redis.left('queue:bench', 'jobglot:sidekiq:claimants'),
    /** Written with the heartbeat. */
    proved: (jobs) => counted(async () => Number(await redis.get('stat:processed')), jobs, 'processed jobs', 20_000),
  };
}
