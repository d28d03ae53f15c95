import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type RedisServer, startRedis, until } from '../support/redis.ts';
import { project, run, start, TASKS } from '../unit/cli/run.ts';
import { rqBurst, rqPython } from './support/rq-python.ts';

const environment = 'rq-2.10';
let redis: RedisServer;
let raw: Redis;
let cwd: string;
let env: Readonly<Record<string, string>>;

beforeAll(async () => {
  redis = await startRedis({ password: 'hunter2' });
  raw = redis.client();
  cwd = await project({ 'tasks.js': TASKS });
  env = { RQ_REDIS_URL: redis.url };
});
beforeEach(async () => {
  await raw.flushall();
});
afterAll(async () => {
  await redis?.[Symbol.asyncDispose]();
});

const python = (code: string): Promise<unknown> => rqPython(environment, redis.url, code);

test('a worker runs jobs of two queues for Python until it is told to stop, and shows no password', async () => {
  const worker = start(['worker', '--rq', redis.url, '-Q', 'high,default', '-c', '4', '--log-format', 'text'], { cwd });
  await worker.says(' ready');
  const values = (await python(`
from rq import Queue
import time
jobs = [Queue(name, connection=connection).enqueue('proj.add', 2, 3) for name in ('high', 'default')]
failed = Queue('high', connection=connection).enqueue('proj.fail')
for job in jobs + [failed]:
    while not job.is_finished and not job.is_failed:
        time.sleep(0.01)
show([job.return_value() for job in jobs] + [failed.latest_result().exc_string])`)) as unknown[];
  expect(values.slice(0, 2)).toEqual([5, 5]);
  expect(values[2]).toContain('TypeError: on purpose');
  const info = await run(['inspect', 'rq'], { cwd, env });
  expect(info.stdout).toMatch(
    /^default {6}\| 0, 0 executing, 1 finished, 0 failed\nhigh {9}\| 0, 0 executing, 1 finished, 1 failed\n2 queues, 0 jobs total\n/,
  );
  expect(info.stdout).toMatch(/: idle high, default\. jobs: 2 finished, 1 failed\n1 workers, 2 queues\n/);
  worker.child.kill('SIGTERM');
  const ended = await worker.ended;
  expect(ended.code, ended.stderr).toBe(0);
  expect(ended.stderr).toMatch(/queues +high, default/);
  expect(ended.stderr).toMatch(/broker +redis:\/\/.*\(from --rq\)/);
  expect(ended.stderr).not.toContain('hunter2');
});

test('a burst ends when the queues are empty', async () => {
  await python(`
from rq import Queue
for number in range(20):
    Queue('default', connection=connection).enqueue('proj.add', number, 1)`);
  const ended = await run(['worker', '--rq', redis.url, '--burst', '--name', 'burst'], { cwd });
  expect(ended.code, ended.stderr).toBe(0);
  expect(await raw.zcard('rq:finished:default')).toBe(20);
});

describe('beside a Python worker', () => {
  test('enqueue and result: what goes there is what was written, and what comes back', async () => {
    const sent = await run(
      ['enqueue', 'rq', 'rq_client_jobs.describe', 'a', ':[1.0]', '%(1, b"x")', 'k:=12345678901234567890'],
      {
        cwd,
        env,
      },
    );
    expect(sent.code, sent.stderr).toBe(0);
    const failing = await run(['enqueue', 'rq', 'rq_client_jobs.fail', 'no', '--json'], { cwd, env });
    await rqBurst(environment, redis.url, ['default']);
    const shown = await run(['result', 'rq', sent.stdout.trim()], { cwd, env });
    expect(JSON.parse(shown.stdout)).toEqual([
      ["str: 'a'", 'list: [1.0]', "tuple: (1, b'x')"],
      { k: '12345678901234567890' },
    ]);
    const { id } = JSON.parse(failing.stdout) as { readonly id: string };
    const failed = await run(['result', 'rq', id], { cwd, env });
    expect(failed.code).toBe(1);
    expect(failed.stderr).toMatch(/ is failed\n\nTraceback \(most recent call last\):[^]*ValueError: no\n$/);
    expect((await run(['result', 'rq', 'nobody'], { cwd, env })).code).toBe(1);
    const json = await run(['result', 'rq', id, '--json'], { cwd, env });
    expect(JSON.parse(json.stdout)).toMatchObject({ id, status: 'failed', type: 'failed', return_value: null });
    const value = await run(['decode', 'rq'], { cwd, stdin: 'gAVLBS4=\n' });
    expect(value.stdout).toContain('A value, pickle, in base64');
  });

  test('enqueue --wait prints what the job returned', async () => {
    const waiting = run(['enqueue', 'rq', 'rq_client_jobs.add', ':2', ':3', '--wait', '60'], { cwd, env });
    await until('it is enqueued', async () => (await raw.llen('rq:queue:default')) === 1);
    await rqBurst(environment, redis.url, ['default']);
    expect(await waiting).toMatchObject({ code: 0, stdout: '5\n' });
  });

  test('enqueue takes the options of rq enqueue', async () => {
    const flags = [
      '-q',
      'q',
      '--timeout',
      '3m',
      '--result-ttl',
      '1h',
      '--ttl',
      '10m',
      '--at-front',
      '--retry-max',
      '2',
    ];
    const more = ['--retry-interval', '5', '--retry-interval', '6', '--job-id', 'mine', '--meta', '{"a": 1.0}'];
    const sent = await run(['enqueue', 'rq', 'app.send', 'x', ...flags, ...more], { cwd, env });
    expect(sent).toMatchObject({ code: 0, stdout: 'mine\n' });
    await run(['enqueue', 'rq', 'app.send', '--depends-on', 'mine', '--job-id', 'next'], { cwd, env });
    await run(['enqueue', 'rq', 'app.send', '--schedule-in', '1h', '--job-id', 'later', '-S', 'json'], { cwd, env });
    expect(
      await python(`
from rq.job import Job
job = Job.fetch('mine', connection=connection)
show([job.description, job.origin, job.timeout, job.result_ttl, job.ttl, job.retries_left, job.retry_intervals, repr(job.meta),
  [Job.fetch(id, connection=connection).get_status() for id in ('mine', 'next', 'later')]])`),
    ).toEqual(["app.send('x')", 'q', 180, 3600, 600, 2, [5, 6], "{'a': 1.0}", ['queued', 'deferred', 'scheduled']]);
    const twice = await run(['enqueue', 'rq', 'app.send', '--job-id', 'mine', '--unique'], { cwd, env });
    expect(twice.code).toBe(1);
    expect(twice.stderr).toContain('a job mine is there already');
    expect((await run(['enqueue', 'rq', 'app.send', '--timeout', '0'], { cwd, env })).code).toBe(64);
  });

  test('requeue, empty, suspend and resume do what those of rq do', async () => {
    await run(['enqueue', 'rq', 'rq_client_jobs.fail', 'x', '--job-id', 'failed'], { cwd, env });
    await rqBurst(environment, redis.url, ['default']);
    expect((await run(['inspect', 'rq', '-r', '-Q'], { cwd, env })).stdout).toBe(
      'queue default 0, 0 executing, 0 finished, 1 failed\n',
    );
    expect(await run(['requeue', 'rq', '--queue', 'default', '--all'], { cwd, env })).toMatchObject({
      code: 0,
      stdout: 'Requeueing 1 jobs from failed queue\n',
    });
    expect((await run(['requeue', 'rq', '--queue', 'default', 'failed'], { cwd, env })).code).toBe(1);
    expect(await run(['suspend', 'rq', '--duration', '100'], { cwd, env })).toMatchObject({ code: 0 });
    expect(await raw.ttl('rq:suspended')).toBeGreaterThan(0);
    await run(['resume', 'rq'], { cwd, env });
    expect(await raw.exists('rq:suspended')).toBe(0);
    expect((await run(['empty', 'rq', 'default'], { cwd, env })).stdout).toBe('1 jobs removed from default queue\n');
    expect((await run(['requeue', 'rq', '--queue', 'default', '-a'], { cwd, env })).stdout).toBe('Nothing to do\n');
    expect(JSON.parse((await run(['inspect', 'rq', '--json'], { cwd, env })).stdout)).toMatchObject({
      queues: [{ name: 'default', queued: 0, failed: 0 }],
      workers: [],
    });
  });
});

test('what rq info shows of us is what we show of ourselves', async () => {
  await run(['enqueue', 'rq', 'proj.add', ':1', ':2', '-q', 'other'], { cwd, env });
  const worker = start(['worker', '--rq', redis.url, '-Q', 'default', '--name', 'w1'], { cwd });
  await worker.says('ready');
  const theirs = (await python(`
import subprocess
show(subprocess.run([sys.executable, '-m', 'rq.cli', 'info', '-r', '-u', os.environ['URL']], capture_output=True, text=True).stdout)`)) as string;
  const ours = (await run(['inspect', 'rq', '-r'], { cwd, env })).stdout;
  expect(ours.split('\n').sort()).toEqual(theirs.split('\n').sort());
  expect(await run(['control', 'rq', 'shutdown', 'w1'], { cwd, env })).toMatchObject({ code: 0 });
  expect((await worker.ended).code).toBe(0);
  expect((await run(['control', 'rq', 'shutdown', 'w1'], { cwd, env })).code).toBe(1);
});

test('Redis that cannot be reached is told with its URL and without its password, and what names it', async () => {
  const ended = await run(['inspect', 'rq', '-u', 'redis://:hunter2@127.0.0.1:1/0'], { cwd });
  expect(ended.code).toBe(69);
  expect(ended.stderr).toContain('127.0.0.1:1');
  expect(ended.stderr).toContain('RQ_REDIS_URL');
  expect(ended.stderr).not.toContain('hunter2');
});
