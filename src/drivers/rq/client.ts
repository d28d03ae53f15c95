import { randomUUID } from 'node:crypto';
import {
  type DeferredScore,
  inOrder,
  newJob,
  type NewJob,
  register,
  type Registered,
} from '../../../protocols/rq/enqueue.ts';
import { type Progress, status as jobStatus } from '../../../protocols/rq/jobs.ts';
import { type Duration, type JobOptions, jobSettings, parseDuration } from '../../../protocols/rq/options.ts';
import { groupIds, groupNames, type Counts, counts, queueNames } from '../../../protocols/rq/queues.ts';
import type { SerializerLimits, SerializerName } from '../../../protocols/rq/serializers.ts';
import { isQueueName } from '../../../protocols/rq/keys.ts';
import * as workers from '../../../protocols/rq/workers.ts';
import type { Exchange } from '../../../protocols/redis.ts';
import type { AnyCall, Call, CallArguments, Client, RedisLink } from '../../client.ts';
import { ConfigError, ConnectionError, DuplicateJobError, WireError } from '../../errors.ts';
import { type Logger, silent } from '../../log.ts';
import { pause } from '../../source.ts';
import { type Task, taskName } from '../../task.ts';
import { RedisConnection } from '../../transports/redis.ts';
import type { RedisTarget } from '../../transports/redis-url.ts';
import { ResultWaiter, type WaitOptions } from './await-results.ts';
import { type JobReader, type JobRecord, RqJob } from './job.ts';
import { type RqAppOptions, targetOf } from './options.ts';
import { records, RqQueue } from './queue.ts';

/** Where Redis is, and what counts for jobs that do not say. */
export interface RqClientOptions extends RqAppOptions {
  /** Where jobs go that name no queue. @default 'default' */
  readonly queue?: string;
  /** Seconds a job may run that does not say: RQ's `default_timeout` of a queue. @default 180 */
  readonly defaultTimeout?: number;
  /**
   * The score of jobs that wait for others: `'+inf'` while workers of RQ 2.0 to 2.7 are about, which fail those that have any
   * other.
   * @default 'now', as RQ 2.8 and newer
   */
  readonly deferredScore?: DeferredScore;
  /** Shaped like pino's. @default nothing is written */
  readonly log?: Logger;
}

/** RQ's own options of `enqueue`, in camelCase, with their units (seconds); and where and when. */
export interface EnqueueOptions extends JobOptions {
  /** @default the client's, 'default' */
  readonly queue?: string;
  /** Into the queue after so long: seconds, or `'10m'`. A worker with a scheduler does it. */
  readonly in?: Duration;
  /** Into the queue at this time. */
  readonly at?: Date;
  /** @default the client's, 'pickle' */
  readonly serializer?: SerializerName;
}

/** A job that `enqueueMany` is to send. Others may depend on it: `dependsOn: prepared`. */
export interface Prepared<R = unknown> {
  readonly id: string;
  readonly made: NewJob;
  /** Types only. */
  readonly returns?: R;
}

/** An enqueued job, and what became of it at once. */
export class EnqueuedJob<R = unknown> extends RqJob<R> {
  /** `deferred`: it waits for others. `duplicate`: it was to be unique, and is nowhere; this is then the job that was there. */
  readonly registered: Registered['state'];
  constructor(reader: JobReader, id: string, { state, after }: Registered) {
    super(reader, id, state === 'duplicate' ? undefined : after);
    this.registered = state;
  }
}

/** In one script: it holds up everybody while it runs, and is sent as one. */
const BATCH = 500;
const BATCH_BYTES = 4 * 2 ** 20;
const MAX_TRIES = 4;

/** Sends jobs to RQ's workers, whatever their language, and looks at all that RQ keeps. Connects at the first call. */
export class RqClient implements Client<EnqueueOptions, EnqueuedJob>, JobReader, AsyncDisposable {
  readonly serializer: SerializerName;
  readonly limits: Partial<SerializerLimits> | undefined;
  readonly #options: RqClientOptions;
  readonly #target: RedisTarget;
  readonly #log: Logger;
  readonly #link: RedisLink | undefined;
  #redis: RedisLink | undefined;
  #opened: Promise<RedisLink> | undefined;
  #waiter: ResultWaiter | undefined;

  /** @param link used in place of a connection to `url`: for tests */
  constructor(options: RqClientOptions, link?: RedisLink) {
    this.#link = link;
    this.#options = options;
    this.serializer = options.serializer ?? 'pickle';
    this.limits = options.limits;
    this.#log = options.log ?? silent;
    this.#target = targetOf(options);
  }

  /** Where it sends to, without secrets. */
  get address(): string {
    return this.#target.maskedUrl;
  }

  /**
   * Send one job. Resolves when Redis has it, with all that belongs to it. Throws ConfigError naming the option, WireError
   * `unencodable` for arguments that the serializer cannot hold, DuplicateJobError for `unique`, ConnectionError when Redis
   * does not answer: then it is not known to be sent.
   */
  async enqueue<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    ...call: CallArguments<A, K, EnqueueOptions>
  ): Promise<EnqueuedJob<R>> {
    const prepared = this.prepare(task, ...call);
    const [job] = await this.enqueueMany([prepared]);
    if (job?.registered === 'duplicate') throw new DuplicateJobError('rq', prepared.id);
    return job as EnqueuedJob<R>;
  }

  /** A job of any task, for `enqueueMany`. Throws as `enqueue` does, but sends nothing. */
  prepare<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    ...[call]: CallArguments<A, K, EnqueueOptions>
  ): Prepared<R> {
    const funcName = taskName(task as Parameters<typeof taskName>[0], 'rq');
    const {
      args = [],
      kwargs = {},
      in: within,
      at,
      queue = this.#options.queue ?? 'default',
      ...options
    }: AnyCall<EnqueueOptions> = call ?? {};
    return asConfig(() => {
      if (funcName === '') throw new ConfigError("rq: a job needs the name of a function: 'app.tasks.send'");
      if (within !== undefined && at !== undefined)
        throw new ConfigError('rq: in and at both say when; pass one of them');
      const settings = jobSettings(options, this.#options.defaultTimeout);
      const now = new Date();
      const due = within === undefined ? at : new Date(now.getTime() + delay(within));
      const made = newJob(settings, {
        call: {
          funcName,
          instance: null,
          args: args as readonly unknown[],
          kwargs: kwargs as Readonly<Record<string, unknown>>,
        },
        id: settings.id ?? randomUUID(),
        queue,
        serializer: options.serializer ?? this.serializer,
        now,
        due,
      });
      return { id: made.job.id, made };
    });
  }

  /**
   * Send many calls of one task, or jobs of any tasks that `prepare` made, up to five hundred in a round trip, each of them in one
   * step. Those that depend on others of them come behind them. One that was to be unique and is not is told by its
   * `registered`. The receipts are in the order of the calls. Throws as `enqueue` does; then some may have been sent.
   */
  enqueueMany<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    calls: readonly Call<A, K, EnqueueOptions>[],
  ): Promise<readonly EnqueuedJob<R>[]>;
  enqueueMany(prepared: readonly Prepared[]): Promise<readonly EnqueuedJob[]>;
  async enqueueMany(
    what: Task | string | readonly Prepared[],
    calls: readonly EnqueueOptions[] = [],
  ): Promise<readonly EnqueuedJob[]> {
    const prepared = Array.isArray(what)
      ? (what as readonly Prepared[])
      : calls.map((call) => this.prepare(what as Task | string, call));
    const order = asConfig(() => inOrder(prepared.map(({ made }) => made)));
    const registered = new Map<NewJob, Registered>();
    for (const some of batches(order)) {
      for (const [index, one] of (await this.#register(some)).entries()) registered.set(some[index] as NewJob, one);
    }
    return prepared.map(({ id, made }) => new EnqueuedJob(this, id, registered.get(made) as Registered));
  }

  /** A job by its id, whether there is one or not. */
  job<R = unknown>(id: string): RqJob<R> {
    return new RqJob<R>(this, id);
  }

  /** The jobs of these ids that there are. */
  jobs(ids: readonly string[]): Promise<readonly JobRecord[]> {
    return records(this, ids);
  }

  /** A queue by its name, whether there is one or not. */
  queue(name: string = this.#options.queue ?? 'default'): RqQueue {
    return asConfig(() => new RqQueue(this, name));
  }

  /** Every queue that RQ knows of, by name. */
  async queues(): Promise<readonly RqQueue[]> {
    // A name that nobody can use is one that somebody else has written there.
    return (await this.run(queueNames())).filter(isQueueName).map((name) => this.queue(name));
  }

  /** How many jobs each of these queues has, by status, in one round trip. */
  counts(queues: readonly string[]): Promise<readonly Counts[]> {
    return this.run(counts(queues, new Date()));
  }

  /** Names of groups. */
  groups(): Promise<readonly string[]> {
    return this.run(groupNames());
  }

  /** The jobs of a group that there are still. */
  async group(name: string): Promise<readonly JobRecord[]> {
    return records(this, await this.run(groupIds(name)));
  }

  /** The workers that live, of all queues or of one, whatever their language. */
  async workers(queue?: string): Promise<readonly workers.WorkerRecord[]> {
    const found = await this.run(workers.fetchWorkers(await this.run(workers.workerNames(queue))));
    return found.filter((worker) => worker !== undefined && worker.death === undefined) as workers.WorkerRecord[];
  }

  /** Tell a worker something. Resolves to whether one of that name listens; whether it heeds, nobody says. */
  command(worker: string, told: workers.WorkerCommand): Promise<boolean> {
    return this.run(workers.sendCommand(worker, told));
  }

  /** Let no worker start anything more, for so many seconds or until `resume`. What runs goes on. */
  async suspend(seconds?: number): Promise<void> {
    if (seconds !== undefined && !(Number.isSafeInteger(seconds) && seconds >= 1))
      throw new ConfigError(`rq: suspend takes whole seconds of at least 1, not ${seconds}`);
    return this.run(workers.suspend(seconds));
  }
  /** Let workers start jobs again. */
  resume(): Promise<void> {
    return this.run(workers.resume());
  }
  /** Whether workers were told to start nothing. */
  isSuspended(): Promise<boolean> {
    return this.run(workers.isSuspended());
  }

  /** One round trip of `protocols/rq`. */
  async run<Reply>(exchange: Exchange<Reply>): Promise<Reply> {
    return (this.#redis ?? (await this.#open())).run(exchange);
  }

  /** For jobs: waits for an end. */
  wait(id: string, after: string | undefined, options: WaitOptions): Promise<Progress> {
    return (this.#waiter ??= new ResultWaiter(this.#target, this.#log)).wait(id, after, options);
  }

  /** Connect now rather than at the first call. */
  async open(): Promise<void> {
    await this.#open();
  }

  /** Close the connections. Whoever still waits for a result gets ConnectionError. */
  async close(): Promise<void> {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    await waiter?.close();
    await this.#opened?.catch(() => undefined);
    const redis = this.#redis;
    this.#redis = this.#opened = undefined;
    await redis?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #open(): Promise<RedisLink> {
    return (this.#opened ??= this.#connect().catch((error: unknown) => {
      this.#opened = undefined;
      throw error;
    }));
  }

  async #connect(): Promise<RedisLink> {
    const redis = this.#link ?? new RedisConnection(this.#target, { log: this.#log });
    await redis.connect();
    return (this.#redis = redis);
  }

  /**
   * Sent again when the answer was lost: an id that we made is there only if the first try has arrived, and then that is the
   * answer.
   */
  async #register(some: readonly NewJob[]): Promise<readonly Registered[]> {
    const score = this.#options.deferredScore;
    const again = some.every(({ named }) => !named);
    for (let tries = 1; ; tries++) {
      try {
        const jobs = tries === 1 ? some : some.map((one) => ({ ...one, unique: true }));
        const registered = await this.run(register(jobs, new Date(), score));
        return tries === 1
          ? registered
          : await Promise.all(registered.map((one, at) => this.#arrived(one, some[at] as NewJob)));
      } catch (error) {
        if (!(error instanceof ConnectionError) || !again || tries >= MAX_TRIES) throw error;
        await pause(200 * (tries - 1));
      }
    }
  }

  /** Where a job is that the first try has brought; a worker may have it already. */
  async #arrived(one: Registered, { job }: NewJob): Promise<Registered> {
    if (one.state !== 'duplicate') return one;
    const status = await this.run(jobStatus(job.id));
    return { state: status === 'deferred' || status === 'scheduled' ? status : 'queued', after: undefined };
  }
}

/** So many that no script takes long, and no command is very large. */
function* batches(jobs: readonly NewJob[]): Iterable<readonly NewJob[]> {
  let some: NewJob[] = [];
  let bytes = 0;
  for (const one of jobs) {
    const size = one.job.data.length + (one.job.meta?.length ?? 0);
    if (some.length >= BATCH || (some.length > 0 && bytes + size > BATCH_BYTES)) {
      yield some;
      some = [];
      bytes = 0;
    }
    some.push(one);
    bytes += size;
  }
  if (some.length > 0) yield some;
}

function delay(within: Duration): number {
  const ms = parseDuration('in', within) * 1000;
  // Parts of a second count, where they are given as a number.
  return typeof within === 'number' && Number.isFinite(within) ? within * 1000 : ms;
}

/** A wrong option is the caller's, whoever found it. */
function asConfig<T>(make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (error instanceof WireError && ['bad-option', 'bad-id', 'bad-queue'].includes(error.code))
      throw new ConfigError(error.message, { cause: error });
    throw error;
  }
}
