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
import type { Occupant } from './presence.ts';

const SUCCEEDED: Disposition = { state: 'succeeded' };
const REQUEUED: Disposition = { state: 'requeued' };

/** A claimed payload, with the facts that the intake found about it. */
export interface ClaimedPayload {
  readonly queue: string;
  readonly claim: string;
  readonly payload: Payload;
  /** Whether a handler here is registered for its class. */
  readonly known: boolean;
  /** The name of its retry key, under which attempts are counted. */
  readonly retryName: string | undefined;
  readonly retry: lifecycle.ResquePolicy['retry'];
}

/** The collections in which a source keeps its deliveries. */
export interface Holding {
  /** Every delivery that is running. */
  readonly running: RenewingSet<ResqueDelivery>;
  /** Deliveries that run again later. */
  readonly postponed: PostponedJobs<ResqueDelivery>;
}

/** One job of Resque, from its claim until it is settled. */
export class ResqueDelivery implements Delivery, Holder, Occupant, PostponedJob {
  readonly job: ResqueJob;
  readonly claimed: ClaimedPayload;
  startedAt: Date = new Date(0);
  /** Another process has the job, so it must not be started here. */
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
  /** A payload without an id is identified by the digest of its bytes. */
  get unknownKey(): string {
    const { id, text } = this.claimed.payload;
    return id ?? createHash('sha1').update(text).digest('base64');
  }
  get bytes(): number {
    return this.payload.length;
  }

  /** `worker:<id>` is written with the other commands of this tick; the job does not wait for the write. */
  begin(): undefined {
    this.startedAt = new Date();
    this.#begun = true;
    this.#holding.running.add(this);
    this.#process.claims.begins(this.claimed.claim);
    this.#process.begin(this);
  }

  /** A new delivery of the same claim, to run it again. */
  again(): this {
    return new ResqueDelivery(this.#process, this.claimed, this.job, this.#holding) as this;
  }

  lose(): void {
    this.lost = true;
  }

  async settle(outcome: Outcome): Promise<Disposition> {
    const worker = this.#leave();
    // The outcome is decided once, so that a repeated write writes the same bytes.
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
    // The failure functions run before the write: to be called twice is better than not at all.
    if (failure !== undefined) await (this.#told ??= this.#tell(failure));
    this.#writes += 1;
    const counted: readonly Command[] = processed ? presence.doneAll(this.#process.keys, [worker]) : [];
    const done = await this.#process.claims.exchange(this.claimed.claim, [...commands, ...counted]);
    // If the claim is gone at the first try, another process has taken the job. At a later try, the first write succeeded and its reply was lost.
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

  /** Puts the job at the back of its queue. */
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
      // The payload cannot be encoded again for a retry. If the write were tried forever, the job would never end.
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
