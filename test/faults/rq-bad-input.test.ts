import { deflateSync, inflateSync } from 'node:zlib';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PythonRq, runRq, startRqDashboard } from '../support/python-rq.ts';
import { type RedisServer, startRedis, until } from '../support/redis.ts';
import { type RqScene, startRqWorker } from './rq-scene.ts';

/**
 * What a worker makes of what is no job. A Python worker ends on most of these, and so does each one after it. Here the job fails, with
 * the reason, or its id is set aside; the next job runs; and Python's tools read all that is left.
 */
let redis: RedisServer;
let store: Redis;
let scene: RqScene;
let python: PythonRq;

beforeAll(async () => {
  redis = await startRedis();
  store = redis.client();
  python = await PythonRq.start('2.10', redis.url);
  scene = await startRqWorker(
    { url: redis.url, queues: ['default'], concurrency: 4 },
    {
      'app.ok': ({ args }) => args[0] ?? 'ran',
      'app.kwargs': ({ kwargs }) => Object.entries(kwargs),
      'app.quiet': () => null,
    },
  );
});
afterAll(async () => {
  await scene?.[Symbol.asyncDispose]();
  await python?.stop();
  await redis?.[Symbol.asyncDispose]();
});

type Fields = Readonly<Record<string, string | Buffer | undefined>>;

/** A pickle by hand, protocol 4, and a call of `app.ok` with what these opcodes leave. */
const pickle = (...parts: readonly (string | number | Buffer)[]): Buffer =>
  Buffer.concat([
    Buffer.from([0x80, 4]),
    ...parts.map((part) =>
      typeof part === 'number' ? Buffer.from([part]) : typeof part === 'string' ? Buffer.from(part, 'latin1') : part,
    ),
    Buffer.from('.'),
  ]);
const text = (words: string): Buffer =>
  Buffer.concat([Buffer.from([0x8c, Buffer.byteLength(words)]), Buffer.from(words)]);
const global = (module: string, name: string): Buffer => Buffer.concat([text(module), text(name), Buffer.from([0x93])]);
/** `('app.ok', None, (argument,), {})` */
const call = (...argument: readonly (string | number | Buffer)[]): Buffer => callOf('app.ok', ...argument);
const callOf = (name: string, ...argument: readonly (string | number | Buffer)[]): Buffer =>
  pickle('(', text(name), 'N', ...argument, 0x85, '}', 't');
const long = (bytes: number): Buffer => {
  const head = Buffer.alloc(5);
  head[0] = 0x8b;
  head.writeUInt32LE(bytes, 1);
  return Buffer.concat([head, Buffer.alloc(bytes, 0x7f)]);
};

const GOOD = deflateSync(call(text('argument')));

/** The hash of a job as Python writes it, with these fields otherwise; undefined leaves one out. */
async function push(id: string | Buffer, fields: Fields, queue = 'default'): Promise<void> {
  const all: Fields = {
    created_at: '2026-11-21T00:01:25.636000Z',
    data: GOOD,
    success_callback_name: '',
    failure_callback_name: '',
    stopped_callback_name: '',
    started_at: '',
    ended_at: '',
    last_heartbeat: '',
    worker_name: '',
    group_id: '',
    origin: queue,
    description: 'by hand',
    enqueued_at: '2026-11-21T00:01:25.636000Z',
    timeout: '180',
    status: 'queued',
    ...fields,
  };
  const flat = Object.entries(all).flatMap(([name, value]) => (value === undefined ? [] : [name, value]));
  const key = Buffer.concat([Buffer.from('rq:job:'), Buffer.from(id)]);
  if (flat.length > 0) await store.hset(key, ...flat);
  await store.sadd('rq:queues', `rq:queue:${queue}`);
  await store.rpush(`rq:queue:${queue}`, id);
}

/** The worker goes on: what comes behind it runs. */
async function nextRuns(): Promise<void> {
  const id = `next-${++count}`;
  await push(id, {});
  await until(`${id} ran`, async () => (await store.hget(`rq:job:${id}`, 'status')) === 'finished');
}
let count = 0;

async function reasonOf(id: string): Promise<string> {
  const entries = await store.xrange(`rq:results:${id}`, '-', '+');
  const fields = entries.at(-1)?.[1] ?? [];
  const base64 = fields[fields.indexOf('exc_string') + 1] ?? '';
  return inflateSync(Buffer.from(base64, 'base64')).toString();
}

interface Bad {
  readonly what: string;
  readonly fields: () => Fields;
  /** What the reason says. */
  readonly says: RegExp;
}

const field = (name: string, value: string | Buffer, says = new RegExp(name)): Bad => ({
  what: `${name} = ${JSON.stringify(String(value)).slice(0, 40)}`,
  fields: () => ({ [name]: value }),
  says,
});
const data = (what: string, make: () => Buffer, says: RegExp): Bad => ({
  what,
  fields: () => ({ data: make() }),
  says,
});
const called = (what: string, make: () => Buffer, says: RegExp): Bad => data(what, () => deflateSync(make()), says);

const MB = 1024 * 1024;

const BAD: readonly Bad[] = [
  field('timeout', '180.5'),
  field('timeout', '1h'),
  field('timeout', '99999999999999999999'),
  field('result_ttl', '500.0'),
  field('failure_ttl', 'never'),
  field('ttl', '1e3'),
  field('retries_left', '1.0'),
  field('number_of_retries', 'x'),
  field('repeats_left', '1.0'),
  field('retry_intervals', '[1, '),
  field('retry_intervals', '{"a": 1}'),
  field('repeat_intervals', '"soon"'),
  field('success_callback_timeout', ''),
  field('failure_callback_timeout', '60s'),
  field('stopped_callback_timeout', ''),
  field('enqueue_at_front', ''),
  field('enqueue_at_front', 'true'),
  field('allow_dependency_failures', 'yes'),
  field('status', 'exploded'),
  field('created_at', '2026-11-21T00:01:25.636+00:00'),
  field('created_at', '2026-11-21T00:01:25.636000000Z'),
  field('enqueued_at', 'yesterday'),
  field('enqueued_at', '2026-02-30T00:00:00Z'),
  field('started_at', '1795219285'),
  field('dependency_ids', 'a, b'),
  field('dependency_ids', '[1]'),
  field('origin', Buffer.from([0xff, 0xfe])),
  field('description', Buffer.from([0xff, 0xfe])),
  data('data that is empty', () => Buffer.alloc(0), /./),
  data('data that is no pickle', () => Buffer.from('hello'), /./),
  data('data that is a deflated text', () => deflateSync(Buffer.from('hello')), /./),
  data('data cut short', () => GOOD.subarray(0, 20), /./),
  data('JSON that is no list of four', () => deflateSync(Buffer.from('["app.ok", null, []]')), /list of four/),
  data('JSON cut short', () => deflateSync(Buffer.from('["app.ok", null, [')), /./),
  data('JSON that is not UTF-8', () => deflateSync(Buffer.from([0x5b, 0x22, 0xff, 0x22, 0x5d])), /UTF-8/),
  data('a deflation bomb', () => deflateSync(Buffer.alloc(80 * MB)), /more than the \d+ allowed/),
  called('a pickle cut short', () => call(text('x')).subarray(0, 12), /./),
  called('a pickle without an end', () => call(text('x')).subarray(0, -1), /./),
  called('a pickle of a number', () => pickle('K', 1), /list of four/),
  called('a tuple of three', () => pickle('(', text('app.ok'), 'N', ')', 't'), /list of four/),
  called('a name that is a number', () => pickle('(', 'K', 1, 'N', ')', '}', 't'), /name of a function/),
  called('an empty name', () => pickle('(', text(''), 'N', ')', '}', 't'), /name of a function/),
  called('arguments that are a dict', () => pickle('(', text('app.ok'), 'N', '}', '}', 't'), /arguments/),
  called('keyword arguments that are a list', () => pickle('(', text('app.ok'), 'N', ')', ']', 't'), /./),
  called(
    'keyword arguments without names',
    () => pickle('(', text('app.ok'), 'N', ')', '}', 'K', 1, 'K', 2, 's', 't'),
    /names/,
  ),
  called('a text that is not UTF-8', () => call(Buffer.from([0x8c, 2, 0xff, 0xfe])), /./),
  called(
    'a length beyond the end',
    () => call(Buffer.from([0x8d, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])),
    /./,
  ),
  called('a negative length', () => call(Buffer.from([0x42, 0xfb, 0xff, 0xff, 0xff])), /./),
  called('a frame beyond the end', () => pickle(Buffer.from([0x95, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0]), 'N'), /./),
  called('an integer of a mebibyte', () => call(long(MB)), /./),
  called('nested 100,000 deep', () => call(']'.repeat(100_000), 'a'.repeat(99_999)), /./),
  called('a memo that is not there', () => call('h', 99), /./),
  called('a memo far away', () => call('N', Buffer.from([0x72, 0xff, 0xff, 0xff, 0xff]), 'h', 3), /./),
  called('a persistent id', () => call(text('x'), 'Q'), /./),
  called('a buffer from outside', () => call(Buffer.from([0x97])), /./),
  called('an unknown opcode', () => call(Buffer.from([0xee])), /./),
  called('a stack that runs empty', () => pickle('0', '0'), /./),
  called('a list as a key', () => call('}', ']', 'K', 1, 's'), /./),
  called('a value that is appended to a dict', () => call('}', 'K', 1, 'a'), /./),
  // Read as data, and nothing of it is a call of `app.ok`.
  called(
    'a gadget in place of the call',
    () => pickle(global('os', 'system'), text('touch /tmp/owned'), 0x85, 'R'),
    /list of four/,
  ),
];

describe('a job that cannot be read', () => {
  test.each(BAD)('$what: it has failed, and says why', async ({ fields, says }) => {
    const id = `bad-${++count}`;
    const known = scene.poisons.length;
    await push(id, fields());
    await until('it has failed', async () => (await store.hget(`rq:job:${id}`, 'status')) === 'failed');
    expect(await store.zscore('rq:failed:default', id)).not.toBeNull();
    const reason = await reasonOf(id);
    expect(reason).toMatch(says);
    const report = scene.poisons.slice(known).find((one) => one.id === id);
    expect(report).toMatchObject({ system: 'rq', queue: 'default', code: expect.any(String) as string });
    await nextRuns();
    // Python reads it, and its reason.
    expect(await python.outcome(id)).toMatchObject({ status: 'failed', exc: reason });
  });

  test('what Python could not read of the hash is kept there, under another name', async () => {
    const id = `kept-${++count}`;
    await push(id, { timeout: '180.5', data: Buffer.from('hello') });
    await until('it has failed', async () => (await store.hget(`rq:job:${id}`, 'status')) === 'failed');
    expect(await store.hmget(`rq:job:${id}`, 'timeout', 'jobglot:broken:timeout', 'data')).toEqual([
      null,
      '180.5',
      'hello',
    ]);
  });
});

describe('what is strange and no harm', () => {
  const RUNS: readonly (readonly [what: string, fields: () => Fields])[] = [
    ['no status', () => ({ status: undefined })],
    ['no created_at', () => ({ created_at: undefined })],
    ['no origin', () => ({ origin: undefined })],
    ['no timeout', () => ({ timeout: undefined })],
    ['webhooks that are no JSON', () => ({ webhooks: 'x{' })],
    ['a meta that is no pickle', () => ({ meta: 'x' })],
    [
      'a meta with __proto__',
      () => ({ meta: pickle('}', text('__proto__'), '}', text('polluted'), 'K', 1, 's', 's') }),
    ],
    ['an exc_info of an older version', () => ({ exc_info: deflateSync(Buffer.from('before')) })],
    ['a result of an older version', () => ({ result: pickle('K', 1) })],
    ['fields that nobody knows', () => ({ from_the_future: 'x', __proto__: undefined, constructor: 'y' })],
    [
      'an argument from a registry of extensions',
      () => ({ data: deflateSync(callOf('app.quiet', Buffer.from([0x82, 1]))) }),
    ],
    ['an argument that is a gadget', () => ({ data: deflateSync(call(global('os', 'system'), text('x'), 0x85, 'R')) })],
    ['arguments that refer to each other a million times', () => ({ data: deflateSync(laughs()) })],
    [
      '200,000 arguments',
      () => ({ data: deflateSync(pickle('(', text('app.ok'), 'N', '](', 'N'.repeat(200_000), 'e}t')) }),
    ],
    ['data that is not deflated', () => ({ data: call(text('x')) })],
    ['a date without a fraction', () => ({ enqueued_at: '2026-11-21T00:01:25Z' })],
  ];

  test.each(RUNS)('%s: it runs', async (_, fields) => {
    const id = `fine-${++count}`;
    await push(id, fields());
    await until('it ran', async () => (await store.hget(`rq:job:${id}`, 'status')) === 'finished');
    expect(await store.zscore('rq:finished:default', id)).not.toBeNull();
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });

  test('a keyword argument __proto__ is one like others', async () => {
    const id = `proto-${++count}`;
    const kwargs = ['}', text('__proto__'), '}', text('polluted'), 'K', 1, 's', 's'] as const;
    await push(id, { data: deflateSync(pickle('(', text('app.kwargs'), 'N', ')', ...kwargs, 't')) });
    await until('it ran', async () => (await store.hget(`rq:job:${id}`, 'status')) === 'finished');
    expect((await python.outcome(id)).repr).toBe("[['__proto__', {'polluted': 1}]]");
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });
});

/** A pair of the pair before and the pair before, twenty times over: a million lists, if somebody looks at each. */
function laughs(): Buffer {
  const parts: (string | number)[] = [']', 0x94];
  for (let depth = 0; depth < 20; depth++) parts.push('0h', depth, 'h', depth, 0x86, 0x94);
  return call(...parts);
}

describe('an id that names no job', () => {
  const aside = async (): Promise<readonly string[]> =>
    (await store.lrange('jobglot:rq:quarantine:default', 0, -1)).map(String);

  test.each(['a:b', 'a:b:c', '', ':'])('%j is set aside, with the reason', async (id) => {
    await push(id, {});
    await until('it is set aside', async () => (await aside()).includes(id));
    const reasons = await store.lrange('jobglot:rq:quarantine:default:why', 0, -1);
    expect(reasons.length).toBe((await aside()).length);
    await nextRuns();
    await store.del(`rq:job:${id}`);
  });

  test('a job without data is set aside', async () => {
    const id = `no-data-${++count}`;
    await push(id, { data: undefined });
    await until('it is set aside', async () => (await aside()).includes(id));
    await nextRuns();
  });

  test.each(['string', 'list', 'set'] as const)('a job whose key is a %s is set aside', async (type) => {
    const id = `wrong-${type}`;
    const key = `rq:job:${id}`;
    await (type === 'string' ? store.set(key, 'x') : type === 'list' ? store.rpush(key, 'x') : store.sadd(key, 'x'));
    await store.rpush('rq:queue:default', id);
    await until('it is set aside', async () => (await aside()).includes(id));
    await nextRuns();
    await store.del(key);
  });

  test('an id that is no UTF-8 is set aside, byte for byte', async () => {
    const id = Buffer.from([0x61, 0xff, 0xfe]);
    await push(id, {});
    await nextRuns();
    await until('nothing runs', async () => (await store.exists('rq:wip:default')) === 0);
    expect(await store.keys('rq:execution*')).toEqual([]);
    const kept = await store.lrangeBuffer('jobglot:rq:quarantine:default', 0, -1);
    expect(kept.some((one) => one.equals(id))).toBe(true);
    await store.del(Buffer.concat([Buffer.from('rq:job:'), id]));
  });

  test('an id whose job is gone is dropped: its ttl has passed, or it was deleted', async () => {
    await store.rpush('rq:queue:default', 'never-there');
    await nextRuns();
    expect(await store.keys('*never-there*')).toEqual([]);
  });

  test.each(['with space', 'ž', '__proto__', 'x'.repeat(10_000), 'a/b?c', '%s%n'])('%.20s runs', async (id) => {
    await push(id, {});
    await until('it ran', async () => (await store.hget(`rq:job:${id}`, 'status')) === 'finished');
    await nextRuns();
    // RQ 2.8 and newer cannot fetch most of them.
    await store.zrem('rq:finished:default', id);
  });
});

describe('what lies where something else should be', () => {
  test('a queue that is no list does not stop the others', async () => {
    await store.set('rq:queue:spoiled', 'x');
    await using other = await startRqWorker(
      { url: redis.url, queues: ['spoiled', 'sound'] },
      { 'app.ok': ({ args }) => args[0] },
    );
    await push('sound-1', {}, 'sound');
    await until('it ran', async () => (await store.hget('rq:job:sound-1', 'status')) === 'finished');
    expect(JSON.stringify(other.lines)).toContain('spoiled');
    await store.del('rq:queue:spoiled');
    await store.srem('rq:queues', 'rq:queue:spoiled');
  });

  test('results that are no stream: the job ends, and so do those beside it', async () => {
    await store.set('rq:results:taken-1', 'x');
    const multi = store.multi();
    for (const id of ['beside-1', 'taken-1', 'beside-2'])
      multi.hset(
        `rq:job:${id}`,
        'data',
        GOOD,
        'status',
        'queued',
        'origin',
        'default',
        'created_at',
        '2026-11-21T00:01:25.636000Z',
      );
    await multi.rpush('rq:queue:default', 'beside-1', 'taken-1', 'beside-2').exec();
    for (const id of ['beside-1', 'beside-2'])
      await until(`${id} ran`, async () => (await store.hget(`rq:job:${id}`, 'status')) === 'finished');
    await nextRuns();
    await store.del('rq:results:taken-1');
    await until('it has ended', async () => (await store.exists('rq:wip:default')) === 0);
    expect(await store.hget('rq:job:taken-1', 'status')).toBe('finished');
  });

  test('dependents that are no set: the job ends, and so do those beside it', async () => {
    await store.set('rq:job:parent-1:dependents', 'x');
    await push('parent-1', {});
    await nextRuns();
    await store.del('rq:job:parent-1:dependents');
    await until('it has ended', async () => (await store.exists('rq:wip:default')) === 0);
    expect(await store.hget('rq:job:parent-1', 'status')).toBe('finished');
  });

  test('a registry that is no sorted set: nothing is taken until it is one', async () => {
    await store.rename('rq:finished:default', 'kept');
    await store.set('rq:finished:default', 'x');
    await push('registered-1', {});
    await until('it is told', () => scene.lines.some(({ message }) => message.includes("'rq:finished:default'")));
    await store.rename('kept', 'rq:finished:default');
    await until('it ran', async () => (await store.hget('rq:job:registered-1', 'status')) === 'finished');
    await nextRuns();
  });

  test('members of the started ones that nobody understands do not stop the upkeep', async () => {
    await store.zadd('rq:wip:default', 1, 'a:b:c:d', 1, '', 1, ':', 1, 'gone:0123');
    await nextRuns();
    await store.zrem('rq:wip:default', 'a:b:c:d', '', ':', 'gone:0123');
  });

  test('what is scheduled and is none: the others are put into their queue', async () => {
    await store.set('rq:job:due-string', 'x');
    await store.zadd('rq:scheduled:default', 1, 'due-gone', 2, 'due-string', 3, 'due-1');
    await store.hset(
      'rq:job:due-1',
      'data',
      GOOD,
      'status',
      'scheduled',
      'origin',
      'default',
      'created_at',
      '2026-11-21T00:01:25.636000Z',
    );
    await until('it ran', async () => (await store.hget('rq:job:due-1', 'status')) === 'finished');
    await until('nothing is due', async () => (await store.zcard('rq:scheduled:default')) === 0);
    await store.del('rq:job:due-string');
  });
});

describe('commands', () => {
  test('what is no command is ignored, and the next one is heeded', async () => {
    const [key = ''] = await store.smembers('rq:workers');
    const channel = key.replace('rq:worker:', 'rq:pubsub:');
    for (const told of [
      '',
      'x',
      '{',
      '[]',
      'null',
      '{"command": 7}',
      '{"command": "fly"}',
      '{"command": "stop-job"}',
      Buffer.from([0xff, 0xfe]),
    ])
      await store.publish(channel, told);
    await store.publish(channel, '{"command": "stop-job", "job_id": "nobody"}');
    await nextRuns();
    expect(scene.worker.state).toBe('running');
  });
});

test('in the end, Python lists and cleans all of it', async () => {
  const registries = await python.registries();
  expect(registries.failed.length).toBeGreaterThanOrEqual(BAD.length);
  expect(registries.started).toEqual([]);
  const { code, stdout, stderr } = await runRq('2.10', ['info', '-u', redis.url]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toMatch(/^default/m);
  await using dashboard = await startRqDashboard(redis.url);
  for (const registry of ['failed', 'finished']) {
    const response = await fetch(`${dashboard.url}/0/data/jobs/default/${registry}/100/asc/1.json`);
    expect(response.status, dashboard.log()).toBe(200);
    const { jobs } = (await response.json()) as { jobs: readonly { id: string }[] };
    expect(jobs.length).toBeGreaterThan(20);
  }
  const source = 'result = sorted({Job.fetch(id, connection=connection).get_status().value for id in ids})';
  expect(await python.run(source, { ids: registries.failed })).toEqual(['failed']);
});
