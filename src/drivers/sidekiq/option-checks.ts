import type { JobOptions, Timing } from '../../../protocols/sidekiq/options.ts';
import {
  anything,
  boolean,
  callable,
  type Check,
  checkOptions,
  type Checks,
  either,
  listOf,
  milliseconds,
  name,
  object,
  oneOf,
  record,
  text,
  unknownOption,
  wholeNumber,
} from '../../check.ts';
import { ConfigError } from '../../errors.ts';
import type { PerformLaterOptions, SidekiqClientOptions } from './client-options.ts';
import type { CapsuleOptions, SidekiqAppOptions, SidekiqOptions } from './options.ts';

const above =
  (unit: string): Check =>
  (value) =>
    typeof value === 'number' && Number.isFinite(value) && value > 0
      ? undefined
      : `must be a number of ${unit} above 0`;

/** Accepts `['a', 'b']`, `{ a: 5 }`, `[['a', 5]]`. The entries themselves are checked where they are read. */
const queues: Check = (value) =>
  Array.isArray(value) || (typeof value === 'object' && value !== null)
    ? undefined
    : "must be a list of names, ['default'], or names with weights, { default: 1 }";

const APP: Checks<SidekiqAppOptions> = {
  url: text,
  namespace: text,
  dialect: text,
  tls: record,
  masterName: name,
  sentinelUsername: text,
  sentinelPassword: text,
  username: text,
  password: text,
  connectTimeoutMs: milliseconds,
  socketTimeoutMs: milliseconds,
  socketKeepalive: boolean,
  clientName: name,
  cluster: boolean,
};

const CAPSULE: Checks<CapsuleOptions> = {
  queues,
  concurrency: wholeNumber(1),
  prefetch: either(oneOf('auto'), wholeNumber()),
};

const WORKER: Checks<SidekiqOptions> = {
  ...APP,
  ...CAPSULE,
  fetch: oneOf('reliable', 'basic'),
  unknownTask: either(oneOf('requeue', 'reject', 'hold'), object({ forward: name })),
  unknownTaskDelayMs: milliseconds,
  maxRetries: wholeNumber(),
  deadMaxJobs: wholeNumber(1),
  deadTimeoutInSeconds: above('seconds'),
  averageScheduledPollInterval: above('seconds'),
  pollIntervalAverage: above('seconds'),
  poll: boolean,
  tag: text,
  labels: listOf(text, 'texts'),
  embedded: boolean,
  metrics: boolean,
  heartbeatInterval: above('seconds'),
  deadAfter: above('seconds'),
  rescueInterval: above('seconds'),
  poisonLimit: wholeNumber(1),
  maxJobBytes: wholeNumber(1),
};

/** Option names of Sidekiq itself, and option names of earlier versions of this package. */
const OTHER_NAMES: Readonly<Record<string, string>> = {
  queue: 'queues',
  max_retries: 'maxRetries',
  dead_max_jobs: 'deadMaxJobs',
  dead_timeout_in_seconds: 'deadTimeoutInSeconds',
  average_scheduled_poll_interval: 'averageScheduledPollInterval',
  poll_interval_average: 'pollIntervalAverage',
};

export function checkApp(where: string, options: unknown, more: Readonly<Record<string, Check>> = {}): void {
  checkOptions(`sidekiq: ${where}`, options, { ...APP, ...more }, OTHER_NAMES);
}
export function checkWorker(options: unknown): void {
  checkOptions('sidekiq', options, WORKER, OTHER_NAMES);
}
export function checkCapsule(capsule: string, options: unknown): void {
  checkOptions(`sidekiq: capsule '${capsule}'`, options, CAPSULE, OTHER_NAMES);
}
export function checkClient(options: unknown): void {
  checkApp('SidekiqClient', options, CLIENT);
}

const CLIENT: Omit<Checks<SidekiqClientOptions>, keyof SidekiqAppOptions> = {
  whenAway: oneOf('error', 'buffer'),
  bufferLimit: wholeNumber(1),
  defaults: record,
  middleware: listOf(callable, 'functions'),
  log: anything,
};

type Names<Options> = Readonly<Record<keyof Options, true>>;
/** The values are checked where the job is made; that error names the class. */
const CALL = {
  ...{ args: true, kwargs: true, at: true, in: true, queue: true, retry: true, retryFor: true, retryQueue: true },
  ...{ dead: true, backtrace: true, tags: true, jid: true, cattr: true, expiresIn: true, displayClass: true },
  ...{ wrapped: true, custom: true },
} satisfies Names<Required<JobOptions & Timing>> & { readonly args: true; readonly kwargs: true };
const LATER = {
  ...CALL,
  ...{ priority: true, locale: true, timezone: true, jobId: true, rails: true },
} satisfies Names<Required<PerformLaterOptions>>;
const CALL_NAMES: readonly string[] = Object.keys(CALL);
const LATER_NAMES: readonly string[] = Object.keys(LATER).filter((one) => one !== 'wrapped' && one !== 'displayClass');
/** Names used on the wire and in other systems. */
const OTHER_CALL_NAMES: Readonly<Record<string, string>> = {
  retry_for: 'retryFor',
  retry_queue: 'retryQueue',
  expires_in: 'expiresIn',
  display_class: 'displayClass',
  retries: 'retry',
  countdown: 'in',
  eta: 'at',
  id: 'jid',
  headers: 'custom',
};

/** Checks a call for unknown option names. Throws ConfigError, which names the nearest valid option. */
export function checkCall(method: 'enqueue' | 'enqueueMany' | 'performLater', task: string, call: unknown): void {
  if (typeof call !== 'object' || call === null || Array.isArray(call))
    throw new ConfigError(`sidekiq: ${method} '${task}': a call must be an object: { args: [1, 2] }`);
  const known = method === 'performLater' ? LATER_NAMES : CALL_NAMES;
  for (const key of Object.keys(call))
    if (!known.includes(key))
      throw new ConfigError(`sidekiq: ${method} '${task}': ${unknownOption(key, known, OTHER_CALL_NAMES)}`);
}
