// The handlers of our worker; a child process of one job loads them too.
import { defineTask, Tasks } from '../../../dist/src/index.js';

let marks;

export const tasks = new Tasks()
  .handle(defineTask('add'), ({ args: [x, y] }) => x + y)
  .handle(defineTask('wait'), ({ args: [ms] }) => new Promise((resolve) => setTimeout(resolve, ms)))
  .handle(defineTask('mark'), async () => {
    // Loaded where it is used: a process of one job loads this file too.
    const { Redis } = await import('../redis.mjs');
    marks ??= new Redis(process.env.BENCH_REDIS);
    await marks.lpush('bench.marks', String(process.hrtime.bigint()));
  });
