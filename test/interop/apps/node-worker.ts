// A Node worker in a process of its own, to be killed with a `both.slow` in its hands, which never ends here:
// `node --import tsx node-worker.ts '{"broker": …}'`.
import { celery } from '../../../src/drivers/celery/index.ts';
import { defineTask, Tasks } from '../../../src/task.ts';
import { Worker } from '../../../src/worker/worker.ts';

const tasks = new Tasks().handle(defineTask('both.slow'), () => new Promise(() => {}));
const worker = new Worker({ tasks, sources: [celery(JSON.parse(process.argv[2] ?? '{}'))] });
worker.on('job:started', ({ job }) => process.send?.({ started: job.id }));
await worker.start();
process.send?.('ready');
