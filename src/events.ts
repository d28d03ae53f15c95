import { channel, type Channel } from 'node:diagnostics_channel';

type Listener<Event> = (event: Event) => void;

/**
 * A typed emitter. An event without a listener costs one map look-up. Each event is also published on `diagnostics_channel` as `jobglot:<name>`. An
 * error thrown by a listener is reported as an uncaught error, and the other listeners still run.
 */
export class Events<Map extends object> {
  readonly #listeners = new globalThis.Map<keyof Map, Set<(event: never) => void>>();
  readonly #channels = new globalThis.Map<keyof Map, Channel>();

  /** Adds a listener. The returned function removes it. */
  on<Name extends keyof Map>(name: Name, listener: Listener<Map[Name]>): () => void {
    let set = this.#listeners.get(name);
    if (set === undefined) this.#listeners.set(name, (set = new Set<(event: never) => void>()));
    set.add(listener as (event: never) => void);
    return () => set.delete(listener as (event: never) => void);
  }

  /** Resolves with the next event of this name for which `matches` is true. */
  once<Name extends keyof Map>(name: Name, matches: (event: Map[Name]) => boolean = () => true): Promise<Map[Name]> {
    return new Promise((resolve) => {
      const off = this.on(name, (event) => {
        if (!matches(event)) return;
        off();
        resolve(event);
      });
    });
  }

  /** Whether there is a listener: ask before building an event on a hot path. */
  wanted(name: keyof Map): boolean {
    const set = this.#listeners.get(name);
    return (set !== undefined && set.size > 0) || this.#channel(name).hasSubscribers;
  }

  emit<Name extends keyof Map>(name: Name, event: Map[Name]): void {
    const shared = this.#channel(name);
    if (shared.hasSubscribers) shared.publish(event);
    const set = this.#listeners.get(name);
    if (set === undefined) return;
    for (const listener of [...set]) {
      try {
        (listener as Listener<Map[Name]>)(event);
      } catch (error) {
        queueMicrotask(() => {
          throw error; // a bug of the listener, reported as such; it must not fail the job
        });
      }
    }
  }

  #channel(name: keyof Map): Channel {
    let found = this.#channels.get(name);
    if (found === undefined) this.#channels.set(name, (found = channel(`jobglot:${String(name)}`)));
    return found;
  }
}
