// Our worker, as a user would write it; options by environment.
import { defineTask, Tasks, Worker } from '../../../dist/src/index.js';
import { sidekiq } from '../../../dist/src/drivers/sidekiq/index.js';
import { Redis } from '../redis.mjs';

const { BENCH_REDIS: url } = process.env;
const marks = new Redis(url);

const tasks = new Tasks()
  .handle(defineTask('BenchAdd'), ({ args: [x, y] }) => x + y)
  .handle(defineTask('BenchWait'), ({ args: [s] }) => new Promise((resolve) => setTimeout(resolve, s * 1000)))
  .handle(defineTask('BenchMark'), async () => {
    await marks.lpush('bench.marks', String(process.hrtime.bigint()));
  });

const worker = new Worker({
  tasks,
  sources: [sidekiq({ url, queues: ['bench'], concurrency: Number(process.env.BENCH_CONCURRENCY) })],
});

const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
await worker.run(stop.signal);
marks.disconnect();
