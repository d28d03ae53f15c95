import { LamportClock } from '../../../../protocols/celery/control/clock.ts';
import { acceptSet } from '../../../../protocols/celery/message/serializers.ts';
import {
  amount,
  callable,
  type Checks,
  checkOptions,
  names,
  oneOf,
  record,
  text,
  wholeNumber,
} from '../../../check.ts';
import { ConfigError } from '../../../errors.ts';
import { type Logger, silent } from '../../../log.ts';
import type { Broadcasting, CeleryBroker } from '../brokers/broker.ts';
import { brokerFor } from '../connect.ts';
import { checkPart, CONTROL_CHECKS } from '../option-checks.ts';
import { Mailbox } from './mailbox.ts';
import { type CeleryAppOptions, resolveApp } from '../options.ts';

/** Whom to ask, and how long to wait. Without a destination and a pattern, everybody. */
export interface ControlOptions {
  /** Node names: `['celery@host']`. */
  readonly destination?: readonly string[];
  /** Of node names. With `matcher`: `glob` (`celery@*`) or `pcre`. */
  readonly pattern?: string;
  /** @default 'glob' */
  readonly matcher?: 'glob' | 'pcre';
  /** How long to wait for answers. It ends earlier when all have answered that were asked. @default 1 000 */
  readonly timeoutMs?: number;
  /** So many answers are enough. */
  readonly limit?: number;
  /** Aborted, what has come so far is the result. */
  readonly signal?: AbortSignal;
  /** Told of each answer as it comes. */
  readonly onReply?: (node: string, reply: unknown) => void;
}

/** Options of one question to the workers. */
const ASK_CHECKS: Checks<ControlOptions> = {
  destination: names,
  pattern: text,
  matcher: oneOf('glob', 'pcre'),
  timeoutMs: amount('milliseconds', { infinite: true }),
  limit: wholeNumber(1),
  signal: record,
  onReply: callable,
};

/** Answers by node. What a node refuses is `{ error: text }`, as Celery has it. */
export type ControlReplies<Reply = unknown> = ReadonlyMap<string, Reply>;

/** A task in a worker's hands, as workers show it. */
export interface TaskInfo {
  readonly id: string;
  readonly name: string;
  readonly args: unknown;
  readonly kwargs: unknown;
  readonly type: string;
  readonly hostname: string;
  /** Unix seconds; null while it waits. */
  readonly time_start: number | null;
  readonly acknowledged: boolean;
  readonly delivery_info: Readonly<Record<string, unknown>>;
  readonly worker_pid: number | null;
}

/** The broker whose workers are asked. */
export type CeleryControlOptions = CeleryAppOptions & {
  /** Shaped like pino's. @default nothing is written */
  readonly log?: Logger;
};

type Message = { readonly ok: string } | { readonly error: string };

/**
 * Asks and tells workers, whatever their language: `celery inspect` and `celery control` as an object. Connects at the first call.
 * Rejects with ConnectionError when the broker does not answer; a worker that does not answer is missing in the result.
 */
export class CeleryControl implements AsyncDisposable {
  readonly broker: CeleryBroker;
  readonly #mailbox: Mailbox;
  readonly #log: Logger;
  #opened: Promise<void> | undefined;

  constructor(options: CeleryControlOptions) {
    checkPart('celery: CeleryControl', options, CONTROL_CHECKS);
    const app = resolveApp(options);
    this.#log = options.log ?? silent;
    this.broker = brokerFor(options);
    this.#mailbox = new Mailbox({
      broadcast: broadcastOf(this.broker),
      clock: new LamportClock(),
      namespace: options.controlExchange ?? 'celery',
      serializer: app.taskSerializer,
      typed: app.typedJson,
      decode: { accept: acceptSet(app.accept), limits: app.limits },
      log: this.#log,
    });
  }

  /** Any command, by its name on the wire, and the answers. */
  async call(
    method: string,
    args: Readonly<Record<string, unknown>> = {},
    options: ControlOptions = {},
  ): Promise<ControlReplies> {
    checkOptions(`celery: ${method}`, options, ASK_CHECKS);
    await this.open();
    const { timeoutMs = 1_000, limit, signal, onReply } = options;
    const replies = await this.#mailbox.call(
      { method, arguments: args, ...targetOf(options) },
      {
        timeoutMs,
        limit,
        signal,
        onReply: onReply === undefined ? undefined : ([node, reply]) => onReply(node, reply),
      },
    );
    return new Map(replies);
  }

  /** Any command, without waiting for answers. */
  async cast(
    method: string,
    args: Readonly<Record<string, unknown>> = {},
    options: Pick<ControlOptions, 'destination' | 'pattern' | 'matcher'> = {},
  ): Promise<void> {
    checkOptions(`celery: ${method}`, options, ASK_CHECKS);
    await this.open();
    await this.#mailbox.cast({ method, arguments: args, ...targetOf(options) });
  }

  /** Who is there: `{ ok: 'pong' }` of each. */
  ping(options?: ControlOptions): Promise<ControlReplies<{ readonly ok: string }>> {
    return this.#typed('ping', {}, options);
  }
  /** What runs. */
  active(options?: ControlOptions): Promise<ControlReplies<readonly TaskInfo[]>> {
    return this.#typed('active', {}, options);
  }
  /** What was received and does not run yet. */
  reserved(options?: ControlOptions): Promise<ControlReplies<readonly TaskInfo[]>> {
    return this.#typed('reserved', {}, options);
  }
  /** What waits for its time. */
  scheduled(
    options?: ControlOptions,
  ): Promise<
    ControlReplies<readonly { readonly eta: string; readonly priority: number; readonly request: TaskInfo }[]>
  > {
    return this.#typed('scheduled', {}, options);
  }
  /** Ids that shall not run. */
  revoked(options?: ControlOptions): Promise<ControlReplies<readonly string[]>> {
    return this.#typed('revoked', {}, options);
  }
  /** Tasks with a handler, with these attributes of each where they are set. */
  registered(
    taskinfoitems: readonly string[] = [],
    options?: ControlOptions,
  ): Promise<ControlReplies<readonly string[]>> {
    return this.#typed('registered', taskinfoitems.length === 0 ? {} : { taskinfoitems }, options);
  }
  /** Counts, pool, broker and resources, as `celery inspect stats` has them. */
  stats(options?: ControlOptions): Promise<ControlReplies<Readonly<Record<string, unknown>>>> {
    return this.#typed('stats', {}, options);
  }
  /** The queues each consumes. */
  activeQueues(options?: ControlOptions): Promise<ControlReplies<readonly Readonly<Record<string, unknown>>[]>> {
    return this.#typed('active_queues', {}, options);
  }
  /** What each knows of these ids: its state there, and the task. An id that a worker does not know is missing in its answer. */
  queryTask(
    ids: readonly string[],
    options?: ControlOptions,
  ): Promise<ControlReplies<Readonly<Record<string, readonly ['active' | 'reserved' | 'ready', TaskInfo]>>>> {
    return this.#typed('query_task', { ids }, options);
  }

  /**
   * Do not run these tasks any more. With `terminate`, running ones are stopped too: a Node handler's signal aborts, a Python
   * worker kills the process (with `signal`, TERM unless told otherwise).
   */
  revoke(
    ids: string | readonly string[],
    { terminate = false, signal = 'SIGTERM' }: { readonly terminate?: boolean; readonly signal?: string } = {},
    options?: ControlOptions,
  ): Promise<ControlReplies<Message>> {
    return this.#typed('revoke', { task_id: ids, terminate, signal }, options);
  }
  /** As `revoke`, for all tasks with one of these stamps: `{ customer: ['c1', 'c2'] }`. */
  revokeByStampedHeaders(
    headers: Readonly<Record<string, unknown>>,
    { terminate = false, signal = 'SIGTERM' }: { readonly terminate?: boolean; readonly signal?: string } = {},
    options?: ControlOptions,
  ): Promise<ControlReplies<Message>> {
    return this.#typed('revoke_by_stamped_headers', { headers, terminate, signal }, options);
  }
  /** `10` or `'10/s'`, `'100/m'`, `'5/h'`; 0 is none. */
  rateLimit(task: string, limit: number | string, options?: ControlOptions): Promise<ControlReplies<Message>> {
    return this.#typed('rate_limit', { task_name: task, rate_limit: limit }, options);
  }
  /** Seconds. */
  timeLimit(
    task: string,
    { soft, hard }: { readonly soft?: number; readonly hard?: number },
    options?: ControlOptions,
  ): Promise<ControlReplies<Message>> {
    return this.#typed('time_limit', { task_name: task, soft: soft ?? null, hard: hard ?? null }, options);
  }
  /** Consume from one more queue. An answer is there when it is done. */
  addConsumer(queue: string, options?: ControlOptions): Promise<ControlReplies<Message>> {
    return this.#typed('add_consumer', { queue }, options);
  }
  /** Consume from a queue no longer. What was taken from it is run. */
  cancelConsumer(queue: string, options?: ControlOptions): Promise<ControlReplies<Message>> {
    return this.#typed('cancel_consumer', { queue }, options);
  }
  /** Run so many more tasks at once. */
  poolGrow(n = 1, options?: ControlOptions): Promise<ControlReplies<Message>> {
    return this.#typed('pool_grow', { n }, options);
  }
  /** Run so many fewer tasks at once; what runs goes on. */
  poolShrink(n = 1, options?: ControlOptions): Promise<ControlReplies<Message>> {
    return this.#typed('pool_shrink', { n }, options);
  }
  /** Send events of tasks. */
  enableEvents(options?: ControlOptions): Promise<ControlReplies<Message>> {
    return this.#typed('enable_events', {}, options);
  }
  /** Send no more events of tasks. */
  disableEvents(options?: ControlOptions): Promise<ControlReplies<Message>> {
    return this.#typed('disable_events', {}, options);
  }
  /** Stop when what runs is done. Workers do not answer this. */
  shutdown(options?: Pick<ControlOptions, 'destination' | 'pattern' | 'matcher'>): Promise<void> {
    return this.cast('shutdown', {}, options);
  }

  /** Connect now rather than at the first call. */
  open(): Promise<void> {
    return (this.#opened ??= this.broker.open(this.#log).catch((error: unknown) => {
      this.#opened = undefined;
      throw error;
    }));
  }

  /** Close the connection. */
  async close(): Promise<void> {
    if (this.#opened === undefined) return;
    await this.#opened.catch(() => undefined);
    this.#opened = undefined;
    await this.#mailbox.close();
    await this.broker.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #typed<Reply>(
    method: string,
    args: Readonly<Record<string, unknown>>,
    options?: ControlOptions,
  ): Promise<ControlReplies<Reply>> {
    return (await this.call(method, args, options)) as ControlReplies<Reply>;
  }
}

/** What carries broadcasts, or a ConfigError that says who does. */
export function broadcastOf(broker: CeleryBroker): Broadcasting {
  if (broker.broadcast !== undefined) return broker.broadcast;
  throw new ConfigError(
    `celery: ${broker.address} carries no remote control and no events; brokers on Redis and AMQP do`,
  );
}

function targetOf({
  destination,
  pattern,
  matcher = 'glob',
}: Pick<ControlOptions, 'destination' | 'pattern' | 'matcher'>): {
  readonly destination?: readonly string[];
  readonly pattern?: string;
  readonly matcher?: string;
} {
  return {
    ...(destination === undefined ? {} : { destination }),
    ...(pattern === undefined ? {} : { pattern, matcher }),
  };
}
