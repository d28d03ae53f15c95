import { setMaxListeners } from 'node:events';
import type { QuarantinedJob } from '../../../protocols/claims.ts';
import type { Command } from '../../../protocols/redis.ts';
import { readWrapped, wrappedClass } from '../../../protocols/sidekiq/active-job.ts';
import { quarantineKey } from '../../../protocols/sidekiq/keys.ts';
import { decodeJob, expiryOf, type SidekiqMessage } from '../../../protocols/sidekiq/message.ts';
import { asDead } from '../../../protocols/sidekiq/morgue.ts';
import type { Capsule } from '../../../protocols/sidekiq/presence.ts';
import { fetchOrder } from '../../../protocols/sidekiq/queues.ts';
import * as wire from '../../../protocols/sidekiq/redis.ts';
import { toFailure, WireError } from '../../../protocols/errors.ts';
import type { Failure } from '../../../protocols/job.ts';
import { retryUntilWritten } from '../../retry-until-written.ts';
import { type Agent, type Delivery, type Host, pause, type Source } from '../../source.ts';
import { type ClassRule, ClassRules } from './task-rules.ts';
import { SidekiqDelivery } from './delivery.ts';
import type { Fetch, Fetched, FetchHost } from './fetch.ts';
import { BasicFetch } from './fetch-basic.ts';
import { ReliableFetch } from './fetch-reliable.ts';
import { type CapsuleOptions, resolveCapsule } from './options.ts';
import { Prefetch } from './prefetch.ts';
import type { SidekiqProcess } from './process.ts';

/** Jobs of unknown classes held at once before they go back. */
const STRANGERS = 1_000;
/** How long a class that nobody handles is not spoken of again. */
const SAID_MS = 60_000;

interface Stranger {
  readonly fetched: Fetched;
  readonly timer: NodeJS.Timeout;
}

/** A capsule of Sidekiq: some queues, with slots of their own. */
export class SidekiqSource implements Source, FetchHost {
  readonly system = 'sidekiq';
  readonly concurrency: number;
  readonly queues: readonly string[];
  readonly capsuleName: string;
  readonly #process: SidekiqProcess;
  readonly #capsule: Capsule;
  readonly #fetch: Fetch;
  readonly #prefetch: Prefetch;
  readonly #strangers = new Set<Stranger>();
  readonly #said = new Map<string, number>();
  /** Writes under way for jobs that became no delivery. */
  readonly #chores = new Set<Promise<unknown>>();
  readonly #closing = new AbortController();
  #rules: ClassRules | undefined;
  #room: (() => void) | undefined;
  #opened = false;
  #quieted = false;

  constructor(process: SidekiqProcess, name: string, options: CapsuleOptions, main: boolean) {
    this.#process = process;
    this.#capsule = resolveCapsule(name, options);
    this.capsuleName = name;
    this.concurrency = this.#capsule.concurrency;
    this.queues = this.#capsule.weights.map(([queue]) => queue);
    process.capsules.push(this.#capsule);
    const reliable = process.options.fetch === 'reliable';
    // What is only in memory is not to be more than what runs.
    this.#prefetch = new Prefetch(process, this.concurrency, reliable ? (options.prefetch ?? 'auto') : 0);
    this.#fetch = reliable ? new ReliableFetch(process, this, this.queues, !main) : new BasicFetch(process, this);
    // Each chore that fails waits for it.
    setMaxListeners(0, this.#closing.signal);
  }

  get prefetch(): number {
    return this.#prefetch.size;
  }

  /** Chores of the process are run once, by one of its capsules. */
  get agents(): readonly Agent[] {
    return [...this.#process.agentsFor(this), this.#prefetch.agent];
  }

  /**
   * More queues with slots of their own, in the same process of Sidekiq: `sources: [main, main.capsule('single', { queues: ['unsafe'],
   * concurrency: 1 })]`. Throws ConfigError.
   */
  capsule(name: string, options: CapsuleOptions): SidekiqSource {
    return new SidekiqSource(this.#process, name, options, false);
  }

  async open(host: Host): Promise<void> {
    this.#rules = new ClassRules(host.tasks);
    this.#opened = true;
    await this.#process.open(host);
    await this.#fetch.open();
  }

  async receive(max: number, signal: AbortSignal): Promise<readonly Delivery[]> {
    const begin = max - this.prefetch;
    this.#prefetch.adapt();
    while (!signal.aborted) {
      if (this.#strangers.size >= STRANGERS) {
        // A queue full of other people's jobs: they pass through here a thousand at a time, not all at once.
        await Promise.race([new Promise<void>((resolve) => (this.#room = resolve)), pause(1_000, signal)]);
        continue;
      }
      const jobs = await this.#fetch.receive(max, begin, signal);
      const deliveries: SidekiqDelivery[] = [];
      for (const job of jobs) {
        const delivery = this.#sort(job);
        if (delivery !== undefined) deliveries.push(delivery);
      }
      this.#prefetch.took(deliveries.length);
      if (deliveries.length > 0 || jobs.length === 0) return deliveries;
    }
    return [];
  }

  async quiet(): Promise<void> {
    this.#quieted = true;
    this.#process.quiet();
    try {
      await this.#fetch.quiet();
    } finally {
      for (const stranger of this.#strangers) {
        clearTimeout(stranger.timer);
        this.#putBack(stranger.fetched, 'back');
      }
      this.#strangers.clear();
    }
    await Promise.all(this.#chores);
  }

  async close(): Promise<void> {
    await Promise.race([Promise.all(this.#chores), pause(2_000)]);
    this.#closing.abort();
    await this.#fetch.close();
    if (this.#opened) await this.#process.close();
    this.#opened = false;
  }

  order(): readonly string[] {
    return fetchOrder(this.#capsule, this.#process.paused, Math.random);
  }

  aside({ queue, size, start, end }: QuarantinedJob): void {
    const { keys, options } = this.#process;
    const list = quarantineKey(keys, queue);
    this.#process.host?.poison({
      system: this.system,
      queue,
      id: /"jid":"([^"]{1,64})"/.exec(Buffer.concat([start, end]).toString('latin1'))?.[1],
      code: 'too-large',
      reason: `the job has ${size} bytes, more than the ${options.maxJobBytes} allowed (maxJobBytes)`,
      kept: `It is in the list '${list}'. To run it, allow more and LMOVE '${list}' '${keys.prefix}queue:${queue}' LEFT RIGHT`,
    });
  }

  /** What becomes of a fetched job: a delivery, or nothing here. */
  #sort(fetched: Fetched): SidekiqDelivery | undefined {
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
    // A handler of the wrapper itself gets what is in it as it is.
    const wraps = inner !== undefined && this.#rules?.find(own) === undefined;
    const name = wraps ? inner : own;
    const rule = this.#rules?.find(name);
    const expiry = expiryOf(message.hash);
    if (expiry !== undefined && expiry < Date.now()) {
      this.#expire(new SidekiqDelivery(this.#process, message, claim, rule));
      return undefined;
    }
    if (rule !== undefined) return this.#deliver(message, claim, rule, wraps);
    if (this.#process.options.unknownTask === 'requeue') this.#hold(fetched, name);
    else this.#failUnknown(message, claim, name, rule);
    return undefined;
  }

  #deliver(
    message: SidekiqMessage,
    claim: string | undefined,
    rule: ClassRule,
    wraps: boolean,
  ): SidekiqDelivery | undefined {
    const fetchedFor = this.#prefetch;
    if (!wraps) return new SidekiqDelivery(this.#process, message, claim, rule, { fetchedFor });
    try {
      return new SidekiqDelivery(this.#process, message, claim, rule, {
        fetchedFor,
        wrapped: readWrapped(message.hash),
      });
    } catch (error) {
      // As in Rails: the job fails with it, and is retried.
      this.#failUnread(new SidekiqDelivery(this.#process, message, claim, rule), {
        ...toFailure(error),
        type: 'ActiveJob::DeserializationError',
      });
      return undefined;
    }
  }

  #bury(fetched: Fetched, error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    const code = error instanceof WireError ? error.code : 'undecodable';
    const { keys, dialect, options } = this.#process;
    const nowMs = Date.now();
    const dead = asDead(fetched.bytes, fetched.queue, { reason, dialect, nowMs });
    this.#dispose(fetched, wire.bury(keys, nowMs, dead, options.dead), 'set aside');
    this.#process.host?.poison({
      system: this.system,
      queue: fetched.queue,
      id: undefined,
      code,
      reason,
      kept: 'Its bytes are in the dead set, to be looked at and deleted there.',
    });
  }

  #expire(delivery: SidekiqDelivery): void {
    const { id, task, queue } = delivery.job;
    this.#process.log.info({ system: this.system, task, id, queue }, 'expired before it was started; it is not run');
    this.#executeWrite('forget an expired job', () => delivery.settle({ kind: 'expired' }));
  }

  #hold(fetched: Fetched, name: string): void {
    this.#say(name, fetched.queue);
    // The last answer may come after the others were put back.
    if (this.#quieted) return this.#putBack(fetched, 'back');
    const stranger: Stranger = {
      fetched,
      timer: setTimeout(() => {
        this.#strangers.delete(stranger);
        this.#room?.();
        this.#putBack(fetched, 'back');
      }, this.#process.options.unknownTaskDelayMs),
    };
    this.#strangers.add(stranger);
  }

  /** As Sidekiq does: a NameError, and a retry if it has any. */
  #failUnknown(message: SidekiqMessage, claim: string | undefined, name: string, rule: ClassRule | undefined): void {
    const delivery = new SidekiqDelivery(this.#process, message, claim, rule);
    const error = {
      type: 'NameError',
      message: `uninitialized constant ${name}: no handler here; register one with tasks.handle(defineTask('${name}'), handler)`,
      traceback: '',
    };
    this.#say(name, message.queue);
    this.#failUnread(delivery, error);
  }

  /** It fails without having run. */
  #failUnread(delivery: SidekiqDelivery, error: Failure): void {
    const { task, id, queue } = delivery.job;
    this.#process.log.error(
      { system: this.system, task, id, queue, error: error.message },
      'failed before it could run',
    );
    this.#executeWrite('retry a job that could not run', () =>
      delivery.settle({ kind: 'error', error, retriable: true }),
    );
  }

  #say(name: string, queue: string): void {
    const now = Date.now();
    if ((this.#said.get(name) ?? 0) > now) return;
    if (this.#said.size > STRANGERS) this.#said.clear();
    this.#said.set(name, now + SAID_MS);
    const does =
      this.#process.options.unknownTask === 'requeue' ? 'its jobs go back to the queue' : 'its jobs are retried';
    this.#process.log.warn({ system: this.system, task: name, queue }, `no handler for this class here; ${does}`);
  }

  #putBack(fetched: Fetched, where: 'front' | 'back'): void {
    const { queue, bytes } = fetched;
    this.#dispose(fetched, wire.requeue(this.#process.keys, queue, bytes, where), 'give back');
  }

  #dispose({ claim }: Fetched, commands: readonly Command[], what: string): void {
    this.#executeWrite(`${what} a job`, () => this.#process.dispose(claim, commands));
  }

  /** A write for a job that is no delivery: tried again until it sticks, or the source closes; then the claim is found by others. */
  #executeWrite(what: string, work: () => Promise<unknown>): void {
    let said = false;
    const chore = retryUntilWritten(work, this.#closing.signal, (error) => {
      if (!said) this.#process.log.warn({ system: this.system, error }, `could not ${what}; trying again`);
      said = true;
    }).finally(() => this.#chores.delete(chore));
    this.#chores.add(chore);
  }
}
