import { randomUUID } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import * as lifecycle from '../../../protocols/rq/lifecycle.ts';
import * as presenceWire from '../../../protocols/rq/presence.ts';
import type * as wire from '../../../protocols/rq/redis.ts';
import { connectionName } from '../../../protocols/rq/upkeep.ts';
import { fetchWorkers, readsHashOnly, type WorkerCommand, workerNames } from '../../../protocols/rq/workers.ts';
import { ConfigError } from '../../errors.ts';
import { type Logger, silent } from '../../log.ts';
import {
  type Agent,
  type Delivery,
  every,
  type Host,
  pause,
  type PoisonReport,
  type Source,
  type UnknownTaskPolicy,
} from '../../source.ts';
import type { Registration } from '../../task.ts';
import { PushWatch } from '../../transports/redis-push.ts';
import { RedisConnection } from '../../transports/redis.ts';
import type { RedisTarget } from '../../transports/redis-url.ts';
import type { RqCallback } from './callbacks.ts';
import { Claims } from './claims.ts';
import { Commands } from './commands.ts';
import type { RqDelivery } from './delivery.ts';
import { Intake, type IntakeHost } from './intake.ts';
import { Limits } from './limits.ts';
import { queueNames, type RqOptions, targetOf, wholeNumber } from './options.ts';
import { Presence } from './presence.ts';
import { Scheduler } from './scheduler.ts';
import { Settler } from './settler.ts';
import { Upkeep } from './upkeep.ts';
import { sendWebhooks } from './webhooks.ts';

/** The fewest free slots that are worth a separate claim ahead. */
const AHEAD = 8;
/** How many jobs are claimed after a claim that found only unknown tasks. Unknown tasks take no slot, and known tasks may be behind many of them. */
const PAST_UNKNOWN = 200;
/** How long a worker that found only unknown tasks waits, so that other workers can go first. */
const HEAD_START_MS = 50;

/** The consuming side of an RQ worker. The claim itself starts the jobs, so no job ever exists in this process only. */
export class RqSource implements Source, IntakeHost {
  readonly system = 'rq';
  readonly concurrency: number;
  /** None: a prefetched job would be shown as started. */
  readonly prefetch = 0;
  readonly queues: readonly string[];
  readonly agents: readonly Agent[];
  readonly unknownTask: UnknownTaskPolicy | undefined;
  readonly unknownTaskDelayMs: number | undefined;
  readonly presence: Presence;
  readonly #options: RqOptions;
  readonly #target: RedisTarget;
  /**
   * Seconds without a sign of life after which this worker's jobs count as abandoned. While the worker has jobs, its hash expires after the same
   * time.
   */
  readonly #ttl: number;
  /** The expiry of the hash of a worker without jobs. */
  readonly #idleTtl: number;
  readonly #claims: Claims;
  readonly #intake: Intake;
  readonly #settler: Settler;
  readonly #limits: Limits;
  readonly #scheduler: Scheduler | undefined;
  readonly #upkeep: Upkeep;
  /** Webhook requests in progress. */
  readonly #requests = new Set<Promise<void>>();
  #host: Host | undefined;
  #log: Logger = silent;
  #redis: RedisConnection | undefined;
  #watch: PushWatch | undefined;
  #commands: Commands | undefined;
  /** Writes the changed state of the worker, unless it has changed back when the commands of the tick are sent. */
  #show: ((item: undefined) => Promise<void>) | undefined;
  /** The name is registered for this worker. */
  #born = false;
  #drained = false;
  /** The last claimed jobs had no handler here. */
  #onlyUnknown = false;
  #ahead: Promise<readonly RqDelivery[]> | undefined;

  constructor(options: RqOptions) {
    this.#options = options;
    this.queues = queueNames(options.queues);
    this.presence = new Presence(options.name ?? randomUUID().replaceAll('-', ''), this.queues);
    // The connection name shows other workers that this worker lives.
    this.#target = targetOf(options, connectionName(this.presence.name));
    this.concurrency = wholeNumber('concurrency', options.concurrency ?? 10, 1);
    this.unknownTask = options.unknownTask;
    this.unknownTaskDelayMs = options.unknownTaskDelayMs;
    const interval = wholeNumber('jobMonitoringInterval', options.jobMonitoringInterval ?? 30, 1);
    const workerTtl = wholeNumber('workerTtl', options.workerTtl ?? interval, 1);
    this.#ttl = interval + 60;
    this.#idleTtl = workerTtl + 60;
    const log = (): Logger => this.#log;
    const redis = (): RedisConnection => this.redis();
    this.#limits = new Limits(options);
    this.#claims = new Claims(this, this.queues, this.#ttl, options.dequeueStrategy);
    this.#settler = new Settler(this.presence, log);
    this.#intake = new Intake(options, this);
    this.#scheduler = options.withScheduler === false ? undefined : new Scheduler(this.queues, redis, log);
    this.#upkeep = new Upkeep({
      worker: this.presence.name,
      queues: this.queues,
      abandonedInterval: options.abandonedInterval ?? 5,
      maintenanceInterval: options.maintenanceInterval ?? 600,
      abandonedJobs: options.abandonedJobs ?? 'fail',
      unknownCallback: options.unknownCallback ?? 'leave',
      policy: () => this.#intake.policy('pickle'),
      callback: (name) => this.callback(name),
      isHere: (execution) => this.presence.has(execution),
      redis,
      log,
    });
    this.agents = [
      every('rq: heartbeats', Math.min(interval, workerTtl) * 1000, () => this.#beat(), 0),
      ...(this.#scheduler === undefined ? [] : [this.#scheduler]),
      this.#upkeep,
    ];
  }

  get log(): Logger {
    return this.#log;
  }

  async open(host: Host): Promise<void> {
    this.#host = host;
    this.#log = host.log;
    const redis = new RedisConnection(this.#target, { log: this.#log });
    await redis.connect();
    this.#redis = redis;
    this.#settler.open(redis);
    this.#show = redis.batchPerTick(() => presenceWire.show(this.presence.change()));
    const address = await redis.run(presenceWire.clientAddress()).catch(() => undefined);
    if (address !== undefined) this.presence.address = address;
    const { record } = this.presence;
    if (!(await redis.run(presenceWire.birth(record, this.#idleTtl, new Date())))) await this.#takeOver(redis);
    this.#born = true;
    if (this.#options.resultsInHash === undefined) await this.#lookForOldWorkers(redis);
    this.#watch = new PushWatch(redis, this.#log, { optIn: true });
    await this.#watch.open();
    this.#commands = new Commands(record.name, this.#target, this.#log, (command) => this.#obey(command));
    await this.#commands.open();
    // Jobs that are due by now belong to the burst.
    if (this.#options.burst === true) await this.#scheduler?.tick();
  }

  /** RQ workers that do not support the stream of results may be present. Programs that wait for results then also read the hash. */
  async #lookForOldWorkers(redis: RedisConnection): Promise<void> {
    try {
      const workers = await redis.run(fetchWorkers(await redis.run(workerNames())));
      const old = workers.find((worker) => worker?.death === undefined && readsHashOnly(worker?.version ?? ''));
      if (old === undefined) return;
      this.#intake.resultsInHash = true;
      const what =
        'results are written into the hash of the job, too: RQ before 1.12 is here, which looks nowhere else';
      this.#log.info({ worker: old.name, version: old.version }, `${what}; resultsInHash: false keeps them out`);
    } catch (error) {
      this.#log.warn({ error }, 'the versions of other workers cannot be read; resultsInHash is taken as false');
    }
  }

  /** Takes over the name of a killed jobglot worker. It must be certain that no other connection than this one uses the name. */
  async #takeOver(redis: RedisConnection): Promise<void> {
    const { record } = this.presence;
    const look = presenceWire.whoIs(record.name, connectionName(record.name));
    const { ours, clients } = await redis.run(look).catch(() => ({ ours: false, clients: 0 }));
    if (!ours || clients !== 1)
      throw new ConfigError(`rq: there is a worker named '${record.name}' already; name this one otherwise`);
    this.#log.info(
      { worker: record.name },
      'the last worker of this name is gone without a word; this one has its name',
    );
    this.#upkeep.orphans(await redis.run(presenceWire.ownExecutions(record.name)));
    await redis.run(presenceWire.birth(record, this.#idleTtl, new Date(), true));
  }

  async receive(max: number, signal: AbortSignal): Promise<readonly Delivery[]> {
    while (!signal.aborted) {
      const want = Math.min(max, this.#limits.jobsLeft);
      if (want === 0) {
        this.#stopIfDone();
        await pause(50, signal);
        continue;
      }
      const watch = this.#watch as PushWatch;
      const { seen } = watch;
      await this.redis().whenReady(signal);
      if (!this.#drained || this.#ahead !== undefined) {
        const claiming = this.#ahead ?? this.#claim(want < 2 * AHEAD ? want : Math.ceil(want / 2));
        this.#ahead = undefined;
        const deliveries = await claiming;
        if (deliveries.length > 0) {
          await this.#claimAhead(max - deliveries.length, signal);
          return deliveries;
        }
        if (!this.#drained) continue;
      }
      // There is no gap between the claim and this check: it sees jobs pushed meanwhile, and `watch` is notified of later ones.
      const waiting = await this.#claims.waiting(watch);
      this.#drained = false;
      if (waiting) {
        await this.#letOthersGoFirst(signal);
        continue;
      }
      this.#stopIfDone();
      await watch.next(seen, this.#limits.patience(watch.active ? 1_000 : 50), signal);
      if (watch.seen !== seen) await this.#letOthersGoFirst(signal);
      // No job for a second. Returning nothing shows the worker that this source is alive.
      if (watch.seen === seen) return [];
    }
    return [];
  }

  /**
   * Starts a claim for the free slots before the handlers of the current claim run, so that Redis and this process work at the same time. It does not
   * do so if the queues were found empty.
   */
  async #claimAhead(free: number, signal: AbortSignal): Promise<void> {
    const want = Math.min(free, this.#limits.jobsLeft);
    if (want < AHEAD || this.#drained || signal.aborted) return;
    this.#ahead = this.#claim(want);
    this.#ahead.catch(() => undefined); // reported by the call that takes it
    await nextTurn();
  }

  async #claim(max: number): Promise<readonly RqDelivery[]> {
    const now = new Date();
    const reply = await this.#claims.claim(this.#onlyUnknown ? Math.max(max, PAST_UNKNOWN) : max, now);
    this.#drained = reply.drained || reply.suspended;
    this.presence.suspended = reply.suspended;
    for (const { queue, id, code } of reply.aside) this.#intake.tellOfQuarantine(queue, id.toString('utf8'), code);
    const deliveries: RqDelivery[] = [];
    let known = 0;
    for (const claimed of reply.claimed) {
      const delivery = this.#intake.take(claimed, now);
      if (delivery === undefined) continue;
      // There is no slot for this job. It goes back to the head of its queue, in its order.
      if (delivery.isKnown && known === max) this.giveAway(delivery, lifecycle.giveBack(delivery.run, now, 'head'));
      else deliveries.push(delivery);
      if (delivery.isKnown && known < max) known += 1;
    }
    this.#limits.claimed(known);
    if (deliveries.length > 0) this.#onlyUnknown = known === 0;
    void this.#show?.(undefined).catch(() => undefined);
    return deliveries;
  }

  /** Unknown tasks that have just gone back are for other workers, which may be slower than this one. */
  async #letOthersGoFirst(signal: AbortSignal): Promise<void> {
    if (this.#onlyUnknown) await pause(HEAD_START_MS, signal);
  }

  /** Stops the worker once one of its limits is reached. */
  #stopIfDone(): void {
    const why = this.#limits.reached({ running: this.presence.size, unknown: this.#unknownHeld });
    if (why === undefined) return;
    this.#log.info({ worker: this.presence.name }, `${why}: the worker stops`);
    this.#host?.stop();
  }

  get #unknownHeld(): number {
    return this.#host?.unknownHeld(this) ?? 0;
  }

  async quiet(): Promise<void> {
    const ahead = this.#ahead;
    this.#ahead = undefined;
    for (const delivery of (await ahead?.catch(() => [])) ?? [])
      this.giveAway(delivery, lifecycle.giveBack(delivery.run, new Date(), 'head'));
    if (this.presence.size > this.#unknownHeld && this.#redis?.ready === true)
      void this.#redis.run(presenceWire.shutdownRequested(this.presence.name, new Date())).catch(() => undefined);
    await this.#settler.idle();
  }

  async close(): Promise<void> {
    await Promise.race([Promise.all([this.#settler.idle(2_000), ...this.#requests]), pause(2_000)]);
    this.#settler.close();
    const redis = this.#redis;
    // If some runs could not be given back, the worker stays on the lists. Other workers see that it is gone, and recover the runs.
    if (redis?.ready === true && this.#born && this.presence.size === 0) {
      const goodbyes = [
        redis.run(presenceWire.unregister(this.presence.name, this.queues, new Date())),
        this.#scheduler?.resign() ?? Promise.resolve(),
      ];
      await Promise.race([Promise.allSettled(goodbyes), pause(1_000)]);
    }
    await this.#commands?.close();
    await this.#watch?.close();
    await redis?.close();
    this.#redis = undefined;
  }

  get worker(): string {
    return this.presence.name;
  }
  find(task: string): Registration | undefined {
    return this.#host?.tasks.find('rq', task);
  }
  has(execution: string): boolean {
    return this.presence.has(execution);
  }
  poison(report: PoisonReport): void {
    this.#host?.poison(report);
  }
  track(delivery: RqDelivery): void {
    this.presence.add(delivery);
  }
  settle(delivery: RqDelivery, settlement: wire.Settlement): Promise<'done' | wire.NotOurs> {
    return this.#settler.settle(delivery, settlement);
  }
  giveAway(delivery: RqDelivery, settlement: wire.Settlement): void {
    this.#settler.giveAway(delivery, settlement);
  }

  callback(name: string): RqCallback | undefined {
    const { callbacks = {} } = this.#options;
    return Object.hasOwn(callbacks, name) ? callbacks[name] : undefined;
  }

  ended(delivery: RqDelivery, { ended: status, excString }: wire.Settlement): void {
    const { job: hash } = delivery.run;
    if (hash.webhooks === undefined || (status !== 'finished' && status !== 'failed')) return;
    const event = { job: delivery.job, hash, status, endedAt: new Date(), excInfo: excString };
    const sent: Promise<void> = sendWebhooks(event, this.#log).finally(() => this.#requests.delete(sent));
    this.#requests.add(sent);
  }

  #obey(told: WorkerCommand): void {
    switch (told.command) {
      case 'shutdown':
        this.#log.info({}, 'told to shut down');
        return this.#host?.stop();
      case 'kill-horse':
        // This process runs many jobs, so all of them end. A Python worker kills its only one.
        for (const delivery of this.presence.deliveries) this.#end(delivery, 'killed');
        return;
      case 'stop-job':
      case 'stop-execution':
        for (const delivery of this.presence.deliveries) {
          if (delivery.job.id !== told.jobId) continue;
          if (told.command === 'stop-job' || delivery.run.execution === told.executionId)
            this.#end(delivery, 'stopped');
        }
    }
  }

  #end(delivery: RqDelivery, how: 'stopped' | 'killed'): void {
    delivery.ending ??= how;
    this.#host?.cancel(delivery.job.id, how === 'stopped' ? 'stopped by stop-job' : 'killed by kill-horse');
  }

  async #beat(): Promise<void> {
    const { runs, options } = this.presence.beat(this.#ttl, this.#idleTtl, new Date());
    const lost = await this.redis().run(presenceWire.heartbeat(runs, options));
    for (const { id, queue, execution } of lost) {
      // The run may have been settled in the same tick.
      if (this.presence.isRunning(execution))
        this.#log.warn(
          { id, queue },
          'a run was taken from this worker while it runs: its job was cancelled or deleted, or another worker counted it as abandoned',
        );
    }
  }

  redis(): RedisConnection {
    if (this.#redis === undefined) throw new ConfigError('rq: the worker is not open');
    return this.#redis;
  }
}
