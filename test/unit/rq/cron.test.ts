import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import * as cron from '../../../protocols/rq/cron.ts';
import { crontab } from '../../../protocols/rq/crontab.ts';
import { rq, RqClient, RqCron } from '../../../src/drivers/rq/index.ts';
import { ConfigError } from '../../../src/index.ts';
import { root } from '../../support/setup.mjs';

interface Fixture {
  readonly wire: readonly { readonly command: readonly { readonly text?: string }[] }[];
}

/** The commands that a real CronScheduler sent. */
const { wire } = JSON.parse(readFileSync(join(root, 'fixtures/rq/2.10/cron.json'), 'utf8')) as Fixture;
const sent = wire.map(({ command }) => command.map(({ text }) => text));

const now = new Date('2026-11-21T00:01:25.636Z');
const scheduler = { name: 'worker1:72:5eed00', hostname: 'worker1', pid: 72, createdAt: now, configFile: '' };
const seconds: cron.CronEntry = {
  funcName: 'tasks.add',
  queueName: 'default',
  args: [2, 3],
  kwargs: {},
  schedule: { interval: 60 },
  jobTimeout: 30,
  ttl: 600,
  resultTtl: 60,
  meta: { a: 1 },
};
const minutes: cron.CronEntry = {
  funcName: 'tasks.nothing',
  queueName: 'mail',
  args: [],
  kwargs: {},
  schedule: { cron: crontab('*/5 * * * *') },
  resultTtl: 500,
};

describe('what a cron shows is what RQ 2.10 shows', () => {
  it('at birth', () => {
    const next = cron.nextTime(minutes, undefined, now);
    const records = [
      cron.cronRecord(seconds, { latest: undefined, next: undefined }),
      cron.cronRecord(minutes, { latest: undefined, next }),
    ];
    const [added, set, expire] = cron.beat(scheduler, records, now, 60).commands;
    expect(added?.slice(1).map(String)).toEqual(['rq:cron_schedulers', '1795219285.636', 'worker1:72:5eed00']);
    expect(set?.map(String)).toEqual(sent.find(([name]) => name === 'HSET'));
    expect(expire?.map(String)).toEqual(sent.find(([name]) => name === 'EXPIRE'));
  });

  it('after a run', () => {
    const latest = now.getTime();
    const record = cron.cronRecord(seconds, { latest, next: cron.nextTime(seconds, latest, now) });
    const later = sent.find((command) => command[0] === 'HSET' && command[2] === 'cron_jobs')?.[3] ?? '';
    expect(record).toEqual((JSON.parse(later) as unknown[])[0]);
  });

  it('names what JSON cannot hold', () => {
    const { args, kwargs } = cron.cronRecord(
      { ...seconds, args: [Buffer.from('x')], kwargs: { a: 1 } },
      { latest: undefined, next: undefined },
    );
    expect([args, kwargs]).toEqual(['<not JSON serializable>', '{"a": 1}']);
  });
});

describe('nextTime', () => {
  it('of seconds is at once, and then so many later', () => {
    expect(cron.nextTime(seconds, undefined, now)).toBe(now.getTime());
    expect(cron.nextTime(seconds, 1000, now)).toBe(61_000);
  });
  it('of a crontab is the next it names', () => {
    expect(new Date(cron.nextTime(minutes, undefined, now)).toISOString()).toBe('2026-11-21T00:05:00.000Z');
    expect(new Date(cron.nextTime(minutes, Date.parse('2026-11-21T00:05:00.001Z'), now)).toISOString()).toBe(
      '2026-11-21T00:10:00.000Z',
    );
  });
});

describe('RqCron', () => {
  it.each<[object, RegExp]>([
    [{ func: 'f', queueName: 'q' }, /rq: the cron job f: pass either interval or cron/],
    [{ func: 'f', queueName: 'q', interval: 1, cron: '* * * * *' }, /pass either/],
    [{ func: 'f', queueName: 'q', interval: 0 }, /interval must be seconds above 0/],
    [{ func: 'f', queueName: 'q', cron: '* * *' }, /the cron job f: cron '\* \* \*': it has 3 fields/],
    [{ func: 'f', queueName: 'q', cron: '0 0 31 2 *' }, /it never comes/],
    [{ func: 'f', queueName: 'a,b', interval: 1 }, /cannot name a queue/],
    [{ func: 'f', queueName: 'q', interval: 1, ttl: 0 }, /the cron job f: ttl must be above 0/],
    [{ func: '', queueName: 'q', interval: 1 }, /func needs a name/],
  ])('refuses %j', (job, message) => {
    const make = (): unknown => new RqCron({ url: 'redis://localhost', jobs: [job as never] });
    expect(make).toThrow(ConfigError);
    expect(make).toThrow(message);
  });
  it('refuses a Redis Cluster, as the client and the worker do', () => {
    const options = { url: 'redis://localhost', redis: { cluster: true } };
    const jobs = [{ func: 'f', queueName: 'q', interval: 1 }];
    for (const make of [() => new RqCron({ ...options, jobs }), () => new RqClient(options), () => rq(options)])
      expect(make).toThrow(/is a Redis Cluster/);
  });
  it('refuses to have nothing to do', () => {
    expect(() => new RqCron({ url: 'redis://localhost', jobs: [] })).toThrow(/nothing to do/);
  });
});
