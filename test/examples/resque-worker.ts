// resque-worker.ts: a Node worker beside your Resque workers, on the same Redis
import { createLogger, defineTask, Tasks, Worker } from 'jobglot';
import { resque } from 'jobglot/resque';

const archive = defineTask<(repo: number, branch?: string) => void>('Archive'); // class Archive; @queue = :file_serve

const tasks = new Tasks().handle(archive, ({ args: [repo, branch = 'main'] }) =>
  console.log(`archive ${repo} ${branch}`),
);

const url = process.env['REDIS_URL'] ?? 'redis://localhost:6379/0';
const worker = new Worker({
  tasks,
  sources: [resque({ url, queues: ['critical', 'file_*', '!ruby_*'], concurrency: 20 })],
  log: createLogger(),
});

const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
await worker.run(stop.signal);
