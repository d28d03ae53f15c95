import { test } from 'vitest';
import { celery } from '../../src/drivers/celery/index.ts';
import { resque } from '../../src/drivers/resque/index.ts';
import { rq } from '../../src/drivers/rq/index.ts';
import { sidekiq } from '../../src/drivers/sidekiq/index.ts';
import { silent } from '../../src/log.ts';
import { type Host, pause, type Source } from '../../src/source.ts';
import { Tasks } from '../../src/task.ts';
import { startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

/** A worker that stops while its Redis is away: what was never sent need not be waited for. */
const SYSTEMS: readonly (readonly [name: string, source: (url: string) => Source])[] = [
  [
    'celery',
    (url) => celery({ broker: url, backend: url, workerEnableRemoteControl: false, heartbeatInterval: false }),
  ],
  ['rq', (url) => rq({ url, queues: ['default'] })],
  ['sidekiq', (url) => sidekiq({ url, queues: ['default'] })],
  ['sidekiq, basic', (url) => sidekiq({ url, queues: ['default'], fetch: 'basic' })],
  ['resque', (url) => resque({ url, queues: ['default'] })],
];

test.each(SYSTEMS)('%s: a claim that waits for the connection ends when the worker stops', async (_, sourceOf) => {
  await using redis = await startRedis();
  const source = sourceOf(redis.url);
  await source.open(HOST);
  try {
    await redis.stop();
    await until('a claim was given up because nobody wants it any more', async () => {
      const stop = new AbortController();
      const received = source.receive(1, stop.signal).then(String, (error: Error) => error.message);
      // Until the lost connection is noticed a claim fails by itself.
      await Promise.race([received, pause(50)]);
      stop.abort();
      return (await received).includes('is away, and no longer waited for');
    });
  } finally {
    await source.quiet();
    await source.close().catch(() => undefined);
  }
});

const HOST: Host = {
  identity: { hostname: 'here', pid: process.pid, nonce: 'away' },
  tasks: new Tasks(),
  log: silent,
  cancel: () => false,
  unknownHeld: () => 0,
  resized: () => {},
  poison: () => {},
  quiet: () => {},
  stop: () => {},
};
