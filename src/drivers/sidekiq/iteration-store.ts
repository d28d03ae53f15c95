import * as wire from '../../../protocols/sidekiq/iteration.ts';
import { writes } from '../../../protocols/sidekiq/redis.ts';
import type { IterationStore } from './iterable.ts';
import type { SidekiqProcess } from './process.ts';

/** The state of one iterable job, in `it-<jid>`. */
export class RedisIteration implements IterationStore {
  readonly #process: SidekiqProcess;
  readonly #jid: string;
  wasInterrupted = false;

  constructor(process: SidekiqProcess, jid: string) {
    this.#process = process;
    this.#jid = jid;
  }

  get stopping(): boolean {
    return this.#process.isQuiet;
  }

  async load(): ReturnType<IterationStore['load']> {
    const state = await this.#process.run(wire.iteration(this.#process.keys, this.#jid));
    return state === undefined ? undefined : { ...state, cancelled: state.cancelledAt !== undefined };
  }

  save(state: Parameters<IterationStore['save']>[0]): Promise<boolean> {
    return this.#process.run(wire.saveIteration(this.#process.keys, this.#jid, state));
  }

  async end(): Promise<void> {
    await this.#process.run(writes([wire.endIteration(this.#process.keys, this.#jid)]));
  }

  interrupted(): void {
    this.wasInterrupted = true;
  }
}
