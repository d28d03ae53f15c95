import { createHash, randomUUID } from 'node:crypto';
import { toFailure } from '../../../protocols/errors.ts';
import type { Command } from '../../../protocols/redis.ts';
import type { Disposition, Outcome, Transition } from '../../../protocols/job.ts';
import type { ResqueJob } from '../../../protocols/resque/active-job.ts';
import * as lifecycle from '../../../protocols/resque/lifecycle.ts';
import type { Payload } from '../../../protocols/resque/message.ts';
import * as presence from '../../../protocols/resque/presence.ts';
import * as wire from '../../../protocols/resque/redis.ts';
import type { RenewingSet } from '../../renewing.ts';
import type { Delivery } from '../../source.ts';
import type { Holder } from '../../transports/redis-claims.ts';
import type { PostponedJob, PostponedJobs } from './postponed.ts';
import type { ResqueProcess } from './process.ts';
import type { Occupant } from './slots.ts';

const SUCCEEDED: Disposition = { state: 'succeeded' };
const REQUEUED: Disposition = { state: 'requeued' };

/** A payload that was claimed, and what is known of it. */
export interface ClaimedPayload {
  readonly queue: string;
  readonly claim: string;
  readonly payload: Payload;
  /** A handler here knows its class. */
  readonly known: boolean;
  /** Name of its retry key, where attempts are counted. */
  readonly retryName: string | undefined;
  readonly retry: lifecycle.ResquePolicy['retry'];
}

/** Where a source keeps its deliveries. */
export interface Holding {
  /** Each is here for as long as it runs. */
  readonly running: RenewingSet<ResqueDelivery>;
  /** Those that run again later. */
  readonly postponed: PostponedJobs<ResqueDelivery>;
}

/** One job in the hands of its handler. */
export class ResqueDelivery implements Delivery, Holder, Occupant, PostponedJob {
  readonly job: ResqueJob;
  readonly claimed: ClaimedPayload;
  startedAt: Date = new Date(0);
  /** Others have the job: it is not to be started. */
  lost = false;
  readonly #process: ResqueProcess;
  readonly #holding: Holding;
  #worker: string | undefined;
  #begun = false;
  #transition: Transition<lifecycle.ResqueWrites> | undefined;
  #told: Promise<void> | undefined;
  #writes = 0;

  constructor(process: ResqueProcess, claimed: ClaimedPayload, job: ResqueJob, holding: Holding) {
    this.#process = process;
    this.claimed = claimed;
    this.job = job;
    this.#holding = holding;
    process.claims.holds(claimed.claim, this);
  }

  get queue(): string {
    return this.claimed.queue;
  }
  get payload(): string {
    return this.claimed.payload.text;
  }
  get known(): boolean {
    return this.claimed.known;
  }
  /** Without an id of its own a payload is recognised by its bytes. */
  get unknownKey(): string {
    const { id, text } = this.claimed.payload;
    return id ?? createHash('sha1').update(text).digest('base64');
  }
  get bytes(): number {
    return this.payload.length;
  }

  /** `worker:<id>` leaves with what else is sent this turn; the job need not wait for it. */
  begin(): undefined {
    this.startedAt = new Date();
    this.#begun = true;
    this.#holding.running.add(this);
    this.#process.claims.begins(this.claimed.claim);
    this.#process.begin(this);
  }

  /** The same claim, to be run once more. */
  again(): this {
    return new ResqueDelivery(this.#process, this.claimed, this.job, this.#holding) as this;
  }

  lose(): void {
    this.lost = true;
  }

  async settle(outcome: Outcome): Promise<Disposition> {
    const worker = this.#leave();
    // Decided once: a write that is tried again writes the same bytes.
    const transition = (this.#transition ??= this.#decide(outcome, worker));
    const { commands, processed, failure, heldUntil } = transition.write;
    if (heldUntil !== undefined) {
      if (this.lost || this.#holding.postponed.add(this, heldUntil, this.#process.log)) return transition.disposition;
      await this.putBehind();
      return REQUEUED;
    }
    if (commands.length === 0 && processed) {
      await this.#process.done(this.claimed.claim, worker);
      return outcome.kind === 'success' ? SUCCEEDED : transition.disposition;
    }
    // Told first: heard twice is better than not at all.
    if (failure !== undefined) await (this.#told ??= this.#tell(failure));
    this.#writes += 1;
    const counted: readonly Command[] = processed ? presence.doneAll(this.#process.keys, [worker]) : [];
    const done = await this.#process.claims.exchange(this.claimed.claim, [...commands, ...counted]);
    // A claim that is gone at the first try was taken away. At a second one it was the first that did it, unheard.
    return !done && this.#writes === 1 ? REQUEUED : transition.disposition;
  }

  /** A failure as Ruby records it. Source: job.rb payload_class, constantize. */
  rejectUnknown(): Outcome {
    return {
      kind: 'fail',
      error: { type: 'NameError', message: `uninitialized constant ${this.job.task}`, traceback: '' },
    };
  }

  async release(): Promise<void> {
    this.#leave();
    if (this.lost) return;
    await this.#process.claims.exchange(
      this.claimed.claim,
      wire.giveBack(this.#process.keys, this.queue, this.payload),
    );
    this.lost = true;
  }

  /** Behind the others of its queue. */
  async putBehind(): Promise<void> {
    await this.#process.claims.exchange(
      this.claimed.claim,
      wire.putBehind(this.#process.keys, this.queue, this.payload),
    );
    this.lost = true;
  }

  #leave(): string {
    if (this.#worker !== undefined) return this.#worker;
    this.#holding.running.delete(this);
    return (this.#worker = this.#begun ? this.#process.leave(this) : this.#process.slots.idOf(this));
  }

  #decide(outcome: Outcome, worker: string): Transition<lifecycle.ResqueWrites> {
    const { keys, options } = this.#process;
    const { retryName, retry } = this.claimed;
    const { queue, payload } = this;
    const { attempt, activeJob } = this.job;
    const run = { queue, payload, attempt, worker, retryName, activeJob: activeJob !== undefined };
    const policy = { keys, failures: options.failures, retry };
    const moment = { now: new Date(), random: Math.random(), newId: randomUUID };
    try {
      return lifecycle.settle(run, outcome, policy, moment);
    } catch (error) {
      // A payload that cannot be written once more, for a retry: tried for ever, it would never end.
      return lifecycle.settle(run, { kind: 'fail', error: toFailure(error) }, policy, moment);
    }
  }

  async #tell(failure: NonNullable<lifecycle.ResqueWrites['failure']>): Promise<void> {
    for (const hear of this.#process.options.failureFunctions) {
      try {
        await hear(failure);
      } catch (error) {
        const { task, id } = this.job;
        this.#process.log.error(
          { task, id, queue: this.queue, error },
          'a failure backend threw; the failure is kept as ever',
        );
      }
    }
  }
}
