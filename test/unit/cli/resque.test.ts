import { describe, expect, test } from 'vitest';
import { explain } from '../../../protocols/resque/explain.ts';
import { logLevelOf, resolveResque, type ResqueWorkerFlags } from '../../../src/cli/resque/settings.ts';
import { systemsFor } from '../../../src/cli/sources.ts';
import { ConfigError, defineConfig } from '../../../src/index.ts';
import { resque } from '../../../src/drivers/resque/index.ts';
import { capture, captures } from '../../golden/ruby-support.ts';

describe('a worker', () => {
  const resolve = (flags: ResqueWorkerFlags, env: Record<string, string> = {}, config = {}) =>
    resolveResque(flags, env, config);

  test("is started with Resque's environment", () => {
    const env = {
      QUEUE: 'ignored',
      QUEUES: 'high, low,*',
      COUNT: '5',
      INTERVAL: '0.1',
      FAILURE_BACKEND: 'redis_multi_queue',
      FORK_PER_JOB: 'true',
      TERM_CHILD: '1',
      RESQUE_TERM_TIMEOUT: '10',
      RESQUE_PRE_SHUTDOWN_TIMEOUT: '2.5',
      GRACEFUL_TERM: '1',
      PIDFILE: 'worker.pid',
      BACKGROUND: 'yes',
      RESQUE_REDIS_URL: 'redis://env:6379/1',
    };
    const { options, ...rest } = resolve({ resque: true }, env);
    expect(options).toMatchObject({
      url: 'redis://env:6379/1',
      queues: ['high', 'low', '*'],
      concurrency: 5,
      interval: 0.1,
      failure: 'redis_multi_queue',
    });
    expect(rest).toMatchObject({
      from: 'RESQUE_REDIS_URL',
      forkPerJob: true,
      gracefulTerm: true,
      termChild: true,
      termTimeoutMs: 10_000,
      shutdownTimeoutMs: 2_500,
      pidFile: 'worker.pid',
    });
    expect(rest.background).toBe(true);
  });

  test("a worker's looks, its title and its scheduler heed the environment of Resque and resque-scheduler", () => {
    const env = {
      INTERVAL: '0',
      MIN_INTERVAL: '0.5',
      MAX_INTERVAL: '30',
      BACKOFF_INTERVAL: '2',
      RESQUE_PROCLINE_PREFIX: 'shop-',
      RESQUE_SCHEDULER_INTERVAL: '0.5',
      LOCK_TIMEOUT: '60',
      DYNAMIC_SCHEDULE: 'false',
      RAILS_ENV: 'staging',
      RESQUE_SCHEDULER_MASTER_LOCK_PREFIX: 'blue',
    };
    expect(resolve({}, env).options).toEqual({
      url: 'redis://localhost:6379/0',
      interval: 0,
      minInterval: 0.5,
      maxInterval: 30,
      backoffInterval: 2,
      proclinePrefix: 'shop-',
      schedulerLockPrefix: 'blue',
    });
    const { scheduler } = resolve({ resqueScheduler: true }, env).options;
    expect(scheduler).toEqual({ interval: 0.5, lockTimeout: 60, dynamic: false, env: 'staging' });
    // The flag asks for what the file describes.
    const schedule = { Nightly: { cron: '0 3 * * *', queue: 'low' } };
    const config = defineConfig({ resque: { url: 'redis://file', scheduler: { schedule, run: false, interval: 9 } } });
    expect(resolve({ resqueScheduler: true }, { LOCK_TIMEOUT: '30' }, config).options.scheduler).toEqual({
      schedule,
      run: true,
      interval: 9,
      lockTimeout: 30,
    });
    expect(() => resolve({}, { MIN_INTERVAL: 'often' })).toThrow('MIN_INTERVAL must be a number');
  });

  test('flags win over the environment, the environment over the file', () => {
    const config = defineConfig({
      resque: { url: 'redis://file', queues: ['file'], concurrency: 3, namespace: 'shop' },
    });
    const flags = { resque: 'redis://flag', queues: ['flag'], resqueScheduler: true, unknownTask: 'reject' } as const;
    expect(resolve(flags, { QUEUE: 'env', REDIS_URL: 'redis://env' }, config).options).toEqual({
      url: 'redis://flag',
      queues: ['flag'],
      concurrency: 3,
      namespace: 'shop',
      scheduler: true,
      unknownTask: 'reject',
    });
    expect(resolve({}, { QUEUE: 'env', REDIS_URL: 'redis://env' }, config).options).toMatchObject({
      url: 'redis://file',
      queues: ['env'],
    });
    expect(systemsFor({}, config).map(({ name }) => name)).toEqual(['Resque']);
  });

  test('wrong values are refused', () => {
    expect(() => resolve({}, { COUNT: 'many' })).toThrow(ConfigError);
    expect(() => resolve({}, { FAILURE_BACKEND: 'airbrake' })).toThrow('FAILURE_BACKEND must be redis');
    expect(resque({ url: 'redis://x', queues: ['high', '*', '!low'] }).queues).toEqual(['high', '*']);
    expect(resque({ url: 'redis://x' }).queues).toEqual(['*']);
    expect(() => resque({ url: 'redis://x', queues: ['!only'] })).toThrow('queues names none to take from');
    expect(() => resque({ url: 'redis://x', queues: ['a,b'] })).toThrow('holds a comma');
    expect(() => resque({ url: 'redis://x', concurrency: 0 })).toThrow('concurrency must be a whole number');
    expect(() => resque({ url: 'redis://x', heartbeatInterval: 200 })).toThrow('heartbeatInterval must be at most 150');
    expect(() => resque({ url: 'redis://x', failure: 'airbrake' as 'redis' })).toThrow("failure must be 'redis'");
  });

  test('how much is logged', () => {
    expect(logLevelOf({})).toBeUndefined();
    expect(logLevelOf({ VERBOSE: '1' })).toBe('info');
    expect(logLevelOf({ LOGGING: '1', VVERBOSE: '1' })).toBe('debug');
  });
});

describe('explanations', () => {
  test('of everything that Ruby wrote have a kind', () => {
    const kinds = new Map<string, number>();
    for (const one of captures('resque/3.0')) {
      for (const [key, { type, values }] of one.keys) {
        if (type !== 'list' || key.includes('hooklog')) continue;
        for (const value of values) {
          const { kind } = explain(Buffer.from(value));
          kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
        }
      }
    }
    expect([...kinds.keys()].sort()).toEqual(['delayed', 'failure', 'job']);
  });

  test('say what a worker does, and what is nothing of Resque', () => {
    const busy = [...capture('resque/3.0', 'worker-busy').keys].find(([key]) => /worker:vm:\d+:\*$/.test(key));
    expect(explain(Buffer.from(busy![1].values[0]!)).kind).toBe('working');
    expect(explain(Buffer.from('{nope')).warnings[0]).toMatchObject({ effect: 'ends' });
    expect(explain(Buffer.from('{"args":[],"class":"A"}')).warnings[0]?.text).toContain('compared as texts');
  });
});
