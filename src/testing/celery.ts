import { randomUUID } from 'node:crypto';
import { decodeEnvelope, encodeEnvelope } from '../../protocols/celery/brokers/envelope.ts';
import { decodeTask, type Publication, type TaskMessage, toJob } from '../../protocols/celery/message/message.ts';
import { acceptSet, defaultLimits } from '../../protocols/celery/message/serializers.ts';
import * as lifecycle from '../../protocols/celery/outcome/lifecycle.ts';
import type { TaskMeta } from '../../protocols/celery/outcome/result.ts';
import type { Disposition, Moment, Outcome } from '../../protocols/job.ts';
import type { Claim, CeleryBroker } from '../drivers/celery/brokers/broker.ts';
import { CeleryClient, type CeleryClientOptions } from '../drivers/celery/client/client.ts';
import type { EnqueueOptions } from '../drivers/celery/client/task-options.ts';
import { MemoryResults } from '../drivers/celery/results/memory.ts';
import { ConfigError, ResultTimeoutError } from '../errors.ts';
import type { Delivery } from '../source.ts';
import type { Registration, Registry } from '../task.ts';
import { type InlineRun, type InlineSettings, Runs } from './runs.ts';
import { ENQUEUES, type Enqueued, Tape } from './tape.ts';

/** How calls are written: the settings of the application that is tested. */
export interface WireOptions {
  /** @default 'json' */
  readonly serializer?: string;
  /** Write dates, Decimals, UUIDs and bytes as kombu >= 5.3 does. @default true */
  readonly typedJson?: boolean;
  /** The queue of calls that name none. @default 'celery' */
  readonly defaultQueue?: string;
}

/** The options of a client that need no broker, some under a shorter name. */
export type CeleryTestOptions = WireOptions & Partial<Omit<CeleryClientOptions, 'broker' | 'backend'>>;
type WaitOptions = Parameters<CeleryClient['waitAll']>[2];

/**
 * A `CeleryClient` that sends nothing and remembers what it would send:
 *
 *     const tape = recorder();
 *     await placeOrder(tape);
 *     expect(tape.enqueued(charge)).toEqual([{ args: [42], kwargs: {}, queue: 'celery' }]);
 *
 * Every call goes through the checks and the encoder of the client, and through the decoder of a worker: what the wire cannot hold is refused as
 * the client refuses it, and what the wire changes is seen changed.
 */
export class CeleryRecorder extends CeleryClient {
  readonly enqueued: Enqueued<EnqueueOptions>;
  readonly #tape: Tape<EnqueueOptions>;

  constructor(options: CeleryTestOptions = {}) {
    const tape = new Tape<EnqueueOptions>('celery');
    super(
      appOf(options, async (publications) => {
        for (const { task, args, kwargs, routingKey } of publications.map(received))
          tape.record({ task, args, kwargs, queue: routingKey });
      }),
    );
    this.#tape = tape;
    this.enqueued = tape.enqueued;
    tape.follow(this, ENQUEUES);
  }

  /** Rejects: nothing runs. */
  override waitAll(ids: readonly string[]): Promise<never> {
    return Promise.reject(
      new ConfigError(`recorder: ${ids.join(', ')} was recorded, not run; use inline(tasks) where a result is needed`),
    );
  }

  /** Forget what was enqueued. */
  clear(): void {
    this.#tape.clear();
  }
}

/** What an inline client of Celery is told beside the options of its client. */
export interface CeleryInlineSettings extends InlineSettings {
  /** Your error classes as Python's: `{ OutOfStock: 'shop.errors.OutOfStock' }`. */
  readonly exceptions?: Readonly<Record<string, string>>;
}

/**
 * A `CeleryClient` that runs the handler when it enqueues, in this process, and resolves when it has ended:
 *
 *     const now = inline(tasks);
 *     expect(await (await now.enqueue(add, { args: [2, 3] })).get()).toBe(5);
 *
 * Arguments and results take the real way: encoded as the client does, decoded as the worker does, stored and read as results
 * are. What the wire would lose or refuse is lost or refused here. A countdown, an ETA and the delay of a retry are not waited
 * for; retries end at the policy's maximum, as they would. Links and error links run where they have a handler here; the
 * others are left in `sent`. A result that is not stored (the task ignores its result, or discarded itself) is not waited for: `get` rejects with
 * ResultTimeoutError at once.
 */
export class CeleryInline extends CeleryClient {
  /** Every run so far, oldest first. */
  readonly runs: readonly InlineRun[];
  /** What handlers led to and has no handler here: links to tasks of another program. */
  readonly sent: {
    readonly task: string;
    readonly args: readonly unknown[];
    readonly kwargs: Readonly<Record<string, unknown>>;
  }[] = [];

  constructor(tasks: Registry, { log, exceptions, ...options }: CeleryTestOptions & CeleryInlineSettings = {}) {
    const runs = new Runs('celery', tasks, log);
    const sent: CeleryInline['sent'] = [];
    const results = new MemoryResults(randomUUID());
    super({
      ...appOf(options, async (publications) => {
        const first = publications.map(received);
        for (const { task } of first) runs.find(task);
        await runs.toTheEnd(first, run, ({ task }) => task);
      }),
      backend: results,
    });
    this.runs = runs.all;
    this.sent = sent;

    async function run(message: TaskMessage): Promise<readonly TaskMessage[]> {
      const { task, args, kwargs } = message;
      if (tasks.find('celery', task) === undefined) {
        sent.push({ task, args, kwargs });
        return [];
      }
      const registration = runs.find(task);
      const policy = policyOf(registration, options, exceptions);
      const delivery = new InlineDelivery(message, registration, policy, (id, meta) => results.store(id, meta));
      const { expiresAt } = delivery.job;
      const expired = expiresAt !== undefined && expiresAt.getTime() < Date.now();
      await runs.run(delivery, registration, expired ? { kind: 'expired' } : undefined);
      return delivery.published.map(received);
    }
  }

  /** The stored metas. Rejects with ResultTimeoutError, at once, where one is not ready. */
  override async waitAll(
    ids: readonly string[],
    ready: (meta: TaskMeta) => boolean,
    options: WaitOptions = {},
  ): Promise<readonly TaskMeta[]> {
    options.signal?.throwIfAborted();
    const metas = await this.metas(ids);
    return metas.map((meta, at) => {
      if (meta === undefined || !ready(meta)) throw new ResultTimeoutError(ids[at] as string, options.timeoutMs ?? 0);
      return meta;
    });
  }
}

function appOf(
  { serializer, defaultQueue, ...options }: CeleryTestOptions,
  publish: (publications: readonly Publication[]) => Promise<void>,
): CeleryClientOptions {
  return {
    ...options,
    ...(serializer === undefined ? {} : { taskSerializer: serializer }),
    ...(defaultQueue === undefined ? {} : { taskDefaultQueue: defaultQueue }),
    broker: new TestBroker(publish),
    backend: new MemoryResults(randomUUID()),
    taskPublishRetry: false,
  };
}

/** A broker that only publishes. */
class TestBroker implements CeleryBroker {
  readonly kind = 'memory';
  readonly address = 'memory://testing';
  readonly agents = [];
  readonly #publish: (publications: readonly Publication[]) => Promise<void>;

  constructor(publish: (publications: readonly Publication[]) => Promise<void>) {
    this.#publish = publish;
  }

  publish(publications: Iterable<Publication>): Promise<void> {
    return this.#publish([...publications]);
  }

  async open(): Promise<void> {}
  async consume(): Promise<void> {}
  async receive(): Promise<readonly Claim[]> {
    return [];
  }
  async ack(): Promise<void> {}
  async requeue(): Promise<void> {}
  async moveToBack(): Promise<void> {}
  async quarantine(): Promise<string> {
    return 'nowhere';
  }
  async quiet(): Promise<void> {}
  async close(): Promise<void> {}
}

/** What a worker reads of a publication, after its bytes were an item of a broker. */
function received(publication: Publication): TaskMessage {
  const envelope = Buffer.from(encodeEnvelope(publication, randomUUID()));
  // Read in the form it was written in: a test's own calls need no accept list.
  return decodeTask(decodeEnvelope(envelope), { accept: acceptSet([publication.contentType]), limits: defaultLimits });
}

function policyOf(
  { options }: Registration,
  app: CeleryTestOptions,
  exceptions: CeleryInlineSettings['exceptions'],
): lifecycle.CeleryPolicy {
  const { retry, ignoreResult = false, acksLate = false, acksOnFailureOrTimeout = true } = options;
  const { max, delayMs, backoff } = retry ?? {};
  const { taskDefaultQueue = 'celery', taskSerializer = 'json' } = app;
  const { defaultQueue = taskDefaultQueue, serializer = taskSerializer } = app;
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
    resultSerializer: app.resultSerializer ?? 'json',
    resultExtended: false,
    typed: app.typedJson ?? true,
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

/** One message in the hands of its handler, settled by the worker's own rules; what they write goes to `store` and `published`. */
class InlineDelivery implements Delivery {
  readonly job: ReturnType<typeof toJob>;
  readonly published: Publication[] = [];
  readonly #message: TaskMessage;
  readonly #policy: lifecycle.CeleryPolicy;
  readonly #store: (id: string, meta: string | Uint8Array) => Promise<void>;

  constructor(
    message: TaskMessage,
    { options: { timeoutMs, softTimeoutMs } }: Registration,
    policy: lifecycle.CeleryPolicy,
    store: (id: string, meta: string | Uint8Array) => Promise<void>,
  ) {
    this.job = toJob(message, message.routingKey, { timeoutMs, softTimeoutMs });
    this.#message = message;
    this.#policy = policy;
    this.#store = store;
  }

  begin(): undefined {
    return undefined;
  }

  async settle(outcome: Outcome): Promise<Disposition> {
    const { disposition, write } = lifecycle.settle(this.#message, outcome, this.#policy, moment());
    for (const { id, meta } of write.results) await this.#store(id, meta);
    this.published.push(...write.publish, ...write.errbacks);
    const [problem] = write.problems;
    if (problem !== undefined) throw problem;
    return disposition;
  }

  async release(): Promise<void> {}

  async update(state: string, meta: unknown): Promise<void> {
    const write = lifecycle.custom(this.#message, state, meta, this.#policy);
    await this.#store(write.id, write.meta);
  }
}

function moment(): Moment {
  return { now: new Date(), random: Math.random(), newId: randomUUID };
}
