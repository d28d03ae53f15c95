import { describe, expect, test } from 'vitest';
import { resolveCelery, resolveConnection } from '../../../src/cli/celery/settings.ts';
import { refuseSourceFlags } from '../../../src/cli/sources.ts';
import { ConfigError, defineConfig } from '../../../src/index.ts';

const cwd = '/srv/shop';

describe('a broker', () => {
  const flags = { broker: 'redis://flag' };
  const env = { CELERY_BROKER_URL: 'redis://env', REDIS_URL: 'redis://shared' };
  const file = { broker: 'redis://file' };

  test('of a flag wins over the environment, that over the file, that over the default', () => {
    expect(resolveConnection(flags, env, file, cwd)).toMatchObject({ broker: 'redis://flag', brokerFrom: '--broker' });
    expect(resolveConnection({}, env, file, cwd)).toMatchObject({
      broker: 'redis://env',
      brokerFrom: 'CELERY_BROKER_URL',
    });
    expect(resolveConnection({}, {}, file, cwd)).toMatchObject({
      broker: 'redis://file',
      brokerFrom: 'the config file',
    });
    expect(resolveConnection({}, {}, {}, cwd)).toMatchObject({ broker: 'filesystem://', brokerFrom: 'the default' });
  });

  test('of REDIS_URL counts where nothing of Celery names one', () => {
    expect(resolveConnection({}, { REDIS_URL: 'redis://shared' }, file, cwd).broker).toBe('redis://file');
    expect(resolveConnection({}, { REDIS_URL: 'redis://shared' }, {}, cwd)).toMatchObject({
      broker: 'redis://shared',
      backend: 'redis://shared',
    });
  });

  test('of an empty variable is none', () => {
    expect(resolveConnection({}, { CELERY_BROKER_URL: '' }, file, cwd).broker).toBe('redis://file');
  });

  test('named twice is refused', () => {
    expect(() => resolveConnection({ celery: 'redis://a', broker: 'redis://b' }, {}, {}, cwd)).toThrow(ConfigError);
  });

  test('of the file takes its transport options along, another one does not', () => {
    const options = { ...file, brokerTransportOptions: { visibilityTimeout: 60 } };
    expect(resolveConnection({}, {}, options, cwd).brokerTransportOptions).toEqual({ visibilityTimeout: 60 });
    expect(resolveConnection(flags, {}, options, cwd).brokerTransportOptions).toBeUndefined();
  });
});

describe('results', () => {
  test('go where the flag says, then the environment, then the file', () => {
    const env = { CELERY_RESULT_BACKEND: 'redis://env' };
    const file = { broker: 'redis://file', backend: 'redis://file/1' };
    expect(resolveConnection({ resultBackend: 'redis://flag' }, env, file, cwd).backend).toBe('redis://flag');
    expect(resolveConnection({}, env, file, cwd).backend).toBe('redis://env');
    expect(resolveConnection({}, {}, file, cwd).backend).toBe('redis://file/1');
  });

  test('are kept in the same Redis with --celery, and nowhere with --broker', () => {
    expect(resolveConnection({ celery: 'redis://one' }, {}, {}, cwd).backend).toBe('redis://one');
    expect(resolveConnection({ broker: 'redis://one' }, {}, {}, cwd).backend).toBeUndefined();
  });

  test('are files where the broker is the folder for trying out', () => {
    const { backend, tryOut } = resolveConnection({}, {}, {}, cwd);
    expect(backend).toBe('file:///srv/shop/.jobglot/results');
    expect(tryOut?.queue).toBe('/srv/shop/.jobglot/queue');
  });
});

describe('options of the source', () => {
  const celery = { broker: 'redis://file', queues: ['file'], concurrency: 3, taskTimeLimit: 9, ignoreResult: true };

  test('of flags win over those of the file, which keeps the rest', () => {
    const flags = {
      queues: ['a', 'b'],
      concurrency: 20,
      timeLimit: 60,
      acksLate: true,
      taskEvents: true,
      hostname: 'w1@%h',
    };
    expect(resolveCelery(flags, {}, { celery }, cwd).options).toEqual({
      broker: 'redis://file',
      queues: ['a', 'b'],
      concurrency: 20,
      taskTimeLimit: 60,
      acksLate: true,
      workerSendTaskEvents: true,
      nodename: 'w1@%h',
      ignoreResult: true,
    });
  });

  test('are those of the file where no flag is given', () => {
    expect(resolveCelery({}, {}, { celery }, cwd).options).toEqual(celery);
  });

  test('cannot be changed where the file makes its sources itself', () => {
    expect(() => refuseSourceFlags({ queues: ['a'], concurrency: 2 }, 'jobglot.config.ts')).toThrow(
      /--queues, --concurrency: jobglot.config.ts makes its sources itself/,
    );
    expect(() => refuseSourceFlags({ app: './tasks.ts', loglevel: 'debug' }, 'jobglot.config.ts')).not.toThrow();
  });
});

describe('defineConfig', () => {
  test('refuses what it does not know, and says what it does', () => {
    expect(() => defineConfig({ task: 1 } as never)).toThrow(/unknown option 'task'; did you mean 'tasks'\?/);
    expect(() => defineConfig({ tasks: [] as never })).toThrow(/tasks must be a Tasks/);
    expect(() => defineConfig({ celery: {}, sources: [] })).toThrow(/either celery \(options\) or sources/);
  });
});
