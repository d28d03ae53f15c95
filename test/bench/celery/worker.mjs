// Our worker, as a user would write it; options by environment.
import { defineTask, Tasks, Worker } from '../../../dist/src/index.js';
import { celery } from '../../../dist/src/drivers/celery/index.js';
import { Redis } from '../redis.mjs';

const { BENCH_BROKER: broker, BENCH_REDIS: redis } = process.env;
const results = process.env.BENCH_RESULTS === '1';
const marks = new Redis(redis);

const tasks = new Tasks()
  .handle(defineTask('bench.add'), ({ args: [x, y] }) => x + y)
  .handle(defineTask('bench.wait'), ({ args: [s] }) => new Promise((resolve) => setTimeout(resolve, s * 1000)))
  .handle(defineTask('bench.mark'), async () => {
    await marks.lpush('bench.marks', String(process.hrtime.bigint()));
  });

const worker = new Worker({
  tasks,
  sources: [
    celery({
      broker,
      ...(results ? { backend: redis } : {}),
      queues: ['celery'],
      concurrency: Number(process.env.BENCH_CONCURRENCY),
      acksLate: process.env.BENCH_ACKS_LATE === '1',
      ignoreResult: !results,
    }),
  ],
});

const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
await worker.run(stop.signal);
marks.disconnect();
