import { createHash } from 'node:crypto';
import * as keys from '../../../protocols/rq/keys.ts';
import * as wire from '../../../protocols/rq/inspect.ts';
import { callString } from '../../../protocols/rq/description.ts';
import { explain } from '../../../protocols/rq/explain.ts';
import { readFailure } from '../../../protocols/rq/failure.ts';
import { relatives } from '../../../protocols/rq/jobs.ts';
import { type JobHash, readCall, type ReadCall, readJob } from '../../../protocols/rq/message.ts';
import { counts, type Counts, queueNames } from '../../../protocols/rq/queues.ts';
import { readResult, readReturnValue, type StoredEntry } from '../../../protocols/rq/result.ts';
import { loads, type SerializerLimits } from '../../../protocols/rq/serializers.ts';
import { fetchWorkers, isSuspended, type WorkerRecord, workerNames } from '../../../protocols/rq/workers.ts';
import { ConfigError } from '../../errors.ts';
import {
  type Action,
  type ActOptions,
  type ActResult,
  canDo,
  type InspectedError,
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
import type { Logger } from '../../log.ts';
import { Actions, type FoundJob, type FoundPage, type SetReader } from './actions.ts';
import { RqClient } from './client.ts';
import type { RqAppOptions } from './options.ts';

/** Where Redis is. */
export interface RqInspectorOptions extends RqAppOptions {
  /** The most jobs that one search reads. @default 2000 */
  readonly scanLimit?: number;
  /** Shaped like pino's. @default nothing is written */
  readonly log?: Logger;
}

/** A set of jobs: where it is stored, and the order in which it is listed. */
interface StoredSet extends JobSet {
  readonly key: (queue: string) => string;
  /** Undefined: the set is a list. */
  readonly order: 'asc' | 'desc' | undefined;
  /** Undefined: its size is that of the quarantine. */
  readonly count: keyof Counts | undefined;
  /** Only jobs of this status. */
  readonly status?: string;
}

const registry = (name: keys.RegistryName) => (queue: string) => keys.registryKey(name, queue);

/** `stopped`: jobs ended by `stop-job`. RQ keeps them in the failed registry, so they are in `failed` too. */
const SETS: readonly StoredSet[] = [
  { name: 'queued', kind: 'waiting', byQueue: true, key: keys.queueKey, order: undefined, count: 'queued' },
  { name: 'started', kind: 'running', byQueue: true, key: registry('wip'), order: 'asc', count: 'started' },
  { name: 'scheduled', kind: 'scheduled', byQueue: true, key: registry('scheduled'), order: 'asc', count: 'scheduled' },
  { name: 'deferred', kind: 'deferred', byQueue: true, key: registry('deferred'), order: 'asc', count: 'deferred' },
  { name: 'finished', kind: 'done', byQueue: true, key: registry('finished'), order: 'desc', count: 'finished' },
  { name: 'failed', kind: 'failed', byQueue: true, key: registry('failed'), order: 'desc', count: 'failed' },
  {
    name: 'stopped',
    kind: 'failed',
    byQueue: true,
    key: registry('failed'),
    order: 'desc',
    count: 'failed',
    status: 'stopped',
  },
  { name: 'canceled', kind: 'done', byQueue: true, key: registry('canceled'), order: 'desc', count: 'canceled' },
  {
    name: 'quarantine',
    kind: 'quarantined',
    byQueue: true,
    key: keys.quarantineKey,
    order: undefined,
    count: undefined,
  },
];

/** How many jobs are read in one round trip. A script blocks all other clients while it runs. */
const STEP = 200;
const MOST_SCHEDULES = 1_000;

interface Cursor {
  readonly queue: string;
  readonly behind: wire.PagePosition | undefined;
}

/** Reads and changes the data of RQ in Redis, from workers in Python and in Node. Connects at the first call. */
export class RqInspector implements Inspector, SetReader {
  readonly system = 'rq';
  readonly sets: readonly JobSet[] = SETS.map(({ name, kind, byQueue }) => ({ name, kind, byQueue }));
  readonly can: Inspector['can'] = canDo(
    'retry',
    'requeue',
    'run',
    'delete',
    'cancel',
    'terminate',
    'stop',
    'pause',
    'resume',
    'unregister',
  );
  readonly #client: RqClient;
  readonly #limits: Partial<SerializerLimits> | undefined;
  readonly #actions: Actions;
  readonly #scanLimit: number;

  /** Throws ConfigError for an invalid URL. */
  constructor(options: RqInspectorOptions) {
    const { url, redis, serializer, limits, log, scanLimit = 2_000 } = options;
    if (!Number.isSafeInteger(scanLimit) || scanLimit < 1)
      throw new ConfigError(`rq: scanLimit must be a whole number, 1 or more, not ${scanLimit}`);
    this.#scanLimit = scanLimit;
    this.#client = new RqClient({
      url,
      ...(redis === undefined ? {} : { redis }),
      ...(serializer === undefined ? {} : { serializer }),
      ...(limits === undefined ? {} : { limits }),
      ...(log === undefined ? {} : { log }),
    });
    this.#limits = limits;
    this.#actions = new Actions(this.#client, this);
  }

  get address(): string {
    return this.#client.address;
  }

  async overview(): Promise<Overview> {
    const queues = await this.#queues();
    const [counted, facts, workers] = await Promise.all([
      this.#client.run(counts(queues, new Date())),
      this.#client.run(wire.queueFacts(queues)),
      this.#workers(),
    ]);
    const sizes: Record<string, number> = {};
    for (const { name, count, status } of SETS)
      if (count !== undefined && status === undefined) sizes[name] = sum(counted.map((one) => one[count]));
    sizes['quarantine'] = sum(facts.map(({ quarantined }) => quarantined));
    return {
      counts: sizes,
      workers: workers.filter(({ record }) => record !== undefined).length,
      busy: workers.filter(({ record }) => record !== undefined && runsOf(record).length > 0).length,
      // Each worker counts its own jobs, and the count is deleted with the worker.
      processed: undefined,
      failed: undefined,
    };
  }

  async queues(): Promise<readonly QueueInfo[]> {
    const names = await this.#queues();
    const [facts, workers, paused] = await Promise.all([
      this.#client.run(wire.queueFacts(names)),
      this.#workers(),
      this.#client.run(isSuspended()),
    ]);
    const now = Date.now();
    return names.map((name, at) => {
      const { size, oldest } = facts[at] as wire.QueueFacts;
      return {
        name,
        size,
        latencyMs: size === 0 || oldest === undefined ? undefined : Math.max(0, now - oldest.getTime()),
        // `rq suspend` always applies to all queues.
        paused,
        consumers: workers.filter(({ record }) => record?.queues.includes(name) === true).length,
      };
    });
  }

  async jobs(set: string, query: JobsQuery = {}): Promise<JobPage> {
    const { jobs, cursor, total, cut } = await this.page(set, query);
    return { jobs: jobs.map(withoutEntry), cursor, total, cut };
  }

  /** The same as `jobs`, with the registry entry of each job. For actions on a whole set. */
  async page(name: string, query: JobsQuery): Promise<FoundPage> {
    const set = setOf(name);
    const { limit = 25, filter, queue } = query;
    if (!(Number.isSafeInteger(limit) && limit >= 1 && limit <= 1_000))
      throw new ConfigError(`rq: limit must be a whole number from 1 to 1000, not ${limit}`);
    const queues = queue === undefined ? await this.#queues() : [queue];
    const start = query.cursor === undefined ? undefined : readCursor(query.cursor);
    const sizes = await this.#sizes(set, queues);
    const total = set.status === undefined ? sum(sizes) : undefined;
    const found: FoundJob[] = [];
    let searched = 0;
    // A queue that was deleted meanwhile is skipped.
    const rest = start === undefined ? queues : queues.filter((one) => one >= start.queue);
    const others = (at: number): boolean => sum(sizes.slice(sizes.length - rest.length + at + 1)) > 0;
    for (const [at, one] of rest.entries()) {
      let behind = start?.queue === one ? start.behind : undefined;
      for (let more = true; more;) {
        const left = limit - found.length;
        const step =
          filter === undefined && set.status === undefined ? Math.min(STEP, left) : Math.min(STEP, this.#scanLimit);
        // One entry more than the page shows whether there is a next page.
        const read = await this.#entries(set, one, behind, step + 1);
        const entries = read.slice(0, step);
        more = read.length > step;
        const jobs = await this.#read(set, one, entries);
        for (const [index, entry] of entries.entries()) {
          behind = { member: entry.member, at: entry.at };
          searched += 1;
          const job = jobs[index];
          if (job === undefined || !matches(job, set, filter)) continue;
          found.push(job);
          if (found.length < limit) continue;
          const here = more || index + 1 < entries.length;
          const cursor = here || others(at) ? writeCursor({ queue: one, behind }) : undefined;
          return { jobs: found, cursor, total, cut: false };
        }
        if (more && searched >= this.#scanLimit)
          return { jobs: found, cursor: writeCursor({ queue: one, behind }), total, cut: true };
      }
      if (searched >= this.#scanLimit && others(at))
        return {
          jobs: found,
          cursor: writeCursor({ queue: rest[at + 1] as string, behind: undefined }),
          total,
          cut: true,
        };
    }
    return { jobs: found, cursor: undefined, total, cut: false };
  }

  async job(id: string): Promise<InspectedJob | undefined> {
    const [facts] = await this.#client.run(wire.jobFacts([id]));
    const job = this.#inspected(id, facts as wire.JobFacts, '', undefined);
    if (job === undefined) return this.#quarantined(id);
    const { dependencies, dependents } = await this.#client.run(relatives(id));
    const { raw } = job;
    const dueAt =
      job.state === 'scheduled' && job.queue !== undefined
        ? await this.#client.run(wire.dueAt(id, job.queue))
        : undefined;
    return {
      ...job,
      dueAt,
      explanation: explain(raw),
      links: {
        ...job.links,
        ...(dependencies.length === 0 ? {} : { dependencies }),
        ...(dependents.length === 0 ? {} : { dependents }),
      },
    };
  }

  async workers(): Promise<readonly WorkerInfo[]> {
    const workers = await this.#workers();
    const running = [...new Set(workers.flatMap(({ record }) => (record === undefined ? [] : runsOf(record))))];
    const jobs = new Map<string, InspectedJob>();
    for (let at = 0; at < running.length; at += STEP) {
      const ids = running.slice(at, at + STEP);
      for (const [index, facts] of (await this.#client.run(wire.jobFacts(ids))).entries()) {
        const job = this.#inspected(ids[index] as string, facts, 'started', undefined);
        if (job !== undefined) jobs.set(job.id, job);
      }
    }
    return workers.map(({ name, record }) => (record === undefined ? goneWorker(name) : workerInfo(record, jobs)));
  }

  async schedules(): Promise<readonly ScheduleInfo[]> {
    const listed = await this.#client.run(wire.cronJobs(await this.#client.run(wire.cronSchedulers())));
    // Several cron processes with the same jobs list each job several times.
    const byCall = new Map<string, ScheduleInfo>();
    for (const { record } of listed) {
      const key = JSON.stringify(
        ['func_name', 'queue_name', 'args', 'kwargs', 'interval', 'cron'].map((one) => record[one]),
      );
      const info = cronInfo(record);
      const before = byCall.get(key)?.lastRunAt?.getTime() ?? Number.NEGATIVE_INFINITY;
      if (!byCall.has(key) || (info.lastRunAt?.getTime() ?? Number.NEGATIVE_INFINITY) > before) byCall.set(key, info);
    }
    return [...byCall.values(), ...(await this.#packageSchedules())];
  }

  async act(action: Action, target: Target, options: ActOptions = {}): Promise<ActResult> {
    if (!this.can[action]) throw new ConfigError(`rq: there is no action '${action}'`);
    if ('set' in target && target.set !== undefined) setOf(target.set);
    return this.#actions.act(action, target, options);
  }

  close(): Promise<void> {
    return this.#client.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Names of the queues, in order. A member that is not a queue name was not written by RQ and is left out. */
  async #queues(): Promise<readonly string[]> {
    return (await this.#client.run(queueNames())).filter(keys.isQueueName);
  }

  async #workers(): Promise<readonly { readonly name: string; readonly record: WorkerRecord | undefined }[]> {
    const names = await this.#client.run(workerNames());
    const records = await this.#client.run(fetchWorkers(names));
    return names.map((name, at) => ({ name, record: records[at] })).filter(({ record }) => record?.death === undefined);
  }

  /** The number of entries of each queue. */
  async #sizes(set: StoredSet, queues: readonly string[]): Promise<readonly number[]> {
    const { count } = set;
    if (count === undefined) return (await this.#client.run(wire.queueFacts(queues))).map((one) => one.quarantined);
    return (await this.#client.run(counts(queues, new Date()))).map((one) => one[count]);
  }

  #entries(
    set: StoredSet,
    queue: string,
    behind: wire.PagePosition | undefined,
    count: number,
  ): Promise<readonly wire.PageEntry[]> {
    const key = set.key(queue);
    return this.#client.run(
      set.order === undefined ? wire.listPage(key, behind, count) : wire.zsetPage(key, set.order, behind, count),
    );
  }

  /** The jobs of some entries; undefined for a job that is gone: its `ttl` has passed, or it was deleted. */
  async #read(
    set: StoredSet,
    queue: string,
    entries: readonly wire.PageEntry[],
  ): Promise<readonly (FoundJob | undefined)[]> {
    if (entries.length === 0) return [];
    if (set.name === 'quarantine') {
      const first = Number((entries[0] as wire.PageEntry).at);
      const reasons = await this.#client.run(wire.quarantineReasons(queue, first, entries.length));
      return entries.map((entry, at) => ({ ...asideJob(entry.bytes, queue, reasons[at]), entry, foundIn: queue }));
    }
    const ids = entries.map(({ bytes }) => {
      const member = bytes.toString('utf8');
      return set.name === 'started' ? keys.splitExecution(member).id : member;
    });
    const facts = await this.#client.run(wire.jobFacts(ids));
    return entries.map((entry, at) => {
      const dueAt = set.name === 'scheduled' ? new Date(Number(entry.at) * 1000) : undefined;
      const job = this.#inspected(ids[at] as string, facts[at] as wire.JobFacts, set.name, dueAt);
      return job === undefined ? undefined : { ...job, queue: job.queue ?? queue, entry, foundIn: queue };
    });
  }

  /** Undefined if there is no job with this id. `set`: the set in which it was found; if empty, the job's status decides. */
  #inspected(id: string, facts: wire.JobFacts, set: string, dueAt: Date | undefined): InspectedJob | undefined {
    const read = readJob(id, facts.hash);
    if (read === undefined) return undefined;
    const { job: hash } = read;
    const state = hash.status ?? 'created';
    const call = this.#call(hash);
    const latest = this.#latest(facts);
    const { started, links } = { started: hash.startedAt, links: linksOf(hash) };
    return {
      id,
      set: set === '' ? setOfState(state) : set,
      task: call?.funcName,
      queue: hash.origin,
      state,
      args: call?.args,
      kwargs: call?.kwargs,
      enqueuedAt: hash.enqueuedAt,
      dueAt,
      startedAt: started,
      endedAt: state === 'started' ? undefined : hash.endedAt,
      attempts: (hash.numberOfRetries ?? 0) + (hash.attempts ?? 0) + (RAN.has(state) ? 1 : 0),
      error: errorOf(hash, latest),
      result: state === 'finished' ? this.#returned(hash, latest) : undefined,
      worker: hash.workerName,
      raw: wire.printedHash(facts.hash),
      explanation: undefined,
      links,
    };
  }

  #call(hash: JobHash): ReadCall | undefined {
    try {
      return readCall(hash.data, { exact: true, ...(this.#limits === undefined ? {} : { limits: this.#limits }) });
    } catch {
      return undefined;
    }
  }

  #latest({ result }: wire.JobFacts): StoredEntry | undefined {
    if (result === undefined) return undefined;
    try {
      return readResult(String(result[0]), result[1], this.#limits?.maxBytes);
    } catch {
      return undefined;
    }
  }

  #returned(hash: JobHash, latest: StoredEntry | undefined): unknown {
    const options = { exact: true, ...(this.#limits === undefined ? {} : { limits: this.#limits }) };
    try {
      if (latest?.type === 'successful') return readReturnValue(latest, options);
      return hash.result === undefined ? undefined : loads(hash.result, options);
    } catch (error) {
      return `(cannot be read: ${error instanceof Error ? error.message : String(error)})`;
    }
  }

  /** An id without a job, in one of the quarantines. */
  async #quarantined(id: string): Promise<InspectedJob | undefined> {
    for (let cursor: string | undefined, first = true; first || cursor !== undefined; first = false) {
      const page: FoundPage = await this.page('quarantine', {
        limit: 1_000,
        filter: { id },
        ...(cursor === undefined ? {} : { cursor }),
      });
      const [found] = page.jobs;
      if (found !== undefined) return found;
      cursor = page.cursor;
    }
    return undefined;
  }

  async #packageSchedules(): Promise<readonly ScheduleInfo[]> {
    const listed = await this.#client.run(wire.schedulerPackageJobs(MOST_SCHEDULES));
    const infos: ScheduleInfo[] = [];
    for (let at = 0; at < listed.length; at += STEP) {
      const some = listed.slice(at, at + STEP);
      const facts = await this.#client.run(wire.jobFacts(some.map(({ id }) => id)));
      for (const [index, { id, due }] of some.entries()) {
        const hash = readJob(id, (facts[index] as wire.JobFacts).hash)?.job;
        const when = hash === undefined ? undefined : repeatOf(hash, this.#limits);
        if (hash === undefined || when === undefined) continue;
        infos.push({
          name: id,
          kind: 'rq-scheduler',
          task: this.#call(hash)?.funcName,
          queue: hash.origin,
          when,
          enabled: true,
          lastRunAt: hash.enqueuedAt,
          nextRunAt: new Date(due * 1000),
        });
      }
    }
    return infos;
  }
}

const RAN: ReadonlySet<string> = new Set(['started', 'finished', 'failed', 'stopped']);

function withoutEntry(found: FoundJob): InspectedJob {
  const { entry: _entry, foundIn: _foundIn, ...job } = found;
  return job;
}

function setOf(name: string): StoredSet {
  const set = SETS.find((one) => one.name === name);
  if (set !== undefined) return set;
  throw new ConfigError(`rq: there is no set '${name}'; there are ${SETS.map((one) => one.name).join(', ')}`);
}

/** A job that was created and never enqueued is in no set. */
function setOfState(state: string): string {
  return SETS.some(({ name }) => name === state) ? state : '';
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((all, one) => all + one, 0);
}

function matches(job: InspectedJob, { status }: StoredSet, filter: JobFilter | undefined): boolean {
  if (status !== undefined && job.state !== status) return false;
  if (filter === undefined) return true;
  if (filter.id !== undefined && job.id !== filter.id) return false;
  if (filter.task !== undefined && job.task !== filter.task) return false;
  if (filter.text === undefined) return true;
  return searchText(job).includes(filter.text);
}

/** The texts that a search reads: the stored hash as it is printed, the call in Python syntax, the failure. */
function searchText({ id, task = '', args = [], kwargs = {}, raw, error }: InspectedJob): string {
  const call = callString(task, args, kwargs, Number.POSITIVE_INFINITY);
  return [id, call, Buffer.from(raw).toString('latin1'), error?.message, error?.traceback].join('\n');
}

function readCursor(text: string): Cursor {
  try {
    const read: unknown = JSON.parse(Buffer.from(text, 'base64url').toString('utf8'));
    const [queue, member, at] = read as readonly unknown[];
    if (typeof queue === 'string' && member === undefined) return { queue, behind: undefined };
    if (typeof queue === 'string' && typeof member === 'string' && typeof at === 'string' && POSITION.test(at))
      return { queue, behind: { member, at } };
  } catch {
    // A text that is not JSON is not a cursor.
  }
  throw new ConfigError(`rq: ${JSON.stringify(text.slice(0, 100))} is no cursor of this inspector`);
}

const POSITION = /^(?:[+-]?inf|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)$/i;

function writeCursor({ queue, behind }: Cursor): string {
  const parts = behind === undefined ? [queue] : [queue, behind.member, behind.at];
  return Buffer.from(JSON.stringify(parts)).toString('base64url');
}

function errorOf(hash: JobHash, latest: StoredEntry | undefined): InspectedError | undefined {
  const traceback = latest === undefined || latest.type === 'successful' ? undefined : latest.excString;
  if (traceback === undefined) return undefined;
  const { type, module, message } = readFailure(traceback);
  const name = module === undefined || module === 'builtins' ? type : `${module}.${type}`;
  return { type: name, message, traceback, at: latest?.createdAt ?? hash.endedAt };
}

function linksOf(hash: JobHash): InspectedJob['links'] {
  return {
    ...(hash.groupId === undefined ? {} : { group: hash.groupId }),
    ...(hash.dependencyIds === undefined ? {} : { dependencies: hash.dependencyIds }),
  };
}

/** An entry whose id is not that of a job. An id that is not text is named by a digest of its bytes. */
function asideJob(bytes: Buffer, queue: string, reason: string | undefined): InspectedJob {
  const text = bytes.toString('utf8');
  const isText = text !== '' && Buffer.from(text, 'utf8').equals(bytes);
  return {
    id: isText ? text : createHash('sha1').update(bytes).digest('hex'),
    set: 'quarantine',
    task: undefined,
    queue,
    state: reason ?? 'quarantined',
    args: undefined,
    kwargs: undefined,
    enqueuedAt: undefined,
    dueAt: undefined,
    startedAt: undefined,
    endedAt: undefined,
    attempts: undefined,
    error: undefined,
    result: undefined,
    worker: undefined,
    raw: bytes,
    explanation: undefined,
    links: {},
  };
}

/** The ids of a worker's running jobs. RQ up to 2.12 shows only one. */
function runsOf({ executions, currentJob }: WorkerRecord): readonly string[] {
  const ids = executions.map((member) => keys.splitExecution(member).id);
  return ids.length > 0 || currentJob === undefined ? ids : [currentJob];
}

function workerInfo(record: WorkerRecord, jobs: ReadonlyMap<string, InspectedJob>): WorkerInfo {
  const { name, hostname, pid, version, pythonVersion, queues, birth, lastHeartbeat, state } = record;
  const node = pythonVersion.startsWith('node');
  return {
    id: name,
    hostname: hostname || undefined,
    pid,
    language: node ? 'Node' : pythonVersion === '' ? undefined : 'Python',
    version: version === '' ? undefined : node ? version : `RQ ${version}`,
    queues,
    // A worker of RQ runs one job. A worker of jobglot does not publish its number of slots.
    concurrency: node ? undefined : 1,
    startedAt: birth,
    seenAt: lastHeartbeat,
    state,
    running: runsOf(record).map((id) => {
      const job = jobs.get(id);
      return { id, task: job?.task, queue: job?.queue, startedAt: job?.startedAt };
    }),
  };
}

/** Still on the list of workers, but without a hash: it has given no sign of life for longer than its hash is kept. */
function goneWorker(name: string): WorkerInfo {
  return {
    id: name,
    hostname: undefined,
    pid: undefined,
    language: undefined,
    version: undefined,
    queues: [],
    concurrency: undefined,
    startedAt: undefined,
    seenAt: undefined,
    state: 'gone',
    running: [],
  };
}

function cronInfo(record: Readonly<Record<string, unknown>>): ScheduleInfo {
  const text = (name: string): string | undefined => {
    const value = record[name];
    return typeof value === 'string' ? value : undefined;
  };
  const time = (name: string): Date | undefined => {
    const at = new Date(text(name) ?? '');
    return Number.isNaN(at.getTime()) ? undefined : at;
  };
  const task = text('func_name');
  const when = text('cron') ?? `every ${String(record['interval'])}s`;
  return {
    name: `${task ?? '?'} ${when}`,
    kind: 'rq-cron',
    task,
    queue: text('queue_name'),
    when,
    enabled: true,
    lastRunAt: time('latest_enqueue_time'),
    nextRunAt: time('next_enqueue_time'),
  };
}

/** When a job of rq-scheduler runs next; undefined for a job that does not repeat. */
function repeatOf(hash: JobHash, limits: Partial<SerializerLimits> | undefined): string | undefined {
  if (hash.meta === undefined) return undefined;
  try {
    const meta = loads(hash.meta, limits === undefined ? {} : { limits });
    const member = (name: string): unknown =>
      meta instanceof Map ? meta.get(name) : (meta as Readonly<Record<string, unknown>> | null)?.[name];
    const cron = member('cron_string');
    if (typeof cron === 'string') return cron;
    const interval = member('interval');
    return typeof interval === 'number' ? `every ${interval}s` : undefined;
  } catch {
    return undefined;
  }
}
