import { randomUUID } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { decodeEnvelope, encodeEnvelope, markRedelivered } from '../../../../protocols/celery/brokers/envelope.ts';
import * as exchanges from '../../../../protocols/celery/brokers/filesystem.ts';
import type { Publication, WireMessage } from '../../../../protocols/celery/message/message.ts';
import { topicMatches } from '../../../../protocols/celery/brokers/topic.ts';
import { ConfigError, WireError } from '../../../errors.ts';
import type { Agent } from '../../../source.ts';
import type {
  BroadcastKind,
  BroadcastListener,
  BroadcastQueue,
  Broadcasting,
  CeleryBroker,
  Claim,
  QueueSpec,
} from './broker.ts';
import { virtualType } from './virtual-exchange.ts';

/** A quarantined message, with the reason. */
export interface Quarantined {
  readonly queue: string;
  readonly bytes: Uint8Array;
  readonly code: string;
  readonly reason: string;
  readonly id: string | undefined;
}

/** The name in `memory://name`. Brokers of one name share their messages; result backends share their results. `memory://` has the name ''. */
export function memoryName(url: string): string {
  const match = /^memory:\/\/([^/?#]*)\/?$/.exec(url);
  if (match === null) throw new ConfigError(`celery: ${url} is not a memory URL. Write memory:// or memory://name.`);
  return match[1] as string;
}

/**
 * A broker in this process, for tests. Messages pass through kombu's envelope as on Redis. Their order is that of Redis: priority 0 first,
 * then the queues in turn, then the oldest message.
 */
export class MemoryBroker implements CeleryBroker {
  readonly kind = 'memory';
  readonly address: string;
  readonly agents: readonly Agent[] = [];
  readonly broadcast: Broadcasting;
  readonly #store: Store;
  readonly #claims = new Map<string, Held>();
  readonly #waiting = new Set<() => void>();
  /** In the order of their turns: a queue that delivered a message goes to the end. */
  #queues: string[] = [];
  #quiet = false;
  /** The last receive returned messages. */
  #served = false;

  /** @param name Brokers of one name share their queues. `close` does not empty them; `clear` does. */
  constructor(name = '') {
    this.address = `memory://${name}`;
    let store = STORES.get(name);
    if (store === undefined) STORES.set(name, (store = new Store()));
    this.#store = store;
    this.broadcast = new MemoryBroadcasts(store);
  }

  /** The messages that any broker of this name quarantined. */
  get quarantined(): readonly Quarantined[] {
    return this.#store.quarantined;
  }

  /** The number of messages that wait in a queue, without the claimed ones. */
  size(queue: string): number {
    return this.#store.steps(queue).reduce((sum, step) => sum + step.length, 0);
  }

  /** The messages that wait in a queue, the next to run first. */
  waiting(queue: string): readonly Uint8Array[] {
    return this.#store.steps(queue).flat();
  }

  /** Removes everything under this name. Claims stay with the broker that has them. */
  clear(): void {
    this.#store.clear();
  }

  open(): Promise<void> {
    return Promise.resolve();
  }

  consume(queues: readonly QueueSpec[]): Promise<void> {
    this.#queues = queues.map((queue) => queue.name);
    for (const queue of queues) {
      const { name, exchange, routingKey } = queue;
      if (exchange !== undefined && exchange !== '')
        this.#store.bind(exchange, virtualType(queue), routingKey ?? '', name);
    }
    return Promise.resolve();
  }

  addQueue(queue: QueueSpec): Promise<void> {
    if (this.#queues.includes(queue.name)) return Promise.resolve();
    const queues = this.#queues;
    void this.consume([queue]);
    this.#queues = [...queues, queue.name];
    for (const wake of this.#waiting) wake();
    return Promise.resolve();
  }

  removeQueue(name: string): Promise<void> {
    this.#queues = this.#queues.filter((queue) => queue !== name);
    return Promise.resolve();
  }

  async receive(max: number, signal: AbortSignal): Promise<readonly Claim[]> {
    // Everything here happens in microtasks. A job that returns to its queue at once would run in microtasks only, and no timer would ever fire.
    if (this.#served) await nextTurn();
    this.#served = false;
    while (max > 0 && !signal.aborted && !this.#quiet) {
      const claims = this.#claim(max);
      this.#served = claims.length > 0;
      if (this.#served) return claims;
      await this.#wait(signal);
    }
    return [];
  }

  publish(publications: Iterable<Publication>): Promise<void> {
    for (const publication of publications) {
      for (const queue of this.#store.queuesOf(publication)) {
        this.#store.put(queue, Buffer.from(encodeEnvelope(publication, randomUUID())), 'back');
      }
    }
    return Promise.resolve();
  }

  ack(claim: Claim): Promise<void> {
    this.#claims.delete(claim.tag);
    return Promise.resolve();
  }

  requeue(claim: Claim, where: 'front' | 'back'): Promise<void> {
    if (this.#claims.delete(claim.tag)) this.#store.put(claim.queue, markRedelivered(claim.bytes), where);
    return Promise.resolve();
  }

  moveToBack(claim: Claim): Promise<void> {
    if (this.#claims.delete(claim.tag)) this.#store.put(claim.queue, claim.bytes, 'back');
    return Promise.resolve();
  }

  quarantine(
    claim: Claim,
    why: { readonly code: string; readonly reason: string; readonly id?: string },
  ): Promise<string> {
    if (this.#claims.delete(claim.tag)) {
      const { queue, bytes } = claim;
      this.#store.quarantined.push({ queue, bytes, code: why.code, reason: why.reason, id: why.id });
    }
    return Promise.resolve(`the list \`quarantined\` of ${this.address}`);
  }

  quiet(): Promise<void> {
    this.#quiet = true;
    for (const wake of this.#waiting) wake();
    return Promise.resolve();
  }

  async close(): Promise<void> {
    await this.quiet();
    // The latest first, so that the oldest is at the head again.
    for (const { queue, bytes } of [...this.#claims.values()].reverse()) {
      this.#store.put(queue, markRedelivered(bytes), 'front');
    }
    this.#claims.clear();
  }

  #claim(max: number): Claim[] {
    const claims: Claim[] = [];
    while (claims.length < max) {
      const held = this.#next();
      if (held === undefined) break;
      const tag = randomUUID();
      this.#claims.set(tag, held);
      claims.push({ ...held, tag, ...read(held.bytes) });
    }
    return claims;
  }

  #next(): Held | undefined {
    for (const step of PRIORITY_STEPS.keys()) {
      for (const [turn, queue] of this.#queues.entries()) {
        const bytes = this.#store.steps(queue)[step]?.shift();
        if (bytes === undefined) continue;
        this.#queues.push(...this.#queues.splice(turn, 1));
        return { queue, bytes };
      }
    }
    return undefined;
  }

  #wait(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        signal.removeEventListener('abort', wake);
        this.#waiting.delete(wake);
        this.#store.listeners.delete(wake);
        resolve();
      };
      signal.addEventListener('abort', wake, { once: true });
      this.#waiting.add(wake);
      this.#store.listeners.add(wake);
    });
  }
}

interface Held {
  readonly queue: string;
  readonly bytes: Uint8Array;
}

/** Broadcasts among the brokers of one name, through the envelope as on Redis. */
class MemoryBroadcasts implements Broadcasting {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  subscribe(queue: BroadcastQueue, listener: BroadcastListener): Promise<() => Promise<void>> {
    const subscription = { queue, listener };
    this.#store.subscriptions.add(subscription);
    return Promise.resolve(() => {
      this.#store.subscriptions.delete(subscription);
      return Promise.resolve();
    });
  }

  send(kind: BroadcastKind, publications: readonly Publication[]): Promise<number> {
    let heard = 0;
    for (const publication of publications) {
      const bytes = Buffer.from(encodeEnvelope(publication, randomUUID()));
      for (const { queue, listener } of this.#store.subscriptions) {
        if (queue.kind !== kind || queue.exchange !== publication.exchange) continue;
        if (!topicMatches(queue.routingKey.split('.'), publication.routingKey.split('.'))) continue;
        heard++;
        // As over a network: the listener runs after the sender has continued.
        queueMicrotask(() => listener.hear(decodeEnvelope(bytes)));
      }
    }
    return Promise.resolve(heard);
  }
}

/** The state that the brokers of one name share. */
class Store {
  readonly quarantined: Quarantined[] = [];
  /** All of them are called when a message is put. */
  readonly listeners = new Set<() => void>();
  readonly subscriptions = new Set<{ readonly queue: BroadcastQueue; readonly listener: BroadcastListener }>();
  readonly #queues = new Map<string, Uint8Array[][]>();
  readonly #exchanges = new Map<
    string,
    { readonly type: exchanges.ExchangeType; table: readonly exchanges.Binding[] }
  >();

  /** A queue's waiting messages: one list per priority step, the next to run first. */
  steps(queue: string): Uint8Array[][] {
    let steps = this.#queues.get(queue);
    if (steps === undefined) this.#queues.set(queue, (steps = PRIORITY_STEPS.map(() => [])));
    return steps;
  }

  put(queue: string, bytes: Uint8Array, where: 'front' | 'back'): void {
    const step = this.steps(queue)[stepOf(read(bytes).message)] as Uint8Array[];
    if (where === 'front') step.unshift(bytes);
    else step.push(bytes);
    for (const listener of this.listeners) listener();
  }

  bind(exchange: string, type: exchanges.ExchangeType, routingKey: string, queue: string): void {
    const table = this.#exchanges.get(exchange)?.table ?? [];
    const added = exchanges.withBinding(table, exchanges.bindingOf(queue, routingKey, type));
    this.#exchanges.set(exchange, { type, table: added ?? table });
  }

  queuesOf({ exchange, routingKey }: Publication): readonly string[] {
    if (exchange === '') return [routingKey];
    const known = this.#exchanges.get(exchange);
    return known === undefined ? [] : exchanges.route(known.table, routingKey, known.type);
  }

  clear(): void {
    this.#queues.clear();
    this.#exchanges.clear();
    this.quarantined.length = 0;
  }
}

const STORES = new Map<string, Store>();

// kombu's priority_steps: a message is in the list of the largest step that is not above its priority.
const PRIORITY_STEPS = [0, 3, 6, 9] as const;

function stepOf(message: WireMessage | undefined): number {
  const priority = Math.min(9, Math.max(0, Math.trunc(Number(message?.properties['priority'] ?? 0)) || 0));
  return PRIORITY_STEPS.findLastIndex((step) => step <= priority);
}

function read(bytes: Uint8Array): Pick<Claim, 'message' | 'error'> {
  try {
    return { message: decodeEnvelope(bytes), error: undefined };
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    return { message: undefined, error };
  }
}
