// A Node worker in a dozen lines.
import { createLogger, Worker } from 'jobglot';
import { celery } from 'jobglot/celery';
import { tasks } from './tasks.mjs';

const { DEMO_BROKER: broker, DEMO_BACKEND: backend, DEMO_QUEUE: queue = 'celery' } = process.env;
const worker = new Worker({
  tasks,
  sources: [celery({ broker, backend, queues: [queue] })],
  log: createLogger({ format: 'text' }),
});
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => void worker.stop());
await worker.start();
process.send?.('ready');
await worker.once('worker:state', ({ state }) => state === 'stopped');
process.disconnect?.();
