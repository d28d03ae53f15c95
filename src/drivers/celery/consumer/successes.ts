import type { TaskMessage } from '../../../../protocols/celery/message/message.ts';
import { readSuccess, type StoredSuccess } from '../../../../protocols/celery/outcome/redelivery.ts';
import { type ContentLimits, plain } from '../../../../protocols/celery/message/serializers.ts';
import { WireError } from '../../../../protocols/errors.ts';
import { RenewingMap } from '../../../renewing.ts';
import type { Logger } from '../../../log.ts';
import type { ResultBackend } from '../brokers/broker.ts';

export interface SuccessesOptions {
  readonly backend: ResultBackend;
  readonly serializer: string;
  readonly limits: ContentLimits;
  readonly log: () => Logger;
  /** Ids kept here. @default 1000 */
  readonly max?: number;
  /** How long an id is kept. @default 3 hours */
  readonly ttlMs?: number;
}

/** A task that succeeded before: in this worker, or by its stored result. */
export interface Success {
  readonly stored: StoredSuccess | undefined;
  /** Its return value; undefined if it succeeded in this worker. */
  readonly value: unknown;
}

const HERE: Success = { stored: undefined, value: undefined };

/**
 * The tasks that have succeeded. Those of this worker are in a bounded memory; for others the result backend is asked. A task that is found must
 * not run again. Source: celery/app/trace.py deduplicate_successful_tasks, celery/worker/state.py successful_requests (5.6).
 */
export class Successes {
  readonly #options: SuccessesOptions;
  readonly #max: number;
  readonly #ttlMs: number;
  /** By id: the expiry in milliseconds since the epoch. */
  readonly #here = new RenewingMap<string, number>();

  constructor(options: SuccessesOptions) {
    this.#options = options;
    this.#max = options.max ?? 1_000;
    this.#ttlMs = options.ttlMs ?? 10_800_000;
  }

  /** Called when all writes that follow from the success are done. */
  add(id: string): void {
    this.#here.delete(id);
    this.#here.set(id, Date.now() + this.#ttlMs);
    // The order is the order of insertion: the first one is the oldest.
    for (const oldest of this.#here.keys()) {
      if (this.#here.size <= this.#max) break;
      this.#here.delete(oldest);
    }
  }

  /** Undefined if the task must run: it has not succeeded, or that is not known. Rejects while the backend cannot be reached. */
  async find({ id, task }: Pick<TaskMessage, 'id' | 'task'>): Promise<Success | undefined> {
    const found = (this.#here.get(id) ?? 0) > Date.now() ? HERE : await this.#ask(id, task);
    if (found !== undefined)
      this.#options.log().info({ task, id }, 'the task succeeded before, and does not run again');
    return found;
  }

  async #ask(id: string, task: string): Promise<Success | undefined> {
    const { backend, serializer, limits, log } = this.#options;
    try {
      const bytes = await backend.fetch(id);
      const stored = bytes === undefined ? undefined : readSuccess(id, bytes, serializer, limits);
      return stored === undefined ? undefined : { stored, value: plain(stored.result, limits) };
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      log().warn({ task, id, error }, 'the stored result of this redelivered task cannot be read; the task runs again');
      return undefined;
    }
  }
}
