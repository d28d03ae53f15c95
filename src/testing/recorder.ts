import type { AnyCall, Call, CallArguments, Client } from '../client.ts';
import { ConfigError } from '../errors.ts';
import { type Task, taskName } from '../task.ts';
import { type CallOptions, publicationOf, received, type WireOptions } from './call.ts';

/** What was enqueued: the arguments as a worker would see them, and the options as they were passed. */
export type Recorded<A extends readonly unknown[] = readonly unknown[], K = Readonly<Record<string, unknown>>> = Omit<
  CallOptions,
  'queue'
> & { readonly args: A; readonly kwargs: K; readonly queue: string };

/** What `enqueue` of a recorder gives: the id the call would have had. There is no result to wait for. */
export interface RecordedReceipt<R = unknown> {
  readonly id: string;
  /** Rejects: nothing runs. */
  get(): Promise<R>;
}

interface Entry {
  readonly task: string;
  readonly call: Recorded;
}

/**
 * A client that sends nothing and remembers what it was asked to send:
 *
 *     const tape = recorder();
 *     await placeOrder(tape);
 *     expect(tape.enqueued(charge)).toEqual([{ args: [42], kwargs: {}, queue: 'celery' }]);
 *
 * Every call goes through the encoder and the decoder, so what the wire cannot hold is refused as the real client refuses it,
 * and what it changes is seen changed.
 */
export class Recorder implements Client<CallOptions, RecordedReceipt> {
  readonly #wire: WireOptions;
  #entries: Entry[] = [];

  constructor(wire: WireOptions) {
    this.#wire = wire;
  }

  // Everything that throws here rejects there.
  async enqueue<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    ...[call]: CallArguments<A, K, CallOptions>
  ): Promise<RecordedReceipt<R>> {
    return this.#record<R>(task, call ?? {});
  }

  async enqueueMany<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    calls: readonly Call<A, K, CallOptions>[],
  ): Promise<readonly RecordedReceipt<R>[]> {
    return calls.map((call) => this.#record<R>(task, call));
  }

  /** Every call so far, oldest first; of one task, or of all with their names. */
  enqueued(): readonly (Recorded & { readonly task: string })[];
  enqueued(task: string): readonly Recorded[];
  enqueued<A extends readonly unknown[], K, R>(task: Task<A, K, R>): readonly Recorded<A, K>[];
  enqueued(task?: Parameters<typeof taskName>[0]): readonly Recorded<never, never>[] | readonly Recorded[] {
    if (task === undefined) return this.#entries.map(({ task: name, call }) => ({ task: name, ...call }));
    const name = taskName(task, 'celery');
    return this.#entries.filter((entry) => entry.task === name).map(({ call }) => call);
  }

  clear(): void {
    this.#entries = [];
  }

  async close(): Promise<void> {}

  #record<R>(task: Parameters<typeof taskName>[0], call: AnyCall<CallOptions>): RecordedReceipt<R> {
    const { args: _args, kwargs: _kwargs, queue: _queue, ...options } = call;
    const publication = publicationOf(task, call, this.#wire);
    const message = received(publication);
    const { args, kwargs, id, routingKey } = message;
    this.#entries.push({ task: message.task, call: { args, kwargs, queue: routingKey, ...options } });
    return {
      id,
      get: () =>
        Promise.reject(
          new ConfigError(
            `recorder: '${message.task}' was recorded, not run; use inline(tasks) where a result is needed`,
          ),
        ),
    };
  }
}

/** A client that records; see `Recorder`. */
export function recorder(options: WireOptions = {}): Recorder {
  return new Recorder(options);
}
