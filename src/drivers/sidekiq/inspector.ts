import * as claims from '../../../protocols/claims.ts';
import * as wire from '../../../protocols/sidekiq/api.ts';
import { cronJobs, cronKeys } from '../../../protocols/sidekiq/cron.ts';
import { type Dialect, NEUTRAL } from '../../../protocols/sidekiq/dialect.ts';
import * as presence from '../../../protocols/sidekiq/presence.ts';
import * as search from '../../../protocols/sidekiq/search.ts';
import { readTimestamp } from '../../../protocols/sidekiq/times.ts';
import { anything, wholeNumber } from '../../check.ts';
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
import { checkApp } from './option-checks.ts';
import { type ResolvedApp, resolveApp, type SidekiqAppOptions } from './options.ts';
import { peersDialect } from './peers.ts';
import { queuesOf, Sets } from './sets.ts';
import { inspected, matches, type SetName, stored, type Stored } from './stored.ts';

/** A page is read in steps. A step grows up to this many entries, or this many bytes. */
const STEP = 500;
const STEP_BYTES = 4 * 2 ** 20;

const SETS: readonly (JobSet & { readonly name: SetName })[] = [
  { name: 'queued', kind: 'waiting', byQueue: true },
  { name: 'schedule', kind: 'scheduled', byQueue: false },
  { name: 'working', kind: 'running', byQueue: false },
  { name: 'claimed', kind: 'waiting', byQueue: false },
  { name: 'retry', kind: 'retrying', byQueue: false },
  { name: 'dead', kind: 'failed', byQueue: false },
  { name: 'quarantine', kind: 'quarantined', byQueue: true },
];

export interface SidekiqInspectorOptions extends SidekiqAppOptions {
  /** The most jobs that are read for one page; a search that needs more is `cut`. @default 10 000 */
  readonly scanLimit?: number;
  readonly log?: Logger;
}

interface Opened {
  readonly redis: RedisConnection;
  readonly sets: Sets;
}

/**
 * Reads and changes the data in Sidekiq's Redis through the inspector that all systems share. `claimed` are jobs that a worker of this package has
 * fetched and does not run yet, or that a dead worker left. `working` is as of each process's last heartbeat. A job is named by its jid; a job
 * without one is named by `sha1:` and the digest of its bytes. Connects at the first call. Throws ConfigError for options that cannot work.
 */
export class SidekiqInspector implements Inspector {
  readonly system = 'sidekiq';
  readonly address: string;
  readonly sets: readonly JobSet[] = SETS;
  readonly can: Inspector['can'] = canDo(
    'retry',
    'run',
    'delete',
    'kill',
    'requeue',
    'pause',
    'resume',
    'quiet',
    'stop',
    'cancel',
  );
  readonly #app: ResolvedApp;
  readonly #log: Logger;
  readonly #scanLimit: number;
  #opening: Promise<Opened> | undefined;

  constructor(options: SidekiqInspectorOptions) {
    checkApp('SidekiqInspector', options, { scanLimit: wholeNumber(1), log: anything });
    const { scanLimit = 10_000, log = silent } = options;
    this.#app = resolveApp(options);
    this.address = this.#app.target.maskedUrl;
    this.#log = log;
    this.#scanLimit = scanLimit;
  }

  async overview(): Promise<Overview> {
    const { redis, sets } = await this.#open();
    const { keys } = this.#app;
    const [counters, names, processes, claimants] = await Promise.all([
      redis.run(wire.counters(keys)),
      sets.queueNames(),
      sets.processes(),
      redis.run(claims.claimants(keys.claimants)),
    ]);
    const total = async <Item>(items: readonly Item[], count: (item: Item) => Promise<number>): Promise<number> =>
      (await Promise.all(items.map(count))).reduce((sum, one) => sum + one, 0);
    const claimCount = (identity: string): Promise<number> =>
      redis.run({
        commands: [presence.countClaims(keys, identity)],
        atomic: false,
        read: ([reply]) => reply as number,
      });
    const workCount = (identity: string): Promise<number> => redis.run(search.workCount(keys, identity));
    const [queued, schedule, retry, dead, quarantine, working, claimed, shown] = await Promise.all([
      total(names, (name) => sets.queued(name)),
      sets.size('schedule'),
      sets.size('retry'),
      sets.size('dead'),
      total(names, (name) => sets.quarantined(name)),
      total(processes, ({ identity }) => workCount(identity)),
      total(claimants, claimCount),
      total(claimants, workCount),
    ]);
    return {
      counts: { queued, schedule, working, claimed: Math.max(0, claimed - shown), retry, dead, quarantine },
      workers: processes.length,
      busy: processes.filter(({ busy }) => busy > 0).length,
      ...counters,
    };
  }

  async queues(): Promise<readonly QueueInfo[]> {
    const { redis, sets } = await this.#open();
    const { keys } = this.#app;
    const [names, paused, processes] = await Promise.all([
      sets.queueNames(),
      redis.run({
        commands: [['SMEMBERS', keys.paused]],
        atomic: false,
        read: ([members]) => new Set((members as readonly Buffer[]).map(String)),
      }),
      sets.processes(),
    ]);
    const now = Date.now();
    return Promise.all(
      names.map(async (name) => {
        const size = await sets.queued(name);
        const [next] = size === 0 ? [] : await redis.run(wire.queuePage(keys, name, 0, 1));
        const { hash } = next === undefined ? {} : stored('queued', next);
        const since = readTimestamp(hash?.['enqueued_at']) ?? readTimestamp(hash?.['created_at']);
        return {
          name,
          size,
          latencyMs: since === undefined ? undefined : Math.max(0, now - since),
          paused: paused.has(name),
          consumers: processes.filter((one) => queuesOf(one).includes(name)).length,
        };
      }),
    );
  }

  async jobs(set: string, { queue, cursor, limit = 25, filter = {} }: JobsQuery = {}): Promise<JobPage> {
    const name = known(set);
    if (!Number.isSafeInteger(limit) || limit < 1 || limit > 1_000)
      throw new ConfigError(`sidekiq: limit must be a whole number, from 1 to 1000, not ${limit}`);
    const { sets } = await this.#open();
    const filtered = filter.id !== undefined || filter.task !== undefined || filter.text !== undefined;
    const jobs: InspectedJob[] = [];
    const total = sets.size(name, queue);
    let last = cursor;
    let step = limit;
    for (let looked = 0; ;) {
      const count = Math.min(step, filtered ? this.#scanLimit - looked : limit);
      const placed = await sets.read(name, queue, last, count);
      let bytes = 0;
      for (const { entry, after } of placed) {
        looked += 1;
        bytes += entry.bytes.length;
        if (!matches(entry, filter)) continue;
        jobs.push(inspected(entry));
        if (jobs.length < limit) continue;
        last = after();
        // Only another read shows whether more entries follow.
        const more = (await sets.read(name, queue, last, 1)).length > 0;
        return { jobs, cursor: more ? last : undefined, total: await total, cut: false };
      }
      if (placed.length < count) return { jobs, cursor: undefined, total: await total, cut: false };
      last = placed.at(-1)?.after();
      if (looked >= this.#scanLimit) return { jobs, cursor: last, total: await total, cut: true };
      step = Math.max(1, Math.min(STEP, Math.floor((STEP_BYTES * placed.length) / Math.max(bytes, 1))));
    }
  }

  async job(id: string): Promise<InspectedJob | undefined> {
    const actions = await this.#actions();
    const [found] = (await actions.find([id])).get(id) ?? [];
    return found === undefined ? undefined : inspected(found, new Date());
  }

  async workers(): Promise<readonly WorkerInfo[]> {
    const { sets } = await this.#open();
    const [processes, working] = await Promise.all([sets.processes(), sets.working()]);
    const running = [...working.values()];
    return processes.map((one) =>
      workerInfo(
        one,
        running.filter(({ worker }) => worker === one.identity),
      ),
    );
  }

  /** The cron jobs of sidekiq-cron: those of its namespace `default`, and those of versions 1.x. */
  async schedules(): Promise<readonly ScheduleInfo[]> {
    const { redis } = await this.#open();
    const { keys } = this.#app;
    const jobs = await redis.run(cronJobs(keys, await redis.run(cronKeys(keys))));
    return jobs
      .filter((job) => job !== undefined)
      .map(({ name, class: task, queue, cron, enabled, lastEnqueuedAtMs }) => ({
        name,
        kind: 'sidekiq-cron',
        task,
        queue,
        when: cron,
        enabled,
        lastRunAt: lastEnqueuedAtMs === undefined ? undefined : new Date(lastEnqueuedAtMs),
        nextRunAt: undefined,
      }));
  }

  async act(action: Action, target: Target, options: ActOptions = {}): Promise<ActResult> {
    if (this.can[action] !== true) throw new ConfigError(`sidekiq: '${action}' cannot be done here`);
    switch (action) {
      case 'pause':
      case 'resume':
        return this.#pause(action, target);
      case 'quiet':
      case 'stop':
        return this.#signal(action, target);
      case 'retry':
      case 'run':
      case 'delete':
      case 'kill':
      case 'requeue':
      case 'cancel':
        return this.#actOnJobs(action, target, options);
      case 'unregister':
      case 'terminate':
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
      const set = target.set === undefined ? undefined : this.#setFor(action, target.set);
      return (await this.#actions()).byIds(action, target.ids, set, options);
    }
    if ('set' in target) {
      const set = this.#setFor(action, target.set);
      return (await this.#actions()).bySet(action, set, target.queue, target.filter ?? {}, options);
    }
    if (action !== 'delete' || !('queue' in target)) throw unfit(action);
    const { redis, sets } = await this.#open();
    const size = await sets.queued(target.queue);
    await redis.run(wire.clearQueue(this.#app.keys, target.queue));
    return size === 0 ? { done: 0, gone: [target.queue], refused: [] } : { done: 1, gone: [], refused: [] };
  }

  #setFor(action: Action, set: string): SetName {
    const name = known(set);
    if (SETS_OF[action]?.includes(name) !== true)
      throw new ConfigError(
        `sidekiq: '${action}' cannot be done to jobs of '${set}'; it can in ${SETS_OF[action]?.join(', ') ?? 'none'}`,
      );
    return name;
  }

  /** Workers of this package and of Sidekiq Pro fetch nothing from a paused queue. Open-source Sidekiq does not support pausing and fetches on. */
  async #pause(action: 'pause' | 'resume', target: Target): Promise<ActResult> {
    if (!('queue' in target || 'all' in target)) throw unfit(action);
    const { redis, sets } = await this.#open();
    const { paused } = this.#app.keys;
    const queues = 'queue' in target ? [target.queue] : await sets.queueNames();
    const changed = await redis.run({
      commands: queues.map((queue) => [action === 'pause' ? 'SADD' : 'SREM', paused, queue] as const),
      atomic: false,
      read: (replies) => replies.map((reply) => reply === 1),
    });
    return { done: changed.filter(Boolean).length, gone: [], refused: [] };
  }

  async #signal(action: 'quiet' | 'stop', target: Target): Promise<ActResult> {
    if (!('worker' in target || 'all' in target)) throw unfit(action);
    const { redis, sets } = await this.#open();
    const processes = (await sets.processes()).filter((one) => 'all' in target || one.identity === target.worker);
    if ('worker' in target && processes.length === 0) return { done: 0, gone: [target.worker], refused: [] };
    const embedded = processes.filter(({ info }) => info['embedded'] === true);
    const able = processes.filter((one) => !embedded.includes(one));
    for (const { identity } of able)
      await redis.run(presence.signal(this.#app.keys, identity, action === 'quiet' ? 'TSTP' : 'TERM'));
    const reason = 'it is embedded in another program, and handles no signals';
    return { done: able.length, gone: [], refused: embedded.map(({ identity: id }) => ({ id, reason })) };
  }

  async #actions(): Promise<Actions> {
    const { redis, sets } = await this.#open();
    const { keys } = this.#app;
    const dialect: Dialect = this.#app.dialect ?? (await peersDialect(redis, keys).catch(() => NEUTRAL));
    return new Actions(redis, keys, sets, dialect);
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
    return { redis, sets: new Sets(redis, this.#app.keys) };
  }
}

function workerInfo(one: wire.ProcessState, running: readonly Stored[]): WorkerInfo {
  const { identity, info, concurrency, busy, beatMs, quiet } = one;
  const { hostname, pid, version, jobglot, started_at: started } = info;
  const node = jobglot !== undefined;
  const shownVersion = node ? jobglot : version;
  return {
    id: identity,
    hostname: typeof hostname === 'string' ? hostname : undefined,
    pid: typeof pid === 'number' ? pid : undefined,
    language: node ? 'Node' : 'Ruby',
    version: typeof shownVersion === 'string' ? shownVersion : undefined,
    queues: queuesOf(one),
    concurrency,
    startedAt: dateOf(readTimestamp(started)),
    seenAt: dateOf(beatMs),
    state: quiet ? 'quiet' : busy > 0 ? 'busy' : 'idle',
    running: running.map((work) => {
      const { id, task, queue, startedAt } = inspected(work);
      return { id, task, queue, startedAt };
    }),
  };
}

function dateOf(ms: number | undefined): Date | undefined {
  return ms === undefined || !(ms > 0) || ms > 8.64e15 ? undefined : new Date(ms);
}

function known(set: string): SetName {
  const found = SETS.find(({ name }) => name === set);
  if (found !== undefined) return found.name;
  throw new ConfigError(`sidekiq: there is no set '${set}'; there are ${SETS.map(({ name }) => name).join(', ')}`);
}

function unfit(action: Action): ConfigError {
  return new ConfigError(`sidekiq: '${action}' cannot be done to this target`);
}
