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
  /** How long. @default 3 hours */
  readonly ttlMs?: number;
}

/** A task that succeeded before: here, or by what is stored of it. */
export interface Success {
  readonly stored: StoredSuccess | undefined;
  /** What it returned; undefined where it succeeded here. */
  readonly value: unknown;
}

const HERE: Success = { stored: undefined, value: undefined };

/**
 * Which tasks have succeeded: those of this worker by a bounded memory, others by the result backend. Whoever asks must not run them
 * again. Source: celery/app/trace.py deduplicate_successful_tasks, celery/worker/state.py successful_requests (5.6).
 */
export class Successes {
  readonly #options: SuccessesOptions;
  readonly #max: number;
  readonly #ttlMs: number;
  /** By id, until when. */
  readonly #here = new RenewingMap<string, number>();

  constructor(options: SuccessesOptions) {
    this.#options = options;
    this.#max = options.max ?? 1_000;
    this.#ttlMs = options.ttlMs ?? 10_800_000;
  }

  /** All that follows from its success is written. */
  add(id: string): void {
    this.#here.delete(id);
    this.#here.set(id, Date.now() + this.#ttlMs);
    // In the order they came: the first one is the oldest.
    for (const oldest of this.#here.keys()) {
      if (this.#here.size <= this.#max) break;
      this.#here.delete(oldest);
    }
  }

  /** Undefined when it has to run: it has not succeeded, or nobody can tell. Rejects while the backend is away. */
  async find({ id, task }: Pick<TaskMessage, 'id' | 'task'>): Promise<Success | undefined> {
    const found = (this.#here.get(id) ?? 0) > Date.now() ? HERE : await this.#ask(id, task);
    if (found !== undefined) this.#options.log().info({ task, id }, 'it succeeded before, and does not run again');
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
      log().warn({ task, id, error }, 'what is stored of this task cannot be read; it came again, and runs again');
      return undefined;
    }
  }
}
