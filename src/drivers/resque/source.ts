import type { Claimed, ClaimedJob, QuarantinedJob } from '../../../protocols/claims.ts';
import { WireError } from '../../../protocols/errors.ts';
import { quarantineKey, queueKey } from '../../../protocols/resque/keys.ts';
import { procline } from '../../../protocols/resque/presence.ts';
import * as wire from '../../../protocols/resque/redis.ts';
import { RenewingSet } from '../../renewing.ts';
import { type Logger, silent } from '../../log.ts';
import { Chores } from '../../chores.ts';
import { type Agent, type Delivery, type Host, pause, type Source, type UnknownTaskPolicy } from '../../source.ts';
import { PushWatch } from '../../transports/redis-push.ts';
import { WakeUp } from '../../wake-up.ts';
import { checkWorker } from './option-checks.ts';
import { heartbeats, keptWords, prune, pruner, rescue } from './upkeep.ts';
import { ClassRules } from './task-rules.ts';
import type { ResqueDelivery } from './delivery.ts';
import { Intake, type Sorted } from './intake.ts';
import { PollInterval } from './polls.ts';
import { PostponedJobs } from './postponed.ts';
import { type ResqueOptions, type ResolvedWorker, resolveApp, resolveWorker, type WorkerHooks } from './options.ts';
import { FOLLOWS, ResqueProcess } from './process.ts';
import { SchedulerAgent } from './scheduler.ts';

/** Milliseconds between two polls if the server cannot notify of a push. */
const POLLING_MS = 100;

/** Workers of Resque, one for each slot, which take from queues in their order. */
export class ResqueSource implements Source {
  readonly system = 'resque';
  readonly concurrency: number;
  readonly prefetch: number;
  readonly unknownTask: UnknownTaskPolicy;
  readonly unknownTaskDelayMs: number;
  readonly agents: readonly Agent[];
  readonly #process: ResqueProcess;
  readonly #options: ResolvedWorker;
  readonly #polls: PollInterval;
  readonly #scheduler: SchedulerAgent | undefined;
  readonly #chores = new Chores(() => this.#log);
  #intake: Intake | undefined;
  #watch: PushWatch | undefined;
  #host: Host | undefined;
  #log: Logger = silent;
  #known: readonly string[] = [];
  #quiet = false;
  /** Resolves when the worker resumes; undefined while it is not paused. */
  #paused: { readonly until: Promise<void>; readonly resume: () => void } | undefined;
  #wasEmpty = true;
  /** How many jobs of unknown classes have come since the last known one. */
  #unknownInARow = 0;
  readonly #running = new RenewingSet<ResqueDelivery>();
  readonly #postponed = new PostponedJobs<ResqueDelivery>();
  readonly #wakeUp = new WakeUp();
  #title: string | undefined;

  constructor(options: ResqueOptions) {
    checkWorker(options);
    const app = resolveApp(options);
    this.#options = resolveWorker(options);
    this.#polls = new PollInterval(options);
    this.concurrency = this.#options.concurrency;
    this.prefetch = this.#options.prefetch;
    this.#process = new ResqueProcess(app, this.#options);
    this.unknownTask = this.#options.unknownTask;
    this.unknownTaskDelayMs = this.#options.unknownTaskDelayMs;
    const { scheduler } = this.#options;
    this.#scheduler =
      scheduler === undefined || scheduler.run === false ? undefined : new SchedulerAgent(app, scheduler);
    this.agents = [
      ...heartbeats(this.#process),
      rescue(this.#process),
      ...pruner(this.#process),
      ...(this.#scheduler === undefined ? [] : [this.#scheduler]),
    ];
    this.#postponed.onDue = () => {
      this.#watch?.poke();
      this.#wakeUp.signal();
    };
  }

  /** The queues as configured, including patterns, without exclusions. The ids of the workers contain them. */
  get queues(): readonly string[] {
    return this.#options.queues.shown.split(',');
  }

  /** The ids of these workers in Resque. */
  get workers(): readonly string[] {
    return this.#process.slots.ids;
  }

  async open(host: Host): Promise<void> {
    this.#host = host;
    this.#log = host.log;
    const rules = new ClassRules(host.tasks, this.#options.scheduler !== undefined);
    this.#intake = new Intake(this.#process, rules, { running: this.#running, postponed: this.#postponed });
    const { hooks, queues, push, pruneMs } = this.#options;
    await this.#process.open(host);
    await this.#scheduler?.open(host.identity, this.#log, (report) => host.poison(report));
    if (push) {
      this.#watch = new PushWatch(this.#process.redis, this.#log);
      await this.#watch.open();
    }
    if (this.#options.processTitle) {
      this.#title = process.title;
      process.title = this.#options.proclinePrefix + procline(FOLLOWS, `Waiting for ${queues.shown}`);
    }
    if (pruneMs !== undefined) await prune(this.#process);
    await hooks.beforeFirstFork?.();
  }

  async receive(max: number, signal: AbortSignal): Promise<readonly Delivery[]> {
    if (signal.aborted || this.#quiet) return [];
    if (this.#paused !== undefined) {
      if (this.#polls.over) return this.#end(signal);
      await Promise.race([this.#paused.until, pause(1_000, signal)]);
      return [];
    }
    const seen = this.#watch?.seen ?? 0;
    await this.#process.whenReady(signal);
    await this.#process.claims.recoverLostReplies();
    const due = await this.#postponedJobs(max);
    if (due.length > 0) return due;
    const { claimed, aside, paused, news } = await this.#claim(max);
    for (const one of aside) this.#tooLarge(one);
    const deliveries = await this.#deliveries(claimed);
    if (deliveries.some(({ known }) => known)) {
      this.#wasEmpty = false;
      this.#unknownInARow = 0;
      this.#polls.found();
    } else {
      this.#unknownInARow += deliveries.length;
      if (this.#polls.over && deliveries.length > 0 && (await this.#onlyUnknown(deliveries.length))) this.#stop();
    }
    if (claimed.length > 0 || aside.length > 0 || news) return deliveries;
    if (!paused && !this.#wasEmpty) {
      this.#wasEmpty = true;
      await this.#hook('queueEmpty');
    }
    if (this.#polls.over) return this.#end(signal);
    await this.#wait(seen, signal, paused);
    return [];
  }

  async quiet(): Promise<void> {
    this.#quiet = true;
    this.#paused?.resume();
    this.#watch?.poke();
    // The soonest job is released last, so that it is at the head of its queue.
    for (const delivery of this.#postponed.close().toReversed())
      this.#chores.add('give back a postponed job', () => delivery.release(), fieldsOf(delivery.job));
    await this.#chores.settled();
    await this.#hook('shutdown');
  }

  async close(): Promise<void> {
    await this.#chores.settled(2_000);
    this.#chores.close();
    if (this.#title !== undefined) process.title = this.#title;
    await this.#watch?.close();
    await this.#scheduler?.close();
    await this.#process.close();
    if (this.#host !== undefined) await this.#hook('workerExit');
  }

  /** USR2: take no new jobs until `resume`. Running jobs continue. */
  async pause(): Promise<void> {
    if (this.#paused !== undefined) return;
    let resume = (): void => {};
    const until = new Promise<void>((resolve) => (resume = resolve));
    this.#paused = { until, resume };
    this.#watch?.poke();
    this.#log.info({ system: this.system }, 'paused: no new jobs until it is resumed');
    await this.#hook('beforePause');
  }

  /** CONT. */
  async resume(): Promise<void> {
    const paused = this.#paused;
    if (paused === undefined) return;
    this.#paused = undefined;
    paused.resume();
    this.#log.info({ system: this.system }, 'resumed');
    await this.#hook('afterPause');
  }

  /** USR1: end the running jobs as if their processes had been killed; the worker continues. Returns how many jobs there were. */
  killJobs(reason = 'Child process received unhandled signal SIGKILL (signal 9)'): number {
    let killed = 0;
    for (const { job } of this.#running) if (this.#host?.cancel(job.id, reason) === true) killed += 1;
    return killed;
  }

  async #claim(max: number): Promise<Claimed & { readonly news: boolean }> {
    const { claims, keys, name } = this.#process;
    const { queues, maxJobBytes } = this.#options;
    const before = this.#known;
    // Both commands are sent together. A new queue is included in the next claim.
    const looking = queues.dynamic ? this.#process.run(wire.queues(keys)) : Promise.resolve(before);
    const names = queues.expand(before);
    const limits = { jobBytes: maxJobBytes, batchBytes: Math.min(maxJobBytes, 16 * 2 ** 20) };
    const [known, taken] = await Promise.allSettled([
      looking,
      names.length === 0
        ? NOTHING
        : claims.take(max, max - this.prefetch, (most, last, begin) =>
            wire.claim(keys, name, names, { max: most, last, begin, limits }),
          ),
    ]);
    if (taken.status === 'rejected') throw taken.reason;
    // Claimed jobs must run, even if the list of queues could not be read.
    if (known.status === 'rejected' && taken.value.claimed.length === 0) throw known.reason;
    if (known.status === 'fulfilled') this.#known = known.value;
    const now = queues.expand(this.#known);
    return { ...taken.value, news: now.length !== names.length || now.some((queue, at) => queue !== names[at]) };
  }

  /** Postponed jobs that are due; none while all workers are paused. */
  async #postponedJobs(max: number): Promise<readonly ResqueDelivery[]> {
    if (!this.#postponed.isDue || (await this.#process.run(wire.isPaused(this.#process.keys)))) return [];
    return this.#postponed.take(max);
  }

  async #wait(seen: number, signal: AbortSignal, paused: boolean): Promise<void> {
    const { push } = this.#options;
    const intervalMs = this.#polls.next();
    // A postponed job became due while the queues were polled.
    if (!paused && this.#postponed.isDue) return;
    if (!push) await this.#wakeUp.wait(intervalMs, signal);
    // If the server cannot notify of pushes, a poll costs less than a waiting job.
    else if (this.#watch?.active !== true) await this.#wakeUp.wait(Math.min(POLLING_MS, intervalMs), signal);
    else await this.#watch.next(seen, intervalMs, signal);
  }

  /** The queues are empty and the worker does not wait for more (`interval: 0`): it stops once nothing runs. A running job may enqueue more jobs. */
  async #end(signal: AbortSignal): Promise<readonly Delivery[]> {
    // Held unknown tasks do not count: they would come back again and again.
    if (this.#process.claims.size <= (this.#host?.unknownHeld(this) ?? 0)) this.#stop();
    await pause(POLLING_MS, signal);
    return [];
  }

  #stop(): void {
    this.#log.info({ system: this.system }, 'the queues hold no job for this worker (interval 0): the worker stops');
    this.#host?.stop();
  }

  /**
   * Whether every waiting job has been here and is unknown; unknown jobs go to the back of the queue one after another. `more` is the number of
   * unknown jobs that have just come. A running job may still enqueue a known one.
   */
  async #onlyUnknown(more: number): Promise<boolean> {
    const held = (this.#host?.unknownHeld(this) ?? 0) + more;
    if (this.#process.claims.size > held) return false;
    const sizes = await this.#process.run(wire.sizes(this.#process.keys, this.#options.queues.expand(this.#known)));
    let waiting = 0;
    for (const size of sizes.values()) waiting += size;
    return this.#unknownInARow >= waiting + held;
  }

  /** An error in a hook is logged and does not stop the worker. */
  async #hook(name: keyof WorkerHooks): Promise<void> {
    try {
      await this.#options.hooks[name]?.();
    } catch (error) {
      this.#log.error({ hook: name, error }, 'a hook threw');
    }
  }

  async #deliveries(claimed: readonly ClaimedJob[]): Promise<readonly ResqueDelivery[]> {
    let sorted: Sorted;
    try {
      sorted = await (this.#intake as Intake).sort(claimed);
    } catch (error) {
      // No delivery has these claims: the next check gives the jobs back.
      for (const { claim } of claimed) this.#process.claims.forget(claim);
      throw error;
    }
    for (const { claimed: one, error } of sorted.poison) this.#quarantine(one, error);
    // As in Rails: the job fails with this error.
    for (const { delivery, error } of sorted.unread)
      this.#chores.add(
        'record a failure',
        () => delivery.settle({ kind: 'error', error, retriable: false }),
        fieldsOf(delivery.job),
      );
    return sorted.deliveries;
  }

  #quarantine({ queue, claim, bytes }: ClaimedJob, error: unknown): void {
    const code = error instanceof WireError ? error.code : 'undecodable';
    const reason = (error as Error).message.replace(/^resque: /, '');
    const { keys, claims } = this.#process;
    const why = JSON.stringify({ code, reason, queue, bytes: bytes.length, at: Date.now() / 1000 });
    const write = async (): Promise<void> => {
      await claims.exchange(claim, wire.quarantine(keys, queue, bytes, why));
      this.#host?.poison({ system: this.system, queue, id: undefined, code, reason, kept: this.#kept(queue) });
    };
    this.#chores.add('quarantine bytes that are no payload', write, { queue });
  }

  #tooLarge({ queue, size, start }: QuarantinedJob): void {
    const limit = this.#options.maxJobBytes;
    const begins = JSON.stringify(start.toString('latin1', 0, 60));
    const reason = `the payload has ${size} bytes, more than the ${limit} allowed (maxJobBytes); it begins ${begins}`;
    this.#host?.poison({
      system: this.system,
      queue,
      id: undefined,
      code: 'too-large',
      reason,
      kept: this.#kept(queue),
    });
  }

  #kept(queue: string): string {
    const { keys } = this.#process;
    return keptWords(quarantineKey(keys, queue), queueKey(keys, queue));
  }
}

const NOTHING: Claimed = { claimed: [], aside: [], paused: false };

function fieldsOf({ task, id, queue }: Delivery['job']): Readonly<Record<string, unknown>> {
  return { task, id, queue };
}
