import {
  type ActiveJob,
  decodeArguments,
  type EncodeOptions,
  exceptionsKey,
  nextRun,
  readJob,
  splitKeywords,
  writeJob,
} from '../formats/active-job/index.ts';
import type { Change } from '../formats/json.ts';
import { member, parseExact } from '../formats/json.ts';
import { edit, stringify } from '../formats/ruby-json.ts';
import type { Failure } from '../job.ts';
import { type Dialect, SIDEKIQ_ADAPTER_WRAPPER, SIDEKIQ_WRAPPER } from './dialect.ts';
import type { JobHash, SidekiqMessage } from './message.ts';
import type { Payload } from './redis.ts';
import { timestamp } from './times.ts';

/**
 * Active Job on Sidekiq: a job of the wrapper's class whose one argument is the job that Rails means. `wrapped` names its class.
 * Mirrors active_job/queue_adapters/sidekiq_adapter.rb of Rails and of Sidekiq 8.
 */
export interface WrappedJob {
  readonly activeJob: ActiveJob;
  /** Decoded, without the keywords. */
  readonly args: readonly unknown[];
  readonly kwargs: Readonly<Record<string, unknown>>;
}

const WRAPPERS: ReadonlySet<unknown> = new Set([SIDEKIQ_ADAPTER_WRAPPER, SIDEKIQ_WRAPPER]);

/** The class that Rails means, for a job in one of its wrappers; undefined for any other job. */
export function wrappedClass(hash: JobHash): string | undefined {
  if (!WRAPPERS.has(hash['class'])) return undefined;
  const { wrapped, args } = hash;
  const data = (args as readonly unknown[])[0];
  const named = typeof data === 'object' && data !== null ? (data as JobHash)['job_class'] : undefined;
  // What runs is what the data names; `wrapped` is for those who only look.
  return typeof named === 'string' ? named : typeof wrapped === 'string' ? wrapped : undefined;
}

/** The job in a wrapper's argument. Throws WireError where Rails would raise DeserializationError, and for what is no job of Rails. */
export function readWrapped(hash: JobHash): WrappedJob {
  const activeJob = readJob((hash['args'] as readonly unknown[])[0]);
  return { activeJob, ...splitKeywords(decodeArguments(activeJob.arguments)) };
}

/** What `perform_later` says of a job. */
export interface ActiveJobCall {
  readonly jobClass: string;
  readonly jobId: string;
  readonly queue: string;
  readonly args: readonly unknown[];
  readonly kwargs?: Readonly<Record<string, unknown>>;
  readonly priority?: number | undefined;
  readonly locale?: string | undefined;
  readonly timezone?: string | undefined;
  /** Milliseconds. */
  readonly at: number | undefined;
}

/** The wrapper's one argument. Throws WireError `unencodable`, naming the argument. */
export function wrap(call: ActiveJobCall, now: Date, options: EncodeOptions = {}): object {
  const { jobClass, jobId, queue, args, kwargs = {}, priority, locale, timezone, at } = call;
  return writeJob(
    {
      jobClass,
      jobId,
      queueName: queue,
      args,
      kwargs,
      priority,
      locale,
      timezone,
      enqueuedAt: now,
      scheduledAt: at === undefined ? undefined : new Date(at),
    },
    options,
  );
}

/** Members that tell of the run that ended: the next one is a new job to Sidekiq. */
const OF_THE_RUN = [
  'error_message',
  'error_class',
  'error_backtrace',
  'failed_at',
  'retried_at',
  'retry_count',
  'enqueued_at',
];

/**
 * The job that Active Job's `retry_job` enqueues: the same job id and arguments, an execution more, a new jid. To Sidekiq the run
 * that ended has succeeded.
 */
export function again(
  message: SidekiqMessage,
  { delayMs = 0, error }: { readonly delayMs?: number | undefined; readonly error: Failure | undefined },
  { now, jid, dialect }: { readonly now: Date; readonly jid: string; readonly dialect: Dialect },
): Payload {
  // Exactly as they were: what is decoded for the handler has lost which numbers were floats.
  const args = parseExact(member(message.text, ['args']) ?? '[]') as readonly unknown[];
  const job = readJob(args[0]);
  const nowMs = now.getTime();
  const at = delayMs > 0 ? nowMs + delayMs : undefined;
  const counts = new Map(job.exceptionExecutions);
  if (error !== undefined) {
    const key = exceptionsKey([error.type]);
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  const data = nextRun(job, {
    enqueuedAt: now,
    scheduledAt: at === undefined ? undefined : new Date(at),
    providerJobId: typeof message.hash['jid'] === 'string' ? message.hash['jid'] : undefined,
    executions: job.executions + 1,
    exceptionExecutions: counts,
  });
  const queue = job.queueName ?? message.queue;
  const changes: Change[] = OF_THE_RUN.map((name) => ({ path: [name], value: undefined }));
  changes.push(
    { path: ['queue'], value: stringify(queue) },
    { path: ['args'], value: `[${stringify(data)}]` },
    { path: ['jid'], value: stringify(jid) },
    { path: ['created_at'], value: timestamp(nowMs, dialect) },
  );
  if (at === undefined) changes.push({ path: ['enqueued_at'], value: timestamp(nowMs, dialect) });
  const text = edit(message.text, changes);
  return at === undefined ? { queue, text } : { queue, text, at };
}
