// Our client as a producer: `one N` awaits each, `bulk N` sends 1,000 a call.
import { defineTask } from '../../../dist/src/index.js';
import { CeleryClient } from '../../../dist/src/drivers/celery/index.js';

const [mode, count] = [process.argv[2], Number(process.argv[3])];
const client = new CeleryClient({ broker: process.env.BENCH_BROKER });
const add = defineTask('bench.add');

async function one(jobs) {
  for (let i = 0; i < jobs; i++) await client.enqueue(add, { args: [i, i + 1], ignoreResult: true });
}

async function bulk(jobs) {
  for (let i = 0; i < jobs;) {
    const calls = [];
    for (const end = Math.min(jobs, i + 1000); i < end; i++) calls.push({ args: [i, i + 1], ignoreResult: true });
    await client.enqueueMany(add, calls);
  }
}

const run = { one, bulk }[mode];
await run(Math.max(1000, count / 10));
const [wall, cpu] = [process.hrtime.bigint(), process.cpuUsage()];
await run(count);
const seconds = Number(process.hrtime.bigint() - wall) / 1e9;
const used = process.cpuUsage(cpu);
console.log(JSON.stringify({ jobsPerSecond: count / seconds, cpuMicrosPerJob: (used.user + used.system) / count }));
await client.close();
