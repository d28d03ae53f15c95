import { describe, expect, test } from 'vitest';
import { dialect, dialectOf, NEUTRAL } from '../../../protocols/sidekiq/dialect.ts';
import { expiryOf, retryOf } from '../../../protocols/sidekiq/message.ts';
import { bucketOf, Metrics } from '../../../protocols/sidekiq/metrics.ts';
import { pollInterval } from '../../../protocols/sidekiq/presence.ts';
import { readTimestamp, seconds, timestamp } from '../../../protocols/sidekiq/times.ts';

describe('a dialect', () => {
  test.each([
    [
      '6.4',
      { timestamps: 'seconds', work: ['workers'], metrics: [], beatSeconds: 5, jitter: 'narrow', retryFor: 'ignored' },
    ],
    ['7.1.2', { timestamps: 'seconds', work: ['work'], metrics: ['7'], retryFor: 'ignored', base64: 'mime' }],
    ['7.3', { retryFor: 'both', base64: 'strict', jitter: 'narrow', pollSpread: 1 }],
    ['8.0', { timestamps: 'milliseconds', metrics: ['8'], jitter: 'wide', retryFor: 'both', pollSpread: 1 }],
    ['8.0.10', { pollSpread: 2 }],
    ['8.1.7', { version: '8.1.7', retryFor: 'instead', activeJobWrapper: 'Sidekiq::ActiveJob::Wrapper' }],
  ])('of %s', (version, expected) => {
    expect(dialect(version)).toMatchObject(expected);
  });
  test('of a fleet is that of its oldest member', () => {
    expect(dialectOf([])).toBe(NEUTRAL);
    expect(dialectOf(['8.1.7', '8.0.1'])).toMatchObject({ version: '8.0.1', timestamps: 'milliseconds' });
    expect(dialectOf(['8.1.7', '7.3.2'])).toMatchObject({
      timestamps: 'seconds',
      metrics: ['7', '8'],
      jitter: 'narrow',
    });
    expect(dialectOf(['8.1.7', undefined])).toMatchObject({ version: '6.4.0', work: ['work', 'workers'] });
    expect(dialectOf(['nonsense'])).toMatchObject({ timestamps: 'seconds' });
  });
});

describe('times', () => {
  test('seconds always have a fraction: 8.x takes a whole number for milliseconds', () => {
    expect(seconds(1_795_219_359_000)).toBe('1795219359.0');
    expect(seconds(1_795_219_359_250)).toBe('1795219359.25');
    expect(timestamp(1_795_219_359_250.75, dialect('8.1'))).toBe('1795219359250');
  });
  test('are read whichever version wrote them', () => {
    expect(readTimestamp(1_795_219_359.25)).toBe(1_795_219_359_250);
    expect(readTimestamp(1_795_219_359_250)).toBe(1_795_219_359_250);
    expect([readTimestamp('2026-11-21'), readTimestamp(Number.NaN), readTimestamp(-1), readTimestamp(null)]).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });
  test('an expiry is absolute, or counts from when the job was put in its queue', () => {
    expect(expiryOf({ expiry: 1_795_219_359.5 })).toBe(1_795_219_359_500);
    expect(expiryOf({ expires_in: 60, enqueued_at: 1_795_219_359_500 })).toBe(1_795_219_419_500);
    expect([expiryOf({ expires_in: 60 }), expiryOf({ expiry: 'soon' }), expiryOf({})]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });
  test('the more processes, the less often each polls', () => {
    expect(pollInterval(1, 5, dialect('8.1'), 0.5)).toBe(5);
    expect(pollInterval(4, 5, dialect('8.1'), 0.5)).toBe(20);
    expect([pollInterval(20, 5, dialect('7.3'), 0.5), pollInterval(20, 5, dialect('8.1'), 0.5)]).toEqual([50, 100]);
    expect(pollInterval(3, 5, dialect('8.1'), 0.5, 2)).toBe(2);
    expect(pollInterval(0, 5, dialect('8.1'), 0)).toBe(2.5);
  });
});

test.each([
  [{}, undefined],
  [{ retry: null }, undefined],
  [{ retry: 3 }, 3],
  [{ retry: 3.5 }, true],
  [{ retry: 'yes' }, true],
  [{ retry: 0 }, 0],
  [{ retry: false }, false],
])('retry of %j is %j', (hash, retry) => {
  expect(retryOf(hash)).toBe(retry);
});

test('metrics: a run belongs to the first bound above it; what could not be written is counted again', () => {
  expect([0, 19, 20, 999, 334_999, 1e9].map(bucketOf)).toEqual([0, 0, 1, 10, 24, 25]);
  const metrics = new Metrics();
  metrics.add('A', false, 10);
  metrics.add('A', true, 10);
  const taken = metrics.take();
  expect(metrics.isEmpty).toBe(true);
  metrics.add('A', false, 30);
  metrics.giveBack(taken);
  const again = metrics.take().get('A');
  expect(again).toMatchObject({ processed: 3, failed: 1, ms: 40 });
  expect(again!.histogram.slice(0, 3)).toEqual([1, 0, 1]);
});
