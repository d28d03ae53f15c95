// Our client as a producer: `one N` awaits each, `bulk N` sends 1,000 a call.
import { defineTask } from '../../../dist/src/index.js';
import { CeleryClient } from '../../../dist/src/drivers/celery/index.js';
import { timed } from '../timed.mjs';

const client = new CeleryClient({ broker: process.env.BENCH_BROKER });
const add = defineTask('bench.add');

await timed({
  async one(jobs) {
    for (let i = 0; i < jobs; i++) await client.enqueue(add, { args: [i, i + 1], ignoreResult: true });
  },
  async bulk(jobs) {
    for (let i = 0; i < jobs;) {
      const calls = [];
      for (const end = Math.min(jobs, i + 1000); i < end; i++) calls.push({ args: [i, i + 1], ignoreResult: true });
      await client.enqueueMany(add, calls);
    }
  },
});
await client.close();
