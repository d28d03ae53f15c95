import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FrozenSet, TimeDelta, Tuple } from '../../protocols/formats/pickle/index.ts';
import { DateTime, Decimal, float, PlainDate, Uuid } from '../../protocols/formats/values.ts';
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
import { type Held, loadRq } from '../golden/rq-support.ts';
import { shown } from '../golden/shown.ts';
import { bytesOf } from '../golden/support.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';

/** What a client of ours leaves in Redis is what RQ 2.10 leaves: the same keys, types, members, times to live and fields. */

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
        const funcName = name.includes('.') || name === 'len' ? name : `tasks.${name}`;
        return newJob(settings, {
          call: { funcName: name === 'len' ? 'builtins.len' : funcName, instance: null, args, kwargs },
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

const NOON = new Date('2026-11-22T10:20:30Z');
const MIDNIGHT = new Date('2026-11-22T00:00:00Z');

const SCENARIOS: Readonly<Record<string, (client: Frozen) => Promise<unknown>>> = {
  'enqueue-plain': (client) => client.add(),
  'enqueue-args-and-kwargs': (client) => client.enqueue('add', { args: [2], kwargs: { y: 3 } }),
  'enqueue-at-front': (client) => client.add({ options: { atFront: true } }),
  'enqueue-at': (client) => client.add({ due: new Date(NOON.getTime() + 900) }),
  'enqueue-at-offset': (client) => client.add({ due: new Date('2026-11-22T10:20:30+02:00') }),
  'enqueue-at-options': (client) =>
    client.add({
      due: MIDNIGHT,
      // Python lets it expire long before it is due; we refuse that.
      options: { jobId: 'later-1', atFront: true, retry: { max: 2 }, meta: { a: 1 } },
    }),
  'enqueue-in': (client) => client.add({ due: new Date(client.now.getTime() + 90_000) }),
  'enqueue-builtin': (client) => client.enqueue('len', { args: [[1, 2]] }),
  'enqueue-by-name': (client) => client.enqueue('shop.bill', { args: [7] }),
  'enqueue-bytes': (client) =>
    client.enqueue('echo', { args: [Buffer.alloc(0), Buffer.from('abc'), Buffer.from([255, 0])] }),
  'enqueue-call-timeout': (client) => client.enqueue('echo', { kwargs: { timeout: 7 } }),
  'enqueue-callbacks': (client) =>
    client.add({ options: { onSuccess: 'tasks.on_success', onFailure: 'tasks.on_failure' } }),
  'enqueue-callbacks-timeouts': (client) =>
    client.add({
      options: {
        onSuccess: { func: 'tasks.on_success', timeout: 11 },
        onFailure: 'tasks.on_failure',
        onStopped: { func: 'tasks.on_stopped', timeout: '2m' },
      },
    }),
  'enqueue-containers': (client) =>
    client.enqueue('echo', {
      args: [
        new Tuple(),
        Tuple.of(1),
        Tuple.of(1, 2, 3, 4),
        new Set([1]),
        new FrozenSet([1]),
        new Map<unknown, unknown>([
          [1, 'a'],
          [null, 'b'],
          [Tuple.of(1, 2), 'c'],
        ]),
      ],
    }),
  'enqueue-decimal-uuid': (client) =>
    client.enqueue('echo', { args: [new Decimal('1.50'), new Uuid('0b1e9a52-7f1c-4c5e-9c55-3f0a2a1de001')] }),
  'enqueue-dependency': async (client) => {
    const first = await client.add();
    const dependsOn = { jobs: first, allowFailure: true, enqueueAtFront: true };
    await client.enqueue('echo', { args: ['after'], options: { dependsOn } });
  },
  'enqueue-depends-on': async (client) => {
    const first = await client.add();
    await client.enqueue('echo', { args: ['after'], options: { dependsOn: first } });
  },
  'enqueue-depends-on-ids': async (client) => {
    await client.many([
      ['add', { args: [2, 3], options: { jobId: 'a' } }],
      ['add', { args: [2, 3], options: { jobId: 'b' } }],
    ]);
    await client.enqueue('echo', { options: { dependsOn: ['a', 'b'] } });
  },
  'enqueue-depends-on-missing': (client) => client.enqueue('echo', { options: { dependsOn: 'never-was' } }),
  'enqueue-depends-on-other-queue': async (client) => {
    const first = await client.add({ queue: 'other' });
    await client.enqueue('echo', { args: ['after'], options: { dependsOn: first } });
  },
  'enqueue-depends-on-ttl': async (client) => {
    const first = await client.add();
    await client.enqueue('echo', { args: ['after'], options: { dependsOn: first, ttl: 600 } });
  },
  'enqueue-description': (client) => client.add({ options: { description: 'the sum of two' } }),
  'enqueue-description-cut': (client) =>
    client.enqueue('echo', {
      args: ['y'.repeat(100), Array.from({ length: 60 }, (_, at) => at)],
      kwargs: { k: 'z'.repeat(90) },
    }),
  'enqueue-description-reprs': (client) =>
    client.enqueue('echo', {
      args: ['a\nb', "it's", Buffer.from([0]), float(1), 1e16, Tuple.of(1), { b: [null, true] }],
      kwargs: { zz: 1, aa: 'é' },
    }),
  'enqueue-everything': (client) =>
    client.enqueue('add', {
      args: [1],
      kwargs: { y: [1, 2] },
      options: {
        jobId: 'full-1',
        meta: { a: 1 },
        ttl: 600,
        resultTtl: '1h',
        failureTtl: '2d',
        jobTimeout: '3m',
        description: 'all of it',
        retry: { max: 3, interval: [10, 20, 30], enqueueAtFront: true },
        repeat: { times: 3, interval: [5, 6] },
        onSuccess: { func: 'tasks.on_success', timeout: 11 },
        onFailure: 'tasks.on_failure',
        onStopped: 'tasks.on_stopped',
        webhooks: [{ url: 'https://example.org/done', jobStatus: 'finished' }],
      },
    }),
  'enqueue-failure-ttl': (client) => client.add({ options: { failureTtl: '2d' } }),
  'enqueue-floats': (client) =>
    client.enqueue('echo', { args: [0.1, -0, 1e22, 5e-324, Infinity, Number.NaN].map(asFloat) }),
  'enqueue-group': (client) =>
    client.many([
      ['add', { args: [1, 2], options: { jobId: 'a', group: 'batch' } }],
      ['add', { args: [3, 4], options: { jobId: 'b', group: 'batch' } }],
    ]),
  'enqueue-integers': (client) =>
    client.enqueue('echo', {
      args: [255, 256, 65536, 2 ** 31, 2 ** 53 - 1, 2n ** 53n + 1n, 2n ** 64n, -5000000000, 10n ** 30n],
    }),
  'enqueue-job-id': (client) => client.add({ options: { jobId: 'order_17-A' } }),
  'enqueue-json': (client) =>
    client.enqueue('echo', {
      args: [1, float(1), 'é', null, [true, Tuple.of(2)]],
      kwargs: { k: { b: 1, a: 10n ** 20n } },
      serializer: 'json',
      options: { meta: { a: [1] } },
    }),
  'enqueue-json-not-finite': (client) => client.enqueue('echo', { args: [Number.NaN, -Infinity], serializer: 'json' }),
  'enqueue-kwargs': (client) => client.enqueue('echo', { kwargs: { b: 1, a: null, _x: 'é' } }),
  'enqueue-large': (client) => client.enqueue('echo', { args: ['x'.repeat(5000)] }),
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
  'enqueue-meta': (client) => client.add({ options: { meta: { tenant: 'acme', steps: [1, float(2), null] } } }),
  'enqueue-no-arguments': (client) => client.enqueue('nothing'),
  'enqueue-plain-types': (client) =>
    client.enqueue('echo', {
      args: [null, true, false, 0, -1, 1.5, float(1), 'text', [1, [2, []]], { k: { k: {} } }],
    }),
  'enqueue-queue': (client) => client.add({ queue: 'mail' }),
  'enqueue-queue-default-timeout': (client) => client.add({ queue: 'slow', defaultTimeout: 3600 }),
  'enqueue-repeat': (client) => client.add({ options: { repeat: { times: 3, interval: [5, 6] } } }),
  'enqueue-result-ttl': (client) => client.add({ options: { resultTtl: '1h' } }),
  'enqueue-result-ttl-forever': (client) => client.add({ options: { resultTtl: -1 } }),
  'enqueue-result-ttl-zero': (client) => client.add({ options: { resultTtl: 0 } }),
  'enqueue-retry': (client) => client.add({ options: { retry: { max: 3 } } }),
  'enqueue-retry-at-front': (client) =>
    client.add({ options: { retry: { max: 3, interval: [10], enqueueAtFront: true } } }),
  'enqueue-retry-interval': (client) => client.add({ options: { retry: { max: 3, interval: 60 } } }),
  'enqueue-retry-intervals': (client) => client.add({ options: { retry: { max: 3, interval: [10, 20, 30] } } }),
  'enqueue-texts': (client) =>
    client.enqueue('echo', { args: ['', 'žluťoučký kůň', '日本語', '\u{1f407}', '\0', "it's", '"both\''] }),
  'enqueue-timeout': (client) => client.add({ options: { jobTimeout: 30 } }),
  'enqueue-timeout-float': (client) => client.add({ options: { jobTimeout: 5.9 } }),
  'enqueue-timeout-none': (client) => client.add({ options: { jobTimeout: -1 } }),
  'enqueue-timeout-text': (client) => client.add({ options: { jobTimeout: '1h' } }),
  'enqueue-times': (client) =>
    client.enqueue('echo', {
      args: [
        new DateTime('2026-01-02T03:04:05.678901'),
        new Date('2026-01-02T00:00:00Z'),
        new PlainDate('2026-01-02'),
        new TimeDelta(1, 2, 3),
      ],
    }),
  'enqueue-ttl': (client) => client.add({ options: { ttl: 600 } }),
  'enqueue-unique': (client) => client.add({ options: { jobId: 'only', unique: true } }),
  'enqueue-unique-duplicate': async (client) => {
    await client.add({ options: { jobId: 'only' } });
    await client.enqueue('add', { args: [4, 5], options: { jobId: 'only', unique: true } });
  },
  'enqueue-unique-scheduled': (client) => client.add({ due: MIDNIGHT, options: { jobId: 'only', unique: true } }),
  'enqueue-unique-ttl-at-front': (client) =>
    client.add({ options: { jobId: 'only', unique: true, ttl: 600, atFront: true } }),
  'enqueue-webhooks': (client) =>
    client.add({
      options: {
        webhooks: [
          { url: 'https://example.org/done', jobStatus: 'finished' },
          {
            url: 'https://example.org/failed',
            jobStatus: 'failed',
            method: 'GET',
            headers: { 'x-tenant': 'acme' },
            timeout: 3,
          },
        ],
      },
    }),
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

describe('after what Python has done, and after ours, Redis holds the same', () => {
  it.each(fixtures.filter(({ name }) => !ELSEWHERE.test(name)).map((fixture) => [fixture.name, fixture] as const))(
    '%s',
    async (name, { frozen, after }) => {
      const scenario = SCENARIOS[name];
      if (scenario === undefined) throw new Error(`nobody knows how to do ${name}`);
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
  'enqueue-at': aSecondLater,
  'enqueue-in': aSecondLater,
  // Python lets it expire long before it is due; we refuse a ttl that does.
  'enqueue-at-options': (theirs) => {
    const job = theirs['rq:job:later-1'] as Plain;
    delete job.ttl;
    job.value = (job.value as [string, unknown][]).filter(([field]) => field !== 'ttl');
  },
};

/** Python cuts off the part of a second, so that the job is early. */
function aSecondLater(theirs: Record<string, Plain>): void {
  const due = theirs['rq:scheduled:default'] as Plain;
  due.value = (due.value as string[]).map((one, at) => (at % 2 === 1 ? String(Number(one) + 1) : one));
}

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

function asFloat(value: number): unknown {
  return Number.isInteger(value) ? float(value) : value;
}
