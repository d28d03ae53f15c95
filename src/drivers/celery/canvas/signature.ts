import type { ExactMap } from '../../../../protocols/celery/message/message.ts';
import * as pipe from '../../../../protocols/celery/canvas/builders.ts';
import {
  composite,
  groupOf,
  readSignature,
  type Signature as WireSignature,
  tasksOf,
} from '../../../../protocols/celery/canvas/signature.ts';
import { stamp as stampWire, type StampOptions } from '../../../../protocols/celery/canvas/stamp.ts';
import { ConfigError } from '../../../errors.ts';
import { type Task, taskName } from '../../../task.ts';
import type { AsyncResult } from '../client/async-result.ts';
import type {
  AnySignature,
  Awaiting,
  Chain,
  Chord,
  Chunks,
  Fixed,
  Group,
  Items,
  MapOf,
  Members,
  Results,
  Signature,
  SignatureLike,
  Steps,
  Suffixes,
  Taking,
} from './signature-types.ts';
import { checkCall } from '../option-checks.ts';
import type { SignatureOptions } from '../client/task-options.ts';
import { wireOptions } from '../client/wire-options.ts';

/** The options of `signature` beside the arguments. */
export interface SignatureCall<K = Readonly<Record<string, unknown>>> extends SignatureOptions {
  readonly kwargs?: K;
  /** The callback, called with the result. */
  readonly link?: SignatureLike | readonly SignatureLike[];
  /** The errback, called when the task fails, with the task's id. Errbacks of the new style get the request, the error and the traceback. */
  readonly linkError?: SignatureLike | readonly SignatureLike[];
}

/**
 * Makes a call as data. `client.apply` can send it, and it can be a step of a chain, a member of a group or a callback. In a chain, the result of
 * the step before it becomes the first argument, so `args` are the arguments after that one. Throws ConfigError for invalid options.
 */
export function signature<A extends readonly unknown[], K, R, const S extends Suffixes<A> | readonly [] = readonly []>(
  task: Task<A, K, R> | string,
  args?: S,
  call: SignatureCall<NoInfer<K>> = {},
): Signature<Awaiting<A, S>, AsyncResult<R>, null> {
  const name = taskName(task, 'celery');
  checkCall(name, args === undefined ? call : { ...call, args });
  const { kwargs, link: links, linkError: errbacks, ...options } = call;
  const made: WireSignature = {
    task: name,
    args: args ?? [],
    kwargs: new Map(Object.entries(kwargs ?? {})),
    options: wireOptions(options),
    subtaskType: null,
    immutable: false,
  };
  const linked = listOf(links).map(read).reduce(pipe.link, made);
  return plain(listOf(errbacks).map(read).reduce(pipe.linkError, linked));
}

/**
 * Runs these steps one after the other, each with the result of the step before it. A group that another step follows becomes the header of a chord.
 * A group of one member becomes that member, as in Celery.
 */
export function chain<T extends readonly AnySignature[]>(...steps: Steps<T>): Chain<T> {
  return plain(pipe.chainOf((steps as readonly AnySignature[]).map(read)));
}

/** Runs these at the same time. The members of a group inside the group become members of the outer group. */
export function group<T extends readonly AnySignature[]>(members: readonly [...T]): Group<T>;
export function group<T extends readonly AnySignature[]>(...members: T): Group<T>;
export function group(...members: readonly (AnySignature | readonly AnySignature[])[]): AnySignature {
  const all = members.flat() as readonly AnySignature[];
  const [only] = all;
  const tasks = all.length === 1 && only?.subtask_type === 'group' ? tasksOf(read(only)) : all;
  return plain(groupOf(tasks));
}

/** Runs the header at the same time. When all its tasks have ended, the body runs with the list of their results. */
export function chord<T extends readonly AnySignature[], B extends AnySignature>(
  header: Members<T>,
  body: B & Taking<B, [Results<T>]>,
): Chord<T, B> {
  const members = Array.isArray(header) ? (header as readonly AnySignature[]) : tasksOf(read(header as AnySignature));
  return plain(pipe.chordWith(members, read(body)));
}

/** One task that calls another task for each item, in one process, one after the other. Its result is the list of the results. */
export function xmap<A extends readonly unknown[], K, R>(
  task: Task<A, K, R> | string,
  items: readonly NoInfer<A>[0][],
  call: SignatureCall<NoInfer<K>> = {},
): MapOf<R> {
  return mapped('map', task, items, call);
}

/** `xmap` with a list of arguments for each run. */
export function xstarmap<A extends readonly unknown[], K, R>(
  task: Task<A, K, R> | string,
  items: Items<NoInfer<A>>,
  call: SignatureCall<NoInfer<K>> = {},
): MapOf<R> {
  return mapped('starmap', task, items, call);
}

/** Splits the lists of arguments into parts of `size`: a group with an `xstarmap` for each part. */
export function chunks<A extends readonly unknown[], K, R>(
  task: Task<A, K, R> | string,
  items: Items<NoInfer<A>>,
  size: number,
  call: SignatureCall<NoInfer<K>> = {},
): Chunks<R> {
  if (!Number.isInteger(size) || size < 1)
    throw new ConfigError(`celery: the size of chunks must be a whole number of at least 1, not ${size}`);
  const parts: AnySignature[] = [];
  for (let at = 0; at < items.length; at += size)
    parts.push(mapped('starmap', task, items.slice(at, at + size), call) as AnySignature);
  return plain(groupOf(parts));
}

/**
 * The same signature, but it takes no result from the step before it. In a group this applies to each member, in a chord to its header, in a chain
 * to its first step.
 */
export function immutable<C extends AnySignature>(canvas: C): Fixed<C> {
  return plain(pipe.immutable(read(canvas)));
}

/** The same signature with a callback: after the last step of a chain, after the body of a chord, after the first member of a group. */
export function link<C extends AnySignature>(canvas: C, callback: SignatureLike): C {
  return plain(pipe.link(read(canvas), read(callback)));
}

/** The same signature with an errback: on each step of a chain, each member of a group, the body of a chord. */
export function linkError<C extends AnySignature>(canvas: C, errback: SignatureLike): C {
  return plain(pipe.linkError(read(canvas), read(errback)));
}

/**
 * The same signature, with stamps on every task in it and on the tasks linked to them. Stamps are headers. Workers, events and extended results
 * show them, and tasks can be revoked by them.
 */
export function stamp<C extends AnySignature>(
  canvas: C,
  stamps: Readonly<Record<string, unknown>>,
  options: StampOptions = {},
): C {
  return plain(stampWire(read(canvas), new Map(Object.entries(stamps)), options));
}

/**
 * The same signature with more options, which replace its own. The options of a group are passed to its members, those of a chain to its first
 * step. Python's `set`.
 */
export function withOptions<C extends AnySignature>(canvas: C, options: SignatureOptions): C {
  const own = read(canvas);
  return plain({ ...own, options: new Map([...own.options, ...wireOptions(options)]) });
}

function mapped<C>(
  type: 'map' | 'starmap',
  task: Parameters<typeof taskName>[0],
  items: readonly unknown[],
  call: SignatureCall<unknown>,
): C {
  const { kwargs, link: links, linkError: errbacks, ...options } = call;
  const inner: SignatureLike = {
    task: taskName(task, 'celery'),
    args: [],
    kwargs: Object.fromEntries(Object.entries(kwargs ?? {})),
    options: {},
    subtask_type: null,
    immutable: false,
  };
  const members = new Map<string, unknown>([
    ['task', inner],
    ['it', items],
  ]);
  // A map is an ordinary task, as in Python. With a subtask type of its own it would lose its options in the worker that sends it.
  const map = { ...composite(type, members, wireOptions(options)), subtaskType: null, immutable: true };
  const linked = listOf(links).map(read).reduce(pipe.link, map);
  return plain(listOf(errbacks).map(read).reduce(pipe.linkError, linked));
}

function read(signature: SignatureLike): WireSignature {
  return readSignature(signature);
}

function listOf<T>(value: T | readonly T[] | undefined): readonly T[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? (value as readonly T[]) : [value as T];
}

/** Users get signatures as ordinary objects, which they can inspect, log, or pass to a task as an argument. */
function plain<C>({ task, args, kwargs, options, subtaskType, immutable: fixed }: WireSignature): C {
  return {
    task,
    args,
    // The keyword arguments of a task are user data, so they are not converted.
    kwargs: subtaskType === null ? Object.fromEntries(kwargs) : plainMembers(kwargs),
    options: plainMembers(options),
    subtask_type: subtaskType,
    immutable: fixed,
  } as C;
}

function plainMembers(members: ExactMap): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    [...members].map(([name, value]) => [
      name,
      SIGNATURES.has(name) ? (Array.isArray(value) ? value.map(plainSignature) : plainSignature(value)) : value,
    ]),
  );
}

/** The members of a signature that hold signatures. */
const SIGNATURES: ReadonlySet<string> = new Set(['tasks', 'header', 'body', 'link', 'link_error']);

function plainSignature(value: unknown): unknown {
  return value instanceof Map ? plain(readSignature(value)) : value;
}
