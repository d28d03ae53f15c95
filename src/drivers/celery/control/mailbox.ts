import { randomUUID } from 'node:crypto';
import type { LamportClock } from '../../../../protocols/celery/control/clock.ts';
import {
  type ControlRequest,
  decodeReply,
  encodeRequest,
  replyExchange,
  replyQueue,
} from '../../../../protocols/celery/control/pidbox.ts';
import type { DecodeOptions } from '../../../../protocols/celery/message/serializers.ts';
import { WireError } from '../../../../protocols/errors.ts';
import type { Logger } from '../../../log.ts';
import type { Broadcasting } from '../brokers/broker.ts';

export interface MailboxOptions {
  readonly broadcast: Broadcasting;
  readonly clock: LamportClock;
  /** `control_exchange` */
  readonly namespace: string;
  readonly serializer: string;
  readonly typed: boolean;
  readonly decode: DecodeOptions;
  readonly log: Logger;
}

/** The answer of one node. */
export type NodeReply = readonly [node: string, reply: unknown];

interface Call {
  readonly hear: (nodes: readonly NodeReply[]) => void;
}

/** The client side of remote control: sends requests to workers and receives their replies. Source: kombu/pidbox.py Mailbox (5.6). */
export class Mailbox {
  readonly #options: MailboxOptions;
  readonly #oid = randomUUID();
  readonly #calls = new Map<string, Call>();
  #listening: Promise<() => Promise<void>> | undefined;

  constructor(options: MailboxOptions) {
    this.#options = options;
  }

  /** Sends a request and does not wait for an answer. */
  async cast(request: Omit<ControlRequest, 'ticket' | 'replyTo'>): Promise<void> {
    await this.#send(request, 0);
  }

  /**
   * Sends a request and collects replies. It ends when `timeoutMs` have passed, when `limit` nodes have answered, or when `signal` aborts.
   * The default of `limit` is the number of nodes in `destination`. Without one it is the number of nodes that received the request, where the broker
   * returns that number.
   */
  async call(
    request: Omit<ControlRequest, 'ticket' | 'replyTo'>,
    options: {
      readonly timeoutMs: number;
      readonly limit?: number | undefined;
      readonly signal?: AbortSignal | undefined;
      readonly onReply?: ((reply: NodeReply) => void) | undefined;
    },
  ): Promise<readonly NodeReply[]> {
    const { timeoutMs, signal, onReply } = options;
    await this.#listen();
    const ticket = randomUUID();
    const replies: NodeReply[] = [];
    let answers = 0;
    let limit = options.limit ?? request.destination?.length ?? Number.POSITIVE_INFINITY;
    let finish: () => void = () => {};
    const finished = new Promise<void>((resolve) => (finish = resolve));
    const hear = (nodes: readonly NodeReply[]): void => {
      answers++;
      replies.push(...nodes);
      for (const reply of nodes) onReply?.(reply);
      if (answers >= limit) finish();
    };
    this.#calls.set(ticket, { hear });
    const timer = setTimeout(finish, timeoutMs);
    signal?.addEventListener('abort', finish, { once: true });
    try {
      const { namespace } = this.#options;
      const replyTo = { exchange: replyExchange(namespace), routingKey: this.#oid };
      const heard = await this.#send({ ...request, ticket, replyTo }, Date.now() / 1000 + timeoutMs / 1000);
      if (heard !== undefined) limit = Math.min(limit, heard);
      if (answers < limit && signal?.aborted !== true) await finished;
      return replies;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', finish);
      this.#calls.delete(ticket);
    }
  }

  /** Removes the reply queue. */
  async close(): Promise<void> {
    const listening = this.#listening;
    this.#listening = undefined;
    const end = await listening?.catch(() => undefined);
    await end?.();
  }

  async #send(request: ControlRequest, expires: number): Promise<number | undefined> {
    const { broadcast, clock, namespace, serializer, typed } = this.#options;
    const headers = { clock: clock.forward(), expires };
    return broadcast.send('pidbox', [encodeRequest(request, headers, { namespace, serializer, typed })]);
  }

  #listen(): Promise<unknown> {
    const { broadcast, namespace, log } = this.#options;
    return (this.#listening ??= broadcast
      .subscribe(
        {
          kind: 'reply',
          name: replyQueue(this.#oid, namespace),
          exchange: replyExchange(namespace),
          routingKey: this.#oid,
        },
        {
          hear: (message) => {
            try {
              const { ticket, clock, nodes } = decodeReply(message, this.#options.decode);
              this.#options.clock.adjust(clock);
              if (ticket !== undefined) this.#calls.get(ticket)?.hear(nodes);
            } catch (error) {
              if (!(error instanceof WireError)) throw error;
              log.warn({ error }, 'a reply to a control message cannot be read');
            }
          },
          refuse: (error) => log.warn({ error }, 'a reply to a control message cannot be read'),
        },
      )
      .catch((error: unknown) => {
        this.#listening = undefined;
        throw error;
      }));
  }
}
