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
  /** Whether task events are on from the start. */
  readonly tasks: boolean;
}

/** The number of task events in one message, as in Celery. */
const BATCH = 24;
/** The limit of task events kept while the broker is away. Beyond it the oldest events are lost. */
const MOST_UNSENT = 10_000;

/**
 * Sends events. Task events are buffered until the current turn of the event loop ends or 24 events are in the buffer. They are kept while the
 * broker is away. Worker events are sent at once. A worker event that cannot be sent is lost, because the next one carries newer values.
 * Source: celery/events/dispatcher.py (5.6).
 */
export class EventDispatcher {
  readonly #options: DispatcherOptions;
  readonly #software: SoftwareInfo = { sw_ident: 'jobglot', sw_ver: version(), sw_sys: type() };
  /** Stamped events, in order. */
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

  /** Whether task events are on. Callers check this before they create an event. */
  get tasks(): boolean {
    return this.#tasks;
  }

  /** Switches task events on or off. Returns false if nothing changed. */
  switchTasks(on: boolean): boolean {
    if (this.#tasks === on) return false;
    this.#tasks = on && this.#options.broadcast !== undefined;
    return true;
  }

  /** Buffers a task event, which is sent with the other events of this turn. */
  task(event: CeleryEvent): void {
    if (!this.#tasks) return;
    this.#buffer.push(stampEvent(event, this.#stamp()));
    if (this.#buffer.length > MOST_UNSENT) this.#buffer.splice(0, this.#buffer.length - MOST_UNSENT);
    if (this.#again !== undefined) return;
    if (this.#buffer.length >= BATCH) void this.flush();
    else this.#due ??= setImmediate(() => void this.flush());
  }

  /** Sends the buffered events. Never rejects. */
  flush(): Promise<void> {
    clearImmediate(this.#due);
    this.#due = undefined;
    return (this.#flushing ??= this.#flush().finally(() => (this.#flushing = undefined)));
  }

  /** Sends one event at once, without the buffer. Rejects when the broker does not take it. */
  async send(event: CeleryEvent): Promise<void> {
    const { broadcast, exchange } = this.#options;
    await broadcast?.send('events', [encodeEvent(event, this.#stamp(), { exchange })]);
  }

  /** Sends `worker-online`, `worker-heartbeat` or `worker-offline`. Never rejects. */
  async worker(
    name: 'worker-online' | 'worker-heartbeat' | 'worker-offline',
    facts: { readonly freq: number; readonly active: number; readonly processed: number },
  ): Promise<void> {
    const event = workerEvent(name, { ...facts, loadavg: loadavg(), software: this.#software });
    await this.send(event).catch((error: unknown) => this.log.debug({ error }, `${name} could not be sent`));
  }

  /** Sends the heartbeat that a `heartbeat` command asked for. */
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
