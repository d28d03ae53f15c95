import type { QuarantinedJob } from '../../../protocols/claims.ts';
import type { Capsule } from '../../../protocols/sidekiq/presence.ts';
import { fetchOrder } from '../../../protocols/sidekiq/queues.ts';
import type { Agent, Delivery, Host, Source, UnknownTaskPolicy } from '../../source.ts';
import type { SidekiqDelivery } from './delivery.ts';
import type { Fetch, FetchHost } from './fetch.ts';
import { BasicFetch } from './fetch-basic.ts';
import { ReliableFetch } from './fetch-reliable.ts';
import { Intake } from './intake.ts';
import { checkCapsule } from './option-checks.ts';
import { type CapsuleOptions, resolveCapsule } from './options.ts';
import { Prefetch } from './prefetch.ts';
import type { SidekiqProcess } from './process.ts';

/** A capsule of Sidekiq: some queues, with their own slots. */
export class SidekiqSource implements Source, FetchHost {
  readonly system = 'sidekiq';
  readonly concurrency: number;
  readonly queues: readonly string[];
  readonly unknownTask: UnknownTaskPolicy;
  readonly unknownTaskDelayMs: number;
  readonly capsuleName: string;
  readonly #process: SidekiqProcess;
  readonly #capsule: Capsule;
  readonly #fetch: Fetch;
  readonly #prefetch: Prefetch;
  #intake: Intake | undefined;

  constructor(process: SidekiqProcess, name: string, options: CapsuleOptions, main: boolean) {
    const { context } = process;
    this.#process = process;
    this.#capsule = resolveCapsule(name, options);
    this.capsuleName = name;
    this.concurrency = this.#capsule.concurrency;
    this.queues = this.#capsule.weights.map(([queue]) => queue);
    this.unknownTask = context.options.unknownTask;
    this.unknownTaskDelayMs = context.options.unknownTaskDelayMs;
    context.capsules.push(this.#capsule);
    const reliable = context.options.fetch === 'reliable';
    // With basic fetch, jobs exist in memory only, so none are prefetched.
    this.#prefetch = new Prefetch(context, this.concurrency, reliable ? (options.prefetch ?? 'auto') : 0);
    this.#fetch = reliable ? new ReliableFetch(context, this, this.queues, !main) : new BasicFetch(context, this);
  }

  get prefetch(): number {
    return this.#prefetch.size;
  }

  /** The agents of the process run once, in one of its capsules. */
  get agents(): readonly Agent[] {
    return [...this.#process.agentsFor(this), this.#prefetch.agent];
  }

  /**
   * Returns a source for more queues with their own slots, in the same Sidekiq process: `sources: [main, main.capsule('single', { queues: ['unsafe'],
   * concurrency: 1 })]`. Throws ConfigError.
   */
  capsule(name: string, options: CapsuleOptions): SidekiqSource {
    checkCapsule(name, options);
    return new SidekiqSource(this.#process, name, options, false);
  }

  async open(host: Host): Promise<void> {
    this.#intake = new Intake(this.#process.context, host.tasks, this.#prefetch);
    await this.#process.open(host);
    await this.#fetch.open();
  }

  async receive(max: number, signal: AbortSignal): Promise<readonly Delivery[]> {
    const begin = max - this.prefetch;
    this.#prefetch.adapt();
    while (!signal.aborted) {
      const jobs = await this.#fetch.receive(max, begin, signal);
      const deliveries: SidekiqDelivery[] = [];
      let known = 0;
      for (const job of jobs) {
        const delivery = this.#intake?.classify(job);
        if (delivery === undefined) continue;
        deliveries.push(delivery);
        if (!delivery.isUnknown) known += 1;
      }
      this.#prefetch.took(known);
      if (deliveries.length > 0 || jobs.length === 0) return deliveries;
    }
    return [];
  }

  async quiet(): Promise<void> {
    this.#process.quiet();
    await this.#fetch.quiet();
    await this.#intake?.written();
  }

  async close(): Promise<void> {
    await this.#intake?.close();
    await this.#fetch.close();
    if (this.#intake !== undefined) await this.#process.close();
    this.#intake = undefined;
  }

  order(): readonly string[] {
    return fetchOrder(this.#capsule, this.#process.context.paused, Math.random);
  }

  aside(job: QuarantinedJob): void {
    this.#intake?.reportQuarantined(job);
  }
}
