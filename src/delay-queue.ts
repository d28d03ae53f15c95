/** Items that each become due at a time: a binary heap and one timer. The caller bounds its size. */
export class DelayQueue<Item> {
  readonly #heap: { readonly at: number; readonly item: Item }[] = [];
  #timer: NodeJS.Timeout | undefined;
  #wake: (() => void) | undefined;

  get size(): number {
    return this.#heap.length;
  }

  /** All items, soonest first. */
  get items(): readonly Item[] {
    return this.#heap.toSorted((a, b) => a.at - b.at).map(({ item }) => item);
  }

  /** `at` in milliseconds since the epoch. */
  add(at: number, item: Item): void {
    const heap = this.#heap;
    let child = heap.push({ at, item }) - 1;
    while (child > 0) {
      const parent = (child - 1) >> 1;
      if ((heap[parent] as { at: number }).at <= at) break;
      this.#swap(child, parent);
      child = parent;
    }
    if (child === 0) this.#arm();
  }

  /** Takes out all items due by `now`, soonest first. */
  due(now: number): readonly Item[] {
    const items: Item[] = [];
    while (this.#heap.length > 0 && (this.#heap[0] as { at: number }).at <= now) items.push(this.#pop());
    if (items.length > 0) this.#arm();
    return items;
  }

  /** Resolves when the soonest item is due; never while there is no item. */
  next(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
      this.#arm();
    });
  }

  /** Takes out all items, soonest first. */
  clear(): readonly Item[] {
    const items = this.#heap.splice(0).sort((a, b) => a.at - b.at);
    this.#arm();
    return items.map(({ item }) => item);
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const first = this.#heap[0];
    if (first === undefined) return;
    // A timer counts at most 24.8 days. For a longer wait the timer fires early and is set again.
    this.#timer = setTimeout(() => this.#ring(), Math.min(Math.max(first.at - Date.now(), 0), 2 ** 31 - 1));
  }

  #ring(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    if (wake === undefined) return;
    wake();
  }

  #pop(): Item {
    const heap = this.#heap;
    const top = heap[0] as { readonly item: Item };
    const last = heap.pop() as { readonly at: number; readonly item: Item };
    if (heap.length > 0) {
      heap[0] = last;
      let parent = 0;
      for (;;) {
        let least = parent;
        for (const child of [2 * parent + 1, 2 * parent + 2]) {
          if (child < heap.length && (heap[child] as { at: number }).at < (heap[least] as { at: number }).at)
            least = child;
        }
        if (least === parent) break;
        this.#swap(parent, least);
        parent = least;
      }
    }
    return top.item;
  }

  #swap(a: number, b: number): void {
    const heap = this.#heap;
    const held = heap[a] as { readonly at: number; readonly item: Item };
    heap[a] = heap[b] as { readonly at: number; readonly item: Item };
    heap[b] = held;
  }
}
