import type { Logger } from '../log.ts';
import { type Agent, pause } from '../source.ts';
import { backoff } from './backoff.ts';
import type { Events } from './events.ts';

/** Keeps agents alive for as long as the worker: restarts with back-off what rejects or ends too early; stops all in reverse. */
export class Agents {
  readonly #log: Logger;
  readonly #events: Events;
  readonly #running: { readonly stop: AbortController; readonly done: Promise<void> }[] = [];

  constructor(log: Logger, events: Events) {
    this.#log = log;
    this.#events = events;
  }

  start(agent: Agent): void {
    const stop = new AbortController();
    this.#running.push({ stop, done: this.#keep(agent, stop.signal) });
  }

  async stop(): Promise<void> {
    for (const { stop, done } of this.#running.reverse()) {
      stop.abort();
      await done;
    }
    this.#running.length = 0;
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
