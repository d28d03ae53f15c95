import { describe, expect, it } from 'vitest';
import { WireError } from '../../../protocols/errors.ts';
import { type JobOptions, jobSettings, parseDuration, webhookRecord } from '../../../protocols/rq/options.ts';

// Against rq/utils.py parse_timeout (2.10).
describe('parseDuration', () => {
  it.each<[number | string, number]>([
    [180, 180],
    [5.9, 5],
    [-5.9, -5],
    [-0.5, 0],
    [-1, -1],
    ['180', 180],
    [' 12 ', 12],
    ['1_000', 1000],
    ['+5', 5],
    ['90s', 90],
    ['3m', 180],
    ['1h', 3600],
    ['2D', 172_800],
    ['-1h', -3600],
  ])('of %j is %d seconds', (given, seconds) => {
    expect(parseDuration('jobTimeout', given)).toBe(seconds);
  });

  it.each([Number.NaN, Infinity, '', 'h', '1.5h', '1w', '1h30m', 'forever', '５m', null, {}, 1e12])(
    'refuses %j',
    (given) => {
      expect(() => parseDuration('ttl', given as string)).toThrow(/^rq: ttl must be/);
    },
  );
});

describe('jobSettings', () => {
  it('has what Python has where nothing is said', () => {
    expect(jobSettings({})).toEqual({
      id: undefined,
      timeout: 180,
      description: '',
      dependencyIds: [],
      atFront: false,
      enqueueAtFrontOnRetry: false,
      webhooks: [],
      unique: false,
    });
    expect(jobSettings({}, 600).timeout).toBe(600);
    expect(jobSettings({ jobTimeout: -1 }, 600).timeout).toBe(-1);
  });

  it('puts each option into the terms of the hash', () => {
    expect(
      jobSettings({
        jobId: 'full-1',
        jobTimeout: '3m',
        resultTtl: '1h',
        failureTtl: '2d',
        ttl: 600,
        retry: { max: 3, interval: [10, 20, 30], enqueueAtFront: true },
        repeat: { times: 3, interval: 5 },
        onSuccess: { func: 'jobs.ok_cb', timeout: 11 },
        onFailure: 'jobs.fail_cb',
        onStopped: { func: 'jobs.stop_cb', timeout: 0 },
        meta: { a: 1 },
        group: 'g',
        atFront: true,
        webhooks: [{ url: 'http://x/done', jobStatus: 'finished' }],
      }),
    ).toMatchObject({
      id: 'full-1',
      timeout: 180,
      resultTtl: 3600,
      failureTtl: 172_800,
      ttl: 600,
      retriesLeft: 3,
      retryIntervals: [10, 20, 30],
      enqueueAtFrontOnRetry: true,
      repeatsLeft: 3,
      repeatIntervals: [5],
      onSuccess: { name: 'jobs.ok_cb', timeout: 11 },
      onFailure: { name: 'jobs.fail_cb', timeout: 60 },
      onStopped: { name: 'jobs.stop_cb', timeout: 60 },
      meta: { a: 1 },
      groupId: 'g',
      atFront: true,
      webhooks: [{ url: 'http://x/done', jobStatus: 'finished', method: 'GET', headers: null, timeout: 10 }],
    });
  });

  it('takes dependencies one by one, together, by job and with their flags', () => {
    const of = (dependsOn: JobOptions['dependsOn'], more: JobOptions = {}): unknown => {
      const { dependencyIds, allowDependencyFailures, enqueueAtFront } = jobSettings({
        ...more,
        dependsOn,
      } as JobOptions);
      return [dependencyIds, allowDependencyFailures, enqueueAtFront];
    };
    expect(of('a')).toEqual([['a'], undefined, undefined]);
    expect(of({ id: 'a' })).toEqual([['a'], undefined, undefined]);
    expect(of(['a', { id: 'b' }, 'a'])).toEqual([['a', 'b'], undefined, undefined]);
    expect(of({ jobs: 'a' })).toEqual([['a'], false, false]);
    expect(of([{ jobs: ['a', 'b'], allowFailure: true }, 'c', { jobs: 'd', enqueueAtFront: true }])).toEqual([
      ['a', 'b', 'c', 'd'],
      true,
      true,
    ]);
    expect(of('a', { atFront: true })).toEqual([['a'], undefined, true]);
    expect(of([])).toEqual([[], undefined, undefined]);
  });

  it.each<[string, unknown]>([
    ['jobId', { jobId: 'a:b' }],
    ['jobId', { jobId: '' }],
    ['jobId', { jobId: 'ä' }],
    ['jobId', { jobId: 'a\n' }],
    ['jobTimeout', { jobTimeout: 0 }],
    ['jobTimeout', { jobTimeout: '0s' }],
    ['jobTimeout', { jobTimeout: -2 }],
    ['ttl', { ttl: 0 }],
    ['ttl', { ttl: -1 }],
    ['description', { description: 7 }],
    ['dependsOn', { dependsOn: 'a b' }],
    ['dependsOn', { dependsOn: [undefined] }],
    ['dependsOn.jobs', { dependsOn: { jobs: [] } }],
    ['dependsOn', { jobId: 'a', dependsOn: 'a' }],
    ['unique', { unique: true }],
    ['unique', { unique: true, jobId: 'a', dependsOn: 'b' }],
    ['atFront', { atFront: 1 }],
    ['meta', { meta: [1] }],
    ['meta', { meta: 'x' }],
    ['retry.max', { retry: { max: 0 } }],
    ['retry.max', { retry: { max: 1.5 } }],
    ['retry.interval', { retry: { max: 1, interval: -1 } }],
    ['retry.interval', { retry: { max: 1, interval: [] } }],
    ['retry.interval', { retry: { max: 1, interval: [1.5] } }],
    ['repeat.times', { repeat: { times: 0 } }],
    ['repeat.interval', { repeat: { times: 1, interval: ['1'] } }],
    ['onSuccess', { onSuccess: '' }],
    ['onFailure', { onFailure: { func: 'a..b' } }],
    ['onStopped.timeout', { onStopped: { func: 'a.b', timeout: -1 } }],
    ['webhooks[0].url', { webhooks: [{ url: 'ftp://x', jobStatus: 'finished' }] }],
    ['webhooks[0].url', { webhooks: [{ url: 'http:///x', jobStatus: 'finished' }] }],
    ['webhooks[0].jobStatus', { webhooks: [{ url: 'http://x', jobStatus: 'started' }] }],
    ['webhooks[0].method', { webhooks: [{ url: 'http://x', jobStatus: 'failed', method: 'PUT' }] }],
    ['webhooks[0].timeout', { webhooks: [{ url: 'http://x', jobStatus: 'failed', timeout: 0 }] }],
    ['webhooks[0].headers', { webhooks: [{ url: 'http://x', jobStatus: 'failed', headers: { a: 1 } }] }],
    ['group', { group: '' }],
  ])('names %s in %j', (option, options) => {
    let thrown: unknown;
    try {
      jobSettings(options as JobOptions);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(WireError);
    expect(thrown).toMatchObject({
      code: 'bad-option',
      message: expect.stringMatching(`^rq: ${option.replaceAll(/[[\]]/g, '\\$&')} `),
    });
  });

  it('writes webhooks with the keys in the order of Python', () => {
    const [webhook] = jobSettings({
      webhooks: [{ url: 'https://x', jobStatus: 'failed', method: 'POST', headers: { A: 'b' }, timeout: 3 }],
    }).webhooks;
    expect(Object.entries(webhookRecord(webhook as NonNullable<typeof webhook>))).toEqual([
      ['url', 'https://x'],
      ['job_status', 'failed'],
      ['method', 'POST'],
      ['headers', { A: 'b' }],
      ['timeout', 3],
    ]);
  });
});
