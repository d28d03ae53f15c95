import type { Push } from '../../../../protocols/celery/schedule/beat.ts';
import type { WireError } from '../../../../protocols/errors.ts';
import type { Publication, WireMessage } from '../../../../protocols/celery/message/message.ts';
import type { ChordCount, CountedMember } from '../../../../protocols/celery/canvas/redis-chord.ts';
import type { Exchange } from '../../../../protocols/redis.ts';
import type { AmqpQueue } from '../../../../protocols/celery/brokers/topology.ts';
import type { Agent } from '../../../source.ts';
import type { Logger } from '../../../log.ts';

/** One message claimed from a broker. The broker can recover it until it is acked, requeued or quarantined. */
export interface Claim {
  readonly queue: string;
  /** The broker's own handle on this claim. */
  readonly tag: string;
  /** The stored bytes, unchanged. */
  readonly bytes: Uint8Array;
  /** Undefined if the envelope itself cannot be read. Then `error` has the reason. */
  readonly message: WireMessage | undefined;
  readonly error: WireError | undefined;
  /** Set if the broker has quarantined the message already: a text that says where it is. */
  readonly kept?: string;
  /** The broker has the message again, and will redeliver it: no handler may start with this claim. This worker may get the claim back. */
  readonly lost?: boolean;
}

/** A queue for broadcasts. It is made for one listener, is removed with it, and is never durable. */
export interface BroadcastQueue {
  /**
   * `pidbox`: requests to one worker, from a fanout exchange. `reply`: replies to the process that sent the request, from a direct exchange.
   * `events`: events, from a topic exchange, or from a fanout exchange if Celery uses one with this broker (Redis).
   */
  readonly kind: BroadcastKind;
  readonly name: string;
  readonly exchange: string;
  /** `''` for `pidbox`; the name of the requesting process for `reply`; `#`, `worker.#` ... for `events`. */
  readonly routingKey: string;
}

export type BroadcastKind = 'pidbox' | 'reply' | 'events';

/** The consumer of a broadcast queue. Neither method may throw. */
export interface BroadcastListener {
  hear(message: WireMessage): void;
  /** A message arrived that cannot be read. It is lost. */
  refuse(error: WireError): void;
}

/** The broker functions that remote control and events need. Nothing is acknowledged. A broadcast without a listener is lost. */
export interface Broadcasting {
  /** Resolves when the queue receives, to a function that ends the subscription and removes the queue. It is renewed after a lost connection. */
  subscribe(queue: BroadcastQueue, listener: BroadcastListener): Promise<() => Promise<void>>;
  /** Publishes to an exchange of this kind. Resolves to the number of receivers, if the broker reports it. */
  send(kind: BroadcastKind, publications: readonly Publication[]): Promise<number | undefined>;
}

/**
 * A queue to consume, with the terms of kombu's `Queue` and `Exchange`. Only the name is required. Other brokers ignore the fields that only
 * RabbitMQ has (arguments, types of queues).
 */
export type QueueSpec = AmqpQueue;

export interface ConsumeOptions {
  /** The most messages that a broker which pushes may send ahead: running and waiting ones together. */
  readonly prefetch: number;
}

/**
 * A message broker as Celery uses it: RabbitMQ, Redis, a folder, memory. Private to this driver: only Celery has a broker that is separate
 * from its results.
 */
export interface CeleryBroker {
  readonly kind: 'redis' | 'filesystem' | 'memory' | 'amqp';
  /** For banners and logs: the URL with a masked password. */
  readonly address: string;
  /** Chores while a worker consumes: refreshing claims, restoring abandoned ones, releasing parked ones. */
  readonly agents: readonly Agent[];
  /** Connect for publishing. Idempotent. */
  open(log: Logger): Promise<void>;
  /** Declare the queues to consume from. Called once, after `open`. */
  consume(queues: readonly QueueSpec[], options: ConsumeOptions): Promise<void>;
  /** Claims up to `max` messages. Waits for at least one. Resolves to [] if `signal` aborts or there is no message for now. */
  receive(max: number, signal: AbortSignal): Promise<readonly Claim[]>;
  /** Resolves when the broker has all of them. They are read one by one, so that many need not be in memory at once. */
  publish(publications: Iterable<Publication>): Promise<void>;
  /** Set `soon` if a handler that may not run twice starts next. */
  ack(claim: Claim, soon?: boolean): Promise<void>;
  /** Rejects a message for good. A broker that can dead-letter does so. Without this method, `ack` is used. */
  reject?(claim: Claim): Promise<void>;
  /** Gives a message back. `front`: it runs next (shutdown, restore). `back`: it runs after the waiting messages (reject with requeue). */
  requeue(claim: Claim, where: 'front' | 'back'): Promise<void>;
  /** Moves a message to the back of its queue with the same bytes. This is never counted as a delivery: a broker that counts returns gets a new message. */
  moveToBack(claim: Claim): Promise<void>;
  /** Quarantines a message with the reason. Resolves to a text that says where it is. */
  quarantine(
    claim: Claim,
    why: { readonly code: string; readonly reason: string; readonly id?: string },
  ): Promise<string>;
  /** The server of a Redis broker, for writes that must be atomic with publishing. */
  readonly redis?: BrokerRedis;
  /** Quarantines a message that no queue takes. Resolves to a text that says where it is. Undefined if a write to a queue always creates it. */
  keep?(publication: Publication, reason: string): Promise<string>;
  /** Keeps a message in the broker, and not in this process, until `at`. Undefined if the broker cannot. */
  park?(claim: Claim, at: Date): Promise<void>;
  /** A message that would be held for more milliseconds than this is parked, however few are held. */
  readonly maxHoldMs?: number;
  /** Changes the `prefetch` that `consume` set. */
  resize?(prefetch: number): void;
  /** Sets the number of messages that are held here for later. A broker that pushes may send as many more. */
  extend?(held: number): void;
  /** Undefined if the broker has no broadcasts. Then there is no remote control, and there are no events. */
  readonly broadcast?: Broadcasting;
  /** Starts or stops to consume one queue. Adding a consumed queue or removing another one changes nothing. Undefined if the broker cannot. */
  addQueue?(queue: QueueSpec): Promise<void>;
  removeQueue?(name: string): Promise<void>;
  /** Revoked ids that are kept without a worker, each with its expiry as unix time. Undefined if the broker does not keep them. */
  readonly revokes?: {
    remember(ids: readonly string[], until: number): Promise<void>;
    recall(): Promise<readonly (readonly [id: string, until: number])[]>;
  };
  /** Ends a waiting receive, and claims nothing more. */
  quiet(): Promise<void>;
  close(): Promise<void>;
}

/** From a task's message: where to send a result that is sent, and not stored. */
export interface ResultRequest {
  readonly replyTo: string | undefined;
  readonly correlationId: string | undefined;
}

/** The Redis of a broker. It is open while the broker is open. */
export interface BrokerRedis {
  /** Prepended to every key of the broker. */
  readonly prefix: string;
  run<Reply>(exchange: Exchange<Reply>): Promise<Reply>;
  /** The pushes that publish a message; undefined for a broadcast, which is not a push. */
  pushes(publication: Publication): Promise<readonly Push[] | undefined>;
}

/** The counter of chords in a result backend. The worker that counts the last member publishes the body. */
export interface ChordCounter {
  /** Records how many members complete the chord of this group. Called before the last member is published. */
  start(group: string, size: number): Promise<void>;
  /** Records an ended member and returns the count, in one atomic step. Repeating it changes nothing. */
  count(group: string, member: CountedMember): Promise<ChordCount>;
  /** The members recorded so far, in the order of the results. */
  members(group: string): Promise<readonly Buffer[]>;
  /** Adds one member to the size. */
  grow(group: string): Promise<void>;
  /** Removes the counter. Called after the body is published. */
  end(group: string): Promise<void>;
}

/** A store of Celery results. A `meta` is the encoded task meta, exactly as stored. */
export interface ResultBackend {
  readonly kind: 'redis' | 'file' | 'memory' | 'rpc' | 'disabled';
  readonly address: string;
  /** Undefined if the backend does not count chords. Then `celery.chord_unlock` polls the results of their members. */
  readonly chords?: ChordCounter;
  open(log: Logger): Promise<void>;
  /** Stores a task's meta and notifies the waiting processes, unless a SUCCESS is stored already. */
  store(id: string, meta: Uint8Array | string, request?: ResultRequest): Promise<void>;
  /** The stored meta, or undefined. */
  fetch(id: string): Promise<Buffer | undefined>;
  fetchMany(ids: readonly string[]): Promise<readonly (Buffer | undefined)[]>;
  /** Calls `listener` with each meta stored for this id from now on. Resolves to a function that ends this, once it listens. */
  watch(id: string, listener: (meta: Buffer) => void): Promise<() => void>;
  forget(id: string): Promise<void>;
  /** For backends that send results: the queue for them, the `reply_to` of the messages that this process publishes. */
  readonly replyTo?: string;
  /** Starts to receive the results that are sent. Call it before a task is published whose result is needed. */
  listen?(): Promise<void>;
  /** Stores a saved group result under its id. */
  storeGroup(groupId: string, meta: string): Promise<void>;
  fetchGroup(groupId: string): Promise<Buffer | undefined>;
  /** Removes expired results, if the store does not do so by itself. */
  cleanup(): Promise<void>;
  close(): Promise<void>;
}
