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

/** What a revoke means to tasks that run, and to those before this one. */
export interface RevokeOptions {
  /** Stop what runs, too: a Node handler's signal aborts, a Python worker kills the process. @default false */
  readonly terminate?: boolean;
  /** For `terminate`, of Python workers. @default 'SIGTERM' */
  readonly signal?: string;
  /** Also what goes before it: the earlier steps of its chain, the header of its chord. @default false */
  readonly ancestors?: boolean;
}

/** What results need of their client. */
export interface ResultReader {
  meta(id: string): Promise<TaskMeta | undefined>;
  metas(ids: readonly string[]): Promise<readonly (TaskMeta | undefined)[]>;
  /** Wait until each is ready; `ready` may throw, which ends the waiting. */
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

  /** @param parent what goes before it, where that is known */
  constructor(reader: ResultReader, id: string, parent: ResultTuple | null = null) {
    this.#reader = reader;
    this.id = id;
    this.#parent = parent;
  }

  /** The step before it in a chain, or the header of a chord whose body it is. Known of what this client has applied or restored. */
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

  /** `PENDING` where nothing is stored: waiting, unknown or expired. */
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

  /** What the task has published so far: callbacks, the next step of its chain, what its handler sent. */
  async children(): Promise<readonly AnyResult[]> {
    return ((await this.#reader.meta(this.id))?.children ?? []).map((child) => resultOf(this.#reader, child));
  }

  /** This result and all that followed from it, each with its value, level by level. Rejects at the first that failed. */
  collect(options: WaitOptions = {}): AsyncGenerator<readonly [result: AnyResult, value: unknown]> {
    return collect(this, options);
  }

  /** Remove the stored result. */
  forget(): Promise<void> {
    return this.#reader.forget(this.id);
  }

  /** Tell the workers not to run it. Resolves when they are told. Throws ConfigError where the broker has no remote control. */
  revoke(options: RevokeOptions = {}): Promise<void> {
    return revoke(this.#reader, this.tuple, options);
  }

  /** As Celery writes it down: `[[id, parent], null]`. */
  get tuple(): ResultTuple {
    return resultTuple(this.id, this.#parent);
  }
}

/** The results of a group, in the order of its members, as Celery's GroupResult. */
export class GroupResult<T extends readonly unknown[] = readonly unknown[]> {
  readonly id: string;
  /** One for each member; a group where a member ends in one. */
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

  /** The return values. Throws what `AsyncResult.get` throws, for the first member that fails, whether others still run or not. */
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
  /** Whether some have not ended yet. */
  async waiting(): Promise<boolean> {
    return !(await this.ready());
  }
  /** Whether all have succeeded. */
  async successful(): Promise<boolean> {
    return (await this.states()).every((state) => state === 'SUCCESS');
  }
  /** Whether one has failed. */
  async failed(): Promise<boolean> {
    return (await this.states()).some((state) => state === 'FAILURE');
  }
  /** How many have succeeded. */
  async completedCount(): Promise<number> {
    return (await this.states()).filter((state) => state === 'SUCCESS').length;
  }

  /** The states of the members, and of those of groups among them. */
  async states(): Promise<readonly string[]> {
    const metas = await this.#reader.metas(leavesOf(this.#tuple));
    return metas.map((meta) => meta?.status ?? 'PENDING');
  }

  /** As `AsyncResult.collect`, of every member. */
  collect(options: WaitOptions = {}): AsyncGenerator<readonly [result: AnyResult, value: unknown]> {
    return collect(this, options);
  }

  /** Store it under its id, for `client.group` and for Python's `GroupResult.restore`. */
  save(): Promise<void> {
    return this.#reader.saveGroup(this.id, this.results);
  }

  /** Remove the stored results of the members. */
  async forget(): Promise<void> {
    await Promise.all(leavesOf(this.#tuple).map((id) => this.#reader.forget(id)));
  }

  /** Tell the workers not to run its members. */
  revoke(options: RevokeOptions = {}): Promise<void> {
    return revoke(this.#reader, this.#tuple, options);
  }

  /** As Celery writes it down: `[[id, parent], [members]]`. */
  get tuple(): ResultTuple {
    return groupTuple(this.id, this.#tuple[1] ?? [], this.#tuple[0][1]);
  }

  [Symbol.iterator](): IterableIterator<AnyResult> {
    return this.results[Symbol.iterator]();
  }
}

/** The result that a tuple stands for. */
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

/** Source: celery/result.py collect, iterdeps, which does not wait for what is not there yet. */
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
