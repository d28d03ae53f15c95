import { argumentsShown } from '../../../../protocols/celery/control/event.ts';
import type { TaskMessage } from '../../../../protocols/celery/message/message.ts';
import { float } from '../../../../protocols/formats/values.ts';
import { RenewingSet } from '../../../renewing.ts';
import { isPickle } from '../../../../protocols/celery/message/serializers.ts';

/** One message that this worker holds. */
export interface DelayedRequest {
  readonly message: TaskMessage;
  readonly acknowledged: boolean;
  /** Unix seconds; undefined while it waits. */
  readonly startedAt: number | undefined;
  /** The signal that `terminate` named, for the event about it. */
  signum: number | null;
}

/** The messages that a worker holds, and counts of the tasks it has run. Source: celery/worker/state.py. */
export class Requests {
  readonly #held = new RenewingSet<DelayedRequest>();
  readonly #total = new Map<string, number>();
  #processed = 0;
  #active = 0;

  /** The number of handlers that were started. */
  get processed(): number {
    return this.#processed;
  }
  get activeCount(): number {
    return this.#active;
  }
  /** The number of handlers that were started, by task. */
  get total(): ReadonlyMap<string, number> {
    return this.#total;
  }
  get active(): readonly DelayedRequest[] {
    return [...this.#held].filter(({ startedAt }) => startedAt !== undefined);
  }
  get reserved(): readonly DelayedRequest[] {
    return [...this.#held].filter(({ startedAt }) => startedAt === undefined);
  }

  /** All held requests with one of these ids. */
  find(ids: ReadonlySet<unknown>): readonly DelayedRequest[] {
    return [...this.#held].filter(({ message }) => ids.has(message.id));
  }

  reserve(request: DelayedRequest): void {
    this.#held.add(request);
  }

  accept(request: DelayedRequest): void {
    const { task } = request.message;
    this.#total.set(task, (this.#total.get(task) ?? 0) + 1);
    this.#processed++;
    this.#active++;
  }

  done(request: DelayedRequest): void {
    if (this.#held.delete(request) && request.startedAt !== undefined) this.#active--;
  }
}

/** A request as Celery shows it (TASK_INFO). With `safe`, arguments are text. Source: celery/worker/request.py Request.info (5.6). */
export function taskInfo(
  message: TaskMessage,
  nodename: string,
  held: Pick<DelayedRequest, 'acknowledged' | 'startedAt'> = { acknowledged: false, startedAt: undefined },
  safe = false,
): Readonly<Record<string, unknown>> {
  // The serializer of the reply may have no form for values from a pickle.
  const asText = safe || isPickle(message.wire.contentType);
  const { args, kwargs } = asText ? argumentsShown(message) : message.exactArguments();
  const { id, task, exchange, routingKey, priority, redelivered } = message;
  return {
    id,
    name: task,
    args,
    kwargs,
    type: task,
    hostname: nodename,
    time_start: held.startedAt === undefined ? null : float(held.startedAt),
    acknowledged: held.acknowledged,
    delivery_info: { exchange, routing_key: routingKey, priority, redelivered },
    worker_pid: held.startedAt === undefined ? null : process.pid,
  };
}
