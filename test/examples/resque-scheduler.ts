// resque-scheduler.ts: hooks, failures, delayed jobs, schedules and attempts that Ruby counts too
import { createLogger, defineTask, Retry, Tasks, Worker } from 'jobglot';
import { performHooks, resque } from 'jobglot/resque';

const archive = defineTask<(repo: number, branch?: string) => void>('Archive'); // class Archive; @queue = :file_serve
const importRow = defineTask<(row: number) => void>('ImportRow'); // extend Resque::Plugins::Retry

const tasks = new Tasks()
  .handle(archive, ({ args: [repo, branch = 'main'] }) => console.log(`archive ${repo} ${branch}`))
  .handle(
    importRow,
    ({ args: [row], attempt }) => {
      if (attempt === 1) throw new Retry({ delayMs: 0 }); // counted where resque-retry counts
      console.log(`row ${row}, attempt ${attempt}`);
    },
    { retry: { max: 5, delayMs: 60_000 } },
  );

const url = process.env['REDIS_URL'] ?? 'redis://localhost:6379/0';
const worker = new Worker({
  tasks,
  sources: [
    resque({
      url,
      queues: ['critical', 'file_*', '*', '!ruby_*'],
      concurrency: 20,
      failure: ['redis', (failure) => console.error(`${failure.exception}: ${failure.error}`)],
      scheduler: { schedule: { nightly: { class: 'Archive', queue: 'file_serve', args: [1], cron: '0 3 * * *' } } },
    }),
  ],
  middleware: [
    performHooks({ Archive: { beforePerformLog: (repo) => console.log(`about to archive ${String(repo)}`) } }),
  ],
  log: createLogger(),
});

const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
await worker.run(stop.signal); // what is not done in 25 s is back at the head of its queue
