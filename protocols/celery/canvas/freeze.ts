import type { Publisher } from '../message/call.ts';
import { chordOf, linkedOnError } from './joins.ts';
import type { ExactMap } from '../message/message.ts';
import { groupTuple, type ResultTuple, resultTuple } from '../outcome/result.ts';
import {
  composite,
  listOf,
  merge,
  NO_ARGUMENTS,
  NOTHING,
  readSignature,
  type Signature,
  signatureToMap,
  textOf,
} from './signature.ts';

/** What surrounds a signature when it is frozen. */
export interface Given {
  readonly id?: string | undefined;
  readonly groupId?: string | undefined;
  readonly groupIndex?: unknown;
  readonly chord?: unknown;
  readonly rootId?: string | undefined;
}

/** A signature with its ids, and what one waits for. */
export interface Frozen {
  readonly signature: Signature;
  readonly result: ResultTuple;
}

/**
 * Gives a signature the ids it will be known by; ids it has already stay. The header of a chord is frozen too, but does not get
 * the body yet: whoever starts the chord puts it into each member, and chords in the bodies of chords would double with each level.
 * Throws WireError `bad-signature`. Source: celery/canvas.py Signature.freeze and its overrides (5.6).
 */
export function freeze(signature: Signature, given: Given, publisher: Publisher): Frozen {
  switch (signature.subtaskType) {
    case 'chain': {
      const { steps, result } = prepareSteps(signature, NO_ARGUMENTS, given, [], publisher);
      const kwargs = new Map(signature.kwargs).set('tasks', steps.map(signatureToMap));
      // The id is its last step's. The original writes it down even where it has none.
      const id = given.id ?? signature.options.get('task_id') ?? null;
      const options = new Map(signature.options).set('task_id', id);
      return { signature: { ...signature, kwargs, options }, result: result ?? resultTuple(publisher.newId()) };
    }
    case 'group': {
      const { signature: frozen, results } = freezeGroup(signature, given, publisher);
      return { signature: frozen, result: groupTuple(frozen.options.get('task_id') as string, results) };
    }
    case 'chord': {
      const header = freeze(headerOf(signature), { rootId: given.rootId }, publisher);
      const body = freeze(readSignature(signature.kwargs.get('body')), given, publisher);
      const kwargs = new Map(signature.kwargs)
        .set('header', signatureToMap(header.signature))
        .set('body', signatureToMap(body.signature));
      // A chord goes by the id of its header; what one waits for is the body.
      const options = new Map(signature.options).set('task_id', header.result[0][0]);
      return { signature: { ...signature, kwargs, options }, result: withParent(body.result, header.result) };
    }
    default: {
      const options = freezeOptions(signature.options, given, publisher);
      return { signature: { ...signature, options }, result: resultTuple(options.get('task_id') as string) };
    }
  }
}

/** A group whose members are frozen, nested groups spliced in. Source: group._freeze_group_tasks. */
export function freezeGroup(
  group: Signature,
  given: Given,
  publisher: Publisher,
): { readonly signature: Signature; readonly results: readonly ResultTuple[] } {
  const options = freezeGroupOptions(group.options, given, publisher);
  const members: ExactMap[] = [];
  const results: ResultTuple[] = [];
  for (const { member } of flatten(listOf(group.kwargs.get('tasks')))) {
    const inherited = { groupId: given.groupId, chord: given.chord, rootId: given.rootId };
    const frozen = freeze(member, { ...inherited, groupIndex: members.length }, publisher);
    members.push(signatureToMap(frozen.signature));
    results.push(frozen.result);
  }
  return { signature: { ...group, kwargs: new Map(group.kwargs).set('tasks', members), options }, results };
}

/** The header of a chord as a group. On the wire it is a group, or a bare list of members. */
export function headerOf(chord: Signature): Signature {
  const header = chord.kwargs.get('header');
  if (!Array.isArray(header)) {
    const signature = readSignature(header);
    return signature.subtaskType === 'group' ? signature : groupWithId(chord, [header]);
  }
  return groupWithId(chord, header);
}

function groupWithId(chord: Signature, members: readonly unknown[]): Signature {
  const id = textOf(chord.options.get('task_id'));
  return composite('group', new Map([['tasks', members]]), id === undefined ? NOTHING : new Map([['task_id', id]]));
}

/** Nested groups melt into the outer one; the index starts again in each of them, as in the original. */
export function* flatten(
  members: readonly unknown[],
): Generator<{ readonly member: Signature; readonly index: number }> {
  for (const [index, value] of members.entries()) {
    const member = readSignature(value);
    if (member.subtaskType === 'group') yield* flatten(listOf(member.kwargs.get('tasks')));
    else yield { member, index };
  }
}

function freezeOptions(own: ExactMap, given: Given, publisher: Publisher): Map<string, unknown> {
  const options = new Map(own);
  if (textOf(options.get('task_id')) === undefined) options.set('task_id', given.id ?? publisher.newId());
  if (given.rootId !== undefined) options.set('root_id', given.rootId);
  if (!options.has('reply_to')) options.set('reply_to', publisher.replyTo ?? '');
  if (given.groupId !== undefined && !options.has('group_id')) options.set('group_id', given.groupId);
  if (given.chord !== undefined) options.set('chord', given.chord);
  if (given.groupIndex !== undefined) options.set('group_index', given.groupIndex);
  return options;
}

/** Source: group._freeze_group_tasks, nulls and order included. */
function freezeGroupOptions(own: ExactMap, given: Given, publisher: Publisher): Map<string, unknown> {
  const options = new Map(own);
  if (textOf(options.get('task_id')) === undefined) options.set('task_id', given.groupId ?? publisher.newId());
  if (given.groupId !== undefined) options.set('group_id', given.groupId);
  if (given.chord !== undefined) options.set('chord', given.chord);
  if (given.groupIndex !== undefined) options.set('group_index', given.groupIndex);
  if (!options.has('root_id')) options.set('root_id', given.rootId ?? null);
  if (!options.has('parent_id')) options.set('parent_id', null);
  return options;
}

/**
 * The steps of a chain, frozen, in their natural order: nested chains spliced in, a group that is followed by something made
 * the header of a chord. Only the last step belongs to what surrounds the chain. Source: _chain.prepare_steps.
 */
export function prepareSteps(
  chain: Signature,
  partial: { readonly args: readonly unknown[]; readonly kwargs: ExactMap },
  given: Given,
  linkErrors: readonly unknown[],
  publisher: Publisher,
): { readonly steps: readonly Signature[]; readonly result: ResultTuple | undefined } {
  const flat = splice(chain);
  const first = flat[0];
  if (first === undefined) return { steps: [], result: undefined };
  // Arguments and immutability of the chain itself are not read back from its dictionary: _chain.from_dict.
  flat[0] = { ...first, ...merge(first, partial) };

  const steps: Signature[] = [];
  const results: ResultTuple[] = [];
  for (let at = flat.length - 1; at >= 0; at--) {
    let step = flat[at] as Signature;
    const next = steps[0];
    if (step.subtaskType === 'group' && next !== undefined) {
      step = chordOf(step, next, given.rootId);
      steps.shift();
      results.shift();
    }
    const isLast = at === flat.length - 1;
    const frozen = freeze(step, isLast ? given : { rootId: given.rootId }, publisher);
    step = frozen.signature;
    if (linkErrors.length > 0) step = linkedOnError(step, linkErrors);
    steps.unshift(step);
    results.unshift(frozen.result);
  }
  let result: ResultTuple | undefined;
  for (const step of results) result = result === undefined ? step : withParent(step, result);
  return { steps, result };
}

/** The result as it is, over the first of its ancestors that has no parent. */
export function withParent([[id, above], children]: ResultTuple, parent: ResultTuple): ResultTuple {
  return [[id, above === null ? parent : withParent(above, parent)], children];
}

function splice(chain: Signature): Signature[] {
  return listOf(chain.kwargs.get('tasks')).flatMap((value) => {
    const step = readSignature(value);
    if (step.subtaskType === 'chain') return splice(step);
    if (step.subtaskType !== 'group') return [step];
    const members = listOf(step.kwargs.get('tasks'));
    return members.length === 1 ? [readSignature(members[0])] : [step];
  });
}

/**
 * How many parts a signature brings to the chord it is a member of: what ends a chain, what a chord's body is, all of a group.
 * Source: _chord._descend.
 */
export function sizeOf(signature: Signature): number {
  switch (signature.subtaskType) {
    case 'group':
      return listOf(signature.kwargs.get('tasks')).reduce<number>((sum, each) => sum + sizeOf(readSignature(each)), 0);
    case 'chain':
      for (const step of listOf(signature.kwargs.get('tasks')).toReversed()) {
        const size = sizeOf(readSignature(step));
        if (size > 0) return size;
      }
      return 0;
    case 'chord':
      return sizeOf(readSignature(signature.kwargs.get('body')));
    default:
      return 1;
  }
}
