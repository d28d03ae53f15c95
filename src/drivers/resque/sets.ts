import type { Exchange } from '../../../protocols/redis.ts';
import type { Keyspace } from '../../../protocols/resque/keys.ts';
import * as presence from '../../../protocols/resque/presence.ts';
import * as wire from '../../../protocols/resque/redis.ts';
import * as search from '../../../protocols/resque/search.ts';
import { ConfigError, ConnectionError } from '../../errors.ts';
import type { RedisConnection } from '../../transports/redis.ts';
import { type SetName, type Stored, storedEntry, storedWork } from './stored.ts';

/** How many bytes of an entry are read. A job in quarantine may be very large, so only its beginning is shown. */
const ENTRY_BYTES = 16 * 2 ** 20;
const QUARANTINE_BYTES = 2 ** 20;
/** How many lists are read together. */
const LISTS_AT_ONCE = 100;
/** How far workers may have moved a list between two pages, so that the second page can still continue after the first. */
const SHIFT = 10_000;

/** An entry, and the cursor of a page that begins after it. */
export interface Placed {
  readonly one: Stored;
  readonly after: string;
}

/** A list and its length. */
export interface SizedList {
  readonly list: search.JobList;
  readonly size: number;
}

/** Reads the sets of an inspector from Redis. */
export class Sets {
  readonly #redis: RedisConnection;
  readonly #keys: Keyspace;

  constructor(redis: RedisConnection, keys: Keyspace) {
    this.#redis = redis;
    this.#keys = keys;
  }

  /** The current job of every worker on the list, by the worker's id. */
  async working(): Promise<readonly Stored[]> {
    const ids = await this.#redis.run(wire.workers(this.#keys));
    const doing = await this.#redis.run(presence.doing(this.#keys, ids));
    return ids.flatMap((id, at) => (doing[at] === undefined ? [] : [storedWork(id, doing[at])]));
  }

  /**
   * The non-empty lists of a set, in order, in batches. `from`: the name of the first list. If the set is kept by queue and `queue` is given, only
   * the list of that queue.
   */
  async *lists(
    set: search.ListSet,
    queue: string | undefined,
    from?: string,
  ): AsyncGenerator<readonly SizedList[], void, undefined> {
    if (set === 'delayed') {
      for (let first = from; ;) {
        const lists = await this.#tolerant(search.delayedLists(this.#keys, first, LISTS_AT_ONCE), []);
        yield await this.#sized(lists);
        if (lists.length < LISTS_AT_ONCE) return;
        first = `(${lists.at(-1)?.name ?? ''}`;
      }
    }
    const all = await this.#tolerant(search.listsOf(this.#keys, set, queue), []);
    const found = from === undefined ? 0 : all.findIndex(({ name }) => name === from);
    // If the queue was removed meanwhile, the queues after it by name. `failed` comes before the names of queues.
    const rest =
      found >= 0
        ? all.slice(found)
        : all.filter(({ name }, at) => name > (from as string) && (at > 0 || set !== 'failed'));
    for (let at = 0; at < rest.length; at += LISTS_AT_ONCE) yield await this.#sized(rest.slice(at, at + LISTS_AT_ONCE));
  }

  /**
   * The number of entries in a set; undefined if Redis does not tell. If the set is kept by queue and `queue` is given, the number for that queue.
   */
  async size(set: SetName, queue?: string): Promise<number | undefined> {
    if (set === 'working')
      return this.#redis.run(search.countWorking(this.#keys, await this.#redis.run(wire.workers(this.#keys))));
    if (set === 'delayed') return this.#redis.run(search.countDelayed(this.#keys));
    let sum = 0;
    for await (const lists of this.lists(set, queue)) for (const { size } of lists) sum += size;
    return sum;
  }

  /** Up to `count` entries after a cursor. Rejects with ConfigError for a cursor that this method did not return. */
  async read(
    set: SetName,
    queue: string | undefined,
    cursor: string | undefined,
    count: number,
  ): Promise<readonly Placed[]> {
    if (set === 'working') {
      if (cursor?.includes('\0') === true) throw badCursor(cursor);
      const rest = (await this.working()).filter(({ worker = '' }) => cursor === undefined || worker > cursor);
      return rest.slice(0, count).map((one) => ({ one, after: one.worker ?? '' }));
    }
    const parts = cursor === undefined ? undefined : /^(\d{1,15}) ([0-9a-f]{40}) ([^\0]+)$/.exec(cursor);
    if (parts === null || (set === 'delayed' && parts !== undefined && !/^-?[\d.e+]+$/.test(parts[3] as string)))
      throw badCursor(cursor);
    const placed: Placed[] = [];
    for await (const lists of this.lists(set, queue, parts?.[3])) {
      for (const { list, size } of lists) {
        if (placed.length >= count) return placed;
        if (size === 0) continue;
        const place = list.name === parts?.[3] ? { from: Number(parts[1]), anchor: parts[2] as string } : undefined;
        placed.push(...(await this.#list(set, list, place, count - placed.length)));
      }
    }
    return placed;
  }

  /** Entries of one list from a position on. */
  async entries(set: search.ListSet, list: search.JobList, from: number, count: number): Promise<readonly Stored[]> {
    const most = set === 'quarantine' ? QUARANTINE_BYTES : ENTRY_BYTES;
    const entries = await this.#redis.run(search.read(list, { from, count, most }));
    return entries.map((entry, at) => storedEntry(set, list, from + at, entry));
  }

  /** One step of a search through a list: how many entries it read, and the entries that may match. */
  async find(
    set: search.ListSet,
    list: search.JobList,
    from: number,
    count: number,
    wanted: { readonly texts: readonly string[]; readonly digests: readonly string[] },
  ): Promise<{ readonly looked: number; readonly found: readonly Stored[] }> {
    const most = set === 'quarantine' ? QUARANTINE_BYTES : ENTRY_BYTES;
    const { looked, found } = await this.#redis.run(search.find(list, { from, count, most, ...wanted }));
    return { looked, found: found.map((entry) => storedEntry(set, list, entry.place, entry)) };
  }

  /**
   * Reads one list from its head. A cursor holds a position and the digest of the entry before it. If workers have taken entries from the head
   * meanwhile, that entry is searched for nearer to the head. If it is gone too, all entries before it are gone, and the page begins at the head.
   */
  async #list(
    set: search.ListSet,
    list: search.JobList,
    place: { readonly from: number; readonly anchor: string } | undefined,
    count: number,
  ): Promise<readonly Placed[]> {
    let entries: readonly Stored[];
    if (place === undefined || place.from === 0) entries = await this.entries(set, list, 0, count);
    else {
      const [before, ...rest] = await this.entries(set, list, place.from - 1, count + 1);
      entries = rest;
      if (before?.entry.sha1 !== place.anchor) {
        const first = Math.max(0, place.from - 1 - SHIFT);
        const earlier = await this.#redis.run(
          search.read(list, { from: first, count: place.from - 1 - first, most: 0 }),
        );
        const at = earlier.findLastIndex(({ sha1 }) => sha1 === place.anchor);
        entries = await this.entries(set, list, first + at + 1, count);
      }
    }
    return entries.map((one) => ({ one, after: `${one.place + 1} ${one.entry.sha1} ${list.name}` }));
  }

  async #sized(lists: readonly search.JobList[]): Promise<readonly SizedList[]> {
    const sizes = await this.#redis.run(search.lengths(lists));
    return lists.map((list, at) => ({ list, size: sizes[at] ?? 0 }));
  }

  /** A key of the wrong type is shown as empty. */
  async #tolerant<Reply>(exchange: Exchange<Reply>, otherwise: Reply): Promise<Reply> {
    try {
      return await this.#redis.run(exchange);
    } catch (error) {
      if (error instanceof ConnectionError) throw error;
      return otherwise;
    }
  }
}

function badCursor(cursor: string | undefined): ConfigError {
  return new ConfigError(`resque: ${JSON.stringify(cursor)} is no cursor of this set; pass one that a page gave`);
}
