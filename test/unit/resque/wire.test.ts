import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Outcome } from '../../../protocols/job.ts';
import { keyspace } from '../../../protocols/resque/keys.ts';
import { type ResquePolicy, type ResqueRun, settle } from '../../../protocols/resque/lifecycle.ts';
import { decodeDelayed, decodePayload, encodeDelayed, encodePayload } from '../../../protocols/resque/message.ts';
import { queueList } from '../../../protocols/resque/queues.ts';
import { attemptOf, BACKOFF_STRATEGY, inspected } from '../../../protocols/resque/retry.ts';
import { readSchedule } from '../../../protocols/resque/schedule.ts';
import { failedAt, readTime, rubyTime } from '../../../protocols/resque/times.ts';
import { readUrl } from '../../../src/drivers/resque/options.ts';

describe('payloads', () => {
  test('come back as they were, delayed and not', () => {
    fc.assert(
      fc.property(
        fc.string({ minLength: 1, unit: 'grapheme' }),
        fc.array(fc.jsonValue({ maxDepth: 4 })),
        (name, args) => {
          const text = encodePayload(name, args);
          const item = decodeDelayed(Buffer.from(encodeDelayed(text, 'low')));
          expect(item.queue).toBe('low');
          expect(item.payload.text).toBe(text);
          expect(JSON.stringify(decodePayload(Buffer.from(text)).args)).toBe(JSON.stringify(args));
        },
      ),
    );
  });

  test('delayed by another, in another order, begin with their class', () => {
    const read = (text: string): string => decodeDelayed(Buffer.from(text)).payload.text;
    expect(read('{"class":"A","queue":"q","args":[1.0]}')).toBe('{"class":"A","args":[1.0]}');
    expect(read('{"queue":"q","args":[1.0,12345678901234567890],"class":"A"}')).toBe(
      '{"class":"A","args":[1.0,12345678901234567890]}',
    );
    expect(read('{"queue":"q","class":"A"}')).toBe('{"class":"A"}');
  });
});

describe('queues', () => {
  const known = ['b', 'a', 'high_1', 'high_2', '.hidden', 'é'];
  test.each([
    [['*'], ['a', 'b', 'high_1', 'high_2', 'é']],
    [
      ['b', '*'],
      ['b', 'a', 'high_1', 'high_2', 'é'],
    ],
    [['high_*', '!high_2'], ['high_1']],
    [
      ['*', '!high_*', '!b'],
      ['a', 'é'],
    ],
    [
      ['x', 'a', 'a'],
      ['x', 'a'],
    ],
    [['x*'], []],
    [['{a,b}'], []],
    [['.*'], ['.hidden']],
  ])('%j', (list, expected) => {
    expect(queueList(list).expand(known)).toEqual(expected);
  });
  test('an id has what was asked for, without what is taken away', () => {
    expect(queueList(['high', '*', '!low']).shown).toBe('high,*');
  });
  test('a pattern of many stars takes no time to speak of', () => {
    const list = queueList([`${'*a'.repeat(50)}b`]);
    expect(list.expand(['a'.repeat(5_000)])).toEqual([]);
  });
});

describe('times', () => {
  const moment = new Date('2026-11-21T00:15:44.987Z');
  test('are written as Ruby writes them, and read from whoever wrote them', () => {
    expect(failedAt(moment)).toBe('2026/11/21 00:15:44 UTC');
    expect(rubyTime(moment)).toBe('2026-11-21 00:15:44 +0000');
    const second = '2026-11-21T00:15:44.000Z';
    for (const text of [
      '2026/11/21 00:15:44 UTC',
      '2026-11-21 01:15:44 +0100',
      '2026-11-21T00:15:44+00:00',
      '2026-11-21T00:15:44Z',
    ])
      expect(readTime(text)?.toISOString()).toBe(second);
    for (const text of ['', 'soon', '2026-13-45', '1795220144', '2026/11/21 00:15:44 CEST'])
      expect(readTime(text)).toBeUndefined();
  });
});

describe('where Redis is', () => {
  test.each([
    ['redis://host:6379/3', { url: 'redis://host:6379/3', namespace: undefined }],
    ['host:6380', { url: 'redis://host:6380/0', namespace: undefined }],
    ['host', { url: 'redis://host:6379/0', namespace: undefined }],
    ['host:6380:4', { url: 'redis://host:6380/4', namespace: undefined }],
    ['host:6380/apps:shop', { url: 'redis://host:6380/0', namespace: 'apps:shop' }],
    ['host:6380:4/shop', { url: 'redis://host:6380/4', namespace: 'shop' }],
  ])('%s', (text, expected) => {
    expect(readUrl(text)).toEqual(expected);
  });
});

describe('schedules', () => {
  test('are read as resque-scheduler reads them', () => {
    expect(readSchedule('A', { queue: 'q', every: ['1h', { first_in: '5m' }], args: { a: 1 } }).entry).toMatchObject({
      class: 'A',
      args: [{ a: 1 }],
      every: '1h',
      firstIn: '5m',
    });
    expect(readSchedule('n', { class: 'B', custom_job_class: 'C', queue: 'q', cron: '* * * * *' }).entry?.class).toBe(
      'C',
    );
    expect(readSchedule('n', { class: 'B', cron: '* * * * *' }).why).toBe('it names no queue');
    expect(readSchedule('n', { class: 'B', queue: 'q' }).why).toBe('it has neither cron nor every');
  });
});

describe('the end of a run', () => {
  const keys = keyspace();
  const run: ResqueRun = {
    queue: 'q',
    payload: '{"class":"A","args":[]}',
    attempt: 1,
    worker: 'w:1:q',
    retryName: undefined,
  };
  const plain: ResquePolicy = { keys, failures: ['redis'], retry: undefined };
  const moment = { now: new Date('2026-11-21T00:00:00Z'), random: 0, newId: () => '' };
  const error = { type: 'Boom', message: 'no', traceback: '' };

  test('without a scheduler a retry that is asked for is a failure that says so', () => {
    const { disposition, write } = settle(run, { kind: 'retry', delayMs: 5, error: undefined }, plain, moment);
    expect(disposition.state).toBe('failed');
    expect(write.failure?.error).toContain('no scheduler is configured. Pass scheduler: true');
  });
  test('a job that goes back is not counted', () => {
    const { disposition, write } = settle(run, { kind: 'reject', reason: '', requeue: true }, plain, moment);
    expect([disposition.state, write.processed]).toEqual(['requeued', false]);
    expect(write.commands).toContainEqual(['RPUSH', 'resque:queue:q', run.payload]);
  });
  test.each<[ResquePolicy['retry'], number, unknown]>([
    [
      {},
      1_500,
      {
        commands: [
          ['RPUSH', 'resque:delayed:1795219202', '{"class":"A","args":[],"queue":"q"}'],
          expect.anything(),
          expect.anything(),
        ],
      },
    ],
    [undefined, 1_500, { commands: [], heldUntil: new Date(moment.now.getTime() + 1_500) }],
    [
      {},
      0,
      {
        commands: [
          ['SADD', 'resque:queues', 'q'],
          ['RPUSH', 'resque:queue:q', run.payload],
        ],
      },
    ],
    [
      undefined,
      0,
      {
        commands: [
          ['SADD', 'resque:queues', 'q'],
          ['RPUSH', 'resque:queue:q', run.payload],
        ],
      },
    ],
  ])(
    'postponed, with the retries %j and by %d ms, it is delayed or kept, and counts for nothing',
    (retry, delayMs, write) => {
      const ended = settle(
        { ...run, attempt: 2, retryName: 'resque-retry:A' },
        { kind: 'postpone', delayMs, reason: '' },
        { ...plain, retry },
        moment,
      );
      expect(ended.disposition).toEqual({ state: 'postponed', at: new Date(moment.now.getTime() + delayMs) });
      expect(ended.write).toEqual({ processed: false, failure: undefined, ...(write as object) });
    },
  );
  test('postponed beyond the last moment there is, it has a second all the same', () => {
    const { write } = settle(run, { kind: 'postpone', delayMs: 8.639e15, reason: '' }, { ...plain, retry: {} }, moment);
    expect(write.commands[0]?.[1]).toBe('resque:delayed:8640000000000');
  });
  test.each([
    [undefined, 'q'],
    ['elsewhere', 'elsewhere'],
  ])('unknown, it goes to the back of its queue or of %s, with the same bytes', (queue, target) => {
    const outcome: Outcome = { kind: 'unknown', ...(queue === undefined ? {} : { queue }) };
    const { disposition, write } = settle({ ...run, attempt: 2, retryName: 'resque-retry:A' }, outcome, plain, moment);
    expect(disposition).toEqual({ state: 'requeued' });
    expect(write).toEqual({
      commands: [
        ['SADD', 'resque:queues', target],
        ['RPUSH', `resque:queue:${target}`, run.payload],
      ],
      processed: false,
      failure: undefined,
    });
  });
  test('a retry waits in the second after its delay, never before', () => {
    const policy: ResquePolicy = {
      ...plain,
      retry: { max: null, delayMs: (attempt) => (BACKOFF_STRATEGY[attempt] ?? 0) * 1000 + 1 },
    };
    const { write } = settle(
      { ...run, retryName: 'resque-retry:A' },
      { kind: 'error', error, retriable: true },
      policy,
      moment,
    );
    expect(write.commands[0]).toEqual(['SET', 'resque:resque-retry:A', '0']);
    expect(write.commands[1]?.[1]).toBe(`resque:delayed:${moment.now.getTime() / 1000 + 61}`);
  });
  test.each([
    [Number.NaN, moment.now.getTime() / 1000 + 180],
    [undefined as unknown as number, moment.now.getTime() / 1000 + 180],
    [Number.POSITIVE_INFINITY, 8.64e12],
    [8.64e15 - 1, 8.64e12],
  ])('a retry after %s ms has a second all the same', (ms, second) => {
    const policy: ResquePolicy = { ...plain, retry: { max: null, delayMs: () => ms } };
    const { disposition, write } = settle(
      { ...run, retryName: 'resque-retry:A' },
      { kind: 'error', error, retriable: true },
      policy,
      moment,
    );
    expect(disposition.state).toBe('retrying');
    expect(write.commands[1]?.[1]).toBe(`resque:delayed:${second}`);
    for (const command of write.commands) expect(command.join(' ')).not.toMatch(/NaN|Infinity/);
  });
  test('a message that is half a letter is recorded all the same', () => {
    const { write } = settle(
      run,
      { kind: 'fail', error: { ...error, type: 'B\ud800', message: 'x\udfff' } },
      plain,
      moment,
    );
    expect(String(write.commands[0]?.[2])).toContain('"exception":"B\ufffd","error":"x\ufffd"');
  });
});

test('attempts are counted from what resque-retry keeps', () => {
  expect([undefined, '-1', '0', '4', 'x', ''].map(attemptOf)).toEqual([1, 1, 2, 6, 1, 2]);
  expect(inspected({ a: [1, null] }, '3.3')).toBe('{"a"=>[1, nil]}');
  expect(inspected({ a: [1, null] }, '3.4')).toBe('{"a" => [1, nil]}');
});
