import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { project, run, type Running, start } from '../unit/cli/run.ts';

const TASKS = `
import { defineTask, Tasks } from 'jobglot';
export const tasks = new Tasks()
  .handle(defineTask('OkJob'), ({ args }) => args.length)
  .handle(defineTask('FailJob'), () => { throw new TypeError('on purpose'); })
  .handle(defineTask('HangJob'), (job, { signal }) => new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason));
    console.error('HangJob hangs');
  }));
`;
const YML = `
:concurrency: 3
:timeout: 1
:queues: [[critical, 5], default]
:capsules:
  single: {concurrency: 1, queues: [unsafe]}
`;

let server: RedisServer;
let redis: Redis;
let cwd: string;
let url: readonly string[];
const running: Running[] = [];

beforeAll(async () => {
  server = await startRedis({ password: 'hunter2' });
  redis = server.client();
  cwd = await project({ 'tasks.js': TASKS, 'config/sidekiq.yml': YML });
  url = ['--url', server.url];
});
afterEach(async () => {
  for (const { child, ended } of running.splice(0)) {
    child.kill('SIGKILL');
    await ended;
  }
  await redis.flushall();
});
afterAll(() => server[Symbol.asyncDispose]());

async function worker(args: readonly string[]): Promise<Running> {
  const one = start(['worker', '--sidekiq', server.url, '--log-format', 'text', ...args], { cwd });
  running.push(one);
  await one.says('sidekiq ready');
  return one;
}

const info = async (): Promise<Record<string, unknown>> => {
  const [identity] = await redis.smembers('processes');
  return JSON.parse((await redis.hget(identity!, 'info'))!) as Record<string, unknown>;
};

test('enqueue, work by weight, inspect, retry, and stop', async () => {
  const sent = await run(['enqueue', 'sidekiq', 'OkJob', '[1.0, 12345678901234567890]', '-q', 'critical', ...url], {
    cwd,
  });
  expect(sent.code).toBe(0);
  expect(sent.stdout).toMatch(/^[0-9a-f]{24}\n$/);
  expect((await redis.lindex('queue:critical', 0))!).toContain('"args":[1.0,12345678901234567890]');
  const { stdout: later } = await run(['enqueue', 'sidekiq', 'OkJob', '[1]', '--in', '300', ...url], { cwd });
  const { stdout: failing } = await run(['enqueue', 'sidekiq', 'FailJob', '--retry', '3', ...url], { cwd });
  const node = await worker(['-Q', 'critical,5', '-Q', 'default', '-c', '2']);
  expect(node.log()).not.toContain('hunter2');
  await until('it is to be retried', async () => (await redis.zcard('retry')) === 1);
  expect(await info()).toMatchObject({
    concurrency: 2,
    queues: ['critical', 'default'],
    weights: [{ critical: 5, default: 0 }],
  });
  const shown = await run(['inspect', 'sidekiq', 'retry', ...url], { cwd });
  expect(shown.stdout).toMatch(/ FailJob [0-9a-f]{24} of default failed 1 times, TypeError: on purpose\n$/);
  await run(['control', 'sidekiq', 'kill', failing.trim(), ...url], { cwd });
  expect(await redis.zcard('dead')).toBe(1);
  await run(['control', 'sidekiq', 'delete', later.trim(), '--set', 'schedule', ...url], { cwd });
  expect(await redis.zcard('schedule')).toBe(0);
  await run(['control', 'sidekiq', 'quiet', ...url], { cwd });
  await run(['control', 'sidekiq', 'stop', ...url], { cwd });
  expect((await node.ended).code).toBe(0);
  expect(await redis.get('stat:processed')).toBe('2');
});

test('config/sidekiq.yml is read: weights, capsules, and the time for what runs, which is then back in its queue', async () => {
  await redis.lpush('queue:unsafe', '{"class":"HangJob","args":[],"jid":"a","retry":true}');
  const node = await worker([]);
  await node.says('HangJob hangs');
  expect(await info()).toMatchObject({
    concurrency: 4,
    queues: ['critical', 'default', 'unsafe'],
    capsules: { default: { concurrency: 3, mode: 'weighted' }, single: { concurrency: 1, mode: 'strict' } },
  });
  node.child.kill('SIGTERM');
  expect((await node.ended).code).toBe(0);
  expect(await redis.lrange('queue:unsafe', 0, -1)).toEqual(['{"class":"HangJob","args":[],"jid":"a","retry":true}']);
  expect(await redis.keys('jobglot:*')).toEqual([]);
});
