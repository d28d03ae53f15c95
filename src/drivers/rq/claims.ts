import { randomBytes } from 'node:crypto';
import { splitExecution } from '../../../protocols/rq/keys.ts';
import * as lifecycle from '../../../protocols/rq/lifecycle.ts';
import { ownExecutions } from '../../../protocols/rq/presence.ts';
import * as wire from '../../../protocols/rq/redis.ts';
import { fetchAll } from '../../../protocols/rq/upkeep.ts';
import type { Logger } from '../../log.ts';
import { LostReplies } from '../../lost-replies.ts';
import type { PushWatch } from '../../transports/redis-push.ts';
import type { RedisConnection } from '../../transports/redis.ts';
import type { RqOptions } from './options.ts';

/** The most bytes of job hashes in one claim. A claim that reaches it ends early. */
const BATCH_BYTES = 16 * 2 ** 20;

/** The parts of its source that claiming uses. */
export interface ClaimsHost {
  readonly worker: string;
  readonly log: Logger;
  redis(): RedisConnection;
  /** Whether this process has the run. */
  has(execution: string): boolean;
}

/** Takes jobs from the queues. The script that takes a job also starts it, so no job ever exists in this process only. */
export class Claims {
  readonly #host: ClaimsHost;
  readonly #queues: readonly string[];
  readonly #strategy: NonNullable<RqOptions['dequeueStrategy']>;
  /** Seconds without a sign of life after which a run counts as abandoned. */
  readonly #ttl: number;
  readonly #prefix = randomBytes(10).toString('hex');
  readonly #replies = new LostReplies();
  #order: string[];
  #number = 0;
  #wrongType: readonly string[] = [];

  constructor(host: ClaimsHost, queues: readonly string[], ttl: number, strategy: RqOptions['dequeueStrategy']) {
    this.#host = host;
    this.#queues = queues;
    this.#order = [...queues];
    this.#ttl = ttl;
    this.#strategy = strategy ?? 'default';
  }

  /** Up to `max` jobs, started at `now`. */
  async claim(max: number, now: Date): Promise<wire.ClaimReply> {
    if (this.#replies.due) await this.#replies.recover(() => this.#giveBackLost());
    if (this.#strategy === 'random') shuffle(this.#order);
    const number = this.#number;
    this.#number += max;
    let reply: wire.ClaimReply;
    try {
      reply = await this.#host.redis().run(
        wire.claim(this.#order, {
          worker: this.#host.worker,
          prefix: this.#prefix,
          ttl: this.#ttl,
          max,
          number,
          now,
          strategy: this.#strategy === 'default' ? 'order' : 'turns',
          batchBytes: BATCH_BYTES,
        }),
      );
    } catch (error) {
      // The server may have claimed jobs for this worker, and the reply was lost.
      this.#replies.lost();
      throw error;
    }
    this.#reportWrongType(reply.wrongType);
    const last = reply.claimed.at(-1);
    if (this.#strategy === 'round_robin' && last !== undefined) this.#toTheEnd(last.queue);
    return reply;
  }

  /** Whether there is a job to claim. If the server notifies of changed keys, it notifies `watch` when the answer changes. */
  waiting(watch: PushWatch): Promise<boolean> {
    // Queues with a key of the wrong type are left out. They are checked again each second.
    const exchange = wire.anyWaiting(this.#queues.filter((queue) => !this.#wrongType.includes(queue)));
    const redis = this.#host.redis();
    if (!watch.active) return redis.run(exchange);
    // A connection that has just been restored does not track keys yet.
    return redis.run(watch.tracked(exchange)).catch(() => redis.run(exchange));
  }

  /** Moves the last served queue, and all queues before it, to the end of the order. Source: rq/worker/base.py reorder_queues. */
  #toTheEnd(queue: string): void {
    const at = this.#order.indexOf(queue) + 1;
    this.#order = [...this.#order.slice(at), ...this.#order.slice(0, at)];
  }

  /** Reports a queue once, and again if it was repaired meanwhile. */
  #reportWrongType(queues: readonly string[]): void {
    for (const queue of queues) {
      if (this.#wrongType.includes(queue)) continue;
      const what = `nothing is taken from this queue: 'rq:queue:${queue}' is no list, or 'rq:wip:${queue}', 'rq:finished:${queue}' or 'rq:failed:${queue}' no sorted set, or 'jobglot:rq:quarantine:${queue}' no list; rename it or delete it`;
      this.#host.log.error({ queue }, what);
    }
    this.#wrongType = queues;
  }

  /**
   * Gives back runs that were started for this worker and whose reply was lost: their executions have the prefix of this worker, and no run here has
   * their name.
   */
  async #giveBackLost(): Promise<void> {
    const redis = this.#host.redis();
    const { worker } = this.#host;
    for (const member of await redis.run(ownExecutions(worker))) {
      const { id, execution } = splitExecution(member);
      // Runs of an earlier worker with the same name count as abandoned when their deadline has passed.
      if (execution?.startsWith(this.#prefix) !== true || this.#host.has(execution)) continue;
      const [job] = await redis.run(fetchAll([id]));
      const run = {
        job: job === undefined ? { id, data: NO_DATA } : lifecycle.unstarted(job),
        execution,
        queue: job?.origin ?? '',
        worker,
        startedAt: undefined,
      };
      const back = lifecycle.giveBack(run, new Date(), 'head');
      await redis.run(wire.settle([back], { worker }, new Date()));
    }
  }
}

const NO_DATA = Buffer.alloc(0);

function shuffle(list: string[]): void {
  for (let at = list.length - 1; at > 0; at--) {
    const other = Math.floor(Math.random() * (at + 1));
    [list[at], list[other]] = [list[other] as string, list[at] as string];
  }
}
