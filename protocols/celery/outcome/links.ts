import { WireError } from '../../errors.ts';
import type { Failure } from '../../job.ts';
import { type Application, apply } from '../canvas/apply.ts';
import type { Publisher } from '../message/call.ts';
import { encodeTask, type TaskMessage } from '../message/message.ts';
import { type CeleryPolicy, publisherOf, type RunMoment } from './policy.ts';
import type { ResultTuple } from './result.ts';
import { groupOf, readSignature, type Signature } from '../canvas/signature.ts';
import { type ErrbackCall, type FailedRequest, NO_WRITES, type Writes } from './writes.ts';

/**
 * Links, then the next step of the chain. One link is applied as it is; of several, groups are applied apart and the others
 * become one group. Throws WireError. Source: celery/app/trace.py _dispatch_callbacks_and_chain.
 */
export function callbacks(
  message: TaskMessage,
  value: unknown,
  policy: CeleryPolicy,
  moment: RunMoment,
): Pick<Writes, 'chords' | 'publish'> & { readonly children: readonly ResultTuple[] } {
  if (!message.linked) return { chords: [], publish: [], children: [] };
  const args = [value ?? null];
  const publisher = publisherOf(message, policy, moment);
  const options = new Map<string, unknown>([
    ['parent_id', message.id],
    ['root_id', message.rootId],
    ['priority', policy.inheritParentPriority ? message.priority : null],
  ]);
  const { callbacks: links, chain } = message.embed;
  const applications: Application[] = [];
  const [link] = links;
  if (links.length === 1) {
    applications.push(apply(readSignature(link), { args, options }, publisher));
  } else if (links.length > 1) {
    const signatures = links.map((each) => ({ each, signature: readSignature(each) }));
    const others = signatures.filter(({ signature }) => signature.subtaskType !== 'group').map(({ each }) => each);
    for (const { signature } of signatures) {
      if (signature.subtaskType === 'group') applications.push(apply(signature, { args, options }, publisher));
    }
    if (others.length > 0) applications.push(apply(groupOf(others), { args, options }, publisher));
  }
  const step = chain.at(-1);
  if (step !== undefined) {
    const rest = new Map<string, unknown>([['chain', chain.slice(0, -1)], ...options]);
    applications.push(apply(readSignature(step), { args, options: rest }, publisher));
  }
  return {
    chords: applications.flatMap(({ chords }) => chords),
    publish: applications.flatMap(({ calls }) => calls).map((call) => encodeTask(call, { typed: policy.typed })),
    children: applications.flatMap(({ children }) => children),
  };
}

/**
 * Errbacks that take (request, error, traceback) are called here where they are known; the others get the failed task's id, and
 * are published as one group, also where there is only one, and where nobody knows what they take.
 * Source: celery/backends/base.py _call_task_errbacks.
 */
export function errbacks(
  signatures: readonly unknown[],
  request: FailedRequest,
  failure: Failure,
  policy: CeleryPolicy,
  publisher: Publisher,
): Pick<Writes, 'chords' | 'errbacks' | 'errbackCalls' | 'problems'> & { readonly children: readonly ResultTuple[] } {
  const problems: WireError[] = [];
  const errbackCalls: ErrbackCall[] = [];
  const published: unknown[] = [];
  for (const errback of signatures) {
    let signature: Signature;
    try {
      signature = readSignature(errback);
    } catch (error) {
      problems.push(wireError(error));
      continue;
    }
    const { task, args, kwargs, immutable, subtaskType } = signature;
    if (subtaskType === null && policy.takesRequest?.(task) === true) {
      errbackCalls.push({ task, args, kwargs, immutable, request, failure });
    } else {
      published.push(errback);
    }
  }
  if (published.length === 0) return { chords: [], errbacks: [], errbackCalls, problems, children: [] };
  const options = new Map([
    ['parent_id', request.id],
    ['root_id', request.rootId],
  ]);
  try {
    const { chords, calls, children } = apply(groupOf(published), { args: [request.id], options }, publisher);
    const publications = calls.map((call) => encodeTask(call, { typed: policy.typed }));
    return { chords, errbacks: publications, errbackCalls, problems, children };
  } catch (error) {
    // The failure itself must be recorded, whatever its errbacks look like.
    return { chords: [], errbacks: [], errbackCalls, problems: [...problems, wireError(error)], children: [] };
  }
}

/** What applying a signature now comes to, as writes. Throws WireError. */
export function published(application: Application, typed: boolean): Writes {
  const publish = application.calls.map((call) => encodeTask(call, { typed }));
  return { ...NO_WRITES, chords: application.chords, publish };
}

export function wireError(error: unknown): WireError {
  if (error instanceof WireError) return error;
  throw error;
}
