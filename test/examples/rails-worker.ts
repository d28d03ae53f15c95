// rails-worker.ts: a Node worker beside your Sidekiq processes, on the same Redis
import { createLogger, defineTask, Retry, Tasks, Worker } from 'jobglot';
import { iterable, sidekiq } from 'jobglot/sidekiq';

const hardJob = defineTask<(id: number) => void>('HardJob'); // class HardJob; include Sidekiq::Job
const shipJob = defineTask<(order: unknown) => void, { urgent?: boolean }>('ShipJob'); // class ShipJob < ApplicationJob
const sweepJob = defineTask<(last: number) => void>('SweepJob'); // include Sidekiq::IterableJob

const tasks = new Tasks()
  .handle(hardJob, ({ args: [id] }) => console.log(`hard ${id}`), {
    retryIn: (_count, error) => (error.type === 'RateLimited' ? 60 : undefined), // sidekiq_retry_in
    retriesExhausted: (job, error) => console.error(`${job.id} is dead: ${error.message}`),
  })
  .handle(shipJob, ({ args: [order], kwargs: { urgent = false }, attempt }) => {
    if (attempt < 3 && urgent) throw new Retry({ delayMs: 5_000 }); // retry_on: a new job with the same job_id
    console.log(`ship ${String(order)}`); // a GlobalId: gid://shop/Order/42
  })
  .handle(
    sweepJob,
    iterable({
      *items({ args: [last] }, cursor: number = 0) {
        for (let at = cursor; at < last; at++) yield [at, at] as const; // an item, and where to go on
      },
      each: (row) => console.log(`row ${row}`),
    }),
  );

const url = process.env['REDIS_URL'] ?? 'redis://localhost:6379/0';
const worker = new Worker({
  tasks,
  sources: [sidekiq({ url, queues: { critical: 5, default: 1 }, concurrency: 20 })],
  log: createLogger(),
});

const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
await worker.run(stop.signal); // what is not done in 25 s is back in its queue
