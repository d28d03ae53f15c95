import * as json from '../../../protocols/formats/json.ts';
import { cron } from '../../../protocols/resque/cron.ts';
import * as presence from '../../../protocols/resque/presence.ts';
import { queueList } from '../../../protocols/resque/queues.ts';
import * as wire from '../../../protocols/resque/redis.ts';
import * as scheduler from '../../../protocols/resque/schedule.ts';
import * as search from '../../../protocols/resque/search.ts';
import { readTime } from '../../../protocols/resque/times.ts';
import { ConfigError } from '../../errors.ts';
import {
  type Action,
  type ActOptions,
  type ActResult,
  canDo,
  type InspectedJob,
  type Inspector,
  type JobPage,
  type JobSet,
  type JobsQuery,
  type Overview,
  type QueueInfo,
  type ScheduleInfo,
  type Target,
  type WorkerInfo,
} from '../../inspector.ts';
import { type Logger, silent } from '../../log.ts';
import { RedisConnection } from '../../transports/redis.ts';
import { Actions, SETS_OF } from './actions.ts';
import { checkInspector } from './option-checks.ts';
import { type ResolvedApp, resolveApp, type ResqueAppOptions } from './options.ts';
import { Sets } from './sets.ts';
import { enqueuedAtOf, inspected, matches, type SetName, type Stored } from './stored.ts';

/** A page is read in steps of this many entries, or this many bytes. */
const STEP = 500;
const STEP_BYTES = 4 * 2 ** 20;

const SETS: readonly (JobSet & { readonly name: SetName })[] = [
  { name: 'queued', kind: 'waiting', byQueue: true },
  { name: 'working', kind: 'running', byQueue: false },
  { name: 'delayed', kind: 'scheduled', byQueue: false },
  { name: 'failed', kind: 'failed', byQueue: false },
  { name: 'quarantine', kind: 'quarantined', byQueue: true },
];

export interface ResqueInspectorOptions extends ResqueAppOptions {
  /** The most jobs that are read for one page; a search that needs more is `cut`. @default 10 000 */
  readonly scanLimit?: number;
  readonly log?: Logger;
}

interface Opened {
  readonly redis: RedisConnection;
  readonly sets: Sets;
  readonly actions: Actions;
}

/**
 * Reads and changes the data in Resque's Redis through the inspector that all systems share. `failed` are the failures of both backends; `delayed`
 * are the jobs of resque-scheduler, by their second. A job is named by its payload's `id`, a job of Active Job by its job id, any other job by
 * `sha1:` and the digest of its bytes. If several entries have the same id, an action applies to one of them. Connects at the first call. Throws
 * ConfigError for options that cannot work.
 */
export class ResqueInspector implements Inspector {
  readonly system = 'resque';
  readonly address: string;
  readonly sets: readonly JobSet[] = SETS;
  readonly can: Inspector['can'] = canDo('retry', 'run', 'delete', 'requeue', 'pause', 'resume', 'unregister');
  readonly #app: ResolvedApp;
  readonly #log: Logger;
  readonly #scanLimit: number;
  #opening: Promise<Opened> | undefined;

  constructor(given: ResqueInspectorOptions) {
    checkInspector(given);
    const { scanLimit = 10_000, log = silent, ...options } = given;
    this.#app = resolveApp(options);
    this.address = this.#app.target.maskedUrl;
    this.#log = log;
    this.#scanLimit = scanLimit;
  }

  async overview(): Promise<Overview> {
    const { redis, sets } = await this.#open();
    const { keys } = this.#app;
    const [queued, delayed, failed, quarantine, ids, stats] = await Promise.all([
      sets.size('queued'),
      sets.size('delayed'),
      sets.size('failed'),
      sets.size('quarantine'),
      redis.run(wire.workers(keys)),
      redis.run(wire.stats(keys)),
    ]);
    const busy = await redis.run(search.countWorking(keys, ids));
    const counts = { queued, working: busy, delayed, failed, quarantine };
    return {
      counts: Object.fromEntries(Object.entries(counts).filter(([, count]) => count !== undefined)) as Record<
        string,
        number
      >,
      workers: ids.length,
      busy,
      ...stats,
    };
  }

  async queues(): Promise<readonly QueueInfo[]> {
    const { redis, sets } = await this.#open();
    const { keys } = this.#app;
    const [paused, ids] = await Promise.all([redis.run(wire.isPaused(keys)), redis.run(wire.workers(keys))]);
    const taken = ids.map((id) => queueList(presence.readWorkerId(id)?.queues ?? []));
    const infos: QueueInfo[] = [];
    for await (const lists of sets.lists('queued', undefined)) {
      const oldest = await Promise.all(
        lists.map(async ({ list, size }) => (size === 0 ? undefined : (await sets.entries('queued', list, 0, 1))[0])),
      );
      for (const [at, { list, size }] of lists.entries()) {
        const since = oldest[at] === undefined ? undefined : enqueuedAtOf(oldest[at]);
        infos.push({
          name: list.name,
          size,
          latencyMs: since === undefined ? undefined : Math.max(0, Date.now() - since.getTime()),
          paused,
          consumers: taken.filter((queues) => queues.expand([list.name]).includes(list.name)).length,
        });
      }
    }
    return infos;
  }

  async jobs(set: string, { queue, cursor, limit = 25, filter = {} }: JobsQuery = {}): Promise<JobPage> {
    const name = known(set);
    if (!Number.isSafeInteger(limit) || limit < 1 || limit > 1_000)
      throw new ConfigError(`resque: limit must be a whole number, from 1 to 1000, not ${limit}`);
    const { sets } = await this.#open();
    const byQueue = SETS.find((one) => one.name === name)?.byQueue === true;
    const filtered = Object.values(filter).some((one) => one !== undefined) || (queue !== undefined && !byQueue);
    const total = queue !== undefined && !byQueue ? undefined : await sets.size(name, queue);
    const jobs: InspectedJob[] = [];
    let last = cursor;
    let step = limit;
    for (let looked = 0; ;) {
      const count = filtered ? Math.min(step, this.#scanLimit - looked) : limit;
      const placed = await sets.read(name, queue, last, count);
      let bytes = 0;
      for (const { one, after } of placed) {
        looked += 1;
        bytes += one.entry.bytes.length;
        if (!matches(one, queue, filter)) continue;
        jobs.push(inspected(one));
        if (jobs.length < limit) continue;
        // Only another read shows whether more entries follow.
        const more = (await sets.read(name, queue, after, 1)).length > 0;
        return { jobs, cursor: more ? after : undefined, total, cut: false };
      }
      if (placed.length < count) return { jobs, cursor: undefined, total, cut: false };
      last = placed.at(-1)?.after;
      if (looked >= this.#scanLimit) return { jobs, cursor: last, total, cut: true };
      step = Math.max(1, Math.min(STEP, Math.floor((STEP_BYTES * placed.length) / Math.max(bytes, 1))));
    }
  }

  async job(id: string): Promise<InspectedJob | undefined> {
    const { actions } = await this.#open();
    const found = (await actions.find([id])).get(id);
    return found === undefined ? undefined : inspected(found, true);
  }

  /** Each worker of Resque runs one job at a time. A process of this package counts as `concurrency` workers. */
  async workers(): Promise<readonly WorkerInfo[]> {
    const { redis, sets } = await this.#open();
    const { keys } = this.#app;
    const [{ workers, beats }, working, processes] = await Promise.all([
      redis.run(presence.roster(keys)),
      sets.working(),
      redis.run(wire.claimants(keys)),
    ]);
    const ids = workers.toSorted();
    const started = await redis.run(wire.startedAt(keys, ids));
    const running = new Map(working.map((one) => [one.worker, one]));
    return ids.map((id, at) =>
      workerInfo(id, {
        startedAt: started[at],
        beat: beats.get(id),
        node: processes.some((process) => presence.isSlotOf(process, id)),
        running: running.get(id),
      }),
    );
  }

  /** The dynamic schedules of resque-scheduler. Static schedules are not in Redis. */
  async schedules(): Promise<readonly ScheduleInfo[]> {
    const { redis } = await this.#open();
    const [texts, last] = await Promise.all([
      redis.run(scheduler.persistentSchedules(this.#app.keys)),
      redis.run(scheduler.lastEnqueued(this.#app.keys)),
    ]);
    return [...texts]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, text]) => scheduleInfo(name, text, last.get(name)));
  }

  async act(action: Action, target: Target, options: ActOptions = {}): Promise<ActResult> {
    if (this.can[action] !== true) throw new ConfigError(`resque: '${action}' cannot be done here`);
    switch (action) {
      case 'pause':
      case 'resume':
        return this.#pause(action, target);
      case 'unregister':
        return this.#unregister(target);
      case 'retry':
      case 'run':
      case 'delete':
      case 'requeue':
        return this.#actOnJobs(action, target, options);
      default:
        throw unfit(action);
    }
  }

  async close(): Promise<void> {
    const opened = await this.#opening?.catch(() => undefined);
    this.#opening = undefined;
    await opened?.redis.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #actOnJobs(action: Action, target: Target, options: ActOptions): Promise<ActResult> {
    if ('ids' in target) {
      const set = target.set === undefined ? undefined : setFor(action, target.set);
      return (await this.#open()).actions.byIds(action, target.ids, set, options);
    }
    if ('set' in target) {
      const set = setFor(action, target.set);
      return (await this.#open()).actions.bySet(action, set, target.queue, target.filter ?? {}, options);
    }
    if (action !== 'delete' || !('queue' in target)) throw unfit(action);
    const { redis } = await this.#open();
    const there = await redis.run(search.removeKnownQueue(this.#app.keys, target.queue));
    return there ? { done: 1, gone: [], refused: [] } : { done: 0, gone: [target.queue], refused: [] };
  }

  /** Resque can pause only all workers, not one queue. */
  async #pause(action: 'pause' | 'resume', target: Target): Promise<ActResult> {
    if (!('all' in target))
      throw new ConfigError(`resque: '${action}' is for every worker at once; Resque has no pause of one queue`);
    const { redis } = await this.#open();
    await redis.run(wire.pauseAll(this.#app.keys, action === 'pause'));
    return { done: 1, gone: [], refused: [] };
  }

  async #unregister(target: Target): Promise<ActResult> {
    if (!('worker' in target)) throw unfit('unregister');
    const { redis } = await this.#open();
    const { keys } = this.#app;
    if (!(await redis.run(search.isKnownWorker(keys, target.worker))))
      return { done: 0, gone: [target.worker], refused: [] };
    await redis.run({ commands: presence.unregister(keys, [target.worker]), atomic: true, read: () => undefined });
    return { done: 1, gone: [], refused: [] };
  }

  #open(): Promise<Opened> {
    return (this.#opening ??= this.#connect().catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    }));
  }

  async #connect(): Promise<Opened> {
    const redis = new RedisConnection(this.#app.target, { log: this.#log });
    await redis.connect();
    const sets = new Sets(redis, this.#app.keys);
    return { redis, sets, actions: new Actions(redis, this.#app.keys, sets) };
  }
}

function workerInfo(
  id: string,
  known: {
    readonly startedAt: string | undefined;
    readonly beat: string | undefined;
    readonly node: boolean;
    readonly running: Stored | undefined;
  },
): WorkerInfo {
  const parts = presence.readWorkerId(id);
  const { running } = known;
  const pid = Number.parseInt(parts?.pid ?? '', 10);
  const job = running === undefined ? undefined : inspected(running);
  return {
    id,
    hostname: parts?.host,
    pid: Number.isNaN(pid) ? undefined : pid,
    // node-resque writes `<pid>+<number>`.
    language: known.node || parts?.pid.includes('+') === true ? 'Node' : 'Ruby',
    version: undefined,
    queues: parts?.queues ?? [],
    concurrency: 1,
    startedAt: known.startedAt === undefined ? undefined : readTime(known.startedAt),
    seenAt: known.beat === undefined ? undefined : readTime(known.beat),
    state: job === undefined ? 'idle' : 'working',
    running: job === undefined ? [] : [{ id: job.id, task: job.task, queue: job.queue, startedAt: job.startedAt }],
  };
}

function scheduleInfo(name: string, text: string, last: string | undefined): ScheduleInfo {
  const info = { name, kind: 'resque-scheduler', lastRunAt: last === undefined ? undefined : readTime(last) };
  try {
    const { entry, why } = scheduler.readSchedule(name, json.parse(text) as Readonly<Record<string, unknown>>);
    if (entry === undefined)
      return { ...info, task: undefined, queue: undefined, when: why, enabled: false, nextRunAt: undefined };
    const { class: task, queue, every } = entry;
    const when = entry.cron ?? `every ${every ?? ''}`;
    const next = entry.cron === undefined ? undefined : cron(entry.cron).next(Date.now());
    return { ...info, task, queue, when, enabled: true, nextRunAt: next === undefined ? undefined : new Date(next) };
  } catch (error) {
    const when = (error as Error).message;
    return { ...info, task: undefined, queue: undefined, when, enabled: false, nextRunAt: undefined };
  }
}

function known(set: string): SetName {
  const found = SETS.find(({ name }) => name === set);
  if (found !== undefined) return found.name;
  throw new ConfigError(`resque: there is no set '${set}'; there are ${SETS.map(({ name }) => name).join(', ')}`);
}

function setFor(action: Action, set: string): search.ListSet {
  const name = known(set);
  const found = SETS_OF[action]?.find((one) => one === name);
  if (found !== undefined) return found;
  throw new ConfigError(
    `resque: '${action}' cannot be done to jobs of '${set}'; it can in ${SETS_OF[action]?.join(', ') ?? 'none'}`,
  );
}

function unfit(action: Action): ConfigError {
  return new ConfigError(`resque: '${action}' cannot be done to this target`);
}
