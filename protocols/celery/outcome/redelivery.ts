import { WireError } from '../../errors.ts';
import type { Disposition, Transition } from '../../job.ts';
import { partOf, readEnded } from '../canvas/chord.ts';
import { callbacks } from './links.ts';
import type { TaskMessage } from '../message/message.ts';
import type { CeleryPolicy, RunMoment } from './policy.ts';
import { decodeMeta } from './result.ts';
import type { ContentLimits } from '../message/serializers.ts';
import { type CeleryWrites, NO_WRITES } from './writes.ts';

/** What is stored of a task that succeeded. */
export interface StoredSuccess {
  /** Exact. */
  readonly result: unknown;
  /** What it published as its own: links, the next step of its chain. */
  readonly hasChildren: boolean;
}

/** Undefined when the stored meta tells of another state. Throws WireError for bytes that are no meta. */
export function readSuccess(
  id: string,
  bytes: Uint8Array,
  serializer: string,
  limits: ContentLimits,
): StoredSuccess | undefined {
  const ended = readEnded(id, bytes, serializer, limits);
  if (ended?.state !== 'SUCCESS') return undefined;
  return { result: ended.result, hasChildren: decodeMeta(bytes, serializer, limits).children.length > 0 };
}

const SUCCEEDED: Disposition = { state: 'succeeded' };

/**
 * A late-acked task that comes again after it succeeded, with what is stored of that; undefined where all that follows from it was
 * written. What it publishes comes before its result, and is known by its children; its chord is told after, so perhaps not yet: the
 * counter takes the same member twice for one. The original tells no chord here, which then waits for ever.
 * Source: celery/app/trace.py build_tracer, deduplicate_successful_tasks (5.6).
 */
export function succeededBefore(
  message: TaskMessage,
  stored: StoredSuccess | undefined,
  policy: CeleryPolicy,
  moment: RunMoment,
): Transition<CeleryWrites> {
  const nothing = { ...NO_WRITES, ack: 'ack' } as const;
  if (stored === undefined || !message.linked) return { disposition: SUCCEEDED, write: nothing };
  try {
    const { chords, publish } = stored.hasChildren ? NO_WRITES : callbacks(message, stored.result, policy, moment);
    const chordParts = partOf(message, 'SUCCESS', stored.result, policy);
    return { disposition: SUCCEEDED, write: { ...nothing, chords, publish, chordParts } };
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    // Its SUCCESS is stored and stays; a message that comes back for ever would help nobody.
    return { disposition: SUCCEEDED, write: { ...nothing, problems: [error] } };
  }
}
