import type { Command } from '../../../protocols/redis.ts';
import { type Keyspace, workerKey } from '../../../protocols/resque/keys.ts';
import { working } from '../../../protocols/resque/presence.ts';
import { RenewingMap, RenewingSet } from '../../renewing.ts';

/** A running job, with the data that Resque's pages show of it. */
export interface Occupant {
  readonly queue: string;
  readonly payload: string;
  readonly startedAt: Date;
}

/**
 * The workers of this process, one for each slot. A job gets a worker for as long as it runs. The commands are built from the state at the end of a
 * tick: a job that began and ended in one tick is never shown, and a slot that changed its job is written once.
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

  /** Returns the id of the job's worker, or the one it would have had. */
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

  /** It is unknown whether the last commands were executed, so all slots are written again. */
  forget(): void {
    for (const slot of this.ids.keys()) this.#changed.add(slot);
  }

  /** The commands for all changes since the last call. */
  commands(): readonly Command[] {
    for (const occupant of this.#waiting) {
      const slot = this.#free.pop();
      // For a moment there may be one job more than slots, until another job has left.
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
