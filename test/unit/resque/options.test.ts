import { describe, expect, test } from 'vitest';
import {
  resque,
  ResqueApi,
  ResqueClient,
  ResqueInspector,
  ResqueScheduler,
} from '../../../src/drivers/resque/index.ts';
import { ConfigError } from '../../../src/errors.ts';

const url = 'redis://localhost:1';

describe('options that cannot be are refused before anything is opened', () => {
  test.each<[object, string]>([
    [{ queue: ['a'] }, "resque: unknown option 'queue'; did you mean 'queues'?"],
    [{ queues: 'default' }, 'resque: queues must be a list of texts: [\'default\'], not "default"'],
    [{ threads: 5 }, "resque: unknown option 'threads'"],
    [{ workers: 5 }, "resque: unknown option 'workers'; did you mean 'concurrency'?"],
    [{ concurrency: '5' }, 'resque: concurrency must be a whole number, 1 or more, not "5"'],
    [{ concurrency: 1.5 }, 'resque: concurrency must be a whole number, 1 or more, not 1.5'],
    [{ fetch: 'pull' }, "resque: fetch must be 'push' or 'poll', not \"pull\""],
    [{ interval: -1 }, 'resque: interval must be a number of seconds, 0 or more, not -1'],
    [{ unknownTask: 'drop' }, "resque: unknownTask must be 'requeue', 'reject', 'hold' or 'fail'"],
    [{ unknownTask: { forwrd: 'x' } }, "did you mean 'forward'?"],
    [{ unknownTaskDelayMs: '1s' }, 'resque: unknownTaskDelayMs must be a number of milliseconds, 0 or more, not "1s"'],
    [{ scheduler: { dynamc: true } }, "did you mean 'dynamic'?"],
    [{ scheduler: { interval: 'x' } }, "has an option 'interval' that must be a number of seconds"],
    [{ failure: 'airbrake' }, "resque: failure must be 'redis', 'redis_multi_queue' or 'none'"],
    [{ hooks: { queueEmpty: 1 } }, "has an option 'queueEmpty' that must be a function"],
    [{ password: 5 }, 'resque: password must be a text, not a number'],
    [{ heartbeatInterval: 200 }, 'heartbeatInterval must be at most 150'],
    [{ processTitle: 'x' }, 'resque: processTitle must be true or false, not "x"'],
  ])('resque(%j)', (options, message) => {
    const make = (): unknown => resque({ url, ...options });
    expect(make).toThrow(ConfigError);
    expect(make).toThrow(message);
  });

  test('of the client, the API, the inspector and the scheduler', () => {
    expect(() => new ResqueClient({ url, queue: 'a' } as never)).toThrow("did you mean 'defaultQueue'?");
    expect(() => new ResqueClient({ url, middleware: () => {} } as never)).toThrow(
      'middleware must be a list of functions',
    );
    expect(() => new ResqueClient({ url: 5 } as never)).toThrow('url must be a text');
    expect(() => new ResqueClient('redis://user:secret@localhost' as never)).toThrow(
      'options must be an object, not a URL',
    );
    expect(() => new ResqueApi({ url, namespac: 'a' } as never)).toThrow("did you mean 'namespace'?");
    expect(() => new ResqueInspector({ url, scanLimit: 0 })).toThrow(
      'scanLimit must be a whole number, 1 or more, not 0',
    );
    expect(() => new ResqueScheduler({ url, schedules: {} } as never)).toThrow("did you mean 'schedule'?");
    expect(() => new ResqueScheduler({ url, run: false } as never)).toThrow("unknown option 'run'");
  });

  test.each<[object, string]>([
    [{ args: 'ab' }, 'resque: enqueue: args must be a list: [1, 2], not "ab"'],
    [{ args: 5 }, 'resque: enqueue: args must be a list: [1, 2], not 5'],
    [{ kwargs: { a: 1 } }, 'resque: a job has positional arguments only'],
    [{ queue: 5 }, 'resque: enqueue: queue must be a text that is not empty, not 5'],
    [{ at: 'tomorrow' }, 'resque: enqueue: at must be a Date, not "tomorrow"'],
    [{ at: new Date(Number.NaN) }, 'resque: enqueue: at must be a Date'],
    [{ in: '5' }, 'resque: enqueue: in must be a number of seconds from now, not "5"'],
    [{ delay: 5 }, "resque: enqueue: unknown option 'delay'; did you mean 'in'?"],
    [{ jobId: 'x' }, "resque: enqueue: unknown option 'jobId'; did you mean 'id'?"],
    [{ headers: [] }, 'resque: enqueue: headers must be an object, not a list'],
    ['ab', 'resque: enqueue: options must be an object, not "ab"'] as never,
  ])('enqueue(task, %j)', async (call, message) => {
    await using client = new ResqueClient({ url, defaultQueue: 'a' });
    await expect(client.enqueue('A', call as never)).rejects.toThrow(message);
  });

  test('of performLater', async () => {
    await using client = new ResqueClient({ url, defaultQueue: 'a' });
    await expect(client.performLater('A', { wait: 5 } as never)).rejects.toThrow("did you mean 'in'?");
    await expect(client.performLater('A', { priority: 'high' } as never)).rejects.toThrow(
      'priority must be a whole number',
    );
  });
});
