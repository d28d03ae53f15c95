import { describe, expect, test } from 'vitest';
import { readCall } from '../../../src/cli/celery/enqueue.ts';
import { exitCodeOf } from '../../../src/cli/exit.ts';
import { ConfigError, ConnectionError } from '../../../src/errors.ts';
import { Numeral } from '../../../protocols/formats/values.ts';

describe('a call read from the command line', () => {
  test('keeps numbers as they are written', () => {
    expect(readCall('[1.0, 12345678901234567890, 1]', {}).args).toEqual([new Numeral('1.0'), 12345678901234567890n, 1]);
  });

  test('has no arguments where none are given', () => {
    expect(readCall(undefined, {})).toEqual({ args: [], kwargs: {} });
  });

  test('takes times, headers and options', () => {
    const call = readCall('[]', {
      kwargs: '{"width": 640}',
      eta: '2026-11-21T10:00:00+01:00',
      expires: '60',
      header: ['tenant=a=b'],
      queue: 'high',
      priority: 3,
    });
    expect(call).toEqual({
      args: [],
      kwargs: { width: 640 },
      eta: new Date('2026-11-21T09:00:00Z'),
      expires: 60,
      headers: { tenant: 'a=b' },
      queue: 'high',
      priority: 3,
    });
    expect(readCall('[]', { expires: '2026-11-21T10:00:00' }).expires).toEqual(new Date('2026-11-21T10:00:00Z'));
  });

  test.each([
    ['{"a": 1}', {}, /ARGS must be a JSON list/],
    ['[1', {}, /ARGS is not JSON/],
    ['[]', { kwargs: '[]' }, /--kwargs must be a JSON object/],
    ['[]', { eta: 'tomorrow' }, /--eta must be an ISO 8601 time/],
    ['[]', { expires: 'soon' }, /--expires \(or a number of seconds\)/],
    ['[]', { header: ['=x'] }, /--header must be NAME=VALUE/],
    ['[]', { eta: '2026-11-21', countdown: 1 }, /--eta and --countdown/],
  ])('%s with %j is refused', (args, flags, words) => {
    expect(() => readCall(args, flags)).toThrow(words);
    expect(() => readCall(args, flags)).toThrow(ConfigError);
  });
});

test('errors end the process with the code of their kind, from any copy of the package', () => {
  expect(exitCodeOf(new ConfigError('x'))).toBe(64);
  expect(exitCodeOf(new ConnectionError('x'))).toBe(69);
  expect(exitCodeOf({ code: 'connection' })).toBe(69);
  expect(exitCodeOf(new Error('x'))).toBe(1);
  expect(exitCodeOf(undefined)).toBe(1);
});
