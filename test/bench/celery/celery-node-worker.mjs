// A celery-node worker. It acknowledges by popping: what it holds is lost with it.
import celeryNode from 'celery-node';
import { Redis } from '../redis.mjs';

const { BENCH_BROKER: broker, BENCH_REDIS: redis } = process.env;
const worker = celeryNode.createWorker(broker, redis);
// As it comes it always stores results and logs two lines a job; it has no option for either. Stripped, it does neither.
if (process.env.BENCH_STRIPPED === '1') {
  console.info = () => {};
  worker._backend = { isReady: async () => {}, storeResult: () => {} };
}

const marks = new Redis(redis);
worker.register('bench.add', (x, y) => x + y);
worker.register('bench.mark', () => marks.lpush('bench.marks', String(process.hrtime.bigint())));
process.once('SIGTERM', () => process.exit(0));
await worker.start();
