// sidekiq-client.ts: jobs for Ruby, or for Node
import { defineTask } from 'jobglot';
import { SidekiqClient } from 'jobglot/sidekiq';

const hardJob = defineTask<(id: number) => void>('HardJob');
const url = process.env['REDIS_URL'] ?? 'redis://localhost:6379/0';
await using client = new SidekiqClient({ url, whenAway: 'buffer' });

const { jid } = await client.enqueue(hardJob, { args: [42], queue: 'critical', retry: 5, tags: ['import'] });
await client.enqueue(hardJob, { args: [43], in: 300 }); // HardJob.perform_in(300, 43)
await client.enqueueMany(hardJob, [{ args: [1] }, { args: [2] }, { args: [3] }]);
console.log(jid);
