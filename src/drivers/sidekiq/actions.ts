import { randomUUID } from 'node:crypto';
import { toQueue } from '../../../protocols/sidekiq/api.ts';
import type { Dialect } from '../../../protocols/sidekiq/dialect.ts';
import { cancel, iteration } from '../../../protocols/sidekiq/iteration.ts';
import { type Keyspace, queueKey } from '../../../protocols/sidekiq/keys.ts';
import { DEAD_LIMITS, type DueJob, moveDue, type Moved } from '../../../protocols/sidekiq/redis.ts';
import * as search from '../../../protocols/sidekiq/search.ts';
import type { Action, ActOptions, ActResult, JobFilter } from '../../inspector.ts';
import type { RedisConnection } from '../../transports/redis.ts';
import type { Sets } from './sets.ts';
import { digestOf, matches, type SetName, stored, type Stored } from './stored.ts';

/** How many entries one step reads or moves. */
const STEP = 500;
const MOVED_AT_ONCE = 100;
/** The number of ids in one search. */
const IDS_AT_ONCE = 50;
/** The largest growth of a list that is allowed between the read of a step and its write. */
const GROWTH = 1_000;

/** The sets in which each action searches for its jobs. The first set that holds the id wins. */
export const SETS_OF: Readonly<Partial<Record<Action, readonly SetName[]>>> = {
  retry: ['retry', 'dead'],
  run: ['schedule'],
  delete: ['retry', 'schedule', 'dead', 'queued', 'quarantine'],
  kill: ['retry', 'schedule', 'queued'],
  requeue: ['retry', 'schedule', 'dead', 'quarantine'],
  cancel: ['retry', 'schedule', 'queued', 'working', 'claimed'],
};

/** Every set; those that are cheap to search come first. */
const SEARCHED: readonly SetName[] = ['working', 'claimed', 'retry', 'schedule', 'dead', 'queued', 'quarantine'];

const WHY: Readonly<Record<SetName, string>> = {
  queued: 'it is in its queue already',
  schedule: 'it waits for its time',
  working: 'a worker runs it',
  claimed: 'a worker has fetched it; when the worker is dead, it goes back to its queue by itself',
  retry: 'it waits for a retry',
  dead: 'it is in the dead set',
  quarantine: 'it is in quarantine',
};

/** `moved`: the action was refused, and the job has left its set. */
type Done = 'done' | 'gone' | { readonly refused: string; readonly moved?: boolean };

/** Finds jobs by id and applies actions to them. A job that has left its set meanwhile is not touched. */
export class Actions {
  readonly #redis: RedisConnection;
  readonly #keys: Keyspace;
  readonly #sets: Sets;
  readonly #dialect: Dialect;

  constructor(redis: RedisConnection, keys: Keyspace, sets: Sets, dialect: Dialect) {
    this.#redis = redis;
    this.#keys = keys;
    this.#sets = sets;
    this.#dialect = dialect;
  }

  /** Every entry with one of these ids. `sets` are searched in the given order; an id that is found is not searched further. */
  async find(
    ids: readonly string[],
    sets: readonly SetName[] = SEARCHED,
  ): Promise<ReadonlyMap<string, readonly Stored[]>> {
    const found = new Map<string, Stored[]>();
    for (const set of sets) {
      const left = ids.filter((id) => !found.has(id));
      for (let at = 0; at < left.length; at += IDS_AT_ONCE) {
        const wanted = new Set(left.slice(at, at + IDS_AT_ONCE));
        for (const entry of await this.#findIn(set, wanted)) {
          const same = found.get(entry.id);
          if (same === undefined) found.set(entry.id, [entry]);
          else same.push(entry);
        }
      }
    }
    return found;
  }

  async byIds(
    action: Action,
    ids: readonly string[],
    set: SetName | undefined,
    options: ActOptions,
  ): Promise<ActResult> {
    const wanted = [...new Set(ids)];
    const found = await this.find(wanted, set === undefined ? (SETS_OF[action] ?? []) : [set]);
    const gone: string[] = [];
    const refused: { readonly id: string; readonly reason: string }[] = [];
    let done = 0;
    const missing = wanted.filter((id) => !found.has(id));
    // A job that is in another set is refused, with the reason; it is not gone.
    const elsewhere =
      set === undefined && missing.length > 0 ? await this.find(missing) : new Map<string, readonly Stored[]>();
    for (const id of missing) {
      const [other] = elsewhere.get(id) ?? [];
      if (other === undefined) gone.push(id);
      else refused.push({ id, reason: WHY[other.set] });
    }
    const present = [...found];
    for (let at = 0; at < present.length && options.signal?.aborted !== true; at += MOVED_AT_ONCE) {
      const some = present.slice(at, at + MOVED_AT_ONCE);
      const entries = some.flatMap(([, own]) => own);
      const became = await this.#do(action, entries);
      for (const [id, own] of some) {
        const results = own.map((one) => became[entries.indexOf(one)] as Done);
        const refusal = results.find((one) => typeof one === 'object');
        if (results.includes('done')) done += 1;
        else if (refusal === undefined) gone.push(id);
        else refused.push({ id, reason: refusal.refused });
      }
      options.onProgress?.({ done: Math.min(at + MOVED_AT_ONCE, present.length), total: present.length });
    }
    return { done, gone, refused };
  }

  /** Applies an action to every matching job that is in the set when the action begins. */
  bySet(
    action: Action,
    set: SetName,
    queue: string | undefined,
    filter: JobFilter,
    options: ActOptions,
  ): Promise<ActResult> {
    switch (set) {
      case 'schedule':
      case 'retry':
      case 'dead':
        return this.#throughSorted(action, set, filter, options);
      case 'queued':
        return this.#throughQueues(action, queue, filter, options);
      case 'quarantine':
      case 'working':
      case 'claimed':
        return this.#throughFew(action, set, queue, filter, options);
    }
  }

  /**
   * Reads from the lowest score up to the highest score that existed at the beginning. A job that is retried and fails again gets a higher score than
   * that, so it is not met twice. Entries that remain at the last score are skipped by count.
   */
  async #throughSorted(
    action: Action,
    set: search.SortedSet,
    filter: JobFilter,
    options: ActOptions,
  ): Promise<ActResult> {
    const { size, highest } = await this.#redis.run(search.extent(this.#keys, set));
    const tally = new Tally(size, options);
    let from = '-inf';
    let skip = 0;
    while (highest !== undefined && !tally.stopped) {
      const entries = await this.#redis.run(
        search.scoredUpTo(this.#keys, set, { from, to: highest, skip, count: STEP }),
      );
      if (entries.length === 0) break;
      const all = entries.map(({ member, score }) => stored(set, member, { score }));
      const became = await this.#doMatching(action, all, filter, tally);
      for (const [at, { score }] of entries.entries()) {
        if (score !== from) {
          from = score;
          skip = 0;
        }
        const result = became[at];
        if (result === undefined || (typeof result === 'object' && result.moved !== true)) skip += 1;
      }
      tally.looked(entries.length);
    }
    return tally.result();
  }

  /** Reads from the end where new jobs are pushed, so that workers can take jobs from the other end meanwhile. */
  async #throughQueues(
    action: Action,
    only: string | undefined,
    filter: JobFilter,
    options: ActOptions,
  ): Promise<ActResult> {
    const names = only === undefined ? await this.#sets.queueNames() : [only];
    const sizes = await Promise.all(names.map((name) => this.#sets.queued(name)));
    const tally = new Tally(
      sizes.reduce((sum, size) => sum + size, 0),
      options,
    );
    for (const [at, queue] of names.entries()) {
      if (sizes[at] === 0) continue;
      const list = queueKey(this.#keys, queue);
      for (let from = 0; !tally.stopped;) {
        const entries = await this.#redis.run(search.fromLeft(list, from, STEP));
        if (entries.length === 0) break;
        const all = entries.map((bytes) => stored('queued', bytes, { queue }));
        const within = { from, to: from + STEP + GROWTH };
        const became = await this.#doMatching(action, all, filter, tally, within);
        from += entries.length - became.filter((one) => one === 'done').length;
        tally.looked(entries.length);
      }
    }
    return tally.result();
  }

  async #throughFew(
    action: Action,
    set: 'quarantine' | 'working' | 'claimed',
    queue: string | undefined,
    filter: JobFilter,
    options: ActOptions,
  ): Promise<ActResult> {
    const entries: Stored[] = [];
    for (let cursor: string | undefined; ;) {
      const page = await this.#sets.read(set, queue, cursor, MOVED_AT_ONCE);
      entries.push(...page.map(({ entry }) => entry));
      cursor = page.at(-1)?.after();
      if (page.length < MOVED_AT_ONCE) break;
    }
    const tally = new Tally(entries.length, options);
    for (let at = 0; at < entries.length && !tally.stopped; at += MOVED_AT_ONCE) {
      const some = entries.slice(at, at + MOVED_AT_ONCE);
      await this.#doMatching(action, some, filter, tally);
      tally.looked(some.length);
    }
    return tally.result();
  }

  /** The result for each entry; undefined for an entry that does not match. */
  async #doMatching(
    action: Action,
    entries: readonly Stored[],
    filter: JobFilter,
    tally: Tally,
    within?: { readonly from: number; readonly to: number },
  ): Promise<readonly (Done | undefined)[]> {
    const chosen = entries.filter((one) => matches(one, filter));
    const results = new Map<Stored, Done>();
    for (let at = 0; at < chosen.length; at += within === undefined ? MOVED_AT_ONCE : chosen.length) {
      const some = within === undefined ? chosen.slice(at, at + MOVED_AT_ONCE) : chosen;
      const became = await this.#do(action, some, within);
      for (const [index, one] of some.entries()) results.set(one, became[index] as Done);
    }
    for (const [one, result] of results) tally.add(one.id, result);
    return entries.map((one) => results.get(one));
  }

  /** All entries get the same action. They may be in several sets. */
  async #do(
    action: Action,
    entries: readonly Stored[],
    within?: { readonly from: number; readonly to: number },
  ): Promise<readonly Done[]> {
    const results = new Map<Stored, Done>();
    for (const set of new Set(entries.map((one) => one.set))) {
      const own = entries.filter((one) => one.set === set);
      const became = await this.#doInSet(action, set, own, within);
      for (const [at, one] of own.entries()) results.set(one, became[at] as Done);
    }
    return entries.map((one) => results.get(one) as Done);
  }

  #doInSet(
    action: Action,
    set: SetName,
    entries: readonly Stored[],
    within: { readonly from: number; readonly to: number } | undefined,
  ): Promise<readonly Done[]> {
    if (action === 'cancel') return Promise.all(entries.map((one) => this.#cancel(one)));
    if (set === 'quarantine')
      return Promise.all(entries.map((one) => this.#release(one, action === 'requeue' ? 'queue' : 'nowhere')));
    if (set === 'queued') return this.#take(entries, action === 'kill' ? 'dead' : 'nowhere', within);
    if (set === 'working' || set === 'claimed') return Promise.resolve(entries.map(() => ({ refused: WHY[set] })));
    if (action === 'delete') return this.#remove(set, entries);
    if (action === 'kill')
      return this.#move(set, entries, ({ bytes }) => ({ member: bytes, queue: undefined, text: bytes }));
    return this.#move(set, entries, (one) => this.#toQueue(set, one));
  }

  /** A manual retry reduces the failure count by one, as the pages of Sidekiq Web do. */
  #toQueue(set: search.SortedSet, { bytes, hash, id }: Stored): DueJob | undefined {
    const entry = { set, atMs: 0, member: bytes, hash, jid: id, class: '' };
    return toQueue(entry, { dialect: this.#dialect, nowMs: Date.now() });
  }

  async #move(
    set: search.SortedSet,
    entries: readonly Stored[],
    going: (one: Stored) => DueJob | undefined,
  ): Promise<readonly Done[]> {
    const jobs = entries.map(going);
    const able = jobs.filter((job) => job !== undefined);
    const moved = await this.#redis.run(moveDue(this.#keys, set, able, { nowMs: Date.now(), dead: DEAD_LIMITS }));
    const became: Readonly<Record<Moved, Done>> = {
      moved: 'done',
      gone: 'gone',
      refused: { refused: 'the key of its queue is no list; the job is in the dead set', moved: true },
    };
    let next = 0;
    return jobs.map((job) => (job === undefined ? { refused: 'it is no job hash' } : became[moved[next++] as Moved]));
  }

  async #remove(set: search.SortedSet, entries: readonly Stored[]): Promise<readonly Done[]> {
    const members = entries.map(({ bytes }) => bytes);
    return (await this.#redis.run(search.removeEach(this.#keys, set, members))).map((there) =>
      there ? 'done' : 'gone',
    );
  }

  async #take(
    entries: readonly Stored[],
    to: 'dead' | 'nowhere',
    within: { readonly from: number; readonly to: number } | undefined,
  ): Promise<readonly Done[]> {
    const results = new Map<Stored, Done>();
    const destination: search.Destination =
      to === 'dead' ? { kind: 'dead', nowMs: Date.now(), limits: DEAD_LIMITS } : { kind: 'nowhere' };
    for (const queue of new Set(entries.map((one) => one.queue as string))) {
      const own = entries.filter((one) => one.queue === queue);
      const bytes = own.map((one) => one.bytes);
      const list = queueKey(this.#keys, queue);
      const taken = await this.#redis.run(search.take(this.#keys, list, bytes, destination, randomUUID(), within));
      for (const [at, one] of own.entries())
        results.set(one, done(taken[at] as search.Taken, 'the key of the dead set is no set'));
    }
    return entries.map((one) => results.get(one) as Done);
  }

  async #release({ queue, whole }: Stored, to: 'queue' | 'nowhere'): Promise<Done> {
    const sha1 = whole?.sha1 ?? '';
    const taken = await this.#redis.run(search.release(this.#keys, queue as string, sha1, to, randomUUID()));
    return done(taken, 'the key of its queue is no list');
  }

  /** An iterable job gets a cancel request. Any other job that is not running is removed. */
  async #cancel(one: Stored): Promise<Done> {
    const state = await this.#redis.run(iteration(this.#keys, one.id));
    if (state?.cancelledAt !== undefined) return 'gone';
    if (state !== undefined) {
      await this.#redis.run(cancel(this.#keys, one.id, Math.floor(Date.now() / 1000)));
      return 'done';
    }
    if (one.set === 'working' || one.set === 'claimed')
      return { refused: 'it runs, or is about to, and only an iterable job can be cancelled then' };
    const became = await this.#doInSet('delete', one.set, [one], undefined);
    return became[0] as Done;
  }

  async #findIn(set: SetName, ids: ReadonlySet<string>): Promise<readonly Stored[]> {
    switch (set) {
      case 'working':
        return [...(await this.#sets.working()).values()].filter(({ id }) => ids.has(id));
      case 'claimed':
        return [...(await this.#sets.claimed()).values()].filter(({ id }) => ids.has(id));
      case 'schedule':
      case 'retry':
      case 'dead': {
        const members = await this.#findBytes(this.#keys[set], 'set', ids);
        const scores = await this.#redis.run(search.scoresOf(this.#keys, set, members));
        return members
          .flatMap((member, at) => {
            const score = scores[at];
            return score === undefined ? [] : [stored(set, member, { score })];
          })
          .filter(({ id }) => ids.has(id));
      }
      case 'queued': {
        const found: Stored[] = [];
        for (const queue of await this.#sets.queueNames()) {
          const entries = await this.#findBytes(queueKey(this.#keys, queue), 'list', ids);
          found.push(...entries.map((bytes) => stored(set, bytes, { queue })).filter(({ id }) => ids.has(id)));
        }
        return found;
      }
      case 'quarantine': {
        const found: Stored[] = [];
        for (let cursor: string | undefined; ;) {
          const page = await this.#sets.read(set, undefined, cursor, MOVED_AT_ONCE);
          found.push(...page.map(({ entry }) => entry).filter(({ id }) => ids.has(id)));
          cursor = page.at(-1)?.after();
          if (page.length < MOVED_AT_ONCE) return found;
        }
      }
    }
  }

  /**
   * Entries that may have one of these ids. If the set or list changes meanwhile, an entry may be returned for several reads; the result holds it
   * once.
   */
  async #findBytes(key: string, kind: 'list' | 'set', ids: ReadonlySet<string>): Promise<readonly Buffer[]> {
    const digests = [...ids].map(digestOf).filter((digest) => digest !== undefined);
    const texts = [...ids].map(plainPart);
    const found: Buffer[] = [];
    for (let from = 0; ;) {
      const step = await this.#redis.run(search.find(key, kind, { from, count: STEP, texts, digests }));
      found.push(...step.found);
      if (step.looked < STEP) break;
      from += step.looked;
    }
    const once = new Map(found.map((bytes) => [bytes.toString('latin1'), bytes]));
    return [...once.values()];
  }
}

/** The longest part of an id that JSON can write in only one way. */
function plainPart(id: string): string {
  return (id.match(/[\w.:-]+/g) ?? []).reduce((longest, part) => (part.length > longest.length ? part : longest), '');
}

function done(taken: search.Taken, refusal: string): Done {
  if (taken === 'refused') return { refused: refusal };
  return taken === 'taken' ? 'done' : 'gone';
}

/** The running totals of a long action. */
class Tally {
  readonly #total: number;
  readonly #options: ActOptions;
  readonly #refused: { readonly id: string; readonly reason: string }[] = [];
  #done = 0;
  #looked = 0;

  constructor(total: number, options: ActOptions) {
    this.#total = total;
    this.#options = options;
  }

  get stopped(): boolean {
    return this.#options.signal?.aborted === true;
  }

  add(id: string, result: Done): void {
    if (result === 'done') this.#done += 1;
    else if (result !== 'gone') this.#refused.push({ id, reason: result.refused });
  }

  looked(count: number): void {
    this.#looked += count;
    this.#options.onProgress?.({ done: this.#looked, total: Math.max(this.#total, this.#looked) });
  }

  result(): ActResult {
    return { done: this.#done, gone: [], refused: this.#refused };
  }
}
