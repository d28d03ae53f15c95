import type { AmqpMessage } from '../../protocols/amqp.ts';
import { RenewingSet } from '../renewing.ts';
import { ConnectionError, UnroutableError } from '../errors.ts';
import { writePublish } from './amqp-frames.ts';
import { type AmqpConnection, type AmqpLink, atMost, type ConfirmChannel, describe } from './amqp.ts';

export interface PublisherOptions {
  /** How many messages may wait for a connection; more fail at once. @default 10 000 */
  readonly bufferLimit?: number;
  /** How long messages wait for a connection, or for a broker that is short of memory or disk. @default 5 000 */
  readonly patienceMs?: number;
}

/** Confirms outstanding at once: enough to keep the broker busy, and few enough to lose track of when the connection ends. */
const WINDOW = 2_000;

/** Members of amqplib's channel that its types leave out: its number, and the list of callbacks that wait for a confirm. */
interface ConfirmInternals {
  readonly ch: number;
  pushConfirmCallback(done: (error: unknown) => void): void;
}

interface Open {
  readonly link: AmqpLink;
  readonly channel: ConfirmChannel & ConfirmInternals;
  /** In the order they were published. */
  readonly unconfirmed: RenewingSet<Pending>;
  /** Why the broker closed the channel. */
  reason: { readonly code?: number; readonly message: string } | undefined;
}

interface Pending {
  readonly message: AmqpMessage;
  readonly batch: Batch;
  returned: string | undefined;
}

/**
 * Publishes with confirms: when a publish resolves, the broker has the message. While the connection is away, a bounded number of messages waits for
 * it, for a bounded time, and then fails with ConnectionError. A message that was sent and not confirmed when the connection ended fails with
 * ConnectionError, too: it is not known whether the broker has it.
 */
export class AmqpPublisher {
  readonly #connection: AmqpConnection;
  readonly #bufferLimit: number;
  readonly #patienceMs: number;
  #open: Open | undefined;
  #opening: Promise<Open> | undefined;
  #waiting = 0;
  /** Runs while the broker accepts no publications. */
  #blockage: NodeJS.Timeout | undefined;
  readonly #unblocked = new Set<() => void>();

  constructor(connection: AmqpConnection, options: PublisherOptions = {}) {
    this.#connection = connection;
    this.#bufferLimit = options.bufferLimit ?? 10_000;
    this.#patienceMs = options.patienceMs ?? 5_000;
    connection.onBlocked(() => this.#turned());
    connection.onDown(() => this.#turned());
  }

  /**
   * Resolves when the broker has all the messages. Throws ConnectionError; UnroutableError for a mandatory message that no queue takes; WireError
   * `too-large`. With several messages, the broker may have those that the error does not name.
   */
  async publish(messages: Iterable<AmqpMessage>): Promise<void> {
    const batch = new Batch();
    for (const message of messages) {
      // Both conditions are checked in the same turn as the send: while this waits for the second one, the first one may become false.
      while (this.#open === undefined || this.#connection.blocked !== undefined) await this.#wait();
      const open = this.#open;
      this.#send(open, message, batch);
      if (open.unconfirmed.size >= WINDOW) await batch.below(WINDOW / 2);
      if (batch.failure !== undefined) break;
    }
    await batch.below(0);
    if (batch.failure !== undefined) throw batch.failure;
  }

  /** Whether any message was sent and is not confirmed. */
  get busy(): boolean {
    return (this.#open?.unconfirmed.size ?? 0) > 0;
  }

  async close(): Promise<void> {
    const open = this.#open;
    this.#open = undefined;
    clearTimeout(this.#blockage);
    if (open !== undefined) await atMost(1_000, open.channel.close());
  }

  #send(open: Open, message: AmqpMessage, batch: Batch): void {
    const pending: Pending = { message, batch, returned: undefined };
    try {
      writePublish(open.link.frames, open.channel.ch, message);
    } catch (error) {
      batch.failed(open.link === this.#connection.link ? error : cutOff(error));
      return;
    }
    open.unconfirmed.add(pending);
    batch.sent();
    open.channel.pushConfirmCallback((error) => {
      // Its sender does not wait for it any more.
      if (!open.unconfirmed.delete(pending)) return;
      batch.confirmed(
        error !== null && error !== undefined
          ? notConfirmed(message, open.reason ?? error)
          : pending.returned === undefined
            ? undefined
            : unroutable(message, pending.returned),
      );
    });
  }

  /** Waits for a channel, or until the broker accepts publications. The number of waiting messages and the time are bounded. */
  async #wait(): Promise<void> {
    const { blocked, target } = this.#connection;
    if (this.#waiting >= this.#bufferLimit) {
      const why = blocked === undefined ? '' : `, which takes none for now (${blocked})`;
      throw new ConnectionError(
        `amqp: ${this.#bufferLimit} publications wait for ${target.maskedUrl} already${why}; this one was not sent`,
      );
    }
    this.#waiting++;
    try {
      if (blocked === undefined) await (this.#opening ??= this.#openChannel());
      else await this.#untilUnblocked(blocked);
    } finally {
      this.#waiting--;
    }
  }

  async #openChannel(): Promise<Open> {
    try {
      const link = await this.#connection.linked();
      const channel = (await link.model.createConfirmChannel()) as Open['channel'];
      const open: Open = { link, channel, unconfirmed: new RenewingSet(), reason: undefined };
      channel.on('error', (error: Error) => (open.reason = error));
      channel.on('close', () => {
        if (this.#open === open) this.#open = undefined;
      });
      channel.on('return', ({ fields, properties }) => {
        const { exchange, routingKey, replyText } = fields as unknown as Readonly<Record<string, string>>;
        // A return comes before its confirm. When two messages look alike, the first one is taken for the returned one.
        for (const pending of open.unconfirmed) {
          const { message } = pending;
          if (pending.returned !== undefined || message.exchange !== exchange || message.routingKey !== routingKey)
            continue;
          if (message.properties.correlationId !== (properties as { readonly correlationId?: string }).correlationId)
            continue;
          pending.returned = replyText ?? 'NO_ROUTE';
          return;
        }
      });
      this.#open = open;
      return open;
    } catch (error) {
      throw error instanceof ConnectionError ? error : cutOff(error);
    } finally {
      this.#opening = undefined;
    }
  }

  async #untilUnblocked(why: string): Promise<void> {
    let resolve: (taken: boolean) => void = () => {};
    const turned = new Promise<boolean>((done) => (resolve = done));
    const wake = (): void => resolve(true);
    const limit = setTimeout(() => resolve(false), this.#patienceMs);
    this.#unblocked.add(wake);
    const taken = await turned;
    clearTimeout(limit);
    this.#unblocked.delete(wake);
    if (!taken) throw new ConnectionError(`amqp: ${this.#takesNothing(why)}; this one was not sent`);
  }

  /** Called when the broker stops accepting publications, when it accepts them again, and when the connection ends. */
  #turned(): void {
    clearTimeout(this.#blockage);
    const why = this.#connection.blocked;
    if (why === undefined) {
      for (const wake of this.#unblocked) wake();
      return;
    }
    this.#blockage = setTimeout(() => {
      // Messages sent before the broker announced the block are in its socket, and it is not known for how long.
      for (const pending of this.#open?.unconfirmed ?? []) {
        this.#open?.unconfirmed.delete(pending);
        pending.batch.confirmed(
          new ConnectionError(
            `amqp: ${this.#takesNothing(why)}; this one was sent before that was known, and may be taken later`,
          ),
        );
      }
    }, this.#patienceMs);
  }

  #takesNothing(why: string): string {
    return `${this.#connection.target.maskedUrl} takes no publications for now (${why}), for over ${this.#patienceMs} ms`;
  }
}

/** Messages published together, and how many of them are still unconfirmed. */
class Batch {
  failure: unknown;
  #count = 0;
  #limit = 0;
  #wake: (() => void) | undefined;

  sent(): void {
    this.#count++;
  }

  confirmed(error: unknown): void {
    this.#count--;
    this.failed(error);
    if (this.#count <= this.#limit) this.#wake?.();
  }

  failed(error: unknown): void {
    this.failure ??= error;
  }

  /** Resolves when no more than `limit` are unconfirmed. */
  async below(limit: number): Promise<void> {
    this.#limit = limit;
    if (this.#count > limit) await new Promise<void>((resolve) => (this.#wake = resolve));
    this.#wake = undefined;
  }
}

/** The error for a message that was not confirmed: the channel was closed, or the broker refused the message. */
function notConfirmed(message: AmqpMessage, cause: unknown): Error {
  const { code, message: text } = cause as { readonly code?: number; readonly message: string };
  if (text === 'message nacked') {
    return new ConnectionError(
      `amqp: the broker refused a message for ${placeOf(message)}: a queue that it goes to is full (x-max-length, x-overflow), or cannot be replicated now`,
    );
  }
  // One wrong exchange closes the channel for all messages. Only the messages for that exchange fail with this reason.
  const meant = message.exchange !== '' && text.includes(`'${message.exchange}'`);
  return meant && (code === 403 || code === 404) ? unroutable(message, text) : cutOff(cause);
}

function cutOff(cause: unknown): ConnectionError {
  return new ConnectionError(
    `amqp: a publication was not confirmed, so it is not known whether it was sent: ${describe(cause)}`,
    { cause },
  );
}

function unroutable(message: AmqpMessage, why: string): UnroutableError {
  return new UnroutableError(
    `amqp: no queue takes messages for ${placeOf(message)} (${why}): declare and bind one, or start its workers first`,
  );
}

function placeOf({ exchange, routingKey }: AmqpMessage): string {
  return exchange === '' ? `queue '${routingKey}'` : `exchange '${exchange}' with routing key '${routingKey}'`;
}
