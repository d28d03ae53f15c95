import { Redis } from 'ioredis';
import { resque, type ResqueOptions } from '../../src/drivers/resque/index.ts';
import { createLogger } from '../../src/log.ts';
import { pause } from '../../src/source.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';

/** A worker in a process of its own, to be killed. Its options are the first argument, the URL for its counters the second. */
const options = JSON.parse(process.argv[2] as string) as ResqueOptions;
const counters = new Redis(process.argv[3] as string, { maxRetriesPerRequest: null });
counters.on('error', () => {});

const tasks = new Tasks().handle(
  defineTask<(number: number, fails: boolean, ms: number) => void>('CountJob'),
  async ({ args: [number, fails, ms] }) => {
    await pause(ms);
    await counters.hincrby('runs', String(number), 1);
    if (fails) throw new TypeError(`job ${number}`);
  },
);
const worker = new Worker({
  tasks,
  sources: [resque(options)],
  log: createLogger({ level: 'silent', format: 'json' }),
});
const stop = new AbortController();
process.on('SIGTERM', () => stop.abort());
worker.on('worker:state', ({ state }) => process.stdout.write(`${state}\n`));
await worker.run(stop.signal);
counters.disconnect();
