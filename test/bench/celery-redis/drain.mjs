// How fast a worker empties a queue that was full before it started. See README.md, "How it is measured".
import { setTimeout as sleep } from 'node:timers/promises';
import { cpuMicros, memoryMiB } from '../process-tree.mjs';
import { startWorker } from '../worker-process.mjs';
import { fill } from './queue.mjs';

const LOOK_MS = 3;
const WARM = 0.1;
const STALLED_MS = 30_000;

/**
 * One run: jobs a second between the first tenth done and all done, and what it took.
 * @param server the bench's Redis; @param worker how to start it; @param make message number i
 * @param sampleEvery with it, memory is also read each time so many jobs are done
 */
export async function drain({ server, worker, make, jobs, results, sampleEvery }) {
  const { redis } = server;
  await redis.flushall();
  await fill(redis, make, jobs);
  const running = startWorker(worker);
  try {
    return await Promise.race([watch({ server, running, jobs, results, sampleEvery }), running.died]);
  } finally {
    await running.kill();
  }
}

async function watch({ server, running, jobs, results, sampleEvery }) {
  const { redis } = server;
  let left = jobs;
  let changed = performance.now();
  const look = async () => {
    // What no one has taken, and what is taken and not acknowledged: one MULTI, or a claim between the two counts twice.
    const replies = await redis.multi().llen('celery').hlen('unacked').exec();
    const now = performance.now();
    const found = replies[0][1] + replies[1][1];
    if (found !== left) changed = now;
    else if (now - changed > STALLED_MS) {
      throw new Error(`no progress for 30 s with ${left} of ${jobs} jobs left\n${running.said()}`);
    }
    left = found;
    return now;
  };

  let from = await look();
  while (left > jobs * (1 - WARM)) {
    await sleep(LOOK_MS);
    from = await look();
  }
  const before = { left, cpu: cpuMicros(running.pid), redis: cpuMicros(server.pid) };

  const memory = [];
  let until = from;
  while (left > 0) {
    await sleep(LOOK_MS);
    until = await look();
    if (sampleEvery && jobs - left >= sampleEvery * (memory.length + 1)) {
      memory.push({ jobs: jobs - left, ...memoryMiB(running.pid) });
    }
  }
  const cpu = cpuMicros(running.pid) - before.cpu;
  const redisCpu = cpuMicros(server.pid) - before.redis;
  const { pssMiB, rssMiB } = memoryMiB(running.pid);
  if (results) await countResults(redis, jobs);
  return {
    jobsPerSecond: before.left / ((until - from) / 1000),
    cpuMicrosPerJob: cpu / before.left,
    redisCpuMicrosPerJob: redisCpu / before.left,
    pssMiB,
    rssMiB,
    ...(sampleEvery ? { memory } : {}),
  };
}

/** Every job left its result: proof that the handlers ran. A worker that acknowledges first may still be writing. */
async function countResults(redis, jobs) {
  for (const deadline = Date.now() + 5000; ; await sleep(20)) {
    const found = (await redis.keys('celery-task-meta-*')).length;
    if (found === jobs) return;
    if (Date.now() > deadline) throw new Error(`${found} results for ${jobs} jobs`);
  }
}
