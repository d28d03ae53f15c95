import { Redis } from 'ioredis';
import { celery, type CeleryOptions } from '../../src/drivers/celery/index.ts';
import { createLogger } from '../../src/log.ts';
import { Postpone } from '../../src/signals.ts';
import { pause } from '../../src/source.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';

/** A worker in a process of its own, to be killed. Its options are the first argument, the URL for its counters the second. */
const options = JSON.parse(process.argv[2] as string) as CeleryOptions;
const counters = new Redis(process.argv[3] as string, { maxRetriesPerRequest: null });
counters.on('error', () => {});

const tasks = new Tasks().handle(defineTask<(ms: number) => number>('count'), async ({ id, args: [ms] }) => {
  const runs = await counters.hincrby('runs', id, 1);
  await pause(ms);
  return runs;
});
// Ends when somebody says so.
tasks.handle(defineTask<() => number>('gated'), async ({ id }) => {
  const runs = await counters.hincrby('runs', id, 1);
  while ((await counters.exists('gate')) === 0) await pause(20);
  return runs;
});
// Postponed for so many milliseconds, each time.
tasks.handle(defineTask<(ms: number) => number>('postponed'), async ({ id, args: [ms] }) => {
  await counters.hincrby('runs', id, 1);
  throw new Postpone({ delayMs: ms });
});
const worker = new Worker({ tasks, sources: [celery(options)], log: createLogger({ level: 'warn', format: 'json' }) });
const stop = new AbortController();
process.on('SIGTERM', () => stop.abort());
worker.on('worker:state', ({ state }) => process.stdout.write(`${state}\n`));
await worker.run(stop.signal);
counters.disconnect();
