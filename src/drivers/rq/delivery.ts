import { toFailure } from '../../../protocols/errors.ts';
import type { Disposition, Failure, Job, Outcome, Transition } from '../../../protocols/job.ts';
import * as lifecycle from '../../../protocols/rq/lifecycle.ts';
import type { NotOurs, Settlement } from '../../../protocols/rq/redis.ts';
import { ConfigError } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import type { Delivery } from '../../source.ts';
import { callBack, type RqCallback, type RqFailure, type RqStopped, type RqSuccess } from './callbacks.ts';

/** The parts of its source that a delivery uses. */
export interface DeliveryHost {
  readonly log: Logger;
  /** Written together with the other settlements of this tick. */
  settle(delivery: RqDelivery, settlement: Settlement): Promise<'done' | NotOurs>;
  callback(name: string): RqCallback | undefined;
  /** Called when the settlement is written. */
  ended(delivery: RqDelivery, settlement: Settlement): void;
}

/** One run of a job. The claim has started it already, so `begin` has nothing to write. */
export class RqDelivery implements Delivery {
  readonly job: Job;
  readonly run: lifecycle.Execution & { readonly execution: string; readonly startedAt: Date };
  /** Set when a command asked to end the run: which end to report. */
  ending: 'stopped' | 'killed' | undefined;
  lost = false;
  /** Whether a handler here can run it. */
  readonly isKnown: boolean;
  readonly unknown: string | undefined;
  readonly #host: DeliveryHost;
  readonly #policy: lifecycle.RqPolicy;
  #transition: Promise<Transition<Settlement>> | undefined;
  #attempts = 0;

  constructor(
    host: DeliveryHost,
    run: RqDelivery['run'],
    job: Job,
    policy: lifecycle.RqPolicy,
    { isKnown, unknown }: Pick<RqDelivery, 'isKnown' | 'unknown'>,
  ) {
    this.isKnown = isKnown;
    this.unknown = unknown;
    this.#host = host;
    this.run = run;
    this.job = job;
    this.#policy = policy;
  }

  begin(): undefined {
    return undefined;
  }

  async settle(outcome: Outcome): Promise<Disposition> {
    // The outcome is decided once, so that a repeated write writes the same, and callbacks are called once.
    const { disposition, write } = await (this.#transition ??= this.#decide(outcome));
    const first = this.#attempts++ === 0;
    const settled = await this.#host.settle(this, write);
    if (settled === 'done' || !first) {
      this.#host.ended(this, write);
      return disposition;
    }
    // This worker no longer has the run, or the job does not exist any more.
    const { id } = this.job;
    const { status } = settled;
    const fields = { id, task: this.job.task, queue: this.job.queue, status };
    if (status === 'canceled') return { state: 'cancelled' };
    if (status === undefined) {
      this.#host.log.info(fields, 'the job was deleted while it ran; its outcome is not stored');
      return { state: 'discarded' };
    }
    this.#host.log.warn(
      fields,
      'the run was taken from this worker while it ran, so its outcome is not stored: somebody counted it as abandoned',
    );
    return { state: 'requeued' };
  }

  /** RQ supports no custom states. */
  update(): Promise<never> {
    const what = 'rq: a job has no states of its own; store what it has done so far with currentJob(job).saveMeta()';
    return Promise.reject(new ConfigError(what));
  }

  /** The same message as RQ's own worker writes for a name that it cannot import. */
  rejectUnknown(why: string): Outcome {
    const message = `Invalid attribute name: ${this.job.task} (jobglot: ${why})`;
    return { kind: 'fail', error: { type: 'ValueError', message, traceback: '' } };
  }

  /** The settlement for a job that fails without a run. */
  failure(outcome: Outcome): Settlement {
    return lifecycle.settle(this.run, outcome, this.#policy, new Date()).write;
  }

  async release(): Promise<void> {
    await this.#host.settle(this, lifecycle.giveBack(this.run, new Date(), 'head'));
  }

  async #decide(outcome: Outcome): Promise<Transition<Settlement>> {
    const seen = await this.#called(outcome);
    let transition: lifecycle.RqTransition;
    try {
      transition = lifecycle.settle(this.run, seen, this.#policy, new Date());
    } catch (error) {
      // The value cannot be read at all. If the write were tried forever, the job would never end.
      return lifecycle.settle(this.run, { kind: 'fail', error: toFailure(error) }, this.#policy, new Date());
    }
    const { unwritable: error } = transition;
    if (error !== undefined) {
      const { id, task, queue } = this.job;
      const what = `the result cannot be serialized; as RQ does, '${lifecycle.UNSERIALIZABLE}' is stored in its place`;
      this.#host.log.warn({ id, task, queue, error }, what);
    }
    return transition;
  }

  /** The outcome after the job's callbacks have been called. A success whose callback throws becomes a failure. */
  async #called(told: Outcome): Promise<Outcome> {
    const outcome = this.#asAsked(told);
    const { job: hash } = this.run;
    switch (outcome.kind) {
      case 'success': {
        const name = hash.successCallbackName;
        if (name === undefined) return outcome;
        const thrown = await this.#call(name, hash.successCallbackTimeout, { event: 'success', value: outcome.value });
        return thrown === undefined ? outcome : this.#called({ kind: 'error', error: thrown, retriable: true });
      }
      case 'error':
      case 'fail':
      case 'timeout': {
        const name = hash.failureCallbackName;
        // For a killed job no callback is called, as in RQ.
        if (name === undefined || (told.kind === 'cancelled' && this.ending === 'killed')) return outcome;
        const error = outcome.kind === 'timeout' ? lifecycle.timedOut(outcome.limitMs) : outcome.error;
        const thrown = await this.#call(name, hash.failureCallbackTimeout, { event: 'failure', error });
        // As in RQ, the error of the callback replaces the error of the job.
        return thrown === undefined
          ? outcome
          : { kind: outcome.kind === 'fail' ? 'fail' : 'error', error: thrown, retriable: true };
      }
      case 'cancelled': {
        const name = hash.stoppedCallbackName;
        if (name !== undefined) {
          const thrown = await this.#call(name, hash.stoppedCallbackTimeout, { event: 'stopped' });
          if (thrown !== undefined)
            this.#host.log.error({ id: this.job.id, callback: name, error: thrown }, 'the callback on_stopped failed');
        }
        return outcome;
      }
      case 'retry':
      case 'discard':
      case 'reject':
      case 'replace':
      case 'expired':
      case 'postpone':
      case 'unknown':
        return outcome;
    }
  }

  /** `kill-horse` is not a stop: the job fails like a job whose process was killed. */
  #asAsked(outcome: Outcome): Outcome {
    if (outcome.kind !== 'cancelled' || this.ending !== 'killed') return outcome;
    const message = 'Work-horse terminated unexpectedly; waitpid returned 9 (signal 9); ';
    return { kind: 'error', error: { type: 'Error', message, traceback: message }, retriable: true };
  }

  /** The error that the callback threw; undefined if it ended well or has no function here. */
  async #call(
    name: string,
    timeout: number | undefined,
    what: RqSuccess | RqFailure | RqStopped,
  ): Promise<Failure | undefined> {
    const callback = this.#host.callback(name);
    if (callback === undefined) return undefined;
    return callBack(callback, timeout, { job: this.job, hash: this.run.job, log: this.#host.log, ...what });
  }
}
