import { randomUUID } from 'node:crypto';
import { encodeTask, type Publication, type TaskCall } from '../../../protocols/celery/message.ts';
import { LamportClock } from '../../../protocols/celery/clock.ts';
import { EVENT_EXCHANGE, taskSent } from '../../../protocols/celery/event.ts';
import { exceptionOf } from '../../../protocols/celery/exceptions.ts';
import {
  decodeGroupMeta,
  decodeMeta,
  groupMeta,
  groupTuple,
  PROPAGATE_STATES,
  READY_STATES,
  resultTuple,
  type TaskMeta,
} from '../../../protocols/celery/result.ts';
import { isoText } from '../../../protocols/formats/values.ts';
import type { Client } from '../../client.ts';
import { ConfigError, ConnectionError, RemoteError, ResultTimeoutError } from '../../errors.ts';
import { type Logger, silent } from '../../log.ts';
import { pause } from '../../source.ts';
import { type Task, taskName } from '../../task.ts';
import type { CeleryBroker, ResultBackend } from './broker.ts';
import { EventDispatcher } from './dispatcher.ts';
import { backendFor, brokerFor } from './connect.ts';
import { type CeleryAppOptions, originOf, resolveApp, type ResolvedApp } from './options.ts';
import { destination } from './routes.ts';

export interface CeleryClientOptions extends CeleryAppOptions {
  /**
   * Send again when the broker does not answer: Celery's `task_publish_retry_policy`, in seconds. A connection lost with the
   * answer on its way sends a task twice. False sends once. @default { maxRetries: 3, intervalStart: 0, intervalStep: 0.2, intervalMax: 1 }
   */
  readonly taskPublishRetry?: false | PublishRetry;
  /** Shaped like pino's. @default nothing is written */
  readonly log?: Logger;
}

export interface PublishRetry {
  readonly maxRetries?: number;
  readonly intervalStart?: number;
  readonly intervalStep?: number;
  readonly intervalMax?: number;
}

/** Options of Celery's `apply_async`, in camelCase; seconds where Celery has seconds. */
export interface EnqueueOptions {
  /** Seconds from now. */
  readonly countdown?: number;
  /** When to run. */
  readonly eta?: Date;
  /** Seconds from now, or the time after which the task is not run any more. */
  readonly expires?: number | Date;
  readonly queue?: string;
  readonly exchange?: string;
  readonly routingKey?: string;
  /** 0 to 9. On Redis 0 is the highest, on RabbitMQ the lowest. */
  readonly priority?: number;
  readonly headers?: Readonly<Record<string, unknown>>;
  /** Seconds. */
  readonly timeLimit?: number;
  /** Seconds. */
  readonly softTimeLimit?: number;
  readonly ignoreResult?: boolean;
  readonly serializer?: string;
  readonly compression?: string;
  /** @default a new UUID */
  readonly taskId?: string;
  /** Called with the result: signature dictionaries, as `{ task, args, kwargs, options, subtask_type, immutable }`. */
  readonly link?: SignatureLike | readonly SignatureLike[];
  readonly linkError?: SignatureLike | readonly SignatureLike[];
  readonly shadow?: string;
  readonly groupId?: string;
  readonly groupIndex?: number;
  readonly rootId?: string;
  readonly parentId?: string;
  readonly replyTo?: string;
  /** What logs and events show instead of the arguments; for hiding secrets. */
  readonly argsrepr?: string;
  readonly kwargsrepr?: string;
  /** Which retry this is; the first run is 0. */
  readonly retries?: number;
}

/** A call as data: `{ task: 'proj.add', args: [2] }`. What is left out is empty. */
export interface SignatureLike {
  readonly task: string;
  readonly args?: readonly unknown[];
  readonly kwargs?: Readonly<Record<string, unknown>>;
  readonly options?: Readonly<Record<string, unknown>>;
  readonly immutable?: boolean;
}

type Call<A, K> = { readonly args?: A; readonly kwargs?: K } & EnqueueOptions;

/** Sends tasks to Celery workers, whatever their language, and awaits their results. Connects at the first call. */
export class CeleryClient implements Client<EnqueueOptions, AsyncResult>, AsyncDisposable {
  readonly broker: CeleryBroker;
  readonly backend: ResultBackend;
  readonly #app: ResolvedApp;
  readonly #log: Logger;
  readonly #origin = originOf();
  readonly #publishRetry: PublishRetry | false;
  readonly #events: EventDispatcher | undefined;
  #opened: Promise<void> | undefined;

  constructor(options: CeleryClientOptions) {
    this.#app = resolveApp(options);
    this.#log = options.log ?? silent;
    this.#publishRetry = options.taskPublishRetry ?? {};
    this.broker = brokerFor(options);
    this.backend = backendFor(options);
    if (options.taskSendSentEvent === true && this.broker.broadcast !== undefined)
      this.#events = new EventDispatcher({
        hostname: this.#origin,
        clock: new LamportClock(),
        broadcast: this.broker.broadcast,
        exchange: options.eventExchange ?? EVENT_EXCHANGE,
        tasks: false,
      });
  }

  /**
   * Send one task. Resolves when the broker has it. Throws WireError `unencodable` for arguments the serializer cannot hold,
   * ConnectionError when the broker does not answer; then it is not known to be sent.
   */
  async enqueue<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    call: Call<NoInfer<A>, NoInfer<K>> = {},
  ): Promise<AsyncResult<R>> {
    const id = idOf(call);
    await this.#publish(() => [this.#publication(task, call, id)]);
    return new AsyncResult<R>(this, id);
  }

  /** Send many calls of one task in one round trip. */
  async enqueueMany<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    calls: readonly Call<NoInfer<A>, NoInfer<K>>[],
  ): Promise<readonly AsyncResult<R>[]> {
    const ids = calls.map(idOf);
    const publications = function* (this: CeleryClient): Iterable<Publication> {
      for (const [index, call] of calls.entries()) yield this.#publication(task, call, ids[index] as string);
    };
    await this.#publish(publications.bind(this));
    return ids.map((id) => new AsyncResult<R>(this, id));
  }

  /** The message that `enqueue` would send, for whoever sends it in a way of their own; `taskId` names it. */
  message<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    call: Call<NoInfer<A>, NoInfer<K>> & { readonly taskId: string },
  ): Publication {
    return this.#publication(task, call, call.taskId);
  }

  /** The result of a task sent earlier, or by somebody else. */
  result<R = unknown>(id: string): AsyncResult<R> {
    return new AsyncResult<R>(this, id);
  }

  /** The members of a group saved under this id (Python's `GroupResult.save()`), in their order; undefined where none is stored. */
  async group(groupId: string): Promise<readonly AsyncResult[] | undefined> {
    await this.#open();
    const stored = await this.backend.fetchGroup(groupId);
    if (stored === undefined) return undefined;
    return (decodeGroupMeta(stored)[1] ?? []).map(([[id]]) => new AsyncResult(this, id));
  }

  /** Save results as a group, for Python's `GroupResult.restore(groupId)` and for `group`. */
  async saveGroup(groupId: string, results: readonly AsyncResult[]): Promise<void> {
    await this.#open();
    await this.backend.storeGroup(
      groupId,
      groupMeta(
        groupTuple(
          groupId,
          results.map(({ id }) => resultTuple(id)),
        ),
      ),
    );
  }

  /** The stored meta of a task, or undefined: PENDING, expired, forgotten or never sent. */
  async meta(id: string): Promise<TaskMeta | undefined> {
    await this.#open();
    const stored = await this.backend.fetch(id);
    return stored === undefined ? undefined : this.decode(stored);
  }

  async forget(id: string): Promise<void> {
    await this.#open();
    await this.backend.forget(id);
  }

  /** Wait for a meta that `ready` accepts: subscribe, look, and look again now and then, since a published message may be lost. */
  async wait(id: string, ready: (meta: TaskMeta) => boolean, options: WaitOptions = {}): Promise<TaskMeta> {
    await this.#open();
    const { timeoutMs, signal } = options;
    signal?.throwIfAborted();
    let settle: (meta: TaskMeta) => void = () => {};
    let fail: (error: unknown) => void = () => {};
    const found = new Promise<TaskMeta>((resolve, reject) => {
      settle = resolve;
      fail = reject;
    });
    const see = (stored: Buffer | undefined): void => {
      if (stored === undefined) return;
      try {
        const meta = this.decode(stored);
        if (ready(meta)) settle(meta);
      } catch (error) {
        fail(error);
      }
    };
    const abort = (): void => fail(signal?.reason);
    signal?.addEventListener('abort', abort, { once: true });
    const look = (): void => void this.backend.fetch(id).then(see, () => undefined);
    const timer =
      timeoutMs === undefined ? undefined : setTimeout(() => fail(new ResultTimeoutError(id, timeoutMs)), timeoutMs);
    const recheck = setInterval(look, options.recheckMs ?? 5_000);
    let unwatch: (() => void) | undefined;
    try {
      unwatch = await Promise.race([this.backend.watch(id, see), found.then(() => undefined)]);
      if (unwatch !== undefined) await this.backend.fetch(id).then(see);
      return await found;
    } finally {
      clearTimeout(timer);
      clearInterval(recheck);
      signal?.removeEventListener('abort', abort);
      unwatch?.();
    }
  }

  decode(stored: Buffer): TaskMeta {
    return decodeMeta(stored, this.#app.resultSerializer);
  }

  /** Connect now rather than at the first call. */
  async open(): Promise<void> {
    await this.#open();
  }

  async close(): Promise<void> {
    await this.#opened?.catch(() => undefined);
    this.#opened = undefined;
    await this.broker.close();
    await this.backend.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #open(): Promise<void> {
    return (this.#opened ??= Promise.all([this.broker.open(this.#log), this.backend.open(this.#log)]).then(
      () => this.backend.listen?.(),
      (error: unknown) => {
        this.#opened = undefined;
        throw error;
      },
    ));
  }

  /** An event that cannot be sent is no reason to send a task again. */
  async #tell(events: EventDispatcher, sent: readonly Publication[]): Promise<void> {
    const told = sent.map(taskSent).filter((event) => event !== undefined);
    await Promise.all(told.map((event) => events.send(event))).catch((error: unknown) =>
      this.#log.debug({ error }, 'an event task-sent could not be sent'),
    );
  }

  async #publish(publications: () => Iterable<Publication>): Promise<void> {
    const {
      maxRetries = 3,
      intervalStart = 0,
      intervalStep = 0.2,
      intervalMax = 1,
    } = this.#publishRetry || { maxRetries: 0 };
    for (let retries = 0; ; retries++) {
      try {
        await this.#open();
        if (this.#events === undefined) return await this.broker.publish(publications());
        const sent = [...publications()];
        await this.broker.publish(sent);
        return await this.#tell(this.#events, sent);
      } catch (error) {
        if (!(error instanceof ConnectionError) || retries >= maxRetries) throw error;
        await pause(Math.min(intervalMax, intervalStart + intervalStep * retries) * 1000);
      }
    }
  }

  #publication<A, K>(task: Parameters<typeof taskName>[0], call: Call<A, K>, id: string): Publication {
    const name = taskName(task, 'celery');
    const args = (call.args ?? []) as readonly unknown[];
    const kwargs = (call.kwargs ?? {}) as Readonly<Record<string, unknown>>;
    if (id === '') throw new ConfigError(`celery: the taskId of '${name}' is empty; a Python worker would end on it`);
    const to = destination(this.#app.taskRoutes, this.#app.taskDefaultQueue, name, call, args, kwargs);
    const fields: Mutable<TaskCall> = {
      task: name,
      id,
      args,
      kwargs,
      origin: this.#origin,
      serializer: call.serializer ?? this.#app.taskSerializer,
      exchange: to.exchange,
      routingKey: to.routingKey,
      queueKey: to.queueKey,
      priority: priority(call.priority ?? to.priority ?? 0),
    };
    const compression = call.compression ?? this.#app.taskCompression;
    if (compression !== null) fields.compression = compression;
    if (call.countdown !== undefined || call.eta !== undefined)
      fields.eta = isoText(call.eta ?? inSeconds('countdown', call.countdown as number));
    if (call.expires !== undefined) {
      const until = typeof call.expires === 'number' ? inSeconds('expires', call.expires) : call.expires;
      fields.expires = isoText(until);
      fields.expiration = String(Math.max(0, until.getTime() - Date.now()));
    }
    if (call.link !== undefined) fields.callbacks = signatures(call.link);
    if (call.linkError !== undefined) fields.errbacks = signatures(call.linkError);
    if (call.headers !== undefined) fields.headers = call.headers;
    if (call.timeLimit !== undefined) fields.timeLimit = call.timeLimit;
    if (call.softTimeLimit !== undefined) fields.softTimeLimit = call.softTimeLimit;
    if (call.ignoreResult !== undefined) fields.ignoreResult = call.ignoreResult;
    if (call.shadow !== undefined) fields.shadow = call.shadow;
    if (call.groupId !== undefined) fields.group = call.groupId;
    if (call.groupIndex !== undefined) fields.groupIndex = call.groupIndex;
    if (call.rootId !== undefined) fields.rootId = call.rootId;
    if (call.parentId !== undefined) fields.parentId = call.parentId;
    const replyTo = call.replyTo ?? this.backend.replyTo;
    if (replyTo !== undefined) fields.replyTo = replyTo;
    if (call.argsrepr !== undefined) fields.argsrepr = call.argsrepr;
    if (call.kwargsrepr !== undefined) fields.kwargsrepr = call.kwargsrepr;
    if (call.retries !== undefined) fields.retries = call.retries;
    return encodeTask(fields, { typed: this.#app.typedJson });
  }
}

export interface WaitOptions {
  /** @default waits for ever */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** How often to look again beside listening. @default 5 000 */
  readonly recheckMs?: number;
}

/** The result of one task, as Celery's AsyncResult. */
export class AsyncResult<R = unknown> {
  readonly id: string;
  readonly #client: CeleryClient;

  constructor(client: CeleryClient, id: string) {
    this.#client = client;
    this.id = id;
  }

  /**
   * The return value. Throws RemoteError when the task failed or was revoked, ResultTimeoutError after `timeoutMs`, the
   * signal's reason when it aborts.
   */
  async get(options: WaitOptions = {}): Promise<R> {
    const meta = await this.#client.wait(this.id, ({ status }) => READY_STATES.has(status), options);
    if (!PROPAGATE_STATES.has(meta.status)) return meta.result as R;
    const { type, module, args } = exceptionOf(meta.result) ?? { type: meta.status, module: undefined, args: [] };
    throw new RemoteError({ type, module: module ?? undefined, args, traceback: meta.traceback });
  }

  /** `PENDING` where nothing is stored: waiting, unknown or expired. */
  async state(): Promise<string> {
    return (await this.#client.meta(this.id))?.status ?? 'PENDING';
  }

  /** Everything stored about the task. */
  meta(): Promise<TaskMeta | undefined> {
    return this.#client.meta(this.id);
  }

  async ready(): Promise<boolean> {
    return READY_STATES.has(await this.state());
  }

  /** Remove the stored result. */
  forget(): Promise<void> {
    return this.#client.forget(this.id);
  }
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

function idOf(call: EnqueueOptions): string {
  return call.taskId ?? randomUUID();
}

function signatures(link: SignatureLike | readonly SignatureLike[]): readonly unknown[] {
  return (Array.isArray(link) ? (link as readonly SignatureLike[]) : [link as SignatureLike]).map(
    ({ task, args = [], kwargs = {}, options = {}, immutable = false }) => ({
      task,
      args,
      kwargs,
      options,
      subtask_type: null,
      immutable,
    }),
  );
}

function inSeconds(name: string, seconds: number): Date {
  const date = new Date(Date.now() + seconds * 1000);
  if (Number.isNaN(date.getTime()))
    throw new ConfigError(`celery: ${name} must be a number of seconds, not ${seconds}`);
  return date;
}

function priority(value: number): number {
  if (Number.isInteger(value) && value >= 0 && value <= 255) return value;
  throw new ConfigError(`celery: priority must be a whole number from 0 to 9, not ${value}`);
}
