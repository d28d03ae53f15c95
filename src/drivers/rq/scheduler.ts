import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { resign, type SchedulerRecord, tick } from '../../../protocols/rq/schedule.ts';
import type { Logger } from '../../log.ts';
import { type Agent, pause } from '../../source.ts';
import type { RedisConnection } from '../../transports/redis.ts';

/** Puts due jobs into their queues: scheduled jobs, delayed retries, repeats. Shares its locks with the schedulers of Python. */
export class Scheduler implements Agent {
  readonly name = 'rq: scheduler';
  readonly #record: SchedulerRecord;
  readonly #redis: () => RedisConnection;

  readonly #log: () => Logger;
  #wrongType: readonly string[] = [];

  constructor(queues: readonly string[], redis: () => RedisConnection, log: () => Logger) {
    this.#redis = redis;
    this.#log = log;
    this.#record = {
      name: randomUUID().replaceAll('-', ''),
      hostname: hostname(),
      pid: process.pid,
      queues,
      createdAt: new Date(),
    };
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.tick();
      // Due times are whole seconds. A poll just after each full second finds the jobs that are due then.
      await pause(1_005 - (Date.now() % 1_000), signal);
    }
  }

  async tick(): Promise<void> {
    for (let more = true; more;) {
      const ticked = await this.#redis().run(tick(this.#record, new Date()));
      this.#reportWrongType(ticked.wrongType);
      ({ more } = ticked);
    }
  }

  /** Reports a queue once, and again if it was repaired meanwhile. */
  #reportWrongType(keys: readonly string[]): void {
    for (const key of keys)
      if (!this.#wrongType.includes(key))
        this.#log().error(
          { key },
          `the key '${key}' is of another type than RQ has there, so that nothing of its queue is scheduled; rename it or delete it`,
        );
    this.#wrongType = keys;
  }

  /** Releases the locks, so that other schedulers need not wait until they expire. */
  resign(): Promise<void> {
    return this.#redis().run(resign(this.#record));
  }
}
