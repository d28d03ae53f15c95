// The bench `celery-amqp`: who runs on RabbitMQ, in which variants, and which of our figures is held against whose.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { machine, peerVersion, versionOf } from '../machine.mjs';
import { startRedis } from '../redis-server.mjs';
import { drain } from '../drain.mjs';
import { enqueueRate } from '../enqueue.mjs';
import { idleLatency } from '../latency.mjs';
import { against } from '../report.mjs';
import { finder, known, measured } from '../rounds.mjs';
import { lineOf, template } from './queue.mjs';
import { startRabbit } from './rabbit.mjs';

const shared = fileURLToPath(new URL('../celery', import.meta.url));
const ceilingScript = fileURLToPath(new URL('../ceiling.mjs', import.meta.url));

const US = 'jobglot';
const CELERY = 'celery 5.6';
const SOLO = `${CELERY} solo, prefetch 128`;
const PREFORK = `${CELERY} prefork -c 2`;
const NODE = 'celery-node 0.5.9';
const STRIPPED = 'celery-node stripped';
const LIMIT = 'limit (ceiling.mjs)';

const LATE = 'no-op, late ack';
const EARLY = 'no-op, early ack';
const RESULTS = 'no-op, late ack, results in Redis';
const EARLY_RESULTS = 'no-op, early ack, results in Redis';
const ONE = 'enqueue one by one';
const BULK = 'enqueue in bulk';
const IDLE = 'idle latency';

/** Runs it and returns the document that `--json` prints. */
export async function run({ python, redisServer, rabbitServer, only, match, rounds, jobs, progress }) {
  const redis = await startRedis(redisServer);
  const rabbit = await startRabbit(rabbitServer);
  try {
    const versions = {
      rabbitmq: rabbit.version,
      redis: redis.version,
      python: versionOf(python, ['--version']),
      celery: versionOf(python, ['-m', 'celery', '--version']),
      celeryNode: peerVersion('celery-node'),
    };
    const about = { ...machine(versions), rounds, jobs };
    const rows = await measured(plan({ python, rabbit, redis, jobs }), { only, match, rounds, progress });
    return { bench: 'celery-amqp', machine: about, rows, ratios: ratios(rows) };
  } finally {
    await rabbit.stop();
    await redis.stop();
  }
}

function plan({ python, rabbit, redis, jobs }) {
  const line = lineOf(rabbit, redis);
  // The slow get fewer jobs, enough for some seconds each, so that a round stays short.
  const share = (part, least) => Math.max(Math.round(jobs * part), least);
  const templates = new Map();
  const makeFor = async (job) => {
    const key = `${job.task} ${job.results}`;
    if (!templates.has(key)) templates.set(key, await template({ rabbit, redis, python, ...job }));
    return templates.get(key);
  };
  const rows = [];
  const drained = (group, system, variant, worker, results, count) =>
    rows.push({
      group,
      system,
      variant,
      measure: async () => {
        const make = await makeFor({ task: 'bench.add', args: (i) => [i, i + 1], results });
        return drain({ line, worker, make, jobs: count, results });
      },
    });

  const urls = { BENCH_BROKER: rabbit.url, BENCH_REDIS: redis.url, AMQP_URL: rabbit.url, REDIS_URL: redis.url };
  const celery = (pool, { late = true, results = false, prefetch } = {}) => ({
    file: python,
    args: ['-m', 'celery', '-A', 'app', 'worker', '-l', 'WARNING', '--without-mingle', ...pool],
    cwd: shared,
    env: {
      ...urls,
      BENCH_ACKS_LATE: late ? '1' : '0',
      ...(prefetch ? { BENCH_PREFETCH: String(prefetch) } : {}),
      ...(results ? { BENCH_RESULTS: '1', BENCH_BACKEND: redis.url } : {}),
    },
  });
  const prefork = ['-P', 'prefork', '-c', '2'];
  const solo = ['-P', 'solo'];
  const node = (script, env = {}) => ({
    file: process.execPath,
    args: [...(process.env.BENCH_NODE_OPTIONS?.split(' ') ?? []), script],
    cwd: shared,
    env: { ...urls, ...env },
  });
  const us = (concurrency, { late = true, results = false } = {}) =>
    node(join(shared, 'worker.mjs'), {
      BENCH_CONCURRENCY: String(concurrency),
      BENCH_ACKS_LATE: late ? '1' : '0',
      BENCH_RESULTS: results ? '1' : '0',
    });
  const celeryNode = (stripped) =>
    node(join(shared, 'celery-node-worker.mjs'), { BENCH_STRIPPED: stripped ? '1' : '0' });
  const ceiling = (results) => {
    const worker = node(ceilingScript);
    return { ...worker, args: [...worker.args, 'celery-amqp', '--filled', ...(results ? ['--results'] : [])] };
  };

  const many = share(0.4, 10_000);
  for (const [variant, options] of [
    [LATE, { late: true, results: false }],
    [EARLY, { late: false, results: false }],
    [RESULTS, { late: true, results: true }],
    [EARLY_RESULTS, { late: false, results: true }],
  ]) {
    const { late, results } = options;
    drained('us', `${US} -c 100`, variant, us(100, options), results, many);
    if (late) drained('limit', LIMIT, variant, ceiling(results), results, many);
    drained(
      'celery',
      SOLO,
      variant,
      celery(solo, { ...options, prefetch: 128 }),
      results,
      share(results ? 0.05 : 0.1, 2000),
    );
    drained('celery', PREFORK, variant, celery(prefork, options), results, share(0.05, 2000));
    if (!late)
      drained('celery-node', results ? NODE : STRIPPED, variant, celeryNode(!results), results, share(0.2, 5000));
  }

  const produce = (group, system, producer, count) => {
    for (const [mode, variant, times] of [
      ['one', ONE, 1],
      ['bulk', BULK, group === 'celery' ? 1 : 5],
    ]) {
      rows.push({
        group,
        system,
        variant,
        measure: () => enqueueRate({ line, producer, mode, count: count * times }),
      });
    }
  };
  produce('us', US, node(join(shared, 'produce.mjs')), share(0.05, 2000));
  produce('celery', CELERY, { file: python, args: ['produce.py'], cwd: shared, env: urls }, share(0.05, 2000));
  const confirmed = { ...urls, BENCH_CONFIRMS: '1' };
  produce(
    'celery',
    `${CELERY}, confirms`,
    { file: python, args: ['produce.py'], cwd: shared, env: confirmed },
    share(0.02, 1000),
  );

  const latency = (group, system, worker) =>
    rows.push({
      group,
      system,
      variant: IDLE,
      measure: async () => {
        const make = await makeFor({ task: 'bench.mark', args: (i) => [i], results: false });
        return { samples: await idleLatency({ line, worker, make, count: share(0.0015, 50) }) };
      },
    });
  latency('us', `${US} -c 100`, us(100));
  latency('celery-node', NODE, celeryNode(false));
  latency('celery', PREFORK, celery(prefork, { late: false }));
  latency('celery', `${CELERY} solo`, celery(solo, { late: false }));
  return rows;
}

function ratios(rows) {
  const row = finder(rows);
  const rate = (system, variant) => row(system, variant)?.jobsPerSecond;
  const ours = (variant) => rate(`${US} -c 100`, variant);
  const p50 = (system) => row(system, IDLE)?.p50Ms;
  const all = {};
  for (const [variant, peer, limit] of [
    [LATE, [STRIPPED, EARLY], 0.7],
    [EARLY, [STRIPPED, EARLY], null],
    [RESULTS, [NODE, EARLY_RESULTS], 0.6],
    [EARLY_RESULTS, [NODE, EARLY_RESULTS], null],
  ]) {
    const isLate = variant === LATE || variant === RESULTS;
    all[`${variant}: Celery solo, prefetch 128`] = against(
      ours(variant) / rate(SOLO, variant),
      variant === LATE ? 3 : null,
    );
    all[`${variant}: Celery prefork -c 2`] = against(
      ours(variant) / rate(PREFORK, variant),
      variant === LATE ? 6 : null,
    );
    all[`${variant}: ${peer[0]} (acks first)`] = against(ours(variant) / rate(...peer), isLate ? 1 : null);
    if (isLate) all[`${variant}: limit`] = against(ours(variant) / rate(LIMIT, variant), limit);
  }
  all['enqueue one by one, confirmed: apply_async'] = against(rate(US, ONE) / rate(CELERY, ONE), null);
  all['enqueue one by one, confirmed: apply_async with confirms'] = against(
    rate(US, ONE) / rate(`${CELERY}, confirms`, ONE),
    null,
  );
  all['enqueue in bulk: apply_async'] = against(rate(US, BULK) / rate(CELERY, ONE), null);
  all['idle latency p50: Celery prefork'] = against(p50(`${US} -c 100`) / p50(PREFORK), null, { atMost: true });
  all['idle latency p50: Celery solo'] = against(p50(`${US} -c 100`) / p50(`${CELERY} solo`), null, { atMost: true });
  return known(all);
}
