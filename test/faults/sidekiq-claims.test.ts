import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { sidekiq, SidekiqClient, type SidekiqOptions } from '../../src/drivers/sidekiq/index.ts';
import { pause } from '../../src/source.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { startProgram } from './program.ts';

const DEAD = 'elsewhere:1:00000000dead';
const CLAIMS = `jobglot:sidekiq:claims:${DEAD}`;

let server: RedisServer;
let redis: Redis;
let client: SidekiqClient;
let gates: Map<string, () => void>;
let ran: string[];
const workers: Worker[] = [];

beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
  client = new SidekiqClient({ url: server.url });
});
beforeEach(async () => {
  await redis.flushall();
  gates = new Map();
  ran = [];
});
afterEach(async () => {
  for (const open of gates.values()) open();
  for (const worker of workers.splice(0)) await worker.stop({ timeoutMs: 0 });
});
afterAll(async () => {
  await client.close();
  await server[Symbol.asyncDispose]();
});

async function startWorker(options: Partial<SidekiqOptions> = {}): Promise<Worker> {
  const tasks = new Tasks()
    .handle(defineTask<(name: string) => void>('Ran'), ({ args: [name] }) => void ran.push(name))
    .handle(defineTask<(name: string) => void>('Gate'), async ({ args: [name] }, { signal }) => {
      ran.push(name);
      await new Promise<void>((resolve) => {
        gates.set(name, resolve);
        signal.addEventListener('abort', () => resolve());
      });
    })
    .handle(defineTask('Boom'), () => {
      throw new Error('boom');
    });
  const source = sidekiq({
    url: server.url,
    concurrency: 1,
    rescueInterval: 0.05,
    heartbeatInterval: 0.2,
    prefetch: 0,
    ...options,
  });
  const worker = new Worker({ tasks, sources: [source], abortGraceMs: 100 });
  workers.push(worker);
  await worker.start();
  return worker;
}

const job = (name: string, extra = ''): string =>
  `{"class":"Ran","args":["${name}"],"jid":"jid-${name}","queue":"default","retry":true, "x":1.0${extra}}`;

async function abandoned(...names: string[]): Promise<void> {
  await redis.sadd('jobglot:sidekiq:claimants', DEAD);
  for (const [at, name] of names.entries()) await redis.hset(CLAIMS, `${at + 8}:default`, job(name));
}

async function identity(): Promise<string> {
  await until('a process shows itself', async () => (await redis.scard('processes')) === 1);
  return (await redis.smembers('processes'))[0] as string;
}

describe('jobs of a process that is dead', () => {
  test('run in the order it fetched them, before what waits', async () => {
    await redis.lpush('queue:default', job('waiting'));
    // 8, 9, 10: by their numbers, not by their texts.
    await abandoned('first', 'second', 'third');
    await startWorker({ queues: ['other'] });
    await until('they are back', async () => (await redis.llen('queue:default')) === 4);
    expect(await redis.lrange('queue:default', 0, -1)).toEqual(
      ['waiting', 'third', 'second', 'first'].map((name) => job(name)),
    );
    await until('nothing is left of the dead', async () => (await redis.exists(CLAIMS)) === 0);
    expect(await redis.sismember('jobglot:sidekiq:claimants', DEAD)).toBe(0);
    await startWorker();
    await until('all have run', () => ran.length === 4);
    expect(ran).toEqual(['first', 'second', 'third', 'waiting']);
  });

  test('are left alone while it beats', async () => {
    await abandoned('busy');
    await redis.hset(DEAD, 'info', '{}');
    const worker = await startWorker({ queues: ['other'] });
    const looks: number[] = [];
    for (let look = 0; look < 5; look++) {
      await pause(60);
      looks.push(await redis.hlen(CLAIMS));
    }
    expect(looks).toEqual([1, 1, 1, 1, 1]);
    expect(worker.state).toBe('running');
  });

  test('that kill their process again and again go to the dead set, and say why', async () => {
    const worker = await startWorker({ queues: ['other'], poisonLimit: 2 });
    const poisoned = worker.once('job:poison');
    await abandoned('poison');
    await until('it is back', async () => (await redis.llen('queue:default')) === 1);
    await redis.del('queue:default');
    await abandoned('poison');
    expect(await poisoned).toMatchObject({ system: 'sidekiq', queue: 'default', id: 'jid-poison', code: 'poison' });
    const [dead] = await redis.zrange('dead', '0', '-1');
    expect(dead).toContain('"x":1.0,"error_message":"the process died 2 times while this job ran');
    expect(await redis.llen('queue:default')).toBe(0);
  });

  test('that only waited there when it died have not killed it', async () => {
    const worker = await startWorker({ queues: ['other'], poisonLimit: 1 });
    const poisoned = worker.once('job:poison');
    await redis.hset('jobglot:sidekiq:begun', DEAD, 8);
    await abandoned('ran', 'waited', 'waits too');
    expect(await poisoned).toMatchObject({ id: 'jid-ran' });
    await until('nothing is left of the dead', async () => (await redis.exists('jobglot:sidekiq:claimants')) === 0);
    expect(await redis.zcard('dead')).toBe(1);
    expect(await redis.lrange('queue:default', 0, -1)).toEqual([job('waits too'), job('waited')]);
    expect(await redis.mget('jobglot:sidekiq:rescues:jid-ran', 'jobglot:sidekiq:rescues:jid-waited')).toEqual([
      null,
      '1',
    ]);
    expect(await redis.exists('jobglot:sidekiq:begun')).toBe(0);
  });

  test('that began are told from those that wait, as they begin', async () => {
    for (const name of ['a', 'b', 'c', 'd']) await client.enqueue('Gate', { args: [name] });
    await startWorker({ concurrency: 2, prefetch: 2 });
    await until('two run', () => gates.size === 2);
    const own = await identity();
    const begun = async (name: string): Promise<boolean | undefined> => {
      const [claims, number] = await Promise.all([
        redis.hgetall(`jobglot:sidekiq:claims:${own}`),
        redis.hget('jobglot:sidekiq:begun', own),
      ]);
      const found = Object.entries(claims).find(([, bytes]) => bytes.includes(`["${name}"]`));
      return found && Number(found[0].split(':')[0]) <= Number(number);
    };
    expect([await begun('a'), await begun('b'), (await begun('d')) === true]).toEqual([true, true, false]);
    gates.get('a')?.();
    await until('the third has begun, and is told', async () => gates.has('c') && (await begun('c')) === true);
  });

  test('that it only held for others are given back, however often it dies', async () => {
    await startWorker({ poisonLimit: 1 });
    await redis.sadd('jobglot:sidekiq:claimants', DEAD);
    await redis.hset(CLAIMS, '8:default', job('x').replace('"Ran"', '"OnlyRuby"'));
    await until("it is nobody's", async () => (await redis.exists(CLAIMS)) === 0);
    expect(await redis.zcard('dead')).toBe(0);
    await workers[0]!.stop();
    expect(await redis.lrange('queue:default', 0, -1)).toEqual([job('x').replace('"Ran"', '"OnlyRuby"')]);
  });

  test('that are no jobs are given back as they are', async () => {
    await redis.sadd('jobglot:sidekiq:claimants', DEAD);
    await redis.hset(CLAIMS, '1:default', Buffer.from([0xff, 0x00]));
    await startWorker({ queues: ['other'] });
    await until('it is back', async () => (await redis.llen('queue:default')) === 1);
    expect(await redis.lindexBuffer('queue:default', 0)).toEqual(Buffer.from([0xff, 0x00]));
  });
});

describe('a process that was taken for dead', () => {
  test('does not settle a job that others have', async () => {
    const worker = await startWorker();
    await client.enqueue('Gate', { args: ['held'] });
    await until('it runs', () => gates.has('held'));
    const claims = `jobglot:sidekiq:claims:${await identity()}`;
    expect(await redis.hlen(claims)).toBe(1);
    await redis.del(claims);
    const settled = worker.once('job:settled');
    gates.get('held')?.();
    expect((await settled).disposition.state).toBe('succeeded');
    expect(await redis.zcard('retry')).toBe(0);
  });

  test('writes no retry of a job that others have', async () => {
    const source = sidekiq({ url: server.url, concurrency: 1, heartbeatInterval: 0.2 });
    const taken = new Worker({
      tasks: new Tasks().handle(defineTask('Fails'), async () => {
        await redis.del(...(await redis.keys('jobglot:sidekiq:claims:*')));
        throw new Error('too late');
      }),
      sources: [source],
    });
    workers.push(taken);
    await taken.start();
    const settled = taken.once('job:settled');
    await client.enqueue('Fails');
    expect((await settled).disposition.state).toBe('requeued');
    expect(await redis.zcard('retry')).toBe(0);
  });

  test('does not start what waits here and was given to others', async () => {
    const worker = await startWorker({ prefetch: 5 });
    await client.enqueue('Gate', { args: ['first'] });
    await until('it runs', () => gates.has('first'));
    const own = await identity();
    await client.enqueue('Ran', { args: ['taken'] });
    // As if it had been silent for a minute, and another process had rescued what it held. In one step: what waits too long goes back to its queue by
    // itself, and must not do so in between.
    await until('it is fetched, and then taken away', async () => {
      const script = `
        for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
          if string.find(redis.call('HGET', KEYS[1], field), 'taken', 1, true) then
            redis.call('DEL', KEYS[2])
            return redis.call('HDEL', KEYS[1], field)
          end
        end
        return 0`;
      return (await redis.eval(script, 2, `jobglot:sidekiq:claims:${own}`, own)) === 1;
    });
    const released = worker.once('job:released', ({ job: one }) => one.args[0] === 'taken');
    await until('it beats again', async () => (await redis.exists(own)) === 1);
    // The beat that shows the process again is not over yet: only then does the process look which claims it has lost. The next beat begins after that.
    const first = await redis.hget(own, 'beat');
    await until('a whole beat is over', async () => (await redis.hget(own, 'beat')) !== first);
    gates.get('first')?.();
    await released;
    expect(ran).toEqual(['first']);
  });
});

describe('claims whose answer was lost', () => {
  test('go back to their queue, next out, with the next beat', async () => {
    await startWorker({ queues: ['other'] });
    const own = await identity();
    await redis.hset(`jobglot:sidekiq:claims:${own}`, '900:default', job('b'), '899:default', job('a'));
    await until('they are back', async () => (await redis.llen('queue:default')) === 2);
    expect(await redis.lrange('queue:default', 0, -1)).toEqual([job('b'), job('a')]);
  });
});

describe('what waits here too long', () => {
  test('goes back for others', async () => {
    await startWorker({ prefetch: 5 });
    await client.enqueue('Gate', { args: ['long'] });
    await until('it runs', () => gates.has('long'));
    await client.enqueueMany('Ran', [{ args: ['a'] }, { args: ['b'] }]);
    const own = await identity();
    await until('both are fetched', async () => (await redis.hlen(`jobglot:sidekiq:claims:${own}`)) === 3);
    await until('both are back, in their order', async () => {
      const waiting = await redis.lrange('queue:default', 0, -1);
      return waiting.length === 2 && waiting[0]?.includes('"b"') === true;
    });
    gates.get('long')?.();
    await until('both have run', () => ran.length === 3);
    expect(ran).toEqual(['long', 'a', 'b']);
  });
});

describe('the end', () => {
  test('leaves no process, no claims, no claimant; and what ran is counted', async () => {
    const worker = await startWorker();
    await client.enqueue('Ran', { args: ['a'] });
    await client.enqueue('Boom', { retry: 0 });
    await until('both are counted', async () => (await redis.zcard('dead')) === 1 && ran.length === 1);
    const own = await identity();
    await worker.stop();
    expect(await redis.smembers('processes')).toEqual([]);
    expect(await redis.keys('jobglot:*')).toEqual([]);
    expect(await redis.exists(`${own}:work`)).toBe(0);
    expect(await redis.mget('stat:processed', 'stat:failed')).toEqual(['2', '1']);
  });
});

describe('what the server refuses', () => {
  test('a retry that cannot be written leaves the job claimed, and is written when it can be', async () => {
    const tasks = new Tasks().handle(defineTask('Fails'), () => {
      throw new Error('no');
    });
    const source = sidekiq({ url: server.url, concurrency: 1, heartbeatInterval: 0.2, poll: false });
    const worker = new Worker({ tasks, sources: [source] });
    workers.push(worker);
    await worker.start();
    await redis.set('retry', 'not a set');
    const unsettled = worker.once('job:unsettled');
    await client.enqueue('Fails');
    await unsettled;
    expect(await redis.hlen(`jobglot:sidekiq:claims:${await identity()}`)).toBe(1);
    await redis.del('retry');
    await until('the retry is written', async () => (await redis.zcard('retry')) === 1);
    await until('the claim is gone', async () => (await redis.keys('jobglot:sidekiq:claims:*')).length === 0);
  });

  test('a job whose queue is no list does not hold up what else is due, and is kept', async () => {
    await redis.set('queue:odd', 'not a list');
    await redis.zadd('schedule', '1', job('odd').replace('"queue":"default"', '"queue":"odd"'), '2', job('even'));
    await startWorker();
    await until('the other one has run', () => ran.length === 1);
    expect(ran).toEqual(['even']);
    expect(await redis.zrange('dead', '0', '-1')).toEqual([expect.stringContaining('"odd"') as string]);
    expect(await redis.zcard('schedule')).toBe(0);
  });

  test('a server without memory does not make a process look dead', async () => {
    const small = await startRedis({ args: ['--maxmemory', '3mb', '--maxmemory-policy', 'noeviction'] });
    const own = small.client();
    const source = sidekiq({ url: small.url, heartbeatInterval: 0.1, deadAfter: 60 });
    const worker = new Worker({ tasks: new Tasks().handle(defineTask('X'), () => undefined), sources: [source] });
    workers.push(worker);
    try {
      await worker.start();
      const failed = worker.once('agent:failed');
      await own.set('filler', 'x'.repeat(4 * 2 ** 20)).catch(() => undefined);
      await own.config('SET', 'maxmemory', '1mb');
      await failed;
      const [name] = await own.smembers('processes');
      // Longer than a beat would say: the next one brings it down again.
      await own.expire(name as string, 1_000);
      await until('its entry is renewed', async () => (await own.ttl(name as string)) <= 60);
      expect(await own.exists(name as string)).toBe(1);
      await own.config('SET', 'maxmemory', '0');
    } finally {
      await worker.stop({ timeoutMs: 0 });
      await small[Symbol.asyncDispose]();
    }
  });
});

test('a worker that is killed while it postpones jobs loses none, and none is counted as failed', async () => {
  const count = 200;
  for (let at = 0; at < count; at++)
    await redis.lpush(
      'queue:default',
      `{"class":"LaterJob","args":[100],"jid":"p${at}","queue":"default","retry":true}`,
    );
  const options: SidekiqOptions = {
    url: server.url,
    ...{ heartbeatInterval: 0.2, deadAfter: 1, rescueInterval: 0.2, poisonLimit: 100, pollIntervalAverage: 0.1 },
  };
  for (let kill = 1; kill <= 3; kill++) {
    const program = await startProgram('sidekiq', options, server.url);
    const before = Number(await redis.hlen('asked:node'));
    await until('some more were postponed', async () => (await redis.hlen('asked:node')) > Math.min(before, count - 1));
    await program.kill();
  }
  const last = await startProgram('sidekiq', options, server.url);
  await until('every job has run', async () => (await redis.hlen('count:node')) === count);
  await last.stop();
  expect([await redis.zcard('schedule'), await redis.zcard('retry'), await redis.zcard('dead')]).toEqual([0, 0, 0]);
  expect(await redis.llen('queue:default')).toBe(0);
});
