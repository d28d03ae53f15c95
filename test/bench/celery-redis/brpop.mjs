// The least a consumer on Redis can do: BRPOP, look at the clock, say so.
import { Redis } from '../redis.mjs';

const redis = new Redis(process.env.BENCH_REDIS);
const marks = new Redis(process.env.BENCH_REDIS);
process.once('SIGTERM', () => process.exit(0));
for (;;) {
  const popped = await redis.brpop('celery', 5);
  if (popped !== null) await marks.lpush('bench.marks', String(process.hrtime.bigint()));
}
