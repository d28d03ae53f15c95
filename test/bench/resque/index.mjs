// The bench `resque`: our worker beside node-resque's, in which variants, and which of our figures is held against whose.
import { join } from 'node:path';
import { drain } from '../drain.mjs';
import { enqueueRate } from '../enqueue.mjs';
import { idleLatency } from '../latency.mjs';
import { machine, peerVersion } from '../machine.mjs';
import { startRedis } from '../redis-server.mjs';
import { against } from '../report.mjs';
import { finder, known, measured } from '../rounds.mjs';
import { here, jobOf, lineOf } from './queue.mjs';

const US = 'jobglot';
const FORKING = `${US} a process a job -c 4`;
const PEER = 'node-resque';
const WORKER = `${PEER} worker`;
const MULTI = `${PEER} multi-worker 50`;

const NOOP = 'no-op';
const WAIT = 'waits 100 ms';
const ONE = 'enqueue one by one';
const BULK = 'enqueue in bulk';
const IDLE = 'idle latency';

/** Runs it and returns the document that `--json` prints. */
export async function run({ redisServer, only, match, rounds, jobs, progress }) {
  const server = await startRedis(redisServer);
  try {
    const about = { ...machine({ redis: server.version, nodeResque: peerVersion('node-resque') }), rounds, jobs };
    const rows = await measured(plan({ server, jobs }), { only, match, rounds, progress });
    return { bench: 'resque', machine: about, rows, ratios: ratios(rows) };
  } finally {
    await server.stop();
  }
}

function plan({ server, jobs }) {
  // The slow get fewer jobs, enough for some seconds each, so that a round stays short.
  const share = (part, least) => Math.max(Math.round(jobs * part), least);
  const line = lineOf(server);
  const rows = [];
  const add = (group, system, variant, measure) => rows.push({ group, system, variant, measure });
  const drained = (group, system, variant, worker, count, make = jobOf('add', (i) => [i, i + 1])) =>
    add(group, system, variant, () => drain({ line, worker, make, jobs: count, results: true }));

  const node = (script, more, ...args) => ({
    file: process.execPath,
    args: [...(process.env.BENCH_NODE_OPTIONS?.split(' ') ?? []), join(here, script), ...args],
    cwd: here,
    env: { BENCH_REDIS: server.url, ...more },
  });
  const us = (concurrency, more) => node('worker.mjs', { BENCH_CONCURRENCY: String(concurrency), ...more });
  const forking = us(4, { BENCH_FORK: '1' });
  const one = node('node-resque.mjs', { BENCH_WORKERS: '1' }, 'work');
  const many = node('node-resque.mjs', { BENCH_WORKERS: '50' }, 'work');

  drained('us', `${US} -c 50`, NOOP, us(50), share(0.5, 10_000));
  drained('us', FORKING, NOOP, forking, share(0.001, 100));
  drained('node-resque', WORKER, NOOP, one, share(0.05, 2000));
  drained('node-resque', MULTI, NOOP, many, share(0.15, 3000));
  drained('us', `${US} -c 1`, NOOP, us(1), share(0.1, 2000));
  drained(
    'us',
    `${US} -c 1000`,
    WAIT,
    us(1000),
    share(0.15, 20_000),
    jobOf('wait', () => [100]),
  );

  for (const [group, system, producer] of [
    ['us', US, node('produce.mjs')],
    ['node-resque', PEER, node('node-resque.mjs')],
  ]) {
    add(group, system, ONE, () => enqueueRate({ line, producer, mode: 'one', count: share(0.05, 2000) }));
  }
  add('us', US, BULK, () =>
    enqueueRate({ line, producer: node('produce.mjs'), mode: 'bulk', count: share(0.25, 10_000) }),
  );

  for (const [group, system, worker] of [
    ['us', `${US} -c 50`, us(50)],
    ['node-resque', MULTI, many],
  ]) {
    add(group, system, IDLE, async () => ({
      samples: await idleLatency({ line, worker, make: jobOf('mark', () => [1]), count: share(0.0015, 50) }),
    }));
  }
  return rows;
}

function ratios(rows) {
  const row = finder(rows);
  const rate = (system, variant = NOOP) => row(system, variant)?.jobsPerSecond;
  const p50 = (system) => row(system, IDLE)?.p50Ms;
  const ours = rate(`${US} -c 50`);
  return known({
    'concurrency 50: multi-worker tuned to 50': against(ours / rate(MULTI), 2),
    'concurrency 50: worker': against(ours / rate(WORKER), null),
    'concurrency 1: worker': against(rate(`${US} -c 1`) / rate(WORKER), null),
    'what a process a job costs: of our own rate': against(rate(FORKING) / ours, null),
    'a process a job, 4 at once': against(rate(FORKING), null, { unit: 'jobs/s' }),
    'waits 100 ms, concurrency 1000': against(rate(`${US} -c 1000`, WAIT), null, { unit: 'jobs/s' }),
    'enqueue one by one': against(rate(US, ONE) / rate(PEER, ONE), null),
    'idle latency p50: multi-worker': against(p50(`${US} -c 50`) / p50(MULTI), null, { atMost: true }),
  });
}
