// active-job-worker.ts: jobs of Rails, whatever is below them
import { createLogger, defineTask, Retry, Tasks, Worker } from 'jobglot';
import { sidekiq } from 'jobglot/sidekiq'; // or: import { resque } from 'jobglot/resque'

const shipJob = defineTask<(order: unknown) => void, { urgent?: boolean }>('ShipJob'); // class ShipJob < ApplicationJob

const tasks = new Tasks().handle(shipJob, ({ args: [order], kwargs: { urgent = false }, attempt }) => {
  if (urgent && attempt < 2) throw new Retry({ delayMs: 100 }); // retry_on: a new job with the same job_id
  console.log(`ship ${String(order)}, attempt ${attempt}`); // a GlobalId: gid://shop/Order/42
});

const url = process.env['REDIS_URL'] ?? 'redis://localhost:6379/0';
const worker = new Worker({ tasks, sources: [sidekiq({ url, queues: ['default', 'mailers'] })], log: createLogger() });

const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
await worker.run(stop.signal);
