import {
  decodeRequest,
  encodeReply,
  type HeardRequest,
  isFor,
  pidboxExchange,
  pidboxQueue,
  replyExchange,
} from '../../../../protocols/celery/control/pidbox.ts';
import type { WireMessage } from '../../../../protocols/celery/message/message.ts';
import type { DecodeOptions } from '../../../../protocols/celery/message/serializers.ts';
import { WireError } from '../../../../protocols/errors.ts';
import { type Agent, pause } from '../../../source.ts';
import type { Broadcasting } from '../brokers/broker.ts';
import { Mailbox } from './mailbox.ts';
import { answer, type Controlled, learnRevoked, NO_REPLY, revokedToTell } from './panel.ts';

export interface RemoteControlOptions {
  readonly worker: Controlled;
  readonly broadcast: Broadcasting;
  /** `control_exchange` */
  readonly namespace: string;
  readonly serializer: string;
  readonly typed: boolean;
  readonly decode: DecodeOptions;
}

/** The size limit of a control message. Most are short, but `revoke` may list many ids. */
const MOST_BYTES = 8 * 2 ** 20;

/**
 * The worker's side of remote control. It receives requests as long as the worker lives, also while the worker stops. Each request is answered
 * independently, so a command that waits for a store does not delay the others. Source: celery/worker/pidbox.py, kombu/pidbox.py Node (5.6).
 */
export class RemoteControl {
  readonly agent: Agent;
  readonly #options: RemoteControlOptions;
  readonly #decode: DecodeOptions;
  #end: (() => Promise<void>) | undefined;

  constructor(options: RemoteControlOptions) {
    this.#options = options;
    const { limits } = options.decode;
    this.#decode = {
      ...options.decode,
      limits: { maxBytes: Math.min(limits.maxBytes, MOST_BYTES), maxDepth: Math.min(limits.maxDepth, 100) },
    };
    this.agent = {
      name: 'celery: remote control',
      run: async (signal) => {
        if (this.#end === undefined) await this.#listen();
        while (!signal.aborted) await pause(60_000, signal);
      },
    };
  }

  /** Subscribes, and learns the revoked ids of the other workers. An error is logged, and the agent tries again. */
  async open(mingle: boolean): Promise<void> {
    const log = this.#options.worker.log();
    try {
      await this.#listen();
      if (mingle) await this.#mingle();
    } catch (error) {
      log.warn({ error }, 'remote control is not available yet; the worker starts without it');
    }
  }

  async close(): Promise<void> {
    const end = this.#end;
    this.#end = undefined;
    await end?.();
  }

  async #listen(): Promise<void> {
    const { broadcast, namespace, worker } = this.#options;
    this.#end = await broadcast.subscribe(
      {
        kind: 'pidbox',
        name: pidboxQueue(worker.nodename, namespace),
        exchange: pidboxExchange(namespace),
        routingKey: '',
      },
      { hear: (message) => void this.#hear(message), refuse: (error) => this.#refuse(error) },
    );
  }

  /** No worker has to answer: replies that come within one second are used. Source: celery/worker/consumer/mingle.py (5.6). */
  async #mingle(): Promise<void> {
    const { worker, ...options } = this.#options;
    const { nodename, clock, revoked } = worker;
    const log = worker.log();
    const mailbox = new Mailbox({ ...options, decode: this.#decode, clock, log });
    try {
      const replies = await mailbox.call(
        { method: 'hello', arguments: { from_node: nodename, revoked: revokedToTell(revoked) } },
        { timeoutMs: 1_000 },
      );
      const others = replies.filter(([node, reply]) => node !== nodename && isRecord(reply));
      for (const [, reply] of others) {
        const { clock: theirs, revoked: told } = reply as Readonly<Record<string, unknown>>;
        clock.adjust(theirs);
        learnRevoked(revoked, told);
      }
      if (others.length > 0)
        log.info({ nodes: others.length }, 'clock and revoked ids are synchronized with the other workers');
    } finally {
      await mailbox.close();
    }
  }

  /** Never rejects: no message may stop the worker. */
  async #hear(message: WireMessage): Promise<void> {
    const { worker } = this.#options;
    worker.clock.forward();
    let request: HeardRequest;
    try {
      request = decodeRequest(message, this.#decode);
      worker.clock.adjust(request.clock);
      if (!isFor(request, worker.nodename)) return;
    } catch (error) {
      this.#refuse(error);
      return;
    }
    const reply = await answer(worker, request.method, request.arguments);
    if (request.replyTo !== undefined && reply !== NO_REPLY) await this.#reply(request, reply);
  }

  async #reply(request: HeardRequest, reply: unknown): Promise<void> {
    const { worker, broadcast, namespace, serializer, typed } = this.#options;
    const { replyTo, ticket, method } = request;
    // The sender of a request chooses where its reply goes. Only the reply exchange is allowed.
    if (replyTo === undefined || replyTo.exchange !== replyExchange(namespace)) {
      worker
        .log()
        .warn(
          { method },
          'a control message asks for its reply on an exchange other than the reply exchange; no reply is sent',
        );
      return;
    }
    const encode = (value: unknown): ReturnType<typeof encodeReply> =>
      encodeReply(replyTo, worker.nodename, value, { ticket, clock: worker.clock.forward() }, { serializer, typed });
    try {
      let publication: ReturnType<typeof encodeReply>;
      try {
        publication = encode(reply);
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
        publication = encode({ error: `EncodeError('the reply to ${method.slice(0, 60)} cannot be written')` });
      }
      await broadcast.send('reply', [publication]);
    } catch (error) {
      worker.log().warn({ method, error }, 'a reply to a control message could not be sent');
    }
  }

  #refuse(error: unknown): void {
    this.#options.worker.log().error({ error }, 'a control message is dropped: it cannot be read');
  }
}

function isRecord(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
