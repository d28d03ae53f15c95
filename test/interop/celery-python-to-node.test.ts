import { afterAll, afterEach, beforeAll, describe, expect } from 'vitest';
import type { CeleryJob } from '../../protocols/celery/message/message.ts';
import { DateTime, Decimal, float, PlainDate, PlainTime, Uuid } from '../../src/drivers/celery/index.ts';
import { Retry } from '../../src/signals.ts';
import { defineTask } from '../../src/task.ts';
import type { PythonOutcome, SendOptions } from '../support/python.ts';
import { py } from '../support/tagged.ts';
import { interopTasks, OutOfStock } from './apps/tasks.ts';
import { type NodeWorker, type NodeWorkerOptions, Stage, until } from './support/stage.ts';
import { compressionLacks, elsewhere, facts, type Lacks, SETTINGS } from './support/table.ts';

const NO_TYPED_JSON: Lacks = { '5.2': 'kombu before 5.3 writes dates, Decimals and UUIDs as text, and no bytes' };
const NO_STAMPS: Lacks = { '5.2': 'Celery before 5.3 has no stamped headers' };

/** Values of JSON, in Python's words. What Node gives back is the same value to Python. */
const JSON_VALUES: readonly string[] = [
  ...['None', 'True', 'False', '0', '-1', '2**53', '2**53 + 1', '-2**63', '2**64 - 1', '10**30'],
  ...['1.5', '-1e-07', '1e+300', '5e-324', '1.7976931348623157e+308', '0.1 + 0.2'],
  ...["float('nan')", "float('inf')", "-float('inf')"],
  ...[
    "''",
    "'plain'",
    `'"quoted" \\\\ / \\n\\r\\t\\x00\\x1f'`,
    "'zwölf Boxkämpfer'",
    "'日本語'",
    "'\\u2028\\u2029\\ufeff'",
  ],
  ...["'😀 𝔘'", "'\\ud83d'", "'a' * 100_000"],
  ...['[]', '{}', '[[]]', "{'': {}}", '[None, [True, [1, [1.5]]]]', "{'a': [{'b': {'c': None}}]}"],
  ...["{'__proto__': 1, 'constructor': 2, 'toString': 3}", "{'9': 'nine', '10': 'ten', 'a': 0}"],
  ...['list(range(1000))', `eval('[' * 100 + ']' * 100)`],
];

/** Typed values: Python's words, and what the Node handler is given. */
const TYPED_VALUES: readonly (readonly [source: string, seen: unknown])[] = [
  ['datetime.datetime(2026, 11, 21, 10, 20, 30, 123456)', new DateTime('2026-11-21T10:20:30.123456')],
  ['datetime.datetime(2026, 11, 21, tzinfo=datetime.timezone.utc)', new DateTime('2026-11-21T00:00:00+00:00')],
  [
    'datetime.datetime(2026, 11, 21, 1, 2, 3, tzinfo=datetime.timezone(datetime.timedelta(hours=-3, minutes=-30)))',
    new DateTime('2026-11-21T01:02:03-03:30'),
  ],
  ['datetime.date(2026, 11, 21)', new PlainDate('2026-11-21')],
  ['datetime.time(10, 20, 30, 1)', new PlainTime('10:20:30.000001')],
  ["decimal.Decimal('1.50')", new Decimal('1.50')],
  ["decimal.Decimal('-1E+40')", new Decimal('-1E+40')],
  ["uuid.UUID('7f3b1a52-0c1d-4e2f-8a9b-0123456789ab')", new Uuid('7f3b1a52-0c1d-4e2f-8a9b-0123456789ab')],
  ["b'text'", Buffer.from('text')],
  ["b'\\x00\\xff\\xfe'", Buffer.from([0, 255, 254])],
  ["b''", Buffer.alloc(0)],
];

describe.each(SETTINGS)('Celery $version sends over $broker, Node runs, Celery reads', ({ version, broker }) => {
  const fact = facts('celery-python-to-node', { version, broker }, 'Python → Node');
  const onRedis = broker === 'redis' ? fact : elsewhere;
  let stage: Stage;

  beforeAll(async () => {
    stage = await Stage.start(version, {}, { broker });
  });
  afterEach(() => stage.nothingHeld());
  afterAll(() => stage[Symbol.asyncDispose]());

  /** Send to a worker's queue and wait: what AsyncResult.get() came to. */
  async function ask(
    { queue }: NodeWorker,
    task: string,
    args: readonly unknown[] = [],
    kwargs: object = {},
    options: SendOptions = {},
  ): Promise<PythonOutcome & { readonly id: string }> {
    const id = await stage.python.send(task, args, kwargs, { queue, ...options });
    return { id, ...(await stage.python.get(id)) };
  }

  /** Send what these words of Python make, and get it back: `repr` of what was sent and of what came. */
  async function there(node: NodeWorker, source: string, options: SendOptions = {}): Promise<unknown> {
    return stage.run(
      `
import datetime, decimal, uuid
value = eval(source)
sent = app.send_task('node.echo', args=[value], kwargs={'key': value}, queue=queue, **options)
[arg], kwargs = sent.get(timeout=30)
result = [repr(value), repr(arg), repr(kwargs['key'])]
`,
      { source, queue: node.queue, options },
    );
  }

  /** A worker with one more task, `node.custom`. */
  function custom(
    handler: (
      job: CeleryJob,
      context: Parameters<Parameters<ReturnType<typeof interopTasks>['handle']>[1]>[1],
    ) => unknown,
    options: NodeWorkerOptions = {},
    taskOptions: Parameters<ReturnType<typeof interopTasks>['handle']>[2] = {},
  ): Promise<NodeWorker> {
    const tasks = interopTasks().handle(
      defineTask('node.custom'),
      (job, context) => handler(job as unknown as CeleryJob, context),
      taskOptions,
    );
    return stage.node({ tasks, ...options });
  }

  describe('values', () => {
    let node: NodeWorker;
    let seen: readonly unknown[];
    beforeAll(async () => {
      const tasks = interopTasks().handle(defineTask('node.see'), ({ args }) => {
        seen = args;
        return args;
      });
      node = await stage.node({ tasks, acceptContent: ['json', 'yaml', 'msgpack'] });
    });
    afterAll(() => node[Symbol.asyncDispose]());

    for (const source of JSON_VALUES) {
      fact('args and kwargs of every JSON type', `${source} comes back as it was sent`, async () => {
        const [sent, arg, kwarg] = (await there(node, source)) as [string, string, string];
        expect([arg, kwarg]).toEqual([sent, sent]);
      });
    }

    fact('args and kwargs of every JSON type', 'a dict of number-like keys is equal when it comes back', async () => {
      const got = await stage.run(
        `
value = {'10': 'ten', '9': 'nine', 'a': 0}
[arg], _ = app.send_task('node.echo', args=[value], queue=queue).get(timeout=30)
result = [arg == value, list(arg)]
`,
        { queue: node.queue },
      );
      // An object of JavaScript has such keys first, and in their order.
      expect(got).toEqual([true, ['9', '10', 'a']]);
    });

    fact('whole floats', '1.0 arrives as the number 1, which goes back as 1; float(1) goes back as 1.0', async () => {
      await using other = await custom(({ args: [value] }) => [value, value === 1, float(value as number)]);
      const got = await stage.run(
        `result = repr(app.send_task('node.custom', args=[1.0], queue=queue).get(timeout=30))`,
        {
          queue: other.queue,
        },
      );
      expect(got).toBe('[1, True, 1.0]');
    });

    for (const [source, value] of TYPED_VALUES) {
      fact(
        'typed values (datetime, date, time, Decimal, UUID, bytes)',
        `${source} is a ${value?.constructor.name} to Node and comes back as it was sent`,
        async () => {
          const got = await stage.run(
            `
import datetime, decimal, uuid
value = eval(source)
result = [repr(value), repr(app.send_task('node.see', args=[value], queue=queue).get(timeout=30)[0])]
`,
            { source, queue: node.queue },
          );
          expect(seen).toEqual([value]);
          const [sent, back] = got as [string, string];
          expect(back).toBe(sent);
        },
        NO_TYPED_JSON,
      );
    }

    if (version === '5.2') {
      fact(
        'dates as text for kombu 5.2',
        'a date, a datetime and a Decimal arrive as the text kombu 5.2 makes of them',
        async () => {
          const got = await stage.run(
            `
import datetime, decimal, uuid
values = [datetime.datetime(2026, 11, 21, 10, 20, 30, tzinfo=datetime.timezone.utc), datetime.date(2026, 11, 21), decimal.Decimal('1.50')]
result = app.send_task('node.see', args=values, queue=queue).get(timeout=30)
`,
            { queue: node.queue },
          );
          expect(seen).toEqual(['2026-11-21T10:20:30Z', '2026-11-21T00:00:00', '1.50']);
          expect(got).toEqual(seen);
        },
      );

      fact(
        'dates as text for kombu 5.2',
        'with typedJson: false, Node answers with text that Celery 5.2 reads',
        async () => {
          await using plain = await custom(() => [new PlainDate('2026-11-21'), new Decimal('1.50'), new Date(0)], {
            typedJson: false,
          });
          expect(await ask(plain, 'node.custom')).toMatchObject({
            ok: true,
            value: ['2026-11-21T00:00:00', '1.50', '1970-01-01T00:00:00Z'],
          });
        },
      );
    }

    for (const serializer of ['msgpack', 'yaml']) {
      fact(serializer, `a task as ${serializer} is run`, async () => {
        // bytes are a type of msgpack's own.
        const bytes = serializer === 'msgpack' ? ", b'\\xff'" : '';
        await stage.run(
          `app.send_task('node.see', args=eval(source), queue=queue, serializer=serializer).get(timeout=30)`,
          { source: `[1, 'é', None, {'a': [True, 2**53 + 1, 1.5]}${bytes}]`, queue: node.queue, serializer },
        );
        const plain = [1, 'é', null, { a: [true, 2n ** 53n + 1n, 1.5] }];
        expect(seen).toEqual(serializer === 'msgpack' ? [...plain, Buffer.from([255])] : plain);
      });

      fact(serializer, `a result as ${serializer} is read`, async () => {
        await using other = await stage.node({ resultSerializer: serializer, acceptContent: ['json', serializer] });
        const got = await stage.run(
          `
other_app = other(result_serializer=serializer, task_serializer=serializer)
sent = other_app.send_task('node.echo', args=[1, 'é', None, [1.5, 2**60]], queue=queue)
failed = other_app.send_task('node.fail', args=['ValueError', 'as ' + serializer], queue=queue)
result = [repr(sent.get(timeout=30)), repr(failed.get(timeout=30, propagate=False))]
`,
          { queue: other.queue, serializer },
        );
        expect(got).toEqual(["[[1, 'é', None, [1.5, 1152921504606846976]], {}]", `ValueError('as ${serializer}')`]);
      });
    }

    for (const compression of ['gzip', 'zlib', 'brotli', 'zstd']) {
      fact(
        `compressed (${compression})`,
        `a body compressed with ${compression} is read`,
        async () => {
          const [sent, arg, kwarg] = (await there(node, "'a' * 100_000 + 'é'", { compression })) as string[];
          expect([arg, kwarg]).toEqual([sent, sent]);
        },
        compressionLacks(compression),
      );
    }

    fact(
      'messages of other producers',
      'protocol 1 (task_protocol=1) is run, with its countdown, retries and limits',
      async () => {
        const got = await stage.run(
          `
old = other(task_protocol=1)
sent = old.send_task('node.echo', args=[1, [2]], kwargs={'a': 'é'}, queue=queue, countdown=0.1)
retried = old.send_task('node.retry_twice', args=[0.05], queue=queue)
failed = old.send_task('node.fail', args=['ValueError', 'old'], queue=queue)
result = [sent.get(timeout=30), retried.get(timeout=30), repr(failed.get(timeout=30, propagate=False))]
`,
          { queue: node.queue },
        );
        expect(got).toEqual([[[1, [2]], { a: 'é' }], 2, "ValueError('old')"]);
      },
    );

    fact('messages of other producers', 'protocol 1 with a link and an errback: Node calls them', async () => {
      const got = await stage.run(
        `
old = other(task_protocol=1)
options = {'queue': queue}
link = old.signature('node.mul', args=[10], options={**options, 'task_id': 'link-' + queue})
errback = old.signature('node.echo', options={**options, 'task_id': 'errback-' + queue})
old.send_task('node.add', args=[1, 2], link=[link], **options)
failed = old.send_task('node.fail', args=['ValueError', 'old'], link_error=[errback], **options)
result = [app.AsyncResult('link-' + queue).get(timeout=30), app.AsyncResult('errback-' + queue).get(timeout=30) == [[failed.id], {}]]
`,
        { queue: node.queue },
      );
      expect(got).toEqual([30, true]);
    });

    for (const [what, options] of [
      ['pickled', { serializer: 'pickle' }],
      ['compressed with bzip2', { compression: 'bzip2' }],
      ['compressed with lzma', { compression: 'lzma' }],
    ] as const) {
      fact(
        'messages that cannot be read',
        `a task ${what} is set aside with its bytes, and told of; others run`,
        async () => {
          const poison = node.worker.once('job:poison');
          const id = await stage.python.send('node.add', [1, 2], {}, { queue: node.queue, ...options });
          const told = await poison;
          expect(told).toMatchObject({
            system: 'celery',
            queue: node.queue,
            id,
            reason: expect.stringContaining('node.add'),
          });
          expect(told.kept).not.toBe('');
          expect(await stage.python.state(id)).toBe('PENDING');
          expect(await stage.kept()).toContain(id);
          expect(await ask(node, 'node.add', [1, 2])).toMatchObject({ value: 3 });
        },
      );
    }
  });

  describe('failures', () => {
    for (const [name, type, module, args] of [
      ['Error', 'Exception', 'builtins', ['no']],
      ['TypeError', 'TypeError', 'builtins', ['no']],
      ['RangeError', 'ValueError', 'builtins', ['no']],
      ['ValueError', 'ValueError', 'builtins', ['no']],
      ['KeyError', 'KeyError', 'builtins', ['no']],
      ['FileNotFoundError', 'FileNotFoundError', 'builtins', ['no']],
      ['SomethingOfOurs', 'SomethingOfOurs', 'celery.exceptions', ['no']],
      ['weird name!', 'weird_name_', 'celery.backends.base', ['no']],
    ] as const) {
      fact('failures seen by get()', `an error named ${name} is raised as ${module}.${type}`, async () => {
        await using node = await stage.node();
        const got = await ask(node, 'node.fail', [name, 'no']);
        expect(got).toMatchObject({ ok: false, state: 'FAILURE', type, module, args });
      });
    }

    fact(
      'failures seen by get()',
      'a declared error is raised as the class of the application, with its traceback',
      async () => {
        await using node = await stage.node({
          exceptions: { OutOfStock: 'app.OutOfStock', Timeout: 'TimeoutError', Missing: 'KeyError' },
        });
        const got = (await ask(node, 'node.fail', ['OutOfStock', 'no tea'])) as Extract<PythonOutcome, { ok: false }>;
        expect(got).toMatchObject({ type: 'OutOfStock', module: 'app', args: ['no tea'] });
        expect(got.traceback).toMatch(
          /^Traceback \(most recent call last\):\n {2}File "[^]*\n {2}File ".*tasks\.ts", line \d+, in failure\n/,
        );
        expect(got.traceback).toMatch(/app\.OutOfStock: no tea\n$/);
        expect(await ask(node, 'node.fail', ['Timeout', 'late'])).toMatchObject({
          type: 'TimeoutError',
          module: 'builtins',
        });
        expect(await ask(node, 'node.fail', ['Missing', 'k'])).toMatchObject({
          type: 'KeyError',
          bases: expect.arrayContaining(['LookupError']),
        });
      },
    );

    fact('failures seen by get()', 'except clauses of Python catch it', async () => {
      await using node = await stage.node({ exceptions: { OutOfStock: 'app.OutOfStock' } });
      const got = await stage.run(
        `
import app as module
caught = []
for name in 'ValueError', 'KeyError', 'OutOfStock':
    try:
        app.send_task('node.fail', args=[name, 'no'], queue=queue).get(timeout=30)
    except (ValueError, KeyError, module.OutOfStock) as error:
        caught.append(repr(error))
result = caught
`,
        { queue: node.queue },
      );
      expect(got).toEqual(["ValueError('no')", "KeyError('no')", "OutOfStock('no')"]);
    });

    fact('failures seen by get()', 'a value that JSON cannot hold fails the task with EncodeError', async () => {
      await using node = await custom(() => ({ when: Symbol('no') }));
      expect(await ask(node, 'node.custom')).toMatchObject({ ok: false, state: 'FAILURE', type: 'EncodeError' });
    });

    fact('failures seen by get()', 'an unknown task, rejected, is NotRegistered', async () => {
      await using node = await stage.node({ unknownTask: 'reject' });
      expect(await ask(node, 'nobody.has_this')).toMatchObject({
        ok: false,
        type: 'NotRegistered',
        module: 'celery.exceptions',
        args: ['nobody.has_this'],
      });
    });
  });

  describe('results', () => {
    fact(
      'result fields',
      'status, result, traceback, children, date_done and task_id are as Celery stores them',
      async () => {
        await using node = await stage.node();
        const { id } = await ask(node, 'node.add', [2, 3]);
        const meta = await stage.python.meta(id);
        expect(meta).toMatchObject({ status: 'SUCCESS', result: 5, traceback: null, children: [], task_id: id });
        const done = await stage.run(
          `
import datetime
done = app.AsyncResult(id).date_done
now = datetime.datetime.now(datetime.timezone.utc)
done = done if done.tzinfo else done.replace(tzinfo=datetime.timezone.utc)
result = (now - done).total_seconds()
`,
          { id },
        );
        expect(done).toBeLessThan(60);
        expect(done).toBeGreaterThan(-1);
      },
    );

    fact('result fields', 'parent_id and group_id are those of the message', async () => {
      await using node = await stage.node();
      const { id } = await ask(node, 'node.add', [1, 1], {}, { parent_id: 'the-parent', group_id: 'the-group' });
      expect(await stage.python.meta(id)).toMatchObject({ parent_id: 'the-parent', group_id: 'the-group' });
    });

    fact('result_extended', 'name, args, kwargs, worker, retries and queue are readable', async () => {
      await using node = await stage.node({ resultExtended: true, nodename: 'n@host' });
      const { id } = await ask(node, 'node.echo', [1, 'é'], { a: [2] });
      const got = await stage.run(
        `
r = app.AsyncResult(id)
result = [r.name, r.args, r.kwargs, r.worker, r.retries, r.queue]
`,
        { id },
      );
      expect(got).toEqual(['node.echo', [1, 'é'], { a: [2] }, 'n@host', 0, node.queue]);
    });

    fact('track_started', 'STARTED is seen while a task runs, with pid and hostname', async () => {
      let proceed: () => void = () => {};
      const waiting = new Promise<string>((resolve) => (proceed = () => resolve('done')));
      await using node = await custom(() => waiting, { trackStarted: true, nodename: 'n@host' });
      const id = await stage.python.send('node.custom', [], {}, { queue: node.queue });
      await until('STARTED', async () => (await stage.python.state(id)) === 'STARTED');
      expect(await stage.python.info(id)).toEqual({ pid: process.pid, hostname: 'n@host' });
      proceed();
      expect(await stage.python.value(id)).toBe('done');
    });

    fact('custom states', 'PROGRESS and its meta are seen while a task runs', async () => {
      let proceed: () => void = () => {};
      const waiting = new Promise<void>((resolve) => (proceed = resolve));
      await using node = await custom(async (_, context) => {
        await context.update('PROGRESS', { step: 1, of: 2, note: 'é' });
        await waiting;
        return 'done';
      });
      const id = await stage.python.send('node.custom', [], {}, { queue: node.queue });
      await until('PROGRESS', async () => (await stage.python.state(id)) === 'PROGRESS');
      expect(await stage.python.info(id)).toEqual({ step: 1, of: 2, note: 'é' });
      proceed();
      expect(await stage.python.value(id)).toBe('done');
    });

    fact('ignore_result', 'ignore_result=True stores nothing, not even a failure', async () => {
      await using node = await stage.node();
      for (const task of ['node.add', 'node.fail']) {
        const settled = node.settled(task);
        const args = task === 'node.add' ? [1, 2] : ['ValueError', 'x'];
        const id = await stage.python.send(task, args, {}, { queue: node.queue, ignore_result: true });
        await settled;
        expect(await stage.stored(id)).toBeNull();
      }
    });

    fact('ignore_result', "ignore_result=False wins over the worker's ignoreResult", async () => {
      await using node = await stage.node({ ignoreResult: true });
      expect(await ask(node, 'node.add', [1, 2], {}, { ignore_result: false })).toMatchObject({ ok: true, value: 3 });
    });

    fact('forget()', 'AsyncResult.forget removes what Node stored', async () => {
      await using node = await stage.node();
      const { id } = await ask(node, 'node.add', [1, 2]);
      expect(await stage.stored(id)).not.toBeNull();
      await stage.python.forget(id);
      expect(await stage.stored(id)).toBeNull();
      expect(await stage.python.state(id)).toBe('PENDING');
    });

    fact('result fields', 'a get() that waits is woken by what Node publishes', async () => {
      await using node = await stage.node();
      // It does not look again by itself: without the message it would wait in vain.
      const got = await stage.run(`result = app.send_task('node.slow', args=[0.2], queue=queue).get(timeout=30)`, {
        queue: node.queue,
      });
      expect(got).toBe('slept');
    });

    fact('result fields', 'a task that ends in Discard stores nothing', async () => {
      await using node = await stage.node();
      const settled = node.settled('node.ignore');
      const id = await stage.python.send('node.ignore', [], {}, { queue: node.queue });
      await settled;
      expect(await stage.python.state(id)).toBe('PENDING');
    });
  });

  describe('time', () => {
    fact('countdown and eta', 'a task with a countdown runs when it is due, and others run before it', async () => {
      await using node = await stage.node({ concurrency: 1 });
      const late = node.settled('node.add');
      const before = Date.now();
      const id = await stage.python.send('node.add', [1, 2], {}, { queue: node.queue, countdown: 4 });
      expect(await ask(node, 'node.echo', ['meanwhile'])).toMatchObject({ ok: true });
      expect(await stage.python.state(id)).toBe('PENDING');
      expect(await stage.unacked()).toBe(1);
      await late;
      expect(Date.now() - before).toBeGreaterThanOrEqual(3_990);
      expect(await stage.python.value(id)).toBe(3);
    });

    fact('countdown and eta', 'an eta in a time zone of its own is the same instant', async () => {
      await using node = await stage.node();
      const got = await stage.run(
        `
import datetime, time
zone = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
eta = datetime.datetime.now(zone) + datetime.timedelta(seconds=0.5)
start = time.time()
app.send_task('node.add', args=[1, 2], queue=queue, eta=eta).get(timeout=30)
result = time.time() - start
`,
        { queue: node.queue },
      );
      expect(got).toBeGreaterThan(0.48);
      expect(got).toBeLessThan(30);
    });

    onRedis('expires', 'an expired task is not run: REVOKED, TaskRevokedError', async () => {
      const queue = stage.queue('node');
      const id = await stage.python.send('node.add', [1, 2], {}, { queue, expires: 0.05 });
      await until('it has expired', () => new Promise((resolve) => setTimeout(() => resolve(true), 80)));
      await using node = await stage.node({ queues: [queue] });
      expect(await stage.python.get(id)).toMatchObject({
        ok: false,
        state: 'REVOKED',
        type: 'TaskRevokedError',
        module: 'celery.exceptions',
        args: ['expired'],
      });
      expect(await ask(node, 'node.add', [1, 2], {}, { expires: 60 })).toMatchObject({ ok: true, value: 3 });
    });

    fact('expires', 'a task that expires while it waits for its eta is not run', async () => {
      await using node = await stage.node();
      expect(await ask(node, 'node.add', [1, 2], {}, { countdown: 0.5, expires: 0.2 })).toMatchObject({
        state: 'REVOKED',
      });
    });

    fact(
      'time limits',
      'soft_time_limit: a handler that lets it through fails with SoftTimeLimitExceeded',
      async () => {
        await using node = await stage.node();
        expect(await ask(node, 'node.slow', [5], {}, { soft_time_limit: 0.2 })).toMatchObject({
          ok: false,
          state: 'FAILURE',
          type: 'SoftTimeLimitExceeded',
          module: 'billiard.exceptions',
        });
        expect(await ask(node, 'node.slow_soft', [5], {}, { soft_time_limit: 0.2 })).toMatchObject({
          ok: true,
          value: 'soft',
        });
      },
    );

    fact('time limits', 'time_limit: TimeLimitExceeded, whatever the handler does', async () => {
      await using node = await custom(() => new Promise(() => {}));
      expect(await ask(node, 'node.custom', [], {}, { time_limit: 0.3 })).toMatchObject({
        ok: false,
        state: 'FAILURE',
        type: 'TimeLimitExceeded',
        module: 'billiard.exceptions',
        args: [0.3],
      });
    });

    fact('time limits', 'both limits reach the handler, in milliseconds', async () => {
      await using node = await stage.node();
      const got = await ask(node, 'node.context', [], {}, { time_limit: 20, soft_time_limit: 10.5 });
      expect(got).toMatchObject({ value: { timeoutMs: 20_000, softTimeoutMs: 10_500 } });
    });
  });

  describe('retries', () => {
    fact('retries', 'a task that asks to be run again keeps its id; Python sees RETRY, then the value', async () => {
      let proceed: () => void = () => {};
      const waiting = new Promise<number>((resolve) => (proceed = () => resolve(2)));
      await using node = await custom(({ attempt }) => {
        if (attempt === 1) throw new Retry({ delayMs: 400, cause: new Error('attempt 1') });
        return waiting;
      });
      const id = await stage.python.send('node.custom', [], {}, { queue: node.queue });
      await until('RETRY', async () => (await stage.python.state(id)) === 'RETRY');
      const meta = await stage.python.meta(id);
      expect(meta['result']).toEqual(py('exception', ['Exception', 'builtins', ['attempt 1']]));
      expect(meta['traceback']).toMatch(/Retry in 0\.4s: Exception\('attempt 1'\)\n$/);
      expect(meta['children']).toEqual([[[id, null], null]]);
      proceed();
      expect(await stage.python.value(id)).toBe(2);
    });

    fact('retries', 'out of retries, the last error is the failure', async () => {
      await using node = await stage.node();
      expect(await ask(node, 'node.retry_out', [0.05])).toMatchObject({
        ok: false,
        state: 'FAILURE',
        type: 'Exception',
        args: ['never up'],
      });
    });

    fact('retries', 'out of retries without an error, it is MaxRetriesExceededError', async () => {
      await using node = await custom(
        () => {
          throw new Retry({ delayMs: 10 });
        },
        {},
        { retry: { max: 1 } },
      );
      const got = await ask(node, 'node.custom', [1], { a: 2 });
      expect(got).toMatchObject({
        ok: false,
        type: 'MaxRetriesExceededError',
        module: 'celery.exceptions',
        message: `Can't retry node.custom[${got.id}] args:(1,) kwargs:{'a': 2}`,
      });
    });

    fact('retries', 'errors are retried by a policy with a limit and a back-off', async () => {
      const attempts: number[] = [];
      await using node = await custom(
        ({ attempt }) => {
          attempts.push(attempt);
          throw new OutOfStock('none');
        },
        { exceptions: { OutOfStock: 'app.OutOfStock' } },
        { retry: { max: 2, backoff: { factorMs: 20, jitter: false } } },
      );
      expect(await ask(node, 'node.custom')).toMatchObject({ ok: false, type: 'OutOfStock', module: 'app' });
      expect(attempts).toEqual([1, 2, 3]);
    });

    fact('headers', 'custom headers reach the handler, and stay over a retry', async () => {
      const seen: unknown[] = [];
      await using node = await custom(({ attempt, request }) => {
        seen.push(request.wire.headers['x_tenant']);
        if (attempt === 1) throw new Retry({ delayMs: 10 });
        return 'done';
      });
      await ask(node, 'node.custom', [], {}, { headers: { x_tenant: { name: 'é', n: [1] } } });
      expect(seen).toEqual([
        { name: 'é', n: [1] },
        { name: 'é', n: [1] },
      ]);
    });

    fact(
      'stamped headers',
      'stamps reach the handler, stay over a retry, and are in extended results',
      async () => {
        const seen: unknown[] = [];
        await using node = await custom(
          ({ attempt, request }) => {
            seen.push([request.stampedHeaders, request.stamps]);
            if (attempt === 1) throw new Retry({ delayMs: 10 });
            return 'done';
          },
          { resultExtended: true },
        );
        const id = (await stage.run(
          `
signature = app.signature('node.custom', options={'queue': queue})
signature.stamp(tenant='acme')
result = signature.apply_async().id
`,
          { queue: node.queue },
        )) as string;
        expect(await stage.python.value(id)).toBe('done');
        expect(seen).toHaveLength(2);
        expect(seen[1]).toEqual(seen[0]);
        expect(seen[0]).toEqual([['tenant'], { tenant: expect.anything() }]);
        expect(JSON.parse((await stage.stored(id)) ?? '')).toMatchObject({ stamped_headers: ['tenant'] });
      },
      NO_STAMPS,
    );
  });

  describe('queues', () => {
    onRedis('priority', 'what was sent with priority 0 runs before 3, 6 and 9', async () => {
      const queue = stage.queue('node');
      for (const priority of [9, 6, 3, 0]) {
        for (const n of [1, 2]) await stage.python.send('node.custom', [priority, n], {}, { queue, priority });
      }
      const ran: unknown[] = [];
      let all: () => void = () => {};
      const done = new Promise<void>((resolve) => (all = resolve));
      await using _ = await custom(
        ({ args }) => {
          if (ran.push(args) === 8) all();
        },
        { queues: [queue], concurrency: 1, prefetchMultiplier: 1 },
      );
      await done;
      expect(ran).toEqual([
        [0, 1],
        [0, 2],
        [3, 1],
        [3, 2],
        [6, 1],
        [6, 2],
        [9, 1],
        [9, 2],
      ]);
    });

    fact('routing', 'task_routes of Python decide the queue; a worker consumes several', async () => {
      const [one, two] = [stage.queue('node'), stage.queue('node')];
      await using _ = await stage.node({ queues: [one, two] });
      const got = await stage.run(
        `
routed = other(task_default_queue=one, task_routes={'both.*': {'queue': two, 'priority': 3}})
result = [routed.send_task(name).get(timeout=30)['queue'] for name in ('node.context', 'both.context')]
`,
        { one, two },
      );
      expect(got).toEqual([one, two]);
    });

    fact(
      'routing',
      'a direct exchange and a routing key of Python bring a task to the queue bound to them',
      async () => {
        const queue = stage.queue('node');
        await using _ = await stage.node({ queues: [{ name: queue, exchange: `x-${queue}`, routingKey: 'bill' }] });
        const got = await stage.run(
          `
exchange = kombu.Exchange('x-' + queue, 'direct')
with app.connection_for_write() as connection:
    sent = app.send_task('node.add', args=[1, 2], exchange=exchange, routing_key='bill', connection=connection)
result = sent.get(timeout=30)
`,
          { queue },
        );
        expect(got).toBe(3);
      },
    );

    fact(
      'acknowledgement',
      'acknowledged early, a message is gone while its task runs; late, it is held until the end',
      async () => {
        for (const acksLate of [false, true]) {
          let end: () => void = () => {};
          const ended = new Promise<void>((resolve) => (end = resolve));
          let begin: () => void = () => {};
          const begun = new Promise<void>((resolve) => (begin = resolve));
          await using node = await custom(
            async () => {
              begin();
              await ended;
            },
            { acksLate },
          );
          const id = await stage.python.send('node.custom', [], {}, { queue: node.queue });
          await begun;
          const held = acksLate ? 1 : 0;
          await until(`${held} is held`, async () => (await stage.unacked()) === held);
          end();
          await stage.python.value(id);
          await stage.nothingHeld();
        }
      },
    );
  });

  describe('built-in tasks', () => {
    fact('map, starmap, chunks', 'a map, a starmap and chunks of a Node task are run by Node', async () => {
      await using node = await stage.node();
      const got = await stage.run(
        `
add = app.signature('node.add')
tsum = app.signature('node.tsum')
from celery.canvas import xmap, xstarmap, chunks
options = {'queue': queue}
mapped = xmap(tsum, [[1, 2], [3, 4]], app=app).apply_async(**options)
starred = xstarmap(add, [(1, 2), (3, 4)], app=app).apply_async(**options)
parts = chunks(add, [(n, n) for n in range(5)], 2, app=app).group()
parted = parts.apply_async(**options)
result = [mapped.get(timeout=30), starred.get(timeout=30), parted.get(timeout=30)]
`,
        { queue: node.queue },
      );
      expect(got).toEqual([
        [3, 7],
        [3, 7],
        [[0, 2], [4, 6], [8]],
      ]);
    });

    fact('map, starmap, chunks', 'celery.chunks, sent as a task, publishes its parts, which Node runs', async () => {
      await using node = await stage.node({ taskDefaultQueue: 'celery', queues: ['celery'] });
      const got = await stage.run(
        `
sent = app.send_task('celery.chunks', args=[dict(app.signature('node.add')), [(n, n) for n in range(5)], 2], queue='celery')
[[group, _], members] = sent.get(timeout=30)
# Celery tells one AsyncResult of an id: those it made as it read the children.
[parts] = sent.children
same = [group, [id for [[id, _], _] in members]] == [parts.id, [part.id for part in parts]]
result = [same, parts.get(timeout=30)]
`,
        {},
      );
      expect(got).toEqual([true, [[0, 2], [4, 6], [8]]]);
      expect(node.worker.running).toEqual([]);
    });

    fact(
      'celery.chord_unlock',
      'waits until the members are ready, then publishes the body with their results',
      async () => {
        await using node = await stage.node();
        const got = await stage.run(
          `
members = [app.send_task('node.slow', args=[0.2 * n, n], queue=queue) for n in (1, 2)]
body = app.signature('node.tsum', options={'queue': queue, 'task_id': 'body-' + queue})
app.send_task(
    'celery.chord_unlock', args=['group-' + queue, dict(body)],
    kwargs={'interval': 0.1, 'result': [member.as_tuple() for member in members]}, queue=queue)
result = app.AsyncResult('body-' + queue).get(timeout=30)
`,
          { queue: node.queue },
        );
        expect(got).toBe(3);
      },
    );

    fact('celery.chord_unlock', 'fails the body with ChordError when a member fails', async () => {
      await using node = await stage.node();
      const got = await stage.run(
        `
member = app.send_task('node.fail', args=['ValueError', 'no'], queue=queue)
body = app.signature('node.tsum', options={'queue': queue, 'task_id': 'body-' + queue})
app.send_task(
    'celery.chord_unlock', args=['group-' + queue, dict(body)],
    kwargs={'interval': 0.1, 'result': [member.as_tuple()]}, queue=queue)
result = [member.id, repr(app.AsyncResult('body-' + queue).get(timeout=30, propagate=False))]
`,
        { queue: node.queue },
      );
      const [member, raised] = got as [string, string];
      expect(raised).toBe(`ChordError("Dependency ${member} raised ValueError('no')")`);
    });
  });
});
