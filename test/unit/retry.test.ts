import { describe, expect, test } from 'vitest';
import { decodeTask, type TaskMessage } from '../../protocols/celery/message/message.ts';
import { acceptSet, defaultLimits } from '../../protocols/celery/message/serializers.ts';
import { settle as settleCelery } from '../../protocols/celery/outcome/lifecycle.ts';
import type { CeleryPolicy } from '../../protocols/celery/outcome/policy.ts';
import type { Disposition, Moment, Outcome } from '../../protocols/job.ts';
import { keyspace } from '../../protocols/resque/keys.ts';
import { settle as settleResque } from '../../protocols/resque/lifecycle.ts';
import type { RetryPolicy } from '../../protocols/retry.ts';
import { settle as settleRq } from '../../protocols/rq/lifecycle.ts';
import { dialect } from '../../protocols/sidekiq/dialect.ts';
import { keyspace as sidekiqKeys } from '../../protocols/sidekiq/keys.ts';
import { settle as settleSidekiq } from '../../protocols/sidekiq/lifecycle.ts';
import { decodeJob } from '../../protocols/sidekiq/message.ts';
import { retryRule } from '../../src/drivers/rq/intake.ts';
import { policyOf } from '../../src/drivers/sidekiq/task-rules.ts';

/** What a failed run number `attempt` comes to, by the lifecycle of one system, for a job that leaves its retries to the worker. */
type Settle = (policy: RetryPolicy, attempt: number, outcome: Outcome, moment: Moment) => Disposition;

/** Each system that follows RetryPolicy. */
const SYSTEMS: Readonly<Record<string, Settle>> = {
  celery: (retry, attempt, outcome, moment) =>
    settleCelery(celeryTask(attempt - 1), outcome, { ...CELERY_POLICY, retry }, moment).disposition,
  resque: (retry, attempt, outcome, moment) =>
    settleResque(
      { queue: 'q', payload: '{"class":"A","args":[]}', attempt, worker: 'w:1:q', retryName: 'resque-retry:A' },
      outcome,
      { keys: keyspace(), failures: ['redis'], retry },
      moment,
    ).disposition,
  rq: (retry, attempt, outcome, moment) =>
    settleRq(
      {
        // RQ counts what its handler asks for; runs that failed are counted beside it.
        job: {
          id: 'j',
          data: Buffer.from('x'),
          ...(outcome.kind === 'retry' ? { numberOfRetries: attempt - 1 } : { attempts: attempt - 1 }),
        },
        execution: 'e',
        queue: 'q',
        worker: 'w',
        startedAt: NOW,
      },
      outcome,
      { serializer: 'pickle', resultTtl: 500, failureTtl: 60, retry: retryRule(retry, () => moment.random) },
      moment.now,
    ).disposition,
  sidekiq: (retry, attempt, outcome, moment) => {
    const counted = attempt === 1 ? '' : `,"retry_count":${attempt - 2}`;
    const job = `{"class":"A","args":[],"jid":"j","queue":"q","retry":true${counted}}`;
    const policy = {
      keys: sidekiqKeys(undefined),
      dialect: dialect('8.1'),
      ...policyOf(retry, () => moment.random),
    };
    return settleSidekiq(decodeJob(Buffer.from(job), 'q'), outcome, policy, moment).disposition;
  },
};

const CELERY_POLICY: CeleryPolicy = {
  ignoreResult: true,
  storeErrorsEvenIfIgnored: false,
  acksLate: false,
  acksOnFailureOrTimeout: true,
  retry: {},
  resultSerializer: 'json',
  resultExtended: false,
  typed: true,
  nodename: 'celery@host',
  origin: 'gen1@host',
  replyTo: '',
  route: () => ({ exchange: '', routingKey: 'q' }),
  taskSerializer: 'json',
  inheritParentPriority: false,
};

/** A task that has been retried so often. */
function celeryTask(retries: number): TaskMessage {
  return decodeTask(
    {
      body: Buffer.from('[[], {}, {}]'),
      contentType: 'application/json',
      contentEncoding: 'utf-8',
      headers: { id: 'b2f3c1c0-0000-4000-8000-000000000001', task: 'shop.charge', retries, lang: 'py' },
      properties: { correlation_id: 'b2f3c1c0-0000-4000-8000-000000000001', delivery_info: { routing_key: 'q' } },
      raw: undefined,
    },
    { accept: acceptSet(['json']), limits: defaultLimits },
  );
}

const NOW = new Date('2026-11-21T10:00:00.000Z');
const ERROR = { kind: 'error', error: { type: 'Boom', message: 'no', traceback: '' }, retriable: true } as const;

describe.each(Object.entries(SYSTEMS))('a retry policy in %s', (_, settle) => {
  /** Milliseconds before the next run, of runs 1 to 5; null where the job has failed. */
  const delays = (policy: RetryPolicy, random = 0.5, outcome: Outcome = ERROR): readonly (number | null)[] =>
    [1, 2, 3, 4, 5].map((attempt) => {
      const disposition = settle(policy, attempt, outcome, { now: NOW, random, newId: () => '' });
      if (disposition.state === 'retrying') return disposition.at.getTime() - NOW.getTime();
      expect(disposition.state).toBe('failed');
      return null;
    });

  test.each<[number, readonly number[]]>([
    [0, [0, 0, 0, 0, 0]],
    [0.5, [500, 1_000, 2_000, 4_000, 8_000]],
    [0.999, [999, 1_998, 3_996, 7_992, 15_984]],
  ])('backs off from nothing to twice as long each time, by chance: %s', (random, expected) => {
    expect(delays({ max: null, backoff: { factorMs: 1_000 } }, random)).toEqual(expected);
  });

  test('backs off twice as long each time without jitter, and never longer than maxMs', () => {
    const backoff = { factorMs: 1_000, maxMs: 5_000, jitter: false };
    expect(delays({ max: null, backoff })).toEqual([1_000, 2_000, 4_000, 5_000, 5_000]);
    expect(delays({ max: null, backoff: { ...backoff, jitter: true } })).toEqual([500, 1_000, 2_000, 2_500, 2_500]);
  });

  test('backs off from a second to ten minutes where it does not say', () => {
    const long = Array.from({ length: 5 }, () => null);
    expect(delays({ max: null, backoff: { jitter: false } })).toEqual([1_000, 2_000, 4_000, 8_000, 16_000]);
    expect(delays({ max: null, backoff: { factorMs: 400_000, jitter: false } })).toEqual([
      400_000, 600_000, 600_000, 600_000, 600_000,
    ]);
    expect(delays({ max: 0, backoff: {} })).toEqual(long);
  });

  test.each<[number | null, readonly (number | null)[]]>([
    [0, [null, null, null, null, null]],
    [2, [7_000, 7_000, null, null, null]],
    [null, [7_000, 7_000, 7_000, 7_000, 7_000]],
  ])('max %s counts the retries after the first run', (max, expected) => {
    expect(delays({ max, delayMs: 7_000 })).toEqual(expected);
  });

  test('is three retries where it does not say how many', () => {
    expect(delays({ delayMs: 7_000 })).toEqual([7_000, 7_000, 7_000, null, null]);
  });

  test('asks a function for the delay of each retry, counted from 1', () => {
    const delayMs = (attempt: number): number => attempt * 10_000;
    expect(delays({ max: null, delayMs })).toEqual([10_000, 20_000, 30_000, 40_000, 50_000]);
  });

  test('takes a delay below zero as none', () => {
    expect(delays({ max: 1, delayMs: () => -5 })).toEqual([0, null, null, null, null]);
  });

  test('lets backoff win over delayMs', () => {
    expect(delays({ max: 1, delayMs: 7_000, backoff: { factorMs: 1_000, jitter: false } })[0]).toBe(1_000);
  });

  test('counts for a handler that asks for a retry, whose own delay wins', () => {
    const asks = (delayMs?: number): Outcome => ({ kind: 'retry', delayMs, error: undefined });
    const policy: RetryPolicy = { max: 2, backoff: { factorMs: 1_000, jitter: false } };
    expect(delays(policy, 0.5, asks())).toEqual([1_000, 2_000, null, null, null]);
    expect(delays(policy, 0.5, asks(9_000))).toEqual([9_000, 9_000, null, null, null]);
  });

  test('retries no error that its `on` refuses', () => {
    const refused: Outcome = { ...ERROR, retriable: false };
    expect(delays({ on: () => false, delayMs: 7_000 }, 0.5, refused)).toEqual([null, null, null, null, null]);
  });
});
