import { Redis } from 'ioredis';
import { sidekiq, type SidekiqOptions } from '../../src/drivers/sidekiq/index.ts';
import { createLogger } from '../../src/log.ts';
import { Postpone } from '../../src/signals.ts';
import { pause } from '../../src/source.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';

/** A worker in a process of its own, to be killed. Its options are the first argument, the URL for its counters the second. */
const options = JSON.parse(process.argv[2] as string) as SidekiqOptions;
const counters = new Redis(process.argv[3] as string, { maxRetriesPerRequest: null });
counters.on('error', () => {});

const tasks = new Tasks()
  .handle(defineTask<(ms: number) => void>('CountJob'), async ({ id, args: [ms] }) => {
    await pause(ms);
    await counters.hincrby('count:node', id, 1);
  })
  .handle(defineTask<(ms: number) => void>('LaterJob'), async ({ id, args: [ms] }) => {
    if ((await counters.hincrby('asked:node', id, 1)) <= 3) throw new Postpone({ delayMs: ms });
    await counters.hincrby('count:node', id, 1);
  });
const worker = new Worker({ tasks, sources: [sidekiq(options)], log: createLogger({ level: 'warn', format: 'json' }) });
const stop = new AbortController();
process.on('SIGTERM', () => stop.abort());
worker.on('worker:state', ({ state }) => process.stdout.write(`${state}\n`));
await worker.run(stop.signal);
counters.disconnect();
