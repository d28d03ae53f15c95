// One job at a time on an idle system: from just before the publish to the first line of the handler, on one clock.
import { setTimeout as sleep } from 'node:timers/promises';
import { startWorker } from './worker-process.mjs';

const WARM = 30;

/** The latency of each of `count` jobs in milliseconds. The same producer and the same bytes for every system. */
export async function idleLatency({ line, worker, make, count }) {
  await line.empty();
  const running = startWorker(worker);
  const marks = line.redis.duplicate();
  try {
    return await Promise.race([sample({ line, marks, make, count }), running.died]);
  } finally {
    marks.disconnect();
    await running.kill();
  }
}

async function sample({ line, marks, make, count }) {
  const samples = [];
  for (let i = 0; i < WARM + count; i++) {
    const message = make(i);
    await sleep(5 + Math.random() * 15);
    const sent = process.hrtime.bigint();
    line.push(message);
    // The handler reads CLOCK_MONOTONIC, the clock of hrtime, and pushes what it read.
    const mark = await marks.blpop('bench.marks', 30);
    if (mark === null) throw new Error('no answer to a job for 30 s');
    if (i >= WARM) samples.push(Number(BigInt(mark[1]) - sent) / 1e6);
  }
  return samples;
}
