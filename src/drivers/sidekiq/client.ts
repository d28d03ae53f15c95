import { randomUUID } from 'node:crypto';
import { wrap } from '../../../protocols/sidekiq/active-job.ts';
import { type Dialect, NEUTRAL } from '../../../protocols/sidekiq/dialect.ts';
import * as iteration from '../../../protocols/sidekiq/iteration.ts';
import { item, type Item, payload, payloads, type Timing } from '../../../protocols/sidekiq/options.ts';
import * as wire from '../../../protocols/sidekiq/redis.ts';
import type { AnyCall, Call, CallArguments, Client, NoKeywords, RedisLink } from '../../client.ts';
import { ConfigError, ConnectionError } from '../../errors.ts';
import { type Logger, silent } from '../../log.ts';
import { pause } from '../../source.ts';
import { type Task, taskName } from '../../task.ts';
import { RedisConnection } from '../../transports/redis.ts';
import type {
  ClientMiddleware,
  EnqueueOptions,
  PerformLaterOptions,
  Pushed,
  PushedLater,
  SidekiqClientOptions,
} from './client-options.ts';
import { peersDialect } from './peers.ts';
import { newJid } from './jid.ts';
import { type ResolvedApp, resolveApp } from './options.ts';
import { Spool } from './spool.ts';

/** How long a call waits for the first connection where jobs can be buffered. */
const PATIENCE_MS = 1_000;
/** How long one look at the processes counts. */
const DIALECT_MS = 60_000;

/** Enqueues jobs for Sidekiq, in Ruby or here. Connects at the first call. */
export class SidekiqClient implements Client<EnqueueOptions & NoKeywords, Pushed>, AsyncDisposable {
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

  /** @param link used in place of a connection to `url`: for tests */
  constructor(options: SidekiqClientOptions, link?: RedisLink) {
    this.#link = link;
    this.#options = options;
    this.#app = resolveApp(options);
    this.#dialect = this.#app.dialect ?? NEUTRAL;
    this.#log = options.log ?? silent;
    this.#middleware = [...(options.middleware ?? [])];
    const { whenAway = 'error', bufferLimit = 1_000 } = options;
    if (whenAway !== 'error' && whenAway !== 'buffer')
      throw new ConfigError(`sidekiq: whenAway must be 'error' or 'buffer', not '${String(whenAway)}'`);
    if (!Number.isInteger(bufferLimit) || bufferLimit < 1)
      throw new ConfigError(`sidekiq: bufferLimit must be a whole number of at least 1, not ${bufferLimit}`);
    if (whenAway === 'buffer')
      this.#spool = new Spool(bufferLimit, this.#log, async (payloads) => {
        await this.open();
        await this.#connection().run(wire.push(this.#app.keys, payloads));
      });
  }

  /** Add middleware, innermost. */
  use(middleware: ClientMiddleware): this {
    this.#middleware.push(middleware);
    return this;
  }

  /**
   * Send one job. Resolves when Redis has it. Throws WireError `bad-option` and `unencodable`, naming what is wrong;
   * ConnectionError when Redis does not answer, then it is not known to be sent.
   */
  async enqueue<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    ...[call]: CallArguments<A, K, EnqueueOptions & NoKeywords>
  ): Promise<Pushed> {
    const now = new Date();
    const one = this.#item(task, call ?? {}, now);
    await this.#ready();
    return this.#sendItem(one, now);
  }

  async #sendItem(one: Item, now: Date): Promise<Pushed> {
    if (this.#middleware.length > 0 && !(await this.#passes(one))) return { jid: one.jid, state: 'halted' };
    const { dialect } = this;
    const ready = payload(one, { now, dialect });
    const { jid } = one;
    if (this.#spool !== undefined)
      return { jid, state: await this.#spool.send([ready], async () => this.#send(ready)) };
    await this.#send(ready);
    return { jid, state: 'pushed' };
  }

  /**
   * Send a job of Active Job: `UserMailerJob.perform_later`. Its arguments may be what Rails can encode: GlobalId, RubySymbol, Date,
   * Duration, keywords and more. Throws as `enqueue`.
   */
  async performLater<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    ...[call]: CallArguments<A, K, PerformLaterOptions>
  ): Promise<PushedLater> {
    const jobClass = taskName(task, 'sidekiq');
    await this.#ready();
    const now = new Date();
    const { one, jobId } = this.#activeItem(jobClass, call ?? {}, now);
    return { ...(await this.#sendItem(one, now)), jobId };
  }

  /**
   * Send many jobs of one class of Active Job in few trips: `ActiveJob.perform_all_later`. Each is what `performLater` makes of it. Throws
   * as `enqueue`; what was sent before an error is sent.
   */
  async performAllLater<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    calls: readonly Call<A, K, PerformLaterOptions>[],
    { batchSize = 1_000 }: { readonly batchSize?: number } = {},
  ): Promise<readonly PushedLater[]> {
    checkBatch('performAllLater', batchSize);
    const jobClass = taskName(task, 'sidekiq');
    await this.#ready();
    const now = new Date();
    // Checked before anything is sent.
    const items = calls.map((call) => this.#activeItem(jobClass, call, now));
    const pushed = await this.#sendItems(
      items.map(({ one }) => one),
      now,
      batchSize,
    );
    return pushed.map((one, at) => ({ ...one, jobId: (items[at] as (typeof items)[number]).jobId }));
  }

  /**
   * Send many jobs of one class in few trips: a list of arguments each. `at` and `in` may be a list too, one for each.
   * Throws as `enqueue`; what was sent before an error is sent.
   */
  async enqueueMany<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    args: readonly NoInfer<A>[],
    options: Omit<EnqueueOptions, 'jid' | 'at' | 'in'> & {
      readonly at?: Date | readonly Date[];
      readonly in?: number | readonly number[];
      /** Jobs in one trip. @default 1000 */
      readonly batchSize?: number;
    } = {},
  ): Promise<readonly Pushed[]> {
    const { at, in: delay, batchSize = 1_000, ...common } = options;
    for (const [name, list] of [
      ['at', at],
      ['in', delay],
    ] as const) {
      if (Array.isArray(list) && list.length !== args.length)
        throw new ConfigError(`sidekiq: enqueueMany: ${name} has ${list.length} times for ${args.length} jobs`);
    }
    checkBatch('enqueueMany', batchSize);
    const now = new Date();
    const timeOf = (index: number): Timing => {
      const when = Array.isArray(at) ? (at as readonly Date[])[index] : (at as Date | undefined);
      const after = Array.isArray(delay) ? (delay as readonly number[])[index] : (delay as number | undefined);
      return { ...(when === undefined ? {} : { at: when }), ...(after === undefined ? {} : { in: after }) };
    };
    const itemOf = (index: number): Item =>
      this.#item(task, { ...common, ...timeOf(index), args: args[index] as A }, now);
    const alike = this.#middleware.length === 0 && !Array.isArray(at) && !Array.isArray(delay);
    // Checked before anything is sent; what all have in common is checked and written once.
    if (!alike) {
      const items = args.map((_, index) => itemOf(index));
      await this.#ready();
      return this.#sendItems(items, now, batchSize);
    }
    checkLists(args);
    const pattern = args.length > 0 ? itemOf(0) : undefined;
    await this.#ready();
    const pushed: Pushed[] = [];
    for (let from = 0; pattern !== undefined && from < args.length; from += batchSize) {
      const some = args.slice(from, from + batchSize).map((one) => ({ args: one, jid: newJid() }));
      const state = await this.#sendAll(payloads(pattern, some, { now, dialect: this.#dialect }));
      for (const { jid } of some) pushed.push({ jid, state });
    }
    return pushed;
  }

  async #sendItems(items: readonly Item[], now: Date, batchSize: number): Promise<readonly Pushed[]> {
    const pushed: Pushed[] = [];
    for (let from = 0; from < items.length; from += batchSize) {
      const some = items.slice(from, from + batchSize);
      const passed =
        this.#middleware.length === 0 ? undefined : await Promise.all(some.map((one) => this.#passes(one)));
      const { dialect } = this;
      const sent = some.filter((_, index) => passed?.[index] !== false);
      const state = await this.#sendAll(sent.map((one) => payload(one, { now, dialect })));
      some.forEach(({ jid }, index) => pushed.push({ jid, state: passed?.[index] === false ? 'halted' : state }));
    }
    return pushed;
  }

  async #sendAll(ready: readonly wire.Payload[]): Promise<Pushed['state']> {
    const send = async (): Promise<void> => this.#connection().run(wire.push(this.#app.keys, ready));
    return this.#spool === undefined ? send().then(() => 'pushed' as const) : this.#spool.send(ready, send);
  }

  /**
   * Ask an iterable job to end (Sidekiq 7.3 and later), whether it runs or waits; when it was first asked. Other jobs do not
   * hear it.
   */
  async cancel(jid: string): Promise<Date> {
    await this.open();
    const at = await this.#connection().run(iteration.cancel(this.#app.keys, jid, Math.floor(Date.now() / 1000)));
    return new Date(at * 1000);
  }

  /** How many jobs this process keeps because Redis is away. */
  get buffered(): number {
    return this.#spool?.size ?? 0;
  }

  /** What is spoken: set by hand, or what the processes that run can read. */
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

  /** Sends what is buffered if Redis is there; rejects with ConnectionError when jobs are left that were never sent. */
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

  #item(task: Parameters<typeof taskName>[0], call: AnyCall<EnqueueOptions>, now: Date): Item {
    const { args = [], kwargs, ...options } = call;
    const name = taskName(task, 'sidekiq');
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

  /** The dialect has to be known by now. */
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

  async #passes(one: Item): Promise<boolean> {
    let passed = false;
    const call = async (index: number): Promise<void> => {
      const layer = this.#middleware[index];
      if (layer === undefined) passed = true;
      else await layer(one, () => call(index + 1));
    };
    await call(0);
    return passed;
  }

  /** Connected, and the dialect known. With a buffer neither is waited for while Redis is away. */
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

  /** Where jobs can be buffered, a connection that is away is not waited for. */
  #connection(): RedisLink {
    const redis = this.#redis;
    if (redis !== undefined && (this.#spool === undefined || redis.ready)) return redis;
    throw new ConnectionError(`sidekiq: ${this.#app.target.maskedUrl} is not connected`);
  }
}

function checkBatch(method: string, batchSize: number): void {
  if (!Number.isInteger(batchSize) || batchSize < 1)
    throw new ConfigError(`sidekiq: ${method}: batchSize must be a whole number of at least 1, not ${batchSize}`);
}

function checkLists(args: readonly unknown[]): void {
  const wrong = args.findIndex((one) => !Array.isArray(one));
  if (wrong >= 0)
    throw new ConfigError(`sidekiq: enqueueMany: args[${wrong}] must be an array: the arguments of one job`);
}
