import { describe, expect, test } from 'vitest';
import {
  type ActiveJob,
  decodeArguments,
  Decimal,
  Duration,
  encodeArguments,
  GlobalId,
  hashKind,
  indifferentHash,
  nextRun,
  PlainDate,
  type RailsVersion,
  readJob,
  RubyDateTime,
  RubyHash,
  RubyModule,
  RubyRange,
  RubySymbol,
  RubyTime,
  splitKeywords,
  symbolKeys,
  symbolsOf,
  TimeWithZone,
  writeJob,
} from '../../protocols/formats/active-job/index.ts';
import { parseExact, stringify } from '../../protocols/formats/json.ts';
import { capture, captures, handmade, jobTexts, type RubySet } from './ruby-support.ts';

const SETS: readonly (readonly [RubySet, RailsVersion])[] = [
  ['active-job/6.1', '6.1'],
  ['active-job/8.1', '8.1'],
];

/** What is in the wrapper's jobs of a capture, as exact JSON. */
function dataIn(set: RubySet, name: string): readonly ReadonlyMap<string, unknown>[] {
  return jobTexts(capture(set, name)).flatMap((text) => {
    const outer = parseExact(text) as ReadonlyMap<string, unknown>;
    // A failure of Resque holds the job it is about.
    const job = (outer.get('payload') ?? outer) as ReadonlyMap<string, unknown>;
    const [data] = (job.get('args') ?? []) as readonly ReadonlyMap<string, unknown>[];
    return data instanceof Map && data.has('job_class') ? [data] : [];
  });
}

function jobIn(set: RubySet, name: string): ActiveJob {
  const [data] = dataIn(set, name);
  expect(data, name).toBeDefined();
  return readJob(data);
}

describe.each(SETS)('%s', (set, rails) => {
  const all = captures(set).flatMap(({ name }) => dataIn(set, name).map((data) => ({ name, data })));

  test('its jobs are read, and their arguments go back to the letter', () => {
    expect(all.length).toBeGreaterThan(20);
    for (const { name, data } of all) {
      const job = readJob(data);
      const written = stringify(job.arguments);
      for (const exact of [true, false]) {
        const values = decodeArguments(job.arguments, { exact });
        expect(stringify(encodeArguments(values, {}, { rails })), name).toBe(written);
        const { args, kwargs } = splitKeywords(values);
        expect(stringify(encodeArguments(args, kwargs, { rails })), name).toBe(written);
      }
      // Nothing of it is read without its text being kept.
      expect(stringify(job.fields), name).toBe(stringify(data));
    }
  });

  test('made here, a job has its bytes', () => {
    for (const name of captures(set).map((one) => one.name)) {
      if (!/aj-(args|set|queue-priority|scheduled)/.test(name)) continue;
      for (const data of dataIn(set, name)) {
        const job = readJob(data);
        const { args, kwargs } = splitKeywords(decodeArguments(job.arguments));
        const made = writeJob(
          {
            jobClass: job.jobClass,
            jobId: job.jobId ?? '',
            queueName: job.queueName ?? '',
            priority: job.priority,
            locale: job.locale,
            timezone: job.timezone,
            args,
            kwargs,
            enqueuedAt: new Date(job.enqueuedAt ?? ''),
            scheduledAt: job.scheduledAt === undefined ? undefined : new Date(job.scheduledAt),
          },
          { rails },
        );
        expect(stringify(made), name).toBe(withoutNanos(stringify(data)));
      }
    }
  });

  test('the arguments of every type are read and made', () => {
    const came = jobIn(set, 'sidekiq-aj-args-positional').arguments;
    const ours = [...positional, ...(rails === '6.1' ? ['123.456'] : positionalSince7)].map(inThis(rails));
    expect(stringify(encodeArguments(ours, {}, { rails }))).toBe(stringify(came));
    const values = decodeArguments(came);
    expect(values.map(shown)).toEqual(ours.map(shown));
    const [outer, indifferent] = values.slice(7) as [Record<string, object>, object];
    expect([hashKind(outer), symbolsOf(outer), symbolsOf(outer['symk'] as object)]).toEqual([
      'hash',
      new Set(['symk']),
      new Set(['n']),
    ]);
    expect(hashKind(indifferent)).toBe('indifferent');
  });

  test('keywords are keywords', () => {
    const { args, kwargs } = splitKeywords(decodeArguments(jobIn(set, 'sidekiq-aj-args-keyword').arguments));
    expect(args).toEqual(['pos']);
    expect(kwargs).toEqual({ key: 1, nested: { a: 1, b: 2 }, list: [{ x: 1 }] });
    const made = { key: 1, nested: symbolKeys({ a: 1, b: 2 }), list: [symbolKeys({ x: 1 })] };
    // In Ruby it was `nested: {a: 1, "b" => 2}`.
    expect(stringify(encodeArguments(['pos'], made)).replace('["a", "b"]', '["a"]')).toBe(
      stringify(jobIn(set, 'sidekiq-aj-args-keyword').arguments),
    );
  });

  test('a job that Active Job runs again has the bytes of Rails', () => {
    for (const system of ['sidekiq', 'resque'] as const) {
      const all = dataIn(set, `${system}-aj-retry-on`);
      const first = all.find((data) => data.get('executions') === 0) ?? new Map();
      const again = readJob(all.find((data) => data.get('executions') === 1) ?? new Map());
      const made = nextRun(readJob(first), {
        enqueuedAt: new Date(again.enqueuedAt ?? ''),
        scheduledAt: again.scheduledAt === undefined ? undefined : new Date(again.scheduledAt),
        providerJobId: again.providerJobId,
        executions: 1,
        exceptionExecutions: new Map([['[AjError]', 1]]),
        queueName: again.queueName,
      });
      expect(stringify(made)).toBe(withoutNanos(stringify(again.fields)));
    }
  });
});

test('a job that goes on where it was has its step and its cursor', () => {
  const all = dataIn('active-job/8.1', 'sidekiq-aj-continuable').map(readJob);
  const interrupted = all.find(({ continuation }) => continuation?.current !== undefined);
  expect(interrupted?.continuation).toEqual({ completed: ['prepare'], current: { step: 'process', cursor: 16 } });
  expect(interrupted?.resumptions).toBe(0);
  const first = all.find(({ executions }) => executions === 0) as ActiveJob;
  const made = nextRun(first, {
    enqueuedAt: new Date(interrupted?.enqueuedAt ?? ''),
    scheduledAt: new Date(interrupted?.scheduledAt ?? ''),
    providerJobId: interrupted?.providerJobId,
    executions: 1,
    exceptionExecutions: interrupted?.exceptionExecutions ?? new Map(),
    continuation: { completed: ['prepare'], current: { step: 'process', cursor: 16 } },
    resumptions: 0,
  });
  expect(stringify(made)).toBe(withoutNanos(stringify(interrupted?.fields)));
});

test('jobs written by hand, which real workers ran, are read', () => {
  const texts = handmade('active-job/8.1', 'foreign-greet');
  expect(texts.length).toBe(2);
  for (const text of texts) {
    const [data] = (parseExact(text) as ReadonlyMap<string, unknown>).get('args') as readonly unknown[];
    const job = readJob(data);
    expect(splitKeywords(decodeArguments(job.arguments))).toEqual({ args: ['Ann'], kwargs: { times: 2 } });
    const made = writeJob({
      jobClass: 'GreetJob',
      jobId: job.jobId as string,
      queueName: 'default',
      args: ['Ann'],
      kwargs: { times: 2 },
      enqueuedAt: new Date(job.enqueuedAt as string),
    });
    expect(stringify(made)).toBe(withoutNanos(stringify(data)));
  }
});

/** JavaScript's clock has milliseconds. */
function withoutNanos(text: string): string {
  return text.replace(/("(?:enqueued|scheduled)_at": "[^"]{23})\d{6}Z/g, '$1000000Z');
}

/** A value for comparison: its class and what it says. */
function shown(value: unknown): unknown {
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, item]) => [key, shown(item)]));
  if (value instanceof Date) return [value instanceof RubyTime ? 'Date' : value.constructor.name, value.getTime()];
  return value;
}

const zoned = (rails: RailsVersion): TimeWithZone =>
  new TimeWithZone('2024-07-01T09:00:00.000000000+02:00', rails === '6.1' ? undefined : 'Europe/Paris');

const ZONED = Symbol('zoned');

function inThis(rails: RailsVersion): (value: unknown) => unknown {
  return (value) => (value === ZONED ? zoned(rails) : value);
}

/** As test's author would write them. */
const positional: readonly unknown[] = [
  1,
  -1.5,
  's',
  true,
  null,
  new RubySymbol('sym'),
  [1, [new RubySymbol('two')]],
  new RubyHash(
    [
      ['str', 1],
      ['symk', symbolKeys({ n: 2 })],
    ],
    'hash',
    ['symk'],
  ),
  indifferentHash({ a: 1, b: indifferentHash({ c: 2 }) }),
  new GlobalId('demo-app', 'Person', 42),
  Duration.of({ days: 3 }),
  Duration.of({ hours: 1, minutes: 30 }),
  Duration.of({ months: 1 }),
  new Date('2024-02-29T12:34:56.789Z'),
  new RubyTime('2024-02-29T12:34:56.000000000+02:00'),
  new RubyDateTime('2024-02-29T12:34:56.000000000+00:00'),
  new PlainDate('2024-02-29'),
  ZONED,
  new RubyModule('String'),
  new RubyModule('Comparable'),
];

const positionalSince7: readonly unknown[] = [
  new Decimal('123.456'),
  new RubyRange(1, 5),
  new RubyRange('a', 'z', true),
  new RubyRange(new PlainDate('2024-01-01'), null),
];
