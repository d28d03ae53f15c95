import { toWire } from '../../../../protocols/celery/brokers/amqp.ts';
import type { WireMessage } from '../../../../protocols/celery/message/message.ts';
import { WireError } from '../../../../protocols/errors.ts';
import { RenewingSet } from '../../../renewing.ts';
import type { Delivered } from '../../../transports/amqp-consumer.ts';
import type { Claim } from './broker.ts';

/** The final settlement of a message in RabbitMQ. */
export type Settlement = 'ack' | 'reject';

/** A message of a channel. When the channel closes, the claim is lost, unless RabbitMQ delivers the message to this process again. */
export class AmqpClaim implements Claim {
  readonly queue: string;
  delivered: Delivered;
  /** Its channel is closed: RabbitMQ has the message again. */
  lost = false;
  /** Its last settlement. */
  settled: Settlement | undefined;
  #content: WireMessage | WireError | undefined;

  constructor(delivered: Delivered) {
    this.queue = delivered.queue;
    this.delivered = delivered;
  }

  get message(): WireMessage | undefined {
    const content = (this.#content ??= read(this.delivered));
    return content instanceof WireError ? undefined : content;
  }
  get error(): WireError | undefined {
    const content = (this.#content ??= read(this.delivered));
    return content instanceof WireError ? content : undefined;
  }
  /** Drops the decoded content, which is not needed for now. It can be decoded again. */
  shrink(): void {
    this.#content = undefined;
  }
  /** Marks it as an error: it must not run, whatever its content is. */
  refuse(error: WireError): void {
    this.#content = error;
  }

  get tag(): string {
    return `${this.delivered.generation}.${this.delivered.deliveryTag}`;
  }
  get bytes(): Uint8Array {
    return this.delivered.body;
  }
  get generation(): number {
    return this.delivered.generation;
  }
  get deliveryTag(): number {
    return this.delivered.deliveryTag;
  }
}

/** Decodes a message on first use. Waiting messages stay undecoded and small, because the garbage collector visits them again and again. */
function read(delivered: Delivered): WireMessage | WireError {
  try {
    return toWire(delivered);
  } catch (thrown) {
    if (thrown instanceof WireError) return thrown;
    return new WireError('celery', 'undecodable', String(thrown), { cause: thrown });
  }
}

/** The most claims remembered after their channel is closed. */
const REMEMBERED = 10_000;

/** Larger bodies are not kept in memory in case a settlement is lost. */
const SMALL = 1_048_576;

/**
 * The claims of this process. When a channel closes, RabbitMQ delivers their messages again, perhaps to this same process. Then a handler that
 * still runs continues with the new delivery. A job that finished in the meantime is settled, and does not run twice.
 */
export class Claims {
  readonly #live = new RenewingSet<AmqpClaim>();
  readonly #lost = new Map<string, AmqpClaim>();
  /** A ring of the claims settled last. If the connection ends now, it is unknown whether these settlements arrived. */
  readonly #recent: (AmqpClaim | undefined)[];
  #next = 0;

  /** @param ahead the most messages that RabbitMQ sends without a settlement, so also the most settlements under way */
  constructor(ahead: number) {
    this.#recent = Array.from({ length: Math.min(Math.max(ahead, 0), 1_000) }, () => undefined);
  }

  add(claim: AmqpClaim): void {
    this.#live.add(claim);
  }

  /** Settled on its own channel. */
  done(claim: AmqpClaim, how: Settlement): void {
    this.#live.delete(claim);
    claim.settled = how;
    if (this.#recent.length === 0 || claim.delivered.body.length > SMALL) return;
    claim.shrink();
    this.#recent[this.#next] = claim;
    this.#next = (this.#next + 1) % this.#recent.length;
  }

  /** This channel is closed. All claims that were delivered on it are lost. */
  lose(generation: number): void {
    for (const claim of this.#recent) if (claim?.generation === generation) this.#remember(claim);
    this.#recent.fill(undefined);
    for (const claim of this.#live) {
      if (claim.generation !== generation) continue;
      this.#live.delete(claim);
      claim.lost = true;
      this.#remember(claim);
    }
    for (const key of this.#lost.keys()) {
      if (this.#lost.size <= REMEMBERED) break;
      this.#lost.delete(key);
    }
  }

  /** Keeps the settlement of a message whose channel is closed. It is sent when the message is redelivered. */
  settleLater(claim: AmqpClaim, how: Settlement): void {
    if (this.#lost.get(keyOf(claim) ?? '') === claim) claim.settled = how;
  }

  /** Forgets a claim that is not worked on any more. If its message is redelivered, it counts as a new message. */
  forget(claim: AmqpClaim): void {
    this.#live.delete(claim);
    const key = keyOf(claim) ?? '';
    if (this.#lost.get(key) === claim) this.#lost.delete(key);
  }

  /** Matches a redelivered message with a lost claim. Returns how to settle it at once, `held` if its handler still runs here, undefined if unknown. */
  adopt(again: AmqpClaim): Settlement | 'held' | undefined {
    const key = keyOf(again);
    const claim = this.#lost.get(key ?? '');
    if (key === undefined || claim === undefined) return undefined;
    if (!claim.delivered.body.equals(again.delivered.body)) return undefined;
    this.#lost.delete(key);
    claim.delivered = again.delivered;
    if (claim.settled !== undefined) {
      this.done(claim, claim.settled);
      return claim.settled;
    }
    claim.lost = false;
    this.#live.add(claim);
    return 'held';
  }

  #remember(claim: AmqpClaim): void {
    const key = keyOf(claim);
    if (key === undefined) return;
    // Inserted at the end: the claim remembered last is forgotten last.
    this.#lost.delete(key);
    this.#lost.set(key, claim);
  }
}

/** A retry has the id and the body of its task, but another retry count. A postponed message has another ETA. */
function keyOf({ message, queue }: AmqpClaim): string | undefined {
  const { id, retries, eta } = message?.headers ?? {};
  const name = typeof id === 'string' ? id : message?.properties['correlation_id'];
  return typeof name === 'string'
    ? `${name}\n${typeof retries === 'number' ? retries : ''}\n${typeof eta === 'string' ? eta : ''}\n${queue}`
    : undefined;
}
