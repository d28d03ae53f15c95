import {
  bodyFailed,
  dependencyFailed,
  type Ended,
  leavesOf,
  readEnded,
} from '../../../../protocols/celery/canvas/chord.ts';
import { composite, groupOf, readSignature, signatureToMap } from '../../../../protocols/celery/canvas/signature.ts';
import type { CeleryJob, ExactMap } from '../../../../protocols/celery/message/message.ts';
import {
  EXCEPTION_STATES,
  readTuple,
  type ResultTuple,
  resultTuple,
} from '../../../../protocols/celery/outcome/result.ts';
import type { ContentLimits } from '../../../../protocols/celery/message/serializers.ts';
import type { Job } from '../../../../protocols/job.ts';
import { UnknownTaskError } from '../../../errors.ts';
import { Fail, Retry } from '../../../signals.ts';
import { defineTask, type Registration, type Registry, type TaskContext, Tasks } from '../../../task.ts';
import type { ResultBackend } from '../brokers/broker.ts';
import { canvas } from '../canvas/canvas.ts';
import type { CeleryDelivery } from './delivery.ts';

/** The parts of a worker that Celery's built-in tasks need. */
export interface BuiltinHost {
  readonly backend: ResultBackend;
  readonly resultSerializer: string;
  readonly limits: ContentLimits;
  find(task: string): Registration | undefined;
}

/**
 * The built-in tasks, which may arrive on any queue. Canvas, `replace`, result backends that count no chords, and beat publish them.
 * Source: celery/app/builtins.py (5.6).
 */
export function builtins(host: BuiltinHost): Registry {
  return new Tasks()
    .handle(defineTask('celery.backend_cleanup'), () => host.backend.cleanup())
    .handle(
      defineTask<(...args: unknown[]) => unknown, { readonly index?: number | null }>('celery.accumulate'),
      ({ args, kwargs: { index } }) => (index === undefined || index === null ? args : args.at(index)),
    )
    .handle(defineTask('celery.map'), (job, context) => eachItem(host, job, context, (item) => [item]))
    .handle(defineTask('celery.starmap'), (job, context) =>
      eachItem(host, job, context, (item) => (Array.isArray(item) ? item : [item])),
    )
    .handle(defineTask('celery.chunks'), (job) => chunks(job))
    .handle(defineTask('celery.group'), (job) => group(job))
    .handle(defineTask('celery.chord'), (job) => chord(job))
    .handle(defineTask('celery.chord_unlock'), (job) => unlockChord(host, job), {
      retry: { max: null },
      ignoreResult: true,
    });
}

/** Runs the inner task's handler in this process, once for each item. */
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
async function chunks(job: Job): Promise<unknown> {
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
    const starmap = composite('starmap', kwargs, new Map());
    members.push(signatureToMap({ ...starmap, subtaskType: 'xstarmap', immutable: true }));
  }
  return deliveryOf(job).apply(groupOf(members), []);
}

/** Only old senders publish this. It applies the members with the given arguments, in the given group. */
async function group(job: Job): Promise<unknown> {
  const members = given(job, 'tasks', 0);
  const id = given(job, 'group_id', 2);
  const args = given(job, 'partial_args', 3);
  for (const member of Array.isArray(members) ? (members as readonly unknown[]) : []) {
    const signature = readSignature(member);
    const options = new Map(signature.options);
    if (typeof id === 'string') options.set('group_id', id);
    await canvas(job).send(signatureToMap({ ...signature, options }), Array.isArray(args) ? args : []);
  }
  return given(job, 'result', 1);
}

/** A chord as a task. A worker that does not start chords itself publishes it. Its result is the result tuple of the body. */
async function chord(job: Job): Promise<unknown> {
  const args = given(job, 'partial_args', 2);
  const body = readSignature(given(job, 'body', 1));
  const own = body.options.get('task_id');
  const id = typeof own === 'string' ? own : `${job.id}-body`;
  const kwargs = new Map<string, unknown>([
    ['kwargs', given(job, 'kwargs', -1) ?? new Map()],
    ['header', given(job, 'header', 0)],
    ['body', signatureToMap({ ...body, options: new Map(body.options).set('task_id', id) })],
  ]);
  await deliveryOf(job).apply(composite('chord', kwargs, new Map()), Array.isArray(args) ? args : []);
  return resultTuple(id);
}

/** Polls the header of a chord. When every member is ready, it applies the body, or fails it. */
async function unlockChord(host: BuiltinHost, job: Job): Promise<void> {
  const groupId = String(job.args[0] ?? job.kwargs['group_id']);
  const body = given(job, 'callback', 1);
  const seconds = job.kwargs['interval'];
  const most = job.kwargs['max_retries'];
  const header = given(job, 'result', 4);
  const tuples = (Array.isArray(header) ? header : []).map(readTuple).filter((tuple) => tuple !== undefined);
  const ids = tuples.flatMap(leavesOf);
  const ended = new Map<string, Ended>();
  for (const [index, stored] of (await host.backend.fetchMany(ids)).entries()) {
    const id = ids[index] as string;
    const read = stored === undefined ? undefined : readEnded(id, stored, host.resultSerializer, host.limits);
    if (read !== undefined) ended.set(id, read);
  }
  if (!ids.every((id) => ended.has(id))) {
    if (typeof most === 'number' && job.attempt > most)
      throw new Fail(`the chord of group ${groupId} was not ready after ${most} retries`);
    throw new Retry({
      delayMs: (typeof seconds === 'number' ? seconds : 1) * 1000,
      message: `the chord of group ${groupId} is not ready`,
    });
  }
  const culprit = ids.map((id) => ended.get(id) as Ended).find(({ state }) => EXCEPTION_STATES.has(state));
  const delivery = deliveryOf(job);
  if (culprit !== undefined) {
    const { policy } = delivery.origin;
    await delivery.carry(bodyFailed(body, dependencyFailed(culprit), policy, delivery.origin.publisher()));
    return;
  }
  const join = ([[id], children]: ResultTuple): unknown =>
    children === null ? ended.get(id)?.result : children.map(join);
  await delivery.apply(readSignature(body), [tuples.map(join)]);
}

/** Built-in tasks run only in deliveries of this driver. */
function deliveryOf(job: Job): CeleryDelivery {
  return canvas(job) as CeleryDelivery;
}

/** An argument by name or position, as exact data: signatures are passed on unchanged. */
function given(job: Job, name: string, place: number): unknown {
  const { args, kwargs } = (job as CeleryJob).request.exactArguments();
  return kwargs.has(name) ? kwargs.get(name) : args[place];
}
