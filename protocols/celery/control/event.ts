import { WireError } from '../../errors.ts';
import { float, isoText } from '../../formats/values.ts';
import type { Failure, Outcome } from '../../job.ts';
import {
  type ExceptionNames,
  notRegistered,
  pythonException,
  reprException,
  timeLimitExceeded,
  tracebackText,
} from '../outcome/exceptions.ts';
import type { Publication, TaskMessage, WireMessage } from '../message/message.ts';
import { repr, reprArgs, reprKwargs } from '../message/repr.ts';
import { decodeContent, type DecodeOptions, encodeContent } from '../message/serializers.ts';

/**
 * Events: what workers and clients tell whoever watches.
 *
 *     exchange celeryev (topic; on Redis fanout), routing key = the type with '-' as '.', headers {"hostname"}, transient
 *     {"hostname", "utcoffset", "pid", "clock", …fields, "timestamp", "type"}       worker-*, task-sent: one object
 *     [event, …]                                                                    task-*: a list, routing key task.multi
 *
 * Source: celery/events/dispatcher.py, celery/events/event.py, celery/worker/request.py send_event (5.6).
 */
export interface CeleryEvent {
  readonly type: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Who says it, and when. */
export interface EventStamp {
  readonly hostname: string;
  /** Hours west of Greenwich, rounded down. */
  readonly utcoffset: number;
  readonly pid: number;
  /** Undefined for senders without a clock to speak of. */
  readonly clock: number | undefined;
  /** Unix seconds. */
  readonly timestamp: number;
}

/** An event as it was heard: its fields as they came. Ask with `Object.hasOwn` for names that are not your own. */
export type HeardEvent = Readonly<Record<string, unknown>> & { readonly type: string };

/** The exchange of events where nobody says otherwise (`event_exchange`). */
export const EVENT_EXCHANGE = 'celeryev';

/** Celery's `utcoffset`, from what `Date.getTimezoneOffset` says. */
export function utcoffset(timezoneOffsetMinutes: number): number {
  return Math.floor(timezoneOffsetMinutes / 60);
}

/** The group of a type: `task`, `worker`, or the first word of a custom one. */
export function groupOfEvent(type: string): string {
  return type.split('-', 1)[0] as string;
}

/** One event as data, its members in Celery's order. */
export function stampEvent({ type, fields }: CeleryEvent, stamp: EventStamp): Readonly<Record<string, unknown>> {
  const { hostname, utcoffset, pid, clock, timestamp } = stamp;
  return { hostname, utcoffset, pid, clock: clock ?? null, ...fields, timestamp: float(timestamp), type };
}

/** One event alone, under its own routing key. */
export function encodeEvent(event: CeleryEvent, stamp: EventStamp, format: EventFormat = {}): Publication {
  return publication(stampEvent(event, stamp), event.type.replaceAll('-', '.'), stamp.hostname, format);
}

/** Stamped events of one group, in the order they happened. */
export function encodeBatch(
  events: readonly Readonly<Record<string, unknown>>[],
  group: string,
  hostname: string,
  format: EventFormat = {},
): Publication {
  return publication(events, `${group}.multi`, hostname, format);
}

/** Where events go, and as what. */
export interface EventFormat {
  /** @default 'celeryev' */
  readonly exchange?: string;
  /** @default 'json' */
  readonly serializer?: string;
}

/**
 * The events of a message, one or a batch; what is no event in a batch is left out, and counted. Throws WireError `wrong-shape`
 * for a message that has none, and whatever `decodeContent` throws.
 */
export function decodeEvents(
  wire: WireMessage,
  options: DecodeOptions,
): { readonly events: readonly HeardEvent[]; readonly dropped: number } {
  const { body, contentType, contentEncoding, headers } = wire;
  const compression = typeof headers['compression'] === 'string' ? headers['compression'] : undefined;
  const content = decodeContent({ body, contentType, contentEncoding, compression }, options);
  const all: readonly unknown[] = Array.isArray(content) ? content : [content];
  const events = all.filter(isEvent);
  if (events.length === 0 && all.length > 0)
    throw new WireError('celery', 'wrong-shape', 'an event message holds no event: none has a type');
  return { events, dropped: all.length - events.length };
}

function isEvent(value: unknown): value is HeardEvent {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    Object.hasOwn(value, 'type') &&
    typeof (value as { readonly type: unknown }).type === 'string'
  );
}

/** What `worker-online`, `worker-heartbeat` and `worker-offline` say. Source: celery/worker/heartbeat.py. */
export interface WorkerFacts {
  /** Seconds between two heartbeats. */
  readonly freq: number;
  readonly active: number;
  readonly processed: number;
  /** Of one, five and fifteen minutes. */
  readonly loadavg: readonly number[];
  readonly software: SoftwareInfo;
}

/** What a worker says it is: name, version, system. */
export interface SoftwareInfo {
  readonly sw_ident: string;
  readonly sw_ver: string;
  readonly sw_sys: string;
}

/** `worker-online`, `worker-heartbeat` or `worker-offline`. The load is rounded to two digits, as Celery's is. */
export function workerEvent(
  type: 'worker-online' | 'worker-heartbeat' | 'worker-offline',
  facts: WorkerFacts,
): CeleryEvent {
  const { freq, active, processed, loadavg, software } = facts;
  const rounded = loadavg.map((load) => float(Math.round(load * 100) / 100));
  return { type, fields: { freq: float(freq), active, processed, loadavg: rounded, ...softwareOf(software) } };
}

/** The heartbeat that a `heartbeat` command asks for: it has neither counts nor load. Source: celery/worker/control.py heartbeat. */
export function askedHeartbeat(software: SoftwareInfo): CeleryEvent {
  return { type: 'worker-heartbeat', fields: { freq: 5, ...softwareOf(software) } };
}

function softwareOf({ sw_ident, sw_ver, sw_sys }: SoftwareInfo): SoftwareInfo {
  return { sw_ident, sw_ver, sw_sys };
}

/**
 * Said by who publishes, where `task_send_sent_event` asks for it; undefined for what is no task of protocol 2.
 * Source: celery/app/amqp.py as_task_v2, send_task_message.
 */
export function taskSent({ headers, exchange, routingKey }: Publication): CeleryEvent | undefined {
  const { task: name, id } = { task: headers.get('task'), id: headers.get('id') };
  if (typeof name !== 'string' || typeof id !== 'string') return undefined;
  const own = (field: string): unknown => headers.get(field) ?? null;
  return {
    type: 'task-sent',
    fields: {
      uuid: id,
      root_id: own('root_id'),
      parent_id: own('parent_id'),
      name,
      args: own('argsrepr'),
      kwargs: own('kwargsrepr'),
      retries: own('retries'),
      eta: own('eta'),
      expires: own('expires'),
      queue: exchange === '' ? routingKey : null,
      exchange,
      routing_key: routingKey,
    },
  };
}

/** Source: celery/worker/strategy.py default. */
export function taskReceived(message: TaskMessage, eta: Date | undefined = message.eta): CeleryEvent {
  return {
    type: 'task-received',
    fields: {
      uuid: message.id,
      name: message.task,
      ...argumentsShown(message),
      root_id: message.rootId,
      parent_id: message.parentId ?? null,
      retries: message.retries,
      eta: eta === undefined ? null : isoText(eta),
      expires: message.expires === undefined ? null : isoText(message.expires),
    },
  };
}

/** `task-started`: its handler runs. */
export function taskStarted(uuid: string): CeleryEvent {
  return { type: 'task-started', fields: { uuid } };
}

/** `task-revoked`: it is not run, or no longer. `signum` is that of the signal a `terminate` named, else null. */
export function taskRevoked(
  uuid: string,
  how: { readonly terminated: boolean; readonly signum: number | null; readonly expired: boolean },
): CeleryEvent {
  const { terminated, signum, expired } = how;
  return { type: 'task-revoked', fields: { uuid, terminated, signum, expired } };
}

/** What was not acknowledged is given back, or to the queue's dead letters. Source: celery/worker/request.py reject. */
export function taskRejected(uuid: string, requeue: boolean): CeleryEvent {
  return { type: 'task-rejected', fields: { uuid, requeue } };
}

/** A run that its worker broke off as it stopped; the message comes again. Source: celery/worker/request.py _announce_cancelled. */
export function taskCancelled(uuid: string): CeleryEvent {
  return { type: 'task-cancelled', fields: { uuid } };
}

/** A task that nobody here runs. Source: celery/worker/consumer/consumer.py on_unknown_task. */
export function taskUnknown(uuid: string, task: string): CeleryEvent {
  return { type: 'task-failed', fields: { uuid, exception: reprException(notRegistered(task)) } };
}

/** How a task ended; undefined for ends that Celery does not tell of. */
export function taskEnded(
  uuid: string,
  outcome: Outcome,
  ended: {
    /** What the system holds now; an outcome may have become another, as a value that cannot be written. */
    readonly state:
      'succeeded' | 'failed' | 'discarded' | 'cancelled' | 'requeued' | 'replaced' | 'retrying' | 'postponed';
    /** Seconds the handler ran. */
    readonly runtime: number;
    /** Of a `terminate`. */
    readonly signum: number | null;
    readonly exceptions?: ExceptionNames | undefined;
  },
): CeleryEvent | undefined {
  switch (ended.state) {
    case 'succeeded': {
      const result = outcome.kind === 'success' ? repr(outcome.value) : 'None';
      return { type: 'task-succeeded', fields: { uuid, result, runtime: float(ended.runtime) } };
    }
    case 'failed':
      return { type: 'task-failed', fields: { uuid, ...failureOf(outcome, ended.exceptions) } };
    case 'retrying':
      return { type: 'task-retried', fields: { uuid, ...failureOf(outcome, ended.exceptions) } };
    case 'cancelled': {
      const expired = outcome.kind === 'expired';
      const terminated = outcome.kind === 'cancelled' && outcome.reason !== 'revoked';
      return taskRevoked(uuid, { terminated, signum: terminated ? ended.signum : null, expired });
    }
    case 'postponed':
    case 'requeued':
    case 'replaced':
    case 'discarded':
      return outcome.kind === 'reject' ? taskRejected(uuid, outcome.requeue) : undefined;
  }
}

function failureOf(
  outcome: Outcome,
  exceptions: ExceptionNames | undefined,
): { readonly exception: string; readonly traceback: string | null } {
  switch (outcome.kind) {
    case 'error':
    case 'fail':
      return told(outcome.error, exceptions);
    case 'retry':
      return outcome.error === undefined ? { exception: 'None', traceback: null } : told(outcome.error, exceptions);
    case 'timeout':
      return { exception: reprException(timeLimitExceeded(outcome.limitMs / 1000)), traceback: null };
    case 'success':
      return { exception: "EncodeError('the result cannot be written')", traceback: null };
    case 'replace':
      return { exception: "ImproperlyConfigured('the task cannot be replaced')", traceback: null };
    case 'discard':
    case 'reject':
    case 'expired':
    case 'cancelled':
    case 'postpone':
    case 'unknown':
      return { exception: outcome.kind, traceback: null };
  }
}

function told(
  error: Failure,
  exceptions: ExceptionNames | undefined,
): { readonly exception: string; readonly traceback: string | null } {
  const exception = pythonException(error, exceptions);
  return { exception: reprException(exception), traceback: tracebackText(error, exception) };
}

/** What the sender wants shown of a task's arguments, else what Python would show of them. */
export function argumentsShown(message: TaskMessage): { readonly args: string; readonly kwargs: string } {
  return {
    args: header(message, 'argsrepr') ?? reprArgs(message.args),
    kwargs: header(message, 'kwargsrepr') ?? reprKwargs(message.kwargs),
  };
}

function header(message: TaskMessage, name: 'argsrepr' | 'kwargsrepr'): string | undefined {
  const value = message.protocol === 2 ? message.wire.headers[name] : undefined;
  return typeof value === 'string' ? value : undefined;
}

function publication(
  body: unknown,
  routingKey: string,
  hostname: string,
  { exchange = EVENT_EXCHANGE, serializer = 'json' }: EventFormat,
): Publication {
  return {
    exchange,
    routingKey,
    ...encodeContent(serializer, body),
    headers: new Map([['hostname', hostname]]),
    properties: new Map<string, unknown>([
      ['delivery_mode', 1],
      ['priority', 0],
    ]),
    priority: 0,
  };
}
