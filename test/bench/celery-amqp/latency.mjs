// One job at a time on an idle system: from just before the publish to the first line of the handler, on one clock.
import { setTimeout as sleep } from 'node:timers/promises';
import { startWorker } from '../worker-process.mjs';
import { QUEUE } from './rabbit.mjs';

const WARM = 30;

/** The latency of each of `count` jobs in milliseconds. The same producer and the same bytes for every system. */
export async function idleLatency({ rabbit, redis, worker, make, count }) {
  await rabbit.empty();
  await redis.redis.flushall();
  const running = startWorker(worker);
  const marks = redis.redis.duplicate();
  try {
    return await Promise.race([sample({ rabbit, marks, make, count }), running.died]);
  } finally {
    marks.disconnect();
    await running.kill();
  }
}

async function sample({ rabbit, marks, make, count }) {
  const samples = [];
  for (let i = 0; i < WARM + count; i++) {
    const { body, properties } = make(i);
    await sleep(5 + Math.random() * 15);
    const sent = process.hrtime.bigint();
    rabbit.channel.publish('', QUEUE, body, properties);
    // The handler reads CLOCK_MONOTONIC, the clock of hrtime, and pushes what it read.
    const mark = await marks.blpop('bench.marks', 30);
    if (mark === null) throw new Error('no answer to a job for 30 s');
    if (i >= WARM) samples.push(Number(BigInt(mark[1]) - sent) / 1e6);
  }
  return samples;
}
