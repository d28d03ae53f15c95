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

/** How many are moved or taken away at once. */
const BATCH = 100;

/** What is in Sidekiq's Redis, and what a person may do with it: the pages of Sidekiq Web, as functions. Connects at the first call. */
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

  /** Totals, and how many jobs are in which set. */
  async stats(): Promise<wire.Stats> {
    return (await this.#open()).run(wire.stats(this.#app.keys));
  }

  /** Every queue that ever got a job, by name. */
  async queues(): Promise<readonly wire.QueueState[]> {
    const redis = await this.#open();
    const names = await redis.run(wire.queueNames(this.#app.keys));
    return redis.run(wire.queues(this.#app.keys, names, Date.now()));
  }

  /** The processes that beat, Ruby's and ours. */
  async processes(): Promise<readonly wire.ProcessState[]> {
    const redis = await this.#open();
    const identities = (await redis.run(presence.processes(this.#app.keys))).toSorted();
    const states = await redis.run(wire.processStates(this.#app.keys, identities));
    return states.filter((state) => state !== undefined);
  }

  /** What runs, as of the last beat of each process; the longest first. */
  async work(): Promise<readonly wire.WorkState[]> {
    const redis = await this.#open();
    const identities = await redis.run(presence.processes(this.#app.keys));
    return redis.run(wire.workStates(this.#app.keys, identities));
  }

  /** Entries of a set: the soonest first, of the dead the latest. */
  async list(
    set: wire.SetName,
    { offset = 0, limit = 25 }: { readonly offset?: number; readonly limit?: number } = {},
  ): Promise<readonly wire.SetEntry[]> {
    return (await this.#open()).run(wire.page(this.#app.keys, set, offset, offset + limit - 1));
  }

  /** Entries of a set by jid, class or any text they hold; each once. */
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
   * Put entries into their queues now, each only if it is still there: a failure less is counted. How many were moved. What is no
   * job stays where it is.
   */
  async retry(entries: readonly wire.SetEntry[]): Promise<number> {
    const redis = await this.#open();
    const dialect = this.#app.dialect ?? (await peersDialect(redis, this.#app.keys).catch(() => NEUTRAL));
    return this.#move(entries, (entry) => wire.toQueue(entry, { dialect, nowMs: Date.now() }));
  }

  /** Move entries to the dead set, each only if it is still there. How many were moved. */
  kill(entries: readonly wire.SetEntry[]): Promise<number> {
    return this.#move(
      entries.filter(({ set }) => set !== 'dead'),
      ({ member }) => ({ member, queue: undefined, text: member }),
    );
  }

  /** Take entries away. How many were still there. */
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

  /** Empty a set: for ever. */
  async clear(set: wire.SetName): Promise<void> {
    await (await this.#open()).run(wire.clearSet(this.#app.keys, set));
  }

  /** Throw away the jobs of a queue. */
  async clearQueue(queue: string): Promise<void> {
    await (await this.#open()).run(wire.clearQueue(this.#app.keys, queue));
  }

  /** Jobs of a queue as their bytes, the next to run first. */
  async jobs(
    queue: string,
    { offset = 0, limit = 25 }: { readonly offset?: number; readonly limit?: number } = {},
  ): Promise<readonly Buffer[]> {
    return (await this.#open()).run(wire.queuePage(this.#app.keys, queue, offset, limit));
  }

  /** Take one job out of a queue, by its bytes. Whether it was still there. */
  async deleteJob(queue: string, bytes: Uint8Array): Promise<boolean> {
    return (await this.#open()).run(wire.removeFromQueue(this.#app.keys, queue, bytes));
  }

  /** Our workers, and those of Sidekiq Pro, fetch nothing from a paused queue; Sidekiq itself does not know of it. */
  async pause(queue: string): Promise<void> {
    await (await this.#open()).run(wire.setPaused(this.#app.keys, queue, true));
  }
  async unpause(queue: string): Promise<void> {
    await (await this.#open()).run(wire.setPaused(this.#app.keys, queue, false));
  }

  /** Tell a process, or all of them, to take nothing more. It hears it with its next beat. The processes told. */
  quiet(identity?: string): Promise<readonly string[]> {
    return this.#signal('TSTP', identity);
  }
  /** Tell a process, or all of them, to stop. */
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

  /** A process that is embedded in another program does not end by a signal: it is not told. */
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
