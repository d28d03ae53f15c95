import { randomUUID } from 'node:crypto';
import type { Command } from '../../protocols/redis.ts';
import { REGISTER } from '../../protocols/rq/enqueue.ts';
import * as jobs from '../../protocols/rq/jobs.ts';
import { jobKey, resultsKey } from '../../protocols/rq/keys.ts';
import * as lifecycle from '../../protocols/rq/lifecycle.ts';
import { type JobHash, readCall, readJob, toJob } from '../../protocols/rq/message.ts';
import type { Settlement } from '../../protocols/rq/redis.ts';
import { retryDelayMs } from '../../protocols/retry.ts';
import type { RqCallbacks } from '../drivers/rq/callbacks.ts';
import { RqClient, type RqClientOptions } from '../drivers/rq/client.ts';
import type { EnqueueOptions } from '../drivers/rq/envelope.ts';
import { RqDelivery } from '../drivers/rq/delivery.ts';
import { ConfigError, ResultTimeoutError } from '../errors.ts';
import { silent } from '../log.ts';
import type { Registration, Registry } from '../task.ts';
import { bytesOf, noServer, TestLink } from './link.ts';
import { type InlineRun, type InlineSettings, Runs } from './runs.ts';
import { ENQUEUES, type Enqueued, Tape } from './tape.ts';

/** The options of a client that need no server. */
export type RqTestOptions = Omit<RqClientOptions, 'url' | 'redis'>;
type WaitOptions = Parameters<RqClient['wait']>[2];

/** An `RqClient` that sends nothing and remembers what it would send. */
export class RqRecorder extends RqClient {
  readonly enqueued: Enqueued<EnqueueOptions>;
  readonly #tape: Tape<EnqueueOptions>;

  constructor(options: RqTestOptions = {}) {
    const tape = new Tape<EnqueueOptions>('rq');
    const memory = new Memory();
    const link = new TestLink((command) => {
      if (!isRegister(command)) return memory.answer(command);
      const registered = memory.register(command);
      for (const { id, queue } of registered) {
        const { task, args, kwargs } = memory.read(id, queue).job;
        tape.record({ task, args, kwargs, queue });
      }
      return memory.replyTo(registered);
    });
    super({ ...options, url: URL_OF_NOTHING }, link);
    this.#tape = tape;
    this.enqueued = tape.enqueued;
    tape.follow(this, ENQUEUES);
  }

  /** Rejects: nothing runs. */
  override wait(id: string): Promise<never> {
    return Promise.reject(
      new ConfigError(`recorder: the job ${id} was recorded, not run; use inline(tasks) where a result is needed`),
    );
  }

  /** Forget what was enqueued. */
  clear(): void {
    this.#tape.clear();
  }
}

/** What an inline client of RQ is told beside the options of its client. */
export interface RqInlineSettings extends InlineSettings {
  /** The callbacks that jobs may name: the option of `rq({…})`. */
  readonly callbacks?: RqCallbacks;
}

/** An `RqClient` that runs each job as it is enqueued, with its retries, and waits for none of them. */
export class RqInline extends RqClient {
  /** Every run so far, oldest first. */
  readonly runs: readonly InlineRun[];

  constructor(tasks: Registry, { callbacks = {}, ...options }: RqTestOptions & RqInlineSettings = {}) {
    const { log = silent } = options;
    const runs = new Runs('rq', tasks, log);
    const memory = new Memory();
    const link = new TestLink(async (command) => {
      if (!isRegister(command)) return memory.answer(command);
      const registered = memory.register(command);
      for (const { id, queue } of registered) runs.find(memory.read(id, queue).job.task);
      const ready = registered.filter(({ state }) => state === QUEUED || state === SCHEDULED);
      await runs.toTheEnd(ready, run, ({ id, queue }) => memory.read(id, queue).job.task);
      return memory.replyTo(registered);
    });
    super({ ...options, url: URL_OF_NOTHING }, link);
    this.runs = runs.all;

    async function run({ id, queue }: Placed): Promise<readonly Placed[]> {
      const { job, hash, serializer } = memory.read(id, queue);
      const registration = runs.find(job.task);
      const { softTimeoutMs } = registration.options;
      const execution = { job: hash, execution: randomUUID(), queue, worker: 'testing', startedAt: new Date() };
      let following: readonly Placed[] = [];
      const host = {
        log,
        settle: (_delivery: RqDelivery, settlement: Settlement) => {
          following = memory.settle(settlement);
          return Promise.resolve('done' as const);
        },
        callback: (name: string) => (Object.hasOwn(callbacks, name) ? callbacks[name] : undefined),
        ended: () => {},
      };
      const limited = softTimeoutMs === undefined ? job : { ...job, softTimeoutMs };
      await runs.run(
        new RqDelivery(host, execution, limited, policyOf(serializer, registration), {
          isKnown: true,
          unknown: undefined,
        }),
        registration,
      );
      return following;
    }
  }

  /** How the job ended. Rejects with ResultTimeoutError, at once, where it has not. */
  override async wait(id: string, _after: string | undefined, options: WaitOptions = {}): Promise<jobs.Progress> {
    options.signal?.throwIfAborted();
    const [found] = await this.run(jobs.progress([id]));
    if (found instanceof Error) throw found;
    const { status } = found as jobs.Progress;
    if (status !== undefined && !ENDED.has(status)) throw new ResultTimeoutError(id, options.timeoutMs ?? 0);
    return found as jobs.Progress;
  }
}

/** A job, and the queue it is in or due for. */
interface Placed {
  readonly id: string;
  readonly queue: string;
  readonly state: number;
}

const URL_OF_NOTHING = 'redis://testing.invalid';
const ENDED: ReadonlySet<string> = new Set(['finished', 'failed', 'stopped', 'canceled']);

/** What the script that registers jobs says of each. */
const DUPLICATE = 0;
const QUEUED = 1;
const SCHEDULED = 2;
const DEFERRED = 3;

function isRegister(command: Command): boolean {
  return command[0] === 'EVAL' && command[1] === REGISTER.lua;
}

function policyOf(
  serializer: lifecycle.RqPolicy['serializer'],
  { options: { retry } }: Registration,
): lifecycle.RqPolicy {
  return {
    serializer,
    resultTtl: lifecycle.DEFAULT_RESULT_TTL,
    failureTtl: lifecycle.DEFAULT_FAILURE_TTL,
    ...(retry === undefined
      ? {}
      : {
          retry: {
            max: retry.max === undefined ? 3 : retry.max,
            delayMs: (attempt: number) => retryDelayMs(retry, attempt, Math.random()) ?? 180_000,
          },
        }),
  };
}

/** Jobs and their results as RQ keeps them, in this process. */
class Memory {
  readonly #jobs = new Map<string, Map<string, Buffer>>();
  readonly #results = new Map<string, [id: Buffer, flat: Buffer[]][]>();
  readonly #deferred: (Placed & { readonly needs: readonly string[]; readonly failures: boolean })[] = [];
  #entries = 0;

  /** What `REGISTER` does, of which each job is one step. Its arguments are described above the script. */
  register([, , , , , ...args]: Command): readonly Placed[] {
    const text = (at: number): string => bytesOf(args[at] as string).toString();
    const placed: Placed[] = [];
    for (let at = 0; at < args.length;) {
      const [id, queue, where, unique, failures] = [text(at), text(at + 1), text(at + 2), text(at + 4), text(at + 6)];
      const dependencies = at + 9;
      const fields = dependencies + Number(text(at + 8)) + 1;
      const end = fields + Number(text(fields - 1));
      at = end;
      const there = this.#jobs.has(jobKey(id));
      const needs = args.slice(dependencies, fields - 1).map((one) => bytesOf(one).toString());
      const waits = needs.some((one) => !this.#isMet(one, failures === '1'));
      const state = there && unique === '1' ? DUPLICATE : waits ? DEFERRED : /^[LR]$/.test(where) ? QUEUED : SCHEDULED;
      placed.push({ id, queue, state });
      if (state === DUPLICATE) continue;
      const hash = new Map<string, Buffer>();
      for (let field = fields; field < end; field += 2) hash.set(text(field), bytesOf(args[field + 1] as string));
      this.#jobs.set(jobKey(id), hash);
      if (state !== DEFERRED) continue;
      hash.set('status', Buffer.from('deferred'));
      hash.delete('enqueued_at');
      this.#deferred.push({ id, queue, state: QUEUED, needs, failures: failures === '1' });
    }
    return placed;
  }

  /** The reply of `REGISTER`. */
  replyTo(placed: readonly Placed[]): readonly (number | Buffer)[] {
    return placed.flatMap(({ state }) => [state, Buffer.alloc(0)]);
  }

  /** Throws WireError for a job that a worker could not read. */
  read(
    id: string,
    queue: string,
  ): {
    readonly hash: JobHash;
    readonly job: ReturnType<typeof toJob>;
    readonly serializer: lifecycle.RqPolicy['serializer'];
  } {
    const flat = [...(this.#jobs.get(jobKey(id)) ?? [])].flatMap(([name, value]) => [Buffer.from(name), value]);
    const hash = readJob(id, flat)?.job;
    if (hash === undefined) throw new ConfigError(`testing: the job ${id} was deleted`);
    const call = readCall(hash.data);
    return { hash, job: toJob(hash, call, queue), serializer: call.serializer };
  }

  /** Writes what a run came to. Returns the jobs that run next: the same one, or those that waited for it. */
  settle({ id, fields, ttl, result, next, ended }: Settlement): readonly Placed[] {
    const hash = this.#jobs.get(jobKey(id)) ?? new Map<string, Buffer>();
    for (const [name, value] of fields) {
      if (value === undefined) hash.delete(name);
      else hash.set(name, bytesOf(value));
    }
    if (result !== undefined) {
      const entries = this.#results.get(resultsKey(id)) ?? [];
      this.#results.set(resultsKey(id), entries);
      entries.unshift([Buffer.from(`${Date.now()}-${this.#entries++}`), result.entry.map((one) => Buffer.from(one))]);
    }
    if (ttl === 0 && next === undefined) this.#jobs.delete(jobKey(id));
    if (next !== undefined) return [{ id, queue: next.queue, state: QUEUED }];
    return ended === undefined ? [] : this.#released();
  }

  /** The reads that receipts make. Throws ConfigError for others. */
  answer(command: Command): unknown {
    const [name, key, ...args] = command;
    const hash = this.#jobs.get(String(key));
    switch (name) {
      case 'HGET':
        return hash?.get(String(args[0])) ?? null;
      case 'HMGET':
        return args.map((field) => hash?.get(String(field)) ?? null);
      case 'HGETALL':
        return [...(hash ?? [])].flatMap(([field, value]) => [Buffer.from(field), value]);
      case 'XREVRANGE':
        return (this.#results.get(String(key)) ?? []).slice(0, args[2] === 'COUNT' ? Number(args[3]) : undefined);
      default:
        throw noServer('rq', command);
    }
  }

  #released(): readonly Placed[] {
    const ready = this.#deferred.filter(({ needs, failures }) => needs.every((one) => this.#isMet(one, failures)));
    for (const one of ready) {
      this.#deferred.splice(this.#deferred.indexOf(one), 1);
      this.#jobs.get(jobKey(one.id))?.set('status', Buffer.from('queued'));
    }
    return ready;
  }

  #isMet(id: string, failures: boolean): boolean {
    const status = this.#jobs.get(jobKey(id))?.get('status')?.toString();
    return status === undefined || status === 'finished' || (status === 'failed' && failures);
  }
}
