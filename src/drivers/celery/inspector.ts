import { Buffer } from 'node:buffer';
import { decodeMeta, READY_STATES, type TaskMeta } from '../../../protocols/celery/outcome/result.ts';
import { explain } from '../../../protocols/celery/explain.ts';
import { wholeNumber } from '../../check.ts';
import { ConfigError } from '../../errors.ts';
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
} from '../../inspector.ts';
import { type Logger, silent } from '../../log.ts';
import type { CeleryBroker, ResultBackend } from './brokers/broker.ts';
import { filesystemOptions } from './brokers/filesystem.ts';
import { MemoryBroker } from './brokers/memory.ts';
import { backendFor, brokerFor } from './connect.ts';
import { CeleryControl } from './control/control-client.ts';
import { Actions } from './inspect/actions.ts';
import { AmqpView } from './inspect/amqp-view.ts';
import { FilesystemView } from './inspect/filesystem-view.ts';
import { jobOf, matches, sentAt, withMeta } from './inspect/jobs.ts';
import { MemoryView } from './inspect/memory-view.ts';
import { RedisView } from './inspect/redis-view.ts';
import { schedulesIn } from './inspect/schedules.ts';
import { badCursor, type BrokerView, type Found, NO_VIEW } from './inspect/view.ts';
import { TOLD_SETS, type ToldSet, Workers } from './inspect/workers.ts';
import { checkPart, INSPECTOR_CHECKS } from './option-checks.ts';
import {
  type BeatSettings,
  type CeleryAppOptions,
  type CeleryOptions,
  resolveApp,
  type ResolvedApp,
} from './options.ts';

/** A page is read in steps of this many messages. */
const STEP = 500;

/** Which broker, and how much is looked at. */
export interface CeleryInspectorOptions extends CeleryAppOptions, BeatSettings {
  /** Queues to show beside those that workers consume and that the broker shows. @default the default queue */
  readonly queues?: CeleryOptions['queues'];
  /** Milliseconds that workers have to answer. @default 1 000 */
  readonly timeoutMs?: number;
  /** So many messages are looked at for one page, or for one id; a search that needs more is `cut`. @default 10 000 */
  readonly scanLimit?: number;
  /** Shaped like pino's. @default nothing is written */
  readonly log?: Logger;
}

/**
 * What is in a Celery cluster, in the words of every system. Messages are read where they lie (Redis, a folder, memory), never consumed; what RabbitMQ holds
 * is only counted. `active`, `reserved` and `scheduled` are what workers tell when they are asked, of any language. A job that has ended is found by its id, as
 * long as its result is stored. Jobs have the task's id; a message that cannot be read has `sha1:` and the digest of its bytes. Connects at the first call.
 * Throws ConfigError for options that cannot be.
 */
export class CeleryInspector implements Inspector {
  readonly system = 'celery';
  readonly address: string;
  readonly sets: readonly JobSet[];
  readonly can: Inspector['can'];
  readonly #options: CeleryInspectorOptions;
  readonly #app: ResolvedApp;
  readonly #log: Logger;
  readonly #broker: CeleryBroker;
  readonly #backend: ResultBackend;
  readonly #view: BrokerView;
  readonly #control: CeleryControl | undefined;
  readonly #workers: Workers | undefined;
  readonly #actions: Actions;
  readonly #scanLimit: number;
  #opened: Promise<void> | undefined;

  constructor(options: CeleryInspectorOptions) {
    checkPart('celery: CeleryInspector', options, INSPECTOR_CHECKS);
    const { timeoutMs = 1_000, scanLimit = 10_000, log = silent } = options;
    this.#options = options;
    this.#app = resolveApp(options);
    this.#log = log;
    this.#scanLimit = scanLimit;
    this.#broker = brokerFor(options);
    this.#backend = backendFor(options);
    this.#view = viewOf(this.#broker, options, log);
    this.address = this.#broker.address;
    if (this.#broker.broadcast !== undefined) {
      this.#control = new CeleryControl({ ...appOf(options), broker: this.#broker, log });
      this.#workers = new Workers(this.#control, timeoutMs);
    }
    const [queued, ...others] = this.#view.sets;
    this.sets = [...(queued === undefined ? [] : [queued]), ...(this.#workers === undefined ? [] : TOLD), ...others];
    const { takes } = this.#view;
    const purges = this.#broker.kind !== 'memory' && this.#view !== NO_VIEW;
    this.can = canDo(
      ...(takes.run.length > 0 ? (['run'] as const) : []),
      ...(takes.delete.length > 0 || purges ? (['delete'] as const) : []),
      ...(takes.requeue.length > 0 ? (['requeue'] as const) : []),
      ...(this.#control === undefined ? [] : (['pause', 'resume', 'stop', 'cancel', 'terminate'] as const)),
    );
    this.#actions = new Actions({
      app: this.#app,
      broker: this.#broker,
      view: this.#view,
      control: this.#control,
      workers: this.#workers,
      timeoutMs,
      scanLimit,
      queueNames: () => this.#queueNames(),
      hasEnded: async (ids) => {
        const metas = await this.#metas(ids);
        return new Set(ids.filter((_, at) => READY_STATES.has(metas[at]?.meta.status ?? '')));
      },
    });
  }

  async overview(): Promise<Overview> {
    await this.#open();
    const [{ sets }, told] = await Promise.all([
      this.#queueNames().then((names) => this.#view.sizes(names)),
      this.#workers?.totals(),
    ]);
    const all: Readonly<Record<string, number>> = { ...sets, ...told?.counts };
    return {
      counts: Object.fromEntries(
        this.sets.filter(({ name }) => Object.hasOwn(all, name)).map(({ name }) => [name, all[name] as number]),
      ),
      workers: told?.workers ?? 0,
      busy: told?.busy ?? 0,
      processed: told?.processed,
      failed: undefined,
    };
  }

  /** `paused`: workers answer, and none of them consumes it. */
  async queues(): Promise<readonly QueueInfo[]> {
    await this.#open();
    const told = await this.#workers?.queues();
    const names = await this.#queueNames(told?.consumers.keys());
    const [{ queues }, oldest] = await Promise.all([this.#view.sizes(names), this.#view.oldest(names)]);
    const now = Date.now();
    return names.flatMap((name): readonly QueueInfo[] => {
      const shown = queues.get(name);
      const consumers = shown?.consumers ?? told?.consumers.get(name);
      if (shown === undefined && consumers === undefined) return [];
      const bytes = oldest.get(name);
      const at = bytes === undefined ? undefined : sentAt(bytes);
      return [
        {
          name,
          size: shown?.size ?? 0,
          latencyMs: at === undefined ? undefined : Math.max(0, now - at.getTime()),
          paused: (told?.workers ?? 0) > 0 && !(told?.consumers.has(name) ?? false),
          consumers: consumers ?? (told === undefined ? undefined : 0),
        },
      ];
    });
  }

  async jobs(set: string, { queue, cursor, limit = 25, filter = {} }: JobsQuery = {}): Promise<JobPage> {
    if (!this.sets.some(({ name }) => name === set))
      throw new ConfigError(
        `celery: there is no set '${set}'; there are ${this.sets.map(({ name }) => name).join(', ')}`,
      );
    const wrong = wholeNumber(1, 1000)(limit);
    if (wrong !== undefined) throw new ConfigError(`celery: limit ${wrong}, not ${limit}`);
    const position = cursor === undefined ? '' : positionOf(cursor, set);
    await this.#open();
    if (TOLD_SETS.includes(set as ToldSet)) return this.#toldPage(set as ToldSet, { queue, position, limit, filter });
    const names = queue === undefined ? await this.#queueNames() : [queue];
    return this.#storedPage(set, names, { position, limit, filter, isWhole: queue === undefined });
  }

  async job(id: string): Promise<InspectedJob | undefined> {
    await this.#open();
    const [[stored], told, found] = await Promise.all([
      this.#metas([id]),
      this.#workers?.query([id]),
      this.#search(id),
    ]);
    const held = told?.get(id);
    const message = found === undefined ? undefined : jobOf(found, this.#app);
    const known =
      message === undefined || held === undefined
        ? (message ?? held)
        : { ...message, set: held.set, state: held.state, worker: held.worker, startedAt: held.startedAt };
    const job = stored === undefined ? known : withMeta(known, id, stored.meta, stored.bytes);
    return job === undefined ? undefined : { ...job, explanation: explain(job.raw, new Date()) };
  }

  async workers(): Promise<readonly WorkerInfo[]> {
    await this.#open();
    return (await this.#workers?.all()) ?? [];
  }

  async schedules(): Promise<readonly ScheduleInfo[]> {
    await this.#open();
    return schedulesIn(this.#broker.redis, this.#options);
  }

  async act(action: Action, target: Target, options: ActOptions = {}): Promise<ActResult> {
    if (!this.can[action]) throw new ConfigError(`celery: ${action} cannot be done with ${this.address}`);
    if ('set' in target && target.set !== undefined && !this.sets.some(({ name }) => name === target.set))
      throw new ConfigError(`celery: there is no set '${target.set}'`);
    await this.#open();
    return this.#actions.act(action, target, options);
  }

  async close(): Promise<void> {
    await this.#opened?.catch(() => undefined);
    this.#opened = undefined;
    await this.#view.close();
    await this.#backend.close();
    await (this.#control === undefined ? this.#broker.close() : this.#control.close());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #open(): Promise<void> {
    return (this.#opened ??= (async () => {
      await (this.#control === undefined ? this.#broker.open(this.#log) : this.#control.open());
      await this.#backend.open(this.#log);
      await this.#view.open();
    })().catch((error: unknown) => {
      this.#opened = undefined;
      throw error;
    }));
  }

  /** Every queue that is known, sorted. */
  async #queueNames(consumed?: Iterable<string>): Promise<readonly string[]> {
    const { queues, taskQueues = [] } = this.#options;
    const configured = [...(queues ?? [this.#app.taskDefaultQueue]), ...taskQueues];
    return [
      ...new Set([
        ...configured.map((queue) => (typeof queue === 'string' ? queue : queue.name)),
        ...(await this.#view.queueNames()),
        ...(consumed ?? (await this.#workers?.queues())?.consumers.keys() ?? []),
      ]),
    ].toSorted();
  }

  async #toldPage(
    set: ToldSet,
    query: {
      readonly queue: string | undefined;
      readonly position: string;
      readonly limit: number;
      readonly filter: JobFilter;
    },
  ): Promise<JobPage> {
    const { queue, position, limit, filter } = query;
    const all = (await this.#workers?.jobs(set)) ?? [];
    const rest = all.filter(
      (job) => job.id > position && (queue === undefined || job.queue === queue) && matches(job, filter),
    );
    const jobs = rest.slice(0, limit);
    const last = jobs.at(-1);
    const cursor = rest.length > limit && last !== undefined ? cursorOf(last.id, set) : undefined;
    return { jobs, cursor, total: queue === undefined ? all.length : undefined, cut: false };
  }

  async #storedPage(
    set: string,
    names: readonly string[],
    query: {
      readonly position: string;
      readonly limit: number;
      readonly filter: JobFilter;
      readonly isWhole: boolean;
    },
  ): Promise<JobPage> {
    const { limit, filter, isWhole } = query;
    const isFiltered = Object.values(filter).some((value) => value !== undefined);
    const jobs: InspectedJob[] = [];
    let { position } = query;
    for (let scanned = 0; ;) {
      // One more than the page holds says whether there is another page.
      const count = isFiltered ? Math.min(STEP, this.#scanLimit - scanned) : limit + 1;
      const page = await this.#view.page(set, names, position, count);
      const total = isWhole ? (await this.#view.sizes(names)).sets[set] : undefined;
      for (const [at, found] of page.entries()) {
        if (jobs.length === limit) return { jobs, cursor: cursorOf(position, set), total, cut: false };
        const job = jobOf(found, this.#app);
        position = found.after;
        scanned++;
        if (matches(job, filter)) jobs.push(job);
        if (
          scanned >= this.#scanLimit &&
          isFiltered &&
          jobs.length < limit &&
          (at < page.length - 1 || page.length === count)
        )
          return { jobs, cursor: cursorOf(position, set), total, cut: true };
      }
      if (page.length < count) return { jobs, cursor: undefined, total, cut: false };
    }
  }

  /** The message of a task, in whatever set it lies. */
  async #search(id: string): Promise<Found | undefined> {
    const names = await this.#queueNames();
    for (const { name } of this.#view.sets) {
      let position = '';
      for (let scanned = 0; scanned < this.#scanLimit;) {
        const page = await this.#view.page(name, names, position, STEP);
        const found = page.find((one) => jobOf(one, this.#app).id === id);
        if (found !== undefined) return found;
        const last = page.at(-1);
        if (last === undefined || page.length < STEP) break;
        scanned += page.length;
        position = last.after;
      }
    }
    return undefined;
  }

  /** Stored results, as far as there is a result backend that keeps them. */
  async #metas(
    ids: readonly string[],
  ): Promise<readonly ({ readonly meta: TaskMeta; readonly bytes: Buffer } | undefined)[]> {
    if (this.#backend.kind === 'disabled' || this.#backend.kind === 'rpc') return [];
    return (await this.#backend.fetchMany(ids)).map((bytes) => {
      try {
        return bytes === undefined ? undefined : { meta: decodeMeta(bytes, this.#app.resultSerializer), bytes };
      } catch {
        return undefined;
      }
    });
  }
}

const TOLD: readonly JobSet[] = [
  { name: 'scheduled', kind: 'scheduled', byQueue: false },
  { name: 'reserved', kind: 'waiting', byQueue: false },
  { name: 'active', kind: 'running', byQueue: false },
];

function viewOf(broker: CeleryBroker, options: CeleryInspectorOptions, log: Logger): BrokerView {
  const { broker: url, brokerTransportOptions } = options;
  if (broker instanceof MemoryBroker) return new MemoryView(broker);
  const { redis } = broker;
  if (broker.kind === 'redis' && redis !== undefined) return new RedisView(() => redis, options);
  if (typeof url !== 'string') return NO_VIEW;
  if (broker.kind === 'amqp') return new AmqpView(url, options, log);
  return new FilesystemView(filesystemOptions(url, brokerTransportOptions).folderIn);
}

/** The options without those of the inspector alone. */
function appOf({ timeoutMs: _t, scanLimit: _s, log: _l, ...app }: CeleryInspectorOptions): CeleryAppOptions {
  return app;
}

function cursorOf(position: string, set: string): string {
  return Buffer.from(JSON.stringify([set, position])).toString('base64url');
}

function positionOf(cursor: string, set: string): string {
  try {
    const [of, position] = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as [unknown, unknown];
    if (of === set && typeof position === 'string') return position;
  } catch {
    // told below
  }
  throw badCursor();
}
