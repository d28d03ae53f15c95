// workflow.ts: tasks one after the other, side by side, and what comes of all of them; each runs where its queue is
import { CeleryClient, chain, chord, group, signature } from 'jobglot/celery';
import { add, resize, total } from './tasks.ts';

const broker = process.env['CELERY_BROKER_URL'] ?? 'redis://localhost:6379/0';
const backend = process.env['CELERY_RESULT_BACKEND'] ?? broker; // with RabbitMQ rpc:// or Redis
await using client = new CeleryClient({ broker, backend });

// Each step gets the result of the one before as its first argument; one that does not take it does not compile.
const steps = await client.apply(chain(signature(add, [2, 2]), signature(add, [4]), signature(add, [8])));
console.log(await steps.get({ timeoutMs: 10_000 }), await steps.parent?.get()); // 16 8

const both = await client.apply(group(signature(add, [1, 1]), signature(resize, ['img/a.png'], { queue: 'celery' })));
console.log(await both.get({ timeoutMs: 10_000 })); // [2, 'img/a.png@640'], a [number, string]

const numbers = [1, 2, 3].map((n) => signature(add, [n, n]));
const sum = await client.apply(chord(numbers, signature(total)));
console.log(await sum.get({ timeoutMs: 10_000 })); // 12
