import * as wire from '../../../protocols/sidekiq/iteration.ts';
import { writes } from '../../../protocols/sidekiq/redis.ts';
import type { IterationStore } from './iterable.ts';
import type { SidekiqContext } from './context.ts';

/** The state of one iterable job, in `it-<jid>`. */
export class RedisIteration implements IterationStore {
  readonly #context: SidekiqContext;
  readonly #jid: string;
  wasInterrupted = false;

  constructor(context: SidekiqContext, jid: string) {
    this.#context = context;
    this.#jid = jid;
  }

  get stopping(): boolean {
    return this.#context.isQuiet;
  }

  async load(): ReturnType<IterationStore['load']> {
    const state = await this.#context.run(wire.iteration(this.#context.keys, this.#jid));
    return state === undefined ? undefined : { ...state, cancelled: state.cancelledAt !== undefined };
  }

  save(state: Parameters<IterationStore['save']>[0]): Promise<boolean> {
    return this.#context.run(wire.saveIteration(this.#context.keys, this.#jid, state));
  }

  async end(): Promise<void> {
    await this.#context.run(writes([wire.endIteration(this.#context.keys, this.#jid)]));
  }

  interrupted(): void {
    this.wasInterrupted = true;
  }
}
