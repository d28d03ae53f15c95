// The least a crash-safe consumer of Sidekiq's lists can do: a counted move to a list of its own, cut when the jobs have run. It stands
// for what one Node process can reach; there is no library around it.
import { Redis } from '../redis.mjs';

const redis = new Redis(process.env.BENCH_REDIS);
const BATCH = 100;
// Where the bench looks for what is taken and not done.
const [queue, mine, claimants] = ['queue:bench', 'jobglot:sidekiq:claims:limit', 'jobglot:sidekiq:claimants'];
const handlers = { BenchAdd: async (x, y) => x + y };
process.once('SIGTERM', () => process.exit(0));

redis.defineCommand('take', {
  numberOfKeys: 2,
  lua: `local jobs = redis.call('RPOP', KEYS[1], ARGV[1]) if not jobs then return {} end
    local claims = {} for i = 1, #jobs do claims[#claims + 1] = ARGV[2] .. i claims[#claims + 1] = jobs[i] end
    redis.call('HSET', KEYS[2], unpack(claims)) return jobs`,
});

await redis.sadd(claimants, 'limit');
let turn = 0;
let done = 0;
let next = redis.take(queue, mine, BATCH, `${turn}:`);
for (;;) {
  const prefix = `${turn}:`;
  const jobs = await next;
  if (jobs.length === 0) break;
  await Promise.all(
    jobs.map(async (text) => {
      const job = JSON.parse(text);
      await handlers[job.class](...job.args);
    }),
  );
  done += jobs.length;
  const cut = redis.hdel(mine, ...jobs.map((_, at) => prefix + (at + 1)));
  next = redis.take(queue, mine, BATCH, `${++turn}:`);
  await cut;
}
await redis.set('stat:processed', done);
await new Promise(() => {
  setInterval(() => {}, 60_000);
});
