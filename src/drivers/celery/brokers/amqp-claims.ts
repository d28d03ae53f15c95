import { toWire } from '../../../../protocols/celery/brokers/amqp.ts';
import type { WireMessage } from '../../../../protocols/celery/message/message.ts';
import { WireError } from '../../../../protocols/errors.ts';
import { RenewingSet } from '../../../renewing.ts';
import type { Delivered } from '../../../transports/amqp-consumer.ts';
import type { Claim } from './broker.ts';

/** What RabbitMQ is told of a message for good. */
export type Settlement = 'ack' | 'reject';

/** A message of a channel. When the channel ends, so does the claim, unless RabbitMQ delivers the message here again. */
export class AmqpClaim implements Claim {
  readonly queue: string;
  delivered: Delivered;
  /** Its channel is gone: RabbitMQ has the message again. */
  lost = false;
  /** What was said of it last. */
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
  /** Nobody needs what it says for now; it can be read again. */
  shrink(): void {
    this.#content = undefined;
  }
  /** It is not to run, whatever it says. */
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

/** When it is asked for: what is only waiting stays as small as it came, because the collector of garbage walks over it again and again. */
function read(delivered: Delivered): WireMessage | WireError {
  try {
    return toWire(delivered);
  } catch (thrown) {
    if (thrown instanceof WireError) return thrown;
    return new WireError('celery', 'undecodable', String(thrown), { cause: thrown });
  }
}

/** Claims remembered after their channel is gone, at most. */
const REMEMBERED = 10_000;

/** Larger bodies are not kept in memory for the case that a settlement is lost. */
const SMALL = 1_048_576;

/**
 * The claims in this process's hands. When a channel ends, RabbitMQ delivers their messages again, perhaps to this very process: then the
 * handler that still runs goes on with the new delivery, and what it finished meanwhile is settled and not run twice.
 */
export class Claims {
  readonly #live = new RenewingSet<AmqpClaim>();
  readonly #lost = new Map<string, AmqpClaim>();
  /** Settled last, in a ring. Of these settlements nobody knows whether they arrived, should the connection end now. */
  readonly #recent: (AmqpClaim | undefined)[];
  #next = 0;

  /** @param ahead how many messages RabbitMQ sends without a settlement: no more than these can be under way */
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

  /** This channel is gone, with all that was delivered on it. */
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

  /** What was to be said of a message whose channel is gone: said when it comes again. */
  settleLater(claim: AmqpClaim, how: Settlement): void {
    if (this.#lost.get(keyOf(claim) ?? '') === claim) claim.settled = how;
  }

  /** Nobody here works on it any more: when it comes again, it is a message like any other. */
  forget(claim: AmqpClaim): void {
    this.#live.delete(claim);
    const key = keyOf(claim) ?? '';
    if (this.#lost.get(key) === claim) this.#lost.delete(key);
  }

  /** A message that comes again: how to settle it at once, `held` where it is in hand here, undefined where it is not known. */
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
    // The last one remembered is the last one forgotten.
    this.#lost.delete(key);
    this.#lost.set(key, claim);
  }
}

/** A retry has its task's id, and its body: it differs in its count. One that was postponed differs in its ETA. */
function keyOf({ message, queue }: AmqpClaim): string | undefined {
  const { id, retries, eta } = message?.headers ?? {};
  const name = typeof id === 'string' ? id : message?.properties['correlation_id'];
  return typeof name === 'string'
    ? `${name}\n${typeof retries === 'number' ? retries : ''}\n${typeof eta === 'string' ? eta : ''}\n${queue}`
    : undefined;
}
