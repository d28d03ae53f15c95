import { Buffer, isUtf8 } from 'node:buffer';
import { WireError } from '../errors.ts';
import type { ActiveJob } from '../formats/active-job/index.ts';
import type { Job } from '../job.ts';
import * as json from '../formats/ruby-json.ts';
import { LATEST, readTimestamp } from './times.ts';

/**
 * The job hash, as Sidekiq has it in its lists and sets: one JSON object.
 *
 *     class, args, jid, queue, retry, retry_for, retry_queue, dead, backtrace, tags, wrapped, display_class, log_level, expiry, …
 *     created_at, enqueued_at                                                       when it was made, when it was put in its queue
 *     error_class, error_message, error_backtrace, failed_at, retried_at, retry_count          after a failure
 *
 * Its bytes are kept, and what is changed is changed in its text: members nobody here knows, large integers, `1.0` and the order of
 * members stay. Mirrors lib/sidekiq/{job_util,processor,api}.rb.
 */
export type JobHash = Readonly<Record<string, unknown>>;

/** A job hash that was fetched: its bytes, its text, and what they say. */
export interface SidekiqMessage {
  /** As they came. */
  readonly bytes: Uint8Array;
  readonly text: string;
  readonly hash: JobHash;
  /** The list it was fetched from, without `queue:`. */
  readonly queue: string;
}

/** A job of Sidekiq as handlers get it: the common members, and the whole hash for the rest. */
export interface SidekiqJob<
  A extends readonly unknown[] = readonly unknown[],
  K = Readonly<Record<string, unknown>>,
> extends Job<A, K> {
  /** Every member, as it is on the wire: `tags`, `cattr`, keys of your own. */
  readonly hash: JobHash;
  /** What Active Job says of a job that Rails enqueued; `args` and `kwargs` are those of the job in the wrapper, decoded. */
  readonly activeJob?: ActiveJob;
}

/**
 * The job hash in these bytes. Throws WireError: `undecodable` for bytes that are no JSON, `not-a-job` for JSON that is no
 * object with a `class` and an array of `args`.
 */
export function decodeJob(bytes: Uint8Array, queue: string): SidekiqMessage {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
  if (text.includes('\ufffd') && !isUtf8(bytes))
    throw new WireError('sidekiq', 'undecodable', `a job in the queue '${queue}' is not UTF-8`);
  let hash: unknown;
  try {
    hash = json.parse(text);
  } catch (cause) {
    throw new WireError('sidekiq', 'undecodable', `a job in the queue '${queue}' is ${reason(cause)}`, { cause });
  }
  if (typeof hash !== 'object' || hash === null || Array.isArray(hash))
    throw new WireError('sidekiq', 'not-a-job', `an entry of the queue '${queue}' is JSON, but no job hash`);
  const { class: name, args } = hash as JobHash;
  if (typeof name !== 'string' || name === '')
    throw new WireError('sidekiq', 'not-a-job', `a job in the queue '${queue}' has no class`);
  if (!Array.isArray(args))
    throw new WireError('sidekiq', 'not-a-job', `the args of a ${name} in the queue '${queue}' are no array`);
  return { bytes, text, hash: hash as JobHash, queue };
}

/** How a message is called in logs; empty where it has no id. */
export function jidOf(hash: JobHash): string {
  const { jid } = hash;
  return typeof jid === 'string' ? jid : typeof jid === 'number' || typeof jid === 'bigint' ? String(jid) : '';
}

/**
 * The job in a message. Its queue is where it was fetched, which an API may have changed from what the hash says. `task` is the name it goes by, where that
 * is not its class.
 */
export function toJob(
  message: SidekiqMessage,
  limits: TimeLimits = NO_LIMITS,
  wrapped?: {
    readonly activeJob: ActiveJob;
    readonly args: readonly unknown[];
    readonly kwargs: Readonly<Record<string, unknown>>;
  },
  task?: string,
): SidekiqJob {
  const job = new FetchedJob(message);
  if (task !== undefined) job.task = task;
  if (wrapped !== undefined) {
    job.task = wrapped.activeJob.jobClass;
    job.args = wrapped.args;
    job.kwargs = wrapped.kwargs;
    job.activeJob = wrapped.activeJob;
    // Active Job counts the runs it asked for itself; Sidekiq those that failed since.
    const { retry_count: failures } = message.hash;
    job.attempt = wrapped.activeJob.executions + (typeof failures === 'number' ? job.attempt : 1);
  }
  if (limits.timeoutMs !== undefined) job.timeoutMs = limits.timeoutMs;
  if (limits.softTimeoutMs !== undefined) job.softTimeoutMs = limits.softTimeoutMs;
  return job;
}

/** How long a job may run. Sidekiq has no such thing in a job hash. */
export interface TimeLimits {
  readonly timeoutMs?: number | undefined;
  readonly softTimeoutMs?: number | undefined;
}

const NO_LIMITS: TimeLimits = {};

/** Where OpenTelemetry's Ruby instrumentation of Active Job puts its headers. */
const OTEL_HEADERS = '__otel_headers';

/** Members that Sidekiq, its Pro and Enterprise write and read. Source: lib/sidekiq/{job_util,job_retry,client}.rb, the pages of Pro and Enterprise. */
const OWN_MEMBERS: ReadonlySet<string> = new Set([
  ...['class', 'args', 'jid', 'queue', 'at', 'created_at', 'enqueued_at', 'retry', 'retry_for', 'retry_queue', 'dead'],
  ...['backtrace', 'tags', 'wrapped', 'display_class', 'log_level', 'cattr', 'profile', 'pool', 'expires_in', 'expiry'],
  ...['error_class', 'error_message', 'error_backtrace', 'failed_at', 'retried_at', 'retry_count', 'discarded_at'],
  ...['bid', 'encrypt', 'unique_for', 'unique_until', 'unlocks', 'unique_token', 'interrupt_count'],
]);

const NO_KWARGS: Readonly<Record<string, unknown>> = Object.freeze({});

/** What few handlers look at is worked out when they do. */
class FetchedJob implements SidekiqJob {
  readonly id: string;
  task: string;
  args: readonly unknown[];
  kwargs: Readonly<Record<string, unknown>> = NO_KWARGS;
  readonly queue: string;
  attempt: number;
  readonly hash: JobHash;
  activeJob?: ActiveJob;
  timeoutMs?: number;
  softTimeoutMs?: number;

  constructor({ hash, queue }: SidekiqMessage) {
    this.id = jidOf(hash);
    this.task = hash['class'] as string;
    this.args = hash['args'] as readonly unknown[];
    this.queue = queue;
    const { retry_count: failures } = hash;
    // 0 is one failure; -1 is one that a person retried by hand.
    this.attempt = typeof failures === 'number' ? Math.max(1, Math.floor(failures) + 2) : 1;
    this.hash = hash;
  }

  /** Members that are not Sidekiq's own; of a job in the wrapper of Active Job also `__otel_headers` inside. */
  get headers(): Readonly<Record<string, unknown>> {
    const found = Object.entries(this.hash).filter(([name]) => !OWN_MEMBERS.has(name));
    if (this.activeJob !== undefined) {
      const [data] = this.hash['args'] as readonly JobHash[];
      const traced = data?.[OTEL_HEADERS];
      if (traced !== undefined) found.push([OTEL_HEADERS, traced]);
    }
    return (found.length === 0 ? undefined : Object.fromEntries(found)) as Readonly<Record<string, unknown>>;
  }

  get enqueuedAt(): Date {
    return dateOf(readTimestamp(this.hash['enqueued_at']) ?? readTimestamp(this.hash['created_at']));
  }

  get expiresAt(): Date {
    return dateOf(expiryOf(this.hash));
  }
}

/** A getter of a member that may be missing gives undefined, which is how a missing member reads. */
function dateOf(ms: number | undefined): Date {
  return (ms === undefined ? undefined : new Date(ms)) as Date;
}

/**
 * When this job must have started, in milliseconds: `expiry` (Sidekiq Pro), in seconds or milliseconds; where there is only
 * `expires_in`, so many seconds after it was put in its queue.
 */
export function expiryOf(hash: JobHash): number | undefined {
  const { expiry, expires_in: lifetime } = hash;
  const at = readTimestamp(expiry);
  if (at !== undefined) return at;
  if (typeof lifetime !== 'number' || !(lifetime > 0)) return undefined;
  const from = readTimestamp(hash['enqueued_at']);
  const until = from === undefined ? undefined : from + lifetime * 1000;
  return until === undefined || until > LATEST ? undefined : until;
}

/** The name a job is counted and shown under: that behind the wrapper of Active Job, where there is one. */
export function displayClass(hash: JobHash): string {
  const { wrapped } = hash;
  return typeof wrapped === 'string' ? wrapped : String(hash['class']);
}

/** `true` is 25 retries (or the class's own number), null asks the class, a number is itself, false is none and no dead job. */
export function retryOf(hash: JobHash): boolean | number | undefined {
  const { retry } = hash;
  if (retry === undefined || retry === null) return undefined;
  if (typeof retry === 'number') return Number.isInteger(retry) ? retry : true;
  // Ruby: everything but nil and false is true.
  return retry !== false;
}

function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message.replace(/^json: /, '') : 'not JSON';
}
