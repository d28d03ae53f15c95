import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect } from 'vitest';
import { type CeleryClient } from '../../src/drivers/celery/index.ts';
import { temporaryFolder } from '../support/folder.ts';
import type { PythonCanvas, PythonWorker } from '../support/python.ts';
import { PATIENCE_MS } from '../support/until.ts';
import { type NodeWorker, Stage, until } from './support/stage.ts';
import { BETWEEN, facts, type Lacks, SETTINGS } from './support/table.ts';

const NO_STAMPS: Lacks = { '5.2': 'Celery before 5.3 has no stamped headers' };

describe.each([...SETTINGS, BETWEEN])(
  'canvas of Celery $version over Python and Node workers on $broker',
  ({ version, broker }) => {
    const fact = facts('celery-canvas', { version, broker }, 'both');
    let stage: Stage;
    let python: PythonWorker;
    let node: NodeWorker;
    let client: CeleryClient;
    let folder: string;

    beforeAll(async () => {
      stage = await Stage.start(version, {}, { broker });
      python = await stage.worker({ queues: ['python'] });
      node = await stage.node({ queues: ['node'], exceptions: { OutOfStock: 'app.OutOfStock' } });
      client = stage.client();
      folder = temporaryFolder('jobglot-interop-');
    });
    afterEach(async () => {
      // What was seen of a test may not be the last of its tasks.
      await until('nothing waits and nothing is held', async () => {
        for (const queue of ['python', 'node', 'celery']) if ((await stage.waiting(queue)) > 0) return false;
        return (await stage.unacked()) === 0;
      });
    });
    afterAll(async () => {
      rmSync(folder, { recursive: true, force: true });
      await client.close();
      await node[Symbol.asyncDispose]();
      await python.kill();
      await stage[Symbol.asyncDispose]();
    });

    /** A step for the Python worker, or for the Node worker: each has its own queue and its own names. */
    function step(name: `${'py' | 'node'}.${string}`, args: readonly unknown[] = [], more: object = {}): PythonCanvas {
      const { options = {}, ...rest } = more as { options?: object };
      return { task: name, args, options: { queue: name.startsWith('py.') ? 'python' : 'node', ...options }, ...rest };
    }

    fact('chain', 'Python, Node, Python: each gets what the one before returned', async () => {
      const { id, parents } = await stage.python.apply({
        chain: [step('py.add', [1, 2]), step('node.mul', [10]), step('py.add', [5])],
      });
      expect(await stage.python.value(id)).toBe(35);
      const [middle, first] = parents as [string, string];
      expect(await stage.python.value(middle)).toBe(30);
      expect(await stage.python.children(first)).toEqual([middle]);
      expect(await stage.python.children(middle)).toEqual([id]);
      expect(await stage.python.meta(middle)).toMatchObject({ parent_id: first });
      expect(await stage.python.meta(id)).toMatchObject({ parent_id: middle });
    });

    fact('chain', 'Node, Python, Node: big integers pass unharmed', async () => {
      const { id, parents } = await stage.python.apply({
        chain: [step('node.add', [2n ** 60n, 1]), step('py.add', [1]), step('node.add', [1]), step('py.describe')],
      });
      expect(await stage.python.value(id)).toEqual([[`int: ${2n ** 60n + 3n}`], {}]);
      expect(parents).toHaveLength(3);
    });

    fact('chain', 'an immutable step gets nothing of the one before', async () => {
      const { id } = await stage.python.apply({
        chain: [step('node.add', [1, 2]), step('py.echo', ['own'], { immutable: true }), step('node.echo')],
      });
      expect(await stage.python.value(id)).toEqual([[[['own'], {}]], {}]);
    });

    fact('chain', 'a step that fails in Node fails every later step', async () => {
      const { id, parents } = await stage.python.apply({
        chain: [
          step('py.add', [1, 2]),
          step('node.fail', ['x'], { immutable: true, args: ['OutOfStock', 'no'] }),
          step('py.add', [1]),
          step('node.add', [1]),
        ],
      });
      for (const later of [id, ...parents.slice(0, 2)]) {
        expect(await stage.python.get(later)).toMatchObject({
          ok: false,
          state: 'FAILURE',
          type: 'OutOfStock',
          module: 'app',
          args: ['no'],
        });
      }
      expect(await stage.python.value(parents[2] as string)).toBe(3);
    });

    fact('chain', 'a step that fails in Python fails every later step, also those of Node', async () => {
      const { id, parents } = await stage.python.apply({
        chain: [
          step('node.add', [1, 2]),
          step('py.fail', ['ValueError', 'no'], { immutable: true }),
          step('node.add', [1]),
        ],
      });
      expect(await stage.python.get(id)).toMatchObject({ ok: false, state: 'FAILURE', type: 'ValueError' });
      expect(await stage.python.get(parents[0] as string)).toMatchObject({ ok: false, type: 'ValueError' });
      await expect(client.result(id).get({ timeoutMs: PATIENCE_MS })).rejects.toMatchObject({
        type: 'ValueError',
        args: ['no'],
      });
    });

    fact('chain', 'a step that is retried in the middle keeps the rest of the chain', async () => {
      const { id } = await stage.python.apply({
        chain: [
          step('py.value', ['0.05']),
          step('node.retry_twice'),
          step('py.retry_twice', [0.05], { immutable: true }),
          step('node.add', [40]),
        ],
      });
      expect(await stage.python.value(id)).toBe(42);
    });

    fact('chain', 'countdown, priority and headers of a step are kept by the worker before it', async () => {
      const start = Date.now();
      const { id } = await stage.python.apply({
        chain: [
          step('node.add', [1, 2]),
          step('py.context', [], {
            immutable: true,
            options: { countdown: 0.4, priority: 6, headers: { x_tenant: 'acme' } },
          }),
        ],
      });
      const context = (await stage.python.value(id)) as Record<string, unknown>;
      expect(Date.now() - start).toBeGreaterThanOrEqual(390);
      expect(context).toMatchObject({
        x_tenant: 'acme',
        delivery_info: { priority: 6, routing_key: 'python' },
        retries: 0,
      });
      expect(context['eta']).toMatch(/\+00:00$/);
    });

    fact('link', 'one link and several are called with the result, by Node for Python and the reverse', async () => {
      for (const [first, second] of [
        ['node', 'py'],
        ['py', 'node'],
      ] as const) {
        for (const count of [1, 3]) {
          const ids = Array.from({ length: count }, (_, n) => `linked-${version}-${first}-${count}-${n}`);
          const { id } = await stage.python.apply({
            ...step(`${first}.add`, [1, 2]),
            link: ids.map((task_id, n) => step(`${second}.add`, [10 * n], { options: { task_id } })),
          } as PythonCanvas);
          // Before the parent: Celery tells one AsyncResult of an id, and reading the parent makes one of each child of a group.
          for (const [n, linked] of ids.entries()) expect(await stage.python.value(linked)).toBe(3 + 10 * n);
          expect(await stage.python.value(id)).toBe(3);
          expect((await stage.python.meta(ids[0] as string))['parent_id']).toBe(id);
          const children = await stage.python.children(id);
          expect(children).toHaveLength(1);
          if (count === 1) expect(children).toEqual(ids);
        }
      }
    });

    fact('link', 'a link has a link of its own, and may be a chain', async () => {
      const ends = [`end-link-${version}`, `end-chain-${version}`];
      await stage.python.apply({
        ...step('node.add', [1, 2]),
        link: [
          { ...step('py.add', [1]), link: [step('node.add', [1], { options: { task_id: ends[0] } })] },
          {
            chain: [step('py.mul', [2]), step('node.mul', [2]), step('py.mul', [2], { options: { task_id: ends[1] } })],
          },
        ],
      } as PythonCanvas);
      expect(await stage.python.value(ends[0] as string)).toBe(5);
      expect(await stage.python.value(ends[1] as string)).toBe(24);
    });

    fact('errback', 'Node calls an errback of Python with the failed id, and Python one of Node', async () => {
      for (const [first, second] of [
        ['node', 'py'],
        ['py', 'node'],
      ] as const) {
        const told = `told-${version}-${first}`;
        const { id } = await stage.python.apply({
          ...step(`${first}.fail`, ['ValueError', 'no']),
          link_error: [step(`${second}.echo`, ['more'], { options: { task_id: told } })],
        } as PythonCanvas);
        expect(await stage.python.get(id)).toMatchObject({ ok: false, type: 'ValueError' });
        expect(await stage.python.value(told)).toEqual([[id, 'more'], {}]);
        expect(await stage.python.meta(told)).toMatchObject({ parent_id: id });
      }
    });

    fact('errback', 'the errback of a chain is called once, for the step that failed', async () => {
      const path = join(folder, `errback-${version}`);
      const { id, parents } = await stage.python.apply({
        chain: [step('py.add', [1, 2]), step('node.fail', [], { immutable: true }), step('py.add', [1])],
        link_error: [step('py.write', [], { kwargs: {}, immutable: true, args: [path, 'failed'] })],
      } as PythonCanvas);
      expect(await stage.python.get(id)).toMatchObject({ ok: false });
      expect(parents).toHaveLength(2);
      await until('the errback ran', () => {
        try {
          return readFileSync(path, 'utf8') !== '';
        } catch {
          return false;
        }
      });
      // A second call would be in the queue by now, and run before this.
      expect(await stage.python.value((await stage.python.apply(step('py.add', [1, 1]))).id)).toBe(2);
      expect(readFileSync(path, 'utf8')).toBe('failed\n');
    });

    fact('group', 'a group run by Node, and one run by both, give their results in order', async () => {
      const own = await stage.python.apply({ group: [1, 2, 3].map((n) => step('node.mul', [n, 10])) });
      expect(await stage.python.value(own.id)).toEqual([10, 20, 30]);
      const mixed = await stage.python.apply({
        group: [step('node.mul', [1, 10]), step('py.mul', [2, 10]), step('node.mul', [3, 10])],
      });
      expect(await stage.python.value(mixed.id)).toEqual([10, 20, 30]);
      expect(await stage.python.meta(mixed.members[0] as string)).toMatchObject({ group_id: mixed.id });
      await expect(
        Promise.all(mixed.members.map((id) => client.result(id).get({ timeoutMs: PATIENCE_MS }))),
      ).resolves.toEqual([10, 20, 30]);
    });

    fact('group', 'a group as the last step of a chain is published by a Node worker', async () => {
      const { id } = await stage.python.apply({
        chain: [step('node.add', [1, 2]), { group: [step('py.mul', [10]), step('node.mul', [20])] }],
      });
      expect(await stage.python.value(id)).toEqual([30, 60]);
    });

    fact('group', 'a member that fails in Node is the failure of the group', async () => {
      const { id } = await stage.python.apply({
        group: [step('py.add', [1, 2]), step('node.fail', ['OutOfStock', 'no'])],
      });
      const got = await stage.run(
        `
import app as module
try:
    results[id].get(timeout=30)
except module.OutOfStock as error:
    result = repr(error)
`,
        { id },
      );
      expect(got).toBe("OutOfStock('no')");
    });

    fact('replace', 'a Python task that replaces itself ends under its own id, also in a chain with Node', async () => {
      const options = { queue: 'python' };
      const replaced = await stage.run(
        `
result = celery.chain(
    app.signature('node.add', args=[1, 2], options={'queue': 'node'}),
    app.signature('py.replace_with_node', options=options),
    app.signature('node.add', args=[100], options={'queue': 'node'}),
).apply_async().id
`,
        { options },
      );
      expect(await stage.python.value(replaced as string)).toBe(130);
    });

    fact(
      'stamped headers',
      'stamps of a chain reach every step, in both languages',
      async () => {
        const id = (await stage.run(
          `
steps = [app.signature(name, args=args, options={'queue': queue}, immutable=True) for name, args, queue in (('node.context', [], 'node'), ('py.stamps', [], 'python'))]
chained = celery.chain(*steps)
chained.stamp(tenant='acme')
result = chained.apply_async().id
`,
        )) as string;
        expect(await stage.python.value(id)).toEqual([['tenant'], { tenant: 'acme' }]);
      },
      NO_STAMPS,
    );

    fact('link', 'a client of Node links Python and Node tasks to each other', async () => {
      const [toPython, toNode] = [client.result(`js-to-py-${version}`), client.result(`js-to-node-${version}`)];
      await client.enqueue('node.add', {
        args: [1, 2],
        queue: 'node',
        link: { task: 'py.mul', args: [10], options: { queue: 'python', task_id: toPython.id } },
      });
      await client.enqueue('py.add', {
        args: [1, 2],
        queue: 'python',
        link: [{ task: 'node.mul', args: [10], options: { queue: 'node', task_id: toNode.id } }],
      });
      expect(await toPython.get({ timeoutMs: PATIENCE_MS })).toBe(30);
      expect(await toNode.get({ timeoutMs: PATIENCE_MS })).toBe(30);
    });

    fact('errback', 'a client of Node names errbacks of both languages', async () => {
      for (const [first, second] of [
        ['node', 'py'],
        ['py', 'node'],
      ] as const) {
        const told = client.result(`js-told-${version}-${first}`);
        const queues = { node: 'node', py: 'python' };
        const failed = await client.enqueue(`${first}.fail`, {
          args: ['KeyError', 'k'],
          queue: queues[first],
          linkError: { task: `${second}.echo`, options: { queue: queues[second], task_id: told.id } },
        });
        await expect(failed.get({ timeoutMs: PATIENCE_MS })).rejects.toMatchObject({ type: 'KeyError' });
        expect(await told.get({ timeoutMs: PATIENCE_MS })).toEqual([[failed.id], {}]);
      }
    });
  },
);
