import { describe, expect, it } from 'vitest';
import {
  exceptionLine,
  exceptionOf,
  exceptionResult,
  maxRetriesExceeded,
  notRegistered,
  pythonException,
  reprException,
  revoked,
  softTimeLimitExceeded,
  timeLimitExceeded,
  tracebackText,
  workerLost,
} from '../../../protocols/celery/outcome/exceptions.ts';
import { encodeJson } from '../../../protocols/celery/message/serializers.ts';
import type { Failure } from '../../../protocols/job.ts';

function failure(type: string, more: Partial<Failure> = {}): Failure {
  return { type, message: 'msg', traceback: '', ...more };
}

describe('an error becomes the Python exception', () => {
  // What Celery 5.6.3's exception_to_python makes of each was looked at: a class of the second name, never a SecurityError.
  it.each([
    ['Error', 'builtins', 'Exception'],
    ['', 'builtins', 'Exception'],
    ['TypeError', 'builtins', 'TypeError'],
    ['RangeError', 'builtins', 'ValueError'],
    ['SyntaxError', 'builtins', 'ValueError'],
    ['ReferenceError', 'builtins', 'NameError'],
    ['URIError', 'builtins', 'ValueError'],
    ['AggregateError', 'builtins', 'Exception'],
    ['KeyError', 'builtins', 'KeyError'],
    ['TimeoutError', 'builtins', 'TimeoutError'],
    ['SoftTimeLimitExceeded', 'billiard.exceptions', 'SoftTimeLimitExceeded'],
    // Unknown to Python: it makes a class of this name.
    ['OutOfStock', 'celery.exceptions', 'OutOfStock'],
    ['AbortError', 'celery.exceptions', 'AbortError'],
    ['shop.OutOfStock', 'shop', 'OutOfStock'],
    ['My-Error', 'celery.exceptions', 'My_Error'],
    // These would end the client, or ask for arguments we do not have.
    ['SystemExit', 'celery.exceptions', 'SystemExit'],
    ['KeyboardInterrupt', 'celery.exceptions', 'KeyboardInterrupt'],
    ['UnicodeDecodeError', 'celery.exceptions', 'UnicodeDecodeError'],
    // Names that celery.exceptions has, some of them no exceptions at all.
    ['Retry', null, 'Retry'],
    ['SecurityError', null, 'SecurityError'],
    ['UNREGISTERED_FMT', null, 'UNREGISTERED_FMT'],
    ['reraise', null, 'reraise'],
    ['eval', null, 'eval'],
    ['os.system', null, 'system'],
    ['1st', null, '_1st'],
    ['constructor', null, 'constructor'],
    ['\ud800', null, '_'],
  ])('%j: %s %s', (type, module, python) => {
    expect(pythonException(failure(type))).toEqual({ type: python, module, args: ['msg'] });
  });

  it('that was declared for its name, before all else', () => {
    const names = { OutOfStock: 'shop.errors.OutOfStock', TypeError: 'RuntimeError' };
    expect(pythonException(failure('OutOfStock', { module: 'other' }), names)).toMatchObject({
      type: 'OutOfStock',
      module: 'shop.errors',
    });
    expect(pythonException(failure('TypeError'), names)).toMatchObject({ type: 'RuntimeError', module: 'builtins' });
    expect(pythonException(failure('toString'), names)).toMatchObject({ type: 'toString', module: null });
  });

  it('that it says itself, as errors from Python do', () => {
    expect(pythonException(failure('OutOfStock', { module: 'shop.errors', args: ['a', 2] }))).toEqual({
      type: 'OutOfStock',
      module: 'shop.errors',
      args: ['a', 2],
    });
    expect(pythonException(failure('eval', { module: 'builtins' }))).toMatchObject({ module: null });
  });

  it('without arguments where there is no message', () => {
    expect(pythonException(failure('ValueError', { message: '' })).args).toEqual([]);
  });
});

describe('what is stored', () => {
  it('replaces arguments that JSON cannot hold by their repr, as in ValueError("bad", 1, {1, 2})', () => {
    const exception = pythonException(failure('ValueError', { args: ['bad', 1, () => 1, undefined] }));
    const stored = exceptionResult(exception);
    expect([...stored.keys()]).toEqual(['exc_type', 'exc_message', 'exc_module']);
    const [text, number, replaced, nothing] = stored.get('exc_message') as unknown[];
    expect([text, number, typeof replaced, nothing]).toEqual(['bad', 1, 'string', null]);
    expect(() => encodeJson(stored)).not.toThrow();
  });

  it.each([
    [
      notRegistered('o.nobody'),
      '{"exc_type": "NotRegistered", "exc_message": ["o.nobody"], "exc_module": "celery.exceptions"}',
    ],
    [
      revoked('expired'),
      '{"exc_type": "TaskRevokedError", "exc_message": ["expired"], "exc_module": "celery.exceptions"}',
    ],
    [
      timeLimitExceeded(1),
      '{"exc_type": "TimeLimitExceeded", "exc_message": [1], "exc_module": "billiard.exceptions"}',
    ],
    [
      softTimeLimitExceeded(),
      '{"exc_type": "SoftTimeLimitExceeded", "exc_message": [], "exc_module": "billiard.exceptions"}',
    ],
    [
      workerLost('gone'),
      '{"exc_type": "WorkerLostError", "exc_message": ["gone"], "exc_module": "billiard.exceptions"}',
    ],
    [
      maxRetriesExceeded('o.max', 't-max', [1, 'a'], { k: null }),
      '{"exc_type": "MaxRetriesExceededError", "exc_message": ["Can\'t retry o.max[t-max] args:(1, \'a\') kwargs:{\'k\': None}"], "exc_module": "celery.exceptions"}',
    ],
  ])('%o', (exception, stored) => {
    expect(encodeJson(exceptionResult(exception))).toBe(stored);
  });
});

describe('reading', () => {
  it.each([
    [{ exc_type: 'ValueError', exc_message: ['bad', 1], exc_module: 'builtins' }, 'ValueError', 'builtins', ['bad', 1]],
    [{ exc_type: 'ValueError', exc_message: 'bad' }, 'ValueError', null, ['bad']],
    [{ exc_message: ['bad'] }, 'Exception', null, ['bad']],
    [new Map<string, unknown>([['exc_type', 'KeyError']]), 'KeyError', null, []],
  ])('%o', (result, type, module, args) => {
    expect(exceptionOf(result)).toEqual({ type, module, args });
  });

  it.each([null, undefined, 'text', 3, [], { done: 3 }])('%o is no exception', (result) => {
    expect(exceptionOf(result)).toBeUndefined();
  });
});

describe('in text', () => {
  it.each([
    [{ type: 'KeyError', module: 'builtins', args: ['k'] }, "KeyError('k')", "KeyError: 'k'"],
    [{ type: 'ValueError', module: 'builtins', args: ['bad', 1] }, "ValueError('bad', 1)", "ValueError: ('bad', 1)"],
    [
      { type: 'OutOfStock', module: 'app', args: ['none left'] },
      "OutOfStock('none left')",
      'app.OutOfStock: none left',
    ],
    [{ type: 'Gone', module: null, args: [] }, 'Gone()', 'Gone'],
  ])('%o', (exception, repr, line) => {
    expect(reprException(exception)).toBe(repr);
    expect(exceptionLine(exception)).toBe(line);
  });
});

describe('a stack as a Python traceback', () => {
  const exception = { type: 'ValueError', module: 'builtins', args: ['outer'] };

  it('has the most recent call last, and causes first', () => {
    const traceback =
      'RangeError: outer\n    at charge (file:///app/shop.js:12:9)\n    at async Promise.all (index 0)\n' +
      '    at async run (/app/worker.js:3:1)\nCaused by: Error: inner\nsecond line\n    at new Cart (C:\\app\\cart.js:7:2)\n    at node:internal/timers:1:2';
    expect(tracebackText(failure('RangeError', { traceback }), exception)).toBe(`Traceback (most recent call last):
  File "node:internal/timers", line 1, in <anonymous>
    at node:internal/timers:1:2
  File "C:\\app\\cart.js", line 7, in new Cart
    at new Cart (C:\\app\\cart.js:7:2)
Error: inner
second line

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/app/worker.js", line 3, in run
    at async run (/app/worker.js:3:1)
  File "/app/shop.js", line 12, in charge
    at charge (file:///app/shop.js:12:9)
ValueError: outer
`);
  });

  it('is null without frames: a client that parses it would raise something else', () => {
    expect(tracebackText(failure('Error', { traceback: 'Error: thrown text' }), exception)).toBeNull();
    expect(tracebackText(failure('Error'), exception)).toBeNull();
  });

  it('stays as it is where Python wrote it', () => {
    const traceback = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\nValueError: x';
    expect(tracebackText(failure('ValueError', { traceback }), exception)).toBe(`${traceback}\n`);
  });
});
