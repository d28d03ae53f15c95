import { randomUUID } from 'node:crypto';
import { wrap } from '../../../protocols/sidekiq/active-job.ts';
import { type Dialect, NEUTRAL } from '../../../protocols/sidekiq/dialect.ts';
import * as iteration from '../../../protocols/sidekiq/iteration.ts';
import { item, type Item, payload, payloads } from '../../../protocols/sidekiq/options.ts';
import * as wire from '../../../protocols/sidekiq/redis.ts';
import { checkOptions, wholeNumber } from '../../check.ts';
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
import { ConfigError, ConnectionError } from '../../errors.ts';
import { Events } from '../../events.ts';
import { type Logger, silent } from '../../log.ts';
import { pause } from '../../source.ts';
import { type Task, taskName } from '../../task.ts';
import { RedisConnection } from '../../transports/redis.ts';
import type {
  EnqueueOptions,
  PerformLaterOptions,
  Pushed,
  PushedLater,
  SidekiqClientOptions,
} from './client-options.ts';
import { callOf, checkCalls, enqueued, envelopeOf, isAlike } from './envelope.ts';
import { checkCall, checkClient } from './option-checks.ts';
import { peersDialect } from './peers.ts';
import { newJid } from './jid.ts';
import { type ResolvedApp, resolveApp } from './options.ts';
import { Spool } from './spool.ts';

/** How long a call waits for the first connection, if jobs can be buffered. */
const PATIENCE_MS = 1_000;
/** How long a reading of the processes stays valid. */
const DIALECT_MS = 60_000;

/** A job to be sent: its form on the wire, and the task that runs. A wrapper hides the name of the task. */
interface Outgoing {
  readonly task: string;
  readonly one: Item;
}

/**
 * Enqueues jobs for Sidekiq, for workers in Ruby and workers of this package. Connects at the first call. Throws ConfigError for unknown options and
 * for invalid values.
 */
export class SidekiqClient implements Client<EnqueueOptions & NoKeywords, Pushed> {
  /** Emits `job:enqueued` for each job that Redis has accepted. A buffered job emits nothing. */
  readonly events: Events<ClientEvents> = new Events<ClientEvents>();
  readonly #app: ResolvedApp;
  readonly #options: SidekiqClientOptions;
  readonly #middleware: ClientMiddleware[];
  readonly #log: Logger;
  readonly #spool: Spool | undefined;
  readonly #link: RedisLink | undefined;
  #redis: RedisLink | undefined;
  #push: ((payload: wire.Payload) => Promise<void>) | undefined;
  #opening: Promise<void> | undefined;
  #dialect: Dialect;
  #dialectUntil = 0;
  #learning: Promise<void> | undefined;

  /** @param link replaces the connection to `url`; for tests */
  constructor(options: SidekiqClientOptions, link?: RedisLink) {
    checkClient(options);
    this.#link = link;
    this.#options = options;
    this.#app = resolveApp(options);
    this.#dialect = this.#app.dialect ?? NEUTRAL;
    this.#log = options.log ?? silent;
    this.#middleware = [...(options.middleware ?? [])];
    const { whenAway = 'error', bufferLimit = 1_000 } = options;
    if (whenAway === 'buffer')
      this.#spool = new Spool(bufferLimit, this.#log, async (payloads) => {
        await this.open();
        await this.#connection().run(wire.push(this.#app.keys, payloads));
      });
  }

  /** Add middleware around all jobs that this client sends from now on. The first middleware added is the outermost. */
  use(middleware: ClientMiddleware): this {
    this.#middleware.push(middleware);
    return this;
  }

  /**
   * Send one job. Resolves when Redis has it. Throws ConfigError for unknown options, WireError `bad-option` and `unencodable`, which name the cause,
   * and any error that a middleware throws. Throws ConnectionError when Redis does not answer; it is then unknown whether the job was sent.
   */
  async enqueue<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    ...[given]: CallArguments<A, K, EnqueueOptions & NoKeywords>
  ): Promise<Pushed> {
    const name = taskName(task, 'sidekiq');
    const call: AnyCall<EnqueueOptions> = given === undefined ? {} : given;
    checkCall('enqueue', name, call);
    const now = new Date();
    const one = this.#item(name, call, now);
    await this.#ready();
    if (this.#middleware.length === 0) return this.#sendOne({ task: name, one }, now);
    return sendThrough(
      this.#middleware,
      this.#envelope(name, call, one),
      (envelope) => this.#sendOne(this.#outgoing(envelope, now), now),
      halted,
    );
  }

  /**
   * Send a job of Active Job: `UserMailerJob.perform_later`. Its arguments may be any values that Rails can encode: GlobalId, RubySymbol, Date,
   * Duration, keywords and more. Throws as `enqueue`.
   */
  async performLater<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    ...[given]: CallArguments<A, K, PerformLaterOptions>
  ): Promise<PushedLater> {
    const jobClass = taskName(task, 'sidekiq');
    const call: AnyCall<PerformLaterOptions> = given === undefined ? {} : given;
    checkCall('performLater', jobClass, call);
    await this.#ready();
    const now = new Date();
    const { one, jobId } = this.#activeItem(jobClass, call, now);
    if (this.#middleware.length === 0) return { ...(await this.#sendOne({ task: jobClass, one }, now)), jobId };
    const pushed = await sendThrough(
      this.#middleware,
      this.#envelope(jobClass, { ...call, jobId }, one),
      (envelope) => this.#sendOne(this.#activeOutgoing(envelope, now), now),
      halted,
    );
    return { ...pushed, jobId };
  }

  /**
   * Send many jobs of one class of Active Job in few round trips: `ActiveJob.perform_all_later`. Each job is the same as from `performLater`. Throws
   * as `enqueue`; jobs that were sent before an error stay sent.
   */
  async performAllLater<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    calls: readonly Call<A, K, PerformLaterOptions>[],
    options: { readonly batchSize?: number } = {},
  ): Promise<readonly PushedLater[]> {
    const batchSize = batchSizeOf('performAllLater', options);
    checkCalls('performAllLater', calls);
    const jobClass = taskName(task, 'sidekiq');
    for (const call of calls) checkCall('performLater', jobClass, call);
    await this.#ready();
    const now = new Date();
    // All jobs are checked before any is sent.
    const items = calls.map((call) => this.#activeItem(jobClass, call, now));
    const jobIdOf = (at: number): string => (items[at] as (typeof items)[number]).jobId;
    const pushed =
      this.#middleware.length === 0
        ? await this.#sendItems(
            items.map(({ one }) => ({ task: jobClass, one })),
            now,
            batchSize,
          )
        : await this.#sendEnvelopes(
            calls.map((call, at) =>
              this.#envelope(jobClass, { ...call, jobId: jobIdOf(at) }, (items[at] as (typeof items)[number]).one),
            ),
            (envelope) => this.#activeOutgoing(envelope, now),
            now,
            batchSize,
          );
    return pushed.map((one, at) => ({ ...one, jobId: jobIdOf(at) }));
  }

  /**
   * Send many calls of one task, `batchSize` (1 000) in a round trip. Returns one receipt for each call, in the same order. Calls that differ only in
   * their arguments are the fastest. Throws as `enqueue`. Invalid calls are found before anything is sent, except arguments that cannot be written as
   * JSON; jobs that were sent before an error stay sent.
   */
  async enqueueMany<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    calls: readonly Call<A, K, EnqueueOptions & NoKeywords>[],
    options: { readonly batchSize?: number } = {},
  ): Promise<readonly Pushed[]> {
    const batchSize = batchSizeOf('enqueueMany', options);
    checkCalls('enqueueMany', calls);
    const name = taskName(task, 'sidekiq');
    const now = new Date();
    const given: readonly AnyCall<EnqueueOptions>[] = calls;
    const [first] = given;
    if (first === undefined) return [];
    if (this.#middleware.length === 0 && given.every((call) => isAlike(first, call)))
      return this.#sendAlike(name, given, now, batchSize);
    for (const call of given) checkCall('enqueueMany', name, call);
    const items = given.map((call) => this.#item(name, call, now));
    await this.#ready();
    if (this.#middleware.length === 0)
      return this.#sendItems(
        items.map((one) => ({ task: name, one })),
        now,
        batchSize,
      );
    return this.#sendEnvelopes(
      given.map((call, at) => this.#envelope(name, call, items[at] as Item)),
      (envelope) => this.#outgoing(envelope, now),
      now,
      batchSize,
    );
  }

  /** Checks and writes the members that all calls share only once. */
  async #sendAlike(
    name: string,
    calls: readonly AnyCall<EnqueueOptions>[],
    now: Date,
    batchSize: number,
  ): Promise<readonly Pushed[]> {
    const { args: _, ...common } = calls[0] as AnyCall<EnqueueOptions>;
    checkCall('enqueueMany', name, common);
    for (const [at, { args = [] }] of calls.entries())
      if (!Array.isArray(args))
        throw new ConfigError(`sidekiq: enqueueMany: calls[${at}].args must be a list: the arguments of one job`);
    const pattern = this.#item(name, common, now);
    await this.#ready();
    const pushed: Pushed[] = [];
    const wanted = this.events.wanted('job:enqueued');
    for (let from = 0; from < calls.length; from += batchSize) {
      const some = calls.slice(from, from + batchSize).map(({ args = [] }) => ({ args, jid: newJid() }));
      const state = await this.#sendAll(payloads(pattern, some, { now, dialect: this.#dialect }));
      for (const { jid } of some) pushed.push({ jid, state });
      if (wanted && state === 'pushed')
        for (const { jid } of some) this.events.emit('job:enqueued', enqueued(name, { ...pattern, jid }));
    }
    return pushed;
  }

  async #sendOne(outgoing: Outgoing, now: Date): Promise<Pushed> {
    const { one } = outgoing;
    const { jid } = one;
    const ready = payload(one, { now, dialect: this.#dialect });
    let state: Pushed['state'] = 'pushed';
    if (this.#spool === undefined) await this.#send(ready);
    else state = await this.#spool.send([ready], async () => this.#send(ready));
    this.#tell(outgoing, state);
    return { jid, state };
  }

  async #sendItems(items: readonly Outgoing[], now: Date, batchSize: number): Promise<readonly Pushed[]> {
    const pushed: Pushed[] = [];
    for (let from = 0; from < items.length; from += batchSize) {
      const some = items.slice(from, from + batchSize);
      const state = await this.#sendAll(some.map(({ one }) => payload(one, { now, dialect: this.#dialect })));
      for (const outgoing of some) {
        pushed.push({ jid: outgoing.one.jid, state });
        this.#tell(outgoing, state);
      }
    }
    return pushed;
  }

  async #sendEnvelopes(
    envelopes: readonly Envelope[],
    outgoing: (envelope: Envelope) => Outgoing,
    now: Date,
    batchSize: number,
  ): Promise<readonly Pushed[]> {
    const pushed: Pushed[] = [];
    for (let from = 0; from < envelopes.length; from += batchSize) {
      const some = envelopes.slice(from, from + batchSize);
      const send = (batch: readonly Envelope[]): Promise<readonly Pushed[]> =>
        this.#sendItems(batch.map(outgoing), now, batchSize);
      pushed.push(...(await sendManyThrough(this.#middleware, some, send, halted)));
    }
    return pushed;
  }

  #envelope(name: string, call: AnyCall<EnqueueOptions | PerformLaterOptions>, one: Item): Envelope {
    const custom = call.custom ?? this.#options.defaults?.custom;
    return envelopeOf(name, custom === undefined ? call : { ...call, custom }, one);
  }

  /** A call after middleware has changed it, checked again. */
  #outgoing(envelope: Envelope, now: Date): Outgoing {
    const call = callOf(envelope);
    checkCall('enqueue', envelope.task, call);
    return { task: envelope.task, one: this.#item(envelope.task, call, now) };
  }

  #activeOutgoing(envelope: Envelope, now: Date): Outgoing {
    const call = callOf(envelope);
    checkCall('performLater', envelope.task, call);
    return { task: envelope.task, one: this.#activeItem(envelope.task, call, now).one };
  }

  #tell({ task, one }: Outgoing, state: Pushed['state']): void {
    if (state === 'pushed' && this.events.wanted('job:enqueued')) this.events.emit('job:enqueued', enqueued(task, one));
  }

  async #sendAll(ready: readonly wire.Payload[]): Promise<Pushed['state']> {
    const send = async (): Promise<void> => this.#connection().run(wire.push(this.#app.keys, ready));
    return this.#spool === undefined ? send().then(() => 'pushed' as const) : this.#spool.send(ready, send);
  }

  /**
   * Cancel an iterable job (Sidekiq 7.3 and later), whether it runs or waits. Returns the time of the first cancel request. Other jobs ignore the
   * request.
   */
  async cancel(jid: string): Promise<Date> {
    await this.open();
    const at = await this.#connection().run(iteration.cancel(this.#app.keys, jid, Math.floor(Date.now() / 1000)));
    return new Date(at * 1000);
  }

  /** How many jobs this process keeps because Redis cannot be reached. */
  get buffered(): number {
    return this.#spool?.size ?? 0;
  }

  /** The dialect in use: the one set in the options, or the one that the running processes can read. */
  get dialect(): Dialect {
    return this.#dialect;
  }

  /** Connect now rather than at the first call. */
  open(): Promise<void> {
    return (this.#opening ??= this.#open().catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    }));
  }

  /** Sends the buffered jobs if Redis can be reached. Rejects with ConnectionError if there are jobs left that were never sent. */
  async close(): Promise<void> {
    await this.#opening?.catch(() => undefined);
    const left = (await this.#spool?.close()) ?? 0;
    const redis = this.#redis;
    this.#redis = undefined;
    this.#opening = undefined;
    await redis?.close();
    if (left > 0)
      throw new ConnectionError(
        `sidekiq: closed with ${left} jobs that were never sent: ${this.#app.target.maskedUrl} did not come back`,
      );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #item(name: string, call: AnyCall<EnqueueOptions>, now: Date): Item {
    const { args = [], kwargs, ...options } = call;
    if (kwargs !== undefined && Object.keys(kwargs as object).length > 0)
      throw new ConfigError(
        `sidekiq: '${name}': a job of Sidekiq has no keyword arguments; pass an object as the last of args`,
      );
    const { defaults } = this.#options;
    return item(name, args, defaults === undefined ? options : { ...defaults, ...options }, {
      now,
      dialect: this.#dialect,
      newId: newJid,
    });
  }

  /** The caller must have made the dialect known before. */
  #activeItem(
    jobClass: string,
    call: AnyCall<PerformLaterOptions>,
    now: Date,
  ): { readonly one: Item; readonly jobId: string } {
    const { args = [], kwargs, priority, locale, timezone, jobId = randomUUID(), rails, ...options } = call;
    const wrapper = { ...options, args: [], wrapped: jobClass };
    const one = this.#item(this.#dialect.activeJobWrapper, wrapper, now);
    const inner = {
      ...{ jobClass, jobId, queue: one.queue, args, priority, locale, timezone, at: one.at },
      ...(kwargs === undefined ? {} : { kwargs: kwargs as Readonly<Record<string, unknown>> }),
    };
    one.args = [wrap(inner, now, rails === undefined ? {} : { rails })];
    return { one, jobId };
  }

  /** Resolves when connected and the dialect is known. With a buffer, it waits for neither while Redis cannot be reached. */
  async #ready(): Promise<void> {
    if (this.#redis !== undefined && Date.now() < this.#dialectUntil) return;
    const ready = this.open().then(() => this.#learn());
    if (this.#spool === undefined) return ready;
    if (this.#spool.size > 0) return void ready.catch(() => undefined);
    await Promise.race([
      ready.catch((error: unknown) => {
        if (!(error instanceof ConnectionError)) throw error;
      }),
      pause(PATIENCE_MS),
    ]);
  }

  async #learn(): Promise<void> {
    if (Date.now() < this.#dialectUntil) return;
    if (this.#app.dialect !== undefined) {
      this.#dialectUntil = Number.POSITIVE_INFINITY;
      return;
    }
    const first = this.#dialectUntil === 0;
    this.#learning ??= peersDialect(this.#connection(), this.#app.keys)
      .then((dialect) => {
        this.#dialect = dialect;
        this.#dialectUntil = Date.now() + DIALECT_MS;
      })
      .finally(() => (this.#learning = undefined));
    if (first) await this.#learning;
    else this.#learning.catch((error: unknown) => this.#log.debug({ error }, 'could not look at the processes'));
  }

  async #open(): Promise<void> {
    const redis = this.#link ?? new RedisConnection(this.#app.target, { log: this.#log });
    await redis.connect();
    this.#redis = redis;
    this.#push = redis.batchPerTick((payloads: readonly wire.Payload[]) => wire.push(this.#app.keys, payloads));
    redis.onReady(() => this.#spool?.drain());
  }

  #send(ready: wire.Payload): Promise<void> {
    const redis = this.#connection();
    return this.#push === undefined ? redis.run(wire.push(this.#app.keys, [ready])) : this.#push(ready);
  }

  /** If jobs can be buffered, this does not wait for a lost connection. */
  #connection(): RedisLink {
    const redis = this.#redis;
    if (redis !== undefined && (this.#spool === undefined || redis.ready)) return redis;
    throw new ConnectionError(`sidekiq: ${this.#app.target.maskedUrl} is not connected`);
  }
}

function batchSizeOf(method: string, options: { readonly batchSize?: number }): number {
  checkOptions(`sidekiq: ${method}`, options, { batchSize: wholeNumber(1) });
  return options.batchSize ?? 1_000;
}

/** No middleware passed the job on, so it was not sent. */
function halted({ id }: Envelope): Pushed {
  return { jid: id ?? '', state: 'halted' };
}
