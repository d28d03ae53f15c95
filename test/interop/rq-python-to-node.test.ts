import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import {
  ByteArray,
  DateTime,
  Decimal,
  FrozenSet,
  PlainDate,
  PlainTime,
  TimeDelta,
  Tuple,
  Uuid,
} from '../../src/drivers/rq/index.ts';
import { defineTask } from '../../src/task.ts';
import { temporaryFolder } from '../support/folder.ts';
import { tally } from '../support/tally.ts';
import { rqTasks } from './apps/rq-tasks.ts';
import { type NodeRqWorker, RqStage, until } from './support/rq-stage.ts';

/**
 * What Python enqueues, Node runs, and Python reads. Values in Python's words; every one of them comes back equal. Not among them is 1.0,
 * which is 1 to a handler, and to whoever reads what it returns.
 */
const VALUES: readonly string[] = [
  ...['None', 'True', 'False', '0', '-1', '255', '65536', '2**31', '2**53 + 1', '-2**63', '10**30', '-5000000000'],
  ...['1.5', '-0.0', '0.1', '1e22', '5e-324', "float('inf')", "float('nan')"],
  ...["''", "'plain'", "'zwölf Boxkämpfer'", "'日本語'", "'😀 𝔘'", "'\\ud83d'", "'\\x00'", "'a' * 100_000"],
  ...["b''", "b'abc'", 'bytes(range(256))', "bytearray(b'abc')"],
  ...['[]', '()', '(1,)', '(1, 2, 3, 4)', '[[1, [2]], [[]]]', '[(1, 2), [3]]', 'list(range(2000))'],
  ...['{}', "{'a': 1}", "{1: 'a', None: 'b', (1, 2): 'c', True: 'd'}", "{'__proto__': 1, 'constructor': 2}"],
  ...["{'9': 'nine', '10': 'ten', 'a': 0}", 'set()', '{1}', 'frozenset([1])'],
  ...['datetime.datetime(2026, 11, 21, 10, 20, 30, 123456)', 'datetime.date(2026, 11, 21)', 'datetime.time(10, 20)'],
  'datetime.datetime(2026, 11, 21, tzinfo=datetime.timezone.utc)',
  'datetime.datetime(2026, 11, 21, 1, 2, 3, tzinfo=datetime.timezone(datetime.timedelta(hours=-3, minutes=-30)))',
  "datetime.datetime(2026, 7, 1, 12, tzinfo=__import__('zoneinfo').ZoneInfo('Europe/Berlin'))",
  ...['datetime.timedelta(1, 2, 3)', "decimal.Decimal('1.50')", "uuid.UUID('7f3b1a52-0c1d-4e2f-8a9b-0123456789ab')"],
  ...["__import__('collections').OrderedDict(a=1, b=2)", "__import__('collections').deque([1, 2], 5)", '1+2j'],
  ...[
    "__import__('fractions').Fraction(1, 3)",
    'range(0, 10, 2)',
    "ValueError('no', 1)",
    "__import__('rq_py').Account(7)",
  ],
  ...["__import__('http').HTTPStatus.NOT_FOUND", "__import__('pathlib').PurePosixPath('/a/b')", 'len', 'dict', '...'],
];

/** What JSON holds of them. */
const JSON_VALUES: readonly string[] = [
  ...['None', 'True', '0', '2**53 + 1', '10**30', '1.5', '1e22', "float('inf')", "'zwölf'", "'\\ud83d'", '[1, [2]]'],
  ...["{'a': {'b': None}}", "{'__proto__': 1}"],
];

const SEEN: readonly (readonly [source: string, seen: unknown])[] = [
  ['(1, [2])', Tuple.of<unknown>(1, [2])],
  ["{'a': 1}", { a: 1 }],
  ["{1: 'a'}", new Map([[1, 'a']])],
  ['2**53 + 1', 2n ** 53n + 1n],
  ["b'abc'", Buffer.from('abc')],
  ["bytearray(b'abc')", ByteArray.from(Buffer.from('abc'))],
  ['{1}', new Set([1])],
  ['frozenset([1])', new FrozenSet([1])],
  ['datetime.datetime(2026, 11, 21, 10, 20, 30, 123456)', new DateTime('2026-11-21T10:20:30.123456')],
  ['datetime.date(2026, 11, 21)', new PlainDate('2026-11-21')],
  ['datetime.time(10, 20)', new PlainTime('10:20:00')],
  ['datetime.timedelta(1, 2, 3)', new TimeDelta(1, 2, 3)],
  ["decimal.Decimal('1.50')", new Decimal('1.50')],
  ["uuid.UUID('7f3b1a52-0c1d-4e2f-8a9b-0123456789ab')", new Uuid('7f3b1a52-0c1d-4e2f-8a9b-0123456789ab')],
];

describe.each(['1.16', '2.0', '2.10', '2.12'] as const)('RQ %s enqueues, Node runs, RQ reads', (version) => {
  let stage: RqStage;
  let node: NodeRqWorker;
  let folder: string;
  let seen: unknown;

  beforeAll(async () => {
    stage = await RqStage.start(version);
    folder = temporaryFolder('jobglot-rq-');
    const tasks = rqTasks(stage.store).handle(defineTask('node.see'), ({ args }) => {
      seen = args[0];
      return null;
    });
    node = await stage.node({ queues: ['default'], tasks });
  });
  afterEach(() => stage.nothingRuns('default'));
  afterAll(async () => {
    await node[Symbol.asyncDispose]();
    await stage[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  /** `repr` of what was sent and of what came back. */
  async function there(source: string, queue = "Queue('default', connection=connection)"): Promise<unknown> {
    return stage.python.run(
      `
value = eval(source, {'datetime': datetime, 'decimal': decimal, 'uuid': uuid})
job = ${queue}.enqueue('node.echo', value, key=value)
while job.get_status() not in ('finished', 'failed'): time.sleep(0.01)
[arg], kwargs = job.return_value() or ([job.latest_result().exc_string], {})
result = [repr(value), repr(arg), repr(kwargs.get('key'))]
`,
      { source },
    );
  }

  describe('values', () => {
    test.each(VALUES)('%s comes back as it was sent', async (source) => {
      const [sent, arg, kwarg] = (await there(source)) as readonly string[];
      // An object of a class without a repr is told by its address.
      const told = (text: string | undefined): string => String(text).replace(/ at 0x[0-9a-f]+/, '');
      expect([told(arg), told(kwarg)]).toEqual([told(sent), told(sent)]);
    });

    test.each(JSON_VALUES)('%s comes back over JSON', async (source) => {
      const queue = "Queue('default', connection=connection, serializer=JSONSerializer)";
      const [sent, arg, kwarg] = (await there(source, queue)) as readonly string[];
      expect([arg, kwarg]).toEqual([sent, sent]);
    });

    test.each(SEEN)('%s is given to a handler as what it is', async (source, value) => {
      await stage.python.run(
        `
value = eval(source, {'datetime': datetime, 'decimal': decimal, 'uuid': uuid})
job = Queue('default', connection=connection).enqueue('node.see', value)
while job.get_status() != 'finished': time.sleep(0.01)
`,
        { source },
      );
      expect(seen).toEqual(value);
    });
  });

  describe('what Python reads of a run', () => {
    test('a success: status, result, times, worker, registries', async () => {
      const id = await stage.python.enqueue('rq_app.add', [2, 3], { options: { result_ttl: 77 } });
      expect(await stage.python.outcome(id)).toMatchObject({ status: 'finished', repr: '5', type: 'SUCCESSFUL' });
      const job = await stage.python.job(id);
      expect(job).toMatchObject({ worker_name: node.name, func: 'rq_app.add', result_ttl: 77 });
      expect(Date.parse(String(job.ended_at))).toBeGreaterThanOrEqual(Date.parse(String(job.started_at)));
      expect((await stage.python.registries()).finished).toContain(id);
      expect(await stage.store.ttl(`rq:job:${id}`)).toBeLessThanOrEqual(77);
      expect(await stage.store.ttl(`rq:results:${id}`)).toBeGreaterThan(0);
      const [latest] = await stage.python.results(id);
      if (version === '2.10' || version === '2.12') expect(latest?.worker).toBe(node.name);
    });

    test('None is a result without a value', async () => {
      const id = await stage.python.enqueue('rq_app.nothing');
      expect(await stage.python.outcome(id)).toMatchObject({ status: 'finished', repr: 'None', type: 'SUCCESSFUL' });
    });

    test('result_ttl=0 leaves nothing, -1 stays', async () => {
      const gone = await stage.python.enqueue('rq_app.add', [1, 1], { options: { result_ttl: 0 } });
      await until('it is gone', async () => (await stage.store.exists(`rq:job:${gone}`)) === 0);
      expect(await stage.store.keys(`*${gone}*`)).toEqual([]);
      const stays = await stage.python.enqueue('rq_app.add', [1, 1], { options: { result_ttl: -1 } });
      expect(await stage.python.value(stays)).toBe(2);
      expect([await stage.store.ttl(`rq:job:${stays}`), await stage.store.ttl(`rq:results:${stays}`)]).toEqual([
        -1, -1,
      ]);
      expect(await stage.store.zscore('rq:finished:default', stays)).toBe('inf');
    });

    test('a failure: exc_string ends as a Python traceback ends', async () => {
      const id = await stage.python.enqueue('rq_app.fail', ['no such account']);
      const outcome = await stage.python.outcome(id);
      expect(outcome).toMatchObject({ status: 'failed', repr: 'None', type: 'FAILED' });
      expect(outcome.exc).toMatch(/^Traceback \(most recent call last\):\n/);
      expect(outcome.exc?.trim().split('\n').at(-1)).toBe('ValueError: no such account');
      expect((await stage.python.registries()).failed).toContain(id);
      expect(await stage.store.ttl(`rq:job:${id}`)).toBeGreaterThan(31_000_000);
    });

    test('a job that runs is one of the started ones, on our worker', async () => {
      const path = join(folder, `gate-${version}`);
      const id = await stage.python.enqueue('rq_app.gate', [path]);
      await until('it runs', async () => (await stage.python.job(id)).status === 'started');
      expect((await stage.python.registries()).started.map((one) => one.split(':')[0])).toEqual([id]);
      const [worker] = await stage.python.workers();
      expect(worker).toMatchObject({ name: node.name, state: 'busy', queues: ['default'], current_job: id });
      writeFileSync(path, '');
      expect(await stage.python.value(id)).toBe('passed');
      expect((await stage.python.registries()).started).toEqual([]);
      await until('it is idle', async () => (await stage.python.workers())[0]?.state === 'idle');
    });

    test('meta that Python set is what it was', async () => {
      const meta = { tenant: 'acme', steps: [1, 2.5, null] };
      const id = await stage.python.enqueue('rq_app.add', [1, 2], { options: { meta } });
      await stage.python.value(id);
      expect((await stage.python.job(id)).meta).toEqual(meta);
    });
  });

  describe('again', () => {
    test('Retry(max=3): what fails twice succeeds the third time', async () => {
      const path = join(folder, `retry-${version}`);
      const id = (await stage.python.run(
        "result = Queue('default', connection=connection).enqueue('rq_app.fail_until', path, 3, retry=Retry(max=3)).id",
        { path },
      )) as string;
      expect(await stage.python.value(id)).toBe(3);
      expect(await stage.python.job(id)).toMatchObject({ retries_left: 1, status: 'finished' });
    });

    test('Retry(max=1): then it has failed, with one result', async () => {
      const source = "result = Queue('default', connection=connection).enqueue('rq_app.fail', retry=Retry(max=1)).id";
      const id = (await stage.python.run(source)) as string;
      expect(await stage.python.outcome(id)).toMatchObject({ status: 'failed' });
      expect(await stage.python.results(id)).toHaveLength(1);
      expect(await stage.python.job(id)).toMatchObject({ retries_left: 0 });
    });

    test('Retry(interval=1): it waits among the scheduled ones, and our scheduler runs it', async () => {
      const path = join(folder, `interval-${version}`);
      // It waits there for a second: counted, since it cannot be looked at for certain.
      await using waits = await tally(stage.store, /^zadd$/i, 'rq:scheduled:default');
      const id = (await stage.python.run(
        "result = Queue('default', connection=connection).enqueue('rq_app.fail_until', path, 2, retry=Retry(max=1, interval=1)).id",
        { path },
      )) as string;
      expect(await stage.python.value(id)).toBe(2);
      await until('it was scheduled once', () => waits.count === 1);
      expect((await stage.python.registries()).scheduled).toEqual([]);
    });

    test('enqueue_in: our scheduler puts it into its queue', async () => {
      const source = `
queue = Queue('default', connection=connection)
result = [queue.enqueue_in(datetime.timedelta(seconds=one), 'rq_app.add', 2, 3).id for one in (1, 3600)]`;
      const [soon, later] = (await stage.python.run(source)) as [string, string];
      expect(await stage.python.value(soon)).toBe(5);
      expect((await stage.python.registries()).scheduled).toEqual([later]);
      await stage.python.run('Job.fetch(id, connection=connection).cancel()', { id: later });
    });

    if (version === '2.10' || version === '2.12') {
      test('Repeat(times=2): three runs, each with its result', async () => {
        const path = join(folder, `repeat-${version}`);
        const id = (await stage.python.run(
          "result = Queue('default', connection=connection).enqueue('rq_app.write', path, repeat=Repeat(times=2)).id",
          { path },
        )) as string;
        await until('it ran three times', async () => (await stage.python.results(id)).length === 3);
        expect((await stage.python.results(id)).map(({ value }) => value)).toEqual([3, 2, 1]);
        expect(await stage.python.job(id)).toMatchObject({ status: 'finished' });
      });
    }
  });

  describe('dependents', () => {
    test('one that waits is run when the first has succeeded', async () => {
      const path = join(folder, `first-${version}`);
      const source = `
queue = Queue('default', connection=connection)
first = queue.enqueue('rq_app.gate', path)
result = queue.enqueue('rq_app.who', depends_on=first).id`;
      const after = (await stage.python.run(source, { path })) as string;
      expect((await stage.python.registries()).deferred).toEqual([after]);
      writeFileSync(path, '');
      expect(await stage.python.value(after)).toBe('node');
      expect((await stage.python.registries()).deferred).toEqual([]);
    });

    test('after a failure it waits on, unless it allows the failure', async () => {
      const queue = stage.queue('failing');
      const source = `
queue = Queue(name, connection=connection)
first = queue.enqueue('rq_app.fail')
result = [queue.enqueue('rq_app.who', depends_on=Dependency([first], allow_failure=flag)).id for flag in (False, True)]`;
      const [waits, runs] = (await stage.python.run(source, { name: queue })) as [string, string];
      // Not before: RQ wakes nobody who comes after the failure.
      await using _ = await stage.node({ queues: [queue] });
      expect(await stage.python.value(runs)).toBe('node');
      expect((await stage.python.job(waits)).status).toBe('deferred');
    });

    test('one that waits for two, in another queue, goes there when both are done', async () => {
      const id = (await stage.python.run(`
queue = Queue('default', connection=connection)
both = [queue.enqueue('rq_app.slow', 0.1), queue.enqueue('rq_app.slow', 0.3)]
result = Queue('elsewhere', connection=connection).enqueue('rq_app.who', depends_on=both).id`)) as string;
      await until('it is in its queue', async () => (await stage.store.llen('rq:queue:elsewhere')) === 1);
      expect((await stage.python.job(id)).status).toBe('queued');
      await stage.python.run("Queue('elsewhere', connection=connection).empty()");
    });
  });

  describe('callbacks', () => {
    const callback = (which: string, name: string): string => `${which}=Callback('rq_app.${name}')`;

    test('on_success, on_failure: Node functions of the same names are called', async () => {
      const source = `
queue = Queue('default', connection=connection)
result = [queue.enqueue('rq_app.add', 2, 3, ${callback('on_success', 'on_success')}).id,
          queue.enqueue('rq_app.fail', 'no', ${callback('on_failure', 'on_failure')}).id,
          queue.enqueue('rq_app.add', 2, 3, ${callback('on_success', 'on_success_fails')}).id]`;
      const [good, bad, turned] = (await stage.python.run(source)) as [string, string, string];
      expect(await stage.python.value(good)).toBe(5);
      expect((await stage.python.outcome(bad)).status).toBe('failed');
      expect(await stage.callbacks(good)).toEqual([['success', good, '5']]);
      expect(await stage.callbacks(bad)).toEqual([['failure', bad, 'ValueError', 'no']]);
      const outcome = await stage.python.outcome(turned);
      expect(outcome.status).toBe('failed');
      expect(outcome.exc).toContain('the callback broke');
    });

    test('send_stop_job_command: stopped, on_stopped is called, no retry', async () => {
      const source = `
job = Queue('default', connection=connection).enqueue('rq_app.slow', 60, retry=Retry(max=2), ${callback('on_stopped', 'on_stopped')})
while job.get_status() != 'started': time.sleep(0.01)
command.send_stop_job_command(connection, job.id)
result = job.id`;
      const id = (await stage.python.run(source)) as string;
      const outcome = await stage.python.outcome(id);
      expect(outcome.status).toBe('stopped');
      expect(outcome.exc).toBe('Job stopped by user, work-horse terminated.');
      expect((await stage.python.registries()).failed).toContain(id);
      expect(await stage.callbacks(id)).toEqual([['stopped', id]]);
    });
  });

  test('job_timeout: the job has failed with what RQ says of it', async () => {
    const id = await stage.python.enqueue('rq_app.slow', [60], { options: { job_timeout: 1 } });
    const outcome = await stage.python.outcome(id);
    expect(outcome.status).toBe('failed');
    expect(outcome.exc).toContain('JobTimeoutException: Task exceeded maximum timeout value (1 seconds)');
  });

  test('a job that was cancelled while it waited is not run', async () => {
    const path = join(folder, `cancelled-${version}`);
    const source = `
queue = Queue('other', connection=connection)
job = queue.enqueue('rq_app.write', path)
job.cancel()
result = [job.id, queue.enqueue('rq_app.add', 1, 1).id]`;
    const [cancelled, next] = (await stage.python.run(source, { path })) as [string, string];
    await using _ = await stage.node({ queues: ['other'] });
    expect(await stage.python.value(next)).toBe(2);
    expect([(await stage.python.job(cancelled)).status, existsSync(path)]).toEqual(['canceled', false]);
  });

  test('a failed job that Python requeues runs again', async () => {
    const path = join(folder, `requeued-${version}`);
    const id = await stage.python.enqueue('rq_app.fail_until', [path, 2]);
    expect((await stage.python.outcome(id)).status).toBe('failed');
    await stage.python.run('Job.fetch(id, connection=connection).requeue()', { id });
    await until('it is finished', async () => (await stage.python.job(id)).status === 'finished');
    expect(await stage.python.value(id)).toBe(2);
    expect((await stage.python.registries()).failed).not.toContain(id);
  });

  if (version !== '1.16') {
    test('a group: its jobs are its own until they are gone', async () => {
      const source = `
group = Group.create(connection, name='batch')
queue = Queue('default', connection=connection)
jobs = group.enqueue_many(queue, [Queue.prepare_data('rq_app.add', (n, n)) for n in range(5)])
for job in jobs:
    while job.get_status() != 'finished': time.sleep(0.01)
result = [sorted(job.return_value() for job in group.get_jobs()), [name.decode() for name in connection.smembers('rq:groups')]]`;
      expect(await stage.python.run(source)).toEqual([[0, 2, 4, 6, 8], ['batch']]);
    });
  }
});

/** It knows no stream of results: `job.result` and `job.exc_info` are fields of the hash. */
describe('RQ 1.10 enqueues, Node runs, RQ reads', () => {
  let stage: RqStage;
  let folder: string;

  beforeAll(async () => {
    stage = await RqStage.start('1.10');
    folder = temporaryFolder('jobglot-rq-');
  });
  afterAll(async () => {
    await stage[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  /** What RQ 1.10 says of a job: a new look at it, and the object that enqueued it. */
  const READ = `
import re
def told(value):
    # An object of a class without a repr is told by its address.
    return re.sub(' at 0x[0-9a-f]+', '', repr(value))
def read(job):
    while job.get_status() not in ('finished', 'failed'): time.sleep(0.01)
    fetched = Job.fetch(job.id, connection=connection, serializer=job.serializer)
    assert told(job.result) == told(fetched.result)
    return [fetched.get_status(), told(fetched.result), fetched.exc_info and fetched.exc_info.splitlines()[-1]]
`;

  test.each(VALUES)('%s is read where it was, with resultsInHash', async (source) => {
    const queue = stage.queue('in-hash');
    await using _ = await stage.node({ queues: [queue], resultsInHash: true });
    const said = await stage.python.run(
      `${READ}
value = eval(source, {'datetime': datetime, 'decimal': decimal, 'uuid': uuid})
result = [told(value), read(Queue(name, connection=connection).enqueue('node.echo', value))]`,
      { source, name: queue },
    );
    const [sent, read] = said as readonly [string, readonly unknown[]];
    expect(read).toEqual(['finished', sent, null]);
  });

  test('so it is over JSON, with resultsInHash', async () => {
    const queue = stage.queue('in-hash');
    await using _ = await stage.node({ queues: [queue], resultsInHash: true });
    const source = `${READ}
result = read(Queue(name, connection=connection, serializer=JSONSerializer).enqueue('node.echo', {'a': [1, None]}))`;
    expect(await stage.python.run(source, { name: queue })).toEqual(['finished', "{'a': [1, None]}", null]);
  });

  test('job.exc_info is how it failed until it has succeeded, with resultsInHash', async () => {
    const queue = stage.queue('in-hash');
    await using _ = await stage.node({ queues: [queue], resultsInHash: true });
    const source = `${READ}
job = Queue(name, connection=connection).enqueue('node.fail_until', path, 2)
result = [read(job)]
job.requeue()
result.append(read(job))`;
    const [failed, finished] = (await stage.python.run(source, {
      name: queue,
      path: join(folder, 'fails'),
    })) as unknown[];
    expect(failed).toEqual(['failed', 'None', 'Error: run 1']);
    expect(finished).toEqual(['finished', '2', null]);
  });

  test('a worker of it that is there is reason enough', async () => {
    const queue = stage.queue('beside');
    await using _old = await stage.worker({ queues: [stage.queue('old')] });
    await using _node = await stage.node({ queues: [queue] });
    const source = `${READ}
result = read(Queue(name, connection=connection).enqueue('node.echo', 5))`;
    expect(await stage.python.run(source, { name: queue })).toEqual(['finished', '5', null]);
  });

  test('without resultsInHash it has succeeded or failed, and nothing is said of how', async () => {
    const queue = stage.queue('stream-only');
    await using _ = await stage.node({ queues: [queue], resultsInHash: false });
    const source = `${READ}
queue = Queue(name, connection=connection)
result = [read(queue.enqueue('node.echo', 5)), read(queue.enqueue('node.fail'))]`;
    expect(await stage.python.run(source, { name: queue })).toEqual([
      ['finished', 'None', null],
      ['failed', 'None', null],
    ]);
  });
});
