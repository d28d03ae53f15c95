import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { CeleryControl, CeleryEvents, type HeardEvent } from '../../src/drivers/celery/index.ts';
import { JobglotError } from '../../src/errors.ts';
import { pause } from '../../src/source.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { type CeleryVersion, type PythonWorker, runCelery, startCelery } from '../support/python.ts';
import { root } from '../support/setup.mjs';
import { type NodeWorker, Stage, until } from './support/stage.ts';
import { facts } from './support/table.ts';

const NODE = 'node@test';
const PYTHON = 'python@test';

/** Rows of the support table. */
const COMMANDS = 'inspect and control: the answers of Celery';
const REVOKES = 'revoke, and terminate what runs';
const CHANGES = 'pool, queues and limits changed from outside';
const PROGRAM = 'the program `celery`: status, inspect, control, events';
const OURS = 'the program `jobglot`: inspect, control, events';

/** A value's keys and types, as Python sees them: of lists, those of the first member. */
const SHAPE = `
def shape(value):
    if isinstance(value, dict):
        return {key: shape(member) for key, member in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__
`;

const STAGES: readonly (readonly [CeleryVersion, 'redis' | 'amqp'])[] = [
  ['5.6', 'redis'],
  ['5.6', 'amqp'],
  ['5.4', 'redis'],
  ['5.2', 'redis'],
];

/** Handlers that run until they are told to stop; what they saw of it. */
class Waits {
  readonly aborted: string[] = [];
  readonly tasks = new Tasks()
    .handle(
      [defineTask<(n: number) => string>('node.wait'), defineTask<(n: number) => string>('both.wait')],
      async (job, { signal }) => {
        await pause(30_000, signal);
        this.aborted.push(job.id);
        return 'ended';
      },
    )
    .handle(defineTask<(x: number, y: number) => number>('node.add'), ({ args: [x, y] }) => x + y)
    .handle(defineTask<() => never>('node.fail'), () => {
      throw new TypeError("it's wrong");
    });
}

describe.each(STAGES)('remote control with Celery %s over %s', (version, broker) => {
  const toNode = facts('celery-control', { version, broker }, 'Python → Node');
  const toPython = facts('celery-control', { version, broker }, 'Node → Python');
  const both = facts('celery-control', { version, broker }, 'both');
  let stage: Stage;
  let waits: Waits;
  let node: NodeWorker;
  let python: PythonWorker;

  beforeAll(async () => {
    stage = await Stage.start(version, {}, { broker });
    waits = new Waits();
    node = await stage.node({ nodename: NODE, queues: ['node'], tasks: waits.tasks });
    python = await stage.worker({ hostname: PYTHON, queues: ['python'], pool: 'prefork', concurrency: 2 });
  });
  afterEach(() => {
    expect(node.worker.state).toBe('running');
  });
  afterAll(async () => {
    await node[Symbol.asyncDispose]();
    await python.kill();
    await stage[Symbol.asyncDispose]();
  });

  type Replies = Readonly<Record<string, unknown>>;

  /** What both answer to Python. */
  async function ask(
    command: string,
    args: object = {},
  ): Promise<{ readonly node: unknown; readonly python: unknown }> {
    const options = { reply: true, timeout: 5, limit: 2 };
    const replies = Object.assign(
      {},
      ...((await stage.python.control(command, args, options)) as Replies[]),
    ) as Replies;
    expect(Object.keys(replies).sort()).toEqual([NODE, PYTHON]);
    return { node: replies[NODE], python: replies[PYTHON] };
  }

  /** The same, as keys and types. */
  async function shapes(
    command: string,
    args: object = {},
  ): Promise<{ readonly node: unknown; readonly python: unknown }> {
    const replies = (await stage.run(
      `${SHAPE}
result = {}
for reply in app.control.broadcast(command, arguments=args, reply=True, timeout=5, limit=2):
    for name, value in reply.items():
        result[name] = shape(value)`,
      { command, args },
    )) as Replies;
    expect(Object.keys(replies).sort()).toEqual([NODE, PYTHON]);
    // Celery 5.2 leaves open whether a message was redelivered, where it was not.
    const theirs = JSON.stringify(replies[PYTHON]).replaceAll('"redelivered":"NoneType"', '"redelivered":"bool"');
    return { node: replies[NODE], python: JSON.parse(theirs) as unknown };
  }

  const SAME: readonly (readonly [string, object])[] = [
    ['ping', {}],
    ['ping', { x: 1 }],
    ['nosuch', {}],
    ['query_task', {}],
    ['query_task', { ids: ['nobody'] }],
    ['active_queues', { x: 1 }],
    ['enable_events', { x: 1 }],
    ['reserved', {}],
    ['scheduled', {}],
    ['active', {}],
    ['rate_limit', { task_name: 'nope', rate_limit: '10/m' }],
    ['rate_limit', {}],
    ['rate_limit', { task_name: 'nope', rate_limit: 'abc' }],
    ['rate_limit', { task_name: 'nope', rate_limit: '10/x' }],
    ['time_limit', { task_name: 'nope' }],
    ['time_limit', {}],
    ['revoke', {}],
    ['revoke', { task_id: 'nobody', terminate: true }],
    ['revoke', { task_id: 'nobody', terminate: true, signal: 'NOPE' }],
    ['terminate', { task_id: 'nobody' }],
    ['hello', {}],
    ['election', {}],
    ['heartbeat', {}],
    ['pool_restart', {}],
    ['autoscale', { max: 3, min: 1 }],
    ['autoscale', { x: 1 }],
    ['pool_grow', { n: 'x' }],
    ['objgraph', {}],
    ['add_consumer', {}],
    ['cancel_consumer', {}],
    ['cancel_consumer', { queue: 'never-there' }],
    ['disable_events', {}],
  ];
  const SAME_IN_5_6: typeof SAME = [
    ['revoke', { task_id: 'somebody' }],
    ['revoke', { task_id: [] }],
    ['revoke_by_stamped_headers', { headers: { tenant: 'x' } }],
    ['revoke_by_stamped_headers', { headers: ['tenant=y'] }],
    ['revoke_by_stamped_headers', { headers: ['tenant'] }],
    ['revoke_by_stamped_headers', { headers: { tenant: 'x' }, terminate: true }],
    ['revoke_by_stamped_headers', {}],
  ];
  for (const [command, args] of [...SAME, ...(version === '5.6' ? SAME_IN_5_6 : [])])
    toNode(COMMANDS, `${command} ${JSON.stringify(args)}: both answer the same`, async () => {
      const replies = await ask(command, args);
      expect(replies.node).toEqual(replies.python);
    });

  const SHAPES: typeof SAME = [
    ['stats', {}],
    ['report', {}],
    ['clock', {}],
    ['active_queues', {}],
    ['registered', {}],
    ['hello', { from_node: 'x@y' }],
    ['memdump', {}],
  ];
  for (const [command, args] of SHAPES)
    toNode(COMMANDS, `${command} ${JSON.stringify(args)}: the same keys and types`, async () => {
      const { node: ours, python: theirs } = await shapes(command, args);
      if (command === 'stats') {
        const { total: _, pool, ...rest } = ours as Record<string, Record<string, unknown>>;
        const { total: __, pool: theirPool, ...theirRest } = theirs as Record<string, Record<string, unknown>>;
        const newer = version === '5.2' ? ['implementation'] : [];
        expect(Object.keys(pool ?? {}).sort()).toEqual([...Object.keys(theirPool ?? {}), ...newer].sort());
        // What a URL does not say is null, and what the other broker has more is its own.
        expect(rest).toEqual({ ...theirRest, broker: expect.any(Object) as unknown });
        expect(Object.keys(rest['broker'] ?? {})).toEqual(
          expect.arrayContaining(['hostname', 'port', 'transport', 'virtual_host', 'userid', 'ssl', 'heartbeat']),
        );
      } else if (command === 'hello') {
        expect(Object.keys(ours as object).sort()).toEqual(Object.keys(theirs as object).sort());
      } else expect(ours).toEqual(theirs);
    });

  toNode(COMMANDS, 'conf has Celery’s names; secrets are masked', async () => {
    const { node: ours, python: theirs } = await shapes('conf', { with_defaults: true });
    const names = Object.keys(ours as object);
    expect(names).toEqual(
      expect.arrayContaining(['broker_url', 'result_backend', 'task_acks_late', 'worker_concurrency']),
    );
    const known = Object.keys(theirs as object);
    expect(names.filter((name) => !known.includes(name) && name !== 'task_acks_on_failure_or_timeout')).toEqual(
      version === '5.6' ? [] : ['worker_eta_task_limit'].filter((name) => names.includes(name)),
    );
  });

  toNode(REVOKES, 'a running task is shown as Python shows its own, and is stopped', async () => {
    const [a, b] = [
      await stage.python.send('node.wait', [1], {}, { queue: 'node' }),
      await stage.python.send('py.slow', [30], {}, { queue: 'python' }),
    ];
    const seen = async (): Promise<boolean> => {
      const replies = await ask('active');
      return (replies.node as unknown[]).length === 1 && (replies.python as unknown[]).length === 1;
    };
    await until('both run', 10_000, seen);
    const active = await shapes('active');
    expect(active.node).toEqual(active.python);
    const safe = await shapes('active', { safe: true });
    expect(safe.node).toEqual(safe.python);
    const { node: ours } = await ask('query_task', { ids: [a, b] });
    expect(ours).toEqual({
      [a]: [
        'active',
        expect.objectContaining({
          id: a,
          name: 'node.wait',
          args: [1],
          kwargs: {},
          hostname: NODE,
          acknowledged: true,
        }),
      ],
    });
    // Both stop at once; both are REVOKED.
    const replies = await ask('revoke', { task_id: [a, b], terminate: true });
    expect([replies.node, replies.python]).toEqual([{ ok: `terminate: ${a}` }, { ok: `terminate: ${b}` }]);
    await until('the handler has noticed', 5_000, () => waits.aborted.includes(a));
    await until('nothing runs', 10_000, async () => {
      const { node: left, python: right } = await ask('active');
      return (left as unknown[]).length === 0 && (right as unknown[]).length === 0;
    });
    expect([await stage.python.state(a), await stage.python.state(b)]).toEqual(['REVOKED', 'REVOKED']);
    await expect(stage.python.get(a)).resolves.toMatchObject({ ok: false, type: 'TaskRevokedError' });
  });

  toNode(REVOKES, 'a task that waits for its time is scheduled; revoked, it does not run', async () => {
    const [a, b] = [
      await stage.python.send('node.add', [1, 2], {}, { queue: 'node', countdown: 2 }),
      await stage.python.send('py.add', [1, 2], {}, { queue: 'python', countdown: 2 }),
    ];
    await until('both are scheduled', 5_000, async () => {
      const { node: ours, python: theirs } = await ask('scheduled');
      return (ours as unknown[]).length === 1 && (theirs as unknown[]).length === 1;
    });
    const scheduled = await shapes('scheduled');
    expect(scheduled.node).toEqual(scheduled.python);
    const settled = node.settled('node.add').catch(() => undefined);
    const replies = await ask('revoke', { task_id: [a, b] });
    expect(replies.node).toHaveProperty('ok');
    const { node: revoked } = await ask('revoked');
    expect(revoked).toEqual(expect.arrayContaining([a, b]));
    await until('both are REVOKED', 10_000, async () => {
      const states = [await stage.python.state(a), await stage.python.state(b)];
      return states.every((state) => state === 'REVOKED');
    });
    await until('the hold has ended', 10_000, async () => ((await ask('scheduled')).node as unknown[]).length === 0);
    expect(await Promise.race([settled, pause(50)])).toBeUndefined();
  });

  toNode(REVOKES, 'a revoke is stored at once, before any worker has seen the task', async () => {
    await ask('revoke', { task_id: 'not-sent-yet' });
    expect(await stage.python.state('not-sent-yet')).toBe('REVOKED');
  });

  toNode(
    'revoke by stamped headers',
    'stamps revoke what runs and what comes',
    async () => {
      const id = await stage.run(
        `
from celery.canvas import signature
made = app.signature('node.wait', args=[1], queue='node')
made.stamp(customer='acme')
result = made.apply_async(queue='node').id`,
      );
      await until('it runs', 10_000, async () => ((await ask('active')).node as unknown[]).length === 1);
      const reply = (await stage.python.control(
        'revoke_by_stamped_headers',
        { headers: { customer: ['acme'] }, terminate: true },
        {
          reply: true,
          timeout: 5,
          destination: [NODE],
        },
      )) as Replies[];
      expect(reply).toEqual([{ [NODE]: { ok: "headers {'customer': ['acme']} revoked" } }]);
      await until('it is REVOKED', 10_000, async () => (await stage.python.state(id as string)) === 'REVOKED');
    },
    { '5.2': 'Celery before 5.3 has no stamped headers' },
  );

  toNode(CHANGES, 'pool_grow and pool_shrink change how much runs at once', async () => {
    const total = async (): Promise<unknown> =>
      ((await ask('stats')).node as { pool: Record<string, unknown> }).pool['max-concurrency'];
    expect(await total()).toBe(4);
    expect((await ask('pool_grow', { n: 2 })).node).toEqual({ ok: 'pool will grow' });
    expect(await total()).toBe(6);
    const ids = await Promise.all(
      Array.from({ length: 6 }, () => stage.python.send('node.wait', [0], {}, { queue: 'node' })),
    );
    await until('six run', 10_000, () => node.worker.running.length === 6);
    expect((await ask('pool_shrink', { n: 2 })).node).toEqual({ ok: 'pool will shrink' });
    expect(await total()).toBe(4);
    await ask('revoke', { task_id: ids, terminate: true });
    await until('none runs', 10_000, () => node.worker.running.length === 0);
  });

  toNode(CHANGES, 'add_consumer and cancel_consumer change the queues', async () => {
    const one = { reply: true, timeout: 5, destination: [NODE] };
    const queue = stage.queue('more');
    expect(await stage.python.control('add_consumer', { queue }, one)).toEqual([
      { [NODE]: { ok: `add consumer ${queue}` } },
    ]);
    const names = async (): Promise<string[]> =>
      ((await ask('active_queues')).node as { name: string }[]).map(({ name }) => name);
    expect(await names()).toEqual(['node', queue]);
    const id = await stage.python.send('node.add', [2, 3], {}, { queue });
    expect(await stage.python.value(id)).toBe(5);
    await stage.python.control('cancel_consumer', { queue }, one);
    expect(await names()).toEqual(['node']);
    const left = await stage.python.send('node.add', [2, 3], {}, { queue });
    const after = await stage.python.send('node.add', [4, 5], {}, { queue: 'node' });
    expect(await stage.python.value(after)).toBe(9);
    expect(await stage.python.state(left)).toBe('PENDING');
  });

  toNode(CHANGES, 'rate_limit and time_limit count from now on', async () => {
    const one = { reply: true, timeout: 5, destination: [NODE] };
    await stage.python.control('rate_limit', { task_name: 'node.add', rate_limit: '6/m' }, one);
    const registered = (await ask('registered')).node as string[];
    expect(registered).toContain('node.add [rate_limit=6/m]');
    const [first, second] = [
      await stage.python.send('node.add', [1, 1], {}, { queue: 'node' }),
      await stage.python.send('node.add', [1, 2], {}, { queue: 'node' }),
    ];
    expect(await stage.python.value(first)).toBe(2);
    await until(
      'the second waits for its turn',
      5_000,
      async () => ((await ask('reserved')).node as unknown[]).length === 1,
    );
    await ask('revoke', { task_id: second });
    await stage.python.control('rate_limit', { task_name: 'node.add', rate_limit: 0 }, one);
    expect((await ask('registered')).node).toContain('node.add [rate_limit=0]');
    await stage.python.control('time_limit', { task_name: 'node.wait', hard: 0.3, soft: null }, one);
    const id = await stage.python.send('node.wait', [1], {}, { queue: 'node' });
    expect(await stage.python.get(id)).toMatchObject({ ok: false, type: 'TimeLimitExceeded' });
    await stage.python.control('time_limit', { task_name: 'node.wait' }, one);
  });

  describe('asked by Node', () => {
    let control: CeleryControl;
    beforeAll(() => {
      control = new CeleryControl({ ...stage.urls, acceptContent: ['json'] });
    });
    afterAll(() => control.close());

    const two = { limit: 2, timeoutMs: 10_000 } as const;

    toPython('CeleryControl', 'both answer', async () => {
      expect(Object.fromEntries(await control.ping(two))).toEqual({
        [NODE]: { ok: 'pong' },
        [PYTHON]: { ok: 'pong' },
      });
      const only = await control.ping({ destination: [PYTHON], timeoutMs: 10_000 });
      expect([...only.keys()]).toEqual([PYTHON]);
      const matched = await control.ping({ pattern: 'py*', timeoutMs: 10_000, limit: 1 });
      expect([...matched.keys()]).toEqual([PYTHON]);
      const stats = await control.stats(two);
      expect(stats.get(PYTHON)).toMatchObject({ pool: { 'max-concurrency': 2 } });
      expect((await control.registered([], two)).get(PYTHON)).toContain('py.add');
      expect((await control.call('nosuch', {}, two)).get(PYTHON)).toEqual({ error: "KeyError('nosuch')" });
    });

    toPython('CeleryControl', 'a running Python task is revoked', async () => {
      const id = await stage.python.send('py.slow', [60], {}, { queue: 'python' });
      await until('it runs', 10_000, async () => {
        const active = await control.active({ destination: [PYTHON], timeoutMs: 10_000 });
        return active.get(PYTHON)?.some((task) => task.id === id) === true;
      });
      const replies = await control.revoke(id, { terminate: true }, { destination: [PYTHON], timeoutMs: 10_000 });
      expect(replies.get(PYTHON)).toEqual({ ok: `terminate: ${id}` });
      await until('it is REVOKED', 10_000, async () => (await stage.python.state(id)) === 'REVOKED');
    });

    toPython('CeleryControl', 'nothing is left of whoever asked', async () => {
      const asking = new CeleryControl(stage.urls);
      await asking.ping({ limit: 2, timeoutMs: 10_000 });
      await asking.close();
      if (broker !== 'redis') return;
      await control.close();
      expect(await stage.store.keys('*reply.celery.pidbox')).toEqual([]);
    });
  });

  both('events of workers and tasks', 'events have the same keys and types, and a task’s come in order', async () => {
    await using events = new CeleryEvents(stage.urls);
    await events.open();
    const heard: HeardEvent[] = [];
    const reading = (async () => {
      for await (const event of events) heard.push(event);
    })();
    await ask('enable_events');
    const ids = [
      await stage.python.send('node.add', [1, 2], {}, { queue: 'node' }),
      await stage.python.send('py.fail', ['ValueError', "it's wrong"], {}, { queue: 'python' }),
      await stage.python.send('py.add', [1, 2], {}, { queue: 'python' }),
      await stage.python.send('node.fail', [], {}, { queue: 'node' }),
    ] as const;
    const of = (id: string): readonly HeardEvent[] => heard.filter((event) => event['uuid'] === id);
    await until('all have ended', 10_000, () => ids.every((id) => of(id).length === 3));
    const [nodeAdd, pyFail, pyAdd, nodeFail] = ids.map((id) =>
      of(id).toSorted((a, b) => Number(a['clock']) - Number(b['clock'])),
    );
    expect(nodeAdd?.map(({ type }) => type)).toEqual(['task-received', 'task-started', 'task-succeeded']);
    expect(nodeFail?.map(({ type }) => type)).toEqual(['task-received', 'task-started', 'task-failed']);
    for (const [ours, theirs] of [
      [nodeAdd, pyAdd],
      [nodeFail, pyFail],
    ] as const) {
      for (const [at, event] of (ours ?? []).entries())
        expect(Object.keys(event)).toEqual(Object.keys(theirs?.[at] ?? {}));
    }
    expect(nodeAdd?.[0]).toMatchObject({ name: 'node.add', args: '[1, 2]', kwargs: '{}', hostname: NODE, retries: 0 });
    expect(nodeAdd?.[2]).toMatchObject({ result: '3' });
    expect(nodeFail?.[2]).toMatchObject({ exception: `TypeError("it's wrong")` });
    await until('both have shown signs of life', 10_000, () =>
      [NODE, PYTHON].every((name) =>
        heard.some((event) => event.type === 'worker-heartbeat' && event['hostname'] === name && 'active' in event),
      ),
    );
    const [ours, theirs] = [NODE, PYTHON].map((name) =>
      heard.find((event) => event.type === 'worker-heartbeat' && event['hostname'] === name && 'active' in event),
    );
    expect(Object.keys(ours ?? {})).toEqual(Object.keys(theirs ?? {}));
    await ask('disable_events');
    await events.close();
    await reading;
  });

  if (version === '5.6' && broker === 'redis')
    toNode(PROGRAM, 'celery events --dump prints ours as theirs', async () => {
      await using dump = startCelery(version, stage.app, ['events', '--dump']);
      await until(
        'it listens',
        20_000,
        () => dump.output.includes('starting capture') && dump.output.includes(`${NODE} [`),
      );
      await ask('enable_events');
      const ids = [
        await stage.python.send('node.add', [1, 2], {}, { queue: 'node' }),
        await stage.python.send('py.add', [1, 2], {}, { queue: 'python' }),
      ];
      const lines = (id: string): readonly string[] => dump.output.split('\n').filter((line) => line.includes(id));
      await until('both have ended', 10_000, () =>
        ids.every((id) => lines(id).some((line) => line.includes('task succeeded'))),
      );
      const told = (line: string): readonly string[] =>
        [...line.matchAll(/(\w+)=/g)].map((match) => match[1] as string);
      expect(lines(ids[0] as string).map(told)).toEqual(lines(ids[1] as string).map(told));
      await ask('disable_events');
    });

  // The programs are the same whatever the broker, and slow to start: once is enough.
  if (version === '5.6' && broker === 'redis')
    describe('the real command line', () => {
      // Told whom it asks, the program ends when they have answered; else it waits for as long as it was told to.
      const ASKED = ['--json', '-t', '10', '-d', `${NODE},${PYTHON}`];
      const OK: Readonly<Record<string, readonly string[]>> = {
        status: ['status', '--json', '-t', '3'],
        'inspect, whoever is there': ['inspect', 'ping', '--json', '-t', '3'],
        'control, whoever is there': ['control', '--json', '-t', '3', 'heartbeat'],
        ...Object.fromEntries(
          [
            'active',
            'active_queues',
            'clock',
            'conf',
            'memdump',
            'memsample',
            'objgraph',
            'ping',
            'registered',
            'report',
            'reserved',
            'revoked',
            'scheduled',
            'stats',
          ].map((name) => [name, ['inspect', name, ...ASKED]]),
        ),
        query_task: ['inspect', 'query_task', ...ASKED, 'nobody'],
        ...Object.fromEntries(
          [
            ['rate_limit', 'both.add', '10/m'],
            ['time_limit', 'both.add', '1', '2'],
            ['revoke', 'x'],
            ['terminate', 'KILL', 'x'],
            ['revoke_by_stamped_headers', 'a=b'],
            ['enable_events'],
            ['disable_events'],
            ['heartbeat'],
            ['pool_grow', '1'],
            ['pool_shrink', '1'],
            ['pool_restart'],
            ['autoscale', '3', '1'],
            ['add_consumer', 'cli'],
            ['cancel_consumer', 'cli'],
          ].map(([name = '', ...args]) => [name, ['control', ...ASKED, name, ...args]]),
        ),
      };

      for (const name of Object.keys(OK))
        toNode(PROGRAM, `celery ${name}: both are in its answer`, async () => {
          const { code, stdout, stderr } = await runCelery(version, stage.app, OK[name] ?? []);
          expect({ code, stderr: code === 0 ? '' : stderr }).toEqual({ code: 0, stderr: '' });
          const line = stdout.split('\n').find((text) => text.startsWith('{') || text.startsWith('['));
          const parsed = JSON.parse(line ?? 'null') as Replies | Replies[];
          const replies = Array.isArray(parsed) ? (Object.assign({}, ...parsed) as Replies) : parsed;
          expect(Object.keys(replies).sort()).toEqual([NODE, PYTHON]);
        });

      toNode(PROGRAM, 'celery status says who is online', async () => {
        const { stdout } = await runCelery(version, stage.app, ['status', '-t', '3']);
        expect(stdout).toMatch(/node@test: +OK/);
        expect(stdout).toContain('2 nodes online.');
      });
    });

  if (broker === 'redis')
    describe('our command line', () => {
      async function jobglot(
        ...args: readonly string[]
      ): Promise<{ readonly code: number | null; readonly out: string; readonly err: string }> {
        const child = spawn(process.execPath, [
          join(root, 'dist/src/cli/index.js'),
          ...args,
          '--broker',
          stage.urls.broker,
        ]);
        let [out, err] = ['', ''];
        child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
        child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
        const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
        return { code, out, err };
      }

      toPython(OURS, 'inspect prints what workers answer', async () => {
        const { code, out } = await jobglot('inspect', 'celery', 'ping', '-t', '5');
        expect(code).toBe(0);
        expect(out).toContain(`-> ${PYTHON}: OK\n    pong`);
        expect(out).toContain('2 workers answered.');
      });

      toPython(OURS, '--json and --destination', async () => {
        const { code, out } = await jobglot('inspect', 'celery', 'registered', '-d', PYTHON, '--json', '-t', '5');
        expect(code).toBe(0);
        const replies = JSON.parse(out) as Replies;
        expect(Object.keys(replies)).toEqual([PYTHON]);
        expect(replies[PYTHON]).toContain('py.add');
      });

      toPython(OURS, 'a worker that is not there is a failure of its own', async () => {
        const { code, err } = await jobglot('inspect', 'celery', 'ping', '-d', 'nobody@nowhere', '-t', '0.3');
        expect(code).toBe(69);
        expect(err).toContain('No worker answered');
      });

      toPython(OURS, 'control tells, and an error is an exit code', async () => {
        const told = await jobglot('control', 'celery', 'rate_limit', 'py.add', '100/s', '-d', PYTHON, '-t', '5');
        expect(told).toMatchObject({ code: 0 });
        expect(told.out).toContain('new rate limit set successfully');
        const refused = await jobglot('control', 'celery', 'rate_limit', 'nope', '100/s', '-d', PYTHON, '-t', '5');
        expect(refused).toMatchObject({ code: 1 });
        expect(await jobglot('control', 'celery', 'nope')).toMatchObject({ code: 64 });
      });

      toPython(OURS, 'events prints lines of JSON', async () => {
        const { code, out } = await jobglot('events', 'celery', '--json', '--limit', '2');
        expect(code).toBe(0);
        for (const line of out.trim().split('\n'))
          expect(JSON.parse(line)).toMatchObject({ type: expect.stringMatching(/^worker-/) as string });
      });
    });
});

describe('alone on Redis', () => {
  const both = facts('celery-control-alone', { version: '5.6', broker: 'redis' }, 'both');
  const toNode = facts('celery-control-alone', { version: '5.6', broker: 'redis' }, 'Python → Node');
  let stage: Stage;
  beforeAll(async () => {
    stage = await Stage.start('5.6');
  });
  afterAll(() => stage[Symbol.asyncDispose]());

  both(
    'mingle: revoked ids at the start',
    'what was revoked before a worker of ours started, it learns from a Python worker',
    async () => {
      const python = await stage.worker({ hostname: 'teacher@test', queues: ['python'] });
      await stage.python.control('revoke', { task_id: 'learnt' }, { reply: true, timeout: 5, limit: 1 });
      await using node = await stage.node({ nodename: 'pupil@test', mingle: true });
      const replies = await stage.python.inspect('revoked', [], { timeout: 5, limit: 2 });
      expect(replies?.['pupil@test']).toContain('learnt');
      expect(node.worker.state).toBe('running');
      await python.stop();
    },
  );

  both(
    'mingle: revoked ids at the start',
    'what was revoked before a Python worker started, it learns from ours',
    async () => {
      await using _node = await stage.node({ nodename: 'teacher@test' });
      await stage.python.control('revoke', { task_id: 'taught' }, { reply: true, timeout: 5, limit: 1 });
      const options = { ...stage.app, hostname: 'pupil@test', queues: ['python'] };
      const { startPythonWorker } = await import('../support/python.ts');
      const python = await startPythonWorker('5.6', options);
      await until('it has learnt', 10_000, async () => {
        const replies = await stage.python.inspect('revoked', [], { timeout: 5, limit: 2 });
        return (replies?.['pupil@test'] as readonly string[] | undefined)?.includes('taught') === true;
      });
      expect(python.log()).not.toMatch(/mingle: sync with .* failed/);
      await python.stop();
    },
  );

  test('with revokedKey, revoked ids outlive every worker', async () => {
    const options = { brokerTransportOptions: { revokedKey: 'revoked-ids' } } as const;
    {
      await using _first = await stage.node({ nodename: 'first@test', ...options });
      await stage.python.control('revoke', { task_id: 'for-long' }, { reply: true, timeout: 5, limit: 1 });
    }
    expect(await stage.store.zscore('revoked-ids', 'for-long')).not.toBeNull();
    await using second = await stage.node({ nodename: 'second@test', ...options });
    await stage.python.send('node.add', [1, 2], {}, { queue: second.queue, task_id: 'for-long' });
    await expect(stage.python.get('for-long')).resolves.toMatchObject({ ok: false, type: 'TaskRevokedError' });
  });

  toNode('shutdown', 'shutdown stops a worker when its tasks are done, and it answers until then', async () => {
    const waits = new Waits();
    const node = await stage.node({ nodename: 'leaving@test', tasks: waits.tasks });
    const started = node.started('node.wait');
    const id = await stage.python.send('node.wait', [1], {}, { queue: node.queue });
    await started;
    await stage.python.control('shutdown', {}, { destination: ['leaving@test'] });
    await until('it stops', 5_000, () => node.worker.state !== 'running');
    const replies = await stage.python.inspect('active', [], { timeout: 5, limit: 1 });
    expect(replies?.['leaving@test']).toEqual([expect.objectContaining({ id })]);
    await stage.python.control('revoke', { task_id: id, terminate: true }, { reply: true, timeout: 5, limit: 1 });
    await until('it has stopped', 10_000, () => node.worker.state === 'stopped');
    expect(await stage.store.smembers('_kombu.binding.celery.pidbox')).not.toContainEqual(
      expect.stringContaining('leaving@test'),
    );
  });

  type Replies = Readonly<Record<string, unknown>>;

  toNode('control messages that cannot be read', 'whatever is sent to it, a worker goes on', async () => {
    // Alone: several of these end a Python worker.
    await using node = await stage.node({ nodename: NODE, gossip: true });
    const bodies = [
      '{',
      '[]',
      'null',
      '5',
      '""',
      '{}',
      '{"method": null}',
      '{"method": ["ping"]}',
      '{"method": {"a": 1}}',
      '{"method": "__proto__"}',
      '{"method": "constructor", "arguments": {}}',
      '{"method": "ping", "arguments": [1]}',
      '{"method": "ping", "arguments": {"__proto__": {"polluted": 1}, "constructor": 1}}',
      '{"method": "ping", "destination": 5}',
      '{"method": "ping", "destination": {"a": 1}}',
      '{"method": "ping", "reply_to": 5}',
      `{"method": "ping", "reply_to": {"exchange": "", "routing_key": "${node.queue}"}}`,
      '{"method": "ping", "reply_to": {"exchange": [], "routing_key": {}}}',
      '{"method": "ping", "pattern": "(((((a+)+)+)+)+)+$", "matcher": "pcre"}',
      '{"method": "ping", "pattern": "x", "matcher": "y"}',
      '{"method": "revoke", "arguments": {"task_id": {"a": [1]}}}',
      '{"method": "revoke", "arguments": {"task_id": 5}}',
      '{"method": "hello", "arguments": {"from_node": {}, "revoked": [[[]]]}}',
      '{"method": "hello", "arguments": {"from_node": "x", "revoked": {"__proto__": [1.5, "x"], "a": null}}}',
      '{"method": "rate_limit", "arguments": {"task_name": {}, "rate_limit": {}}}',
      '{"method": "pool_grow", "arguments": {"n": 1e300}}',
      '{"method": "pool_shrink", "arguments": {"n": -1e300}}',
      '{"method": "add_consumer", "arguments": {"queue": {}}}',
      '{"method": "add_consumer", "arguments": {"queue": "q", "exchange_type": "nope"}}',
      '{"method": "registered", "arguments": {"taskinfoitems": ["__proto__", "constructor", 5]}}',
      `{"method": "ping", "arguments": ${'['.repeat(5000)}${']'.repeat(5000)}}`,
      `{"method": "${'x'.repeat(200_000)}"}`,
    ];
    await stage.run(
      `
with app.connection_for_write() as connection:
    exchange = kombu.Exchange('celery.pidbox', type='fanout', durable=False)
    events = kombu.Exchange('celeryev', type='fanout' if connection.transport.driver_type == 'redis' else 'topic')
    producer = connection.Producer(auto_declare=False)
    for clock in (1, 'x', None, 2 ** 70, -1, []):
        producer.publish('{"method": "clock"}', exchange=exchange, declare=[exchange], content_type='application/json', content_encoding='utf-8', headers={'clock': clock} if clock != 2 ** 70 else {})
    for body in bodies:
        producer.publish(body, exchange=exchange, declare=[exchange], content_type='application/json', content_encoding='utf-8', headers={'clock': 1})
        producer.publish(body, exchange=events, routing_key='worker.heartbeat', declare=[events], content_type='application/json', content_encoding='utf-8')
    producer.publish(b'x', exchange=exchange, declare=[exchange], content_type='application/x-python-serialize', content_encoding='binary')`,
      { bodies },
    );
    const replies = (await stage.python.control(
      'ping',
      {},
      { reply: true, timeout: 10, destination: [NODE] },
    )) as Replies[];
    expect(replies).toEqual([{ [NODE]: { ok: 'pong' } }]);
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
    // A hostile clock must not have frozen ours.
    const clock = (await stage.python.control('clock', {}, { reply: true, timeout: 10, destination: [NODE] })) as [
      Record<string, { readonly clock: number }>,
    ];
    expect(clock[0][NODE]?.clock).toBeLessThan(1_000_000);
    const id = await stage.python.send('node.add', [1, 2], {}, { queue: node.queue });
    expect(await stage.python.value(id)).toBe(3);
    expect(await stage.store.llen(node.queue)).toBe(0);
  });

  both('task-sent', 'a client that is asked to tells of what it sends, as Python does', async () => {
    await using events = new CeleryEvents({ ...stage.urls, routingKey: 'task.#' });
    await events.open();
    const client = stage.client({ taskSendSentEvent: true, taskDefaultQueue: 'nobody' });
    const { id } = await client.enqueue('py.add', { args: [1, 2] });
    await client.close();
    const theirs = (await stage.run(
      `result = other(task_send_sent_event=True).send_task('py.add', [1, 2], queue='nobody').id`,
    )) as string;
    const heard: HeardEvent[] = [];
    for await (const event of events) if (heard.push(event) === 2) break;
    expect(heard.map((event) => [event.type, event['uuid']])).toEqual([
      ['task-sent', id],
      ['task-sent', theirs],
    ]);
    const [ours, python] = heard;
    expect(Object.keys(ours ?? {})).toEqual(Object.keys(python ?? {}));
    const same = ({
      name,
      args,
      kwargs,
      retries,
      eta,
      expires,
      queue,
      exchange,
      routing_key: key,
    }: Replies): unknown => ({
      ...{ name, args, kwargs, retries, eta, expires, queue, exchange, key },
    });
    expect({ ...(same(ours as Replies) as object), args: '' }).toEqual({
      ...(same(python as Replies) as object),
      args: '',
    });
    await stage.store.del('nobody');
  });

  test('a pool does not shrink to nothing', async () => {
    await using _node = await stage.node({ nodename: NODE });
    const options = { reply: true, timeout: 5, limit: 1 };
    expect(await stage.python.control('pool_shrink', { n: 100 }, options)).toEqual([
      { [NODE]: { error: `ValueError("Can't shrink pool. All processes busy!")` } },
    ]);
  });

  test('a worker without remote control hears nothing', async () => {
    await using _node = await stage.node({ nodename: 'deaf@test', workerEnableRemoteControl: false });
    expect(await stage.store.pubsub('NUMPAT')).toBe(0);
  });

  test('a broker without broadcasts is refused by name', () => {
    expect(() => new CeleryControl({ broker: 'filesystem:///tmp/x' })).toThrow(JobglotError);
  });
});
