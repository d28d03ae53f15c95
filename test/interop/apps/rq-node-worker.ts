// A Node worker on RQ in a process of its own, to be killed: `node --import tsx rq-node-worker.ts '{"url": …}'`.
import { Redis } from 'ioredis';
import { rq, type RqOptions } from '../../../src/drivers/rq/index.ts';
import { Worker } from '../../../src/worker/worker.ts';
import { rqCallbacks, rqTasks } from './rq-tasks.ts';

const options = JSON.parse(process.argv[2] ?? '{}') as RqOptions;
const store = new Redis(options.url);
// A server that is gone is the worker's to tell of.
store.on('error', () => {});
const worker = new Worker({ tasks: rqTasks(store), sources: [rq({ callbacks: rqCallbacks(store), ...options })] });
worker.on('job:started', ({ job }) => process.send?.({ started: job.id }));
process.once('SIGTERM', () => {
  void worker.stop({ timeoutMs: 10_000 }).then(() => {
    store.disconnect();
    process.disconnect?.();
  });
});
await worker.start();
process.send?.('ready');
