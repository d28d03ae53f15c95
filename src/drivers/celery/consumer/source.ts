import { LamportClock } from '../../../../protocols/celery/control/clock.ts';
import { EVENT_EXCHANGE } from '../../../../protocols/celery/control/event.ts';
import type * as lifecycle from '../../../../protocols/celery/outcome/lifecycle.ts';
import type { TaskMessage } from '../../../../protocols/celery/message/message.ts';
import { acceptSet, plain } from '../../../../protocols/celery/message/serializers.ts';
import { apply } from '../../../../protocols/celery/canvas/apply.ts';
import { published } from '../../../../protocols/celery/outcome/links.ts';
import { readSignature } from '../../../../protocols/celery/canvas/signature.ts';
import { configuredQueue, withSettings, workerDirectQueue } from '../../../../protocols/celery/brokers/topology.ts';
import type { ErrbackCall } from '../../../../protocols/celery/outcome/writes.ts';
import type { Job } from '../../../../protocols/job.ts';
import { ConfigError } from '../../../errors.ts';
import { type Logger, silent } from '../../../log.ts';
import { type Agent, type Delivery, type Host, pause, type Source, type UnknownTaskPolicy } from '../../../source.ts';
import type { Registration, Registry } from '../../../task.ts';
import type { CeleryBroker, Claim, QueueSpec, ResultBackend } from '../brokers/broker.ts';
import { RemoteControl } from '../control/control.ts';
import { EventDispatcher } from '../control/dispatcher.ts';
import { Gossip } from '../control/gossip.ts';
import type { Controlled } from '../control/panel.ts';
import { type CeleryOptions, nodename, resolveApp, type ResolvedApp, wholeNumber } from '../options.ts';
import { builtins } from './builtins.ts';
import type { DeliveryHost } from './delivery.ts';
import { Intake } from './intake.ts';
import { Presence } from './presence.ts';
import { Requests } from './requests.ts';
import { Revoked } from './revoked.ts';
import { Successes } from './successes.ts';
import { TaskRules } from './task-rules.ts';
import { Upkeep } from './upkeep.ts';
import { type Progress, WriteExecutor, type WriteOrigin } from './write-executor.ts';

/** The consuming side of a Celery worker, with any broker and any result backend. */
export class CelerySource implements Source, DeliveryHost {
  readonly system = 'celery';
  /** Remote control changes these three. */
  concurrency: number;
  prefetch: number;
  queues: readonly string[];
  readonly agents: readonly Agent[];
  readonly tasks: Registry;
  readonly unknownTask: UnknownTaskPolicy;
  readonly unknownTaskDelayMs: number | undefined;
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
  readonly #control: RemoteControl | undefined;
  readonly #gossip: Gossip | undefined;
  readonly #multiplier: number;
  readonly #intake: Intake;
  readonly #upkeep: Upkeep;
  readonly #presence: Presence;
  #queueSpecs: readonly QueueSpec[];
  readonly #configured: readonly QueueSpec[];
  #host: Host | undefined;
  #log: Logger = silent;
  #claiming: Promise<readonly Claim[]> | undefined;

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
    const decode = { accept: acceptSet(this.#app.accept), limits: this.#app.limits };
    const { broadcast } = broker;
    const exchange = options.eventExchange ?? EVENT_EXCHANGE;
    const tasks = options.workerSendTaskEvents ?? false;
    this.events = new EventDispatcher({ hostname: this.nodename, clock: this.clock, broadcast, exchange, tasks });
    this.#presence = new Presence({
      options,
      app: this.#app,
      events: this.events,
      requests: this.requests,
      addresses: { broker: broker.address, backend: backend.address },
      clock: () => this.clock.value,
      concurrency: () => this.concurrency,
      prefetch: () => this.prefetch,
      broadcasts: broadcast !== undefined,
    });
    this.#upkeep = new Upkeep({
      broker,
      backend,
      app: this.#app,
      revoked: this.revoked,
      log: () => this.#log,
      poison: (report) => this.#host?.poison(report),
    });
    if (broadcast !== undefined && options.gossip === true)
      this.#gossip = new Gossip({
        nodename: this.nodename,
        clock: this.clock,
        events: this.events,
        broadcast,
        exchange,
        decode,
        call: (signature) => this.#callSignature(signature),
      });
    if (broadcast !== undefined && (options.workerEnableRemoteControl ?? true))
      this.#control = new RemoteControl({
        worker: this.#controlled(),
        broadcast,
        namespace: options.controlExchange ?? 'celery',
        serializer: this.#app.taskSerializer,
        typed: this.#app.typedJson,
        decode,
      });
    this.agents = [
      ...broker.agents,
      ...(this.#control === undefined ? [] : [this.#control.agent]),
      ...(this.#gossip?.agents ?? []),
      ...this.#presence.agents,
    ];
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
    this.#intake = new Intake({
      broker,
      events: this.events,
      requests: this.requests,
      revoked: this.revoked,
      rules: this.#rules,
      upkeep: this.#upkeep,
      decode,
      log: () => this.#log,
      handles: (task) => this.#registration(task) !== undefined,
      host: this,
      by: { pid: process.pid, hostname: this.nodename },
      etaLimit: wholeNumber('etaLimit', options.etaLimit ?? 1000, 0),
    });
    const { unknownTask = 'requeue', unknownTaskDelayMs } = options;
    // If the broker limits how long a message is held, the message goes back before the limit, as a new one.
    // Past the limit RabbitMQ would close the channel, and count a delivery.
    const isBounded = unknownTask === 'hold' && broker.maxHoldMs !== undefined;
    this.unknownTask = isBounded ? 'requeue' : unknownTask;
    this.unknownTaskDelayMs = isBounded ? broker.maxHoldMs : unknownTaskDelayMs;
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
    await this.#upkeep.recallRevoked();
    await this.#control?.open(this.#options.mingle ?? true);
    await this.broker.consume(this.#queueSpecs, { prefetch: this.concurrency + this.prefetch });
    await this.#presence.online();
  }

  async receive(max: number, signal: AbortSignal): Promise<readonly Delivery[]> {
    const intake = this.#intake;
    while (!signal.aborted) {
      const ready = intake.due();
      if (ready.length > 0) return ready;
      const claiming = (this.#claiming ??= this.broker.receive(max, signal));
      // A held claim that falls due must not wait for the next push. The receive that is under way is kept for the next call.
      let claims: readonly Claim[] | void;
      try {
        claims = await (intake.size === 0 ? claiming : Promise.race([claiming, intake.next()]));
      } catch (error) {
        this.#claiming = undefined;
        throw error;
      }
      // Quiet may have been called first, and have given these back.
      if (claims === undefined || this.#claiming !== claiming) continue;
      this.#claiming = undefined;
      const deliveries: Delivery[] = [];
      for (const claim of claims) {
        const delivery = intake.classify(claim);
        if (delivery !== undefined) deliveries.push(delivery);
      }
      if (deliveries.length > 0 || claims.length === 0) return deliveries;
    }
    return [];
  }

  async quiet(): Promise<void> {
    // Claims for a receive call that will not come are given back with the rest. A receive call that still waits takes its own claims.
    const claiming = this.#claiming;
    const claims = (await claiming?.catch(() => [])) ?? [];
    const late = this.#claiming === claiming ? claims : [];
    this.#claiming = undefined;
    await this.broker.quiet();
    for (const claim of [...late, ...this.#intake.quiet()].reverse()) this.#upkeep.giveBack(claim);
    await this.#upkeep.settled();
  }

  async close(): Promise<void> {
    await this.#upkeep.settled(2_000);
    this.#upkeep.close();
    await Promise.race([this.#sayGoodbye(), pause(1_000)]);
    await this.broker.close();
    await this.backend.close();
  }

  /** Sets the number of unknown tasks that are held: a broker that pushes may send as many more. */
  holding(count: number): void {
    this.#intake.holding(count);
  }

  postpone(claim: Claim, message: TaskMessage, at: Date): boolean {
    return this.#intake.postpone(claim, message, at);
  }

  /** The parts of this worker that remote control can read and change. */
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
      scheduled: () => this.#intake.scheduled,
      taskNames: (builtins) => this.#taskNames(builtins),
      isTask: (name) => this.#registration(name) !== undefined,
      attributeOf: (task, attribute) => this.#rules.attribute(task, attribute),
      stats: () => this.#presence.stats(),
      settings: (withDefaults) => this.#presence.settings(withDefaults),
      report: () => this.#presence.report(),
      recordRevoked: (ids) => this.#upkeep.recordRevoked(ids),
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
              // A queue from the configuration keeps its exchange, also after it was removed.
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

  async #callSignature(signature: unknown): Promise<void> {
    const publisher = { ...this.#rules.publisher(), now: new Date(), serializer: this.#app.taskSerializer };
    await this.broker.publish(published(apply(readSignature(signature), {}, publisher), this.#app.typedJson).publish);
  }

  async #sayGoodbye(): Promise<void> {
    await this.#control?.close();
    await this.events.close();
    await this.#presence.offline();
  }

  #registration(task: string): Registration | undefined {
    return this.#host?.tasks.find('celery', task) ?? this.tasks.find('celery', task);
  }

  /** Errbacks of the new style receive the request, not only its id. Source: celery/backends/base.py _call_task_errbacks. */
  async #errback(call: ErrbackCall, { queue }: WriteOrigin): Promise<void> {
    const registration = this.#registration(call.task);
    if (registration === undefined) return;
    const own = plain([call.args, call.kwargs], this.#app.limits) as [unknown[], Readonly<Record<string, unknown>>];
    const { request, failure } = call;
    const args = call.immutable ? own[0] : [request, failure, failure.traceback, ...own[0]];
    const job: Job = { id: request.id, task: call.task, args, kwargs: own[1], queue, attempt: 1 };
    await registration.handler(job, {
      system: 'celery',
      signal: this.#upkeep.signal,
      log: this.#log,
      update: () => Promise.reject(new ConfigError('celery: an errback has no states of its own')),
    });
  }

  /** Executes the writes of a settled task in their order. Each is done once, however often this is called. */
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
      case 'back':
        await this.broker.moveToBack(claim);
        break;
    }
    done.acked = true;
  }
}

/** A queue that is only a name is completed later, where the configured queues are known. A broadcast queue takes any routing key. */
function asConfigured(queue: QueueSpec, options: CeleryOptions): QueueSpec {
  const isOnlyName = Object.keys(queue).length === 1;
  return isOnlyName || queue.exchangeType === 'fanout' ? queue : configuredQueue(queue, options);
}

/** The queue with everything that the settings add, also if it is only a name here. */
function asDeclared(queue: QueueSpec, options: CeleryOptions): QueueSpec {
  const known = Object.keys(queue).length === 1 && options.taskQueues?.find(({ name }) => name === queue.name);
  return known ? configuredQueue(known, options) : withSettings(queue, options);
}

function namesOf(specs: readonly QueueSpec[]): readonly string[] {
  return specs.map(({ name }) => name);
}
