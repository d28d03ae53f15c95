import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { CeleryVersion, PythonWorker } from '../support/python.ts';
import { Stage, until } from './support/stage.ts';

/** Python against Python: what the stage itself can be trusted with, before there is a Node on it. */
describe.each<CeleryVersion>(['5.2', '5.4', '5.6'])('Celery %s over RabbitMQ', (version) => {
  describe.each(['redis', 'rpc'] as const)('with results in %s', (results) => {
    let stage: Stage;
    let worker: PythonWorker;
    beforeAll(async () => {
      stage = await Stage.start(version, {}, { broker: 'amqp', results });
      worker = await stage.worker({ queues: ['python'] });
    });
    afterEach(() => stage.nothingHeld());
    afterAll(async () => {
      await worker[Symbol.asyncDispose]();
      await stage[Symbol.asyncDispose]();
    });

    it('a task is run and its result read', async () => {
      const id = await stage.python.send('py.add', [2, 3], {}, { queue: 'python' });
      expect(await stage.python.value(id)).toBe(5);
      expect((await stage.rabbit.queues(stage.vhost)).map(({ name }) => name)).toContain('python');
      expect(await stage.waiting('python')).toBe(0);
      if (results === 'redis') expect(JSON.parse((await stage.stored(id)) ?? '')).toMatchObject({ result: 5 });
      else await expect(stage.stored(id)).rejects.toThrow('is not stored');
    });

    it('a message that a worker holds is counted, and one that waits is told from it', async () => {
      await stage.python.send('py.add', [1, 1], {}, { queue: 'python', countdown: 600 });
      await until('the worker holds it', async () => (await stage.unacked()) === 1);
      expect(await stage.waiting('python')).toBe(0);
      await stage.python.send('py.add', [1, 1], {}, { queue: 'elsewhere' });
      expect(await stage.waiting('elsewhere')).toBe(1);
      expect(await stage.unacked()).toBe(1);
      await worker.kill();
      await until('the message is back', async () => (await stage.waiting('python')) === 1);
      expect(await stage.unacked()).toBe(0);
      expect(await stage.rabbit.purge('python', stage.vhost)).toBe(1);
    });
  });
});
