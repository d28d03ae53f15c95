import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { crontab, nextAfter } from '../../protocols/rq/crontab.ts';
import { RqClient, RqCron, type RqCronJob } from '../../src/drivers/rq/index.ts';
import { temporaryFolder } from '../support/folder.ts';
import { type RedisServer, startRedis, until } from '../support/redis.ts';
import { project, start } from '../unit/cli/run.ts';
import { rqBurst, rqPython } from './support/rq-python.ts';

let redis: RedisServer;
let raw: Redis;
let client: RqClient;

beforeAll(async () => {
  redis = await startRedis({ persistence: true });
  raw = redis.client();
  client = new RqClient({ url: redis.url });
});
beforeEach(async () => {
  await raw.flushall();
});
afterAll(async () => {
  await client?.close();
  await redis?.[Symbol.asyncDispose]();
});

const every = (interval: number): RqCronJob => ({
  func: 'rq_client_jobs.add',
  queueName: 'default',
  args: [1, 2],
  interval,
});

describe('beside RQ 2.10', () => {
  test('Python lists it with its jobs, and runs what it sends', async () => {
    await using cron = new RqCron({
      url: redis.url,
      name: 'host:1:abcdef',
      configFile: 'jobglot.config.ts',
      jobs: [
        {
          ...every(3600),
          jobTimeout: '1m',
          meta: { a: 1 },
          webhooks: [{ url: 'http://127.0.0.1:1/', jobStatus: 'failed' }],
        },
        { func: 'rq_client_jobs.nothing', queueName: 'slow', cron: '0 7 * * mon-fri', kwargs: { x: 1 } },
      ],
    });
    await cron.start();
    expect(
      await rqPython(
        'rq-2.10',
        redis.url,
        `
from rq.cron import CronScheduler
[found] = CronScheduler.all(connection)
jobs = found.get_jobs()
show([found.name, found.config_file, found.last_heartbeat is not None, [[job.func_name, job.queue_name, job.args, job.kwargs, job.interval, job.cron, job.job_options.get('job_timeout'),
  job.job_options.get('meta'), job.latest_enqueue_time is not None, job.next_enqueue_time is not None] for job in jobs], len(jobs[0].job_options['webhooks'])])`,
      ),
    ).toEqual([
      'host:1:abcdef',
      'jobglot.config.ts',
      true,
      [
        ['rq_client_jobs.add', 'default', [1, 2], {}, 3600, null, 60, { a: 1 }, true, true],
        ['rq_client_jobs.nothing', 'slow', [], { x: 1 }, null, '0 7 * * mon-fri', null, null, false, true],
      ],
      1,
    ]);
    const [id] = await client.queue().ids();
    await rqBurst('rq-2.10', redis.url, ['default']);
    expect(await client.job(id as string).get()).toBe(3);
    await cron.stop();
    expect(
      await rqPython('rq-2.10', redis.url, `from rq.cron import CronScheduler; show(CronScheduler.all(connection))`),
    ).toEqual([]);
  });
});

test('several with the same jobs send each run once, and a restart sends none anew', async () => {
  const often = { ...every(1), func: 'rq_client_jobs.nothing', args: [] };
  const crons = [1, 2, 3].map(() => new RqCron({ url: redis.url, jobs: [often, every(3600), every(3600)] }));
  await Promise.all(crons.map((cron) => cron.start()));
  await until('five runs', async () => (await raw.llen('rq:queue:default')) >= 5);
  await Promise.all(crons.map((cron) => cron.stop()));
  const jobs = await client.queue().jobs();
  const hourly = jobs.filter(({ job }) => job.description === 'rq_client_jobs.add(1, 2)');
  // They are the same, and two.
  expect(hourly).toHaveLength(2);
  const times = jobs.filter((job) => !hourly.includes(job)).map(({ job }) => job.createdAt?.getTime() ?? 0);
  times.sort((a, b) => a - b);
  for (const [at, time] of times.entries())
    if (at > 0) expect(time - (times[at - 1] as number)).toBeGreaterThanOrEqual(1000);
  await using again = new RqCron({ url: redis.url, jobs: [every(3600), every(3600)] });
  await again.start();
  expect(await raw.llen('rq:queue:default')).toBe(jobs.length);
});

test('a run of a crontab is sent once, by whoever is there', async () => {
  const jobs: RqCronJob[] = [{ func: 'f', queueName: 'default', cron: '* * * * * *' }];
  await using first = new RqCron({ url: redis.url, jobs });
  await using second = new RqCron({ url: redis.url, jobs });
  await Promise.all([first.start(), second.start()]);
  await until('a run', async () => (await raw.llen('rq:queue:default')) >= 1);
  await first.stop();
  const so = await raw.llen('rq:queue:default');
  await until('more runs', async () => (await raw.llen('rq:queue:default')) >= so + 2);
  await second.stop();
  const slots = (await client.queue().jobs()).map(({ job }) => Math.floor((job.createdAt?.getTime() ?? 0) / 1000));
  expect(new Set(slots).size).toBe(slots.length);
});

test('it goes on when Redis was away', async () => {
  await using cron = new RqCron({ url: redis.url, jobs: [every(1)] });
  await cron.start();
  await redis.kill();
  await redis.restart();
  await until('more runs', async () => (await redis.client().llen('rq:queue:default')) >= 2);
});

test('the command sends what the config file says until it is told to stop', async () => {
  const cwd = await project({
    'jobglot.config.js': `
      import { defineConfig } from 'jobglot';
      export default defineConfig({ rq: { cron: [{ func: 'app.tidy', queueName: 'default', interval: 60 }] }, logFormat: 'text' });`,
  });
  const cron = start(['cron', 'rq', '--url', redis.url, '--name', 'c1'], { cwd });
  await cron.says('enqueued');
  expect(await redis.client().zrange('rq:cron_schedulers', '0', '-1')).toEqual(['c1']);
  cron.child.kill('SIGTERM');
  const ended = await cron.ended;
  expect(ended.code, ended.stderr).toBe(0);
  expect(await redis.client().zrange('rq:cron_schedulers', '0', '-1')).toEqual([]);
  const none = start(['cron', 'rq', '--url', redis.url], { cwd: await project() });
  expect((await none.ended).code).toBe(64);
});

test('expressions mean what they mean to croniter, or are refused', async () => {
  const number = (least: number, most: number): fc.Arbitrary<string> =>
    fc.integer({ min: least, max: most }).map(String);
  const field = (least: number, most: number, more: readonly string[] = []): fc.Arbitrary<string> => {
    const value = more.length === 0 ? number(least, most) : fc.oneof(number(least, most), fc.constantFrom(...more));
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.constant('') },
      { weight: 1, arbitrary: number(1, 9).map((by) => `/${by}`) },
    );
    const range = fc.tuple(value, value, step).map(([from, to, by]) => `${from}-${to}${by}`);
    const item = fc.oneof(
      value,
      range,
      number(1, 9).map((by) => `*/${by}`),
      fc.tuple(value, number(1, 9)).map(([from, by]) => `${from}/${by}`),
    );
    return fc.oneof(
      fc.constant('*'),
      item,
      fc.array(item, { minLength: 2, maxLength: 3 }).map((items) => items.join(',')),
    );
  };
  const expression = fc
    .tuple(
      field(0, 59),
      field(0, 23),
      fc.oneof(field(1, 31), fc.constant('l')),
      field(1, 12, ['jan', 'feb', 'dec']),
      fc.oneof(field(0, 7, ['sun', 'mon', 'sat']), fc.constantFrom('2#3', 'fri#1', 'l5')),
      fc.constantFrom('', '', '', ' 0', ' */20'),
    )
    .map((fields) => `${fields.slice(0, 5).join(' ')}${fields[5]}`);
  const start = new Date('2026-11-21T10:20:30Z');
  const expressions = fc.sample(expression, { numRuns: 1500, seed: 7 });
  const path = join(temporaryFolder('jobglot-cron-'), 'expressions.json');
  await writeFile(path, JSON.stringify(expressions));
  const theirs = (await rqPython(
    'rq-2.10',
    redis.url,
    `
from croniter import croniter
def times(text):
    try:
        after = croniter(text, datetime(2026, 11, 21, 10, 20, 30, tzinfo=timezone.utc))
        return [int(after.get_next(datetime).timestamp()) for _ in range(3)]
    except Exception:
        return None
show([times(text) for text in json.load(open(${JSON.stringify(path)}))])`,
  )) as readonly (readonly number[] | null)[];
  let read = 0;
  for (const [at, text] of expressions.entries()) {
    const ours = timesOf(text, start);
    if (ours === undefined) continue;
    read++;
    expect([text, ours]).toEqual([text, theirs[at]]);
  }
  expect(read).toBeGreaterThan(700);
});

function timesOf(text: string, start: Date): readonly number[] | undefined {
  try {
    const tab = crontab(text);
    let at = start;
    return [1, 2, 3].map(() => (at = nextAfter(tab, at)).getTime() / 1000);
  } catch {
    return undefined;
  }
}
