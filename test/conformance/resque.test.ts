import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import * as json from '../../protocols/formats/json.ts';
import { resque, ResqueClient } from '../../src/drivers/resque/index.ts';
import type { Middleware } from '../../src/worker/middleware.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { SCRIPT } from './script.ts';
import { conformance } from './suite.ts';

interface Store extends AsyncDisposable {
  readonly server: RedisServer;
  /** Resque keeps no results: here the test's own middleware does, as JSON. */
  readonly results: Map<string, string>;
}

interface Failed {
  readonly payload: { readonly id?: string };
  readonly exception: string;
  readonly error: string;
}

const RESULTS = 'Resque keeps no results';
const LIMITS = 'a payload has no time limits; those of a task are asked in test/interop/resque-worker.test.ts';
const EXPIRY = 'a payload does not expire';

for (const [name, options] of [
  ['resque', {}],
  // As Ruby looks for jobs, and with some of them waiting here.
  ['resque-poll', { fetch: 'poll', interval: 0.05, prefetch: 8 }],
] as const) {
  conformance<Store>({
    name,
    async store({ durable }) {
      const server = await startRedis({ persistence: durable });
      return { server, results: new Map(), [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
    },
    async restart({ server }, between) {
      await server.kill();
      await between();
      await server.restart();
    },
    source: ({ server }, { queues, concurrency, unknownTask = 'requeue' }) =>
      resque({
        url: server.url,
        queues,
        concurrency,
        unknownTask,
        unknownTaskDelayMs: 200,
        scheduler: true,
        processTitle: false,
        ...options,
      }),
    middleware: ({ results }): readonly Middleware[] => [
      async (job, next) => {
        const value = await next();
        results.set(job.id, json.stringify(value ?? null));
        return value;
      },
    ],
    keywords: false,
    client({ server }) {
      const client = new ResqueClient({ url: server.url });
      return {
        async send({ task = SCRIPT, queue, script, id = randomUUID(), delayMs, at }) {
          await client.enqueue(task, {
            queue,
            args: script,
            id,
            ...(delayMs === undefined ? {} : { in: delayMs / 1000 }),
            ...(at === undefined ? {} : { at }),
          });
          return id;
        },
        close: () => client.close(),
      };
    },
    raw({ server, results }) {
      // A connection each: the server may have been another in between.
      const ask = async <T>(question: (redis: Redis) => Promise<T>): Promise<T> => {
        const redis = server.client();
        try {
          return await question(redis);
        } finally {
          redis.disconnect();
        }
      };
      return {
        message: (_queue, { task, id, args, extra = {} }) =>
          Buffer.from(
            `{"class":${JSON.stringify(task)},"args":${args},"id":"${id}"${Object.entries(extra)
              .map(([key, value]) => `,${JSON.stringify(key)}:${JSON.stringify(value)}`)
              .join('')}}`,
          ),
        idOf: (bytes) => (JSON.parse(String(bytes)) as { id: string }).id,
        argsOf: (bytes) => String(bytes),
        put: (queue, bytes) =>
          ask(async (redis) => {
            await redis.sadd('resque:queues', queue);
            await redis.rpush(`resque:queue:${queue}`, Buffer.from(bytes));
          }),
        waiting: (queue) =>
          ask(async (redis) => [
            ...(await redis.lrangeBuffer(`resque:queue:${queue}`, 0, -1)),
            ...(await delayedOf(redis, queue)),
          ]),
        postponed: (queue) => ask((redis) => delayedOf(redis, queue)),
        claimed: () =>
          ask(async (redis) => {
            let sum = 0;
            for (const key of await redis.keys('resque:jobglot:claims:*')) sum += await redis.hlen(key);
            return sum;
          }),
        aside: (queue) =>
          ask(async (redis) => {
            const bytes = await redis.lrangeBuffer(`resque:jobglot:quarantine:${queue}`, 0, -1);
            const why = await redis.lrange(`resque:jobglot:quarantine:${queue}:why`, 0, -1);
            return bytes.map((one, at) => ({ bytes: one, reason: why[at] ?? '' }));
          }),
        result: (id) =>
          ask(async (redis) => {
            const value = results.get(id);
            if (value !== undefined)
              return { state: 'succeeded', value: JSON.parse(value) as unknown, error: undefined, text: value };
            for (const text of await redis.lrange('resque:failed', 0, -1)) {
              const { payload, exception, error } = JSON.parse(text) as Failed;
              if (payload.id !== id) continue;
              const state = exception === 'Resque::DirtyExit' ? 'cancelled' : 'failed';
              return { state, value: undefined, error: { type: exception, message: error }, text };
            }
            for (const key of await redis.keys('resque:failure-resque-retry:*')) {
              const text = (await redis.get(key)) ?? '{}';
              const { payload, exception, error } = JSON.parse(text) as Failed;
              if (payload?.id === id) {
                return { state: 'retrying', value: undefined, error: { type: exception, message: error }, text };
              }
            }
            return undefined;
          }),
      };
    },
    without: {
      'a hundred levels of nesting come back':
        'Ruby reads a hundred levels, and the payload and its args are two of them',
      'bytes come back as bytes': 'JSON has no bytes',
      'success without a value is stored as null': RESULTS,
      'timeout: a handler that hears nothing is settled as failed at its limit': LIMITS,
      'a handler that lets its soft limit pass through fails by that limit': LIMITS,
      'a value that cannot be written fails the job': RESULTS,
      "a state of the handler's own is stored while it runs, and the result after it":
        'Resque keeps no states of a job',
      'a time with an offset, by a clock of another zone, is the same time':
        'a delayed job is kept under a second since 1970',
      'an expired job is not run, and its result says so': EXPIRY,
      'a job that expires while it waits for its time is not run': EXPIRY,
      'quiet gives back what waits for its time': 'what waits for its time is claimed by nobody',
      'a job acknowledged at its start that is stopped ends as one whose worker was lost':
        'no job is given up before it has ended',
    },
  });
}

/** What waits under a second in `delayed:`, the soonest first. */
async function delayedOf(redis: Redis, queue: string): Promise<readonly Buffer[]> {
  const delayed: Buffer[] = [];
  for (const second of await redis.zrange('resque:delayed_queue_schedule', '0', '-1'))
    for (const item of await redis.lrangeBuffer(`resque:delayed:${second}`, 0, -1))
      if ((JSON.parse(String(item)) as { queue: string }).queue === queue) delayed.push(item);
  return delayed;
}
