import { expect, test } from 'vitest';
import {
  Beat,
  celery,
  CeleryClient,
  CeleryControl,
  CeleryEvents,
  type CeleryOptions,
  chain,
  signature,
} from '../../../src/drivers/celery/index.ts';
import { ConfigError } from '../../../src/errors.ts';

const broker = 'memory://celery-options';

function saidOf(make: () => unknown): string {
  try {
    make();
  } catch (error) {
    return error instanceof ConfigError ? error.message : String(error);
  }
  return 'accepted';
}

const worker = (options: object): string => saidOf(() => celery({ broker, ...options } as unknown as CeleryOptions));

test.each([
  [{ acks_late: true }, "celery: unknown option 'acks_late'; did you mean 'acksLate'?"],
  [{ task_acks_late: true }, "celery: unknown option 'task_acks_late'; did you mean 'acksLate'?"],
  [{ taskAcksLate: true }, "celery: unknown option 'taskAcksLate'; did you mean 'acksLate'?"],
  [{ CELERY_TASK_ACKS_LATE: true }, "celery: unknown option 'CELERY_TASK_ACKS_LATE'; did you mean 'acksLate'?"],
  [{ CELERYD_CONCURRENCY: 3 }, "celery: unknown option 'CELERYD_CONCURRENCY'; did you mean 'concurrency'?"],
  [{ task_default_queue: 'x' }, "celery: unknown option 'task_default_queue'; did you mean 'taskDefaultQueue'?"],
  [{ concurency: 3 }, "celery: unknown option 'concurency'; did you mean 'concurrency'?"],
  [{ result_backend: 'x' }, "celery: unknown option 'result_backend'; did you mean 'backend'?"],
  [
    { visibilityTimeout: 5 },
    "celery: unknown option 'visibilityTimeout'; did you mean 'brokerTransportOptions.visibilityTimeout'?",
  ],
  [
    { brokerTransportOptions: { visibility_timeout: 5 } },
    "celery: brokerTransportOptions has an unknown option 'visibility_timeout'; did you mean 'visibilityTimeout'?",
  ],
  [
    { brokerTransportOptions: { sentinelKwargs: { password: 'secret' } } },
    "celery: brokerTransportOptions has an unknown option 'sentinelKwargs'; did you mean 'sentinelPassword'?",
  ],
  [
    { brokerTransportOptions: { visibilityTimeout: 0 } },
    "celery: brokerTransportOptions has an option 'visibilityTimeout' that must be a number of seconds, 1 or more, not 0",
  ],
  [
    { brokerTransportOptions: { prioritySteps: [] } },
    "celery: brokerTransportOptions has an option 'prioritySteps' that must be a list of whole numbers, at least one: [0, 3, 6, 9], not a list",
  ],
  [{ resultExpires: -1 }, 'celery: resultExpires must be a number of seconds, 0 or more, not -1'],
  [{ queues: 'celery' }, 'celery: queues must be a list of names or queues: [\'celery\'], not "celery"'],
  [
    { queues: [{ name: 'q', arguments: { 'x-queue-type': 'quorum' } }] },
    "celery: queues has a queue 'q' that has an unknown option 'arguments'; did you mean 'queueArguments'?",
  ],
  [{ queues: [{ queueType: 'quorum' }] }, 'celery: queues has a queue without a name'],
  [{ concurrency: 0 }, 'celery: concurrency must be a whole number, 1 or more, not 0'],
  [{ heartbeatInterval: 0 }, 'celery: heartbeatInterval must be false, or a number of seconds, more than 0, not 0'],
  [{ taskTimeLimit: -1 }, 'celery: taskTimeLimit must be a number of seconds, more than 0, not -1'],
  [{ unknownTask: 'ignore' }, /^celery: unknownTask must be 'requeue', 'reject'/],
  [{ middleware: [] }, /^celery: unknown option 'middleware'; known are /],
  [{ broker: undefined }, "celery: broker is missing; pass a URL such as 'redis://localhost:6379/0'"],
  [{ broker: undefined, broker_url: 'redis://' }, "celery: unknown option 'broker_url'; did you mean 'broker'?"],
  [{ queues: ['celery', { name: 'q', queueType: 'quorum' }], concurrency: 2, beatSchedule: {} }, 'accepted'],
])('celery(%j): %s', (options, said) => {
  expect(worker(options)).toMatch(typeof said === 'string' ? new RegExp(`^${escaped(said)}$`) : said);
});

function escaped(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

test('one object serves a worker, a client, a beat and remote control', () => {
  const shared: CeleryOptions = { broker, queues: ['a'], concurrency: 3, beatSchedule: {}, acksLate: true };
  expect(saidOf(() => celery(shared))).toBe('accepted');
  expect(saidOf(() => new CeleryClient(shared))).toBe('accepted');
  expect(saidOf(() => new Beat(shared))).toBe('accepted');
  const redis = { ...shared, broker: 'redis://localhost:1' };
  expect(saidOf(() => new CeleryControl(redis))).toBe('accepted');
  expect(saidOf(() => new CeleryEvents({ ...redis, routingKey: 'task.#', limit: 5 }))).toBe('accepted');
});

test.each([
  [() => new CeleryClient({ broker, resultBackend: 'x' } as never), 'CeleryClient: unknown option'],
  [() => new CeleryClient({} as never), 'celery: CeleryClient: broker is missing'],
  [() => new CeleryClient({ broker, taskPublishRetry: { max_retries: 3 } } as never), "did you mean 'maxRetries'?"],
  [() => new CeleryClient({ broker, middleware: 5 } as never), 'middleware must be a list of functions, not 5'],
  [() => new Beat({ broker, beat_schedule: {} } as never), "celery: Beat: unknown option 'beat_schedule'"],
  [() => new CeleryControl({ broker: 'redis://localhost:1', timeout: 5 } as never), "unknown option 'timeout'"],
  [() => new CeleryEvents({ broker: 'redis://localhost:1', limit: 0 }), 'limit must be a whole number, 1 or more'],
])('%s: %s', (make, said) => {
  expect(saidOf(make)).toContain(said);
});

test.each([
  [{ args: 'ab' }, 'args must be a list of arguments, not "ab"'],
  [{ args: 5 }, 'args must be a list of arguments, not 5'],
  [{ kwargs: [1] }, 'kwargs must be an object of keyword arguments, not a list'],
  [{ queue: '' }, 'queue must be a text that is not empty'],
  [{ taskId: '' }, 'taskId must be a text that is not empty'],
  [{ task_id: 'x' }, "unknown option 'task_id'; did you mean 'taskId'?"],
  [{ toString: 'x' }, "unknown option 'toString'"],
  [{ id: 'x' }, "unknown option 'id'; did you mean 'taskId'?"],
  [{ soft_time_limit: 5 }, "did you mean 'softTimeLimit'?"],
  [{ priority: 1.5 }, 'priority must be a whole number, from 0 to 255, not 1.5'],
  [{ countdown: '5' }, 'countdown must be a number of seconds'],
  [{ countdown: 1e12 }, 'that ends before the year 10000, not 1000000000000'],
  [{ countdown: Number.NaN }, 'countdown must be a number of seconds'],
  [{ eta: new Date(8.64e15) }, 'eta must be a Date in the years 1 to 9999'],
  [{ eta: '2030-01-01' }, 'eta must be a Date'],
  [{ expires: 1e12 }, 'expires must be a number of seconds'],
  [{ expires: new Date(Number.NaN) }, 'expires must be a Date'],
  [{ timeLimit: -1 }, 'timeLimit must be a number of seconds, 0 or more, not -1'],
  [{ headers: 'x' }, 'headers must be an object'],
  [{ link: 'add' }, 'link must be an object, or a list of signatures'],
  ['ab', 'options must be an object, not "ab"'],
  [null, 'options must be an object, not null'],
])('enqueue(%j) rejects: %s', async (call, said) => {
  await using client = new CeleryClient({ broker });
  await expect(client.enqueue('add', call as object)).rejects.toThrow(said);
  await expect(client.enqueueMany('add', [call as object])).rejects.toThrow(said);
});

test('a task without a name is not sent', async () => {
  await using client = new CeleryClient({ broker });
  await expect(client.enqueue('')).rejects.toThrow('celery: enqueue: a task needs a name');
  expect(() => signature('')).toThrow('a task needs a name');
});

test('options of a workflow are checked where it is built and where it is sent', async () => {
  await using client = new CeleryClient({ broker });
  expect(() => signature('add', 5 as never)).toThrow("celery: 'add': args must be a list of arguments, not 5");
  expect(() => signature('add', [], { kwargs: [1] as never })).toThrow('kwargs must be an object');
  expect(() => signature('add', [], { count_down: 1 } as never)).toThrow("did you mean 'countdown'?");
  await expect(client.apply(chain(signature('add')), { prioritty: 1 } as never)).rejects.toThrow(
    "celery: apply: unknown option 'prioritty'; did you mean 'priority'?",
  );
});
