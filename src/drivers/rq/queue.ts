import * as jobs from '../../../protocols/rq/jobs.ts';
import { checkQueueName, type RegistryName } from '../../../protocols/rq/keys.ts';
import * as queues from '../../../protocols/rq/queues.ts';
import { JobRecord, type JobReader, RqJob } from './job.ts';

/** A registry, named by the status of its jobs; `started` is RQ's `wip`. */
export type RegistryState = Exclude<RegistryName, 'wip'> | 'started';

/** One queue, like RQ's Queue. Reading it changes nothing; RQ itself cleans up registries when it counts them. */
export class RqQueue {
  readonly name: string;
  readonly #reader: JobReader;

  constructor(reader: JobReader, name: string) {
    this.#reader = reader;
    this.name = checkQueueName(name);
  }

  /** The number of waiting jobs. */
  async length(): Promise<number> {
    return (await this.counts()).queued;
  }

  /** The number of jobs for each status. */
  async counts(): Promise<queues.Counts> {
    return (await this.#reader.run(queues.counts([this.name], new Date())))[0] as queues.Counts;
  }

  /** Ids of the waiting jobs; the next job to run comes first. */
  ids({ offset = 0, length = -1 }: Part = {}): Promise<readonly string[]> {
    return this.#reader.run(queues.queuedIds(this.name, offset, length));
  }

  /** The waiting jobs; the next job to run comes first. Ids whose job is gone (its `ttl` passed) are left out. */
  async jobs(part: Part = {}): Promise<readonly JobRecord[]> {
    return records(this.#reader, await this.ids(part));
  }

  /** Deletes the waiting jobs and their results. Resolves to the number of deleted jobs. */
  async empty(): Promise<number> {
    let all = 0;
    for (;;) {
      const taken = await this.#reader.run(queues.empty(this.name));
      all += taken;
      if (taken < queues.EMPTY_BATCH) return all;
    }
  }

  /**
   * Empties the queue and removes it from the list of queues. With `jobs: false` its jobs are kept, but no worker runs them. Resolves to the number
   * of deleted jobs.
   */
  async delete({ jobs: too = true }: { readonly jobs?: boolean } = {}): Promise<number> {
    const emptied = too ? await this.empty() : 0;
    await this.#reader.run(queues.forgetQueue(this.name));
    return emptied;
  }

  /** The jobs of this queue in one state: `failed`, `scheduled`, `started` … */
  registry(state: RegistryState): RqRegistry {
    return new RqRegistry(this.#reader, this.name, state);
  }
}

/** A range of entries. All entries by default. */
export interface Part {
  readonly offset?: number;
  readonly length?: number;
}

/** The jobs of one queue that have one status. */
export class RqRegistry {
  readonly queue: string;
  readonly state: RegistryState;
  readonly #reader: JobReader;

  constructor(reader: JobReader, queue: string, state: RegistryState) {
    this.#reader = reader;
    this.queue = queue;
    this.state = state;
  }

  /** The number of jobs. */
  async count(): Promise<number> {
    const [all] = await this.#reader.run(queues.counts([this.queue], new Date()));
    return (all as queues.Counts)[this.state];
  }

  /** Ids with their times, the earliest first. */
  entries({ offset = 0, length = -1 }: Part = {}): Promise<readonly queues.RegistryEntry[]> {
    return this.#reader.run(queues.registryEntries(this.#name, this.queue, offset, length));
  }

  /** Ids, the earliest first. */
  async ids(part: Part = {}): Promise<readonly string[]> {
    return (await this.entries(part)).map(({ id }) => id);
  }

  /** The jobs that still exist. */
  async jobs(part: Part = {}): Promise<readonly JobRecord[]> {
    return records(this.#reader, await this.ids(part));
  }

  /**
   * Puts these jobs, or all of them, into the queue again. Resolves to how many were requeued. Running jobs are not requeued. Ids that are not in the
   * registry, or have no job any more, are left out.
   */
  async requeue(ids?: readonly string[], { atFront = false }: { readonly atFront?: boolean } = {}): Promise<number> {
    const registry = this.#name;
    if (registry === 'wip') return 0;
    const all = ids ?? (await this.ids());
    let done = 0;
    for (let at = 0; at < all.length; at += BATCH) {
      const some = all.slice(at, at + BATCH);
      const states = await this.#reader.run(jobs.requeue(registry, this.queue, some, new Date(), atFront));
      done += states.filter((state) => state === 'queued').length;
    }
    return done;
  }

  /** Handles of the jobs. */
  async handles(part: Part = {}): Promise<readonly RqJob[]> {
    return (await this.ids(part)).map((id) => new RqJob(this.#reader, id));
  }

  get #name(): RegistryName {
    return this.state === 'started' ? 'wip' : this.state;
  }
}

const BATCH = 500;

/** Reads hashes in batches, because a registry may have very many. */
export async function records(reader: JobReader, ids: readonly string[]): Promise<readonly JobRecord[]> {
  const found: JobRecord[] = [];
  for (let at = 0; at < ids.length; at += BATCH) {
    for (const one of await reader.run(jobs.fetchJobs(ids.slice(at, at + BATCH))))
      if (one !== undefined) found.push(new JobRecord(one, reader.limits));
  }
  return found;
}
