import { spawnSync } from 'node:child_process';
import { hostname } from 'node:os';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { resque, type ResqueOptions } from '../../src/drivers/resque/index.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

/** Beside Ruby-shaped neighbours: what is on the list as Ruby puts it there, and Ruby's own rules for who is dead. */
let server: RedisServer;
let redis: Redis;
const open: AsyncDisposable[] = [];

beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
});
afterEach(async () => {
  for (const one of open.splice(0)) await one[Symbol.asyncDispose]();
  await redis.flushall();
});
afterAll(() => server[Symbol.asyncDispose]());

async function startWorker(
  options: Partial<ResqueOptions> = {},
): Promise<{ readonly worker: Worker; readonly release: () => void }> {
  let release = (): void => {};
  const gate = new Promise<void>((resolve) => (release = resolve));
  const tasks = new Tasks().handle(defineTask('GateJob'), () => gate);
  const source = resque({ url: server.url, queues: ['default'], concurrency: 2, processTitle: false, ...options });
  const worker = new Worker({ tasks, sources: [source], abortGraceMs: 100 });
  open.push({ [Symbol.asyncDispose]: () => worker.stop({ timeoutMs: 0 }) });
  await worker.start();
  return { worker, release };
}

/** A worker as Ruby registers it. */
async function neighbour(id: string, secondsAgo: number, payload?: string): Promise<void> {
  const beat = new Date(Date.now() - secondsAgo * 1000).toISOString().replace(/\.\d+Z$/, '+00:00');
  await redis.sadd('resque:workers', id);
  await redis.hset('resque:workers:heartbeat', id, beat);
  await redis.set(`resque:worker:${id}:started`, '2026-11-21 00:15:37 +0000');
  if (payload !== undefined)
    await redis.set(`resque:worker:${id}`, `{"queue":"default","run_at":"2026-11-21T00:15:42Z","payload":${payload}}`);
}

/** Which ids Ruby would take off the list: worker.rb prune_dead_workers, from the captures. `host` and `queues` are the pruner's. */
async function prunedByRuby(host: string, queues: string): Promise<readonly string[]> {
  const pids = String(spawnSync('ps', ['-A', '-o', 'pid,command']).stdout)
    .split('\n')
    .filter((line) => /resque:work|resque: Starting|resque-[0-9]/.test(line) && !line.includes('resque-web'))
    .map((line) => line.trim().split(' ')[0]);
  const beats = await redis.hgetall('resque:workers:heartbeat');
  return (await redis.smembers('resque:workers')).filter((id) => {
    const beat = beats[id];
    if (beat !== undefined && Date.now() - Date.parse(beat) > 300_000) return true;
    const [itsHost, pid, itsQueues] = id.split(':');
    return itsHost === host && (queues === '*' || queues === itsQueues) && !pids.includes(pid);
  });
}

test('the living are left alone: on our host, on others, and those who never beat', async () => {
  const living = [`${hostname()}:4711:default`, 'elsewhere:1:default', `${hostname()}:1:*`];
  for (const id of living) await neighbour(id, 200);
  await redis.sadd('resque:workers', 'silent:7:default');
  const { worker } = await startWorker({ pruneInterval: 1 });
  await redis.del('resque:pruning_dead_workers_in_progress');
  await until('it has looked again', async () => (await redis.exists('resque:pruning_dead_workers_in_progress')) === 1);
  await worker.stop();
  expect((await redis.smembers('resque:workers')).sort()).toEqual([...living, 'silent:7:default'].sort());
  expect(await redis.llen('resque:failed')).toBe(0);
});

test('one that does not beat any more is taken off the list, and the job it died with is recorded', async () => {
  await neighbour('otherhost:99:default', 301, '{"class":"OkJob","args":[5]}');
  await neighbour('idle:98:default', 301);
  const { worker } = await startWorker();
  await worker.stop();
  expect(await redis.smembers('resque:workers')).toEqual([]);
  const failed = (await redis.lrange('resque:failed', 0, -1)).map(
    (text) => JSON.parse(text) as Record<string, unknown>,
  );
  expect(failed).toMatchObject([
    {
      payload: { class: 'OkJob', args: [5] },
      exception: 'Resque::PruneDeadWorkerDirtyExit',
      error: 'Worker otherhost:99:default did not gracefully exit while processing OkJob',
      backtrace: [],
      worker: 'otherhost:99:default',
      queue: 'default',
    },
  ]);
  expect(await redis.keys('resque:worker:*')).toEqual([]);
  expect(await redis.hgetall('resque:workers:heartbeat')).toEqual({});
});

test('while another prunes we do not', async () => {
  await redis.set('resque:pruning_dead_workers_in_progress', 'vm:1:default', 'EX', 60);
  await neighbour('otherhost:99:default', 301);
  const { worker } = await startWorker();
  await worker.stop();
  expect(await redis.smembers('resque:workers')).toEqual(['otherhost:99:default']);
});

test("Ruby would not prune ours, idle or busy: their host is nobody else's, and they beat", async () => {
  await startWorker();
  await redis.rpush('resque:queue:default', '{"class":"GateJob","args":[]}');
  await until('it is shown', async () => (await redis.keys('resque:worker:*')).some((key) => !key.endsWith('started')));
  for (const host of [hostname(), 'elsewhere'])
    for (const queues of ['*', 'default']) expect(await prunedByRuby(host, queues)).toEqual([]);
  const ids = await redis.smembers('resque:workers');
  expect(ids).toHaveLength(2);
  for (const id of ids) expect(id).toMatch(/^[\w.-]+-[0-9a-f]{6}-[12]:\d+:default$/);
});

test('the title of the process is one that Ruby takes for a worker', async () => {
  const before = process.title;
  const { worker } = await startWorker({ processTitle: true });
  expect(process.title).toMatch(/^resque-3\.0\.0: Waiting/);
  await worker.stop();
  expect(process.title).toBe(before);
});

test('two processes with the same name and pid, as in containers, do not meet', async () => {
  await startWorker({ hostname: 'box' });
  await startWorker({ hostname: 'box' });
  expect(new Set(await redis.smembers('resque:workers')).size).toBe(4);
});

test('a dead process of ours is left to the rescue: its job runs again and is no failure', async () => {
  await redis.sadd('resque:jobglot:claimants', 'box-abcdef');
  await redis.hset('resque:jobglot:claims:box-abcdef', '1:default', '{"class":"GateJob","args":["saved"]}');
  await neighbour('box-abcdef-1:9:default', 400, '{"class":"GateJob","args":["saved"]}');
  await neighbour('box-abcdef-2:9:default', 400);
  const { release } = await startWorker({ rescueInterval: 0.1 });
  await until('it runs', async () => (await redis.exists('resque:jobglot:claims:box-abcdef')) === 0);
  release();
  await until('it is done', async () => (await redis.get('resque:stat:processed')) === '1');
  expect(await redis.llen('resque:failed')).toBe(0);
  await until('its workers are off the list', async () => (await redis.smembers('resque:workers')).length === 2);
});
