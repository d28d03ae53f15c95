import { Buffer } from 'node:buffer';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { keyspace } from '../../protocols/celery/brokers/keys.ts';
import { claim, move, park, restore, unpark } from '../../protocols/celery/brokers/redis.ts';
import { RedisConnection } from '../../src/transports/redis.ts';
import { redisTarget } from '../../src/transports/redis-url.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';

const KEYS = keyspace();
const MESSAGE = '{"body": "W10="}';
const limits = { messageBytes: 1000, batchBytes: 1000 };
const take = (queues: readonly string[]) => claim(KEYS, queues, { max: 10, prefix: 'p:', at: 1, limits });

/** A script that fails undoes nothing of what it did: so it must not have done it. */
describe('a key of another kind costs no message', () => {
  let server: RedisServer;
  let store: Redis;
  let redis: RedisConnection;

  beforeAll(async () => {
    server = await startRedis();
    store = server.client();
    redis = new RedisConnection(redisTarget(server.url));
    await redis.connect();
  });
  afterAll(async () => {
    await redis.close();
    await server[Symbol.asyncDispose]();
  });
  beforeEach(() => store.flushall());

  it.each(['unacked', 'unacked_index'])('%s: nothing is taken, and it is said', async (key) => {
    await store.lpush('celery', MESSAGE);
    await store.set(key, 'no such kind');
    await expect(redis.run(take(['celery']))).rejects.toThrow('WRONGTYPE');
    expect(await store.lrange('celery', 0, -1)).toEqual([MESSAGE]);
  });

  it('a queue: the others are served', async () => {
    await store.set('spoiled', 'no list');
    await store.lpush('celery', MESSAGE);
    const { claimed } = await redis.run(take(['spoiled', 'celery']));
    expect(claimed.map(({ queue }) => queue)).toEqual(['celery']);
    expect(await store.hlen('unacked')).toBe(1);
    await expect(redis.run(take(['spoiled', 'celery']))).rejects.toThrow('WRONGTYPE');
  });

  it('a quarantine: what should be in it stays where it was, behind what could be claimed', async () => {
    await store.set('jobglot:quarantine:celery', 'no list');
    await store.rpush('celery', 'no message', MESSAGE);
    const { claimed } = await redis.run(take(['celery']));
    expect(claimed).toHaveLength(1);
    expect(await store.lrange('celery', 0, -1)).toEqual(['no message']);
    await expect(redis.run(take(['celery']))).rejects.toThrow('WRONGTYPE');
    expect(await store.lrange('celery', 0, -1)).toEqual(['no message']);
  });

  it('where a message is to go: it stays claimed', async () => {
    await store.lpush('celery', MESSAGE);
    const { claimed } = await redis.run(take(['celery']));
    const tag = claimed[0]?.tag ?? '';
    const held = Buffer.from((await store.hget('unacked', tag)) ?? '');
    await store.set('elsewhere', 'no list');
    await expect(redis.run(move(KEYS, tag, { list: 'elsewhere', end: 'right', message: MESSAGE }))).rejects.toThrow(
      'WRONGTYPE',
    );
    await expect(redis.run(restore(KEYS, tag, held, 5, ['celery', 'elsewhere'], MESSAGE))).rejects.toThrow('WRONGTYPE');
    await store.set('jobglot:parked', 'no zset');
    await expect(redis.run(park(KEYS, tag, 'celery', Buffer.from(MESSAGE), 1))).rejects.toThrow('WRONGTYPE');
    expect(await store.hgetall('unacked')).toEqual({ [tag]: held.toString() });
    expect(await store.zcard('unacked_index')).toBe(1);
    expect(await store.exists('celery')).toBe(0);
  });

  it('where a parked message is to go back: it stays parked, and the others go', async () => {
    await store.rpush('celery', MESSAGE, '{"second": 2}');
    const { claimed } = await redis.run(take(['celery']));
    await store.set('spoiled', 'no list');
    for (const [at, { tag, bytes }] of claimed.entries())
      await redis.run(park(KEYS, tag, at === 0 ? 'spoiled' : 'celery', bytes, at));
    await redis.run(unpark(KEYS, 10, 10));
    expect(await store.lrange('celery', 0, -1)).toEqual([MESSAGE]);
    expect(await store.zcard('jobglot:parked')).toBe(1);
    expect(await store.hvals('jobglot:parked:messages')).toEqual(['spoiled\0{"second": 2}']);
  });
});
