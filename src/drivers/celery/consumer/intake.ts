import { taskReceived } from '../../../../protocols/celery/control/event.ts';
import { decodeTask, type TaskMessage } from '../../../../protocols/celery/message/message.ts';
import type { DecodeOptions } from '../../../../protocols/celery/message/serializers.ts';
import { WireError } from '../../../../protocols/errors.ts';
import type { Outcome } from '../../../../protocols/job.ts';
import { DelayQueue } from '../../../delay-queue.ts';
import { type Logger, logs } from '../../../log.ts';
import type { Delivery } from '../../../source.ts';
import type { CeleryBroker, Claim } from '../brokers/broker.ts';
import type { EventDispatcher } from '../control/dispatcher.ts';
import { CeleryDelivery, type DeliveryHost, type DeliveryRules } from './delivery.ts';
import type { DelayedRequest, Requests } from './requests.ts';
import type { Revoked } from './revoked.ts';
import type { TaskRule, TaskRules } from './task-rules.ts';
import type { Upkeep } from './upkeep.ts';

/** A claim that waits for its ETA or for its rate limit. When it is due, it becomes a delivery, or is answered without one. */
interface DelayedClaim {
  readonly claim: Claim;
  readonly due: () => Delivery | undefined;
  /** Set if it waits for its turn under the rate limit. */
  readonly request?: DelayedRequest;
  /** Set if it waits for its ETA. */
  readonly scheduled?: ScheduledTask;
}

/** A task that this worker holds until its ETA. */
export interface ScheduledTask {
  readonly eta: Date;
  readonly message: TaskMessage;
}

export interface IntakeOptions {
  readonly broker: CeleryBroker;
  readonly events: EventDispatcher;
  readonly requests: Requests;
  readonly revoked: Revoked;
  readonly rules: TaskRules;
  readonly upkeep: Upkeep;
  readonly decode: DecodeOptions;
  readonly log: () => Logger;
  /** Whether a handler here runs the task. */
  readonly handles: (task: string) => boolean;
  /** The parts of the source that deliveries need. */
  readonly host: DeliveryHost;
  readonly by: { readonly pid: number; readonly hostname: string };
  /** The most messages that are held here for later. */
  readonly etaLimit: number;
}

/** A postponed job is held here for at most this long. For a longer time it goes back to its queue with an ETA. */
const POSTPONED_HERE_MS = 60_000;

/**
 * Classifies claimed messages. An unreadable one is quarantined. One whose task has no handler here is a delivery: the worker's `unknownTask` option
 * decides what happens to it. One that is expired or revoked is answered. One with an ETA or under a rate limit is held until it is due. Every other one is a delivery.
 */
export class Intake {
  readonly #options: IntakeOptions;
  readonly #delayed = new DelayQueue<DelayedClaim>();
  /** The number of unknown tasks that the worker holds. */
  #unknown = 0;
  #quiet = false;

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  /** The number of claims that are held here until they are due. */
  get size(): number {
    return this.#delayed.size;
  }

  get scheduled(): readonly ScheduledTask[] {
    return this.#delayed.items.map(({ scheduled }) => scheduled).filter((held) => held !== undefined);
  }

  /** Resolves when the soonest claim is due. */
  next(): Promise<void> {
    return this.#delayed.next();
  }

  /** The deliveries that are due. */
  due(): readonly Delivery[] {
    if (this.#delayed.size === 0) return [];
    const due = this.#delayed.due(Date.now());
    if (due.length === 0) return [];
    this.#extend();
    return due.map((held) => this.#claimed(held)).filter((delivery) => delivery !== undefined);
  }

  /** A delivery, or undefined if the message is held, answered or quarantined. */
  classify(claim: Claim): Delivery | undefined {
    const { handles, rules, events, upkeep, decode } = this.#options;
    let message: TaskMessage;
    try {
      if (claim.message === undefined)
        throw claim.error ?? new WireError('celery', 'undecodable', 'the message cannot be read');
      message = decodeTask(claim.message, decode, claim.queue);
    } catch (error) {
      upkeep.quarantine(claim, error);
      return undefined;
    }
    // The worker finds no handler, and applies its `unknownTask` option.
    if (!rules.knows(message.task) && !handles(message.task))
      return this.#delivery(claim, message, rules.resolve(message.task));
    const log = this.#options.log();
    if (logs(log, 'info')) log.info({ task: message.shownAs, id: message.id, queue: claim.queue }, 'received');
    const known = rules.of(message.task);
    if (events.tasks && !this.#isOver(message, Date.now())) events.task(taskReceived(message));
    return this.#admit(claim, message, known);
  }

  /**
   * Holds a claimed message again, until `at`. It stays claimed, so that it comes back if this process dies. Returns false if it cannot be held here:
   * the time is too long, the claim is lost, or the worker is stopping.
   */
  postpone(claim: Claim, message: TaskMessage, at: Date): boolean {
    const { broker, events, log } = this.#options;
    const limitMs = Math.min(POSTPONED_HERE_MS, broker.maxHoldMs ?? POSTPONED_HERE_MS);
    if (this.#quiet || claim.lost === true || !(at.getTime() - Date.now() <= limitMs)) return false;
    // Celery sends the same event for a task that it has received and that waits for its ETA.
    if (events.tasks) events.task(taskReceived(message, at));
    log().debug({ task: message.shownAs, id: message.id, queue: claim.queue, eta: at }, 'held until its time');
    this.#holdScheduled(at.getTime(), claim, message);
    return true;
  }

  /** Sets the number of unknown tasks that the worker holds. */
  holding(unknown: number): void {
    this.#unknown = unknown;
    this.#extend();
  }

  /** Stops holding claims. Returns the held claims, the soonest first: the caller gives them back. */
  quiet(): readonly Claim[] {
    this.#quiet = true;
    return this.#delayed.clear().map(({ claim, request }) => {
      if (request !== undefined) this.#options.requests.done(request);
      return claim;
    });
  }

  /** Lets a broker that pushes send one more message for each message that is held for later. */
  #extend(): void {
    this.#options.broker.extend?.(this.#delayed.size + this.#unknown);
  }

  /** A delivery, if the message is still claimed. */
  #claimed({ claim, due }: DelayedClaim): Delivery | undefined {
    if (claim.lost !== true) return due();
    this.#options.upkeep.giveBack(claim);
    return undefined;
  }

  /** A delivery, unless it must wait: first for its ETA, then for its turn under the rate limit. */
  #admit(claim: Claim, message: TaskMessage, known: TaskRule, isDue = false): Delivery | undefined {
    const now = Date.now();
    if (this.#refusedNow(claim, message, known, now)) return undefined;
    const eta = message.eta?.getTime() ?? 0;
    if (eta > now && !isDue) {
      this.#holdScheduled(eta, claim, message);
      return undefined;
    }
    const turn = known.rate?.next(now) ?? now;
    if (turn <= now) {
      known.rate?.take(now);
      return this.#reserve(this.#delivery(claim, message, known));
    }
    const delivery = this.#delivery(claim, message, known);
    const due = (): Delivery | undefined => {
      this.#options.requests.done(delivery);
      return this.#refusedNow(claim, message, known, Date.now()) ? undefined : this.#reserve(delivery);
    };
    const held = this.#hold(turn, { claim, due, request: delivery });
    // A parked message takes its turn when it comes back. A turn taken now would go unused.
    if (held) {
      known.rate?.take(now);
      this.#options.requests.reserve(delivery);
    }
    return undefined;
  }

  #holdScheduled(at: number, claim: Claim, message: TaskMessage): void {
    const due = (): Delivery | undefined => this.#admit(claim, message, this.#options.rules.of(message.task), true);
    this.#hold(at, { claim, due, scheduled: { eta: new Date(at), message } });
  }

  /** Holds the claim here until `until`. Beyond the limits it is parked in the broker, which delivers it again. Returns true if it is held here. */
  #hold(until: number, held: DelayedClaim): boolean {
    const { broker, upkeep, etaLimit } = this.#options;
    const tooLong = until - Date.now() > (broker.maxHoldMs ?? Number.POSITIVE_INFINITY);
    if ((tooLong || this.#delayed.size >= etaLimit) && broker.park !== undefined) {
      upkeep.write(held.claim, 'park a message', async () => broker.park?.(held.claim, new Date(until)));
      return false;
    }
    this.#delayed.add(until, held);
    this.#extend();
    return true;
  }

  #reserve(delivery: CeleryDelivery): CeleryDelivery {
    this.#options.requests.reserve(delivery);
    return delivery;
  }

  #isOver(message: TaskMessage, now: number): boolean {
    return (message.expires !== undefined && now > message.expires.getTime()) || this.#options.revoked.has(message);
  }

  /** Settles an expired or revoked task without a run. Returns true if it did so. */
  #refusedNow(claim: Claim, message: TaskMessage, known: TaskRule, now: number): boolean {
    const { revoked, upkeep } = this.#options;
    const expired = message.expires !== undefined && now > message.expires.getTime();
    if (!expired && !revoked.has(message)) return false;
    if (expired) revoked.add(message.id);
    const delivery = this.#delivery(claim, message, known);
    const outcome: Outcome = expired ? { kind: 'expired' } : { kind: 'cancelled', reason: 'revoked' };
    this.#options
      .log()
      .info(
        { task: message.shownAs, id: message.id, queue: claim.queue },
        expired ? 'discarded: it has expired' : 'discarded: it was revoked',
      );
    upkeep.write(claim, 'settle a task that does not run', () => delivery.settle(outcome));
    return true;
  }

  #delivery(claim: Claim, message: TaskMessage, known: DeliveryRules): CeleryDelivery {
    const { host, by } = this.#options;
    return new CeleryDelivery(host, claim, message, known, by);
  }
}
