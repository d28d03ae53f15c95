import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { decodeEnvelope } from '../../../../protocols/celery/brokers/envelope.ts';
import { decodeTask, type TaskMessage, type WireMessage } from '../../../../protocols/celery/message/message.ts';
import { acceptSet, type DecodeOptions, encodeJson } from '../../../../protocols/celery/message/serializers.ts';
import { exceptionOf } from '../../../../protocols/celery/outcome/exceptions.ts';
import { EXCEPTION_STATES, READY_STATES, type TaskMeta } from '../../../../protocols/celery/outcome/result.ts';
import { parseIso } from '../../../../protocols/formats/values.ts';
import type { InspectedError, InspectedJob, JobFilter } from '../../../inspector.ts';
import type { TaskInfo } from '../control/control-client.ts';
import type { ResolvedApp } from '../options.ts';
import type { Found } from './view.ts';

/** Everything that this package reads is data; nothing in a message is run when it is shown. */
const READABLE = acceptSet(['json', 'msgpack', 'yaml', 'pickle']);

/** States of messages, in Celery's words where it has one. */
const STATES: Readonly<Record<string, string>> = {
  queued: 'PENDING',
  parked: 'PENDING',
  unacked: 'RECEIVED',
  reserved: 'RECEIVED',
  scheduled: 'RECEIVED',
  active: 'STARTED',
  quarantine: 'QUARANTINED',
};

const EMPTY: Omit<InspectedJob, 'id' | 'set' | 'state' | 'raw'> = {
  task: undefined,
  queue: undefined,
  args: undefined,
  kwargs: undefined,
  enqueuedAt: undefined,
  dueAt: undefined,
  startedAt: undefined,
  endedAt: undefined,
  attempts: undefined,
  error: undefined,
  result: undefined,
  worker: undefined,
  explanation: undefined,
  links: {},
};

/** A message as a job. One that cannot be read has the digest of its bytes as its id. */
export function jobOf(found: Found, { limits }: Pick<ResolvedApp, 'limits'>): InspectedJob {
  const { set, queue, bytes, dueAt, error } = found;
  const state = STATES[set] ?? set;
  const wire = wireOf(bytes);
  const base = { ...EMPTY, set, state, queue, dueAt, error, raw: bytes };
  if (wire === undefined) return { ...base, id: digest(bytes) };
  const { task: named, id, root_id: root, parent_id: parent, group } = wire.headers;
  const enqueuedAt = timeOf(wire.properties['timestamp'] ?? wire.headers['timestamp']);
  const message = messageOf(wire, { accept: READABLE, limits }, queue);
  if (message === undefined)
    return {
      ...base,
      id: typeof id === 'string' && id !== '' ? id : digest(bytes),
      task: typeof named === 'string' ? named : undefined,
      enqueuedAt,
      links: linksOf(root, parent, group),
    };
  const { args, kwargs } = argumentsOf(message);
  return {
    ...base,
    id: message.id,
    task: message.task,
    queue: queue ?? (message.exchange === '' ? message.routingKey : undefined),
    args,
    kwargs,
    enqueuedAt,
    dueAt: dueAt ?? message.eta,
    attempts: message.retries,
    links: linksOf(message.rootId, message.parentId, message.group),
  };
}

/** A task that a worker tells of. */
export function toldJob(set: string, worker: string, info: Partial<TaskInfo>, dueAt: Date | undefined): InspectedJob {
  const { id, name, args, kwargs, time_start: start, delivery_info: delivery } = info;
  const key = (delivery as { readonly routing_key?: unknown } | undefined)?.routing_key;
  return {
    ...EMPTY,
    id: String(id),
    set,
    state: STATES[set] ?? set,
    task: typeof name === 'string' ? name : undefined,
    queue: typeof key === 'string' && key !== '' ? key : undefined,
    // Older workers send texts of Python in place of values.
    args: Array.isArray(args) ? (args as readonly unknown[]) : undefined,
    kwargs: isRecord(kwargs) ? kwargs : undefined,
    dueAt,
    startedAt: typeof start === 'number' && start > 0 ? new Date(start * 1000) : undefined,
    worker,
    raw: Buffer.from(encodeJson(info)),
  };
}

/** What a result says beside, or in place of, what is known of a job. */
export function withMeta(job: InspectedJob | undefined, id: string, meta: TaskMeta, stored: Uint8Array): InspectedJob {
  const { status, name, args, kwargs, queue, worker, retries, dateDone, parentId, groupId, children } = meta;
  const ended = READY_STATES.has(status);
  const links = {
    ...linksOf(undefined, parentId, groupId),
    ...job?.links,
    ...(children.length === 0 ? {} : { children: children.map(([[child]]) => child) }),
  };
  const base: InspectedJob = job ?? { ...EMPTY, id, set: 'results', state: status, raw: stored };
  return {
    ...base,
    // While a worker has the task, it knows better than what was stored before.
    state: ended || base.state === 'PENDING' || base.state === 'RECEIVED' ? status : base.state,
    task: base.task ?? name,
    queue: base.queue ?? queue,
    args: base.args ?? (Array.isArray(args) ? (args as readonly unknown[]) : undefined),
    kwargs: base.kwargs ?? (isRecord(kwargs) ? kwargs : undefined),
    endedAt: ended ? dateDone : undefined,
    attempts: base.attempts ?? retries,
    error: base.error ?? errorOf(meta),
    result: status === 'SUCCESS' ? meta.result : undefined,
    worker: base.worker ?? worker,
    links,
  };
}

/** What must be true of a job, beside its set. */
export function matches(job: InspectedJob, { task, id, text }: JobFilter): boolean {
  return (
    (task === undefined || job.task === task) &&
    (id === undefined || job.id === id) &&
    (text === undefined || holds(job, text))
  );
}

function holds(job: InspectedJob, text: string): boolean {
  if (Buffer.from(job.raw.buffer, job.raw.byteOffset, job.raw.byteLength).includes(text)) return true;
  // The body is base64 in its envelope.
  const body = wireOf(job.raw)?.body;
  if (body !== undefined && Buffer.from(body.buffer, body.byteOffset, body.byteLength).includes(text)) return true;
  return job.args !== undefined && encodeJson([job.args, job.kwargs ?? {}]).includes(text);
}

/** The id of an entry that has none of its own. */
export function digest(bytes: Uint8Array): string {
  return `sha1:${createHash('sha1').update(bytes).digest('hex')}`;
}

/** When a message was sent, where it says so. */
export function sentAt(bytes: Uint8Array): Date | undefined {
  const wire = wireOf(bytes);
  return wire === undefined ? undefined : timeOf(wire.properties['timestamp'] ?? wire.headers['timestamp']);
}

function wireOf(bytes: Uint8Array): WireMessage | undefined {
  try {
    return decodeEnvelope(bytes);
  } catch {
    return undefined;
  }
}

function messageOf(wire: WireMessage, options: DecodeOptions, queue: string | undefined): TaskMessage | undefined {
  try {
    return decodeTask(wire, options, queue);
  } catch {
    return undefined;
  }
}

function argumentsOf(message: TaskMessage): Pick<InspectedJob, 'args' | 'kwargs'> {
  try {
    const { args, kwargs } = message.exactArguments();
    return { args, kwargs: Object.fromEntries(kwargs) };
  } catch {
    return { args: undefined, kwargs: undefined };
  }
}

function errorOf({ status, result, traceback, dateDone }: TaskMeta): InspectedError | undefined {
  if (!EXCEPTION_STATES.has(status)) return undefined;
  const exception = exceptionOf(result);
  if (exception === undefined && status === 'REVOKED') return undefined;
  const type = exception?.type ?? status;
  const message = exception?.args.map(String).join(', ') ?? '';
  return { type, message, traceback, at: dateDone };
}

function linksOf(root: unknown, parent: unknown, group: unknown): InspectedJob['links'] {
  const said = (value: unknown): value is string => typeof value === 'string' && value !== '';
  return {
    ...(said(root) ? { root } : {}),
    ...(said(parent) ? { parent } : {}),
    ...(said(group) ? { group } : {}),
  };
}

/** Seconds since 1970, or ISO 8601. */
function timeOf(value: unknown): Date | undefined {
  const ms = typeof value === 'number' ? value * 1000 : typeof value === 'string' ? parseIso(value) : Number.NaN;
  return Number.isNaN(ms) ? undefined : new Date(ms);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
