import { randomUUID } from 'node:crypto';
import type { Keyspace } from '../../../protocols/resque/keys.ts';
import * as search from '../../../protocols/resque/search.ts';
import type { Action, ActOptions, ActResult, JobFilter } from '../../inspector.ts';
import type { RedisConnection } from '../../transports/redis.ts';
import type { Sets, SizedList } from './sets.ts';
import { digestOf, matches, type SetName, type Stored } from './stored.ts';

/** How many entries one step reads. */
const STEP = 500;
/** How far entries may have moved between the read of a step and its write: towards the head of their list, and away from it. */
const GROWTH = 500;
const RETURNED = 100;
/** The number of ids in one search. */
const IDS_AT_ONCE = 50;

/** The sets in which each action searches for its jobs. The first set that holds the id wins. */
export const SETS_OF: Readonly<Partial<Record<Action, readonly search.ListSet[]>>> = {
  retry: ['failed'],
  run: ['delayed'],
  delete: ['failed', 'delayed', 'quarantine', 'queued'],
  requeue: ['quarantine', 'failed', 'delayed'],
};

/** Every set; those that are cheap to search come first. */
const SEARCHED: readonly SetName[] = ['working', 'failed', 'quarantine', 'delayed', 'queued'];

const WHY: Readonly<Record<SetName, string>> = {
  queued: 'it is in its queue already',
  working: 'a worker runs it',
  delayed: 'it waits for its time',
  failed: 'it has failed',
  quarantine: 'it is in quarantine',
};

type Done = 'done' | 'gone' | { readonly refused: string };

/** Finds jobs by id and applies actions to them. A job that has left its set meanwhile is not touched. */
export class Actions {
  readonly #redis: RedisConnection;
  readonly #keys: Keyspace;
  readonly #sets: Sets;

  constructor(redis: RedisConnection, keys: Keyspace, sets: Sets) {
    this.#redis = redis;
    this.#keys = keys;
    this.#sets = sets;
  }

  /** One entry for each of these ids. `sets` are searched in the given order; an id that is found is not searched further. */
  async find(ids: readonly string[], sets: readonly SetName[] = SEARCHED): Promise<ReadonlyMap<string, Stored>> {
    const found = new Map<string, Stored>();
    for (const set of sets) {
      const left = ids.filter((id) => !found.has(id));
      for (let at = 0; at < left.length; at += IDS_AT_ONCE)
        await this.#findIn(set, new Set(left.slice(at, at + IDS_AT_ONCE)), found);
    }
    return found;
  }

  /** Acts once for each id. If several entries are identical, it acts on one of them. */
  async byIds(
    action: Action,
    ids: readonly string[],
    set: search.ListSet | undefined,
    options: ActOptions,
  ): Promise<ActResult> {
    const sets = set === undefined ? (SETS_OF[action] ?? []) : [set];
    const wanted = [...new Set(ids)];
    const results = new Map<string, Done>();
    const stopped = (): boolean => options.signal?.aborted === true;
    // An entry may move out of the searched part of its list between the read and the write. It is then searched for once more.
    for (let round = 0; round < 2 && !stopped(); round++) {
      const left = wanted.filter((id) => (results.get(id) ?? 'gone') === 'gone');
      if (left.length === 0) break;
      const found = [...(await this.find(left, sets)).values()];
      for (const some of nearby(found)) {
        if (stopped()) break;
        const became = await this.#do(action, some, rangeOf(some));
        for (const [at, one] of some.entries()) results.set(one.id, became[at] as Done);
        options.onProgress?.({ done: results.size, total: wanted.length });
      }
    }
    const missing = wanted.filter((id) => (results.get(id) ?? 'gone') === 'gone');
    // A job that is in another set is refused, with the reason; it is not gone.
    const elsewhere = set === undefined && missing.length > 0 ? await this.find(missing) : new Map<string, Stored>();
    for (const [id, one] of elsewhere) results.set(id, { refused: WHY[one.set] });
    return resultOf(wanted.map((id) => [id, results.get(id) ?? 'gone']));
  }

  /** Applies an action to every matching job that is in the set when the action begins. Jobs that enter the set meanwhile are left alone. */
  async bySet(
    action: Action,
    set: search.ListSet,
    queue: string | undefined,
    filter: JobFilter,
    options: ActOptions,
  ): Promise<ActResult> {
    const total = await this.#sets.size(set, queue);
    const all: (readonly [string, Done])[] = [];
    let looked = 0;
    for await (const lists of this.#sets.lists(set, queue)) {
      for (const one of lists) {
        for await (const step of this.#throughList(action, set, one, queue, filter)) {
          looked += step.looked;
          all.push(...step.became.filter(([, became]) => became !== 'gone'));
          options.onProgress?.({ done: looked, total: total === undefined ? undefined : Math.max(total, looked) });
          if (options.signal?.aborted === true) return resultOf(all);
        }
      }
    }
    return resultOf(all);
  }

  async *#throughList(
    action: Action,
    set: search.ListSet,
    { list, size }: SizedList,
    queue: string | undefined,
    filter: JobFilter,
  ): AsyncGenerator<
    { readonly looked: number; readonly became: readonly (readonly [string, Done])[] },
    void,
    undefined
  > {
    let from = 0;
    // A job that is retried and fails again comes back at the end. So only as many entries are read as there were at the beginning.
    for (let left = size; left > 0;) {
      const entries = await this.#sets.entries(set, list, from, Math.min(STEP, left));
      if (entries.length === 0) return;
      const chosen = entries.filter((one) => matches(one, queue, filter));
      const range = { from: Math.max(0, from - GROWTH), to: from + entries.length + RETURNED };
      const became = chosen.length === 0 ? [] : await this.#do(action, chosen, range);
      yield { looked: entries.length, became: chosen.map(({ id }, at) => [id, became[at] as Done]) };
      left -= entries.length;
      from += entries.length - became.filter((one) => one === 'done' || one === 'gone').length;
    }
  }

  /** All entries are in one list. */
  async #do(
    action: Action,
    entries: readonly Stored[],
    range: { readonly from: number; readonly to: number },
  ): Promise<readonly Done[]> {
    const going = entries.map((one) => leaving(action, one));
    const able = going.filter((one): one is search.Leaving => 'sha1' in one);
    const [{ set, list }] = entries as [Stored];
    const left =
      able.length === 0
        ? []
        : await this.#redis.run(
            search.take(this.#keys, set as search.ListSet, list as search.JobList, able, range, randomUUID()),
          );
    let next = 0;
    return going.map((one) => {
      if (!('sha1' in one)) return one;
      const became = left[next++] as search.Left;
      return became === 'refused' ? { refused: `the key of the queue '${one.to?.queue ?? ''}' is no list` } : became;
    });
  }

  async #findIn(set: SetName, ids: ReadonlySet<string>, found: Map<string, Stored>): Promise<void> {
    const keep = (entries: readonly Stored[]): void => {
      for (const one of entries) if (ids.has(one.id) && !found.has(one.id)) found.set(one.id, one);
    };
    const missing = (): boolean => [...ids].some((id) => !found.has(id));
    if (set === 'working') return keep(await this.#sets.working());
    const wanted = wantedBy(ids);
    for await (const lists of this.#sets.lists(set, undefined)) {
      // The first step of all lists takes one round trip, because most lists are short.
      const filled = lists.filter(({ size }) => size > 0);
      const steps = await Promise.all(filled.map(({ list }) => this.#sets.find(set, list, 0, STEP, wanted)));
      for (const [at, { list }] of filled.entries()) {
        let step = steps[at] as (typeof steps)[number];
        keep(step.found);
        for (let from = STEP; step.looked === STEP && missing(); from += STEP) {
          step = await this.#sets.find(set, list, from, STEP, wanted);
          keep(step.found);
        }
      }
      if (!missing()) return;
    }
  }
}

/** The texts that an entry with one of these ids contains: as Ruby writes them, and with non-ASCII characters escaped. */
function wantedBy(ids: ReadonlySet<string>): {
  readonly texts: readonly string[];
  readonly digests: readonly string[];
} {
  const texts = new Set<string>();
  const digests: string[] = [];
  for (const id of ids) {
    const digest = digestOf(id);
    if (digest !== undefined) digests.push(digest);
    const text = JSON.stringify(id);
    texts
      .add(text)
      .add(text.replaceAll(/[^\0-\x7e]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`));
  }
  return { texts: [...texts], digests };
}

/** Groups entries of one list that are near each other. */
function nearby(entries: readonly Stored[]): readonly (readonly Stored[])[] {
  const sorted = entries.toSorted((a, b) => a.place - b.place);
  const byList = new Map<string, Stored[][]>();
  for (const one of sorted) {
    const key = one.list?.key ?? '';
    const groups = byList.get(key) ?? [];
    byList.set(key, groups);
    const last = groups.at(-1);
    if (last === undefined || one.place - (last[0] as Stored).place >= STEP) groups.push([one]);
    else last.push(one);
  }
  return [...byList.values()].flat();
}

function rangeOf(entries: readonly Stored[]): { readonly from: number; readonly to: number } {
  const places = entries.map(({ place }) => place);
  return { from: Math.max(0, Math.min(...places) - GROWTH), to: Math.max(...places) + RETURNED };
}

/** Where an entry goes, or why it cannot be moved. */
function leaving(
  action: Action,
  { set, entry, payload, queue }: Stored,
): search.Leaving | { readonly refused: string } {
  const { sha1, size, bytes } = entry;
  if (action === 'delete') return { sha1, to: undefined };
  if (size > bytes.length)
    return { refused: `it has ${size} bytes, too many to be looked at here; move it with LMOVE` };
  if (payload === undefined)
    return { refused: 'it is no payload: a worker of Ruby that takes it from a queue ends, and it is lost' };
  if (queue === undefined) return { refused: 'it names no queue' };
  // An entry of the quarantine goes back unchanged. Delayed items and failures contain a payload, which is taken out.
  return {
    sha1,
    to: { queue, payload: set === 'quarantine' && payload.text.length === size ? undefined : payload.text },
  };
}

function resultOf(all: readonly (readonly [string, Done])[]): ActResult {
  return {
    done: all.filter(([, became]) => became === 'done').length,
    gone: all.filter(([, became]) => became === 'gone').map(([id]) => id),
    refused: all.flatMap(([id, became]) => (typeof became === 'object' ? [{ id, reason: became.refused }] : [])),
  };
}
