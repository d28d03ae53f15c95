import {
  anything,
  boolean,
  callable,
  type Check,
  checkOptions,
  type Checks,
  date,
  either,
  listOf,
  milliseconds,
  name,
  names,
  object,
  oneOf,
  record,
  seconds,
  text,
  wholeNumber,
} from '../../check.ts';
import type { EnqueueOptions, PerformLaterOptions, ResqueClientOptions } from './client-options.ts';
import type { ResqueAppOptions, ResqueOptions, SchedulerOptions, WorkerHooks } from './options.ts';

/** Checks the options of Resque once, where they enter. Every function throws ConfigError, which names the option. */
export function checkWorker(options: ResqueOptions): void {
  checkOptions('resque', options, WORKER, {
    redis: 'url',
    redisUrl: 'url',
    workers: 'concurrency',
    count: 'concurrency',
  });
}

export function checkClient(options: ResqueClientOptions): void {
  checkOptions('resque', options, CLIENT, { redis: 'url', redisUrl: 'url', queue: 'defaultQueue' });
}

export function checkInspector(options: ResqueAppOptions): void {
  checkOptions('resque', options, INSPECTOR, { redis: 'url', redisUrl: 'url' });
}

export function checkScheduler(options: ResqueAppOptions & Omit<SchedulerOptions, 'run'>): void {
  checkOptions('resque: scheduler', options, OWN_SCHEDULER, { schedules: 'schedule' });
}

/** `call` of `enqueue`; undefined means no options. */
export function checkCall(call: unknown): void {
  if (call !== undefined)
    checkOptions('resque: enqueue', call, CALL, { delay: 'in', countdown: 'in', eta: 'at', jobId: 'id' });
}

/** `call` of `performLater`; undefined means no options. */
export function checkLater(call: unknown): void {
  if (call !== undefined)
    checkOptions('resque: performLater', call, LATER, { wait: 'in', wait_until: 'at', id: 'jobId' });
}

const APP: Checks<ResqueAppOptions> = {
  url: name,
  namespace: text,
  schedulerLockPrefix: text,
  tls: record,
  masterName: name,
  sentinelUsername: text,
  sentinelPassword: text,
  username: text,
  password: text,
  connectTimeoutMs: milliseconds,
  socketTimeoutMs: milliseconds,
  socketKeepalive: boolean,
  clientName: text,
  cluster: boolean,
};

const SCHEDULER: Checks<SchedulerOptions> = {
  schedule: record,
  dynamic: boolean,
  timezone: name,
  lockTimeout: seconds,
  interval: seconds,
  env: name,
  run: boolean,
};

const HOOKS: Checks<WorkerHooks> = {
  beforeFirstFork: callable,
  beforePause: callable,
  afterPause: callable,
  queueEmpty: callable,
  shutdown: callable,
  workerExit: callable,
};

const FAILURE: Check = either(oneOf('redis', 'redis_multi_queue', 'none'), callable);

const WORKER: Checks<ResqueOptions> = {
  ...APP,
  queues: names,
  concurrency: wholeNumber(1),
  prefetch: wholeNumber(0),
  fetch: oneOf('push', 'poll'),
  interval: seconds,
  minInterval: seconds,
  maxInterval: seconds,
  backoffInterval: seconds,
  unknownTask: either(oneOf('requeue', 'reject', 'hold', 'fail'), object({ forward: name })),
  unknownTaskDelayMs: milliseconds,
  failure: either(FAILURE, listOf(FAILURE, 'these')),
  scheduler: either(boolean, object(SCHEDULER)),
  rubyInspect: oneOf('3.3', '3.4'),
  hostname: name,
  processTitle: boolean,
  proclinePrefix: text,
  heartbeatInterval: seconds,
  pruneInterval: either(oneOf(false), seconds),
  deadAfter: seconds,
  rescueInterval: seconds,
  poisonLimit: wholeNumber(1),
  maxJobBytes: wholeNumber(1),
  hooks: object(HOOKS),
};

const CLIENT: Checks<ResqueClientOptions> = {
  ...APP,
  defaultQueue: name,
  hooks: record,
  middleware: listOf(callable, 'functions'),
  log: record,
};

const INSPECTOR: Checks = { ...APP, scanLimit: wholeNumber(1), log: record };

const { run: _, ...LEADING } = SCHEDULER;
const OWN_SCHEDULER: Checks = { ...APP, ...LEADING, log: record };

const list: Check = (value) => (Array.isArray(value) ? undefined : 'must be a list: [1, 2]');
const fromNow: Check = (value) =>
  typeof value === 'number' && Number.isFinite(value) ? undefined : 'must be a number of seconds from now';

const CALL: Checks<EnqueueOptions & { readonly args: unknown; readonly kwargs: unknown }> = {
  args: list,
  // A value that is not empty gets an error message of its own.
  kwargs: anything,
  queue: name,
  at: date,
  in: fromNow,
  id: name,
  headers: record,
};

const LATER: Checks<PerformLaterOptions & { readonly args: unknown; readonly kwargs: unknown }> = {
  args: list,
  kwargs: record,
  queue: name,
  at: date,
  in: fromNow,
  headers: record,
  jobId: name,
  priority: (value) => (Number.isSafeInteger(value) ? undefined : 'must be a whole number'),
  locale: name,
  timezone: name,
  rails: name,
};
