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

/** What the worker knows about the tasks of one name. */
export interface DeliveryRules {
  readonly policy: lifecycle.CeleryPolicy;
  readonly limits: { readonly timeoutMs: number | undefined; readonly softTimeoutMs: number | undefined };
  readonly trackStarted: boolean;
  readonly rejectOnWorkerLost: boolean;
}

/** What a delivery needs of its source. */
export interface DeliveryHost {
  readonly broker: CeleryBroker;
  readonly backend: ResultBackend;
  readonly writeExecutor: WriteExecutor;
  readonly requests: Requests;
  readonly events: EventDispatcher;
  /** Undefined where a task that comes again runs again. */
  readonly successes: Successes | undefined;
  carry(claim: Claim, writes: lifecycle.CeleryWrites, origin: WriteOrigin, done: Progress): Promise<void>;
  /** Hold the claim until `at`, then deliver its message again. False where that cannot be. */
  postpone(claim: Claim, message: TaskMessage, at: Date): boolean;
}

/** One claimed message in the hands of its handler. */
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
  /** The events of its end were sent. */
  #told = false;
  /** It succeeded in an earlier delivery. */
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

  /** What it keeps in memory, about: its body twice, and its headers. */
  get bytes(): number {
    return 2 * this.#claim.bytes.byteLength + 2_000;
  }

  /** Celery's way: NotRegistered, and the message is refused. */
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
    // Decided once: a write that is tried again writes the same bytes.
    const transition = (this.#transition ??= this.#decide(outcome));
    const { state } = transition.disposition;
    // What comes again is told of first: otherwise the events of its next run may come before.
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
   * A message that is not acknowledged is held for a while, and nothing is written: it stays claimed. Undefined where it must be published again: it was
   * acknowledged at its start, the time is long, or the worker stops.
   */
  #hold(delayMs: number): Disposition | undefined {
    const { requests } = this.#source;
    const at = new Date(Date.now() + delayMs);
    if (!this.#known.policy.acksLate || this.#done.acked) return undefined;
    if (!this.#source.postpone(this.#claim, this.message, at)) return undefined;
    requests.done(this);
    return { state: 'postponed', at };
  }

  /** The events of its end, once: a settle may be tried again. */
  #tell(outcome: Outcome, { disposition: { state }, write: { ack } }: Transition<lifecycle.CeleryWrites>): void {
    const { events } = this.#source;
    if (this.#told || !events.tasks) return;
    this.#told = true;
    const { id, task } = this.message;
    if (outcome === this.#rejection) return events.task(taskUnknown(id, task));
    // Before its end, as in Celery's on_failure.
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
      // A message that cannot be written once more (a retry of headers nested too deep): tried for ever, it would never end.
      return lifecycle.settle(this.message, { kind: 'fail', error: toFailure(error) }, policy, this.#moment());
    }
  }

  /** The broker cannot hold it as it would come again (headers that leave no room in a frame): it fails, and its caller is told. */
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
    // Acknowledged at its start: it may not run twice, so it ends as a job whose worker was lost, and its caller is told.
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

  /** Delivered before: it may have succeeded then, and not have been acknowledged. */
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

  /** Publish a signature as this task's own: what one waits for, and undefined for an empty chain. */
  async apply(signature: Signature, args: readonly unknown[]): Promise<ResultTuple | undefined> {
    const { policy } = this.#known;
    const application = apply(signature, { args }, this.origin.publisher());
    await this.carry(published(application, policy.typed));
    (this.#sent ??= []).push(...application.children);
    return application.result;
  }

  /** Writes of a built-in task: what becomes of a chord. */
  carry(writes: Writes): Promise<void> {
    return this.#source.writeExecutor.execute(writes, this.origin, notYet());
  }

  #moment(): RunMoment {
    const { queue } = this.#claim;
    return this.#sent === undefined ? { ...moment(), queue } : { ...moment(), queue, sent: this.#sent };
  }
}

/** On behalf of a claimed message. What most tasks never need is put together when it is asked for. */
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

/** Where the caller waits, for backends that send results to it. */
function requestOf({ message }: Claim): ResultRequest {
  const { reply_to: replyTo, correlation_id: correlationId } = message?.properties ?? {};
  return {
    replyTo: typeof replyTo === 'string' && replyTo !== '' ? replyTo : undefined,
    correlationId: typeof correlationId === 'string' ? correlationId : undefined,
  };
}
