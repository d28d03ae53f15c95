import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { sidekiq, type SidekiqOptions } from '../../src/drivers/sidekiq/index.ts';
import type { PoisonReport } from '../../src/source.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { type RedisServer, startRedis, until } from '../support/redis.ts';
import { Ruby, type SidekiqWeb, startSidekiqWeb } from '../support/ruby.ts';

/**
 * What a worker makes of entries that are no job, or one that is odd: it is in the dead set or runs, the worker goes on, and Ruby
 * can still draw every page and list every set.
 */
let redis: RedisServer;
let client: Redis;
let ruby: Ruby;
let web: SidekiqWeb;
let worker: Worker;
let poisons: PoisonReport[] = [];
let ran: { readonly id: string; readonly args: readonly unknown[] }[] = [];

const LIMIT = 1024 * 1024;

beforeAll(async () => {
  redis = await startRedis();
  client = redis.client();
  [ruby, web] = await Promise.all([Ruby.start({ redis: redis.url }), startSidekiqWeb({ redis: redis.url })]);
  const options: SidekiqOptions = { url: redis.url, maxJobBytes: LIMIT, pollIntervalAverage: 0.1, concurrency: 4 };
  const tasks = new Tasks()
    .handle(defineTask('OkJob'), ({ id, args }) => void ran.push({ id, args }))
    .handle(defineTask('EchoJob'), ({ id, args }) => void ran.push({ id, args }))
    .handle(defineTask('FailJob'), () => {
      throw new Error('on purpose');
    });
  worker = new Worker({ tasks, sources: [sidekiq(options)] });
  worker.on('job:poison', (report) => poisons.push(report));
  await worker.start();
});
afterEach(async () => {
  poisons = [];
  ran = [];
  for (const key of ['queue:default', 'queue:other', 'retry', 'dead', 'schedule']) await client.del(key);
});
afterAll(async () => {
  await worker.stop({ timeoutMs: 1_000 });
  await web[Symbol.asyncDispose]();
  await ruby[Symbol.asyncDispose]();
  await redis[Symbol.asyncDispose]();
});

const nested = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels);

interface Bad {
  readonly what: string;
  readonly item: string | Buffer;
  readonly code: string;
  /** It is wrapped: what it was is the argument of a job that says what is wrong. */
  readonly wrapped?: true;
}

const BAD: readonly Bad[] = [
  { what: 'nothing', item: '', code: 'undecodable' },
  { what: 'words', item: 'hello', code: 'undecodable' },
  { what: 'half an object', item: '{"class":"OkJob","args":[', code: 'undecodable' },
  { what: 'single quotes', item: "{'class': 'OkJob', 'args': []}", code: 'undecodable' },
  { what: 'two objects', item: '{"class":"OkJob","args":[]}{"class":"OkJob","args":[]}', code: 'undecodable' },
  { what: 'NaN', item: '{"class":"OkJob","args":[NaN]}', code: 'undecodable' },
  { what: 'bytes that are no UTF-8', item: Buffer.from([0x7b, 0xff, 0x00, 0xfe, 0x7d]), code: 'undecodable' },
  { what: 'JSON in Latin-1', item: Buffer.from('{"class":"OkJob","args":["é"]}', 'latin1'), code: 'undecodable' },
  { what: 'YAML', item: '---\nclass: OkJob\nargs: []\n', code: 'undecodable' },
  { what: 'a pickle', item: Buffer.from('80049511000000000000008c0568656c6c6f942e', 'hex'), code: 'undecodable' },
  { what: 'arguments nested 200 deep', item: `{"class":"OkJob","args":${nested(200)}}`, code: 'undecodable' },
  { what: 'arguments nested 100,000 deep', item: `{"class":"OkJob","args":${nested(100_000)}}`, code: 'undecodable' },
  { what: 'a list', item: '["OkJob", []]', code: 'not-a-job', wrapped: true },
  { what: 'a number', item: '42', code: 'not-a-job', wrapped: true },
  { what: 'a text', item: '"OkJob"', code: 'not-a-job', wrapped: true },
  { what: 'null', item: 'null', code: 'not-a-job', wrapped: true },
  { what: 'an empty object', item: '{}', code: 'not-a-job' },
  { what: 'no class', item: '{"args":[],"jid":"a"}', code: 'not-a-job' },
  { what: 'a class that is null', item: '{"class":null,"args":[]}', code: 'not-a-job' },
  { what: 'a class that is a list', item: '{"class":["OkJob"],"args":[]}', code: 'not-a-job' },
  { what: 'an empty class', item: '{"class":"","args":[]}', code: 'not-a-job' },
  { what: 'no args', item: '{"class":"OkJob"}', code: 'not-a-job' },
  { what: 'args that are an object', item: '{"class":"OkJob","args":{"a":1}}', code: 'not-a-job' },
  { what: 'args that are a text', item: '{"class":"OkJob","args":"abc"}', code: 'not-a-job' },
  { what: 'args that are null', item: '{"class":"OkJob","args":null}', code: 'not-a-job' },
];

describe('what is no job', () => {
  test.each(BAD)('$what', async ({ item, code, wrapped }) => {
    await client.lpush('queue:default', item);
    await good();
    await until('it is in the dead set', async () => (await client.zcard('dead')) === 1);
    const [kept] = await client.zrangeBuffer('dead', '0', '-1');
    if (wrapped) expect(JSON.parse(String(kept))).toMatchObject({ class: 'NotAJob', args: [JSON.parse(String(item))] });
    else expect(kept?.equals(Buffer.from(item as string))).toBe(true);
    expect(poisons.map((report) => report.code)).toEqual([code]);
    expect(poisons[0]).toMatchObject({ system: 'sidekiq', queue: 'default' });
    expect(poisons[0]?.reason.length).toBeLessThan(500);
    expect(poisons[0]?.kept).toContain('dead set');
    await nothingClaimed();
    await pagesAreDrawn();
  });

  test.each(BAD)('in the schedule: $what', async ({ item, code }) => {
    await client.zadd('schedule', '1', item);
    await until('it is in the dead set', async () => (await client.zcard('dead')) === 1);
    await good();
    expect(poisons.map((report) => report.code)).toEqual([code]);
    expect(await client.zcard('schedule')).toBe(0);
    await pagesAreDrawn();
  });

  test('larger than a job may be: set aside byte for byte, with what to do', async () => {
    const item = `{"class":"OkJob","args":["${'x'.repeat(LIMIT)}"],"jid":"too-large"}`;
    await client.lpush('queue:default', item);
    await good();
    expect(poisons).toMatchObject([{ code: 'too-large', id: 'too-large' }]);
    const [list = ''] = await client.keys('*quarantine*');
    expect(poisons[0]?.kept).toContain(list);
    expect(await client.lrange(list, 0, -1)).toEqual([item]);
    expect(await client.lmove(list, 'queue:kept', 'LEFT', 'RIGHT')).toBe(item);
    await client.del('queue:kept');
    await nothingClaimed();
    await pagesAreDrawn();
  });
});

const ODD: readonly (readonly [string, string])[] = [
  ['no jid', ''],
  ['a jid that is a number', '"jid":12345678901234567890'],
  ['a jid that is an object', '"jid":{"a":1}'],
  ['an empty jid', '"jid":""'],
  ['a jid of 10,000 letters', `"jid":"${'j'.repeat(10_000)}"`],
  ['unknown members', '"jid":"a","x":{"deep":[1.0,1e400]},"__proto__":{"polluted":true},"constructor":1'],
  ['members twice', '"jid":"a","retry":0,"retry":true'],
  ['spaces', ' "jid" : "a" , "x" : [ 1 , 2 ] '],
  ['a queue that is a number', '"jid":"a","queue":7'],
  ['a queue that is empty', '"jid":"a","queue":""'],
  ['another queue', '"jid":"a","queue":"other"'],
  ['a retry that is a text', '"jid":"a","retry":"yes"'],
  ['a retry below zero', '"jid":"a","retry":-1'],
  ['a retry with a fraction', '"jid":"a","retry":1.5'],
  ['a retry that is null', '"jid":"a","retry":null'],
  ['a retry_count that is a text', '"jid":"a","retry_count":"2"'],
  ['a retry_count beyond all', '"jid":"a","retry_count":1e300'],
  ['a retry_count far below zero', '"jid":"a","retry_count":-100'],
  ['a failed_at that is a text', '"jid":"a","retry_count":1,"failed_at":"2026-11-21T00:00:00Z"'],
  ['a retry_for that is a text', '"jid":"a","retry_for":"1 hour"'],
  ['a retry_queue that is a number', '"jid":"a","retry_queue":7'],
  ['a backtrace that is a text', '"jid":"a","backtrace":"all"'],
  ['a backtrace below zero', '"jid":"a","backtrace":-1'],
  ['an error_backtrace that is none', '"jid":"a","error_backtrace":"!!!"'],
  ['tags that are a text', '"jid":"a","tags":"urgent"'],
  ['an expiry that is a text', '"jid":"a","expiry":"tomorrow"'],
  ['an expires_in that is a list', '"jid":"a","expires_in":[1]'],
  ['a wrapped that is a number', '"jid":"a","wrapped":7'],
  ['a display_class that is a list', '"jid":"a","display_class":["x"]'],
  ['a bid', '"jid":"a","bid":"b-1"'],
];

describe('a job that is odd', () => {
  const text = (name: string, members: string): string =>
    `{"class":"${name}","args":[1.0,{"k":null}]${members === '' ? '' : ','}${members},"created_at":1795219358.5,"enqueued_at":1795219358.5}`;

  test.each(ODD)('%s: it is run', async (_, members) => {
    await client.lpush('queue:default', text('OkJob', members));
    await until('it has run', () => ran.length === 1);
    expect(ran[0]?.args).toEqual([1, { k: null }]);
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
    expect(poisons).toEqual([]);
    await good();
    await nothingClaimed();
  });

  test.each(ODD)('%s: its failure is kept with all it had, and Ruby lists it', async (_, members) => {
    const item = text('FailJob', members);
    await client.lpush('queue:default', item);
    let kept: string | undefined;
    await until('it is kept', async () => {
      kept = [...(await client.zrange('retry', '0', '-1')), ...(await client.zrange('dead', '0', '-1'))][0];
      return kept !== undefined;
    });
    expect(kept).toContain('"args":[1.0,{"k":null}]');
    expect(kept).toContain('on purpose');
    for (const part of ['"deep":[1.0,1e400]', '"__proto__":{"polluted":true}', '"bid":"b-1"', '12345678901234567890'])
      if (item.includes(part)) expect(kept).toContain(part);
    await nothingClaimed();
    await good();
    if (!RUBY_STUMBLES.some((part) => item.includes(part))) await pagesAreDrawn();
  });
});

/** Members whose types Ruby's own pages cannot draw, whoever failed the job. */
const RUBY_STUMBLES: readonly string[] = ['"tags":"urgent"'];

const DATA = (members: string): string => `{"job_class":"EchoJob","job_id":"a","queue_name":"default"${members}}`;

const ODD_RAILS: readonly (readonly [string, string, 'runs' | 'fails'])[] = [
  ['nothing but its class', '{"job_class":"EchoJob"}', 'runs'],
  ['arguments that are null', DATA(',"arguments":null'), 'runs'],
  ['unknown members', DATA(',"arguments":[1.0],"tenant":{"__proto__":{"polluted":true}}'), 'runs'],
  ['a serializer that nobody knows', DATA(',"arguments":[{"_aj_serialized":"Nope::Serializer","x":1}]'), 'runs'],
  [
    'a key that is a trap',
    DATA(',"arguments":[{"__proto__":{"polluted":true},"_aj_symbol_keys":["__proto__"]}]'),
    'runs',
  ],
  ['an enqueued_at that is a number', DATA(',"arguments":[],"enqueued_at":1795219358.5'), 'runs'],
  ['two marks', DATA(',"arguments":[{"a":1,"_aj_symbol_keys":["a"],"_aj_hash_with_indifferent_access":true}]'), 'runs'],
  ['arguments that are an object', DATA(',"arguments":{"a":1}'), 'fails'],
  ['arguments that are a text', DATA(',"arguments":"abc"'), 'fails'],
  ['a record that is none', DATA(',"arguments":[{"_aj_globalid":"nonsense"}]'), 'fails'],
  [
    'a time that is none',
    DATA(',"arguments":[{"_aj_serialized":"ActiveJob::Serializers::TimeSerializer","value":"soon"}]'),
    'fails',
  ],
  [
    'a duration that is none',
    DATA(',"arguments":[{"_aj_serialized":"ActiveJob::Serializers::DurationSerializer","value":[]}]'),
    'fails',
  ],
  ['a serializer without a name', DATA(',"arguments":[{"_aj_serialized":null}]'), 'fails'],
  ['marks that are no list', DATA(',"arguments":[{"a":1,"_aj_symbol_keys":"a"}]'), 'fails'],
  ['executions that are a text', DATA(',"arguments":[],"executions":"2"'), 'fails'],
  ['a continuation that is none', DATA(',"arguments":[],"continuation":[1]'), 'fails'],
];

test.each(ODD_RAILS)('a job of Rails with %s %s', async (_, data, what) => {
  const wrapper = 'ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper';
  const item = `{"class":"${wrapper}","wrapped":"EchoJob","args":[${data}],"jid":"rails","queue":"default","retry":true,"x":1.0}`;
  await client.lpush('queue:default', item);
  if (what === 'runs') {
    await until('it has run', () => ran.some(({ id }) => id === 'rails'));
    expect(await client.zcard('retry')).toBe(0);
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  } else {
    await until('it is to be tried again', async () => (await client.zcard('retry')) === 1);
    const [kept = ''] = await client.zrange('retry', '0', '-1');
    expect(kept.startsWith(item.slice(0, -1))).toBe(true);
    expect(JSON.parse(kept)).toMatchObject({ error_class: 'ActiveJob::DeserializationError', retry_count: 0 });
    await pagesAreDrawn();
  }
  await good();
  await nothingClaimed();
});

test('unparsable entries by the thousand: all are kept, and the good ones between them run', async () => {
  const items = Array.from({ length: 3_000 }, (_, index) =>
    index % 3 === 0 ? `{"class":"OkJob","args":[${index}],"jid":"${index}"}` : `{bad ${index}`,
  );
  await client.lpush('queue:default', ...items);
  await until('all good ones have run', () => ran.length === 1_000);
  await until('all bad ones are kept', async () => (await client.zcard('dead')) === 2_000);
  await nothingClaimed();
  expect(worker.state).toBe('running');
});

/** A good job, pushed by Ruby after whatever came before, runs. */
async function good(): Promise<void> {
  const before = ran.length;
  const jid = await ruby.run<string>(`Sidekiq::Client.push('class' => 'OkJob', 'args' => ['good'])`);
  await until('a good job runs', () => ran.slice(before).some(({ id }) => id === jid));
}

async function nothingClaimed(): Promise<void> {
  await until('nothing is claimed', async () => (await client.keys('jobglot:sidekiq:claims:*')).length === 0);
  expect(await client.llen('queue:default')).toBe(0);
}

async function pagesAreDrawn(): Promise<void> {
  for (const path of ['/', '/busy', '/queues', '/retries', '/scheduled', '/morgue', '/stats']) {
    const response = await fetch(web.url + path);
    const body = await response.text();
    expect({ path, status: response.status, body: response.ok ? '' : body.slice(0, 500) }).toEqual({
      path,
      status: 200,
      body: '',
    });
  }
  await ruby.run(
    '[Sidekiq::DeadSet, Sidekiq::RetrySet, Sidekiq::ScheduledSet].each { |set| set.new.each(&:display_class) }',
  );
}
