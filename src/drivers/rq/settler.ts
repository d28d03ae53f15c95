import type { Exchange } from '../../../protocols/redis.ts';
import * as wire from '../../../protocols/rq/redis.ts';
import { Chores } from '../../chores.ts';
import { WireError } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import type { RedisConnection } from '../../transports/redis.ts';
import type { RqDelivery } from './delivery.ts';
import type { Presence } from './presence.ts';

interface Settling {
  readonly delivery: RqDelivery;
  readonly settlement: wire.Settlement;
  settled?: wire.Settled;
}

/** Writes the outcomes of runs. All that end in one tick are written by one script, together with the changed state of the worker. */
export class Settler {
  readonly #presence: Presence;
  readonly #chores: Chores;
  #settle: ((item: Settling) => Promise<void>) | undefined;

  constructor(presence: Presence, log: () => Logger) {
    this.#presence = presence;
    this.#chores = new Chores(log);
  }

  open(redis: RedisConnection): void {
    this.#settle = redis.batchPerTick((items: readonly Settling[]) => this.#settleAll(items));
  }

  /** Rejects with WireError `wrong-type` if a key has another type than in RQ; then nothing was written. */
  async settle(delivery: RqDelivery, settlement: wire.Settlement): Promise<'done' | wire.NotOurs> {
    const item: Settling = { delivery, settlement };
    this.#presence.settling(delivery, true);
    try {
      await this.#settle?.(item);
      if (typeof item.settled === 'object' && 'wrongType' in item.settled) throw wrongType(delivery, item.settled);
    } catch (error) {
      this.#presence.settling(delivery, false);
      throw error;
    }
    this.#presence.remove(delivery);
    return item.settled ?? 'done';
  }

  /** Settles a job that is not run here, and tries again until it is written. Until then this worker keeps the job alive. */
  giveAway(delivery: RqDelivery, settlement: wire.Settlement): void {
    const { id, queue } = delivery.job;
    this.#chores.add('give a job away', () => this.settle(delivery, settlement), { id, queue });
  }

  /** Resolves when all such jobs are settled, or after `limitMs`. */
  async idle(limitMs?: number): Promise<void> {
    await this.#chores.settled(limitMs);
  }

  close(): void {
    this.#chores.close();
  }

  #settleAll(gathered: readonly Settling[]): Exchange<void> {
    const items = inOrder(gathered);
    const change = this.#presence.change() ?? { worker: this.#presence.name };
    const exchange = wire.settle(
      items.map(({ settlement }) => settlement),
      change,
      new Date(),
    );
    return {
      ...exchange,
      read: (replies) => {
        const settled = exchange.read(replies);
        for (const [at, item] of items.entries()) item.settled = settled[at] as wire.Settled;
      },
    };
  }
}

/** Jobs that go back to the head of a queue are pushed last first, so that they keep their order there. */
function inOrder(items: readonly Settling[]): readonly Settling[] {
  const toHead = ({ settlement: { next } }: Settling): boolean =>
    next !== undefined && 'push' in next && next.push === 'head';
  const heads = items.filter(toHead);
  if (heads.length < 2) return items;
  heads.sort((a, b) => (a.delivery.run.execution < b.delivery.run.execution ? 1 : -1));
  return [...items.filter((item) => !toHead(item)), ...heads];
}

/** The write is tried again until the key is repaired. The run stays alive meanwhile, and no other worker takes it. */
function wrongType({ job }: RqDelivery, { wrongType: key }: wire.WrongType): WireError {
  const what = `the job ${job.id} of '${job.queue}' cannot be settled: the key '${key}' is of another type than RQ has there. Rename it or delete it`;
  return new WireError('rq', 'wrong-type', what);
}
