// Fills the queue with what real Celery would have written: one message is taken from its own producer, the rest are that one
// with ids and arguments of their own.
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { counted } from '../drain.mjs';
import { QUEUE } from './rabbit.mjs';

const celery = fileURLToPath(new URL('../celery', import.meta.url));

/** A function that makes message number `i`, as amqplib publishes it; `args` may be a function of `i`. */
export async function template({ rabbit, redis, python, task, args, results }) {
  const example = JSON.stringify(typeof args === 'function' ? args(0) : args);
  await rabbit.empty();
  await promisify(execFile)(python, ['produce.py', 'template', task, example, results ? 'ON' : 'OFF'], {
    cwd: celery,
    env: {
      ...process.env,
      BENCH_BROKER: rabbit.url,
      BENCH_REDIS: redis.url,
      ...(results ? { BENCH_BACKEND: redis.url } : {}),
    },
  });
  const message = await rabbit.channel.get(QUEUE, { noAck: true });
  const { contentType, contentEncoding, deliveryMode, priority, replyTo, headers } = message.properties;
  const body = message.content.toString();
  const argsAt = JSON.stringify(JSON.parse(body)[0]).replaceAll(',', ', ');
  if (!body.startsWith(`[${argsAt}, `)) throw new Error(`bench: cannot find the arguments in ${body}`);
  const bodyTail = body.slice(1 + argsAt.length);
  return (i) => {
    const own = typeof args === 'function' ? args(i) : args;
    const list = own.join(', ');
    const id = randomUUID();
    const argsrepr = `(${list}${own.length === 1 ? ',' : ''})`;
    return {
      body: Buffer.from(`[[${list}]${bodyTail}`),
      properties: {
        contentType,
        contentEncoding,
        deliveryMode,
        priority,
        replyTo,
        correlationId: id,
        headers: asPython({ ...headers, id, root_id: id, argsrepr }),
      },
    };
  };
}

/** The queue as the bench sees it. */
export function lineOf(rabbit, { redis }) {
  return {
    redis,
    pid: rabbit.pid,
    lookMs: 10,
    async empty() {
      await rabbit.empty();
      await redis.flushall();
    },
    fill: (make, jobs) => fill(rabbit, make, jobs),
    push: ({ body, properties }) => void rabbit.channel.publish('', QUEUE, body, properties),
    left: () => rabbit.left(),
    proved: (jobs) => counted(async () => (await redis.keys('celery-task-meta-*')).length, jobs, 'results'),
  };
}

async function fill({ channel }, make, jobs) {
  for (let i = 0; i < jobs; i++) {
    const { body, properties } = make(i);
    channel.publish('', QUEUE, body, properties);
    if (i % 1000 === 999) await channel.waitForConfirms();
  }
  await channel.waitForConfirms();
}

/** py-amqp writes integers in 32 bits, amqplib in as few as they need. */
function asPython(headers) {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name, typeof value === 'number' ? { '!': 'int', value } : value]),
  );
}
