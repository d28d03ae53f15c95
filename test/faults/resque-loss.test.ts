import { expect, test } from 'vitest';
import type { ResqueOptions } from '../../src/drivers/resque/index.ts';
import { startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { startProgram } from './program.ts';

test(
  '5,000 jobs, the worker killed three times in mid job: none is lost, each failure is recorded once',
  { timeout: 300_000 },
  async () => {
    await using server = await startRedis();
    const redis = server.client({ maxRetriesPerRequest: null });
    const COUNT = 5_000;
    const CONCURRENCY = 20;
    // As Ruby writes them; every tenth fails.
    const payloads = Array.from(
      { length: COUNT },
      (_, number) => `{"class":"CountJob","args":[${number},${number % 10 === 0},2]}`,
    );
    await redis.sadd('resque:queues', 'default');
    for (let at = 0; at < COUNT; at += 1_000)
      await redis.rpush('resque:queue:default', ...payloads.slice(at, at + 1_000));
    const options: ResqueOptions = {
      url: server.url,
      queues: ['*'],
      concurrency: CONCURRENCY,
      ...{ deadAfter: 2, rescueInterval: 0.5, poisonLimit: 10 },
    };
    let node = await startProgram('resque', options, server.url);
    for (const killAt of [800, 2_000, 3_500]) {
      await until(`${killAt} have run`, 60_000, async () => (await redis.hlen('runs')) >= killAt);
      await node.kill();
      node = await startProgram('resque', options, server.url);
    }
    await until('all have run', 60_000, async () => (await redis.hlen('runs')) === COUNT);
    await until('nothing waits and nothing is claimed', 60_000, async () => {
      const claims = await redis.keys('resque:jobglot:claims:*');
      return claims.length === 0 && (await redis.llen('resque:queue:default')) === 0;
    });
    await node.stop();

    const runs = await redis.hgetall('runs');
    const again = Object.values(runs).filter((times) => times !== '1').length;
    // A job may run again only where its worker was killed with it in hand.
    expect(again).toBeLessThanOrEqual(3 * CONCURRENCY);
    const failed = (await redis.lrange('resque:failed', 0, -1)).map(
      (text) => (JSON.parse(text) as { payload: { args: [number] } }).payload.args[0],
    );
    const wanted = Array.from({ length: COUNT / 10 }, (_, index) => index * 10);
    expect(failed.toSorted((a, b) => a - b)).toEqual(wanted);
    // Nothing of the dead is left that Ruby would prune, or its pages show.
    expect(await redis.smembers('resque:workers')).toEqual([]);
    expect(await redis.hgetall('resque:workers:heartbeat')).toEqual({});
    const left = (await redis.keys('resque:*')).filter(
      (key) => !/:(queues|failed|stat:\w+|pruning_\w+|rescues:\w+)$/.test(key),
    );
    expect(left).toEqual([]);
    // Counted with the end of the claim, in one write; a kill may cut that in two.
    const processed = Number(await redis.get('resque:stat:processed'));
    expect(processed).toBeLessThanOrEqual(COUNT);
    expect(processed).toBeGreaterThanOrEqual(COUNT - 3 * CONCURRENCY);
    expect(Number(await redis.get('resque:stat:failed'))).toBe(COUNT / 10);
  },
);

test(
  'a job whose process dies with it three times is set aside, and the others go on',
  { timeout: 120_000 },
  async () => {
    await using server = await startRedis();
    const redis = server.client({ maxRetriesPerRequest: null });
    const poison = '{"class":"CountJob","args":[1,false,60000]}';
    await redis.rpush('resque:queue:default', poison);
    const options: ResqueOptions = {
      url: server.url,
      queues: ['default'],
      concurrency: 1,
      ...{ deadAfter: 1, rescueInterval: 0.2, poisonLimit: 3 },
    };
    for (let death = 1; death <= 3; death++) {
      const node = await startProgram('resque', options, server.url);
      await until('it runs', async () =>
        (await redis.keys('resque:worker:*')).some((key) => !key.endsWith(':started')),
      );
      await until('it is shown', async () => (await redis.keys('resque:jobglot:claims:*')).length === 1);
      await node.kill();
      await redis.del(...(await redis.keys('resque:worker:*')));
    }
    await redis.rpush('resque:queue:default', '{"class":"CountJob","args":[2,false,1]}');
    const last = await startProgram('resque', options, server.url);
    await until('it is set aside', async () => (await redis.llen('resque:jobglot:quarantine:default')) === 1);
    expect(await redis.lrange('resque:jobglot:quarantine:default', 0, -1)).toEqual([poison]);
    const [why] = await redis.lrange('resque:jobglot:quarantine:default:why', 0, -1);
    expect(JSON.parse(why!)).toMatchObject({ code: 'poison', queue: 'default', deaths: 3 });
    await until('the other has run', async () => (await redis.hget('runs', '2')) === '1');
    await last.stop();
  },
);

test(
  'jobs that are the same to the letter are not set aside for one death of their process',
  { timeout: 120_000 },
  async () => {
    await using server = await startRedis();
    const redis = server.client({ maxRetriesPerRequest: null });
    const options: ResqueOptions = {
      url: server.url,
      queues: ['default'],
      concurrency: 5,
      ...{ deadAfter: 1, rescueInterval: 0.2, poisonLimit: 3 },
    };
    await redis.rpush(
      'resque:queue:default',
      ...Array.from({ length: 5 }, () => '{"class":"CountJob","args":[7,false,4000]}'),
    );
    const first = await startProgram('resque', options, server.url);
    await until('all are claimed', async () => {
      const [claims] = await redis.keys('resque:jobglot:claims:*');
      return claims !== undefined && (await redis.hlen(claims)) === 5;
    });
    await first.kill();
    expect(await redis.hget('runs', '7')).toBe(null);
    const second = await startProgram('resque', options, server.url);
    await until('all have run', 60_000, async () => (await redis.hget('runs', '7')) === '5');
    expect(await redis.keys('resque:jobglot:quarantine:*')).toEqual([]);
    await second.stop();
  },
);

test(
  'jobs that only waited in a process that a job killed three times are not set aside with it',
  { timeout: 120_000 },
  async () => {
    await using server = await startRedis();
    const redis = server.client({ maxRetriesPerRequest: null });
    const poison = '{"class":"CountJob","args":[1,false,60000]}';
    const others = [2, 3, 4].map((number) => `{"class":"CountJob","args":[${number},false,1]}`);
    await redis.rpush('resque:queue:default', poison, ...others);
    const options: ResqueOptions = {
      url: server.url,
      queues: ['default'],
      concurrency: 1,
      ...{ prefetch: 3, deadAfter: 1, rescueInterval: 0.2, poisonLimit: 3 },
    };
    for (let death = 1; death <= 3; death++) {
      const node = await startProgram('resque', options, server.url);
      await until('it is shown at work', async () => {
        const shown = (await redis.keys('resque:worker:*')).filter((key) => !key.endsWith(':started'));
        return shown.length === 1 && (await redis.get(shown[0]!))?.includes('[1,false') === true;
      });
      await until('the others wait there', async () => (await redis.llen('resque:queue:default')) === 0);
      await node.kill();
      await redis.del(...(await redis.keys('resque:worker:*')));
    }
    const last = await startProgram('resque', options, server.url);
    await until('the others have run', async () => (await redis.hlen('runs')) === 3);
    expect(await redis.hgetall('runs')).toEqual({ 2: '1', 3: '1', 4: '1' });
    expect(await redis.lrange('resque:jobglot:quarantine:default', 0, -1)).toEqual([poison]);
    await last.stop();
    expect(await redis.exists('resque:jobglot:begun', 'resque:jobglot:claimants')).toBe(0);
  },
);
