import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  ByteArray,
  DateTime,
  Decimal,
  float,
  FrozenSet,
  PlainDate,
  PlainTime,
  PyObject,
  type RqClient,
  TimeDelta,
  Tuple,
  Uuid,
} from '../../src/drivers/rq/index.ts';
import { temporaryFolder } from '../support/folder.ts';
import type { PythonRqWorker } from '../support/python-rq.ts';
import { RqStage, until } from './support/rq-stage.ts';

/** What Node sends, and what Python makes of it: its type and its repr. */
const ARGUMENTS: readonly (readonly [value: unknown, seen: string])[] = [
  [null, 'NoneType: None'],
  [true, 'bool: True'],
  [0, 'int: 0'],
  [-1, 'int: -1'],
  [2 ** 31, 'int: 2147483648'],
  [2n ** 70n, 'int: 1180591620717411303424'],
  [-(2n ** 63n), 'int: -9223372036854775808'],
  [1.5, 'float: 1.5'],
  [float(1), 'float: 1.0'],
  [-0, 'float: -0.0'],
  [Number.NaN, 'float: nan'],
  [-Infinity, 'float: -inf'],
  ['zwölf 日本語 😀', "str: 'zwölf 日本語 😀'"],
  ['\ud83d', "str: '\\ud83d'"],
  [Buffer.from([0, 255]), "bytes: b'\\x00\\xff'"],
  [ByteArray.from([1]), "bytearray: bytearray(b'\\x01')"],
  [[1, [2]], 'list: [1, [2]]'],
  [Tuple.of<unknown>(1, 'a'), "tuple: (1, 'a')"],
  [{ a: { b: null } }, "dict: {'a': {'b': None}}"],
  [new Map<unknown, unknown>([[1, 'a']]), "dict: {1: 'a'}"],
  [JSON.parse('{"__proto__": 1}'), "dict: {'__proto__': 1}"],
  [new Set([1]), 'set: {1}'],
  [new FrozenSet([1]), 'frozenset: frozenset({1})'],
  [
    new Date('2026-11-21T10:20:30.123Z'),
    'datetime: datetime.datetime(2026, 11, 21, 10, 20, 30, 123000, tzinfo=datetime.timezone.utc)',
  ],
  [new DateTime('2026-11-21T10:20:30.123456'), 'datetime: datetime.datetime(2026, 11, 21, 10, 20, 30, 123456)'],
  [new PlainDate('2026-11-21'), 'date: datetime.date(2026, 11, 21)'],
  [new PlainTime('10:20:00'), 'time: datetime.time(10, 20)'],
  [new TimeDelta(1, 2, 3), 'timedelta: datetime.timedelta(days=1, seconds=2, microseconds=3)'],
  [new Decimal('1.50'), "Decimal: Decimal('1.50')"],
  [new Uuid('7f3b1a52-0c1d-4e2f-8a9b-0123456789ab'), "UUID: UUID('7f3b1a52-0c1d-4e2f-8a9b-0123456789ab')"],
];

/** What a Python function returns, and what Node has of it. */
const RESULTS: readonly (readonly [source: string, value: unknown])[] = [
  ['None', null],
  ['2**53 + 1', 2n ** 53n + 1n],
  ['-5000000000', -5000000000],
  ["float('inf')", Infinity],
  ["'\\ud83d'", '\ud83d'],
  ["b'\\xff'", Buffer.from([255])],
  ["bytearray(b'a')", ByteArray.from(Buffer.from('a'))],
  ['(1, [2])', Tuple.of<unknown>(1, [2])],
  ["{'a': 1}", { a: 1 }],
  [
    "{1: 'a', (2,): 'b'}",
    new Map<unknown, unknown>([
      [1, 'a'],
      [Tuple.of(2), 'b'],
    ]),
  ],
  ['{1}', new Set([1])],
  ['frozenset([1])', new FrozenSet([1])],
  ['datetime.datetime(2026, 11, 21, tzinfo=datetime.timezone.utc)', new DateTime('2026-11-21T00:00:00+00:00')],
  ['datetime.date(2026, 11, 21)', new PlainDate('2026-11-21')],
  ['datetime.timedelta(1, 2, 3)', new TimeDelta(1, 2, 3)],
  ["decimal.Decimal('1.50')", new Decimal('1.50')],
  ["uuid.UUID('7f3b1a52-0c1d-4e2f-8a9b-0123456789ab')", new Uuid('7f3b1a52-0c1d-4e2f-8a9b-0123456789ab')],
  ['list(range(2000))', Array.from({ length: 2000 }, (_, one) => one)],
];

const GET = { timeoutMs: 30_000 };

describe.each(['1.16', '2.0', '2.10', '2.12'] as const)('Node enqueues, RQ %s runs, Node reads', (version) => {
  let stage: RqStage;
  let python: PythonRqWorker;
  let client: RqClient;
  const folder = temporaryFolder('jobglot-rq-');

  beforeAll(async () => {
    stage = await RqStage.start(version);
    client = stage.client();
    python = await stage.worker({ queues: ['default'], kind: 'SimpleWorker' });
  });
  afterAll(async () => {
    await client?.close();
    await python?.[Symbol.asyncDispose]();
    await stage?.[Symbol.asyncDispose]();
  });

  test('arguments are what they are here', async () => {
    const args = ARGUMENTS.map(([value]) => value);
    const job = await client.enqueue('rq_app.describe', { args, kwargs: { key: new Decimal('2') } });
    expect(await job.get(GET)).toEqual([ARGUMENTS.map(([, seen]) => seen), { key: "Decimal('2')" }]);
  });

  test.each(RESULTS)('%s is read as what it is', async (source, value) => {
    const job = await client.enqueue('rq_app.value', { args: [source] });
    expect(await job.get(GET)).toEqual(value);
  });

  test('an object of a Python class is kept, and goes back as it was', async () => {
    const source = "__import__('rq_py').Account(7)";
    const job = await client.enqueue('rq_app.value', { args: [source] });
    const account = await job.get(GET);
    expect(account).toBeInstanceOf(PyObject);
    const back = await client.enqueue('rq_app.describe', { args: [account] });
    expect(await back.get(GET)).toEqual([[expect.stringContaining('rq_py.Account object')], {}]);
  });

  test('a failure is told with its class, its message and the traceback', async () => {
    const job = await client.enqueue('rq_app.out_of_stock', { args: ['chair', 3] });
    await expect(job.get(GET)).rejects.toMatchObject({
      type: 'OutOfStock',
      module: 'rq_app',
      message: expect.stringContaining("('chair', 3)") as string,
      traceback: expect.stringMatching(/^Traceback[^]*rq_app\.py[^]*OutOfStock/) as string,
    });
    expect(await job.status()).toBe('failed');
  });

  test('a limit is kept, and told', async () => {
    const job = await client.enqueue('rq_app.slow', { args: [30], jobTimeout: 1 });
    await expect(job.get(GET)).rejects.toMatchObject({ type: 'JobTimeoutException', module: 'rq.timeouts' });
  });

  test('retries with an interval wait for a scheduler, and then it has succeeded', async () => {
    await using _ = await stage.worker({ queues: ['later'], kind: 'SimpleWorker', args: ['--with-scheduler'] });
    const path = join(folder, `interval-${version}`);
    const job = await client.enqueue('rq_app.fail_until', {
      args: [path, 2],
      queue: 'later',
      retry: { max: 1, interval: 1 },
    });
    expect(await job.get(GET)).toBe(2);
  });

  if (version === '2.10' || version === '2.12') {
    test('a repeated job has a result for each run', async () => {
      const path = join(folder, `repeat-${version}`);
      const job = await client.enqueue('rq_app.write', { args: [path], repeat: { times: 2 } });
      await until('it ran three times', async () => (await job.results()).length === 3);
      expect((await job.results()).map((result) => result.value())).toEqual([3, 2, 1]);
    });

    test('a function that returns a Retry is run again, and both are told', async () => {
      const job = await client.enqueue('rq_app.once_more');
      await until('it has ended', async () => (await job.status()) === 'finished');
      expect((await job.results()).map(({ type }) => type)).toEqual(['successful', 'retried']);
      expect(await job.get(GET)).toBe('enough');
    });
  }

  test('a job is stopped, and says so', async () => {
    await using _ = await stage.worker({ queues: ['stopped'] });
    const job = await client.enqueue('rq_app.slow', {
      args: [60],
      queue: 'stopped',
      onStopped: 'rq_app.on_stopped',
      retry: { max: 2 },
    });
    await until('it runs', async () => (await job.status()) === 'started');
    expect(await job.stop()).toBe(true);
    await expect(job.get(GET)).rejects.toThrow('Job stopped by user');
    expect(await job.status()).toBe('stopped');
    expect(await stage.callbacks(job.id)).toEqual([['stopped', job.id]]);
  });

  test('what it saves while it runs can be read', async () => {
    const job = await client.enqueue('rq_app.progress', { args: [3], meta: { tenant: 'acme' } });
    expect(await job.get(GET)).toBe(3);
    expect(await job.meta()).toEqual({ tenant: 'acme', progress: 3 });
  });
});
