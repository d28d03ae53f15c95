import { loadavg, type } from 'node:os';
import type { LamportClock } from '../../../../protocols/celery/control/clock.ts';
import {
  askedHeartbeat,
  type CeleryEvent,
  encodeBatch,
  encodeEvent,
  type EventStamp,
  type SoftwareInfo,
  stampEvent,
  utcoffset,
  workerEvent,
} from '../../../../protocols/celery/control/event.ts';
import { type Logger, silent } from '../../../log.ts';
import { version } from '../../../version.ts';
import type { Broadcasting } from '../brokers/broker.ts';

export interface DispatcherOptions {
  /** The node's name; for a client `gen<pid>@<host>`. */
  readonly hostname: string;
  readonly clock: LamportClock;
  readonly broadcast: Broadcasting | undefined;
  /** `event_exchange` */
  readonly exchange: string;
  /** Whether events of tasks are sent from the start. */
  readonly tasks: boolean;
}

/** How many events of tasks make a batch, as in Celery. */
const BATCH = 24;
/** Events of tasks kept while the broker is away; then the oldest are lost. */
const MOST_UNSENT = 10_000;

/**
 * Sends events. Those of tasks are gathered until the turn of the event loop ends or 24 are there, and kept while the broker is
 * away; those of workers go at once, and one that cannot is lost: the next one says more. Source: celery/events/dispatcher.py (5.6).
 */
export class EventDispatcher {
  readonly #options: DispatcherOptions;
  readonly #software: SoftwareInfo = { sw_ident: 'jobglot', sw_ver: version(), sw_sys: type() };
  /** Stamped, in order. */
  #buffer: Readonly<Record<string, unknown>>[] = [];
  #flushing: Promise<void> | undefined;
  #due: NodeJS.Immediate | undefined;
  #again: NodeJS.Timeout | undefined;
  #tasks: boolean;
  log: Logger = silent;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#tasks = options.tasks && options.broadcast !== undefined;
  }

  /** Whether events of tasks are wanted: ask before one is made. */
  get tasks(): boolean {
    return this.#tasks;
  }

  /** Switch events of tasks on or off. False when they were so already. */
  switchTasks(on: boolean): boolean {
    if (this.#tasks === on) return false;
    this.#tasks = on && this.#options.broadcast !== undefined;
    return true;
  }

  /** An event of a task: sent with others of this turn. */
  task(event: CeleryEvent): void {
    if (!this.#tasks) return;
    this.#buffer.push(stampEvent(event, this.#stamp()));
    if (this.#buffer.length > MOST_UNSENT) this.#buffer.splice(0, this.#buffer.length - MOST_UNSENT);
    if (this.#again !== undefined) return;
    if (this.#buffer.length >= BATCH) void this.flush();
    else this.#due ??= setImmediate(() => void this.flush());
  }

  /** Send what was gathered. Never rejects. */
  flush(): Promise<void> {
    clearImmediate(this.#due);
    this.#due = undefined;
    return (this.#flushing ??= this.#flush().finally(() => (this.#flushing = undefined)));
  }

  /** An event alone, at once. Rejects when the broker does not take it. */
  async send(event: CeleryEvent): Promise<void> {
    const { broadcast, exchange } = this.#options;
    await broadcast?.send('events', [encodeEvent(event, this.#stamp(), { exchange })]);
  }

  /** `worker-online`, `worker-heartbeat`, `worker-offline`. Never rejects. */
  async worker(
    name: 'worker-online' | 'worker-heartbeat' | 'worker-offline',
    facts: { readonly freq: number; readonly active: number; readonly processed: number },
  ): Promise<void> {
    const event = workerEvent(name, { ...facts, loadavg: loadavg(), software: this.#software });
    await this.send(event).catch((error: unknown) => this.log.debug({ error }, `${name} could not be sent`));
  }

  /** The heartbeat somebody asked for. */
  async beat(): Promise<void> {
    await this.send(askedHeartbeat(this.#software));
  }

  async close(): Promise<void> {
    clearTimeout(this.#again);
    await this.flush();
    clearTimeout(this.#again);
  }

  async #flush(): Promise<void> {
    const { broadcast, exchange, hostname } = this.#options;
    while (this.#buffer.length > 0) {
      const events = this.#buffer;
      this.#buffer = [];
      const batches = Array.from({ length: Math.ceil(events.length / BATCH) }, (_, at) =>
        encodeBatch(events.slice(at * BATCH, (at + 1) * BATCH), 'task', hostname, { exchange }),
      );
      try {
        await broadcast?.send('events', batches);
      } catch (error) {
        this.log.debug({ error, events: events.length }, 'events could not be sent; trying again');
        this.#buffer = [...events, ...this.#buffer].slice(-MOST_UNSENT);
        this.#again = setTimeout(() => {
          this.#again = undefined;
          void this.flush();
        }, 1_000).unref();
        return;
      }
    }
  }

  #stamp(): EventStamp {
    const now = new Date();
    return {
      hostname: this.#options.hostname,
      utcoffset: utcoffset(now.getTimezoneOffset()),
      pid: process.pid,
      clock: this.#options.clock.forward(),
      timestamp: now.getTime() / 1000,
    };
  }
}
