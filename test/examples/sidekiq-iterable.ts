// sidekiq-iterable.ts: a job in steps, which goes on where it stopped, in Node or in Ruby
import { defineTask, Tasks, Worker } from 'jobglot';
import { iterable, sidekiq, SidekiqClient } from 'jobglot/sidekiq';

const sweepJob = defineTask<(last: number) => void>('SweepJob'); // include Sidekiq::IterableJob

const tasks = new Tasks().handle(
  sweepJob,
  iterable({
    *items({ args: [last] }, cursor: number = 0) {
      for (let at = cursor; at < last; at++) yield [at, at] as const; // an item, and where to go on
    },
    each: (row) => console.log(`row ${row}`),
  }),
);

const url = process.env['REDIS_URL'] ?? 'redis://localhost:6379/0';
const worker = new Worker({ tasks, sources: [sidekiq({ url, queues: ['default'] })] });

const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
const running = worker.run(stop.signal);

await using client = new SidekiqClient({ url });
await client.enqueue(sweepJob, { args: [3] });
await running;
