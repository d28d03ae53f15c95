import { afterAll, beforeAll, describe, expect } from 'vitest';
import { CeleryEvents, type HeardEvent } from '../../src/drivers/celery/index.ts';
import { Reject } from '../../src/signals.ts';
import { defineTask } from '../../src/task.ts';
import type { PythonWorker } from '../support/python.ts';
import { interopTasks } from './apps/tasks.ts';
import { type NodeWorker, Stage, until } from './support/stage.ts';
import { facts } from './support/table.ts';

/** When a task is acknowledged: before its run; after it; after it and not when it failed. */
type Kind = 'early' | 'late' | 'strict';

interface Case {
  readonly what: string;
  readonly kind: Kind;
  readonly task: string;
  readonly args?: readonly unknown[];
  readonly options?: Readonly<Record<string, unknown>>;
  /** Done with the task once it has these events. */
  readonly meanwhile?: { readonly after: readonly string[]; readonly do: 'terminate' | 'revoke' };
  /** What Python sends of it. Of a task that comes again and again, the beginning. */
  readonly python: readonly string[];
  /** Python's main process may hear of the message of a retry before it hears of the end of the run that sent it. */
  readonly unordered?: boolean;
  /** What ours sends, where that is something else. */
  readonly node?: readonly string[];
}

const received = 'task-received';
const started = 'task-started';
const RETRIED = [received, started, 'task-retried'];

const CASES: readonly Case[] = [
  { what: 'success', kind: 'early', task: 'add', args: [1, 2], python: [received, started, 'task-succeeded'] },
  { what: 'an error', kind: 'early', task: 'fail', python: [received, started, 'task-failed'] },
  {
    what: 'two retries',
    kind: 'early',
    task: 'retry_twice',
    args: [0.2],
    python: [...RETRIED, ...RETRIED, received, started, 'task-succeeded'],
    unordered: true,
  },
  { what: 'Ignore', kind: 'early', task: 'ignore', python: [received, started] },
  {
    what: 'an expired task',
    kind: 'early',
    task: 'add',
    args: [1, 2],
    options: { expires: -10 },
    python: ['task-revoked'],
  },
  {
    what: 'a termination',
    kind: 'early',
    task: 'slow',
    args: [60],
    meanwhile: { after: [received, started], do: 'terminate' },
    python: [received, started, 'task-revoked'],
  },
  {
    what: 'a revoke while it waits for its time',
    kind: 'early',
    task: 'add',
    args: [1, 2],
    options: { countdown: 1 },
    meanwhile: { after: [received], do: 'revoke' },
    python: [received, 'task-revoked'],
  },
  {
    what: 'a soft time limit',
    kind: 'early',
    task: 'slow',
    args: [60],
    options: { soft_time_limit: 1 },
    python: [received, started, 'task-failed'],
  },
  {
    what: 'a hard time limit',
    kind: 'early',
    task: 'slow',
    args: [60],
    options: { time_limit: 1 },
    python: [received, started],
    node: [received, started, 'task-failed'],
  },
  {
    what: 'Reject, acknowledged before',
    kind: 'early',
    task: 'reject',
    python: [received, started],
    node: [received, started, 'task-rejected'],
  },
  { what: 'success', kind: 'late', task: 'add', args: [1, 2], python: [received, started, 'task-succeeded'] },
  { what: 'an error', kind: 'late', task: 'fail', python: [received, started, 'task-failed'] },
  { what: 'Reject', kind: 'late', task: 'reject', python: [received, started, 'task-rejected'] },
  {
    what: 'Reject that gives it back',
    kind: 'late',
    task: 'reject',
    args: [true],
    meanwhile: { after: [received, started, 'task-rejected'], do: 'revoke' },
    python: [received, started, 'task-rejected'],
  },
  { what: 'an error', kind: 'strict', task: 'fail', python: [received, started, 'task-rejected', 'task-failed'] },
  {
    what: 'a hard time limit',
    kind: 'strict',
    task: 'slow',
    args: [60],
    options: { time_limit: 1 },
    meanwhile: { after: [received, started, 'task-rejected'], do: 'revoke' },
    python: [received, started, 'task-rejected'],
  },
  { what: 'a task that it does not know', kind: 'strict', task: 'nobody', python: ['task-failed'] },
];

const STRICT = { task_acks_late: true, task_acks_on_failure_or_timeout: false };

describe('events of tasks, by Celery 5.6 and by Node', () => {
  const both = facts('celery-events', { version: '5.6', broker: 'redis' }, 'both');
  const feature = 'events of tasks for every end';
  let stage: Stage;
  let events: CeleryEvents;
  const heard: HeardEvent[] = [];
  const python = new Map<Kind, PythonWorker>();
  const node = new Map<Kind, NodeWorker>();

  beforeAll(async () => {
    stage = await Stage.start('5.6');
    for (const [kind, config] of [
      ['early', {}],
      ['late', { task_acks_late: true }],
      ['strict', STRICT],
    ] as const) {
      const options = { hostname: `python-${kind}@test`, queues: [`python-${kind}`], args: ['-E'], config };
      python.set(kind, await stage.worker({ ...options, pool: 'prefork', concurrency: 2 }));
      const tasks = interopTasks().handle(
        defineTask<(requeue?: boolean) => never>('node.reject'),
        ({ args: [requeue] }) => {
          throw new Reject('on purpose', { requeue: requeue ?? false });
        },
      );
      const worker = await stage.node({
        nodename: `node-${kind}@test`,
        queues: [`node-${kind}`],
        tasks,
        workerSendTaskEvents: true,
        acksLate: kind !== 'early',
        acksOnFailureOrTimeout: kind !== 'strict',
        unknownTask: 'reject',
      });
      node.set(kind, worker);
    }
    events = new CeleryEvents({ ...stage.urls, routingKey: 'task.#' });
    await events.open();
    void (async () => {
      for await (const event of events) heard.push(event);
    })();
  });
  afterAll(async () => {
    await events.close();
    for (const worker of node.values()) await worker[Symbol.asyncDispose]();
    for (const worker of python.values()) await worker.kill();
    await stage[Symbol.asyncDispose]();
  });

  /** In the order of their sender's clock. */
  const of = (id: string): readonly HeardEvent[] =>
    heard.filter((event) => event['uuid'] === id).toSorted((a, b) => Number(a['clock']) - Number(b['clock']));
  const typesOf = (id: string): readonly string[] => of(id).map(({ type }) => type);

  /** Whether all of these are there, in this order, at the beginning. */
  const begins = (id: string, types: readonly string[]): boolean =>
    typesOf(id).slice(0, types.length).join() === types.join();

  async function eventsOf(side: 'python' | 'node', one: Case): Promise<readonly HeardEvent[]> {
    const { kind, task, args = [], options = {}, meanwhile } = one;
    const prefix = side === 'python' ? 'py' : 'node';
    const queue = `${side}-${kind}`;
    const wanted = side === 'node' ? (one.node ?? one.python) : one.python;
    const id = await stage.python.send(`${prefix}.${task}`, args, {}, { queue, ...options });
    if (meanwhile !== undefined) {
      await until(`${side}: ${meanwhile.after.join()}`, () => begins(id, meanwhile.after));
      const terminate = meanwhile.do === 'terminate';
      const destination = [`${side}-${kind}@test`];
      await stage.python.control('revoke', { task_id: id, terminate }, { reply: true, timeout: 5, destination });
    }
    await until(`${side}: ${wanted.join()}; there is ${typesOf(id).join()}`, () => typesOf(id).length >= wanted.length);
    // Another task after it: what would still come of the first has come by then.
    const after = await stage.python.send(`${prefix}.add`, [1, 2], {}, { queue });
    await until(`${side}: the next one succeeded`, () => typesOf(after).includes('task-succeeded'));
    const all = of(id);
    if (meanwhile === undefined || meanwhile.do === 'terminate') expect(all).toHaveLength(wanted.length);
    return all.slice(0, wanted.length);
  }

  /** What says how it ended. */
  const telling = (event: HeardEvent | undefined): unknown =>
    Object.fromEntries(
      Object.entries(event ?? {}).filter(([name]) =>
        ['type', 'requeue', 'terminated', 'signum', 'expired'].includes(name),
      ),
    );

  for (const one of CASES) {
    const name = `${one.what} (${one.kind})`;
    const how =
      one.node === undefined ? 'the same events from both' : 'ours tells of an end that Python says nothing of';
    both(feature, `${name}: ${how}`, async () => {
      const [theirs, ours] = [await eventsOf('python', one), await eventsOf('node', one)];
      const types = theirs.map(({ type }) => type);
      if (one.unordered === true) expect(types.sort()).toEqual(one.python.toSorted());
      else expect(types).toEqual(one.python);
      expect(ours.map(({ type }) => type)).toEqual(one.node ?? one.python);
      for (const [at, event] of one.unordered === true ? [] : theirs.entries()) {
        expect(Object.keys(ours[at] ?? {})).toEqual(Object.keys(event));
        expect(telling(ours[at])).toEqual(telling(event));
      }
    });
  }

  both(feature, 'a run that is broken off as its worker stops (late): task-cancelled from both', async () => {
    const [theirs, ours] = [
      await stage.python.send('py.slow', [60], {}, { queue: 'python-late' }),
      await stage.python.send('node.slow', [60], {}, { queue: 'node-late' }),
    ];
    await until('both run', () => [theirs, ours].every((id) => typesOf(id).includes(started)));
    python.get('late')?.signal('SIGQUIT');
    await node.get('late')?.worker.stop({ timeoutMs: 0 });
    const cancelled = [received, started, 'task-cancelled'];
    await until('ours is told', () => typesOf(ours).length >= cancelled.length);
    await until('theirs is told', () => typesOf(theirs).length >= cancelled.length);
    expect([typesOf(ours), typesOf(theirs)]).toEqual([cancelled, cancelled]);
    expect(Object.keys(of(ours)[2] ?? {})).toEqual(Object.keys(of(theirs)[2] ?? {}));
  });
});
