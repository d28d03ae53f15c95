import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PythonCelery, type PythonWorker, startPythonWorker } from '../support/python.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { project, run, start, TASKS } from '../unit/cli/run.ts';

let redis: RedisServer;
let cwd: string;

beforeAll(async () => {
  redis = await startRedis({ password: 'hunter2' });
  cwd = await project({ 'tasks.js': TASKS });
});

afterAll(async () => {
  await redis[Symbol.asyncDispose]();
});

describe('enqueue, to a Python worker', () => {
  let worker: PythonWorker;
  let where: readonly string[];

  beforeAll(async () => {
    where = ['--broker', redis.urlOf(0), '--backend', redis.urlOf(1)];
    worker = await startPythonWorker('5.6', { broker: redis.urlOf(0), backend: redis.urlOf(1) });
  });

  afterAll(async () => {
    await worker[Symbol.asyncDispose]();
  });

  test('keeps floats and large integers what they are, there and back', async () => {
    const args = ['enqueue', 'celery', 'py.describe', '[1.0, 12345678901234567890, "é"]', '--kwargs', '{"x": 1e3}'];
    const described = await run([...args, '--wait', '30', ...where], { cwd });
    expect(described.code, described.stderr).toBe(0);
    expect(JSON.parse(described.stdout)).toEqual([
      ['float: 1.0', 'int: 12345678901234567890', "str: 'é'"],
      { x: '1000.0' },
    ]);
    const echoed = await run(['enqueue', 'celery', 'py.echo', '[2.0]', '--wait', '30', ...where], { cwd });
    expect(echoed.stdout).toBe('[[2.0], {}]\n');
  });

  test('shows a Python error with its traceback, and ends 1', async () => {
    const failed = await run(
      ['enqueue', 'celery', 'py.fail', '["KeyError", "no such thing"]', '--wait', '30', ...where],
      { cwd },
    );
    expect(failed).toMatchObject({ code: 1, stdout: '' });
    expect(failed.stderr).toMatch(/FAILURE: KeyError: no such thing\n\nTraceback \(most recent call last\):/);
    const id = failed.stderr.match(/^[0-9a-f-]{36}$/m)?.[0] ?? '';
    const again = await run(['result', 'celery', id, '--backend', redis.urlOf(1)], { cwd });
    expect(again.code).toBe(1);
    expect(again.stderr).toContain('KeyError: no such thing');
  });
});

test('a worker runs tasks for Python until it is told to stop, and shows no password', async () => {
  const worker = start(['worker', '--celery', redis.urlOf(2), '-Q', 'node,other', '-c', '4', '--log-format', 'text'], {
    cwd,
  });
  await worker.says(' ready');
  await using python = await PythonCelery.start('5.6', { broker: redis.urlOf(2), backend: redis.urlOf(2) });
  expect(await python.value(await python.send('proj.add', [2, 3], {}, { queue: 'node' }))).toBe(5);
  expect(await python.value(await python.send('proj.flaky', [], {}, { queue: 'other' }))).toBe(3);
  const outcome = await python.get(await python.send('proj.fail', [], {}, { queue: 'node' }));
  expect(outcome).toMatchObject({ ok: false, type: 'TypeError', message: 'on purpose' });
  worker.child.kill('SIGTERM');
  const ended = await worker.ended;
  expect(ended.code, ended.stderr).toBe(0);
  expect(ended.stderr).toMatch(/queues +node, other/);
  expect(ended.stderr).not.toContain('hunter2');
});

test('the folder for trying out is one for Python too, as the banner says', async () => {
  const folder = join(cwd, '.jobglot');
  const worker = start(['worker', '--log-format', 'text'], { cwd });
  await worker.says(' ready');
  expect(worker.log()).toContain(`'data_folder_in': "${folder}/queue"`);
  await using python = await PythonCelery.start('5.6', {
    broker: 'filesystem://',
    backend: `file://${folder}/results`,
    config: {
      broker_transport_options: {
        data_folder_in: `${folder}/queue`,
        data_folder_out: `${folder}/queue`,
        control_folder: `${folder}/control`,
      },
    },
  });
  expect(await python.value(await python.send('proj.add', [2, 3]))).toBe(5);
  worker.child.kill('SIGTERM');
  expect((await worker.ended).code).toBe(0);
});

test('decode explains what Python has put into Redis', async () => {
  await using python = await PythonCelery.start('5.6', { broker: redis.urlOf(3), backend: redis.urlOf(3) });
  const id = await python.send('proj.add', [2, 3], {}, { countdown: 3600 });
  const client = redis.client({ db: 3 });
  const message = (await client.lindex('celery', 0)) ?? '';
  const { code, stdout } = await run(['decode', 'celery', '-', '--json'], { cwd, stdin: message });
  expect(code).toBe(0);
  const { kind, summary, sections, warnings } = JSON.parse(stdout) as {
    readonly kind: string;
    readonly summary: string;
    readonly sections: readonly {
      readonly fields: readonly { readonly name: string; readonly value: string; readonly meaning: string }[];
    }[];
    readonly warnings: readonly { readonly effect: string }[];
  };
  expect({ kind, summary }).toEqual({
    kind: 'task',
    summary: 'A task message of protocol 2: proj.add for the queue "celery".',
  });
  const fields = sections.flatMap((section) => section.fields);
  expect(fields.find(({ name }) => name === 'id')?.value).toBe(`"${id}"`);
  expect(fields.filter(({ meaning }) => /not known|of the sender's own/.test(meaning))).toEqual([]);
  expect(warnings.map(({ effect }) => effect)).toEqual(['note']);
});
