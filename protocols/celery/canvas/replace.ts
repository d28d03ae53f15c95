import { append, atEnd, chordOf, linked, linkedOnError, mapTasks, stamped } from './joins.ts';
import type { ExactMap, TaskMessage } from '../message/message.ts';
import { bad, numberOf, readSignature, type Signature, tasksOf } from './signature.ts';

/**
 * The signature that takes the place of a running task: it ends under the task's id, is followed by the task's links, errbacks
 * and remaining chain, and takes over its part in a group or chord. A group, also one at the end of a chain, becomes the header
 * of a chord that gathers its results (`celery.accumulate`). The task's stamps are given to every task of it.
 * Throws WireError `bad-signature`, also for an empty chain, and for a signature with a chord of its own.
 * Source: celery/app/task.py Task.replace (5.6).
 */
export function replacement(message: TaskMessage, by: unknown): Signature {
  const given = readSignature(by);
  if (given.options.has('chord')) throw bad('a signature that replaces a task must not be part of a chord');
  const last = given.subtaskType === 'chain' ? tasksOf(given).at(-1) : by;
  if (last === undefined) throw bad('a task cannot be replaced with an empty chain');
  const gathered = readSignature(last).subtaskType !== 'group' ? given : gather(given);

  const { callbacks, errbacks, chain, chord } = message.embed;
  // Nulls, too: a body must not take the group of its own header for that of the task.
  const place = new Map<string, unknown>([
    ['task_id', message.id],
    ['chord', chord ?? null],
    ['group_id', message.group ?? null],
    ['group_index', message.groupIndex ?? null],
  ]);
  const nesting = (numberOf(message.wire.headers['replaced_task_nesting']) ?? 0) + 1;
  const nest = (one: Signature): Signature => withOptions(one, new Map([['replaced_task_nesting', nesting]]));

  const followed = linkedOnError(linked(stamped(gathered, stampsOf(message)), callbacks), errbacks);
  const placed = atEnd(followed, (end) => withOptions(end, place));
  const rooted = withOptions(placed, new Map([['root_id', message.rootId]]));
  let signature = rooted.subtaskType === 'chain' ? mapTasks(rooted, nest) : nest(rooted);
  // The steps that are left keep their ids.
  for (const step of chain.toReversed()) signature = append(signature, nest(readSignature(step)));
  return signature.subtaskType === 'chain' ? withOptions(signature, new Map([['root_id', message.rootId]])) : signature;
}

/**
 * The signature of a task that joins the chord of a running one. Throws WireError `no-chord` where there is none.
 * Source: celery/app/task.py Task.add_to_chord.
 */
export function chordMember(message: TaskMessage, added: unknown): Signature {
  const { chord } = message.embed;
  if (chord === undefined || message.group === undefined) throw bad('this task is not a member of any chord');
  const options = new Map<string, unknown>([
    ['group_id', message.group],
    ['group_index', message.groupIndex ?? null],
    ['chord', chord],
    ['root_id', message.rootId],
  ]);
  return withOptions(stamped(readSignature(added), stampsOf(message)), options);
}

/** The stamps of a task, for what it publishes in its own place. */
export function stampsOf(message: TaskMessage): ExactMap {
  const { stampedHeaders, stamps } = message;
  return new Map(stampedHeaders.map((name) => [name, Object.hasOwn(stamps, name) ? stamps[name] : null]));
}

function gather(signature: Signature): Signature {
  return signature.subtaskType === 'group' ? chordOf(signature, ACCUMULATE) : append(signature, ACCUMULATE);
}

function withOptions(signature: Signature, options: ExactMap): Signature {
  return { ...signature, options: new Map([...signature.options, ...options]) };
}

const ACCUMULATE: Signature = {
  task: 'celery.accumulate',
  args: [],
  kwargs: new Map([['index', 0]]),
  options: new Map(),
  subtaskType: null,
  immutable: false,
};
