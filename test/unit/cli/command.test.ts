import { cp, mkdir, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { freePort } from '../../support/free-port.ts';
import { ensureBuild, root } from '../../support/setup.mjs';
import { PATIENCE_MS } from '../../support/until.ts';
import { project, run, start, TASKS } from './run.ts';

/** Windows has none of these signals. */
const windows = process.platform === 'win32';
const unix = windows ? ' [skipped: Unix only]' : '';
const nativeTypeScript = Boolean((process.features as { readonly typescript?: unknown }).typescript);

beforeAll(ensureBuild);

describe.concurrent('the exit code', () => {
  test.each([
    [['--version'], 0],
    [['--help'], 0],
    [['worker', '--help'], 0],
    [[], 64],
    [['nonsense'], 64],
    [['worker', '--nonsense'], 64],
    [['worker', '-c', 'many'], 64],
    [['worker', '--celery', 'redis://a', '-b', 'redis://b'], 64],
    [['worker', '-l', 'loud'], 64],
    [['enqueue', 'nonsense', 'name'], 64],
    [['enqueue', 'celery'], 64],
    [['enqueue', 'celery', 'name', '{}'], 64],
    [['result', 'celery', 'some-id'], 64],
    [['worker', '-A', './missing.ts'], 64],
    [['worker', '--config', './missing.ts'], 64],
    [['worker', '-b', 'http://localhost', '-A', './tasks.js'], 64],
    [['worker', '-b', 'redis://localhost'], 64],
  ])('of %j is %i', async (args, code) => {
    const cwd = await project({ 'app/tasks.js': TASKS });
    const ended = await run(args, { cwd });
    expect(ended.code, ended.stderr).toBe(code);
    if (code !== 0) expect(ended.stderr).not.toBe('');
  });

  test.each([
    ['worker', '-A', './tasks.js'],
    ['enqueue', 'celery', 'proj.add'],
  ])('of %s is 69 where the broker cannot be reached, with its URL and without its password', async (...args) => {
    const cwd = await project({ 'tasks.js': TASKS });
    const port = await freePort();
    const ended = await run([...args, '-b', `redis://:hunter2@127.0.0.1:${port}/0`], { cwd });
    expect(ended.code).toBe(69);
    expect(ended.stderr).toContain(`127.0.0.1:${port}`);
    expect(ended.stderr).not.toContain('hunter2');
  });

  test('is 64 with the stack for a task file that throws', async () => {
    const cwd = await project({ 'tasks.js': 'export const tasks = undefined.handle;' });
    const ended = await run(['worker'], { cwd });
    expect(ended.code).toBe(64);
    expect(ended.stderr).toMatch(/tasks\.js cannot be loaded: TypeError/);
    expect(ended.stderr).toMatch(/at .*tasks\.js:1/);
  });
});

describe('a worker in a folder', () => {
  test('runs the tasks of tasks.js with a folder for a broker, says so, and ends 0 on TERM', async () => {
    const cwd = await project({ 'tasks.js': TASKS });
    const worker = start(['worker', '--log-format', 'text'], { cwd });
    await worker.says(' ready');
    expect(worker.log()).toContain('FOR TRYING OUT');
    const sum = await run(['enqueue', 'celery', 'proj.add', '[2, 3]', '--wait', '30'], { cwd });
    expect(sum).toMatchObject({ code: 0, stdout: '5\n' });
    const failed = await run(['enqueue', 'celery', 'proj.fail', '--wait', '30'], { cwd });
    expect(failed).toMatchObject({ code: 1, stdout: '' });
    expect(failed.stderr).toMatch(/FAILURE: TypeError: on purpose\n\nTraceback/);
    const id = failed.stderr.match(/^[0-9a-f-]{36}$/m)?.[0] ?? '';
    expect(JSON.parse((await run(['result', 'celery', id, '--json'], { cwd })).stdout)).toMatchObject({
      status: 'FAILURE',
      task_id: id,
    });
    worker.child.kill('SIGTERM');
    const ended = await worker.ended;
    expect(ended.code, ended.stderr).toBe(0);
    expect(ended.stderr).toMatch(/proj\.add\[[0-9a-f-]+\] succeeded in/);
  });

  test('logs JSON where nobody looks', async () => {
    const cwd = await project({ 'tasks.js': TASKS });
    const worker = start(['worker'], { cwd });
    await worker.says(' ready');
    worker.child.kill('SIGINT');
    const { stderr } = await worker.ended;
    const lines = stderr
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { readonly msg: string });
    expect(lines.map(({ msg }) => msg)).toContain('starting');
  });

  test.skipIf(windows)(
    `takes its options from the config file, stays on TSTP and HUP, tells on USR1, and ends 1 on QUIT with a job running${unix}`,
    async () => {
      const cwd = await project({
        'lib/all.js': TASKS,
        'jobglot.config.js': `
          import { defineConfig } from 'jobglot';
          import { tasks } from './lib/all.js';
          export default defineConfig({
            tasks,
            celery: { broker: 'filesystem://' + import.meta.dirname + '/q', queues: ['own'] },
            logFormat: 'text',
            abortGraceMs: 100,
          });`,
      });
      const worker = start(['worker', '-n', 'w1@%n'], { cwd });
      await worker.says(' ready');
      expect(worker.log()).toMatch(/queues +own/);
      expect(worker.log()).toMatch(/\/q +\(from the config file\)/);
      const { stdout } = await run(['enqueue', 'celery', 'proj.hang', '-Q', 'own'], { cwd });
      for (const deadline = Date.now() + PATIENCE_MS; !worker.log().includes(`"id":"${stdout.trim()}"`);) {
        if (Date.now() > deadline) throw new Error(worker.log());
        worker.child.kill('SIGUSR1');
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      worker.child.kill('SIGTSTP');
      await worker.says('SIGTSTP: quiet');
      worker.child.kill('SIGHUP');
      await worker.says('SIGHUP is ignored');
      worker.child.kill('SIGQUIT');
      expect((await worker.ended).code).toBe(1);
    },
  );

  test.skipIf(windows)(`ends 1 on a second TERM, and on the first with REMAP_SIGTERM=SIGQUIT${unix}`, async () => {
    const cwd = await project({ 'tasks.js': TASKS });
    const remapped = start(['worker'], { cwd, env: { REMAP_SIGTERM: 'SIGQUIT' } });
    await remapped.says(' ready');
    remapped.child.kill('SIGTERM');
    expect((await remapped.ended).code).toBe(1);
    const worker = start(['worker', '--log-format', 'text'], { cwd });
    await worker.says(' ready');
    await run(['enqueue', 'celery', 'proj.hang'], { cwd });
    for (const deadline = Date.now() + PATIENCE_MS; !worker.log().includes('"task":"proj.hang"');) {
      if (Date.now() > deadline) throw new Error(worker.log());
      worker.child.kill('SIGUSR1');
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    worker.child.kill('SIGTERM');
    await worker.says('waiting up to 25 s for 1 running job');
    worker.child.kill('SIGTERM');
    expect((await worker.ended).code).toBe(1);
  });

  test('ends 1 when something throws where nobody catches', async () => {
    const cwd = await project({
      'tasks.js': `${TASKS}; tasks.handle(defineTask('proj.leave'), () => void setTimeout(() => { throw new Error('left alone'); }));`,
    });
    const worker = start(['worker', '--log-format', 'text'], { cwd });
    await worker.says(' ready');
    await run(['enqueue', 'celery', 'proj.leave'], { cwd });
    const ended = await worker.ended;
    expect(ended.code).toBe(1);
    expect(ended.stderr).toContain('left alone');
    expect(ended.stderr).toContain('stopped, not cleanly');
  });
});

describe('a TypeScript task file', () => {
  // An enum would need more than stripping: this runs on every Node.
  const typed = TASKS.replace('let runs = 0;', 'let runs: number = 0;').replace(
    '({ args: [x, y] }) =>',
    '({ args: [x, y] }: any) =>',
  );

  test('runs', async () => {
    const cwd = await project({ 'tasks.ts': typed });
    const worker = start(['worker', '-A', './tasks'], { cwd });
    await worker.says(' ready');
    expect((await run(['enqueue', 'celery', 'proj.add', '[2, 3]', '--wait', '30'], { cwd })).stdout).toBe('5\n');
    worker.child.kill('SIGTERM');
    expect((await worker.ended).code).toBe(0);
  });

  test('of a CommonJS package runs too, and its Retry is one', async () => {
    const cwd = await project({ 'package.json': '{}', 'tasks.ts': typed });
    const worker = start(['worker', '-A', './tasks.ts'], { cwd });
    await worker.says(' ready');
    expect((await run(['enqueue', 'celery', 'proj.flaky', '--wait', '30'], { cwd })).stdout).toBe('3\n');
    worker.child.kill('SIGTERM');
    expect((await worker.ended).code).toBe(0);
  });

  test.skipIf(nativeTypeScript)(
    `is refused with advice where neither Node nor tsx reads it${nativeTypeScript ? ' [skipped: this Node reads TypeScript]' : ''}`,
    async () => {
      const cwd = await project({ 'tasks.ts': typed });
      // A copy, because Node looks for tsx from where a file really is.
      const installed = join(cwd, 'node_modules/jobglot');
      await rm(installed);
      await mkdir(installed);
      await cp(join(root, 'dist'), join(installed, 'dist'), { recursive: true });
      await cp(join(root, 'package.json'), join(installed, 'package.json'));
      for (const name of ['commander', 'ioredis', 'msgpackr', 'yaml']) {
        await symlink(join(root, 'node_modules', name), join(cwd, 'node_modules', name));
      }
      const ended = await run(['worker'], { cwd, bin: join(installed, 'dist/src/cli/index.js') });
      expect(ended.code, ended.stderr).toBe(64);
      expect(ended.stderr).toMatch(/tasks\.ts is TypeScript.*install tsx .*Node 22\.18/);
    },
  );
});

describe('decode', () => {
  test('reads standard input or a file, and says what it is', async () => {
    const cwd = await project({ 'body.json': '[[2, 3], {}, null]' });
    const text = await run(['decode', 'celery'], {
      cwd,
      stdin: '{"status": "SUCCESS", "result": 5, "task_id": "a"}\n',
    });
    expect(text.stdout).toContain('A stored result: "SUCCESS"');
    const json = await run(['decode', 'celery', 'body.json', '--json'], { cwd });
    expect(JSON.parse(json.stdout)).toMatchObject({ kind: 'body' });
    expect((await run(['decode', 'celery'], { cwd, stdin: 'nonsense' })).code).toBe(1);
    // What redis-cli prints for a key that is not there.
    const nothing = await run(['decode', 'rq'], { cwd, stdin: '\n' });
    expect(nothing).toMatchObject({ code: 1, stdout: expect.stringContaining('the input is empty') as string });
    expect((await run(['decode', 'celery', 'missing'], { cwd })).code).toBe(64);
  });
});
