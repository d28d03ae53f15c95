import type { WireError } from '../../errors.ts';
import type { ChordStart } from '../canvas/apply.ts';
import type { Failure } from '../../job.ts';
import type { ExactMap, Publication, TaskMessage } from '../message/message.ts';
import type { ResultWrite } from './record.ts';

/** A finished member of a chord's header: the chord's counter is to be told. */
export interface ChordPart {
  readonly id: string;
  readonly group: string | undefined;
  readonly groupIndex: number | undefined;
  /** The chord's body. */
  readonly body: ExactMap;
  readonly state: 'SUCCESS' | 'FAILURE' | 'REVOKED';
  /** The value, or the map of `exceptionResult`. */
  readonly result: unknown;
  /** What the counter keeps of it: `[1, "<id>", "<state>", <result>]`, byte for byte as Python writes it. */
  readonly member: string | Uint8Array;
}

/** What an errback of the new style is told about the task that failed. */
export type FailedRequest = Pick<TaskMessage, 'id' | 'task' | 'rootId'> & Partial<TaskMessage>;

/** An errback of the new style, to be called in this process. */
export interface ErrbackCall {
  readonly task: string;
  /** Its own arguments, exact. They come after (request, error, traceback), or stand alone when it is immutable. */
  readonly args: readonly unknown[];
  readonly kwargs: ExactMap;
  readonly immutable: boolean;
  /** The task that failed: its message, or what is known of the body of a chord. */
  readonly request: FailedRequest;
  readonly failure: Failure;
}

/** What follows from an end, in the order it is carried out. Each step may be repeated with the same bytes. */
export interface Writes {
  /** Sizes of the chords whose headers are published next. */
  readonly chords: readonly ChordStart[];
  readonly publish: readonly Publication[];
  /** What is published is the task itself, once more or as its successor: where that cannot be sent, the task is not over. */
  readonly replacesTask?: true;
  readonly results: readonly ResultWrite[];
  readonly chordParts: readonly ChordPart[];
  /** Published once the failure is stored: an errback may look at it. */
  readonly errbacks: readonly Publication[];
  readonly errbackCalls: readonly ErrbackCall[];
  /** What had to be left out: an errback that cannot be read or written, a member without a group. For the log. */
  readonly problems: readonly WireError[];
}

/** What settling a task writes: all of `Writes` in their order, then the acknowledgement. */
export interface CeleryWrites extends Writes {
  /**
   * `done`: it was acknowledged at begin; acknowledge it if that did not happen. `reject`: without requeue. `requeue`: returned, which a broker may count.
   * `back`: to the back of its queue with the same bytes, which no broker may count as a delivery.
   */
  readonly ack: 'ack' | 'reject' | 'requeue' | 'back' | 'done';
}

export const NO_WRITES: Writes = {
  chords: [],
  publish: [],
  results: [],
  chordParts: [],
  errbacks: [],
  errbackCalls: [],
  problems: [],
};
