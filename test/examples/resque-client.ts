// resque-client.ts: jobs for Ruby, or for Node
import { defineTask } from 'jobglot';
import { ResqueClient } from 'jobglot/resque';

const archive = defineTask<(repo: number, branch?: string) => void>('Archive');
const url = process.env['REDIS_URL'] ?? 'redis://localhost:6379/0';
await using client = new ResqueClient({ url, defaultQueue: 'file_serve' });

await client.enqueue(archive, { args: [44, 'masterbrew'] }); // Resque.enqueue(Archive, 44, 'masterbrew')
await client.enqueue('ImportRow', { args: [7], queue: 'critical' });
await client.enqueue(archive, { args: [45], in: 300 }); // Resque.enqueue_in(300, Archive, 45)
console.log(await client.removeDelayed(archive, { args: [45] })); // 1
