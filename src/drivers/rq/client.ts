import { randomUUID } from 'node:crypto';
import {
  type DeferredScore,
  inOrder,
  newJob,
  type NewJob,
  type Ordered,
  register,
  type Registered,
} from '../../../protocols/rq/enqueue.ts';
import { type Progress, status as jobStatus } from '../../../protocols/rq/jobs.ts';
import {
  type Duration,
  type JobOptions,
  type JobSettings,
  jobSettings,
  parseDuration,
} from '../../../protocols/rq/options.ts';
import { groupIds, groupNames, type Counts, counts, queueNames } from '../../../protocols/rq/queues.ts';
import type { SerializerLimits, SerializerName } from '../../../protocols/rq/serializers.ts';
import { isQueueName } from '../../../protocols/rq/keys.ts';
import * as workers from '../../../protocols/rq/workers.ts';
import type { Exchange } from '../../../protocols/redis.ts';
import { wholeNumber } from '../../check.ts';
import {
  type AnyCall,
  type Call,
  type CallArguments,
  type ClientEvents,
  type ClientMiddleware,
  type Envelope,
  type Client,
  NotEnqueuedError,
  type RedisLink,
  sendManyThrough,
  sendThrough,
} from '../../client.ts';
import { ConfigError, ConnectionError, DuplicateJobError, WireError } from '../../errors.ts';
import { Events } from '../../events.ts';
import { type Logger, silent } from '../../log.ts';
import { pause } from '../../source.ts';
import { type Task, taskName } from '../../task.ts';
import { RedisConnection } from '../../transports/redis.ts';
import type { RedisTarget } from '../../transports/redis-url.ts';
import { ResultWaiter, type WaitOptions } from './await-results.ts';
import { callOf, type EnqueueOptions, envelopeOf, type Outgoing } from './envelope.ts';
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
  /** Around each job that this client sends; the first one is the outermost. @default none */
  readonly middleware?: readonly ClientMiddleware[];
  /** Shaped like pino's. @default nothing is written */
  readonly log?: Logger;
}

/** A job that `enqueuePrepared` is to send. Other jobs may depend on it: `dependsOn: prepared`. */
export interface Prepared<R = unknown> {
  readonly id: string;
  readonly made: NewJob;
  /** The name of its function. */
  readonly task: string;
  /** What it was made of. */
  readonly call: AnyCall<EnqueueOptions>;
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

/** How many jobs one script registers: Redis serves nobody else while it runs, and it is sent as one command. */
const BATCH = 500;
const BATCH_BYTES = 4 * 2 ** 20;
const MAX_TRIES = 4;

/** Sends jobs to RQ's workers, whatever their language, and looks at all that RQ keeps. Connects at the first call. */
export class RqClient implements Client<EnqueueOptions, EnqueuedJob>, JobReader {
  /** Emits `job:enqueued` for each job that Redis has taken. */
  readonly events: Events<ClientEvents> = new Events<ClientEvents>();
  readonly serializer: SerializerName;
  readonly limits: Partial<SerializerLimits> | undefined;
  readonly #options: RqClientOptions;
  readonly #target: RedisTarget;
  readonly #log: Logger;
  readonly #link: RedisLink | undefined;
  readonly #middleware: ClientMiddleware[];
  #redis: RedisLink | undefined;
  #opened: Promise<RedisLink> | undefined;
  #waiter: ResultWaiter | undefined;

  /** @param link used in place of a connection to `url`: for tests */
  constructor(options: RqClientOptions, link?: RedisLink) {
    this.#link = link;
    this.#options = options;
    this.#middleware = [...(options.middleware ?? [])];
    this.serializer = options.serializer ?? 'pickle';
    this.limits = options.limits;
    this.#log = options.log ?? silent;
    this.#target = targetOf(options);
  }

  /** Where it sends to, without secrets. */
  get address(): string {
    return this.#target.maskedUrl;
  }

  /** Add middleware around what this client sends from now on. The first one added is the outermost. */
  use(middleware: ClientMiddleware): this {
    this.#middleware.push(middleware);
    return this;
  }

  /**
   * Send one job. Resolves when Redis has it, with all that belongs to it. Throws ConfigError naming the option, WireError `unencodable` for arguments
   * that the serializer cannot hold, DuplicateJobError for `unique`, NotEnqueuedError where a middleware did not pass the job on, and what a middleware
   * throws. Throws ConnectionError when Redis does not answer; it is then unknown whether the job was sent.
   */
  async enqueue<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    ...[call]: CallArguments<A, K, EnqueueOptions>
  ): Promise<EnqueuedJob<R>> {
    const name = taskName(task, 'rq');
    if (this.#middleware.length === 0) return this.#sendOne(this.#make(name, call ?? {}));
    const outgoing = this.#check(name, call ?? {});
    return sendThrough(this.#middleware, envelopeOf(outgoing), (envelope) =>
      this.#sendOne<R>(this.#remake(envelope, outgoing)),
    );
  }

  /** A job of any task, for `enqueuePrepared`. Throws ConfigError and WireError as `enqueue` does; sends nothing. */
  prepare<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    ...[call]: CallArguments<A, K, EnqueueOptions>
  ): Prepared<R> {
    return this.#make(taskName(task, 'rq'), call ?? {});
  }

  /**
   * Send many calls of one task, up to `batchSize` (500) in one round trip: one receipt for each call, in their order. Each job is registered in one
   * step. A job that depends on another one of them is sent after it. A job that was to be unique and is not has `registered: 'duplicate'`. Throws as
   * `enqueue` does, except DuplicateJobError. A call that cannot be is found before anything is sent; what was sent before another error stays sent.
   */
  async enqueueMany<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    calls: readonly Call<A, K, EnqueueOptions>[],
    options: { readonly batchSize?: number } = {},
  ): Promise<readonly EnqueuedJob<R>[]> {
    const name = taskName(task, 'rq');
    if (this.#middleware.length > 0) {
      const outgoing = calls.map((call) => this.#check(name, call));
      return this.#manyThrough(outgoing, options) as Promise<readonly EnqueuedJob<R>[]>;
    }
    const prepared = calls.map((call) => this.#make<R>(name, call));
    return this.enqueuePrepared(prepared, options) as Promise<readonly EnqueuedJob<R>[]>;
  }

  /**
   * Send jobs of any tasks that `prepare` made: as `enqueueMany`. With middleware, a job enters the middleware after the jobs among these that it depends
   * on have been sent. Where one of those was refused, nothing that depends on it is sent.
   */
  async enqueuePrepared(
    prepared: readonly Prepared[],
    options: { readonly batchSize?: number } = {},
  ): Promise<readonly EnqueuedJob[]> {
    if (this.#middleware.length > 0) {
      const outgoing = prepared.map(({ made, task, call }) => ({ job: made.job, task, call, due: made.due }));
      return this.#manyThrough(outgoing, options);
    }
    const batchSize = batchSizeOf(options);
    const order = asConfig(() => inOrder(prepared.map(({ made }) => made)));
    const registered = await this.#sendMany(order, batchSize);
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

  /** A call in its last form. Throws ConfigError and WireError. */
  #make<R = unknown>(task: string, call: AnyCall<EnqueueOptions>, id?: string): Prepared<R> {
    const { args = [], kwargs = {}, in: within, at, queue = this.#options.queue ?? 'default', ...options } = call;
    return asConfig(() => {
      const settings = this.#settings(task, call, options);
      const now = new Date();
      const made = newJob(settings, {
        call: {
          funcName: task,
          instance: null,
          args: args as readonly unknown[],
          kwargs: kwargs as Readonly<Record<string, unknown>>,
        },
        id: id ?? settings.id ?? randomUUID(),
        queue,
        serializer: options.serializer ?? this.serializer,
        now,
        due: within === undefined ? at : new Date(now.getTime() + delay(within)),
      });
      return { id: made.job.id, made, task, call };
    });
  }

  /** A call for middleware: it is checked, and not yet encoded. Throws ConfigError. */
  #check(task: string, call: AnyCall<EnqueueOptions>): Outgoing {
    return asConfig(() => {
      const { id = randomUUID(), dependencyIds } = this.#settings(task, call, call);
      const { in: within, at } = call;
      const due = within === undefined ? at : new Date(Date.now() + delay(within));
      return { job: { id, dependencyIds }, task, call, due };
    });
  }

  #settings(task: string, { in: within, at }: AnyCall<EnqueueOptions>, options: JobOptions): JobSettings {
    if (task === '') throw new ConfigError("rq: a job needs the name of a function: 'app.tasks.send'");
    if (within !== undefined && at !== undefined)
      throw new ConfigError('rq: in and at both say when; pass one of them');
    return jobSettings(options, this.#options.defaultTimeout);
  }

  /** What middleware has made of a job. Throws as `enqueue`. */
  #remake(envelope: Envelope, { job, call }: Outgoing): Prepared {
    return this.#make(envelope.task, callOf(envelope, call), job.id);
  }

  async #sendOne<R>({ id, made }: Prepared): Promise<EnqueuedJob<R>> {
    const [registered] = await this.#register([made]);
    if (registered?.state === 'duplicate') throw new DuplicateJobError('rq', id);
    return new EnqueuedJob<R>(this, id, registered as Registered);
  }

  /** Jobs in an order in which none comes before one that it depends on. */
  async #sendMany(order: readonly NewJob[], batchSize: number): Promise<ReadonlyMap<NewJob, Registered>> {
    const registered = new Map<NewJob, Registered>();
    for (const some of batches(order, batchSize)) {
      for (const [index, one] of (await this.#register(some)).entries()) registered.set(some[index] as NewJob, one);
    }
    return registered;
  }

  /**
   * RQ runs a job at once whose dependency does not exist. So a job enters the middleware only when all it depends on are sent: middleware may hold one
   * for a while, or refuse it.
   */
  async #manyThrough(
    outgoing: readonly Outgoing[],
    options: { readonly batchSize?: number },
  ): Promise<readonly EnqueuedJob[]> {
    const batchSize = batchSizeOf(options);
    const tasks = new Map(outgoing.map(({ job, task }) => [job.id, task]));
    const receipts = new Map<Outgoing, EnqueuedJob>();
    const sent = new Set<string>();
    for (const level of levels(asConfig(() => inOrder(outgoing)))) {
      // A middleware may return a receipt without sending anything.
      const missing = level.flatMap(({ job }) => job.dependencyIds ?? []).find((id) => tasks.has(id) && !sent.has(id));
      if (missing !== undefined) throw new NotEnqueuedError('rq', tasks.get(missing) as string);
      for (let from = 0; from < level.length; from += batchSize) {
        const calls = new Map(level.slice(from, from + batchSize).map((one) => [envelopeOf(one), one]));
        const ends = await sendManyThrough<EnqueuedJob>(this.#middleware, [...calls.keys()], async (batch) => {
          const last = batch.map((envelope) => this.#remake(envelope, calls.get(envelope) as Outgoing));
          const registered = await this.#sendMany(
            asConfig(() => inOrder(last.map(({ made }) => made))),
            batchSize,
          );
          for (const { id } of last) sent.add(id);
          return last.map(({ id, made }) => new EnqueuedJob(this, id, registered.get(made) as Registered));
        });
        for (const [at, one] of [...calls.values()].entries()) receipts.set(one, ends[at] as EnqueuedJob);
      }
    }
    return outgoing.map((one) => receipts.get(one) as EnqueuedJob);
  }

  /** Registers jobs in one round trip, and emits their events. */
  async #register(some: readonly NewJob[]): Promise<readonly Registered[]> {
    const registered = await this.#registerSurely(some);
    if (this.events.wanted('job:enqueued'))
      for (const [index, { state }] of registered.entries()) {
        const { job, funcName, queue, due: at } = some[index] as NewJob;
        if (state !== 'duplicate')
          this.events.emit('job:enqueued', { system: 'rq', id: job.id, task: funcName, queue, at });
      }
    return registered;
  }

  /**
   * Sent again when the answer was lost: an id that we made is there only if the first try has arrived, and then that is the
   * answer.
   */
  async #registerSurely(some: readonly NewJob[]): Promise<readonly Registered[]> {
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

/** Throws ConfigError. */
function batchSizeOf({ batchSize = BATCH }: { readonly batchSize?: number }): number {
  const wrong = wholeNumber(1)(batchSize);
  if (wrong === undefined) return batchSize;
  throw new ConfigError(`rq: enqueueMany: batchSize ${wrong}, not ${batchSize}`);
}

/** Each level depends, among the jobs of `order`, on those of earlier levels only. `order` comes from `inOrder`. */
function levels<Job extends Ordered>(order: readonly Job[]): readonly (readonly Job[])[] {
  const levelOf = new Map<string, number>();
  const found: Job[][] = [];
  for (const one of order) {
    let level = 0;
    for (const id of one.job.dependencyIds ?? []) level = Math.max(level, (levelOf.get(id) ?? -1) + 1);
    levelOf.set(one.job.id, level);
    (found[level] ??= []).push(one);
  }
  return found;
}

/** Batches that no script takes long for, and of which no command is very large. */
function* batches(jobs: readonly NewJob[], batchSize: number): Iterable<readonly NewJob[]> {
  let some: NewJob[] = [];
  let bytes = 0;
  for (const one of jobs) {
    const size = one.job.data.length + (one.job.meta?.length ?? 0);
    if (some.length >= batchSize || (some.length > 0 && bytes + size > BATCH_BYTES)) {
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
