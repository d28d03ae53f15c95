// Our client as a producer: `one N` awaits each, `bulk N` sends 1,000 a call.
import { defineTask } from '../../../dist/src/index.js';
import { SidekiqClient } from '../../../dist/src/drivers/sidekiq/index.js';
import { timed } from '../timed.mjs';

const client = new SidekiqClient({ url: process.env.BENCH_REDIS });
const add = defineTask('BenchAdd');
const queue = 'bench';

await timed({
  async one(jobs) {
    for (let i = 0; i < jobs; i++) await client.enqueue(add, { args: [i, i + 1], queue });
  },
  async bulk(jobs) {
    for (let i = 0; i < jobs;) {
      const calls = [];
      for (const end = Math.min(jobs, i + 1000); i < end; i++) calls.push({ args: [i, i + 1], queue });
      await client.enqueueMany(add, calls);
    }
  },
});
await client.close();
