// A Node worker in a process of its own, for tests that kill it: `node --import tsx node-worker.ts '{"broker": …}'`.
import { celery } from '../../../src/drivers/celery/index.ts';
import { Worker } from '../../../src/worker/worker.ts';
import { interopTasks } from './tasks.ts';

const worker = new Worker({ tasks: interopTasks(), sources: [celery(JSON.parse(process.argv[2] ?? '{}'))] });
worker.on('job:started', ({ job }) => process.send?.({ started: job.id }));
await worker.start();
process.send?.('ready');
