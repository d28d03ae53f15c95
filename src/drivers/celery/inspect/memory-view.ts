import type { MemoryBroker } from '../brokers/memory.ts';
import { badCursor, type BrokerView, type Found, NO_VIEW } from './view.ts';

/** What a broker in memory shows, of all brokers of its name in this process. */
export class MemoryView implements BrokerView {
  readonly sets: BrokerView['sets'] = [
    { name: 'queued', kind: 'waiting', byQueue: true },
    { name: 'quarantine', kind: 'quarantined', byQueue: true },
  ];
  readonly takes: BrokerView['takes'] = NO_VIEW.takes;
  readonly #broker: MemoryBroker;

  constructor(broker: MemoryBroker) {
    this.#broker = broker;
  }

  open(): Promise<void> {
    return Promise.resolve();
  }
  queueNames(): Promise<readonly string[]> {
    return Promise.resolve(this.#broker.quarantined.map(({ queue }) => queue));
  }

  sizes(queues: readonly string[]): ReturnType<BrokerView['sizes']> {
    const sizes = queues.map((queue) => [queue, { size: this.#broker.size(queue) }] as const);
    const queued = sizes.reduce((sum, [, { size }]) => sum + size, 0);
    return Promise.resolve({
      sets: { queued, quarantine: this.#broker.quarantined.length },
      queues: new Map(sizes),
    });
  }

  oldest(queues: readonly string[]): Promise<ReadonlyMap<string, Uint8Array>> {
    const found = queues.flatMap((queue) =>
      this.#broker
        .waiting(queue)
        .slice(0, 1)
        .map((bytes) => [queue, bytes] as const),
    );
    return Promise.resolve(new Map(found));
  }

  page(set: string, queues: readonly string[], position: string, count: number): Promise<readonly Found[]> {
    const first = position === '' ? 0 : Number(position);
    if (!Number.isSafeInteger(first)) throw badCursor();
    const all =
      set === 'queued'
        ? queues.flatMap((queue) => this.#broker.waiting(queue).map((bytes) => ({ queue, bytes })))
        : this.#broker.quarantined
            .filter(({ queue }) => queues.includes(queue))
            .map(({ queue, bytes, code, reason }) => ({
              queue,
              bytes,
              error: { type: code, message: reason, traceback: undefined, at: undefined },
            }));
    const found = all
      .slice(first, first + count)
      .map((one, at) => ({ set, ...one, handle: one.queue, after: String(first + at + 1) }));
    return Promise.resolve(found);
  }

  take(): Promise<boolean> {
    return Promise.resolve(false);
  }
  purge(): Promise<number | undefined> {
    return Promise.resolve(undefined);
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}
