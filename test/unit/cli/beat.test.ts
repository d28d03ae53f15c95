import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { ensureBuild } from '../../support/setup.mjs';
import { until } from '../../support/until.ts';
import { project, run, start, TASKS } from './run.ts';

beforeAll(ensureBuild);

const CONFIG = `
  import { crontab } from 'jobglot/celery';
  export default {
    celery: {
      timezone: 'Europe/Berlin',
      beatSchedule: {
        add: { task: 'proj.add', schedule: 0.1, args: [2, 3] },
        report: { task: 'proj.report', schedule: crontab('0 7 * * mon-fri') },
      },
    },
  };
`;

describe.concurrent('jobglot beat', () => {
  test.each([
    [['beat'], 'there is nothing to send'],
    [['beat', '--scheduler', 'shelve'], 'Expected redis, redbeat, file or memory'],
    [['beat', '--max-interval', '0'], 'Expected a number of seconds above 0'],
    [['worker', '-B', '-b', 'memory://', '-A', './tasks.js'], 'there is nothing to send'],
  ])('%j is 64, and says why', async (args, words) => {
    const ended = await run(args, { cwd: await project({ 'tasks.js': TASKS }) });
    expect(ended.code, ended.stderr).toBe(64);
    expect(ended.stderr).toContain(words);
  });

  test('names the entry that is wrong', async () => {
    const config = `export default { celery: { beatSchedule: { odd: { task: 'x', schedule: '61 * * * *' } } } };`;
    const ended = await run(['beat', '-b', 'memory://'], { cwd: await project({ 'jobglot.config.js': config }) });
    expect(ended.code).toBe(64);
    expect(ended.stderr).toContain("the beat entry 'odd': minute: Invalid end range: 61 > 59.");
  });

  test('sends what is due until it is told to stop, and keeps the last runs in a file', async () => {
    const cwd = await project({ 'jobglot.config.js': CONFIG });
    const beat = start(['beat', '-s', 'runs.json', '--log-format', 'text'], { cwd });
    await beat.says('beat: sent');
    beat.child.kill('SIGTERM');
    const ended = await beat.ended;
    expect(ended.code, ended.stderr).toBe(0);
    expect(ended.stderr).toMatch(/scheduler=file  timezone=Europe\/Berlin/);
    const { entries } = JSON.parse(await readFile(join(cwd, 'runs.json'), 'utf8')) as {
      readonly entries: Readonly<Record<string, { readonly total_run_count: number }>>;
    };
    expect(entries['add']?.total_run_count).toBeGreaterThan(0);
    expect(entries['report']?.total_run_count).toBe(0);
  });

  test('runs in a worker with -B, and ends before it', async () => {
    const cwd = await project({ 'jobglot.config.js': CONFIG, 'tasks.js': TASKS });
    const worker = start(['worker', '-B', '-A', './tasks.js', '-s', 'runs.json', '--log-format', 'text'], { cwd });
    await until('what the beat sent was run', () => /proj\.add\[[^\]]+\] succeeded/.test(worker.log()));
    worker.child.kill('SIGTERM');
    const ended = await worker.ended;
    expect(ended.code, ended.stderr).toBe(0);
  });
});
