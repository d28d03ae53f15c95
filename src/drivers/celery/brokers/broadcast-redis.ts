import { randomUUID } from 'node:crypto';
import { decodeEnvelope, encodeEnvelope } from '../../../../protocols/celery/brokers/envelope.ts';
import type { Publication } from '../../../../protocols/celery/message/message.ts';
import * as wire from '../../../../protocols/celery/brokers/redis.ts';
import { WireError } from '../../../../protocols/errors.ts';
import { ConnectionError } from '../../../errors.ts';
import type { Logger } from '../../../log.ts';
import { pause } from '../../../source.ts';
import { RedisConnection } from '../../../transports/redis.ts';
import type { RedisTarget } from '../../../transports/redis-url.ts';
import type { BroadcastKind, BroadcastListener, BroadcastQueue, Broadcasting } from './broker.ts';

export interface RedisBroadcastsOptions {
  readonly target: RedisTarget;
  readonly keys: wire.Keyspace;
  /** The broker's own connection. */
  readonly commands: () => RedisConnection;
  readonly channel: (exchange: string, routingKey: string) => string;
  readonly log: () => Logger;
  readonly messageBytes: number;
}

interface Subscription {
  readonly queue: BroadcastQueue;
  readonly listener: BroadcastListener;
  readonly pattern: string;
}

/** How long a reply stays in its list if it is not fetched. */
const REPLY_EXPIRES_MS = 60_000;

/** Seconds of one wait for a reply. Ending a subscription may take this long. */
const REPLY_WAIT = 0.2;

/**
 * Requests and events are PUBLISHed on `/<db>.celery.pidbox` and `/<db>.celeryev/<type>`; replies are pushed to the list
 * of the requesting process, which its binding names.
 * Source: kombu/transport/redis.py Channel._put_fanout, _queue_bind, after_reply_message_received (5.6).
 */
export class RedisBroadcasts implements Broadcasting {
  readonly #options: RedisBroadcastsOptions;
  readonly #subscriptions = new Set<Subscription>();
  readonly #ends = new Set<() => Promise<void>>();
  #pubsub: RedisConnection | undefined;

  constructor(options: RedisBroadcastsOptions) {
    this.#options = options;
  }

  async subscribe(queue: BroadcastQueue, listener: BroadcastListener): Promise<() => Promise<void>> {
    const { keys, commands } = this.#options;
    const { kind, exchange, routingKey, name } = queue;
    const type = kind === 'reply' ? 'direct' : 'fanout';
    await commands().run(wire.bind(keys, exchange, type, routingKey, name));
    const stop = kind === 'reply' ? await this.#fetch(queue, listener) : await this.#hear(queue, listener);
    const end = async (): Promise<void> => {
      if (!this.#ends.delete(end)) return;
      await stop();
      if (commands().ready) await commands().run(wire.unbind(keys, exchange, type, routingKey, name));
    };
    this.#ends.add(end);
    return end;
  }

  async send(kind: BroadcastKind, publications: readonly Publication[]): Promise<number | undefined> {
    if (kind === 'reply') {
      await Promise.all(publications.map((publication) => this.#reply(publication)));
      return undefined;
    }
    return this.#options.commands().run({
      commands: publications.map(
        (publication) =>
          [
            'PUBLISH',
            this.#options.channel(publication.exchange, publication.routingKey),
            encodeEnvelope(publication, randomUUID()),
          ] as const,
      ),
      atomic: false,
      read: (replies) => replies.reduce<number>((sum, heard) => sum + Number(heard), 0),
    });
  }

  /** Ends the remaining subscriptions, and the connection. */
  async close(): Promise<void> {
    await Promise.all([...this.#ends].map((end) => end().catch(() => undefined)));
    await this.#pubsub?.close();
    this.#pubsub = undefined;
  }

  async #reply(publication: Publication): Promise<void> {
    const { keys, commands } = this.#options;
    const { exchange, routingKey, priority } = publication;
    const table = await commands().run(wire.bindings(keys, exchange));
    // If no queue is bound any more, the requesting process has stopped waiting.
    for (const queue of wire.route('direct', table, routingKey)) {
      const envelope = encodeEnvelope(publication, randomUUID());
      await commands().run(wire.pushExpiring(wire.listKey(keys, queue, priority), envelope, REPLY_EXPIRES_MS));
    }
  }

  async #hear(queue: BroadcastQueue, listener: BroadcastListener): Promise<() => Promise<void>> {
    const pattern = this.#options.channel(queue.exchange, queue.routingKey).replaceAll('#', '*');
    const subscription: Subscription = { queue, listener, pattern };
    const pubsub = (this.#pubsub ??= this.#connect());
    this.#subscriptions.add(subscription);
    try {
      await pubsub.connect();
      await pubsub.psubscribe(pattern);
    } catch (error) {
      this.#subscriptions.delete(subscription);
      if (!pubsub.ready && this.#pubsub === pubsub) this.#pubsub = undefined;
      throw error;
    }
    return async () => {
      this.#subscriptions.delete(subscription);
      if (![...this.#subscriptions].some((other) => other.pattern === pattern)) await pubsub.punsubscribe(pattern);
    };
  }

  #connect(): RedisConnection {
    const pubsub = new RedisConnection(this.#options.target, { log: this.#options.log() });
    pubsub.onPatternMessage((pattern, _channel, bytes) => {
      for (const { listener, queue, pattern: own } of [...this.#subscriptions])
        if (own === pattern) this.#tell(queue, listener, bytes);
    });
    pubsub.onReady(() => {
      const patterns = new Set([...this.#subscriptions].map(({ pattern }) => pattern));
      if (patterns.size > 0) void pubsub.psubscribe(...patterns).catch(() => undefined);
    });
    return pubsub;
  }

  /** Reads the list of replies on its own connection, with one blocking read after another. */
  async #fetch(queue: BroadcastQueue, listener: BroadcastListener): Promise<() => Promise<void>> {
    const connection = new RedisConnection(this.#options.target, { log: this.#options.log() });
    await connection.connect();
    const lists = wire.listsOf(this.#options.keys, [queue.name]).map(({ key }) => key);
    const stopped = new AbortController();
    const loop = async (): Promise<void> => {
      while (!stopped.signal.aborted) {
        try {
          const popped = await connection.run<readonly Buffer[] | null>({
            commands: [['BRPOP', ...lists, REPLY_WAIT]],
            atomic: false,
            read: ([reply]) => reply as readonly Buffer[] | null,
          });
          if (popped?.[1] !== undefined) this.#tell(queue, listener, popped[1]);
        } catch (error) {
          if (!(error instanceof ConnectionError)) this.#options.log().warn({ error }, 'replies cannot be fetched');
          await pause(100, stopped.signal);
        }
      }
    };
    const fetching = loop();
    return async () => {
      stopped.abort();
      if (!connection.ready) await connection.close();
      await fetching;
      await connection.close();
    };
  }

  #tell(queue: BroadcastQueue, listener: BroadcastListener, bytes: Buffer): void {
    try {
      if (bytes.length > this.#options.messageBytes) {
        const what = `a broadcast has ${bytes.length} bytes, more than the ${this.#options.messageBytes} allowed`;
        throw new WireError('celery', 'too-large', what);
      }
      const message = decodeEnvelope(bytes);
      // Without patterns in channels, every subscriber receives every event.
      const info = message.properties['delivery_info'] as { readonly routing_key?: unknown } | undefined;
      const key = typeof info?.routing_key === 'string' ? info.routing_key : undefined;
      if (
        queue.kind === 'events' &&
        key !== undefined &&
        !wire.topicMatches(queue.routingKey.split('.'), key.split('.'))
      )
        return;
      listener.hear(message);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      listener.refuse(error);
    }
  }
}
