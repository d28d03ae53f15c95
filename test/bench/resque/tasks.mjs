// The handlers of our worker; a child process of one job loads them too.
import { defineTask, Tasks } from '../../../dist/src/index.js';
import { Redis } from '../redis.mjs';

let marks;

export const tasks = new Tasks()
  .handle(defineTask('add'), ({ args: [x, y] }) => x + y)
  .handle(defineTask('wait'), ({ args: [ms] }) => new Promise((resolve) => setTimeout(resolve, ms)))
  .handle(defineTask('mark'), async () => {
    marks ??= new Redis(process.env.BENCH_REDIS);
    await marks.lpush('bench.marks', String(process.hrtime.bigint()));
  });
