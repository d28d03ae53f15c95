import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { canvas, celery, CeleryClient } from '../../../src/drivers/celery/index.ts';
import { ConfigError } from '../../../src/errors.ts';
import { Discard, Replace } from '../../../src/signals.ts';
import { defineTask, Tasks } from '../../../src/task.ts';
import { Worker } from '../../../src/worker/worker.ts';
import type { Logger } from '../../../src/log.ts';

const sum = (numbers: unknown): number => (numbers as number[]).reduce((a, b) => a + b, 0);

describe('canvas without a counter of chords: celery.chord_unlock asks for the results', () => {
  let worker: Worker;
  let client: CeleryClient;
  const said: string[] = [];
  const log: Logger = {
    debug: () => {},
    info: () => {},
    warn: () => {},
    error: (_fields: unknown, message?: string) => said.push(String(message)),
  } as unknown as Logger;

  beforeEach(async () => {
    const name = randomUUID();
    const app = { broker: `memory://${name}`, backend: `memory://${name}` };
    said.length = 0;
    const tasks = new Tasks()
      .handle(defineTask('add'), ({ args }) => sum(args))
      .handle(defineTask('sum'), ({ args: [numbers] }) => sum(numbers))
      .handle(defineTask('fail'), () => {
        throw new RangeError('no');
      })
      .handle(defineTask('discard'), () => {
        throw new Discard('not today');
      })
      .handle(defineTask('become'), ({ args }) => {
        throw new Replace(args[0]);
      })
      .handle(defineTask('send'), async (job) => canvas(job).send(job.args[0]))
      .handle(defineTask('join'), async (job) => canvas(job).addToChord({ task: 'add' }))
      .handle(
        defineTask('told'),
        ({ args: [request, error, traceback, ...own] }) => {
          const { id } = request as { id: string };
          const { type, message } = error as { type: string; message: string };
          said.push(JSON.stringify([id, type, message, typeof traceback, own]));
        },
        { errback: true },
      )
      .handle(
        defineTask('broken'),
        () => {
          throw new Error('an errback that fails');
        },
        { errback: true },
      );
    worker = new Worker({ tasks, sources: [celery(app)], log });
    await worker.start();
    client = new CeleryClient(app);
  });
  afterEach(async () => {
    await client.close();
    await worker.stop();
  });

  const chord = (header: readonly object[], id: string, body: object = {}): object => ({
    task: 'celery.chord',
    kwargs: { kwargs: {}, header, body: { task: 'sum', options: { task_id: id } }, ...body },
    subtask_type: 'chord',
  });

  it('a chord is completed', async () => {
    const tasks = [{ task: 'add', args: [1, 2] }, chord([{ task: 'add' }, { task: 'add', args: [10] }], 'body')];
    await client.enqueue('send', { args: [{ task: 'celery.chain', kwargs: { tasks }, subtask_type: 'chain' }] });
    expect(await client.result('body').get({ timeoutMs: 20_000 })).toBe(3 + 13);
  });

  it('a chord whose member fails fails its body, and says so to its errbacks', async () => {
    const link_error = [{ task: 'told', args: ['own'] }];
    const body = { options: { task_id: 'body', link_error } };
    await client.enqueue('send', {
      args: [chord([{ task: 'fail' }, { task: 'add' }], 'body', { body: { task: 'sum', ...body } })],
    });
    await expect(client.result('body').get({ timeoutMs: 20_000 })).rejects.toMatchObject({ type: 'ChordError' });
    expect(said.filter((line) => line.startsWith('['))).toEqual([
      expect.stringMatching(/^\["body","ChordError","Dependency .* raised ValueError\('no'\)","string",\["own"\]\]$/),
    ]);
  });

  it('a task is replaced by a group, whose results are gathered', async () => {
    const group = {
      task: 'celery.group',
      kwargs: {
        tasks: [
          { task: 'add', args: [1, 2] },
          { task: 'add', args: [3] },
        ],
      },
    };
    const result = await client.enqueue('become', { args: [{ ...group, subtask_type: 'group' }] });
    expect(await result.get({ timeoutMs: 20_000 })).toEqual([3, 3]);
  });

  it.each([
    [7],
    [{}],
    [{ task: 'celery.chain', kwargs: { tasks: [] }, subtask_type: 'chain' }],
    [{ task: 'add', options: { chord: {} } }],
  ])('a task that is replaced by %o fails', async (by) => {
    const result = await client.enqueue('become', { args: [by] });
    await expect(result.get({ timeoutMs: 20_000 })).rejects.toMatchObject({ type: 'ImproperlyConfigured' });
  });

  it('what a handler sends is its child, with its root', async () => {
    const result = await client.enqueue('send', { args: [{ task: 'add', args: [4], options: { task_id: 'child' } }] });
    expect(await result.get({ timeoutMs: 20_000 })).toBe('child');
    expect((await result.meta())?.children).toEqual([[['child', null], null]]);
    expect(await client.result('child').get({ timeoutMs: 20_000 })).toBe(4);
    expect((await client.result('child').meta())?.parentId).toBe(result.id);
  });

  it('a chord cannot grow where there is none', async () => {
    const result = await client.enqueue('join', {});
    await expect(result.get({ timeoutMs: 20_000 })).rejects.toThrow('not a member of any chord');
  });

  it('an errback that fails is said, and the failure is stored all the same', async () => {
    const result = await client.enqueue('fail', { linkError: [{ task: 'broken' }] });
    await expect(result.get({ timeoutMs: 20_000 })).rejects.toMatchObject({ type: 'ValueError' });
    await worker.stop();
    expect(said).toContain("its errback 'broken' failed");
  });

  it('a job of another system has no canvas', () => {
    const job = { id: '1', task: 'x', args: [], kwargs: {}, queue: 'q', attempt: 1 };
    expect(() => canvas(job)).toThrow(ConfigError);
  });
});

it('without any results a chord fails the task that would start it, as in Celery', async () => {
  const name = randomUUID();
  const tasks = new Tasks().handle(defineTask('send'), (job) => canvas(job).send(job.args[0]));
  const worker = new Worker({ tasks, sources: [celery({ broker: `memory://${name}` })] });
  await worker.start();
  const client = new CeleryClient({ broker: `memory://${name}` });
  const settled = worker.once('job:settled', ({ job }) => job.task === 'send');
  const body = { task: 'add' };
  const chord = {
    task: 'celery.chord',
    kwargs: { kwargs: {}, header: [{ task: 'add' }], body },
    subtask_type: 'chord',
  };
  await client.enqueue('send', { args: [chord] });
  expect((await settled).disposition).toEqual({ state: 'failed' });
  await client.close();
  await worker.stop();
});
