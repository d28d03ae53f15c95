import { randomUUID } from 'node:crypto';
import { apply } from '../../../../protocols/celery/canvas/apply.ts';
import type { Publisher } from '../../../../protocols/celery/message/call.ts';
import { LamportClock } from '../../../../protocols/celery/control/clock.ts';
import { encodeTask, type Publication, type TaskCall } from '../../../../protocols/celery/message/message.ts';
import { EVENT_EXCHANGE, taskSent } from '../../../../protocols/celery/control/event.ts';
import {
  decodeGroupMeta,
  decodeMeta,
  groupMeta,
  groupTuple,
  type TaskMeta,
} from '../../../../protocols/celery/outcome/result.ts';
import { acceptSet } from '../../../../protocols/celery/message/serializers.ts';
import { readSignature, signatureToMap } from '../../../../protocols/celery/canvas/signature.ts';
import { isoText } from '../../../../protocols/formats/values.ts';
import type { AnyCall, Call, CallArguments, Client } from '../../../client.ts';
import { ConfigError, ConnectionError } from '../../../errors.ts';
import { type Logger, silent } from '../../../log.ts';
import { pause } from '../../../source.ts';
import { type Task, taskName } from '../../../task.ts';
import {
  type AnyResult,
  AsyncResult,
  GroupResult,
  type ResultReader,
  resultOf,
  type RevokeOptions,
} from './async-result.ts';
import { awaitMetas, type WaitOptions } from '../results/await-results.ts';
import type { CeleryBroker, ResultBackend } from '../brokers/broker.ts';
import { chordsOf, startChord } from '../results/chords.ts';
import { backendFor, brokerFor } from '../connect.ts';
import { EventDispatcher } from '../control/dispatcher.ts';
import { Mailbox } from '../control/mailbox.ts';
import { type CeleryAppOptions, originOf, resolveApp, type ResolvedApp } from '../options.ts';
import { destination, signatureRoute } from './routes.ts';
import type { Signature, SignatureLike, Taking } from '../canvas/signature-types.ts';
import { type EnqueueOptions, inSeconds, priority, wireOptions } from './task-options.ts';

/** The broker, where results are, and how tasks are sent. */
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

/** Sends tasks to Celery workers, whatever their language, and awaits their results. Connects at the first call. */
export class CeleryClient implements Client<EnqueueOptions, AsyncResult>, ResultReader, AsyncDisposable {
  readonly broker: CeleryBroker;
  readonly backend: ResultBackend;
  readonly #app: ResolvedApp;
  readonly #log: Logger;
  readonly #origin = originOf();
  readonly #publishRetry: PublishRetry | false;
  readonly #events: EventDispatcher | undefined;
  readonly #controlExchange: string;
  #mailbox: Mailbox | undefined;
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
    this.#controlExchange = options.controlExchange ?? 'celery';
  }

  /**
   * Send one task. Resolves when the broker has it. Throws WireError `unencodable` for arguments the serializer cannot hold,
   * ConnectionError when the broker does not answer; then it is not known to be sent.
   */
  async enqueue<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    ...[call]: CallArguments<A, K, EnqueueOptions>
  ): Promise<AsyncResult<R>> {
    const id = idOf(call ?? {});
    await this.#publish(() => [this.#publication(task, call ?? {}, id)]);
    return new AsyncResult<R>(this, id);
  }

  /** Send many calls of one task in one round trip. */
  async enqueueMany<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    calls: readonly Call<A, K, EnqueueOptions>[],
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
    call: Call<A, K, EnqueueOptions & { readonly taskId: string }>,
  ): Publication {
    return this.#publication(task, call, call.taskId);
  }

  /** The result of a task sent earlier, or by somebody else. */
  result<R = unknown>(id: string): AsyncResult<R> {
    return new AsyncResult<R>(this, id);
  }

  /**
   * Send a workflow: a signature, chain, group or chord, with more options that win over its own. Resolves when the broker has what
   * begins it, to the result of what ends it: of a chain its last step's, of a chord its body's, of a group that of all members.
   * Throws WireError `bad-signature`, `no-chords` where the result backend cannot have chords, and what `enqueue` throws.
   */
  async apply<Start, Receipt>(
    canvas: Signature<Start, Receipt> & Taking<Signature<Start, Receipt>, []>,
    options: EnqueueOptions = {},
  ): Promise<Receipt> {
    const { link, linkError, ...others } = options;
    const extra = new Map(wireOptions(others));
    if (link !== undefined) extra.set('link', signatures(link));
    if (linkError !== undefined) extra.set('link_error', signatures(linkError));
    if (canvas.subtask_type === 'group' && (extra.has('link') || extra.has('link_error')))
      throw new ConfigError(
        'celery: a group has no result of its own to link to; link its members, or make it a chord',
      );
    // Once for all tries: what is sent again has the same ids.
    const { chords, calls, result } = apply(readSignature(canvas), { options: extra }, this.#publisher());
    if (result === undefined) throw new ConfigError('celery: an empty chain has no result');
    const { typedJson: typed } = this.#app;
    await this.#publish(
      () => calls.map((call) => encodeTask(call, { typed })),
      async () => {
        for (const chord of chords) await startChord(this.backend, chord);
      },
    );
    return resultOf(this, result) as Receipt;
  }

  /** A saved group (`GroupResult.save`, Python's or ours); undefined where none is stored under this id. */
  async group<T extends readonly unknown[] = readonly unknown[]>(groupId: string): Promise<GroupResult<T> | undefined> {
    await this.#open();
    const stored = await this.backend.fetchGroup(groupId);
    return stored === undefined ? undefined : new GroupResult<T>(this, decodeGroupMeta(stored));
  }

  /** Save results as a group, for Python's `GroupResult.restore(groupId)` and for `group`. */
  async saveGroup(groupId: string, results: readonly AnyResult[]): Promise<void> {
    await this.#open();
    const members = results.map(({ tuple }) => tuple);
    await this.backend.storeGroup(groupId, groupMeta(groupTuple(groupId, members)));
  }

  /**
   * Tell all workers not to run these tasks, and with `terminate` to stop those that run. Resolves when it is said; nobody answers.
   * Throws ConfigError where the broker has no remote control.
   */
  async revoke(
    ids: string | readonly string[],
    { terminate = false, signal = 'SIGTERM' }: Omit<RevokeOptions, 'ancestors'> = {},
  ): Promise<void> {
    await this.#open();
    await this.#control().cast({ method: 'revoke', arguments: { task_id: ids, terminate, signal } });
  }

  /** The stored meta of a task, or undefined: PENDING, expired, forgotten or never sent. */
  async meta(id: string): Promise<TaskMeta | undefined> {
    return (await this.metas([id]))[0];
  }

  /** The stored metas of many tasks, in the order of their ids. */
  async metas(ids: readonly string[]): Promise<readonly (TaskMeta | undefined)[]> {
    await this.#open();
    const stored = await this.backend.fetchMany(ids);
    return stored.map((meta) => (meta === undefined ? undefined : this.decode(meta)));
  }

  /** Remove the stored result of a task. */
  async forget(id: string): Promise<void> {
    await this.#open();
    await this.backend.forget(id);
  }

  /** Wait for a meta that `ready` accepts. */
  async wait(id: string, ready: (meta: TaskMeta) => boolean, options: WaitOptions = {}): Promise<TaskMeta> {
    return (await this.waitAll([id], ready, options))[0] as TaskMeta;
  }

  /** Wait for a meta that `ready` accepts for each of these ids, in their order. What `ready` throws ends the waiting. */
  async waitAll(
    ids: readonly string[],
    ready: (meta: TaskMeta) => boolean,
    options: WaitOptions = {},
  ): Promise<readonly TaskMeta[]> {
    await this.#open();
    return awaitMetas(this.backend, ids, { decode: (stored) => this.decode(stored), ready }, options);
  }

  /** A stored meta, from its bytes. Throws WireError. */
  decode(stored: Buffer): TaskMeta {
    return decodeMeta(stored, this.#app.resultSerializer);
  }

  /** Connect now rather than at the first call. */
  async open(): Promise<void> {
    await this.#open();
  }

  /** Close the connections. */
  async close(): Promise<void> {
    await this.#opened?.catch(() => undefined);
    this.#mailbox = undefined;
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

  async #publish(publications: () => Iterable<Publication>, before?: () => Promise<void>): Promise<void> {
    const {
      maxRetries = 3,
      intervalStart = 0,
      intervalStep = 0.2,
      intervalMax = 1,
    } = this.#publishRetry || { maxRetries: 0 };
    for (let retries = 0; ; retries++) {
      try {
        await this.#open();
        await before?.();
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

  #publisher(): Publisher {
    const { taskRoutes, taskDefaultQueue, taskSerializer, taskCompression } = this.#app;
    return {
      now: new Date(),
      newId: randomUUID,
      origin: this.#origin,
      route: signatureRoute(taskRoutes, taskDefaultQueue, true),
      replyTo: this.backend.replyTo ?? '',
      serializer: taskSerializer,
      compression: taskCompression,
      chords: chordsOf(this.backend),
    };
  }

  #control(): Mailbox {
    const { broadcast } = this.broker;
    if (broadcast === undefined)
      throw new ConfigError(`celery: ${this.broker.address} has no broadcasts, so there is no remote control`);
    const { accept, limits, taskSerializer: serializer, typedJson: typed } = this.#app;
    return (this.#mailbox ??= new Mailbox({
      broadcast,
      clock: new LamportClock(),
      namespace: this.#controlExchange,
      serializer,
      typed,
      decode: { accept: acceptSet(accept), limits },
      log: this.#log,
    }));
  }

  #publication(task: Parameters<typeof taskName>[0], call: AnyCall<EnqueueOptions>, id: string): Publication {
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

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

function idOf(call: EnqueueOptions): string {
  return call.taskId ?? randomUUID();
}

function signatures(link: SignatureLike | readonly SignatureLike[]): readonly unknown[] {
  return (Array.isArray(link) ? (link as readonly SignatureLike[]) : [link as SignatureLike]).map((each) =>
    signatureToMap(readSignature(each)),
  );
}
