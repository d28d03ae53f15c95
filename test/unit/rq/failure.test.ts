import { describe, expect, it } from 'vitest';
import { readFailure } from '../../../protocols/rq/failure.ts';

describe('readFailure', () => {
  it.each<[string, string, string | undefined, string]>([
    [
      'Traceback (most recent call last):\n  File "/x/jobs.py", line 3, in fail\n    raise ValueError("no")\nValueError: no\n',
      'ValueError',
      'builtins',
      'no',
    ],
    ['Traceback (most recent call last):\n  File "a", line 1, in f\nKeyError\n', 'KeyError', 'builtins', ''],
    [
      'Traceback (most recent call last):\n  File "a", line 1, in f\n    g()\n    ~^^\nshop.errors.Sold: a: b\n  second line\nthird\n',
      'Sold',
      'shop.errors',
      'a: b\n  second line\nthird',
    ],
    [
      'Traceback (most recent call last):\n  File "a", line 1, in f\nKeyError: 1\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File "b", line 2, in g\nTypeError: two\n',
      'TypeError',
      'builtins',
      'two',
    ],
    [
      'Moved to FailedJobRegistry, due to AbandonedJobError, at 2026-11-20 23:58:22.572509+00:00',
      'AbandonedJobError',
      'rq.exceptions',
      'Moved to FailedJobRegistry, due to AbandonedJobError, at 2026-11-20 23:58:22.572509+00:00',
    ],
    [
      'Job stopped by user, work-horse terminated.',
      'JobFailed',
      undefined,
      'Job stopped by user, work-horse terminated.',
    ],
    ['', 'JobFailed', undefined, ''],
  ])('of %j', (text, type, module, message) => {
    expect(readFailure(text)).toEqual({ type, module, message });
  });

  it('takes no longer for a long text', () => {
    const before = process.cpuUsage();
    readFailure(`Traceback (most recent call last):\n  File "a"\n${'a.'.repeat(1_000_000)}\n${' '.repeat(1_000_000)}`);
    expect((process.cpuUsage(before).user + process.cpuUsage(before).system) / 1000).toBeLessThan(500);
  });
});
