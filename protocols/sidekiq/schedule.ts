import { edit } from '../formats/ruby-json.ts';
import { WireError } from '../errors.ts';
import type { Dialect } from './dialect.ts';
import { decodeJob } from './message.ts';
import { asDead } from './morgue.ts';
import type { DueJob } from './redis.ts';
import { timestamp } from './times.ts';

/**
 * A member of `schedule` or `retry` that is due, as it goes to its queue: the same text with a new `enqueued_at`. Mirrors
 * scheduled.rb Enq and client.rb atomic_push. What is no job goes to the dead set; Ruby's poller would drop it.
 */
export function dueJob(
  member: Uint8Array,
  { dialect, nowMs }: { readonly dialect: Dialect; readonly nowMs: number },
): DueJob & { readonly error?: WireError } {
  try {
    const { text, hash } = decodeJob(member, 'schedule');
    const { queue } = hash;
    const name = typeof queue === 'string' && queue !== '' ? queue : 'default';
    const changes = [{ path: ['enqueued_at'], value: timestamp(nowMs, dialect) }];
    const due = Object.hasOwn(hash, 'at') ? [{ path: ['at'], value: undefined }, ...changes] : changes;
    return { member, queue: name, text: edit(text, due) };
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    return { member, queue: undefined, text: asDead(member, '', { reason: error.message, dialect, nowMs }), error };
  }
}
