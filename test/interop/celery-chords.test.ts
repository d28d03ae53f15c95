import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { temporaryFolder } from '../support/folder.ts';
import type { PythonCanvas, PythonWorker } from '../support/python.ts';
import { type NodeWorker, Stage, until } from './support/stage.ts';
import { facts, type Lacks, VERSIONS } from './support/table.ts';

const NO_STAMPS: Lacks = { '5.2': 'Celery before 5.3 has no stamped headers' };

describe.each(VERSIONS)('the counters of chords, beside Celery %s', (version) => {
  const fact = facts('celery-chords', { version, broker: 'redis' }, 'both');
  let stage: Stage;
  let python: PythonWorker;
  let node: NodeWorker;
  let results: Redis;
  let folder: string;
  let groups = 0;

  beforeAll(async () => {
    stage = await Stage.start(version);
    python = await stage.worker({ queues: ['python', 'celery'] });
    node = await stage.node({ queues: ['node', 'celery'], acksLate: true });
    results = stage.redis.client({ db: 1 });
    folder = temporaryFolder('jobglot-chords-');
  });
  afterAll(async () => {
    rmSync(folder, { recursive: true, force: true });
    results.disconnect();
    await node[Symbol.asyncDispose]();
    await python.kill();
    await stage[Symbol.asyncDispose]();
  });

  function on(
    language: 'python' | 'node',
    name: string,
    args: readonly unknown[] = [],
    more: object = {},
  ): PythonCanvas {
    const { options = {}, ...rest } = more as { options?: object };
    return { task: `both.${name}`, args, options: { queue: language, ...options }, ...rest };
  }

  /** A counter as it stands when a member arrives: how many there are to be, and who has ended. */
  async function counter(
    size: string,
    members: readonly string[],
  ): Promise<{ group: string; keys: readonly string[] }> {
    const group = `group-${version}-${++groups}`;
    const key = `celery-taskset-meta-${group}`;
    await results.set(`${key}.s`, size);
    for (const [at, member] of members.entries()) await results.zadd(`${key}.j`, at, member);
    return { group, keys: [`${key}.j`, `${key}.s`, `${key}.t`] };
  }

  /** A task for Node that is the member of a chord with this body. */
  function member(id: string, group: string, body: unknown, more: object = {}): Promise<string> {
    const options = { queue: 'node', task_id: id, group_id: group, group_index: 9, chord: body, ...more };
    return stage.python.send('node.add', [1, 2], {}, options);
  }

  function body(id: string, task = 'both.echo'): object {
    const options = { queue: 'python', task_id: id };
    return { task, args: [], kwargs: {}, options, subtask_type: null, immutable: false };
  }

  fact('chord', 'members that end at once in both languages publish the body once', async () => {
    const path = join(folder, `once-${version}`);
    const sent = await Promise.all(
      Array.from({ length: 40 }, (_, n) =>
        stage.python.apply({
          chord: [on('node', 'add', [n, 1]), on('python', 'add', [n, 2])],
          body: on(n % 2 === 0 ? 'node' : 'python', 'write', [path, String(n)], { immutable: true }),
        }),
      ),
    );
    for (const { id } of sent) await stage.python.value(id, 30);
    await stage.nothingHeld();
    expect(
      readFileSync(path, 'utf8')
        .trim()
        .split('\n')
        .map(Number)
        .sort((a, b) => a - b),
    ).toEqual(Array.from({ length: 40 }, (_, n) => n));
    await until('no counter is left', async () => (await results.keys('celery-taskset-meta-*')).length === 0);
  });

  fact(
    'chord',
    'a member that was counted before its worker died is counted once, and publishes the body',
    async () => {
      const own = `counted-${version}`;
      const { group, keys } = await counter('2', ['[1, "other", "SUCCESS", "first"]', `[1, "${own}", "SUCCESS", 3]`]);
      await results.zadd(keys[0] as string, 9, `[1, "${own}", "SUCCESS", 3]`);
      await member(own, group, body(`after-${own}`));
      expect(await stage.python.value(`after-${own}`)).toEqual([[['first', 3]], {}]);
      await until('the counter is gone', async () => (await results.exists(...keys)) === 0);
    },
  );

  fact('chord', 'a member that runs again with another result replaces what it brought before', async () => {
    const own = `again-${version}`;
    const { group } = await counter('2', [
      `[1, "${own}", "SUCCESS", "of the run before"]`,
      '[1, "other", "SUCCESS", 7]',
    ]);
    await member(own, group, body(`after-${own}`), { headers: { redelivered: true } });
    expect(await stage.python.value(`after-${own}`)).toEqual([[[7, 3]], {}]);
  });

  fact('chord', 'a member beyond the size publishes nothing', async () => {
    const { group, keys } = await counter('2', ['[1, "x", "SUCCESS", 1]', '[1, "y", "SUCCESS", 2]']);
    await member(`beyond-${version}`, group, body(`never-${version}`));
    expect(await stage.python.value(`beyond-${version}`)).toBe(3);
    await stage.nothingHeld();
    expect(await results.zcard(keys[0] as string)).toBe(3);
    expect(await stage.stored(`never-${version}`)).toBeNull();
  });

  fact(
    'chord',
    'bytes of others in the counter, and sizes that are none, fail the body; the worker goes on',
    async () => {
      for (const [what, size, members, reason] of [
        ['foreign', '2', ['nonsense'], /^Join error: /],
        ['shape', '2', ['{"a": 1}'], /^Join error: /],
        ['text', 'many', [], /^Join error: the size of the chord is 'many'/],
        ['negative', '-1', [], /^Join error: the size of the chord is '-1'/],
      ] as const) {
        const own = `${what}-${version}`;
        const { group } = await counter(size, members);
        await member(own, group, body(`after-${own}`));
        expect(await stage.python.get(`after-${own}`)).toMatchObject({
          state: 'FAILURE',
          type: 'ChordError',
          message: expect.stringMatching(reason),
        });
        expect(await stage.python.value(own)).toBe(3);
      }
    },
  );

  fact('chord', 'a body that is no signature is left out, and its members end all the same', async () => {
    const bodies: readonly unknown[] = [
      7,
      'x',
      [],
      {},
      { task: 7 },
      { task: 'x', args: 7 },
      { ['__proto__']: { task: 'x' } },
    ];
    for (const [at, bad] of bodies.entries()) {
      const own = `bad-body-${version}-${at}`;
      const { group } = await counter('1', []);
      await member(own, group, bad);
      expect(await stage.python.value(own)).toBe(3);
    }
    await stage.nothingHeld();
  });

  fact('link', 'a link or a step that is no signature fails the task, and the worker goes on', async () => {
    for (const [at, link] of [{}, { task: 7 }, { task: 'x', kwargs: 7 }].entries()) {
      const own = `bad-link-${version}-${at}`;
      await stage.python.send('node.add', [1, 2], {}, { queue: 'node', task_id: own, link: [link] });
      expect(await stage.python.get(own)).toMatchObject({ state: 'FAILURE', type: 'InvalidTaskError' });
    }
  });

  fact(
    'errback',
    'one that takes the request is called by the worker whose task failed, after its failure is stored',
    async () => {
      for (const language of ['node', 'python'] as const) {
        const path = join(folder, `errback-${version}-${language}`);
        const { id } = await stage.python.apply({
          ...on(language, 'fail', ['KeyError', 'k']),
          link_error: [on(language, 'write_error', [path])],
        } as PythonCanvas);
        expect(await stage.python.get(id)).toMatchObject({ type: 'KeyError' });
        await until('the errback has written', () => lines(path) > 0);
        await stage.nothingHeld();
        expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual([id, 'KeyError', expect.stringMatching(/^'?k'?$/)]);
      }
    },
  );

  fact('errback', 'one that takes the request is told of a chord that fails, with the id of its body', async () => {
    const path = join(folder, `errback-chord-${version}`);
    const { id } = await stage.python.apply({
      chord: [on('node', 'fail', ['ValueError', 'no'])],
      body: on('node', 'tsum', [], { link_error: [on('node', 'write_error', [path])] }),
    });
    expect(await stage.python.get(id)).toMatchObject({ type: 'ChordError' });
    await until('the errback has written', () => lines(path) > 0);
    expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject([
      id,
      'ChordError',
      expect.stringContaining("ValueError('no')"),
    ]);
  });

  fact(
    'stamped headers',
    'a task that is replaced gives its stamps to its successor',
    async () => {
      const id = (await stage.run(
        `
successor = {'task': 'py.stamps', 'args': [], 'kwargs': {}, 'options': {'queue': 'python'}, 'subtask_type': None, 'immutable': False}
task = app.signature('both.become', args=[successor], options={'queue': 'node'})
task.stamp(tenant='acme')
result = task.apply_async().id
`,
      )) as string;
      expect(await stage.python.value(id)).toEqual([['tenant'], { tenant: 'acme' }]);
    },
    NO_STAMPS,
  );

  fact('chord', 'an unknown member that is refused fails the body', async () => {
    const strict = await stage.node({ queues: [`strict-${version}`], unknownTask: 'reject' });
    const { id } = await stage.python.apply({
      chord: [{ task: 'nobody.has.this', args: [], options: { queue: strict.queue } }, on('node', 'add', [1, 2])],
      body: on('python', 'tsum'),
    });
    expect(await stage.python.get(id)).toMatchObject({
      type: 'ChordError',
      message: expect.stringContaining('NotRegistered'),
    });
    await strict[Symbol.asyncDispose]();
  });
});

describe.each(VERSIONS)('chords counted without order, beside Celery %s', (version) => {
  const fact = facts('celery-chords-unordered', { version, broker: 'redis' }, 'both');

  fact('chord', 'every result is there once, whoever ends first', async () => {
    const transport = { result_chord_ordered: false };
    await using stage = await Stage.start(version, { result_backend_transport_options: transport });
    const python = await stage.worker({ queues: ['python'] });
    const node = await stage.node({ queues: ['node'], resultBackendTransportOptions: { resultChordOrdered: false } });
    const header = [1, 2, 3, 4, 5, 6].map((n) => {
      const queue = n % 2 === 0 ? 'node' : 'python';
      return { task: 'both.add', args: [n, 0], options: { queue } };
    });
    for (const queue of ['node', 'python']) {
      const { id } = await stage.python.apply({ chord: header, body: { task: 'both.echo', options: { queue } } });
      const [[numbers]] = (await stage.python.value(id)) as [[number[]]];
      expect(numbers.toSorted((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6]);
    }
    await node[Symbol.asyncDispose]();
    await python.kill();
  });
});

function lines(path: string): number {
  try {
    return readFileSync(path, 'utf8').split('\n').length - 1;
  } catch {
    return 0;
  }
}
