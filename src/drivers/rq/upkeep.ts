import { randomUUID } from 'node:crypto';
import * as lifecycle from '../../../protocols/rq/lifecycle.ts';
import { splitExecution } from '../../../protocols/rq/keys.ts';
import { type JobHash, toJob } from '../../../protocols/rq/message.ts';
import { unregister } from '../../../protocols/rq/presence.ts';
import * as wire from '../../../protocols/rq/redis.ts';
import * as upkeep from '../../../protocols/rq/upkeep.ts';
import type { Logger } from '../../log.ts';
import { type Agent, pause } from '../../source.ts';
import type { RedisConnection } from '../../transports/redis.ts';
import { callBack, type RqCallback } from './callbacks.ts';

export interface UpkeepOptions {
  readonly worker: string;
  readonly queues: readonly string[];
  /** Seconds between two checks for runs whose worker is gone. */
  readonly abandonedInterval: number;
  /** Seconds between two cleanings of the registries. */
  readonly maintenanceInterval: number;
  readonly abandonedJobs: 'fail' | 'requeue';
  readonly unknownCallback: 'leave' | 'skip' | 'fail';
  readonly policy: () => lifecycle.RqPolicy;
  readonly callback: (name: string) => RqCallback | undefined;
  /** Whether a run belongs to this process. Its deadline may have passed while the process was paused, but the run goes on. */
  readonly isHere: (execution: string) => boolean;
  readonly redis: () => RedisConnection;
  readonly log: () => Logger;
}

/** How long a worker of this package may be without its connection before its runs count as abandoned. Milliseconds. */
const MISSED_MS = 10_000;
/** Seconds. A process that holds the lock of a queue for longer is slow, dead, or an RQ that lets the lock expire. */
const LOCK_PATIENCE = 60;
/** Seconds that Python workers have for jobs whose callback only they know. Python cleans its registries every ten minutes. */
const CALLBACK_PATIENCE = 1_200;
/**
 * Jobs that were deferred within this time are checked in each round; all deferred jobs are checked when the registries are cleaned. Milliseconds.
 */
const RECENTLY_MS = 120_000;
const ANY_DEADLINE = Number.MAX_SAFE_INTEGER;

/**
 * The upkeep that workers do for each other: runs whose worker is gone are ended or run again, and registries are cleaned. A run is abandoned when
 * its deadline has passed, for any worker. A run of a worker of this package is also abandoned when that worker has had no connection for ten
 * seconds, which is the case after a kill. A script takes each run and checks it once more, so if two workers find the same run, it is handled once.
 */
export class Upkeep implements Agent {
  readonly name = 'rq: upkeep';
  readonly #options: UpkeepOptions;
  readonly #token = randomUUID();
  #cleanedAt = Number.NEGATIVE_INFINITY;
  /** This server, or a proxy before it, does not list the connected clients. */
  #blind = false;

  #orphans: readonly string[] = [];
  /** Keys of the wrong type that have been reported. */
  readonly #said = new Set<string>();

  constructor(options: UpkeepOptions) {
    this.#options = options;
  }

  /** The runs, `J:E` each, of an earlier worker that had the same name and is known to be dead. They are recovered before all others. */
  orphans(members: readonly string[]): void {
    this.#orphans = members;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { abandonedInterval, maintenanceInterval } = this.#options;
    while (!signal.aborted) {
      if (this.#orphans.length > 0) {
        const runs = this.#orphans.map((member) => ({ member, queue: undefined, overdue: 0 }));
        await this.#recover(runs, this.#options.worker, ANY_DEADLINE);
        this.#orphans = [];
      }
      const since = new Date(Date.now() - RECENTLY_MS);
      await Promise.all(
        this.#options.queues.map((queue) =>
          this.#apart(queue, async () => {
            await this.#sweep(queue);
            await this.#wake(queue, { since });
          }),
        ),
      );
      if (!this.#blind) await this.#missMembers(abandonedInterval * 1000);
      if (performance.now() - this.#cleanedAt >= maintenanceInterval * 1000) {
        this.#cleanedAt = performance.now();
        await this.#clean(signal);
      }
      await pause(abandonedInterval * 1000 * (0.9 + Math.random() / 5), signal);
    }
  }

  /** Recovers runs past their deadline, and ids that got stuck on the way to a Python worker. */
  async #sweep(queue: string): Promise<void> {
    const now = new Date();
    const { overdue, stuck } = await this.#redis.run(upkeep.inspect(queue, now));
    const runs = overdue.filter(({ member }) => !this.#options.isHere(splitExecution(member).execution ?? ''));
    if (runs.length === 0 && !stuck) return;
    await this.#locked(queue, async (locked) => {
      const late = now.getTime() / 1000 - LOCK_PATIENCE;
      const mine = locked ? runs : runs.filter(({ score }) => score < late);
      await this.#recover(
        mine.map(({ member, score }) => ({ member, queue, overdue: now.getTime() / 1000 - score })),
        this.#options.worker,
        now.getTime() / 1000,
      );
      if (!locked || !stuck) return;
      const back = await this.#redis.run(upkeep.unstick(queue, now));
      if (back > 0)
        this.#log.warn({ queue, jobs: back }, 'jobs that a worker took and never started are back in their queue');
    });
  }

  /** Recovers the runs of killed workers of this package. The workers are found by their connection names. */
  async #missMembers(intervalMs: number): Promise<void> {
    const { worker: own, queues: ours } = this.#options;
    if (!(await this.#redis.run(upkeep.takeTurn(ours, Math.round(intervalMs * 0.8))))) return;
    let there: Awaited<ReturnType<ReturnType<typeof upkeep.attendance>['read']>>;
    try {
      there = await this.#redis.run(upkeep.attendance());
    } catch (error) {
      if ((error as Error).name !== 'ReplyError') throw error;
      this.#blind = true;
      this.#log.debug({ error }, 'this user may not see who is connected; abandoned jobs are found by their deadline');
      return;
    }
    // Behind a proxy no connection has a name.
    if (!there.connections.has(upkeep.connectionName(own))) return;
    const [absent, present] = [[] as string[], [] as string[]];
    for (const worker of there.workers)
      (there.connections.has(upkeep.connectionName(worker)) ? present : absent).push(worker);
    for (const { worker, queues, missedMs, members } of await this.#redis.run(upkeep.missing(absent))) {
      // For queues that this worker does not serve, other workers handle an abandoned job.
      if (missedMs < MISSED_MS || !queues.some((queue) => ours.includes(queue))) continue;
      this.#log.warn({ worker, jobs: members.length }, 'a worker is gone; what it ran is recovered');
      const runs = members.map((member) => ({ member, queue: undefined, overdue: 0 }));
      await this.#recover(runs, worker, ANY_DEADLINE);
      if (!queues.every((queue) => ours.includes(queue))) continue;
      await this.#redis.run(unregister(worker, queues, new Date()));
      await this.#redis.run(upkeep.notMissing([worker]));
    }
    // Workers that came back are no longer recorded as missing.
    await this.#redis.run(upkeep.notMissing(present));
  }

  async #recover(
    runs: readonly { readonly member: string; readonly queue: string | undefined; readonly overdue: number }[],
    worker: string,
    before: number,
  ): Promise<void> {
    const now = new Date();
    for (let at = 0; at < runs.length; at += 100) {
      const some = runs.slice(at, at + 100).map((run) => ({ ...run, ...splitExecution(run.member) }));
      const jobs = await this.#redis.run(upkeep.fetchAll(some.map(({ id }) => id)));
      const settlements: wire.Settlement[] = [];
      for (const [index, { id, execution, queue, overdue }] of some.entries()) {
        const job = jobs[index];
        const found = queue ?? job?.origin;
        // The queue of this run is unknown or not one of this worker's. The run of a deleted job expires by itself.
        if (found === undefined || !this.#options.queues.includes(found)) continue;
        const run = {
          job: job === undefined ? gone(id) : lifecycle.unstarted(job),
          execution,
          queue: found,
          worker,
          startedAt: undefined,
        };
        const settlement = await this.#settlement(run, job, overdue, before, now);
        if (settlement !== undefined) settlements.push(settlement);
      }
      if (settlements.length === 0) continue;
      for (const settled of await this.#redis.run(wire.settle(settlements, { worker }, now)))
        if (typeof settled === 'object' && 'wrongType' in settled)
          this.#complain(settled.wrongType, 'an abandoned job waits for it');
    }
  }

  /** A queue with keys of the wrong type must not block the upkeep of other queues. */
  async #apart(queue: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if ((error as Error).name !== 'ReplyError' || !(error as Error).message.includes('WRONGTYPE')) throw error;
      this.#complain(queue, (error as Error).message);
    }
  }

  /** Reports each key once. */
  #complain(key: string, why: string): void {
    if (this.#said.has(key)) return;
    if (this.#said.size > 1_000) this.#said.clear();
    this.#said.add(key);
    this.#log.error({ key }, `a key is of another type than RQ has there; rename it or delete it: ${why}`);
  }

  /** Undefined if the job is left to other workers. */
  async #settlement(
    run: lifecycle.Execution,
    job: JobHash | undefined,
    overdue: number,
    before: number,
    now: Date,
  ): Promise<wire.Settlement | undefined> {
    const { policy, abandonedJobs, unknownCallback, callback: find } = this.#options;
    // If the job is gone, only the run is removed. If the key is not a job, the id is kept.
    if (job === undefined) return { ...lifecycle.quarantined(run, 'no-data', now), abandonedBefore: before };
    if (abandonedJobs === 'requeue') return { ...lifecycle.giveBack(run, now, 'head'), abandonedBefore: before };
    const name = job.failureCallbackName;
    const callback = name === undefined ? undefined : find(name);
    if (name !== undefined && callback === undefined && unknownCallback === 'leave' && overdue < CALLBACK_PATIENCE)
      return undefined;
    const { write, disposition } = lifecycle.abandoned(run, policy(), now, before);
    const { id, queue } = { id: job.id, queue: run.queue };
    if (callback !== undefined) {
      const error = { type: 'AbandonedJobError', module: 'rq.exceptions', message: '', traceback: '' };
      const told = toJob(job, { funcName: '', instance: null, args: [], kwargs: {} }, run.queue);
      const thrown = await callBack(callback, job.failureCallbackTimeout, {
        job: told,
        hash: job,
        log: this.#log,
        event: 'failure',
        error,
      });
      if (thrown !== undefined) this.#log.error({ id, queue, error: thrown }, `the callback '${name}' failed`);
    }
    this.#log.warn({ id, queue, state: disposition.state }, 'a job whose worker is gone');
    return write;
  }

  /** Returns whether there may be more jobs to check. */
  async #wake(queue: string, which: Parameters<typeof upkeep.wake>[2]): Promise<boolean> {
    const { seen, woken } = await this.#redis.run(upkeep.wake(queue, new Date(), which));
    if (woken > 0)
      this.#log.warn({ queue, jobs: woken }, 'jobs that waited for what had ended already are in their queues now');
    return seen === upkeep.WAKE_BATCH;
  }

  async #clean(signal: AbortSignal): Promise<void> {
    for (const queue of this.#options.queues) {
      await this.#apart(queue, async () => {
        for (let offset = 0; !signal.aborted && (await this.#wake(queue, { offset }));) offset += upkeep.WAKE_BATCH;
        await this.#locked(queue, async (locked) => {
          if (locked) await this.#redis.run(upkeep.clean(queue, new Date()));
        });
      });
    }
    for (const group of await this.#redis.run(upkeep.groups())) {
      await this.#apart(group, async () => {
        for (let cursor = '0'; !signal.aborted;) {
          cursor = await this.#redis.run(upkeep.pruneGroup(group, cursor));
          if (cursor === '0') break;
        }
      });
    }
  }

  async #locked(queue: string, work: (locked: boolean) => Promise<void>): Promise<void> {
    const locked = await this.#redis.run(upkeep.lockMaintenance(queue, this.#token));
    try {
      await work(locked);
    } finally {
      if (locked) await this.#redis.run(upkeep.unlockMaintenance(queue, this.#token));
    }
  }

  get #redis(): RedisConnection {
    return this.#options.redis();
  }
  get #log(): Logger {
    return this.#options.log();
  }
}

/** A stand-in for a job that is gone: only its run is removed. */
function gone(id: string): JobHash {
  return { id, data: Buffer.alloc(0) };
}
