import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { newJob, register } from '../../protocols/rq/enqueue.ts';
import { jobSettings } from '../../protocols/rq/options.ts';
import { silent } from '../../src/log.ts';
import { RedisConnection } from '../../src/transports/redis.ts';
import { redisTarget } from '../../src/transports/redis-url.ts';
import { RQ_CALLS } from '../golden/rq-calls.ts';
import { type Held, loadRq } from '../golden/rq-support.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { due, dump, shown } from './rq-state.ts';

/** What RQ's own client leaves in Redis, ours leaves. Python does in four to six trips what is one script here. */

describe('a job enqueued as with RQ 2.10', () => {
  let server: RedisServer;
  let client: Redis;
  let redis: RedisConnection;

  beforeAll(async () => {
    server = await startRedis();
    client = server.client();
    redis = new RedisConnection(redisTarget(server.url), { log: silent });
    await redis.connect();
  });
  beforeEach(() => client.flushall());
  afterAll(async () => {
    await redis.close();
    await server[Symbol.asyncDispose]();
  });

  for (const { name, after, frozen } of loadRq('2.10', 'enqueue-')) {
    const calls = RQ_CALLS[name.slice('enqueue-'.length)];
    if (calls === undefined) continue;
    it(`${name}: leaves Redis as RQ does`, async () => {
      const now = new Date(frozen.clock);
      const ids = [...frozen.ids];
      for (const call of calls) {
        const { task, args = [], kwargs = {}, options = {}, queue = 'default', serializer = 'pickle' } = call;
        const made = newJob(jobSettings(options, call.defaultTimeout), {
          call: { funcName: task, instance: null, args, kwargs },
          id: options.jobId ?? String(ids.shift()),
          queue,
          serializer,
          now,
          due: call.due,
        });
        await redis.run(register([made], now));
      }
      const isBetween = calls.some(({ due: at }) => (at?.getTime() ?? 0) % 1000 !== 0);
      const theirs = (key: string, held: Held): Held => (isBetween ? due(key, held) : held);
      expect(await dump(client, [])).toEqual(
        Object.fromEntries(Object.entries(after).map(([key, held]) => [key, shown(theirs(key, held), [])])),
      );
    });
  }
});
