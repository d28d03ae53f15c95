import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { project, run, type Running, start } from '../unit/cli/run.ts';

const TASKS = `
import { writeFileSync } from 'node:fs';
import { defineTask, Tasks } from 'jobglot';
export const tasks = new Tasks()
  .handle(defineTask('OkJob'), ({ args }) => args.length)
  .handle(defineTask('PidJob'), () => { throw new Error('pid ' + process.pid); })
  .handle(defineTask('SlowJob'), () => new Promise((resolve) => setTimeout(resolve, 1_000)))
  .handle(defineTask('NoteJob'), ({ args: [file] }) => { writeFileSync(file, String(process.pid)); return new Promise((resolve) => setTimeout(resolve, 600_000)); })
  .handle(defineTask('HangJob'), (job, { signal }) => new Promise((resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))));
`;

let server: RedisServer;
let redis: Redis;
let cwd: string;
let url: readonly string[];
const running: Running[] = [];

beforeAll(async () => {
  server = await startRedis({ password: 'hunter2' });
  redis = server.client();
  cwd = await project({ 'tasks.js': TASKS });
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

async function worker(args: readonly string[] = [], env: Readonly<Record<string, string>> = {}): Promise<Running> {
  const one = start(['worker', '--resque', server.url, '--log-format', 'text', ...args], { cwd, env });
  running.push(one);
  await one.says('resque ready');
  return one;
}

const ps = (pid: string): Promise<string> =>
  new Promise((resolve) => execFile('ps', ['-o', 'stat=', '-p', pid], (_error, stdout) => resolve(stdout)));

const processed = (count: number): Promise<void> =>
  until(`${count} are processed`, async () => Number(await redis.get('resque:stat:processed')) >= count);

test('enqueue, work, inspect and retry', async () => {
  const sent = await run(['enqueue', 'resque', 'OkJob', '[1.0, 12345678901234567890]', '-q', 'high', ...url], { cwd });
  expect(sent).toMatchObject({ code: 0, stdout: 'OkJob in high\n' });
  expect(await redis.lrange('resque:queue:high', 0, -1)).toEqual([
    '{"class":"OkJob","args":[1.0,12345678901234567890]}',
  ]);
  await run(['enqueue', 'resque', 'PidJob', '-q', 'low', ...url], { cwd });
  const shown = await run(['inspect', 'resque', ...url], { cwd });
  expect(shown.stdout).toBe(
    'high                 1\nlow                  1\n2 pending, 0 processed, 0 failed; 0 of 0 workers at work\n',
  );
  const node = await worker(['-Q', 'high,low', '-c', '2']);
  expect(node.log()).not.toContain('hunter2');
  await processed(2);
  expect((await run(['inspect', 'resque', 'workers', ...url], { cwd })).stdout).toMatch(
    /^(\S+:\d+:high,low: idle; 0 of 1 running; Node; \S+ \d+; seen [\d.]+ s ago; queues high, low\n){2}$/,
  );
  const failed = await run(['inspect', 'resque', 'failed', ...url], { cwd });
  expect(failed.stdout).toMatch(/^0: [\d/]+ [\d:]+ UTC PidJob \[\] of low\n {3}Error: pid \d+ \(/);
  node.child.kill('SIGQUIT');
  expect((await node.ended).code).toBe(0);

  expect((await run(['control', 'resque', 'retry', '0', '--keep', ...url], { cwd })).stdout).toBe('1 retried\n');
  expect(await redis.llen('resque:queue:low')).toBe(1);
  expect(await redis.lindex('resque:failed', 0)).toMatch(/,"retried_at":"[\d/]+ [\d:]+ UTC"\}$/);
  expect(await run(['control', 'resque', 'retry', '--all', ...url], { cwd })).toMatchObject({
    code: 0,
    stdout: '1 retried\n',
  });
  expect(await redis.llen('resque:failed')).toBe(0);
  expect(await run(['control', 'resque', 'delete', '7', ...url], { cwd })).toMatchObject({
    code: 1,
    stderr: '7: no such failure\n',
  });
  expect((await run(['control', 'resque', 'pause', ...url], { cwd })).stdout).toBe('every worker is paused\n');
  expect(await redis.get('resque:pause-all-workers')).toBe('true');
  await run(['control', 'resque', 'resume', ...url], { cwd });
  await run(['control', 'resque', 'remove-queue', 'low', ...url], { cwd });
  expect(await redis.smembers('resque:queues')).toEqual(['high']);
});

test('inspect and control by id, as of every system', async () => {
  await redis.sadd('resque:queues', 'low', 'high');
  await redis.rpush('resque:queue:low', '{"class":"OkJob","args":[1.0],"id":"one"}', '{"class":"OkJob","args":[2]}');
  await redis.rpush(
    'resque:failed',
    '{"failed_at":"2026/11/21 00:15:44 UTC","payload":{"class":"OkJob","args":[3],"id":"three"},"exception":"Boom","error":"no","backtrace":[],"worker":"w:1:q","queue":"high"}',
  );
  const jobglot = (
    ...args: readonly string[]
  ): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }> =>
    run([...args.slice(0, 1), 'resque', ...args.slice(1), ...url], { cwd });
  const overview = await jobglot('inspect', 'overview', '--json');
  expect(JSON.parse(overview.stdout)).toMatchObject({ counts: { queued: 2, failed: 1, delayed: 0 }, workers: 0 });
  expect((await jobglot('inspect', 'queues')).stdout).toMatch(/^high +0 jobs.*\nlow +2 jobs/);
  expect((await jobglot('inspect', 'jobs', 'queued', '-q', 'low', '--limit', '1')).stdout).toMatch(
    /^one OkJob\(1\.0\), of low, queued\nmore with --cursor /,
  );
  const job = await jobglot('inspect', 'job', 'three');
  expect(job.stdout).toMatch(/^id +three\nset +failed\n/);
  expect(job.stdout).toContain('Boom: no');
  expect(await jobglot('control', 'retry', 'three')).toMatchObject({ code: 0, stdout: 'retry: 1 done\n' });
  expect(await redis.lrange('resque:queue:high', 0, -1)).toEqual(['{"class":"OkJob","args":[3],"id":"three"}']);
  expect(await jobglot('control', 'delete', 'one', 'nowhere')).toMatchObject({
    code: 1,
    stdout: 'delete: 1 done, 1 gone\n',
    stderr: expect.stringMatching(/^nowhere: gone$/m),
  });
  expect(await jobglot('control', 'delete', '--set', 'queued', '--task', 'OkJob')).toMatchObject({
    code: 0,
    stdout: 'delete: 2 done\n',
  });
  expect(await jobglot('control', 'pause', 'low')).toMatchObject({
    code: 64,
    stderr: expect.stringContaining('Resque has no pause of one queue'),
  });
  expect(await jobglot('control', 'unregister', 'none:1:q')).toMatchObject({ code: 1, stderr: 'none:1:q: gone\n' });
  expect(await jobglot('inspect', 'nonsense')).toMatchObject({
    code: 64,
    stderr: expect.stringContaining('shows info, working, failed, overview'),
  });
});

test("Resque's environment and signals: QUEUE, PIDFILE, USR2, CONT, USR1, QUIT", async () => {
  const node = await worker([], { QUEUE: 'default', COUNT: '2', PIDFILE: 'worker.pid' });
  expect(Number(await readFile(join(cwd, 'worker.pid'), 'utf8'))).toBe(node.child.pid);
  expect(await redis.scard('resque:workers')).toBe(2);
  node.child.kill('SIGUSR2');
  await node.says('paused');
  await run(['enqueue', 'resque', 'HangJob', ...url], { cwd });
  expect(await redis.llen('resque:queue:default')).toBe(1);
  node.child.kill('SIGCONT');
  await until('it runs', async () => (await redis.keys('resque:worker:*')).some((key) => !key.endsWith('started')));
  node.child.kill('SIGUSR1');
  await processed(1);
  expect(JSON.parse((await redis.lindex('resque:failed', 0)) ?? '')).toMatchObject({ exception: 'Resque::DirtyExit' });
  await run(['enqueue', 'resque', 'SlowJob', ...url], { cwd });
  await until('it runs', async () => (await redis.keys('resque:worker:*')).some((key) => !key.endsWith('started')));
  node.child.kill('SIGQUIT');
  expect((await node.ended).code).toBe(0);
  expect(await redis.get('resque:stat:processed')).toBe('2');
  expect(await redis.llen('resque:failed')).toBe(1);
  await expect(readFile(join(cwd, 'worker.pid'))).rejects.toThrow('ENOENT');
});

test('INTERVAL=0: what is there is worked, and the worker ends', async () => {
  await redis.sadd('resque:queues', 'default', 'other');
  await redis.rpush('resque:queue:default', '{"class":"SlowJob","args":[]}', '{"class":"Unknown","args":[]}');
  await redis.rpush('resque:queue:other', '{"class":"OkJob","args":[]}');
  const node = await worker(['-Q', 'default,other', '-c', '1'], { INTERVAL: '0' });
  expect(node.log()).toContain('ends when the queues are empty');
  expect((await node.ended).code).toBe(0);
  expect(await redis.get('resque:stat:processed')).toBe('2');
  // What nobody handles here is left for others.
  expect(await redis.lrange('resque:queue:default', 0, -1)).toEqual(['{"class":"Unknown","args":[]}']);
  expect(await redis.keys('resque:jobglot:claims:*')).toEqual([]);
  // A worker that is paused finds nothing, and ends too.
  await redis.rpush('resque:queue:other', '{"class":"OkJob","args":[]}');
  await redis.set('resque:pause-all-workers', 'true');
  const paused = await worker(['-Q', 'other', '--interval', '0']);
  expect((await paused.ended).code).toBe(0);
  expect(await redis.llen('resque:queue:other')).toBe(1);
});

test('a process for each job', async () => {
  const node = await worker(['--fork-per-job', '-Q', 'default']);
  await run(['enqueue', 'resque', 'PidJob', ...url], { cwd });
  await processed(1);
  const { error } = JSON.parse((await redis.lindex('resque:failed', 0)) ?? '') as { error: string };
  expect(error).toMatch(/^pid \d+$/);
  expect(error).not.toBe(`pid ${node.child.pid}`);
  node.child.kill('SIGTERM');
  expect((await node.ended).code).toBe(0);
});

test('the process of a job ends with its worker, and the job is kept for another', async () => {
  const node = await worker(['--fork-per-job', '-Q', 'default']);
  const file = join(cwd, 'job.pid');
  await run(['enqueue', 'resque', 'NoteJob', JSON.stringify([file]), ...url], { cwd });
  const pid = (): Promise<string> => readFile(file, 'utf8').catch(() => '');
  await until('it runs', async () => (await pid()) !== '');
  node.child.kill('SIGKILL');
  await node.ended;
  // Where nobody waits for it, a process that ended is still listed.
  const state = async (): Promise<string> => (await ps(await pid())).trim();
  await until('its process is gone', async () => /^Z?$/.test((await state()).slice(0, 1)));
  const [claims] = await redis.keys('resque:jobglot:claims:*');
  expect(await redis.hvals(claims!)).toEqual([`{"class":"NoteJob","args":["${file}"]}`]);
  expect(await redis.llen('resque:failed')).toBe(0);
});

test('a process for each job, of tasks in TypeScript', async () => {
  const own = await project({
    'tasks.ts': `${TASKS}\nexport const typed: number = 1;`,
  });
  const node = start(
    ['worker', '-A', 'tasks.ts', '--resque', server.url, '--fork-per-job', '-Q', 'default', '--log-format', 'text'],
    { cwd: own },
  );
  running.push(node);
  await node.says('resque ready');
  await run(['enqueue', 'resque', 'PidJob', ...url], { cwd });
  await processed(1);
  expect(JSON.parse((await redis.lindex('resque:failed', 0)) ?? '')).toMatchObject({
    error: expect.stringMatching(/^pid \d+$/) as string,
  });
  node.child.kill('SIGTERM');
  expect((await node.ended).code).toBe(0);
});

test('what is in a queue is explained', async () => {
  const told = await run(['decode', 'resque'], { cwd, stdin: '{"class":"OkJob","args":[1.0],"queue":"low"}\n' });
  expect(told.code).toBe(0);
  expect(told.stdout).toContain('A delayed job: OkJob');
});

test('BACKGROUND: the worker goes on behind, under the pid in PIDFILE', async () => {
  const file = join(cwd, 'background.pid');
  const env = { BACKGROUND: 'yes', PIDFILE: file };
  expect(await run(['worker', '--resque', server.url, '-Q', 'high'], { cwd, env })).toMatchObject({ code: 0 });
  let pid = 0;
  await until('its pid is told', async () => {
    pid = Number(await readFile(file, 'utf8').catch(() => ''));
    return pid > 0;
  });
  try {
    await run(['enqueue', 'resque', 'OkJob', '-q', 'high', ...url], { cwd });
    await processed(1);
  } finally {
    process.kill(pid, 'SIGTERM');
  }
  await until('it has stopped', async () => (await ps(String(pid))) === '');
});
