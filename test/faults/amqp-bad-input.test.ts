import { brotliCompressSync, deflateSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { CeleryJob } from '../../protocols/celery/message/message.ts';
import { encodeTable } from '../../protocols/formats/amqp-table.ts';
import { Retry } from '../../src/signals.ts';
import { AmqpPublisher } from '../../src/transports/amqp-publisher.ts';
import { amqpTarget } from '../../src/transports/amqp-url.ts';
import { AmqpConnection } from '../../src/transports/amqp.ts';
import { type RabbitServer, startRabbit } from '../support/rabbit.ts';
import { until } from '../support/until.ts';
import { startProxy } from './proxy.ts';
import { holds, send, type Sent } from './rabbit-scene.ts';
import { type Scene, startWorker } from './scene.ts';

/** The table of bad-input.test.ts on AMQP, and what only AMQP can hold: set aside byte for byte, and the next message runs. */
const MB = 1024 * 1024;
const QUEUE = 'bad';
let rabbit: RabbitServer;
let scene: Scene;
const results = new Map<string, unknown>();
const seen = new Map<string, unknown[]>();

beforeAll(async () => {
  rabbit = await startRabbit();
  scene = await startWorker(
    {
      broker: rabbit.url,
      queues: [QUEUE],
      concurrency: 4,
      limits: { maxBytes: 16 * MB },
      workerEnableRemoteControl: false,
    },
    {
      ok: ({ args }) => args.length,
      again: (job) => {
        const { id, attempt } = job;
        const { headers } = (job as CeleryJob).request.wire;
        seen.set(id, [...(seen.get(id) ?? []), headers['x-big']]);
        if (attempt === 1) throw new Retry({ delayMs: 0 });
        return attempt;
      },
      polluted: () => [({} as Record<string, unknown>)['polluted'] ?? null],
    },
  );
  scene.worker.on('job:settled', ({ job, outcome }) => {
    if (outcome.kind === 'success') results.set(job.id, outcome.value);
  });
});

afterAll(async () => {
  await scene?.[Symbol.asyncDispose]();
  await rabbit?.[Symbol.asyncDispose]();
});

interface Bad extends Sent {
  readonly what: string;
  readonly code: string;
}

const BAD: readonly Bad[] = [
  { what: 'a body that is not JSON', code: 'undecodable', body: '[[], {}, {' },
  { what: 'a body that is not UTF-8', code: 'undecodable', body: Buffer.from([0x5b, 0x22, 0xff, 0xfe, 0x22, 0x5d]) },
  { what: 'an empty body', code: 'undecodable', body: '' },
  { what: 'pickle', code: 'content-disallowed', options: { contentType: 'application/x-python-serialize' } },
  { what: 'an unknown content type', code: 'content-disallowed', options: { contentType: 'text/klingon' } },
  {
    what: 'YAML where only JSON is accepted',
    code: 'content-disallowed',
    options: { contentType: 'application/x-yaml' },
  },
  { what: 'an unknown compression', code: 'unknown-compression', headers: { compression: 'application/x-rar' } },
  {
    what: 'a compressed body cut short',
    code: 'undecodable',
    headers: { compression: 'application/x-gzip' },
    body: deflateSync('[[], {}, {}]'.repeat(100)).subarray(0, 20),
  },
  {
    what: 'a decompression bomb',
    code: 'too-large',
    headers: { compression: 'application/x-brotli' },
    body: brotliCompressSync(Buffer.alloc(200 * MB, 0x20)),
  },
  { what: 'a body of 17 MB', code: 'too-large', body: `[["${'x'.repeat(17 * MB)}"], {}, {}]` },
  { what: 'a body of two elements', code: 'wrong-shape', body: '[[], {}]' },
  { what: 'a body that is an object', code: 'wrong-shape', body: '{"x": 1}' },
  { what: 'a body that is null', code: 'wrong-shape', body: 'null' },
  { what: 'arguments that are an object', code: 'wrong-shape', body: '[{"0": 1}, {}, {}]' },
  { what: 'keyword arguments that are a list', code: 'wrong-shape', body: '[[], [1], {}]' },
  { what: 'a body nested 10,000 deep', code: 'too-deep', body: '['.repeat(10_000) + ']'.repeat(10_000) },
  { what: 'no id', code: 'missing-id', headers: { id: undefined } },
  { what: 'an id that is a number', code: 'missing-id', headers: { id: 12 } },
  { what: 'an id that is a table', code: 'missing-id', headers: { id: { a: 1 } } },
  { what: 'an empty id', code: 'missing-id', headers: { id: '' } },
  { what: 'no task', code: 'missing-task', headers: { task: undefined } },
  { what: 'a task that is null', code: 'missing-task', headers: { task: null } },
  { what: 'a task that is a list', code: 'missing-task', headers: { task: ['ok'] } },
  { what: 'an eta that is no date', code: 'bad-eta', headers: { eta: 'next tuesday' } },
  { what: 'an eta that is a number', code: 'bad-eta', headers: { eta: 1e300 } },
  { what: 'an expiry that is a table', code: 'bad-eta', headers: { expires: { days: 3 } } },
  { what: 'headers nested 150 deep', code: 'too-deep', headers: { deep: nested(150) } },
];

describe('a message that is no task', () => {
  test.each(BAD)('$what is set aside as $code, and the next message runs', async ({ code, ...sent }) => {
    const body = Buffer.from((sent.body ?? '[[], {}, {}]') as string);
    const { kept, report } = await setAside(() => send(rabbit, QUEUE, { ...sent, body }));
    expect(report?.code).toBe(code);
    expect(kept?.content.equals(body)).toBe(true);
    expect(kept?.properties.headers).toMatchObject({ 'x-jobglot-code': code, 'x-jobglot-queue': QUEUE });
    expect(report?.kept).toContain(`jobglot.quarantine.${QUEUE}`);
    // Its own headers stand beside the reason.
    if (code !== 'too-deep' || sent.headers === undefined)
      expect(kept?.properties.headers).toMatchObject({ lang: 'py' });
    else expect(kept?.properties.headers?.['x-jobglot-headers']).toBeInstanceOf(Buffer);
  });

  test('headers that leave no room for the reason are set aside as they are', async () => {
    const connection = new AmqpConnection(amqpTarget(rabbit.url));
    await connection.connect();
    const publisher = new AmqpPublisher(connection);
    try {
      // The frame of the header is as large as RabbitMQ takes one.
      const overhead = 7 + 12 + 2 + 4 + 1;
      const field = encodeTable({ pad: '' }).length;
      const headers = encodeTable({ pad: 'x'.repeat(131_072 - overhead - field) });
      const { kept, report } = await setAside(() =>
        publisher.publish([
          { exchange: '', routingKey: QUEUE, mandatory: true, body: Buffer.from('no task'), properties: { headers } },
        ]),
      );
      expect(kept?.content.toString()).toBe('no task');
      expect(Object.keys(kept?.properties.headers ?? {})).toEqual(['pad']);
      expect(report?.kept).toContain('without the reason');
    } finally {
      await publisher.close();
      await connection.close();
    }
  });

  test('nothing but a body is set aside', async () => {
    const { kept } = await setAside(() => rabbit.publish('', QUEUE, Buffer.from([0, 255, 1])));
    expect(kept?.content.equals(Buffer.from([0, 255, 1]))).toBe(true);
    expect(kept?.properties.headers).toMatchObject({ 'x-jobglot-queue': QUEUE });
  });
});

describe('a message that is odd, but a task', () => {
  const FINE: readonly (Sent & { readonly what: string })[] = [
    {
      what: 'a priority of 0',
      options: { priority: 0 },
    },
    { what: 'a priority of 255', options: { priority: 255 } },
    { what: 'unknown headers', headers: { 'x-trace': { a: [1, null, 1.5, 'ü'] }, constructor: 1, toString: 'x' } },
    { what: 'a timelimit of words', headers: { timelimit: ['a', {}] } },
    { what: 'retries that are a word', headers: { retries: 'x' } },
    { what: 'an embed that is null', body: '[[], {}, null]' },
    { what: 'bytes in a header', headers: { 'x-bytes': Buffer.from([0xff, 0]) } },
  ];
  test.each(FINE)('$what: it runs', async (sent) => {
    const [id = ''] = await send(rabbit, QUEUE, sent);
    await until('it ran', () => results.has(id));
    await holds(rabbit, QUEUE, 0, 0);
  });

  test('a header named __proto__ is a header, and no prototype is touched', async () => {
    const own = JSON.parse('{"__proto__": {"polluted": 1}, "constructor": {"prototype": {"polluted": 2}}}') as object;
    const headers = Object.assign(Object.create(null) as Record<string, unknown>, { 'x-own': own });
    const [id = ''] = await send(rabbit, QUEUE, { task: 'polluted', headers });
    await until('it ran', () => results.has(id));
    expect(results.get(id)).toEqual([null]);
    expect(Object.getOwnPropertyNames(Object.prototype)).not.toContain('polluted');
  });

  test('an integer of 64 bits in a header is the same, to the byte, after a retry', async () => {
    const field = Buffer.concat([Buffer.from('\x05x-biglabcdefgh', 'latin1')]);
    const connection = new AmqpConnection(amqpTarget(rabbit.url));
    await connection.connect();
    const publisher = new AmqpPublisher(connection);
    try {
      const table = encodeTable({ lang: 'py', task: 'again', id: 'big-1', retries: 0 });
      await publisher.publish([
        {
          exchange: '',
          routingKey: QUEUE,
          mandatory: true,
          body: Buffer.from('[[], {}, {}]'),
          properties: {
            contentType: 'application/json',
            contentEncoding: 'utf-8',
            headers: Buffer.concat([table, field]),
          },
        },
      ]);
      await until('it ran again', () => results.has('big-1'));
      expect(results.get('big-1')).toBe(2);
      expect(seen.get('big-1')).toEqual([0x6162636465666768n, 0x6162636465666768n]);
    } finally {
      await publisher.close();
      await connection.close();
    }
  });
});

describe('headers that leave no room', () => {
  test('for a retry: the task fails, and its caller is told', async () => {
    await using actors = await startWorker(
      { broker: rabbit.url, backend: 'rpc://', queues: ['full'], workerEnableRemoteControl: false },
      {
        later: () => {
          throw new Retry({ delayMs: 3_600_000 });
        },
        ok: () => 'ran',
      },
    );
    const dispositions = new Map<string, string>();
    actors.worker.on('job:settled', ({ job, disposition }) => dispositions.set(job.id, disposition.state));
    const channel = await (await rabbit.connect()).createChannel();
    await channel.assertQueue('full-answers');
    await channel.close();
    const connection = new AmqpConnection(amqpTarget(rabbit.url));
    await connection.connect();
    const publisher = new AmqpPublisher(connection);
    try {
      const own = { contentType: 'application/json', contentEncoding: 'utf-8' };
      const caller = { correlationId: 'full-1', replyTo: 'full-answers' };
      const texts = Object.values({ ...own, ...caller }).reduce((sum, text) => sum + 1 + text.length, 0);
      // As large as RabbitMQ takes one: the time of a retry, and its number, do not fit.
      const table = { lang: 'py', task: 'later', id: 'full-1', retries: 0, eta: null, pad: '' };
      const pad = 'x'.repeat(131_072 - (7 + 12 + 2 + 4 + 1) - texts - encodeTable(table).length);
      const properties = { ...own, ...caller, headers: encodeTable({ ...table, pad }) };
      const body = Buffer.from('[[], {}, {}]');
      await publisher.publish([{ exchange: '', routingKey: 'full', mandatory: true, body, properties }]);
    } finally {
      await publisher.close();
      await connection.close();
    }
    const [next = ''] = await send(rabbit, 'full', {});
    await until('the next one ran', () => actors.started.includes(next));
    await holds(rabbit, 'full', 0, 0);
    const answers = await rabbit.get('full-answers');
    const states = answers.map(({ content }) => JSON.parse(content.toString()) as Record<string, unknown>);
    expect(states).toMatchObject([
      { task_id: 'full-1', status: 'FAILURE', result: { exc_message: [expect.stringContaining('headers of')] } },
    ]);
    expect(dispositions.get('full-1')).toBe('failed');
  });
});

describe('properties that nobody can read', () => {
  test('the message is set aside, its properties as bytes, and the next one runs on the same connection', async () => {
    // RabbitMQ passes on only properties it has read itself: something between us spoils them.
    await using proxy = await startProxy(rabbit.port, () => spoiler('spoil-me'));
    await using actors = await startWorker(
      {
        broker: `amqp://guest:guest@127.0.0.1:${proxy.port}//`,
        queues: ['spoilt'],
        workerEnableRemoteControl: false,
      },
      { ok: () => 'ran' },
    );
    const { accepted } = proxy;
    const body = Buffer.from('[[], {}, {}]');
    const [, next = ''] = await send(
      rabbit,
      'spoilt',
      { options: { messageId: 'spoil-me' }, body },
      { options: { messageId: 'good' } },
    );
    await until('the next one ran', () => actors.started.includes(next));
    await until('it is reported', () => actors.poisons.length === 1);
    await holds(rabbit, 'spoilt', 0, 0);
    expect(actors.poisons[0]).toMatchObject({ code: 'undecodable', queue: 'spoilt' });
    expect(actors.poisons[0]?.reason).toContain("end in the middle of 'messageId'");
    expect(actors.started).toEqual([next]);
    const [kept] = await rabbit.get('jobglot.quarantine.spoilt');
    expect(kept?.content.equals(body)).toBe(true);
    const bytes = kept?.properties.headers?.['x-jobglot-properties'] as Buffer;
    expect(bytes.toString('latin1')).toContain('spoil-me');
    expect(kept?.properties.headers).toMatchObject({ 'x-jobglot-code': 'undecodable', 'x-jobglot-queue': 'spoilt' });
    // Nothing was connected anew for it, but to publish.
    expect(proxy.accepted - accepted).toBeLessThanOrEqual(1);
    expect(actors.lines.filter(({ message }) => /nothing is consumed|closed the channel/.test(message))).toEqual([]);
  });

  test('properties too long for a header are a message of their own, to the last byte', async () => {
    let spoilt: Buffer = Buffer.alloc(0);
    const spoil = (): ((chunk: Buffer) => Buffer) => spoiler('spoil-big', (properties) => (spoilt = properties));
    await using proxy = await startProxy(rabbit.port, spoil);
    await using actors = await startWorker(
      {
        broker: `amqp://guest:guest@127.0.0.1:${proxy.port}//`,
        queues: ['spoilt-big'],
        workerEnableRemoteControl: false,
      },
      { ok: () => 'ran' },
    );
    const body = Buffer.from('[[], {}, {}]');
    const pad = 'x'.repeat(125_000);
    const connection = new AmqpConnection(amqpTarget(rabbit.url));
    await connection.connect();
    const publisher = new AmqpPublisher(connection);
    try {
      const properties = { messageId: 'spoil-big', headers: encodeTable({ pad }) };
      await publisher.publish([{ exchange: '', routingKey: 'spoilt-big', mandatory: true, body, properties }]);
    } finally {
      await publisher.close();
      await connection.close();
    }
    const [next = ''] = await send(rabbit, 'spoilt-big', {});
    await until('the next one ran', () => actors.started.includes(next));
    await until('it is reported', () => actors.poisons.length === 1);
    expect(actors.poisons[0]?.kept).toContain('its properties in a message of their own before it');
    await holds(rabbit, 'spoilt-big', 0, 0);
    const [beside, kept, ...more] = await rabbit.get('jobglot.quarantine.spoilt-big');
    expect(more).toEqual([]);
    expect(kept?.content.equals(body)).toBe(true);
    const { headers } = kept?.properties ?? {};
    expect(headers).toMatchObject({ 'x-jobglot-code': 'undecodable', 'x-jobglot-queue': 'spoilt-big' });
    expect(headers?.['x-jobglot-properties-in']).toBe(beside?.properties.messageId);
    expect(beside?.content.length).toBeGreaterThan(pad.length);
    expect(beside?.content.equals(spoilt)).toBe(true);
  });

  test('a timestamp of 64 bits is set aside as it is', async () => {
    const connection = new AmqpConnection(amqpTarget(rabbit.url));
    await connection.connect();
    const publisher = new AmqpPublisher(connection);
    try {
      const { kept } = await setAside(() =>
        publisher.publish([
          {
            exchange: '',
            routingKey: QUEUE,
            mandatory: true,
            body: Buffer.from('no task'),
            properties: { contentType: 'application/json', timestamp: 2n ** 64n - 1n },
          },
        ]),
      );
      expect(kept?.content.toString()).toBe('no task');
      // As near as a double comes.
      expect(kept?.properties.timestamp).toBe(2 ** 64);
    } finally {
      await publisher.close();
      await connection.close();
    }
  });
});

/**
 * In the header frame that has this text as its message id, the length of the text says more than the frame has. `told` what the
 * properties are then.
 */
function spoiler(text: string, told: (properties: Buffer) => void = () => {}): (chunk: Buffer) => Buffer {
  let rest = Buffer.alloc(0);
  return (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    let end = 0;
    for (let next = frameEnd(rest, end); next !== undefined; next = frameEnd(rest, end)) {
      const at = rest[end] === 2 ? rest.subarray(0, next).indexOf(text, end) : -1;
      if (at > 0) {
        rest[at - 1] = 255;
        // After the frame's start, class, weight and size; before its last byte.
        told(Buffer.from(rest.subarray(end + 7 + 12, next - 1)));
      }
      end = next;
    }
    const whole = rest.subarray(0, end);
    rest = rest.subarray(end);
    return whole;
  };
}

/** Where the frame that starts at `start` ends, if it is there. */
function frameEnd(bytes: Buffer, start: number): number | undefined {
  if (bytes.length < start + 7) return undefined;
  const end = start + 7 + bytes.readUInt32BE(start + 3) + 1;
  return end <= bytes.length ? end : undefined;
}

/** Send it, then a good one; what was set aside, and the report of it. */
async function setAside(work: () => Promise<unknown>): Promise<{
  readonly kept: Awaited<ReturnType<RabbitServer['get']>>[number] | undefined;
  readonly report: Scene['poisons'][number] | undefined;
}> {
  const count = scene.poisons.length;
  await work();
  const [good = ''] = await send(rabbit, QUEUE, {});
  await until('the next one ran', () => results.has(good));
  await until('it is reported', () => scene.poisons.length > count);
  await holds(rabbit, QUEUE, 0, 0);
  expect(scene.poisons.length).toBe(count + 1);
  const all = await rabbit.get(`jobglot.quarantine.${QUEUE}`);
  expect(all.length).toBe(1);
  await rabbit.purge(`jobglot.quarantine.${QUEUE}`);
  return { kept: all[0], report: scene.poisons[count] };
}

function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let level = 0; level < depth; level++) value = { a: value };
  return value;
}
