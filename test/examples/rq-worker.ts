// rq-worker.ts: a Node worker on RQ's queues, beside your Python ones
import { createLogger, Tasks, Worker } from 'jobglot';
import { rq } from 'jobglot/rq';
import { add, resize } from './tasks.ts';

const tasks = new Tasks()
  .handle(add, ({ args: [x, y] }) => x + y)
  .handle(resize, ({ args: [key], kwargs: { width = 640 } }) => `${key}@${width}`);

const url = process.env['RQ_REDIS_URL'] ?? 'redis://localhost:6379/0';
const worker = new Worker({
  tasks,
  sources: [rq({ url, queues: ['high', 'default'], concurrency: 20 })],
  log: createLogger(),
});

const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
await worker.run(stop.signal);
