import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { resque, ResqueApi, ResqueClient, ResqueScheduler } from '../../src/drivers/resque/index.ts';
import type { PoisonReport } from '../../src/source.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

/** What is no payload is set aside as it is, with the reason; what is only odd is run; the worker goes on. A Ruby worker dies of the former. */
let server: RedisServer;
let redis: Redis;
let worker: Worker;
let client: ResqueClient;
let poisons: PoisonReport[] = [];
let ran: (readonly unknown[])[] = [];

const LIMIT = 1024 * 1024;

beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
  client = new ResqueClient({ url: server.url, defaultQueue: 'default' });
  const tasks = new Tasks()
    .handle(defineTask('OkJob'), ({ args }) => void ran.push(args))
    .handle(defineTask('MyJob'), ({ args }) => void ran.push(args));
  const source = resque({
    url: server.url,
    queues: ['default'],
    maxJobBytes: LIMIT,
    scheduler: { interval: 0.2 },
    processTitle: false,
  });
  worker = new Worker({ tasks, sources: [source] });
  worker.on('job:poison', (report) => poisons.push(report));
  await worker.start();
});
afterEach(async () => {
  poisons = [];
  ran = [];
  await redis.del('resque:jobglot:quarantine:default', 'resque:jobglot:quarantine:default:why');
});
afterAll(async () => {
  await worker.stop({ timeoutMs: 1_000 });
  await client.close();
  await server[Symbol.asyncDispose]();
});

const nested = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels);

const BAD: readonly { readonly what: string; readonly item: string | Buffer; readonly code?: string }[] = [
  { what: 'nothing', item: '' },
  { what: 'words', item: '{nope' },
  { what: 'half an object', item: '{"class":"OkJob","args":[' },
  { what: 'two objects', item: '{"class":"OkJob","args":[]}{"class":"OkJob","args":[]}' },
  { what: 'NaN', item: '{"class":"OkJob","args":[NaN]}' },
  { what: 'bytes that are no UTF-8', item: Buffer.from([0x7b, 0xff, 0x00, 0xfe, 0x7d]) },
  { what: 'JSON in Latin-1', item: Buffer.from('{"class":"OkJob","args":["é"]}', 'latin1') },
  { what: 'a pickle', item: Buffer.from('80049511000000000000008c0568656c6c6f942e', 'hex') },
  { what: 'arguments nested 200 deep', item: `{"class":"OkJob","args":${nested(200)}}` },
  { what: 'arguments nested 100,000 deep', item: `{"class":"OkJob","args":${nested(100_000)}}` },
  { what: 'a list', item: '["OkJob", []]' },
  { what: 'a number', item: '42' },
  { what: 'null', item: 'null' },
  { what: 'an empty object', item: '{}' },
  { what: 'a class that is null', item: '{"class":null,"args":[]}' },
  { what: 'a class that is a list', item: '{"class":["OkJob"],"args":[]}' },
  { what: 'a class without letters', item: '{"class":"","args":[]}' },
  { what: 'args that are an object', item: '{"class":"OkJob","args":{"a":1}}' },
  { what: 'args that are a text', item: '{"class":"OkJob","args":"[]"}' },
  { what: 'more bytes than allowed', item: `{"class":"OkJob","args":["${'x'.repeat(LIMIT)}"]}`, code: 'too-large' },
];

describe('set aside', () => {
  test.each(BAD)('$what', async ({ item, code = 'undecodable' }) => {
    const bytes = Buffer.from(item);
    await redis.rpush('resque:queue:default', bytes);
    await client.enqueue('OkJob', { args: ['after'] });
    await until('the one behind it has run', () => ran.length === 1);
    await until('the worker says so', () => poisons.length === 1);
    expect(poisons[0]).toMatchObject({ system: 'resque', queue: 'default', code });
    expect(poisons[0]?.kept).toContain("LMOVE 'resque:jobglot:quarantine:default' 'resque:queue:default' LEFT RIGHT");
    const [kept] = await redis.lrangeBuffer('resque:jobglot:quarantine:default', 0, -1);
    expect(kept?.equals(bytes)).toBe(true);
    expect(await redis.llen('resque:queue:default')).toBe(0);
    expect(await redis.keys('resque:jobglot:claims:*')).toEqual([]);
    expect(await redis.llen('resque:failed')).toBe(0);
  });

  test('a delayed item that is none', async () => {
    await redis.rpush('resque:delayed:1', '{nope', '{"class":"OkJob","args":["due"],"queue":"default"}');
    await redis.zadd('resque:delayed_queue_schedule', 1, '1');
    await until('the one behind it has run', () => ran.length === 1);
    expect(ran).toEqual([['due']]);
    expect(await redis.lrange('resque:jobglot:quarantine:delayed', 0, -1)).toEqual(['{nope']);
    expect(await redis.exists('resque:delayed:1')).toBe(0);
    expect(poisons[0]).toMatchObject({ queue: 'delayed', code: 'undecodable' });
  });
});

describe('run', () => {
  const ODD: readonly (readonly [what: string, item: string, args: readonly unknown[]])[] = [
    ['no args', '{"class":"OkJob"}', []],
    ['args that are null', '{"class":"OkJob","args":null}', []],
    ['members nobody knows', '{"x":{"y":1},"class":"OkJob","args":[1],"queue":"other"}', [1]],
    ['white space', ' { "class" : "OkJob" , "args" : [ 1 ] } ', [1]],
    ['a class with a dash', '{"class":"my-job","args":[2]}', [2]],
    [
      'names that JavaScript gives meaning',
      '{"class":"OkJob","args":[{"__proto__":{"a":1}}],"__proto__":{"class":"X"}}',
      [],
    ],
    ['large integers', '{"class":"OkJob","args":[18446744073709551617]}', [18446744073709551617n]],
  ];

  test.each(ODD)('%s', async (what, item, args) => {
    await redis.rpush('resque:queue:default', item);
    await until('it has run', () => ran.length === 1);
    if (what.startsWith('names')) expect(JSON.stringify(ran[0])).toBe('[{"__proto__":{"a":1}}]');
    else expect(ran).toEqual([args]);
    expect(poisons).toEqual([]);
  });
});

describe('keys that are something else', () => {
  test('a queue that is no list stops no other queue, and loses no job of one', async () => {
    await using own = await startRedis();
    const there = own.client();
    const seen: unknown[] = [];
    const tasks = new Tasks().handle(defineTask('OkJob'), ({ args }) => void seen.push(args[0]));
    const source = resque({
      url: own.url,
      queues: ['a', 'b', 'c'],
      fetch: 'poll',
      interval: 0.05,
      processTitle: false,
    });
    const other = new Worker({ tasks, sources: [source] });
    await there.rpush('resque:queue:a', '{"class":"OkJob","args":["a"]}');
    await there.hset('resque:queue:b', 'no', 'list');
    await there.rpush('resque:queue:c', '{"class":"OkJob","args":["c"]}');
    await other.start();
    await until('both have run', () => seen.length === 2);
    expect(seen).toEqual(['a', 'c']);
    await other.stop();
  });

  test('a second that is no list holds up no other', async () => {
    await redis.set('resque:delayed:1', 'no list');
    await redis.rpush('resque:delayed:2', '{"class":"OkJob","args":["two"],"queue":"default"}');
    await redis.zadd('resque:delayed_queue_schedule', 1, '1', 2, '2');
    await until('the other has run', () => ran.length === 1);
    expect(ran).toEqual([['two']]);
    expect(await redis.zcard('resque:delayed_queue_schedule')).toBe(0);
    expect(await redis.get('resque:delayed:1')).toBe('no list');
  });

  test('a delayed job whose queue is no list is set aside; those beside it are moved once', async () => {
    await redis.hset('resque:queue:odd', 'no', 'list');
    const odd = '{"class":"OkJob","args":["odd"],"queue":"odd"}';
    const item = (name: string): string => `{"class":"OkJob","args":["${name}"],"queue":"default"}`;
    await redis.del('resque:jobglot:quarantine:delayed', 'resque:jobglot:quarantine:delayed:why');
    await redis.rpush('resque:delayed:3', item('before'), odd, item('behind'));
    await redis.zadd('resque:delayed_queue_schedule', 3, '3');
    await until('both have run', () => ran.length >= 2);
    await until('the second is done', async () => (await redis.zcard('resque:delayed_queue_schedule')) === 0);
    await client.enqueue('OkJob', { args: ['last'] });
    await until('what came later has run', () => ran.some(([name]) => name === 'last'));
    expect(ran.map(([name]) => name).sort()).toEqual(['before', 'behind', 'last']);
    expect(await redis.lrange('resque:jobglot:quarantine:delayed', 0, -1)).toEqual([odd]);
    expect(await redis.lindex('resque:jobglot:quarantine:delayed:why', 0)).toContain('is a hash, not a list');
    expect(poisons[0]?.reason).toContain("'odd'");
  });

  test('a schedule whose queue is no list holds up no other, nor what is delayed; numbers of a schedule stay as they are', async () => {
    await using own = await startRedis();
    const there = own.client();
    const stop = new AbortController();
    await there.hset('resque:queue:odd', 'no', 'list');
    const args = '[1.0,18446744073709551617]';
    await there.hset('resque:persistent_schedules', {
      a: '{"class":"OkJob","queue":"odd","args":[],"every":"1s"}',
      b: `{"class":"OkJob","queue":"exact","args":${args},"every":"1s"}`,
    });
    const running = new ResqueScheduler({ url: own.url, interval: 0.2 }).run(stop.signal);
    await until('the other is sent', async () => (await there.llen('resque:queue:exact')) > 0);
    expect(await there.lindex('resque:queue:exact', 0)).toBe(`{"class":"OkJob","args":${args}}`);
    await there.rpush('resque:delayed:1', '{"class":"OkJob","args":[],"queue":"delayed"}');
    await there.zadd('resque:delayed_queue_schedule', 1, '1');
    await until('what is delayed is moved', async () => (await there.llen('resque:queue:delayed')) === 1);
    await there.del('resque:queue:odd');
    await until('it is sent when it can be', async () => (await there.llen('resque:queue:odd')) > 0);
    stop.abort();
    await running;
  });

  test('a failure whose queue is no list is not taken away when it is retried', async () => {
    await using own = await startRedis();
    const there = own.client();
    await using api = new ResqueApi({ url: own.url });
    await there.hset('resque:queue:odd', 'no', 'list');
    const failure =
      '{"failed_at":"2026/11/21 00:15:44 UTC","payload":{"class":"OkJob","args":[]},"exception":"X","error":"","backtrace":[],"worker":"w","queue":"odd"}';
    await there.rpush('resque:failed', failure);
    const [one] = await api.failures();
    await expect(api.retry(one!, { remove: true })).rejects.toThrow('not a list');
    expect(await there.lrange('resque:failed', 0, -1)).toEqual([failure]);
  });

  test('names of queues that cannot be read lose no job that was claimed meanwhile', async () => {
    await using own = await startRedis();
    const there = own.client();
    await there.rpush('resque:queue:known', '{"class":"OkJob","args":["first"]}');
    await there.sadd('resque:queues', 'known');
    const seen: unknown[] = [];
    const tasks = new Tasks().handle(defineTask('OkJob'), ({ args }) => void seen.push(args[0]));
    const source = resque({ url: own.url, queues: ['*'], fetch: 'poll', interval: 0.05, processTitle: false });
    const other = new Worker({ tasks, sources: [source] });
    await other.start();
    await until('it has run', () => seen.length === 1);
    const down = other.once('source:down');
    await there.multi().del('resque:queues').set('resque:queues', 'no set').exec();
    await down;
    await there.rpush('resque:queue:known', '{"class":"OkJob","args":["second"]}');
    await until('it has run too', () => seen.length === 2);
    await other.stop();
    expect(await there.keys('resque:jobglot:claims:*')).toEqual([]);
  });

  test('a failure that cannot be recorded keeps its job claimed until it can; counters may be anything', async () => {
    await using own = await startRedis();
    const there = own.client();
    const tasks = new Tasks()
      .handle(defineTask('OkJob'), () => undefined)
      .handle(defineTask('FailJob'), () => {
        throw new Error('on purpose');
      });
    await there.set('resque:failed', 'no list');
    await there.set('resque:stat:failed', 'no number');
    await there.rpush('resque:queue:a', '{"class":"FailJob","args":[]}');
    const other = new Worker({ tasks, sources: [resque({ url: own.url, queues: ['a'], processTitle: false })] });
    const unsettled = other.once('job:unsettled');
    await other.start();
    expect(String(((await unsettled).error as Error).message)).toContain('resque:failed is a string, not a list');
    const [claims] = await there.keys('resque:jobglot:claims:*');
    expect(await there.hlen(claims!)).toBe(1);
    await there.del('resque:failed');
    await until('it is recorded', async () => (await there.llen('resque:failed')) === 1);
    await there.set('resque:stat:processed', 'no number');
    const settled = other.once('job:settled', ({ disposition }) => disposition.state === 'succeeded');
    await there.rpush('resque:queue:a', '{"class":"OkJob","args":[]}');
    await settled;
    await other.stop();
    expect(await there.llen('resque:failed')).toBe(1);
    expect(await there.keys('resque:jobglot:claims:*')).toEqual([]);
  });
});
