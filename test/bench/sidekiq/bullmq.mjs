// BullMQ, another queue for Node, on its own keys: `work` at BENCH_CONCURRENCY; `fill N`, `one N`, `bulk N` as a producer.
import { Queue, Worker } from 'bullmq';
import { Redis } from '../redis.mjs';
import { timed } from '../timed.mjs';

const { hostname: host, port } = new URL(process.env.BENCH_REDIS);
const connection = { host, port: Number(port), maxRetriesPerRequest: null };
const options = { removeOnComplete: true, removeOnFail: true };

if (process.argv[2] === 'work') {
  const marks = new Redis(process.env.BENCH_REDIS);
  const handlers = {
    add: async ([x, y]) => x + y,
    wait: ([seconds]) => new Promise((resolve) => setTimeout(resolve, seconds * 1000)),
    mark: async () => void (await marks.lpush('bench.marks', String(process.hrtime.bigint()))),
  };
  const worker = new Worker('bench', (job) => handlers[job.name](job.data), {
    connection,
    concurrency: Number(process.env.BENCH_CONCURRENCY),
  });
  process.once('SIGTERM', () => void worker.close().then(() => process.exit(0)));
} else {
  const queue = new Queue('bench', { connection });
  const bulk = async (jobs) => {
    for (let i = 0; i < jobs;) {
      const some = [];
      for (const end = Math.min(jobs, i + 1000); i < end; i++)
        some.push({ name: 'add', data: [i, i + 1], opts: options });
      await queue.addBulk(some);
    }
  };
  if (process.argv[2] === 'fill') await bulk(Number(process.argv[3]));
  else {
    await timed({
      bulk,
      async one(jobs) {
        for (let i = 0; i < jobs; i++) await queue.add('add', [i, i + 1], options);
      },
    });
  }
  await queue.close();
}
