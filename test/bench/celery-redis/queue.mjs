// Fills a queue with what real Celery would have written: one message is taken from its own producer, the rest are copies
// of those bytes with ids and arguments of their own.
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { counted } from '../drain.mjs';

const celery = fileURLToPath(new URL('../celery', import.meta.url));
const ROOM = 500;

/** A function that makes the text of the message number `i`; `args` may be a function of `i`. */
export async function template({ redis, url, python, task, args, results }) {
  const example = JSON.stringify(typeof args === 'function' ? args(0) : args);
  await redis.del('celery');
  await promisify(execFile)(python, ['produce.py', 'template', task, example, results ? 'ON' : 'OFF'], {
    cwd: celery,
    env: { ...process.env, BENCH_BROKER: url, BENCH_REDIS: url, ...(results ? { BENCH_BACKEND: url } : {}) },
  });
  const text = await redis.rpop('celery');
  const message = JSON.parse(text);
  const { id } = message.headers;
  const tag = message.properties.delivery_tag;
  const body = Buffer.from(message.body, 'base64').toString();
  const argsAt = JSON.stringify(JSON.parse(body)[0]).replaceAll(',', ', ');
  if (!body.startsWith(`[${argsAt}, `)) throw new Error(`bench: cannot find the arguments in ${body}`);
  const bodyTail = body.slice(1 + argsAt.length);
  const repr = JSON.stringify(message.headers.argsrepr);
  const whole = split(text, [message.body, id, tag, repr]);
  return (i) => {
    const own = typeof args === 'function' ? args(i) : args;
    const list = own.join(', ');
    const values = new Map([
      [message.body, Buffer.from(`[[${list}]${bodyTail}`).toString('base64')],
      [id, randomUUID()],
      [tag, randomUUID()],
      [repr, `"(${list}${own.length === 1 ? ',' : ''})"`],
    ]);
    let out = '';
    for (const part of whole) out += values.get(part) ?? part;
    return out;
  };
}

/** The queue as the bench sees it. */
export function lineOf({ redis, pid }) {
  return {
    redis,
    pid,
    empty: () => redis.flushall(),
    fill: (make, jobs) => fill(redis, make, jobs),
    push: (message) => void redis.lpush('celery', message).catch(() => {}),
    /** What no one has taken, and what is taken and not acknowledged: one MULTI, or a claim between the two counts twice. */
    async left() {
      const replies = await redis.multi().llen('celery').hlen('unacked').exec();
      return replies[0][1] + replies[1][1];
    },
    proved: (jobs) => counted(async () => (await redis.keys('celery-task-meta-*')).length, jobs, 'results'),
  };
}

/** LPUSH `jobs` messages, as kombu does. */
async function fill(redis, make, jobs) {
  for (let i = 0; i < jobs;) {
    const pipeline = redis.pipeline();
    for (let calls = 0; calls < 4 && i < jobs; calls++) {
      const messages = [];
      for (const end = Math.min(jobs, i + ROOM); i < end; i++) messages.push(make(i));
      pipeline.lpush('celery', ...messages);
    }
    for (const [error] of await pipeline.exec()) if (error) throw error;
  }
}

function split(text, marks) {
  let parts = [text];
  for (const mark of marks) {
    parts = parts.flatMap((part) => part.split(mark).flatMap((piece, at) => (at === 0 ? [piece] : [mark, piece])));
  }
  return parts.filter((part) => part !== '');
}
