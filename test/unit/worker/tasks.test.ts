import { describe, expect, test } from 'vitest';
import { ConfigError } from '../../../src/errors.ts';
import { defineTask, Tasks, taskName } from '../../../src/task.ts';

const handler = (): string => 'done';

describe('the registry of tasks', () => {
  test('finds a task under its name in every system, and under its other name only there', () => {
    const tasks = new Tasks()
      .handle(defineTask('send'), handler)
      .handle(defineTask('report', { names: { sidekiq: 'ReportJob' } }), handler);
    expect(tasks.find('celery', 'send')?.handler).toBe(handler);
    expect(tasks.find('sidekiq', 'send')).toBeDefined();
    expect(tasks.find('celery', 'report')).toBeDefined();
    expect(tasks.find('sidekiq', 'ReportJob')?.task.name).toBe('report');
    expect(tasks.find('sidekiq', 'report')).toBeUndefined();
    expect(tasks.find('celery', 'ReportJob')).toBeUndefined();
    expect(tasks.names('celery')).toEqual(['report', 'send']);
    expect(tasks.names('sidekiq')).toEqual(['ReportJob', 'send']);
  });

  test('one handler serves several tasks', () => {
    const tasks = new Tasks().handle([defineTask('old.name'), defineTask('new.name')], handler, { acksLate: true });
    for (const name of ['old.name', 'new.name'])
      expect(tasks.find('celery', name)).toMatchObject({ handler, options: { acksLate: true } });
  });

  test('a name is taken once, in each system', () => {
    const tasks = new Tasks().handle(defineTask('send', { names: { sidekiq: 'SendJob' } }), handler);
    expect(() => tasks.handle(defineTask('send'), handler)).toThrow(ConfigError);
    expect(() => tasks.handle(defineTask('other', { names: { sidekiq: 'SendJob' } }), handler)).toThrow(ConfigError);
  });

  test('a task needs a name', () => {
    expect(() => defineTask('')).toThrow(ConfigError);
  });

  test.each(['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'valueOf'])(
    '%s is a name like any other',
    (name) => {
      expect(new Tasks().find('celery', name)).toBeUndefined();
      expect(new Tasks().find(name, 'send')).toBeUndefined();
      const tasks = new Tasks().handle(defineTask(name), handler);
      expect(tasks.find('celery', name)?.task.name).toBe(name);
      expect(tasks.names('celery')).toEqual([name]);
      expect(taskName(defineTask('send'), name)).toBe('send');
    },
  );

  test('a name where a task should be is refused, saying what to pass', () => {
    expect(() => new Tasks().handle('proj.tasks.add' as never, handler)).toThrow(
      new ConfigError("Tasks.handle: not a task: proj.tasks.add. Pass one made by defineTask('proj.tasks.add')"),
    );
  });

  test.each<[unknown, string]>([
    [{ maxx: 3 }, "retry: unknown option 'maxx'; did you mean 'max'?"],
    [{ max: -1 }, 'retry: max must be null, or a whole number, 0 or more, not -1'],
    [{ max: 1.5 }, 'retry: max must be null, or a whole number, 0 or more, not 1.5'],
    [{ max: '3' }, 'retry: max must be null, or a whole number, 0 or more, not "3"'],
    [{ max: Infinity }, 'retry: max must be null, or a whole number, 0 or more, not Infinity'],
    [{ delayMs: -1 }, 'retry: delayMs must be a function, or a number of milliseconds, 0 or more, not -1'],
    [{ delayMs: Number.NaN }, 'retry: delayMs must be a function, or a number of milliseconds, 0 or more, not NaN'],
    [{ delay: 1 }, "retry: unknown option 'delay'; known are backoff, delayMs, max, on"],
    [{ backoff: true }, 'retry: backoff must be an object, not true'],
    [{ backoff: { factor: 2 } }, "retry.backoff: unknown option 'factor'; did you mean 'factorMs'?"],
    [{ backoff: { factorMs: '1s' } }, 'retry.backoff: factorMs must be a number of milliseconds, 0 or more, not "1s"'],
    [{ backoff: { jitter: 0.5 } }, 'retry.backoff: jitter must be true or false, not 0.5'],
    [{ on: [Error] }, 'retry: on must be a function, not a list'],
    [3, 'retry: options must be an object, not 3'],
  ])('the retry policy %j is refused', (retry, message) => {
    const handle = (): unknown => new Tasks().handle(defineTask('send'), handler, { retry: retry as never });
    expect(handle).toThrow(new ConfigError(`tasks.handle: 'send': ${message}`));
  });

  test.each([
    {},
    { max: null },
    { max: 0, delayMs: 0 },
    { delayMs: (attempt: number) => attempt, on: () => true },
    { backoff: {} },
    { backoff: { factorMs: 0, maxMs: Infinity, jitter: false } },
  ])('the retry policy %j is taken', (retry) => {
    expect(new Tasks().handle(defineTask('send'), handler, { retry }).find('rq', 'send')?.options.retry).toBe(retry);
  });
});
