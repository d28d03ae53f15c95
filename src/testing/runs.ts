import type { Disposition, Job, Outcome } from '../../protocols/job.ts';
import { UnknownTaskError } from '../errors.ts';
import { type Logger, silent } from '../log.ts';
import type { Delivery } from '../source.ts';
import type { Registration, Registry } from '../task.ts';
import { Run } from '../worker/runner.ts';

/** One run of a handler. */
export interface InlineRun {
  readonly job: Job;
  /** What the handler came to. */
  readonly outcome: Outcome;
  /** What the system then holds. */
  readonly disposition: Disposition;
}

/** What an inline client of any system is told beside the options of its client. */
export interface InlineSettings {
  /** What handlers log to. @default nothing is written */
  readonly log?: Logger;
}

const MOST_RUNS = 1000;

/** Runs jobs with the handlers of a registry, one after the other. */
export class Runs {
  readonly all: InlineRun[] = [];
  readonly #system: string;
  readonly #tasks: Registry;
  readonly #log: Logger;

  constructor(system: string, tasks: Registry, log: Logger = silent) {
    this.#system = system;
    this.#tasks = tasks;
    this.#log = log;
  }

  /** Throws UnknownTaskError. */
  find(task: string): Registration {
    const found = this.#tasks.find(this.#system, task);
    if (found === undefined) throw new UnknownTaskError(this.#system, task);
    return found;
  }

  /** Runs one job, and settles it. `known`: the outcome where the system knows it without a run. */
  async run(delivery: Delivery, registration: Registration, known?: Outcome): Promise<Outcome> {
    const outcome =
      known ??
      (await new Run(delivery, this.#system, this.#log).execute(registration, registration.handler, unwritten));
    // Only a worker that stops gives a job back.
    if (outcome === undefined) throw new Error(`inline: '${delivery.job.task}' was given back instead of settled`);
    this.all.push({ job: delivery.job, outcome, disposition: await delivery.settle(outcome) });
    return outcome;
  }

  /** Runs `first`, and all that `run` says follows from each. Throws where that never ends. */
  async toTheEnd<Message>(
    first: readonly Message[],
    run: (message: Message) => Promise<readonly Message[]>,
    named: (message: Message) => string,
  ): Promise<void> {
    const waiting = [...first];
    for (let count = 1; ; count++) {
      const message = waiting.shift();
      if (message === undefined) return;
      if (count > MOST_RUNS * Math.max(1, first.length))
        throw new Error(
          `inline: '${named(first[0] as Message)}' led to more than ${MOST_RUNS} runs; give its retry policy a maximum`,
        );
      waiting.push(...(await run(message)));
    }
  }
}

/** Nothing is written when an inline run begins, so nothing can fail. */
function unwritten(error: unknown): never {
  throw error;
}
