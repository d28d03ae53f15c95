import {
  type ActiveJob,
  decodeArguments,
  type EncodeOptions,
  exceptionsKey,
  type NewJob,
  nextRun,
  readJob,
  splitKeywords,
  writeJob,
} from '../formats/active-job/index.ts';
import { member, parseExact } from '../formats/json.ts';
import { edit, stringify } from '../formats/ruby-json.ts';
import type { Failure, Job } from '../job.ts';
import { encodePayload, type Payload } from './message.ts';

/**
 * Active Job on Resque: a payload of the wrapper's class whose one argument is the job that Rails means. Resque sees a job that succeeds
 * when Rails runs it again by itself: that is another payload.
 * Source: activejob queue_adapters/resque_adapter.rb; resque lib/active_job/queue_adapters/resque_adapter.rb.
 */
export const JOB_WRAPPER = 'ActiveJob::QueueAdapters::ResqueAdapter::JobWrapper';

/** A job of Resque as handlers get it; of Active Job where Rails enqueued it. */
export interface ResqueJob<A extends readonly unknown[] = readonly unknown[]> extends Job<A> {
  readonly activeJob?: ActiveJob;
}

/** The class that Rails means, for a payload of its wrapper; undefined for any other. */
export function wrappedClass(payload: Payload): string | undefined {
  if (payload.class !== JOB_WRAPPER) return undefined;
  const [data] = payload.args;
  const name =
    typeof data === 'object' && data !== null && Object.hasOwn(data, 'job_class')
      ? (data as { readonly job_class: unknown }).job_class
      : undefined;
  return typeof name === 'string' && name !== '' ? name : undefined;
}

/**
 * The job in a wrapper's argument, its arguments decoded. Throws WireError where Rails would raise DeserializationError, and for what is
 * no job of Rails.
 */
export function toActiveJob(payload: Payload, queue: string, claim: string): ResqueJob {
  const activeJob = readJob(payload.args[0]);
  const { args, kwargs } = splitKeywords(decodeArguments(activeJob.arguments));
  const attempt = activeJob.executions + 1;
  const job = { id: activeJob.jobId ?? claim, task: activeJob.jobClass, args, kwargs, queue, attempt, activeJob };
  const traced = activeJob.fields.get(TRACED);
  if (payload.headers === undefined && traced === undefined) return job;
  return { ...job, headers: { ...payload.headers, ...(traced === undefined ? {} : { [TRACED]: traced }) } };
}

/** Where OpenTelemetry keeps its headers, within the data of Active Job. Source: opentelemetry-instrumentation-active_job, handlers and patches. */
const TRACED = '__otel_headers';

/** A payload of the wrapper, as `perform_later` pushes it. Throws WireError `unencodable`, naming the argument. */
export function wrap(
  job: NewJob,
  options: EncodeOptions = {},
  { [TRACED]: traced, ...headers }: Readonly<Record<string, unknown>> = {},
): string {
  const data = writeJob(job, options);
  return encodePayload(JOB_WRAPPER, [traced === undefined ? data : { ...data, [TRACED]: traced }], undefined, headers);
}

/**
 * The payload that Active Job's `retry_job` pushes: the same job id and arguments, an execution more. Its queue is that of the data, which
 * `retry_on` may have changed; undefined where it names none.
 */
export function again(
  payload: string,
  run: { readonly now: Date; readonly at: Date | undefined; readonly error: Failure | undefined },
): { readonly queue: string | undefined; readonly payload: string } {
  // Exactly as they were: what is decoded for the handler has lost which numbers were floats.
  const args = parseExact(member(payload, ['args']) ?? '[]') as readonly unknown[];
  const job = readJob(args[0]);
  const counts = new Map(job.exceptionExecutions);
  if (run.error !== undefined) {
    const key = exceptionsKey([run.error.type]);
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  const data = nextRun(job, {
    enqueuedAt: run.now,
    scheduledAt: run.at,
    executions: job.executions + 1,
    exceptionExecutions: counts,
  });
  return { queue: job.queueName, payload: edit(payload, [{ path: ['args'], value: `[${stringify(data)}]` }]) };
}
