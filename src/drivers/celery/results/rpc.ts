import { randomUUID } from 'node:crypto';
import type { AmqpMessage } from '../../../../protocols/amqp.ts';
import { decodeMeta } from '../../../../protocols/celery/outcome/result.ts';
import { contentTypeOf } from '../../../../protocols/celery/message/serializers.ts';
import { queueDeclarations, resultQueue } from '../../../../protocols/celery/brokers/topology.ts';
import { ConfigError } from '../../../errors.ts';
import type { Logger } from '../../../log.ts';
import { AmqpConsumer } from '../../../transports/amqp-consumer.ts';
import { AmqpPublisher } from '../../../transports/amqp-publisher.ts';
import { amqpTarget, type AmqpTarget, type AmqpTargetOptions } from '../../../transports/amqp-url.ts';
import { AmqpConnection } from '../../../transports/amqp.ts';
import type { ResultBackend, ResultRequest } from '../brokers/broker.ts';

export interface RpcResultsOptions extends AmqpTargetOptions {
  /** Seconds that RabbitMQ keeps the queue of a caller that has disconnected. 0 keeps it for ever. @default 86400 */
  readonly resultExpires?: number;
  /** Keep results across a restart of RabbitMQ, in durable queues. Celery's `result_persistent`. @default false */
  readonly resultPersistent?: boolean;
  /** The serializer of results. It sets their content type. @default 'json' */
  readonly resultSerializer?: string;
}

/** The most tasks whose last received state is kept. */
const REMEMBERED = 10_000;

/**
 * Results are sent as messages to the calling process, and are not stored. Each process has one queue. Its name is a uuid, the `reply_to` of the
 * messages that the process publishes. Only that process can read its results, and only while it lives. Source: celery/backends/rpc.py (5.6).
 */
export class RpcResults implements ResultBackend {
  readonly kind = 'rpc';
  readonly address: string;
  readonly replyTo: string = randomUUID();
  readonly #target: AmqpTarget;
  readonly #options: RpcResultsOptions;
  readonly #contentType: string;
  readonly #heard = new Map<string, Heard>();
  readonly #listeners = new Map<string, Set<(meta: Buffer) => void>>();
  #connection: AmqpConnection | undefined;
  #publisher: AmqpPublisher | undefined;
  #consumer: AmqpConsumer | undefined;
  #opening: Promise<void> | undefined;
  #listening: Promise<void> | undefined;

  /** @param url the URL of the broker */
  constructor(url: string, options: RpcResultsOptions = {}) {
    this.#target = amqpTarget(url, options);
    this.#options = options;
    this.#contentType = contentTypeOf(options.resultSerializer ?? 'json');
    this.address = this.#target.maskedUrl;
  }

  open(log: Logger): Promise<void> {
    return (this.#opening ??= this.#open(log).catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    }));
  }

  /** Sends the result to the caller, unless the message has no `reply_to`. A caller that is gone is not an error. */
  async store(id: string, meta: Uint8Array | string, request?: ResultRequest): Promise<void> {
    if (request?.replyTo === undefined) return;
    const message: AmqpMessage = {
      exchange: '',
      routingKey: request.replyTo,
      mandatory: false,
      body: typeof meta === 'string' ? Buffer.from(meta) : meta,
      properties: {
        contentType: this.#contentType,
        contentEncoding: this.#contentType === 'application/x-msgpack' ? 'binary' : 'utf-8',
        correlationId: request.correlationId ?? id,
        deliveryMode: this.#options.resultPersistent === true ? 2 : 1,
        priority: 0,
      },
    };
    await this.#publisher?.publish([message]);
  }

  /** Starts to receive results. Call it before a task is sent whose result is to come here. */
  listen(): Promise<void> {
    return (this.#listening ??= this.#listen().catch((error: unknown) => {
      this.#listening = undefined;
      throw error;
    }));
  }

  fetch(id: string): Promise<Buffer | undefined> {
    return Promise.resolve(this.#heard.get(id)?.meta);
  }

  fetchMany(ids: readonly string[]): Promise<readonly (Buffer | undefined)[]> {
    return Promise.resolve(ids.map((id) => this.#heard.get(id)?.meta));
  }

  async watch(id: string, listener: (meta: Buffer) => void): Promise<() => void> {
    await this.listen();
    const entry = (meta: Buffer): void => listener(meta);
    const listeners = this.#listeners.get(id) ?? new Set();
    this.#listeners.set(id, listeners.add(entry));
    return () => {
      listeners.delete(entry);
      if (listeners.size === 0 && this.#listeners.get(id) === listeners) this.#listeners.delete(id);
    };
  }

  forget(id: string): Promise<void> {
    this.#heard.delete(id);
    return Promise.resolve();
  }

  storeGroup(): Promise<void> {
    return Promise.reject(noGroups());
  }
  fetchGroup(): Promise<Buffer | undefined> {
    return Promise.reject(noGroups());
  }
  cleanup(): Promise<void> {
    return Promise.resolve();
  }

  async close(): Promise<void> {
    await this.#consumer?.close();
    await this.#publisher?.close();
    await this.#connection?.close();
    this.#consumer = this.#publisher = this.#connection = this.#opening = this.#listening = undefined;
    this.#heard.clear();
  }

  async #open(log: Logger): Promise<void> {
    const connection = new AmqpConnection(this.#target, { log });
    try {
      await connection.connect();
    } catch (error) {
      await connection.close();
      throw error;
    }
    this.#connection = connection;
    this.#publisher = new AmqpPublisher(connection);
    this.#consumer = new AmqpConsumer(connection, {
      prefetch: 0,
      log,
      deliver: ({ body }) => this.#hear(body, log),
      lost: () => undefined,
    });
  }

  async #listen(): Promise<void> {
    const { resultExpires, resultPersistent = false } = this.#options;
    const queue = { ...resultQueue(this.replyTo, resultExpires), durable: resultPersistent };
    const declarations = queueDeclarations(queue);
    await this.#consumer?.start([{ queue: this.replyTo, declarations, noAck: true }]);
  }

  #hear(body: Buffer, log: Logger): void {
    let id: string | undefined;
    let status: string;
    try {
      ({ taskId: id, status } = decodeMeta(body, this.#options.resultSerializer));
    } catch (error) {
      log.warn({ error, bytes: body.length }, 'a reply that is not a result was ignored');
      return;
    }
    // A retry may end before its RETRY arrives.
    if (id === undefined || this.#heard.get(id)?.status === 'SUCCESS') return;
    this.#heard.delete(id);
    this.#heard.set(id, { meta: body, status });
    if (this.#heard.size > REMEMBERED) this.#heard.delete(this.#heard.keys().next().value as string);
    for (const listener of this.#listeners.get(id) ?? []) listener(body);
  }
}

interface Heard {
  readonly meta: Buffer;
  readonly status: string;
}

function noGroups(): ConfigError {
  return new ConfigError('celery: rpc:// keeps no groups; use a result backend that stores results, such as redis://');
}
