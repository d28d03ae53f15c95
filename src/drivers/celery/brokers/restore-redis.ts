import { randomUUID } from 'node:crypto';
import { markRedelivered } from '../../../../protocols/celery/brokers/envelope.ts';
import * as wire from '../../../../protocols/celery/brokers/redis.ts';
import * as json from '../../../../protocols/formats/json.ts';
import { ConnectionError } from '../../../errors.ts';
import type { Logger } from '../../../log.ts';
import type { RedisConnection } from '../../../transports/redis.ts';

export interface AbandonedClaimsOptions {
  readonly keys: wire.Keyspace;
  /** Seconds after which a claim that nobody refreshed is abandoned. */
  readonly visibility: number;
  /** The most claims restored in one sweep. @default 1000 */
  readonly limit?: number;
  /** The longest time that the lock is held, in seconds. @default 30 */
  readonly mutexExpire?: number;
  readonly typeOf: (exchange: string) => 'direct' | 'topic' | 'fanout' | undefined;
  readonly log: () => Logger;
}

/** Restores messages that a Python or Node worker claimed and never finished: they go back to their queues. Source: kombu/transport/redis.py QoS. */
export class AbandonedClaims {
  readonly #options: AbandonedClaimsOptions;

  constructor(options: AbandonedClaimsOptions) {
    this.#options = options;
  }

  /** Restores the claims that are older than the visibility timeout. One process at a time does so. */
  async sweep(redis: RedisConnection): Promise<void> {
    const { keys, visibility, limit = 1_000, mutexExpire = 30, log } = this.#options;
    const before = Date.now() / 1000 - visibility;
    const look = wire.abandoned(keys, before, limit);
    // Most sweeps find nothing, and need no lock. A process that loses its connection while it has the lock blocks the sweeps of the others.
    if ((await redis.run(look)).length === 0) return;
    const token = randomUUID();
    if (!(await redis.run(wire.lockRestore(keys, token, mutexExpire)))) return;
    try {
      // Read again: another process may have restored them before this one got the lock.
      const tags = await redis.run(look);
      // The oldest last, so that it runs first again. A few at a time, since messages may be large.
      const newestFirst = tags.toReversed();
      let restored = 0;
      for (let at = 0; at < newestFirst.length; at += 20) {
        const some = newestFirst.slice(at, at + 20);
        const values = await redis.run(wire.held(keys, some));
        for (const [index, tag] of some.entries()) {
          const value = values[index];
          if (value === undefined) await redis.run(wire.dropIndex(keys, [tag]));
          else if (await this.#tryRestore(redis, tag, value, before)) restored++;
        }
      }
      if (restored > 0) log().warn({ restored }, 'restored messages that another worker claimed and never finished');
    } finally {
      await redis.run(wire.unlockRestore(keys, token));
    }
  }

  /** A claim that cannot be restored must not block the others. */
  async #tryRestore(redis: RedisConnection, tag: string, value: Buffer, before: number): Promise<boolean> {
    try {
      return await this.restore(redis, tag, value, before);
    } catch (error) {
      if (error instanceof ConnectionError) throw error;
      const { keys, log } = this.#options;
      log().warn({ tag, error }, `an abandoned claim cannot be restored; it stays in '${keys.unacked}'`);
      return false;
    }
  }

  /** Restores a claim if it was claimed before `before` (unix seconds) and is unchanged. Resolves to whether it was restored. */
  async restore(redis: RedisConnection, tag: string, value: Buffer, before: number): Promise<boolean> {
    const { lists, message } = await this.#destination(redis, value);
    return redis.run(wire.restore(this.#options.keys, tag, value, before, lists, message));
  }

  /** `[<envelope>, "<exchange>", "<routing key>"]`: the lists it goes back to, and the envelope marked as redelivered. */
  async #destination(
    redis: RedisConnection,
    value: Buffer,
  ): Promise<{ readonly lists: readonly string[]; readonly message: string | Uint8Array }> {
    const { keys, typeOf, log } = this.#options;
    // As latin1, every byte is preserved, also if the text is not UTF-8.
    const cut = wire.cutUnacked(value.toString('latin1'));
    if (cut === undefined) {
      const list = wire.quarantineKey(keys, 'unacked');
      log().error({ bytes: value.length }, `an abandoned claim is not a message; it is moved to the list '${list}'`);
      return { lists: [list], message: value };
    }
    const { envelope, exchange, routingKey } = cut;
    const type = typeOf(exchange);
    // A broadcast has reached every worker. If restored, it would pile up in lists that no worker pops.
    if (type === 'fanout') return { lists: [], message: '' };
    let priority: unknown = 0;
    try {
      priority = (JSON.parse(json.member(envelope, ['properties', 'priority']) ?? '0') as unknown) ?? 0;
    } catch {
      // Not an envelope: it goes back unchanged, and the next worker that reads it reports the error.
    }
    const found =
      exchange === '' ? [routingKey] : wire.route(type, await redis.run(wire.bindings(keys, exchange)), routingKey);
    const queues = found.length > 0 ? found : [routingKey];
    return {
      lists: queues.map((queue) => wire.listKey(keys, queue, priority)),
      message: markRedelivered(Buffer.from(envelope, 'latin1')),
    };
  }
}
