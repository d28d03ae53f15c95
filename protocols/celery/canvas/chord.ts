import { Buffer } from 'node:buffer';
import { WireError } from '../../errors.ts';
import { isoText } from '../../formats/values.ts';
import { apply } from './apply.ts';
import type { Publisher } from '../message/call.ts';
import { type UnreachedTask, unreachedTasks, failureOfUnreached } from '../outcome/unreached.ts';
import {
  chordError,
  exceptionOf,
  exceptionResult,
  failureOf,
  type PythonException,
  reprException,
} from '../outcome/exceptions.ts';
import { errbacks, published, wireError } from '../outcome/links.ts';
import { freeze } from './freeze.ts';
import type { ExactMap, TaskMessage } from '../message/message.ts';
import type { CeleryPolicy } from '../outcome/policy.ts';
import type { ResultWrite } from '../outcome/record.ts';
import { encodeMeta, PROPAGATE_STATES, READY_STATES, type ResultTuple } from '../outcome/result.ts';
import { type ContentLimits, contentTypeOf, decodeContent, encodeContent, encodeJson } from '../message/serializers.ts';
import { listOf, mapOf, readSignature, type Signature, signatureToMap, textOf, union } from './signature.ts';
import { type ChordPart, type FailedRequest, NO_WRITES, type Writes } from '../outcome/writes.ts';

/**
 * Counting a chord, as the Redis backend does it:
 *
 *     celery-taskset-meta-<gid>.j   members that ended: [1, "<id>", "<state>", <result>], in the order of the header
 *     celery-taskset-meta-<gid>.t   members added on the way
 *     celery-taskset-meta-<gid>.s   how many there are; once .j has .s + .t of them, the body is published
 *     celery-taskset-meta-<gid>     the header's result, where it has groups in it: the results are joined in its shape
 *
 * Source: celery/backends/redis.py on_chord_part_return; celery/backends/base.py chord_error_from_stack (5.6).
 */

/** The chord counts every end of a member, whether its result is stored or not. Throws WireError `unencodable`. */
export function partOf(
  message: TaskMessage,
  state: ChordPart['state'],
  result: unknown,
  policy: CeleryPolicy,
): readonly ChordPart[] {
  const body = message.linked ? message.embed.chord : undefined;
  if (body === undefined) return [];
  const { id, group, groupIndex } = message;
  return [{ id, group, groupIndex, body, state, result, member: memberOf(id, state, result, policy) }];
}

/** The parts of tasks that will never run. */
export function partsOfEnds(
  ends: readonly UnreachedTask[],
  state: ChordPart['state'],
  result: unknown,
  policy: CeleryPolicy,
): readonly ChordPart[] {
  const parts: ChordPart[] = [];
  for (const { id = '', group, groupIndex, chord: body } of ends) {
    if (body === undefined) continue;
    parts.push({ id, group, groupIndex, body, state, result, member: memberOf(id, state, result, policy) });
  }
  return parts;
}

function memberOf(id: string, state: string, result: unknown, policy: CeleryPolicy): string | Uint8Array {
  const member = [1, id, state, result ?? null];
  const { resultSerializer: serializer, typed } = policy;
  return serializer === 'json' ? encodeJson(member, typed) : encodeContent(serializer, member, { typed }).body;
}

/** What every JSON member of this task begins with, whatever its state and result. */
export function memberPrefix(id: string): string {
  return `[1, ${encodeJson(id, false)}, `;
}

/** An ended task, exact: out of the counter, or out of its stored result. */
export interface Ended {
  readonly id: string;
  readonly state: string;
  readonly result: unknown;
}

/** Reads a member of the counter. Throws WireError: `bad-chord-member`, or why it cannot be decoded. */
export function readMember(bytes: Uint8Array, serializer: string, limits: ContentLimits): Ended {
  const member = decodeExact(bytes, serializer, limits);
  const [, id, state, result] = Array.isArray(member) ? (member as readonly unknown[]) : [];
  if (typeof id !== 'string' || typeof state !== 'string' || (member as unknown[]).length !== 4) {
    throw new WireError('celery', 'bad-chord-member', 'a member of the chord is not [1, id, state, result]');
  }
  return { id, state, result };
}

/** A stored result, exact. Undefined when it is none, or the task has not ended. */
export function readEnded(id: string, bytes: Uint8Array, serializer: string, limits: ContentLimits): Ended | undefined {
  const meta = mapOf(decodeExact(bytes, serializer, limits));
  const state = meta?.get('status');
  return typeof state === 'string' && READY_STATES.has(state) ? { id, state, result: meta?.get('result') } : undefined;
}

function decodeExact(body: Uint8Array, serializer: string, limits: ContentLimits): unknown {
  const contentType = contentTypeOf(serializer);
  const content = { body: Buffer.from(body), contentType, contentEncoding: undefined, compression: undefined };
  return decodeContent(content, { accept: new Set([contentType]), limits, exact: true });
}

/** Why a chord has no body: what is recorded, and what the failed member itself raised. */
export interface ChordFailure {
  readonly reason: string;
  readonly cause?: PythonException | undefined;
}

export type Joined =
  | { readonly kind: 'joined'; readonly results: readonly unknown[] }
  /** These tasks are not known to have ended. */
  | { readonly kind: 'missing'; readonly ids: readonly string[] }
  | { readonly kind: 'failed'; readonly failure: ChordFailure };

/** The results of a header: in the order of its members, or in the shape that was saved. The first failure is that of all. */
export function join(members: readonly Ended[], saved: ResultTuple | undefined): Joined {
  if (saved === undefined) {
    const failed = members.find(({ state }) => PROPAGATE_STATES.has(state));
    if (failed !== undefined) return { kind: 'failed', failure: dependencyFailed(failed) };
    return { kind: 'joined', results: members.map(({ result }) => result) };
  }
  const byId = new Map(members.map((member) => [member.id, member]));
  const [, children] = saved;
  const ids = leavesOf(saved);
  const failed = ids.map((id) => byId.get(id)).find((member) => PROPAGATE_STATES.has(member?.state ?? ''));
  if (failed !== undefined) {
    const cause = exceptionOf(failed.result);
    const reason = `Join error: ${cause === undefined ? 'an unknown error' : reprException(cause)}`;
    return { kind: 'failed', failure: { reason, cause } };
  }
  const missing = ids.filter((id) => !byId.has(id));
  if (missing.length > 0) return { kind: 'missing', ids: missing };
  const shaped = ([[id], nodes]: ResultTuple): unknown =>
    nodes === null ? byId.get(id)?.result : nodes.map((node) => shaped(node));
  return { kind: 'joined', results: (children ?? []).map((child) => shaped(child)) };
}

/** The failure of a chord by one of its members. */
export function dependencyFailed({ id, result }: Ended): ChordFailure {
  const cause = exceptionOf(result);
  const raised = cause === undefined ? 'an unknown error' : reprException(cause);
  return { reason: `Dependency ${id} raised ${raised}`, cause };
}

/** The tasks in a result. */
export function leavesOf([[id], children]: ResultTuple): readonly string[] {
  return children === null ? [id] : children.flatMap((child) => leavesOf(child));
}

/** Publishes the body with the results of the header. Throws WireError when it cannot be read or written. */
export function bodyOf(body: unknown, results: readonly unknown[], policy: CeleryPolicy, publisher: Publisher): Writes {
  return published(apply(readSignature(body), { args: [results] }, publisher), policy.typed);
}

/**
 * A body that will not run: FAILURE under its id, its errbacks, and its own part where the chord is a member of another one. What
 * was to follow it fails with it. Of a group each member fails, with the error of the header itself. The original tells neither
 * the chord around it nor the rest of a chain, which then wait for ever.
 * Source: chord_error_from_stack, _handle_group_chord_error, fail_from_current_stack.
 */
export function bodyFailed(value: unknown, failure: ChordFailure, policy: CeleryPolicy, publisher: Publisher): Writes {
  let body: Signature;
  try {
    // Whoever started the chord has frozen it; what has no id yet gets one nobody waits for.
    body = innermost(freeze(readSignature(value), {}, publisher).signature);
  } catch (error) {
    return { ...NO_WRITES, problems: [wireError(error)] };
  }
  const grouped = body.subtaskType === 'group';
  const chordFailure = chordError(failure.reason);
  const exception = grouped ? (failure.cause ?? chordFailure) : chordFailure;
  const ends = unreachedTasks(signatureToMap(body));
  const later = listOf(body.options.get('chain')).flatMap(unreachedTasks);
  const failed: FailedRequest[] = (grouped ? ends.slice(1) : ends.slice(-1)).map(({ id: own = '', task }) => {
    const id = (grouped ? undefined : textOf(body.options.get('task_id'))) ?? own;
    return { id, task, rootId: id };
  });
  const signatures = listOf(body.options.get('link_error'));
  const told = failed.map((each) => ({
    ...errbacks(signatures, each, failureOf(exception), policy, publisher),
    id: each.id,
  }));
  const result = exceptionResult(exception, policy.resultSerializer, policy.typed);

  const results = new Map<string, ResultWrite>();
  if (policy.resultsDisabled !== true) {
    for (const { id, children } of told) results.set(id, ownFailure(id, result, children, policy, publisher));
    for (const end of [...ends, ...later]) {
      if (end.id !== undefined && !results.has(end.id))
        results.set(end.id, failureOfUnreached(end, end.id, exception, null, policy, publisher.now));
    }
  }
  return {
    chords: told.flatMap(({ chords }) => chords),
    publish: [],
    results: [...results.values()],
    chordParts: partsOfEnds([...ends, ...later], 'FAILURE', result, policy),
    errbacks: told.flatMap((each) => each.errbacks),
    errbackCalls: told.flatMap((each) => each.errbackCalls),
    problems: told.flatMap(({ problems }) => problems),
  };
}

/** A chord as a body ends in its own body, which gets what the chord was to be followed by. */
function innermost(body: Signature): Signature {
  if (body.subtaskType !== 'chord') return body;
  const inner = readSignature(body.kwargs.get('body'));
  const options = new Map(inner.options);
  for (const name of ['link_error', 'chain']) {
    const all = union(inner.options.get(name), listOf(body.options.get(name)));
    if (all.length > 0) options.set(name, all);
  }
  return innermost({ ...inner, options });
}

function ownFailure(
  id: string,
  result: ExactMap,
  children: readonly ResultTuple[],
  policy: CeleryPolicy,
  { now }: Publisher,
): ResultWrite {
  const meta = encodeMeta(
    { status: 'FAILURE', result, traceback: null, children, dateDone: isoText(now), taskId: id },
    { serializer: policy.resultSerializer, typed: policy.typed },
  );
  return { id, meta };
}
