// node-resque, another queue for Node, in Resque's layout: its multi-worker tuned to 50 at once, as fast as it goes; `fill N` fills its queue.
import { MultiWorker } from 'node-resque';
import { Redis } from '../redis.mjs';

const redis = new Redis(process.env.BENCH_REDIS);
const connection = { redis };

if (process.argv[2] === 'fill') {
  const jobs = Number(process.argv[3]);
  await redis.sadd('resque:queues', 'bench');
  for (let i = 0; i < jobs;) {
    const some = [];
    for (const end = Math.min(jobs, i + 500); i < end; i++) {
      some.push(JSON.stringify({ class: 'add', queue: 'bench', args: [i, i + 1] }));
    }
    await redis.rpush('resque:queue:bench', ...some);
  }
  redis.disconnect();
} else {
  const worker = new MultiWorker(
    {
      connection,
      queues: ['bench'],
      minTaskProcessors: 50,
      maxTaskProcessors: 50,
      checkTimeout: 1000,
      maxEventLoopDelay: 10,
      timeout: 5,
    },
    { add: { perform: async (x, y) => x + y } },
  );
  worker.start();
  process.once('SIGTERM', () => process.exit(0));
}
