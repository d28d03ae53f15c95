// The bench `sidekiq`: our worker beside Sidekiq's own and other queues for Node, and which of our figures is held against whose.
import { join } from 'node:path';
import { drain } from '../drain.mjs';
import { enqueueRate } from '../enqueue.mjs';
import { idleLatency } from '../latency.mjs';
import { machine, peerVersion, versionOf } from '../machine.mjs';
import { startRedis } from '../redis-server.mjs';
import { against } from '../report.mjs';
import { finder, known, measured } from '../rounds.mjs';
import { bullmqLine, nodeResqueLine } from './neighbours.mjs';
import { here, lineOf, template } from './queue.mjs';

const US = 'jobglot';
const SIDEKIQ = 'sidekiq';
const INSTALLED = `${SIDEKIQ} -c 10`;
const SILENT = `${SIDEKIQ} logging off -c 10`;
const TUNED = `${SIDEKIQ} logging off, YJIT -c 10`;
const BULLMQ = 'bullmq';
const RESQUE = 'node-resque multi-worker 50';
const LIMIT = 'limit';

const NOOP = 'no-op';
const WAIT = 'waits 100 ms';
const ONE = 'enqueue one by one';
const BULK = 'enqueue in bulk';
const IDLE = 'idle latency';

/** Runs it and returns the document that `--json` prints. */
export async function run({ ruby, redisServer, only, match, rounds, jobs, progress }) {
  const server = await startRedis(redisServer);
  try {
    const versions = {
      redis: server.version,
      ruby: versionOf(ruby, ['--version']),
      sidekiq: versionOf(ruby, ['-rsidekiq', '-e', 'puts Sidekiq::VERSION']),
      bullmq: peerVersion('bullmq'),
      nodeResque: peerVersion('node-resque'),
    };
    const about = { ...machine(versions), rounds, jobs };
    const rows = await measured(plan({ ruby, server, jobs }), { only, match, rounds, progress });
    return { bench: 'sidekiq', machine: about, rows, ratios: ratios(rows) };
  } finally {
    await server.stop();
  }
}

function plan({ ruby, server, jobs }) {
  // The slow get fewer jobs, enough for some seconds each, so that a round stays short.
  const share = (part, least) => Math.max(Math.round(jobs * part), least);
  const line = lineOf(server);
  const templates = new Map();
  const makeFor = async (task, args) => {
    if (!templates.has(task)) templates.set(task, await template({ ...server, ruby, task, args }));
    return templates.get(task);
  };
  const rows = [];
  const add = (group, system, variant, measure) => rows.push({ group, system, variant, measure });
  const drained = (group, system, variant, worker, count, task = 'BenchAdd', args = [1, 2]) =>
    add(group, system, variant, async () =>
      drain({ line, worker, make: await makeFor(task, args), jobs: count, results: true }),
    );

  const env = { BENCH_REDIS: server.url };
  const node = (script, more, ...args) => ({
    file: process.execPath,
    args: [...(process.env.BENCH_NODE_OPTIONS?.split(' ') ?? []), join(here, script), ...args],
    cwd: here,
    env: { ...env, ...more },
  });
  const us = (concurrency) => node('worker.mjs', { BENCH_CONCURRENCY: String(concurrency) });
  const bullmq = (concurrency) => node('bullmq.mjs', { BENCH_CONCURRENCY: String(concurrency) }, 'work');
  const sidekiq = (threads, { logging = true, yjit = false } = {}) => ({
    file: ruby,
    args: [
      ...(yjit ? ['--yjit'] : []),
      '-e',
      'load Gem.bin_path("sidekiq", "sidekiq")',
      '--',
      ...['-r', join(here, 'jobs.rb'), '-c', String(threads), '-q', 'bench'],
    ],
    cwd: here,
    env: { ...env, BENCH_LOGGING: logging ? '1' : '0' },
  });
  const tuned = { logging: false, yjit: true };

  drained('us', `${US} -c 100`, NOOP, us(100), jobs);
  drained('limit', LIMIT, NOOP, node('limit.mjs'), jobs * 2);
  drained('sidekiq', INSTALLED, NOOP, sidekiq(10), share(0.15, 3000));
  drained('sidekiq', SILENT, NOOP, sidekiq(10, { logging: false }), share(0.3, 5000));
  drained('sidekiq', TUNED, NOOP, sidekiq(10, tuned), share(0.3, 5000));
  for (const concurrency of [10, 100]) {
    add('bullmq', `${BULLMQ} ${concurrency}`, NOOP, () =>
      drain({ line: bullmqLine(server), worker: bullmq(concurrency), jobs: share(0.25, 5000) }),
    );
  }
  add('node-resque', RESQUE, NOOP, () =>
    drain({ line: nodeResqueLine(server), worker: node('node-resque.mjs'), jobs: share(0.15, 3000) }),
  );
  drained('us', `${US} -c 1`, NOOP, us(1), share(0.1, 2000));
  drained('us', `${US} -c 1000`, WAIT, us(1000), share(0.15, 20_000), 'BenchWait', [0.1]);

  const producers = [
    ['us', US, node('produce.mjs'), 0.1, line],
    ['sidekiq', SIDEKIQ, { file: ruby, args: ['jobs.rb'], cwd: here, env }, 0.1, line],
    ['sidekiq', `${SIDEKIQ} YJIT`, { file: ruby, args: ['--yjit', 'jobs.rb'], cwd: here, env }, 0.1, line],
    ['bullmq', BULLMQ, node('bullmq.mjs'), 0.05, bullmqLine(server)],
  ];
  for (const [group, system, producer, part, into] of producers) {
    for (const [mode, variant, times] of [
      ['one', ONE, 1],
      ['bulk', BULK, 5],
    ]) {
      const count = share(part, 2000) * times;
      add(group, system, variant, () => enqueueRate({ line: into, producer, mode, count }));
    }
  }

  for (const [group, system, worker] of [
    ['us', `${US} -c 100`, us(100)],
    ['sidekiq', INSTALLED, sidekiq(10)],
    ['sidekiq', TUNED, sidekiq(10, tuned)],
  ]) {
    add(group, system, IDLE, async () => ({
      samples: await idleLatency({ line, worker, make: await makeFor('BenchMark', [1]), count: share(0.0015, 50) }),
    }));
  }
  return rows;
}

function ratios(rows) {
  const row = finder(rows);
  const rate = (system, variant = NOOP) => row(system, variant)?.jobsPerSecond;
  const p50 = (system) => row(system, IDLE)?.p50Ms;
  const ours = rate(`${US} -c 100`);
  const best = (...systems) => Math.max(...systems.map((system) => rate(system) ?? Number.NaN));
  const fastest = (variant) => Math.max(rate(SIDEKIQ, variant) ?? Number.NaN, rate(`${SIDEKIQ} YJIT`, variant) ?? 0);
  return known({
    'as installed': against(ours / rate(INSTALLED), 8),
    'logging off': against(ours / rate(SILENT), null),
    'logging off, YJIT': against(ours / rate(TUNED), 3),
    'BullMQ, its best concurrency': against(ours / best(`${BULLMQ} 10`, `${BULLMQ} 100`), 3),
    'node-resque': against(ours / rate(RESQUE), null),
    limit: against(ours / rate(LIMIT), null),
    'concurrency 1: as installed': against(rate(`${US} -c 1`) / rate(INSTALLED), null),
    'waits 100 ms, concurrency 1000': against(rate(`${US} -c 1000`, WAIT), null, { unit: 'jobs/s' }),
    'enqueue one by one: perform_async': against(rate(US, ONE) / fastest(ONE), 1),
    'enqueue in bulk: push_bulk': against(rate(US, BULK) / fastest(BULK), 1),
    'enqueue one by one: BullMQ': against(rate(US, ONE) / rate(BULLMQ, ONE), null),
    'enqueue in bulk: BullMQ': against(rate(US, BULK) / rate(BULLMQ, BULK), null),
    'idle latency p50: as installed': against(p50(`${US} -c 100`) / p50(INSTALLED), null, { atMost: true }),
    'idle latency p50: logging off, YJIT': against(p50(`${US} -c 100`) / p50(TUNED), null, { atMost: true }),
  });
}
