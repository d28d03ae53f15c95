import { randomUUID } from 'node:crypto';
import { deflateSync } from 'node:zlib';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { dumps } from '../../protocols/rq/serializers.ts';
import { RqClient, type RqOptions } from '../../src/drivers/rq/index.ts';
import { pause } from '../../src/source.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { type RqScene, startRqWorker } from './rq-scene.ts';

/**
 * A key that is of another type than RQ has there ends a script in the middle, and Redis takes nothing back: so scripts look before they
 * write. What cannot be written is not written half, is told of, and is done once the key is mended; others go on.
 */
let server: RedisServer;
let redis: Redis;
let gates: Map<string, () => void>;

beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
});
afterAll(async () => {
  redis.disconnect();
  await server[Symbol.asyncDispose]();
});
beforeEach(async () => {
  await redis.flushall();
  gates = new Map();
});

function startWorker(options: Partial<RqOptions> = {}): Promise<RqScene> {
  return startRqWorker(
    { url: server.url, queues: ['q', 'r'], concurrency: 4, abandonedInterval: 0.2, ...options },
    {
      ok: () => 'done',
      gate: ({ id }) => new Promise((resolve) => gates.set(id, () => resolve('through'))),
    },
  );
}

async function put(func: string, fields: Readonly<Record<string, string>> = {}, queue = 'q'): Promise<string> {
  const id = randomUUID() as string;
  await redis.hset(`rq:job:${id}`, {
    data: deflateSync(dumps('pickle', [func, null, [], {}])),
    origin: queue,
    status: 'queued',
    timeout: '180',
    created_at: '2026-11-21T00:00:00.000000Z',
    ...fields,
  });
  await redis.rpush(`rq:queue:${queue}`, id);
  return id;
}

const status = (id: string): Promise<string | null> => redis.hget(`rq:job:${id}`, 'status');
const reaches = (id: string, state: string): Promise<void> =>
  until(`${id} is ${state}`, async () => (await status(id)) === state);
const started = (id: string): Promise<void> => until(`${id} has started`, () => gates.has(id));
const told = (scene: RqScene, key: string): Promise<void> =>
  until(`${key} is told of`, () =>
    scene.lines.some(
      ({ level, message, fields }) =>
        ['warn', 'error'].includes(level) &&
        `${message} ${String(fields['error'])} ${JSON.stringify(fields)}`.includes(key),
    ),
  );

async function swap(key: string): Promise<() => Promise<unknown>> {
  const there = await redis.exists(key);
  if (there === 1) await redis.rename(key, `kept:${key}`);
  if (key.startsWith('rq:queue:')) await redis.sadd(key, 'x');
  else await redis.rpush(key, 'x');
  return () => (there === 1 ? redis.rename(`kept:${key}`, key) : redis.del(key));
}

describe('an end', () => {
  it.each([
    ['its results', (id: string) => `rq:results:${id}`, {}],
    ['its registry', () => 'rq:finished:q', {}],
    ['the runs of the queue', () => 'rq:wip:q', {}],
    ['the queue it goes to again', () => 'rq:queue:q', { repeats_left: '1', repeat_intervals: '[0]' }],
    ['the schedule it goes to', () => 'rq:scheduled:q', { repeats_left: '1', repeat_intervals: '[1000]' }],
    ['the list of queues', () => 'rq:queues', { repeats_left: '1', repeat_intervals: '[0]' }],
    ['its hash', (id: string) => `rq:job:${id}`, {}],
  ] as const)(
    'is not written half where %s is of another type, and is once that is mended',
    async (_, keyOf, fields) => {
      await using scene = await startWorker({ withScheduler: false });
      const id = await put('gate', fields);
      await started(id);
      const key = keyOf(id);
      const mend = await swap(key);
      gates.get(id)?.();
      const beside = await put('ok', { result_ttl: '0' }, 'r');
      await until('the one beside it has ended', async () => (await redis.exists(`rq:job:${beside}`)) === 0);
      await told(scene, key);
      const member = await redis.smembers(`rq:worker:${(await redis.smembers('rq:workers'))[0]?.slice(10)}:executions`);
      expect(member.map((one) => one.slice(0, id.length))).toContain(id);
      if (key !== `rq:job:${id}`) expect(await status(id)).toBe('started');
      if (key !== `rq:results:${id}`) expect(await redis.exists(`rq:results:${id}`)).toBe(0);
      if (key !== 'rq:finished:q') expect(await redis.exists('rq:finished:q')).toBe(0);
      gates.delete(id);
      await mend();
      await until('it is settled', async () => (await redis.zscore('rq:finished:q', id)) !== null);
      expect(await redis.xlen(`rq:results:${id}`)).toBe(1);
      if ('repeats_left' in fields) {
        expect(await redis.hget(`rq:job:${id}`, 'repeats_left')).toBe('0');
        if (key === 'rq:scheduled:q') expect(await redis.zscore('rq:scheduled:q', id)).not.toBeNull();
        else {
          await started(id);
          gates.get(id)?.();
          await reaches(id, 'finished');
        }
      }
    },
  );
  it('of a job is written where one that waits for it cannot be put into its queue: that one waits on', async () => {
    const id = await put('gate');
    const [stuck, free] = [
      await put('ok', { status: 'deferred', origin: 'spoiled' }),
      await put('ok', { status: 'deferred', origin: 'r' }),
    ];
    await redis.lrem('rq:queue:q', 0, stuck);
    await redis.lrem('rq:queue:q', 0, free);
    await redis.sadd(`rq:job:${id}:dependents`, stuck, free);
    await redis.zadd('rq:deferred:r', 1, free);
    await redis.zadd('rq:deferred:spoiled', 1, stuck);
    await redis.set('rq:queue:spoiled', 'x');
    await using scene = await startWorker();
    await started(id);
    gates.get(id)?.();
    await reaches(free, 'finished');
    expect(await status(id)).toBe('finished');
    expect(await status(stuck)).toBe('deferred');
    expect(await redis.zscore('rq:deferred:spoiled', stuck)).not.toBeNull();
    expect(scene.worker.state).toBe('running');
  });
});

describe('a claim', () => {
  it.each(['rq:wip:q', 'rq:finished:q', 'rq:failed:q', 'jobglot:rq:quarantine:q', 'jobglot:rq:quarantine:q:why'])(
    'takes nothing of a queue where %s is of another type, and serves the others',
    async (key) => {
      await redis.set(key, 'x');
      const ids = [await put('ok'), await put('ok')];
      await using scene = await startWorker();
      await reaches(await put('ok', {}, 'r'), 'finished');
      await told(scene, key.replace(':why', ''));
      expect(await redis.lrange('rq:queue:q', 0, -1)).toEqual(ids);
      // It waits, and does not ask again and again.
      const asked = async (): Promise<number> =>
        Number(/cmdstat_evalsha:calls=(\d+)/.exec(await redis.info('commandstats'))?.[1] ?? 0);
      const before = await asked();
      await pause(500);
      expect((await asked()) - before).toBeLessThan(50);
      await redis.del(key);
      for (const id of ids) await reaches(id, 'finished');
    },
  );
  it("and an end leave out the list of a job's own runs where that is of another type", async () => {
    const id = await put('ok');
    await redis.set(`rq:executions:${id}`, 'x');
    await using scene = await startWorker();
    await reaches(id, 'finished');
    await until('nothing runs', async () => (await redis.exists('rq:wip:q')) === 0);
    expect(await redis.xlen(`rq:results:${id}`)).toBe(1);
    expect(scene.poisons).toEqual([]);
  });
});

it('a sign of life reaches the other runs where one has keys of another type', async () => {
  await using _ = await startWorker({ jobMonitoringInterval: 1 });
  const [odd, sound] = [await put('gate'), await put('gate')];
  for (const id of [odd, sound]) await started(id);
  const mend = await swap(`rq:job:${odd}`);
  const members = await redis.zrange('rq:wip:q', 0, '-1', 'WITHSCORES');
  const member = members.find((one) => one.startsWith(sound)) as string;
  const before = members[members.indexOf(member) + 1];
  await until('its deadline is later', async () => (await redis.zscore('rq:wip:q', member)) !== before);
  await mend();
  for (const id of [odd, sound]) gates.get(id)?.();
  for (const id of [odd, sound]) await reaches(id, 'finished');
});

describe('upkeep', () => {
  const die = async (id: string, queue: string): Promise<void> => {
    await redis.lrem(`rq:queue:${queue}`, 0, id);
    await redis.zadd(`rq:wip:${queue}`, 1, `${id}:0123`);
  };
  it('goes on where a job that was abandoned is no hash any more: its id is kept', async () => {
    await redis.set('rq:job:odd', 'x');
    await die('odd', 'q');
    const id = await put('ok', { status: 'started' });
    await die(id, 'q');
    await using _ = await startWorker();
    await reaches(id, 'failed');
    await until('nothing runs', async () => (await redis.exists('rq:wip:q')) === 0);
    expect(await redis.lrange('jobglot:rq:quarantine:q', 0, -1)).toEqual(['odd']);
    expect(await redis.get('rq:job:odd')).toBe('x');
  });
  it.each(['rq:wip:q', 'rq:deferred:q', 'rq:failed:q', 'rq:queue:q:intermediate'])(
    'of other queues goes on where %s is of another type',
    async (key) => {
      await redis.set(key, 'x');
      const id = await put('ok', { status: 'started' }, 'r');
      await die(id, 'r');
      await using scene = await startWorker();
      await reaches(id, 'failed');
      await told(scene, key === 'rq:failed:q' ? 'q' : key.includes('wip') ? 'rq:wip:q' : 'q');
    },
  );
  it('does not take an id off the way to a queue that is none', async () => {
    const id = await put('ok');
    await redis.lmove('rq:queue:q', 'rq:queue:q:intermediate', 'LEFT', 'RIGHT');
    await redis.set(`rq:queue:q:intermediate:first_seen:${id}`, String(Date.now() / 1000 - 61));
    await redis.set('rq:queue:q', 'x');
    await using scene = await startWorker();
    await told(scene, 'rq:queue:q');
    expect(await redis.lrange('rq:queue:q:intermediate', 0, -1)).toEqual([id]);
    await redis.del('rq:queue:q');
    await reaches(id, 'finished');
  });
  it('gives back an id on the way that has no status: whoever claims it says what is wrong', async () => {
    const id = await put('ok');
    await redis.hdel(`rq:job:${id}`, 'status');
    await redis.lmove('rq:queue:q', 'rq:queue:q:intermediate', 'LEFT', 'RIGHT');
    await redis.set(`rq:queue:q:intermediate:first_seen:${id}`, String(Date.now() / 1000 - 61));
    await using _ = await startWorker();
    await until('it has been claimed', async () => ['finished', 'failed'].includes((await status(id)) ?? ''));
  });
});

it.each(['rq:scheduler-lock:q', 'rq:scheduled:q', 'rq:queue:q'])(
  'the schedule of other queues goes on where %s is of another type',
  async (key) => {
    await redis.rpush('elsewhere', 'x');
    const ids = [await put('ok', { status: 'scheduled' }), await put('ok', { status: 'scheduled' }, 'r')];
    await redis.del('rq:queue:q', 'rq:queue:r');
    await redis.zadd('rq:scheduled:q', 1, ids[0] as string);
    await redis.zadd('rq:scheduled:r', 1, ids[1] as string);
    const mend = await swap(key);
    await using scene = await startWorker();
    await reaches(ids[1] as string, 'finished');
    await told(scene, key);
    expect(await status(ids[0] as string)).toBe('scheduled');
    await mend();
    await reaches(ids[0] as string, 'finished');
  },
);

describe('a time to live that Redis does not take', () => {
  const ODD = ['1.5', '99999999999999999999', '-5', 'nan', 'inf', 'x'];

  it.each(ODD)('(%s) of a job that waits for another: both end', async (ttl) => {
    const id = await put('gate');
    const child = await put('ok', { status: 'deferred', origin: 'r', ttl });
    await redis.lrem('rq:queue:q', 0, child);
    await redis.sadd(`rq:job:${id}:dependents`, child);
    await redis.zadd('rq:deferred:r', 1, child);
    await using _ = await startWorker();
    await started(id);
    gates.get(id)?.();
    await reaches(id, 'finished');
    await until('the other has ended', async () => ['finished', 'failed'].includes((await status(child)) ?? ''));
    expect(await redis.exists('rq:deferred:r')).toBe(0);
  });
  it.each(ODD)('(%s) of a job that is due: it is put into its queue', async (ttl) => {
    const id = await put('ok', { status: 'scheduled', ttl });
    await redis.del('rq:queue:q');
    await redis.zadd('rq:scheduled:q', 1, id);
    await using _ = await startWorker();
    await until('it has ended', async () => ['finished', 'failed'].includes((await status(id)) ?? ''));
    expect(await redis.exists('rq:scheduled:q')).toBe(0);
  });
  it.each(['9007199254740991', '-5'])('(%s) of a result, of a failure, and of one that is tried again', async (ttl) => {
    const good = await put('ok', { result_ttl: ttl });
    const bad = await put('nobody.has.it', { failure_ttl: ttl });
    const again = await put('nobody.has.it', { ttl, retries_left: '1', failure_ttl: '1000' });
    await using _ = await startWorker({ unknownTask: 'reject' });
    await reaches(good, 'finished');
    await reaches(bad, 'failed');
    await reaches(again, 'failed');
    for (const id of [good, bad, again]) expect(await redis.xlen(`rq:results:${id}`)).toBeGreaterThan(0);
    expect(await redis.zscore('rq:finished:q', good)).not.toBeNull();
    expect(await redis.zscore('rq:failed:q', bad)).not.toBeNull();
    await until('nothing runs', async () => (await redis.exists('rq:wip:q')) === 0);
  });
});

describe('a new job', () => {
  it.each([
    ['its queue', 'rq:queue:q', {}],
    ['the list of queues', 'rq:queues', {}],
    ['the schedule', 'rq:scheduled:q', { in: 60 }],
    ['its group', 'rq:group:g', { group: 'g' }],
    ['what waits', 'rq:deferred:q', { dependsOn: 'parent' }],
    ['what waits for the other', 'rq:job:parent:dependents', { dependsOn: 'parent' }],
    ['its hash', 'rq:job:new', {}],
  ] as const)('is refused, and nothing of it is written, where %s is of another type', async (_, key, options) => {
    await redis.hset('rq:job:parent', 'status', 'started');
    const mend = await swap(key);
    await using client = new RqClient({ url: server.url });
    const enqueue = (): Promise<{ readonly id: string }> =>
      client.enqueue('ok', { queue: 'q', jobId: 'new', ...options });
    const before = (await redis.keys('*')).sort();
    await expect(enqueue()).rejects.toThrow(/WRONGTYPE/);
    expect((await redis.keys('*')).sort()).toEqual(before);
    await mend();
    expect((await enqueue()).id).toBe('new');
  });
});

describe('what a person does to a job', () => {
  it('a requeue is refused where its queue is none, and the job stays in its registry', async () => {
    const id = await put('ok', { status: 'failed' });
    await redis.del('rq:queue:q');
    await redis.zadd('rq:failed:q', '+inf', id);
    await redis.set('rq:queue:q', 'x');
    await using client = new RqClient({ url: server.url });
    await expect(client.job(id).requeue()).rejects.toThrow(/WRONGTYPE/);
    expect(await redis.zscore('rq:failed:q', id)).not.toBeNull();
    expect(await status(id)).toBe('failed');
    await redis.del('rq:queue:q');
    await client.job(id).requeue();
    expect(await redis.lrange('rq:queue:q', 0, -1)).toEqual([id]);
  });
  it('a cancel is refused where there is no place for it, and else goes past what is of another type', async () => {
    const id = await put('ok');
    await redis.set('rq:canceled:q', 'x');
    await redis.set('rq:deferred:q', 'x');
    await using client = new RqClient({ url: server.url });
    await expect(client.job(id).cancel()).rejects.toThrow(/WRONGTYPE/);
    expect([await status(id), await redis.llen('rq:queue:q')]).toEqual(['queued', 1]);
    await redis.del('rq:canceled:q');
    await client.job(id).cancel();
    expect([await status(id), await redis.llen('rq:queue:q')]).toEqual(['canceled', 0]);
  });
  it('a delete takes all there is', async () => {
    const id = await put('ok');
    await redis.set(`rq:executions:${id}`, 'x');
    await redis.set(`rq:job::${id}:dependencies`, 'x');
    await redis.set('rq:finished:q', 'x');
    await using client = new RqClient({ url: server.url });
    await client.job(id).delete();
    expect(await redis.keys(`*${id}*`)).toEqual([]);
    expect(await redis.llen('rq:queue:q')).toBe(0);
  });
});
