import { randomUUID } from 'node:crypto';
import { LamportClock } from '../../../../protocols/celery/control/clock.ts';
import { decodeEvents, EVENT_EXCHANGE, type HeardEvent } from '../../../../protocols/celery/control/event.ts';
import { encodeRequest } from '../../../../protocols/celery/control/pidbox.ts';
import { acceptSet, type DecodeOptions } from '../../../../protocols/celery/message/serializers.ts';
import type { WireMessage } from '../../../../protocols/celery/message/message.ts';
import { WireError } from '../../../../protocols/errors.ts';
import { type Logger, silent } from '../../../log.ts';
import type { Broadcasting, CeleryBroker } from '../brokers/broker.ts';
import { brokerFor } from '../connect.ts';
import { broadcastOf } from './control-client.ts';
import { checkPart, EVENTS_CHECKS } from '../option-checks.ts';
import { type CeleryAppOptions, resolveApp } from '../options.ts';

/** The broker, and the events to receive. */
export type CeleryEventsOptions = CeleryAppOptions & {
  /** Which events to receive: `#` all, `worker.#`, `task.#`. @default '#' */
  readonly routingKey?: string;
  /** The limit of events kept for a slow reader. Beyond it the oldest events are lost and counted in `dropped`. @default 10 000 */
  readonly limit?: number;
  /** Shaped like pino's. @default nothing is written */
  readonly log?: Logger;
};

/**
 * The events of a cluster, as they arrive: `for await (const event of events) …`. Workers send task events only if they were started with `-E`
 * or if task events were switched on later (`CeleryControl.enableEvents`). There can be one reader at a time.
 * Source: celery/events/receiver.py (5.6). Python's receiver shifts timestamps by the sender's time zone; here they stay as they were sent.
 */
export class CeleryEvents implements AsyncIterable<HeardEvent>, AsyncDisposable {
  readonly broker: CeleryBroker;
  readonly clock: LamportClock = new LamportClock();
  readonly #options: CeleryEventsOptions;
  readonly #broadcast: Broadcasting;
  readonly #decode: DecodeOptions;
  readonly #log: Logger;
  readonly #limit: number;
  #events: HeardEvent[] = [];
  #dropped = 0;
  #closed = false;
  #wake: (() => void) | undefined;
  #opened: Promise<void> | undefined;
  #end: (() => Promise<void>) | undefined;

  constructor(options: CeleryEventsOptions) {
    checkPart('celery: CeleryEvents', options, EVENTS_CHECKS);
    const app = resolveApp(options);
    this.#options = options;
    this.#log = options.log ?? silent;
    this.#limit = options.limit ?? 10_000;
    this.#decode = { accept: acceptSet(app.accept), limits: app.limits };
    this.broker = brokerFor(options);
    this.#broadcast = broadcastOf(this.broker);
  }

  /** The number of events that were lost because they were not read in time, or that could not be decoded. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Subscribes, and asks all workers for a heartbeat, so that each shows that it is alive. The first read calls this as well. */
  open(): Promise<void> {
    return (this.#opened ??= this.#open().catch((error: unknown) => {
      this.#opened = undefined;
      throw error;
    }));
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#wake?.();
    await this.#opened?.catch(() => undefined);
    await this.#end?.();
    await this.broker.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Ends when `close` is called. Leaving the loop closes nothing: a later loop continues from there. */
  async *[Symbol.asyncIterator](): AsyncIterator<HeardEvent> {
    await this.open();
    for (;;) {
      const event = this.#events.shift();
      if (event !== undefined) yield event;
      else if (this.#closed) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  async #open(): Promise<void> {
    const { routingKey = '#', eventExchange = EVENT_EXCHANGE, controlExchange = 'celery' } = this.#options;
    await this.broker.open(this.#log);
    this.#end = await this.#broadcast.subscribe(
      { kind: 'events', name: `celeryev.${randomUUID()}`, exchange: eventExchange, routingKey },
      { hear: (message) => this.#hear(message), refuse: (error) => this.#refuse(error) },
    );
    const request = encodeRequest(
      { method: 'heartbeat', arguments: {} },
      { clock: this.clock.forward(), expires: 0 },
      { namespace: controlExchange },
    );
    await this.#broadcast.send('pidbox', [request]);
  }

  #hear(message: WireMessage): void {
    try {
      const { events, dropped } = decodeEvents(message, this.#decode);
      this.#dropped += dropped;
      for (const event of events) {
        // `task-sent` comes from clients. They never receive events, so their clocks mean nothing.
        if (event.type !== 'task-sent') this.clock.adjust(event['clock']);
        this.#events.push(event);
      }
      const over = this.#events.length - this.#limit;
      if (over > 0) {
        this.#events.splice(0, over);
        this.#dropped += over;
      }
      this.#wake?.();
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.#refuse(error);
    }
  }

  #refuse(error: WireError): void {
    this.#dropped++;
    this.#log.warn({ error }, 'an event cannot be read');
  }
}
