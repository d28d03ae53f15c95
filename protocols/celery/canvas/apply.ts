import { WireError } from '../../errors.ts';
import { type Publisher, toCall } from '../message/call.ts';
import { flatten, freeze, freezeGroup, headerOf, prepareSteps, sizeOf, withParent } from './freeze.ts';
import type { TaskCall } from '../message/message.ts';
import { groupTuple, type ResultTuple, resultTuple } from '../outcome/result.ts';
import {
  type Extra,
  listOf,
  mapOf,
  merge,
  mergeOptions,
  NOTHING,
  numberOf,
  readSignature,
  type Signature,
  signatureToMap,
  textOf,
  union,
  unique,
  withOption,
} from './signature.ts';

/** What applying a signature comes to. The chords are recorded before anything is published. */
export interface Application {
  readonly chords: readonly ChordStart[];
  /** In the order they are to be published. */
  readonly calls: readonly TaskCall[];
  /** What a parent records as its children. Empty for an empty group. */
  readonly children: readonly ResultTuple[];
  /** What one waits for, over what goes before it; undefined for an empty chain. */
  readonly result: ResultTuple | undefined;
}

/** A chord whose header is about to be published, where the result backend counts it. */
export interface ChordStart {
  /** The header's id. */
  readonly group: string;
  /** How many parts complete it. */
  readonly size: number;
  /** The header's result, where it is more than a list of tasks: the results are to be joined in its shape. */
  readonly saved: ResultTuple | undefined;
}

/**
 * Every task to publish now for a signature: the task, the first step of a chain (the others travel with it), each member of a
 * group, the header of a chord (each member brings the body along). Throws WireError `bad-signature`. Source: celery/canvas.py apply_async of each type; celery/app/base.py send_task.
 */
export function apply(signature: Signature, extra: Extra, publisher: Publisher): Application {
  switch (signature.subtaskType) {
    case 'chain':
      return applyChain(signature, extra, publisher);
    case 'group':
      return applyGroup(signature, extra, publisher);
    case 'chord':
      return applyChord(signature, extra, publisher);
    default:
      return applyTask(signature, extra, publisher);
  }
}

/**
 * A task, and the built-in tasks that `map`, `starmap` and `chunks` stand for: those go where the task inside them goes.
 * Source: Signature.apply_async, _basemap.apply_async. The original forgets the options of a map, its id among them, so that
 * whoever waits for it waits forever; we keep them.
 */
function applyTask(signature: Signature, extra: Extra, publisher: Publisher): Application {
  const { args, kwargs, options } = merge(signature, extra);
  const inner = mapOf(kwargs.get('task'))?.get('task');
  const routedAs = MAPS.has(signature.task) && typeof inner === 'string' ? inner : signature.task;
  const call = toCall(signature.task, routedAs, args, kwargs, options, publisher);
  const result = resultTuple(call.id);
  return { chords: [], calls: [call], children: [result], result };
}

/**
 * A remaining chain from outside comes after what is left of this one. What is null in the call hides the chain's own option,
 * as in the original, where it does so for the priority. Source: _chain.apply_async, _chain.run.
 */
function applyChain(signature: Signature, extra: Extra, publisher: Publisher): Application {
  const options = new Map([...signature.options, ...(extra.options ?? NOTHING)]);
  const { steps, result } = prepareSteps(
    signature,
    { args: extra.args ?? [], kwargs: extra.kwargs ?? NOTHING },
    {
      id: textOf(options.get('task_id')),
      groupId: textOf(options.get('group_id')),
      groupIndex: options.get('group_index') ?? undefined,
      chord: options.get('chord') ?? undefined,
      rootId: textOf(options.get('root_id')),
    },
    listOf(options.get('link_error')),
    publisher,
  );
  const [first, ...rest] = steps;
  if (first === undefined) return NO_TASKS;
  const link = listOf(options.get('link'));
  const last = rest.at(-1);
  if (last !== undefined) rest[rest.length - 1] = withOption(last, 'link', union(last.options.get('link'), link));
  const start = last === undefined ? withOption(first, 'link', union(first.options.get('link'), link)) : first;
  for (const name of STEP_OPTIONS) options.delete(name);
  options.set('chain', [...listOf(options.get('chain')), ...rest.toReversed().map(signatureToMap)]);
  const applied = apply(start, { options }, publisher);
  return last === undefined ? applied : { ...applied, result };
}

/** What `_chain.run` gives to single steps, and not to the first one as an option. */
const STEP_OPTIONS = ['task_id', 'group_id', 'group_index', 'chord', 'link', 'link_error', 'root_id', 'parent_id'];

/**
 * The group's id is its `task_id`; its options win over those of a member. A group that is a step of a chain may carry the chord
 * around that chain: its members count there, and no size is recorded; the original overwrites the size of the whole with that
 * of this group (celery#8182). Source: group.apply_async, _prepared, _apply_tasks.
 */
function applyGroup(signature: Signature, extra: Extra, publisher: Publisher): Application {
  const options = mergeOptions(signature.options, extra.options ?? NOTHING);
  const id = textOf(options.get('task_id')) ?? publisher.newId();
  const chord = options.get('chord') ?? undefined;
  for (const name of ['task_id', 'chord', 'group_index']) options.delete(name);
  options.set('group_id', id);
  const calls: TaskCall[] = [];
  const chords: ChordStart[] = [];
  const children: ResultTuple[] = [];
  for (const { member, index } of flatten(listOf(signature.kwargs.get('tasks')))) {
    const frozen = freeze(
      member,
      { groupId: id, groupIndex: index, rootId: textOf(options.get('root_id')) },
      publisher,
    );
    const passed = new Map(options).set('chord', chord ?? frozen.signature.options.get('chord'));
    const applied = apply(
      frozen.signature,
      { args: extra.args ?? [], kwargs: extra.kwargs ?? NOTHING, options: passed },
      publisher,
    );
    for (const call of applied.calls) calls.push(call);
    for (const started of applied.chords) chords.push(started);
    children.push(frozen.result);
  }
  const result = groupTuple(id, children);
  const [only] = children;
  if (only === undefined) return { ...NO_TASKS, result };
  // A chain that ends in a group, alone in a group: the inner group is what is recorded.
  return { chords, calls, children: [children.length === 1 && only[1] !== null ? only : result], result };
}

/**
 * The header is published, each member with the body as its `chord`; whoever counts the last part publishes the body. Where the
 * result backend does not count, `celery.chord_unlock` asks for the results of the header until all are there.
 * An empty header applies the body to []. Source: _chord.apply_async, _chord.run; celery/backends/base.py fallback_chord_unlock.
 */
function applyChord(signature: Signature, extra: Extra, publisher: Publisher): Application {
  if (publisher.chords === 'refused') {
    throw new WireError(
      'celery',
      'no-chords',
      'chords need a result backend that keeps results; set one (redis://…): without one, and over rpc://, there are none, as in Celery',
    );
  }
  const call = new Map(extra.options ?? NOTHING);
  const partial = extra.args ?? [];
  const args = signature.immutable || partial.length === 0 ? signature.args : [...partial, ...signature.args];
  const kwargs = new Map([...(mapOf(signature.kwargs.get('kwargs')) ?? NOTHING), ...(extra.kwargs ?? NOTHING)]);
  const given = readSignature(signature.kwargs.get('body'));
  const header = headerOf(signature);

  const id = textOf(call.get('task_id')) ?? textOf(signature.options.get('task_id'));
  call.delete('task_id');
  const options = new Map([...signature.options, ...call]);
  options.delete('task_id');
  const group = textOf(header.options.get('task_id')) ?? publisher.newId();
  const bodyOptions = new Map([...mergeOptions(given.options, call), ...options]);
  for (const name of ['link', 'link_error']) {
    if (options.has(name)) bodyOptions.set(name, unique(given.options.get(name), listOf(options.get(name))));
  }
  const rootId = textOf(bodyOptions.get('root_id'));
  const { signature: body, result: awaited } = freeze(
    { ...given, options: bodyOptions },
    { id: id ?? publisher.newId(), groupId: group, rootId },
    publisher,
  );
  const chord = signatureToMap(body);
  const { signature: frozen, results } = freezeGroup(header, { groupId: group, chord, rootId }, publisher);
  const members = listOf(frozen.kwargs.get('tasks'));
  const result = withParent(awaited, groupTuple(group, results));
  if (members.length === 0) return { ...apply(body, { args: [[]] }, publisher), result };

  // What follows the body, and the links of the chord, are the body's own.
  for (const name of ['chain', 'chord', 'link', 'link_error']) options.delete(name);
  const applied = applyGroup(frozen, { args, kwargs, options: options.set('task_id', group) }, publisher);
  if (publisher.chords === 'counted') {
    const size = members.reduce<number>((sum, member) => sum + sizeOf(readSignature(member)), 0);
    const saved = results.some(([, children]) => children !== null) ? groupTuple(group, results) : undefined;
    return { ...applied, chords: [{ group, size, saved }, ...applied.chords], result };
  }
  const unlock = unlockCall(group, body, results, publisher);
  return {
    chords: applied.chords,
    calls: [unlock, ...applied.calls],
    children: [resultTuple(unlock.id), ...applied.children],
    result,
  };
}

function unlockCall(group: string, body: Signature, results: readonly ResultTuple[], publisher: Publisher): TaskCall {
  const { routingKey } = publisher.route(body.task, body.options);
  const kwargs = new Map<string, unknown>([
    ['interval', null],
    ['max_retries', null],
    ['result', results],
  ]);
  const options = new Map<string, unknown>([
    ['countdown', 1],
    ['queue', textOf(body.options.get('queue')) ?? routingKey],
    ['priority', numberOf(body.options.get('priority')) ?? 0],
    ['ignore_result', true],
  ]);
  const task = 'celery.chord_unlock';
  return toCall(task, task, [group, signatureToMap(body)], kwargs, options, publisher);
}

const NO_TASKS: Application = { chords: [], calls: [], children: [], result: undefined };
const MAPS: ReadonlySet<string> = new Set(['celery.map', 'celery.starmap', 'celery.chunks']);
