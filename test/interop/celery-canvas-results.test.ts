import { afterAll, beforeAll, describe, expect } from 'vitest';
import {
  type AnyResult,
  AsyncResult,
  type CeleryClient,
  chain,
  chord,
  group,
  GroupResult,
  immutable,
  link,
  signature,
  stamp,
} from '../../src/drivers/celery/index.ts';
import { RemoteError, ResultTimeoutError } from '../../src/errors.ts';
import { defineTask } from '../../src/task.ts';
import type { PythonWorker } from '../support/python.ts';
import { PATIENCE_MS } from '../support/until.ts';
import { type NodeWorker, Stage, until } from './support/stage.ts';
import { facts, type Lacks, SETTINGS } from './support/table.ts';

const NO_STAMPS: Lacks = { '5.2': 'Celery before 5.3 has no stamped headers' };

const pyAdd = defineTask<(x: number, y: number) => number>('py.add');
const nodeMul = defineTask<(x: number, y: number) => number>('node.mul');
const nodeAdd = defineTask<(x: number, y: number) => number>('node.add');
const pySum = defineTask<(numbers: readonly number[]) => number>('py.tsum');
const pyFail = defineTask<(type: string, message: string) => never>('py.fail');
const pyStamps = defineTask<() => [string[], object]>('py.stamps');

const PY = { queue: 'python' };
const NODE = { queue: 'node' };
const PATIENCE = { timeoutMs: PATIENCE_MS };

describe.each(SETTINGS)('results of workflows of Celery $version over $broker', ({ version, broker }) => {
  const fact = facts('celery-canvas-results', { version, broker }, 'both');
  let stage: Stage;
  let python: PythonWorker;
  let node: NodeWorker;
  let client: CeleryClient;

  beforeAll(async () => {
    stage = await Stage.start(version, { result_extended: true }, { broker });
    python = await stage.worker({ queues: ['python', 'celery'] });
    node = await stage.node({ queues: ['node'], resultExtended: true });
    client = stage.client();
  });
  afterAll(async () => {
    await client.close();
    await node[Symbol.asyncDispose]();
    await python.kill();
    await stage[Symbol.asyncDispose]();
  });

  const idOf = (result: AnyResult | undefined): string => (result as AnyResult).id;

  fact('results of workflows', 'a result knows what went before it, and Python reads each by its id', async () => {
    const result = await client.apply(
      chain(signature(pyAdd, [1, 2], PY), signature(nodeMul, [10], NODE), signature(pyAdd, [5], PY)),
    );
    expect(await result.get(PATIENCE)).toBe(35);
    const middle = result.parent as AsyncResult;
    const first = middle.parent as AsyncResult;
    expect(first.parent).toBeUndefined();
    expect([await middle.get(), await first.get()]).toEqual([30, 3]);
    expect(await Promise.all([result, middle, first].map(({ id }) => stage.python.value(id)))).toEqual([35, 30, 3]);
    const meta = await stage.python.meta(result.id);
    expect(meta).toMatchObject({ parent_id: middle.id });
  });

  fact('results of workflows', 'what followed is found level by level, from the first task on', async () => {
    const last = await client.apply(
      chain(signature(pyAdd, [1, 2], { ...PY, link: signature(nodeAdd, [7], NODE) }), signature(nodeMul, [10], NODE)),
    );
    await last.get(PATIENCE);
    const first = last.parent as AsyncResult;
    await until('both children are known', async () => (await first.children()).length === 2);
    const seen: unknown[] = [];
    for await (const [, value] of first.collect(PATIENCE)) seen.push(value);
    expect(seen[0]).toBe(3);
    expect(seen.slice(1).sort()).toEqual([10, 30]);
    expect((await stage.python.children(first.id)).toSorted()).toEqual(
      (await first.children()).map(({ id }) => id).toSorted(),
    );
  });

  fact('results of workflows', 'the body of a chord comes after its header', async () => {
    const result = await client.apply(
      chord([signature(pyAdd, [1, 2], PY), signature(nodeMul, [3, 4], NODE)], signature(pySum, [], PY)),
    );
    expect(await result.get(PATIENCE)).toBe(15);
    const header = result.parent as GroupResult;
    expect(header).toBeInstanceOf(GroupResult);
    expect(await header.get(PATIENCE)).toEqual([3, 12]);
    expect(await stage.python.meta(idOf(header.results[0]))).toMatchObject({ group_id: header.id });
  });

  fact('results of workflows', 'a group tells how far it is, and gives its results in their order', async () => {
    const result = await client.apply(
      group(
        signature(pyAdd, [1, 2], PY),
        chain(signature(nodeAdd, [1, 1], NODE), group(signature(nodeMul, [2], NODE), signature(pyAdd, [2], PY))),
      ),
    );
    expect(await result.get(PATIENCE)).toEqual([3, [4, 4]]);
    expect(await Promise.all([result.ready(), result.successful(), result.failed(), result.waiting()])).toEqual([
      true,
      true,
      false,
      false,
    ]);
    expect(await result.completedCount()).toBe(3);
    const waits = await client.apply(
      group(signature(pyAdd, [1, 2], PY), signature('py.add', [1, 2], { queue: 'nobody' })),
    );
    await (waits.results[0] as AsyncResult).get(PATIENCE);
    expect([await waits.ready(), await waits.waiting(), await waits.completedCount()]).toEqual([false, true, 1]);
    expect(await waits.states()).toEqual(['SUCCESS', 'PENDING']);
    await expect(waits.get({ timeoutMs: 20 })).rejects.toThrow(ResultTimeoutError);
    const reason = new Error('enough');
    await expect(waits.get({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });

  fact(
    'results of workflows',
    'a group fails with its first member that does, without waiting for others',
    async () => {
      const result = await client.apply(
        group(signature('py.add', [1, 2], { queue: 'nobody' }), signature(pyFail, ['KeyError', 'k'], PY)),
      );
      await expect(result.get(PATIENCE)).rejects.toMatchObject({ type: 'KeyError', args: ['k'] });
      expect(await result.failed()).toBe(true);
      expect(await result.successful()).toBe(false);
    },
  );

  fact('results of workflows', 'a group that Node saves is restored in Python, and the reverse', async () => {
    const ours = await client.apply(
      group(
        signature(pyAdd, [1, 2], PY),
        chain(signature(nodeAdd, [1, 1], NODE), group(signature(nodeMul, [2], NODE), signature(pyAdd, [2], PY))),
      ),
    );
    await ours.save();
    const source = `
restored = celery.result.GroupResult.restore(id, app=app)
result = [restored.id, restored.get(timeout=10), restored.children[1].parent.get(timeout=10)]`;
    expect(await stage.run(source, { id: ours.id })).toEqual([ours.id, [3, [4, 4]], 2]);

    const saved = `
made = celery.group(
    app.signature('py.add', (1, 2), queue='python'),
    celery.chain(app.signature('node.add', (1, 1), queue='node'), app.signature('node.mul', (5,), queue='node')),
).apply_async()
made.save()
result = made.id`;
    const theirs = await client.group<[number, number]>((await stage.run(saved)) as string);
    expect(await theirs?.get(PATIENCE)).toEqual([3, 10]);
    expect(await theirs?.results[1]?.parent?.get(PATIENCE)).toBe(2);
    expect(await client.group('no-such-group')).toBeUndefined();
  });

  fact(
    'stamps',
    'stamps are seen by Python workers, and in results with everything about the task',
    async () => {
      const result = await client.apply(
        stamp(
          stamp(chain(signature(nodeAdd, [1, 2], NODE), immutable(signature(pyStamps, [], PY))), { tenant: 'acme' }),
          { tenant: 'best', build: [1, 2] },
          { append: true },
        ),
      );
      const [names, stamps] = await result.get(PATIENCE);
      expect(names.toSorted()).toEqual(['build', 'tenant']);
      expect(stamps).toEqual({ tenant: ['best', 'acme'], build: [1, 2] });
      for (const id of [result.id, idOf(result.parent)]) {
        // What follows a task is sent before its result is stored.
        await until('its result is stored', async () => (await stage.python.meta(id))['status'] === 'SUCCESS');
        const meta = await stage.python.meta(id);
        expect((meta['stamped_headers'] as string[]).toSorted()).toEqual(['build', 'tenant']);
        expect(meta).toMatchObject({ tenant: ['best', 'acme'], build: [1, 2] });
      }
      // Whom else a stamped task brings along.
      const linked = await client.apply(
        stamp(link(signature(nodeAdd, [1, 2], NODE), immutable(signature(pyStamps, [], PY))), { tenant: 'acme' }),
      );
      await until('the callback is known', async () => (await linked.children()).length === 1);
      const [callback] = await linked.children();
      expect(await callback?.get(PATIENCE)).toEqual([['tenant'], { tenant: 'acme' }]);
    },
    NO_STAMPS,
  );

  fact('revoke', 'a workflow is revoked with all that goes before its end', async () => {
    const later = { countdown: 3 };
    const result = await client.apply(
      chain(
        group(signature(pyAdd, [1, 2], { ...PY, ...later }), signature(nodeAdd, [1, 2], { ...NODE, ...later })),
        signature(pySum, [], PY),
      ),
    );
    await result.revoke({ ancestors: true });
    const header = result.parent as GroupResult;
    for (const member of header) {
      const error = await member.get(PATIENCE).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(RemoteError);
      expect(error).toMatchObject({ type: 'TaskRevokedError', args: ['revoked'] });
    }
  });
});

describe('results of workflows of Celery 5.6 over rpc', () => {
  const fact = facts('celery-canvas-results-rpc', { version: '5.6', broker: 'amqp' }, 'Node → Python');
  let stage: Stage;
  let python: PythonWorker;
  let client: CeleryClient;

  beforeAll(async () => {
    stage = await Stage.start('5.6', {}, { broker: 'amqp', results: 'rpc' });
    python = await stage.worker({ queues: ['python'] });
    client = stage.client();
  });
  afterAll(async () => {
    await client.close();
    await python.kill();
    await stage[Symbol.asyncDispose]();
  });

  fact('results of workflows', 'over rpc the client hears of every step and of every member', async () => {
    const steps = await client.apply(chain(signature(pyAdd, [1, 2], PY), signature(pyAdd, [10], PY)));
    expect(await steps.get(PATIENCE)).toBe(13);
    expect(await steps.parent?.get(PATIENCE)).toBe(3);
    const members = await client.apply(group(signature(pyAdd, [1, 2], PY), signature(pyAdd, [3, 4], PY)));
    expect(await members.get(PATIENCE)).toEqual([3, 7]);
    expect(await members.completedCount()).toBe(2);
  });

  fact('results of workflows', 'over rpc there are no chords and no saved groups, and both are refused', async () => {
    const members = group(signature(pyAdd, [1, 2], PY), signature(pyAdd, [3, 4], PY));
    await expect(client.apply(chord(members, signature(pySum, [], PY)))).rejects.toMatchObject({ code: 'no-chords' });
    await expect(client.apply(chain(members, signature(pySum, [], PY)))).rejects.toThrow(
      'chords need a result backend',
    );
    const result = await client.apply(members);
    await expect(result.save()).rejects.toThrow('rpc:// keeps no groups');
    expect(await stage.waiting('python')).toBe(0);
  });
});
