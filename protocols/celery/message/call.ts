import { DateTime, isoText, parseIso } from '../../formats/values.ts';
import type { ExactMap, TaskCall } from './message.ts';
import { mapOf, maybeList, numberOf, textOf } from '../canvas/signature.ts';

/**
 * Where a task goes. The options may hold `queue`, `exchange`, `routing_key`, and then win over any route; a priority of the route
 * counts where the options have none. Arguments are exact, and missing where nobody knows them yet.
 */
export type Route = (
  task: string,
  options: ExactMap,
  args?: readonly unknown[],
  kwargs?: ExactMap,
) => Pick<TaskCall, 'exchange' | 'routingKey' | 'queueKey' | 'priority'>;

/**
 * How the chords of a cluster are completed: its result backend counts their members (Redis); `celery.chord_unlock` asks for
 * their results; there are no results to ask for, so that starting one is an error.
 */
export type Chords = 'counted' | 'polled' | 'refused';

/** Who publishes, and when. */
export interface Publisher {
  readonly now: Date;
  readonly newId: () => string;
  /** `gen<pid>@<host>`. */
  readonly origin: string;
  readonly route: Route;
  /** Where rpc replies go. @default '' */
  readonly replyTo?: string;
  /** The running task's root and id, when a task publishes. */
  readonly rootId?: string | null;
  readonly parentId?: string | null;
  /** @default 'json' */
  readonly serializer?: string;
  readonly compression?: string | null;
  /** How chords are completed here. @default 'polled' */
  readonly chords?: Chords;
  /** Options of tasks known here (`queue`, `priority`, `serializer` ...); those of the signature win. */
  readonly defaults?: (task: string) => ExactMap | undefined;
}

/**
 * The options of `apply_async` as fields of a message. Source: celery/app/base.py send_task, celery/app/amqp.py as_task_v2.
 */
export function toCall(
  task: string,
  routedAs: string,
  args: readonly unknown[],
  kwargs: ExactMap,
  given: ExactMap,
  publisher: Publisher,
): TaskCall {
  const defaults = publisher.defaults?.(task);
  const options = defaults === undefined ? given : new Map([...defaults, ...given]);
  const countdown = numberOf(options.get('countdown'));
  const expiry = expiryOf(options.get('expires'), publisher.now);
  const stampedHeaders = options.get('stamped_headers');
  const serializer = textOf(options.get('serializer')) ?? publisher.serializer;
  const { priority: routed, ...destination } = publisher.route(routedAs, options, args, kwargs);
  const priority = numberOf(options.get('priority')) ?? routed;
  const mode = numberOf(options.get('delivery_mode'));
  const headers = mapOf(options.get('headers'));
  const argsrepr = textOf(options.get('argsrepr'));
  const kwargsrepr = textOf(options.get('kwargsrepr'));
  return {
    task,
    id: textOf(options.get('task_id')) ?? publisher.newId(),
    args,
    kwargs,
    callbacks: maybeList(options.get('link')),
    errbacks: maybeList(options.get('link_error')),
    chain: maybeList(options.get('chain')),
    chord: options.get('chord') ?? null,
    retries: numberOf(options.get('retries')) ?? 0,
    eta: countdown ? isoText(new Date(publisher.now.getTime() + countdown * 1000)) : isoOf(options.get('eta')),
    expires: expiry.iso,
    group: textOf(options.get('group_id')) ?? null,
    groupIndex: numberOf(options.get('group_index')) ?? null,
    rootId: textOf(options.get('root_id')) ?? publisher.rootId ?? null,
    parentId: textOf(options.get('parent_id')) ?? publisher.parentId ?? null,
    timeLimit: numberOf(options.get('time_limit')) ?? null,
    softTimeLimit: numberOf(options.get('soft_time_limit')) ?? null,
    shadow: textOf(options.get('shadow')) ?? null,
    ignoreResult: options.get('ignore_result') === true,
    replacedTaskNesting: numberOf(options.get('replaced_task_nesting')) ?? 0,
    ...(Array.isArray(stampedHeaders)
      ? {
          stampedHeaders: stampedHeaders as readonly string[],
          stamps: Object.fromEntries(stampedHeaders.map((name: string) => [name, options.get(name) ?? null])),
        }
      : {}),
    ...(argsrepr === undefined ? {} : { argsrepr }),
    ...(kwargsrepr === undefined ? {} : { kwargsrepr }),
    origin: textOf(options.get('origin')) ?? publisher.origin,
    ...(headers === undefined ? {} : { headers }),
    replyTo: textOf(options.get('reply_to')) ?? publisher.replyTo ?? '',
    ...(priority === undefined ? {} : { priority }),
    ...(mode === 1 || mode === 2 ? { deliveryMode: mode } : {}),
    ...(expiry.expiration === undefined ? {} : { expiration: expiry.expiration }),
    ...(serializer === undefined ? {} : { serializer }),
    compression: textOf(options.get('compression')) ?? publisher.compression ?? null,
    ...destination,
  };
}

/** Seconds from now or a point in time; what RabbitMQ gets is milliseconds, not below 0. */
function expiryOf(value: unknown, now: Date): { readonly iso: string | null; readonly expiration: string | undefined } {
  const seconds = numberOf(value);
  if (seconds !== undefined) {
    return { iso: isoText(new Date(now.getTime() + seconds * 1000)), expiration: millisText(seconds * 1000) };
  }
  const iso = isoOf(value);
  const at = iso === null ? Number.NaN : parseIso(iso);
  return { iso, expiration: Number.isNaN(at) ? undefined : millisText(at - now.getTime()) };
}

function millisText(millis: number): string {
  return String(Math.max(0, Math.trunc(millis)));
}

function isoOf(value: unknown): string | null {
  if (typeof value === 'string') return value === '' ? null : value;
  if (value instanceof DateTime) return value.iso;
  if (value instanceof Date) return isoText(value);
  // kombu's typed JSON, left as it was by an exact reader.
  const text = mapOf(value)?.get('__value__');
  return typeof text === 'string' ? text : null;
}
