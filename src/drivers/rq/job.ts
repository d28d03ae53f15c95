import { readFailure } from '../../../protocols/rq/failure.ts';
import * as jobs from '../../../protocols/rq/jobs.ts';
import { type BrokenField, type Call, type JobHash, type JobStatus, readCall } from '../../../protocols/rq/message.ts';
import { readReturnValue, type StoredEntry } from '../../../protocols/rq/result.ts';
import {
  dumps,
  inflate,
  loads,
  type SerializerLimits,
  type SerializerName,
  sniff,
} from '../../../protocols/rq/serializers.ts';
import { sendCommand } from '../../../protocols/rq/workers.ts';
import type { Exchange } from '../../../protocols/redis.ts';
import { CanceledJobError, InvalidJobOperationError, NoSuchJobError, RemoteError } from '../../errors.ts';
import type { WaitOptions } from './await-results.ts';

/** What jobs need of their client. */
export interface JobReader {
  readonly serializer: SerializerName;
  readonly limits: Partial<SerializerLimits> | undefined;
  run<Reply>(exchange: Exchange<Reply>): Promise<Reply>;
  wait(id: string, after: string | undefined, options: WaitOptions): Promise<jobs.Progress>;
}

/**
 * One job, by its id, as RQ's Job. Nothing is kept here: each call asks Redis. All of them reject with ConnectionError where it
 * does not answer.
 */
export class RqJob<R = unknown> {
  readonly id: string;
  readonly #reader: JobReader;
  readonly #after: string | undefined;

  /** @param after the last result of an earlier job of the same id, which is not this one's */
  constructor(reader: JobReader, id: string, after?: string) {
    this.#reader = reader;
    this.id = id;
    this.#after = after;
  }

  /**
   * Waits for the end of the job: what its function returned. A job that is retried is waited for until its last try; of one
   * that is repeated the latest success counts. Throws RemoteError with the traceback when it failed or was stopped,
   * CanceledJobError, NoSuchJobError (also when a job with `resultTtl: 0` has ended), ResultTimeoutError after `timeoutMs`, the
   * signal's reason when it aborts.
   */
  async get(options: WaitOptions = {}): Promise<R> {
    const { status, latest, legacyResult, legacyExcInfo } = await this.#reader.wait(this.id, this.#after, options);
    const result = latest !== undefined && latest.id !== this.#after ? latest : undefined;
    const { limits } = this.#reader;
    switch (result?.type) {
      case 'successful':
        return readReturnValue(result, { ...(limits === undefined ? {} : { limits }) }) as R;
      case 'failed':
      case 'stopped':
      case 'max_retries_exceeded':
        // A result may stay longer than what became of the job: a canceled one was not run again.
        if (status !== 'finished') throw remoteError(result.excString ?? result.type);
        break;
      case 'retried':
      case undefined:
    }
    switch (status) {
      case undefined:
        throw new NoSuchJobError('rq', this.id);
      case 'canceled':
        throw new CanceledJobError('rq', this.id);
      case 'failed':
      case 'stopped':
        throw remoteError(legacyExcInfo === undefined ? `the job ${status}` : inflate(legacyExcInfo).toString('utf8'));
      default:
        return (legacyResult === undefined ? null : loads(legacyResult, limits === undefined ? {} : { limits })) as R;
    }
  }

  /** Undefined where there is no such job. */
  status(): Promise<JobStatus | undefined> {
    return this.#reader.run(jobs.status(this.id));
  }

  /** Everything the job's hash says; undefined where there is none. */
  async fetch(): Promise<JobRecord | undefined> {
    const [found] = await this.#reader.run(jobs.fetchJobs([this.id]));
    return found === undefined ? undefined : new JobRecord(found, this.#reader.limits);
  }

  /** The latest result; undefined before the first end. */
  async result(): Promise<RqResult | undefined> {
    const [latest] = await this.#reader.run(jobs.results(this.id, 1));
    return latest === undefined ? undefined : new RqResult(latest, this.#reader.limits);
  }

  /** The results that are kept, about ten of them, the newest first. */
  async results(): Promise<readonly RqResult[]> {
    return (await this.#reader.run(jobs.results(this.id))).map((entry) => new RqResult(entry, this.#reader.limits));
  }

  /** Throws NoSuchJobError, and WireError for a meta that cannot be read. */
  async meta(): Promise<unknown> {
    return (await this.#fetched()).meta();
  }

  /** Replaces the meta, written as the job's data is. Throws NoSuchJobError; a deleted job does not come back. */
  async saveMeta(meta: Readonly<Record<string, unknown>> | ReadonlyMap<string, unknown>): Promise<void> {
    const { job } = await this.#fetched();
    const serializer = sniff(inflate(job.data, this.#reader.limits?.maxBytes));
    const bytes = dumps(serializer, meta, 'meta');
    if (!(await this.#reader.run(jobs.saveMeta(this.id, bytes)))) throw new NoSuchJobError('rq', this.id);
  }

  /**
   * Cancels it: nobody starts it any more. What runs of it goes on; `stop` ends that. Resolves to how many jobs that waited for
   * it were let go. Throws NoSuchJobError, and InvalidJobOperationError where it is canceled already.
   */
  async cancel(options: jobs.CancelOptions = {}): Promise<number> {
    const done = await this.#reader.run(jobs.cancel(this.id, new Date(), options));
    if (done === 'gone') throw new NoSuchJobError('rq', this.id);
    if (done === 'canceled') throw new InvalidJobOperationError(`rq: the job ${this.id} is canceled already`);
    return done;
  }

  /** Into its queue again, once it has failed, was stopped or canceled. Throws NoSuchJobError, InvalidJobOperationError. */
  async requeue({ atFront = false }: { readonly atFront?: boolean } = {}): Promise<void> {
    const { job } = await this.#fetched();
    const registry = job.status === 'canceled' ? 'canceled' : 'failed';
    const [done] = await this.#reader.run(jobs.requeue(registry, job.origin ?? '', [this.id], new Date(), atFront));
    if (done === 'gone') throw new NoSuchJobError('rq', this.id);
    if (done === 'elsewhere')
      throw new InvalidJobOperationError(
        `rq: the job ${this.id} is ${job.status ?? 'nowhere'}; what is requeued has failed, was stopped or canceled`,
      );
  }

  /**
   * Deletes it, with its results, which RQ itself leaves. What runs of it goes on, and its end is not written down. False where
   * there was none.
   */
  async delete(options: jobs.DeleteOptions = {}): Promise<boolean> {
    return (await this.#reader.run(jobs.deleteJob(this.id, options))) > 0;
  }

  /**
   * Tells the worker that runs it to stop it. Resolves to whether a worker was told. Throws NoSuchJobError,
   * InvalidJobOperationError.
   */
  async stop(): Promise<boolean> {
    const { job } = await this.#fetched();
    if (job.workerName === undefined || job.status !== 'started')
      throw new InvalidJobOperationError(`rq: nobody is running the job ${this.id}; it is ${job.status ?? 'nowhere'}`);
    return this.#reader.run(sendCommand(job.workerName, { command: 'stop-job', jobId: this.id }));
  }

  /** What it has to wait for. */
  async dependencies(): Promise<readonly RqJob[]> {
    const { dependencies } = await this.#reader.run(jobs.relatives(this.id));
    return dependencies.map((id) => new RqJob(this.#reader, id));
  }

  /** What waits for it. */
  async dependents(): Promise<readonly RqJob[]> {
    const { dependents } = await this.#reader.run(jobs.relatives(this.id));
    return dependents.map((id) => new RqJob(this.#reader, id));
  }

  /** Its place in its queue, 0 is next; undefined where it is not waiting there. Redis 6.0.6 and newer. */
  async position(): Promise<number | undefined> {
    const { job } = await this.#fetched();
    return job.origin === undefined ? undefined : this.#reader.run(jobs.position(this.id, job.origin));
  }

  async #fetched(): Promise<JobRecord> {
    const found = await this.fetch();
    if (found === undefined) throw new NoSuchJobError('rq', this.id);
    return found;
  }
}

/** A job's hash as it was read. What needs a serializer is read when it is asked for. */
export class JobRecord {
  readonly job: JobHash;
  /** Fields that RQ's own readers would raise over. */
  readonly broken: readonly BrokenField[];
  readonly #limits: Partial<SerializerLimits> | undefined;

  constructor({ job, broken }: jobs.FetchedJob, limits?: Partial<SerializerLimits>) {
    this.job = job;
    this.broken = broken;
    this.#limits = limits;
  }

  get id(): string {
    return this.job.id;
  }
  get status(): JobStatus | undefined {
    return this.job.status;
  }

  /** The function and its arguments, as data. Throws WireError. */
  call(): Call {
    return readCall(this.job.data, this.#limits === undefined ? {} : { limits: this.#limits });
  }

  /** An empty object where there is none. Throws WireError. */
  meta(): unknown {
    const { meta } = this.job;
    return meta === undefined ? {} : loads(meta, this.#limits === undefined ? {} : { limits: this.#limits });
  }
}

/** One end of one run. */
export class RqResult {
  /** `<milliseconds>-<number>`. */
  readonly id: string;
  readonly type: StoredEntry['type'];
  readonly createdAt: Date;
  /** Empty for what no worker ran. */
  readonly workerName: string;
  /** The traceback, or another text that says why it failed. */
  readonly excString: string | undefined;
  readonly executionId: string | undefined;
  readonly startedAt: Date | undefined;
  readonly endedAt: Date | undefined;
  readonly #entry: StoredEntry;
  readonly #limits: Partial<SerializerLimits> | undefined;

  constructor(entry: StoredEntry, limits?: Partial<SerializerLimits>) {
    this.id = entry.id;
    this.type = entry.type;
    this.createdAt = entry.createdAt;
    this.workerName = entry.workerName;
    this.excString = entry.excString;
    this.executionId = entry.executionId;
    this.startedAt = entry.startedAt === undefined ? undefined : new Date(entry.startedAt);
    this.endedAt = entry.endedAt === undefined ? undefined : new Date(entry.endedAt);
    this.#entry = entry;
    this.#limits = limits;
  }

  /** What it returned, null where nothing is stored; `exact` tells 1.0 from 1. Throws WireError. */
  value({ exact = false }: { readonly exact?: boolean } = {}): unknown {
    return readReturnValue(this.#entry, { exact, ...(this.#limits === undefined ? {} : { limits: this.#limits }) });
  }
}

function remoteError(text: string): RemoteError {
  const { type, module, message } = readFailure(text);
  return new RemoteError({ type, module, args: message === '' ? [] : [message], traceback: text });
}
