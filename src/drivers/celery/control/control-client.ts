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

/** Which workers to ask, and how long to wait. Without `destination` and `pattern`, all workers are asked. */
export interface ControlOptions {
  /** Node names: `['celery@host']`. */
  readonly destination?: readonly string[];
  /** A pattern for node names. With `matcher`: `glob` (`celery@*`) or `pcre`. */
  readonly pattern?: string;
  /** @default 'glob' */
  readonly matcher?: 'glob' | 'pcre';
  /** How long to wait for answers. The call ends earlier when all workers that were asked have answered. @default 1 000 */
  readonly timeoutMs?: number;
  /** The call ends after this number of answers. */
  readonly limit?: number;
  /** When it aborts, the result is the answers so far. */
  readonly signal?: AbortSignal;
  /** Called for each answer as it comes. */
  readonly onReply?: (node: string, reply: unknown) => void;
}

/** Checks for the options of one request to the workers. */
const ASK_CHECKS: Checks<ControlOptions> = {
  destination: names,
  pattern: text,
  matcher: oneOf('glob', 'pcre'),
  timeoutMs: amount('milliseconds', { infinite: true }),
  limit: wholeNumber(1),
  signal: record,
  onReply: callable,
};

/** Answers by node. If a node refuses a request, its answer is `{ error: text }`, as in Celery. */
export type ControlReplies<Reply = unknown> = ReadonlyMap<string, Reply>;

/** A task that a worker has received, as workers show it. */
export interface TaskInfo {
  readonly id: string;
  readonly name: string;
  readonly args: unknown;
  readonly kwargs: unknown;
  readonly type: string;
  readonly hostname: string;
  /** Unix seconds; null while the task does not run yet. */
  readonly time_start: number | null;
  readonly acknowledged: boolean;
  readonly delivery_info: Readonly<Record<string, unknown>>;
  readonly worker_pid: number | null;
}

/** The broker of the workers to ask. */
export type CeleryControlOptions = CeleryAppOptions & {
  /** Shaped like pino's. @default nothing is written */
  readonly log?: Logger;
};

type Message = { readonly ok: string } | { readonly error: string };

/**
 * Sends requests and commands to workers in any language: `celery inspect` and `celery control` as an object. Connects at the first call.
 * Rejects with ConnectionError when the broker does not answer. A worker that does not answer is missing in the result.
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

  /** Sends any command, by its name on the wire, and returns the answers. */
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

  /** Sends any command and does not wait for answers. */
  async cast(
    method: string,
    args: Readonly<Record<string, unknown>> = {},
    options: Pick<ControlOptions, 'destination' | 'pattern' | 'matcher'> = {},
  ): Promise<void> {
    checkOptions(`celery: ${method}`, options, ASK_CHECKS);
    await this.open();
    await this.#mailbox.cast({ method, arguments: args, ...targetOf(options) });
  }

  /** Asks each worker whether it is alive; the answer is `{ ok: 'pong' }`. */
  ping(options?: ControlOptions): Promise<ControlReplies<{ readonly ok: string }>> {
    return this.#typed('ping', {}, options);
  }
  /** Tasks that run. */
  active(options?: ControlOptions): Promise<ControlReplies<readonly TaskInfo[]>> {
    return this.#typed('active', {}, options);
  }
  /** Tasks that were received and do not run yet. */
  reserved(options?: ControlOptions): Promise<ControlReplies<readonly TaskInfo[]>> {
    return this.#typed('reserved', {}, options);
  }
  /** Tasks that wait for their eta. */
  scheduled(
    options?: ControlOptions,
  ): Promise<
    ControlReplies<readonly { readonly eta: string; readonly priority: number; readonly request: TaskInfo }[]>
  > {
    return this.#typed('scheduled', {}, options);
  }
  /** Ids of revoked tasks. */
  revoked(options?: ControlOptions): Promise<ControlReplies<readonly string[]>> {
    return this.#typed('revoked', {}, options);
  }
  /** Tasks with a handler. `taskinfoitems` are attributes to show for each task where they are set. */
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
  /** The queues that each worker consumes. */
  activeQueues(options?: ControlOptions): Promise<ControlReplies<readonly Readonly<Record<string, unknown>>[]>> {
    return this.#typed('active_queues', {}, options);
  }
  /** The state of each id in each worker, and the task. The answer of a worker has only the ids that this worker has received. */
  queryTask(
    ids: readonly string[],
    options?: ControlOptions,
  ): Promise<ControlReplies<Readonly<Record<string, readonly ['active' | 'reserved' | 'ready', TaskInfo]>>>> {
    return this.#typed('query_task', { ids }, options);
  }

  /**
   * Revokes tasks, so that workers do not run them. With `terminate`, running tasks are stopped too: in Node the signal of the handler aborts,
   * a Python worker kills the process (with `signal`, by default TERM).
   */
  revoke(
    ids: string | readonly string[],
    { terminate = false, signal = 'SIGTERM' }: { readonly terminate?: boolean; readonly signal?: string } = {},
    options?: ControlOptions,
  ): Promise<ControlReplies<Message>> {
    return this.#typed('revoke', { task_id: ids, terminate, signal }, options);
  }
  /** Like `revoke`, for all tasks that have one of these stamps: `{ customer: ['c1', 'c2'] }`. */
  revokeByStampedHeaders(
    headers: Readonly<Record<string, unknown>>,
    { terminate = false, signal = 'SIGTERM' }: { readonly terminate?: boolean; readonly signal?: string } = {},
    options?: ControlOptions,
  ): Promise<ControlReplies<Message>> {
    return this.#typed('revoke_by_stamped_headers', { headers, terminate, signal }, options);
  }
  /** Sets the rate limit of a task: `10` or `'10/s'`, `'100/m'`, `'5/h'`. 0 removes the limit. */
  rateLimit(task: string, limit: number | string, options?: ControlOptions): Promise<ControlReplies<Message>> {
    return this.#typed('rate_limit', { task_name: task, rate_limit: limit }, options);
  }
  /** Sets the time limits of a task, in seconds. */
  timeLimit(
    task: string,
    { soft, hard }: { readonly soft?: number; readonly hard?: number },
    options?: ControlOptions,
  ): Promise<ControlReplies<Message>> {
    return this.#typed('time_limit', { task_name: task, soft: soft ?? null, hard: hard ?? null }, options);
  }
  /** Starts to consume from one more queue. A worker answers when it consumes. */
  addConsumer(queue: string, options?: ControlOptions): Promise<ControlReplies<Message>> {
    return this.#typed('add_consumer', { queue }, options);
  }
  /** Stops consuming from a queue. Tasks that were already taken from it are run. */
  cancelConsumer(queue: string, options?: ControlOptions): Promise<ControlReplies<Message>> {
    return this.#typed('cancel_consumer', { queue }, options);
  }
  /** Raises the number of tasks that run at once by `n`. */
  poolGrow(n = 1, options?: ControlOptions): Promise<ControlReplies<Message>> {
    return this.#typed('pool_grow', { n }, options);
  }
  /** Lowers the number of tasks that run at once by `n`. Running tasks continue. */
  poolShrink(n = 1, options?: ControlOptions): Promise<ControlReplies<Message>> {
    return this.#typed('pool_shrink', { n }, options);
  }
  /** Switches task events on. */
  enableEvents(options?: ControlOptions): Promise<ControlReplies<Message>> {
    return this.#typed('enable_events', {}, options);
  }
  /** Switches task events off. */
  disableEvents(options?: ControlOptions): Promise<ControlReplies<Message>> {
    return this.#typed('disable_events', {}, options);
  }
  /** Stops workers after their running tasks have ended. Workers do not answer this command. */
  shutdown(options?: Pick<ControlOptions, 'destination' | 'pattern' | 'matcher'>): Promise<void> {
    return this.cast('shutdown', {}, options);
  }

  /** Connects now rather than at the first call. */
  open(): Promise<void> {
    return (this.#opened ??= this.broker.open(this.#log).catch((error: unknown) => {
      this.#opened = undefined;
      throw error;
    }));
  }

  /** Closes the connection. */
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

/** The broker's broadcasts. Throws a ConfigError that names the brokers with broadcasts, if this broker has none. */
export function broadcastOf(broker: CeleryBroker): Broadcasting {
  if (broker.broadcast !== undefined) return broker.broadcast;
  throw new ConfigError(
    `celery: ${broker.address} supports no remote control and no events; use a broker on Redis or AMQP`,
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
