import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { cron, duration, every, type Timing } from '../../../protocols/resque/cron.ts';
import { type Keyspace, quarantineKey } from '../../../protocols/resque/keys.ts';
import { encodePayload } from '../../../protocols/resque/message.ts';
import { processName } from '../../../protocols/resque/presence.ts';
import * as wire from '../../../protocols/resque/schedule.ts';
import { readTime } from '../../../protocols/resque/times.ts';
import { parseExact } from '../../../protocols/formats/json.ts';
import * as json from '../../../protocols/formats/ruby-json.ts';
import { type Zone, zoneOf } from '../../../protocols/formats/zone.ts';
import { ConfigError, ConnectionError } from '../../errors.ts';
import { type Logger, silent } from '../../log.ts';
import { backoff } from '../../backoff.ts';
import { type Agent, type Host, pause } from '../../source.ts';
import { PushWatch } from '../../transports/redis-push.ts';
import { RedisConnection } from '../../transports/redis.ts';
import { checkScheduler } from './option-checks.ts';
import { positive, type ResolvedApp, resolveApp, type ResqueAppOptions, type SchedulerOptions } from './options.ts';

/** The shortest time between two runs of a schedule. */
const LEAST_MS = 1_000;

/** The time between two polls if the server cannot notify of changes. */
const UNTOLD_MS = 1_000;

/** An active schedule: the job it sends, and the time of the next run. */
interface Followed {
  readonly entry: wire.ScheduleEntry;
  /** The text or options from which the schedule was made. If they are unchanged, its timing goes on. */
  readonly made: string;
  readonly timing: Timing;
  next: number | undefined;
  /** The time under which a run was sent, if its reply was lost. */
  unheard?: Date | undefined;
  /** The last run could not be sent. */
  refused?: boolean;
}

/**
 * Moves delayed jobs to their queues and sends scheduled ones, while it is the leader. It uses Ruby's lock, so there is one leader among the
 * schedulers in Ruby and here. Each move is one atomic step, and happens when the job is due, not at the next poll.
 */
export class SchedulerAgent implements Agent {
  readonly name = 'resque: scheduler';
  readonly #app: ResolvedApp;
  readonly #keys: Keyspace;
  readonly #static: readonly (readonly [string, Readonly<Record<string, unknown>>])[];
  readonly #dynamic: boolean;
  readonly #env: string | undefined;
  readonly #zone: Zone;
  readonly #intervalMs: number;
  readonly #lockSeconds: number;
  #who = '';
  #log: Logger = silent;
  #poison: Host['poison'] | undefined;
  #redis: RedisConnection | undefined;
  #watch: PushWatch | undefined;
  #leads = false;
  #followed = new Map<string, Followed>();

  /** Throws ConfigError for an invalid schedule. */
  constructor(app: ResolvedApp, options: SchedulerOptions) {
    this.#app = app;
    this.#keys = app.keys;
    this.#dynamic = options.dynamic ?? true;
    this.#env = options.env;
    this.#intervalMs = positive('scheduler.interval', options.interval ?? 5) * 1000;
    this.#lockSeconds = Math.ceil(positive('scheduler.lockTimeout', options.lockTimeout ?? wire.LOCK_SECONDS));
    try {
      this.#zone = zoneOf(options.timezone ?? 'UTC');
      this.#static = Object.entries(options.schedule ?? {}).map(([name, config]) => {
        const own = config as unknown as Readonly<Record<string, unknown>>;
        this.#follow(name, own, 0);
        return [name, own] as const;
      });
    } catch (cause) {
      throw new ConfigError(`resque: scheduler: ${(cause as Error).message.replace(/^(?:resque|timezone): /, '')}`, {
        cause,
      });
    }
  }

  /** Whether this scheduler is the leader. */
  get leads(): boolean {
    return this.#leads;
  }

  async open(
    identity: { readonly hostname: string; readonly pid: number },
    log: Logger,
    poison?: Host['poison'],
  ): Promise<void> {
    this.#log = log;
    this.#poison = poison;
    // The pid alone is not unique: it may be the same in every container.
    this.#who = `${processName(identity.hostname, randomBytes(3).toString('hex'))}:${identity.pid}`;
    const redis = new RedisConnection(this.#app.target, { log });
    await redis.connect();
    this.#redis = redis;
    this.#watch = new PushWatch(redis, log);
    await this.#watch.open();
  }

  async run(signal: AbortSignal): Promise<void> {
    const watch = this.#watch as PushWatch;
    try {
      while (!signal.aborted) {
        const { seen } = watch;
        const waitMs = await this.#step(signal);
        // If the server does not notify of new delayed jobs, this polls for them.
        const limitMs = watch.active ? waitMs : Math.min(waitMs, UNTOLD_MS);
        if (limitMs > 0) await watch.next(seen, limitMs, signal);
      }
    } finally {
      // Another scheduler may lead while this one does not run.
      this.#leads = false;
    }
  }

  async close(): Promise<void> {
    const redis = this.#redis;
    if (redis === undefined) return;
    this.#redis = undefined;
    try {
      await redis.whenReady(AbortSignal.timeout(1_000));
      await redis.run(wire.stepDown(this.#keys, this.#who));
    } finally {
      await this.#watch?.close();
      await redis.close();
    }
  }

  /** One step. Returns the milliseconds until the next one. */
  async #step(signal: AbortSignal): Promise<number> {
    const redis = this.#connection();
    const leads = await redis.run(wire.lead(this.#keys, this.#who, this.#lockSeconds));
    if (leads !== this.#leads) {
      this.#leads = leads;
      this.#log.info({ who: this.#who }, leads ? 'this scheduler leads' : 'another scheduler leads');
      if (leads) await this.#load();
    }
    if (!leads) return this.#intervalMs;
    if (this.#dynamic && (await redis.run(wire.changedSchedules(this.#keys)))) await this.#load();
    await this.#fireDue();
    await this.#moveDue(signal);
    const next = await redis.run(wire.nextSecond(this.#keys));
    return this.#until(next === undefined ? undefined : next * 1000);
  }

  /** Milliseconds until the soonest of these: the next delayed job, the next scheduled job, the renewal of the lead. */
  #until(delayed: number | undefined): number {
    const now = Date.now();
    const times = [now + this.#intervalMs, delayed, ...Array.from(this.#followed.values(), ({ next }) => next)];
    return Math.max(1, Math.min(...times.filter((at) => at !== undefined)) - now);
  }

  async #moveDue(signal: AbortSignal): Promise<void> {
    const redis = this.#connection();
    while (!signal.aborted) {
      const second = await redis.run(wire.dueSecond(this.#keys, new Date()));
      if (second === undefined) return;
      const items = await this.#itemsOf(second);
      if (items === undefined) continue;
      const due = items.map(wire.readDue);
      const moved = await redis.run(wire.moveDelayed(this.#keys, second, due));
      for (const at of moved.aside) {
        const { queue, why } = due[at] as wire.DueItem;
        this.#quarantine(queue === undefined ? why : `the key of its queue '${queue}' is no list`);
      }
    }
  }

  /** The jobs of one second. If its key is not a list, the second is not polled again, so it does not block other seconds. */
  async #itemsOf(second: string): Promise<readonly Buffer[] | undefined> {
    const redis = this.#connection();
    try {
      return await redis.run(wire.itemsOf(this.#keys, second));
    } catch (error) {
      if (error instanceof ConnectionError) throw error;
      await redis.run(wire.forgetSecond(this.#keys, second));
      this.#log.error({ second, error }, `what is due at ${second} is no list; its key is left as it is`);
      return undefined;
    }
  }

  #quarantine(reason: string): void {
    const list = quarantineKey(this.#keys, 'delayed');
    const kept = `The bytes are kept in the list '${list}', the reason in '${list}:why'`;
    this.#poison?.({ system: 'resque', queue: 'delayed', id: undefined, code: 'undecodable', reason, kept });
  }

  async #fireDue(): Promise<void> {
    const now = Date.now();
    for (const followed of this.#followed.values()) {
      if (followed.next === undefined || followed.next > now) continue;
      const { name, queue, class: className } = followed.entry;
      try {
        if (!(await this.#fire(followed, now))) return; // the lead went to another, who sends it
        this.#log.info({ schedule: name, task: className, queue }, 'sent as scheduled');
        followed.refused = false;
        followed.next = followed.timing.next(now);
      } catch (error) {
        if (error instanceof ConnectionError) throw error;
        // A job that cannot be sent must not block other scheduled or delayed jobs. It is tried again until it succeeds.
        if (followed.refused !== true)
          this.#log.error({ schedule: name, queue, error }, 'a scheduled job cannot be sent; trying again');
        followed.refused = true;
        followed.next = now + this.#intervalMs;
      }
    }
  }

  async #fire(followed: Followed, now: number): Promise<boolean> {
    const { name, queue, class: className, args } = followed.entry;
    const payload = encodePayload(className, args);
    const again = followed.unheard !== undefined;
    // A server that executed the command although its reply was lost recognises the run by this time.
    const at = (followed.unheard ??= new Date(now));
    let heard = true;
    try {
      return await this.#connection().run(wire.fire(this.#keys, this.#who, { name, queue, payload }, at, again));
    } catch (error) {
      heard = !(error instanceof ConnectionError);
      throw error;
    } finally {
      if (heard) followed.unheard = undefined;
    }
  }

  /** Loads the current schedules. A cron run that fell due while there was no leader is sent once. */
  async #load(): Promise<void> {
    const now = Date.now();
    const before = this.#followed;
    const followed = new Map<string, Followed>();
    const last = await this.#lastEnqueued();
    const add = (name: string, config: Readonly<Record<string, unknown>>, text?: string): void => {
      if (!isMeantFor(this.#env, config)) return;
      const found = this.#follow(name, config, now, text);
      const known = before.get(name);
      const sentAt = last.get(name)?.getTime();
      // Another leader sent the run meanwhile, or this one sent it and the reply was lost. Recorded times are whole seconds.
      const sent = known?.next !== undefined && sentAt !== undefined && sentAt + 1000 > known.next;
      if (known?.made === found.made && !sent) {
        found.next = known.next;
        found.unheard = known.unheard;
      } else if (found.entry.cron !== undefined) {
        const due = sentAt === undefined ? undefined : found.timing.next(sentAt);
        if (due !== undefined && due <= now && now - due < (this.#lockSeconds + 60) * 1000) found.next = due;
      }
      followed.set(name, found);
    };
    for (const [name, config] of this.#static) add(name, config);
    if (this.#dynamic) {
      for (const [name, text] of await this.#connection().run(wire.persistentSchedules(this.#keys))) {
        try {
          add(name, readConfig(text), text);
        } catch (error) {
          this.#log.warn(
            { schedule: name, error },
            'a schedule in persistent_schedules cannot be followed; it is left out',
          );
        }
      }
    }
    this.#followed = followed;
  }

  async #lastEnqueued(): Promise<ReadonlyMap<string, Date>> {
    const texts = await this.#connection().run(wire.lastEnqueued(this.#keys));
    const times = new Map<string, Date>();
    for (const [name, text] of texts) {
      const at = readTime(text);
      if (at !== undefined) times.set(name, at);
    }
    return times;
  }

  /** Throws WireError. */
  #follow(name: string, config: Readonly<Record<string, unknown>>, now: number, text?: string): Followed {
    const { entry, why } = wire.readSchedule(name, config);
    if (entry === undefined) throw new ConfigError(`the schedule '${name}': ${why}`);
    // A short interval in persistent_schedules must not fill a queue a thousand times a second.
    const interval = entry.every === undefined ? 0 : Math.max(LEAST_MS, duration(entry.every));
    const first = entry.firstIn === undefined ? interval : duration(entry.firstIn);
    const timing = entry.cron === undefined ? every(interval, now + first) : cron(entry.cron, this.#zone);
    return {
      entry,
      made: text ?? JSON.stringify(config, (_, value: unknown) => (typeof value === 'bigint' ? `${value}` : value)),
      timing,
      next: timing.next(now),
    };
  }

  #connection(): RedisConnection {
    if (this.#redis === undefined) throw new ConfigError('resque: the scheduler is not open');
    return this.#redis;
  }
}

/** Source: scheduler.rb load_schedule_job, env_matches?. */
function isMeantFor(env: string | undefined, config: Readonly<Record<string, unknown>>): boolean {
  const named = config['rails_env'] ?? config['env'];
  return env === undefined || typeof named !== 'string' || named.split(/[\s,]+/).includes(env);
}

/** The text of a schedule, with its arguments exactly as written: `1.0` stays `1.0`. Throws WireError. */
function readConfig(text: string): Readonly<Record<string, unknown>> {
  const config = json.parse(text) as Readonly<Record<string, unknown>>;
  if (!Object.hasOwn(config, 'args')) return config;
  return { ...config, args: (parseExact(text) as ReadonlyMap<string, unknown>).get('args') };
}

/** The address of Redis, and the schedules. */
export interface ResqueSchedulerOptions extends ResqueAppOptions, Omit<SchedulerOptions, 'run'> {
  readonly log?: Logger;
}

/** resque-scheduler without a worker: `await new ResqueScheduler({ url, schedule }).run(signal)`. */
export class ResqueScheduler {
  readonly #agent: SchedulerAgent;
  readonly #log: Logger;

  /** Throws ConfigError. Opens nothing before `run`. */
  constructor(options: ResqueSchedulerOptions) {
    checkScheduler(options);
    this.#agent = new SchedulerAgent(resolveApp(options), options);
    this.#log = options.log ?? silent;
  }

  get leads(): boolean {
    return this.#agent.leads;
  }

  /** Runs until `signal` aborts. Rejects with ConnectionError when Redis cannot be reached at the start. Later it waits for Redis. */
  async run(signal: AbortSignal): Promise<void> {
    await this.#agent.open({ hostname: hostname(), pid: process.pid }, this.#log, ({ reason, kept, ...fields }) =>
      this.#log.error(fields, `not a job: ${reason}. ${kept}`),
    );
    try {
      for (let failures = 0; !signal.aborted; failures++) {
        const began = Date.now();
        try {
          await this.#agent.run(signal);
        } catch (error) {
          // A failure after a minute without one starts the back-off anew, and is logged.
          if (Date.now() - began > 60_000) failures = 0;
          if (failures === 0) this.#log.error({ error }, 'Redis does not answer; trying again');
          await pause(backoff(failures, Math.random()), signal);
        }
      }
    } finally {
      await this.#agent.close();
    }
  }
}
