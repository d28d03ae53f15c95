import * as presence from '../../../protocols/sidekiq/presence.ts';
import * as wire from '../../../protocols/sidekiq/redis.ts';
import { dueJob } from '../../../protocols/sidekiq/schedule.ts';
import type { Agent } from '../../source.ts';
import { WakeUp } from '../../wake-up.ts';
import type { SidekiqContext } from './context.ts';

/** The number of jobs moved at once. */
const BATCH = 100;
/** The shortest time between two polls. */
const LEAST_MS = 5;
const CLEANUP_MS = 60_000;

/**
 * Moves due retries and scheduled jobs to their queues. It polls when the next known job is due, and at random times in between. All processes poll,
 * so the more processes there are, the less often each one polls.
 */
export class Poller implements Agent {
  readonly name = 'sidekiq: move what is due';
  readonly #context: SidekiqContext;
  readonly #wakeUp = new WakeUp();
  /** The time of the next poll, in milliseconds. */
  #nextAt = 0;
  #cleanupAt = 0;

  constructor(context: SidekiqContext) {
    this.#context = context;
  }

  /** This process has just written a job that is due at this time. */
  expect(atMs: number): void {
    if (atMs >= this.#nextAt) return;
    this.#nextAt = atMs;
    this.#wakeUp.signal();
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (Date.now() >= this.#cleanupAt) {
        this.#cleanupAt = Date.now() + CLEANUP_MS;
        await this.#cleanUp();
      }
      for (const set of ['retry', 'schedule'] as const) await this.#enqueueDue(set, signal);
      await this.#wait(signal);
    }
  }

  async #wait(signal: AbortSignal): Promise<void> {
    const { averagePollSeconds, fixedPollSeconds } = this.#context.options;
    const { keys, dialect } = this.#context;
    // Calls of `expect` during the awaits below lower this.
    this.#nextAt = Number.POSITIVE_INFINITY;
    const count = (await this.#context.run(presence.processes(keys))).length;
    const seconds = presence.pollInterval(count, averagePollSeconds, dialect, Math.random(), fixedPollSeconds);
    const soonest = (await this.#context.run(wire.soonest(keys))) ?? Number.POSITIVE_INFINITY;
    this.#nextAt = Math.min(this.#nextAt, soonest, Date.now() + seconds * 1000);
    // A monotonic clock: if the system clock is set back, a wait by that clock could last for hours.
    const until = performance.now() + seconds * 1000;
    const left = (): number => Math.min(this.#nextAt - Date.now(), until - performance.now());
    for (let ms = left(); ms > 0 && !signal.aborted; ms = left())
      await this.#wakeUp.wait(Math.max(ms, LEAST_MS), signal);
  }

  async #enqueueDue(set: 'schedule' | 'retry', signal: AbortSignal): Promise<void> {
    const { keys, options, log } = this.#context;
    while (!signal.aborted) {
      const nowMs = Date.now();
      const members = await this.#context.run(wire.due(keys, set, nowMs, BATCH));
      if (members.length === 0) return;
      const jobs = members.map((member) => dueJob(member, { dialect: this.#context.dialect, nowMs }));
      const moved = await this.#context.run(wire.moveDue(keys, set, jobs, { nowMs, dead: options.dead }));
      for (const [at, { error, queue }] of jobs.entries()) {
        const became = moved[at];
        if (became !== 'refused' && (error === undefined || became !== 'moved')) continue;
        this.#context.host?.poison({
          system: 'sidekiq',
          queue: set,
          id: undefined,
          code: error?.code ?? 'refused',
          reason: error?.message ?? `the key of its queue '${queue ?? ''}' is no list`,
          kept: 'It is in the dead set.',
        });
      }
      log.debug({ set, jobs: moved.filter((one) => one === 'moved').length }, 'moved what was due to its queues');
      if (members.length < BATCH) return;
    }
  }

  /** Removes processes whose entry has expired from the list. One process a minute does this. */
  async #cleanUp(): Promise<void> {
    const { keys } = this.#context;
    if (!(await this.#context.run(presence.lockCleanup(keys)))) return;
    const identities = await this.#context.run(presence.processes(keys));
    const peers = await this.#context.run(presence.peers(keys, identities));
    await this.#context.run(
      presence.forget(
        keys,
        identities.filter((_, at) => peers[at] === undefined),
      ),
    );
  }
}
