import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Outcome } from '../../protocols/job.ts';
import { DEFAULT_FAILURE_TTL, DEFAULT_RESULT_TTL, settle } from '../../protocols/rq/lifecycle.ts';
import { type JobHash, readCall, readJob } from '../../protocols/rq/index.ts';
import * as wire from '../../protocols/rq/redis.ts';
import { silent } from '../../src/log.ts';
import { RedisConnection } from '../../src/transports/redis.ts';
import { redisTarget } from '../../src/transports/redis-url.ts';
import { type Held, loadRq, type RqFixture, type State } from '../golden/rq-support.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { dump, due, restore, shown } from './rq-state.ts';

/**
 * The lives of jobs as RQ's own worker wrote them, lived once more by ours: Redis as it was when the worker took the job, our claim and
 * our settlement, and then Redis has to be as RQ left it. Python does in some fifty commands what is two scripts here.
 */

/** What we leave to others, or do in another way on purpose. */
const NOT_THE_SAME: Readonly<Record<string, string>> = {
  'life-canceled-while-running': 'a cancelled job stays cancelled here; RQ writes over it',
  'life-expired':
    'here an id without a job and the job behind it are one claim; RQ leaves such an id in the intermediate list',
  'life-failure-no-handler': 'handlers of exceptions are a part of Python',
  'life-failure-text': 'the work-horse of RQ ends when it stores a message that has no UTF-8',
  'life-failure-ttl-zero': 'RQ leaves the id of the job it deleted among the failed ones',
  'life-failure-undecodable': 'decided by the driver: test/faults',
  'life-failure-unknown-function': 'decided by the driver: unknownTask',
  'life-retry-returned-out': 'a handler here says "again" without a limit',
  'life-success-meta': 'the handler writes its meta itself',
};

// The parent of a work-horse that was killed writes its own copy of the job, from before the run.
const KILLED = ['worker_name', 'last_heartbeat', 'started_at', 'ended_at', 'execution_ended_at', 'exc_string'];

/** Fields that tell of the run in another way than Python's. */
const TOLD_OTHERWISE: Readonly<Record<string, readonly string[]>> = {
  'life-killed': KILLED,
  'life-killed-retry': KILLED,
  'life-stopped': KILLED.slice(0, -1),
  'life-stopped-callback': KILLED.slice(0, -1),
};

describe.each(['2.10', '2.12'] as const)('a job in a worker of RQ %s', (version) => {
  let server: RedisServer;
  let client: Redis;
  let redis: RedisConnection;

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

  for (const fixture of loadRq(version, 'life-')) {
    const { name, before, after, frozen } = fixture;
    const reason = NOT_THE_SAME[name];
    it.skipIf(reason !== undefined)(
      `${name}: leaves Redis as RQ does${reason === undefined ? '' : ` [skipped: ${reason}]`}`,
      async () => {
        await restore(client, before as State);
        const now = new Date(frozen.workerClock ?? frozen.clock);
        const queues = fixture.worker?.includes("'low'") === true ? ['default', 'low'] : ['default'];
        const claimed = await redis.run(
          wire.claim(queues, {
            worker: 'worker-1',
            prefix: '0123456789abcdef0123',
            ttl: 90,
            max: 1,
            number: 1,
            now,
            strategy: 'order',
            batchBytes: 1e6,
          }),
        );
        const [one] = claimed.claimed;
        if (one === undefined) throw new Error('nothing was claimed');
        const job = readJob(one.id, one.fields)?.job as JobHash;
        const run = { job, execution: one.execution, queue: one.queue, worker: 'worker-1', startedAt: now };
        const { serializer } = readCall(job.data);
        const policy = { serializer, resultTtl: DEFAULT_RESULT_TTL, failureTtl: DEFAULT_FAILURE_TTL };
        const { write } = settle(run, outcomeOf(fixture), policy, now);
        const settled = await redis.run(wire.settle([write], { worker: 'worker-1', currentJob: null }, now));
        expect(settled).toEqual(['done']);

        const told = TOLD_OTHERWISE[name] ?? [];
        const keys = Object.keys(after).filter((key) => !key.startsWith('rq:worker') && !key.startsWith('rq:clean'));
        const theirs = Object.fromEntries(keys.map((key) => [key, shown(due(key, after[key] as Held), told)]));
        const ours = await dump(client, told);
        expect(ours).toEqual(theirs);
      },
    );
  }
});

/** How the run ended, in the words of our worker. */
function outcomeOf({ name, means }: RqFixture): Outcome {
  const { outcome } = means;
  switch (outcome?.kind) {
    case 'success':
      return { kind: 'success', value: valueOf(outcome.value) };
    case 'error':
      if (outcome.type === 'JobTimeoutException') return { kind: 'timeout', limitMs: 1000 };
      return {
        kind: 'error',
        retriable: true,
        error: { type: outcome.type, module: 'builtins', message: outcome.message, traceback: '' },
      };
    case 'killed': {
      const message = 'Work-horse terminated unexpectedly; waitpid returned 9 (signal 9); ';
      return { kind: 'error', retriable: true, error: { type: 'Error', message, traceback: message } };
    }
    case 'stopped':
      return { kind: 'cancelled', reason: 'stop-job' };
    case 'retry':
      return { kind: 'retry', delayMs: (outcome.intervals[0] ?? 0) * 1000, error: undefined };
    case 'unserializable':
      return { kind: 'success', value: Symbol('no form') };
    default:
      throw new Error(`${name} ends in a way that no test knows`);
  }
}

/** The values in the fixtures, as a handler would return them. */
function valueOf(python: string): unknown {
  const values: Readonly<Record<string, unknown>> = {
    5: 5,
    3: 3,
    9: 9,
    None: null,
    "'done'": 'done',
    "'slept'": 'slept',
    "'žluť ' * 60": 'žluť '.repeat(60),
    "{'k': [1, None]}": { k: [1, null] },
  };
  if (!(python in values)) throw new Error(`no value for ${python}`);
  return values[python];
}
