import type { QuarantinedJob } from '../../../protocols/claims.ts';
import { toFailure, WireError } from '../../../protocols/errors.ts';
import type { Failure } from '../../../protocols/job.ts';
import type { Command } from '../../../protocols/redis.ts';
import { readWrapped, wrappedClass } from '../../../protocols/sidekiq/active-job.ts';
import { quarantineKey } from '../../../protocols/sidekiq/keys.ts';
import { decodeJob, expiryOf, type SidekiqMessage } from '../../../protocols/sidekiq/message.ts';
import { asDead } from '../../../protocols/sidekiq/morgue.ts';
import * as wire from '../../../protocols/sidekiq/redis.ts';
import { Chores } from '../../chores.ts';
import type { Registry } from '../../task.ts';
import type { SidekiqContext } from './context.ts';
import { SidekiqDelivery } from './delivery.ts';
import type { Fetched } from './fetch.ts';
import type { Prefetch } from './prefetch.ts';
import { type ClassRule, ClassRules } from './task-rules.ts';

/** Classifies fetched jobs. The result is a delivery for the worker, or the job ends here: expired, unreadable, or not a job at all. */
export class Intake {
  readonly #context: SidekiqContext;
  readonly #rules: ClassRules;
  readonly #prefetch: Prefetch;
  readonly #chores: Chores;

  constructor(context: SidekiqContext, tasks: Registry, prefetch: Prefetch) {
    this.#context = context;
    this.#rules = new ClassRules(tasks);
    this.#prefetch = prefetch;
    this.#chores = new Chores(() => context.log);
  }

  /** Returns the delivery, or undefined if the job ends here. An unknown class is a delivery too: the worker decides about it. */
  classify(fetched: Fetched): SidekiqDelivery | undefined {
    const { queue, bytes, claim } = fetched;
    let message: SidekiqMessage;
    try {
      message = decodeJob(bytes, queue);
    } catch (error) {
      this.#bury(fetched, error);
      return undefined;
    }
    const own = message.hash['class'] as string;
    const inner = wrappedClass(message.hash);
    // If the wrapper class itself has a handler, that handler gets the wrapped data unchanged.
    const wraps = inner !== undefined && this.#rules.find(own) === undefined;
    const name = wraps ? inner : own;
    const rule = this.#rules.find(name);
    const expiry = expiryOf(message.hash);
    if (expiry !== undefined && expiry < Date.now()) {
      this.#expire(new SidekiqDelivery(this.#context, message, claim, rule));
      return undefined;
    }
    // Not counted as prefetched: the job waits for other workers, not for a slot.
    if (rule === undefined)
      return new SidekiqDelivery(this.#context, message, claim, undefined, { unknownClass: name });
    return this.#known(message, claim, rule, wraps);
  }

  /** Reports a job that exceeds the size limit. It is already in quarantine. */
  reportQuarantined({ queue, size, start, end }: QuarantinedJob): void {
    const { keys, options } = this.#context;
    const list = quarantineKey(keys, queue);
    this.#context.host?.poison({
      system: 'sidekiq',
      queue,
      id: /"jid":"([^"]{1,64})"/.exec(Buffer.concat([start, end]).toString('latin1'))?.[1],
      code: 'too-large',
      reason: `the job has ${size} bytes, more than the ${options.maxJobBytes} allowed (maxJobBytes)`,
      kept: `It is in the list '${list}'. To run it, allow more and LMOVE '${list}' '${keys.prefix}queue:${queue}' LEFT RIGHT`,
    });
  }

  /** Resolves when no write is in progress. */
  async written(): Promise<void> {
    await this.#chores.settled();
  }

  /** Gives up writes that do not succeed within two seconds. Other processes then find the claims of these jobs. */
  async close(): Promise<void> {
    await this.#chores.settled(2_000);
    this.#chores.close();
  }

  #known(
    message: SidekiqMessage,
    claim: string | undefined,
    rule: ClassRule,
    wraps: boolean,
  ): SidekiqDelivery | undefined {
    const fetchedFor = this.#prefetch;
    if (!wraps) return new SidekiqDelivery(this.#context, message, claim, rule, { fetchedFor });
    try {
      const wrapped = readWrapped(message.hash);
      return new SidekiqDelivery(this.#context, message, claim, rule, { fetchedFor, wrapped });
    } catch (error) {
      // As in Rails: the job fails with this error, and is retried.
      this.#failUnread(new SidekiqDelivery(this.#context, message, claim, rule), {
        ...toFailure(error),
        type: 'ActiveJob::DeserializationError',
      });
      return undefined;
    }
  }

  #bury(fetched: Fetched, error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    const code = error instanceof WireError ? error.code : 'undecodable';
    const { keys, dialect, options } = this.#context;
    const nowMs = Date.now();
    const dead = asDead(fetched.bytes, fetched.queue, { reason, dialect, nowMs });
    const commands: readonly Command[] = wire.bury(keys, nowMs, dead, options.dead);
    this.#chores.add('quarantine a job', () => this.#context.dispose(fetched.claim, commands));
    this.#context.host?.poison({
      system: 'sidekiq',
      queue: fetched.queue,
      id: undefined,
      code,
      reason,
      kept: 'Its bytes are in the dead set, to be looked at and deleted there.',
    });
  }

  #expire(delivery: SidekiqDelivery): void {
    const { id, task, queue } = delivery.job;
    this.#context.log.info({ system: 'sidekiq', task, id, queue }, 'expired before it was started; it is not run');
    this.#chores.add('forget an expired job', () => delivery.settle({ kind: 'expired' }));
  }

  /** The job fails without having run. */
  #failUnread(delivery: SidekiqDelivery, error: Failure): void {
    const { task, id, queue } = delivery.job;
    this.#context.log.error({ system: 'sidekiq', task, id, queue, error: error.message }, 'failed before it could run');
    this.#chores.add('retry a job that could not run', () =>
      delivery.settle({ kind: 'error', error, retriable: true }),
    );
  }
}
