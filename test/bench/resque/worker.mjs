// Our worker, as a user would write it; options by environment.
import { childProcess, Worker } from '../../../dist/src/index.js';
import { resque } from '../../../dist/src/drivers/resque/index.js';
import { tasks } from './tasks.mjs';

const { BENCH_REDIS: url, BENCH_CONCURRENCY, BENCH_FORK } = process.env;

const worker = new Worker({
  tasks,
  sources: [resque({ url, queues: ['bench'], concurrency: Number(BENCH_CONCURRENCY) })],
  middleware: BENCH_FORK === '1' ? [childProcess({ tasks: new URL('tasks.mjs', import.meta.url) })] : [],
});

const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
await worker.run(stop.signal);
process.exit(0);
