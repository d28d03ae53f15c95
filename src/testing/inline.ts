import { randomUUID } from 'node:crypto';
import { exceptionOf } from '../../protocols/celery/outcome/exceptions.ts';
import * as lifecycle from '../../protocols/celery/outcome/lifecycle.ts';
import type { Publication, TaskMessage } from '../../protocols/celery/message/message.ts';
import { decodeMeta, PROPAGATE_STATES, READY_STATES, type TaskMeta } from '../../protocols/celery/outcome/result.ts';
import type { Disposition, Moment, Outcome } from '../../protocols/job.ts';
import type { AnyCall, Call, CallArguments, Client } from '../client.ts';
import { RemoteError, ResultTimeoutError, UnknownTaskError } from '../errors.ts';
import { type Logger, silent } from '../log.ts';
import type { Delivery } from '../source.ts';
import type { Registration, Registry, Task } from '../task.ts';
import { Run } from '../worker/runner.ts';
import { type CallOptions, jobOf, publicationOf, received, type WireOptions } from './call.ts';

/** What is written as which type, and where handlers log. */
export interface InlineOptions extends WireOptions {
  /** How results are written. @default 'json' */
  readonly resultSerializer?: string;
  /** Your error classes as Python's: `{ OutOfStock: 'shop.errors.OutOfStock' }`. */
  readonly exceptions?: Readonly<Record<string, string>>;
  /** What handlers log to. @default nothing is written */
  readonly log?: Logger;
}

/**
 * A client that runs the handler when it enqueues, in this process, and resolves when it has ended:
 *
 *     const now = inline(tasks);
 *     expect(await (await now.enqueue(add, { args: [2, 3] })).get()).toBe(5);
 *
 * Arguments and results take the real way: encoded as the client does, decoded as the worker does, stored and read as results
 * are. What the wire would lose or refuse is lost or refused here. A countdown, an ETA and the delay of a retry are not waited
 * for; retries end at the policy's maximum, as they would. Links and error links run where they have a handler here; the
 * others are left in `sent`.
 */
export class InlineClient implements Client<CallOptions, InlineResult> {
  /** What handlers led to and nobody here handles: links to tasks of the other side. */
  readonly sent: {
    readonly task: string;
    readonly args: readonly unknown[];
    readonly kwargs: Readonly<Record<string, unknown>>;
  }[] = [];
  readonly #tasks: Registry;
  readonly #options: InlineOptions;
  readonly #metas = new Map<string, Buffer>();

  constructor(tasks: Registry, options: InlineOptions) {
    this.#tasks = tasks;
    this.#options = options;
  }

  /** Rejects with UnknownTaskError where nobody handles the task, with WireError for arguments the wire cannot hold. */
  async enqueue<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    ...[call]: CallArguments<A, K, CallOptions>
  ): Promise<InlineResult<R>> {
    return this.#enqueue<R>(task, call ?? {});
  }

  async #enqueue<R>(task: Parameters<typeof publicationOf>[0], call: AnyCall<CallOptions>): Promise<InlineResult<R>> {
    const publication = publicationOf(task, call, this.#options);
    const message = received(publication);
    if (this.#tasks.find('celery', message.task) === undefined) throw new UnknownTaskError('celery', message.task);
    await this.#run(message);
    return this.result<R>(message.id);
  }

  /** One after the other. */
  async enqueueMany<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    calls: readonly Call<A, K, CallOptions>[],
  ): Promise<readonly InlineResult<R>[]> {
    const results: InlineResult<R>[] = [];
    for (const call of calls) results.push(await this.#enqueue<R>(task, call));
    return results;
  }

  /** The result of a task that ran here. */
  result<R = unknown>(id: string): InlineResult<R> {
    return new InlineResult<R>(this, id);
  }

  /** What is stored about a task, read as the real client reads it. */
  async meta(id: string): Promise<TaskMeta | undefined> {
    const stored = this.#metas.get(id);
    return stored === undefined ? undefined : decodeMeta(stored, this.#options.resultSerializer ?? 'json');
  }

  async forget(id: string): Promise<void> {
    this.#metas.delete(id);
  }

  async close(): Promise<void> {}

  /** Everything that follows from one message, to its end: its retries, then its links and theirs. */
  async #run(first: TaskMessage): Promise<void> {
    const waiting = [first];
    for (let runs = 1; ; runs++) {
      const message = waiting.shift();
      if (message === undefined) return;
      if (runs > MOST_RUNS) {
        throw new Error(`inline: '${first.task}' led to more than ${MOST_RUNS} runs; give its retry policy a maximum`);
      }
      const registration = this.#tasks.find('celery', message.task);
      if (registration === undefined) {
        this.sent.push({ task: message.task, args: message.args, kwargs: message.kwargs });
        continue;
      }
      const delivery = new InlineDelivery(message, registration, this.#policy(registration), (id, meta) =>
        this.#store(id, meta),
      );
      await this.#execute(delivery, registration);
      waiting.push(...delivery.published.map(received));
    }
  }

  async #execute(delivery: InlineDelivery, registration: Registration): Promise<void> {
    const { expiresAt } = delivery.job;
    if (expiresAt !== undefined && expiresAt.getTime() < Date.now()) {
      await delivery.settle({ kind: 'expired' });
      return;
    }
    const run = new Run(delivery, 'celery', this.#options.log ?? silent);
    const ended = await run.execute(registration, registration.handler, unwritten);
    // Only a worker that stops gives a job back.
    if (ended === undefined) throw new Error(`inline: '${delivery.job.task}' was given back instead of settled`);
    await delivery.settle(ended);
  }

  #store(id: string, meta: string | Uint8Array): void {
    const stored = this.#metas.get(id);
    const { resultSerializer = 'json' } = this.#options;
    // A SUCCESS stays, as in the real stores.
    if (stored !== undefined && decodeMeta(stored, resultSerializer).status === 'SUCCESS') return;
    this.#metas.set(id, Buffer.from(meta as string));
  }

  #policy({ options }: Registration): lifecycle.CeleryPolicy {
    const { retry, ignoreResult = false, acksLate = false, acksOnFailureOrTimeout = true } = options;
    const { max, delayMs, backoff } = retry ?? {};
    const { exceptions, defaultQueue = 'celery', serializer = 'json', resultSerializer = 'json' } = this.#options;
    return {
      ignoreResult,
      storeErrorsEvenIfIgnored: false,
      acksLate,
      acksOnFailureOrTimeout,
      retry: {
        ...(max === undefined ? {} : { max }),
        ...(delayMs === undefined ? {} : { delayMs }),
        ...(backoff === undefined ? {} : { backoff }),
      },
      resultSerializer,
      resultExtended: false,
      typed: this.#options.typedJson ?? true,
      nodename: 'celery@testing',
      ...(exceptions === undefined ? {} : { exceptions }),
      origin: `gen${process.pid}@testing`,
      replyTo: '',
      route: (_task, signatureOptions) => {
        const queue = signatureOptions.get('queue');
        return { exchange: '', routingKey: typeof queue === 'string' ? queue : defaultQueue };
      },
      taskSerializer: serializer,
      inheritParentPriority: false,
    };
  }
}

/** A client that runs what it enqueues; see `InlineClient`. */
export function inline(tasks: Registry, options: InlineOptions = {}): InlineClient {
  return new InlineClient(tasks, options);
}

/** The result of a task that ran inline: the face of `AsyncResult`. */
export class InlineResult<R = unknown> {
  readonly id: string;
  readonly #client: InlineClient;

  constructor(client: InlineClient, id: string) {
    this.#client = client;
    this.id = id;
  }

  /**
   * The return value. Rejects with RemoteError when the task failed or expired; with ResultTimeoutError, at once, where no
   * result was stored: the task ignores its result, or discarded itself.
   */
  async get(options: { readonly timeoutMs?: number; readonly signal?: AbortSignal } = {}): Promise<R> {
    options.signal?.throwIfAborted();
    const meta = await this.meta();
    if (meta === undefined || !READY_STATES.has(meta.status))
      throw new ResultTimeoutError(this.id, options.timeoutMs ?? 0);
    if (!PROPAGATE_STATES.has(meta.status)) return meta.result as R;
    const { type, module, args } = exceptionOf(meta.result) ?? { type: meta.status, module: undefined, args: [] };
    throw new RemoteError({ type, module: module ?? undefined, args, traceback: meta.traceback });
  }

  async state(): Promise<string> {
    return (await this.meta())?.status ?? 'PENDING';
  }

  meta(): Promise<TaskMeta | undefined> {
    return this.#client.meta(this.id);
  }

  async ready(): Promise<boolean> {
    return READY_STATES.has(await this.state());
  }

  forget(): Promise<void> {
    return this.#client.forget(this.id);
  }
}

const MOST_RUNS = 1000;

/** One message in the hands of its handler, settled by the worker's own rules; what they write goes to `store` and `published`. */
class InlineDelivery implements Delivery {
  readonly job: ReturnType<typeof jobOf>;
  readonly published: Publication[] = [];
  readonly #message: TaskMessage;
  readonly #policy: lifecycle.CeleryPolicy;
  readonly #store: (id: string, meta: string | Uint8Array) => void;

  constructor(
    message: TaskMessage,
    { options }: Registration,
    policy: lifecycle.CeleryPolicy,
    store: (id: string, meta: string | Uint8Array) => void,
  ) {
    this.job = jobOf(message, { timeoutMs: options.timeoutMs, softTimeoutMs: options.softTimeoutMs });
    this.#message = message;
    this.#policy = policy;
    this.#store = store;
  }

  begin(): undefined {
    return undefined;
  }

  async settle(outcome: Outcome): Promise<Disposition> {
    const { disposition, write } = lifecycle.settle(this.#message, outcome, this.#policy, moment());
    for (const { id, meta } of write.results) this.#store(id, meta);
    this.published.push(...write.publish, ...write.errbacks);
    const [problem] = write.problems;
    if (problem !== undefined) throw problem;
    return disposition;
  }

  async release(): Promise<void> {}

  async update(state: string, meta: unknown): Promise<void> {
    const write = lifecycle.custom(this.#message, state, meta, this.#policy);
    this.#store(write.id, write.meta);
  }
}

/** `begin` of an inline delivery writes nothing, so nothing can fail. */
function unwritten(error: unknown): never {
  throw error;
}

function moment(): Moment {
  return { now: new Date(), random: Math.random(), newId: randomUUID };
}
