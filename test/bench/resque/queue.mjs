// Fills a queue with what Ruby's Resque writes, which every competitor reads.
import { fileURLToPath } from 'node:url';
import { counted } from '../drain.mjs';

export const here = fileURLToPath(new URL('.', import.meta.url));
const ROOM = 500;

/** A function that makes job number i of a class. */
export function jobOf(name, argsOf) {
  return (i) => `{"class":"${name}","args":${JSON.stringify(argsOf(i))}}`;
}

/** The queue as the bench sees it. */
export function lineOf({ redis, pid }) {
  redis.defineCommand('resqueLeft', {
    numberOfKeys: 2,
    lua: `local left = redis.call('LLEN', KEYS[1])
      for _, one in ipairs(redis.call('SMEMBERS', KEYS[2])) do left = left + redis.call('HLEN', 'resque:jobglot:claims:' .. one) end
      return left`,
  });
  return {
    redis,
    pid,
    empty: () => redis.flushall(),
    async fill(make, jobs) {
      await redis.sadd('resque:queues', 'bench');
      for (let i = 0; i < jobs;) {
        const payloads = [];
        for (const end = Math.min(jobs, i + ROOM); i < end; i++) payloads.push(make(i));
        await redis.rpush('resque:queue:bench', ...payloads);
      }
    },
    push: (payload) => void redis.rpush('resque:queue:bench', payload).catch(() => {}),
    /** Waiting, and taken by a worker that keeps what it took in Redis. node-resque's is in its memory: done when taken. */
    left: () => redis.resqueLeft('resque:queue:bench', 'resque:jobglot:claimants'),
    proved: (jobs) => counted(async () => Number(await redis.get('resque:stat:processed')), jobs, 'processed jobs'),
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
const OWN = new Set(['llen', 'hlen', 'smembers', 'info', 'multi', 'exec', 'eval', 'evalsha', 'flushall']);
