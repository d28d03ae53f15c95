import { createHash } from 'node:crypto';
import * as claims from '../../../protocols/claims.ts';
import type { Exchange } from '../../../protocols/redis.ts';
import * as wire from '../../../protocols/sidekiq/api.ts';
import { claimsKey, type Keyspace, quarantineKey, queueKey, workKey } from '../../../protocols/sidekiq/keys.ts';
import * as presence from '../../../protocols/sidekiq/presence.ts';
import * as search from '../../../protocols/sidekiq/search.ts';
import { ConfigError, ConnectionError } from '../../errors.ts';
import type { RedisConnection } from '../../transports/redis.ts';
import { type SetName, stored, storedAside, type Stored } from './stored.ts';

/** How many bytes of a job in quarantine are read. */
const QUARANTINE_BYTES = 65_536;
/** How far before its old place the last entry of a page is searched for, when workers have taken jobs meanwhile. */
const SHIFT = 1_000;

/** One entry, and the cursor of a page that begins after it. */
export interface Placed {
  readonly entry: Stored;
  readonly after: () => string;
}

/** Reads the sets of Sidekiq from a cursor on, a given number of entries at a time. */
export class Sets {
  readonly #redis: RedisConnection;
  readonly #keys: Keyspace;

  constructor(redis: RedisConnection, keys: Keyspace) {
    this.#redis = redis;
    this.#keys = keys;
  }

  /** Returns up to `count` entries; fewer only at the end. Throws ConfigError for a cursor that does not belong to this set. */
  async read(
    set: SetName,
    queue: string | undefined,
    cursor: string | undefined,
    count: number,
  ): Promise<readonly Placed[]> {
    switch (set) {
      case 'schedule':
      case 'retry':
      case 'dead':
        return this.#sorted(set, cursor, count);
      case 'queued':
      case 'quarantine':
        return this.#byQueue(set, queue, cursor, count);
      case 'working':
        return afterKey(await this.working(), cursor, count);
      case 'claimed':
        return afterKey(await this.claimed(), cursor, count);
    }
  }

  /** The names of queues: those in Sidekiq's set, the paused ones, and those that a process works on. */
  async queueNames(): Promise<readonly string[]> {
    const [names, paused, states] = await Promise.all([
      this.#redis.run(wire.queueNames(this.#keys)),
      this.#redis.run({
        commands: [['SMEMBERS', this.#keys.paused]],
        atomic: false,
        read: ([members]) => (members as readonly Buffer[]).map(String),
      }),
      this.processes(),
    ]);
    return [...new Set([...names, ...paused, ...states.flatMap(queuesOf)])].sort();
  }

  /** The processes that send heartbeats. */
  async processes(): Promise<readonly wire.ProcessState[]> {
    const identities = (await this.#redis.run(presence.processes(this.#keys))).toSorted();
    const states = await this.#redis.run(wire.processStates(this.#keys, identities));
    return states.filter((state) => state !== undefined);
  }

  /** The jobs that processes in Ruby and of this package run, as of the last heartbeat of each. */
  async working(): Promise<ReadonlyMap<string, Stored>> {
    const identities = await this.#redis.run(presence.processes(this.#keys));
    const found = new Map<string, Stored>();
    const read = async (identity: string, kind: 'work' | 'workers'): Promise<void> => {
      const flat = await this.#tolerant(
        {
          commands: [['HGETALL', workKey(this.#keys, identity, kind)]],
          atomic: false,
          read: ([reply]) => reply as readonly Buffer[],
        },
        [],
      );
      for (let at = 0; at < flat.length; at += 2) {
        const work = wire.hashOf(flat[at + 1] as Buffer);
        const { payload, queue, run_at: runAt } = work ?? {};
        const bytes = typeof payload === 'string' ? Buffer.from(payload) : (flat[at + 1] as Buffer);
        found.set(
          `${identity} ${String(flat[at])}`,
          stored('working', bytes, {
            worker: identity,
            ...(typeof queue === 'string' ? { queue } : {}),
            ...(typeof runAt === 'number' ? { startedAtMs: runAt * 1000 } : {}),
          }),
        );
      }
    };
    await Promise.all(identities.flatMap((one) => [read(one, 'work'), read(one, 'workers')]));
    return new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  /** The jobs that workers of this package have fetched and do not show as running, and the jobs that dead workers left. */
  async claimed(): Promise<ReadonlyMap<string, Stored>> {
    const [identities, working] = await Promise.all([
      this.#redis.run(claims.claimants(this.#keys.claimants)),
      this.working(),
    ]);
    const shown = new Set([...working.values()].map(({ worker, bytes }) => `${worker ?? ''} ${String(bytes)}`));
    const found = new Map<string, Stored>();
    for (const identity of identities.toSorted()) {
      const key = claimsKey(this.#keys, identity);
      const fields = await this.#redis.run(claims.claimsOf(key));
      const values = await this.#redis.run(claims.claimedBytes(key, fields));
      for (const [at, field] of fields.entries()) {
        const bytes = values[at];
        if (bytes === undefined || shown.has(`${identity} ${String(bytes)}`)) continue;
        const { queue, number } = claims.readClaim(field);
        found.set(
          `${identity} ${String(number).padStart(16, '0')}`,
          stored('claimed', bytes, { queue, worker: identity }),
        );
      }
    }
    return found;
  }

  /** The number of entries in a set. For a set that is kept by queue, the entries of the given queue only. */
  async size(set: SetName, queue?: string): Promise<number> {
    switch (set) {
      case 'schedule':
      case 'retry':
      case 'dead':
        return this.#tolerant(search.cardinality(this.#keys, set), 0);
      case 'working':
        return (await this.working()).size;
      case 'claimed':
        return (await this.claimed()).size;
      case 'queued':
      case 'quarantine': {
        const names = queue === undefined ? await this.queueNames() : [queue];
        const sizes = await Promise.all(
          names.map((name) => (set === 'queued' ? this.queued(name) : this.quarantined(name))),
        );
        return sizes.reduce((sum, one) => sum + one, 0);
      }
    }
  }

  /** The number of jobs in the list of a queue; 0 if the key is not a list. */
  queued(queue: string): Promise<number> {
    return this.#tolerant(search.length(queueKey(this.#keys, queue)), 0);
  }
  quarantined(queue: string): Promise<number> {
    return this.#tolerant(search.length(quarantineKey(this.#keys, queue)), 0);
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

  /** The cursor is a score, and the number of entries of that score already read. Entries that come and go before the cursor do not move it. */
  async #sorted(set: search.SortedSet, cursor: string | undefined, count: number): Promise<readonly Placed[]> {
    const parts = cursor === undefined ? undefined : /^(-?(?:inf|[\d.]+(?:e[-+]?\d+)?)) (\d{1,15})$/.exec(cursor);
    if (parts === null) throw badCursor(cursor);
    let [, last, seen] = parts ?? [undefined, undefined, '0'];
    let skip = Number(seen);
    const entries = await this.#tolerant(search.scored(this.#keys, set, { from: last, skip, count }), []);
    return entries.map(({ member, score }) => {
      skip = score === last ? skip + 1 : 1;
      last = score;
      const after = `${score} ${skip}`;
      return { entry: stored(set, member, { score }), after: () => after };
    });
  }

  async #byQueue(
    set: 'queued' | 'quarantine',
    only: string | undefined,
    cursor: string | undefined,
    count: number,
  ): Promise<readonly Placed[]> {
    const parts = cursor === undefined ? undefined : /^(\d{1,15}) ([0-9a-f]{40}) ([^]*)$/.exec(cursor);
    const begin = parts?.[3];
    if (parts === null || (only !== undefined && begin !== undefined && begin !== only)) throw badCursor(cursor);
    const names =
      only === undefined ? (await this.queueNames()).filter((name) => begin === undefined || name >= begin) : [only];
    const found: Placed[] = [];
    for (const name of names) {
      const place =
        name === begin && parts != null ? { from: Number(parts[1]), anchor: parts[2] as string } : undefined;
      found.push(...(await this.#list(set, name, place, count - found.length)));
      if (found.length >= count) break;
    }
    return found;
  }

  /**
   * Reads one list; the next job to run comes first. The cursor is a position and the digest of the entry before it. If workers have taken jobs
   * meanwhile, that entry is searched for nearer to the end. If it is gone too, all entries before it are gone, and the read begins anew.
   */
  async #list(
    set: 'queued' | 'quarantine',
    queue: string,
    place: { readonly from: number; readonly anchor: string } | undefined,
    count: number,
  ): Promise<readonly Placed[]> {
    const read = (from: number, most: number): Promise<readonly Stored[]> =>
      set === 'queued' ? this.#jobs(queue, from, most) : this.#aside(queue, from, most);
    let from = place?.from ?? 0;
    let entries: readonly Stored[];
    if (place === undefined || from === 0) {
      entries = await read(from, count);
    } else {
      const [before, ...rest] = await read(from - 1, count + 1);
      entries = rest;
      if (before === undefined || anchorOf(before) !== place.anchor) {
        const first = Math.max(0, from - 1 - SHIFT);
        const earlier = await read(first, from - 1 - first);
        from = first + earlier.findLastIndex((one) => anchorOf(one) === place.anchor) + 1;
        entries = await read(from, count);
      }
    }
    return entries.map((entry, at) => ({ entry, after: () => `${from + at + 1} ${anchorOf(entry)} ${queue}` }));
  }

  async #jobs(queue: string, from: number, count: number): Promise<readonly Stored[]> {
    const jobs = await this.#tolerant(wire.queuePage(this.#keys, queue, from, count), []);
    return jobs.map((bytes) => stored('queued', bytes, { queue }));
  }

  async #aside(queue: string, from: number, count: number): Promise<readonly Stored[]> {
    const range = { from, count, most: QUARANTINE_BYTES };
    return (await this.#redis.run(search.quarantined(this.#keys, queue, range))).map((one) => storedAside(queue, one));
  }
}

/** The queues that a process works on, according to its own entry. */
export function queuesOf({ info }: wire.ProcessState): readonly string[] {
  const { queues } = info;
  return Array.isArray(queues) ? queues.filter((name): name is string => typeof name === 'string') : [];
}

function anchorOf({ bytes, whole }: Stored): string {
  return whole?.sha1 ?? createHash('sha1').update(bytes).digest('hex');
}

function afterKey(all: ReadonlyMap<string, Stored>, cursor: string | undefined, count: number): readonly Placed[] {
  const rest = [...all].filter(([key]) => cursor === undefined || key > cursor);
  return rest.slice(0, count).map(([key, entry]) => ({ entry, after: () => key }));
}

function badCursor(cursor: string | undefined): ConfigError {
  return new ConfigError(`sidekiq: '${cursor ?? ''}' is no cursor of this set; pass one that a page gave`);
}
