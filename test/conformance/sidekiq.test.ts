import type { Redis } from 'ioredis';
import * as json from '../../protocols/formats/json.ts';
import { sidekiq, SidekiqClient } from '../../src/drivers/sidekiq/index.ts';
import type { Middleware } from '../../src/worker/middleware.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { AGAIN, LATER, SCRIPT } from './script.ts';
import { type Call, conformance, type StoredResult } from './suite.ts';

interface Store extends AsyncDisposable {
  readonly server: RedisServer;
  /** Sidekiq keeps no results: here the test's own middleware does, as JSON. */
  readonly results: Map<string, string>;
  /** What was put past our client, and where: what is no job hash does not say. */
  readonly put: { readonly queue: string; readonly bytes: Buffer }[];
}

const NO_RESULTS = 'Sidekiq keeps no results, nor states of a job that has ended';
const NO_LIMITS = 'a job hash has no time limit; limits of the handler are in test/conformance/sidekiq-worker.test.ts';

for (const fetch of ['reliable', 'basic'] as const) {
  conformance<Store>({
    name: `sidekiq-${fetch}`,
    async store({ durable }) {
      const server = await startRedis({ persistence: durable });
      return { server, results: new Map(), put: [], [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
    },
    async restart({ server }, between) {
      await server.kill();
      await between();
      await server.restart();
    },
    source: ({ server }, { queues, concurrency, unknownTask = 'requeue' }) =>
      sidekiq({ url: server.url, queues, concurrency, fetch, unknownTask, unknownTaskDelayMs: 200 }),
    client({ server }) {
      const client = new SidekiqClient({ url: server.url });
      return {
        async send({ task = SCRIPT, queue, script, id, delayMs, at, expiresAt }: Call) {
          const { jid } = await client.enqueue(task, {
            queue,
            args: script,
            retry: retriesOf(task, script[0]),
            ...(id === undefined ? {} : { jid: id }),
            ...(delayMs === undefined ? {} : { in: delayMs / 1000 }),
            ...(at === undefined ? {} : { at }),
            ...(expiresAt === undefined ? {} : { custom: { expiry: expiresAt.getTime() } }),
          });
          return jid;
        },
        close: () => client.close(),
      };
    },
    middleware: ({ results }): readonly Middleware[] => [
      async (job, next) => {
        const value = await next();
        results.set(job.id, json.stringify(value ?? null));
        return value;
      },
    ],
    keywords: false,
    raw({ server, results, put }) {
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
        message: (queue, { task, id, args, extra = {} }) =>
          Buffer.from(
            `{"class":"${task}","args":${args},"jid":"${id}","queue":"${queue}","retry":true,"created_at":1795219633.5,"enqueued_at":1795219633.5${Object.entries(
              extra,
            )
              .map(([key, value]) => `,"${key}":${JSON.stringify(value)}`)
              .join('')}}`,
          ),
        idOf: (bytes) => (JSON.parse(String(bytes)) as { jid: string }).jid,
        argsOf: (bytes) => json.member(String(bytes), ['args']) ?? '',
        put(queue, bytes) {
          put.push({ queue, bytes: Buffer.from(bytes) });
          return ask(async (redis) => void (await redis.lpush(`queue:${queue}`, Buffer.from(bytes))));
        },
        waiting: (queue) =>
          ask(async (redis) => {
            const list = await redis.lrangeBuffer(`queue:${queue}`, 0, -1);
            const later = [
              ...(await redis.zrangeBuffer('retry', '0', '-1')),
              ...(await redis.zrangeBuffer('schedule', '0', '-1')),
            ].filter((bytes) => (JSON.parse(String(bytes)) as { queue: string }).queue === queue);
            return [...list.reverse(), ...later];
          }),
        postponed: (queue) =>
          ask(async (redis) =>
            (await redis.zrangeBuffer('schedule', '0', '-1')).filter(
              (bytes) => (JSON.parse(String(bytes)) as { queue: string }).queue === queue,
            ),
          ),
        claimed: () =>
          ask(async (redis) => {
            const keys = await redis.keys('jobglot:sidekiq:claims:*');
            const counts = await Promise.all(keys.map((key) => redis.hlen(key)));
            return counts.reduce((sum, count) => sum + count, 0);
          }),
        aside: (queue) =>
          ask(async (redis) =>
            (await redis.zrangeBuffer('dead', '0', '-1'))
              .filter((bytes) => put.some((one) => one.queue === queue && one.bytes.equals(bytes)))
              .map((bytes) => ({
                bytes,
                reason: 'Sidekiq gives none: what it cannot read is in the dead set as it was',
              })),
          ),
        result: (id) =>
          ask(async (redis): Promise<StoredResult | undefined> => {
            const stored = results.get(id);
            if (stored !== undefined)
              return { state: 'succeeded', value: JSON.parse(stored), error: undefined, text: stored };
            for (const [set, state] of [
              ['dead', 'failed'],
              ['retry', 'retrying'],
            ] as const) {
              for (const text of await redis.zrange(set, '0', '-1')) {
                if (!text.includes(`"jid":"${id}"`)) continue;
                const hash = JSON.parse(text) as { error_class: string; error_message: string };
                return {
                  state,
                  value: undefined,
                  error: { type: hash.error_class, message: hash.error_message },
                  text,
                };
              }
            }
            return undefined;
          }),
      };
    },
    without: {
      'a hundred levels of nesting come back': "Ruby's JSON has a hundred levels, and the job hash is two of them",
      'bytes come back as bytes': 'JSON has no bytes, and Sidekiq no form for them',
      'timeout: a handler that hears nothing is settled as failed at its limit': NO_LIMITS,
      'a handler that lets its soft limit pass through fails by that limit': NO_LIMITS,
      'a value that cannot be written fails the job': NO_RESULTS,
      "a state of the handler's own is stored while it runs, and the result after it": NO_RESULTS,
      'cancelled: a running job that is cancelled is stored as such': NO_RESULTS,
      'a time with an offset, by a clock of another zone, is the same time': 'times are numbers of seconds',
      'an expired job is not run, and its result says so': NO_RESULTS,
      'a job that expires while it waits for its time is not run': NO_RESULTS,
      'quiet gives back what waits for its time': 'what waits for its time is in a set of its own, and never claimed',
      'a job acknowledged at its start that is stopped ends as one whose worker was lost':
        'jobs are acknowledged at their end; what is stopped goes back',
      ...(fetch === 'reliable'
        ? {}
        : {
            'what waits is still there, and is run once':
              'a job that BRPOP has taken is lost when its answer is: that is what the reliable fetch is for',
            "an unknown task is claimed until the worker stops, with unknownTask: 'hold'":
              'BRPOP leaves no claim: a held job is in the memory of the process, as every fetched job',
            'a job that ends while the store is away is settled when it is back':
              'BRPOP has taken the job for good: there is nothing to write',
            'quiet gives back what waits, in its order, and running jobs go on':
              'BRPOP fetches one job at a time: none waits',
          }),
    },
  });
}

/** What the suite says of its tasks' policies, in a job hash: errors of SCRIPT are final, but it may ask for a retry itself. */
function retriesOf(task: string, script: string): number {
  if (task === AGAIN) return 2;
  if (task === LATER) return 1;
  return script === 'retry' ? 25 : 0;
}
