/**
 * Collections for what comes and goes by the thousand, in the order it came. V8 gives a Map or a Set that saw many deletions a new
 * table, and the old table goes on pointing to the new one. Once one of them has grown old, all that was ever in the tables after it
 * outlives every quick collection of garbage: a quarter of a busy worker's time went there. These are replaced as a whole now and
 * then, and nothing points from one to the next.
 */
const RENEWED_AFTER = 256;

export class RenewingMap<K, V> {
  #map = new Map<K, V>();
  #deleted = 0;

  get size(): number {
    return this.#map.size;
  }
  get(key: K): V | undefined {
    return this.#map.get(key);
  }
  has(key: K): boolean {
    return this.#map.has(key);
  }
  set(key: K, value: V): void {
    this.#map.set(key, value);
  }
  delete(key: K): boolean {
    if (!this.#map.delete(key)) return false;
    if (++this.#deleted >= RENEWED_AFTER && this.#deleted >= this.#map.size) {
      this.#deleted = 0;
      this.#map = new Map(this.#map);
    }
    return true;
  }
  keys(): IterableIterator<K> {
    return this.#map.keys();
  }
  values(): IterableIterator<V> {
    return this.#map.values();
  }
  [Symbol.iterator](): IterableIterator<[K, V]> {
    return this.#map.entries();
  }
}

export class RenewingSet<T> {
  #set = new Set<T>();
  #deleted = 0;

  get size(): number {
    return this.#set.size;
  }
  has(value: T): boolean {
    return this.#set.has(value);
  }
  add(value: T): void {
    this.#set.add(value);
  }
  delete(value: T): boolean {
    if (!this.#set.delete(value)) return false;
    if (++this.#deleted >= RENEWED_AFTER && this.#deleted >= this.#set.size) {
      this.#deleted = 0;
      this.#set = new Set(this.#set);
    }
    return true;
  }
  /** What is deleted meanwhile may still come. */
  [Symbol.iterator](): IterableIterator<T> {
    return this.#set.values();
  }
}
