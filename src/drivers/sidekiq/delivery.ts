import { randomUUID } from 'node:crypto';
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
import { type SidekiqProcess, SUCCEEDED, type Working } from './process.ts';

const REQUEUED: Disposition = { state: 'requeued' };

/** One job in the hands of its handler. */
export class SidekiqDelivery implements Delivery, Holder, Working {
  readonly job: SidekiqJob;
  readonly message: SidekiqMessage;
  /** Others have the job: it is not to be started. */
  lost = false;
  readonly #process: SidekiqProcess;
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
    process: SidekiqProcess,
    message: SidekiqMessage,
    claim: string | undefined,
    rule: ClassRule | undefined,
    { fetchedFor, wrapped }: { readonly fetchedFor?: { readonly look: number }; readonly wrapped?: WrappedJob } = {},
  ) {
    this.#process = process;
    this.message = message;
    this.#claim = claim;
    this.#rule = rule;
    this.#fetchedFor = fetchedFor;
    this.#look = fetchedFor?.look ?? 0;
    this.job = toJob(message, rule?.limits, wrapped);
    if (rule?.iterable === true) {
      this.#iteration = new RedisIteration(process, this.job.id);
      Object.defineProperty(this.job, ITERATION, { value: this.#iteration });
    }
    if (claim !== undefined) process.claims.holds(claim, this);
  }

  /** Whether it was fetched for this one, up to this look, and has not been started. */
  waits(fetchedFor: object, look: number): boolean {
    return this.#fetchedFor === fetchedFor && this.#look <= look && this.#startedAtMs === 0 && !this.lost;
  }

  get work(): Work {
    const { queue, text: payload } = this.message;
    this.#tid ??= this.#process.newTid();
    return { tid: this.#tid, queue, payload, runAtMs: this.#startedAtMs };
  }

  /** Nothing on the wire: the next beat shows it. */
  begin(): undefined {
    this.#startedAtMs = Date.now();
    if (this.#claim !== undefined) this.#process.claims.begins(this.#claim);
    this.#process.working.add(this);
  }

  lose(): void {
    this.lost = true;
  }

  settle(outcome: Outcome): Promise<Disposition> {
    if (outcome.kind !== 'success') return this.#settle(outcome);
    this.#count(false);
    if (this.#claim === undefined) return Promise.resolve(SUCCEEDED);
    return this.#process.acknowledge(this.#claim).then(succeeded);
  }

  /** Once: what waits here may be given back by its lane and by the prefetch at the same time. */
  release(): Promise<void> {
    this.#process.working.delete(this);
    if (this.lost && this.#releasing === undefined) return Promise.resolve();
    return (this.#releasing ??= this.#release());
  }

  async #release(): Promise<void> {
    this.lost = true;
    try {
      await this.#process.dispose(this.#claim, lifecycle.release(this.message, this.#process.keys));
    } catch (error) {
      this.lost = false;
      this.#releasing = undefined;
      throw error;
    }
  }

  async #settle(outcome: Outcome): Promise<Disposition> {
    // Decided once: a write that is tried again writes the same bytes.
    const transition = (this.#transition ??= this.#decide(outcome));
    this.#count(transition.failed);
    const discarded = transition.exhausted && (await (this.#told ??= this.#tellExhausted(transition)));
    const commands = discarded ? [] : transition.write.commands;
    this.#writes += 1;
    const done = await this.#process.dispose(this.#claim, commands);
    const { disposition } = transition;
    // A claim that is gone at the first try was taken away. At a second one it was the first that did it, unheard.
    if (!done && this.#writes === 1) return REQUEUED;
    if (disposition.state === 'retrying') this.#process.poller.expect(disposition.at.getTime());
    return disposition;
  }

  #decide(outcome: Outcome): lifecycle.SidekiqTransition {
    const { keys, dialect, options, log } = this.#process;
    const { options: own, policy } = this.#rule ?? {};
    const now = new Date();
    if (this.#iteration?.wasInterrupted === true && outcome.kind === 'reject')
      return lifecycle.interrupted(this.message, { keys, dialect }, now);
    const retryIn = own?.retryIn;
    const rules: lifecycle.SidekiqPolicy = {
      ...policy,
      keys,
      dialect,
      maxRetries: options.maxRetries,
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
      // A job that cannot be written anew (half a surrogate pair among its arguments): tried for ever, it would never end.
      const failed = { kind: 'error', error: toFailure(error), retriable: true } as const;
      return lifecycle.settle(this.message, failed, rules, moment);
    }
  }

  /** Whether the class will not have it in the dead set. */
  async #tellExhausted({ error }: lifecycle.SidekiqTransition): Promise<boolean> {
    const exhausted = this.#rule?.options.retriesExhausted;
    if (exhausted === undefined || error === undefined) return false;
    try {
      return (await exhausted(this.job, error)) === 'discard';
    } catch (thrown) {
      const { task, id } = this.job;
      this.#process.log.error({ task, id, error: thrown }, 'retriesExhausted threw; the job goes to the dead set');
      return false;
    }
  }

  #count(failed: boolean): void {
    if (this.#counted) return;
    this.#counted = true;
    this.#process.working.delete(this);
    const ms = this.#startedAtMs === 0 ? 0 : Date.now() - this.#startedAtMs;
    this.#process.count(displayClass(this.message.hash), failed, ms);
  }
}

function succeeded(): Disposition {
  return SUCCEEDED;
}
