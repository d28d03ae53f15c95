import type { Command } from '../../../protocols/redis.ts';
import { type Keyspace, workerKey } from '../../../protocols/resque/keys.ts';
import { working } from '../../../protocols/resque/presence.ts';
import { RenewingMap, RenewingSet } from '../../renewing.ts';

/** A job that runs, and what the pages of Resque show of it. */
export interface Occupant {
  readonly queue: string;
  readonly payload: string;
  readonly startedAt: Date;
}

/**
 * The workers of this process, one a slot: a job gets one for as long as it runs. What is shown is worked out when the commands of a turn
 * leave, from what is true then: a job that began and ended in one turn is never shown, and a slot that changed hands is written once.
 */
export class Slots {
  readonly #keys: Keyspace;
  readonly ids: readonly string[];
  readonly #free: number[];
  readonly #slots = new RenewingMap<Occupant, number>();
  readonly #shown: (Occupant | undefined)[];
  readonly #waiting = new RenewingSet<Occupant>();
  readonly #changed = new Set<number>();

  constructor(keys: Keyspace, ids: readonly string[]) {
    this.#keys = keys;
    this.ids = ids;
    this.#free = ids.map((_, slot) => slot).reverse();
    this.#shown = ids.map(() => undefined);
  }

  enter(occupant: Occupant): void {
    this.#waiting.add(occupant);
  }

  /** The worker it was, or would have been. */
  leave(occupant: Occupant): string {
    this.#waiting.delete(occupant);
    const slot = this.#slots.get(occupant);
    if (slot === undefined) return this.ids[this.#free.at(-1) ?? 0] as string;
    this.#slots.delete(occupant);
    this.#shown[slot] = undefined;
    this.#changed.add(slot);
    this.#free.push(slot);
    return this.ids[slot] as string;
  }

  idOf(occupant: Occupant): string {
    const slot = this.#slots.get(occupant) ?? this.#free.at(-1) ?? 0;
    return this.ids[slot] as string;
  }

  /** What became of a turn is not known: everything is shown anew. */
  forget(): void {
    for (const slot of this.ids.keys()) this.#changed.add(slot);
  }

  /** What has changed since it was last written. */
  commands(): readonly Command[] {
    for (const occupant of this.#waiting) {
      const slot = this.#free.pop();
      // One more than there are slots, for as long as one takes to leave.
      if (slot === undefined) break;
      this.#waiting.delete(occupant);
      this.#slots.set(occupant, slot);
      this.#shown[slot] = occupant;
      this.#changed.add(slot);
    }
    if (this.#changed.size === 0) return [];
    const idle: string[] = [];
    const commands: Command[] = [];
    for (const slot of this.#changed) {
      const id = this.ids[slot] as string;
      const occupant = this.#shown[slot];
      if (occupant === undefined) idle.push(workerKey(this.#keys, id));
      else commands.push(working(this.#keys, id, occupant.queue, occupant.payload, occupant.startedAt));
    }
    this.#changed.clear();
    if (idle.length > 0) commands.push(['DEL', ...idle]);
    return commands;
  }
}
