import { randomUUID } from 'node:crypto';
import type { Claimed, PendingRun, RunState } from '../../../../protocols/celery/schedule/beat.ts';
import type { Publication } from '../../../../protocols/celery/message/message.ts';
import { redbeatKeys } from '../../../../protocols/celery/schedule/redbeat.ts';
import {
  type BeatEntry,
  crontab,
  type Due,
  isDue,
  remainingMs,
  type Zone,
  zoneOf,
} from '../../../../protocols/celery/schedule/schedule.ts';
import { backoff } from '../../../backoff.ts';
import { WireError } from '../../../../protocols/errors.ts';
import { ConfigError } from '../../../errors.ts';
import { type Logger, silent } from '../../../log.ts';
import { pause } from '../../../source.ts';
import { callOf, entriesOf, reasonOf } from './beat-entries.ts';
import { type BeatStore, FileBeatStore, MemoryBeatStore, type Scheduled, type Step } from './beat-store.ts';
import { type BeatRedis, besideBroker, elsewhere, RedBeatStore, RedisBeatStore } from './beat-store-redis.ts';
import { CeleryClient, type CeleryClientOptions } from '../client/client.ts';
import { checkPart, CLIENT_CHECKS } from '../option-checks.ts';
import type { BeatSettings, CeleryAppOptions } from '../options.ts';

/** The broker, and the schedule. */
export interface BeatOptions extends CeleryClientOptions, BeatSettings {}

/** Celery's defaults: `beat_max_loop_interval`, `redbeat_lock_timeout`. */
const MAX_LOOP_SECONDS = 300;
const REDBEAT_LOCK_LOOPS = 5;
const LOCK_SECONDS = 15;
/** How often a process that does not lead tries to take the lead. */
const ASK_MS = 1_000;
/** The longest poll interval, whatever the longest pause is: the clock may be set, and other processes may add entries. */
const LOOK_MS = 10_000;
/** A disabled entry may be enabled at any time. RedBeat polls as often. */
const DISABLED_MS = 5_000;
/** How soon a message that could not be sent is sent again. */
const RESEND_MS = 1_000;
/** A last run that lies further in the future was written by a wrong clock. */
const WRONG_CLOCK_MS = 300_000;
const EXPIRES_OF_CLEANUP_SECONDS = 12 * 3600;

/**
 * Celery's beat: sends tasks when they are due. Several processes may run with the same schedule. Only the leader sends. When the leader dies,
 * another process takes the lead. An entry that was due several times in between is sent once.
 *
 *     await new Beat({ broker, beatSchedule: { report: { task: 'proj.report', schedule: crontab('0 4 * * *') } } }).run(signal);
 *
 * Throws ConfigError for entries and options that cannot work.
 */
export class Beat implements AsyncDisposable {
  readonly client: CeleryClient;
  /** The configured entries. A RedBeat store may hold more. */
  readonly entries: readonly BeatEntry[];
  readonly #log: Logger;
  readonly #store: BeatStore;
  readonly #zone: Zone;
  readonly #maxIntervalMs: number;
  readonly #startingDeadlineMs: number | undefined;
  readonly #told = new Set<string>();
  #leads = false;
  #opened: Promise<void> | undefined;
  #running: { readonly stop: AbortController; readonly done: Promise<void> } | undefined;

  constructor(options: BeatOptions) {
    checkPart('celery: Beat', options, CLIENT_CHECKS);
    this.#log = options.log ?? silent;
    this.#zone = zoneNamed(options.timezone ?? 'UTC');
    this.#maxIntervalMs = 1000 * (options.beatMaxLoopInterval || MAX_LOOP_SECONDS);
    this.#startingDeadlineMs =
      options.beatCronStartingDeadline === undefined ? undefined : options.beatCronStartingDeadline * 1000;
    this.client = new CeleryClient(options);
    this.entries = withCleanup(entriesOf(options.beatSchedule ?? {}), this.client, options);
    this.#store = storeFor(options, this.client, this.#zone, this.#maxIntervalMs);
    const now = Date.now();
    for (const { name, schedule } of this.entries) {
      try {
        remainingMs(schedule, now, now, this.#zone);
      } catch (cause) {
        throw new ConfigError(`celery: the beat entry '${name}': ${reasonOf(cause)}`, { cause });
      }
    }
  }

  /** The kind of store for last runs: `redis`, `redbeat`, `file` or `memory`. */
  get scheduler(): string {
    return this.#store.kind;
  }

  /** Whether this process leads and therefore sends, as far as it knows. */
  get leads(): boolean {
    return this.#leads;
  }

  /** Connects, and sends entries that are due from then on. Rejects with ConnectionError when a server cannot be reached. */
  async start(): Promise<void> {
    await this.#open();
    const stop = new AbortController();
    this.#running ??= { stop, done: this.#loop(stop.signal) };
  }

  /** `start` until `signal` aborts, then `stop`. */
  async run(signal: AbortSignal): Promise<void> {
    await this.start();
    try {
      await new Promise<void>((resolve) => {
        if (signal.aborted) return resolve();
        signal.addEventListener('abort', () => resolve(), { once: true });
      });
    } finally {
      await this.stop();
    }
  }

  /** Gives up the lead, so that another process can take it at once, and closes the connections. */
  async stop(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    running?.stop.abort();
    await running?.done;
    if (this.#opened === undefined) return;
    this.#opened = undefined;
    await this.#store
      .resign()
      .catch((error: unknown) => this.#log.warn({ error }, 'beat: could not give up the lead; it expires by itself'));
    this.#leads = false;
    await this.#store.close();
    await this.client.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #open(): Promise<void> {
    return (this.#opened ??= this.client
      .open()
      .then(() => this.#store.open(this.#log))
      .catch(async (error: unknown) => {
        this.#opened = undefined;
        await this.#store.close().catch(() => undefined);
        await this.client.close().catch(() => undefined);
        throw error;
      }));
  }

  async #loop(signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted;) {
      let pauseMs: number;
      try {
        pauseMs = await this.#tick(signal);
        failures = 0;
      } catch (error) {
        this.#log.warn({ error }, 'beat: a poll of the schedule failed; trying again');
        pauseMs = backoff(failures++, Math.random());
      }
      await pause(Math.ceil(pauseMs), signal);
    }
  }

  /** Polls the schedule once. Returns the milliseconds until the next poll. */
  async #tick(signal: AbortSignal): Promise<number> {
    const { renewMs } = this.#store;
    const lead = await this.#store.lead();
    if (lead === 'other') {
      if (this.#leads) this.#log.warn({}, 'beat: another process leads now');
      this.#leads = false;
      return Math.min(ASK_MS, renewMs ?? ASK_MS);
    }
    if (lead === 'taken' || !this.#leads) {
      await this.#store.prepare(this.entries, Date.now());
      this.#leads = true;
      this.#log.info({ scheduler: this.#store.kind, entries: this.entries.length }, 'beat: this process leads');
    }
    let pauseMs = Math.min(this.#maxIntervalMs, LOOK_MS, renewMs ?? LOOK_MS);
    for (const scheduled of await this.#store.load(Date.now(), this.#maxIntervalMs)) {
      if (signal.aborted) return 0;
      pauseMs = Math.min(pauseMs, await this.#look(scheduled));
    }
    return pauseMs;
  }

  /** Runs an entry if it is due. Returns the milliseconds until its next poll. */
  async #look(scheduled: Scheduled): Promise<number> {
    const { entry, state, disabled } = scheduled;
    if (disabled === true) return DISABLED_MS;
    const now = Date.now();
    const { lastRunAt } = state;
    if (lastRunAt !== undefined && lastRunAt - now > WRONG_CLOCK_MS) {
      this.#log.warn(
        { entry: entry.name, lastRunAt: new Date(lastRunAt) },
        'beat: the last run lies in the future; counting from now',
      );
      await this.#store.step(scheduled, this.#stepTo({ ...state, lastRunAt: now }, entry, now));
      return 0;
    }
    try {
      const { due, nextMs, at } = this.#isDue(entry, lastRunAt, now);
      let done = true;
      if (due) done = await this.#run(scheduled, at, now);
      else if (state.pending !== undefined) done = await this.#sendAgain(scheduled, state.pending);
      return done ? nextMs : Math.min(nextMs, RESEND_MS);
    } catch (error) {
      // A schedule that is never due. It comes from a store that other programs write.
      if (!(error instanceof WireError)) throw error;
      this.#tellOnce(entry.name, error, 'beat: the next run of an entry cannot be computed; the entry is skipped');
      return this.#maxIntervalMs;
    }
  }

  #isDue({ schedule }: BeatEntry, lastRunAt: number | undefined, now: number): Due {
    if (lastRunAt === undefined) return { due: true, at: now, nextMs: isDue(schedule, now, now, this.#zone).nextMs };
    return isDue(schedule, lastRunAt, now, this.#zone, { startingDeadlineMs: this.#startingDeadlineMs });
  }

  /** Claims the run, and sends its message in the same step if the store can do that, else after it. Returns false if the message is still unsent. */
  async #run(scheduled: Scheduled, dueAt: number, now: number): Promise<boolean> {
    const { entry, state } = scheduled;
    const id = this.#idOf(entry);
    const message = this.#message(entry, id);
    const pending = message === undefined || !this.#store.keepsPending ? undefined : { id, dueAt };
    const next: RunState = { lastRunAt: now, totalRunCount: state.totalRunCount + 1, pending };
    const { claimed, published } = await this.#claim(scheduled, next, now, message);
    if (claimed !== 'claimed') {
      if (claimed === 'deposed') this.#leads = false;
      this.#log.info({ entry: entry.name, why: claimed }, 'beat: another process has claimed this run');
      return true;
    }
    if (published === 'never') return true;
    if (!published && !(await this.#send(entry, next, id))) return !this.#store.keepsPending;
    const fields = { system: 'celery', entry: entry.name, task: entry.task, id, lateMs: Math.round(now - dueAt) };
    this.#log.info(fields, 'beat: sent');
    return true;
  }

  async #claim(
    scheduled: Scheduled,
    next: RunState,
    now: number,
    message: Publication | undefined,
  ): Promise<{ readonly claimed: Claimed; readonly published: boolean | 'never' }> {
    const { entry } = scheduled;
    if (message !== undefined) {
      try {
        return await this.#store.step(scheduled, this.#stepTo(next, entry, now, message));
      } catch (error) {
        // Its exchange has no queue. As in Celery, this run is over, and the other entries go on.
        if (!(error instanceof ConfigError)) throw error;
        this.#cannotSend(entry, error);
      }
    }
    const { claimed } = await this.#store.step(scheduled, this.#stepTo({ ...next, pending: undefined }, entry, now));
    return { claimed, published: 'never' };
  }

  /** Sends a run that was claimed and perhaps not sent: a process died in between, or the broker was away. */
  async #sendAgain({ entry, state }: Scheduled, { id, dueAt }: PendingRun): Promise<boolean> {
    if (!(await this.#send(entry, state, id))) return false;
    this.#log.info(
      { system: 'celery', entry: entry.name, task: entry.task, id, dueAt: new Date(dueAt) },
      'beat: sent a run that was claimed and not known to be sent',
    );
    return true;
  }

  /** Sends a run, and stores that it was sent. Returns false after an error, which is logged. While the store keeps the run, it is sent again. */
  async #send(entry: BeatEntry, state: RunState, id: string): Promise<boolean> {
    try {
      await this.client.enqueue(entry.task, { ...callOf(entry).call, taskId: id });
    } catch (error) {
      this.#cannotSend(entry, error);
      if (!(error instanceof ConfigError)) return false;
    }
    if (!this.#store.keepsPending) return true;
    const now = Date.now();
    const fresh = (await this.#store.load(now, this.#maxIntervalMs)).find((one) => one.entry.name === entry.name);
    if (fresh?.state.pending?.id === id)
      await this.#store.step(fresh, this.#stepTo({ ...state, pending: undefined }, entry, now));
    return true;
  }

  #stepTo(state: RunState, { schedule }: BeatEntry, now: number, message?: Publication): Step {
    const nextRunAt = isDue(schedule, state.lastRunAt ?? now, now, this.#zone).at;
    return { state, nextRunAt: Math.max(now, nextRunAt), ...(message === undefined ? {} : { message }) };
  }

  /** Undefined if an entry's arguments or options cannot be sent, which is logged. Its runs are counted, but nothing is sent. */
  #message(entry: BeatEntry, id: string): Publication | undefined {
    try {
      const { call, unknown } = callOf(entry);
      if (unknown.length > 0)
        this.#tellOnce(entry.name, undefined, `beat: unknown options are left out: ${unknown.join(', ')}`);
      return this.client.message(entry.task, { ...call, taskId: id });
    } catch (error) {
      if (!(error instanceof WireError || error instanceof ConfigError)) throw error;
      this.#cannotSend(entry, error);
      return undefined;
    }
  }

  #cannotSend(entry: BeatEntry, error: unknown): void {
    this.#log.error({ entry: entry.name, task: entry.task, error }, 'beat: an entry is due and cannot be sent');
  }

  #idOf({ options }: BeatEntry): string {
    const given = options['task_id'];
    return typeof given === 'string' && given !== '' ? given : randomUUID();
  }

  #tellOnce(entry: string, error: unknown, words: string): void {
    const told = `${entry}\n${words}`;
    if (!this.#told.has(told)) this.#log.warn({ entry, ...(error === undefined ? {} : { error }) }, words);
    this.#told.add(told);
  }
}

/** Adds Celery's own entry, if the result store does not expire results by itself. Source: Scheduler.install_default_entries. */
function withCleanup(
  entries: readonly BeatEntry[],
  client: CeleryClient,
  { resultExpires }: CeleryAppOptions,
): readonly BeatEntry[] {
  const name = 'celery.backend_cleanup';
  if (client.backend.kind !== 'file' || resultExpires === 0 || entries.some((entry) => entry.name === name))
    return entries;
  const cleanup: BeatEntry = {
    name,
    task: name,
    schedule: crontab({ minute: '0', hour: '4' }),
    args: [],
    kwargs: {},
    options: { expires: EXPIRES_OF_CLEANUP_SECONDS },
  };
  return [...entries, cleanup];
}

function storeFor(options: BeatOptions, client: CeleryClient, zone: Zone, maxIntervalMs: number): BeatStore {
  const { redis } = client.broker;
  const alone = client.broker.kind === 'memory' ? 'memory' : 'file';
  const scheduler =
    options.beatScheduler ?? (redis !== undefined || options.beatRedisUrl !== undefined ? 'redis' : alone);
  switch (scheduler) {
    case 'redis': {
      const where = redisFor('beatRedisUrl', options.beatRedisUrl, options, client);
      const ownPrefix = options.beatRedisUrl === undefined ? (redis?.prefix ?? '') : '';
      return new RedisBeatStore(where, {
        prefix: ownPrefix + (options.beatKeyPrefix ?? 'jobglot:beat:'),
        lockMs: 1000 * (options.beatLockTimeout ?? LOCK_SECONDS),
      });
    }
    case 'redbeat':
      return new RedBeatStore(redisFor('redbeatRedisUrl', options.redbeatRedisUrl, options, client), {
        keys: redbeatKeys(options.redbeatKeyPrefix, options.redbeatLockKey),
        lockMs:
          options.redbeatLockTimeout === undefined
            ? REDBEAT_LOCK_LOOPS * maxIntervalMs
            : 1000 * options.redbeatLockTimeout,
        zone,
      });
    case 'file':
      return new FileBeatStore(options.beatScheduleFilename ?? 'celerybeat-schedule.json');
    case 'memory':
      return new MemoryBeatStore();
  }
}

function redisFor(name: string, url: string | undefined, options: BeatOptions, client: CeleryClient): BeatRedis {
  const { redis } = client.broker;
  if (redis !== undefined && (url === undefined || url === options.broker)) return besideBroker(redis);
  if (url !== undefined) return elsewhere(url);
  throw new ConfigError(
    `celery: the beat's keys need a Redis, and the broker is not one; pass ${name}, or beatScheduler: 'file'`,
  );
}

function zoneNamed(name: string): Zone {
  try {
    return zoneOf(name);
  } catch (cause) {
    throw new ConfigError(`celery: timezone: ${reasonOf(cause)}`, { cause });
  }
}
