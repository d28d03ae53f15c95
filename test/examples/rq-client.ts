// rq-client.ts: enqueue for RQ workers, in whatever language they are, and await the result
import { RqClient } from 'jobglot/rq';
import { add, resize } from './tasks.ts';

const url = process.env['RQ_REDIS_URL'] ?? 'redis://localhost:6379/0';
await using client = new RqClient({ url });

const sum = await client.enqueue(add, {
  args: [2, 3],
  queue: 'high',
  jobTimeout: '3m',
  retry: { max: 2, interval: [10, 60] },
});
const image = await client.enqueue(resize, { args: ['img/a.png'], kwargs: { width: 320 }, dependsOn: sum });
console.log(await sum.get({ timeoutMs: 10_000 }), await image.get({ timeoutMs: 10_000 })); // 5 'img/a.png@320'

console.log(await sum.status(), await client.queue('high').counts()); // finished, and how many jobs are in which state
