// A node-resque process, for the tests. Its first argument is JSON: { port, worker?: { queues, name }, scheduler?: true }.
// A line of JSON on its input is a call of Queue, { id, method, args }; on its output are { id, value } and { event, ... }.
import { createInterface } from 'node:readline';
import nodeResque from 'node-resque';

const { port, worker: workerOptions, scheduler: withScheduler } = JSON.parse(process.argv[2]);
const connection = { host: '127.0.0.1', port, namespace: 'resque', options: {} };
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

const jobs = {
  Echo: { perform: async (...args) => say({ event: 'ran', args }) },
  Boom: {
    perform: async (message) => {
      throw new Error(message);
    },
  },
  Slow: { perform: (ms) => new Promise((resolve) => setTimeout(resolve, ms)) },
};

const queue = new nodeResque.Queue({ connection }, jobs);
queue.on('error', (error) => say({ event: 'error', message: String(error) }));
await queue.connect();
let worker;
if (workerOptions !== undefined) {
  worker = new nodeResque.Worker({ connection, timeout: 50, ...workerOptions }, jobs);
  worker.on('error', (error) => say({ event: 'error', message: String(error) }));
  worker.on('failure', (_queue, job, error) => say({ event: 'failed', class: job.class, message: error.message }));
  await worker.connect();
  await worker.start();
}
let scheduler;
if (withScheduler) {
  scheduler = new nodeResque.Scheduler({ connection, timeout: 50 }, jobs);
  scheduler.on('error', (error) => say({ event: 'error', message: String(error) }));
  await scheduler.connect();
  await scheduler.start();
}
say({ event: 'ready' });

const answer = async ({ id, method, args }) => {
  try {
    say({ id, value: (await queue[method](...args)) ?? null });
  } catch (error) {
    say({ id, error: String(error) });
  }
};
for await (const line of createInterface({ input: process.stdin })) void answer(JSON.parse(line));
await worker?.end();
await scheduler?.end();
await queue.end();
process.exit(0);
