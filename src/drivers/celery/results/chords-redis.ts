import {
  chordKeys,
  type ChordCount,
  chordMembers,
  chordSize,
  countMember,
  type CountedMember,
  endChord,
  growChord,
} from '../../../../protocols/celery/canvas/redis-chord.ts';
import type { RedisConnection } from '../../../transports/redis.ts';
import type { ChordCounter } from '../brokers/broker.ts';

export interface RedisChordsOptions {
  readonly prefix: string;
  /** Seconds the keys are kept. 0 keeps them for ever. */
  readonly expires: number;
  /** Keep the results in the order of the header. All workers of a cluster must agree. */
  readonly ordered: boolean;
}

/** Counts chords in Redis, in the same keys as Celery. */
export class RedisChords implements ChordCounter {
  readonly #redis: () => RedisConnection;
  readonly #options: RedisChordsOptions;

  constructor(redis: () => RedisConnection, options: RedisChordsOptions) {
    this.#redis = redis;
    this.#options = options;
  }

  start(group: string, size: number): Promise<void> {
    const { prefix, expires } = this.#options;
    return this.#redis().run(chordSize(chordKeys(prefix, group), size, expires));
  }

  count(group: string, member: CountedMember): Promise<ChordCount> {
    const { prefix, expires, ordered } = this.#options;
    return this.#redis().run(countMember(chordKeys(prefix, group), member, ordered, expires));
  }

  members(group: string): Promise<readonly Buffer[]> {
    const { prefix, ordered } = this.#options;
    return this.#redis().run(chordMembers(chordKeys(prefix, group), ordered));
  }

  grow(group: string): Promise<void> {
    const { prefix, expires } = this.#options;
    return this.#redis().run(growChord(chordKeys(prefix, group), expires));
  }

  end(group: string): Promise<void> {
    return this.#redis().run(endChord(chordKeys(this.#options.prefix, group)));
  }
}
