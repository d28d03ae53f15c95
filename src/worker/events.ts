import { channel, type Channel } from 'node:diagnostics_channel';
import type { Disposition, Job, Outcome } from '../../protocols/job.ts';
import type { PoisonReport } from '../source.ts';

/** The life of a worker. `quiet`: it takes nothing more, and what runs goes on; `stopping`: it ends once that is done. */
export type WorkerState = 'idle' | 'running' | 'quiet' | 'stopping' | 'stopped';

/** What a worker tells. Each is also published on `diagnostics_channel` as `jobglot:<name>`. */
export interface WorkerEvents {
  'worker:state': { readonly state: WorkerState };
  'job:started': { readonly system: string; readonly job: Job };
  'job:settled': {
    readonly system: string;
    readonly job: Job;
    readonly outcome: Outcome;
    readonly disposition: Disposition;
    /** Milliseconds the handler ran. */
    readonly ms: number;
  };
  /** Given back without a run counted. */
  'job:released': { readonly system: string; readonly job: Job };
  /** The outcome could not be written; it is tried again while the worker lives. */
  'job:unsettled': { readonly system: string; readonly job: Job; readonly error: unknown };
  /** A message that is not a job was set aside. */
  'job:poison': PoisonReport;
  'source:down': { readonly system: string; readonly error: unknown };
  'source:up': { readonly system: string };
  'agent:failed': { readonly agent: string; readonly error: unknown };
}

type Listener<Name extends keyof WorkerEvents> = (event: WorkerEvents[Name]) => void;

/** A typed emitter that costs a map look-up when nobody listens. A listener that throws is reported, and hurts nobody else. */
export class Events {
  readonly #listeners = new Map<keyof WorkerEvents, Set<(event: never) => void>>();
  readonly #channels = new Map<keyof WorkerEvents, Channel>();

  on<Name extends keyof WorkerEvents>(name: Name, listener: Listener<Name>): () => void {
    let set = this.#listeners.get(name);
    if (set === undefined) this.#listeners.set(name, (set = new Set<(event: never) => void>()));
    set.add(listener as (event: never) => void);
    return () => set.delete(listener as (event: never) => void);
  }

  /** The next event of this name that `matches`. */
  once<Name extends keyof WorkerEvents>(
    name: Name,
    matches: (event: WorkerEvents[Name]) => boolean = () => true,
  ): Promise<WorkerEvents[Name]> {
    return new Promise((resolve) => {
      const off = this.on(name, (event) => {
        if (!matches(event)) return;
        off();
        resolve(event);
      });
    });
  }

  /** Whether anybody would see it: ask before building an event on a hot path. */
  wanted(name: keyof WorkerEvents): boolean {
    const set = this.#listeners.get(name);
    return (set !== undefined && set.size > 0) || this.#channel(name).hasSubscribers;
  }

  emit<Name extends keyof WorkerEvents>(name: Name, event: WorkerEvents[Name]): void {
    const shared = this.#channel(name);
    if (shared.hasSubscribers) shared.publish(event);
    const set = this.#listeners.get(name);
    if (set === undefined) return;
    for (const listener of [...set]) {
      try {
        (listener as Listener<Name>)(event);
      } catch (error) {
        queueMicrotask(() => {
          throw error; // the listener's bug, shown as one; never the job's
        });
      }
    }
  }

  #channel(name: keyof WorkerEvents): Channel {
    let found = this.#channels.get(name);
    if (found === undefined) this.#channels.set(name, (found = channel(`jobglot:${name}`)));
    return found;
  }
}
