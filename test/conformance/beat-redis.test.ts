import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Redis } from 'ioredis';
import * as native from '../../protocols/celery/schedule/beat.ts';
import { encodeEnvelope } from '../../protocols/celery/brokers/envelope.ts';
import type { Publication } from '../../protocols/celery/message/message.ts';
import * as redbeat from '../../protocols/celery/schedule/redbeat.ts';
import { Beat, type BeatOptions } from '../../src/drivers/celery/index.ts';
import { MemoryBroker } from '../../src/drivers/celery/brokers/memory.ts';
import { silent } from '../../src/log.ts';
import { RedisConnection } from '../../src/transports/redis.ts';
import { redisTarget } from '../../src/transports/redis-url.ts';
import { type RedisServer, startRedis, until } from '../support/redis.ts';

let redis: RedisServer;
let store: Redis;
let connection: RedisConnection;

beforeAll(async () => {
  redis = await startRedis();
  store = redis.client();
  connection = new RedisConnection(redisTarget(redis.url));
  await connection.connect();
});

afterAll(async () => {
  await connection.close();
  await redis[Symbol.asyncDispose]();
});

beforeEach(async () => {
  await store.flushall();
});

describe('a claim', () => {
  const push = { key: 'queue', envelope: 'message' };

  test('in our layout is one step with its message, for whoever leads and looked last', async () => {
    const keys = native.beatKeys('jobglot:beat:');
    const claim = (token: string, before: string, after: string): Promise<native.Claimed> =>
      connection.run(native.claimRun(keys, token, { name: 'tick', before, after }, [push, { ...push, key: 'other' }]));
    expect(await claim('a', '', 'one')).toBe('deposed');
    expect(await connection.run(native.lead(keys.lock, 'a', 5_000))).toBe('taken');
    expect(await connection.run(native.lead(keys.lock, 'a', 5_000))).toBe('kept');
    expect(await connection.run(native.lead(keys.lock, 'b', 5_000))).toBe('other');
    expect(await claim('a', '', 'one')).toBe('claimed');
    expect(await claim('a', '', 'two')).toBe('superseded');
    expect(await claim('b', 'one', 'two')).toBe('deposed');
    expect(await store.hgetall(keys.runs)).toEqual({ tick: 'one' });
    expect([await store.lrange('queue', 0, -1), await store.llen('other')]).toEqual([['message'], 1]);
    await connection.run(native.resign(keys.lock, 'b'));
    expect(await store.get(keys.lock)).toBe('a');
    await connection.run(native.resign(keys.lock, 'a'));
    expect(await store.exists(keys.lock)).toBe(0);
  });

  test("in RedBeat's layout is one step too, and needs the entry to be there still", async () => {
    const keys = redbeat.redbeatKeys();
    const claim = (token: string, before: string, after: string): Promise<native.Claimed> =>
      connection.run(
        redbeat.claimRun(keys, token, { key: 'redbeat:tick', before, after, nextRunAt: 12_345_678 }, [push]),
      );
    await store.set('redbeat::lock', 'a');
    expect(await claim('a', '', 'one')).toBe('superseded');
    await store.hset('redbeat:tick', 'definition', '{}');
    expect(await claim('b', '', 'one')).toBe('deposed');
    expect(await claim('a', '', 'one')).toBe('claimed');
    expect(await claim('a', '', 'two')).toBe('superseded');
    expect(await store.hgetall('redbeat:tick')).toEqual({ definition: '{}', meta: 'one' });
    expect(await store.zscore('redbeat::schedule', 'redbeat:tick')).toBe('12345');
    expect(await store.llen('queue')).toBe(1);
  });
});

const entries: BeatOptions['beatSchedule'] = {
  tick: { task: 'tick', schedule: 0.05, options: { queue: 'ticks' } },
};

/** What was counted, and what was sent. */
async function counts(): Promise<{ readonly runs: number; readonly messages: number }> {
  const state = native.decodeRun((await store.hget('jobglot:beat:runs', 'tick')) ?? '');
  return { runs: state?.totalRunCount ?? -1, messages: await store.llen('ticks') };
}

describe('several processes', () => {
  const start = async (): Promise<Beat> => {
    const beat = new Beat({ broker: redis.url, beatSchedule: entries });
    await beat.start();
    return beat;
  };

  test('have one that leads, and another as soon as that one stops', async () => {
    await using first = await start();
    await until('the first leads', () => first.leads);
    await using second = await start();
    await until('it sent', async () => (await store.llen('ticks')) > 2);
    expect(second.leads).toBe(false);
    const token = await store.get('jobglot:beat:lock');
    expect(token).toMatch(/^[0-9a-f]{32}$/);
    await first.stop();
    const before = await store.llen('ticks');
    await until('the second leads', () => second.leads);
    await until('it sends', async () => (await store.llen('ticks')) > before + 2);
    await second.stop();
    const { runs, messages } = await counts();
    expect(messages).toBe(runs);
  });

  test('give way to one that took the lead from them', async () => {
    await using beat = await start();
    await until('it sent', async () => (await store.llen('ticks')) > 0);
    await store.set('jobglot:beat:lock', 'somebody else');
    await until('it knows', () => !beat.leads);
    const { runs, messages } = await counts();
    expect(messages).toBe(runs);
    await store.del('jobglot:beat:lock');
    await until('it leads again', () => beat.leads);
    await until('it sends again', async () => (await store.llen('ticks')) > messages);
  });
});

describe('where messages are not in the same Redis', () => {
  class Stuck extends MemoryBroker {
    readonly ids: string[] = [];
    stuck = false;
    override async publish(publications: Iterable<Publication>): Promise<void> {
      for (const publication of publications) {
        const { headers } = JSON.parse(encodeEnvelope(publication, 'tag')) as { readonly headers: { id: string } };
        this.ids.push(headers.id);
      }
      if (this.stuck) await new Promise(() => {});
    }
  }

  test('a run whose process died before it was sent is sent by the next that leads', async () => {
    const dead = new Stuck('dead');
    dead.stuck = true;
    const beatSchedule = { tick: { task: 'tick', schedule: 3_600 } };
    const options = { beatRedisUrl: redis.url, beatSchedule, log: silent };
    const lastRun = new Date(Date.now() - 3_601_000).toISOString();
    await store.hset('jobglot:beat:runs', 'tick', JSON.stringify({ last_run_at: lastRun, total_run_count: 7 }));
    await new Beat({ broker: dead, ...options }).start();
    await until('it is about to send', () => dead.ids.length === 1);
    const claimed = native.decodeRun((await store.hget('jobglot:beat:runs', 'tick')) ?? '');
    expect(claimed).toMatchObject({ totalRunCount: 8, pending: { id: dead.ids[0] } });
    // Its lead expires.
    await store.del('jobglot:beat:lock');
    const alive = new Stuck('alive');
    await using beat = new Beat({ broker: alive, ...options });
    await beat.start();
    await until('it is written down', async () => {
      const state = native.decodeRun((await store.hget('jobglot:beat:runs', 'tick')) ?? '');
      return state?.pending === undefined;
    });
    expect(alive.ids).toEqual(dead.ids);
    expect((await counts()).runs).toBe(8);
  });
});
