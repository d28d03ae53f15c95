import { EventEmitter } from 'node:events';

/** A message of the toy system: JSON of id, task, args and kwargs, and whatever else its sender wrote. */
export interface Entry {
  readonly id: string;
  readonly queue: string;
  readonly bytes: Buffer;
  readonly attempt: number;
  /** Not before then; undefined: now. */
  readonly atMs?: number;
  /** Why it failed, or cannot be read. */
  readonly reason?: { readonly type: string; readonly message: string };
}

/** Where the toy system keeps jobs: in the memory of this process, by a name. */
export class ToyStore {
  static readonly #stores = new Map<string, ToyStore>();
  readonly queues = new Map<string, Entry[]>();
  readonly claimed = new Set<Entry>();
  readonly failed: Entry[] = [];
  readonly quarantine: Entry[] = [];
  readonly paused = new Set<string>();
  /** By job id: `{ state, value }` or `{ state, error }`, as JSON. */
  readonly results = new Map<string, string>();
  readonly changes = new EventEmitter().setMaxListeners(0);

  static of(url: string): ToyStore {
    let store = ToyStore.#stores.get(url);
    if (store === undefined) ToyStore.#stores.set(url, (store = new ToyStore()));
    return store;
  }

  put(entry: Entry, end: 'front' | 'back' = 'back'): void {
    const list = this.queues.get(entry.queue) ?? [];
    this.queues.set(entry.queue, list);
    if (end === 'front') list.unshift(entry);
    else list.push(entry);
    this.changes.emit('change');
  }

  /** Claims the first entry of these queues that is due. */
  take(queues: readonly string[], nowMs: number): Entry | undefined {
    for (const queue of queues.filter((name) => !this.paused.has(name))) {
      const list = this.queues.get(queue) ?? [];
      const entry = list.find(({ atMs = 0 }) => atMs <= nowMs);
      if (entry === undefined) continue;
      list.splice(list.indexOf(entry), 1);
      this.claimed.add(entry);
      return entry;
    }
    return undefined;
  }

  /** When the next entry of these queues is due. */
  nextAt(queues: readonly string[]): number {
    return Math.min(...queues.flatMap((queue) => (this.queues.get(queue) ?? []).map(({ atMs = 0 }) => atMs)));
  }

  clear(): void {
    for (const one of [this.queues, this.claimed, this.paused, this.results]) one.clear();
    this.failed.length = 0;
    this.quarantine.length = 0;
  }
}
