import type { Ordered } from '../../../protocols/rq/enqueue.ts';
import type { Duration, JobOptions } from '../../../protocols/rq/options.ts';
import type { SerializerName } from '../../../protocols/rq/serializers.ts';
import type { AnyCall, Envelope } from '../../client.ts';

/** RQ's own options of `enqueue`, in camelCase, with their units (seconds); and where and when. */
export interface EnqueueOptions extends JobOptions {
  /** @default the client's, 'default' */
  readonly queue?: string;
  /** Into the queue after so long: seconds, or `'10m'`. A worker with a scheduler does it. */
  readonly in?: Duration;
  /** Into the queue at this time. */
  readonly at?: Date;
  /** @default the client's, 'pickle' */
  readonly serializer?: SerializerName;
}

/** A call that is checked and not yet encoded. */
export interface Outgoing extends Ordered {
  readonly task: string;
  readonly call: AnyCall<EnqueueOptions>;
  /** Not before then. */
  readonly due: Date | undefined;
}

/** A call as client middleware sees it. `headers` are its `meta`; `options` are those of the call that no other member names. */
export function envelopeOf({ job: { id }, task, call, due }: Outgoing): Envelope {
  const { args = [], kwargs = {}, queue, meta, in: _in, at: _at, jobId: _jobId, ...options } = call;
  return {
    system: 'rq',
    id,
    task,
    args,
    kwargs: kwargs as Readonly<Record<string, unknown>>,
    queue,
    at: due,
    headers: meta instanceof Map ? Object.fromEntries(named(meta)) : { ...meta },
    options: { ...options },
  };
}

/** The call that an envelope holds after the last middleware; `original` is the call that it was made of. */
export function callOf(envelope: Envelope, { meta, jobId }: AnyCall<EnqueueOptions>): AnyCall<EnqueueOptions> {
  const { args, kwargs, queue, at, headers, options } = envelope;
  // Python's dicts may have other keys than texts; headers cannot.
  const others = meta instanceof Map ? [...meta].filter(([key]) => typeof key !== 'string') : [];
  return {
    ...options,
    args,
    kwargs,
    ...(queue === undefined ? {} : { queue }),
    ...(at === undefined ? {} : { at }),
    ...(jobId === undefined ? {} : { jobId }),
    meta: others.length === 0 ? headers : new Map([...others, ...Object.entries(headers)]),
  };
}

function named(meta: ReadonlyMap<unknown, unknown>): readonly [string, unknown][] {
  return [...meta].filter((pair): pair is [string, unknown] => typeof pair[0] === 'string');
}
