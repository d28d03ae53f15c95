/**
 * Collections for thousands of short-lived items, in order of insertion. After many deletions V8 gives a Map or a Set a new table, and the old table
 * still points to the new one. Once one of these tables has reached the old generation, all items that were ever in the later tables survive every
 * minor garbage collection. That cost a quarter of the time of a busy worker. These collections are replaced as a whole now and then, and nothing
 * points from one to the next.
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
  /** Iterates over the items. An item that is deleted meanwhile may still come. */
  [Symbol.iterator](): IterableIterator<T> {
    return this.#set.values();
  }
}
