import type { WireMessage } from '../../../protocols/celery/message.ts';
import type { WireError } from '../../../protocols/errors.ts';
import type { Delivered } from '../../transports/amqp-consumer.ts';
import type { Claim } from './broker.ts';

/** A message of a channel. When the channel ends, so does the claim, unless RabbitMQ delivers the message here again. */
export class AmqpClaim implements Claim {
  readonly queue: string;
  message: WireMessage | undefined;
  error: WireError | undefined;
  delivered: Delivered;
  /** Its channel is gone: RabbitMQ has the message again. */
  lost = false;

  constructor(delivered: Delivered, message: WireMessage | undefined, error: WireError | undefined) {
    this.queue = delivered.queue;
    this.delivered = delivered;
    this.message = message;
    this.error = error;
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

/** Claims remembered after their channel is gone, at most. */
const REMEMBERED = 10_000;

/**
 * The claims in this process's hands. When a channel ends, RabbitMQ delivers their messages again, perhaps to this very process: then the
 * handler that still runs goes on with the new delivery, and what it finished meanwhile is settled and not run twice.
 */
export class Claims {
  readonly #live = new Set<AmqpClaim>();
  readonly #lost = new Map<string, { readonly claim: AmqpClaim; settled: 'ack' | 'reject' | undefined }>();

  add(claim: AmqpClaim): void {
    this.#live.add(claim);
  }

  /** Settled on its own channel. */
  done(claim: AmqpClaim): void {
    this.#live.delete(claim);
  }

  /** This channel is gone, with all that was delivered on it. */
  lose(generation: number): void {
    for (const claim of this.#live) {
      if (claim.generation !== generation) continue;
      this.#live.delete(claim);
      claim.lost = true;
      const key = keyOf(claim);
      if (key !== undefined) this.#lost.set(key, { claim, settled: undefined });
    }
    for (const key of this.#lost.keys()) {
      if (this.#lost.size <= REMEMBERED) break;
      this.#lost.delete(key);
    }
  }

  /** What was to be said of a message whose channel is gone: said when it comes again. */
  settleLater(claim: AmqpClaim, how: 'ack' | 'reject'): void {
    const entry = this.#lost.get(keyOf(claim) ?? '');
    if (entry?.claim === claim) entry.settled = how;
  }

  /** Nobody here works on it any more: when it comes again, it is a message like any other. */
  forget(claim: AmqpClaim): void {
    this.#live.delete(claim);
    const key = keyOf(claim) ?? '';
    if (this.#lost.get(key)?.claim === claim) this.#lost.delete(key);
  }

  /** A message that comes again: how to settle it at once, `held` where it is in hand here, undefined where it is not known. */
  adopt(again: AmqpClaim): 'ack' | 'reject' | 'held' | undefined {
    const key = keyOf(again);
    const entry = this.#lost.get(key ?? '');
    if (key === undefined || entry === undefined) return undefined;
    const { claim, settled } = entry;
    if (!claim.delivered.body.equals(again.delivered.body)) return undefined;
    this.#lost.delete(key);
    if (settled !== undefined) return settled;
    claim.delivered = again.delivered;
    claim.lost = false;
    this.#live.add(claim);
    return 'held';
  }
}

/** A retry has its task's id, and its body: it differs in its count. */
function keyOf({ message, queue }: AmqpClaim): string | undefined {
  const { id, retries } = message?.headers ?? {};
  const name = typeof id === 'string' ? id : message?.properties['correlation_id'];
  return typeof name === 'string' ? `${name}\n${typeof retries === 'number' ? retries : ''}\n${queue}` : undefined;
}
