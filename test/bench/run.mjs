#!/usr/bin/env node
// npm run bench -- NAME [--json] [--rounds N] [--jobs N] [--only LIST] [--match TEXT] [--quick]
//
// Makes everything ready first (dependencies, build, Python environment, Redis), so it may run before `npm ci` did:
// nothing here is imported statically that is not Node's own or the set-up's.
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  ensureBuild,
  ensureDependencies,
  ensureRabbit,
  ensureRedis,
  ensureRuby,
  ensureVenv,
} from '../support/setup.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const usage = `usage: npm run bench -- NAME [options]

NAME
  celery-redis        workers and producers on Redis: ours, Celery 5.6, celery-node 0.5.9, and the limit of one process
  celery-amqp         the same on RabbitMQ, results in Redis
  rq                  RQ 2.10's Worker, SimpleWorker and worker-pool
  resque              node-resque's worker and multi-worker, and what a process for each job costs
  sidekiq             Sidekiq as Debian has it, BullMQ, node-resque, and the limit of one process

options
  --json              print one JSON document on stdout instead of tables
  --rounds N          rounds, the competitors interleaved in each (default 3)
  --jobs N            jobs per run for the fastest systems; the slower get their share (default 200000)
  --only LIST         of us, celery, celery-node, rq, sidekiq, bullmq, node-resque, limit (default all)
  --match TEXT        only the rows whose "system, variant" contains TEXT
  --quick             one round of a tenth of the jobs: does it work? (its figures mean little)`;

const { values: options, positionals } = readOptions();
const [name] = positionals;
if (options.help || positionals.length !== 1 || !existsSync(join(here, name, 'index.mjs'))) {
  console.error(usage);
  process.exit(options.help ? 0 : 64);
}

await ensureDependencies();
await ensurePeers();
const needs = {
  'celery-redis': async () => ({ python: await ensureVenv('celery-5.6') }),
  'celery-amqp': async () => ({ python: await ensureVenv('celery-5.6'), rabbitServer: await ensureRabbit() }),
  rq: async () => ({ python: await ensureVenv('rq-2.10') }),
  resque: async () => ({}),
  sidekiq: async () => ({ ruby: await ensureRuby() }),
};
const needed = { redisServer: await ensureRedis(), ...(await needs[name]()) };
const only = options.only?.split(',') ?? [
  'us',
  'celery',
  'celery-node',
  'rq',
  'sidekiq',
  'bullmq',
  'node-resque',
  'limit',
];
if (only.includes('us')) await ensureBuild();

// What was started here goes with us: 'exit' does not happen at a signal by itself.
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130));

const { run } = await import(`./${name}/index.mjs`);
const { asText } = await import('./report.mjs');
const document = await run({
  ...needed,
  only,
  match: options.match ?? '',
  rounds: positive('rounds', options.quick ? 1 : 3),
  jobs: positive('jobs', options.quick ? 20_000 : 200_000),
  progress: (line) => console.error(line),
});
console.log(options.json ? JSON.stringify(document, undefined, 2) : asText(document));

function readOptions() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        json: { type: 'boolean' },
        rounds: { type: 'string' },
        jobs: { type: 'string' },
        only: { type: 'string' },
        match: { type: 'string' },
        quick: { type: 'boolean' },
        help: { type: 'boolean' },
      },
    });
  } catch (error) {
    console.error(`${error.message}\n\n${usage}`);
    process.exit(64);
  }
}

function positive(option, fallback) {
  const value = Number(options[option] ?? fallback);
  if (Number.isInteger(value) && value > 0) return value;
  console.error(`--${option} must be a whole number above 0\n\n${usage}`);
  process.exit(64);
}

/** `npm ci` in this folder: the peers are no dependencies of the project. */
async function ensurePeers() {
  const wanted = lockedVersions(join(here, 'package-lock.json'));
  if (wanted === lockedVersions(join(here, 'node_modules/.package-lock.json'))) return;
  console.error('[setup] install the peers (npm ci in test/bench) ...');
  const code = await new Promise((resolve, reject) => {
    const npm = spawn('npm', ['ci', '--no-audit', '--no-fund'], { cwd: here, stdio: ['ignore', 2, 2] });
    npm.once('error', reject).once('exit', resolve);
  });
  if (code !== 0) throw new Error(`npm ci in ${here} failed (${code})`);
}

function lockedVersions(file) {
  if (!existsSync(file)) return undefined;
  const packages = Object.entries(JSON.parse(readFileSync(file, 'utf8')).packages);
  return JSON.stringify(packages.filter(([path]) => path !== '').map(([path, { version }]) => [path, version]));
}
