import { type AddressInfo, connect, createServer } from 'node:net';
import type { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import type { SidekiqOptions } from '../../src/drivers/sidekiq/index.ts';
import { startRedis, until } from '../support/redis.ts';
import { type RubySidekiq, startSidekiq } from '../support/ruby.ts';
import { startProgram } from './program.ts';

/**
 * Workers of both languages on one queue, each killed three times with jobs in its hands. Sidekiq's own fetch takes a job out of Redis
 * before it is run, so what a killed Ruby held is lost, with or without us. Which jobs were given to Ruby is seen on its connection.
 */
test(
  '3,000 jobs, Ruby and Node on one queue, each killed three times: none is lost that Ruby had not fetched',
  { timeout: 300_000 },
  async () => {
    await using redis = await startRedis();
    const client = redis.client({ maxRetriesPerRequest: null });
    await using tap = await startTap(redis.port);
    const { given } = tap;
    const COUNT = 3_000;
    const RUBY_THREADS = 4;
    const jids = Array.from({ length: COUNT }, (_, index) => index.toString(16).padStart(24, '0'));
    await push(client, jids);
    const options: SidekiqOptions = {
      url: redis.url,
      concurrency: 10,
      ...{ heartbeatInterval: 0.5, deadAfter: 2, rescueInterval: 0.5, poisonLimit: 10 },
    };
    const startRuby = (): Promise<RubySidekiq> =>
      startSidekiq({ redis: tap.url, concurrency: RUBY_THREADS, timeout: 5 });
    const done = async (): Promise<number> => (await client.hlen('count:ruby')) + (await client.hlen('count:node'));

    let node = await startProgram('sidekiq', options, redis.url);
    let ruby = await startRuby();
    const goal = await done();
    for (let kill = 1; kill <= 3; kill++) {
      const before = { ruby: await client.hlen('count:ruby'), node: await client.hlen('count:node') };
      await until('both have run some more', async () => {
        const [byRuby, byNode] = [await client.hlen('count:ruby'), await client.hlen('count:node')];
        return (byRuby >= before.ruby + 20 && byNode >= before.node + 20) || byRuby + byNode >= COUNT - 200;
      });
      node.child.kill('SIGKILL');
      await Promise.all([ruby.kill(), node.gone]);
      [node, ruby] = await Promise.all([startProgram('sidekiq', options, redis.url), startRuby()]);
    }
    expect(goal).toBeLessThan(COUNT);
    await until('nothing waits and nothing is claimed', 60_000, async () => {
      const claims = await client.keys('jobglot:sidekiq:claims:*');
      return claims.length === 0 && (await client.llen('queue:default')) === 0;
    });
    // A TERM gives back what runs, so what Ruby has at its end is either done or in the queue again.
    await ruby.stop();
    await until('what it gave back is done', async () => {
      const claims = await client.keys('jobglot:sidekiq:claims:*');
      return claims.length === 0 && (await client.llen('queue:default')) === 0;
    });
    await node.stop();

    const [byRuby, byNode] = [await client.hgetall('count:ruby'), await client.hgetall('count:node')];
    const lost = jids.filter((jid) => byRuby[jid] === undefined && byNode[jid] === undefined);
    expect(lost.filter((jid) => !given.has(jid))).toEqual([]);
    expect(lost.length).toBeLessThanOrEqual(3 * RUBY_THREADS);
    expect(await Promise.all(['retry', 'dead', 'schedule'].map((set) => client.zcard(set)))).toEqual([0, 0, 0]);
    const twice = Object.keys(byNode).filter((jid) => Number(byNode[jid]) > 1 || byRuby[jid] !== undefined);
    console.log(
      `3,000 jobs, 3 SIGKILLs each: Ruby ran ${Object.keys(byRuby).length}, Node ${Object.keys(byNode).length}; ` +
        `${twice.length} ran again after Node's death; ${lost.length} were lost, all of them in the hands of Ruby's own fetch`,
    );
    // Nor did anything in it go unhandled.
    expect(node.child.exitCode, node.log()).toBe(0);
  },
);

test('1,000 jobs, Node alone, killed three times: none is lost', { timeout: 300_000 }, async () => {
  await using redis = await startRedis();
  const client = redis.client({ maxRetriesPerRequest: null });
  const jids = Array.from({ length: 1_000 }, (_, index) => index.toString(16).padStart(24, '0'));
  await push(client, jids);
  const options: SidekiqOptions = {
    url: redis.url,
    concurrency: 10,
    ...{ heartbeatInterval: 0.5, deadAfter: 2, rescueInterval: 0.5, poisonLimit: 10 },
  };
  let node = await startProgram('sidekiq', options, redis.url);
  for (const killAt of [100, 300, 500]) {
    await until(`${killAt} are done`, async () => (await client.hlen('count:node')) >= killAt);
    await node.kill();
    node = await startProgram('sidekiq', options, redis.url);
  }
  await until('all are done', 60_000, async () => (await client.hlen('count:node')) === jids.length);
  await until('nothing is claimed', async () => (await client.keys('jobglot:sidekiq:claims:*')).length === 0);
  expect(await client.llen('queue:default')).toBe(0);
  await node.stop();
});

interface Tap extends AsyncDisposable {
  readonly url: string;
  /** The ids of all jobs that Redis gave to who is connected here, also to one that was dead by then. */
  readonly given: ReadonlySet<string>;
}

async function startTap(port: number): Promise<Tap> {
  const given = new Set<string>();
  const server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1');
    let rest = '';
    upstream.on('data', (chunk: Buffer) => {
      const text = rest + chunk.toString('latin1');
      for (const [, jid = ''] of text.matchAll(/"jid":"([0-9a-f]{24})"/g)) given.add(jid);
      // One may stand across two chunks.
      rest = text.slice(-40);
      client.write(chunk);
    });
    client.on('data', (chunk: Buffer) => void upstream.write(chunk));
    client.on('error', () => {});
    upstream.on('error', () => {});
    // Redis may give it a job until it hears that it is gone: this end is read to its end.
    client.on('close', () => upstream.end());
    upstream.on('close', () => client.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}/0`,
    given,
    async [Symbol.asyncDispose]() {
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** As Ruby writes them, past any code of ours. */
async function push(client: Redis, jids: readonly string[]): Promise<void> {
  const jobs = jids.map(
    (jid) =>
      `{"retry":true,"queue":"default","args":[20],"class":"CountJob","jid":"${jid}","created_at":1795219358.8211396,"enqueued_at":1795219358.8218334}`,
  );
  await client.sadd('queues', 'default');
  await client.lpush('queue:default', ...jobs);
}
