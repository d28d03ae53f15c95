import type { Logger } from '../log.ts';
import { type Agent, pause } from '../source.ts';
import { backoff } from '../backoff.ts';
import type { Events } from '../events.ts';
import type { WorkerEvents } from './events.ts';

/** Keeps agents alive for as long as the worker. An agent that rejects or ends too early is restarted with back-off. All are stopped in reverse order. */
export class Agents {
  readonly #log: Logger;
  readonly #events: Events<WorkerEvents>;
  readonly #running: { readonly stop: AbortController; readonly done: Promise<void> }[] = [];

  constructor(log: Logger, events: Events<WorkerEvents>) {
    this.#log = log;
    this.#events = events;
  }

  start(agent: Agent): void {
    const stop = new AbortController();
    this.#running.push({ stop, done: this.#keep(agent, stop.signal) });
  }

  /** Waits for each agent before it stops the next, `patienceMs` at most in all: an agent may wait for a server that is away. */
  async stop(patienceMs = 1_000): Promise<void> {
    const limit = new AbortController();
    const late = pause(patienceMs, limit.signal);
    for (const { stop, done } of this.#running.splice(0).reverse()) {
      stop.abort();
      await Promise.race([done, late]);
    }
    limit.abort();
  }

  async #keep(agent: Agent, signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted;) {
      const started = performance.now();
      try {
        await agent.run(signal);
        if (!signal.aborted) await pause(backoff(failures++, Math.random()), signal);
      } catch (error) {
        if (signal.aborted) return;
        if (performance.now() - started > 60_000) failures = 0;
        this.#log.warn({ agent: agent.name, error }, 'an agent failed; it is started again');
        this.#events.emit('agent:failed', { agent: agent.name, error });
        await pause(backoff(failures++, Math.random()), signal);
      }
    }
  }
}
