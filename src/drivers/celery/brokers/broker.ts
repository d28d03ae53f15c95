import type { Push } from '../../../../protocols/celery/schedule/beat.ts';
import type { WireError } from '../../../../protocols/errors.ts';
import type { Publication, WireMessage } from '../../../../protocols/celery/message/message.ts';
import type { ChordCount, CountedMember } from '../../../../protocols/celery/canvas/redis-chord.ts';
import type { Exchange } from '../../../../protocols/redis.ts';
import type { AmqpQueue } from '../../../../protocols/celery/brokers/topology.ts';
import type { Agent } from '../../../source.ts';
import type { Logger } from '../../../log.ts';

/** One message claimed from a broker, recoverable from there until it is acked, requeued or quarantined. */
export interface Claim {
  readonly queue: string;
  /** The broker's own handle on this claim. */
  readonly tag: string;
  /** The stored bytes, as they were. */
  readonly bytes: Uint8Array;
  /** Undefined when the envelope itself cannot be read; then `error` says why. */
  readonly message: WireMessage | undefined;
  readonly error: WireError | undefined;
  /** Set when the broker has put the message aside already: the words that tell a person where it is. */
  readonly kept?: string;
  /** The broker has the message again, and delivers it anew: nothing may start with this claim. It may come back. */
  readonly lost?: boolean;
}

/** A queue of broadcasts: made for who listens, gone with them, never kept. */
export interface BroadcastQueue {
  /**
   * `pidbox`: requests to one worker, from a fanout exchange. `reply`: replies to who asked, from a direct one. `events`: from a
   * topic exchange, or fanout where the broker says so in Celery (Redis).
   */
  readonly kind: BroadcastKind;
  readonly name: string;
  readonly exchange: string;
  /** `''` for `pidbox`; for `reply` the name of who asked; for `events` `#`, `worker.#` ... */
  readonly routingKey: string;
}

export type BroadcastKind = 'pidbox' | 'reply' | 'events';

/** What hears a broadcast queue. Neither may throw. */
export interface BroadcastListener {
  hear(message: WireMessage): void;
  /** Something came that cannot be read. It is gone. */
  refuse(error: WireError): void;
}

/** What remote control and events need of a broker: nothing is acknowledged, and what nobody hears is lost. */
export interface Broadcasting {
  /** Resolves when the queue hears, to a function that ends it and takes the queue away. It goes on after a lost connection. */
  subscribe(queue: BroadcastQueue, listener: BroadcastListener): Promise<() => Promise<void>>;
  /** Publish to an exchange of this kind. Resolves to how many heard it, where the broker says so. */
  send(kind: BroadcastKind, publications: readonly Publication[]): Promise<number | undefined>;
}

/**
 * A queue to consume, in the words of kombu's `Queue` and `Exchange`. Its name is enough; what only RabbitMQ knows (arguments, types of
 * queues) other brokers do not look at.
 */
export type QueueSpec = AmqpQueue;

export interface ConsumeOptions {
  /** Messages that a broker which pushes may send ahead: running and waiting ones together. */
  readonly prefetch: number;
}

/**
 * The Celery side of a message broker: RabbitMQ, Redis, a folder, memory. Private to this driver: only Celery has a broker apart
 * from its results.
 */
export interface CeleryBroker {
  readonly kind: 'redis' | 'filesystem' | 'memory' | 'amqp';
  /** For banners and logs: the URL with its password masked. */
  readonly address: string;
  /** Chores while a worker consumes: refreshing claims, restoring abandoned ones, releasing parked ones. */
  readonly agents: readonly Agent[];
  /** Connect for publishing. Idempotent. */
  open(log: Logger): Promise<void>;
  /** Declare the queues to consume from. Called once, after `open`. */
  consume(queues: readonly QueueSpec[], options: ConsumeOptions): Promise<void>;
  /** Claim up to `max`; waits for at least one; [] when `signal` aborts or there is nothing for now. */
  receive(max: number, signal: AbortSignal): Promise<readonly Claim[]>;
  /** Resolves when the broker has them all. Taken one by one, so that many need not be in memory at once. */
  publish(publications: Iterable<Publication>): Promise<void>;
  /** `soon`: a handler starts, which may not run twice. */
  ack(claim: Claim, soon?: boolean): Promise<void>;
  /** Refuse for good: dead-lettered where the broker does that. Where it does not, this is `ack`. */
  reject?(claim: Claim): Promise<void>;
  /** Give a message back: `front`, it runs next (shutdown, restore); `back`, after what waits (reject with requeue). */
  requeue(claim: Claim, where: 'front' | 'back'): Promise<void>;
  /** To the back of its queue with the same bytes. No broker counts it as a delivery: where returns are counted, it is a new message. */
  moveToBack(claim: Claim): Promise<void>;
  /** Set a message aside with the reason. Resolves to the words that tell a person where it is. */
  quarantine(
    claim: Claim,
    why: { readonly code: string; readonly reason: string; readonly id?: string },
  ): Promise<string>;
  /** Of a broker on Redis: its server, for what must be one step with publishing. */
  readonly redis?: BrokerRedis;
  /** Set a message aside that no queue takes. Resolves to where it is. Undefined where every queue is made by writing to it. */
  keep?(publication: Publication, reason: string): Promise<string>;
  /** Keep a message out of this process's memory until `at`. Undefined where the broker cannot. */
  park?(claim: Claim, at: Date): Promise<void>;
  /** Milliseconds after which a held message is better parked, however few there are. */
  readonly maxHoldMs?: number;
  /** Another `prefetch` than that of `consume`, from now on. */
  resize?(prefetch: number): void;
  /** So many messages are held here for later; a broker that pushes may send as many more. */
  extend?(held: number): void;
  /** Undefined where the broker has no broadcasts: then there is no remote control, and there are no events. */
  readonly broadcast?: Broadcasting;
  /** Consume one queue more, or one less, from now on; one that is there, or is not, changes nothing. Undefined where the broker cannot. */
  addQueue?(queue: QueueSpec): Promise<void>;
  removeQueue?(name: string): Promise<void>;
  /** Revoked ids that outlive every worker, with the unix time until which they count. Undefined where nothing keeps them. */
  readonly revokes?: {
    remember(ids: readonly string[], until: number): Promise<void>;
    recall(): Promise<readonly (readonly [id: string, until: number])[]>;
  };
  /** End a waiting receive and take nothing more. */
  quiet(): Promise<void>;
  close(): Promise<void>;
}

/** Of a task's message: where a result that is sent, and not stored, goes. */
export interface ResultRequest {
  readonly replyTo: string | undefined;
  readonly correlationId: string | undefined;
}

/** The Redis of a broker, as open as the broker is. */
export interface BrokerRedis {
  /** Prepended to every key of the broker. */
  readonly prefix: string;
  run<Reply>(exchange: Exchange<Reply>): Promise<Reply>;
  /** The pushes that publish a message; undefined for a broadcast, which is no push. */
  pushes(publication: Publication): Promise<readonly Push[] | undefined>;
}

/** The counter of chords in a result backend: who counts the last member publishes the body. */
export interface ChordCounter {
  /** Record how many members complete the chord of this group, before the last of them is published. */
  start(group: string, size: number): Promise<void>;
  /** Record an ended member, in one step with what the counter then says. Repeating it changes nothing. */
  count(group: string, member: CountedMember): Promise<ChordCount>;
  /** The members recorded so far, in the order of their results. */
  members(group: string): Promise<readonly Buffer[]>;
  /** One member more than the size says. */
  grow(group: string): Promise<void>;
  /** The body is published: forget the counter. */
  end(group: string): Promise<void>;
}

/** Where Celery results are kept. Texts are the encoded task meta, exactly as stored. */
export interface ResultBackend {
  readonly kind: 'redis' | 'file' | 'memory' | 'rpc' | 'disabled';
  readonly address: string;
  /** Undefined where chords are not counted: then `celery.chord_unlock` asks for the results of their members. */
  readonly chords?: ChordCounter;
  open(log: Logger): Promise<void>;
  /** Store a task's meta and tell who waits for it, unless a SUCCESS is stored already. */
  store(id: string, meta: Uint8Array | string, request?: ResultRequest): Promise<void>;
  /** The stored meta, or undefined. */
  fetch(id: string): Promise<Buffer | undefined>;
  fetchMany(ids: readonly string[]): Promise<readonly (Buffer | undefined)[]>;
  /** Call `listener` with each meta stored for this id from now on. Resolves, when it listens, to a function that ends it. */
  watch(id: string, listener: (meta: Buffer) => void): Promise<() => void>;
  forget(id: string): Promise<void>;
  /** Where results are to be sent, for backends that send them: `reply_to` of what this process publishes. */
  readonly replyTo?: string;
  /** Begin to hear results that are sent: before a task is published whose result shall be heard. */
  listen?(): Promise<void>;
  /** Store a saved group result under its id. */
  storeGroup(groupId: string, meta: string): Promise<void>;
  fetchGroup(groupId: string): Promise<Buffer | undefined>;
  /** Remove expired results, where the store does not do so by itself. */
  cleanup(): Promise<void>;
  close(): Promise<void>;
}
