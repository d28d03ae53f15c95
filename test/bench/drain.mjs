// How fast a worker empties a queue that was full before it started. See README.md, "How it is measured".
import { setTimeout as sleep } from 'node:timers/promises';
import { cpuMicros, memoryMiB } from './process-tree.mjs';
import { startWorker } from './worker-process.mjs';

const LOOK_MS = 3;
const WARM = 0.1;
const STALLED_MS = 30_000;

/**
 * One run: jobs a second between the first tenth done and all done, and what it took.
 * @param line the queue under measurement (README.md, "Adding one"); @param worker how to start it
 * @param make message number i; @param results every job must leave one
 * @param sampleEvery with it, memory is also read each time so many jobs are done
 */
export async function drain({ line, worker, make, jobs, results, sampleEvery }) {
  await line.empty();
  await line.fill(make, jobs);
  const running = startWorker(worker);
  try {
    const figures = await Promise.race([watch({ line, running, jobs, sampleEvery }), running.died]);
    if (results) await line.proved(jobs);
    return figures;
  } finally {
    await running.kill();
  }
}

async function watch({ line, running, jobs, sampleEvery }) {
  let left = jobs;
  let changed = performance.now();
  const look = async () => {
    const found = await line.left();
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
    await sleep(line.lookMs ?? LOOK_MS);
    from = await look();
  }
  const before = { left, cpu: cpuMicros(running.pid), broker: cpuMicros(line.pid), commands: await line.commands?.() };

  const memory = [];
  let until = from;
  while (left > 0) {
    await sleep(line.lookMs ?? LOOK_MS);
    until = await look();
    if (sampleEvery && jobs - left >= sampleEvery * (memory.length + 1)) {
      memory.push({ jobs: jobs - left, ...memoryMiB(running.pid) });
    }
  }
  const cpu = cpuMicros(running.pid) - before.cpu;
  const brokerCpu = cpuMicros(line.pid) - before.broker;
  const commands = before.commands && perJob(before.commands, await line.commands(), before.left);
  const { pssMiB, rssMiB } = memoryMiB(running.pid);
  return {
    jobsPerSecond: before.left / ((until - from) / 1000),
    cpuMicrosPerJob: cpu / before.left,
    brokerCpuMicrosPerJob: brokerCpu / before.left,
    pssMiB,
    rssMiB,
    ...(commands ? { commandsPerJob: Object.values(commands).reduce((sum, one) => sum + one, 0), commands } : {}),
    ...(sampleEvery ? { memory } : {}),
  };
}

/** How often each command ran for a job; those that ran for one in a thousand are chores. */
function perJob(before, after, jobs) {
  const rates = Object.entries(after).map(([name, count]) => [name, (count - (before[name] ?? 0)) / jobs]);
  return Object.fromEntries(rates.filter(([, rate]) => rate >= 0.001).sort(([, a], [, b]) => b - a));
}

/** Resolves when `count()` gives `jobs`: each left what proves that its handler ran. A worker may still be writing. */
export async function counted(count, jobs, what, patienceMs = 5000) {
  for (const deadline = Date.now() + patienceMs; ; await sleep(20)) {
    const found = await count();
    if (found === jobs) return;
    if (Date.now() > deadline) throw new Error(`${found} ${what} for ${jobs} jobs`);
  }
}
