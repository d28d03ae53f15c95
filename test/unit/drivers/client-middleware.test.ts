import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { afterEach, expect, test } from 'vitest';
import {
  celery,
  CeleryClient,
  type CeleryClientOptions,
  chain,
  chord,
  group,
  signature,
} from '../../../src/drivers/celery/index.ts';
import type { ClientEvents, ClientMiddleware } from '../../../src/client.ts';
import { Tasks, Worker, defineTask } from '../../../src/index.ts';

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

let count = 0;
function clientOf(options: Partial<CeleryClientOptions> = {}): { readonly client: CeleryClient; readonly url: string } {
  const url = `memory://client-middleware-${++count}`;
  const client = new CeleryClient({ broker: url, backend: url, ...options });
  open.push(client);
  return { client, url };
}

/** What a worker receives: task, arguments, headers of the sender, and whether it waits for a time. */
async function received(url: string, tasks: readonly string[], most: number): Promise<readonly unknown[]> {
  const jobs: unknown[] = [];
  let done: () => void = () => {};
  const all = new Promise<void>((resolve) => (done = resolve));
  const registry = new Tasks();
  for (const task of tasks)
    registry.handle(defineTask(task), ({ task: name, id, args, kwargs, queue }) => {
      jobs.push({ task: name, id, args, kwargs, queue });
      if (jobs.length === most) done();
      return args[0];
    });
  const worker = new Worker({
    tasks: registry,
    sources: [celery({ broker: url, backend: url, queues: ['celery', 'other'] })],
  });
  await worker.start();
  await all;
  await worker.stop();
  return jobs;
}

test('a middleware sees the call in neutral words and may change it', async () => {
  const seen: unknown[] = [];
  const { client, url } = clientOf({
    middleware: [
      (envelope, next) => {
        seen.push({ ...envelope });
        envelope.args = [1, 2];
        envelope.kwargs = { by: 'middleware' };
        envelope.queue = 'other';
        return next();
      },
    ],
  });
  const result = await client.enqueue('add', {
    args: ['x'],
    taskId: 'an-id',
    headers: { tenant: 'a' },
    priority: 3,
    expires: 60,
  });
  expect(result.id).toBe('an-id');
  expect(seen).toEqual([
    {
      system: 'celery',
      id: 'an-id',
      task: 'add',
      args: ['x'],
      kwargs: {},
      queue: undefined,
      at: undefined,
      headers: { tenant: 'a' },
      options: { priority: 3, expires: 60 },
    },
  ]);
  expect(await received(url, ['add'], 1)).toEqual([
    { task: 'add', id: 'an-id', args: [1, 2], kwargs: { by: 'middleware' }, queue: 'other' },
  ]);
});

test('the first middleware is the outermost; the id is known before anything is sent', async () => {
  const order: string[] = [];
  const layer =
    (name: string): ClientMiddleware =>
    async ({ id }, next) => {
      order.push(`${name} in ${id}`);
      const receipt = await next();
      order.push(`${name} out`);
      return receipt;
    };
  const { client } = clientOf({ middleware: [layer('a')] });
  client.use(layer('b'));
  await client.enqueue('add', { taskId: '1' });
  expect(order).toEqual(['a in 1', 'b in 1', 'b out', 'a out']);
});

test('a middleware that does not call next sends nothing', async () => {
  const { client } = clientOf({ middleware: [() => undefined] });
  const sent: unknown[] = [];
  client.events.on('job:enqueued', (event) => sent.push(event));
  await expect(client.enqueue('add')).rejects.toMatchObject({ name: 'NotEnqueuedError', code: 'not-enqueued' });
  expect(sent).toEqual([]);
});

test('what a middleware makes of a call is checked', async () => {
  const { client } = clientOf({
    middleware: [
      (envelope, next) => {
        envelope.args = 'ab' as unknown as [];
        return next();
      },
    ],
  });
  await expect(client.enqueue('add')).rejects.toThrow('celery: \'add\': args must be a list of arguments, not "ab"');
});

test('headers that a middleware adds are headers of the message', async () => {
  const { client } = clientOf({
    middleware: [
      (envelope, next) => {
        envelope.headers['traceparent'] = '00-1-2-01';
        return next();
      },
    ],
  });
  const sent: unknown[] = [];
  client.broker.publish = async (publications) => {
    for (const { headers } of publications) sent.push([headers.get('traceparent'), headers.get('tenant')]);
  };
  await client.enqueue('add', { headers: { tenant: 'a' } });
  await client.enqueueMany('add', [{}, { headers: { tenant: 'b' } }]);
  await client.apply(group([signature('add'), signature('add', [], { headers: { tenant: 'c' } })]));
  expect(sent).toEqual([
    ['00-1-2-01', 'a'],
    ['00-1-2-01', undefined],
    ['00-1-2-01', 'b'],
    ['00-1-2-01', undefined],
    ['00-1-2-01', 'c'],
  ]);
});

test('enqueueMany sends a batch in one call of the broker, with and without middleware', async () => {
  for (const middleware of [[], [(_: unknown, next: () => Promise<unknown>) => next()]]) {
    const { client } = clientOf({ middleware });
    const batches: number[] = [];
    client.broker.publish = async (publications) => {
      batches.push([...publications].length);
    };
    const results = await client.enqueueMany(
      'add',
      Array.from({ length: 5 }, (_, at) => ({ taskId: String(at) })),
      { batchSize: 2 },
    );
    expect(batches).toEqual([2, 2, 1]);
    expect(results.map(({ id }) => id)).toEqual(['0', '1', '2', '3', '4']);
  }
});

test('enqueueMany sends nothing where one call cannot be', async () => {
  const { client } = clientOf();
  let published = 0;
  client.broker.publish = async () => {
    published++;
  };
  const calls = [{}, { queue: '' }];
  await expect(client.enqueueMany('add', calls, { batchSize: 1 })).rejects.toThrow(
    "celery: 'add': queue must be a text that is not empty",
  );
  await expect(client.enqueueMany('add', [{}], { batchSize: 0 })).rejects.toThrow(
    'batchSize must be a whole number, 1 or more, not 0',
  );
  expect(published).toBe(0);
});

test('job:enqueued is told of each task that the broker has, also on the diagnostics channel', async () => {
  const { client } = clientOf({ taskRoutes: { far: 'far-away' } });
  const events: ClientEvents['job:enqueued'][] = [];
  const shared: unknown[] = [];
  const listener = (event: unknown): void => void shared.push(event);
  client.events.on('job:enqueued', (event) => events.push(event));
  subscribe('jobglot:job:enqueued', listener);
  const at = new Date('2030-01-01T00:00:00.000Z');
  await client.enqueue('far', { taskId: '1', eta: at });
  await client.enqueueMany('add', [{ taskId: '2' }]);
  await client.apply(chain(signature('add', [], { taskId: '3' }), signature('add', [], { taskId: '4' })));
  unsubscribe('jobglot:job:enqueued', listener);
  expect(events).toEqual([
    { system: 'celery', id: '1', task: 'far', queue: 'far-away', at },
    { system: 'celery', id: '2', task: 'add', queue: 'celery', at: undefined },
    { system: 'celery', id: '3', task: 'add', queue: 'celery', at: undefined },
  ]);
  expect(shared).toEqual(events);
});

test('a workflow passes the middleware task by task, and comes to its result', async () => {
  const seen: string[] = [];
  const { client, url } = clientOf({
    middleware: [
      (envelope, next) => {
        seen.push(`${envelope.task} ${JSON.stringify(envelope.args)}`);
        if (envelope.args[0] === 2) envelope.args = [20];
        return next();
      },
    ],
  });
  const result = await client.apply(chord(group([signature('echo', [1]), signature('echo', [2])]), signature('sum')));
  const registry = new Tasks()
    .handle(defineTask<(x: number) => number>('echo'), ({ args: [x] }) => x)
    .handle(defineTask<(x: number[]) => number>('sum'), ({ args: [all] }) => all.reduce((a, b) => a + b, 0));
  const worker = new Worker({ tasks: registry, sources: [celery({ broker: url, backend: url })] });
  await worker.start();
  expect(await result.get({ timeoutMs: 10_000 })).toBe(21);
  await worker.stop();
  expect(seen).toEqual(['echo [1]', 'echo [2]']);
});

test('a middleware that refuses a member of a group rejects the workflow', async () => {
  const { client } = clientOf({
    middleware: [(envelope, next) => (envelope.args[0] === 2 ? undefined : next())],
  });
  const workflow = group([signature('echo', [1]), signature('echo', [2])]);
  await expect(client.apply(workflow)).rejects.toThrow("celery: 'echo' was not enqueued");
});
