// Our client as a producer: `one N` awaits each, `bulk N` sends 1,000 a turn.
import { defineTask } from '../../../dist/src/index.js';
import { ResqueClient } from '../../../dist/src/drivers/resque/index.js';
import { timed } from '../timed.mjs';

const client = new ResqueClient({ url: process.env.BENCH_REDIS });
const add = defineTask('add');
const queue = 'bench';

await timed({
  async one(jobs) {
    for (let i = 0; i < jobs; i++) await client.enqueue(add, { args: [i, i + 1], queue });
  },
  async bulk(jobs) {
    for (let i = 0; i < jobs;) {
      const sent = [];
      for (const end = Math.min(jobs, i + 1000); i < end; i++)
        sent.push(client.enqueue(add, { args: [i, i + 1], queue }));
      await Promise.all(sent);
    }
  },
});
await client.close();
