import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { decodeRun } from '../../protocols/celery/schedule/beat.ts';
import { decodeDefinition, encodeDefinition, encodeMeta } from '../../protocols/celery/schedule/redbeat.ts';
import { crontab, interval, zoneOf } from '../../protocols/celery/schedule/schedule.ts';
import { Beat, type BeatOptions, type BeatSchedule } from '../../src/drivers/celery/index.ts';
import { silent } from '../../src/log.ts';
import { type PythonBeat, PythonCelery, startPythonWorker, startRedBeat } from '../support/python.ts';
import { type RedisServer, startRedis, until } from '../support/redis.ts';
import { project, type Running, start } from '../unit/cli/run.ts';
import { facts } from './support/table.ts';

let redis: RedisServer;
let store: Redis;

beforeAll(async () => {
  redis = await startRedis();
  store = redis.client();
});

afterAll(async () => {
  await redis[Symbol.asyncDispose]();
});

beforeEach(async () => {
  await store.flushall();
});

/** The ids of the messages in a list. */
async function idsIn(list: string): Promise<readonly string[]> {
  const messages = await store.lrange(list, 0, -1);
  return messages.map((text) => (JSON.parse(text) as { readonly headers: { readonly id: string } }).headers.id);
}

describe('our beat', () => {
  const toPython = facts('celery-beat', { version: '5.6', broker: 'redis' }, 'Node → Python');

  toPython('beat', 'a Python worker runs what our beat sends', async () => {
    await using worker = await startPythonWorker('5.6', { broker: redis.url, backend: redis.url, queues: ['beaten'] });
    const ids: string[] = [];
    const log = {
      ...silent,
      info: (fields: { readonly id?: string }, message: string) =>
        void (message === 'beat: sent' && ids.push(fields.id as string)),
    };
    const beatSchedule: BeatSchedule = {
      add: { task: 'py.add', schedule: interval(0.3), args: [2, 3], options: { queue: 'beaten', expires: 600 } },
    };
    {
      await using beat = new Beat({ broker: redis.url, backend: redis.url, beatSchedule, log });
      await beat.start();
      await until('three were sent', () => ids.length >= 3);
    }
    await using python = await PythonCelery.start('5.6', { broker: redis.url, backend: redis.url });
    for (const id of ids) expect(await python.value(id), worker.log()).toBe(5);
    expect(decodeRun((await store.hget('jobglot:beat:runs', 'add')) ?? '')?.totalRunCount).toBe(ids.length);
  });
});

describe('jobglot beat, in several processes', () => {
  const toPython = facts('celery-beat-processes', { version: '5.6', broker: 'redis' }, 'Node → Python');
  const CONFIG = `
    export default {
      celery: {
        beatLockTimeout: 1,
        beatSchedule: {
          tick: { task: 'py.add', schedule: 0.05, args: [1, 2], options: { queue: 'ticks' } },
          tock: { task: 'py.add', schedule: 0.07, args: [1, 2], options: { queue: 'tocks' } },
        },
      },
    };
  `;

  toPython(
    'beat: several processes, one sends',
    'sends each due run once, though the one that leads is killed again and again',
    async () => {
      const cwd = await project({ 'jobglot.config.js': CONFIG });
      const begin = (): Running => start(['beat', '-b', redis.url, '--log-format', 'text'], { cwd });
      const leads = (one: Running): boolean => one.log().includes('this process leads');
      const processes = [begin(), begin()];
      for (let round = 0; round < 4; round++) {
        await until('one leads', () => processes.some(leads));
        const before = await store.llen('ticks');
        await until('it sends', async () => (await store.llen('ticks')) > before + 5);
        const at = processes.findIndex(leads);
        const [leader] = processes.splice(at, 1);
        expect(processes.some(leads)).toBe(false);
        leader?.child.kill('SIGKILL');
        await leader?.ended;
        processes.push(begin());
      }
      await until('one leads', () => processes.some(leads));
      await until('each has started', () => processes.every((one) => one.log().includes('beat: starting')));
      for (const { child } of processes) child.kill('SIGTERM');
      for (const { ended } of processes) expect((await ended).code).toBe(0);
      for (const [entry, list] of [
        ['tick', 'ticks'],
        ['tock', 'tocks'],
      ] as const) {
        const ids = await idsIn(list);
        const runs = decodeRun((await store.hget('jobglot:beat:runs', entry)) ?? '')?.totalRunCount;
        expect(ids).toHaveLength(runs ?? -1);
        expect(new Set(ids).size).toBe(ids.length);
      }
      expect(await store.exists('jobglot:beat:lock')).toBe(0);
    },
  );
});

describe("RedBeat's layout", () => {
  const both = facts('celery-beat-redbeat', { version: '5.6', broker: 'redis' }, 'both');
  const config = { redbeat_redis_url: '', redbeat_lock_timeout: 4, timezone: 'Europe/Berlin' };
  let python: PythonCelery;

  beforeAll(async () => {
    config.redbeat_redis_url = redis.url;
    python = await PythonCelery.start('redbeat', { broker: redis.url, config });
  });

  afterAll(async () => {
    await python.stop();
  });

  /** A RedBeat in Python, on the same keys. */
  const redbeat = (beat_schedule: object = {}): Promise<PythonBeat> =>
    startRedBeat({ broker: redis.url, config: { ...config, beat_schedule } });

  const ours = async (options: Partial<BeatOptions> = {}): Promise<Beat> => {
    const beat = new Beat({
      broker: redis.url,
      beatScheduler: 'redbeat',
      timezone: 'Europe/Berlin',
      beatMaxLoopInterval: 1,
      redbeatLockTimeout: 4,
      ...options,
    });
    await beat.start();
    return beat;
  };

  /** Entries as a Python program makes them. */
  const save = (source: string): Promise<unknown> =>
    python.run(`
from redbeat import RedBeatSchedulerEntry as Entry
from redbeat.schedules import rrule
from celery.schedules import crontab, schedule
from datetime import datetime, timedelta, timezone
${source}`);

  /** What RedBeat reads: seconds since the last run was, and how many there were. */
  const entry = (name: string): Promise<{ readonly last: number; readonly count: number; readonly zone: string }> =>
    save(`
entry = Entry.from_key('redbeat:${name}', app=app)
result = {'last': entry.last_run_at.timestamp(), 'count': entry.total_run_count, 'zone': str(entry.last_run_at.tzinfo)}
`) as ReturnType<typeof entry>;

  const TICK = `Entry('tick', 'py.add', schedule(1), args=[1.0, 2], options={'queue': 'ticks', 'expires': 600}, app=app).save()`;

  both(
    'RedBeat: the same entries, one lead',
    'entries that Python wrote are run, and Python reads what was written of them',
    async () => {
      await save(`
${TICK}
Entry('minutely', 'py.add', crontab(), args=[1, 2], options={'queue': 'minutely'}, app=app,
      last_run_at=app.now() - timedelta(minutes=2)).save()
Entry('off', 'py.add', schedule(1), enabled=False, options={'queue': 'off'}, app=app).save()
Entry('never', 'py.add', schedule(3600), options={'queue': 'never'}, app=app).save()
`);
      {
        await using beat = await ours();
        await until('they ran', async () => (await store.llen('ticks')) >= 2 && (await store.llen('minutely')) >= 1);
        expect(beat.leads).toBe(true);
      }
      const [message = ''] = await store.lrange('ticks', 0, 0);
      const { headers, body } = JSON.parse(message) as { readonly headers: object; readonly body: string };
      expect(headers).toMatchObject({ task: 'py.add', argsrepr: '[1.0, 2]' });
      expect(Buffer.from(body, 'base64').toString()).toMatch(/^\[\[1\.0, 2\], \{\}, /);
      const tick = await entry('tick');
      expect(tick.count).toBe(await store.llen('ticks'));
      expect(tick.zone).toBe('Europe/Berlin');
      expect(Math.abs(tick.last - Date.now() / 1000)).toBeLessThan(120);
      expect((await entry('minutely')).count).toBe(await store.llen('minutely'));
      expect([await store.llen('off'), await store.llen('never')]).toEqual([0, 0]);
      // When it is due next: RedBeat asks for what is due by its score.
      const { last } = await entry('minutely');
      const score = await store.zscore('redbeat::schedule', 'redbeat:minutely');
      expect(Number(score)).toBe(Math.floor(last / 60) * 60 + 60);
    },
  );

  both('RedBeat: the same entries, one lead', 'an rrule is left as it is, and told of', async () => {
    await save(`
${TICK}
Entry('rule', 'py.add', rrule('DAILY', dtstart=datetime(2026, 1, 1, tzinfo=timezone.utc)), options={'queue': 'ruled'}, app=app).save()
`);
    await store.zadd('redbeat::schedule', 1, 'redbeat:rule');
    const before = await store.hgetall('redbeat:rule');
    const warnings: string[] = [];
    const log = {
      ...silent,
      warn: (fields: { readonly key?: string; readonly error?: Error }) =>
        void warnings.push(`${fields.key}: ${fields.error?.message}`),
    };
    {
      await using _ = await ours({ log });
      await until('the other ran', async () => (await store.llen('ticks')) >= 2);
    }
    expect(await store.hgetall('redbeat:rule')).toEqual(before);
    expect(await store.zscore('redbeat::schedule', 'redbeat:rule')).toBe('1');
    expect(warnings).toEqual([
      'redbeat:rule: celery: schedule: an rrule is evaluated by Python only; the entry is left to a RedBeat there',
    ]);
  });

  both(
    'RedBeat: the same entries, one lead',
    'Python waits while we lead, and goes on where we stopped; then the other way round',
    async () => {
      await save(TICK);
      const node = await ours();
      await until('we sent', async () => (await store.llen('ticks')) >= 1);
      await using beat = await redbeat();
      const before = await store.llen('ticks');
      await until('we went on', async () => (await store.llen('ticks')) >= before + 2);
      expect(beat.log()).not.toContain('Acquired lock');
      await node.stop();
      const handed = await store.llen('ticks');
      expect((await entry('tick')).count).toBe(handed);
      await beat.leads();
      await until('Python went on', async () => (await store.llen('ticks')) >= handed + 2);
      await using again = await ours();
      const kept = await store.llen('ticks');
      await until('Python still goes on', async () => (await store.llen('ticks')) >= kept + 2);
      expect(again.leads).toBe(false);
      await beat.stop();
      await until('we lead again', () => again.leads);
      const taken = await store.llen('ticks');
      await until('we go on', async () => (await store.llen('ticks')) >= taken + 2);
      await again.stop();
      const ids = await idsIn('ticks');
      expect(new Set(ids).size).toBe(ids.length);
      expect((await entry('tick')).count).toBe(ids.length);
    },
  );

  both(
    'RedBeat: the same entries, one lead',
    'we take over from a Python that was killed, and Python from us',
    async () => {
      await save(TICK);
      const beat = await redbeat();
      await beat.leads();
      await until('Python sent', async () => (await store.llen('ticks')) >= 1);
      await using node = await ours();
      await beat.kill();
      await until('its lock expired and we lead', () => node.leads);
      const taken = await store.llen('ticks');
      await until('we go on', async () => (await store.llen('ticks')) >= taken + 2);
      await node.stop();
      // Python writes a run down before it sends it: one may be missing, none is there twice.
      const { count } = await entry('tick');
      const sent = await store.llen('ticks');
      expect([count, count - 1]).toContain(sent);
      // A lock of ours that nobody gives back, as when the process is killed.
      await store.set('redbeat::lock', '0123456789abcdef0123456789abcdef', 'PX', 2_000);
      await using next = await redbeat();
      await next.leads();
      await until('Python goes on', async () => (await store.llen('ticks')) >= sent + 2);
    },
  );

  both(
    'RedBeat: the same entries, one lead',
    'configured entries are stored as Python stores them, and removed when they are configured no more',
    async () => {
      await save(`
for name, when in {'a': schedule(30), 'b': crontab(minute='*/15', hour=[1, 2], day_of_week='mon-fri'), 'c': schedule(0.5, relative=True)}.items():
    Entry(name, 'py.add', when, args=[1, 'é', None], kwargs={'x': 1.5}, options={'queue': 'q', 'expires': 60}, app=app).save()
`);
      const names = ['a', 'b', 'c'];
      const theirs = await Promise.all(names.map((name) => store.hget(`redbeat:${name}`, 'definition')));
      await store.flushall();
      const common = {
        task: 'py.add',
        args: [1, 'é', null],
        kwargs: { x: 1.5 },
        options: { queue: 'q', expires: 60 },
      };
      const beatSchedule: BeatSchedule = {
        a: { ...common, schedule: 30 },
        b: { ...common, schedule: crontab({ minute: '*/15', hour: [1, 2], dayOfWeek: 'mon-fri' }) },
        c: { ...common, schedule: 0.5, relative: true },
      };
      {
        await using beat = await ours({ beatSchedule });
        await until('it leads', () => beat.leads);
      }
      expect(await Promise.all(names.map((name) => store.hget(`redbeat:${name}`, 'definition')))).toEqual(theirs);
      expect((await store.smembers('redbeat::statics')).sort()).toEqual(names);
      expect((await entry('b')).count).toBe(0);
      {
        await using beat = await ours({ beatSchedule: { a: beatSchedule['a'] as BeatSchedule['a'] } });
        await until('it leads', () => beat.leads);
      }
      expect(await store.smembers('redbeat::statics')).toEqual(['a']);
      expect(await store.keys('redbeat:?')).toEqual(['redbeat:a']);
      expect(await store.call('ZRANGE', 'redbeat::schedule', '0', '-1')).toEqual(['redbeat:a']);
    },
  );

  both(
    'RedBeat: the same entries, one lead',
    'a Python RedBeat starts from what we wrote, and removes our static entries when its configuration lacks them',
    async () => {
      {
        await using beat = await ours({
          beatSchedule: { old: { task: 'py.add', schedule: 1, args: [1, 2], options: { queue: 'old' } } },
        });
        await until('it ran', async () => (await store.llen('old')) > 0);
        expect(beat.leads).toBe(true);
      }
      const { count } = await entry('old');
      await using beat = await redbeat({
        old: { task: 'py.add', schedule: 1, args: [1, 2], options: { queue: 'old' } },
      });
      await beat.leads();
      await until('Python counts on', async () => (await entry('old')).count > count);
      await beat.stop();
      await using other = await redbeat({ fresh: { task: 'py.add', schedule: 3600 } });
      await other.leads();
      expect(await store.exists('redbeat:old')).toBe(0);
      expect(await store.smembers('redbeat::statics')).toEqual(['fresh']);
    },
  );

  test.each([
    ['Europe/Berlin', Date.UTC(2026, 6, 1, 12, 30, 15, 250)],
    ['UTC', Date.UTC(2026, 11, 31, 23, 59, 59)],
    ['Australia/Lord_Howe', Date.UTC(2026, 0, 1)],
  ])('a last run in %s is the same moment for Python', async (zone, at) => {
    await store.hset('redbeat:x', {
      definition: encodeDefinition({
        name: 'x',
        task: 't',
        args: [new Date(at)],
        kwargs: {},
        options: {},
        schedule: crontab(),
        enabled: true,
      }),
      meta: encodeMeta({ lastRunAt: at, totalRunCount: 1 }, zoneOf(zone)),
    });
    expect(await entry('x')).toEqual({ last: at / 1000, count: 1, zone });
    expect(await save(`result = Entry.from_key('redbeat:x', app=app).args[0].timestamp()`)).toBe(at / 1000);
    const { args } = decodeDefinition((await store.hget('redbeat:x', 'definition')) ?? '');
    expect((args[0] as Date).getTime()).toBe(at);
  });
});
