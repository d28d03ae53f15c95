import { randomUUID } from 'node:crypto';
import { wrap } from '../../../protocols/resque/active-job.ts';
import * as json from '../../../protocols/formats/ruby-json.ts';
import type { Exchange } from '../../../protocols/redis.ts';
import { decodePayload, encodeDelayed, encodePayload, type Payload } from '../../../protocols/resque/message.ts';
import * as wire from '../../../protocols/resque/redis.ts';
import * as delayed from '../../../protocols/resque/schedule.ts';
import {
  type AnyCall,
  type Call,
  type CallArguments,
  type ClientEvents,
  type ClientMiddleware,
  type Envelope,
  type Client,
  type NoKeywords,
  type RedisLink,
  sendManyThrough,
  sendThrough,
} from '../../client.ts';
import { ConfigError } from '../../errors.ts';
import { Events } from '../../events.ts';
import { type Logger, silent } from '../../log.ts';
import { type Task, taskName } from '../../task.ts';
import { RedisConnection } from '../../transports/redis.ts';
import { checkCall, checkClient, checkLater } from './option-checks.ts';
import type { EnqueueOptions, PerformLaterOptions, ResqueClientOptions } from './client-options.ts';
import { type ClientHooks, enqueueHooks } from './hooks.ts';
import { type ResolvedApp, resolveApp } from './options.ts';
import type { ResqueSchedule } from './schedule.ts';

type Named<A extends readonly unknown[], K, R> = Task<A, K, R> | string;

/** A checked job that is about to be sent. `encode` makes its payload from the envelope, after middleware has changed it. */
interface Outgoing {
  readonly envelope: Envelope;
  readonly encode: (envelope: Envelope) => string;
}

/** How many jobs `enqueueMany` sends in one round trip. */
const BATCH = 1_000;

/** Enqueues jobs for Resque workers, in Ruby or here. Connects at the first call. */
export class ResqueClient implements Client<EnqueueOptions & NoKeywords, boolean> {
  /** Emits `job:enqueued` when Redis has the job. */
  readonly events: Events<ClientEvents> = new Events();
  readonly #app: ResolvedApp;
  readonly #options: ResqueClientOptions;
  readonly #log: Logger;
  readonly #link: RedisLink | undefined;
  readonly #middleware: ClientMiddleware[];
  /** Resque's own hooks. They are innermost, so they see the job in its final form. */
  readonly #hooked: readonly ClientMiddleware[];
  #redis: RedisLink | undefined;
  #push: ((item: { readonly queue: string; readonly payload: string }) => Promise<void>) | undefined;
  #opening: Promise<RedisLink> | undefined;

  /** Throws ConfigError for options that cannot work. @param link replaces the connection to `url`; for tests */
  constructor(options: ResqueClientOptions, link?: RedisLink) {
    checkClient(options);
    this.#link = link;
    this.#options = options;
    this.#middleware = [...(options.middleware ?? [])];
    this.#hooked = options.hooks === undefined ? [] : [enqueueHooks(options.hooks)];
    this.#app = resolveApp(options);
    this.#log = options.log ?? silent;
  }

  /** Add middleware around all jobs that this client sends from now on. The first middleware added is the outermost. */
  use(middleware: ClientMiddleware): this {
    this.#middleware.push(middleware);
    return this;
  }

  /**
   * Send one job. Resolves to true when Redis has it, to false when a hook refused it. Rejects with WireError `unencodable` for arguments that JSON
   * cannot hold, with ConfigError without a queue or with wrong options, and with NotEnqueuedError if a middleware did not pass the job on. Rejects
   * with ConnectionError when Redis does not answer; it is then unknown whether the job was sent.
   */
  async enqueue<A extends readonly unknown[], K, R>(
    task: Named<A, K, R>,
    ...[call]: CallArguments<A, K, EnqueueOptions & NoKeywords>
  ): Promise<boolean> {
    return this.#through(this.#plain(taskName(task, 'resque'), call ?? {}));
  }

  /**
   * Send many jobs of one class, a thousand in a round trip. Returns one receipt for each call, as from `enqueue`, in the same order. The options of
   * all calls are checked before the first job is sent. Rejects as `enqueue`; jobs that were sent before an error stay sent.
   */
  async enqueueMany<A extends readonly unknown[], K, R>(
    task: Named<A, K, R>,
    calls: readonly Call<A, K, EnqueueOptions & NoKeywords>[],
    { batchSize = BATCH }: { readonly batchSize?: number } = {},
  ): Promise<readonly boolean[]> {
    if (!Number.isSafeInteger(batchSize) || batchSize < 1)
      throw new ConfigError(`resque: enqueueMany: batchSize must be a whole number, 1 or more, not ${batchSize}`);
    const name = taskName(task, 'resque');
    const outgoing = calls.map((call) => this.#plain(name, call));
    const receipts: boolean[] = [];
    for (let at = 0; at < outgoing.length; at += batchSize)
      receipts.push(...(await this.#manyThrough(outgoing.slice(at, at + batchSize))));
    return receipts;
  }

  /**
   * Send a job of Active Job: `UserMailerJob.perform_later`. Its arguments may be any values that Rails can encode: GlobalId, RubySymbol, Duration,
   * keywords and more. Resolves to its job id; undefined when a hook refused it. Rejects as `enqueue`.
   */
  async performLater<A extends readonly unknown[], K, R>(
    task: Named<A, K, R>,
    ...[call]: CallArguments<A, K, PerformLaterOptions>
  ): Promise<string | undefined> {
    const outgoing = this.#later(taskName(task, 'resque'), call ?? {});
    return (await this.#through(outgoing)) ? outgoing.envelope.id : undefined;
  }

  /**
   * Send many jobs of one class of Active Job in one round trip: `ActiveJob.perform_all_later`. Each job is the same as from `performLater`, and all
   * are checked before the first is sent. Resolves to their job ids, as `performLater`; rejects as `enqueue`.
   */
  async performAllLater<A extends readonly unknown[], K, R>(
    task: Named<A, K, R>,
    calls: readonly Call<A, K, PerformLaterOptions>[],
  ): Promise<readonly (string | undefined)[]> {
    const name = taskName(task, 'resque');
    const outgoing = calls.map((call) => this.#later(name, call));
    const sent = await this.#manyThrough(outgoing);
    return outgoing.map(({ envelope: { id } }, at) => (sent[at] === false ? undefined : id));
  }

  /** `Resque.enqueue_to`. */
  enqueueTo<A extends readonly unknown[], K, R>(
    queue: string,
    task: Named<A, K, R>,
    ...args: NoInfer<A>
  ): Promise<boolean> {
    return this.enqueue(task as string, { queue, args });
  }

  /** `Resque.enqueue_at`, of resque-scheduler. A time in the past means now. */
  enqueueAt<A extends readonly unknown[], K, R>(
    at: Date,
    task: Named<A, K, R>,
    ...[call]: CallArguments<A, K, Omit<EnqueueOptions, 'at' | 'in'> & NoKeywords>
  ): Promise<boolean> {
    return this.enqueue(task as string, { ...(call as EnqueueOptions), at });
  }

  /** `Resque.enqueue_in`, of resque-scheduler. */
  enqueueIn<A extends readonly unknown[], K, R>(
    seconds: number,
    task: Named<A, K, R>,
    ...[call]: CallArguments<A, K, Omit<EnqueueOptions, 'at' | 'in'> & NoKeywords>
  ): Promise<boolean> {
    return this.enqueue(task as string, { ...(call as EnqueueOptions), in: seconds });
  }

  /** `Resque.push`: an object as it is, for classes that use another payload. */
  async push(queue: string, payload: Readonly<Record<string, unknown>>): Promise<void> {
    const { class: name, args = [], ...rest } = payload;
    if (typeof name !== 'string' || !Array.isArray(args) || Object.keys(rest).length > 0) {
      // Every entry of a queue must be a payload: a Ruby worker that pops anything else crashes.
      const text = json.stringify(payload, { at: 'payload' });
      decodePayload(Buffer.from(text));
      await this.#send({ queue, payload: text });
      return;
    }
    await this.#send({ queue, payload: encodePayload(name, args as readonly unknown[]) });
  }

  /**
   * `Resque.dequeue`: remove jobs from a queue: the jobs with exactly these arguments, or without `args` all jobs of the class. Returns how many were
   * removed. Texts are compared, as in Ruby: `1.0` is not `1`, and a hash with its members in another order is different.
   */
  async dequeue<A extends readonly unknown[], K, R>(
    task: Named<A, K, R>,
    call: { readonly args?: NoInfer<A>; readonly queue?: string } = {},
  ): Promise<number> {
    const name = taskName(task, 'resque');
    const queue = this.#queueOf(name, call.queue);
    const args = call.args ?? [];
    const hooks = this.#hooks(name);
    if ((await hooks?.beforeDequeue?.(...args)) === false) return 0;
    const redis = await this.#connection();
    const { keys } = this.#app;
    let removed: number;
    if (call.args === undefined) {
      const found = await redis.run(wire.peek(keys, queue, 0, Number.MAX_SAFE_INTEGER));
      const texts = new Set(found.filter((bytes) => isOfClass(bytes, name)).map((bytes) => bytes.toString('latin1')));
      const own = Array.from(texts, (text) => Buffer.from(text, 'latin1'));
      removed = own.length === 0 ? 0 : await redis.run(wire.remove(keys, queue, own));
    } else removed = await redis.run(wire.remove(keys, queue, [encodePayload(name, args)]));
    await hooks?.afterDequeue?.(...args);
    return removed;
  }

  /** `Resque.remove_delayed`: remove delayed jobs with exactly these arguments. Returns how many were removed. */
  async removeDelayed<A extends readonly unknown[], K, R>(
    task: Named<A, K, R>,
    call: { readonly args?: NoInfer<A>; readonly queue?: string } = {},
  ): Promise<number> {
    const name = taskName(task, 'resque');
    const item = encodeDelayed(encodePayload(name, call.args ?? []), this.#queueOf(name, call.queue));
    const redis = await this.#connection();
    const names = await redis.run(delayed.secondsOf(this.#app.keys, item));
    return names.length === 0 ? 0 : redis.run(delayed.removeDelayed(this.#app.keys, item, names));
  }

  /** The number of waiting jobs. */
  async size(queue: string): Promise<number> {
    return (await this.#connection()).run(wire.size(this.#app.keys, queue));
  }

  /** Waiting jobs; the next job to run comes first. Entries that are not payloads are left out. */
  async peek(queue: string, start = 0, count = 1): Promise<readonly Payload[]> {
    const found = await (await this.#connection()).run(wire.peek(this.#app.keys, queue, start, count));
    return found.flatMap((bytes) => {
      try {
        return [decodePayload(bytes)];
      } catch {
        return [];
      }
    });
  }

  /** Every queue that has ever received a job and was not removed. */
  async queues(): Promise<readonly string[]> {
    return (await this.#connection()).run(wire.queues(this.#app.keys));
  }

  /** Delete the queue and all its waiting jobs. */
  async removeQueue(queue: string): Promise<void> {
    await (await this.#connection()).run(wire.removeQueue(this.#app.keys, queue));
  }

  /** Pause every worker, in Ruby (2.3 and later) and here, until `resumeAll`. A paused worker takes no jobs. */
  async pauseAll(): Promise<void> {
    await (await this.#connection()).run(wire.pauseAll(this.#app.keys, true));
  }
  /** Let workers take jobs again. */
  async resumeAll(): Promise<void> {
    await (await this.#connection()).run(wire.pauseAll(this.#app.keys, false));
  }

  /** `Resque.set_schedule`, of a dynamic schedule. */
  async setSchedule(name: string, schedule: ResqueSchedule): Promise<void> {
    await (
      await this.#connection()
    ).run(delayed.setSchedule(this.#app.keys, name, schedule as unknown as Record<string, unknown>));
  }
  /** `Resque.remove_schedule`, of a dynamic schedule. */
  async removeSchedule(name: string): Promise<void> {
    await (await this.#connection()).run(delayed.removeSchedule(this.#app.keys, name));
  }

  /** Runs one exchange of `protocols/resque` over this client's connection. */
  async run<Reply>(build: (keys: ResolvedApp['keys']) => Exchange<Reply>): Promise<Reply> {
    return (await this.#connection()).run(build(this.#app.keys));
  }

  /** Close the connection. */
  async close(): Promise<void> {
    const opening = this.#opening;
    this.#opening = undefined;
    await (await opening?.catch(() => undefined))?.close();
    this.#redis = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Checks a call at once. Throws ConfigError. */
  #plain(name: string, call: AnyCall<EnqueueOptions>): Outgoing {
    checkCall(call);
    const { args = [], kwargs, at, in: seconds, id, headers, queue } = call;
    if (kwargs !== undefined && Object.keys(kwargs as object).length > 0)
      throw new ConfigError('resque: a job has positional arguments only; put kwargs into the last of args');
    return {
      envelope: {
        system: 'resque',
        id,
        task: name,
        args,
        kwargs: {},
        queue: queue ?? this.#options.defaultQueue,
        at: dueAt(at, seconds),
        headers: { ...headers },
        options: {},
      },
      encode: encodePlain,
    };
  }

  /** A job of Active Job. Throws ConfigError, and WireError for arguments that Rails cannot encode. */
  #later(name: string, call: AnyCall<PerformLaterOptions>): Outgoing {
    checkLater(call);
    const { args = [], kwargs = {}, at, in: seconds, jobId = randomUUID(), rails, headers, queue, ...options } = call;
    const envelope: Envelope = {
      system: 'resque',
      id: jobId,
      task: name,
      args,
      kwargs: kwargs as Readonly<Record<string, unknown>>,
      queue: queue ?? this.#options.defaultQueue,
      at: dueAt(at, seconds),
      headers: { ...headers },
      options: { ...options, ...(rails === undefined ? {} : { rails }) },
    };
    // All calls are checked before the first job is sent.
    encodeLater(envelope, queueOf(envelope));
    return { envelope, encode: (changed) => encodeLater(changed, queueOf(changed)) };
  }

  async #through({ envelope, encode }: Outgoing): Promise<boolean> {
    const layers = this.#layers();
    if (layers.length === 0) return this.#deliver(envelope, encode);
    return (await sendThrough<unknown>(layers, envelope, (changed) => this.#deliver(changed, encode))) !== false;
  }

  async #manyThrough(outgoing: readonly Outgoing[]): Promise<readonly boolean[]> {
    // Jobs that are sent in one tick share one round trip.
    await this.#connection();
    const layers = this.#layers();
    if (layers.length === 0)
      return Promise.all(outgoing.map(({ envelope, encode }) => this.#deliver(envelope, encode)));
    const encoders = new Map(outgoing.map(({ envelope, encode }) => [envelope, encode]));
    const receipts = await sendManyThrough<unknown>(layers, [...encoders.keys()], (batch) =>
      Promise.all(batch.map((envelope) => this.#deliver(envelope, encoders.get(envelope) as Outgoing['encode']))),
    );
    return receipts.map((receipt) => receipt !== false);
  }

  #layers(): readonly ClientMiddleware[] {
    return this.#hooked.length === 0 ? this.#middleware : [...this.#middleware, ...this.#hooked];
  }

  /** Sends the job after the last middleware. */
  async #deliver(envelope: Envelope, encode: Outgoing['encode']): Promise<true> {
    const queue = queueOf(envelope);
    const payload = encode(envelope);
    const { id, task } = envelope;
    const at = envelope.at !== undefined && envelope.at.getTime() > Date.now() ? envelope.at : undefined;
    if (at === undefined) await this.#send({ queue, payload });
    else {
      const item = encodeDelayed(payload, queue);
      await (await this.#connection()).run(delayed.enqueueDelayed(this.#app.keys, item, at));
    }
    if (this.events.wanted('job:enqueued')) this.events.emit('job:enqueued', { system: 'resque', id, task, queue, at });
    return true;
  }

  async #send(item: { readonly queue: string; readonly payload: string }): Promise<void> {
    if (this.#redis === undefined) await this.#connection();
    await (this.#push as (one: typeof item) => Promise<void>)(item);
  }

  #hooks(name: string): ClientHooks | undefined {
    const { hooks } = this.#options;
    return hooks !== undefined && Object.hasOwn(hooks, name) ? hooks[name] : undefined;
  }

  #queueOf(task: string, queue: string | undefined): string {
    return queueOf({ task, queue: queue ?? this.#options.defaultQueue });
  }

  #connection(): Promise<RedisLink> {
    if (this.#redis !== undefined) return Promise.resolve(this.#redis);
    return (this.#opening ??= this.#open().catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    }));
  }

  async #open(): Promise<RedisLink> {
    const redis = this.#link ?? new RedisConnection(this.#app.target, { log: this.#log });
    await redis.connect();
    this.#push = redis.batchPerTick((items: readonly { readonly queue: string; readonly payload: string }[]) =>
      wire.pushAll(this.#app.keys, items),
    );
    return (this.#redis = redis);
  }
}

function queueOf({ task, queue }: Pick<Envelope, 'task' | 'queue'>): string {
  if (queue !== undefined && queue !== '') return queue;
  throw new ConfigError(`resque: ${task} needs a queue: pass queue, or give the client a defaultQueue`);
}

function encodePlain({ task, args, id, headers, kwargs }: Envelope): string {
  if (Object.keys(kwargs).length > 0)
    throw new ConfigError('resque: a job has positional arguments only; a middleware has set kwargs');
  return encodePayload(task, args, id, headers);
}

function encodeLater({ id, task, args, kwargs, at, headers, options }: Envelope, queueName: string): string {
  const { rails, ...more } = options as Pick<PerformLaterOptions, 'rails' | 'priority' | 'locale' | 'timezone'>;
  const now = new Date();
  const scheduledAt = at !== undefined && at.getTime() > now.getTime() ? at : undefined;
  const job = { jobClass: task, jobId: id as string, queueName, args, ...more, enqueuedAt: now, scheduledAt };
  // Without keywords, the last argument is not marked as a keyword hash.
  const own = Object.keys(kwargs).length === 0 ? job : { ...job, kwargs };
  return wrap(own, rails === undefined ? {} : { rails }, headers);
}

function isOfClass(bytes: Buffer, name: string): boolean {
  try {
    return decodePayload(bytes).class === name;
  } catch {
    return false;
  }
}

/** Throws ConfigError if both are given, and for a value that is not a time. */
function dueAt(at: Date | undefined, seconds: number | undefined): Date | undefined {
  if (at !== undefined && seconds !== undefined) throw new ConfigError('resque: pass either at or in, not both');
  const due = seconds === undefined ? at : new Date(Date.now() + seconds * 1000);
  if (due !== undefined && Number.isNaN(due.getTime())) throw new ConfigError('resque: at and in must be a time');
  return due;
}
