import { deflateSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { Tuple } from '../../../protocols/formats/pickle/index.ts';
import {
  attemptOf,
  type JobHash,
  readCall,
  readJob,
  toJob,
  writeCall,
  writeJob,
} from '../../../protocols/rq/message.ts';

const flatOf = (fields: Readonly<Record<string, string | Buffer>>): Buffer[] =>
  Object.entries(fields).flatMap(([name, value]) => [Buffer.from(name), Buffer.from(value)]);

/** As RQ 2.10 writes it, in its order. */
const FULL = {
  created_at: '2026-11-20T23:56:44.412289Z',
  data: deflateSync(
    Buffer.from(
      '800595230000000000000028 8c086a6f62732e616464944e4b0185947d948c0162945d94284b014b02657374942e'.replace(' ', ''),
      'hex',
    ),
  ),
  success_callback_name: 'jobs.ok_cb',
  failure_callback_name: 'jobs.fail_cb',
  stopped_callback_name: 'jobs.stop_cb',
  started_at: '',
  ended_at: '',
  last_heartbeat: '',
  worker_name: '',
  group_id: '',
  retries_left: '3',
  retry_intervals: '[10, 20, 30]',
  enqueue_at_front_on_retry: '1',
  origin: 'default',
  description: 'jobs.add(1, b=[1, 2])',
  enqueued_at: '2026-11-20T23:56:44.412884Z',
  repeats_left: '3',
  repeat_intervals: '[5, 6]',
  timeout: '180',
  success_callback_timeout: '11',
  failure_callback_timeout: '60',
  stopped_callback_timeout: '60',
  webhooks: '[{"url": "http://x", "job_status": "finished", "method": "POST", "headers": {}, "timeout": 10}]',
  result_ttl: '3600',
  failure_ttl: '172800',
  status: 'queued',
  meta: Buffer.from('8005950a000000000000007d948c0161944b01732e', 'hex'),
  ttl: '600',
};

const read = (fields: Readonly<Record<string, string | Buffer>>): JobHash => {
  const found = readJob('full-1', flatOf(fields));
  expect(found?.broken).toEqual([]);
  return found!.job;
};

describe('the hash of a job', () => {
  it('is written as it was read, in its order, with its microseconds', () => {
    const job = read(FULL);
    expect(job).toMatchObject({
      retriesLeft: 3,
      retryIntervals: [10, 20, 30],
      timeout: 180,
      status: 'queued',
      ttl: 600,
    });
    expect(writeJob(job).map(String)).toEqual(flatOf(FULL).map(String));
  });
  it('keeps fields that nobody here knows', () => {
    const job = read({ data: 'x', x_future: Buffer.from([0xff, 0]) });
    expect(job.unknown?.get('x_future')).toEqual(Buffer.from([0xff, 0]));
    expect(writeJob(job).slice(-2)).toEqual(['x_future', Buffer.from([0xff, 0])]);
  });
  it('is none without its data', () => {
    expect(readJob('a', [])).toBeUndefined();
    expect(readJob('a', flatOf({ status: 'queued' }))).toBeUndefined();
    expect(readJob('a', flatOf({ data: '' }))?.job.data).toHaveLength(0);
  });

  it.each([
    ['timeout', '180.5'],
    ['timeout', '1h'],
    ['result_ttl', '500.0'],
    ['repeats_left', 'x'],
    ['success_callback_timeout', ''],
    ['enqueue_at_front', ''],
    ['enqueue_at_front', 'true'],
    ['status', 'running'],
    ['created_at', '2026-11-20T23:56:44+00:00'],
    ['created_at', '2026-11-20T23:56:44.123456789Z'],
    ['created_at', '2026-02-30T23:56:44Z'],
    ['started_at', 'yesterday'],
    ['dependency_ids', 'a,b'],
    ['retry_intervals', '[1'],
    ['worker_name', Buffer.from([0xff])],
    ['ttl', '99999999999999999999'],
  ])('with %s = %j is broken there, as RQ says, and read all the same', (field, value) => {
    const { job, broken } = readJob('a', flatOf({ data: 'x', origin: 'q', [field]: value }))!;
    expect(broken.map((one) => one.field)).toEqual([field]);
    expect(job.origin).toBe('q');
  });
  it.each([
    ['timeout', ' 180 ', { timeout: 180 }],
    ['timeout', '', {}],
    ['ttl', '1_000', { ttl: 1000 }],
    ['status', '', {}],
    ['created_at', '2026-11-20T23:56:44Z', { createdAt: new Date('2026-11-20T23:56:44Z') }],
    ['dependency_id', 'one', { dependencyIds: ['one'] }],
    ['enqueue_at_front', '0', { enqueueAtFront: false }],
  ])('with %s = %j is read as RQ reads it', (field, value, means) => {
    const { unknown: _, ...job } = read({ data: 'x', [field]: value });
    expect(JSON.parse(JSON.stringify(job))).toEqual(
      JSON.parse(JSON.stringify({ id: 'full-1', data: Buffer.from('x'), ...means })),
    );
  });
  it('with a field named __proto__ is data', () => {
    const job = read({ data: 'x', __proto__x: '1' });
    expect(Object.getPrototypeOf(job)).toBe(Object.prototype);
    const hostile = readJob('a', [Buffer.from('data'), Buffer.from('x'), Buffer.from('__proto__'), Buffer.from('y')])!;
    expect(hostile.job.unknown?.get('__proto__')).toEqual(Buffer.from('y'));
  });
});

describe('the call of a job', () => {
  it('is read from what Python pickled', () => {
    const call = readCall(FULL.data);
    expect(call).toEqual({
      serializer: 'pickle',
      funcName: 'jobs.add',
      instance: null,
      args: Tuple.of(1),
      kwargs: { b: [1, 2] },
    });
    expect(toJob(read(FULL), call, 'default')).toMatchObject({
      id: 'full-1',
      task: 'jobs.add',
      attempt: 1,
      timeoutMs: 180_000,
    });
  });
  it.each(['pickle', 'json'] as const)('is the same once it was written with %s', (serializer) => {
    const call = { funcName: 'a.b', instance: null, args: [1, 'ü', null, { x: [2.5] }], kwargs: { 'k k': true } };
    const again = readCall(writeCall(serializer, call));
    expect(again).toMatchObject({ funcName: 'a.b', instance: null, kwargs: call.kwargs });
    expect([...again.args]).toEqual(call.args);
  });
  it('may stand undeflated', () => {
    expect(readCall(Buffer.from('["a.b", null, [], {}]')).funcName).toBe('a.b');
  });
  it.each([
    ['nothing', Buffer.alloc(0)],
    ['three of four', Buffer.from('["a.b", null, []]')],
    ['no name', Buffer.from('[1, null, [], {}]')],
    ['no arguments', Buffer.from('["a.b", null, "xy", {}]')],
    ['no keyword arguments', Buffer.from('["a.b", null, [], [1]]')],
    ['a pickle cut off', Buffer.from('8005952300', 'hex')],
    ['a zlib stream cut off', deflateSync(Buffer.alloc(100)).subarray(0, 8)],
  ])('that is %s is refused', (_, data) => {
    expect(() => readCall(data)).toThrow(expect.objectContaining({ name: 'WireError', code: 'undecodable' }));
  });
  it('is not inflated beyond its limit', () => {
    const bomb = deflateSync(Buffer.alloc(2 ** 20));
    expect(() => readCall(bomb, { limits: { maxBytes: 1000 } })).toThrow(
      expect.objectContaining({ code: 'too-large' }),
    );
  });
});

it('a run is counted whether it was retried by its result or by its exception', () => {
  expect(attemptOf({ id: 'a', data: Buffer.alloc(0), numberOfRetries: 2, attempts: 1 })).toBe(4);
});

describe('headers of a job', () => {
  const call = { funcName: 'f', instance: null, args: [], kwargs: {} };
  const jobOf = (meta?: string): JobHash => ({
    id: 'j',
    data: Buffer.from('x'),
    ...(meta === undefined ? {} : { meta: Buffer.from(meta) }),
  });
  it('are its meta', () => {
    expect(toJob(jobOf('{"trace": "1", "n": 2}'), call, 'q').headers).toEqual({ trace: '1', n: 2 });
  });
  it.each([undefined, 'nonsense', '[1]'])('are not there where the meta is %j', (meta) => {
    expect(toJob(jobOf(meta), call, 'q').headers).toBeUndefined();
  });
});
