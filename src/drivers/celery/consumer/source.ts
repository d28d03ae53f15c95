import { setMaxListeners } from 'node:events';
import { LamportClock } from '../../../../protocols/celery/control/clock.ts';
import { EVENT_EXCHANGE, taskReceived, taskUnknown } from '../../../../protocols/celery/control/event.ts';
import * as lifecycle from '../../../../protocols/celery/outcome/lifecycle.ts';
import {
  decodeTask,
  exactHeaders,
  peek,
  type Publication,
  type TaskMessage,
  type WireMessage,
} from '../../../../protocols/celery/message/message.ts';
import { acceptSet, type DecodeOptions, plain } from '../../../../protocols/celery/message/serializers.ts';
import { apply } from '../../../../protocols/celery/canvas/apply.ts';
import { published } from '../../../../protocols/celery/outcome/links.ts';
import { readSignature } from '../../../../protocols/celery/canvas/signature.ts';
import { configuredQueue, withSettings, workerDirectQueue } from '../../../../protocols/celery/brokers/topology.ts';
import { type ErrbackCall, NO_WRITES } from '../../../../protocols/celery/outcome/writes.ts';
import { WireError } from '../../../../protocols/errors.ts';
import type { Job, Outcome } from '../../../../protocols/job.ts';
import { ConfigError } from '../../../errors.ts';
import { type Logger, logs, silent } from '../../../log.ts';
import { retryUntilWritten } from '../../../retry-until-written.ts';
import { type Agent, type Delivery, every, type Host, pause, type Source } from '../../../source.ts';
import type { Registration, Registry } from '../../../task.ts';
import type { CeleryBroker, Claim, QueueSpec, ResultBackend } from '../brokers/broker.ts';
import { builtins } from './builtins.ts';
import { type WriteOrigin, WriteExecutor, notYet, type Progress } from './write-executor.ts';
import { RemoteControl } from '../control/control.ts';
import { CeleryDelivery, ClaimOrigin, moment } from './delivery.ts';
import { EventDispatcher } from '../control/dispatcher.ts';
import { Gossip } from '../control/gossip.ts';
import { DelayQueue } from '../../../delay-queue.ts';
import { type CeleryOptions, nodename, resolveApp, type ResolvedApp, wholeNumber } from '../options.ts';
import type { Controlled } from '../control/panel.ts';
import { type DelayedRequest, Requests } from './requests.ts';
import { Revoked } from './revoked.ts';
import { reportText, settingsOf, statsOf } from '../control/self-report.ts';
import { Successes } from './successes.ts';
import { type TaskRule, TaskRules } from './task-rules.ts';

/** A claim that waits: for its ETA, for its rate limit, or to go back to the queue. Due, it is a delivery or nothing. */
interface DelayedClaim {
  readonly claim: Claim;
  readonly due: () => Delivery | undefined;
  /** Waits for its turn. */
  readonly request?: DelayedRequest;
  /** Waits for its ETA. */
  readonly scheduled?: { readonly eta: Date; readonly message: TaskMessage };
}

/** How many unknown tasks are held at once, at most. */
const STRANGERS = 1_000;

/** A Celery worker's consuming side, over any broker and any result backend. */
export class CelerySource implements Source {
  readonly system = 'celery';
  /** Remote control changes these three. */
  concurrency: number;
  prefetch: number;
  queues: readonly string[];
  readonly agents: readonly Agent[];
  readonly tasks: Registry;
  readonly nodename: string;
  readonly revoked: Revoked = new Revoked();
  readonly clock: LamportClock = new LamportClock();
  readonly requests: Requests = new Requests();
  readonly events: EventDispatcher;
  readonly broker: CeleryBroker;
  readonly backend: ResultBackend;
  readonly writeExecutor: WriteExecutor;
  readonly successes: Successes | undefined;
  readonly #options: CeleryOptions;
  readonly #app: ResolvedApp;
  readonly #rules: TaskRules;
  readonly #decode: DecodeOptions;
  readonly #control: RemoteControl | undefined;
  readonly #gossip: Gossip | undefined;
  readonly #multiplier: number;
  readonly #startedAt = performance.now();
  #queueSpecs: readonly QueueSpec[];
  readonly #configured: readonly QueueSpec[];
  readonly #delayed = new DelayQueue<DelayedClaim>();
  readonly #unknownSaid = new Map<string, number>();
  readonly #etaLimit: number;
  /** Unknown tasks held before they go back. */
  #strangers = 0;
  #host: Host | undefined;
  #log: Logger = silent;
  #claiming: Promise<readonly Claim[]> | undefined;
  /** Writes under way for messages that became no delivery. */
  readonly #chores = new Set<Promise<unknown>>();
  readonly #closing = new AbortController();

  constructor(options: CeleryOptions, broker: CeleryBroker, backend: ResultBackend) {
    this.#options = options;
    this.#app = resolveApp(options);
    this.broker = broker;
    this.backend = backend;
    this.concurrency = wholeNumber('concurrency', options.concurrency ?? 10, 1);
    this.#multiplier = wholeNumber('prefetchMultiplier', options.prefetchMultiplier ?? 4, 1);
    this.prefetch = this.concurrency * (this.#multiplier - 1);
    this.nodename = nodename(options.nodename);
    this.#queueSpecs = [
      ...(options.queues ?? [this.#app.taskDefaultQueue]).map((queue) =>
        typeof queue === 'string' ? { name: queue } : asConfigured(queue, options),
      ),
      ...(options.workerDirect === true ? [workerDirectQueue(this.nodename)] : []),
    ];
    this.#configured = this.#queueSpecs;
    this.queues = namesOf(this.#queueSpecs);
    this.#rules = new TaskRules({
      options,
      app: this.#app,
      backend,
      nodename: this.nodename,
      find: (name) => this.#registration(name),
    });
    this.#decode = { accept: acceptSet(this.#app.accept), limits: this.#app.limits };
    const { broadcast } = broker;
    const exchange = options.eventExchange ?? EVENT_EXCHANGE;
    const tasks = options.workerSendTaskEvents ?? false;
    this.events = new EventDispatcher({ hostname: this.nodename, clock: this.clock, broadcast, exchange, tasks });
    if (broadcast !== undefined && options.gossip === true)
      this.#gossip = new Gossip({
        nodename: this.nodename,
        clock: this.clock,
        events: this.events,
        broadcast,
        exchange,
        decode: this.#decode,
        call: (signature) => this.#callSignature(signature),
      });
    if (broadcast !== undefined && (options.workerEnableRemoteControl ?? true))
      this.#control = new RemoteControl({
        worker: this.#controlled(),
        broadcast,
        namespace: options.controlExchange ?? 'celery',
        serializer: this.#app.taskSerializer,
        typed: this.#app.typedJson,
        decode: this.#decode,
      });
    this.agents = [...broker.agents, ...this.#ownAgents(broadcast !== undefined)];
    // Each chore that fails waits for it.
    setMaxListeners(0, this.#closing.signal);
    this.#etaLimit = wholeNumber('etaLimit', options.etaLimit ?? 1000, 0);
    this.writeExecutor = new WriteExecutor({
      broker,
      backend,
      log: () => this.#log,
      limits: this.#app.limits,
      joinTimeoutMs: (options.resultChordJoinTimeout ?? 3) * 1000,
      errback: (call, origin) => this.#errback(call, origin),
    });
    this.successes =
      options.workerDeduplicateSuccessfulTasks === true && backend.kind !== 'disabled' && backend.kind !== 'rpc'
        ? new Successes({
            backend,
            serializer: this.#app.resultSerializer,
            limits: this.#app.limits,
            log: () => this.#log,
          })
        : undefined;
    this.tasks = builtins({
      backend,
      limits: this.#app.limits,
      resultSerializer: this.#app.resultSerializer,
      find: (name) => this.#registration(name),
    });
  }

  async open(host: Host): Promise<void> {
    this.#host = host;
    this.#log = host.log;
    this.events.log = host.log;
    if (this.#gossip !== undefined) this.#gossip.log = host.log;
    if (this.#options.workerDeduplicateSuccessfulTasks === true && this.successes === undefined)
      host.log.warn(
        { backend: this.backend.address },
        'workerDeduplicateSuccessfulTasks has no effect: this result backend cannot be asked. Results in Redis or in files can',
      );
    await this.broker.open(host.log);
    await this.backend.open(host.log);
    for (const [id, until] of (await this.broker.revokes?.recall()) ?? []) this.revoked.add(id, until * 1000);
    await this.#control?.open(this.#options.mingle ?? true);
    await this.broker.consume(this.#queueSpecs, { prefetch: this.concurrency + this.prefetch });
    await this.#sayWorker('worker-online');
  }

  async receive(max: number, signal: AbortSignal): Promise<readonly Delivery[]> {
    while (!signal.aborted) {
      const ready = this.#due();
      if (ready.length > 0) return ready;
      if (this.#strangers >= STRANGERS) {
        // A queue full of other people's tasks: they pass through here a thousand at a time, not all at once.
        await Promise.race([this.#delayed.next(), pause(1_000, signal)]);
        continue;
      }
      const claiming = (this.#claiming ??= this.broker.receive(max, signal));
      // A hold that falls due must not wait for the next push; the claim under way stays, for the next call.
      let claims: readonly Claim[] | void;
      try {
        claims = await (this.#delayed.size === 0 ? claiming : Promise.race([claiming, this.#delayed.next()]));
      } catch (error) {
        this.#claiming = undefined;
        throw error;
      }
      // Quiet may have come first, and given these back.
      if (claims === undefined || this.#claiming !== claiming) continue;
      this.#claiming = undefined;
      const deliveries: Delivery[] = [];
      for (const claim of claims) {
        const delivery = this.#sort(claim);
        if (delivery !== undefined) deliveries.push(delivery);
      }
      if (deliveries.length > 0 || claims.length === 0) return deliveries;
    }
    return [];
  }

  async quiet(): Promise<void> {
    // What was claimed for a call that will not come is given back with the rest; a receive that still waits takes its own.
    const claiming = this.#claiming;
    const claims = (await claiming?.catch(() => [])) ?? [];
    const late = this.#claiming === claiming ? claims : [];
    this.#claiming = undefined;
    await this.broker.quiet();
    const waiting = this.#delayed.clear().map(({ claim, request }) => {
      if (request !== undefined) this.requests.done(request);
      return claim;
    });
    for (const claim of [...late, ...waiting].reverse()) {
      this.#executeWrite(claim, 'give back', () => this.#back(claim, 'front'));
    }
    await Promise.all(this.#chores);
  }

  async close(): Promise<void> {
    await Promise.race([Promise.all(this.#chores), pause(2_000)]);
    this.#closing.abort();
    await Promise.race([this.#sayGoodbye(), pause(1_000)]);
    await this.broker.close();
    await this.backend.close();
  }

  /** What remote control sees of this worker, and may change. */
  #controlled(): Controlled {
    const { broker, nodename, clock, requests, revoked, events } = this;
    return {
      nodename,
      clock,
      requests,
      revoked,
      events,
      log: () => this.#log,
      queues: () => this.#queueSpecs.map((queue) => asDeclared(queue, this.#options)),
      concurrency: () => this.concurrency,
      scheduled: () => this.#delayed.items.map(({ scheduled }) => scheduled).filter((held) => held !== undefined),
      taskNames: (builtins) => this.#taskNames(builtins),
      isTask: (name) => this.#registration(name) !== undefined,
      attributeOf: (task, attribute) => this.#rules.attribute(task, attribute),
      stats: () => this.#stats(),
      settings: (withDefaults) => settingsOf(this.#options, this.#app, this.#addresses(), withDefaults),
      report: () => reportText(settingsOf(this.#options, this.#app, this.#addresses(), false), this.#addresses()),
      recordRevoked: (ids) => this.#recordRevoked(ids),
      cancel: (id, reason, which) => void this.#host?.cancel(id, reason, which),
      resize: (by) => {
        this.concurrency += by;
        this.prefetch = this.concurrency * (this.#multiplier - 1);
        broker.resize?.(this.concurrency + this.prefetch);
        this.#host?.resized();
      },
      limitRate: (task, limit) => this.#rules.limit(task, { rate: limit }),
      limitTime: (task, time) => this.#rules.limit(task, { time }),
      ...(broker.addQueue === undefined || broker.removeQueue === undefined
        ? {}
        : {
            addQueue: async (queue) => {
              if (this.queues.includes(queue.name)) return;
              // One of the configuration keeps its exchange, also when it was taken off.
              const spec = this.#configured.find(({ name }) => name === queue.name) ?? queue;
              await broker.addQueue?.(spec);
              this.#consumed([...this.#queueSpecs, spec]);
            },
            removeQueue: async (name) => {
              await broker.removeQueue?.(name);
              this.#consumed(this.#queueSpecs.filter((queue) => queue.name !== name));
            },
          }),
      ...(this.#gossip === undefined ? {} : { elect: (id, topic, action) => this.#gossip?.elect(id, topic, action) }),
      stop: () => this.#host?.stop(),
    };
  }

  #consumed(specs: readonly QueueSpec[]): void {
    this.#queueSpecs = specs;
    this.queues = namesOf(specs);
  }

  #taskNames(builtins: boolean): readonly string[] {
    const names = new Set([...(this.#host?.tasks.names('celery') ?? []), ...this.tasks.names('celery')]);
    return [...names].filter((name) => builtins || !name.startsWith('celery.')).sort();
  }

  #stats(): unknown {
    return statsOf({
      total: this.requests.total,
      clock: this.clock.value,
      uptimeSeconds: (performance.now() - this.#startedAt) / 1000,
      concurrency: this.concurrency,
      prefetchCount: this.concurrency + this.prefetch,
      softLimit: this.#options.taskSoftTimeLimit ?? 0,
      hardLimit: this.#options.taskTimeLimit ?? 0,
      broker: this.broker.address,
    });
  }

  #addresses(): { readonly broker: string; readonly backend: string } {
    return { broker: this.broker.address, backend: this.backend.address };
  }

  /** Never rejects: the ids count here already. */
  async #recordRevoked(ids: readonly string[]): Promise<void> {
    const policy = { resultSerializer: this.#app.resultSerializer, typed: this.#app.typedJson };
    const stored =
      this.backend.kind === 'disabled'
        ? []
        : ids.map(async (id) => {
            const { meta } = lifecycle.revokedByCommand(id, policy, moment());
            await this.backend.store(id, meta);
          });
    const until = (Date.now() + this.revoked.ttlMs) / 1000;
    const writes = await Promise.allSettled([
      ...stored,
      ...(ids.length > 0 ? [this.broker.revokes?.remember(ids, until)] : []),
    ]);
    const failures = writes.filter((write) => write.status === 'rejected');
    if (failures[0] !== undefined)
      this.#log.warn(
        { ids: failures.length, error: failures[0].reason as unknown },
        'revoked ids could not all be recorded',
      );
  }

  async #callSignature(signature: unknown): Promise<void> {
    const publisher = { ...this.#rules.publisher(), now: new Date(), serializer: this.#app.taskSerializer };
    await this.broker.publish(published(apply(readSignature(signature), {}, publisher), this.#app.typedJson).publish);
  }

  #ownAgents(broadcasts: boolean): readonly Agent[] {
    const seconds = this.#heartbeatSeconds;
    const beats = broadcasts && seconds !== undefined;
    return [
      ...(this.#control === undefined ? [] : [this.#control.agent]),
      ...(this.#gossip?.agents ?? []),
      ...(beats ? [every('celery: heartbeats', seconds * 1000, () => this.#sayWorker('worker-heartbeat'), 0)] : []),
    ];
  }

  get #heartbeatSeconds(): number | undefined {
    const { heartbeatInterval = 2 } = this.#options;
    return heartbeatInterval === false || !(heartbeatInterval > 0) ? undefined : heartbeatInterval;
  }

  async #sayWorker(what: 'worker-online' | 'worker-heartbeat' | 'worker-offline'): Promise<void> {
    const freq = this.#heartbeatSeconds;
    if (freq === undefined) return;
    const { activeCount: active, processed } = this.requests;
    await this.events.worker(what, { freq, active, processed });
  }

  async #sayGoodbye(): Promise<void> {
    await this.#control?.close();
    await this.events.close();
    await this.#sayWorker('worker-offline');
  }

  #due(): readonly Delivery[] {
    if (this.#delayed.size === 0) return [];
    const due = this.#delayed.due(Date.now());
    if (due.length === 0) return [];
    this.broker.extend?.(this.#delayed.size);
    return due.map((held) => this.#claimed(held)).filter((delivery) => delivery !== undefined);
  }

  /** A delivery, if the message is still ours. */
  #claimed({ claim, due }: DelayedClaim): Delivery | undefined {
    if (claim.lost !== true) return due();
    this.#executeWrite(claim, 'leave', () => this.#back(claim, 'front'));
    return undefined;
  }

  /** What to do with a claimed message: a delivery now, a hold, or neither. */
  #sort(claim: Claim): Delivery | undefined {
    let message: TaskMessage;
    try {
      if (claim.message === undefined)
        throw claim.error ?? new WireError('celery', 'undecodable', 'the message cannot be read');
      message = decodeTask(claim.message, this.#decode, claim.queue);
    } catch (error) {
      this.#poison(claim, error);
      return undefined;
    }
    if (!this.#rules.knows(message.task) && this.#registration(message.task) === undefined) {
      this.#unknown(claim, message);
      return undefined;
    }
    if (logs(this.#log, 'info'))
      this.#log.info({ task: message.shownAs, id: message.id, queue: claim.queue }, 'received');
    const known = this.#rules.of(message.task);
    if (this.events.tasks && !this.#isOver(message, Date.now())) this.events.task(taskReceived(message));
    return this.#admit(claim, message, known);
  }

  /** A delivery, unless it must wait: for its ETA first, then for its turn under the rate limit. */
  #admit(claim: Claim, message: TaskMessage, known: TaskRule): Delivery | undefined {
    const now = Date.now();
    if (this.#refusedNow(claim, message, known, now)) return undefined;
    const eta = message.eta?.getTime() ?? 0;
    if (eta > now) {
      const due = (): Delivery | undefined => this.#admit(claim, message, this.#rules.of(message.task));
      this.#hold(eta, { claim, due, scheduled: { eta: new Date(eta), message } });
      return undefined;
    }
    const turn = known.rate?.next(now) ?? now;
    if (turn <= now) {
      known.rate?.take(now);
      return this.#reserve(this.#delivery(claim, message, known));
    }
    const delivery = this.#delivery(claim, message, known);
    const due = (): Delivery | undefined => {
      this.requests.done(delivery);
      return this.#refusedNow(claim, message, known, Date.now()) ? undefined : this.#reserve(delivery);
    };
    const held = this.#hold(turn, { claim, due, request: delivery });
    // A message that was parked takes its turn when it comes back: a turn nobody uses would be lost.
    if (held) {
      known.rate?.take(now);
      this.requests.reserve(delivery);
    }
    return undefined;
  }

  /** Keep it here until then; beyond the limit, in the broker, and it comes again. Whether it is here. */
  #hold(until: number, held: DelayedClaim): boolean {
    const { broker } = this;
    const tooLong = until - Date.now() > (broker.maxHoldMs ?? Number.POSITIVE_INFINITY);
    if ((tooLong || this.#delayed.size >= this.#etaLimit) && broker.park !== undefined) {
      this.#executeWrite(held.claim, 'park', async () => broker.park?.(held.claim, new Date(until)));
      return false;
    }
    this.#delayed.add(until, held);
    broker.extend?.(this.#delayed.size);
    return true;
  }

  #reserve(delivery: CeleryDelivery): CeleryDelivery {
    this.requests.reserve(delivery);
    return delivery;
  }

  #isOver(message: TaskMessage, now: number): boolean {
    return (message.expires !== undefined && now > message.expires.getTime()) || this.revoked.has(message);
  }

  /** Expired or revoked: answered without a run. */
  #refusedNow(claim: Claim, message: TaskMessage, known: TaskRule, now: number): boolean {
    const expired = message.expires !== undefined && now > message.expires.getTime();
    if (!expired && !this.revoked.has(message)) return false;
    if (expired) this.revoked.add(message.id);
    const delivery = this.#delivery(claim, message, known);
    const outcome: Outcome = expired ? { kind: 'expired' } : { kind: 'cancelled', reason: 'revoked' };
    this.#log.info(
      { task: message.shownAs, id: message.id, queue: claim.queue },
      expired ? 'discarded: it has expired' : 'discarded: it was revoked',
    );
    this.#executeWrite(claim, 'settle', () => delivery.settle(outcome));
    return true;
  }

  #delivery(claim: Claim, message: TaskMessage, known: TaskRule): CeleryDelivery {
    return new CeleryDelivery(this, claim, message, known, this.#identity());
  }

  #identity(): { readonly pid: number; readonly hostname: string } {
    return { pid: process.pid, hostname: this.nodename };
  }

  /** Nobody here runs it. By default it goes back for others; nothing of theirs is destroyed. */
  #unknown(claim: Claim, message: TaskMessage): void {
    const way = this.#options.unknownTask ?? 'requeue';
    const { id } = message;
    // Names of other people's tasks: any length, any number.
    const task = message.task.slice(0, 200);
    if (this.#unknownSaid.size > 1_000) this.#unknownSaid.clear();
    const said = this.#unknownSaid.get(task) ?? 0;
    if (Date.now() - said > 60_000) {
      this.#unknownSaid.set(task, Date.now());
      const what =
        way === 'requeue'
          ? 'it goes back to its queue for other workers'
          : way === 'reject'
            ? 'it is failed as NotRegistered'
            : `it is forwarded to '${way.forward}'`;
      this.#log.warn(
        { task, id, queue: claim.queue },
        `no handler for this task: ${what}. Register it, consume another queue, or set unknownTask`,
      );
    }
    if (way === 'requeue') {
      this.#strangers++;
      this.#delayed.add(Date.now() + (this.#options.unknownTaskDelayMs ?? 1_000), {
        claim,
        due: () => {
          this.#strangers--;
          this.#executeWrite(claim, 'requeue', () => this.#back(claim, 'back'));
          return undefined;
        },
      });
      this.broker.extend?.(this.#delayed.size);
    } else if (way === 'reject') {
      const { policy } = this.#rules.resolve(message.task);
      const { write } = lifecycle.unknownTask(message, 'reject', policy, moment());
      if (this.events.tasks) this.events.task(taskUnknown(id, message.task));
      const origin = new ClaimOrigin(message, claim, policy);
      this.#executeWrite(claim, 'reject', (done) => this.carry(claim, write, origin, done));
    } else {
      const write = {
        ...NO_WRITES,
        publish: [forwarded(message.wire, way.forward)],
        replacesTask: true,
        ack: 'ack',
      } as const;
      const origin = new ClaimOrigin(message, claim, this.#rules.resolve(message.task).policy);
      this.#executeWrite(claim, 'forward', (done) => this.carry(claim, write, origin, done));
    }
  }

  #poison(claim: Claim, thrown: unknown): void {
    const error =
      thrown instanceof WireError ? thrown : new WireError('celery', 'undecodable', String(thrown), { cause: thrown });
    const { id, task } = peek(claim.message);
    const reason = error.message.replace(/^celery: /, '');
    this.#executeWrite(claim, 'quarantine', async () => {
      const kept = await this.broker.quarantine(claim, {
        code: error.code,
        reason,
        ...(id === undefined ? {} : { id }),
      });
      const named = task === undefined ? reason : `${reason} (task '${task.slice(0, 200)}')`;
      this.#host?.poison({ system: 'celery', queue: claim.queue, id, code: error.code, reason: named, kept });
    });
  }

  /**
   * Work on a claim outside of any delivery, tried again until it is done: while this process lives its claims are refreshed,
   * and nobody else would get the message.
   */
  #executeWrite(claim: Claim, what: string, work: (done: Progress) => Promise<unknown>): void {
    const done = notYet();
    let said = false;
    const failed = (error: unknown): void => {
      if (said) return;
      said = true;
      const fields = { queue: claim.queue, id: peek(claim.message).id, error };
      this.#log.warn(fields, `could not ${what} a message; trying again while this worker lives`);
    };
    const chore: Promise<unknown> = retryUntilWritten(() => work(done), this.#closing.signal, failed).finally(() =>
      this.#chores.delete(chore),
    );
    this.#chores.add(chore);
  }

  async #back(claim: Claim, where: 'front' | 'back'): Promise<void> {
    if (claim.message === undefined && claim.kept !== undefined) return;
    await this.broker.requeue(claim, where);
  }

  #registration(task: string): Registration | undefined {
    return this.#host?.tasks.find('celery', task) ?? this.tasks.find('celery', task);
  }

  /** Errbacks of the new style know the request, and not only its id. Source: celery/backends/base.py _call_task_errbacks. */
  async #errback(call: ErrbackCall, { queue }: WriteOrigin): Promise<void> {
    const registration = this.#registration(call.task);
    if (registration === undefined) return;
    const own = plain([call.args, call.kwargs], this.#app.limits) as [unknown[], Readonly<Record<string, unknown>>];
    const { request, failure } = call;
    const args = call.immutable ? own[0] : [request, failure, failure.traceback, ...own[0]];
    const job: Job = { id: request.id, task: call.task, args, kwargs: own[1], queue, attempt: 1 };
    await registration.handler(job, {
      system: 'celery',
      signal: this.#closing.signal,
      log: this.#log,
      update: () => Promise.reject(new ConfigError('celery: an errback has no states of its own')),
    });
  }

  /** Writes of a settled task, in their order, each once however often this is called. */
  async carry(claim: Claim, writes: lifecycle.CeleryWrites, origin: WriteOrigin, done: Progress): Promise<void> {
    await this.writeExecutor.execute(writes, origin, done);
    if (done.acked) return;
    switch (writes.ack) {
      case 'reject':
        if (this.broker.reject !== undefined) await this.broker.reject(claim);
        else await this.broker.ack(claim);
        break;
      case 'ack':
      case 'done':
        await this.broker.ack(claim);
        break;
      case 'requeue':
        await this.broker.requeue(claim, 'back');
        break;
    }
    done.acked = true;
  }
}

/** The same message under another queue's name: headers and body as they were. */
function forwarded(wire: WireMessage, queue: string): Publication {
  return {
    body: wire.body,
    contentType: wire.contentType ?? 'application/data',
    contentEncoding: wire.contentEncoding ?? 'binary',
    exchange: '',
    routingKey: queue,
    headers: exactHeaders(wire),
    properties: new Map(Object.entries(wire.properties)),
    priority: wire.properties['priority'] ?? 0,
  };
}

/** One that is only a name is completed where the others of that name are known; a broadcast comes under any key. */
function asConfigured(queue: QueueSpec, options: CeleryOptions): QueueSpec {
  const isOnlyName = Object.keys(queue).length === 1;
  return isOnlyName || queue.exchangeType === 'fanout' ? queue : configuredQueue(queue, options);
}

/** With all that the settings add, also where it is only a name here. */
function asDeclared(queue: QueueSpec, options: CeleryOptions): QueueSpec {
  const known = Object.keys(queue).length === 1 && options.taskQueues?.find(({ name }) => name === queue.name);
  return known ? configuredQueue(known, options) : withSettings(queue, options);
}

function namesOf(specs: readonly QueueSpec[]): readonly string[] {
  return specs.map(({ name }) => name);
}
