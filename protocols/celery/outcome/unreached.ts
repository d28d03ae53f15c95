import { isoText } from '../../formats/values.ts';
import { exceptionResult, type PythonException } from './exceptions.ts';
import type { ExactMap } from '../message/message.ts';
import type { CeleryPolicy } from './policy.ts';
import type { ResultWrite } from './record.ts';
import { encodeMeta } from './result.ts';
import { listOf, mapOf, numberOf, textOf } from '../canvas/signature.ts';

/** A task that will never run, as its signature tells of it: somebody may wait for its result, or a chord for its part. */
export interface UnreachedTask {
  readonly id: string | undefined;
  readonly group: string | undefined;
  readonly groupIndex: number | undefined;
  readonly parentId: string | undefined;
  /** The body of the chord that it is a member of. */
  readonly chord: ExactMap | undefined;
  readonly task: string;
  readonly args: unknown;
  readonly kwargs: unknown;
  readonly retries: number;
}

/**
 * What ends unreached with a signature: the task itself; the members of a group; what a chain ends in; the body of a chord. A
 * group counts in the chord around it with each of its members, not with its own id as in the original, where such a chord
 * waits for ever. What cannot be read has no end. Source: celery/backends/base.py mark_as_failure.
 */
export function unreachedTasks(value: unknown): readonly UnreachedTask[] {
  const signature = mapOf(value);
  if (signature === undefined) return [];
  const own = unreachedTask(signature);
  const kwargs = mapOf(signature.get('kwargs'));
  switch (signature.get('subtask_type')) {
    case 'group':
      return [{ ...own, chord: undefined }, ...listOf(kwargs?.get('tasks')).flatMap(unreachedTasks)];
    case 'chain':
      return unreachedTasks(listOf(kwargs?.get('tasks')).at(-1));
    case 'chord':
      return [{ ...own, chord: undefined }, ...unreachedTasks(kwargs?.get('body'))];
    default:
      return [own];
  }
}

function unreachedTask(signature: ExactMap): UnreachedTask {
  const options = mapOf(signature.get('options'));
  const option = (name: string): unknown => options?.get(name);
  const chord = option('chord');
  return {
    id: textOf(option('task_id')),
    group: textOf(option('group_id')),
    groupIndex: numberOf(option('group_index')),
    parentId: textOf(option('parent_id')),
    chord: mapOf(chord),
    task: textOf(signature.get('task')) ?? '',
    args: signature.get('args') ?? [],
    kwargs: signature.get('kwargs') ?? new Map(),
    retries: numberOf(option('retries')) ?? 0,
  };
}

/** The FAILURE of a task that never ran. Its extended fields are those of its signature. */
export function failureOfUnreached(
  end: UnreachedTask,
  id: string,
  exception: PythonException,
  traceback: string | null,
  policy: CeleryPolicy,
  now: Date,
): ResultWrite {
  const { task: name, args, kwargs, retries, group: groupId, parentId } = end;
  const extended = policy.resultExtended ? { name, args, kwargs, worker: null, retries, queue: null } : undefined;
  const meta = encodeMeta(
    {
      status: 'FAILURE',
      result: exceptionResult(exception, policy.resultSerializer, policy.typed),
      traceback,
      children: [],
      dateDone: isoText(now),
      groupId,
      parentId,
      extended,
      taskId: id,
    },
    { serializer: policy.resultSerializer, typed: policy.typed },
  );
  return { id, meta };
}
