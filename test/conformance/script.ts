import { Discard, Fail, Postpone, Retry } from '../../src/signals.ts';
import { pause } from '../../src/source.ts';
import { defineTask, Tasks } from '../../src/task.ts';

/** What a job is told to do: the first argument says what its handler does, the others with what. */
export type Script =
  | readonly ['ok', unknown]
  | readonly ['echo', ...unknown[]]
  | readonly ['error', type: string, message: string]
  | readonly ['fail', message: string]
  | readonly ['retry', times: number, delayMs: number]
  | readonly ['discard']
  /** Postponed so many times, then it succeeds with the number of its runs. What follows is not looked at. */
  | readonly ['postpone', times: number, delayMs: number, ...unknown[]]
  | readonly ['unwritable']
  /** Ends when its signal aborts, with the reason. */
  | readonly ['hang']
  /** Does not hear its signal. */
  | readonly ['deaf']
  | readonly ['slow', ms: number]
  /** Ends when the test opens the gate. */
  | readonly ['gate', name: string]
  | readonly ['progress', name: string];

/** Its errors are final. */
export const SCRIPT = 'conformance.script';
/** Its errors are retried twice, at once. */
export const AGAIN = 'conformance.again';
/** Its errors are retried once, after 1,500 ms: long enough for its worker to stop before. */
export const LATER = 'conformance.later';

/** Has a handler only where `ScriptedHandlers` is made with it. */
export const OTHER = 'conformance.other';

export interface Ran {
  readonly id: string;
  readonly attempt: number;
  readonly at: number;
}

/** The handlers of one test, what they saw, and the gates its jobs wait at. Shared by its workers. */
export class ScriptedHandlers {
  readonly tasks: Tasks;
  readonly runs: Ran[] = [];
  readonly #gates = new Map<string, { readonly opened: Promise<void>; readonly open: () => void }>();

  /** `other`: with a handler of OTHER. */
  constructor(options: { readonly other?: boolean } = {}) {
    const act = defineTask<(...script: Script) => unknown>(SCRIPT);
    const again = defineTask<(...script: Script) => unknown>(AGAIN);
    const later = defineTask<(...script: Script) => unknown>(LATER);
    const handler: Parameters<Tasks['handle']>[1] = async (job, context) => {
      this.runs.push({ id: job.id, attempt: job.attempt, at: Date.now() });
      const script = job.args as unknown as Script;
      switch (script[0]) {
        case 'ok':
          return script[1];
        case 'echo':
          return [script.slice(1), job.kwargs];
        case 'error':
          throw Object.defineProperty(new Error(script[2]), 'name', { value: script[1] });
        case 'fail':
          throw new Fail(script[1]);
        case 'retry':
          if (job.attempt > script[1]) return job.attempt;
          throw new Retry({ delayMs: script[2], cause: new Error(`attempt ${job.attempt}`) });
        case 'discard':
          throw new Discard();
        case 'postpone': {
          const runs = this.runsOf(job.id).length;
          if (runs > script[1]) return runs;
          throw new Postpone({ delayMs: script[2], reason: 'not now' });
        }
        case 'unwritable':
          return () => 'a function';
        case 'hang':
          await pause(60_000, context.signal);
          throw context.signal.reason;
        case 'deaf':
          return new Promise(() => {});
        case 'slow':
          await pause(script[1]);
          return 'slept';
        case 'gate':
          await this.#gate(script[1]).opened;
          return 'passed';
        case 'progress':
          await context.update('PROGRESS', { step: 1 });
          await this.#gate(script[1]).opened;
          return 'passed';
      }
    };
    this.tasks = new Tasks()
      .handle(act, handler as never)
      .handle(again, handler as never, { retry: { max: 2, delayMs: 0 } })
      .handle(later, handler as never, { retry: { max: 1, delayMs: 1_500 } });
    if (options.other === true) this.tasks.handle(defineTask(OTHER), handler as never);
  }

  runsOf(id: string): readonly Ran[] {
    return this.runs.filter((run) => run.id === id);
  }

  open(name: string): void {
    this.#gate(name).open();
  }

  #gate(name: string): { readonly opened: Promise<void>; readonly open: () => void } {
    let gate = this.#gates.get(name);
    if (gate === undefined) {
      let open = (): void => {};
      const opened = new Promise<void>((resolve) => (open = resolve));
      this.#gates.set(name, (gate = { opened, open }));
    }
    return gate;
  }
}
