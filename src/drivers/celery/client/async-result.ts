import { leavesOf } from '../../../../protocols/celery/canvas/chord.ts';
import { exceptionOf } from '../../../../protocols/celery/outcome/exceptions.ts';
import {
  groupTuple,
  PROPAGATE_STATES,
  READY_STATES,
  type ResultTuple,
  resultTuple,
  type TaskMeta,
} from '../../../../protocols/celery/outcome/result.ts';
import { RemoteError } from '../../../errors.ts';
import type { WaitOptions } from '../results/await-results.ts';

/** How a revoke applies to running tasks, and to the tasks before this one. */
export interface RevokeOptions {
  /** Stop the task also if it runs: in Node the signal of the handler aborts, a Python worker kills the process. @default false */
  readonly terminate?: boolean;
  /** The signal that Python workers send for `terminate`. @default 'SIGTERM' */
  readonly signal?: string;
  /** Revoke the tasks before it too: the earlier steps of its chain, the header of its chord. @default false */
  readonly ancestors?: boolean;
}

/** The client's methods that results use. */
export interface ResultReader {
  meta(id: string): Promise<TaskMeta | undefined>;
  metas(ids: readonly string[]): Promise<readonly (TaskMeta | undefined)[]>;
  /** Waits until each task is ready. `ready` may throw, which ends the wait. */
  waitAll(
    ids: readonly string[],
    ready: (meta: TaskMeta) => boolean,
    options: WaitOptions,
  ): Promise<readonly TaskMeta[]>;
  forget(id: string): Promise<void>;
  saveGroup(groupId: string, results: readonly AnyResult[]): Promise<void>;
  revoke(ids: readonly string[], options: Omit<RevokeOptions, 'ancestors'>): Promise<void>;
}

/** The result of a task, or of a group. */
export type AnyResult = AsyncResult | GroupResult;

/** The result of one task, as Celery's AsyncResult. */
export class AsyncResult<R = unknown> {
  readonly id: string;
  readonly #reader: ResultReader;
  readonly #parent: ResultTuple | null;

  /** @param parent the result of the step before it, where that is known */
  constructor(reader: ResultReader, id: string, parent: ResultTuple | null = null) {
    this.#reader = reader;
    this.id = id;
    this.#parent = parent;
  }

  /** The step before it in a chain, or the header of the chord whose body it is. Known only for workflows that this client applied or restored. */
  get parent(): AnyResult | undefined {
    return this.#parent === null ? undefined : resultOf(this.#reader, this.#parent);
  }

  /**
   * The return value. Throws RemoteError when the task failed or was revoked, ResultTimeoutError after `timeoutMs`, the
   * signal's reason when it aborts.
   */
  async get(options: WaitOptions = {}): Promise<R> {
    const [meta] = await this.#reader.waitAll([this.id], isReady, options);
    return valueOf(meta as TaskMeta) as R;
  }

  /** The state. `PENDING` if nothing is stored: the task is waiting, unknown or expired. */
  async state(): Promise<string> {
    return (await this.#reader.meta(this.id))?.status ?? 'PENDING';
  }

  /** Everything stored about the task. */
  meta(): Promise<TaskMeta | undefined> {
    return this.#reader.meta(this.id);
  }

  /** Whether it has ended: SUCCESS, FAILURE or REVOKED. */
  async ready(): Promise<boolean> {
    return READY_STATES.has(await this.state());
  }
  /** Whether it has succeeded. */
  async successful(): Promise<boolean> {
    return (await this.state()) === 'SUCCESS';
  }
  /** Whether it has failed. */
  async failed(): Promise<boolean> {
    return (await this.state()) === 'FAILURE';
  }

  /** The results of the tasks that this task has published so far: callbacks, the next step of its chain, tasks sent by its handler. */
  async children(): Promise<readonly AnyResult[]> {
    return ((await this.#reader.meta(this.id))?.children ?? []).map((child) => resultOf(this.#reader, child));
  }

  /** This result and the results of all tasks after it, each with its value, level by level. Rejects at the first task that failed. */
  collect(options: WaitOptions = {}): AsyncGenerator<readonly [result: AnyResult, value: unknown]> {
    return collect(this, options);
  }

  /** Removes the stored result. */
  forget(): Promise<void> {
    return this.#reader.forget(this.id);
  }

  /** Tells the workers not to run the task. Resolves when the message is sent. Throws ConfigError if the broker has no remote control. */
  revoke(options: RevokeOptions = {}): Promise<void> {
    return revoke(this.#reader, this.tuple, options);
  }

  /** The result in Celery's form: `[[id, parent], null]`. */
  get tuple(): ResultTuple {
    return resultTuple(this.id, this.#parent);
  }
}

/** The results of a group, in the order of its members, as Celery's GroupResult. */
export class GroupResult<T extends readonly unknown[] = readonly unknown[]> {
  readonly id: string;
  /** One result for each member. If a member ends in a group, its result is a GroupResult. */
  readonly results: readonly AnyResult[];
  readonly #reader: ResultReader;
  readonly #tuple: ResultTuple;

  constructor(reader: ResultReader, tuple: ResultTuple) {
    const [[id], children] = tuple;
    this.#reader = reader;
    this.#tuple = tuple;
    this.id = id;
    this.results = (children ?? []).map((child) => resultOf(reader, child));
  }

  get parent(): AnyResult | undefined {
    const above = this.#tuple[0][1];
    return above === null ? undefined : resultOf(this.#reader, above);
  }

  /** The return values. Throws the errors of `AsyncResult.get` for the first member that fails, also while others still run. */
  async get(options: WaitOptions = {}): Promise<T> {
    const ids = leavesOf(this.#tuple);
    const metas = await this.#reader.waitAll(ids, (meta) => isReady(meta) && (valueOf(meta), true), options);
    const values = new Map(ids.map((id, at) => [id, (metas[at] as TaskMeta).result]));
    return shaped(this.#tuple, values) as T;
  }

  /** Whether all members have ended. */
  async ready(): Promise<boolean> {
    return (await this.states()).every((state) => READY_STATES.has(state));
  }
  /** Whether some members have not ended yet. */
  async waiting(): Promise<boolean> {
    return !(await this.ready());
  }
  /** Whether all members have succeeded. */
  async successful(): Promise<boolean> {
    return (await this.states()).every((state) => state === 'SUCCESS');
  }
  /** Whether a member has failed. */
  async failed(): Promise<boolean> {
    return (await this.states()).some((state) => state === 'FAILURE');
  }
  /** The number of members that have succeeded. */
  async completedCount(): Promise<number> {
    return (await this.states()).filter((state) => state === 'SUCCESS').length;
  }

  /** The states of the members. For a member that is a group, the states of its members are listed. */
  async states(): Promise<readonly string[]> {
    const metas = await this.#reader.metas(leavesOf(this.#tuple));
    return metas.map((meta) => meta?.status ?? 'PENDING');
  }

  /** Like `AsyncResult.collect`, for every member. */
  collect(options: WaitOptions = {}): AsyncGenerator<readonly [result: AnyResult, value: unknown]> {
    return collect(this, options);
  }

  /** Stores the group under its id, for `client.group` and for Python's `GroupResult.restore`. */
  save(): Promise<void> {
    return this.#reader.saveGroup(this.id, this.results);
  }

  /** Removes the stored results of the members. */
  async forget(): Promise<void> {
    await Promise.all(leavesOf(this.#tuple).map((id) => this.#reader.forget(id)));
  }

  /** Tells the workers not to run the members. */
  revoke(options: RevokeOptions = {}): Promise<void> {
    return revoke(this.#reader, this.#tuple, options);
  }

  /** The result in Celery's form: `[[id, parent], [members]]`. */
  get tuple(): ResultTuple {
    return groupTuple(this.id, this.#tuple[1] ?? [], this.#tuple[0][1]);
  }

  [Symbol.iterator](): IterableIterator<AnyResult> {
    return this.results[Symbol.iterator]();
  }
}

/** The result object for a result tuple. */
export function resultOf(reader: ResultReader, tuple: ResultTuple): AnyResult {
  const [[id, parent], children] = tuple;
  return children === null ? new AsyncResult(reader, id, parent) : new GroupResult(reader, tuple);
}

function isReady({ status }: TaskMeta): boolean {
  return READY_STATES.has(status);
}

function valueOf(meta: TaskMeta): unknown {
  if (!PROPAGATE_STATES.has(meta.status)) return meta.result;
  const { type, module, args } = exceptionOf(meta.result) ?? { type: meta.status, module: undefined, args: [] };
  throw new RemoteError({ type, module: module ?? undefined, args, traceback: meta.traceback });
}

function shaped([[id], children]: ResultTuple, values: ReadonlyMap<string, unknown>): unknown {
  return children === null ? values.get(id) : children.map((child) => shaped(child, values));
}

/** Source: celery/result.py collect, iterdeps. Celery's function does not wait for children that are not stored yet. */
async function* collect(
  first: AnyResult,
  options: WaitOptions,
): AsyncGenerator<readonly [result: AnyResult, value: unknown]> {
  const queue = [first];
  for (let result = queue.shift(); result !== undefined; result = queue.shift()) {
    yield [result, await result.get(options)];
    queue.push(...(result instanceof GroupResult ? result.results : await result.children()));
  }
}

function revoke(
  reader: ResultReader,
  tuple: ResultTuple,
  { ancestors = false, ...options }: RevokeOptions,
): Promise<void> {
  return reader.revoke([...new Set(ancestors ? allOf(tuple) : leavesOf(tuple))], options);
}

/** Every task in a result and before it. */
function allOf(tuple: ResultTuple): readonly string[] {
  const ids: string[] = [];
  const open = [tuple];
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    const [[id, parent], children] = at;
    if (children === null) ids.push(id);
    else open.push(...children);
    if (parent !== null) open.push(parent);
  }
  return ids;
}
