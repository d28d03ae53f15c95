#!/usr/bin/env node
// The physical limit of one Node process for the wire work of a crash-safe consumer, with no library around it:
// the figure to stand beside.
//
//   node ceiling.mjs celery-redis [--results] [--jobs 200000] [--batch 100] [--concurrency 100]
//   node ceiling.mjs celery-amqp  [--results] [--prefetch 100]   one multiple ack per turn; needs --filled
//   ... --filled      consume what is in `celery` now, then wait for SIGTERM (what the bench runs)
//
// Claims of `batch`, `concurrency` handlers at once, the acks of one turn of the event loop folded together. Messages are
// claimed into an unacked hash and index by one script and removed after the run, so nothing is lost with the process.
// Server: REDIS_URL (default redis://127.0.0.1:6379/15). Unless --filled it uses keys of its own, named ceiling.*, and
// removes them (stored results expire after a minute). Prints one JSON line.
import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import { Redis } from './redis.mjs';

const [mode, ...rest] = process.argv.slice(2);
if (mode !== 'celery-redis' && !(mode === 'celery-amqp' && rest.includes('--filled'))) {
  console.error(
    'usage: node ceiling.mjs celery-redis|celery-amqp [--results] [--jobs N] [--batch N] [--concurrency N] [--prefetch N] [--filled]',
  );
  process.exit(64);
}
const option = (name, fallback) => {
  const at = rest.indexOf(`--${name}`);
  return at < 0 ? fallback : Number(rest[at + 1]);
};
const results = rest.includes('--results');
const filled = rest.includes('--filled');
const batch = option('batch', 100);
const concurrency = option('concurrency', 100);
const queue = filled ? 'celery' : 'ceiling.celery';
const unacked = filled ? 'unacked' : 'ceiling.unacked';
const index = filled ? 'unacked_index' : 'ceiling.unacked_index';
const metaKey = filled ? 'celery-task-meta-' : 'ceiling.meta-';
const redis = new Redis(process.env.REDIS_URL ?? 'redis://127.0.0.1:6379/15');

redis.defineCommand('claim', {
  numberOfKeys: 3,
  lua: `local m=redis.call('RPOP',KEYS[1],ARGV[1]) if not m then return false end
    local h,z={},{}
    for i=1,#m do local tag=ARGV[2]..i h[#h+1]=tag h[#h+1]='['..m[i]..', "", "celery"]' z[#z+1]=ARGV[3] z[#z+1]=tag end
    redis.call('HSET',KEYS[2],unpack(h)) redis.call('ZADD',KEYS[3],unpack(z)) return m`,
});

const handlers = { 'bench.add': async (x, y) => x + y };
if (mode === 'celery-amqp') await drainAmqp(option('prefetch', 100));
const jobs = filled ? await redis.llen(queue) : await fill(option('jobs', 200_000));
const cpu = process.cpuUsage();
const started = process.hrtime.bigint();
await drain();
const seconds = Number(process.hrtime.bigint() - started) / 1e9;
const used = process.cpuUsage(cpu);
console.log(
  JSON.stringify({
    ceiling: mode,
    results,
    jobs,
    batch,
    concurrency,
    seconds: Number(seconds.toFixed(3)),
    jobsPerSecond: Math.round(jobs / seconds),
    cpuMicrosPerJob: Number(((used.user + used.system) / jobs).toFixed(2)),
  }),
);
if (filled) {
  await new Promise((resolve) => process.once('SIGTERM', resolve));
} else {
  await redis.del(queue, unacked, index);
}
redis.disconnect();

function drain() {
  let turn = 0;
  let held = [];
  let at = 0;
  let running = 0;
  let done = 0;
  let tags = [];
  let metas = [];
  let claiming = false;
  let flushing = false;
  return new Promise((finish, fail) => {
    const claimed = (prefix, messages) => {
      claiming = false;
      if (at > 0) {
        held = held.slice(at);
        at = 0;
      }
      for (let i = 0; i < (messages?.length ?? 0); i++) held.push(messages[i], prefix + (i + 1));
      pump();
    };
    const claim = (to) => {
      claiming = true;
      const prefix = `${process.pid}:${turn++}:`;
      return [prefix, to.claim(queue, unacked, index, batch, prefix, Date.now() / 1000)];
    };
    const flush = () => {
      flushing = false;
      pump();
      const p = redis.pipeline();
      let prefix;
      for (const [id, text] of metas) {
        p.setex(metaKey + id, 60, text);
        p.publish(metaKey + id, text);
      }
      p.zrem(index, ...tags);
      p.hdel(unacked, ...tags);
      done += tags.length;
      tags = [];
      metas = [];
      if (!claiming && (held.length - at) / 2 < batch) [prefix] = claim(p);
      p.exec().then((replies) => {
        if (prefix) claimed(prefix, replies.at(-1)[1]);
        if (done >= jobs) finish();
      }, fail);
    };
    const run = async (raw, tag) => {
      const message = JSON.parse(raw);
      const [args] = JSON.parse(Buffer.from(message.body, 'base64').toString());
      const value = await handlers[message.headers.task](...args);
      if (results) metas.push([message.headers.id, meta(message.headers, value)]);
      tags.push(tag);
      running--;
      if (!flushing) {
        flushing = true;
        setImmediate(flush);
      }
    };
    const pump = () => {
      while (running < concurrency && at < held.length) {
        running++;
        run(held[at], held[at + 1]).catch(fail);
        at += 2;
      }
      if (at >= held.length) {
        held = [];
        at = 0;
      }
    };
    const [prefix, first] = claim(redis);
    first.then((messages) => claimed(prefix, messages), fail);
  });
}

/** Consumes `celery` until SIGTERM: handlers as messages come, one acknowledgement for all of a turn of the event loop. */
async function drainAmqp(prefetch) {
  const amqp = createRequire(new URL('../../package.json', import.meta.url))('amqplib');
  const connection = await amqp.connect(process.env.AMQP_URL ?? 'amqp://127.0.0.1', { noDelay: true });
  const channel = await connection.createChannel();
  await channel.prefetch(prefetch);
  let last;
  let soon = false;
  let writes = redis.pipeline();
  const flush = () => {
    soon = false;
    if (results) {
      void writes.exec();
      writes = redis.pipeline();
    }
    channel.ack(last, true);
  };
  await channel.consume('celery', async (message) => {
    if (message === null) return;
    const { headers } = message.properties;
    const [args] = JSON.parse(message.content.toString());
    const value = await handlers[headers.task](...args);
    if (results) {
      const text = meta(headers, value);
      writes.setex(metaKey + headers.id, 60, text);
      writes.publish(metaKey + headers.id, text);
    }
    last = message;
    if (!soon) {
      soon = true;
      setImmediate(flush);
    }
  });
  await new Promise((resolve) => process.once('SIGTERM', resolve));
  process.exit(0);
}

function meta(headers, value) {
  return JSON.stringify({
    status: 'SUCCESS',
    result: value,
    traceback: null,
    children: [],
    date_done: new Date().toISOString(),
    task_id: headers.id,
    group: headers.group,
    parent_id: headers.parent_id,
  });
}

async function fill(count) {
  await redis.del(queue, unacked, index);
  for (let i = 0; i < count;) {
    const p = redis.pipeline();
    for (const end = Math.min(count, i + 1000); i < end; i++) p.lpush(queue, envelope(i));
    await p.exec();
  }
  return count;
}

function envelope(i) {
  const id = randomUUID();
  const body = `[[${i}, ${i + 1}], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]`;
  return JSON.stringify({
    body: Buffer.from(body).toString('base64'),
    'content-encoding': 'utf-8',
    'content-type': 'application/json',
    headers: {
      lang: 'py',
      task: 'bench.add',
      id,
      shadow: null,
      eta: null,
      expires: null,
      group: null,
      group_index: null,
      retries: 0,
      timelimit: [null, null],
      root_id: id,
      parent_id: null,
      argsrepr: `(${i}, ${i + 1})`,
      kwargsrepr: '{}',
      origin: 'gen1@host',
      ignore_result: !results,
      replaced_task_nesting: 0,
      stamped_headers: null,
      stamps: {},
    },
    properties: {
      correlation_id: id,
      reply_to: randomUUID(),
      delivery_mode: 2,
      delivery_info: { exchange: '', routing_key: 'celery' },
      priority: 0,
      body_encoding: 'base64',
      delivery_tag: randomUUID(),
    },
  });
}
