import { randomUUID } from 'node:crypto';
import type { RailsVersion } from '../../../protocols/formats/active-job/index.ts';
import { wrap } from '../../../protocols/resque/active-job.ts';
import * as json from '../../../protocols/formats/ruby-json.ts';
import type { Exchange } from '../../../protocols/redis.ts';
import { decodePayload, encodeDelayed, encodePayload, type Payload } from '../../../protocols/resque/message.ts';
import * as wire from '../../../protocols/resque/redis.ts';
import * as delayed from '../../../protocols/resque/schedule.ts';
import type { AnyCall, Call, CallArguments, Client, NoKeywords, RedisLink } from '../../client.ts';
import { ConfigError } from '../../errors.ts';
import { type Logger, silent } from '../../log.ts';
import { type Task, taskName } from '../../task.ts';
import { RedisConnection } from '../../transports/redis.ts';
import { type ResolvedApp, resolveApp, type ResqueAppOptions } from './options.ts';
import type { ResqueSchedule } from './schedule.ts';

/** Where Redis is, and how jobs are enqueued. */
export interface ResqueClientOptions extends ResqueAppOptions {
  /** Where a class goes that names no queue. @default none: enqueue says that it needs one */
  readonly defaultQueue?: string;
  /** By class, as Resque's class methods of these names. */
  readonly hooks?: Readonly<Record<string, ClientHooks>>;
  readonly log?: Logger;
}

/** Resque's hooks around enqueuing; what they get are the job's arguments. `false` from a `before` hook: it is not done. */
export interface ClientHooks {
  readonly beforeEnqueue?: (...args: readonly unknown[]) => unknown;
  readonly afterEnqueue?: (...args: readonly unknown[]) => unknown;
  readonly beforeDequeue?: (...args: readonly unknown[]) => unknown;
  readonly afterDequeue?: (...args: readonly unknown[]) => unknown;
  /** resque-scheduler: before a delayed job is kept. */
  readonly beforeSchedule?: (...args: readonly unknown[]) => unknown;
  readonly afterSchedule?: (...args: readonly unknown[]) => unknown;
}

/** Where and when a job is to run. */
export interface EnqueueOptions {
  /** @default the client's `defaultQueue` */
  readonly queue?: string;
  /** Not before then: kept where a scheduler, in Ruby or here, moves it from. */
  readonly at?: Date;
  /** Seconds from now. */
  readonly in?: number;
  /** A name for logs and events, kept in the payload: then it is not the same text as Ruby's for the same call. */
  readonly id?: string;
}

/** As `set` and `perform_later` of Active Job take them. */
export interface PerformLaterOptions extends Omit<EnqueueOptions, 'id'> {
  /** A UUID. @default a new one */
  readonly jobId?: string;
  readonly priority?: number;
  /** @default 'en' */
  readonly locale?: string;
  /** The name of a zone as Rails knows it. @default 'UTC' */
  readonly timezone?: string;
  /** The oldest Rails that reads it. @default what every version reads */
  readonly rails?: RailsVersion;
}

type Named<A extends readonly unknown[], K, R> = Task<A, K, R> | string;

/** Enqueues jobs for Resque, in Ruby or here. Connects at the first call. */
export class ResqueClient implements Client<EnqueueOptions & NoKeywords, boolean>, AsyncDisposable {
  readonly #app: ResolvedApp;
  readonly #options: ResqueClientOptions;
  readonly #log: Logger;
  readonly #link: RedisLink | undefined;
  #redis: RedisLink | undefined;
  #push: ((item: { readonly queue: string; readonly payload: string }) => Promise<void>) | undefined;
  #opening: Promise<RedisLink> | undefined;

  /** @param link used in place of a connection to `url`: for tests */
  constructor(options: ResqueClientOptions, link?: RedisLink) {
    this.#link = link;
    this.#options = options;
    this.#app = resolveApp(options);
    this.#log = options.log ?? silent;
  }

  /**
   * Send one job; true when Redis has it, false when a hook would not have it. Throws WireError `unencodable` for arguments that JSON does not
   * have, ConfigError without a queue, ConnectionError when Redis does not answer: then it is not known to be sent.
   */
  async enqueue<A extends readonly unknown[], K, R>(
    task: Named<A, K, R>,
    ...[call]: CallArguments<A, K, EnqueueOptions & NoKeywords>
  ): Promise<boolean> {
    const { args = [], kwargs, at, in: seconds, id }: AnyCall<EnqueueOptions> = call ?? {};
    if (kwargs !== undefined && Object.keys(kwargs as object).length > 0)
      throw new ConfigError('resque: a job has positional arguments only; put kwargs into the last of args');
    const name = taskName(task, 'resque');
    const queue = this.#queueOf(name, call?.queue);
    const payload = encodePayload(name, args, id);
    const due = dueAt(at, seconds);
    return due === undefined || due.getTime() <= Date.now()
      ? this.#enqueue(name, queue, payload, args)
      : this.#delay(name, encodeDelayed(payload, queue), due, args);
  }

  /**
   * Send a job of Active Job: `UserMailerJob.perform_later`. Its arguments may be what Rails can encode: GlobalId, RubySymbol, Duration,
   * keywords and more. Resolves to its job id; undefined when a hook would not have it. Throws as `enqueue`.
   */
  async performLater<A extends readonly unknown[], K, R>(
    task: Named<A, K, R>,
    ...[call]: CallArguments<A, K, PerformLaterOptions>
  ): Promise<string | undefined> {
    return this.#later(taskName(task, 'resque'), call ?? {})();
  }

  /**
   * Send many jobs of one class of Active Job in one trip: `ActiveJob.perform_all_later`. Each is what `performLater` makes of it, and all are
   * checked before the first is sent. Resolves to their job ids, as `performLater`; throws as `enqueue`.
   */
  async performAllLater<A extends readonly unknown[], K, R>(
    task: Named<A, K, R>,
    calls: readonly Call<A, K, PerformLaterOptions>[],
  ): Promise<readonly (string | undefined)[]> {
    const name = taskName(task, 'resque');
    const sends = calls.map((call) => this.#later(name, call));
    await this.#connection();
    return Promise.all(sends.map((send) => send()));
  }

  /** `Resque.enqueue_to`. */
  enqueueTo<A extends readonly unknown[], K, R>(
    queue: string,
    task: Named<A, K, R>,
    ...args: NoInfer<A>
  ): Promise<boolean> {
    return this.enqueue(task as string, { queue, args });
  }

  /** `Resque.enqueue_at`, of resque-scheduler. A time that has passed is now. */
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

  /** `Resque.push`: an object as it is, for classes of another. */
  async push(queue: string, payload: Readonly<Record<string, unknown>>): Promise<void> {
    const { class: name, args = [], ...rest } = payload;
    if (typeof name !== 'string' || !Array.isArray(args) || Object.keys(rest).length > 0) {
      // Whatever stands in a queue has to be a payload: a Ruby worker that pops anything else dies of it.
      const text = json.stringify(payload, { at: 'payload' });
      decodePayload(Buffer.from(text));
      await this.#send({ queue, payload: text });
      return;
    }
    await this.#send({ queue, payload: encodePayload(name, args as readonly unknown[]) });
  }

  /**
   * `Resque.dequeue`: take jobs out of a queue: those of exactly these arguments, or without `args` all of the class. How many there were.
   * Texts are compared, as Ruby does: `1.0` is not `1`, and members in another order are another job.
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

  /** `Resque.remove_delayed`: take delayed jobs of exactly these arguments back. How many there were. */
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

  /** How many jobs wait. */
  async size(queue: string): Promise<number> {
    return (await this.#connection()).run(wire.size(this.#app.keys, queue));
  }

  /** Jobs that wait, the next to run first. What is no payload is left out. */
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

  /** Every queue that ever got a job, and was not removed. */
  async queues(): Promise<readonly string[]> {
    return (await this.#connection()).run(wire.queues(this.#app.keys));
  }

  /** The queue and everything that waits in it. */
  async removeQueue(queue: string): Promise<void> {
    await (await this.#connection()).run(wire.removeQueue(this.#app.keys, queue));
  }

  /** Every worker stops looking for jobs, in Ruby (2.3 and later) and here, until it is resumed. */
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

  /** One round trip of `protocols/resque`, by this client's connection. */
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

  /** What sends a job of Active Job, which is checked here and now. */
  #later(name: string, call: AnyCall<PerformLaterOptions>): () => Promise<string | undefined> {
    const { args = [], kwargs, at, in: seconds, jobId = randomUUID(), rails, priority, locale, timezone } = call;
    const queue = this.#queueOf(name, call.queue);
    const due = dueAt(at, seconds);
    const later = due === undefined || due.getTime() <= Date.now() ? undefined : due;
    const payload = wrap(
      {
        jobClass: name,
        jobId,
        queueName: queue,
        args,
        ...(kwargs === undefined ? {} : { kwargs: kwargs as Readonly<Record<string, unknown>> }),
        priority,
        locale,
        timezone,
        enqueuedAt: new Date(),
        scheduledAt: later,
      },
      rails === undefined ? {} : { rails },
    );
    const item = later === undefined ? '' : encodeDelayed(payload, queue);
    return async () => {
      const sent =
        later === undefined
          ? await this.#enqueue(name, queue, payload, args)
          : await this.#delay(name, item, later, args);
      return sent ? jobId : undefined;
    };
  }

  async #enqueue(name: string, queue: string, payload: string, args: readonly unknown[]): Promise<boolean> {
    const hooks = this.#hooks(name);
    if (hooks?.beforeEnqueue !== undefined && (await hooks.beforeEnqueue(...args)) === false) return false;
    await this.#send({ queue, payload });
    if (hooks?.afterEnqueue !== undefined) await hooks.afterEnqueue(...args);
    return true;
  }

  async #delay(name: string, item: string, at: Date, args: readonly unknown[]): Promise<boolean> {
    const hooks = this.#hooks(name);
    if (hooks?.beforeSchedule !== undefined && (await hooks.beforeSchedule(...args)) === false) return false;
    await (await this.#connection()).run(delayed.enqueueDelayed(this.#app.keys, item, at));
    if (hooks?.afterSchedule !== undefined) await hooks.afterSchedule(...args);
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

  #queueOf(name: string, queue: string | undefined): string {
    const found = queue ?? this.#options.defaultQueue;
    if (found !== undefined && found !== '') return found;
    throw new ConfigError(`resque: ${name} needs a queue: pass queue, or give the client a defaultQueue`);
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

function isOfClass(bytes: Buffer, name: string): boolean {
  try {
    return decodePayload(bytes).class === name;
  } catch {
    return false;
  }
}

/** Throws ConfigError for both, and for what is no time. */
function dueAt(at: Date | undefined, seconds: number | undefined): Date | undefined {
  if (at !== undefined && seconds !== undefined) throw new ConfigError('resque: pass either at or in, not both');
  const due = seconds === undefined ? at : new Date(Date.now() + seconds * 1000);
  if (due !== undefined && Number.isNaN(due.getTime())) throw new ConfigError('resque: at and in must be a time');
  return due;
}
