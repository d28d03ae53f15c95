import { randomBytes, randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { setImmediate as nextTurn } from 'node:timers/promises';
import * as lifecycle from '../../../protocols/rq/lifecycle.ts';
import { splitExecution } from '../../../protocols/rq/keys.ts';
import * as presenceWire from '../../../protocols/rq/presence.ts';
import * as wire from '../../../protocols/rq/redis.ts';
import { connectionName, fetchAll } from '../../../protocols/rq/upkeep.ts';
import { fetchWorkers, readsHashOnly, type WorkerCommand, workerNames } from '../../../protocols/rq/workers.ts';
import type { Exchange } from '../../../protocols/redis.ts';
import { ConfigError, WireError } from '../../errors.ts';
import { type Logger, silent } from '../../log.ts';
import { retryUntilWritten } from '../../retry-until-written.ts';
import { type Agent, type Delivery, every, type Host, pause, type PoisonReport, type Source } from '../../source.ts';
import type { Registration } from '../../task.ts';
import { PushWatch } from '../../transports/redis-push.ts';
import { RedisConnection } from '../../transports/redis.ts';
import type { RedisTarget } from '../../transports/redis-url.ts';
import type { RqCallback } from './callbacks.ts';
import { Commands } from './commands.ts';
import type { RqDelivery } from './delivery.ts';
import { Intake, type IntakeHost } from './intake.ts';
import { Limits } from './limits.ts';
import { queueNames, type RqOptions, targetOf, wholeNumber } from './options.ts';
import { Presence } from './presence.ts';
import { Scheduler } from './scheduler.ts';
import { Strangers } from './strangers.ts';
import { Upkeep } from './upkeep.ts';
import { sendWebhooks } from './webhooks.ts';

/** Hashes of one claim, together; a claim that is larger ends early. */
const BATCH_BYTES = 16 * 2 ** 20;

/** Fewer are not worth a claim of their own. */
const AHEAD = 8;

interface Settling {
  readonly delivery: RqDelivery;
  readonly settlement: wire.Settlement;
  settled?: wire.Settled;
}

/** The consuming side of an RQ worker. What runs is started by the claim itself, so nothing is ever in this process only. */
export class RqSource implements Source, IntakeHost {
  readonly system = 'rq';
  readonly concurrency: number;
  /** A job that waits here would be shown as started. */
  readonly prefetch = 0;
  readonly queues: readonly string[];
  readonly agents: readonly Agent[];
  readonly presence: Presence;
  readonly #options: RqOptions;
  readonly #target: RedisTarget;
  /** Seconds without a sign of life after which its jobs are abandoned, and while it has some Redis forgets this worker. */
  readonly #ttl: number;
  /** The same for a worker that has none. */
  readonly #idleTtl: number;
  readonly #prefix = randomBytes(10).toString('hex');
  readonly strangers: Strangers;
  readonly #intake: Intake;
  readonly #limits: Limits;
  readonly #scheduler: Scheduler | undefined;
  readonly #upkeep: Upkeep;
  readonly #closing = new AbortController();
  readonly #chores = new Set<Promise<unknown>>();
  /** Webhooks under way. */
  readonly #requests = new Set<Promise<void>>();
  #order: string[];
  #number = 0;
  #host: Host | undefined;
  #log: Logger = silent;
  #redis: RedisConnection | undefined;
  #watch: PushWatch | undefined;
  #commands: Commands | undefined;
  /** Tells what has changed of the worker, unless it has changed back when the turn's commands leave. */
  #show: ((item: undefined) => Promise<void>) | undefined;
  #settle: ((item: Settling) => Promise<void>) | undefined;
  /** The name is ours. */
  #born = false;
  #drained = false;
  #ahead: Promise<readonly RqDelivery[]> | undefined;
  #wrongType: readonly string[] = [];
  /** A claim's answer was lost: what it took has to be looked for. */
  #replyLost = false;
  #recoverAgainAt = Number.POSITIVE_INFINITY;

  constructor(options: RqOptions) {
    this.#options = options;
    this.queues = queueNames(options.queues);
    this.presence = new Presence(options.name ?? randomUUID().replaceAll('-', ''), this.queues);
    // Others see by it that this worker lives.
    this.#target = targetOf(options, connectionName(this.presence.name));
    this.#order = [...this.queues];
    this.concurrency = wholeNumber('concurrency', options.concurrency ?? 10, 1);
    const interval = wholeNumber('jobMonitoringInterval', options.jobMonitoringInterval ?? 30, 1);
    const workerTtl = wholeNumber('workerTtl', options.workerTtl ?? interval, 1);
    this.#ttl = interval + 60;
    this.#idleTtl = workerTtl + 60;
    this.#limits = new Limits(options);
    this.strangers = new Strangers(options, (delivery, settlement) => this.giveAway(delivery, settlement));
    this.#intake = new Intake(options, this);
    this.#scheduler =
      options.withScheduler === false
        ? undefined
        : new Scheduler(
            this.queues,
            () => this.redis(),
            () => this.#log,
          );
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
      redis: () => this.redis(),
      log: () => this.#log,
    });
    this.agents = [
      every('rq: heartbeats', Math.min(interval, workerTtl) * 1000, () => this.#beat(), 0),
      ...(this.#scheduler === undefined ? [] : [this.#scheduler]),
      this.#upkeep,
    ];
    // Each chore that fails waits for it.
    setMaxListeners(0, this.#closing.signal);
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
    this.#settle = redis.batchPerTick((items: readonly Settling[]) => this.#settleAll(items));
    this.#show = redis.batchPerTick(() => presenceWire.show(this.presence.change()));
    const address = await redis.run(presenceWire.clientAddress()).catch(() => undefined);
    if (address !== undefined) this.presence.address = address;
    const { record } = this.presence;
    if (!(await redis.run(presenceWire.birth(record, this.#idleTtl, new Date())))) await this.#takeOver(redis);
    this.#born = true;
    if (this.#options.resultsInHash === undefined) await this.#lookForOldOnes(redis);
    this.#watch = new PushWatch(redis, this.#log, { optIn: true });
    await this.#watch.open();
    this.#commands = new Commands(record.name, this.#target, this.#log, (command) => this.#obey(command));
    await this.#commands.open();
    // What is due by now belongs to the burst.
    if (this.#options.burst === true) await this.#scheduler?.tick();
  }

  /** Where workers are of an RQ that knows no stream of results, so are those who wait for results. */
  async #lookForOldOnes(redis: RedisConnection): Promise<void> {
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

  /** One of ours that was killed left its name behind: nobody but this connection is called by it. */
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
      // A queue full of other people's jobs: they pass through here a thousand at a time, not all at once.
      if (want === 0 || this.strangers.full) {
        if (want === 0) this.#stopIfDone();
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
      // Between the claim and this look there is no gap: what was pushed meanwhile is seen by it, what comes later is told.
      const waiting = await this.#poll();
      this.#drained = false;
      if (waiting) continue;
      this.#stopIfDone();
      await watch.next(seen, this.#limits.patience(watch.active ? 1_000 : 50), signal);
      // Nothing for a second: whoever asks hears so, and knows that we are alive.
      if (watch.seen === seen) return [];
    }
    return [];
  }

  /**
   * For slots that are free: under way before the handlers of this claim run, so that Redis and this process work at the same time. Not
   * where the queues were seen empty.
   */
  async #claimAhead(free: number, signal: AbortSignal): Promise<void> {
    const want = Math.min(free, this.#limits.jobsLeft);
    if (want < AHEAD || this.#drained || signal.aborted) return;
    this.#ahead = this.#claim(want);
    this.#ahead.catch(() => undefined); // told to whoever takes it
    await nextTurn();
  }

  /** Once a limit of this worker's is reached, it stops by itself. */
  #stopIfDone(): void {
    const why = this.#limits.reached({ running: this.presence.size, strangers: this.strangers.size });
    if (why === undefined) return;
    this.#log.info({ worker: this.presence.name }, `${why}: the worker stops`);
    this.#host?.stop();
  }

  async quiet(): Promise<void> {
    const ahead = this.#ahead;
    this.#ahead = undefined;
    for (const delivery of (await ahead?.catch(() => [])) ?? [])
      this.giveAway(delivery, lifecycle.giveBack(delivery.run, new Date(), 'head'));
    this.strangers.releaseAll();
    if (this.presence.size > this.strangers.size && this.#redis?.ready === true)
      void this.#redis.run(presenceWire.shutdownRequested(this.presence.name, new Date())).catch(() => undefined);
    await Promise.all(this.#chores);
  }

  async close(): Promise<void> {
    await Promise.race([Promise.all([...this.#chores, ...this.#requests]), pause(2_000)]);
    this.#closing.abort();
    const redis = this.#redis;
    // With runs that could not be given back it stays on the lists: others see that it is gone, and recover them.
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
  poison(report: PoisonReport): void {
    this.#host?.poison(report);
  }
  track(delivery: RqDelivery): void {
    this.presence.add(delivery);
  }

  callback(name: string): RqCallback | undefined {
    const { callbacks = {} } = this.#options;
    return Object.hasOwn(callbacks, name) ? callbacks[name] : undefined;
  }

  async settle(delivery: RqDelivery, settlement: wire.Settlement): Promise<'done' | wire.NotOurs> {
    const item: Settling = { delivery, settlement };
    this.presence.settling(delivery, true);
    try {
      await this.#settle?.(item);
      if (typeof item.settled === 'object' && 'wrongType' in item.settled) throw wrongType(delivery, item.settled);
    } catch (error) {
      this.presence.settling(delivery, false);
      throw error;
    }
    this.presence.remove(delivery);
    return item.settled ?? 'done';
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
        // One process here runs many; Python's killed the one that it had.
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

  #settleAll(gathered: readonly Settling[]): Exchange<void> {
    const items = inOrder(gathered);
    const change = this.presence.change() ?? { worker: this.presence.name };
    const exchange = wire.settle(
      items.map(({ settlement }) => settlement),
      change,
      new Date(),
    );
    return {
      ...exchange,
      read: (replies) => {
        const settled = exchange.read(replies);
        for (const [at, item] of items.entries()) item.settled = settled[at] as wire.Settled;
      },
    };
  }

  async #claim(max: number): Promise<readonly RqDelivery[]> {
    const redis = this.redis();
    if (this.#replyLost || Date.now() >= this.#recoverAgainAt) await this.#recoverLost();
    const strategy = this.#options.dequeueStrategy ?? 'default';
    if (strategy === 'random') shuffle(this.#order);
    const now = new Date();
    const order = this.#order;
    const number = this.#number;
    this.#number += max;
    let reply: wire.ClaimReply;
    try {
      reply = await redis.run(
        wire.claim(order, {
          worker: this.presence.name,
          prefix: this.#prefix,
          ttl: this.#ttl,
          max,
          number,
          now,
          strategy: strategy === 'default' ? 'order' : 'turns',
          batchBytes: BATCH_BYTES,
        }),
      );
    } catch (error) {
      // The server may have claimed for us and the answer been lost; looked into before the next claim.
      this.#replyLost = true;
      throw error;
    }
    this.#drained = reply.drained || reply.suspended;
    this.presence.suspended = reply.suspended;
    this.#reportWrongType(reply.wrongType);
    for (const { queue, id, code } of reply.aside) this.#intake.tellOfQuarantine(queue, id.toString('utf8'), code);
    const deliveries: RqDelivery[] = [];
    for (const claimed of reply.claimed) {
      const delivery = this.#intake.take(claimed, now);
      if (delivery !== undefined) deliveries.push(delivery);
    }
    this.#limits.claimed(deliveries.length);
    const last = reply.claimed.at(-1);
    if (strategy === 'round_robin' && last !== undefined) this.#toTheEnd(last.queue);
    void this.#show?.(undefined).catch(() => undefined);
    return deliveries;
  }

  /** The queue that was served last, and all before it, wait for the others. Source: rq/worker/base.py reorder_queues. */
  #toTheEnd(queue: string): void {
    const at = this.#order.indexOf(queue) + 1;
    this.#order = [...this.#order.slice(at), ...this.#order.slice(0, at)];
  }

  async #poll(): Promise<boolean> {
    // Not at queues that nothing is taken from: they are asked again each second.
    const exchange = wire.anyWaiting(this.queues.filter((queue) => !this.#wrongType.includes(queue)));
    const watch = this.#watch as PushWatch;
    const redis = this.redis();
    if (!watch.active) return redis.run(exchange);
    // A connection that has just come back does not track yet.
    return redis.run(watch.tracked(exchange)).catch(() => redis.run(exchange));
  }

  /** Once, and again when it was mended meanwhile. */
  #reportWrongType(queues: readonly string[]): void {
    for (const queue of queues) {
      if (this.#wrongType.includes(queue)) continue;
      const what = `nothing is taken from this queue: 'rq:queue:${queue}' is no list, or 'rq:wip:${queue}', 'rq:finished:${queue}' or 'rq:failed:${queue}' no sorted set, or 'jobglot:rq:quarantine:${queue}' no list; rename it or delete it`;
      this.#log.error({ queue }, what);
    }
    this.#wrongType = queues;
  }

  /** Written without a run, tried again until it is done: until then this worker keeps the job alive. */
  giveAway(delivery: RqDelivery, settlement: wire.Settlement): void {
    let said = false;
    const chore: Promise<unknown> = retryUntilWritten(
      () => this.settle(delivery, settlement),
      this.#closing.signal,
      (error) => {
        if (said) return;
        said = true;
        const { id, queue } = delivery.job;
        this.#log.warn({ id, queue, error }, 'a job could not be given away; trying again while this worker lives');
      },
    ).finally(() => this.#chores.delete(chore));
    this.#chores.add(chore);
  }

  /** Runs that were started for us whose answer never arrived: they bear our name and we do not have them. */
  async #recoverLost(): Promise<void> {
    const redis = this.redis();
    const worker = this.presence.name;
    const members = await redis.run(presenceWire.ownExecutions(worker));
    for (const member of members) {
      const { id, execution } = splitExecution(member);
      // Those of a worker that had this name before are abandoned when their time has come.
      if (execution?.startsWith(this.#prefix) !== true || this.presence.has(execution)) continue;
      const [job] = await redis.run(fetchAll([id]));
      const run = {
        job: job === undefined ? { id, data: NO_DATA } : lifecycle.unstarted(job),
        execution,
        queue: job?.origin ?? '',
        worker,
        startedAt: undefined,
      };
      const back = lifecycle.giveBack(run, new Date(), 'head');
      await redis.run(wire.settle([back], { worker }, new Date()));
    }
    // A server that was frozen may carry out a claim after it was given up here, and after this look.
    this.#recoverAgainAt = this.#replyLost ? Date.now() + 10_000 : Number.POSITIVE_INFINITY;
    this.#replyLost = false;
  }

  async #beat(): Promise<void> {
    const { runs, options } = this.presence.beat(this.#ttl, this.#idleTtl, new Date());
    const lost = await this.redis().run(presenceWire.heartbeat(runs, options));
    for (const { id, queue, execution } of lost) {
      // It may have been ended in the very same turn.
      if (this.presence.isRunning(execution))
        this.#log.warn(
          { id, queue },
          'a run was taken from this worker while it runs: its job was cancelled or deleted, or somebody counted it as abandoned',
        );
    }
  }

  redis(): RedisConnection {
    if (this.#redis === undefined) throw new ConfigError('rq: the worker is not open');
    return this.#redis;
  }
}

/** What goes back to the head of a queue goes there last first, so that it stands there in its order. */
function inOrder(items: readonly Settling[]): readonly Settling[] {
  const toHead = ({ settlement: { next } }: Settling): boolean =>
    next !== undefined && 'push' in next && next.push === 'head';
  const heads = items.filter(toHead);
  if (heads.length < 2) return items;
  heads.sort((a, b) => (a.delivery.run.execution < b.delivery.run.execution ? 1 : -1));
  return [...items.filter((item) => !toHead(item)), ...heads];
}

const NO_DATA = Buffer.alloc(0);

/** Tried again until somebody has mended it: the run goes on meanwhile, and nobody else takes it. */
function wrongType({ job }: RqDelivery, { wrongType: key }: wire.WrongType): WireError {
  const what = `the job ${job.id} of '${job.queue}' cannot be settled: the key '${key}' is of another type than RQ has there. Rename it or delete it`;
  return new WireError('rq', 'wrong-type', what);
}

function shuffle(list: string[]): void {
  for (let at = list.length - 1; at > 0; at--) {
    const other = Math.floor(Math.random() * (at + 1));
    [list[at], list[other]] = [list[other] as string, list[at] as string];
  }
}
