// Fills a queue with what real RQ would have written: one job is taken from its own `Queue.enqueue`, the rest are copies of its
// hash under ids of their own.
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { counted } from '../drain.mjs';

export const here = fileURLToPath(new URL('.', import.meta.url));
const ROOM = 500;

/** A function that makes job after job, `{ id, fields }`, of one call. */
export async function template({ redis, url, python, task, args }) {
  await redis.flushall();
  const { stdout } = await promisify(execFile)(python, ['bench_jobs.py', 'template', task, JSON.stringify(args)], {
    cwd: here,
    env: { ...process.env, BENCH_REDIS: url },
  });
  const fields = Object.entries(await redis.hgetallBuffer(`rq:job:${stdout.trim()}`)).flat();
  return () => ({ id: randomUUID(), fields });
}

/** The queue as the bench sees it. */
export function lineOf({ redis, pid }) {
  const add = (pipeline, { id, fields }) => pipeline.hset(`rq:job:${id}`, ...fields);
  return {
    redis,
    pid,
    async empty() {
      await redis.flushall();
      await redis.sadd('rq:queues', 'rq:queue:bench');
    },
    async fill(make, jobs) {
      for (let i = 0; i < jobs;) {
        const pipeline = redis.pipeline();
        const ids = [];
        for (const end = Math.min(jobs, i + ROOM); i < end; i++) {
          const job = make(i);
          add(pipeline, job);
          ids.push(job.id);
        }
        pipeline.rpush('rq:queue:bench', ...ids);
        for (const [error] of await pipeline.exec()) if (error) throw error;
      }
    },
    push(job) {
      const transaction = redis.multi();
      add(transaction, job).rpush('rq:queue:bench', job.id);
      void transaction.exec().catch(() => {});
    },
    /** Waiting, taken, running: one MULTI, or a job on its way from one to the next counts twice. */
    async left() {
      const replies = await redis
        .multi()
        .llen('rq:queue:bench')
        .llen('rq:queue:bench:intermediate')
        .zcard('rq:wip:bench')
        .exec();
      return replies.reduce((sum, [, count]) => sum + count, 0);
    },
    proved: (jobs) => counted(() => redis.zcard('rq:finished:bench'), jobs, 'finished jobs'),
    /** Commands the server has run so far, by name, those of scripts included; the bench's own are left out. */
    async commands() {
      const calls = {};
      for (const [, name, count] of (await redis.info('commandstats')).matchAll(/cmdstat_([^:]+):calls=(\d+)/g)) {
        if (!OWN.has(name)) calls[name] = Number(count);
      }
      return calls;
    },
  };
}

/** What `left` and the report itself send, and what is no command of a job: transactions and scripts as such. */
const OWN = new Set(['llen', 'zcard', 'info', 'multi', 'exec', 'eval', 'evalsha', 'flushall']);
