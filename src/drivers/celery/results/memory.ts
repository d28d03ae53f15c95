import { outlasts } from '../../../../protocols/celery/brokers/filesystem.ts';
import type { ResultBackend } from '../brokers/broker.ts';

/** Results in this process, for tests. Backends of one name share them. */
export class MemoryResults implements ResultBackend {
  readonly kind = 'memory';
  readonly address: string;
  readonly #store: Store;
  readonly #expiresMs: number;
  readonly #ends = new Set<() => void>();

  /** @param options `expiresMs`: `cleanup` removes results that are older than this; 0 keeps all. @default 1 day */
  constructor(name = '', options: { readonly expiresMs?: number } = {}) {
    this.address = `memory://${name}`;
    this.#expiresMs = options.expiresMs ?? 86_400_000;
    let store = STORES.get(name);
    if (store === undefined) STORES.set(name, (store = { tasks: new Map(), groups: new Map(), listeners: new Map() }));
    this.#store = store;
  }

  /** Removes everything under this name. */
  clear(): void {
    this.#store.tasks.clear();
    this.#store.groups.clear();
  }

  open(): Promise<void> {
    return Promise.resolve();
  }

  store(id: string, meta: Uint8Array | string): Promise<void> {
    const stored = this.#store.tasks.get(id);
    if (stored !== undefined && outlasts(stored.meta, meta)) return Promise.resolve();
    const bytes = Buffer.from(meta);
    this.#store.tasks.set(id, { meta: bytes, at: Date.now() });
    for (const listener of this.#store.listeners.get(id) ?? []) listener(bytes);
    return Promise.resolve();
  }

  fetch(id: string): Promise<Buffer | undefined> {
    return Promise.resolve(this.#store.tasks.get(id)?.meta);
  }

  fetchMany(ids: readonly string[]): Promise<readonly (Buffer | undefined)[]> {
    return Promise.all(ids.map((id) => this.fetch(id)));
  }

  watch(id: string, listener: (meta: Buffer) => void): Promise<() => void> {
    // One entry per call, also if the same function is passed twice.
    const entry = (meta: Buffer): void => listener(meta);
    const listeners = this.#store.listeners.get(id) ?? new Set();
    this.#store.listeners.set(id, listeners.add(entry));
    const end = (): void => {
      this.#ends.delete(end);
      listeners.delete(entry);
      if (listeners.size === 0 && this.#store.listeners.get(id) === listeners) this.#store.listeners.delete(id);
    };
    this.#ends.add(end);
    return Promise.resolve(end);
  }

  forget(id: string): Promise<void> {
    this.#store.tasks.delete(id);
    return Promise.resolve();
  }

  storeGroup(groupId: string, meta: string): Promise<void> {
    this.#store.groups.set(groupId, { meta: Buffer.from(meta), at: Date.now() });
    return Promise.resolve();
  }

  fetchGroup(groupId: string): Promise<Buffer | undefined> {
    return Promise.resolve(this.#store.groups.get(groupId)?.meta);
  }

  cleanup(): Promise<void> {
    if (this.#expiresMs > 0) {
      const oldest = Date.now() - this.#expiresMs;
      for (const kept of [this.#store.tasks, this.#store.groups]) {
        for (const [id, { at }] of kept) if (at < oldest) kept.delete(id);
      }
    }
    return Promise.resolve();
  }

  close(): Promise<void> {
    for (const end of this.#ends) end();
    return Promise.resolve();
  }
}

interface Stored {
  readonly meta: Buffer;
  readonly at: number;
}

interface Store {
  readonly tasks: Map<string, Stored>;
  readonly groups: Map<string, Stored>;
  readonly listeners: Map<string, Set<(meta: Buffer) => void>>;
}

const STORES = new Map<string, Store>();
