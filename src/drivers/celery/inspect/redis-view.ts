import { Buffer } from 'node:buffer';
import { decodeEnvelope, markRedelivered } from '../../../../protocols/celery/brokers/envelope.ts';
import * as inspect from '../../../../protocols/celery/brokers/redis-inspect.ts';
import * as wire from '../../../../protocols/celery/brokers/redis.ts';
import type { Exchange } from '../../../../protocols/redis.ts';
import type { InspectedError } from '../../../inspector.ts';
import type { BrokerRedis } from '../brokers/broker.ts';
import type { CeleryAppOptions } from '../options.ts';
import { badCursor, type BrokerView, type Found } from './view.ts';

/** Claims are as many as all workers hold together; more than this are not looked at. */
const MOST_CLAIMS = 100_000;
/** Steps of a scan for names of queues, 1 000 keys each, and how long its result counts. */
const SCAN_STEPS = 20;
const MOST_NAMES = 1_000;
const NAMES_KEPT_MS = 5_000;
/** Exchanges and lists that hold no tasks, and the lists of this package. */
const BROADCASTS = /\.pidbox$|^celeryev$/;
const OTHER_LISTS = /\.pidbox$|^celeryev\.|^jobglot:/;

/** What Redis shows: its lists, `unacked`, and what this package parks and quarantines. */
export class RedisView implements BrokerView {
  readonly sets: BrokerView['sets'] = [
    { name: 'queued', kind: 'waiting', byQueue: true },
    { name: 'unacked', kind: 'running', byQueue: false },
    { name: 'parked', kind: 'scheduled', byQueue: false },
    { name: 'quarantine', kind: 'quarantined', byQueue: true },
  ];
  readonly takes: BrokerView['takes'] = {
    delete: ['queued', 'parked', 'quarantine'],
    requeue: ['quarantine', 'unacked'],
    run: ['parked'],
  };
  readonly #redis: () => BrokerRedis;
  readonly #keys: wire.Keyspace;
  #names: { readonly found: readonly string[]; readonly until: number } | undefined;

  /** @param redis that of the broker, once the broker is open */
  constructor(redis: () => BrokerRedis, { brokerTransportOptions: transport = {} }: CeleryAppOptions) {
    this.#redis = redis;
    this.#keys = wire.keyspace({
      prefix: transport.globalKeyprefix ?? '',
      ...(transport.unackedKey === undefined ? {} : { unacked: transport.unackedKey }),
      ...(transport.unackedIndexKey === undefined ? {} : { unackedIndex: transport.unackedIndexKey }),
      ...(transport.prioritySteps === undefined ? {} : { prioritySteps: transport.prioritySteps }),
      ...(transport.sep === undefined ? {} : { separator: transport.sep }),
    });
  }

  open(): Promise<void> {
    return Promise.resolve();
  }

  /** From a bounded scan: queues bound to exchanges, and lists that hold messages of Celery. */
  async queueNames(): Promise<readonly string[]> {
    if (this.#names !== undefined && Date.now() < this.#names.until) return this.#names.found;
    const names = new Set<string>();
    const prefix = `${this.#keys.prefix}_kombu.binding.`;
    for (const table of await this.#scan((cursor) => inspect.bindingTables(this.#keys, cursor))) {
      const exchange = table.slice(prefix.length);
      if (BROADCASTS.test(exchange)) continue;
      for (const binding of await this.#run(wire.bindings(this.#keys, exchange))) names.add(binding.queue);
    }
    for (const list of await this.#scan((cursor) => inspect.lists(this.#keys, cursor))) {
      const queue = list.slice(this.#keys.prefix.length).split(this.#keys.separator)[0] as string;
      if (names.has(queue) || OTHER_LISTS.test(queue)) continue;
      const [next] = await this.#run(inspect.fromNext(list, 0, 1));
      if (next !== undefined && isEnvelope(next)) names.add(queue);
    }
    const found = [...names];
    this.#names = { found, until: Date.now() + NAMES_KEPT_MS };
    return found;
  }

  async #scan(step: (cursor: string) => Exchange<inspect.ScanStep>): Promise<ReadonlySet<string>> {
    const found = new Set<string>();
    let cursor = '0';
    for (let count = 0; count < SCAN_STEPS; count++) {
      const { next, keys } = await this.#run(step(cursor));
      for (const key of keys) if (found.size < MOST_NAMES) found.add(key);
      cursor = next;
      if (cursor === '0') break;
    }
    return found;
  }

  async sizes(queues: readonly string[]): ReturnType<BrokerView['sizes']> {
    const { queued, quarantined, unacked, parked } = await this.#run(inspect.sizes(this.#keys, queues));
    return {
      sets: { queued: sum(queued), unacked, parked, quarantine: sum(quarantined) },
      queues: new Map([...queued].map(([queue, size]) => [queue, { size }])),
    };
  }

  async oldest(queues: readonly string[]): Promise<ReadonlyMap<string, Uint8Array>> {
    const found = new Map<string, Uint8Array>();
    for (const queue of queues) {
      for (const { key } of wire.listsOf(this.#keys, [queue])) {
        const [next] = await this.#run(inspect.fromNext(key, 0, 1));
        if (next !== undefined && !found.has(queue)) found.set(queue, next);
      }
    }
    return found;
  }

  page(set: string, queues: readonly string[], position: string, count: number): Promise<readonly Found[]> {
    switch (set) {
      case 'queued':
        return this.#queued(queues, position, count);
      case 'unacked':
        return this.#unacked(position, count);
      case 'parked':
        return this.#parked(position, count);
      default:
        return this.#quarantined(queues, position, count);
    }
  }

  async take(action: 'delete' | 'requeue' | 'run', found: Found): Promise<boolean> {
    const { set, handle, bytes, queue = '' } = found;
    if (set === 'queued') return this.#run(inspect.removeQueued(handle, bytes));
    if (set === 'parked') return this.#takeParked(handle, action === 'run');
    if (set === 'quarantine') {
      const list = wire.listKey(this.#keys, queue, priorityIn(bytes));
      return this.#run(inspect.takeQuarantined(this.#keys, queue, bytes, list, action === 'requeue'));
    }
    return this.#run(
      wire.move(this.#keys, handle, {
        list: wire.listKey(this.#keys, queue, priorityIn(bytes)),
        end: 'right',
        message: markRedelivered(bytes),
      }),
    );
  }

  purge(queue: string): Promise<number | undefined> {
    return this.#run(inspect.purge(this.#keys, queue));
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  async #queued(queues: readonly string[], position: string, count: number): Promise<readonly Found[]> {
    const lists = queues.flatMap((queue) => wire.listsOf(this.#keys, [queue]));
    let [list, offset] = positionIn(lists, ({ key }) => key, position);
    const found: Found[] = [];
    for (; list < lists.length && found.length < count; list++, offset = 0) {
      const { key, queue } = lists[list] as { readonly key: string; readonly queue: string };
      for (const bytes of await this.#run(inspect.fromNext(key, offset, count - found.length)))
        found.push({ set: 'queued', queue, bytes, handle: key, after: positionOf(++offset, key) });
    }
    return found;
  }

  async #quarantined(queues: readonly string[], position: string, count: number): Promise<readonly Found[]> {
    let [list, offset] = positionIn(queues, (queue) => queue, position);
    const found: Found[] = [];
    for (; list < queues.length && found.length < count; list++, offset = 0) {
      const queue = queues[list] as string;
      const some = await this.#run(inspect.quarantined(this.#keys, queue, offset, count - found.length));
      for (const { bytes, why } of some) {
        const after = positionOf(++offset, queue);
        found.push({ set: 'quarantine', queue, bytes, handle: queue, after, error: errorOf(why) });
      }
    }
    return found;
  }

  /** By name: their scores change while workers refresh them. */
  async #unacked(position: string, count: number): Promise<readonly Found[]> {
    const names = (await this.#run(inspect.claimNames(this.#keys, MOST_CLAIMS)))
      .filter((name) => name > position)
      .toSorted();
    const found: Found[] = [];
    for (let at = 0; at < names.length && found.length < count; at += count) {
      const some = names.slice(at, at + count);
      const values = await this.#run(wire.held(this.#keys, some));
      for (const [index, handle] of some.entries()) {
        const value = values[index];
        // Acknowledged meanwhile, or an index entry that lost its message.
        if (value === undefined || found.length === count) continue;
        const cut = wire.cutUnacked(value.toString('latin1'));
        const queue = cut === undefined || cut.exchange !== '' ? undefined : cut.routingKey;
        const bytes = cut === undefined ? value : Buffer.from(cut.envelope, 'latin1');
        found.push({ set: 'unacked', queue, bytes, handle, after: handle });
      }
    }
    return found;
  }

  async #parked(position: string, count: number): Promise<readonly Found[]> {
    let offset = position === '' ? 0 : Number(position);
    if (!Number.isSafeInteger(offset) || offset < 0) throw badCursor();
    const found: Found[] = [];
    while (found.length < count) {
      const some = await this.#run(inspect.parkedNames(this.#keys, offset, count - found.length));
      if (some.length === 0) break;
      const names = some.map(({ name }) => name);
      const messages = await this.#run(inspect.parkedMessages(this.#keys, names));
      for (const [index, { name, at }] of some.entries()) {
        offset++;
        const message = messages[index];
        if (message === undefined) continue;
        const queue = message.list.slice(this.#keys.prefix.length).split(this.#keys.separator)[0];
        const after = String(offset);
        found.push({ set: 'parked', queue, bytes: message.bytes, handle: name, after, dueAt: new Date(at * 1000) });
      }
    }
    return found;
  }

  async #takeParked(name: string, run: boolean): Promise<boolean> {
    const [message] = await this.#run(inspect.parkedMessages(this.#keys, [name]));
    return message !== undefined && this.#run(inspect.takeParked(this.#keys, name, message.list, run));
  }

  #run<Reply>(exchange: Exchange<Reply>): Promise<Reply> {
    return exchange.commands.length === 0 ? Promise.resolve(exchange.read([])) : this.#redis().run(exchange);
  }
}

function sum(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((total, one) => total + one, 0);
}

function positionOf(offset: number, list: string): string {
  return JSON.stringify([offset, list]);
}

function positionIn<List>(
  lists: readonly List[],
  nameOf: (list: List) => string,
  position: string,
): [list: number, offset: number] {
  if (position === '') return [0, 0];
  try {
    const [offset, name] = JSON.parse(position) as [unknown, unknown];
    const list = lists.findIndex((one) => nameOf(one) === name);
    if (Number.isSafeInteger(offset) && (offset as number) >= 0 && list >= 0) return [list, offset as number];
  } catch {
    // told below
  }
  throw badCursor();
}

function isEnvelope(bytes: Uint8Array): boolean {
  try {
    const { contentType, properties } = decodeEnvelope(bytes);
    return contentType !== undefined && Object.hasOwn(properties, 'delivery_info');
  } catch {
    return false;
  }
}

function priorityIn(bytes: Uint8Array): unknown {
  try {
    return decodeEnvelope(bytes).properties['priority'];
  } catch {
    return 0;
  }
}

function errorOf(why: string | undefined): InspectedError | undefined {
  if (why === undefined) return undefined;
  try {
    const { code, reason, at } = JSON.parse(why) as Readonly<Record<string, unknown>>;
    return {
      type: String(code),
      message: typeof reason === 'string' ? reason : String(code),
      traceback: undefined,
      at: typeof at === 'number' ? new Date(at * 1000) : undefined,
    };
  } catch {
    return { type: 'unknown', message: why, traceback: undefined, at: undefined };
  }
}
