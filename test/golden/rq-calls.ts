import { Buffer } from 'node:buffer';
import { FrozenSet, TimeDelta, Tuple } from '../../protocols/formats/pickle/index.ts';
import { DateTime, Decimal, float, PlainDate, Uuid } from '../../protocols/formats/values.ts';
import type { JobOptions } from '../../protocols/rq/options.ts';
import type { SerializerName } from '../../protocols/rq/index.ts';

/** One call of the client, as the scenario of that name makes it in Python. */
export interface RqCall {
  readonly task: string;
  readonly args?: readonly unknown[];
  readonly kwargs?: Readonly<Record<string, unknown>>;
  readonly options?: JobOptions;
  readonly queue?: string;
  readonly due?: Date;
  readonly serializer?: SerializerName;
  readonly defaultTimeout?: number;
}

const add = (options: JobOptions = {}, more: Partial<RqCall> = {}): RqCall => ({
  task: 'tasks.add',
  args: [2, 3],
  options,
  ...more,
});
const echo = (
  args: readonly unknown[],
  kwargs: Readonly<Record<string, unknown>> = {},
  options: JobOptions = {},
): RqCall => ({
  task: 'tasks.echo',
  args,
  kwargs,
  options,
});
const FIRST = '5eed0000-0000-4000-8000-000000000001';
const after = (dependsOn: JobOptions['dependsOn'], options: JobOptions = {}): RqCall =>
  echo(['after'], {}, { dependsOn: dependsOn as NonNullable<JobOptions['dependsOn']>, ...options });

/**
 * The scenarios of fixtures/capture/rq/scenarios.py in TypeScript, several calls in their order. Not here are those that only a Python
 * client can make: instances, classes, `is_async=False`, and those that need a worker in between.
 */
export const RQ_CALLS: Readonly<Record<string, readonly RqCall[]>> = {
  plain: [add()],
  'no-arguments': [{ task: 'tasks.nothing' }],
  'by-name': [{ task: 'shop.bill', args: [7] }],
  kwargs: [echo([], { b: 1, a: null, _x: 'é' })],
  'args-and-kwargs': [{ task: 'tasks.add', args: [2], kwargs: { y: 3 } }],
  'enqueue-call': [add({ jobTimeout: 30 })],
  'call-timeout': [echo([], { timeout: 7 })],
  'plain-types': [echo([null, true, false, 0, -1, 1.5, float(1), 'text', [1, [2, []]], { k: { k: {} } }])],
  integers: [echo([255, 256, 65536, 2 ** 31, 2 ** 53 - 1, 2n ** 53n + 1n, 2n ** 64n, -5000000000, 10n ** 30n])],
  floats: [echo([0.1, -0, 1e22, 5e-324, Infinity, Number.NaN])],
  texts: [echo(['', 'žluťoučký kůň', '日本語', '\u{1f407}', '\0', "it's", '"both\''])],
  bytes: [echo([Buffer.alloc(0), Buffer.from('abc'), Buffer.from([0xff, 0])])],
  containers: [
    echo([
      ...[new Tuple(), Tuple.of(1), Tuple.of(1, 2, 3, 4), new Set([1]), new FrozenSet([1])],
      new Map<unknown, unknown>([
        [1, 'a'],
        [null, 'b'],
        [Tuple.of(1, 2), 'c'],
      ]),
    ]),
  ],
  times: [
    echo([
      new DateTime('2026-01-02T03:04:05.678901'),
      new DateTime('2026-01-02T00:00:00+00:00'),
      new PlainDate('2026-01-02'),
      new TimeDelta(1, 2, 3),
    ]),
  ],
  'decimal-uuid': [echo([new Decimal('1.50'), new Uuid('0b1e9a52-7f1c-4c5e-9c55-3f0a2a1de001')])],
  large: [echo(['x'.repeat(5000)])],
  description: [add({ description: 'the sum of two' })],
  'description-cut': [echo(['y'.repeat(100), Array.from({ length: 60 }, (_, one) => one)], { k: 'z'.repeat(90) })],
  'description-reprs': [
    echo(['a\nb', "it's", Buffer.from([0]), float(1), 1e16, Tuple.of(1), { b: [null, true] }], { zz: 1, aa: 'é' }),
  ],
  'job-id': [add({ jobId: 'order_17-A' })],
  queue: [add({}, { queue: 'mail' })],
  'queue-default-timeout': [add({}, { queue: 'slow', defaultTimeout: 3600 })],
  timeout: [add({ jobTimeout: 30 })],
  'timeout-text': [add({ jobTimeout: '1h' })],
  'timeout-float': [add({ jobTimeout: 5.9 })],
  'timeout-none': [add({ jobTimeout: -1 })],
  ttl: [add({ ttl: 600 })],
  'result-ttl': [add({ resultTtl: '1h' })],
  'result-ttl-forever': [add({ resultTtl: -1 })],
  'result-ttl-zero': [add({ resultTtl: 0 })],
  'failure-ttl': [add({ failureTtl: '2d' })],
  meta: [add({ meta: { tenant: 'acme', steps: [1, float(2), null] } })],
  'at-front': [add({ atFront: true })],
  retry: [add({ retry: { max: 3 } })],
  'retry-interval': [add({ retry: { max: 3, interval: 60 } })],
  'retry-intervals': [add({ retry: { max: 3, interval: [10, 20, 30] } })],
  'retry-at-front': [add({ retry: { max: 3, interval: [10], enqueueAtFront: true } })],
  repeat: [add({ repeat: { times: 3, interval: [5, 6] } })],
  callbacks: [add({ onSuccess: 'tasks.on_success', onFailure: 'tasks.on_failure' })],
  'callbacks-timeouts': [
    add({
      onSuccess: { func: 'tasks.on_success', timeout: 11 },
      onFailure: 'tasks.on_failure',
      onStopped: { func: 'tasks.on_stopped', timeout: '2m' },
    }),
  ],
  webhooks: [
    add({
      webhooks: [
        { url: 'https://example.org/done', jobStatus: 'finished' },
        {
          url: 'https://example.org/failed',
          jobStatus: 'failed',
          method: 'GET',
          headers: { 'x-tenant': 'acme' },
          timeout: 3,
        },
      ],
    }),
  ],
  'depends-on': [add(), after(FIRST)],
  'depends-on-ids': [add({ jobId: 'a' }), add({ jobId: 'b' }), echo([], {}, { dependsOn: ['a', 'b'] })],
  'depends-on-missing': [echo([], {}, { dependsOn: 'never-was' })],
  dependency: [add(), after({ jobs: FIRST, allowFailure: true, enqueueAtFront: true })],
  'depends-on-ttl': [add(), after(FIRST, { ttl: 600 })],
  'depends-on-other-queue': [add({}, { queue: 'other' }), after(FIRST)],
  in: [add({}, { due: new Date('2026-11-21T00:02:55.636Z') })],
  at: [add({}, { due: new Date('2026-11-22T10:20:30.900Z') })],
  'at-naive': [add({}, { due: new Date('2026-11-22T10:20:30Z') })],
  'at-offset': [add({}, { due: new Date('2026-11-22T10:20:30+02:00') })],
  many: [
    { task: 'tasks.add', args: [1, 2], options: { jobId: 'a' } },
    { task: 'tasks.echo', kwargs: { k: 1 }, options: { jobId: 'b', atFront: true, jobTimeout: 30 } },
  ],
  'many-dependents': [
    add(),
    { task: 'tasks.add', args: [1, 2], options: { jobId: 'a' } },
    echo([3], {}, { jobId: 'b', dependsOn: FIRST }),
  ],
  group: [
    { task: 'tasks.add', args: [1, 2], options: { jobId: 'a', group: 'batch' } },
    { task: 'tasks.add', args: [3, 4], options: { jobId: 'b', group: 'batch' } },
  ],
  unique: [add({ jobId: 'only', unique: true })],
  'unique-ttl-at-front': [add({ jobId: 'only', unique: true, ttl: 600, atFront: true })],
  'unique-duplicate': [
    add({ jobId: 'only' }),
    { task: 'tasks.add', args: [4, 5], options: { jobId: 'only', unique: true } },
  ],
  json: [
    {
      ...echo([1, float(1), 'é', null, [true, Tuple.of(2)]], { k: { b: 1, a: 10n ** 20n } }, { meta: { a: [1] } }),
      serializer: 'json',
    },
  ],
  'json-not-finite': [{ ...echo([Number.NaN, -Infinity]), serializer: 'json' }],
  builtin: [{ task: 'builtins.len', args: [[1, 2]] }],
  everything: [
    {
      task: 'tasks.add',
      args: [1],
      kwargs: { y: [1, 2] },
      options: {
        jobId: 'full-1',
        meta: { a: 1 },
        ttl: 600,
        resultTtl: '1h',
        failureTtl: '2d',
        jobTimeout: '3m',
        description: 'all of it',
        retry: { max: 3, interval: [10, 20, 30], enqueueAtFront: true },
        repeat: { times: 3, interval: [5, 6] },
        onSuccess: { func: 'tasks.on_success', timeout: 11 },
        onFailure: 'tasks.on_failure',
        onStopped: 'tasks.on_stopped',
        webhooks: [{ url: 'https://example.org/done', jobStatus: 'finished' }],
      },
    },
  ],
};
