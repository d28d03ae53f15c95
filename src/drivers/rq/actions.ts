import * as wire from '../../../protocols/rq/inspect.ts';
import * as jobs from '../../../protocols/rq/jobs.ts';
import { isQueueName, type RegistryName } from '../../../protocols/rq/keys.ts';
import { readJob } from '../../../protocols/rq/message.ts';
import { unregister } from '../../../protocols/rq/presence.ts';
import { empty, EMPTY_BATCH, queueNames, queuedIds } from '../../../protocols/rq/queues.ts';
import { fetchWorkers, resume, sendCommand, suspend, workerNames } from '../../../protocols/rq/workers.ts';
import { ConfigError } from '../../errors.ts';
import type {
  Action,
  ActOptions,
  ActResult,
  InspectedJob,
  JobFilter,
  JobPage,
  JobsQuery,
  Target,
} from '../../inspector.ts';
import type { RqClient } from './client.ts';

/** How many jobs are changed in one round trip. */
const STEP = 100;

/** One job to act on. */
interface Subject {
  readonly id: string;
  /** The bytes of its id, if it is in quarantine. */
  readonly bytes: Uint8Array;
  /** The queue in whose registry the job is. */
  readonly queue: string;
  readonly state: string;
  readonly worker: string | undefined;
  readonly quarantined: boolean;
}

/** A job of a page, and the entry of the queue's registry by which it was found. */
export interface FoundJob extends InspectedJob {
  readonly entry: wire.PageEntry;
  readonly foundIn: string;
}

export interface FoundPage extends Omit<JobPage, 'jobs'> {
  readonly jobs: readonly FoundJob[];
}

/** Reads sets, page by page. */
export interface SetReader {
  page(set: string, query: JobsQuery): Promise<FoundPage>;
}

type Answer = 'done' | 'gone' | { readonly refused: string };

/**
 * The implementation of `RqInspector.act`. Each change is one script, which checks the current state when it runs. If two callers make the same
 * change at once, it happens once.
 */
export class Actions {
  readonly #client: RqClient;
  readonly #reader: SetReader;

  constructor(client: RqClient, reader: SetReader) {
    this.#client = client;
    this.#reader = reader;
  }

  async act(action: Action, target: Target, options: ActOptions): Promise<ActResult> {
    switch (action) {
      case 'retry':
      case 'requeue':
      case 'run':
      case 'cancel':
      case 'terminate':
      case 'delete':
        if ('ids' in target) return this.#ids(action, target.ids, target.set, options);
        if ('set' in target) return this.#set(action, target, options);
        if (action === 'delete' && 'queue' in target) return this.#emptyQueue(target.queue, options);
        throw unfit(action, action === 'delete' ? 'ids, a set or a queue' : 'ids or a set');
      case 'pause':
      case 'resume':
        if (!('all' in target)) throw unfit(action, '{ all: true }: RQ suspends all queues at once');
        await this.#client.run(action === 'pause' ? suspend() : resume());
        return { done: 1, gone: [], refused: [] };
      case 'stop':
        if ('worker' in target) return this.#stop([target.worker]);
        if ('all' in target) return this.#stop(undefined);
        throw unfit(action, 'a worker or { all: true }');
      case 'unregister':
        if ('worker' in target) return this.#unregister(target.worker);
        throw unfit(action, 'a worker');
      case 'kill':
      case 'quiet':
        throw new ConfigError(`rq: there is no action '${action}'`);
    }
  }

  async #ids(
    action: Action,
    ids: readonly string[],
    set: string | undefined,
    { onProgress, signal }: ActOptions,
  ): Promise<ActResult> {
    const total = new Tally();
    const unique = [...new Set(ids)];
    for (let at = 0; at < unique.length && signal?.aborted !== true; at += STEP) {
      const some = unique.slice(at, at + STEP);
      const subjects = await this.#subjects(some, set);
      for (const [index, id] of some.entries()) if (subjects[index] === undefined) total.add(id, 'gone');
      const there = subjects.filter((one) => one !== undefined);
      for (const [index, answer] of (await this.#change(action, there)).entries())
        total.add((there[index] as Subject).id, answer);
      onProgress?.({ done: total.done, total: unique.length });
    }
    return total.result();
  }

  /**
   * Every job of a set that matches. One page is read ahead, so that a cursor always names a job that is not changed yet. Jobs that enter the set
   * meanwhile are left alone: no more jobs are read than the set had at the beginning.
   */
  async #set(
    action: Action,
    { set, queue, filter }: { readonly set: string; readonly queue?: string; readonly filter?: JobFilter },
    { onProgress, signal }: ActOptions,
  ): Promise<ActResult> {
    const total = new Tally();
    // Removing the jobs one by one would search the whole list for each of them.
    if (action === 'delete' && set === 'queued' && filter === undefined) {
      for (const name of queue === undefined ? await this.#client.run(queueNames()) : [queue])
        await this.#empty(name, { ...(signal === undefined ? {} : { signal }) }, (taken) => {
          total.done += taken;
          onProgress?.({ done: total.done, total: undefined });
        });
      return total.result();
    }
    const read = (cursor: string | undefined): Promise<FoundPage> =>
      this.#reader.page(set, {
        limit: STEP,
        ...(queue === undefined ? {} : { queue }),
        ...(filter === undefined ? {} : { filter }),
        ...(cursor === undefined ? {} : { cursor }),
      });
    let page = await read(undefined);
    const expected = filter === undefined ? page.total : undefined;
    for (let left = page.total ?? Number.POSITIVE_INFINITY; signal?.aborted !== true;) {
      const next = page.cursor === undefined ? undefined : await read(page.cursor);
      const subjects = page.jobs.slice(0, left).map((job) => subjectOf(job, job.foundIn, job.entry.bytes));
      for (const [index, answer] of (await this.#change(action, subjects)).entries())
        // A job that is gone by now was not named by the caller, so it is not reported.
        if (answer !== 'gone') total.add((subjects[index] as Subject).id, answer);
      onProgress?.({ done: total.done, total: expected });
      left -= page.jobs.length;
      if (next === undefined || left <= 0) break;
      page = next;
    }
    return total.result();
  }

  /** Where the jobs with these ids are; undefined for an id without a job. */
  async #subjects(ids: readonly string[], set: string | undefined): Promise<readonly (Subject | undefined)[]> {
    if (set === 'quarantine') {
      const found = new Map<string, Subject>();
      for (let cursor: string | undefined, first = true; first || cursor !== undefined; first = false) {
        const page: FoundPage = await this.#reader.page(set, {
          limit: 1_000,
          ...(cursor === undefined ? {} : { cursor }),
        });
        for (const job of page.jobs) found.set(job.id, subjectOf(job, job.foundIn, job.entry.bytes));
        cursor = page.cursor;
      }
      return ids.map((id) => found.get(id));
    }
    const facts = await this.#client.run(wire.jobFacts(ids));
    return ids.map((id, at) => {
      const hash = readJob(id, (facts[at] as wire.JobFacts).hash)?.job;
      if (hash === undefined) return undefined;
      const state = hash.status ?? 'created';
      if (set !== undefined && set !== state && !(set === 'failed' && state === 'stopped')) return undefined;
      return {
        id,
        bytes: Buffer.from(id),
        queue: hash.origin ?? '',
        state,
        worker: hash.workerName,
        quarantined: false,
      };
    });
  }

  async #change(action: Action, subjects: readonly Subject[]): Promise<readonly Answer[]> {
    const answers = new Map<Subject, Answer>();
    const groups = new Map<string, Subject[]>();
    for (const one of subjects) {
      const from = one.quarantined ? 'quarantine' : sourceOf(action, one);
      if (from === DEALT_WITH) answers.set(one, 'gone');
      else if (typeof from !== 'string') answers.set(one, from);
      else groups.set(`${from}\n${one.queue}`, [...(groups.get(`${from}\n${one.queue}`) ?? []), one]);
    }
    const now = new Date();
    for (const [key, group] of groups) {
      const found = await this.#changeGroup(action, key.slice(0, key.indexOf('\n')), group, now);
      for (const [at, one] of group.entries()) answers.set(one, found[at] as Answer);
    }
    return subjects.map((one) => answers.get(one) as Answer);
  }

  /** Jobs in one registry of one queue. */
  async #changeGroup(action: Action, from: string, group: readonly Subject[], now: Date): Promise<readonly Answer[]> {
    const { queue } = group[0] as Subject;
    const ids = group.map(({ id }) => id);
    if (from === 'quarantine') {
      if (action !== 'requeue' && action !== 'retry' && action !== 'delete')
        return group.map(() => ({ refused: 'it is in quarantine, where no job runs: requeue or delete it' }));
      const bytes = group.map((one) => one.bytes);
      return (await this.#client.run(wire.unquarantine(queue, bytes, action !== 'delete'))).map(answerOf);
    }
    switch (action) {
      case 'run':
        return (await this.#client.run(wire.runScheduled(queue, ids, now))).map(answerOf);
      case 'retry':
      case 'requeue':
        return (await this.#client.run(jobs.requeue(from as Requeueable, queue, ids, now))).map((one) =>
          one === 'queued' ? 'done' : 'gone',
        );
      case 'delete': {
        const deleted = await Promise.all(ids.map((id) => this.#client.run(jobs.deleteJob(id))));
        return deleted.map((count) => (count > 0 ? 'done' : 'gone'));
      }
      case 'cancel': {
        const canceled = await Promise.all(ids.map((id) => this.#client.run(jobs.cancel(id, now))));
        // A job that is canceled by now was canceled by another caller.
        return canceled.map((one) => (typeof one === 'number' ? 'done' : 'gone'));
      }
      case 'terminate':
        return Promise.all(
          group.map(async ({ id, worker = '' }): Promise<Answer> => {
            const heard = await this.#client.run(sendCommand(worker, { command: 'stop-job', jobId: id }));
            return heard ? 'done' : { refused: `its worker '${worker}' does not listen` };
          }),
        );
      default:
        throw new ConfigError(`rq: '${action}' is not for jobs`);
    }
  }

  async #emptyQueue(queue: string, options: ActOptions): Promise<ActResult> {
    const known = (await this.#client.run(queueNames())).includes(queue);
    if (!known && (await this.#client.run(queuedIds(queue, 0, 1))).length === 0)
      return { done: 0, gone: [queue], refused: [] };
    let done = 0;
    await this.#empty(queue, options, (taken) => {
      done += taken;
      options.onProgress?.({ done, total: undefined });
    });
    return { done: 1, gone: [], refused: [] };
  }

  async #empty(queue: string, { signal }: ActOptions, told: (taken: number) => void): Promise<void> {
    while (signal?.aborted !== true) {
      const taken = await this.#client.run(empty(queue));
      told(taken);
      if (taken < EMPTY_BATCH) return;
    }
  }

  /** Undefined: all of them. */
  async #stop(names: readonly string[] | undefined): Promise<ActResult> {
    const listed = await this.#client.run(workerNames());
    const workers = names ?? listed;
    const heard = await Promise.all(
      workers.map((worker) => this.#client.run(sendCommand(worker, { command: 'shutdown' }))),
    );
    const total = new Tally();
    for (const [at, worker] of workers.entries()) {
      if (heard[at] === true) total.add(worker, 'done');
      else if (names === undefined) continue;
      else total.add(worker, listed.includes(worker) ? { refused: 'it does not listen' } : 'gone');
    }
    return total.result();
  }

  async #unregister(worker: string): Promise<ActResult> {
    const total = new Tally();
    const listed = await this.#client.run(workerNames());
    const [record] = await this.#client.run(fetchWorkers([worker]));
    const [listens] = await this.#client.run(wire.listening([worker]));
    if (!listed.includes(worker)) total.add(worker, 'gone');
    else if (listens === true) total.add(worker, { refused: 'it lives: it listens to commands' });
    else {
      const queues = record?.queues ?? (await this.#client.run(queueNames())).filter(isQueueName);
      // `unregister` writes to the worker's hash. For a worker without a hash, that would create the hash again.
      await this.#client.run(
        record === undefined ? wire.forgetWorker(worker, queues) : unregister(worker, queues, new Date()),
      );
      total.add(worker, 'done');
    }
    return total.result();
  }
}

type Requeueable = Exclude<RegistryName, 'wip'>;

/** The result of `sourceOf` for a job that another caller has already handled. */
const DEALT_WITH = '';

/** The registry from which an action takes a job, by the job's status. Empty if another caller was first. Otherwise the reason for a refusal. */
function sourceOf(action: Action, { state, worker }: Subject): string | { readonly refused: string } {
  const stands = (what: string): { readonly refused: string } => ({ refused: `it is ${state}; ${what}` });
  switch (action) {
    case 'retry':
      if (state === 'failed' || state === 'stopped') return 'failed';
      if (state === 'canceled') return 'canceled';
      // A job that another caller has retried is no longer among the failed ones.
      return state === 'queued' ? DEALT_WITH : stands('a job is retried once it failed, was stopped or canceled');
    case 'requeue':
      if (state === 'failed' || state === 'stopped') return 'failed';
      if (['canceled', 'scheduled', 'deferred', 'finished'].includes(state)) return state;
      return state === 'queued' ? DEALT_WITH : stands('terminate it first');
    case 'run':
      if (state === 'scheduled') return 'scheduled';
      return state === 'queued' ? DEALT_WITH : stands('only a scheduled job is run before its time');
    case 'cancel':
      if (state === 'canceled') return DEALT_WITH;
      return ['finished', 'failed', 'stopped'].includes(state) ? stands('it has ended') : 'any';
    case 'terminate':
      return state === 'started' && worker !== undefined ? 'any' : stands('no worker runs it');
    default:
      return 'any';
  }
}

function subjectOf(job: InspectedJob, foundIn: string, bytes: Uint8Array): Subject {
  const { id, state, worker, set } = job;
  return { id, bytes, queue: foundIn, state, worker, quarantined: set === 'quarantine' };
}

function answerOf(changed: wire.Changed): Answer {
  return changed === 'done' ? 'done' : 'gone';
}

function unfit(action: Action, what: string): ConfigError {
  return new ConfigError(`rq: '${action}' is done to ${what}`);
}

class Tally {
  done = 0;
  readonly #gone: string[] = [];
  readonly #refused: { readonly id: string; readonly reason: string }[] = [];

  add(id: string, answer: Answer): void {
    if (answer === 'done') this.done += 1;
    else if (answer === 'gone') this.#gone.push(id);
    else this.#refused.push({ id, reason: answer.refused });
  }

  result(): ActResult {
    return { done: this.done, gone: this.#gone, refused: this.#refused };
  }
}
