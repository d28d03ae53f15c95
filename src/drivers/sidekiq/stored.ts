import { createHash } from 'node:crypto';
import { member, parseExact } from '../../../protocols/formats/json.ts';
import { readWrapped, wrappedClass } from '../../../protocols/sidekiq/active-job.ts';
import { hashOf, shownClass } from '../../../protocols/sidekiq/api.ts';
import { readBacktrace } from '../../../protocols/sidekiq/backtrace.ts';
import { explain } from '../../../protocols/sidekiq/explain.ts';
import { type JobHash, jidOf } from '../../../protocols/sidekiq/message.ts';
import type { Quarantined } from '../../../protocols/sidekiq/search.ts';
import { readTimestamp } from '../../../protocols/sidekiq/times.ts';
import type { InspectedError, InspectedJob, JobFilter } from '../../inspector.ts';

/** The sets of an inspector of Sidekiq. */
export type SetName = 'queued' | 'schedule' | 'working' | 'claimed' | 'retry' | 'dead' | 'quarantine';

/** A stored job, and its place in Redis. */
export interface Stored {
  readonly set: SetName;
  readonly id: string;
  readonly bytes: Uint8Array;
  /** Undefined for bytes that are not a job hash. */
  readonly hash: JobHash | undefined;
  /** The queue whose list holds the job, or from which it was fetched. */
  readonly queue?: string;
  /** In a sorted set: the score, as Redis prints it. */
  readonly score?: string;
  /** The identity of the process that has the job. */
  readonly worker?: string;
  readonly startedAtMs?: number;
  /** For a job in quarantine: `bytes` may hold only the beginning of it. */
  readonly whole?: Quarantined;
}

const DIGEST = 'sha1:';

/** The id under which an entry without a jid is found. */
export function digestId(bytes: Uint8Array): string {
  return DIGEST + createHash('sha1').update(bytes).digest('hex');
}

/** The SHA-1 in such an id. */
export function digestOf(id: string): string | undefined {
  return /^sha1:[0-9a-f]{40}$/.test(id) ? id.slice(DIGEST.length) : undefined;
}

/** A stored job, decoded as far as possible. */
export function stored(
  set: SetName,
  bytes: Uint8Array,
  more: Omit<Stored, 'set' | 'id' | 'bytes' | 'hash'> = {},
): Stored {
  const hash = jobHash(bytes);
  const jid = hash === undefined ? '' : jidOf(hash);
  return { ...more, set, id: jid === '' ? digestId(bytes) : jid, bytes, hash };
}

/** A job in quarantine. A large job is not read whole; its jid is read from its first and last bytes. */
export function storedAside(queue: string, whole: Quarantined): Stored {
  if (whole.end.length === 0) return stored('quarantine', whole.start, { queue, whole });
  const jid = /"jid":"([^"\\]{1,200})"/.exec(Buffer.concat([whole.start, whole.end]).toString('latin1'))?.[1];
  return { set: 'quarantine', id: jid ?? DIGEST + whole.sha1, bytes: whole.start, hash: undefined, queue, whole };
}

/** Sidekiq's pages accept any JSON object. This requires a class. */
function jobHash(bytes: Uint8Array): JobHash | undefined {
  const hash = hashOf(bytes);
  return typeof hash?.['class'] === 'string' ? hash : undefined;
}

export function matches({ id, hash, bytes }: Stored, filter: JobFilter): boolean {
  const { task, id: wanted, text } = filter;
  if (wanted !== undefined && id !== wanted) return false;
  if (task !== undefined && (hash === undefined || (shownClass(hash) !== task && hash['class'] !== task))) return false;
  return text === undefined || bufferOf(bytes).includes(text);
}

/** A stored job in the terms that all systems share. With `explained`, the meaning of every member. */
export function inspected(one: Stored, explained?: Date): InspectedJob {
  const { set, id, hash, bytes, queue, score, worker, startedAtMs } = one;
  const { args, kwargs } = callOf(one);
  const at = score === undefined ? undefined : dateOf(Number(score) * 1000);
  const failures = hash?.['retry_count'];
  const error = hash === undefined ? undefined : errorOf(hash);
  return {
    id,
    set,
    task: hash === undefined ? undefined : shownClass(hash),
    queue: queue ?? (typeof hash?.['queue'] === 'string' ? hash['queue'] : undefined),
    state: set,
    args,
    kwargs,
    enqueuedAt: dateOf(readTimestamp(hash?.['enqueued_at']) ?? readTimestamp(hash?.['created_at'])),
    dueAt: set === 'schedule' || set === 'retry' ? at : undefined,
    startedAt: dateOf(startedAtMs),
    endedAt: set === 'dead' ? at : set === 'retry' ? error?.at : undefined,
    attempts: hash === undefined ? undefined : typeof failures === 'number' ? Math.max(0, Math.floor(failures) + 1) : 0,
    error,
    result: undefined,
    worker,
    raw: bytes,
    explanation: explained === undefined ? undefined : explain(bytes, explained),
    links: typeof hash?.['bid'] === 'string' ? { group: hash['bid'] } : {},
  };
}

/** The arguments, with their numbers as they are written. For Active Job, the arguments of the job in the wrapper. */
function callOf({ hash, bytes }: Stored): {
  readonly args: readonly unknown[] | undefined;
  readonly kwargs: Readonly<Record<string, unknown>> | undefined;
} {
  if (hash === undefined || !Array.isArray(hash['args'])) return { args: undefined, kwargs: undefined };
  try {
    if (wrappedClass(hash) !== undefined) {
      const { args, kwargs } = readWrapped(hash);
      return { args, kwargs };
    }
  } catch {
    // Arguments that Active Job cannot read are shown as they are stored.
  }
  const text = member(String(bufferOf(bytes)), ['args']);
  const exact = text === undefined ? hash['args'] : (parseExact(text) as readonly unknown[]);
  return { args: exact, kwargs: {} };
}

function errorOf(hash: JobHash): InspectedError | undefined {
  const { error_class: type, error_message: message, error_backtrace: backtrace } = hash;
  if (type === undefined || type === null) return undefined;
  return {
    type: textOf(type),
    message: textOf(message ?? ''),
    traceback: readBacktrace(backtrace)?.join('\n'),
    at: dateOf(readTimestamp(hash['retried_at']) ?? readTimestamp(hash['failed_at'])),
  };
}

function textOf(value: unknown): string {
  return typeof value === 'string'
    ? value
    : JSON.stringify(value, (_, one: unknown) => (typeof one === 'bigint' ? String(one) : one));
}

/** A score may be any number. */
function dateOf(ms: number | undefined): Date | undefined {
  if (ms === undefined) return undefined;
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? undefined : date;
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
