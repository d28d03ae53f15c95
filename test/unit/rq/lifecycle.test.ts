import { inflateSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { WireError } from '../../../protocols/errors.ts';
import * as pickle from '../../../protocols/formats/pickle/index.ts';
import type { Outcome } from '../../../protocols/job.ts';
import { abandoned, type Execution, giveBack, type RqPolicy, settle } from '../../../protocols/rq/lifecycle.ts';
import type { JobHash } from '../../../protocols/rq/message.ts';
import type { Settlement } from '../../../protocols/rq/redis.ts';
import { readResult, readReturnValue, type StoredEntry } from '../../../protocols/rq/result.ts';

const NOW = new Date('2026-11-21T10:00:00.400Z');
const SECONDS = 1_795_255_200;
const STARTED = new Date('2026-11-21T09:59:58.400Z');
const DATE = '2026-11-21T10:00:00.400000Z';
const POLICY: RqPolicy = { serializer: 'pickle', resultTtl: 500, failureTtl: 31_536_000 };
const ERROR = { type: 'ValueError', message: 'no', traceback: 'ValueError: no\n    at run (file:///app/a.js:3:5)' };
const failing: Outcome = { kind: 'error', error: ERROR, retriable: false };

const runOf = (job: Partial<JobHash> = {}): Execution => ({
  job: { id: 'j', data: Buffer.from('x'), ...job },
  execution: 'e',
  queue: 'q',
  worker: 'w',
  startedAt: STARTED,
});
const fieldsOf = (write: Settlement): Record<string, unknown> => Object.fromEntries(write.fields);
const resultOf = (write: Settlement): StoredEntry =>
  readResult(
    '0-1',
    write.result!.entry.map((one) => Buffer.from(one)),
  );

describe('a success', () => {
  it('is finished, with its value, for as long as the worker says', () => {
    const { disposition, write } = settle(runOf(), { kind: 'success', value: [1] }, POLICY, NOW);
    expect(disposition).toEqual({ state: 'succeeded' });
    expect(write).toMatchObject({
      id: 'j',
      execution: 'e',
      queue: 'q',
      ttl: 500,
      ended: 'finished',
      counted: 'successful',
      seconds: 2,
      registry: { name: 'finished', score: SECONDS + 500 },
    });
    expect(fieldsOf(write)).toEqual({ status: 'finished', ended_at: DATE, last_heartbeat: DATE });
    const entry = resultOf(write);
    expect(entry).toMatchObject({
      type: 'successful',
      workerName: 'w',
      executionId: 'e',
      startedAt: STARTED.getTime(),
    });
    expect(readReturnValue(entry)).toEqual([1]);
    expect(write.result!.ttl).toBe(500);
  });
  it.each([
    [-1, '+inf'],
    [60, SECONDS + 60],
  ])('of a job with result_ttl %d is listed until %s', (resultTtl, score) => {
    const { write } = settle(runOf({ resultTtl }), { kind: 'success', value: 1 }, POLICY, NOW);
    expect(write).toMatchObject({ ttl: resultTtl, result: { ttl: resultTtl }, registry: { score } });
  });
  it('of a job with result_ttl 0 leaves nothing', () => {
    const { write } = settle(runOf({ resultTtl: 0 }), { kind: 'success', value: 1 }, POLICY, NOW);
    expect(write).toMatchObject({ ttl: 0, ended: 'finished' });
    expect(write.result).toBeUndefined();
    expect(write.registry).toBeUndefined();
  });
  it('without a value has none in its result', () => {
    for (const value of [undefined, null]) {
      const { write } = settle(runOf(), { kind: 'success', value }, POLICY, NOW);
      expect(write.result!.entry).not.toContain('return_value');
    }
  });
  it('with a value that cannot be written says so, in the words of RQ', () => {
    const { write, unwritable } = settle(runOf(), { kind: 'success', value: () => 1 }, POLICY, NOW);
    expect(unwritable).toBeInstanceOf(WireError);
    expect(readReturnValue(resultOf(write))).toBe('Unserializable return value');
  });
  it.each([
    ['at once', [0], 2, { push: 'tail', queue: 'q' }, 'queued', '1'],
    ['in a while', [60], 2, { at: SECONDS + 61, queue: 'q' }, 'scheduled', '1'],
    ['by the interval that is counted from the end', [0, 9], 2, { at: SECONDS + 10, queue: 'q' }, 'scheduled', '1'],
    ['for the last time', [5, 6], 1, { at: SECONDS + 6, queue: 'q' }, 'scheduled', '0'],
  ] as const)('of a job that repeats runs again %s', (_, repeatIntervals, repeatsLeft, next, status, left) => {
    const { write } = settle(
      runOf({ repeatIntervals, repeatsLeft, ttl: 99 }),
      { kind: 'success', value: 1 },
      POLICY,
      NOW,
    );
    expect(write).toMatchObject({ next, ttl: 99, registry: { name: 'finished' }, ended: 'finished' });
    expect(fieldsOf(write)).toMatchObject({ status, repeats_left: left });
  });
});

describe('what readers that know no stream look for', () => {
  const policy = { ...POLICY, resultsInHash: true };
  it('is in the hash beside the stream where the worker is told so, and what an earlier run left there goes', () => {
    const { write } = settle(runOf(), { kind: 'success', value: [1] }, policy, NOW);
    const { result, exc_info: excInfo, ...others } = fieldsOf(write);
    expect(others).toEqual({ status: 'finished', ended_at: DATE, last_heartbeat: DATE });
    expect(pickle.decode(result as Buffer)).toEqual([1]);
    expect(excInfo).toBeUndefined();
    expect(write.fields).toContainEqual(['exc_info', undefined]);
    expect(readReturnValue(resultOf(write))).toEqual([1]);
  });
  it('is no field for None, as in RQ', () => {
    const { write } = settle(runOf(), { kind: 'success', value: null }, policy, NOW);
    expect(write.fields).toContainEqual(['result', undefined]);
  });
  it('is the traceback of a failure, deflated', () => {
    for (const { write } of [
      settle(runOf(), failing, policy, NOW),
      abandoned(runOf(), policy, NOW, SECONDS),
      settle(runOf({ numberOfRetries: 3 }), { kind: 'retry', delayMs: 0, error: ERROR }, policy, NOW),
    ]) {
      expect(inflateSync(fieldsOf(write)['exc_info'] as Buffer).toString()).toBe(resultOf(write).excString);
      expect(write.fields).toContainEqual(['result', undefined]);
    }
  });
  it('is not written of a run that is not the last', () => {
    const names = ({ fields }: Settlement): unknown[] => fields.map(([name]) => name);
    const again = settle(runOf({ retriesLeft: 1 }), failing, policy, NOW);
    expect(names(again.write)).toEqual(names(settle(runOf({ retriesLeft: 1 }), failing, POLICY, NOW).write));
    expect(names(giveBack(runOf(), NOW, 'head'))).not.toContain('result');
  });
});

describe('a failure', () => {
  it('is failed, with its traceback, most recent call last', () => {
    const { disposition, write } = settle(runOf(), failing, POLICY, NOW);
    expect(disposition).toEqual({ state: 'failed' });
    expect(write).toMatchObject({
      ttl: 31_536_000,
      ended: 'failed',
      counted: 'failed',
      registry: { name: 'failed', score: SECONDS + 31_536_000 },
    });
    expect(resultOf(write)).toMatchObject({
      type: 'failed',
      excString:
        'Traceback (most recent call last):\n  File "/app/a.js", line 3, in run\n    at run (file:///app/a.js:3:5)\nValueError: no\n',
    });
  });
  it('for ever is listed under -1, as RQ does', () => {
    expect(settle(runOf({ failureTtl: -1 }), failing, POLICY, NOW).write).toMatchObject({
      ttl: -1,
      registry: { score: -1 },
    });
  });
  it.each([
    [[10, 20, 30], 3, { at: SECONDS + 11 }],
    [[10, 20, 30], 5, { at: SECONDS + 11 }],
    [[10, 20, 30], 2, { at: SECONDS + 21 }],
    [[10, 20, 30], 1, { at: SECONDS + 31 }],
    [[0], 1, { push: 'tail' }],
    [undefined, 1, { push: 'tail' }],
  ] as const)('with the intervals %j and %d retries left is tried again %j', (retryIntervals, retriesLeft, next) => {
    const job = { retriesLeft, ...(retryIntervals === undefined ? {} : { retryIntervals }) };
    const { disposition, write } = settle(runOf(job), failing, POLICY, NOW);
    expect(disposition.state).toBe('retrying');
    expect(write.next).toMatchObject(next);
    expect(write.result).toBeUndefined();
    expect(write.ended).toBeUndefined();
    expect(fieldsOf(write)).toMatchObject({ retries_left: String(retriesLeft - 1), jobglot_attempts: '1' });
  });
  it('goes to the head where the retry says so', () => {
    const { write } = settle(runOf({ retriesLeft: 1, enqueueAtFrontOnRetry: true }), failing, POLICY, NOW);
    expect(write.next).toEqual({ push: 'head', queue: 'q' });
  });
  it("is tried again by the task's policy only where the job brings no retry of its own", () => {
    const policy: RqPolicy = { ...POLICY, retry: { max: 2, delayMs: (retry) => retry * 1000 } };
    const retriable: Outcome = { ...failing, retriable: true };
    expect(settle(runOf(), retriable, policy, NOW).write.next).toEqual({ at: SECONDS + 2, queue: 'q' });
    expect(settle(runOf({ attempts: 1 }), retriable, policy, NOW).write.next).toEqual({ at: SECONDS + 3, queue: 'q' });
    expect(settle(runOf({ attempts: 2 }), retriable, policy, NOW).disposition.state).toBe('failed');
    expect(settle(runOf({ retriesLeft: 0 }), retriable, policy, NOW).disposition.state).toBe('failed');
    expect(settle(runOf(), failing, policy, NOW).disposition.state).toBe('failed');
  });
  it('that shall not be retried is failed whatever is left', () => {
    expect(settle(runOf({ retriesLeft: 3 }), { kind: 'fail', error: ERROR }, POLICY, NOW).write).toMatchObject({
      ended: 'failed',
    });
  });
  it('by its time limit is told as RQ tells it', () => {
    const { write } = settle(runOf(), { kind: 'timeout', limitMs: 2_000 }, POLICY, NOW);
    expect(resultOf(write).excString).toContain(
      'rq.timeouts.JobTimeoutException: Task exceeded maximum timeout value (2 seconds)',
    );
  });
});

it('a run that asks for another is stored as a Retry that Python can read', () => {
  const outcome: Outcome = { kind: 'retry', delayMs: 1_500, error: ERROR };
  const { disposition, write } = settle(runOf({ numberOfRetries: 1 }), outcome, POLICY, NOW);
  expect(disposition).toEqual({ state: 'retrying', at: new Date(NOW.getTime() + 1_500) });
  expect(write.next).toEqual({ at: SECONDS + 2, queue: 'q' });
  expect(fieldsOf(write)).toMatchObject({ status: 'scheduled', number_of_retries: '2' });
  const entry = resultOf(write);
  expect(entry.type).toBe('retried');
  const retry = readReturnValue(entry) as pickle.PyObject;
  expect(retry.className).toBe('rq.job.Retry');
  expect(retry.state).toEqual({ max: 3, intervals: [2], enqueue_at_front: false });
});

it.each([
  ['three without a policy', 3, undefined],
  ["the task's", 1, { max: 1, delayMs: () => 1_000 }],
] as const)('a run that asks for another has failed beyond the limit, which is %s', (_, max, retry) => {
  const policy = { ...POLICY, ...(retry === undefined ? {} : { retry }) };
  const outcome: Outcome = { kind: 'retry', delayMs: undefined, error: undefined };
  expect(settle(runOf({ numberOfRetries: max - 1 }), outcome, policy, NOW).disposition.state).toBe('retrying');
  const { disposition, write } = settle(runOf({ numberOfRetries: max }), outcome, policy, NOW);
  expect(disposition).toEqual({ state: 'failed' });
  expect(write).toMatchObject({ ended: 'failed', registry: { name: 'failed' }, counted: 'failed' });
  expect(write.next).toBeUndefined();
  const entry = resultOf(write);
  expect(entry.type).toBe('max_retries_exceeded');
  expect((readReturnValue(entry) as pickle.PyObject).state).toMatchObject({ max });
});
it('a run that asks for another has no limit where its task has none, and waits as its task says', () => {
  const policy: RqPolicy = { ...POLICY, retry: { max: null, delayMs: (retry) => retry * 1_000 } };
  const outcome: Outcome = { kind: 'retry', delayMs: undefined, error: undefined };
  const { disposition } = settle(runOf({ numberOfRetries: 99 }), outcome, policy, NOW);
  expect(disposition).toEqual({ state: 'retrying', at: new Date(NOW.getTime() + 100_000) });
});

it('a job that was stopped is in the failed registry, and lets nobody go that waits for it', () => {
  const { disposition, write } = settle(runOf(), { kind: 'cancelled', reason: 'x' }, POLICY, NOW);
  expect(disposition).toEqual({ state: 'cancelled' });
  expect(fieldsOf(write)['status']).toBe('stopped');
  expect(write).toMatchObject({ ended: 'stopped', registry: { name: 'failed' } });
  expect(resultOf(write).excString).toBe('Job stopped by user, work-horse terminated.');
});

it('a job that is given back is as it was, and may wait for what is left of its time', () => {
  const before = new Date('2026-11-21T09:00:00Z');
  const run = runOf({ startedAt: before, workerName: 'old', ttl: 100, enqueuedAt: new Date(NOW.getTime() - 30_000) });
  const write = giveBack(run, NOW, 'head');
  expect(write).toMatchObject({ next: { push: 'head', queue: 'q' }, ttl: 70, seconds: 0 });
  expect(fieldsOf(write)).toEqual({
    status: 'queued',
    origin: 'q',
    started_at: '2026-11-21T09:00:00.000000Z',
    last_heartbeat: '',
    worker_name: 'old',
  });
  expect(write.counted).toBeUndefined();
});

it('a job that is postponed is as it was, in the schedule, never before its time', () => {
  const before = new Date('2026-11-21T09:00:00Z');
  const job = { startedAt: before, workerName: 'old', ttl: 100, enqueuedAt: before, retriesLeft: 1, attempts: 1 };
  const outcome: Outcome = { kind: 'postpone', delayMs: 1_500, reason: 'busy' };
  const { disposition, write } = settle(runOf(job), outcome, POLICY, NOW);
  expect(disposition).toEqual({ state: 'postponed', at: new Date(NOW.getTime() + 1_500) });
  expect(write).toEqual({
    id: 'j',
    execution: 'e',
    queue: 'q',
    ttl: undefined,
    next: { at: SECONDS + 2, queue: 'q' },
    seconds: 0,
    fields: [
      ['status', 'scheduled'],
      ['origin', 'q'],
      ['started_at', '2026-11-21T09:00:00.000000Z'],
      ['last_heartbeat', ''],
      ['worker_name', 'old'],
    ],
  });
});
it('a job that is postponed by nothing is at the back of its queue', () => {
  const { disposition, write } = settle(runOf(), { kind: 'postpone', delayMs: 0, reason: 'busy' }, POLICY, NOW);
  expect(disposition).toEqual({ state: 'postponed', at: NOW });
  expect(write).toEqual(giveBack(runOf(), NOW, 'tail'));
});
it.each([
  [undefined, 'q'],
  ['others', 'others'],
])('an unknown function goes as it was to the back of the queue %s', (queue, expected) => {
  const outcome: Outcome = { kind: 'unknown', ...(queue === undefined ? {} : { queue }) };
  const { disposition, write } = settle(runOf(), outcome, POLICY, NOW);
  expect(disposition).toEqual({ state: 'requeued' });
  expect(write).toEqual(giveBack(runOf(), NOW, 'tail', expected));
  expect(fieldsOf(write)).toMatchObject({ status: 'queued', origin: expected });
});

it("a run whose worker is gone is failed in RQ's words, and only if its deadline has passed", () => {
  const { write } = abandoned({ ...runOf(), startedAt: undefined }, POLICY, NOW, SECONDS);
  expect(write).toMatchObject({ abandonedBefore: SECONDS, ended: 'failed' });
  expect(write.counted).toBeUndefined();
  expect(resultOf(write)).toMatchObject({
    workerName: '',
    excString: 'Moved to FailedJobRegistry, due to AbandonedJobError, at 2026-11-21 10:00:00.400000+00:00',
  });
});

it.each<Outcome>([
  { kind: 'discard', reason: 'x' },
  { kind: 'reject', reason: 'x', requeue: true },
  { kind: 'reject', reason: 'x', requeue: false },
  { kind: 'replace', by: {} },
  { kind: 'expired' },
])('$kind ends the run', (outcome) => {
  const { write } = settle(runOf(), outcome, POLICY, NOW);
  expect(write.ended !== undefined || write.next !== undefined).toBe(true);
});
