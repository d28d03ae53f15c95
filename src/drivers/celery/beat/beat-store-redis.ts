import { randomBytes } from 'node:crypto';
import * as beat from '../../../../protocols/celery/schedule/beat.ts';
import type { Publication } from '../../../../protocols/celery/message/message.ts';
import * as redbeat from '../../../../protocols/celery/schedule/redbeat.ts';
import { type BeatEntry, isDue, type Zone } from '../../../../protocols/celery/schedule/schedule.ts';
import { WireError } from '../../../../protocols/errors.ts';
import type { Exchange } from '../../../../protocols/redis.ts';
import type { Logger } from '../../../log.ts';
import { silent } from '../../../log.ts';
import { RedisConnection } from '../../../transports/redis.ts';
import { redisTarget, type RedisTargetOptions } from '../../../transports/redis-url.ts';
import type { BeatStore, Scheduled, Step } from './beat-store.ts';
import type { BrokerRedis } from '../brokers/broker.ts';

/** A store's Redis. On the broker's Redis, a run and its message are written in one step. It may also be another Redis. */
export interface BeatRedis {
  open(log: Logger): Promise<void>;
  run<Reply>(exchange: Exchange<Reply>): Promise<Reply>;
  /** The commands that publish a message on this Redis. Undefined if the message must be sent in another way. */
  pushes(message: Publication): Promise<readonly beat.Push[] | undefined>;
  close(): Promise<void>;
}

/** Uses the broker's connection, which is opened and closed with the broker. */
export function besideBroker(redis: BrokerRedis): BeatRedis {
  return {
    open: async () => {},
    run: (exchange) => redis.run(exchange),
    pushes: (message) => redis.pushes(message),
    close: async () => {},
  };
}

/** Uses a connection that belongs to the store. */
export function elsewhere(url: string, options: RedisTargetOptions = {}): BeatRedis {
  const target = redisTarget(url, options);
  let connection: RedisConnection | undefined;
  return {
    async open(log) {
      connection ??= new RedisConnection(target, { log });
      await connection.connect();
    },
    run: (exchange) => (connection as RedisConnection).run(exchange),
    pushes: async () => undefined,
    close: async () => connection?.close(),
  };
}

/** A lock token in redis-py's form: 32 hex digits. */
function newToken(): string {
  return randomBytes(16).toString('hex');
}

/** The lock is renewed three times within its lifetime. */
const RENEWALS = 3;

/** Jobglot's own layout (protocols/celery/schedule/beat.ts): several processes may run, and one of them leads. */
export class RedisBeatStore implements BeatStore {
  readonly kind = 'redis';
  readonly keepsPending: boolean = true;
  readonly renewMs: number;
  readonly #redis: BeatRedis;
  readonly #keys: beat.BeatKeys;
  readonly #lockMs: number;
  readonly #token = newToken();
  #entries: readonly BeatEntry[] = [];

  constructor(redis: BeatRedis, options: { readonly prefix: string; readonly lockMs: number }) {
    this.#redis = redis;
    this.#keys = beat.beatKeys(options.prefix);
    this.#lockMs = options.lockMs;
    this.renewMs = options.lockMs / RENEWALS;
  }

  open(log: Logger): Promise<void> {
    return this.#redis.open(log);
  }

  lead(): Promise<beat.Lead> {
    return this.#redis.run(beat.lead(this.#keys.lock, this.#token, this.#lockMs));
  }

  async prepare(entries: readonly BeatEntry[], now: number): Promise<void> {
    this.#entries = entries;
    const known = await this.#redis.run(beat.runs(this.#keys));
    const names = new Set(entries.map(({ name }) => name));
    const state = beat.encodeRun({ lastRunAt: now, totalRunCount: 0 });
    const begin = [...names].filter((name) => !known.has(name)).map((name) => ({ name, state }));
    const gone = [...known.keys()].filter((name) => !names.has(name));
    await this.#redis.run(beat.keepRuns(this.#keys, begin, gone));
  }

  async load(): Promise<readonly Scheduled[]> {
    const runs = await this.#redis.run(beat.runs(this.#keys));
    return this.#entries.map((entry) => {
      const stored = runs.get(entry.name) ?? '';
      return { entry, stored, state: beat.decodeRun(stored) ?? { lastRunAt: undefined, totalRunCount: 0 } };
    });
  }

  async step(
    { entry: { name }, stored }: Scheduled,
    { state, message }: Step,
  ): Promise<{ readonly claimed: beat.Claimed; readonly published: boolean }> {
    const pushes = message === undefined ? undefined : await this.#redis.pushes(message);
    // A message that is pushed in the same step as the claim cannot be lost, so no pending run is stored.
    const after = beat.encodeRun(pushes === undefined ? state : { ...state, pending: undefined });
    const claimed = await this.#redis.run(
      beat.claimRun(this.#keys, this.#token, { name, before: stored, after }, pushes),
    );
    return { claimed, published: pushes !== undefined };
  }

  resign(): Promise<void> {
    return this.#redis.run(beat.resign(this.#keys.lock, this.#token));
  }

  close(): Promise<void> {
    return this.#redis.close();
  }
}

/** RedBeat's layout (protocols/celery/schedule/redbeat.ts), shared with a RedBeat in Python. */
export class RedBeatStore implements BeatStore {
  readonly kind = 'redbeat';
  readonly keepsPending = false;
  readonly renewMs: number | undefined;
  readonly #redis: BeatRedis;
  readonly #keys: redbeat.RedBeatKeys;
  readonly #lockMs: number;
  readonly #zone: Zone;
  readonly #token = newToken();
  #log: Logger = silent;
  #first = true;
  /** Definitions that cannot be read and were already logged. */
  readonly #told = new Set<string>();

  constructor(
    redis: BeatRedis,
    options: { readonly keys: redbeat.RedBeatKeys; readonly lockMs: number; readonly zone: Zone },
  ) {
    this.#redis = redis;
    this.#keys = options.keys;
    this.#lockMs = options.lockMs;
    this.#zone = options.zone;
    this.renewMs = options.keys.lock === undefined ? undefined : options.lockMs / RENEWALS;
  }

  open(log: Logger): Promise<void> {
    this.#log = log;
    return this.#redis.open(log);
  }

  async lead(): Promise<beat.Lead> {
    const { lock } = this.#keys;
    if (lock !== undefined) return this.#redis.run(beat.lead(lock, this.#token, this.#lockMs));
    const taken = this.#first;
    this.#first = false;
    return taken ? 'taken' : 'kept';
  }

  async prepare(entries: readonly BeatEntry[], now: number): Promise<void> {
    const names = new Set(entries.map(({ name }) => name));
    const before = await this.#redis.run(redbeat.statics(this.#keys));
    await this.#redis.run(
      redbeat.removeStatics(
        this.#keys,
        before.filter((name) => !names.has(name)),
      ),
    );
    const stored = await this.#redis.run(redbeat.records(entries.map(({ name }) => this.#keys.prefix + name)));
    for (const [at, entry] of entries.entries()) {
      const begin = { lastRunAt: now, totalRunCount: 0 };
      const { lastRunAt } = this.#metaOf(stored[at]?.meta) ?? begin;
      const nextRunAt = lastRunAt === undefined ? now : isDue(entry.schedule, lastRunAt, now, this.#zone).at;
      const meta = redbeat.encodeMeta(begin, this.#zone);
      await this.#redis.run(redbeat.save(this.#keys, { ...entry, enabled: true }, meta, Math.max(now, nextRunAt)));
    }
  }

  async load(now: number, horizonMs: number): Promise<readonly Scheduled[]> {
    const keys = await this.#redis.run(redbeat.dueKeys(this.#keys, now, horizonMs));
    const found: Scheduled[] = [];
    for (const record of await this.#redis.run(redbeat.records(keys))) {
      const scheduled = await this.#read(record);
      if (scheduled !== undefined) found.push(scheduled);
    }
    return found;
  }

  async step(
    { entry: { name }, stored }: Scheduled,
    { state, nextRunAt, message }: Step,
  ): Promise<{ readonly claimed: beat.Claimed; readonly published: boolean }> {
    const pushes = message === undefined ? undefined : await this.#redis.pushes(message);
    const after = redbeat.encodeMeta(state, this.#zone);
    const claimed = await this.#redis.run(
      redbeat.claimRun(
        this.#keys,
        this.#token,
        { key: this.#keys.prefix + name, before: stored, after, nextRunAt },
        pushes,
      ),
    );
    return { claimed, published: pushes !== undefined };
  }

  async resign(): Promise<void> {
    if (this.#keys.lock !== undefined) await this.#redis.run(beat.resign(this.#keys.lock, this.#token));
  }

  close(): Promise<void> {
    return this.#redis.close();
  }

  async #read({ key, definition, meta }: redbeat.RedBeatRecord): Promise<Scheduled | undefined> {
    if (definition === undefined) {
      this.#log.warn({ key }, 'beat: the schedule names an entry that does not exist; its key is removed');
      await this.#redis.run(redbeat.forgetKey(this.#keys, key));
      return undefined;
    }
    try {
      const { enabled, ...entry } = redbeat.decodeDefinition(definition);
      return { entry, stored: meta ?? '', state: redbeat.decodeMeta(meta), disabled: !enabled };
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      const told = `${key}\n${definition}\n${meta}`;
      if (!this.#told.has(told)) this.#log.warn({ key, error }, 'beat: an entry cannot be read and is skipped');
      this.#told.add(told);
      return undefined;
    }
  }

  #metaOf(meta: string | undefined): beat.RunState | undefined {
    try {
      return meta === undefined ? undefined : redbeat.decodeMeta(meta);
    } catch {
      return undefined;
    }
  }
}
