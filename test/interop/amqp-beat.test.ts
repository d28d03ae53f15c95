import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { GetMessage } from 'amqplib';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect } from 'vitest';
import { decodeRun } from '../../protocols/celery/schedule/beat.ts';
import { interval } from '../../protocols/celery/schedule/schedule.ts';
import { Beat, type BeatOptions, type BeatSchedule } from '../../src/drivers/celery/index.ts';
import { silent } from '../../src/log.ts';
import { temporaryFolder } from '../support/folder.ts';
import { PythonCelery, startCelery, startPythonWorker, startRedBeat } from '../support/python.ts';
import { type RabbitServer, startRabbit } from '../support/rabbit.ts';
import { type RedisServer, startRedis, until } from '../support/redis.ts';
import { project, type Running, start } from '../unit/cli/run.ts';
import { facts } from './support/table.ts';

/** A beat whose messages go to RabbitMQ: what it knows of its runs is elsewhere, in a file or in Redis. */
describe('beat over RabbitMQ', () => {
  const setting = { version: '5.6', broker: 'amqp' } as const;
  const toPython = facts('amqp-beat', setting, 'Node → Python');
  const both = facts('amqp-beat', setting, 'both');
  let rabbit: RabbitServer;
  let redis: RedisServer;
  let store: Redis;
  let folder: string;
  let vhost: string;
  let broker: string;
  let count = 0;

  beforeAll(async () => {
    [rabbit, redis] = await Promise.all([startRabbit(), startRedis()]);
    store = redis.client();
  });
  beforeEach(async () => {
    vhost = `beat-${++count}`;
    await rabbit.addVhost(vhost);
    broker = rabbit.urlOf(vhost);
    folder = temporaryFolder('jobglot-beat-');
  });
  afterEach(() => store.flushall());
  afterAll(async () => {
    await redis[Symbol.asyncDispose]();
    await rabbit[Symbol.asyncDispose]();
  });

  /** With the ids of what it sent, and of what it could not. */
  async function ours(
    beatSchedule: BeatSchedule,
    options: Partial<BeatOptions> = {},
  ): Promise<{ readonly beat: Beat; readonly ids: readonly string[]; readonly failed: readonly string[] }> {
    const ids: string[] = [];
    const failed: string[] = [];
    const log = {
      ...silent,
      info: ({ id }: { readonly id?: string }, words: string) =>
        void (words.startsWith('beat: sent') && ids.push(id as string)),
      error: ({ entry }: { readonly entry?: string }, words: string) =>
        void (words.includes('cannot be sent') && failed.push(entry as string)),
    };
    const beatScheduleFilename = join(folder, 'schedule.json');
    const beat = new Beat({ broker, beatSchedule, beatScheduleFilename, log, ...options });
    await beat.start();
    return { beat, ids, failed };
  }

  const sent = async (queue: string): Promise<readonly GetMessage[]> =>
    (await rabbit.queues(vhost)).some(({ name }) => name === queue) ? rabbit.get(queue, vhost) : [];
  const idsIn = async (queue: string): Promise<readonly string[]> =>
    (await sent(queue)).map(({ properties }) => String(properties.headers?.['id']));
  const runsInFile = (entry: string): unknown =>
    (JSON.parse(readFileSync(join(folder, 'schedule.json'), 'utf8')) as { entries: Record<string, unknown> }).entries[
      entry
    ];

  const TICK = { task: 'py.add', schedule: interval(0.3), args: [2, 3], options: { queue: 'ticks' } };

  toPython('beat', 'a Python worker runs what our beat sends, and it goes on after a restart of the beat', async () => {
    await using worker = await startPythonWorker('5.6', { broker, backend: redis.url, queues: ['beaten'] });
    const schedule = { tick: { ...TICK, options: { queue: 'beaten', expires: 600 } } };
    const ids: string[] = [];
    for (const run of [1, 2]) {
      const { beat, ids: some } = await ours(schedule);
      expect(beat.scheduler).toBe('file');
      await until(`two were sent in run ${run}`, () => some.length >= 2);
      await beat.stop();
      ids.push(...some);
      expect(runsInFile('tick')).toMatchObject({ total_run_count: ids.length });
    }
    await using python = await PythonCelery.start('5.6', { broker, backend: redis.url });
    for (const id of ids) expect(await python.value(id), worker.log()).toBe(5);
    expect(new Set(ids).size).toBe(ids.length);
  });

  toPython('beat', 'what it sends is what Celery’s own beat sends', async () => {
    const entry = { task: 'py.echo', schedule: 0.3, args: [2.5, 'é'], kwargs: { x: 'é' } };
    const config = { beat_schedule: { tick: { ...entry, options: { queue: 'theirs', expires: 600, priority: 3 } } } };
    await using beat = startCelery('5.6', { broker, config }, [
      ...['beat', '--max-interval', '1', '--pidfile=', '-s', join(folder, 'theirs')],
    ]);
    const { beat: own } = await ours({
      tick: { ...entry, schedule: interval(0.3), options: { queue: 'ours', expires: 600, priority: 3 } },
    });
    await until('both have sent', async () => (await sent('theirs')).length > 0 && (await sent('ours')).length > 0);
    await own.stop();
    const [[theirs], [us]] = [await sent('theirs'), await sent('ours')];
    expect(us?.content.toString(), beat.output).toBe(theirs?.content.toString());
    const kinds = (headers: object | undefined): unknown =>
      Object.entries(headers ?? {}).map(([name, value]) => [name, value === null ? null : typeof value]);
    const { headers: ourHeaders, ...ourProperties } = us?.properties ?? {};
    const { headers: theirHeaders, ...theirProperties } = theirs?.properties ?? {};
    expect(kinds(ourHeaders)).toEqual(kinds(theirHeaders));
    expect(kinds(ourProperties)).toEqual(kinds(theirProperties));
    const same = ['task', 'argsrepr', 'kwargsrepr', 'retries', 'timelimit', 'ignore_result', 'eta', 'group'];
    for (const name of same) expect(ourHeaders?.[name]).toEqual(theirHeaders?.[name]);
    expect(ourProperties).toMatchObject({ deliveryMode: 2, priority: 3, contentType: 'application/json' });
    const declared = (await rabbit.queues(vhost)).filter(({ name }) => ['ours', 'theirs'].includes(name));
    const [first, second] = declared.map((queue) => ({ ...queue, name: '' }));
    expect(first).toEqual(second);
  });

  toPython('beat', 'a run that RabbitMQ was not there for is sent when it is back, under the same id', async () => {
    const { beat, ids, failed } = await ours(
      { tick: { ...TICK, schedule: interval(2) } },
      { beatScheduler: 'redis', beatRedisUrl: redis.url, brokerTransportOptions: { publishPatience: 0.2 } },
    );
    const state = async (): Promise<ReturnType<typeof decodeRun>> =>
      decodeRun((await store.hget('jobglot:beat:runs', 'tick')) ?? '');
    await until('one was sent', () => ids.length > 0);
    await rabbit.kill();
    await until('one could not be sent', () => failed.length > 0);
    await rabbit.restart();
    await until('it was sent', async () => (await state())?.pending === undefined && ids.length > 1);
    await beat.stop();
    const inQueue = await idsIn('ticks');
    // The one whose confirmation was lost may be there twice, under one id.
    expect([...new Set(inQueue)].sort()).toEqual([...new Set(ids)].sort());
    expect(runsAreCounted(new Set(inQueue).size, (await state())?.totalRunCount ?? -1)).toBe(true);
  });

  /** Of the runs that were due again before they could be sent, only the last is sent. */
  function runsAreCounted(distinct: number, runs: number): boolean {
    return distinct >= 2 && distinct <= runs;
  }

  toPython(
    'beat: several processes, one sends',
    'the one that leads is killed again and again: another goes on, and no run is sent under two ids',
    async () => {
      const config = `
        export default {
          celery: {
            beatRedisUrl: '${redis.url}',
            beatScheduler: 'redis',
            beatLockTimeout: 1,
            beatSchedule: { tick: { task: 'py.add', schedule: 0.1, args: [1, 2], options: { queue: 'ticks' } } },
          },
        };
      `;
      const cwd = await project({ 'jobglot.config.js': config });
      const begin = (): Running => start(['beat', '-b', broker, '--log-format', 'text'], { cwd });
      const leads = (one: Running): boolean => one.log().includes('this process leads');
      const processes = [begin(), begin()];
      const kills = 3;
      for (let round = 0; round < kills; round++) {
        await until('one leads', () => processes.some(leads));
        const before = (await idsIn('ticks')).length;
        await until('it sends', async () => (await idsIn('ticks')).length > before + 3);
        const [leader] = processes.splice(processes.findIndex(leads), 1);
        expect(processes.some(leads)).toBe(false);
        leader?.child.kill('SIGKILL');
        await leader?.ended;
        processes.push(begin());
      }
      await until('one leads', () => processes.some(leads));
      await until('each has started', () => processes.every((one) => one.log().includes('beat: starting')));
      for (const { child } of processes) child.kill('SIGTERM');
      for (const { ended } of processes) expect((await ended).code).toBe(0);
      const ids = await idsIn('ticks');
      const runs = decodeRun((await store.hget('jobglot:beat:runs', 'tick')) ?? '')?.totalRunCount ?? 0;
      const distinct = new Set(ids).size;
      // Killed between the claim and the sending, a run gives way to the next; killed after the sending, it is sent again.
      expect(distinct).toBeLessThanOrEqual(runs);
      expect(distinct).toBeGreaterThanOrEqual(runs - kills);
      expect(ids.length - distinct).toBeLessThanOrEqual(kills);
    },
  );

  both('RedBeat: the same entries, one lead', 'Python waits while we lead, and goes on where we stopped', async () => {
    const config = { redbeat_redis_url: redis.url, redbeat_lock_timeout: 4, beat_schedule: {} };
    await using python = await PythonCelery.start('redbeat', { broker, config });
    await python.run(`
from redbeat import RedBeatSchedulerEntry as Entry
from celery.schedules import schedule
Entry('tick', 'py.add', schedule(1), args=[1, 2], options={'queue': 'ticks'}, app=app).save()`);
    const { beat: node } = await ours(
      {},
      {
        ...{ beatScheduler: 'redbeat', redbeatRedisUrl: redis.url, redbeatLockTimeout: 4, beatMaxLoopInterval: 1 },
      },
    );
    await until('we sent', async () => (await idsIn('ticks')).length >= 2);
    await using beat = await startRedBeat({ broker, config });
    expect(beat.log()).not.toContain('Acquired lock');
    await node.stop();
    const handed = (await idsIn('ticks')).length;
    await beat.leads();
    await until('Python went on', async () => (await idsIn('ticks')).length >= handed + 2);
    await beat.stop();
    const ids = await idsIn('ticks');
    expect(new Set(ids).size).toBe(ids.length);
    expect(
      await python.run(`
from redbeat import RedBeatSchedulerEntry as Entry
result = Entry.from_key('redbeat:tick', app=app).total_run_count`),
    ).toBe(ids.length);
  });
});
