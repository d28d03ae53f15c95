import { createHash, randomUUID } from 'node:crypto';
import { toFailure } from '../../../protocols/errors.ts';
import type { Disposition, Outcome } from '../../../protocols/job.ts';
import type { WrappedJob } from '../../../protocols/sidekiq/active-job.ts';
import * as lifecycle from '../../../protocols/sidekiq/lifecycle.ts';
import { displayClass, type SidekiqJob, type SidekiqMessage, toJob } from '../../../protocols/sidekiq/message.ts';
import type { Work } from '../../../protocols/sidekiq/presence.ts';
import type { Delivery } from '../../source.ts';
import type { Holder } from '../../transports/redis-claims.ts';
import type { ClassRule } from './task-rules.ts';
import { ITERATION } from './iterable.ts';
import { RedisIteration } from './iteration-store.ts';
import type { SidekiqContext, Working } from './context.ts';

const SUCCEEDED: Disposition = { state: 'succeeded' };
const REQUEUED: Disposition = { state: 'requeued' };

/** Details of a delivery that are not in its bytes. */
export interface DeliveryOptions {
  /** The prefetch for whose free slots the job was fetched. */
  readonly fetchedFor?: { readonly look: number };
  readonly wrapped?: WrappedJob;
  /** Its class, or the class in the wrapper of Active Job, when no handler here is registered for it. */
  readonly unknownClass?: string;
}

/** One job of Sidekiq, from its fetch until it is settled. */
export class SidekiqDelivery implements Delivery, Holder, Working {
  readonly job: SidekiqJob;
  readonly message: SidekiqMessage;
  /** No handler here is registered for its class. */
  readonly isUnknown: boolean;
  /** Another process has the job, so it must not be started here. */
  lost = false;
  readonly #context: SidekiqContext;
  readonly #claim: string | undefined;
  readonly #rule: ClassRule | undefined;
  readonly #fetchedFor: { readonly look: number } | undefined;
  readonly #look: number;
  readonly #iteration: RedisIteration | undefined;
  #tid: string | undefined;
  #startedAtMs = 0;
  #counted = false;
  #transition: lifecycle.SidekiqTransition | undefined;
  #told: Promise<boolean> | undefined;
  #releasing: Promise<void> | undefined;
  #writes = 0;

  constructor(
    context: SidekiqContext,
    message: SidekiqMessage,
    claim: string | undefined,
    rule: ClassRule | undefined,
    { fetchedFor, wrapped, unknownClass }: DeliveryOptions = {},
  ) {
    this.#context = context;
    this.message = message;
    this.#claim = claim;
    this.#rule = rule;
    this.#fetchedFor = fetchedFor;
    this.#look = fetchedFor?.look ?? 0;
    this.job = toJob(message, rule?.limits, wrapped, unknownClass);
    this.isUnknown = unknownClass !== undefined;
    if (rule?.iterable === true) {
      this.#iteration = new RedisIteration(context, this.job.id);
      Object.defineProperty(this.job, ITERATION, { value: this.#iteration });
    }
    if (claim !== undefined) context.claims.holds(claim, this);
  }

  /** Whether the job was fetched for this prefetch, at or before this poll, and has not been started. */
  waits(fetchedFor: object, look: number): boolean {
    return this.#fetchedFor === fetchedFor && this.#look <= look && this.#startedAtMs === 0 && !this.lost;
  }

  get work(): Work {
    const { queue, text: payload } = this.message;
    this.#tid ??= this.#context.newTid();
    return { tid: this.#tid, queue, payload, runAtMs: this.#startedAtMs };
  }

  get bytes(): number {
    return this.message.bytes.length;
  }

  /** A job without a jid is identified by the digest of its bytes. */
  get unknownKey(): string {
    const { id } = this.job;
    return id === '' ? createHash('sha1').update(this.message.bytes).digest('base64') : id;
  }

  /** As Sidekiq does: a NameError, and a retry if the job allows retries. */
  rejectUnknown(): Outcome {
    const { task } = this.job;
    const message = `uninitialized constant ${task}: no handler here; register one with tasks.handle(defineTask('${task}'), handler)`;
    return { kind: 'error', error: { type: 'NameError', message, traceback: '' }, retriable: true };
  }

  /** Writes nothing now: the next heartbeat shows the job. */
  begin(): undefined {
    this.#startedAtMs = Date.now();
    if (this.#claim !== undefined) this.#context.claims.begins(this.#claim);
    this.#context.working.add(this);
  }

  lose(): void {
    this.lost = true;
  }

  settle(outcome: Outcome): Promise<Disposition> {
    if (outcome.kind !== 'success') return this.#settle(outcome);
    this.#context.working.delete(this);
    this.#count(false);
    if (this.#claim === undefined) return Promise.resolve(SUCCEEDED);
    return this.#context.acknowledge(this.#claim).then(succeeded);
  }

  /** Releases once: the lane and the prefetch may both give back a waiting job at the same time. */
  release(): Promise<void> {
    this.#context.working.delete(this);
    if (this.lost && this.#releasing === undefined) return Promise.resolve();
    return (this.#releasing ??= this.#release());
  }

  async #release(): Promise<void> {
    this.lost = true;
    try {
      await this.#context.dispose(this.#claim, lifecycle.release(this.message, this.#context.keys));
    } catch (error) {
      this.lost = false;
      this.#releasing = undefined;
      throw error;
    }
  }

  async #settle(outcome: Outcome): Promise<Disposition> {
    // The outcome is decided once, so that a repeated write writes the same bytes.
    const transition = (this.#transition ??= this.#decide(outcome));
    const { disposition } = transition;
    this.#context.working.delete(this);
    // A postponed job does not count as a run in the statistics.
    if (disposition.state !== 'postponed' && outcome.kind !== 'unknown') this.#count(transition.failed);
    const discarded = transition.exhausted && (await (this.#told ??= this.#tellExhausted(transition)));
    const commands = discarded ? [] : transition.write.commands;
    this.#writes += 1;
    const done = await this.#context.dispose(this.#claim, commands);
    // If the claim is gone at the first try, another process has taken the job. At a later try, the first write succeeded and its reply was lost.
    if (!done && this.#writes === 1) return REQUEUED;
    if ('at' in disposition) this.#context.onDue(disposition.at.getTime());
    return disposition;
  }

  #decide(outcome: Outcome): lifecycle.SidekiqTransition {
    const { keys, dialect, options, log } = this.#context;
    const { options: own, policy } = this.#rule ?? {};
    const now = new Date();
    if (this.#iteration?.wasInterrupted === true && outcome.kind === 'reject')
      return lifecycle.interrupted(this.message, { keys, dialect }, now);
    const retryIn = own?.retryIn;
    const rules: lifecycle.SidekiqPolicy = {
      maxRetries: options.maxRetries,
      ...policy,
      keys,
      dialect,
      dead: options.dead,
      retryIn: retryIn === undefined ? undefined : (count, error) => retryIn(count, error, this.job),
      onError: (error) =>
        log.error(
          { task: this.job.task, id: this.job.id, error },
          "the delay of a retry could not be asked; Sidekiq's own counts",
        ),
    };
    const moment = { now, random: Math.random(), newId: randomUUID };
    try {
      const activeJob = this.job.activeJob !== undefined;
      return lifecycle.settle(this.message, outcome, { ...rules, activeJob }, moment);
    } catch (error) {
      // The job cannot be encoded again (half a surrogate pair among its arguments). If the write were tried forever, the job would never end.
      const failed = { kind: 'error', error: toFailure(error), retriable: true } as const;
      return lifecycle.settle(this.message, failed, rules, moment);
    }
  }

  /** Calls `retriesExhausted`. Returns whether the job must not go to the dead set. */
  async #tellExhausted({ error }: lifecycle.SidekiqTransition): Promise<boolean> {
    const exhausted = this.#rule?.options.retriesExhausted;
    if (exhausted === undefined || error === undefined) return false;
    try {
      return (await exhausted(this.job, error)) === 'discard';
    } catch (thrown) {
      const { task, id } = this.job;
      this.#context.log.error({ task, id, error: thrown }, 'retriesExhausted threw; the job goes to the dead set');
      return false;
    }
  }

  #count(failed: boolean): void {
    if (this.#counted) return;
    this.#counted = true;
    const ms = this.#startedAtMs === 0 ? 0 : Date.now() - this.#startedAtMs;
    this.#context.count(displayClass(this.message.hash), failed, ms);
  }
}

function succeeded(): Disposition {
  return SUCCEEDED;
}
