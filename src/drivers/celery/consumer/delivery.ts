import { randomUUID } from 'node:crypto';
import { apply } from '../../../../protocols/celery/canvas/apply.ts';
import type { Publisher } from '../../../../protocols/celery/message/call.ts';
import {
  taskCancelled,
  taskEnded,
  taskRejected,
  taskStarted,
  taskUnknown,
} from '../../../../protocols/celery/control/event.ts';
import { published } from '../../../../protocols/celery/outcome/links.ts';
import { freeze } from '../../../../protocols/celery/canvas/freeze.ts';
import * as lifecycle from '../../../../protocols/celery/outcome/lifecycle.ts';
import { type TaskMessage, toJob } from '../../../../protocols/celery/message/message.ts';
import { type CeleryPolicy, publisherOf, type RunMoment } from '../../../../protocols/celery/outcome/policy.ts';
import { succeededBefore } from '../../../../protocols/celery/outcome/redelivery.ts';
import { chordMember } from '../../../../protocols/celery/canvas/replace.ts';
import type { ResultTuple } from '../../../../protocols/celery/outcome/result.ts';
import { readSignature, type Signature } from '../../../../protocols/celery/canvas/signature.ts';
import type { Writes } from '../../../../protocols/celery/outcome/writes.ts';
import { toFailure, WireError } from '../../../../protocols/errors.ts';
import type { Disposition, Job, Moment, Outcome, Transition } from '../../../../protocols/job.ts';
import { ConfigError } from '../../../errors.ts';
import type { Delivery } from '../../../source.ts';
import type { CeleryBroker, Claim, ResultBackend, ResultRequest } from '../brokers/broker.ts';
import { CANVAS, type Canvas } from '../canvas/canvas.ts';
import { type WriteOrigin, type WriteExecutor, notYet, type Progress } from './write-executor.ts';
import type { EventDispatcher } from '../control/dispatcher.ts';
import type { DelayedRequest, Requests } from './requests.ts';
import type { Success, Successes } from './successes.ts';

/** The worker's rules for the tasks of one name. */
export interface DeliveryRules {
  readonly policy: lifecycle.CeleryPolicy;
  readonly limits: { readonly timeoutMs: number | undefined; readonly softTimeoutMs: number | undefined };
  readonly trackStarted: boolean;
  readonly rejectOnWorkerLost: boolean;
}

/** The parts of the source that a delivery needs. */
export interface DeliveryHost {
  readonly broker: CeleryBroker;
  readonly backend: ResultBackend;
  readonly writeExecutor: WriteExecutor;
  readonly requests: Requests;
  readonly events: EventDispatcher;
  /** Undefined if a redelivered task always runs again. */
  readonly successes: Successes | undefined;
  carry(claim: Claim, writes: lifecycle.CeleryWrites, origin: WriteOrigin, done: Progress): Promise<void>;
  /** Holds the claim until `at`, then delivers its message again. Returns false if it cannot be held. */
  postpone(claim: Claim, message: TaskMessage, at: Date): boolean;
}

/** One claimed message, while its handler runs. */
export class CeleryDelivery implements Delivery, Canvas, DelayedRequest {
  readonly job: Job;
  readonly message: TaskMessage;
  startedAt: number | undefined;
  signum: number | null = null;
  readonly #source: DeliveryHost;
  readonly #claim: Claim;
  readonly #known: DeliveryRules;
  readonly #by: { readonly pid: number; readonly hostname: string };
  readonly #done = notYet();
  #sent: ResultTuple[] | undefined;
  #origin: WriteOrigin | undefined;
  #transition: Transition<lifecycle.CeleryWrites> | undefined;
  /** The events about its end were sent. */
  #told = false;
  /** Set if the task succeeded in an earlier delivery. */
  #before: Success | undefined;
  /** Seconds. */
  #runtime: number | undefined;
  /** The outcome of `rejectUnknown`. */
  #rejection: Outcome | undefined;

  constructor(
    source: DeliveryHost,
    claim: Claim,
    message: TaskMessage,
    known: DeliveryRules,
    by: { readonly pid: number; readonly hostname: string },
  ) {
    this.#source = source;
    this.#claim = claim;
    this.message = message;
    this.#known = known;
    this.#by = by;
    const job: Job & { [CANVAS]?: Canvas } = toJob(message, claim.queue, known.limits);
    job[CANVAS] = this;
    this.job = job;
  }

  get lost(): boolean {
    return this.#claim.lost === true && !this.#done.acked;
  }

  begin(): Promise<Outcome | void> | undefined {
    const { policy, trackStarted } = this.#known;
    const { successes } = this.#source;
    if (successes !== undefined && policy.acksLate && this.message.redelivered) return this.#beginAgain(successes);
    if (!policy.acksLate || trackStarted) return this.#begin();
    this.#start();
    return undefined;
  }

  /** An estimate of its memory: twice its body, and its headers. */
  get bytes(): number {
    return 2 * this.#claim.bytes.byteLength + 2_000;
  }

  /** Rejects an unknown task as Celery does: it fails with NotRegistered, and the message is rejected. */
  rejectUnknown(): Outcome {
    const { task } = this.message;
    const error = { type: 'NotRegistered', module: 'celery.exceptions', message: task, traceback: '' };
    return (this.#rejection ??= { kind: 'fail', error });
  }

  get acknowledged(): boolean {
    return this.#done.acked;
  }

  async settle(outcome: Outcome): Promise<Disposition> {
    this.#runtime ??= this.startedAt === undefined ? 0 : Math.max(0, Date.now() / 1000 - this.startedAt);
    if (outcome.kind === 'postpone' && this.#transition === undefined) {
      const held = this.#hold(outcome.delayMs);
      if (held !== undefined) return held;
    }
    // The transition is computed once, so that a retried write writes the same bytes.
    const transition = (this.#transition ??= this.#decide(outcome));
    const { state } = transition.disposition;
    // For a task that will run again, the events are sent first. Otherwise the events of its next run might come before them.
    if (state === 'retrying' || state === 'requeued') this.#tell(outcome, transition);
    try {
      await this.#source.carry(this.#claim, transition.write, this.origin, this.#done);
    } catch (error) {
      if (!(error instanceof WireError) || this.#done.published || transition.write.replacesTask !== true) throw error;
      return this.#cannotGoOn(error);
    }
    if (state === 'succeeded' && this.#known.policy.acksLate) this.#source.successes?.add(this.message.id);
    this.#source.requests.done(this);
    this.#tell(outcome, transition);
    return transition.disposition;
  }

  /**
   * Holds a message that is not acknowledged, without any write: it stays claimed. Returns undefined if the message must be published again: it was
   * acknowledged at its start, the delay is too long, or the worker is stopping.
   */
  #hold(delayMs: number): Disposition | undefined {
    const { requests } = this.#source;
    const at = new Date(Date.now() + delayMs);
    if (!this.#known.policy.acksLate || this.#done.acked) return undefined;
    if (!this.#source.postpone(this.#claim, this.message, at)) return undefined;
    requests.done(this);
    return { state: 'postponed', at };
  }

  /** Sends the events about its end, once: `settle` may be retried. */
  #tell(outcome: Outcome, { disposition: { state }, write: { ack } }: Transition<lifecycle.CeleryWrites>): void {
    const { events } = this.#source;
    if (this.#told || !events.tasks) return;
    this.#told = true;
    const { id, task } = this.message;
    if (outcome === this.#rejection) return events.task(taskUnknown(id, task));
    // This event comes before the event about the end, as in Celery's on_failure.
    if (outcome.kind !== 'reject' && (ack === 'reject' || ack === 'requeue'))
      events.task(taskRejected(id, ack === 'requeue'));
    const { exceptions } = this.#known.policy;
    const event = taskEnded(id, outcome, { state, runtime: this.#runtime ?? 0, signum: this.signum, exceptions });
    if (event !== undefined) events.task(event);
  }

  #decide(outcome: Outcome): Transition<lifecycle.CeleryWrites> {
    const { policy } = this.#known;
    if (this.#before !== undefined && outcome.kind === 'success')
      return succeededBefore(this.message, this.#before.stored, policy, this.#moment());
    if (outcome === this.#rejection) return lifecycle.rejectUnknown(this.message, policy, this.#moment());
    try {
      return lifecycle.settle(this.message, outcome, policy, this.#moment());
    } catch (error) {
      // The message cannot be written again (a retry whose headers are nested too deep). The task fails: a retried write would never succeed.
      return lifecycle.settle(this.message, { kind: 'fail', error: toFailure(error) }, policy, this.#moment());
    }
  }

  /** The broker cannot hold the new message of the task (its headers leave no room in a frame). The task fails, and its caller gets that result. */
  #cannotGoOn(error: WireError): Promise<Disposition> {
    const outcome = { kind: 'fail', error: toFailure(error) } as const;
    this.#transition = lifecycle.settle(this.message, outcome, this.#known.policy, this.#moment());
    this.#told = false;
    return this.settle(outcome);
  }

  async release(): Promise<void> {
    if (!this.#done.acked) {
      if (this.#known.rejectOnWorkerLost || this.startedAt === undefined) {
        const { broker, requests, events } = this.#source;
        if (events.tasks && this.startedAt !== undefined && !this.#told) {
          this.#told = true;
          events.task(taskCancelled(this.message.id));
        }
        await broker.requeue(this.#claim, 'front');
        requests.done(this);
        return;
      }
    }
    // It was acknowledged at its start, so it may not run twice. It fails with WorkerLostError, and its caller gets that result.
    await this.settle({
      kind: 'fail',
      error: {
        type: 'WorkerLostError',
        module: 'billiard.exceptions',
        message: `Worker exited prematurely: the worker stopped while the task was running (${this.#by.hostname})`,
        traceback: '',
      },
    });
  }

  async update(state: string, meta: unknown): Promise<void> {
    const write = lifecycle.custom(this.message, state, meta, this.#known.policy, this.#sent);
    await this.#source.backend.store(write.id, write.meta, requestOf(this.#claim));
  }

  /** Begins a redelivered task: it may have succeeded in an earlier delivery that was not acknowledged. */
  async #beginAgain(successes: Successes): Promise<Outcome | void> {
    this.#before = await successes.find(this.message);
    if (this.#before === undefined) return this.#begin();
    this.#start();
    return { kind: 'success', value: this.#before.value };
  }

  async #begin(): Promise<void> {
    const { policy, trackStarted } = this.#known;
    if (!policy.acksLate && !this.#done.acked) {
      await this.#source.broker.ack(this.#claim, true);
      this.#done.acked = true;
    }
    const write = trackStarted ? lifecycle.started(this.message, this.#by, policy) : undefined;
    if (write !== undefined) await this.#source.backend.store(write.id, write.meta, requestOf(this.#claim));
    this.#start();
  }

  #start(): void {
    const { requests, events } = this.#source;
    this.startedAt = Date.now() / 1000;
    requests.accept(this);
    if (events.tasks) events.task(taskStarted(this.message.id));
  }

  get origin(): WriteOrigin {
    return (this.#origin ??= new ClaimOrigin(this.message, this.#claim, this.#known.policy));
  }

  async send(signature: unknown, args: readonly unknown[] = []): Promise<string | undefined> {
    return (await this.apply(readSignature(signature), args))?.[0][0];
  }

  async addToChord(signature: unknown): Promise<string> {
    const { chords } = this.#source.backend;
    const member = freeze(chordMember(this.message, signature), {}, this.origin.publisher());
    if (chords === undefined)
      throw new ConfigError('celery: this result backend does not count chords; a chord cannot get more members');
    await chords.grow(this.message.group as string);
    await this.apply(member.signature, []);
    return member.result[0][0];
  }

  /** Publishes a signature as a child of this task. Resolves to its result tuple, or undefined for an empty chain. */
  async apply(signature: Signature, args: readonly unknown[]): Promise<ResultTuple | undefined> {
    const { policy } = this.#known;
    const application = apply(signature, { args }, this.origin.publisher());
    await this.carry(published(application, policy.typed));
    (this.#sent ??= []).push(...application.children);
    return application.result;
  }

  /** Executes the writes of a built-in task, such as the failure of a chord's body. */
  carry(writes: Writes): Promise<void> {
    return this.#source.writeExecutor.execute(writes, this.origin, notYet());
  }

  #moment(): RunMoment {
    const { queue } = this.#claim;
    return this.#sent === undefined ? { ...moment(), queue } : { ...moment(), queue, sent: this.#sent };
  }
}

/** The origin of writes for a claimed message. Values that most tasks never need are computed on first use. */
export class ClaimOrigin implements WriteOrigin {
  readonly policy: CeleryPolicy;
  readonly #message: TaskMessage;
  readonly #claim: Claim;

  constructor(message: TaskMessage, claim: Claim, policy: CeleryPolicy) {
    this.#message = message;
    this.#claim = claim;
    this.policy = policy;
  }

  get id(): string {
    return this.#message.id;
  }
  get task(): string {
    return this.#message.shownAs;
  }
  get queue(): string {
    return this.#claim.queue;
  }
  get redelivered(): boolean {
    return this.#message.redelivered;
  }
  get to(): ResultRequest {
    return requestOf(this.#claim);
  }
  publisher(): Publisher {
    return publisherOf(this.#message, this.policy, moment());
  }
}

export function moment(): Moment {
  return { now: new Date(), random: Math.random(), newId: randomUUID };
}

/** The reply queue of the caller, for backends that send results. */
function requestOf({ message }: Claim): ResultRequest {
  const { reply_to: replyTo, correlation_id: correlationId } = message?.properties ?? {};
  return {
    replyTo: typeof replyTo === 'string' && replyTo !== '' ? replyTo : undefined,
    correlationId: typeof correlationId === 'string' ? correlationId : undefined,
  };
}
