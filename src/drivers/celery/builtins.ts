import { chordError, exceptionOf, exceptionResult, reprException } from '../../../protocols/celery/exceptions.ts';
import { type CeleryJob, encodeTask, type ExactMap, type Publication } from '../../../protocols/celery/message.ts';
import {
  decodeMeta,
  encodeMeta,
  EXCEPTION_STATES,
  groupTuple,
  READY_STATES,
  readTuple,
  type ResultTuple,
} from '../../../protocols/celery/result.ts';
import { apply, groupOf, type Publisher, readSignature } from '../../../protocols/celery/signature.ts';
import { isoText } from '../../../protocols/formats/values.ts';
import type { Job } from '../../../protocols/job.ts';
import { UnknownTaskError } from '../../errors.ts';
import { Fail, Retry } from '../../signals.ts';
import { defineTask, type Registration, type Registry, type TaskContext, Tasks } from '../../task.ts';
import type { ResultBackend } from './broker.ts';

/** What the tasks that Celery itself brings need of their worker. */
export interface BuiltinHost {
  readonly backend: ResultBackend;
  readonly typedJson: boolean;
  readonly resultSerializer: string;
  publish(publications: readonly Publication[]): Promise<void>;
  find(task: string): Registration | undefined;
  publisher(): Publisher;
}

/**
 * The tasks that may arrive on any queue: published by canvas, by `replace`, by result backends that count no chords, by beat.
 * Source: celery/app/builtins.py (5.6).
 */
export function builtins(host: BuiltinHost): Registry {
  return new Tasks()
    .handle(defineTask('celery.backend_cleanup'), () => host.backend.cleanup())
    .handle(
      defineTask<(...args: unknown[]) => unknown, { readonly index?: number | null }>('celery.accumulate'),
      ({ args, kwargs: { index } }) => (index === undefined || index === null ? args : args[index]),
    )
    .handle(defineTask('celery.map'), (job, context) => eachItem(host, job, context, (item) => [item]))
    .handle(defineTask('celery.starmap'), (job, context) =>
      eachItem(host, job, context, (item) => (Array.isArray(item) ? item : [item])),
    )
    .handle(defineTask('celery.chunks'), (job) => chunks(host, job))
    .handle(defineTask('celery.group'), (job) => group(host, job))
    .handle(defineTask('celery.chord_unlock'), (job) => unlockChord(host, job), {
      retry: { max: null },
      ignoreResult: true,
    });
}

/** The inner task's handler, in this process, once for each item. */
async function eachItem(
  host: BuiltinHost,
  job: Job,
  context: TaskContext,
  argsOf: (item: unknown) => readonly unknown[],
): Promise<unknown> {
  const { task, kwargs } = readSignature(given(job, 'task', 0));
  const inner = host.find(task);
  if (inner === undefined) throw new Fail(new UnknownTaskError('celery', task));
  const items = job.kwargs['it'] ?? job.args[1];
  const results: unknown[] = [];
  for (const item of Array.isArray(items) ? (items as readonly unknown[]) : []) {
    results.push(
      await inner.handler({ ...job, task, args: argsOf(item), kwargs: Object.fromEntries(kwargs) }, context),
    );
  }
  return results;
}

/** A group of starmaps over slices of the items. */
async function chunks(host: BuiltinHost, job: Job): Promise<unknown> {
  const task = given(job, 'task', 0);
  const items = given(job, 'it', 1);
  const size = Number(given(job, 'n', 2));
  if (!Array.isArray(items) || !(size >= 1)) throw new Fail('celery.chunks: expected (task, it, n)');
  const members: ExactMap[] = [];
  for (let at = 0; at < items.length; at += size) {
    const kwargs = new Map<string, unknown>([
      ['task', task],
      ['it', items.slice(at, at + size)],
    ]);
    members.push(
      new Map<string, unknown>([
        ['task', 'celery.starmap'],
        ['args', []],
        ['kwargs', kwargs],
        ['options', new Map()],
        ['subtask_type', 'xstarmap'],
        ['immutable', true],
      ]),
    );
  }
  return applied(host, groupOf(members), []);
}

/** Only senders of long ago publish this; the members are applied with the arguments given. */
async function group(host: BuiltinHost, job: Job): Promise<unknown> {
  const members = given(job, 'tasks', 0);
  const args = given(job, 'partial_args', 3);
  const publications: Publication[] = [];
  for (const member of Array.isArray(members) ? (members as readonly unknown[]) : []) {
    const { calls } = apply(readSignature(member), { args: Array.isArray(args) ? args : [] }, host.publisher());
    publications.push(...calls.map((call) => encodeTask(call, { typed: host.typedJson })));
  }
  await host.publish(publications);
  return given(job, 'result', 1);
}

async function applied(
  host: BuiltinHost,
  signature: ReturnType<typeof readSignature>,
  args: readonly unknown[],
): Promise<unknown> {
  const { calls, child } = apply(signature, { args }, host.publisher());
  await host.publish(calls.map((call) => encodeTask(call, { typed: host.typedJson })));
  return child ?? groupTuple('', []);
}

/** Poll the header of a chord; when every member is ready, apply the body, or fail it. */
async function unlockChord(host: BuiltinHost, job: Job): Promise<void> {
  const groupId = String(job.args[0] ?? job.kwargs['group_id']);
  const body = readSignature(given(job, 'callback', 1));
  const seconds = job.kwargs['interval'];
  const most = job.kwargs['max_retries'];
  const header = given(job, 'result', 4);
  const tuples = (Array.isArray(header) ? header : []).map(readTuple).filter((tuple) => tuple !== undefined);
  const ids = tuples.flatMap(leaves);
  const metas = new Map<string, ReturnType<typeof decodeMeta>>();
  for (const [index, stored] of (await host.backend.fetchMany(ids)).entries()) {
    if (stored !== undefined) metas.set(ids[index] as string, decodeMeta(stored, host.resultSerializer));
  }
  if (!ids.every((id) => READY_STATES.has(metas.get(id)?.status ?? ''))) {
    if (typeof most === 'number' && job.attempt > most)
      throw new Fail(`the chord of group ${groupId} was not ready after ${most} retries`);
    throw new Retry({
      delayMs: (typeof seconds === 'number' ? seconds : 1) * 1000,
      message: `the chord of group ${groupId} is not ready`,
    });
  }
  const culprit = ids.find((id) => EXCEPTION_STATES.has(metas.get(id)?.status ?? ''));
  if (culprit === undefined) {
    const join = ([[id], children]: ResultTuple): unknown =>
      children === null ? metas.get(id)?.result : children.map(join);
    await applied(host, body, [tuples.map(join)]);
    return;
  }
  const cause = exceptionOf(metas.get(culprit)?.result);
  await failBody(
    host,
    body,
    `Dependency ${culprit} raised ${cause === undefined ? 'an unknown error' : reprException(cause)}`,
  );
}

/** The body's result becomes ChordError, and its errbacks are called with its id. Source: Backend.chord_error_from_stack. */
async function failBody(host: BuiltinHost, body: ReturnType<typeof readSignature>, reason: string): Promise<void> {
  const id = body.options.get('task_id');
  if (typeof id !== 'string') return;
  const errbacks = body.options.get('link_error');
  if (Array.isArray(errbacks) && errbacks.length > 0) await applied(host, groupOf(errbacks), [id]);
  const result = exceptionResult(chordError(reason), host.resultSerializer, host.typedJson);
  const meta = { status: 'FAILURE', result, traceback: null, children: [], dateDone: isoText(new Date()), taskId: id };
  await host.backend.store(id, encodeMeta(meta, { serializer: host.resultSerializer, typed: host.typedJson }));
}

function leaves([[id], children]: ResultTuple): readonly string[] {
  return children === null ? [id] : children.flatMap(leaves);
}

/** An argument by name or place, as exact data: signatures are passed on as they came. */
function given(job: Job, name: string, place: number): unknown {
  const { args, kwargs } = (job as CeleryJob).request.exactArguments();
  return kwargs.has(name) ? kwargs.get(name) : args[place];
}
