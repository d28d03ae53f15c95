import type { Redis } from 'ioredis';
import type { CeleryAppOptions } from '../../src/drivers/celery/index.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { CELERY_GAPS, celeryMessages, celeryResult, celerySender, celerySource } from './celery.ts';
import { conformance } from './suite.ts';

interface Store extends AsyncDisposable {
  readonly server: RedisServer;
  readonly app: CeleryAppOptions;
}

conformance<Store>({
  name: 'celery-redis',
  async store({ durable }) {
    const server = await startRedis({ persistence: durable });
    const app = { broker: server.url, backend: server.urlOf(1) };
    return { server, app, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
  },
  async restart({ server }, between) {
    await server.kill();
    await between();
    await server.restart();
  },
  source: ({ app }, options) => celerySource(app, options),
  client: ({ app }) => celerySender(app),
  raw({ server }) {
    // A connection each: the server may have been another in between.
    const ask = async <T>(question: (redis: Redis) => Promise<T>, db = 0): Promise<T> => {
      const redis = server.client({ db });
      try {
        return await question(redis);
      } finally {
        redis.disconnect();
      }
    };
    return {
      ...celeryMessages,
      put: (queue, bytes) => ask(async (redis) => void (await redis.lpush(queue, Buffer.from(bytes)))),
      waiting: (queue) => ask(async (redis) => (await redis.lrangeBuffer(queue, 0, -1)).reverse()),
      claimed: () => ask((redis) => redis.hlen('unacked')),
      postponed: (queue) =>
        ask(async (redis) => {
          // Published again, it waits until the worker claims it for its time.
          await until('it is claimed for its time', async () => (await redis.hlen('unacked')) > 0);
          return (await redis.hvals('unacked'))
            .map((text) => JSON.parse(text) as readonly [unknown, string, string])
            .filter(([, , claimedFrom]) => claimedFrom === queue)
            .map(([message]) => Buffer.from(JSON.stringify(message)));
        }),
      aside: (queue) =>
        ask(async (redis) => {
          const bytes = await redis.lrangeBuffer(`jobglot:quarantine:${queue}`, 0, -1);
          const why = await redis.lrange(`jobglot:quarantine:${queue}:why`, 0, -1);
          return bytes.map((one, at) => ({ bytes: one, reason: why[at] ?? '' }));
        }),
      result: (id) => ask(async (redis) => celeryResult(await redis.getBuffer(`celery-task-meta-${id}`)), 1),
    };
  },
  without: CELERY_GAPS,
});
