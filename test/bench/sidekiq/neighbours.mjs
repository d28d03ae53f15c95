// The queues of other systems as the bench sees them; each is filled by its own producer.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { here } from './queue.mjs';

/** @param script the neighbour's, which fills it at `fill N`; @param left counts what waits and runs */
function neighbour({ redis, pid, url }, script, left) {
  return {
    redis,
    pid,
    left,
    empty: () => redis.flushall(),
    fill: (_, jobs) =>
      promisify(execFile)(process.execPath, [join(here, script), 'fill', String(jobs)], {
        env: { ...process.env, BENCH_REDIS: url },
      }),
  };
}

export function bullmqLine(server) {
  const { redis } = server;
  return neighbour(server, 'bullmq.mjs', async () => {
    const replies = await redis.multi().llen('bull:bench:wait').llen('bull:bench:active').exec();
    return replies[0][1] + replies[1][1];
  });
}

/** It holds what it runs under a key a worker, and nothing else: what is taken counts as done. */
export function nodeResqueLine(server) {
  return neighbour(server, 'node-resque.mjs', () => server.redis.llen('resque:queue:bench'));
}
