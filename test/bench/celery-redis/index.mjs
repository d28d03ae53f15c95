// The bench `celery-redis`: who runs, in which variants, and which of our figures is held against whose.
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

const here = fileURLToPath(new URL('.', import.meta.url));
const shared = join(here, '../celery');

const US = 'jobglot';
const CELERY = 'celery 5.6';
const NODE = 'celery-node 0.5.9';
const STRIPPED = 'celery-node stripped';
const LIMIT = 'limit';

const LATE = 'no-op, late ack';
const EARLY = 'no-op, early ack';
const RESULTS = 'no-op, late ack, results';
const EARLY_RESULTS = 'no-op, early ack, results';
const WAIT = 'waits 100 ms';
const ONE = 'enqueue one by one';
const BULK = 'enqueue in bulk';
const IDLE = 'idle latency';
const MEMORY = 'memory, late ack';

/** Runs it and returns the document that `--json` prints. */
export async function run({ python, redisServer, only, match, rounds, jobs, progress }) {
  const server = await startRedis(redisServer);
  try {
    const versions = {
      redis: server.version,
      python: versionOf(python, ['--version']),
      celery: versionOf(python, ['-m', 'celery', '--version']),
      celeryNode: peerVersion('celery-node'),
    };
    const about = { ...machine(versions), rounds, jobs };
    const rows = await measured(plan({ python, server, jobs }), { only, match, rounds, progress });
    return { bench: 'celery-redis', machine: about, rows, ratios: ratios(rows) };
  } finally {
    await server.stop();
  }
}

function plan({ python, server, jobs }) {
  const { url } = server;
  const line = lineOf(server);
  const templates = new Map();
  const makeFor = async (job) => {
    const key = `${job.task} ${job.results}`;
    if (!templates.has(key)) templates.set(key, await template({ ...server, python, ...job }));
    return templates.get(key);
  };
  // The slow get fewer jobs, enough for some seconds each, so that a round stays short.
  const share = (part, least) => Math.max(Math.round(jobs * part), least);
  const rows = [];
  const add = (group, system, variant, measure, more) => rows.push({ group, system, variant, measure, ...more });
  const drained = (group, system, variant, worker, job, count, more) =>
    add(
      group,
      system,
      variant,
      async () => drain({ line, worker, make: await makeFor(job), jobs: count, results: job.results, ...more }),
      more,
    );
  const noop = (results) => ({ task: 'bench.add', args: (i) => [i, i + 1], results });
  const wait = { task: 'bench.wait', args: [0.1], results: false };
  const mark = { task: 'bench.mark', args: (i) => [i], results: false };

  const celery = (pool, { late = true, results = false, prefetch } = {}) => ({
    file: python,
    args: ['-m', 'celery', '-A', 'app', 'worker', '-l', 'WARNING', '--without-mingle', ...pool],
    cwd: shared,
    env: {
      BENCH_BROKER: url,
      BENCH_REDIS: url,
      BENCH_ACKS_LATE: late ? '1' : '0',
      ...(prefetch ? { BENCH_PREFETCH: String(prefetch) } : {}),
      ...(results ? { BENCH_RESULTS: '1', BENCH_BACKEND: url } : {}),
    },
  });
  const prefork = ['-P', 'prefork', '-c', '2'];
  const solo = ['-P', 'solo'];
  const threads = ['-P', 'threads', '-c', '10'];
  const node = (script, env) => ({
    file: process.execPath,
    args: [...(process.env.BENCH_NODE_OPTIONS?.split(' ') ?? []), join(here, script)],
    cwd: here,
    env: { BENCH_BROKER: url, BENCH_REDIS: url, REDIS_URL: url, ...env },
  });
  const us = (concurrency, { late = true, results = false } = {}) =>
    node('../celery/worker.mjs', {
      BENCH_CONCURRENCY: String(concurrency),
      BENCH_ACKS_LATE: late ? '1' : '0',
      BENCH_RESULTS: results ? '1' : '0',
    });
  const celeryNode = (stripped) => node('../celery/celery-node-worker.mjs', { BENCH_STRIPPED: stripped ? '1' : '0' });
  const ceiling = (results) => {
    const worker = node('../ceiling.mjs', {});
    return { ...worker, args: [...worker.args, 'celery-redis', '--filled', ...(results ? ['--results'] : [])] };
  };

  // Consuming. In the order they run: each of ours stands beside whom it is held against.
  for (const [variant, options] of [
    [LATE, { late: true, results: false }],
    [EARLY, { late: false, results: false }],
    [RESULTS, { late: true, results: true }],
    [EARLY_RESULTS, { late: false, results: true }],
  ]) {
    const { late, results } = options;
    const job = noop(results);
    drained('us', `${US} -c 100`, variant, us(100, options), job, jobs);
    if (late) drained('limit', `${LIMIT} (ceiling.mjs)`, variant, ceiling(results), job, jobs);
    drained('celery', `${CELERY} prefork -c 2`, variant, celery(prefork, options), job, share(0.03, 600));
    if (late) {
      drained('celery', `${CELERY} threads -c 10`, variant, celery(threads, options), job, share(0.03, 600));
      drained('celery', `${CELERY} solo`, variant, celery(solo, options), job, share(0.03, 600));
      drained('us', `${US} -c 1`, variant, us(1, options), job, share(0.1, 2000));
    } else {
      const peer = results ? NODE : STRIPPED;
      drained('celery-node', peer, variant, celeryNode(!results), job, share(0.25, 5000));
    }
  }
  drained('us', `${US} -c 1000`, WAIT, us(1000), wait, Math.max(share(0.15, 0), 20_000));
  drained('celery', `${CELERY} threads -c 200`, WAIT, celery(['-P', 'threads', '-c', '200']), wait, share(0.02, 2000));
  const quarter = jobs / 4;
  drained('us', `${US} -c 100`, MEMORY, us(100), noop(false), jobs * 2, { sampleEvery: quarter, rounds: 1 });

  // Enqueuing.
  const produce = (group, system, producer, count) => {
    for (const [mode, variant, times] of [
      ['one', ONE, 1],
      ['bulk', BULK, group === 'celery' ? 1 : 5],
    ]) {
      add(group, system, variant, () => enqueueRate({ line, producer, mode, count: count * times }));
    }
  };
  produce('us', US, node('../celery/produce.mjs'), share(0.1, 2000));
  produce(
    'celery',
    CELERY,
    { file: python, args: ['produce.py'], cwd: shared, env: { BENCH_BROKER: url, BENCH_REDIS: url } },
    share(0.03, 1000),
  );
  produce('celery-node', NODE, node('../celery/celery-node-produce.mjs'), share(0.1, 2000));

  // Latency.
  const count = share(0.0015, 50);
  for (const [group, system, worker] of [
    ['us', `${US} -c 100`, us(100)],
    ['us', `${US} -c 1`, us(1)],
    ['limit', `${LIMIT} (LPUSH, BRPOP)`, node('brpop.mjs')],
    ['celery-node', NODE, celeryNode(false)],
    ['celery', `${CELERY} prefork -c 2`, celery(prefork, { late: false })],
    ['celery', `${CELERY} solo`, celery(solo, { late: false })],
  ]) {
    add(group, system, IDLE, async () => ({
      samples: await idleLatency({ line, worker, make: await makeFor(mark), count }),
    }));
  }
  return rows;
}

function ratios(rows) {
  const row = finder(rows);
  const rate = (system, variant) => row(system, variant)?.jobsPerSecond;
  const ours = (variant, concurrency = 100) => rate(`${US} -c ${concurrency}`, variant);
  const prefork = `${CELERY} prefork`;
  const memory = row(US, MEMORY)?.memory;
  const at200k = memory?.[3];
  const p50 = (system) => row(system, IDLE)?.p50Ms;

  const all = {};
  for (const [variant, celeryTarget, nodeTarget, limit] of [
    [LATE, 25, 3, LATE],
    [EARLY, 25, 3, LATE],
    [RESULTS, 15, 1.5, RESULTS],
    [EARLY_RESULTS, 15, 1.5, RESULTS],
  ]) {
    all[`${variant}: Celery prefork -c 2`] = against(ours(variant) / rate(prefork, variant), celeryTarget);
    // celery-node has one mode: early ack, results. What it could do without them has no target, since nobody can run it so.
    all[`${variant}: celery-node`] = against(ours(variant) / rate(NODE, EARLY_RESULTS), nodeTarget);
    if (limit === LATE) all[`${variant}: ${STRIPPED}`] = against(ours(variant) / rate(STRIPPED, EARLY), null);
    all[`${variant}: limit`] = against(ours(variant) / rate(LIMIT, limit), 0.65);
  }
  all['concurrency 1, late ack: Celery solo'] = against(ours(LATE, 1) / rate(`${CELERY} solo`, LATE), 3);
  all['concurrency 1, results: Celery solo'] = against(ours(RESULTS, 1) / rate(`${CELERY} solo`, RESULTS), 3);
  all['waits 100 ms, concurrency 1000'] = against(ours(WAIT, 1000), 9000, { unit: 'jobs/s' });
  all['enqueue one by one: apply_async'] = against(rate(US, ONE) / rate(CELERY, ONE), 3);
  all['enqueue in bulk: apply_async'] = against(rate(US, BULK) / rate(CELERY, ONE), 30);
  all['enqueue in bulk: group of 500'] = against(rate(US, BULK) / rate(CELERY, BULK), 30);
  const half = { atMost: true };
  all['idle latency p50: Celery prefork'] = against(p50(`${US} -c 100`) / p50(prefork), 0.5, half);
  all['idle latency p50: Celery solo'] = against(p50(`${US} -c 100`) / p50(`${CELERY} solo`), 0.5, half);
  all[`RSS after ${at200k?.jobs ?? 'all'} jobs`] = against(at200k?.rssMiB, 150, { atMost: true, unit: 'MiB' });
  all['RSS at twice the jobs: at once'] = against(memory?.at(-1)?.rssMiB / at200k?.rssMiB, 1.1, { atMost: true });
  return known(all);
}
