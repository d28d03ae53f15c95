import { createHash } from 'node:crypto';
import * as json from '../../protocols/formats/json.ts';
import type { Explanation } from '../../protocols/explanation.ts';
import { ConfigError } from '../../src/errors.ts';
import {
  type Action,
  type ActOptions,
  type ActResult,
  canDo,
  type InspectedJob,
  type Inspector,
  type JobFilter,
  type JobPage,
  type JobSet,
  type JobsQuery,
  type Overview,
  type QueueInfo,
  type ScheduleInfo,
  type Target,
  type WorkerInfo,
} from '../../src/inspector.ts';
import { jobOf, type ToyOptions } from './driver.ts';
import { type Entry, ToyStore } from './store.ts';

/** What there is in a toy store. */
export class ToyInspector implements Inspector {
  readonly system = 'toy';
  readonly address: string;
  readonly sets: readonly JobSet[] = [
    { name: 'queued', kind: 'waiting', byQueue: true },
    { name: 'claimed', kind: 'running', byQueue: false },
    { name: 'failed', kind: 'failed', byQueue: false },
    { name: 'quarantine', kind: 'quarantined', byQueue: false },
  ];
  readonly can: Readonly<Record<Action, boolean>> = canDo('retry', 'delete', 'pause', 'resume');
  readonly #store: ToyStore;
  readonly #scanLimit: number;

  constructor({ url, scanLimit = 10_000 }: ToyOptions & { readonly scanLimit?: number }) {
    this.address = url;
    this.#store = ToyStore.of(url);
    this.#scanLimit = scanLimit;
  }

  async overview(): Promise<Overview> {
    const counts = Object.fromEntries(this.sets.map(({ name }) => [name, this.#entries(name).length]));
    return { counts, workers: 0, busy: 0, processed: undefined, failed: undefined };
  }

  async queues(): Promise<readonly QueueInfo[]> {
    return [...this.#store.queues].map(([name, list]) => ({
      ...{ name, size: list.length, latencyMs: undefined, paused: this.#store.paused.has(name), consumers: undefined },
    }));
  }

  /** A cursor is how many entries come before. */
  async jobs(set: string, { queue, cursor = '0', limit = 25, filter = {} }: JobsQuery = {}): Promise<JobPage> {
    const entries = this.#entries(set, queue);
    if (!/^\d+$/.test(cursor)) throw new ConfigError('toy: no page gave this cursor');
    if (!Number.isInteger(limit) || limit < 1 || limit > 1_000)
      throw new ConfigError('toy: limit must be from 1 to 1000');
    const jobs: InspectedJob[] = [];
    const from = Number(cursor);
    let at = from;
    for (; at < entries.length && jobs.length < limit && at - from < this.#scanLimit; at++) {
      const job = inspected(entries[at] as Entry, set);
      if (matches(job, filter)) jobs.push(job);
    }
    const more = at < entries.length;
    return { jobs, cursor: more ? String(at) : undefined, total: entries.length, cut: more && jobs.length < limit };
  }

  async job(id: string): Promise<InspectedJob | undefined> {
    for (const { name } of this.sets)
      for (const entry of this.#entries(name))
        if (idOf(entry) === id) return { ...inspected(entry, name), explanation: explain(entry.bytes) };
    return undefined;
  }

  async workers(): Promise<readonly WorkerInfo[]> {
    return [];
  }
  async schedules(): Promise<readonly ScheduleInfo[]> {
    return [];
  }

  async act(action: Action, target: Target, { onProgress }: ActOptions = {}): Promise<ActResult> {
    if (!this.can[action]) throw new ConfigError(`toy: there is no '${action}' here`);
    if (action === 'pause' || action === 'resume') {
      if (!('queue' in target) || 'set' in target) throw new ConfigError(`toy: ${action} is for a queue`);
      this.#store.paused[action === 'pause' ? 'add' : 'delete'](target.queue);
      this.#store.changes.emit('change');
      return { done: 1, gone: [], refused: [] };
    }
    const from = 'set' in target ? target.set : action === 'retry' ? 'failed' : 'queued';
    if ('worker' in target || 'all' in target) throw new ConfigError(`toy: ${action} is for jobs`);
    const found = this.#entries(from as string, 'queue' in target ? target.queue : undefined).filter((entry) => {
      if ('ids' in target) return target.ids.includes(idOf(entry));
      return !('filter' in target) || matches(inspected(entry, from as string), target.filter ?? {});
    });
    for (const entry of found) this.#remove(entry);
    if (action === 'retry')
      for (const { reason: _reason, ...entry } of found) this.#store.put({ ...entry, attempt: 1 });
    onProgress?.({ done: found.length, total: found.length });
    const ids = new Set(found.map(idOf));
    return { done: found.length, gone: 'ids' in target ? target.ids.filter((id) => !ids.has(id)) : [], refused: [] };
  }

  async close(): Promise<void> {}
  async [Symbol.asyncDispose](): Promise<void> {}

  #entries(set: string, queue?: string): readonly Entry[] {
    if (set === 'queued')
      return [...this.#store.queues]
        .filter(([name]) => queue === undefined || name === queue)
        .flatMap(([, list]) => list);
    const entries = {
      claimed: [...this.#store.claimed],
      failed: this.#store.failed,
      quarantine: this.#store.quarantine,
    }[set];
    if (entries === undefined) throw new ConfigError(`toy: there is no set '${set}'`);
    return entries;
  }

  #remove(entry: Entry): void {
    for (const list of [...this.#store.queues.values(), this.#store.failed, this.#store.quarantine])
      if (list.includes(entry)) list.splice(list.indexOf(entry), 1);
  }
}

function idOf({ id, bytes }: Entry): string {
  return id === '' ? createHash('sha256').update(bytes).digest('hex') : id;
}

function inspected(entry: Entry, set: string): InspectedJob {
  const { queue, atMs, attempt, reason, bytes: raw } = entry;
  const unknown = {
    enqueuedAt: undefined,
    startedAt: undefined,
    endedAt: undefined,
    result: undefined,
    worker: undefined,
  };
  return {
    ...{
      id: idOf(entry),
      set,
      queue,
      state: set,
      raw,
      attempts: attempt - 1,
      explanation: undefined,
      links: {},
      ...unknown,
    },
    ...readable(entry),
    dueAt: atMs === undefined ? undefined : new Date(atMs),
    error: reason && { ...reason, traceback: undefined, at: undefined },
  };
}

/** With numbers as they are written. */
function readable(entry: Entry): Pick<InspectedJob, 'task' | 'args' | 'kwargs'> {
  try {
    const { task, kwargs } = jobOf(entry);
    const message = json.parseExact(entry.bytes.toString()) as ReadonlyMap<string, unknown>;
    const args = message.get('args') as readonly unknown[];
    return { task, args, kwargs };
  } catch {
    return { task: undefined, args: undefined, kwargs: undefined };
  }
}

function matches({ task, id, raw }: InspectedJob, filter: JobFilter): boolean {
  if (filter.task !== undefined && filter.task !== task) return false;
  if (filter.id !== undefined && filter.id !== id) return false;
  return filter.text === undefined || Buffer.from(raw).includes(filter.text);
}

/** What the bytes of a message mean. */
export function explain(bytes: Uint8Array): Explanation {
  const fields = [
    { name: 'bytes', value: JSON.stringify(Buffer.from(bytes).toString()), meaning: 'the whole message' },
  ];
  return { kind: 'job', summary: 'a job of the toy system', sections: [{ title: 'Message', fields }], warnings: [] };
}
