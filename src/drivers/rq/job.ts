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

/** The parts of their client that jobs use. */
export interface JobReader {
  readonly serializer: SerializerName;
  readonly limits: Partial<SerializerLimits> | undefined;
  run<Reply>(exchange: Exchange<Reply>): Promise<Reply>;
  wait(id: string, after: string | undefined, options: WaitOptions): Promise<jobs.Progress>;
}

/**
 * A handle of one job, by its id, like RQ's Job. It keeps no data: each call asks Redis. All methods reject with ConnectionError if Redis does not
 * answer.
 */
export class RqJob<R = unknown> {
  readonly id: string;
  readonly #reader: JobReader;
  readonly #after: string | undefined;

  /** @param after the last result of an earlier job with the same id; it does not belong to this job */
  constructor(reader: JobReader, id: string, after?: string) {
    this.#reader = reader;
    this.id = id;
    this.#after = after;
  }

  /**
   * Waits for the end of the job and resolves to the return value of its function. For a job that is retried, it waits until the last try. For a job
   * that is repeated, the latest success counts. Throws RemoteError with the traceback when the job failed or was stopped, CanceledJobError,
   * NoSuchJobError (also when a job with `resultTtl: 0` has ended), ResultTimeoutError after `timeoutMs`, and the signal's reason when it aborts.
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
        // A result may outlive the state that it belongs to: a job that was canceled later did not run again.
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

  /** Undefined if there is no such job. */
  status(): Promise<JobStatus | undefined> {
    return this.#reader.run(jobs.status(this.id));
  }

  /** All fields of the job's hash; undefined if there is no hash. */
  async fetch(): Promise<JobRecord | undefined> {
    const [found] = await this.#reader.run(jobs.fetchJobs([this.id]));
    return found === undefined ? undefined : new JobRecord(found, this.#reader.limits);
  }

  /** The latest result; undefined before the first end. */
  async result(): Promise<RqResult | undefined> {
    const [latest] = await this.#reader.run(jobs.results(this.id, 1));
    return latest === undefined ? undefined : new RqResult(latest, this.#reader.limits);
  }

  /** The stored results, about ten at most, the newest first. */
  async results(): Promise<readonly RqResult[]> {
    return (await this.#reader.run(jobs.results(this.id))).map((entry) => new RqResult(entry, this.#reader.limits));
  }

  /** Throws NoSuchJobError, and WireError for a meta that cannot be read. */
  async meta(): Promise<unknown> {
    return (await this.#fetched()).meta();
  }

  /** Replaces the meta; it is written with the serializer of the job's data. Throws NoSuchJobError; a deleted job is not created again. */
  async saveMeta(meta: Readonly<Record<string, unknown>> | ReadonlyMap<string, unknown>): Promise<void> {
    const { job } = await this.#fetched();
    const serializer = sniff(inflate(job.data, this.#reader.limits?.maxBytes));
    const bytes = dumps(serializer, meta, 'meta');
    if (!(await this.#reader.run(jobs.saveMeta(this.id, bytes)))) throw new NoSuchJobError('rq', this.id);
  }

  /**
   * Cancels the job: no worker starts it any more. A running job continues; `stop` ends it. Resolves to the number of dependent jobs that were
   * released. Throws NoSuchJobError, and InvalidJobOperationError if it is already canceled.
   */
  async cancel(options: jobs.CancelOptions = {}): Promise<number> {
    const done = await this.#reader.run(jobs.cancel(this.id, new Date(), options));
    if (done === 'gone') throw new NoSuchJobError('rq', this.id);
    if (done === 'canceled') throw new InvalidJobOperationError(`rq: the job ${this.id} is canceled already`);
    return done;
  }

  /** Puts a failed, stopped or canceled job into its queue again. Throws NoSuchJobError, InvalidJobOperationError. */
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
   * Deletes the job and its results; RQ itself does not delete the results. A running job continues, and its outcome is not stored. Returns false if
   * there was no job.
   */
  async delete(options: jobs.DeleteOptions = {}): Promise<boolean> {
    return (await this.#reader.run(jobs.deleteJob(this.id, options))) > 0;
  }

  /**
   * Asks the worker that runs the job to stop it. Resolves to whether a worker received the command. Throws NoSuchJobError, InvalidJobOperationError.
   */
  async stop(): Promise<boolean> {
    const { job } = await this.#fetched();
    if (job.workerName === undefined || job.status !== 'started')
      throw new InvalidJobOperationError(`rq: nobody is running the job ${this.id}; it is ${job.status ?? 'nowhere'}`);
    return this.#reader.run(sendCommand(job.workerName, { command: 'stop-job', jobId: this.id }));
  }

  /** The jobs on which this job depends. */
  async dependencies(): Promise<readonly RqJob[]> {
    const { dependencies } = await this.#reader.run(jobs.relatives(this.id));
    return dependencies.map((id) => new RqJob(this.#reader, id));
  }

  /** The jobs that depend on this job. */
  async dependents(): Promise<readonly RqJob[]> {
    const { dependents } = await this.#reader.run(jobs.relatives(this.id));
    return dependents.map((id) => new RqJob(this.#reader, id));
  }

  /** Its position in its queue, 0 is next; undefined if it does not wait there. Redis 6.0.6 and newer. */
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

/** A job's hash as it was read. Values that need a serializer are decoded when they are read. */
export class JobRecord {
  readonly job: JobHash;
  /** Fields for which RQ's own readers would raise an error. */
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

  /** An empty object if there is no meta. Throws WireError. */
  meta(): unknown {
    const { meta } = this.job;
    return meta === undefined ? {} : loads(meta, this.#limits === undefined ? {} : { limits: this.#limits });
  }
}

/** The result of one run. */
export class RqResult {
  /** `<milliseconds>-<number>`. */
  readonly id: string;
  readonly type: StoredEntry['type'];
  readonly createdAt: Date;
  /** Empty if no worker ran the job. */
  readonly workerName: string;
  /** The traceback, or another text with the reason of the failure. */
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

  /** The return value; null if none is stored. `exact` distinguishes 1.0 from 1. Throws WireError. */
  value({ exact = false }: { readonly exact?: boolean } = {}): unknown {
    return readReturnValue(this.#entry, { exact, ...(this.#limits === undefined ? {} : { limits: this.#limits }) });
  }
}

function remoteError(text: string): RemoteError {
  const { type, module, message } = readFailure(text);
  return new RemoteError({ type, module, args: message === '' ? [] : [message], traceback: text });
}
