import { describe, expect, test } from 'vitest';
import type { Failure, Outcome } from '../../../protocols/job.ts';
import { readBacktrace } from '../../../protocols/sidekiq/backtrace.ts';
import { dialect } from '../../../protocols/sidekiq/dialect.ts';
import { keyspace } from '../../../protocols/sidekiq/keys.ts';
import { defaultDelay, jitter, settle, type SidekiqPolicy } from '../../../protocols/sidekiq/lifecycle.ts';
import { decodeJob } from '../../../protocols/sidekiq/message.ts';

const NOW = new Date('2026-11-21T00:05:00.250Z');
const keys = keyspace();
const boom: Failure = {
  type: 'Boom',
  message: 'kaboom é',
  traceback: 'Boom: kaboom é\n    at run (a.ts:1:2)\n    at b.ts:3',
};
const error: Outcome = { kind: 'error', error: boom, retriable: false };

function fails(hash: object | string, outcome: Outcome = error, policy: Partial<SidekiqPolicy> = {}, random = 0.5) {
  const text =
    typeof hash === 'string' ? hash : JSON.stringify({ class: 'X', args: [], jid: 'j', queue: 'q', ...hash });
  return settle(
    decodeJob(Buffer.from(text), 'q'),
    outcome,
    { keys, dialect: dialect('8.1'), ...policy },
    { now: NOW, random, newId: () => 'id' },
  );
}

describe('the first failure', () => {
  test('goes to the retry set with its error, in the order Ruby writes', () => {
    const { disposition, write, failed, exhausted } = fails(
      '{"retry":true,"queue":"q","args":[1.0],"class":"X","jid":"j"}',
    );
    expect(disposition).toEqual({ state: 'retrying', at: new Date(NOW.getTime() + 15_000 + 5_000) });
    expect(write.commands).toEqual([
      [
        'ZADD',
        'retry',
        '1795219520.25',
        `{"retry":true,"queue":"q","args":[1.0],"class":"X","jid":"j","error_message":"kaboom é","error_class":"Boom","failed_at":${NOW.getTime()},"retry_count":0}`,
      ],
    ]);
    expect({ failed, exhausted }).toEqual({ failed: true, exhausted: false });
  });
  test('has seconds for 7.x', () => {
    const { text } = fails({ retry: true }, error, { dialect: dialect('7.3') });
    expect(text).toContain('"failed_at":1795219500.25,');
  });
  test('moves it to its retry_queue', () => {
    expect(fails({ retry: true, retry_queue: 'low' }).text).toContain('"queue":"low"');
  });
  test.each([
    [true, ['run (a.ts:1:2)', 'b.ts:3']],
    [1, ['run (a.ts:1:2)']],
  ])('keeps the backtrace: %j', (backtrace, lines) => {
    const { error_backtrace: packed } = JSON.parse(fails({ retry: true, backtrace }).text) as Record<string, unknown>;
    expect(readBacktrace(packed)).toEqual(lines);
  });
});

describe('a job without a jid', () => {
  test('gets one when it fails: two of the same text would be one member of a set', () => {
    let minted = 0;
    const policy = { keys, dialect: dialect('8.1') };
    const newId = (): string => `0000000${++minted}-0000-4000-8000-000000000000`;
    const texts = [1, 2].map(
      () =>
        settle(decodeJob(Buffer.from('{"class":"X","args":[]}'), 'q'), error, policy, { now: NOW, random: 0, newId })
          .text,
    );
    expect(new Set(texts).size).toBe(2);
    expect(texts[0]).toMatch(/"jid":"[0-9a-f]{24}"/);
  });
});

describe('later failures', () => {
  test('count, and keep the first time', () => {
    const hash = { retry: true, retry_count: 3, failed_at: 1795219000123, error_class: 'Old', error_message: 'old' };
    const next = JSON.parse(fails(hash).text) as Record<string, unknown>;
    expect(next).toMatchObject({
      retry_count: 4,
      failed_at: 1795219000123,
      retried_at: NOW.getTime(),
      error_class: 'Boom',
    });
  });
  test('one that a person lowered below zero counts from there', () => {
    expect(fails({ retry: true, retry_count: -1 }).text).toContain('"retry_count":0');
  });
});

describe('delays', () => {
  test('count^4 + 15, and jitter as the version has it', () => {
    expect([0, 1, 2, 24].map(defaultDelay)).toEqual([15, 16, 31, 331_791]);
    expect([0, 1, 5].map((count) => jitter(count, dialect('7.3'), 0.99))).toEqual([9, 18, 54]);
    expect([0, 1, 5].map((count) => jitter(count, dialect('8.0'), 0.99))).toEqual([9, 19, 59]);
  });
  test("a class's own delay counts, with jitter; nonsense does not; what it throws is told", () => {
    const at = (retryIn: () => unknown): number => {
      const { disposition } = fails({ retry: true }, error, { retryIn: retryIn as never }, 0);
      return disposition.state === 'retrying' ? disposition.at.getTime() - NOW.getTime() : -1;
    };
    expect(at(() => 100)).toBe(100_000);
    expect(at(() => -1)).toBe(15_000);
    expect(at(() => 'soon')).toBe(15_000);
    const told: unknown[] = [];
    fails({ retry: true }, error, {
      retryIn: () => {
        throw new Error('bug');
      },
      onError: (thrown) => told.push(thrown),
    });
    expect(told).toHaveLength(1);
  });
  test('a delay that the handler asks for is kept to the millisecond', () => {
    const { disposition } = fails({ retry: true }, { kind: 'retry', delayMs: 400, error: undefined });
    expect(disposition).toEqual({ state: 'retrying', at: new Date(NOW.getTime() + 400) });
  });
});

describe('the end of retries', () => {
  const dead = [
    ['ZADD', 'dead', '1795219500.25', expect.stringContaining('"error_class":"Boom"')],
    ['ZREMRANGEBYSCORE', 'dead', '-inf', '1779667500.25'],
    ['ZREMRANGEBYRANK', 'dead', 0, -10_000],
  ];
  test.each([
    [{ retry: true, retry_count: 24 }],
    [{ retry: 0 }],
    [{ retry: 2, retry_count: 1 }],
    [{ retry_count: 24 }],
    [{ retry: '5', retry_count: 24 }],
  ])('is the dead set: %j', (hash) => {
    const { disposition, write, exhausted } = fails(hash);
    expect(disposition).toEqual({ state: 'failed' });
    expect(write).toMatchObject({ commands: dead, atomic: true });
    expect(exhausted).toBe(true);
  });
  test.each([[{ retry: true, retry_count: 23 }], [{ retry: 3, retry_count: 1 }], [{}]])('is not yet: %j', (hash) => {
    expect(fails(hash).disposition.state).toBe('retrying');
  });
  test('with retry false, or dead false, nothing is written', () => {
    for (const hash of [{ retry: false }, { retry: 0, dead: false }]) {
      expect(fails(hash)).toMatchObject({ disposition: { state: 'failed' }, write: { commands: [] }, exhausted: true });
    }
  });
  test('retry null asks the class', () => {
    expect(fails({ retry: null }, error, { retry: 0 }).disposition.state).toBe('failed');
    expect(fails({ retry: null }, error, { retry: false }).write.commands).toEqual([]);
  });
  test('discard forgets, kill buries', () => {
    expect(fails({ retry: 5 }, error, { retryIn: () => 'discard' })).toMatchObject({
      disposition: { state: 'discarded' },
      write: { commands: [] },
      exhausted: false,
    });
    expect(fails({ retry: 5 }, error, { retryIn: () => 'kill' }).write.commands).toEqual(dead);
  });
  test('Fail buries, whatever is left', () => {
    expect(fails({ retry: true }, { kind: 'fail', error: boom }).write.commands).toEqual(dead);
  });
  test.each([
    ['8.1', 30, 'retrying'],
    ['8.0', 30, 'failed'],
    ['7.1', 30, 'failed'],
    ['8.1', 1, 'failed'],
    ['8.0', 1, 'failed'],
  ])('retry_for in %s, %d s left of a number that is used up: %s', (version, seconds, state) => {
    const hash = { retry: true, retry_count: 30, retry_for: seconds + 10, failed_at: NOW.getTime() / 1000 - 20.5 };
    expect(fails(hash, error, { dialect: dialect(version) }).disposition.state).toBe(state);
  });
});

describe('what is no failure', () => {
  test.each<[Outcome, string]>([
    [{ kind: 'success', value: 1 }, 'succeeded'],
    [{ kind: 'discard', reason: '' }, 'discarded'],
    [{ kind: 'expired' }, 'discarded'],
    [{ kind: 'cancelled', reason: '' }, 'cancelled'],
  ])('%j writes nothing', (outcome, state) => {
    expect(fails({}, outcome)).toMatchObject({ disposition: { state }, write: { commands: [] }, failed: false });
  });
  test('what the handler will not take goes behind the others, the same bytes', () => {
    const text = '{"class":"X", "args":[1.0]}';
    const { write } = fails(text, { kind: 'reject', reason: 'no', requeue: true });
    expect(write.commands).toEqual([['LPUSH', 'queue:q', Buffer.from(text)]]);
  });
});

describe('job hashes', () => {
  test.each([
    ['{not json', 'undecodable'],
    ['[1]', 'not-a-job'],
    ['"text"', 'not-a-job'],
    ['{"args":[]}', 'not-a-job'],
    ['{"class":"X"}', 'not-a-job'],
    ['{"class":"X","args":{}}', 'not-a-job'],
    ['{"class":"X","args":[NaN]}', 'undecodable'],
  ])('%s is %s', (text, code) => {
    expect(() => decodeJob(Buffer.from(text), 'q')).toThrow(
      expect.objectContaining({ code, system: 'sidekiq' }) as Error,
    );
  });
  test('bytes that are no UTF-8 are refused, the sign for them is not', () => {
    const bytes = (text: string, byte: number): Buffer =>
      Buffer.concat([Buffer.from(text), Buffer.from([byte]), Buffer.from('"]}')]);
    expect(() => decodeJob(bytes('{"class":"X","args":["', 0xff), 'q')).toThrow('not UTF-8');
    expect(decodeJob(Buffer.from('{"class":"X","args":["\ufffd"]}'), 'q').hash['args']).toEqual(['\ufffd']);
  });
});

describe('not now', () => {
  const hash = '{"retry":5,"queue":"q","args":[1.0],"class":"X","jid":"j","retry_count":2}';

  test('a postponed job is a member of schedule with the same bytes', () => {
    const { disposition, write, failed, exhausted } = fails(hash, {
      kind: 'postpone',
      delayMs: 1_500,
      reason: 'closed',
    });
    expect(disposition).toEqual({ state: 'postponed', at: new Date(NOW.getTime() + 1_500) });
    expect(write.commands).toEqual([['ZADD', 'schedule', '1795219501.75', Buffer.from(hash)]]);
    expect({ failed, exhausted }).toEqual({ failed: false, exhausted: false });
  });
  test('a delay beyond all dates is the last date', () => {
    const { disposition } = fails(hash, { kind: 'postpone', delayMs: 8.64e15 - 1, reason: '' });
    expect(disposition).toEqual({ state: 'postponed', at: new Date(8.64e15) });
  });
  test('a job without a jid gets one, since a set holds equal members once', () => {
    const { write } = fails('{"class":"X","args":[]}', { kind: 'postpone', delayMs: 0, reason: '' });
    expect(write.commands).toEqual([['ZADD', 'schedule', '1795219500.25', '{"class":"X","args":[],"jid":"id"}']]);
  });
  test('an unknown class goes to the back of its queue with the same bytes, or to another one', () => {
    expect(fails(hash, { kind: 'unknown' }).write.commands).toEqual([['LPUSH', 'queue:q', Buffer.from(hash)]]);
    expect(fails(hash, { kind: 'unknown', queue: 'other' }).write.commands).toEqual([
      ['SADD', 'queues', 'other'],
      ['LPUSH', 'queue:other', Buffer.from(hash)],
    ]);
  });
});
