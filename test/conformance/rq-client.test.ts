import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  inflate,
  inOrder,
  type JobOptions,
  jobs,
  jobSettings,
  loads,
  newJob,
  queues,
  readCall,
  register,
  type SerializerName,
  workers,
} from '../../protocols/rq/index.ts';
import { RedisConnection } from '../../src/transports/redis.ts';
import { redisTarget } from '../../src/transports/redis-url.ts';
import { RQ_CALLS } from '../golden/rq-calls.ts';
import { type Held, loadRq } from '../golden/rq-support.ts';
import { shown } from '../golden/shown.ts';
import { bytesOf } from '../golden/support.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';

/**
 * What a client of ours leaves in Redis is what RQ 2.10 leaves: the same keys, types, members, times to live and fields. Here are calls
 * that go together, and all that is no enqueueing; single calls are in rq-enqueue.
 */

interface Call {
  readonly args?: readonly unknown[];
  readonly kwargs?: Readonly<Record<string, unknown>>;
  readonly queue?: string;
  readonly serializer?: SerializerName;
  readonly due?: Date;
  readonly defaultTimeout?: number;
  readonly options?: JobOptions;
}

let server: RedisServer;
let raw: Redis;
let redis: RedisConnection;

beforeAll(async () => {
  server = await startRedis();
  raw = server.client();
  redis = new RedisConnection(redisTarget(server.url));
  await redis.connect();
});
beforeEach(async () => {
  await raw.flushall();
});
afterAll(async () => {
  await redis?.close();
  await server?.[Symbol.asyncDispose]();
});

/** A client whose clock and ids are those of a fixture. */
class Frozen {
  readonly now: Date;
  readonly #ids: string[];
  constructor(clock: string, ids: readonly string[]) {
    this.now = new Date(clock);
    this.#ids = [...ids];
  }
  async add(call: Call = {}): Promise<string> {
    return this.enqueue('add', { args: [2, 3], ...call });
  }
  async enqueue(name: string, call: Call = {}): Promise<string> {
    return (await this.many([[name, call]]))[0] as string;
  }
  async many(calls: readonly (readonly [name: string, call: Call])[]): Promise<readonly string[]> {
    const made = calls.map(
      ([name, { args = [], kwargs = {}, queue = 'default', serializer = 'pickle', due, ...call }]) => {
        const settings = jobSettings(call.options ?? {}, call.defaultTimeout);
        const id = settings.id ?? (this.#ids.shift() as string);
        return newJob(settings, {
          call: { funcName: `tasks.${name}`, instance: null, args, kwargs },
          id,
          queue,
          serializer,
          now: this.now,
          due,
        });
      },
    );
    await redis.run(register(inOrder(made), this.now));
    return made.map(({ job }) => job.id);
  }
}

const MIDNIGHT = new Date('2026-11-22T00:00:00Z');

const SCENARIOS: Readonly<Record<string, (client: Frozen) => Promise<unknown>>> = {
  'enqueue-at-options': (client) =>
    client.add({
      due: MIDNIGHT,
      // Python lets it expire long before it is due; we refuse that.
      options: { jobId: 'later-1', atFront: true, retry: { max: 2 }, meta: { a: 1 } },
    }),
  'enqueue-depends-on-ids': async (client) => {
    await client.many([
      ['add', { args: [2, 3], options: { jobId: 'a' } }],
      ['add', { args: [2, 3], options: { jobId: 'b' } }],
    ]);
    await client.enqueue('echo', { options: { dependsOn: ['a', 'b'] } });
  },
  'enqueue-group': (client) =>
    client.many([
      ['add', { args: [1, 2], options: { jobId: 'a', group: 'batch' } }],
      ['add', { args: [3, 4], options: { jobId: 'b', group: 'batch' } }],
    ]),
  'enqueue-many': (client) =>
    client.many([
      ['add', { args: [1, 2], options: { jobId: 'a' } }],
      ['echo', { kwargs: { k: 1 }, options: { jobId: 'b', atFront: true, jobTimeout: 30 } }],
    ]),
  'enqueue-many-dependents': async (client) => {
    const first = await client.add();
    await client.many([
      ['add', { args: [1, 2], options: { jobId: 'a' } }],
      ['echo', { args: [3], options: { jobId: 'b', dependsOn: first } }],
    ]);
  },
  'enqueue-unique-scheduled': (client) => client.add({ due: MIDNIGHT, options: { jobId: 'only', unique: true } }),
  'client-cancel': async (client) => redis.run(jobs.cancel(await client.add(), client.now)),
  'client-cancel-scheduled': async (client) =>
    redis.run(jobs.cancel(await client.add({ due: new Date(client.now.getTime() + 90_000) }), client.now)),
  'client-cancel-deferred': async (client) => {
    const dependsOn = await client.add();
    await redis.run(jobs.cancel(await client.enqueue('echo', { options: { dependsOn } }), client.now));
  },
  'client-cancel-with-dependents': async (client) => {
    const first = await client.add();
    await client.enqueue('echo', { args: ['after'], options: { dependsOn: { jobs: [first], allowFailure: true } } });
    await redis.run(jobs.cancel(first, client.now, { enqueueDependents: true }));
  },
  'client-delete': async (client) => redis.run(jobs.deleteJob(await client.add())),
  'client-delete-dependents': async (client) => {
    const first = await client.add();
    await client.enqueue('echo', { args: ['after'], options: { dependsOn: first } });
    await redis.run(jobs.deleteJob(first, { deleteDependents: true }));
  },
  'client-delete-grouped': async (client) => {
    await client.many([
      ['add', { args: [1, 2], options: { jobId: 'a', group: 'batch' } }],
      ['add', { args: [3, 4], options: { jobId: 'b', group: 'batch' } }],
    ]);
    await redis.run(jobs.deleteJob('a'));
  },
  'client-delete-queue': async (client) => {
    await client.add();
    await redis.run(queues.empty('default'));
    await redis.run(queues.forgetQueue('default'));
  },
  'client-empty': async (client) => {
    await client.add();
    await client.enqueue('add', { args: [4, 5] });
    await redis.run(queues.empty('default'));
  },
  'client-suspend-for-ever': () => redis.run(workers.suspend()),
  'client-suspend': async () => {
    await redis.run(workers.suspend(60));
    await redis.run(workers.resume());
  },
};

/** What Python does and a client of ours does not, or only with a worker in between; that is tested beside real workers. */
const ELSEWHERE =
  /^(?:enqueue-(?:args-explicit|at-naive|callable|class-method|method|static-method|enqueue-call|sync.*|depends-on-(?:failed|finished))|client-(?:delete-finished|fetch|requeue|save-meta|send-.*))$/;

const fixtures = [...loadRq('2.10', 'enqueue-'), ...loadRq('2.10', 'client-')];

it('all that Python has done is done here, call by call in rq-enqueue, or beside real workers', () => {
  const known = (name: string): boolean =>
    name in SCENARIOS || name.replace(/^enqueue-/, '') in RQ_CALLS || ELSEWHERE.test(name);
  expect(fixtures.map(({ name }) => name).filter((name) => !known(name))).toEqual([]);
});

describe('after what Python has done, and after ours, Redis holds the same', () => {
  it.each(fixtures.filter(({ name }) => name in SCENARIOS).map((fixture) => [fixture.name, fixture] as const))(
    '%s',
    async (name, { frozen, after }) => {
      const scenario = SCENARIOS[name] as (client: Frozen) => Promise<unknown>;
      await scenario(new Frozen(frozen.clock, frozen.ids));
      const ours = await state();
      const theirs = Object.fromEntries(Object.entries(after).map(([key, held]) => [key, plain(held)]));
      ON_PURPOSE[name]?.(theirs);
      expect(ours).toEqual(theirs);
    },
  );
});

/** Where we differ on purpose: what of Python's state is to be changed for ours. */
const ON_PURPOSE: Readonly<Record<string, (theirs: Record<string, Plain>) => void>> = {
  // Python lets it expire long before it is due; we refuse a ttl that does.
  'enqueue-at-options': (theirs) => {
    const job = theirs['rq:job:later-1'] as Plain;
    delete job.ttl;
    job.value = (job.value as [string, unknown][]).filter(([field]) => field !== 'ttl');
  },
};

interface Plain {
  readonly type: string;
  value: unknown;
  ttl?: number;
}

/** All there is, in the form of a fixture. */
async function state(): Promise<Record<string, Plain>> {
  const all: Record<string, Plain> = {};
  for (const key of await raw.keys('*')) {
    const type = (await raw.type(key)) as Held['type'];
    const ttl = await raw.ttl(key);
    const own = (): Promise<unknown> => {
      switch (type) {
        case 'string':
          return raw.getBuffer(key);
        case 'list':
          return raw.lrangeBuffer(key, 0, -1);
        case 'set':
          return raw.smembersBuffer(key);
        case 'zset':
          return raw.zrange(key, '0', '-1', 'WITHSCORES');
        case 'hash':
          return raw.hgetallBuffer(key);
        case 'stream':
          return raw.xrange(key, '-', '+');
      }
    };
    const value = await own();
    all[key] = { type, value: shape(type, value), ...(ttl < 0 ? {} : { ttl: rounded(ttl) }) };
  }
  return all;
}

function plain({ type, value, ttl }: Held): Plain {
  const read = (): unknown => {
    switch (type) {
      case 'string':
        return bytesOf(value);
      case 'list':
      case 'set':
        return value.map(bytesOf);
      case 'zset':
        return value.flatMap(([member, score]) => [String(bytesOf(member)), score]);
      case 'hash':
        return Object.fromEntries(value.map(([field, one]) => [field, bytesOf(one)]));
      case 'stream':
        return value;
    }
  };
  return { type, value: shape(type, read()), ...(ttl === undefined ? {} : { ttl: rounded(ttl) }) };
}

/** Sets and fields in an order; data and meta as what they mean, since a pickle of ours is another one. */
function shape(type: Held['type'], value: unknown): unknown {
  switch (type) {
    case 'string':
      return String(value);
    case 'list':
      return (value as Buffer[]).map(String);
    case 'set':
      return (value as Buffer[]).map(String).sort();
    case 'zset':
      return value;
    case 'hash':
      return Object.entries(value as Record<string, Buffer>)
        .map(([field, one]): [string, unknown] => [field, fieldValue(field, one)])
        .sort(([a], [b]) => (a < b ? -1 : 1));
    case 'stream':
      return value;
  }
}

function fieldValue(field: string, value: Buffer): unknown {
  if (field === 'data') return callOf(value);
  return field === 'meta' ? shown(loads(value, { exact: true })) : String(value);
}

function callOf(data: Buffer): unknown {
  const { funcName, instance, args, kwargs } = readCall(inflate(data), { exact: true });
  return [funcName, shown(instance), shown([...args]), shown(kwargs)];
}

function rounded(ttl: number): number {
  return Math.ceil(ttl / 10) * 10;
}
