import type { Exchange } from '../protocols/redis.ts';
import { JobglotError } from './errors.ts';
import type { Events } from './events.ts';
import type { Task } from './task.ts';

/**
 * One call of a task: its arguments, with the system's own options beside them. Arguments and keywords that the task requires must be present; others
 * may be left out. A task that is named by a string, or declared without types, takes any.
 */
export type Call<A extends readonly unknown[], K, Options> = Positional<A> & Keywords<K> & Options;

/** What `enqueue` takes after the task. A call may be left out where the task needs neither arguments nor keywords. */
export type CallArguments<A extends readonly unknown[], K, Options> = [] extends A
  ? Empty extends K
    ? [call?: Call<A, K, Options>]
    : [call: Call<A, K, Options>]
  : [call: Call<A, K, Options>];

/** A call of a task whose types are not known: a client makes a message from it. Every `Call` is one. */
export type AnyCall<Options> = { readonly args?: readonly unknown[]; readonly kwargs?: unknown } & Options;

/** Added to the options of a system whose jobs have positional arguments only: a call with keywords does not compile. */
export interface NoKeywords {
  readonly kwargs?: never;
}

/** The type of no keywords: where it is assignable to K, keywords may be left out. */
type Empty = Readonly<Record<never, never>>;
type Positional<A extends readonly unknown[]> = [] extends A
  ? { readonly args?: NoInfer<Readonly<A>> }
  : { readonly args: NoInfer<Readonly<A>> };
// Named here, because inside the condition the compiler would read its `unknown` as K.
type AnyKeywords = { readonly kwargs?: Readonly<Record<string, unknown>> };
type Keywords<K> = unknown extends K
  ? AnyKeywords
  : Empty extends K
    ? { readonly kwargs?: NoInfer<K> }
    : { readonly kwargs: NoInfer<K> };

/** The producer: one method. The options are the system's own, under the system's own names. */
export interface Client<Options, Receipt> extends AsyncDisposable {
  /**
   * Send a job. Resolves when the broker has it. Rejects with ConnectionError where the broker does not answer, with ConfigError for options that are
   * wrong.
   */
  enqueue<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    ...call: CallArguments<A, K, Options>
  ): Promise<Receipt>;
  readonly events: Events<ClientEvents>;
  /** Send many calls of one task in few round trips. Returns one receipt for each call, in their order. Calls sent before an error stay sent. */
  enqueueMany<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    calls: readonly Call<A, K, Options>[],
    options?: { readonly batchSize?: number },
  ): Promise<readonly Receipt[]>;
  /** Add middleware around what this client sends from now on. The first one added is the outermost. */
  use(middleware: ClientMiddleware): this;
  /** Close the connections. */
  close(): Promise<void>;
}

/** A connection to Redis as a client uses it. `jobglot/testing` gives a client one that keeps everything in memory. */
export interface RedisLink {
  readonly ready: boolean;
  connect(): Promise<void>;
  run<Reply>(exchange: Exchange<Reply>): Promise<Reply>;
  batchPerTick<Item>(build: (items: readonly Item[]) => Exchange<void>): (item: Item) => Promise<void>;
  onReady(listener: () => void): void;
  close(): Promise<void>;
}

/**
 * A job before it is sent, in fields that mean the same in every system. A middleware may change the fields that are not read-only. The client sends
 * the values they have after the last middleware.
 */
export interface Envelope {
  readonly system: string;
  /** The id the job will have, where the client gives one. */
  readonly id: string | undefined;
  /** The task's name on the wire. */
  task: string;
  args: readonly unknown[];
  kwargs: Readonly<Record<string, unknown>>;
  /** Undefined: the system's routes or the client's default decide. */
  queue: string | undefined;
  /** The earliest time to run it; undefined: now. */
  at: Date | undefined;
  /**
   * Metadata sent with the job beside its arguments, for `Job.headers` in the worker. Celery: message headers. Sidekiq and Resque: top-level members.
   * RQ: `meta`.
   */
  readonly headers: Record<string, unknown>;
  /** The system's own options of this call, by their own names. */
  readonly options: Record<string, unknown>;
}

/**
 * A function around sending. Call `next()` once and return its value, or a value of the same shape. Throw to refuse the job. Where `next` is never
 * called and nothing is returned, `enqueue` rejects with NotEnqueuedError (Sidekiq: its receipt has `halted`).
 */
export type ClientMiddleware = (envelope: Envelope, next: () => Promise<unknown>) => unknown;

/** The events of a client. Each is also published on `diagnostics_channel` as `jobglot:<name>`. */
export interface ClientEvents {
  /** The broker has the job. */
  'job:enqueued': {
    readonly system: string;
    readonly id: string | undefined;
    readonly task: string;
    readonly queue: string | undefined;
    /** The earliest time to run it. */
    readonly at: Date | undefined;
  };
}

/** A client middleware did not pass the job on: nothing was sent. */
export class NotEnqueuedError extends JobglotError {
  override readonly name: string = 'NotEnqueuedError';
  constructor(system: string, task: string) {
    super('not-enqueued', `${system}: '${task}' was not enqueued: a client middleware did not call next()`);
  }
}

/**
 * Sends one envelope through middleware, the first one outermost. Resolves with the return value of the outermost middleware, or with `halted()`
 * where nothing was sent and nothing returned. Rejects with the error of a middleware or of `send`.
 */
export async function sendThrough<Receipt>(
  middleware: readonly ClientMiddleware[],
  envelope: Envelope,
  send: (envelope: Envelope) => Promise<Receipt>,
  halted: (envelope: Envelope) => Receipt = notEnqueued,
): Promise<Receipt> {
  let sent = false;
  let own: Receipt | undefined;
  const call = async (index: number): Promise<unknown> => {
    const layer = middleware[index];
    if (layer === undefined) {
      sent = true;
      own = await send(envelope);
      return own;
    }
    let called = false;
    return layer(envelope, () => {
      if (called) return Promise.reject(new Error('next() was called twice in one client middleware'));
      called = true;
      return call(index + 1);
    });
  };
  const receipt = await call(0);
  if (receipt !== undefined) return receipt as Receipt;
  // A middleware that awaits next() and returns nothing lets the receipt pass.
  return sent ? (own as Receipt) : halted(envelope);
}

/**
 * Sends each of many envelopes through middleware. Envelopes that leave the last middleware in one turn of the event loop are sent together, in their
 * order. So a middleware that passes one envelope after another works, too. Resolves with a receipt for each envelope. Rejects with the first error,
 * once every envelope has ended; envelopes that were sent stay sent.
 */
export async function sendManyThrough<Receipt>(
  middleware: readonly ClientMiddleware[],
  envelopes: readonly Envelope[],
  send: (batch: readonly Envelope[]) => Promise<readonly Receipt[]>,
  halted: (envelope: Envelope) => Receipt = notEnqueued,
): Promise<readonly Receipt[]> {
  interface Waiting {
    readonly at: number;
    readonly envelope: Envelope;
    readonly resolve: (receipt: Receipt) => void;
    readonly reject: (error: unknown) => void;
  }
  let waiting: Waiting[] = [];
  const flush = async (): Promise<void> => {
    const batch = waiting.sort((a, b) => a.at - b.at);
    waiting = [];
    try {
      const receipts = await send(batch.map(({ envelope }) => envelope));
      for (const [index, { resolve }] of batch.entries()) resolve(receipts[index] as Receipt);
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  };
  const ends = await Promise.allSettled(
    envelopes.map((one, at) =>
      sendThrough(
        middleware,
        one,
        (envelope) =>
          new Promise<Receipt>((resolve, reject) => {
            if (waiting.length === 0) setImmediate(() => void flush());
            waiting.push({ at, envelope, resolve, reject });
          }),
        halted,
      ),
    ),
  );
  return ends.map((end) => {
    if (end.status === 'rejected') throw end.reason;
    return end.value;
  });
}

function notEnqueued({ system, task }: Envelope): never {
  throw new NotEnqueuedError(system, task);
}
