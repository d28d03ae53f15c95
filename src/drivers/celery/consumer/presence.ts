import { type Agent, every } from '../../../source.ts';
import type { EventDispatcher } from '../control/dispatcher.ts';
import { reportText, settingsOf, statsOf } from '../control/self-report.ts';
import type { CeleryOptions, ResolvedApp } from '../options.ts';
import type { Requests } from './requests.ts';

export interface PresenceOptions {
  readonly options: CeleryOptions;
  readonly app: ResolvedApp;
  readonly events: EventDispatcher;
  readonly requests: Requests;
  readonly addresses: { readonly broker: string; readonly backend: string };
  /** The logical clock. */
  readonly clock: () => number;
  readonly concurrency: () => number;
  readonly prefetch: () => number;
  /** Whether the broker has broadcasts. Without them no event can be received. */
  readonly broadcasts: boolean;
}

/** The information that a worker publishes about itself: its events, its statistics, its settings. */
export class Presence {
  readonly #options: PresenceOptions;
  readonly #startedAt = performance.now();

  constructor(options: PresenceOptions) {
    this.#options = options;
  }

  /** The heartbeats, if the worker sends any. */
  get agents(): readonly Agent[] {
    const seconds = this.#heartbeatSeconds;
    if (!this.#options.broadcasts || seconds === undefined) return [];
    return [every('celery: heartbeats', seconds * 1000, () => this.#say('worker-heartbeat'), 0)];
  }

  online(): Promise<void> {
    return this.#say('worker-online');
  }

  offline(): Promise<void> {
    return this.#say('worker-offline');
  }

  stats(): unknown {
    const { options, requests, clock, concurrency, prefetch, addresses } = this.#options;
    return statsOf({
      total: requests.total,
      clock: clock(),
      uptimeSeconds: (performance.now() - this.#startedAt) / 1000,
      concurrency: concurrency(),
      prefetchCount: concurrency() + prefetch(),
      softLimit: options.taskSoftTimeLimit ?? 0,
      hardLimit: options.taskTimeLimit ?? 0,
      broker: addresses.broker,
    });
  }

  settings(withDefaults: boolean): unknown {
    const { options, app, addresses } = this.#options;
    return settingsOf(options, app, addresses, withDefaults);
  }

  report(): string {
    const { options, app, addresses } = this.#options;
    return reportText(settingsOf(options, app, addresses, false), addresses);
  }

  get #heartbeatSeconds(): number | undefined {
    const { heartbeatInterval = 2 } = this.#options.options;
    return heartbeatInterval === false || !(heartbeatInterval > 0) ? undefined : heartbeatInterval;
  }

  async #say(what: 'worker-online' | 'worker-heartbeat' | 'worker-offline'): Promise<void> {
    const freq = this.#heartbeatSeconds;
    if (freq === undefined) return;
    const { activeCount: active, processed } = this.#options.requests;
    await this.#options.events.worker(what, { freq, active, processed });
  }
}
