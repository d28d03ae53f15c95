import { describe, expect, test } from 'vitest';
import {
  sidekiq,
  SidekiqApi,
  SidekiqClient,
  SidekiqInspector,
  type SidekiqOptions,
} from '../../../src/drivers/sidekiq/index.ts';
import { ConfigError } from '../../../src/errors.ts';

const url = 'redis://localhost:1/0';

describe('options are checked where they come in', () => {
  test.each([
    [{ concurency: 5 }, "unknown option 'concurency'; did you mean 'concurrency'?"],
    [{ max_retries: 5 }, "unknown option 'max_retries'; did you mean 'maxRetries'?"],
    [{ queues: 'default' }, 'queues must be a list of names'],
    [{ queues: [] }, 'queues is empty'],
    [{ concurrency: 0 }, 'concurrency must be a whole number, 1 or more, not 0'],
    [{ prefetch: 'all' }, "prefetch must be 'auto', or a whole number, 0 or more"],
    [{ fetch: 'super' }, "fetch must be 'reliable' or 'basic'"],
    [{ unknownTask: 'retry' }, "unknownTask must be 'requeue', 'reject' or 'hold'"],
    [{ unknownTask: { forwards: 'x' } }, "did you mean 'forward'?"],
    [{ deadAfter: '60' }, 'deadAfter must be a number of seconds above 0'],
    [{ heartbeatInterval: 40 }, 'deadAfter must be at least two heartbeatIntervals'],
    [{ labels: 'node' }, 'labels must be a list of texts'],
    [{ dialect: 'seven' }, "dialect must be 'auto' or a version"],
    [{ url: 5 }, 'url must be a text, not 5'],
    [{ cluster: true }, 'does not run on a Redis Cluster'],
  ])('sidekiq(%j)', (options, why) => {
    const make = (): unknown => sidekiq({ url, ...options } as unknown as SidekiqOptions);
    expect(make).toThrow(ConfigError);
    expect(make).toThrow(why);
  });

  test('a capsule, a client, an api and an inspector name what is wrong', () => {
    const main = sidekiq({ url });
    expect(() => main.capsule('one', { fetch: 'basic' } as never)).toThrow("capsule 'one': unknown option 'fetch'");
    expect(() => new SidekiqClient({ url, whenaway: 'buffer' } as never)).toThrow("did you mean 'whenAway'?");
    expect(() => new SidekiqClient({ url, middleware: () => {} } as never)).toThrow('middleware must be a list');
    expect(() => new SidekiqApi({ url, nameSpace: 'x' } as never)).toThrow("did you mean 'namespace'?");
    expect(() => new SidekiqInspector({ url, scanLimit: 0 })).toThrow('scanLimit must be a whole number, 1 or more');
  });

  test.each([
    [{ retries: 3 }, "did you mean 'retry'?"],
    [{ retry_for: 3 }, "did you mean 'retryFor'?"],
    [{ countdown: 3 }, "did you mean 'in'?"],
    [{ arg: [1] }, "did you mean 'args'?"],
  ])('enqueue with %j', async (call, why) => {
    const client = new SidekiqClient({ url });
    await expect(client.enqueue('HardJob', call as never)).rejects.toThrow(
      `sidekiq: enqueue 'HardJob': unknown option`,
    );
    await expect(client.enqueue('HardJob', call as never)).rejects.toThrow(why);
    await expect(client.enqueueMany('HardJob', [call as never])).rejects.toThrow(why);
  });
});
