// sidekiq-worker.ts: a Node worker beside your Sidekiq processes, on the same Redis
import { createLogger, defineTask, Tasks, Worker } from 'jobglot';
import { sidekiq, sidekiqJob } from 'jobglot/sidekiq';

const hardJob = defineTask<(id: number) => void>('HardJob'); // class HardJob; include Sidekiq::Job

const tasks = new Tasks().handle(hardJob, ({ args: [id] }) => console.log(`hard ${id}`), {
  retryIn: (_count, error) => (error.type === 'RateLimited' ? 60 : undefined), // sidekiq_retry_in
  retriesExhausted: (job, error) => console.error(sidekiqJob(job).hash['tags'], `${job.id} is dead: ${error.message}`),
});

const url = process.env['REDIS_URL'] ?? 'redis://localhost:6379/0';
const worker = new Worker({
  tasks,
  sources: [sidekiq({ url, queues: { critical: 5, default: 1 }, concurrency: 20 })],
  log: createLogger(),
});

const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
await worker.run(stop.signal);
