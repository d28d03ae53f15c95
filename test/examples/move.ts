// move.ts: one task, two systems; the producers of the old one go on while the new one has its first
import { createLogger, Tasks, Worker } from 'jobglot';
import { celery, CeleryClient } from 'jobglot/celery';
import { rq, RqClient } from 'jobglot/rq';
import { add } from './tasks.ts';

const url = process.env['REDIS_URL'] ?? 'redis://localhost:6379/0';
const tasks = new Tasks().handle(add, ({ args: [x, y] }) => x + y); // one handler, whoever asks

const worker = new Worker({
  tasks,
  sources: [
    celery({ broker: url, backend: url, queues: ['celery'], acksLate: true }), // the old: until its queue is empty
    rq({ url, queues: ['default'] }), // the new
  ],
  log: createLogger(),
});

const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
const running = worker.run(stop.signal);

await using before = new CeleryClient({ broker: url, backend: url });
await using after = new RqClient({ url });
for (const client of [before, after]) {
  const sum = await client.enqueue(add, { args: [2, 3] }); // the same call; options are each system's own
  console.log(await sum.get({ timeoutMs: 10_000 })); // 5
}
await running;
