import { createHash } from 'node:crypto';
import { member, parseExact } from '../../../protocols/formats/json.ts';
import { readJob } from '../../../protocols/formats/active-job/index.ts';
import { toActiveJob, wrappedClass } from '../../../protocols/resque/active-job.ts';
import { explain } from '../../../protocols/resque/explain.ts';
import { decodeFailure, type StoredFailure } from '../../../protocols/resque/failure.ts';
import { className, decodeDelayed, decodePayload, type Payload } from '../../../protocols/resque/message.ts';
import { readWork } from '../../../protocols/resque/presence.ts';
import type { Entry, JobList, ListSet } from '../../../protocols/resque/search.ts';
import { readTime } from '../../../protocols/resque/times.ts';
import type { InspectedJob, JobFilter } from '../../inspector.ts';

/** The sets of an inspector of Resque. */
export type SetName = ListSet | 'working';

/** A stored job, and its place in Redis. */
export interface Stored {
  readonly set: SetName;
  readonly id: string;
  readonly entry: Entry;
  /** The list that holds it, and its position from the head when it was read; undefined for a running job. */
  readonly list: JobList | undefined;
  readonly place: number;
  /** Undefined for an entry that is not a payload. */
  readonly payload: Payload | undefined;
  /** The queue where it waits, to which it would go, or from which it was taken. */
  readonly queue: string | undefined;
  readonly failure?: StoredFailure | undefined;
  readonly worker?: string | undefined;
  readonly startedAt?: Date | undefined;
}

const DIGEST = 'sha1:';

/** The SHA-1 in an id that is a digest. */
export function digestOf(id: string): string | undefined {
  return /^sha1:[0-9a-f]{40}$/.test(id) ? id.slice(DIGEST.length) : undefined;
}

/** An entry of a list, decoded as far as possible. Never throws. */
export function storedEntry(set: ListSet, list: JobList, place: number, entry: Entry): Stored {
  const { payload, queue, failure } = contentOf(set, list, entry);
  const id = (payload === undefined ? undefined : ownId(payload)) ?? DIGEST + entry.sha1;
  return { set, id, entry, list, place, payload, queue, failure, worker: failure?.worker };
}

/** The current job of a worker, from `worker:<id>`. A job without an id is named by the digest of its payload, the same as in its queue. */
export function storedWork(worker: string, text: string): Stored {
  const work = readWork(text);
  const bytes = Buffer.from(text);
  const sha1 = createHash('sha1')
    .update(work?.payload ?? text)
    .digest('hex');
  const payload = work === undefined ? undefined : payloadOf(Buffer.from(work.payload));
  return {
    set: 'working',
    id: (payload === undefined ? undefined : ownId(payload)) ?? DIGEST + sha1,
    entry: { size: bytes.length, sha1, bytes },
    list: undefined,
    place: 0,
    payload,
    queue: work?.queue,
    worker,
    startedAt: work === undefined ? undefined : readTime(work.runAt),
  };
}

type Content = Pick<Stored, 'payload' | 'queue' | 'failure'>;

function contentOf(set: ListSet, { name }: JobList, { bytes, size }: Entry): Content {
  const whole = bytes.length === size;
  switch (set) {
    case 'queued':
      return { payload: whole ? payloadOf(bytes) : undefined, queue: name };
    case 'quarantine': {
      // A queue of this name shares the list with delayed items that could not be moved.
      const item = name === 'delayed' ? delayedOf(bytes) : undefined;
      return item ?? { payload: whole ? payloadOf(bytes) : undefined, queue: name };
    }
    case 'delayed':
      return delayedOf(bytes) ?? { payload: undefined, queue: undefined };
    case 'failed':
      return failureOf(bytes);
  }
}

function payloadOf(bytes: Uint8Array): Payload | undefined {
  try {
    return decodePayload(bytes);
  } catch {
    return undefined;
  }
}

function delayedOf(bytes: Uint8Array): Content | undefined {
  try {
    return decodeDelayed(bytes);
  } catch {
    return undefined;
  }
}

function failureOf(bytes: Buffer): Content {
  try {
    const failure = decodeFailure(bytes);
    const text = member(failure.text, ['payload']);
    return {
      failure,
      payload: text === undefined ? undefined : payloadOf(Buffer.from(text)),
      queue: failure.queue === '' ? undefined : failure.queue,
    };
  } catch {
    return { payload: undefined, queue: undefined };
  }
}

/** The payload's own id, or the job id of Active Job. Handlers have it as `job.id`. */
function ownId(payload: Payload): string | undefined {
  if (payload.id !== undefined || wrappedClass(payload) === undefined) return payload.id;
  try {
    return readJob(payload.args[0]).jobId;
  } catch {
    return undefined;
  }
}

/** Whether a job belongs to this queue and passes the filter. */
export function matches({ id, queue, payload, entry }: Stored, wanted: string | undefined, filter: JobFilter): boolean {
  if (wanted !== undefined && queue !== wanted) return false;
  if (filter.id !== undefined && filter.id !== id) return false;
  if (filter.task !== undefined) {
    if (payload === undefined) return false;
    const names = [payload.class, className(payload.class), wrappedClass(payload)];
    if (!names.includes(filter.task)) return false;
  }
  return filter.text === undefined || entry.bytes.includes(filter.text);
}

/** A stored job in the terms that all systems share. `explained`: with the meaning of every member. */
export function inspected(one: Stored, explained = false): InspectedJob {
  const { set, id, entry, list, payload, queue, failure, worker, startedAt } = one;
  const job = payload === undefined ? undefined : activeJobOf(payload);
  return {
    id,
    set,
    task: payload === undefined ? undefined : (wrappedClass(payload) ?? payload.class),
    queue,
    state: failure?.retriedAt === undefined ? set : 'retried',
    ...callOf(payload),
    enqueuedAt: job?.enqueuedAt === undefined ? undefined : dateOf(Date.parse(job.enqueuedAt)),
    dueAt: set === 'delayed' ? dateOf(Number(list?.name) * 1000) : undefined,
    startedAt,
    endedAt: failure === undefined ? undefined : readTime(failure.failedAt),
    attempts: job?.executions,
    error:
      failure === undefined
        ? undefined
        : {
            type: failure.exception,
            message: failure.error,
            traceback: failure.backtrace.length === 0 ? undefined : failure.backtrace.join('\n'),
            at: readTime(failure.failedAt),
          },
    result: undefined,
    worker: worker === '' ? undefined : worker,
    raw: entry.bytes,
    explanation: explained ? explain(entry.bytes) : undefined,
    links: {},
  };
}

/** The arguments, with their numbers as they are written. For Active Job, the arguments of the job in the wrapper. */
function callOf(payload: Payload | undefined): Pick<InspectedJob, 'args' | 'kwargs'> {
  if (payload === undefined) return { args: undefined, kwargs: undefined };
  if (wrappedClass(payload) !== undefined) {
    try {
      const { args, kwargs } = toActiveJob(payload, '', '');
      return { args, kwargs };
    } catch {
      // Arguments that Active Job cannot read are shown as they are stored.
    }
  }
  const text = member(payload.text, ['args']);
  return { args: text === undefined ? payload.args : (parseExact(text) as readonly unknown[]), kwargs: {} };
}

function activeJobOf(payload: Payload): ReturnType<typeof readJob> | undefined {
  if (wrappedClass(payload) === undefined) return undefined;
  try {
    return readJob(payload.args[0]);
  } catch {
    return undefined;
  }
}

/** When a job of Active Job was enqueued. A payload of Resque itself does not hold this time. */
export function enqueuedAtOf({ payload }: Stored): Date | undefined {
  const text = payload === undefined ? undefined : activeJobOf(payload)?.enqueuedAt;
  return text === undefined ? undefined : dateOf(Date.parse(text));
}

function dateOf(ms: number): Date | undefined {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? undefined : date;
}
