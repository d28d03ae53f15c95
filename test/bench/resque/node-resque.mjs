// node-resque: one worker, or its multi-worker tuned to as many at once as asked for; or its queue as a producer: `one N` awaits each.
import { MultiWorker, Queue, Worker } from 'node-resque';
import { Redis } from '../redis.mjs';
import { timed } from '../timed.mjs';

const { BENCH_REDIS: url, BENCH_WORKERS } = process.env;
const redis = new Redis(url);
const connection = { redis };
const jobs = {
  add: { perform: async (x, y) => x + y },
  mark: { perform: () => redis.lpush('bench.marks', String(process.hrtime.bigint())) },
};

if (process.argv[2] === 'work') {
  process.once('SIGTERM', () => process.exit(0));
  // As fast as it goes: it sleeps for `timeout` where it finds nothing.
  const options = { connection, queues: ['bench'], timeout: 5 };
  const many = Number(BENCH_WORKERS);
  if (many === 1) {
    const worker = new Worker(options, jobs);
    await worker.connect();
    await worker.start();
  } else {
    const pool = { minTaskProcessors: many, maxTaskProcessors: many, checkTimeout: 1000, maxEventLoopDelay: 10 };
    new MultiWorker({ ...options, ...pool }, jobs).start();
  }
} else {
  const queue = new Queue({ connection });
  await queue.connect();
  await timed({
    async one(count) {
      for (let i = 0; i < count; i++) await queue.enqueue('bench', 'add', [i, i + 1]);
    },
  });
  process.exit(0);
}
