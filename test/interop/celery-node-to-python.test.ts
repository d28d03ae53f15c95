import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect } from 'vitest';
import {
  type AsyncResult,
  type CeleryClient,
  DateTime,
  Decimal,
  type EnqueueOptions,
  float,
  Numeral,
  PlainDate,
  PlainTime,
  Uuid,
} from '../../src/drivers/celery/index.ts';
import { RemoteError, ResultTimeoutError } from '../../src/errors.ts';
import { defineTask } from '../../src/task.ts';
import { temporaryFolder } from '../support/folder.ts';
import type { PythonWorker } from '../support/python.ts';
import { PATIENCE_MS } from '../support/until.ts';
import { Stage, until } from './support/stage.ts';
import { compressionLacks, elsewhere, facts, type Lacks, SETTINGS } from './support/table.ts';

const NO_TYPED_JSON: Lacks = { '5.2': 'kombu before 5.3 writes dates, Decimals and UUIDs as text, and no bytes' };

/** What Node sends, and what Python says it is. */
const JSON_VALUES: readonly (readonly [value: unknown, python: string])[] = [
  [null, 'NoneType: None'],
  [undefined, 'NoneType: None'],
  [true, 'bool: True'],
  [false, 'bool: False'],
  [0, 'int: 0'],
  [-1, 'int: -1'],
  [2 ** 53 - 1, 'int: 9007199254740991'],
  // Past what a number counts exactly, it is not known to be whole.
  [2 ** 53, 'float: 9007199254740992.0'],
  [2n ** 53n + 1n, 'int: 9007199254740993'],
  [-(2n ** 63n), 'int: -9223372036854775808'],
  [10n ** 30n, 'int: 1000000000000000000000000000000'],
  [2, 'int: 2'],
  [float(2), 'float: 2.0'],
  [float(1e22), 'float: 1e+22'],
  [new Numeral('1e5'), 'float: 100000.0'],
  [1.5, 'float: 1.5'],
  [0.1 + 0.2, 'float: 0.30000000000000004'],
  [5e-324, 'float: 5e-324'],
  [1e300, 'float: 1e+300'],
  [Number.NaN, 'float: nan'],
  [Infinity, 'float: inf'],
  [-Infinity, 'float: -inf'],
  ['', "str: ''"],
  ['plain', "str: 'plain'"],
  ['a"b\\c/d\n\u0000\u001f', `str: 'a"b\\\\c/d\\n\\x00\\x1f'`],
  ['zwölf 日本語 😀', "str: 'zwölf 日本語 😀'"],
  ['\ud83d', "str: '\\ud83d'"],
  ['\u2028\ufeff', "str: '\\u2028\\ufeff'"],
  [[], 'list: []'],
  [{}, 'dict: {}'],
  [[[], {}, [{}]], 'list: [[], {}, [{}]]'],
  [{ '': { b: [null] } }, "dict: {'': {'b': [None]}}"],
  [
    new Map<string, unknown>([
      ['10', 1],
      ['9', 2],
      ['__proto__', 3],
    ]),
    "dict: {'10': 1, '9': 2, '__proto__': 3}",
  ],
  [nested(100), `list: ${'['.repeat(100)}${']'.repeat(100)}`],
];

const TYPED_VALUES: readonly (readonly [value: unknown, python: string])[] = [
  [
    new Date('2026-11-21T10:20:30.123Z'),
    'datetime: datetime.datetime(2026, 11, 21, 10, 20, 30, 123000, tzinfo=datetime.timezone.utc)',
  ],
  [new DateTime('2026-11-21T10:20:30.123456'), 'datetime: datetime.datetime(2026, 11, 21, 10, 20, 30, 123456)'],
  [new PlainDate('2026-11-21'), 'date: datetime.date(2026, 11, 21)'],
  [new PlainTime('10:20:30.000001'), 'time: datetime.time(10, 20, 30, 1)'],
  [new Decimal('1.50'), "Decimal: Decimal('1.50')"],
  [new Uuid('7f3b1a52-0c1d-4e2f-8a9b-0123456789ab'), "UUID: UUID('7f3b1a52-0c1d-4e2f-8a9b-0123456789ab')"],
  [Buffer.from('text'), "bytes: b'text'"],
  [new Uint8Array([0, 255]), "bytes: b'\\x00\\xff'"],
];

/** What Python returns, and what Node's get() gives. */
const RETURNED: readonly (readonly [source: string, value: unknown])[] = [
  ['None', null],
  ['2**53 + 1', 2n ** 53n + 1n],
  ['1.0', 1],
  ["float('nan')", Number.NaN],
  ["float('-inf')", -Infinity],
  ["'\\ud83d 😀'", '\ud83d 😀'],
  ["{'a': [1.5, (1, 2)], '__proto__': None}", JSON.parse('{"a": [1.5, [1, 2]], "__proto__": null}')],
];
const RETURNED_TYPED: readonly (readonly [source: string, value: unknown])[] = [
  [
    'datetime.datetime(2026, 11, 21, 10, 20, 30, 123456, tzinfo=datetime.timezone.utc)',
    new DateTime('2026-11-21T10:20:30.123456+00:00'),
  ],
  ['datetime.date(2026, 11, 21)', new PlainDate('2026-11-21')],
  ['datetime.time(10, 20)', new PlainTime('10:20:00')],
  ["decimal.Decimal('0.10')", new Decimal('0.10')],
  ["uuid.UUID('7f3b1a52-0c1d-4e2f-8a9b-0123456789ab')", new Uuid('7f3b1a52-0c1d-4e2f-8a9b-0123456789ab')],
  ["b'\\xff'", Buffer.from([255])],
];

const WAIT = { timeoutMs: PATIENCE_MS };

describe.each(SETTINGS)('Node sends over $broker, Celery $version runs, Node reads', ({ version, broker }) => {
  const fact = facts('celery-node-to-python', { version, broker }, 'Node → Python');
  const onRedis = broker === 'redis' ? fact : elsewhere;
  let stage: Stage;
  let worker: PythonWorker;
  let client: CeleryClient;
  let folder: string;

  beforeAll(async () => {
    stage = await Stage.start(version, {}, { broker });
    worker = await stage.worker({ queues: ['python'], prelude: "app.tasks['py.gate'].track_started = True" });
    client = stage.client({ taskDefaultQueue: 'python' });
    folder = temporaryFolder('jobglot-interop-');
  });
  afterEach(() => stage.nothingHeld());
  afterAll(async () => {
    rmSync(folder, { recursive: true, force: true });
    await client.close();
    await worker.kill();
    await stage[Symbol.asyncDispose]();
  });

  function send(
    task: string,
    args: readonly unknown[] = [],
    options: EnqueueOptions & { readonly kwargs?: Record<string, unknown> } = {},
  ): Promise<AsyncResult> {
    return client.enqueue(task, { args, ...options });
  }

  /** The error that get() throws. */
  async function failureOf(result: AsyncResult): Promise<RemoteError> {
    const error = await result.get(WAIT).then(
      (value) => expect.fail(`${result.id} returned ${JSON.stringify(value)}`),
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(RemoteError);
    return error as RemoteError;
  }

  describe('values', () => {
    fact('args and kwargs of every JSON type', 'args are what Python calls them', async () => {
      const result = await send(
        'py.describe',
        JSON_VALUES.map(([value]) => value),
      );
      expect(await result.get(WAIT)).toEqual([JSON_VALUES.map(([, python]) => python), {}]);
    });

    fact('args and kwargs of every JSON type', 'kwargs are what Python calls them', async () => {
      const values = JSON_VALUES.filter(([value]) => value !== undefined);
      const kwargs = Object.fromEntries(values.map(([value], index) => [`k${index}`, value]));
      const result = await send('py.describe', [], { kwargs: { ...kwargs, left: undefined } });
      expect(await result.get(WAIT)).toEqual([
        [],
        Object.fromEntries(values.map(([, python], index) => [`k${index}`, python.slice(python.indexOf(': ') + 2)])),
      ]);
    });

    fact('args and kwargs of every JSON type', 'what Python returns is read', async () => {
      for (const [source, value] of RETURNED) {
        expect({ source, value: await (await send('py.value', [source])).get(WAIT) }).toEqual({ source, value });
      }
    });

    fact('args and kwargs of every JSON type', 'a megabyte of text goes there and back', async () => {
      const text = 'é'.repeat(2 ** 20);
      expect(await (await send('py.echo', [text])).get(WAIT)).toEqual([[text], {}]);
    });

    fact(
      'typed values (datetime, date, time, Decimal, UUID, bytes)',
      'dates, Decimals, UUIDs and bytes are these to Python, and read from it',
      async () => {
        const sent = await send(
          'py.describe',
          TYPED_VALUES.map(([value]) => value),
        );
        expect(await sent.get(WAIT)).toEqual([TYPED_VALUES.map(([, python]) => python), {}]);
        for (const [source, value] of RETURNED_TYPED) {
          expect({ source, value: await (await send('py.value', [source])).get(WAIT) }).toEqual({ source, value });
        }
      },
      NO_TYPED_JSON,
    );

    if (version === '5.2') {
      fact(
        'dates as text for kombu 5.2',
        'with typedJson: false, Python gets the text it would have made itself',
        async () => {
          await using plain = stage.client({ taskDefaultQueue: 'python', typedJson: false });
          const result = await plain.enqueue('py.describe', {
            args: [new Date('2026-11-21T10:20:30Z'), new PlainDate('2026-11-21'), new Decimal('1.50')],
          });
          expect(await result.get(WAIT)).toEqual([
            ["str: '2026-11-21T10:20:30Z'", "str: '2026-11-21T00:00:00'", "str: '1.50'"],
            {},
          ]);
        },
      );
    }

    for (const serializer of ['msgpack', 'yaml']) {
      fact(serializer, `a task as ${serializer} is run`, async () => {
        const values = [1, 'é 😀', null, { a: [true, 2n ** 53n + 1n, 1.5] }, Buffer.from([255])];
        const result = await send('py.describe', values, { serializer });
        const dict = "dict: {'a': [True, 9007199254740993, 1.5]}";
        expect(await result.get(WAIT)).toEqual([
          ['int: 1', "str: 'é 😀'", 'NoneType: None', dict, "bytes: b'\\xff'"],
          {},
        ]);
      });
    }

    for (const resultSerializer of ['msgpack', 'yaml']) {
      fact(resultSerializer, `what Celery stores as ${resultSerializer} is read, values and failures`, async () => {
        await using reader = stage.client({ resultSerializer });
        const [good, bad] = [reader.result(`good-${resultSerializer}`), reader.result(`bad-${resultSerializer}`)];
        await stage.run(
          `
backend = other(result_serializer=serializer).backend
backend.store_result(good, [1, 'é', None, {'a': 2**60}], 'SUCCESS')
backend.mark_as_failure(bad, KeyError('k', 2), traceback='the traceback')
`,
          { serializer: resultSerializer, good: good.id, bad: bad.id },
        );
        expect(await good.get(WAIT)).toEqual([1, 'é', null, { a: 2n ** 60n }]);
        expect(await failureOf(bad)).toMatchObject({ type: 'KeyError', module: 'builtins', args: ['k', 2] });
      });
    }

    for (const compression of ['gzip', 'zlib', 'brotli', 'zstd']) {
      fact(
        `compressed (${compression})`,
        `a body compressed with ${compression} is read`,
        async () => {
          const text = 'aé'.repeat(50_000);
          expect(await (await send('py.echo', [text], { compression })).get(WAIT)).toEqual([[text], {}]);
        },
        compressionLacks(compression),
      );
    }
  });

  describe('failures', () => {
    fact('failures seen by get()', 'an exception is a RemoteError with type, module, args and traceback', async () => {
      const error = await failureOf(await send('py.fail', ['ValueError', 'no é', 2, { a: [1] }]));
      expect(error).toMatchObject({
        code: 'remote',
        type: 'ValueError',
        module: 'builtins',
        args: ['no é', 2, { a: [1] }],
      });
      expect(error.traceback).toMatch(
        /^Traceback \(most recent call last\):\n[^]*\nValueError: \('no é', 2, \{'a': \[1\]\}\)\n$/,
      );
    });

    fact('failures seen by get()', "an exception of the application's own carries its module", async () => {
      expect(await failureOf(await send('py.fail', ['OutOfStock', 'no tea', 3]))).toMatchObject({
        type: 'OutOfStock',
        module: 'app',
        args: ['no tea', 3],
        message: 'OutOfStock: no tea, 3',
      });
      expect(await failureOf(await send('py.fail', ['KeyError', 'k']))).toMatchObject({
        type: 'KeyError',
        args: ['k'],
      });
    });

    fact('failures seen by get()', 'an unknown task is NotRegistered; wrong arguments are a TypeError', async () => {
      expect(await failureOf(await send('nobody.has_this'))).toMatchObject({
        type: 'NotRegistered',
        args: ['nobody.has_this'],
      });
      expect(await failureOf(await send('py.add', [1]))).toMatchObject({ type: 'TypeError' });
    });
  });

  describe('results', () => {
    fact('result fields', 'state, traceback, children, date_done and ids are read', async () => {
      const result = await send('py.add', [2, 3], {
        parentId: 'the-parent',
        groupId: 'the-group',
        taskId: `named-${version}`,
      });
      expect(result.id).toBe(`named-${version}`);
      expect(await result.get(WAIT)).toBe(5);
      expect(await result.state()).toBe('SUCCESS');
      expect(await result.ready()).toBe(true);
      const meta = await result.meta();
      expect(meta).toMatchObject({
        status: 'SUCCESS',
        result: 5,
        taskId: result.id,
        parentId: 'the-parent',
        groupId: 'the-group',
      });
      // Before 5.4 without an offset: UTC all the same.
      expect(Math.abs(Date.now() - Number(meta?.dateDone))).toBeLessThan(60_000);
    });

    fact('track_started', 'STARTED is seen while a task runs', async () => {
      const path = join(folder, 'started');
      const result = await send('py.gate', [path]);
      await until('STARTED', async () => (await result.state()) === 'STARTED');
      expect(await result.meta()).toMatchObject({ result: { pid: worker.pid, hostname: worker.hostname } });
      writeFileSync(path, '');
      expect(await result.get(WAIT)).toBe('passed');
    });

    fact('custom states', 'PROGRESS and its meta are seen while a task runs', async () => {
      const path = join(folder, 'progress');
      const result = await send('py.gate', [path], { kwargs: { meta: { step: 1, of: 1 } } });
      await until('PROGRESS', async () => (await result.state()) === 'PROGRESS');
      expect(await result.meta()).toMatchObject({ result: { step: 1, of: 1 } });
      expect(await result.ready()).toBe(false);
      writeFileSync(path, '');
      expect(await result.get(WAIT)).toBe('passed');
    });

    fact('ignore_result', 'ignoreResult stores nothing', async () => {
      const path = join(folder, 'ignored');
      const result = await send('py.write', [path], { ignoreResult: true });
      await until('it ran', () => lines(path) === 1);
      await stage.nothingHeld();
      await (await send('py.add', [1, 1])).get(WAIT);
      expect(await stage.stored(result.id)).toBeNull();
      expect(await result.state()).toBe('PENDING');
    });

    fact('forget()', 'forget removes what Python stored', async () => {
      const result = await send('py.add', [1, 2]);
      await result.get(WAIT);
      await result.forget();
      expect(await stage.stored(result.id)).toBeNull();
    });

    fact(
      'waiting for results',
      'get with a time-out throws ResultTimeoutError, and an aborted one its reason; the task is not touched',
      async () => {
        const path = join(folder, 'awaited');
        const result = await send('py.gate', [path]);
        await expect(result.get({ timeoutMs: 50 })).rejects.toThrow(ResultTimeoutError);
        const stop = new AbortController();
        const waiting = result.get({ signal: stop.signal });
        stop.abort(new Error('enough'));
        await expect(waiting).rejects.toThrow('enough');
        writeFileSync(path, '');
        expect(await result.get(WAIT)).toBe('passed');
      },
    );

    fact('waiting for results', 'enqueueMany sends all, and each result is its own', async () => {
      const add = defineTask<(x: number, y: number) => number>('py.add');
      const results = await client.enqueueMany(
        add,
        Array.from({ length: 50 }, (_, n) => ({ args: [n, 1] as const })),
      );
      expect(await Promise.all(results.map((result) => result.get(WAIT)))).toEqual(
        Array.from({ length: 50 }, (_, n) => n + 1),
      );
    });
  });

  describe('the message', () => {
    fact('headers', 'ids, limits, origin, headers and reprs are what Python reads', async () => {
      const result = await send('py.context', [], {
        timeLimit: 20,
        softTimeLimit: 10.5,
        headers: { x_tenant: 'acme' },
        rootId: 'the-root',
        parentId: 'the-parent',
        groupId: 'the-group',
        groupIndex: 3,
        replyTo: 'nobody',
        kwargsrepr: '{hidden}',
      });
      const context = (await result.get(WAIT)) as Record<string, unknown>;
      expect(context).toMatchObject({
        id: result.id,
        correlation_id: result.id,
        root_id: 'the-root',
        parent_id: 'the-parent',
        group: 'the-group',
        group_index: 3,
        retries: 0,
        eta: null,
        expires: null,
        timelimit: [20, 10.5],
        reply_to: 'nobody',
        argsrepr: '()',
        kwargsrepr: '{hidden}',
        ignore_result: false,
        delivery_info: { exchange: '', routing_key: 'python', priority: 0 },
      });
      expect(context['origin']).toMatch(/^gen\d+@/);
      expect(context['x_tenant']).toBe('acme');
    });

    fact('countdown and eta', 'a countdown is waited for, and other tasks run meanwhile', async () => {
      const before = Date.now();
      const late = await send('py.add', [1, 2], { countdown: 4 });
      const zoned = await send('py.add', [3, 4], { eta: new Date(before + 2_000) });
      expect(await (await send('py.add', [5, 6])).get(WAIT)).toBe(11);
      expect(await late.state()).toBe('PENDING');
      expect(await zoned.get(WAIT)).toBe(7);
      expect(Date.now() - before).toBeGreaterThanOrEqual(1_990);
      expect(await late.get(WAIT)).toBe(3);
      expect(Date.now() - before).toBeGreaterThanOrEqual(3_990);
    });

    onRedis('expires', 'an expired task is revoked: TaskRevokedError', async () => {
      const result = await send('py.add', [1, 2], { expires: new Date(Date.now() - 1000) });
      expect(await failureOf(result)).toMatchObject({
        type: 'TaskRevokedError',
        module: 'celery.exceptions',
        args: ['expired'],
      });
      expect(await result.state()).toBe('REVOKED');
      expect(await (await send('py.add', [1, 2], { expires: 60 })).get(WAIT)).toBe(3);
    });

    fact('retries', 'a task that Python retries ends with its value, or with its last error', async () => {
      const taskId = `retried-${version}`;
      const retried = client.wait(taskId, ({ status }) => status === 'RETRY', WAIT);
      const twice = await send('py.retry_twice', [0.3], { taskId });
      expect(await retried).toMatchObject({
        result: { exc_type: 'RuntimeError', exc_message: [expect.stringMatching(/^attempt \d$/)] },
      });
      expect(await twice.get(WAIT)).toBe(2);
      expect(await failureOf(await send('py.retry_out', [0.05]))).toMatchObject({
        type: 'ConnectionError',
        args: ['never up'],
      });
    });

    fact('routing', 'taskRoutes and queue decide where a task goes', async () => {
      await using routed = stage.client({ taskRoutes: { 'py.*': { queue: 'python', priority: 6 } } });
      expect(await (await routed.enqueue('py.context')).get(WAIT)).toMatchObject({
        delivery_info: { routing_key: 'python', priority: 6 },
      });
      const queue = stage.queue('aside');
      await routed.enqueue('py.add', { args: [1, 2], queue });
      // A queue named in the call wins; the route's priority stays, as in Celery.
      expect(await stage.waiting(queue)).toBe(1);
      expect(await stage.kept()).toMatch(/"priority": ?6\b/);
    });

    onRedis('priority', 'what was sent with priority 0 runs before 3, 6 and 9', async () => {
      const queue = stage.queue('python');
      const path = join(folder, 'order');
      const results: AsyncResult[] = [];
      for (const priority of [9, 6, 3, 0])
        results.push(await send('py.write', [path, `${priority}`], { queue, priority }));
      await stage.python.control('add_consumer', { queue }, { reply: true });
      await Promise.all(results.map((result) => result.get(WAIT)));
      expect(readFileSync(path, 'utf8')).toBe('0\n3\n6\n9\n');
    });

    fact('link', 'links of Node are called by Python with the result, errbacks with the failed id', async () => {
      const linked = client.result(`linked-${version}`);
      const other = client.result(`other-${version}`);
      await send('py.add', [2, 3], {
        link: [
          { task: 'py.mul', args: [10], options: { task_id: linked.id, queue: 'python' } },
          {
            task: 'py.echo',
            args: [{ é: new Decimal('1.5').text }],
            immutable: true,
            options: { task_id: other.id, queue: 'python' },
          },
        ],
      });
      expect(await linked.get(WAIT)).toBe(50);
      expect(await other.get(WAIT)).toEqual([[{ é: '1.5' }], {}]);
      const path = join(folder, 'errback');
      const failed = await send('py.fail', ['ValueError', 'no'], {
        linkError: { task: 'py.write_error', args: [path], options: { queue: 'python' } },
      });
      await failureOf(failed);
      // Celery stores the failure first.
      await until('the errback ran', () => lines(path) === 1);
      expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual([failed.id, 'ValueError', 'no']);
      const told = client.result(`told-${version}`);
      const again = await send('py.fail', ['ValueError', 'no'], {
        linkError: { task: 'nobody.takes_this', options: { queue: 'python', task_id: told.id } },
      });
      await failureOf(again);
      expect(await failureOf(told)).toMatchObject({ type: 'NotRegistered' });
    });
  });
});

/** `[[[…]]]`. */
function nested(depth: number): unknown {
  let value: unknown[] = [];
  for (let level = 1; level < depth; level++) value = [value];
  return value;
}

function lines(path: string): number {
  try {
    return readFileSync(path, 'utf8').split('\n').length - 1;
  } catch {
    return 0;
  }
}
