import * as wire from '../../../protocols/sidekiq/api.ts';
import { NEUTRAL } from '../../../protocols/sidekiq/dialect.ts';
import * as presence from '../../../protocols/sidekiq/presence.ts';
import { DEAD_LIMITS, type DueJob, moveDue } from '../../../protocols/sidekiq/redis.ts';
import { anything } from '../../check.ts';
import { ConfigError } from '../../errors.ts';
import { type Logger, silent } from '../../log.ts';
import { RedisConnection } from '../../transports/redis.ts';
import { checkApp } from './option-checks.ts';
import { peersDialect } from './peers.ts';
import { type ResolvedApp, resolveApp, type SidekiqAppOptions } from './options.ts';

export type { ProcessState, QueueState, SetEntry, SetName, Stats, WorkState } from '../../../protocols/sidekiq/api.ts';

/** How many entries are moved or removed in one step. */
const BATCH = 100;

/** Reads and changes the data in Sidekiq's Redis: the pages of Sidekiq Web, as functions. Connects at the first call. */
export class SidekiqApi implements AsyncDisposable {
  readonly #app: ResolvedApp;
  readonly #log: Logger;
  #redis: RedisConnection | undefined;
  #opening: Promise<RedisConnection> | undefined;

  constructor(options: SidekiqAppOptions & { readonly log?: Logger }) {
    checkApp('SidekiqApi', options, { log: anything });
    this.#app = resolveApp(options);
    this.#log = options.log ?? silent;
  }

  /** Totals, and the number of jobs in each set. */
  async stats(): Promise<wire.Stats> {
    return (await this.#open()).run(wire.stats(this.#app.keys));
  }

  /** Every queue that has ever received a job, by name. */
  async queues(): Promise<readonly wire.QueueState[]> {
    const redis = await this.#open();
    const names = await redis.run(wire.queueNames(this.#app.keys));
    return redis.run(wire.queues(this.#app.keys, names, Date.now()));
  }

  /** The processes that send heartbeats: Ruby's and those of this package. */
  async processes(): Promise<readonly wire.ProcessState[]> {
    const redis = await this.#open();
    const identities = (await redis.run(presence.processes(this.#app.keys))).toSorted();
    const states = await redis.run(wire.processStates(this.#app.keys, identities));
    return states.filter((state) => state !== undefined);
  }

  /** The running jobs, as of the last heartbeat of each process. The longest-running job comes first. */
  async work(): Promise<readonly wire.WorkState[]> {
    const redis = await this.#open();
    const identities = await redis.run(presence.processes(this.#app.keys));
    return redis.run(wire.workStates(this.#app.keys, identities));
  }

  /** Entries of a set. The soonest comes first; in the dead set, the latest. */
  async list(
    set: wire.SetName,
    { offset = 0, limit = 25 }: { readonly offset?: number; readonly limit?: number } = {},
  ): Promise<readonly wire.SetEntry[]> {
    return (await this.#open()).run(wire.page(this.#app.keys, set, offset, offset + limit - 1));
  }

  /** Entries of a set that match by jid, class or any text they hold. Each entry is returned once. */
  async find(set: wire.SetName, text: string): Promise<readonly wire.SetEntry[]> {
    const redis = await this.#open();
    const found = new Map<string, wire.SetEntry>();
    for (let cursor = '0'; ;) {
      const step = await redis.run(wire.scan(this.#app.keys, set, cursor, text));
      for (const entry of step.entries) found.set(Buffer.from(entry.member).toString('latin1'), entry);
      cursor = step.cursor;
      if (cursor === '0') return [...found.values()];
    }
  }

  /**
   * Push entries to their queues now; the failure count of each is reduced by one. An entry that has left the set meanwhile is skipped. An entry that
   * is not a job stays in the set. Returns how many were moved.
   */
  async retry(entries: readonly wire.SetEntry[]): Promise<number> {
    const redis = await this.#open();
    const dialect = this.#app.dialect ?? (await peersDialect(redis, this.#app.keys).catch(() => NEUTRAL));
    return this.#move(entries, (entry) => wire.toQueue(entry, { dialect, nowMs: Date.now() }));
  }

  /** Move entries to the dead set. An entry that has left its set meanwhile is skipped. Returns how many were moved. */
  kill(entries: readonly wire.SetEntry[]): Promise<number> {
    return this.#move(
      entries.filter(({ set }) => set !== 'dead'),
      ({ member }) => ({ member, queue: undefined, text: member }),
    );
  }

  /** Delete entries. Returns how many were still in the set. */
  async delete(entries: readonly wire.SetEntry[]): Promise<number> {
    const redis = await this.#open();
    let removed = 0;
    for (const [set, some] of bySet(entries)) {
      for (let at = 0; at < some.length; at += BATCH) {
        const members = some.slice(at, at + BATCH).map(({ member }) => member);
        removed += await redis.run(wire.remove(this.#app.keys, set, members));
      }
    }
    return removed;
  }

  /** Delete all entries of a set. This cannot be undone. */
  async clear(set: wire.SetName): Promise<void> {
    await (await this.#open()).run(wire.clearSet(this.#app.keys, set));
  }

  /** Delete all jobs of a queue. */
  async clearQueue(queue: string): Promise<void> {
    await (await this.#open()).run(wire.clearQueue(this.#app.keys, queue));
  }

  /** Jobs of a queue as bytes. The next job to run comes first. */
  async jobs(
    queue: string,
    { offset = 0, limit = 25 }: { readonly offset?: number; readonly limit?: number } = {},
  ): Promise<readonly Buffer[]> {
    return (await this.#open()).run(wire.queuePage(this.#app.keys, queue, offset, limit));
  }

  /** Delete one job from a queue, by its bytes. Returns whether the job was still in the queue. */
  async deleteJob(queue: string, bytes: Uint8Array): Promise<boolean> {
    return (await this.#open()).run(wire.removeFromQueue(this.#app.keys, queue, bytes));
  }

  /** Workers of this package and of Sidekiq Pro fetch nothing from a paused queue. Open-source Sidekiq does not support pausing and fetches on. */
  async pause(queue: string): Promise<void> {
    await (await this.#open()).run(wire.setPaused(this.#app.keys, queue, true));
  }
  async unpause(queue: string): Promise<void> {
    await (await this.#open()).run(wire.setPaused(this.#app.keys, queue, false));
  }

  /**
   * Send quiet to one process or to all: they fetch no more jobs. A process reads the signal with its next heartbeat. Returns the processes
   * signalled.
   */
  quiet(identity?: string): Promise<readonly string[]> {
    return this.#signal('TSTP', identity);
  }
  /** Send stop to one process or to all. */
  stop(identity?: string): Promise<readonly string[]> {
    return this.#signal('TERM', identity);
  }

  async close(): Promise<void> {
    await this.#opening?.catch(() => undefined);
    const redis = this.#redis;
    this.#redis = undefined;
    this.#opening = undefined;
    await redis?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #move(entries: readonly wire.SetEntry[], going: (entry: wire.SetEntry) => DueJob | undefined): Promise<number> {
    const redis = await this.#open();
    let count = 0;
    for (const [set, some] of bySet(entries)) {
      const jobs = some.map(going).filter((job) => job !== undefined);
      for (let at = 0; at < jobs.length; at += BATCH) {
        const moved = await redis.run(
          moveDue(this.#app.keys, set, jobs.slice(at, at + BATCH), { nowMs: Date.now(), dead: DEAD_LIMITS }),
        );
        count += moved.filter((one) => one === 'moved').length;
      }
    }
    return count;
  }

  /** A process that is embedded in another program does not end by a signal, so it is not sent one. */
  async #signal(name: presence.SignalName, identity: string | undefined): Promise<readonly string[]> {
    const redis = await this.#open();
    const known = await this.processes();
    const told = known.filter((one) => identity === undefined || one.identity === identity);
    if (identity !== undefined && told.length === 0)
      throw new ConfigError(`sidekiq: no process '${identity}' is running; inspect lists those that are`);
    const able = told.filter(({ info }) => info['embedded'] !== true);
    if (identity !== undefined && able.length === 0)
      throw new ConfigError(`sidekiq: '${identity}' is embedded in another program, and hears no signals`);
    for (const one of able) await redis.run(presence.signal(this.#app.keys, one.identity, name));
    return able.map((one) => one.identity);
  }

  #open(): Promise<RedisConnection> {
    return (this.#opening ??= this.#connect().catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    }));
  }

  async #connect(): Promise<RedisConnection> {
    const redis = new RedisConnection(this.#app.target, { log: this.#log });
    await redis.connect();
    this.#redis = redis;
    return redis;
  }
}

function bySet(entries: readonly wire.SetEntry[]): ReadonlyMap<wire.SetName, readonly wire.SetEntry[]> {
  const sets = new Map<wire.SetName, wire.SetEntry[]>();
  for (const entry of entries) {
    const some = sets.get(entry.set);
    if (some === undefined) sets.set(entry.set, [entry]);
    else some.push(entry);
  }
  return sets;
}
