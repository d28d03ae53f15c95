// A celery-node worker. It acknowledges by popping: what it holds is lost with it.
import celeryNode from 'celery-node';
import { Redis } from '../redis.mjs';

const url = process.env.BENCH_REDIS;
console.info = () => {}; // it logs two lines a job; nobody else here logs any
const worker = celeryNode.createWorker(url, url);
// It has no ignore_result: without this it would store every result even in the runs without.
if (process.env.BENCH_RESULTS !== '1') worker._backend = { isReady: async () => {}, storeResult: () => {} };

const marks = new Redis(url);
worker.register('bench.add', (x, y) => x + y);
worker.register('bench.mark', () => marks.lpush('bench.marks', String(process.hrtime.bigint())));
process.once('SIGTERM', () => process.exit(0));
await worker.start();
