import { randomUUID } from 'node:crypto';
import type { LamportClock } from '../../../../protocols/celery/control/clock.ts';
import { decodeEvents, type HeardEvent } from '../../../../protocols/celery/control/event.ts';
import type { WireMessage } from '../../../../protocols/celery/message/message.ts';
import { repr } from '../../../../protocols/celery/message/repr.ts';
import type { DecodeOptions } from '../../../../protocols/celery/message/serializers.ts';
import { WireError } from '../../../../protocols/errors.ts';
import { type Logger, silent } from '../../../log.ts';
import { type Agent, every } from '../../../source.ts';
import type { Broadcasting } from '../brokers/broker.ts';
import type { EventDispatcher } from './dispatcher.ts';

export interface GossipOptions {
  readonly nodename: string;
  readonly clock: LamportClock;
  readonly events: EventDispatcher;
  readonly broadcast: Broadcasting;
  /** `event_exchange` */
  readonly exchange: string;
  readonly decode: DecodeOptions;
  /** Sends the task of a signature. An election of the topic `task` needs it. */
  readonly call: (signature: unknown) => Promise<void>;
}

interface Peer {
  readonly heardAt: number;
  readonly freqMs: number;
}

type Candidate = readonly [clock: number, process: string, topic: unknown, action: unknown];

/** The limit of peers, and of elections, in memory. */
const MOST = 1_000;

/**
 * Listens to the events of the other workers: adjusts the clock, detects peers that fall silent, and takes part in elections. The candidate with
 * the lowest clock wins, then the one with the lowest name. Only the winner acts. Source: celery/worker/consumer/gossip.py (5.6).
 */
export class Gossip {
  readonly agents: readonly Agent[];
  log: Logger = silent;
  readonly #options: GossipOptions;
  readonly #peers = new Map<string, Peer>();
  readonly #candidates = new Map<string, Candidate[]>();
  /** The nodes that have answered the elections in which this worker is a candidate. */
  readonly #votes = new Map<string, Set<string>>();

  constructor(options: GossipOptions) {
    this.#options = options;
    this.agents = [
      { name: 'celery: gossip', run: (signal) => this.#listen(signal) },
      every('celery: silent peers', 5_000, () => Promise.resolve(this.#missSilent())),
    ];
  }

  /** The other nodes that have sent events and have not fallen silent. */
  get peers(): readonly string[] {
    return [...this.#peers.keys()];
  }

  /** Takes part in an election as a candidate: the command `election`. */
  elect(id: string, topic: string, action: unknown): void {
    remember(this.#votes, id, new Set<string>());
    this.#say({ type: 'worker-elect', fields: { id, topic, action: action ?? null, cver: 1 } });
  }

  async #listen(signal: AbortSignal): Promise<void> {
    const { broadcast, exchange } = this.#options;
    const refuse = (error: WireError): void => this.log.warn({ error }, 'an event of a worker cannot be read');
    const end = await broadcast.subscribe(
      { kind: 'events', name: `celeryev.${randomUUID()}`, exchange, routingKey: 'worker.#' },
      { hear: (message) => this.#hear(message, refuse), refuse },
    );
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener('abort', () => resolve(), { once: true });
    });
    await end();
  }

  #hear(message: WireMessage, refuse: (error: WireError) => void): void {
    try {
      for (const event of decodeEvents(message, this.#options.decode).events) this.#take(event);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      refuse(error);
    }
  }

  #take(event: HeardEvent): void {
    const { nodename, clock } = this.#options;
    const { hostname, freq } = event;
    if (typeof hostname !== 'string') return;
    if (hostname === nodename) clock.forward();
    else clock.adjust(event['clock']);
    if (event.type === 'worker-elect') this.#nominate(event, hostname);
    else if (event.type === 'worker-elect-ack') this.#count(event, hostname);
    else if (hostname === nodename) return;
    else if (event.type === 'worker-offline') this.#peers.delete(hostname);
    else if (event.type.startsWith('worker-')) {
      const freqMs = typeof freq === 'number' && freq > 0 ? Math.min(freq, 3_600) * 1000 : 60_000;
      remember(this.#peers, hostname, { heardAt: Date.now(), freqMs });
    }
  }

  #nominate(event: HeardEvent, hostname: string): void {
    const { id, clock, pid, topic, action } = event;
    if (typeof id !== 'string' || typeof clock !== 'number') return;
    const known = this.#candidates.get(id) ?? [];
    if (known.length < MOST) known.push([clock, `${hostname}.${repr(pid)}`, topic, action]);
    remember(this.#candidates, id, known);
    this.#say({ type: 'worker-elect-ack', fields: { id } });
  }

  #count({ id }: HeardEvent, hostname: string): void {
    const votes = typeof id === 'string' ? this.#votes.get(id) : undefined;
    if (typeof id !== 'string' || votes === undefined) return;
    votes.add(hostname);
    if (votes.size < this.#peers.size + 1) return;
    const candidates = (this.#candidates.get(id) ?? []).toSorted(byClock);
    this.#votes.delete(id);
    this.#candidates.delete(id);
    const [winner] = candidates;
    if (winner === undefined) return;
    const [, name, topic, action] = winner;
    if (name !== `${this.#options.nodename}.${process.pid}`) {
      this.log.info({ node: name }, 'another worker is elected');
      return;
    }
    this.log.info({ id }, 'this worker is elected');
    if (topic !== 'task') {
      this.log.error({ topic: repr(topic) }, 'this worker does not know the topic of an election');
      return;
    }
    void this.#options
      .call(action)
      .catch((error: unknown) => this.log.error({ error }, 'the task of an election could not be sent'));
  }

  #missSilent(): void {
    for (const [node, { heardAt, freqMs }] of this.#peers) {
      if (Date.now() - heardAt <= 2 * freqMs) continue;
      this.#peers.delete(node);
      this.log.info({ node }, 'missed the heartbeat of another worker');
    }
  }

  #say(event: Parameters<EventDispatcher['send']>[0]): void {
    void this.#options.events
      .send(event)
      .catch((error: unknown) => this.log.warn({ error }, 'an event of an election could not be sent'));
  }
}

/** Sets a key, and deletes the oldest key when there are too many. */
function remember<Value>(map: Map<string, Value>, key: string, value: Value): void {
  map.delete(key);
  map.set(key, value);
  if (map.size <= MOST) return;
  const [oldest] = map.keys();
  if (oldest !== undefined) map.delete(oldest);
}

function byClock([a, aName]: Candidate, [b, bName]: Candidate): number {
  return a - b || (aName < bName ? -1 : aName > bName ? 1 : 0);
}
