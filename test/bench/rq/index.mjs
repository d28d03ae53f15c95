// The bench `rq`: our worker beside RQ 2.10's own, in which variants, and which of our figures is held against whose.
import { join } from 'node:path';
import { drain } from '../drain.mjs';
import { enqueueRate } from '../enqueue.mjs';
import { idleLatency } from '../latency.mjs';
import { machine, versionOf } from '../machine.mjs';
import { startRedis } from '../redis-server.mjs';
import { against } from '../report.mjs';
import { finder, known, measured } from '../rounds.mjs';
import { here, lineOf, template } from './queue.mjs';

const US = 'jobglot';
const RQ = 'rq 2.10';
const FORKING = `${RQ} Worker`;
const SIMPLE = `${RQ} SimpleWorker`;
const POOL = `${RQ} worker-pool -n 2`;

const NOOP = 'no-op';
const WAIT = 'waits 100 ms';
const ONE = 'enqueue one by one';
const BULK = 'enqueue in bulk';
const IDLE = 'idle latency';

/** Runs it and returns the document that `--json` prints. */
export async function run({ python, redisServer, only, match, rounds, jobs, progress }) {
  const server = await startRedis(redisServer);
  try {
    const versions = {
      redis: server.version,
      python: versionOf(python, ['--version']),
      rq: versionOf(python, ['-m', 'rq.cli', '--version']),
    };
    const about = { ...machine(versions), rounds, jobs };
    const rows = await measured(plan({ python, server, jobs }), { only, match, rounds, progress });
    return { bench: 'rq', machine: about, rows, ratios: ratios(rows) };
  } finally {
    await server.stop();
  }
}

function plan({ python, server, jobs }) {
  // The slow get fewer jobs, enough for some seconds each, so that a round stays short.
  const share = (part, least) => Math.max(Math.round(jobs * part), least);
  const line = lineOf(server);
  const templates = new Map();
  const makeFor = async (task, args) => {
    if (!templates.has(task)) templates.set(task, await template({ ...server, python, task, args }));
    return templates.get(task);
  };
  const rows = [];
  const add = (group, system, variant, measure) => rows.push({ group, system, variant, measure });
  const drained = (group, system, variant, worker, count, task = 'add', args = [1, 2]) =>
    add(group, system, variant, async () =>
      drain({ line, worker, make: await makeFor(task, args), jobs: count, results: true }),
    );

  const env = { BENCH_REDIS: server.url, PYTHONPATH: here };
  const node = (script, more) => ({
    file: process.execPath,
    args: [...(process.env.BENCH_NODE_OPTIONS?.split(' ') ?? []), join(here, script)],
    cwd: here,
    env: { ...env, ...more },
  });
  const us = (concurrency) => node('worker.mjs', { BENCH_CONCURRENCY: String(concurrency) });
  // Its commands spell the option differently.
  const rq = (command, level, ...args) => ({
    file: python,
    args: ['-m', 'rq.cli', command, '--url', server.url, level, 'WARNING', ...args, 'bench'],
    cwd: here,
    env,
  });
  const forking = rq('worker', '--logging_level');
  const simple = rq('worker', '--logging_level', '--worker-class', 'rq.SimpleWorker');

  drained('us', `${US} -c 50`, NOOP, us(50), share(0.5, 5000));
  drained('rq', FORKING, NOOP, forking, share(0.0025, 200));
  drained('rq', SIMPLE, NOOP, simple, share(0.0075, 500));
  drained('rq', POOL, NOOP, rq('worker-pool', '--logging-level', '--num-workers', '2'), share(0.005, 400));
  drained('us', `${US} -c 1`, NOOP, us(1), share(0.1, 2000));
  drained('us', `${US} -c 1000`, WAIT, us(1000), share(0.15, 20_000), 'wait', [0.1]);

  for (const [mode, variant, times] of [
    ['one', ONE, 1],
    ['bulk', BULK, 5],
  ]) {
    const python_ = { file: python, args: ['bench_jobs.py'], cwd: here, env };
    add('us', US, variant, () =>
      enqueueRate({ line, producer: node('produce.mjs'), mode, count: share(0.05, 2000) * times }),
    );
    add('rq', RQ, variant, () => enqueueRate({ line, producer: python_, mode, count: share(0.02, 1000) * times }));
  }

  for (const [group, system, worker] of [
    ['us', `${US} -c 50`, us(50)],
    ['rq', FORKING, forking],
    ['rq', SIMPLE, simple],
  ]) {
    add(group, system, IDLE, async () => ({
      samples: await idleLatency({ line, worker, make: await makeFor('mark', [1]), count: share(0.0015, 50) }),
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
    'concurrency 50: Worker': against(ours / rate(FORKING), 60),
    'concurrency 50: SimpleWorker': against(ours / rate(SIMPLE), 20),
    'concurrency 50: worker-pool -n 2': against(ours / rate(POOL), null),
    'concurrency 1: SimpleWorker': against(rate(`${US} -c 1`) / rate(SIMPLE), 4),
    'waits 100 ms, concurrency 1000': against(rate(`${US} -c 1000`, WAIT), null, { unit: 'jobs/s' }),
    'enqueue one by one': against(rate(US, ONE) / rate(RQ, ONE), null),
    'enqueue in bulk: enqueue_many of 500': against(rate(US, BULK) / rate(RQ, BULK), null),
    'idle latency p50: Worker': against(p50(`${US} -c 50`) / p50(FORKING), null, { atMost: true }),
    'idle latency p50: SimpleWorker': against(p50(`${US} -c 50`) / p50(SIMPLE), null, { atMost: true }),
    'Redis commands a job: SimpleWorker': against(
      row(`${US} -c 50`, NOOP)?.commandsPerJob / row(SIMPLE, NOOP)?.commandsPerJob,
      null,
      { atMost: true },
    ),
  });
}
