import {
  amount,
  boolean,
  callable,
  type Check,
  type Checks,
  checkOptions,
  date,
  either,
  listOf,
  milliseconds,
  name,
  names,
  object,
  oneOf,
  type OtherNames,
  record,
  seconds,
  text,
  wholeNumber,
} from '../../check.ts';
import { ConfigError } from '../../errors.ts';
import type { AmqpBrokerOptions } from './brokers/amqp.ts';
import type { QueueSpec } from './brokers/broker.ts';
import type { FilesystemTransportOptions } from './brokers/filesystem.ts';
import type { RedisBrokerOptions } from './brokers/redis-options.ts';
import type { EnqueueOptions, SignatureOptions } from './client/task-options.ts';
import type { BeatSettings, CeleryAppOptions, CeleryOptions, PublishRetry } from './options.ts';
import type { RedisResultsOptions } from './results/redis.ts';

/**
 * What every option of Celery's parts may be. A part accepts the options of the others that share its configuration, so that one object serves a worker,
 * a client and a beat; what no part knows is an error.
 */

/**
 * Checks the options of one part. Throws ConfigError for a missing broker, an unknown name (with the nearest right one, also for names of Python's
 * settings) and a wrong value. `where` begins the message.
 */
export function checkPart(where: string, options: unknown, checks: Readonly<Record<string, Check>>): void {
  if (typeof options === 'object' && options !== null) {
    const { broker } = options as { readonly broker?: unknown };
    // A name of Python's settings explains the missing broker better.
    const misspelt = Object.keys(options).some((one) => !Object.hasOwn(checks, one));
    if ((broker === undefined || broker === '') && !misspelt)
      throw new ConfigError(`${where}: broker is missing; pass a URL such as 'redis://localhost:6379/0'`);
  }
  checkOptions(where, options, checks, OTHER_NAMES);
}

const positiveSeconds: Check = (value) =>
  typeof value === 'number' && value > 0 && Number.isFinite(value)
    ? undefined
    : 'must be a number of seconds, more than 0';
const rateLimit: Check = (value) =>
  (typeof value === 'number' && value >= 0) || typeof value === 'string'
    ? undefined
    : "must be a number a second, or '10/s', '100/m', '5/h'";
const rows: Check = (value) =>
  Array.isArray(value) || typeof value === 'function' || record(value) === undefined
    ? undefined
    : "must be a table { 'shop.*': 'queue' }, a function or a list of both";

const exchangeType = oneOf('direct', 'topic', 'fanout', 'headers');
const queueType = oneOf('classic', 'quorum');

const QUEUE: Checks<QueueSpec> = {
  name,
  exchange: text,
  exchangeType,
  exchangeDurable: boolean,
  exchangeAutoDelete: boolean,
  exchangeArguments: record,
  routingKey: text,
  bindingArguments: record,
  bindings: listOf(record, 'bindings'),
  durable: boolean,
  autoDelete: boolean,
  exclusive: boolean,
  queueArguments: record,
  queueType,
  maxPriority: wholeNumber(1, 255),
  expires: seconds,
  messageTtl: seconds,
  maxLength: wholeNumber(0),
  maxLengthBytes: wholeNumber(0),
  deadLetterExchange: text,
  deadLetterRoutingKey: text,
  noDeclare: boolean,
};
const queueOptions = object(QUEUE, { arguments: 'queueArguments', type: 'queueType', key: 'routingKey' });

function queueCheck(withNames: boolean): Check {
  const what = withNames
    ? "must be a list of names or queues: ['celery']"
    : "must be a list of queues: [{ name: 'q' }]";
  return (value) => {
    if (!Array.isArray(value)) return what;
    for (const queue of value as readonly unknown[]) {
      if (typeof queue === 'string' && queue !== '' && withNames) continue;
      if (record(queue) !== undefined) return what;
      const { name: own } = queue as { readonly name?: unknown };
      if (typeof own !== 'string' || own === '') return 'has a queue without a name';
      const wrong = queueOptions(queue);
      if (wrong !== undefined) return `has a queue '${own}' that ${wrong}`;
    }
    return undefined;
  };
}

const TRANSPORT: Checks<RedisBrokerOptions & AmqpBrokerOptions & FilesystemTransportOptions> = {
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
  // A worker refreshes its claims a few times in this time; below a second it would lose claims that it holds.
  visibilityTimeout: amount('seconds', { least: 1 }),
  globalKeyprefix: text,
  prioritySteps: (value) =>
    Array.isArray(value) && value.length > 0 && value.every((step) => wholeNumber(0, 255)(step) === undefined)
      ? undefined
      : 'must be a list of whole numbers, at least one: [0, 3, 6, 9]',
  sep: name,
  unackedKey: name,
  unackedIndexKey: name,
  unackedMutexKey: name,
  unackedMutexExpire: wholeNumber(1),
  unackedRestoreLimit: wholeNumber(1),
  unackedRestoreInterval: positiveSeconds,
  queueOrderStrategy: oneOf('round_robin', 'priority', 'sorted'),
  fanoutPrefix: either(boolean, text),
  fanoutPatterns: boolean,
  exchangeTypes: record,
  pollingInterval: positiveSeconds,
  maxMessageBytes: wholeNumber(1),
  revokedKey: name,
  heartbeatSeconds: seconds,
  connectionName: text,
  publishBuffer: wholeNumber(0),
  publishPatience: seconds,
  mandatory: boolean,
  holdLimit: positiveSeconds,
  deliveryLimit: wholeNumber(1),
  watchInterval: positiveSeconds,
  dataFolderIn: name,
  dataFolderOut: name,
  controlFolder: name,
  storeProcessed: boolean,
  processedFolder: name,
};

const RESULTS_TRANSPORT: Checks<RedisResultsOptions> = {
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
  resultExpires: seconds,
  globalKeyprefix: text,
  resultChordOrdered: boolean,
};

const APP: Checks<CeleryAppOptions> = {
  broker: (value) =>
    (typeof value === 'string' && value !== '') || record(value) === undefined
      ? undefined
      : "must be a URL such as 'redis://localhost:6379/0'",
  backend: (value) =>
    typeof value === 'string' || record(value) === undefined
      ? undefined
      : "must be a URL such as 'redis://localhost:6379/1'",
  brokerTransportOptions: object(TRANSPORT, {
    sentinel_kwargs: 'sentinelPassword',
    socket_timeout: 'socketTimeoutMs',
    socket_connect_timeout: 'connectTimeoutMs',
    priority_steps: 'prioritySteps',
    client_name: 'clientName',
  }),
  resultBackendTransportOptions: object(RESULTS_TRANSPORT, { sentinel_kwargs: 'sentinelPassword' }),
  acceptContent: names,
  taskSerializer: name,
  resultSerializer: name,
  taskCompression: either(oneOf(null), name),
  typedJson: boolean,
  resultChordJoinTimeout: positiveSeconds,
  resultExpires: seconds,
  resultPersistent: boolean,
  taskRoutes: rows,
  taskQueues: queueCheck(false),
  taskDefaultQueue: name,
  taskDefaultExchange: text,
  taskDefaultExchangeType: exchangeType,
  taskDefaultRoutingKey: text,
  taskDefaultQueueType: queueType,
  taskQueueMaxPriority: wholeNumber(1, 255),
  taskCreateMissingQueues: boolean,
  taskCreateMissingQueueType: queueType,
  taskCreateMissingQueueExchangeType: exchangeType,
  brokerNativeDelayedDeliveryQueueType: queueType,
  limits: object({ maxBytes: wholeNumber(1), maxDepth: wholeNumber(1) }),
  taskSendSentEvent: boolean,
  controlExchange: name,
  eventExchange: name,
};

const BEAT_SETTINGS: Checks<BeatSettings> = {
  beatSchedule: record,
  timezone: name,
  beatScheduler: oneOf('redis', 'redbeat', 'file', 'memory'),
  beatMaxLoopInterval: seconds,
  beatCronStartingDeadline: seconds,
  beatScheduleFilename: name,
  beatRedisUrl: name,
  beatKeyPrefix: text,
  beatLockTimeout: positiveSeconds,
  redbeatRedisUrl: name,
  redbeatKeyPrefix: text,
  redbeatLockKey: either(oneOf(null), name),
  redbeatLockTimeout: positiveSeconds,
};

const WORKER_ONLY: Checks<Omit<CeleryOptions, keyof CeleryAppOptions | keyof BeatSettings>> = {
  queues: queueCheck(true),
  workerDirect: boolean,
  concurrency: wholeNumber(1),
  prefetchMultiplier: wholeNumber(1),
  nodename: name,
  acksLate: boolean,
  acksOnFailureOrTimeout: boolean,
  rejectOnWorkerLost: boolean,
  workerDeduplicateSuccessfulTasks: boolean,
  ignoreResult: boolean,
  storeErrorsEvenIfIgnored: boolean,
  trackStarted: boolean,
  resultExtended: boolean,
  taskTimeLimit: positiveSeconds,
  taskSoftTimeLimit: positiveSeconds,
  taskDefaultRateLimit: rateLimit,
  taskInheritParentPriority: boolean,
  exceptions: record,
  unknownTask: either(oneOf('requeue', 'reject', 'hold'), object({ forward: name })),
  unknownTaskDelayMs: milliseconds,
  etaLimit: wholeNumber(0),
  workerEnableRemoteControl: boolean,
  workerSendTaskEvents: boolean,
  heartbeatInterval: either(oneOf(false), positiveSeconds),
  mingle: boolean,
  gossip: boolean,
};

const PUBLISH_RETRY: Checks<PublishRetry> = {
  maxRetries: wholeNumber(0),
  intervalStart: seconds,
  intervalStep: seconds,
  intervalMax: seconds,
};

/** Options of `celery({ … })`. */
export const WORKER_CHECKS: Checks<CeleryOptions> = { ...APP, ...BEAT_SETTINGS, ...WORKER_ONLY };

/** Options of `CeleryClient` and `Beat`. */
export const CLIENT_CHECKS: Readonly<Record<string, Check>> = {
  ...WORKER_CHECKS,
  taskPublishRetry: either(oneOf(false), object(PUBLISH_RETRY)),
  middleware: listOf(callable, 'functions'),
  log: record,
};

/** Options of `CeleryControl`. */
export const CONTROL_CHECKS: Readonly<Record<string, Check>> = { ...WORKER_CHECKS, log: record };

/** Options of `CeleryInspector`. */
export const INSPECTOR_CHECKS: Readonly<Record<string, Check>> = {
  ...CONTROL_CHECKS,
  timeoutMs: amount('milliseconds'),
  scanLimit: wholeNumber(1),
};

/** Options of `CeleryEvents`. */
export const EVENTS_CHECKS: Readonly<Record<string, Check>> = {
  ...CONTROL_CHECKS,
  routingKey: text,
  limit: wholeNumber(1),
};

/** Python has years up to 9999; a worker there, and one here, would refuse the message. */
const LAST = Date.UTC(10_000, 0, 1);
const FIRST = Date.UTC(0, 0, 1) + 366 * 86_400_000;

const time: Check = (value) =>
  date(value) === undefined && (value as Date).getTime() < LAST && (value as Date).getTime() >= FIRST
    ? undefined
    : 'must be a Date in the years 1 to 9999';
const fromNow: Check = (value) =>
  typeof value === 'number' && time(new Date(Date.now() + value * 1000)) === undefined
    ? undefined
    : 'must be a number of seconds that ends before the year 10000';
const linked: Check = either(record, listOf(record, 'signatures'));

const SIGNATURE_OPTIONS: Checks<SignatureOptions> = {
  countdown: fromNow,
  eta: time,
  expires: (value) => (typeof value === 'number' ? fromNow(value) : time(value)),
  queue: name,
  exchange: text,
  routingKey: text,
  priority: wholeNumber(0, 255),
  headers: record,
  timeLimit: seconds,
  softTimeLimit: seconds,
  ignoreResult: boolean,
  serializer: name,
  compression: name,
  taskId: (value) =>
    typeof value === 'string' && value !== ''
      ? undefined
      : 'must be a text that is not empty (a Python worker would end on it)',
  shadow: text,
  groupId: text,
  groupIndex: wholeNumber(0),
  rootId: text,
  parentId: text,
  replyTo: text,
  argsrepr: text,
  kwargsrepr: text,
  retries: wholeNumber(0),
};

/** Options of `apply`. */
export const ENQUEUE_CHECKS: Checks<EnqueueOptions> = { ...SIGNATURE_OPTIONS, link: linked, linkError: linked };

/** Options of `signature` and its kin. */
export const SIGNATURE_CHECKS: Checks<SignatureOptions> = SIGNATURE_OPTIONS;

/** A call: arguments and options. Without a prototype, so that a name can be looked up as it is. */
export const CALL_CHECKS: Readonly<Record<string, Check>> = Object.assign(Object.create(null) as object, {
  ...ENQUEUE_CHECKS,
  args: (value: unknown) => (Array.isArray(value) ? undefined : 'must be a list of arguments'),
  kwargs: (value: unknown) => (record(value) === undefined ? undefined : 'must be an object of keyword arguments'),
});

/** Throws ConfigError unless it is a call that can be sent. Costs a look-up for each option where nothing is wrong. */
export function checkCall(task: string, call: unknown): void {
  if (task === '') throw new ConfigError('celery: enqueue: a task needs a name, as it is on the wire');
  if (typeof call === 'object' && call !== null && !Array.isArray(call)) {
    let fine = true;
    for (const option in call) {
      const check = CALL_CHECKS[option];
      const value = (call as Readonly<Record<string, unknown>>)[option];
      if (check === undefined || (value !== undefined && check(value) !== undefined)) fine = false;
    }
    if (fine) return;
  }
  checkOptions(`celery: '${task}'`, call, CALL_CHECKS, CALL_NAMES);
}

/** Names of `apply_async` that are not merely written in another way. */
export const CALL_NAMES: OtherNames = {
  soft_timeout: 'softTimeLimit',
  timeout: 'timeLimit',
  timeoutMs: 'timeLimit',
  delay: 'countdown',
  delayMs: 'countdown',
  at: 'eta',
  id: 'taskId',
  jobId: 'taskId',
};

/** Celery's settings, by their names in Python, new and old, that have another name here. */
const SETTINGS: OtherNames = {
  broker_url: 'broker',
  broker_read_url: 'broker',
  broker_write_url: 'broker',
  url: 'broker',
  result_backend: 'backend',
  celerybeat_schedule: 'beatSchedule',
  routes: 'taskRoutes',
  default_queue: 'taskDefaultQueue',
  task_acks_late: 'acksLate',
  task_acks_on_failure_or_timeout: 'acksOnFailureOrTimeout',
  task_reject_on_worker_lost: 'rejectOnWorkerLost',
  task_ignore_result: 'ignoreResult',
  task_store_errors_even_if_ignored: 'storeErrorsEvenIfIgnored',
  task_track_started: 'trackStarted',
  task_result_extended: 'resultExtended',
  task_publish_retry_policy: 'taskPublishRetry',
  worker_concurrency: 'concurrency',
  celeryd_concurrency: 'concurrency',
  worker_prefetch_multiplier: 'prefetchMultiplier',
  celeryd_prefetch_multiplier: 'prefetchMultiplier',
  worker_eta_task_limit: 'etaLimit',
  worker_heartbeat_interval: 'heartbeatInterval',
  worker_queues: 'queues',
  queue: 'queues',
  hostname: 'nodename',
  broker_heartbeat: 'brokerTransportOptions.heartbeatSeconds',
  broker_connection_timeout: 'brokerTransportOptions.connectTimeoutMs',
  redis_socket_timeout: 'resultBackendTransportOptions.socketTimeoutMs',
  ...Object.fromEntries(
    Object.keys(TRANSPORT)
      .filter((option) => !['tls', 'sep', 'username', 'password'].includes(option))
      .map((option) => [option, `brokerTransportOptions.${option}`]),
  ),
};

/** The same with the prefix that Django projects and Celery 3 put before each: `CELERY_BROKER_URL`. */
export const OTHER_NAMES: OtherNames = {
  ...SETTINGS,
  ...Object.fromEntries(Object.entries(SETTINGS).map(([other, right]) => [`celery_${other}`, right])),
  ...Object.fromEntries(Object.keys(CLIENT_CHECKS).map((right) => [`celery_${right}`, right])),
};

/** Options of a task that only Celery has. */
export const TASK_CHECKS: Readonly<Record<string, Check>> = {
  acksLate: boolean,
  acksOnFailureOrTimeout: boolean,
  rejectOnWorkerLost: boolean,
  ignoreResult: boolean,
  trackStarted: boolean,
  errback: boolean,
  rateLimit,
};
