// client.ts: send to Celery workers, in whatever language they are, and await the result
import { RemoteError } from 'jobglot';
import { CeleryClient } from 'jobglot/celery';
import { add, resize } from './tasks.ts';

const broker = process.env['CELERY_BROKER_URL'] ?? 'redis://localhost:6379/0';
const backend = process.env['CELERY_RESULT_BACKEND'] ?? broker; // with RabbitMQ rpc:// or Redis
await using client = new CeleryClient({ broker, backend });

const sum = await client.enqueue(add, { args: [2, 3], countdown: 1, expires: 60 });
console.log(await sum.get({ timeoutMs: 10_000 })); // 5, a number: add('2', 3) does not compile

const failed = await client.enqueue(resize, { args: ['notes.txt'], kwargs: { width: 320 } });
await failed.get({ timeoutMs: 10_000 }).catch((error: unknown) => {
  if (error instanceof RemoteError) console.log(error.message); // Fail: not an image: notes.txt
});
