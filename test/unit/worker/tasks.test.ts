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
});
