import type { Outcome } from '../../protocols/job.ts';
import { toFailure } from '../../protocols/errors.ts';
import { UnknownTaskError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { RenewingSet } from '../renewing.ts';
import type { Delivery, Source, UnknownTaskPolicy } from '../source.ts';

/** How many unknown tasks one source holds at once, at most. */
const MOST = 10_000;
/** How many bytes of unknown tasks one source holds at once, where the sizes are known. */
const MOST_BYTES = 64 * 2 ** 20;
/** How many tasks a second go back early because all places are taken. Each costs a fetch and a write. */
const EARLY_PER_SECOND = 500;
/** How many outcomes are written at once. A store that is down is then asked by so many, not by all that are held. */
const WRITES = 256;
/** How many outcomes may wait to be written before the lane fetches no more. */
const BACKLOG = 1_000;
/** The longest pause before a task goes back, unless the first pause is longer. While it is held, no other worker can take it. */
const LONGEST_MS = 15_000;
/** How long the lane fetches nothing after tasks have gone back, so that other workers can take them. */
const OTHERS_MS = 100;
/** From its second return on, a task goes back at a multiple of this, so that many go back together and the lane waits for others rarely. */
const TOGETHER_MS = 500;
/** How long a fetch under way may hold up tasks that are to go back. */
const FETCH_MS = 1_500;
/** How many jobs are remembered by their key, so that the pause of one that comes back can grow. */
const REMEMBERED = 20_000;
/** How long nothing more is logged about a task. */
const SAID_MS = 60_000;
/** How many task names are remembered as logged. */
const NAMES = 1_000;
/** Foreign names may have any length. */
const NAME_LENGTH = 200;

/** What the lane does for its unknown tasks. */
export interface UnknownTasksOptions {
  readonly source: Source;
  readonly log: Logger;
  /** Writes an outcome until the store has it or the worker gives up. Never rejects. */
  readonly settle: (delivery: Delivery, outcome: Outcome) => Promise<void>;
}

/** An unknown task of this process. `order`: how many known deliveries the lane had taken before it. */
export interface HeldTask {
  readonly delivery: Delivery;
  readonly order: number;
}

interface Held extends HeldTask {
  /** Written when its time comes. */
  readonly outcome: Outcome;
  timer: NodeJS.Timeout | undefined;
  stage: 'held' | 'due' | 'writing';
}

/**
 * Jobs of one source that no handler here can run. They take no slot. Each stays claimed, so that the system's own recovery finds it when this process
 * dies, until its outcome is written: by `unknownTask` it goes back to its queue after a pause, is rejected, is forwarded, or is held until the worker
 * stops.
 *
 * The pause grows each time the same job comes back. Without that, a queue of foreign tasks would go round and round through this worker. When all
 * places are taken, the task held longest goes back early, so that known tasks behind the unknown ones are still found; so many a second, no more.
 */
export class UnknownTasks {
  readonly #options: UnknownTasksOptions;
  /** In the order of their arrival. */
  readonly #held = new RenewingSet<Held>();
  readonly #due: Held[] = [];
  readonly #returns = new Map<string, number>();
  readonly #said = new Map<string, number>();
  #bytes = 0;
  #writing = 0;
  #early = EARLY_PER_SECOND;
  #earlyAt = 0;
  #stopped = false;
  #fetching = false;
  #late: NodeJS.Timeout | undefined;
  #othersUntil = 0;
  #telling = false;
  #told = 0;
  #room: (() => void) | undefined;

  constructor(options: UnknownTasksOptions) {
    this.#options = options;
  }

  /** How many are claimed here and have no outcome written yet. */
  get size(): number {
    return this.#held.size;
  }

  /** How many outcomes are being written. */
  get writing(): number {
    return this.#writing;
  }

  /** Whether the lane may fetch: an unknown task that comes now finds a place, or another may go back early for it. */
  get hasRoom(): boolean {
    if (performance.now() < this.#othersUntil) return false;
    if (this.#due.length > BACKLOG) return false;
    if (!this.#full) return true;
    if (this.#due.length > 0) return false;
    this.#refill();
    return this.#early >= 1;
  }

  /** Resolves when there may be room, or when `signal` aborts. */
  room(signal: AbortSignal): Promise<void> {
    const othersMs = this.#othersUntil - performance.now();
    const waitMs =
      othersMs > 0
        ? othersMs
        : this.#due.length > 0
          ? 1_000
          : Math.max(1, ((1 - this.#early) / EARLY_PER_SECOND) * 1_000);
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        this.#room = undefined;
        resolve();
      };
      const timer = setTimeout(done, waitMs);
      this.#room = done;
      signal.addEventListener('abort', done, { once: true });
    });
  }

  /**
   * The lane is about to fetch. A fetch that waits takes a task again in the same moment in which it goes back, before any other worker can: tasks go
   * back between two fetches.
   */
  fetching(): void {
    this.#fetching = true;
  }

  /** The fetch has answered. */
  fetched(): void {
    this.#fetching = false;
    this.#write();
  }

  /** Takes a delivery that no handler here can run. `order` as in `HeldTask`. */
  take(delivery: Delivery, order: number): void {
    const { source } = this.#options;
    const policy = source.unknownTask ?? 'requeue';
    this.#tell(delivery, policy);
    if (this.#full && !this.#stopped) this.#makeRoom();
    const held: Held = {
      delivery,
      order,
      outcome: outcomeOf(delivery, policy, source),
      timer: undefined,
      stage: 'held',
    };
    this.#held.add(held);
    this.#bytes += delivery.bytes ?? 0;
    this.#changed();
    // A fetch may answer after the worker was told to take nothing more: what it brings goes back untouched.
    if (this.#stopped || policy === 'hold') return;
    if (policy === 'requeue') held.timer = setTimeout(() => this.#becomeDue(held, true), this.#pauseOf(delivery));
    else this.#becomeDue(held);
  }

  /** Takes those of this job's id out, for the caller to settle. */
  cancel(jobId: string): readonly Delivery[] {
    const found: Delivery[] = [];
    for (const held of this.#held) {
      if (held.stage === 'writing' || held.delivery.job.id !== jobId) continue;
      this.#remove(held);
      found.push(held.delivery);
    }
    return found;
  }

  /** From now on nothing goes back by itself: the worker stops, and gives back what is held in its order. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#late);
    for (const held of this.#held) clearTimeout(held.timer);
    this.#room?.();
  }

  /** Takes out all that are held, in the order of their arrival, for the caller to release. */
  drain(): readonly HeldTask[] {
    const left = [...this.#held].filter(({ stage }) => stage !== 'writing');
    for (const held of left) this.#remove(held);
    return left;
  }

  get #full(): boolean {
    return this.#held.size >= MOST || this.#bytes >= MOST_BYTES;
  }

  /** The one held longest goes back. A delivery that the system has again costs nothing: it is only forgotten. */
  #makeRoom(): void {
    for (const held of this.#held) {
      if (held.stage !== 'held') continue;
      if (held.delivery.lost !== true) this.#early -= 1;
      return this.#becomeDue(held);
    }
  }

  /** So many places as time has passed, at most those of a second. Below zero after a fetch that brought more than there was room for. */
  #refill(): void {
    const now = performance.now();
    this.#early = Math.min(EARLY_PER_SECOND, this.#early + ((now - this.#earlyAt) / 1_000) * EARLY_PER_SECOND);
    this.#earlyAt = now;
  }

  /** `between`: it goes back between two fetches, if one ends soon. */
  #becomeDue(held: Held, between = false): void {
    clearTimeout(held.timer);
    if (!this.#held.has(held) || held.stage !== 'held') return;
    held.stage = 'due';
    this.#due.push(held);
    if (!between || !this.#fetching) return this.#write(between);
    this.#late ??= setTimeout(() => {
      this.#late = undefined;
      this.#write();
    }, FETCH_MS);
  }

  #write(forOthers = true): void {
    // Many at once leave in one trip.
    if (this.#stopped || this.#due.length === 0 || this.#writing > WRITES / 2) return;
    clearTimeout(this.#late);
    this.#late = undefined;
    if (forOthers && !this.#full) this.#othersUntil = performance.now() + OTHERS_MS;
    for (const held of this.#due.splice(0, WRITES - this.#writing)) {
      // Cancelled meanwhile.
      if (!this.#held.has(held)) continue;
      held.stage = 'writing';
      this.#writing++;
      void this.#options.settle(held.delivery, held.outcome).finally(() => {
        this.#writing--;
        this.#remove(held);
        this.#write(false);
        if (this.#due.length <= BACKLOG) this.#room?.();
      });
    }
  }

  #remove(held: Held): void {
    clearTimeout(held.timer);
    if (!this.#held.delete(held)) return;
    this.#bytes -= held.delivery.bytes ?? 0;
    this.#changed();
  }

  /** The source is told once a turn: a thousand may go back at the same time. */
  #changed(): void {
    const { source } = this.#options;
    if (source.holding === undefined || this.#telling) return;
    this.#telling = true;
    setImmediate(() => {
      this.#telling = false;
      if (this.#told === this.size) return;
      this.#told = this.size;
      source.holding?.(this.size);
    });
  }

  #pauseOf({ job, unknownKey = job.id }: Delivery): number {
    const first = this.#options.source.unknownTaskDelayMs ?? 1_000;
    const times = this.#returns.get(unknownKey) ?? 0;
    // The one that came back last is forgotten last.
    this.#returns.delete(unknownKey);
    this.#returns.set(unknownKey, times + 1);
    forgetFirst(this.#returns, REMEMBERED);
    // Doubling nothing is still nothing, and would spin.
    const ms = Math.min(Math.max(first, 1) * 2 ** Math.min(times, 30), Math.max(first, LONGEST_MS));
    const now = performance.now();
    return times === 0 ? first : Math.ceil((now + ms) / TOGETHER_MS) * TOGETHER_MS - now;
  }

  #tell(delivery: Delivery, policy: UnknownTaskPolicy): void {
    const { log, source } = this.#options;
    const { id, queue } = delivery.job;
    const task = delivery.job.task.slice(0, NAME_LENGTH);
    const now = performance.now();
    const last = this.#said.get(task);
    if (last !== undefined && now - last < SAID_MS) return;
    this.#said.delete(task);
    this.#said.set(task, now);
    forgetFirst(this.#said, NAMES);
    const because =
      delivery.unknown === undefined
        ? `no handler here for the task '${task}', which shares the queue '${queue}' with tasks that have one`
        : `a job of the task '${task}' in the queue '${queue}' cannot be run here: ${delivery.unknown}`;
    log.warn(
      { system: source.system, task, id, queue },
      `${because}. ${FATE[typeof policy === 'string' ? policy : 'forward'](policy)}. ` +
        "Register a handler, consume queues whose tasks all have one, or set unknownTask: 'requeue', 'reject', 'hold' or { forward: 'queue' }",
    );
  }
}

const FATE: Readonly<Record<'requeue' | 'reject' | 'hold' | 'forward', (policy: UnknownTaskPolicy) => string>> = {
  requeue: () => 'Its jobs go back to their queue for other workers, after a pause that grows',
  reject: () => 'Its jobs are rejected: they end as the system ends a task it does not know',
  hold: () => 'Its jobs are held by this worker until it stops',
  forward: (policy) => `Its jobs go to the queue '${typeof policy === 'string' ? '' : policy.forward}'`,
};

function outcomeOf(delivery: Delivery, policy: UnknownTaskPolicy, { system }: Source): Outcome {
  if (typeof policy !== 'string') return { kind: 'unknown', queue: policy.forward };
  if (policy !== 'reject') return { kind: 'unknown' };
  const { task } = delivery.job;
  const known = delivery.rejectUnknown?.(delivery.unknown ?? `no handler for the task '${task}'`);
  return known ?? { kind: 'fail', error: toFailure(new UnknownTaskError(system, task)) };
}

function forgetFirst(map: Map<string, number>, most: number): void {
  if (map.size <= most) return;
  for (const first of map.keys()) {
    map.delete(first);
    return;
  }
}
