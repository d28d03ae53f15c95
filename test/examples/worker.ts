// worker.ts: a Node worker beside your Python ones
import { createLogger, Fail, Tasks, Worker } from 'jobglot';
import { celery } from 'jobglot/celery';
import { add, resize, total } from './tasks.ts';

const tasks = new Tasks()
  .handle(add, ({ args: [x, y] }) => x + y)
  .handle(total, ({ args: [numbers] }) => numbers.reduce((sum, number) => sum + number, 0))
  .handle(
    resize,
    ({ args: [key], kwargs: { width = 640 } }, { signal }) => {
      if (!key.startsWith('img/')) throw new Fail(`not an image: ${key}`); // no retries for this one
      signal.throwIfAborted(); // time limit, revoke, shutdown
      return `${key}@${width}`;
    },
    { retry: { max: 5, backoff: { factorMs: 1_000 } }, timeoutMs: 60_000 },
  );

const broker = process.env['CELERY_BROKER_URL'] ?? 'redis://localhost:6379/0';
const backend = process.env['CELERY_RESULT_BACKEND'] ?? broker; // with RabbitMQ rpc:// or Redis
const worker = new Worker({
  tasks,
  sources: [celery({ broker, backend, queues: ['celery'], concurrency: 20, acksLate: true })],
  log: createLogger(),
});

const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
await worker.run(stop.signal); // resolves when every job has ended or was given back
