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
import { checkOptions, wholeNumber } from '../../../check.ts';
import {
  type AnyCall,
  type Call,
  type CallArguments,
  type ClientEvents,
  type ClientMiddleware,
  type Client,
  sendManyThrough,
  sendThrough,
} from '../../../client.ts';
import { ConfigError, ConnectionError } from '../../../errors.ts';
import { Events } from '../../../events.ts';
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
import { CALL_NAMES, checkCall, checkPart, CLIENT_CHECKS, ENQUEUE_CHECKS } from '../option-checks.ts';
import { type CeleryAppOptions, originOf, type PublishRetry, resolveApp, type ResolvedApp } from '../options.ts';
import { callOf, enqueued, envelopeOf, workflowEnvelope } from './envelope.ts';
import { destination, signatureRoute } from './routes.ts';
import type { Signature, SignatureLike, Taking } from '../canvas/signature-types.ts';
import { type EnqueueOptions, inSeconds } from './task-options.ts';
import { wireOptions } from './wire-options.ts';

/** The broker, the result backend, and how tasks are sent. Options of a worker and of a beat are accepted and ignored. */
export interface CeleryClientOptions extends CeleryAppOptions {
  /** Runs around each task that this client sends. The first middleware is the outermost. @default none */
  readonly middleware?: readonly ClientMiddleware[];
  /**
   * Sends again when the broker does not answer: Celery's `task_publish_retry_policy`, in seconds. If the connection is lost before the broker's
   * answer arrives, the task may be sent twice. False sends once. @default { maxRetries: 3, intervalStart: 0, intervalStep: 0.2, intervalMax: 1 }
   */
  readonly taskPublishRetry?: false | PublishRetry;
  /** Shaped like pino's. @default nothing is written */
  readonly log?: Logger;
}

const CHORD_UNLOCK = 'celery.chord_unlock';

/** The number of tasks that `enqueueMany` sends in one round trip. */
const BATCH_SIZE = 1_000;

/**
 * Sends tasks to Celery workers in any language, and waits for their results. Connects at the first call. Throws ConfigError for unknown and for
 * invalid options.
 */
export class CeleryClient implements Client<EnqueueOptions, AsyncResult>, ResultReader {
  /** Emits `job:enqueued` for each task that the broker has taken. */
  readonly events: Events<ClientEvents> = new Events<ClientEvents>();
  readonly broker: CeleryBroker;
  readonly backend: ResultBackend;
  readonly #app: ResolvedApp;
  readonly #log: Logger;
  readonly #origin = originOf();
  readonly #publishRetry: PublishRetry | false;
  readonly #dispatcher: EventDispatcher | undefined;
  readonly #middleware: ClientMiddleware[];
  readonly #controlExchange: string;
  #mailbox: Mailbox | undefined;
  #opened: Promise<void> | undefined;

  constructor(options: CeleryClientOptions) {
    checkPart('celery: CeleryClient', options, CLIENT_CHECKS);
    this.#middleware = [...(options.middleware ?? [])];
    this.#app = resolveApp(options);
    this.#log = options.log ?? silent;
    this.#publishRetry = options.taskPublishRetry ?? {};
    this.broker = brokerFor(options);
    this.backend = backendFor(options);
    if (options.taskSendSentEvent === true && this.broker.broadcast !== undefined)
      this.#dispatcher = new EventDispatcher({
        hostname: this.#origin,
        clock: new LamportClock(),
        broadcast: this.broker.broadcast,
        exchange: options.eventExchange ?? EVENT_EXCHANGE,
        tasks: false,
      });
    this.#controlExchange = options.controlExchange ?? 'celery';
  }

  /**
   * Sends one task. Resolves when the broker has it. Throws ConfigError for an invalid call, WireError `unencodable` for arguments that the
   * serializer cannot write, NotEnqueuedError if a middleware did not pass the task on, and the errors that a middleware throws. Throws
   * ConnectionError when the broker does not answer; it is then unknown whether the task was sent.
   */
  async enqueue<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    ...[given]: CallArguments<A, K, EnqueueOptions>
  ): Promise<AsyncResult<R>> {
    const name = taskName(task, 'celery');
    const call: AnyCall<EnqueueOptions> = given === undefined ? {} : given;
    checkCall(name, call);
    const id = idOf(call);
    if (this.#middleware.length > 0)
      return sendThrough(this.#middleware, envelopeOf(name, call, id), async (envelope) => {
        const last = callOf(envelope);
        await this.#publish(() => [this.#publication(envelope.task, last, id)]);
        return new AsyncResult<R>(this, id);
      });
    await this.#publish(() => [this.#publication(name, call, id)]);
    return new AsyncResult<R>(this, id);
  }

  /**
   * Sends many calls of one task, `batchSize` (1 000) in each round trip. Returns one result for each call, in the same order. Throws the errors of
   * `enqueue`. All calls are checked before anything is sent. Batches that were sent before another error stay sent.
   */
  async enqueueMany<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    calls: readonly Call<A, K, EnqueueOptions>[],
    { batchSize = BATCH_SIZE }: { readonly batchSize?: number } = {},
  ): Promise<readonly AsyncResult<R>[]> {
    const wrong = wholeNumber(1)(batchSize);
    if (wrong !== undefined) throw new ConfigError(`celery: enqueueMany: batchSize ${wrong}, not ${batchSize}`);
    const name = taskName(task, 'celery');
    for (const call of calls) checkCall(name, call);
    const results: AsyncResult<R>[] = [];
    for (let at = 0; at < calls.length; at += batchSize)
      results.push(...(await this.#sendBatch<R>(name, calls.slice(at, at + batchSize))));
    return results;
  }

  /** Adds middleware for the tasks that this client sends from now on. The first middleware added is the outermost. */
  use(middleware: ClientMiddleware): this {
    this.#middleware.push(middleware);
    return this;
  }

  /** The message that `enqueue` would send, for a caller that publishes it itself. No middleware runs and no event is sent. `taskId` is its id. */
  message<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    call: Call<A, K, EnqueueOptions & { readonly taskId: string }>,
  ): Publication {
    const name = taskName(task, 'celery');
    checkCall(name, call);
    return this.#publication(name, call, call.taskId);
  }

  /** The result of a task that was sent earlier, or by another program. */
  result<R = unknown>(id: string): AsyncResult<R> {
    return new AsyncResult<R>(this, id);
  }

  /**
   * Sends a workflow: a signature, chain, group or chord. `options` win over its own. Resolves when the broker has the first tasks. The result is
   * that of the last step of a chain, of the body of a chord, or of all members of a group.
   *
   * Each task that is sent now goes through the middleware and gets a `job:enqueued` event: the first step of a chain, each member of a group, the
   * header of a chord. Later steps travel inside these messages; workers send them. Middleware may change the task's name, arguments, queue, time,
   * headers and most options. It may not change the task's id, its group or its links. A middleware that refuses one member of a group rejects the
   * whole call. Members that were already sent stay sent, so a chord may wait for a member that never comes.
   *
   * Throws WireError `bad-signature`, `no-chords` if the result backend does not support chords, and the errors of `enqueue`.
   */
  async apply<Start, Receipt>(
    canvas: Signature<Start, Receipt> & Taking<Signature<Start, Receipt>, []>,
    options: EnqueueOptions = {},
  ): Promise<Receipt> {
    checkOptions('celery: apply', options, ENQUEUE_CHECKS, CALL_NAMES);
    const { link, linkError, ...others } = options;
    const extra = new Map(wireOptions(others));
    if (link !== undefined) extra.set('link', signatures(link));
    if (linkError !== undefined) extra.set('link_error', signatures(linkError));
    if (canvas.subtask_type === 'group' && (extra.has('link') || extra.has('link_error')))
      throw new ConfigError(
        'celery: a group has no result of its own to link to; link its members, or make it a chord',
      );
    // Built once for all tries, so that a task that is sent again has the same id.
    const { chords, calls, result } = apply(readSignature(canvas), { options: extra }, this.#publisher());
    if (result === undefined) throw new ConfigError('celery: an empty chain has no result');
    const { typedJson: typed } = this.#app;
    // The size of a chord must be stored before its first member can end.
    let counted = false;
    const countChords = async (): Promise<void> => {
      if (!counted) for (const chord of chords) await startChord(this.backend, chord);
      counted = true;
    };
    if (this.#middleware.length === 0) {
      await this.#publish(() => calls.map((call) => encodeTask(call, { typed })), countChords);
    } else {
      // Middleware does not see the task that polls a chord, because it is Celery's own.
      // It is sent last: if a member was refused, it is not sent, so it never waits for that member.
      const watching = calls.filter(({ task }) => task === CHORD_UNLOCK);
      const own = calls.filter(({ task }) => task !== CHORD_UNLOCK).map(workflowEnvelope);
      const tasks = new Map(own.map((task) => [task.envelope, task]));
      await sendManyThrough<unknown>(this.#middleware, [...tasks.keys()], async (batch) => {
        const messages = batch.map((envelope) => tasks.get(envelope)?.publication(typed) as Publication);
        await this.#publish(() => messages, countChords);
        return batch;
      });
      if (watching.length > 0)
        await this.#publish(() => watching.map((call) => encodeTask(call, { typed })), countChords);
    }
    return resultOf(this, result) as Receipt;
  }

  /** A saved group (`GroupResult.save` of Python or of this client). Undefined if none is stored under this id. */
  async group<T extends readonly unknown[] = readonly unknown[]>(groupId: string): Promise<GroupResult<T> | undefined> {
    await this.#open();
    const stored = await this.backend.fetchGroup(groupId);
    return stored === undefined ? undefined : new GroupResult<T>(this, decodeGroupMeta(stored));
  }

  /** Saves results as a group, for Python's `GroupResult.restore(groupId)` and for `group`. */
  async saveGroup(groupId: string, results: readonly AnyResult[]): Promise<void> {
    await this.#open();
    const members = results.map(({ tuple }) => tuple);
    await this.backend.storeGroup(groupId, groupMeta(groupTuple(groupId, members)));
  }

  /**
   * Tells all workers not to run these tasks, and with `terminate` to stop those that run. Resolves when the message is sent; workers do not answer.
   * Throws ConfigError if the broker has no remote control.
   */
  async revoke(
    ids: string | readonly string[],
    { terminate = false, signal = 'SIGTERM' }: Omit<RevokeOptions, 'ancestors'> = {},
  ): Promise<void> {
    await this.#open();
    await this.#control().cast({ method: 'revoke', arguments: { task_id: ids, terminate, signal } });
  }

  /** The stored meta of a task. Undefined means that the task is PENDING, expired, forgotten or was never sent. */
  async meta(id: string): Promise<TaskMeta | undefined> {
    return (await this.metas([id]))[0];
  }

  /** The stored metas of many tasks, in the order of their ids. */
  async metas(ids: readonly string[]): Promise<readonly (TaskMeta | undefined)[]> {
    await this.#open();
    const stored = await this.backend.fetchMany(ids);
    return stored.map((meta) => (meta === undefined ? undefined : this.decode(meta)));
  }

  /** Removes the stored result of a task. */
  async forget(id: string): Promise<void> {
    await this.#open();
    await this.backend.forget(id);
  }

  /** Waits for a meta that `ready` accepts. */
  async wait(id: string, ready: (meta: TaskMeta) => boolean, options: WaitOptions = {}): Promise<TaskMeta> {
    return (await this.waitAll([id], ready, options))[0] as TaskMeta;
  }

  /** Waits for a meta that `ready` accepts for each of these ids, in the same order. An error thrown by `ready` ends the wait. */
  async waitAll(
    ids: readonly string[],
    ready: (meta: TaskMeta) => boolean,
    options: WaitOptions = {},
  ): Promise<readonly TaskMeta[]> {
    await this.#open();
    return awaitMetas(this.backend, ids, { decode: (stored) => this.decode(stored), ready }, options);
  }

  /** Decodes a stored meta. Throws WireError. */
  decode(stored: Buffer): TaskMeta {
    return decodeMeta(stored, this.#app.resultSerializer);
  }

  /** Connects now rather than at the first call. */
  async open(): Promise<void> {
    await this.#open();
  }

  /** Closes the connections. */
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

  /** An error of an event is only logged, because it must not cause the task to be sent again. */
  async #tell(events: EventDispatcher, sent: readonly Publication[]): Promise<void> {
    const told = sent.map(taskSent).filter((event) => event !== undefined);
    await Promise.all(told.map((event) => events.send(event))).catch((error: unknown) =>
      this.#log.debug({ error }, 'an event task-sent could not be sent'),
    );
  }

  /** Sends calls that were already checked, in one round trip. */
  async #sendBatch<R>(task: string, calls: readonly AnyCall<EnqueueOptions>[]): Promise<readonly AsyncResult<R>[]> {
    const ids = calls.map(idOf);
    if (this.#middleware.length > 0)
      return sendManyThrough(
        this.#middleware,
        calls.map((call, at) => envelopeOf(task, call, ids[at] as string)),
        async (batch) => {
          const last = batch.map((envelope) => ({
            task: envelope.task,
            id: envelope.id as string,
            call: callOf(envelope),
          }));
          await this.#publish(() => last.map((one) => this.#publication(one.task, one.call, one.id)));
          return last.map(({ id }) => new AsyncResult<R>(this, id));
        },
      );
    const publications = function* (this: CeleryClient): Iterable<Publication> {
      for (const [at, call] of calls.entries()) yield this.#publication(task, call, ids[at] as string);
    };
    await this.#publish(publications.bind(this));
    return ids.map((id) => new AsyncResult<R>(this, id));
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
        const wanted = this.events.wanted('job:enqueued');
        // If no event needs the messages afterwards, they need not be in memory all at once.
        if (this.#dispatcher === undefined && !wanted) return await this.broker.publish(publications());
        const sent = [...publications()];
        await this.broker.publish(sent);
        if (wanted) for (const publication of sent) this.events.emit('job:enqueued', enqueued(publication));
        return this.#dispatcher === undefined ? undefined : await this.#tell(this.#dispatcher, sent);
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

  #publication(name: string, call: AnyCall<EnqueueOptions>, id: string): Publication {
    const args = (call.args ?? []) as readonly unknown[];
    const kwargs = (call.kwargs ?? {}) as Readonly<Record<string, unknown>>;
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
      priority: call.priority ?? to.priority ?? 0,
    };
    const compression = call.compression ?? this.#app.taskCompression;
    if (compression !== null) fields.compression = compression;
    if (call.countdown !== undefined || call.eta !== undefined)
      fields.eta = isoText(call.eta ?? inSeconds(call.countdown as number));
    if (call.expires !== undefined) {
      const until = typeof call.expires === 'number' ? inSeconds(call.expires) : call.expires;
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

function idOf(call: { readonly taskId?: string }): string {
  return call.taskId ?? randomUUID();
}

function signatures(link: SignatureLike | readonly SignatureLike[]): readonly unknown[] {
  return (Array.isArray(link) ? (link as readonly SignatureLike[]) : [link as SignatureLike]).map((each) =>
    signatureToMap(readSignature(each)),
  );
}
