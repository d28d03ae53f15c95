import {
  bodyFailed,
  bodyOf,
  type ChordFailure,
  type Ended,
  join,
  leavesOf,
  memberPrefix,
  readEnded,
  readMember,
} from '../../../../protocols/celery/canvas/chord.ts';
import type { CeleryPolicy } from '../../../../protocols/celery/outcome/policy.ts';
import type { Publisher } from '../../../../protocols/celery/message/call.ts';
import type { Publication } from '../../../../protocols/celery/message/message.ts';
import { decodeGroupMeta, type ResultTuple } from '../../../../protocols/celery/outcome/result.ts';
import type { ContentLimits } from '../../../../protocols/celery/message/serializers.ts';
import type { ChordPart, ErrbackCall, Writes } from '../../../../protocols/celery/outcome/writes.ts';
import type { ResultWrite } from '../../../../protocols/celery/outcome/record.ts';
import { WireError } from '../../../../protocols/errors.ts';
import { UnroutableError } from '../../../errors.ts';
import type { Logger } from '../../../log.ts';
import { pause } from '../../../source.ts';
import type { CeleryBroker, ResultBackend, ResultRequest } from '../brokers/broker.ts';
import { startChord } from '../results/chords.ts';

/** The task that the writes belong to. */
export interface WriteOrigin {
  readonly id: string;
  readonly task: string;
  readonly queue: string;
  /** It may have been delivered before, and a chord may have counted it then. */
  readonly redelivered: boolean;
  /** Where a result that is sent, and not stored, goes. */
  readonly to: ResultRequest;
  readonly policy: CeleryPolicy;
  publisher(): Publisher;
}

/** The progress of some writes. Each write is done once, however often they are executed. */
export interface Progress {
  published: boolean;
  /** Of several messages, those that need no further try. */
  sent?: Set<Publication>;
  stored: boolean;
  told: boolean;
  acked: boolean;
  parts?: readonly PartProgress[];
}

interface PartProgress {
  readonly part: ChordPart;
  /** It was sent to the counter. It may have been counted. */
  sent: boolean;
  over: boolean;
  /** The writes that follow when the last member of a chord has ended. */
  follow?: { readonly writes: Writes; readonly done: Progress; readonly ends: boolean };
}

export function notYet(): Progress {
  return { published: false, stored: false, told: false, acked: false };
}

export interface WriteExecutorOptions {
  readonly broker: CeleryBroker;
  readonly backend: ResultBackend;
  readonly log: () => Logger;
  readonly limits: ContentLimits;
  /** Milliseconds to wait for the results of a header that must be read one by one. */
  readonly joinTimeoutMs: number;
  /** Runs an errback of the new style. It is called once. The executor logs its errors. */
  readonly errback: (call: ErrbackCall, origin: WriteOrigin) => Promise<void>;
}

/**
 * Executes writes in this order: the sizes of chords, messages, results, the parts of chords, errbacks. A chord counts a member after the
 * member's result is stored and before the member is acknowledged. If the process dies in between, the member is redelivered and counted again.
 */
export class WriteExecutor {
  readonly #options: WriteExecutorOptions;

  constructor(options: WriteExecutorOptions) {
    this.#options = options;
  }

  /** Throws WireError, before anything is stored, if the message that replaces the task cannot be written for the broker. */
  async execute(writes: Writes, origin: WriteOrigin, done: Progress): Promise<void> {
    if (!done.published) {
      for (const chord of writes.chords) await startChord(this.#options.backend, chord);
      await this.#publish(writes.publish, origin, done, writes.replacesTask);
      done.published = true;
      for (const problem of writes.problems)
        this.#say(origin, problem, 'the tasks that should follow this task cannot be read');
    }
    if (!done.stored) {
      const [only] = writes.results;
      if (writes.results.length === 1 && only !== undefined) await this.#store(only, origin);
      else if (only !== undefined) await Promise.all(writes.results.map((result) => this.#store(result, origin)));
      done.stored = true;
    }
    if (done.told) return;
    if (writes.chordParts.length > 0) {
      done.parts ??= writes.chordParts.map((part) => ({ part, sent: false, over: false }));
      for (const part of done.parts) await this.#tell(part, origin);
    }
    await this.#publish(writes.errbacks, origin, done);
    done.told = true;
    for (const call of writes.errbackCalls) await this.#call(call, origin);
  }

  /** Each message is sent once, also if others fail. */
  async #publish(
    publications: readonly Publication[],
    origin: WriteOrigin,
    done: Progress,
    replacesTask = false,
  ): Promise<void> {
    const [only] = publications;
    if (only === undefined) return;
    if (publications.length === 1) return this.#send(only, origin, replacesTask);
    const sent = (done.sent ??= new Set());
    const left = publications.filter((publication) => !sent.has(publication));
    for (let at = 0; at < left.length; at += TOGETHER) {
      const sending = left.slice(at, at + TOGETHER).map(async (publication) => {
        await this.#send(publication, origin, replacesTask);
        sent.add(publication);
      });
      for (const end of await Promise.allSettled(sending)) if (end.status === 'rejected') throw end.reason;
    }
  }

  /** A message that no queue takes, or that the broker cannot hold, will fail again later. Celery loses it. Here the broker keeps it if it can. */
  async #send(publication: Publication, origin: WriteOrigin, replacesTask: boolean): Promise<void> {
    const { broker } = this.#options;
    try {
      await broker.publish([publication]);
    } catch (error) {
      if (!(error instanceof UnroutableError) && (replacesTask || !(error instanceof WireError))) throw error;
      const kept = error instanceof UnroutableError ? await broker.keep?.(publication, error.message) : undefined;
      const words = 'a message that should follow this task cannot be sent';
      this.#say(origin, error, kept === undefined ? words : `${words}. ${kept}`);
    }
  }

  async #store({ id, meta }: ResultWrite, origin: WriteOrigin): Promise<void> {
    try {
      // The result of another task that fails with this one goes to the same caller, under that task's own id.
      const to = id === origin.id ? origin.to : { replyTo: origin.to.replyTo, correlationId: id };
      await this.#options.backend.store(id, meta, to);
    } catch (error) {
      // An id that the store cannot hold will not fit later either. The job has run, and must not wait for this write.
      if (!(error instanceof WireError)) throw error;
      this.#say(origin, error, 'this result cannot be stored', id);
    }
  }

  async #call(call: ErrbackCall, origin: WriteOrigin): Promise<void> {
    try {
      await this.#options.errback(call, origin);
    } catch (error) {
      this.#say(origin, error, `its errback '${call.task}' failed`);
    }
  }

  /** Counts a member. After the last one, the body is published, or is failed. */
  async #tell(progress: PartProgress, origin: WriteOrigin): Promise<void> {
    if (progress.over) return;
    const counter = this.#options.backend.chords;
    const { part } = progress;
    // Without a counter, celery.chord_unlock polls the results.
    if (counter === undefined || part.group === undefined || part.id === '') {
      progress.over = true;
      if (part.group === undefined || part.id === '')
        this.#say(origin, undefined, 'a member of a chord has no group or no id: the chord cannot count it');
      return;
    }
    if (progress.follow === undefined) {
      const again = progress.sent || origin.redelivered ? memberPrefix(part.id) : undefined;
      progress.sent = true;
      const count = await counter.count(part.group, { member: part.member, index: part.groupIndex, again });
      const follow = await this.#completed(part, part.group, count, origin);
      if (follow === undefined) {
        progress.over = true;
        return;
      }
      progress.follow = { ...follow, done: notYet() };
    }
    const { writes, done, ends } = progress.follow;
    await this.execute(writes, origin, done);
    if (ends) await counter.end(part.group);
    progress.over = true;
  }

  /** The writes that complete the chord; undefined while members are missing. Source: on_chord_part_return. */
  async #completed(
    part: ChordPart,
    group: string,
    count: { readonly ended: number; readonly added: string | undefined; readonly size: string | undefined },
    origin: WriteOrigin,
  ): Promise<{ readonly writes: Writes; readonly ends: boolean } | undefined> {
    // The chord has not started yet, or is over already: its sender writes the size before it publishes the last member.
    if (count.size === undefined) return undefined;
    const total = whole(count.size) + whole(count.added ?? '0');
    if (!(total >= 1)) {
      return this.#failed(
        part,
        { reason: `Join error: the size of the chord is '${count.size.slice(0, 40)}'` },
        origin,
      );
    }
    if (count.ended > total) {
      this.#say(origin, undefined, `the chord of group ${group} has ${count.ended} ended members of ${total}`);
      return undefined;
    }
    if (count.ended < total) return undefined;
    const joined = await this.#join(group, origin.policy.resultSerializer);
    if (!Array.isArray(joined)) return this.#failed(part, joined as ChordFailure, origin);
    try {
      return { writes: bodyOf(part.body, joined, origin.policy, origin.publisher()), ends: true };
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      const failed = this.#failed(part, { reason: `Callback error: ${error.message}` }, origin);
      return { ...failed, ends: true };
    }
  }

  /** The keys of the counter stay until they expire, as in Celery. */
  #failed(
    part: ChordPart,
    failure: ChordFailure,
    origin: WriteOrigin,
  ): { readonly writes: Writes; readonly ends: boolean } {
    this.#say(origin, undefined, `the chord of group ${part.group} fails: ${failure.reason}`);
    return { writes: bodyFailed(part.body, failure, origin.policy, origin.publisher()), ends: false };
  }

  async #join(group: string, serializer: string): Promise<readonly unknown[] | ChordFailure> {
    const { backend, limits, joinTimeoutMs } = this.#options;
    let saved: ResultTuple | undefined;
    const members: Ended[] = [];
    try {
      const stored = await backend.fetchGroup(group);
      saved = stored === undefined ? undefined : decodeGroupMeta(stored);
      for (const bytes of (await backend.chords?.members(group)) ?? [])
        members.push(readMember(bytes, serializer, limits));
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      return { reason: `Join error: ${error.message}` };
    }
    for (const deadline = Date.now() + joinTimeoutMs; ; await pause(JOIN_POLL_MS)) {
      const joined = join(members, saved);
      if (joined.kind === 'joined') return joined.results;
      if (joined.kind === 'failed') return joined.failure;
      // The counter has no record of some members. Their stored results are read instead.
      const metas = await backend.fetchMany(joined.ids);
      for (const [at, meta] of metas.entries()) {
        const id = joined.ids[at] as string;
        const ended = meta === undefined ? undefined : readEnded(id, meta, serializer, limits);
        if (ended !== undefined) members.push(ended);
      }
      const known = new Set(members.map(({ id }) => id));
      if (saved !== undefined && leavesOf(saved).every((id) => known.has(id))) continue;
      if (Date.now() >= deadline) return { reason: "Join error: TimeoutError('The operation timed out.')" };
    }
  }

  #say({ id, task, queue }: WriteOrigin, error: unknown, what: string, about = id): void {
    this.#options.log().error({ task, id: about, queue, ...(error === undefined ? {} : { error }) }, what);
  }
}

const JOIN_POLL_MS = 50;
/** Messages sent at the same time. */
const TOGETHER = 500;

/** A whole number as Python's int() reads it from text; NaN for anything else. */
function whole(text: string): number {
  return /^\s*[+-]?\d{1,15}\s*$/.test(text) ? Number(text) : Number.NaN;
}
