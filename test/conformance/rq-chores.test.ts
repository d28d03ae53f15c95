import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { splitExecution } from '../../protocols/rq/keys.ts';
import { abandoned, DEFAULT_FAILURE_TTL, DEFAULT_RESULT_TTL } from '../../protocols/rq/lifecycle.ts';
import { birth, unregister } from '../../protocols/rq/presence.ts';
import * as wire from '../../protocols/rq/redis.ts';
import { tick } from '../../protocols/rq/schedule.ts';
import * as upkeep from '../../protocols/rq/upkeep.ts';
import { silent } from '../../src/log.ts';
import { RedisConnection } from '../../src/transports/redis.ts';
import { redisTarget } from '../../src/transports/redis-url.ts';
import { loadRq, type RqFixture } from '../golden/rq-support.ts';
import { textOf } from '../golden/support.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { dump, due, restore, shownState } from './rq-state.ts';

/** What RQ's workers do for each other, done by ours: Redis as it was before, and then as RQ left it. */

/** A cleaning of RQ's leaves the records of the runs to their end; ours takes them away. */
const RUNS = /^rq:(worker|clean|execution)/;
const NAMES = /^rq:(clean|execution)/;
/** The worker of RQ has looked for work by then. */
const IDLE = ['state'];
const SCHEDULERS = /^rq:scheduler:/;

describe.each(['2.10', '2.12'] as const)('chores of a worker of RQ %s', (version) => {
  let server: RedisServer;
  let client: Redis;
  let redis: RedisConnection;
  const fixtures = new Map(loadRq(version, '').map((fixture) => [fixture.name, fixture]));

  beforeAll(async () => {
    server = await startRedis();
    client = server.client();
    redis = new RedisConnection(redisTarget(server.url), { log: silent });
    await redis.connect();
  });
  beforeEach(() => client.flushall());
  afterAll(async () => {
    await redis.close();
    await server[Symbol.asyncDispose]();
  });

  async function before(name: string): Promise<RqFixture & { readonly now: Date }> {
    const fixture = fixtures.get(name) as RqFixture;
    await restore(client, fixture.before ?? {});
    return { ...fixture, now: new Date(fixture.frozen.workerClock ?? fixture.frozen.clock) };
  }

  it.each([
    'cleanup-abandoned',
    'cleanup-abandoned-callback',
    'cleanup-abandoned-dependents',
    'cleanup-abandoned-retry',
  ])('%s', async (name) => {
    const { now, after } = await before(name);
    const { overdue } = await redis.run(upkeep.inspect('default', now));
    const policy = { serializer: 'pickle', resultTtl: DEFAULT_RESULT_TTL, failureTtl: DEFAULT_FAILURE_TTL } as const;
    for (const { member } of overdue) {
      const { id, execution } = splitExecution(member);
      const [job] = await redis.run(upkeep.fetchAll([id]));
      if (job === undefined) throw new Error(`${id} is gone`);
      const run = { job, execution, queue: 'default', worker: 'worker-1', startedAt: undefined };
      const { write } = abandoned(run, policy, now, now.getTime() / 1000);
      expect(await redis.run(wire.settle([write], { worker: 'worker-1' }, now))).toEqual(['done']);
    }
    // When it ended nobody knows; RQ leaves that empty.
    const told = ['ended_at', 'last_heartbeat'];
    const theirs = Object.fromEntries(Object.entries(after).map(([key, held]) => [key, due(key, held)]));
    expect(await dump(client, told, RUNS)).toEqual(shownState(theirs, told, RUNS));
  });

  it('cleanup-of-expired', async () => {
    const { now, after } = await before('cleanup-of-expired');
    await redis.run(upkeep.clean('default', now));
    expect(await dump(client, IDLE, NAMES)).toEqual(shownState(after, IDLE, NAMES));
  });

  it('cleanup-dead-workers', async () => {
    const { now, after } = await before('cleanup-dead-workers');
    await redis.run(upkeep.clean('default', now));
    expect(await dump(client, IDLE, NAMES)).toEqual(shownState(after, IDLE, NAMES));
  });

  it('cleanup-groups', async () => {
    const { after } = await before('cleanup-groups');
    for (const group of await redis.run(upkeep.groups())) await redis.run(upkeep.pruneGroup(group, '0'));
    expect(await dump(client, IDLE, NAMES)).toEqual(shownState(after, IDLE, NAMES));
  });

  it.each(['scheduler-tick', 'scheduler-tick-missing', 'scheduler-tick-retry'])('%s', async (name) => {
    const { now, after, frozen } = await before(name);
    const lock = after['rq:scheduler-lock:default'];
    const owner = lock?.type === 'string' ? textOf(lock.value) : '';
    const queues = ['default', 'mail'];
    await redis.run(tick({ name: owner, hostname: 'worker1', pid: 72, queues, createdAt: now }, now));
    const told = frozen.ids.length === 0 ? [] : ['jobglot_attempts'];
    const without = new RegExp(`${SCHEDULERS.source}|^rq:worker`);
    expect(await dump(client, told, without)).toEqual(shownState(after, told, without));
  });

  it('worker-birth-queues', async () => {
    const { now, after } = await before('worker-birth-queues');
    const hash = after['rq:worker:worker-1'];
    const field = (name: string): string =>
      textOf(hash?.type === 'hash' ? hash.value.find(([one]) => one === name)?.[1] : undefined);
    const record = {
      name: 'worker-1',
      queues: ['high', 'default'],
      birth: now,
      pid: 72,
      hostname: 'worker1',
      ipAddress: field('ip_address'),
      version: field('version'),
      pythonVersion: field('python_version'),
    };
    expect(await redis.run(birth(record, 480, now))).toBe(true);
    expect(await dump(client, IDLE, NAMES)).toEqual(shownState(after, IDLE, NAMES));
    expect(await redis.run(birth(record, 480, now))).toBe(false);
  });

  it('worker-idle-death', async () => {
    const { now, after } = await before('worker-idle-death');
    await redis.run(unregister('worker-1', ['default'], now));
    expect(await dump(client, [], NAMES)).toEqual(shownState(after, [], NAMES));
  });
});
