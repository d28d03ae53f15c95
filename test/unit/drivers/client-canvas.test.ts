import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import {
  type AnySignature,
  AsyncResult,
  celery,
  CeleryClient,
  type CeleryClientOptions,
  chain,
  chord,
  chunks,
  group,
  GroupResult,
  signature,
  xmap,
  xstarmap,
} from '../../../src/drivers/celery/index.ts';
import { MemoryBroker } from '../../../src/drivers/celery/brokers/memory.ts';
import { ConfigError, ConnectionError, ResultTimeoutError, WireError } from '../../../src/errors.ts';
import { defineTask, Tasks } from '../../../src/task.ts';
import { Worker } from '../../../src/worker/worker.ts';

const add = defineTask<(x: number, y: number) => number>('add');
const sum = defineTask<(xs: readonly number[]) => number>('sum');
const fail = defineTask<(message: string) => never>('fail');
const PATIENCE = { timeoutMs: 20_000 };

const ends: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

function clientOf(options: Partial<CeleryClientOptions> = {}): { client: CeleryClient; app: CeleryClientOptions } {
  const name = randomUUID();
  const app = { broker: `memory://${name}`, backend: `memory://${name}`, ...options };
  const client = new CeleryClient(app);
  ends.push(() => client.close());
  return { client, app };
}

async function running(options: Partial<CeleryClientOptions> = {}): Promise<CeleryClient> {
  const { client, app } = clientOf(options);
  const tasks = new Tasks()
    .handle(add, ({ args: [x, y] }) => x + y)
    .handle(sum, ({ args: [xs] }) => xs.reduce((a, b) => a + b, 0))
    .handle(fail, ({ args: [message] }) => {
      throw new RangeError(message);
    });
  const worker = new Worker({ tasks, sources: [celery(app)] });
  await worker.start();
  ends.push(() => worker.stop());
  return client;
}

describe('a workflow of a client and a worker without Python', () => {
  test('a chain comes to the result of its last step', async () => {
    const client = await running();
    const result = await client.apply(chain(signature(add, [1, 2]), signature(add, [10]), signature(add, [100])));
    expect(await result.get(PATIENCE)).toBe(113);
    expect(await (result.parent as AsyncResult).get(PATIENCE)).toBe(13);
  });

  test('a group comes to the results of its members, and chunks to those of their parts', async () => {
    const client = await running();
    const members = await client.apply(group([1, 2, 3].map((n) => signature(add, [n, n]))));
    expect(await members.get(PATIENCE)).toEqual([2, 4, 6]);
    expect([...members].map(({ id }) => id)).toEqual(members.results.map(({ id }) => id));
    const parts = await client.apply(chunks(add, [[1, 1], [2, 2], [3, 3]], 2)); // prettier-ignore
    expect(await parts.get(PATIENCE)).toEqual([[2, 4], [6]]);
  });

  test('a map comes to the list of its results', async () => {
    const client = await running();
    expect(await (await client.apply(xmap(sum, [[1, 2], [3]]))).get(PATIENCE)).toEqual([3, 3]);
    expect(await (await client.apply(xstarmap(add, [[1, 2], [3, 4]]))).get(PATIENCE)).toEqual([3, 7]); // prettier-ignore
  });

  test.each(['memory', 'file'] as const)(
    'a chord is completed, with results in %s, which counts none',
    async (kind) => {
      const folder = await mkdtemp(join(tmpdir(), 'jobglot-canvas-'));
      ends.push(() => rm(folder, { recursive: true, force: true }));
      const client = await running(kind === 'file' ? { backend: `file://${folder}` } : {});
      const result = await client.apply(chord([signature(add, [1, 2]), signature(add, [3, 4])], signature(sum)));
      expect(await result.get(PATIENCE)).toBe(10);
      expect(await (result.parent as GroupResult).get(PATIENCE)).toEqual([3, 7]);
    },
  );

  test('a chord without members is its body with an empty list', async () => {
    const client = await running();
    expect(await (await client.apply(chord([], signature(sum)))).get(PATIENCE)).toBe(0);
  });

  test('a group without members is there at once', async () => {
    const { client } = clientOf();
    const empty = await client.apply(group());
    expect(await empty.get()).toEqual([]);
    expect(await empty.ready()).toBe(true);
  });

  test('a chain without steps has no result to wait for', async () => {
    const { client } = clientOf();
    await expect(client.apply(chain())).rejects.toThrow(ConfigError);
  });

  test('results are kept where they are collected: the tree stops at what failed', async () => {
    const client = await running();
    const failing = chain(signature(add, [1, 2]), signature(fail.name, ['no'])) as AnySignature;
    const result = (await client.apply(failing)) as AsyncResult;
    await expect(result.get(PATIENCE)).rejects.toMatchObject({ type: 'ValueError' });
    const seen: unknown[] = [];
    const collected = async (): Promise<void> => {
      for await (const [, value] of (result.parent as AsyncResult).collect(PATIENCE)) seen.push(value);
    };
    await expect(collected()).rejects.toMatchObject({ type: 'ValueError' });
    expect(seen).toEqual([3]);
  });

  test('a saved group is found again with what went before its members', async () => {
    const client = await running();
    const result = await client.apply(
      group(chain(signature(add, [1, 2]), signature(add, [3])), signature(add, [1, 1])),
    );
    await result.save();
    const found = await client.group<[number, number]>(result.id);
    expect(await found?.get(PATIENCE)).toEqual([6, 2]);
    expect(await found?.results[0]?.parent?.get(PATIENCE)).toBe(3);
    await found?.forget();
    expect(await found?.states()).toEqual(['PENDING', 'PENDING']);
  });
});

describe('a workflow that nobody runs', () => {
  test('a group says which of its members is missing', async () => {
    const { client } = clientOf();
    const result = await client.apply(group(signature(add, [1, 1]), signature(add, [2, 2])));
    const error = await result.get({ timeoutMs: 20 }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ResultTimeoutError);
    expect(error).toMatchObject({ message: expect.stringContaining(result.results[0]?.id as string) });
  });

  test('a group cannot be linked to as a whole', async () => {
    const { client } = clientOf();
    const members = group(signature(add, [1, 1]));
    await expect(client.apply(members, { link: signature(sum) })).rejects.toThrow(ConfigError);
  });

  test('a chord needs a result backend', async () => {
    const { client } = clientOf({ backend: 'disabled://' });
    const counted = chord([signature(add, [1, 1])], signature(sum));
    await expect(client.apply(counted)).rejects.toMatchObject({ code: 'no-chords' });
  });

  test('what is no signature is refused, and nothing is sent', async () => {
    const { client, app } = clientOf();
    const broken = { ...signature(add, [1, 1]), task: '' };
    expect(() => chain(broken, signature(sum.name))).toThrow(WireError);
    await expect(client.apply(broken)).rejects.toMatchObject({ code: 'bad-signature' });
    expect(new MemoryBroker((app.broker as string).slice('memory://'.length)).size('celery')).toBe(0);
  });

  test('a router sees the arguments, and a priority of its own wins over that of a route', async () => {
    const name = randomUUID();
    const broker = new MemoryBroker(name);
    await broker.consume([{ name: 'even' }, { name: 'odd' }]);
    const { client } = clientOf({
      broker,
      taskRoutes: (_task, args) => ({ queue: (args[0] as number) % 2 === 0 ? 'even' : 'odd', priority: 3 }),
    });
    await client.apply(group(signature(add, [1, 1]), signature(add, [2, 2]), signature(add, [3, 3], { priority: 6 })));
    expect([broker.size('even'), broker.size('odd')]).toEqual([1, 2]);
    const claims = await broker.receive(3, new AbortController().signal);
    const priorities = claims.map(({ message }) => message?.properties['priority']);
    expect(priorities.toSorted()).toEqual([3, 3, 6]);
  });

  test('what is sent again after a broken connection has the same ids', async () => {
    const sent: string[][] = [];
    const broker = new (class extends MemoryBroker {
      override async publish(publications: Parameters<MemoryBroker['publish']>[0]): Promise<void> {
        sent.push([...publications].map(({ properties }) => String(properties.get('correlation_id'))));
        if (sent.length === 1) throw new ConnectionError('gone');
      }
    })(randomUUID());
    const { client } = clientOf({ broker });
    const result = await client.apply(group(signature(add, [1, 1]), signature(add, [2, 2])));
    expect(sent).toHaveLength(2);
    expect(sent[1]).toEqual(sent[0]);
    expect(sent[0]).toEqual(result.results.map(({ id }) => id));
  });
});
