import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type PyObject, TimeDelta, Tuple } from '../../src/drivers/celery/index.ts';
import { Retry } from '../../src/signals.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { interopTasks } from './apps/tasks.ts';
import { Stage } from './support/stage.ts';

const PICKLE = { acceptContent: ['json', 'pickle'], taskSerializer: 'pickle', resultSerializer: 'pickle' } as const;
const PYTHON = { accept_content: ['json', 'pickle'], task_serializer: 'pickle', result_serializer: 'pickle' };

describe.each(['5.2', '5.6'] as const)('Celery %s with the serializer pickle', (version) => {
  let stage: Stage;

  beforeAll(async () => {
    stage = await Stage.start(version, PYTHON);
  });
  afterAll(() => stage[Symbol.asyncDispose]());

  it('a Node worker runs what Python pickled, and Python has the value and its types back', async () => {
    const seen: unknown[] = [];
    const tasks = interopTasks().handle(defineTask('node.look'), ({ args }) => {
      seen.push(...args);
      return args;
    });
    await using node = await stage.node({ ...PICKLE, tasks });
    const got = await stage.run(
      `
import datetime, decimal, uuid
from celery.exceptions import Reject
given = [(1, 2), {3, 4}, datetime.timedelta(days=-1, microseconds=5), b'\\x00\\xff', 2**70, {1: 'one', (2,): None},
         decimal.Decimal('1.50'), uuid.UUID(int=7), range(3), Reject('why', requeue=True), datetime.datetime(2026, 1, 2, 3, 4, 5, 6)]
back = app.send_task('node.look', args=given, queue=queue).get(timeout=30)
result = [[type(value).__name__ for value in back], [a == b or repr(a) == repr(b) for a, b in zip(given, back)]]
`,
      { queue: node.queue },
    );
    expect(got).toEqual([
      ['tuple', 'set', 'timedelta', 'bytes', 'int', 'dict', 'Decimal', 'UUID', 'range', 'Reject', 'datetime'],
      Array.from({ length: 11 }, () => true),
    ]);
    expect(seen[0]).toBeInstanceOf(Tuple);
    expect(seen[2]).toEqual(new TimeDelta(-1, 0, 5));
    expect(seen[5]).toEqual(
      new Map<unknown, unknown>([
        [1, 'one'],
        [Tuple.of(2), null],
      ]),
    );
    expect((seen[9] as PyObject).className).toBe('celery.exceptions.Reject');
  });

  it('what fails in Node raises in Python as the exception it stands for', async () => {
    await using node = await stage.node(PICKLE);
    const id = await stage.python.send('node.fail', ['ValueError', 'no'], {}, { queue: node.queue });
    expect(await stage.python.get(id)).toMatchObject({ ok: false, state: 'FAILURE', type: 'ValueError', args: ['no'] });
  });

  it('links and chains of pickled signatures go on from Node', async () => {
    await using node = await stage.node(PICKLE);
    const got = await stage.run(
      `
from celery import chain
add = lambda *args, **options: app.signature('node.add', args=args, queue=queue, **options)
link = app.signature('node.mul', args=(10,), options={'queue': queue, 'task_id': 'link-' + queue})
app.send_task('node.add', args=(1, 2), queue=queue, link=[link])
result = [chain(add(1, 2), add(10), add(100)).apply_async().get(timeout=30), app.AsyncResult('link-' + queue).get(timeout=30)]
`,
      { queue: node.queue },
    );
    expect(got).toEqual([113, 30]);
  });

  it('a Python worker runs what Node pickled; its values and exceptions are read', async () => {
    const queue = stage.queue('python');
    await using python = await stage.worker({ queues: [queue], config: PYTHON });
    await using client = stage.client({ ...PICKLE, taskDefaultQueue: queue });
    const when = new TimeDelta(0, 90, 5);
    const set = new Set(['a']);
    const echoed = await client.enqueue('py.echo', {
      args: [Tuple.of(1, 2), when, set, 2n ** 70n],
      kwargs: { at: when },
    });
    expect(await echoed.get({ timeoutMs: 30_000 })).toEqual([[Tuple.of(1, 2), when, set, 2n ** 70n], { at: when }]);
    const failed = await client.enqueue('py.fail', { args: ['KeyError', 'gone'] });
    await expect(failed.get({ timeoutMs: 30_000 })).rejects.toMatchObject({
      name: 'RemoteError',
      type: 'KeyError',
      module: 'builtins',
      args: ['gone'],
    });
    expect(python.log()).not.toContain('ContentDisallowed');
  });

  it('a record of the arguments in JSON has a text where JSON has no form', async () => {
    await using node = await stage.node({ acceptContent: ['pickle'], resultExtended: true });
    const settled = node.settled('node.echo');
    // By another application: `app` would hear of a result that it cannot read, at whatever it waits for next.
    const id = await stage.run(
      "import datetime; result = other(task_serializer='pickle').send_task('node.echo', args=[datetime.timedelta(1)], queue=queue).id",
      { queue: node.queue },
    );
    await settled;
    const stored = JSON.parse((await stage.stored(String(id))) ?? '{}') as Readonly<Record<string, unknown>>;
    // What the task returned has no form in JSON either: it failed, and says so.
    expect(stored).toMatchObject({ status: 'FAILURE', args: '[datetime.timedelta(days=1)]', kwargs: {} });
  });

  it('a task of message protocol 1 is retried as a pickle', async () => {
    let runs = 0;
    const tasks = new Tasks().handle(defineTask('node.again'), ({ args }) => {
      runs += 1;
      if (runs === 1) throw new Retry({ delayMs: 0 });
      return args;
    });
    await using node = await stage.node({ ...PICKLE, tasks });
    const got = await stage.run(
      `
import datetime
given = [datetime.timedelta(1), (1, 2)]
sent = other(task_protocol=1, task_serializer='pickle').send_task('node.again', args=given, queue=queue)
result = list(app.AsyncResult(sent.id).get(timeout=30)) == given
`,
      { queue: node.queue },
    );
    expect([got, runs]).toEqual([true, 2]);
  });

  it('without being told to, a Node worker refuses a pickle and goes on', async () => {
    await using node = await stage.node({ tasks: new Tasks().handle(defineTask('node.one'), () => 1) });
    const poison = node.worker.once('job:poison');
    const id = await stage.python.send('node.one', [], {}, { queue: node.queue });
    expect(await poison).toMatchObject({
      id,
      reason: expect.stringContaining('application/x-python-serialize') as unknown,
    });
    const settled = node.settled('node.one');
    const json = await stage.python.send('node.one', [], {}, { queue: node.queue, serializer: 'json' });
    await settled;
    expect(JSON.parse((await stage.stored(json)) ?? '{}')).toMatchObject({ status: 'SUCCESS', result: 1 });
  });
});
