import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import * as wire from '../../../protocols/rq/cron.ts';
import { crontab } from '../../../protocols/rq/crontab.ts';
import { callString } from '../../../protocols/rq/description.ts';
import { newJob } from '../../../protocols/rq/enqueue.ts';
import { checkQueueName } from '../../../protocols/rq/keys.ts';
import { type Duration, type JobOptions, type JobSettings, jobSettings } from '../../../protocols/rq/options.ts';
import { dumps, type SerializerName } from '../../../protocols/rq/serializers.ts';
import { ConfigError, ConnectionError, WireError } from '../../errors.ts';
import { type Logger, silent } from '../../log.ts';
import { pause } from '../../source.ts';
import { type Task, taskName } from '../../task.ts';
import { RedisConnection } from '../../transports/redis.ts';
import type { RedisTarget } from '../../transports/redis-url.ts';
import { type RqAppOptions, targetOf } from './options.ts';

/** A job and its schedule, with the options of `rq.cron.register` in camelCase. */
export interface RqCronJob extends Pick<JobOptions, 'meta' | 'webhooks'> {
  /** A task, or its dotted name. */
  readonly func: Pick<Task, 'name' | 'names'> | string;
  readonly queueName: string;
  readonly args?: readonly unknown[];
  readonly kwargs?: Readonly<Record<string, unknown>>;
  /** Seconds between two runs. The first run is immediate, unless the job was enqueued within this interval. Pass either this or `cron`. */
  readonly interval?: number;
  /** `'30 7 * * mon-fri'`, in UTC, with an optional sixth field for seconds. Runs that are missed while no process runs are not made up for. */
  readonly cron?: string;
  /** @default 180 seconds */
  readonly jobTimeout?: Duration;
  /** @default 500 seconds */
  readonly resultTtl?: Duration;
  readonly ttl?: Duration;
  readonly failureTtl?: Duration;
}

/** The address of Redis, and the jobs with their schedules. */
export interface RqCronOptions extends RqAppOptions {
  readonly jobs: readonly RqCronJob[];
  /** The name that RQ shows. @default `host:pid:6 hex digits` */
  readonly name?: string;
  /** Shown as the place where its jobs are configured. */
  readonly configFile?: string;
  /** Shaped like pino's. @default nothing is written */
  readonly log?: Logger;
}

interface Entry {
  readonly id: string;
  readonly entry: wire.CronEntry;
  readonly settings: JobSettings;
  latest: number | undefined;
  next: number;
}

/** As in RQ: the longest time between two polls. Each poll also writes the sign of life. */
const LONGEST_SLEEP_MS = 60_000;
const BIRTH_SECONDS = 60;
const LIFE_SECONDS = 120;
const DAY_MS = 86_400_000;
const DEFAULT_RESULT_TTL = 500;

/**
 * Enqueues jobs when they are due, as `rq cron` does, and is listed as RQ's CronScheduler. Unlike with `rq cron`, several processes with the same
 * jobs may run. Each run is enqueued once, by the first process; when one process dies, the others continue. A CronScheduler in Python with the same
 * jobs does not take part in this, so it enqueues them too.
 */
export class RqCron implements AsyncDisposable {
  readonly name: string;
  readonly #scheduler: wire.CronScheduler;
  readonly #target: RedisTarget;
  readonly #serializer: SerializerName;
  readonly #log: Logger;
  readonly #entries: readonly Entry[];
  readonly #stop = new AbortController();
  #redis: RedisConnection | undefined;
  #running: Promise<void> | undefined;

  /** Throws ConfigError naming the job and the option. Opens nothing before it is started. */
  constructor(options: RqCronOptions) {
    this.name = options.name ?? `${hostname()}:${process.pid}:${randomBytes(3).toString('hex')}`;
    this.#scheduler = {
      name: this.name,
      hostname: hostname(),
      pid: process.pid,
      createdAt: new Date(),
      configFile: options.configFile ?? '',
    };
    this.#target = targetOf(options);
    this.#serializer = options.serializer ?? 'pickle';
    this.#log = options.log ?? silent;
    if (options.jobs.length === 0) throw new ConfigError('rq: a cron without jobs has nothing to do; pass jobs');
    const seen = new Map<string, number>();
    this.#entries = options.jobs.map((job) => entryOf(job, this.#serializer, seen));
  }

  /** The address of Redis, without secrets. */
  get address(): string {
    return this.#target.maskedUrl;
  }

  /** The jobs, and the next time of each. */
  get jobs(): readonly { readonly funcName: string; readonly queueName: string; readonly next: Date }[] {
    return this.#entries.map(({ entry, next }) => ({
      funcName: entry.funcName,
      queueName: entry.queueName,
      next: new Date(next),
    }));
  }

  /** Runs until the signal aborts. Rejects if Redis cannot be reached at the start. Later it waits for Redis. */
  async run(signal: AbortSignal): Promise<void> {
    const stop = (): void => void this.stop();
    signal.addEventListener('abort', stop, { once: true });
    try {
      if (signal.aborted) return;
      await this.start();
      await this.#running;
    } finally {
      signal.removeEventListener('abort', stop);
      await this.stop();
    }
  }

  /** Resolves when the scheduler is listed and the jobs that were due at once are enqueued. */
  async start(): Promise<void> {
    if (this.#redis !== undefined) throw new ConfigError('rq: this cron was started before; make another');
    const redis = (this.#redis = new RedisConnection(this.#target, { log: this.#log }));
    try {
      await redis.connect();
      await this.#learn(redis);
      await redis.run(this.#beat(BIRTH_SECONDS));
      await this.#tick(redis);
    } catch (error) {
      await redis.close();
      throw error;
    }
    this.#running = this.#loop(redis);
  }

  /** Resolves when no more jobs will be enqueued. It may be called twice. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.#redis?.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #loop(redis: RedisConnection): Promise<void> {
    const { signal } = this.#stop;
    for (let failures = 0; !signal.aborted;) {
      const due = Math.min(...this.#entries.map(({ next }) => next));
      const waitMs = failures === 0 ? due - Date.now() : Math.min(10_000, 250 * 2 ** failures);
      await pause(Math.max(0, Math.min(LONGEST_SLEEP_MS, waitMs)), signal);
      if (signal.aborted) break;
      try {
        await this.#tick(redis);
        failures = 0;
      } catch (error) {
        // A due job stays due.
        failures = Math.min(failures + 1, 10);
        this.#log.error({ error, cron: this.name }, 'what is due cannot be enqueued; trying again');
      }
    }
    await redis.run(wire.death(this.name)).catch(() => undefined);
  }

  /** Enqueues the due jobs, and writes the sign of life. */
  async #tick(redis: RedisConnection): Promise<void> {
    for (const one of this.#entries) if (one.next <= Date.now()) await this.#enqueue(redis, one);
    await redis.run(this.#beat(LIFE_SECONDS));
  }

  async #enqueue(redis: RedisConnection, one: Entry): Promise<void> {
    const { entry, settings, id } = one;
    const now = new Date();
    const { schedule } = entry;
    const run: wire.Run =
      'cron' in schedule
        ? { entry: id, before: one.next - 1, at: one.next, rememberMs: DAY_MS }
        : {
            entry: id,
            before: now.getTime() - schedule.interval * 1000,
            at: now.getTime(),
            rememberMs: DAY_MS + schedule.interval * 2000,
          };
    const job = newJob(settings, {
      call: { funcName: entry.funcName, instance: null, args: entry.args, kwargs: entry.kwargs },
      id: randomUUID(),
      queue: entry.queueName,
      serializer: this.#serializer,
      now,
    });
    const other = await this.#claim(redis, run, job);
    // For a crontab, the next time is counted from now: runs missed meanwhile are not made up for.
    one.latest = 'cron' in schedule ? now.getTime() : (other ?? now.getTime());
    one.next = wire.nextTime(entry, one.latest, now);
    const told = { cron: this.name, id: job.job.id, func: entry.funcName, queue: entry.queueName };
    if (other === undefined) this.#log.info(told, 'enqueued');
    else this.#log.debug(told, 'enqueued by another process');
  }

  /**
   * After a lost reply it asks again. If the first call had succeeded, the answer is this run's own time; otherwise it is the time of another
   * process.
   */
  async #claim(redis: RedisConnection, run: wire.Run, job: ReturnType<typeof newJob>): Promise<number | undefined> {
    try {
      return await redis.run(wire.enqueueRun(run, job));
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error;
      const latest = await redis.run(wire.enqueueRun(run, job));
      return latest === run.at ? undefined : latest;
    }
  }

  async #learn(redis: RedisConnection): Promise<void> {
    const latest = await redis.run(wire.latestTimes(this.#entries.map(({ id }) => id)));
    const now = new Date();
    for (const [at, one] of this.#entries.entries()) {
      if ('cron' in one.entry.schedule) continue;
      one.latest = latest[at];
      one.next = wire.nextTime(one.entry, one.latest, now);
    }
  }

  #beat(seconds: number): ReturnType<typeof wire.beat> {
    const records = this.#entries.map(({ entry, latest, next }) => {
      const due = 'cron' in entry.schedule || latest !== undefined ? next : undefined;
      return wire.cronRecord(entry, { latest, next: due });
    });
    return wire.beat(this.#scheduler, records, new Date(), seconds);
  }
}

function entryOf(job: RqCronJob, serializer: SerializerName, seen: Map<string, number>): Entry {
  const funcName = taskName(job.func, 'rq');
  const { args = [], kwargs = {}, interval, cron, queueName, resultTtl = DEFAULT_RESULT_TTL } = job;
  try {
    if (funcName === '') throw new ConfigError('func needs a name');
    if ((interval === undefined) === (cron === undefined)) throw new ConfigError('pass either interval or cron');
    if (interval !== undefined && !(interval > 0 && interval <= 2_147_483_647))
      throw new ConfigError(`interval must be seconds above 0, not ${interval}`);
    const { jobTimeout, ttl, failureTtl, meta, webhooks } = job;
    const settings = jobSettings(
      without({
        jobTimeout,
        resultTtl,
        ttl,
        failureTtl,
        meta,
        webhooks,
        description: callString(funcName, args, kwargs),
      }),
    );
    const entry: wire.CronEntry = {
      funcName,
      queueName: checkQueueName(queueName),
      args,
      kwargs,
      schedule: interval === undefined ? { cron: crontab(cron as string) } : { interval },
      jobTimeout: jobTimeout === undefined ? undefined : settings.timeout,
      resultTtl: settings.resultTtl,
      ttl: settings.ttl,
      failureTtl: settings.failureTtl,
      meta,
      webhooks: settings.webhooks,
    };
    const next = wire.nextTime(entry, undefined, new Date());
    return { id: idOf(entry, serializer, seen), entry, settings, latest: undefined, next };
  } catch (error) {
    if (error instanceof WireError || error instanceof ConfigError)
      throw new ConfigError(`rq: the cron job ${funcName}: ${error.message.replace(/^rq: /, '')}`, { cause: error });
    throw error;
  }
}

/** The id is the same in every process and after a restart. If one process has two identical jobs, the second gets a different id. */
function idOf(entry: wire.CronEntry, serializer: SerializerName, seen: Map<string, number>): string {
  const { funcName, queueName, args, kwargs, schedule } = entry;
  const when = 'cron' in schedule ? schedule.cron.text : schedule.interval;
  const hash = createHash('sha1')
    .update(JSON.stringify([funcName, queueName, when]))
    .update(dumps(serializer, [args, kwargs], 'args'))
    .digest('hex');
  const times = seen.get(hash) ?? 0;
  seen.set(hash, times + 1);
  return times === 0 ? hash : `${hash}:${times}`;
}

function without<T extends object>(options: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
