import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { brotliCompressSync, deflateSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Redis } from 'ioredis';
import type { CeleryOptions } from '../../src/drivers/celery/index.ts';
import { Retry } from '../../src/signals.ts';
import { PythonCelery } from '../support/python.ts';
import { type RedisServer, startRedis, until } from '../support/redis.ts';
import { type Handlers, message, type Parts, type Scene, startWorker } from './scene.ts';

/**
 * What a worker makes of input that is not a task. Python's worker ends on several of these, and comes back to the same message;
 * here the message is set aside byte for byte, the reason beside it, and the next one runs.
 */
let redis: RedisServer;
let client: Redis;
let scene: Scene;

const handlers: Handlers = {
  ok: ({ args }) => args[0] ?? 'ran',
  kwargs: ({ kwargs }) => Object.entries(kwargs),
  polluted: () => [({} as Record<string, unknown>)['polluted'] ?? null, Object.prototype.hasOwnProperty.length],
  again: ({ attempt }) => {
    if (attempt === 1) throw new Retry({ delayMs: 0 });
    return attempt;
  },
  later: ({ args, attempt }) => {
    if (attempt === 1) throw new Retry({ delayMs: Number(args[0]) });
    return attempt;
  },
  nested: () => nested(100_000),
  cyclic: () => {
    const cycle: unknown[] = [];
    cycle.push(cycle);
    return cycle;
  },
  unwritable: () => Symbol('a symbol is no JSON'),
};

beforeAll(async () => {
  redis = await startRedis();
  client = redis.client();
  scene = await startWorker(optionsOf({ concurrency: 4 }), handlers);
}, 60_000);

afterAll(async () => {
  await scene?.[Symbol.asyncDispose]();
  await redis?.[Symbol.asyncDispose]();
});

interface Bad {
  readonly what: string;
  readonly item: () => string | Buffer;
  /** The stable code a dashboard or an alert may rely on. */
  readonly code: string;
  /** The task's id is in the message where it can be read, and known nowhere else. */
  readonly id?: string;
}

/** A message whose headers are sound, so that the reports can name its id. */
const named = (what: string, code: string, parts: () => Parts): Bad => ({
  what,
  code,
  id: 'bad-1',
  item: () => message({ id: 'bad-1', ...parts() }),
});
const raw = (what: string, code: string, item: () => string | Buffer): Bad => ({ what, code, item });

const KB = 1024;
const MB = KB * KB;

const BAD: readonly Bad[] = [
  named('a body that is not base64', 'undecodable', () => ({ envelope: { body: '!!!! not base64 !!!!' } })),
  named('a body that is not JSON', 'undecodable', () => ({ body: '[[], {}, {' })),
  named('a body that is not UTF-8', 'undecodable', () => ({ body: Buffer.from([0x5b, 0x22, 0xff, 0xfe, 0x22, 0x5d]) })),
  named('an empty body', 'undecodable', () => ({ body: '' })),
  named('no body', 'undecodable', () => ({ envelope: { body: undefined } })),
  raw('a body that is a number', 'wrong-shape', () => message({ envelope: { body: 7 } })),
  raw('an unknown body_encoding', 'undecodable', () => message({ properties: { body_encoding: 'rot13' } })),
  named('pickle', 'content-disallowed', () => ({
    envelope: { 'content-type': 'application/x-python-serialize', 'content-encoding': 'binary' },
  })),
  named('an unknown content type', 'content-disallowed', () => ({ envelope: { 'content-type': 'text/klingon' } })),
  named('YAML where only JSON is accepted', 'content-disallowed', () => ({
    envelope: { 'content-type': 'application/x-yaml' },
  })),
  named('a content type that is a number', 'wrong-shape', () => ({ envelope: { 'content-type': 7 } })),
  named('an unknown compression', 'unknown-compression', () => ({ headers: { compression: 'application/x-rar' } })),
  named('a compressed body cut short', 'undecodable', () => ({
    headers: { compression: 'application/x-gzip' },
    body: deflateSync('[[], {}, {}]'.repeat(100)).subarray(0, 20),
  })),
  named('a compressed body that is none', 'undecodable', () => ({
    headers: { compression: 'application/x-gzip' },
    body: 'this was never compressed',
  })),
  named('a decompression bomb (zlib)', 'too-large', () => ({
    headers: { compression: 'application/x-gzip' },
    body: deflateSync(Buffer.alloc(200 * MB, 0x20)),
  })),
  named('a decompression bomb (brotli)', 'too-large', () => ({
    headers: { compression: 'application/x-brotli' },
    body: brotliCompressSync(Buffer.alloc(200 * MB, 0x20)),
  })),
  named('a body of two elements', 'wrong-shape', () => ({ body: '[[], {}]' })),
  named('a body of four elements', 'wrong-shape', () => ({ body: '[[], {}, {}, {}]' })),
  named('a body that is an object', 'wrong-shape', () => ({ body: '{"x": 1}' })),
  named('a body that holds a number', 'wrong-shape', () => ({ body: '7' })),
  named('a body that is null', 'wrong-shape', () => ({ body: 'null' })),
  named('arguments that are an object', 'wrong-shape', () => ({ args: { 0: 1 } })),
  named('keyword arguments that are a list', 'wrong-shape', () => ({ kwargs: [1] })),
  named('keyword arguments that are a text', 'wrong-shape', () => ({ kwargs: 'x' })),
  raw('no id', 'missing-id', () => message({ headers: { id: undefined }, properties: { correlation_id: undefined } })),
  {
    ...raw('no id but a correlation id', 'missing-id', () => message({ id: 'bad-2', headers: { id: undefined } })),
    id: 'bad-2',
  },
  raw('an id that is a number', 'missing-id', () => message({ id: 12, properties: { correlation_id: 12 } })),
  raw('an id that is an object', 'missing-id', () => message({ id: { a: 1 }, properties: { correlation_id: null } })),
  raw('an empty id', 'missing-id', () => message({ id: '' })),
  named('no task', 'missing-task', () => ({ headers: { task: undefined } })),
  named('a task that is null', 'missing-task', () => ({ headers: { task: null } })),
  named('a task that is a list', 'missing-task', () => ({ headers: { task: ['ok'] } })),
  named('an empty task', 'missing-task', () => ({ task: '' })),
  named('an eta that is no date', 'bad-eta', () => ({ headers: { eta: 'next tuesday' } })),
  named('an eta that is a number', 'bad-eta', () => ({ headers: { eta: 1e300 } })),
  named('an eta beyond what a clock can say', 'bad-eta', () => ({ headers: { eta: '+275760-09-13T00:00:00.001Z' } })),
  named('an eta on the 30th of February', 'bad-eta', () => ({ headers: { eta: '2030-02-30T00:00:00+00:00' } })),
  named('an expiry that is no date', 'bad-eta', () => ({ headers: { expires: 'never' } })),
  named('an expiry that is an object', 'bad-eta', () => ({ headers: { expires: { days: 3 } } })),
  named('a body nested 10,000 deep', 'too-deep', () => ({ body: nestedText(10_000) })),
  named('keyword arguments nested 10,000 deep', 'too-deep', () => ({ body: `[[], {"a": ${nestedText(10_000)}}, {}]` })),
  named('a body nested 1,000,000 deep', 'too-deep', () => ({ body: nestedText(1_000_000) })),
  raw('an empty list item', 'undecodable', () => ''),
  raw('words', 'undecodable', () => 'hello'),
  raw('bytes that are no text', 'undecodable', () => Buffer.from([0x7b, 0xff, 0x00, 0xfe, 0x7d])),
  raw('pickled bytes', 'undecodable', () => Buffer.from('80049511000000000000008c0568656c6c6f942e', 'hex')),
  raw('a number', 'undecodable', () => '42'),
  raw('a JSON string', 'undecodable', () => '"{}"'),
  raw('a JSON array', 'undecodable', () => '[{}]'),
  raw('null', 'undecodable', () => 'null'),
  raw('JSON cut short that ends in a brace', 'undecodable', () =>
    message({ headers: { x: {} } }).replace(/\}\}$/, '}'),
  ),
  raw('an empty object', 'missing-task', () => '{}'),
  raw('headers that are a list', 'wrong-shape', () => message({ envelope: { headers: [] } })),
  raw('headers that are a text', 'wrong-shape', () => message({ envelope: { headers: 'task' } })),
  raw('no headers', 'missing-task', () =>
    message({ envelope: { headers: undefined }, properties: { correlation_id: null } }),
  ),
  raw('properties that are a text', 'wrong-shape', () => message({ envelope: { properties: 'none' } })),
  raw('NUL bytes', 'undecodable', () => '{\0\0\0\0}'),
  raw(
    'an envelope nested 1,000,000 deep',
    'missing-task',
    () => `{"headers": ${'{"a": '.repeat(1_000_000)}1${'}'.repeat(1_000_000)}}`,
  ),
  raw('50 MB', 'too-large', () => message({ body: Buffer.alloc(37.5 * MB, 0x20) })),
];

describe('a message that is no task', () => {
  test.each(BAD)('$what is set aside as $code, and the next message runs', async ({ item, code, id }) => {
    const bytes = Buffer.from(item() as string);
    const [report, state] = await quarantined(bytes);
    expect(report.code).toBe(code);
    expect(report.id).toBe(id);
    expect(report.queue).toBe('celery');
    // What was set aside is what came, to the byte; the reason stands beside it.
    expect(state.kept.equals(bytes)).toBe(true);
    expect(state.why).toMatchObject({
      code,
      queue: 'celery',
      bytes: bytes.length,
      ...(id === undefined ? {} : { id }),
    });
    expect(report.kept).toContain('jobglot:quarantine:celery');
    expect(report.kept).toContain('LMOVE');
    const line = scene.lines.find(({ message: words }) => words.includes(report.reason));
    expect(line).toMatchObject({ level: 'error', fields: { queue: 'celery', code } });
    expect(line?.message).toContain('LMOVE');
    expect(line?.message.length).toBeLessThan(1_500);
  });

  test('a worker that has seen all of them has not grown', () => {
    collectGarbage();
    expect(process.memoryUsage().heapUsed / MB).toBeLessThan(400);
  });
});

interface Fine {
  readonly what: string;
  readonly parts: Parts;
  readonly result: unknown;
}

const FINE: readonly Fine[] = [
  { what: 'an embed that is null', parts: { embed: null }, result: 'ran' },
  { what: 'an empty embed', parts: { embed: {} }, result: 'ran' },
  { what: 'an embed that is a text', parts: { embed: 'nothing' }, result: 'ran' },
  { what: 'a chain of nonsense', parts: { embed: { chain: [7, 'x', null, []] } }, result: 'ran' },
  { what: 'a chain that is an object', parts: { embed: { chain: { task: 'ok' } } }, result: 'ran' },
  { what: 'callbacks that are texts', parts: { embed: { callbacks: ['ok'], errbacks: [7] } }, result: 'ran' },
  { what: 'a chord that is a text', parts: { embed: { chord: 'body' } }, result: 'ran' },
  { what: 'no properties', parts: { envelope: { properties: undefined, body: '[[], {}, {}]' } }, result: 'ran' },
  { what: 'no delivery_info', parts: { properties: { delivery_info: undefined } }, result: 'ran' },
  { what: 'a delivery_info that is a list', parts: { properties: { delivery_info: [] } }, result: 'ran' },
  { what: 'no delivery_tag', parts: { properties: { delivery_tag: undefined } }, result: 'ran' },
  { what: 'a priority that is a word', parts: { properties: { priority: 'abc' } }, result: 'ran' },
  { what: 'a priority of 1e300', parts: { properties: { priority: 1e300 } }, result: 'ran' },
  { what: 'a timelimit of one element', parts: { headers: { timelimit: [null] } }, result: 'ran' },
  { what: 'a timelimit of words', parts: { headers: { timelimit: ['a', {}] } }, result: 'ran' },
  { what: 'a timelimit of centuries', parts: { headers: { timelimit: [1e12, 1e12] } }, result: 'ran' },
  { what: 'negative retries', parts: { headers: { retries: -3 } }, result: 'ran' },
  { what: 'huge retries', parts: { headers: { retries: 1e308 } }, result: 'ran' },
  { what: 'retries that are a word', parts: { headers: { retries: 'x' } }, result: 'ran' },
  { what: 'unknown headers', parts: { headers: { 'x-trace': { a: [1] }, constructor: 1 } }, result: 'ran' },
  { what: 'a header nested 1,000 deep', parts: { headers: { deep: nested(1_000) } }, result: 'ran' },
  { what: 'NUL in an argument', parts: { args: ['a\0b'] }, result: 'a\0b' },
  { what: 'an eta in the year 1', parts: { headers: { eta: '0001-01-01T00:00:00' } }, result: 'ran' },
];

describe('a message that is odd, but a task', () => {
  test.each(FINE)('$what: it runs', async ({ parts, result }) => {
    expect(await resultOf(await push({ ...parts }))).toMatchObject({ status: 'SUCCESS', result });
    await nothingClaimed();
  });

  test('keys like __proto__ are data: kept as they are, and no prototype is touched', async () => {
    const kwargs = '{"__proto__": {"polluted": 1}, "constructor": {"prototype": {"polluted": 2}}, "toString": 3}';
    const item = message({ id: 'proto', task: 'kwargs', body: `[[], ${kwargs}, {}]` }).replace(
      '"lang"',
      '"__proto__": {"polluted": 4, "task": "evil"}, "constructor": {"prototype": {"polluted": 5}}, "lang"',
    );
    await client.lpush('celery', item);
    expect(await resultOf('proto')).toMatchObject({
      status: 'SUCCESS',
      result: [
        ['__proto__', { polluted: 1 }],
        ['constructor', { prototype: { polluted: 2 } }],
        ['toString', 3],
      ],
    });
    expect(await resultOf(await push({ task: 'polluted' }))).toMatchObject({ result: [null, 1] });
    expect(Object.getOwnPropertyNames(Object.prototype)).not.toContain('polluted');
  });

  test('a retry of a message without delivery_info goes back to the queue it was found in', async () => {
    const id = await push({ task: 'again', properties: { delivery_info: undefined } });
    expect(await resultOf(id)).toMatchObject({ status: 'SUCCESS', result: 2 });
    expect(await client.exists('')).toBe(0);
  });

  test('a retry of a message whose headers are nested too deep to write ends as a failure, once', async () => {
    const item = message({ id: 'deep-retry', task: 'again' }).replace(
      '"lang"',
      `"deep": ${nestedText(10_000)}, "lang"`,
    );
    await client.lpush('celery', item);
    expect(await resultOf('deep-retry')).toMatchObject({ status: 'FAILURE' });
    await nothingClaimed();
  });

  test.each(['nested', 'cyclic', 'unwritable'])('a result that cannot be written (%s) fails the task', async (task) => {
    expect(await resultOf(await push({ task }))).toMatchObject({
      status: 'FAILURE',
      result: { exc_type: 'EncodeError' },
    });
    await nothingClaimed();
  });

  test.each([
    ['callbacks', { callbacks: [{ nonsense: true }] }],
    ['a chain', { chain: [{ task: 7, args: 'x', kwargs: null, options: 3 }] }],
    ['a chord', { chord: { task: null } }],
  ])('%s of signatures nobody can read: the task ends, and the worker goes on', async (_, embed) => {
    const meta = await resultOf(await push({ embed }));
    expect(['SUCCESS', 'FAILURE']).toContain(meta.status);
    await nothingClaimed();
  });

  test.each([Number.POSITIVE_INFINITY, Number.NaN, 1e300, -1])(
    'a retry asked for in %f ms is a failure that says so',
    async (delayMs) => {
      const meta = await resultOf(await push({ task: 'later', args: [String(delayMs)] }));
      expect(meta.status).toBe('FAILURE');
      expect(JSON.stringify(meta.result)).toContain(`delayMs must be milliseconds from now, not ${delayMs}`);
      await nothingClaimed();
    },
  );

  test('a retry count without end is a failure, not another run', async () => {
    const id = await push({ task: 'again', headers: { retries: 1e308 } });
    expect(['SUCCESS', 'FAILURE']).toContain((await resultOf(id)).status);
  });

  test('an eta in the year 9999 is held without a hot loop, and given back when the worker stops', async () => {
    await using far = await startWorker(optionsOf({ queues: ['far'] }), handlers);
    await client.lpush(
      'far',
      message({ id: 'far-1', queue: 'far', headers: { eta: '9999-12-31T23:59:59.999999+00:00' } }),
    );
    await until('it is claimed', async () => (await client.hlen('unacked')) === 1);
    const before = process.cpuUsage();
    const commands = await commandsProcessed();
    const from = performance.now();
    await until('a second has passed', () => performance.now() - from > 1_000);
    const used = process.cpuUsage(before);
    expect((used.user + used.system) / 1000).toBeLessThan(600);
    expect((await commandsProcessed()) - commands).toBeLessThan(300);
    await client.lpush('far', message({ id: 'near-1', queue: 'far' }));
    expect(await resultOf('near-1')).toMatchObject({ status: 'SUCCESS' });
    await far.worker.stop();
    expect(await client.llen('far')).toBe(1);
    await nothingClaimed();
  });

  test('50 MB under a raised limit is a task like any other', async () => {
    await using large = await startWorker(
      optionsOf({ queues: ['large'], brokerTransportOptions: { maxMessageBytes: 80 * MB } }),
      { ok: ({ args }) => (args[0] as string).length },
    );
    await client.lpush('large', message({ id: 'large-1', queue: 'large', args: ['x'.repeat(37 * MB)] }));
    expect(await resultOf('large-1')).toMatchObject({ status: 'SUCCESS', result: 37 * MB });
    expect(large.poisons).toEqual([]);
  });

  test('the limit of a decompressed body can be raised and lowered', async () => {
    const body = deflateSync(`[["${'x'.repeat(2 * MB)}"], {}, {}]`);
    const parts: Parts = { queue: 'bomb', body, headers: { compression: 'application/x-gzip' } };
    {
      await using small = await startWorker(optionsOf({ queues: ['bomb'], limits: { maxBytes: MB } }), handlers);
      await client.lpush('bomb', message(parts));
      await until('it is set aside', () => small.poisons.length === 1);
      expect(small.poisons[0]).toMatchObject({ code: 'too-large', queue: 'bomb' });
    }
    await using wide = await startWorker(optionsOf({ queues: ['bomb'], limits: { maxBytes: 3 * MB } }), handlers);
    // As the report says: put back by hand, once the limit fits.
    await client.lmove('jobglot:quarantine:bomb', 'bomb', 'LEFT', 'RIGHT');
    await until('it ran', () => wide.started.length === 1);
  });
});

describe('abandoned claims', () => {
  test('go back in their order; what among them is no message does not stand in the way', async () => {
    const claims: Readonly<Record<string, string>> = {
      'dead:1': `[${message({ id: 'dead-1', queue: 'left' })}, "", "left"]`,
      'dead:2': 'noise',
      'dead:3': `[${message({ id: 'dead-3', queue: 'left' })}, "", "le\\xft"]`,
      'dead:4': `[${message({ id: 'dead-4', queue: 'left' })}, "typed wrong", "left"]`,
      'dead:5': `[${message({ id: 'dead-5', queue: 'left' })}, "", "left"]`,
      'dead:6': `[{"body": "\u00ff", "properties": {}}, "", "elsewhere"]`,
      'dead:7': `[${message({ id: 'dead-7', queue: 'left' })},"","left"]`,
    };
    const bytes = Buffer.from(claims['dead:6'] as string, 'latin1');
    await client.set('_kombu.binding.typed wrong', 'not a set');
    // At once, so that no sweep of the other worker comes in between.
    const all = client.multi();
    for (const [tag, value] of Object.entries(claims)) {
      all.hset('unacked', tag, tag === 'dead:6' ? bytes : value).zadd('unacked_index', Number(tag.slice(5)), tag);
    }
    await all.zadd('unacked_index', 8, 'dead:8').exec();
    await using left = await startWorker(optionsOf({ queues: ['left'], concurrency: 1 }), handlers);
    await until('they ran', () => left.started.length === 3);
    expect([...left.started].sort()).toEqual(['dead-1', 'dead-5', 'dead-7']);
    expect(await client.hkeys('unacked')).toEqual(['dead:4']);
    expect(await client.zcard('unacked_index')).toBe(1);
    expect(await client.zscore('unacked_index', 'dead:4')).toBe('4');
    expect((await client.lrange('jobglot:quarantine:unacked', 0, -1)).toSorted()).toEqual(
      [claims['dead:2'], claims['dead:3']].toSorted(),
    );
    // Every byte is what it was, valid UTF-8 or not.
    const [elsewhere] = (await client.lrangeBuffer('elsewhere', 0, 0)) as [Buffer];
    expect(elsewhere.includes(Buffer.from([0x22, 0xff, 0x22]))).toBe(true);
    await client.del('unacked', 'unacked_index', '_kombu.binding.typed wrong');
  });

  test('of one worker that died are restored oldest first', async () => {
    const all = client.multi();
    for (let at = 1; at <= 9; at++) {
      all.hset('unacked', `gone:${at}`, `[${message({ id: `${at}`, queue: 'order' })}, "", "order"]`);
      all.zadd('unacked_index', 1_000 + at, `gone:${at}`);
    }
    await all.exec();
    // Swept by a worker of another queue, so that nobody takes them meanwhile.
    await using _ = await startWorker(optionsOf({ queues: ['nothing-here'] }), handlers);
    await until('they are back', async () => (await client.llen('order')) === 9);
    const ids = (await client.lrange('order', 0, -1)).map(
      (item) => (JSON.parse(item) as { headers: { id: string } }).headers.id,
    );
    expect(ids.toReversed()).toEqual(['1', '2', '3', '4', '5', '6', '7', '8', '9']);
  });
});

describe('a task that nobody handles here', () => {
  const NAMES = ['nobody.handles.this', '__proto__', 'constructor', 'toString', 'hasOwnProperty', 'x'.repeat(MB)];

  test.each(NAMES.map((name) => [name.slice(0, 30), name] as const))(
    'requeue: %s goes back to its queue, and the next message runs',
    async (_, task) => {
      await using shared = await startWorker(optionsOf({ queues: ['shared'], unknownTaskDelayMs: 100 }), handlers);
      let returned = 0;
      shared.worker.on('job:settled', ({ outcome }) => {
        if (outcome.kind === 'unknown') returned++;
      });
      const item = message({ id: 'unknown-1', task, queue: 'shared' });
      await client.lpush('shared', item);
      await client.lpush('shared', message({ id: 'known-1', queue: 'shared' }));
      await until('the other one ran', () => shared.started.includes('known-1'));
      await until('it went back', () => returned === 1);
      await shared.worker.stop();
      expect(await client.llen('shared')).toBe(1);
      // Byte for byte.
      expect(await client.rpop('shared')).toBe(item);
      expect(await client.exists('celery-task-meta-unknown-1')).toBe(0);
      const warning = shared.lines.find(({ message: words }) => words.startsWith('no handler here for the task'));
      expect(warning).toMatchObject({ level: 'warn', fields: { id: 'unknown-1', queue: 'shared' } });
      expect(JSON.stringify(warning).length).toBeLessThan(1_000);
      await nothingClaimed();
      await client.del('celery-task-meta-known-1');
    },
  );

  test('reject: the caller is told NotRegistered, as Python tells it', async () => {
    await using strict = await startWorker(optionsOf({ queues: ['strict'], unknownTask: 'reject' }), handlers);
    await using python = await PythonCelery.start('5.6', { broker: redis.url, backend: redis.url });
    const id = await python.send('nobody.handles.this', [1], {}, { queue: 'strict' });
    expect(await python.get(id)).toMatchObject({ ok: false, state: 'FAILURE', type: 'NotRegistered' });
    for (const task of ['__proto__', 'constructor', 'toString']) {
      const other = await python.send(task, [], {}, { queue: 'strict' });
      expect(await python.get(other)).toMatchObject({ ok: false, type: 'NotRegistered' });
    }
    expect(strict.started).toEqual([]);
    await nothingClaimed();
  });

  test('forward: it is in the other queue, header for header and byte for byte', async () => {
    await using mover = await startWorker(
      optionsOf({ queues: ['mixed'], unknownTask: { forward: 'python-only' } }),
      handlers,
    );
    const item = message({ id: 'forward-1', task: 'theirs', queue: 'mixed', headers: { big: 1, 'x-extra': ['ü'] } });
    await client.lpush('mixed', item);
    await until('it is there', async () => (await client.llen('python-only')) === 1);
    const there = JSON.parse((await client.rpop('python-only')) as string) as Record<string, unknown>;
    const was = JSON.parse(item) as Record<string, unknown>;
    expect(there['headers']).toEqual(was['headers']);
    expect(there['body']).toBe(was['body']);
    expect(there['properties']).toMatchObject({ delivery_info: { exchange: '', routing_key: 'python-only' } });
    expect(mover.started).toEqual([]);
    await nothingClaimed();
  });
});

/** Push the bytes, then a good message; the report, once the good one ran and nothing is claimed any more. */
async function quarantined(
  bytes: Buffer,
): Promise<[Scene['poisons'][number], { readonly kept: Buffer; readonly why: Readonly<Record<string, unknown>> }]> {
  const count = scene.poisons.length;
  const [kept, reasons] = [
    await client.llen('jobglot:quarantine:celery'),
    await client.llen('jobglot:quarantine:celery:why'),
  ];
  await client.lpush('celery', bytes);
  const good = await push({});
  expect(await resultOf(good)).toMatchObject({ status: 'SUCCESS' });
  await until('it is reported', () => scene.poisons.length > count);
  expect(await client.llen('jobglot:quarantine:celery')).toBe(kept + 1);
  expect(await client.llen('jobglot:quarantine:celery:why')).toBe(reasons + 1);
  await nothingClaimed();
  expect(scene.poisons.length).toBe(count + 1);
  const [item] = (await client.lrangeBuffer('jobglot:quarantine:celery', 0, 0)) as [Buffer];
  const [why] = await client.lrange('jobglot:quarantine:celery:why', 0, 0);
  return [
    scene.poisons[count] as Scene['poisons'][number],
    { kept: item, why: JSON.parse(why as string) as Record<string, unknown> },
  ];
}

async function push(parts: Parts): Promise<string> {
  const id = (parts.id as string | undefined) ?? crypto.randomUUID();
  await client.lpush(parts.queue ?? 'celery', message({ ...parts, id }));
  return id;
}

async function resultOf(id: string): Promise<{ readonly status: string; readonly result: unknown }> {
  let stored: string | null = null;
  await until(`the result of ${id} is stored`, async () => {
    stored = await client.get(`celery-task-meta-${id}`);
    return stored !== null && !stored.startsWith('{"status": "RETRY"');
  });
  return JSON.parse(stored as unknown as string) as { status: string; result: unknown };
}

async function nothingClaimed(): Promise<void> {
  await until('nothing is claimed', async () => {
    return (await client.hlen('unacked')) === 0 && (await client.zcard('unacked_index')) === 0;
  });
}

function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
}

async function commandsProcessed(): Promise<number> {
  return Number(/total_commands_processed:(\d+)/.exec(await client.info('stats'))?.[1]);
}

function optionsOf(options: Partial<CeleryOptions>): CeleryOptions {
  return { broker: redis.url, backend: redis.url, ...options };
}

function nestedText(depth: number): string {
  return '['.repeat(depth) + ']'.repeat(depth);
}

function nested(depth: number): unknown {
  let value: unknown = [];
  for (let level = 1; level < depth; level++) value = [value];
  return value;
}
