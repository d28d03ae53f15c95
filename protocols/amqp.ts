/** AMQP 0-9-1 as data: declarations and publications. `transports/amqp.ts` sends them. */

/** `direct`, `topic`, `fanout`, `headers`, or the type of a plugin (`x-consistent-hash`). */
export type ExchangeType = 'direct' | 'topic' | 'fanout' | 'headers' | (string & {});

/** `x-queue-type`, `x-max-priority` ... Numbers are whole. */
export type AmqpArguments = Readonly<Record<string, string | number | boolean>>;

export interface ExchangeDeclaration {
  readonly kind: 'exchange';
  readonly name: string;
  readonly type: ExchangeType;
  readonly durable: boolean;
  readonly autoDelete: boolean;
  readonly arguments: AmqpArguments;
  /** Only check that it is there. */
  readonly passive?: boolean;
}

export interface QueueDeclaration {
  readonly kind: 'queue';
  /** Empty: the broker generates the name. */
  readonly name: string;
  readonly durable: boolean;
  readonly autoDelete: boolean;
  readonly exclusive: boolean;
  readonly arguments: AmqpArguments;
  /** Only check that it is there. */
  readonly passive?: boolean;
}

export interface BindingDeclaration {
  readonly kind: 'binding';
  /** Whether the messages go to a queue or to an exchange; `destination` is its name. */
  readonly to: 'queue' | 'exchange';
  readonly destination: string;
  /** The exchange that the messages come from. */
  readonly source: string;
  readonly routingKey: string;
  readonly arguments: AmqpArguments;
}

/** One declaration. A broker that has the same name with other properties answers 406. Declarations are sent in the order given. */
export type Declaration = ExchangeDeclaration | QueueDeclaration | BindingDeclaration;

/** A message to publish. Without an exchange the routing key is a queue's name. */
export interface AmqpMessage {
  readonly exchange: string;
  readonly routingKey: string;
  /** The broker returns the message when no queue takes it. */
  readonly mandatory: boolean;
  readonly body: Uint8Array;
  readonly properties: AmqpProperties;
}

/** The basic properties, as they are on the wire. Strings of at most 255 bytes. */
export interface AmqpProperties {
  readonly contentType?: string;
  readonly contentEncoding?: string;
  /** An encoded field table without its length: see `formats/amqp-table.ts`. */
  readonly headers?: Uint8Array;
  readonly deliveryMode?: number;
  readonly priority?: number;
  readonly correlationId?: string;
  readonly replyTo?: string;
  /** Milliseconds, as text. */
  readonly expiration?: string;
  readonly messageId?: string;
  /** Seconds since 1970; 64 bits, a bigint beyond 2^53. */
  readonly timestamp?: number | bigint;
  readonly type?: string;
  readonly userId?: string;
  readonly appId?: string;
  readonly clusterId?: string;
  /** Present instead of all the others when the properties cannot be decoded. Only on a delivered message; never published. */
  readonly damage?: AmqpDamage;
}

export interface AmqpDamage {
  /** The flags and the bytes after them, as received. */
  readonly bytes: Uint8Array;
  readonly reason: string;
}
