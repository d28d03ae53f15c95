// How fast a worker empties a queue that was full before it started. See README.md, "How it is measured".
import { setTimeout as sleep } from 'node:timers/promises';
import { cpuMicros, memoryMiB } from '../process-tree.mjs';
import { startWorker } from '../worker-process.mjs';
import { fill } from './queue.mjs';

const LOOK_MS = 10;
const WARM = 0.1;
const STALLED_MS = 30_000;

/** One run: jobs a second between the first tenth done and all done, and what it took. */
export async function drain({ rabbit, redis, worker, make, jobs, results }) {
  await rabbit.empty();
  await redis.redis.flushall();
  await fill(rabbit, make, jobs);
  const running = startWorker(worker);
  try {
    return await Promise.race([watch({ rabbit, redis, running, jobs, results }), running.died]);
  } finally {
    await running.kill();
  }
}

async function watch({ rabbit, redis, running, jobs, results }) {
  let left = jobs;
  let changed = performance.now();
  const look = async () => {
    const found = await rabbit.left();
    const now = performance.now();
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
  const before = { left, cpu: cpuMicros(running.pid), broker: cpuMicros(rabbit.pid) };
  let until = from;
  while (left > 0) {
    await sleep(LOOK_MS);
    until = await look();
  }
  const cpu = cpuMicros(running.pid) - before.cpu;
  const brokerCpu = cpuMicros(rabbit.pid) - before.broker;
  const { pssMiB, rssMiB } = memoryMiB(running.pid);
  if (results) await countResults(redis.redis, jobs);
  return {
    jobsPerSecond: before.left / ((until - from) / 1000),
    cpuMicrosPerJob: cpu / before.left,
    brokerCpuMicrosPerJob: brokerCpu / before.left,
    pssMiB,
    rssMiB,
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
