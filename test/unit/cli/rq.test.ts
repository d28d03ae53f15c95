import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Tuple } from '../../../protocols/formats/pickle/index.ts';
import { float } from '../../../protocols/formats/values.ts';
import { readArguments } from '../../../src/cli/rq/arguments.ts';
import { readCall } from '../../../src/cli/rq/enqueue.ts';
import { resolveRq, type RqWorkerFlags } from '../../../src/cli/rq/settings.ts';
import { systemsFor } from '../../../src/cli/sources.ts';
import { ConfigError, defineConfig } from '../../../src/index.ts';
import { temporaryFolder } from '../../support/folder.ts';

describe('arguments', () => {
  // Against rq/cli/helpers.py parse_function_args (2.10).
  test('are texts, JSON or Python, by place and by name', () => {
    expect(
      readArguments(['text', ':{"a": 1.0}', '%(1, 2)', '12', 'k=v', 'n:=[1]', 'p%={"x"}', 'e=', 'a:b:=1', '=x']),
    ).toEqual({
      args: ['text', new Map([['a', float(1)]]), Tuple.of(1, 2), '12', '=x'],
      kwargs: { k: 'v', n: [1], p: new Set(['x']), e: '', 'a:b:': '1' },
    });
    expect(readArguments(['%(1,)']).args[0]).toBeInstanceOf(Tuple);
  });

  test('may come from files', async () => {
    const file = join(temporaryFolder('jobglot-args-'), 'value.json');
    await writeFile(file, '[1, 2]');
    expect(readArguments([`@${file}`, `:@${file}`, `k:=@${file}`])).toEqual({
      args: ['[1, 2]', [1, 2]],
      kwargs: { k: [1, 2] },
    });
  });

  test.each([
    [[':nonsense'], /^argument 1 is not JSON/],
    [['a', '%nonsense'], /^argument 2 cannot be read as Python/],
    [['k:=nonsense'], /^k is not JSON/],
    [['k=1', 'k=2'], /^k is given twice/],
    [['@/no/such/file'], /^cannot read \/no\/such\/file/],
  ])('of %j are refused', (words, message) => {
    expect(() => readArguments(words)).toThrow(ConfigError);
    expect(() => readArguments(words)).toThrow(message);
  });
});

describe('a call', () => {
  test('has the options of rq enqueue', () => {
    const flags = {
      queue: 'q',
      timeout: '3m',
      retryMax: 2,
      retryInterval: [1, 2],
      scheduleIn: '10m',
      dependsOn: ['a'],
    };
    expect(readCall('app.send', ['x'], flags)).toEqual({
      args: ['x'],
      kwargs: {},
      description: "app.send('x')",
      queue: 'q',
      jobTimeout: '3m',
      retry: { max: 2, interval: [1, 2] },
      in: '10m',
      dependsOn: ['a'],
    });
  });

  test('at a time without an offset is at a time here', () => {
    const { at } = readCall('f', [], { scheduleAt: '2026-11-21T10:00:00' });
    expect(at).toEqual(new Date(2026, 10, 21, 10));
    expect(readCall('f', [], { scheduleAt: '2026-11-21T10:00:00Z' }).at).toEqual(new Date('2026-11-21T10:00:00Z'));
  });

  test.each([
    [{ scheduleIn: '1', scheduleAt: '2026-11-21T10:00:00' }, /both say when/],
    [{ scheduleAt: 'tomorrow' }, /--schedule-at must be/],
    [{ meta: '[1]' }, /--meta must be a JSON object/],
    [{ meta: 'x' }, /--meta is not JSON/],
  ])('with %j is refused', (flags, message) => {
    expect(() => readCall('f', [], flags)).toThrow(message);
  });
});

describe('a worker', () => {
  test('finds Redis by flag, environment, file and default', () => {
    const rq = { url: 'redis://file', queues: ['a'] };
    const env = { RQ_REDIS_URL: 'redis://env', REDIS_URL: 'redis://shared' };
    const of = (...args: Parameters<typeof resolveRq>): unknown => {
      const { options, from } = resolveRq(...args);
      return [options.url, from];
    };
    expect(of({ rq: 'redis://flag' }, env, { rq })).toEqual(['redis://flag', '--rq']);
    expect(of({ rq: true }, env, { rq })).toEqual(['redis://env', 'RQ_REDIS_URL']);
    expect(of({ rq: true }, { REDIS_URL: 'redis://shared' }, { rq })).toEqual(['redis://file', 'the config file']);
    expect(of({ rq: true }, { REDIS_URL: 'redis://shared' }, {})).toEqual(['redis://shared', 'REDIS_URL']);
    expect(of({ rq: true }, {}, {})).toEqual(['redis://localhost:6379/0', 'the default']);
  });

  test('has the options of its flags over those of the file', () => {
    const flags: RqWorkerFlags = {
      queues: ['b'],
      concurrency: 3,
      burst: true,
      maxJobs: 5,
      withScheduler: false,
      workerTtl: 600,
    };
    expect(resolveRq(flags, {}, { rq: { url: 'redis://file', queues: ['a'], name: 'w1' } }).options).toEqual({
      url: 'redis://file',
      queues: ['b'],
      concurrency: 3,
      name: 'w1',
      burst: true,
      maxJobs: 5,
      withScheduler: false,
      workerTtl: 600,
    });
  });

  test('is for the systems that are named, else those of the file, else Celery', () => {
    const names = (...args: Parameters<typeof systemsFor>): unknown => systemsFor(...args).map(({ name }) => name);
    const rq = { url: 'redis://x' };
    expect(names({}, {})).toEqual(['Celery']);
    expect(names({ rq: true } as RqWorkerFlags, {})).toEqual(['RQ']);
    expect(names({}, { rq })).toEqual(['RQ']);
    expect(names({}, { rq, celery: {} })).toEqual(['Celery', 'RQ']);
    expect(names({ broker: 'redis://x' } as object, { rq })).toEqual(['Celery']);
    expect(() => systemsFor({ burst: true } as RqWorkerFlags, {})).toThrow(/^--burst: meant for RQ.*pass --rq URL/);
    expect(() => systemsFor({ rq: true, timeLimit: 5 } as object, {})).toThrow(/^--time-limit: meant for Celery/);
    expect(() => systemsFor({ queues: ['a'] }, { rq, celery: {} })).toThrow(
      /^--queues: this worker is for Celery and RQ/,
    );
  });

  test('takes its options from a section of the file', () => {
    expect(() => defineConfig({ rq: { queues: ['a'] } })).not.toThrow();
    expect(() => defineConfig({ rq: {}, sources: [] })).toThrow(/either rq \(options\) or sources/);
  });
});
