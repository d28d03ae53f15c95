import type { Logger } from '../log.ts';
import { pause, type Source } from '../source.ts';
import { type Executor, isExecutor } from '../executor.ts';
import type { Registration, Tasks } from '../task.ts';
import type { Middleware } from './middleware.ts';

/** How long executors may take to close. */
const CLOSE_MS = 5_000;

/** Where the handlers of one worker run: which executor is whose, opened with the worker and closed with it. */
export class Executors {
  readonly #own: Executor | undefined;
  readonly #log: Logger;
  readonly #opened = new Map<Executor, Promise<void>>();

  /** `own`: for tasks and sources that name none. */
  constructor(own: Executor | undefined, log: Logger) {
    this.#own = own;
    this.#log = log;
  }

  /** Opens all that the worker may need: its own, those of its sources, of its tasks and of its middleware. Rejects as one of them does. */
  async open(sources: readonly Source[], tasks: Tasks, middleware: readonly Middleware[]): Promise<void> {
    const named = sources.flatMap((source) => [
      source.executor,
      ...tasks.names(source.system).map((name) => tasks.find(source.system, name)?.options.executor),
    ]);
    // Middleware may take the handler's place and have a life of its own: `worker.use(childProcess({ tasks }))`.
    const used = [this.#own, ...named, ...middleware.filter((one) => isExecutor(one))];
    await Promise.all(used.flatMap((one) => (one === undefined ? [] : [this.#open(one)])));
  }

  /** Where the handler of this task runs; undefined: in the event loop. One of a task that was registered after the start is opened now. */
  of({ options }: Registration, source: Source): Executor | undefined {
    const executor = options.executor ?? source.executor ?? this.#own;
    if (executor !== undefined && !this.#opened.has(executor))
      this.#open(executor).catch((error: unknown) => this.#log.error({ error }, 'an executor could not be opened'));
    return executor;
  }

  /** Never rejects. */
  async close(): Promise<void> {
    const closing = Array.from(this.#opened.keys(), async (executor) => {
      try {
        await executor.close();
      } catch (error) {
        this.#log.warn({ error }, 'an executor did not close cleanly');
      }
    });
    this.#opened.clear();
    const limit = new AbortController();
    await Promise.race([Promise.all(closing), pause(CLOSE_MS, limit.signal)]);
    limit.abort();
  }

  #open(executor: Executor): Promise<void> {
    let opened = this.#opened.get(executor);
    if (opened === undefined) this.#opened.set(executor, (opened = Promise.resolve(executor.open?.())));
    return opened;
  }
}
