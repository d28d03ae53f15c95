import { randomUUID } from 'node:crypto';
import * as json from '../../protocols/formats/json.ts';
import { toFailure } from '../../protocols/errors.ts';
import type { Disposition, Failure, Job, Outcome } from '../../protocols/job.ts';
import { retryAllowed, retryDelayMs } from '../../protocols/retry.ts';
import {
  type AnyCall,
  type Call,
  type CallArguments,
  type Client,
  type ClientEvents,
  type ClientMiddleware,
  type Envelope,
  sendThrough,
} from '../../src/client.ts';
import { Events } from '../../src/events.ts';
import { type Delivery, type Host, pause, type Source, type UnknownTaskPolicy } from '../../src/source.ts';
import { type Task, taskName } from '../../src/task.ts';
import { type Entry, ToyStore } from './store.ts';

export interface ToyOptions {
  readonly url: string;
  readonly queues?: readonly string[];
  readonly concurrency?: number;
  readonly unknownTask?: UnknownTaskPolicy;
}

/** A source of the toy system: `toy://name`. */
export function toy(options: ToyOptions): Source {
  return new ToySource(options);
}

class ToySource implements Source {
  readonly system = 'toy';
  readonly prefetch = 0;
  readonly agents = [];
  readonly queues: readonly string[];
  readonly concurrency: number;
  readonly unknownTask: UnknownTaskPolicy;
  readonly unknownTaskDelayMs = 100;
  readonly store: ToyStore;
  host: Host | undefined;

  constructor({ url, queues = ['toys'], concurrency = 10, unknownTask = 'requeue' }: ToyOptions) {
    this.unknownTask = unknownTask;
    this.store = ToyStore.of(url);
    this.queues = queues;
    this.concurrency = concurrency;
  }

  async open(host: Host): Promise<void> {
    this.host = host;
  }

  async receive(max: number, signal: AbortSignal): Promise<readonly Delivery[]> {
    const found: Delivery[] = [];
    while (!signal.aborted) {
      const entry = found.length < max ? this.store.take(this.queues, Date.now()) : undefined;
      if (entry !== undefined) {
        const delivery = this.#deliver(entry);
        if (delivery !== undefined) found.push(delivery);
      } else if (found.length > 0) break;
      else await this.#change(signal);
    }
    return found;
  }

  async quiet(): Promise<void> {}
  async close(): Promise<void> {}

  #deliver(entry: Entry): Delivery | undefined {
    try {
      return new ToyDelivery(entry, jobOf(entry), this);
    } catch (error) {
      const { name: type, message } = error as Error;
      this.store.claimed.delete(entry);
      this.store.quarantine.push({ ...entry, reason: { type, message } });
      this.host?.poison({
        ...{ system: 'toy', queue: entry.queue, id: undefined },
        code: type,
        reason: message,
        kept: 'quarantine',
      });
      return undefined;
    }
  }

  async #change(signal: AbortSignal): Promise<void> {
    const changed = new AbortController();
    const heard = (): void => changed.abort();
    this.store.changes.once('change', heard);
    await pause(
      Math.min(1_000, Math.max(1, this.store.nextAt(this.queues) - Date.now())),
      AbortSignal.any([signal, changed.signal]),
    );
    this.store.changes.off('change', heard);
  }
}

/** Throws where the bytes are no job. */
export function jobOf({ bytes, queue, attempt }: Entry): Job {
  const message = json.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as Record<string, unknown>;
  const { id, task, args, kwargs = {}, expires, timeoutMs, softTimeoutMs } = message;
  if (typeof id !== 'string' || typeof task !== 'string' || !Array.isArray(args)) throw new TypeError('it is no job');
  const limits: Pick<Job, 'timeoutMs' | 'softTimeoutMs'> = {
    ...(typeof timeoutMs === 'number' ? { timeoutMs } : {}),
    ...(typeof softTimeoutMs === 'number' ? { softTimeoutMs } : {}),
  };
  const job = { id, task, args, kwargs: kwargs as Job['kwargs'], queue, attempt, ...limits };
  return expires === undefined ? job : { ...job, expiresAt: new Date(expires as string) };
}

class ToyDelivery implements Delivery {
  readonly job: Job;
  readonly #entry: Entry;
  readonly #source: ToySource;

  constructor(entry: Entry, job: Job, source: ToySource) {
    this.job = job;
    this.#entry = entry;
    this.#source = source;
  }

  begin(): Promise<Outcome | void> | undefined {
    const { expiresAt } = this.job;
    return expiresAt !== undefined && expiresAt.getTime() < Date.now()
      ? Promise.resolve({ kind: 'expired' })
      : undefined;
  }

  async settle(outcome: Outcome): Promise<Disposition> {
    const policy = this.#source.host?.tasks.find('toy', this.job.task)?.options.retry ?? {};
    const { attempt } = this.job;
    switch (outcome.kind) {
      case 'success':
        try {
          return this.#end('succeeded', { value: outcome.value ?? null });
        } catch (error) {
          return this.#fail(toFailure(error));
        }
      case 'error':
        if (!outcome.retriable || !retryAllowed(policy, attempt)) return this.#fail(outcome.error);
        return this.#retry(retryDelayMs(policy, attempt, Math.random()) ?? 0, outcome.error);
      case 'retry':
        if (!retryAllowed(policy, attempt)) return this.#fail(outcome.error);
        return this.#retry(outcome.delayMs ?? retryDelayMs(policy, attempt, Math.random()) ?? 0, outcome.error);
      case 'fail':
        return this.#fail(outcome.error);
      case 'timeout':
        return this.#fail({ type: 'TimeLimitExceeded', message: `after ${outcome.limitMs} ms`, traceback: '' });
      case 'cancelled':
      case 'expired':
        return this.#end('cancelled', { error: { type: outcome.kind, message: '' } });
      case 'discard':
      case 'replace':
        this.#source.store.claimed.delete(this.#entry);
        return { state: 'discarded' };
      case 'reject':
        return outcome.requeue
          ? this.#again({})
          : this.#fail({ type: 'Rejected', message: outcome.reason, traceback: '' });
      case 'unknown':
        return this.#again(outcome.queue === undefined ? {} : { queue: outcome.queue });
      case 'postpone':
        this.#again({ atMs: Date.now() + outcome.delayMs });
        return { state: 'postponed', at: new Date(Date.now() + outcome.delayMs) };
    }
  }

  async release(): Promise<void> {
    if (this.#source.store.claimed.delete(this.#entry)) this.#source.store.put(this.#entry, 'front');
  }

  async update(state: string, meta: unknown): Promise<void> {
    this.#source.store.results.set(this.job.id, json.stringify({ state, value: meta }));
  }

  #end(state: 'succeeded' | 'failed' | 'cancelled', result: object): Disposition {
    this.#source.store.results.set(this.job.id, json.stringify({ state, ...result }));
    this.#source.store.claimed.delete(this.#entry);
    return { state };
  }

  #fail(failure: Failure | undefined): Disposition {
    const { type: thrown = 'Retry', message = '' } = failure ?? {};
    const type = thrown === 'JobTimeoutError' ? 'SoftTimeLimitExceeded' : thrown;
    this.#source.store.failed.push({ ...this.#entry, reason: { type, message } });
    return this.#end('failed', { error: { type, message } });
  }

  #retry(delayMs: number, failure: Failure | undefined): Disposition {
    const { type = 'Retry', message = '' } = failure ?? {};
    const atMs = Date.now() + delayMs;
    this.#source.store.results.set(this.job.id, json.stringify({ state: 'retrying', error: { type, message } }));
    this.#again({ attempt: this.job.attempt + 1, atMs });
    return { state: 'retrying', at: new Date(atMs) };
  }

  /** In its queue before its claim is gone: should the process die between the two, the job runs twice. */
  #again(changes: Partial<Entry>): Disposition {
    this.#source.store.put({ ...this.#entry, ...changes });
    this.#source.store.claimed.delete(this.#entry);
    return { state: 'requeued' };
  }
}

export interface ToyCallOptions {
  readonly id?: string;
  readonly queue?: string;
  readonly at?: Date;
  readonly expires?: Date;
  readonly timeoutMs?: number;
  readonly softTimeoutMs?: number;
}

export class ToyClient implements Client<ToyCallOptions, { readonly id: string }> {
  readonly events: Events<ClientEvents> = new Events();
  readonly #store: ToyStore;
  readonly #middleware: ClientMiddleware[] = [];

  constructor({ url }: ToyOptions) {
    this.#store = ToyStore.of(url);
  }

  use(middleware: ClientMiddleware): this {
    this.#middleware.push(middleware);
    return this;
  }

  async enqueueMany<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    calls: readonly Call<A, K, ToyCallOptions>[],
  ): Promise<readonly { readonly id: string }[]> {
    return Promise.all(
      calls.map((call) => this.enqueue(taskName(task, 'toy'), call as AnyCall<ToyCallOptions> as never)),
    );
  }

  enqueue<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    ...[call]: CallArguments<A, K, ToyCallOptions>
  ): Promise<{ readonly id: string }> {
    const {
      args = [],
      kwargs = {},
      id = randomUUID(),
      queue = 'toys',
      at,
      expires,
      ...rest
    } = (call ?? {}) as AnyCall<ToyCallOptions>;
    const envelope: Envelope = {
      ...{ system: 'toy', id, task: taskName(task, 'toy'), args, kwargs: kwargs as Job['kwargs'] },
      ...{
        queue,
        at,
        headers: {},
        options: expires === undefined ? { ...rest } : { ...rest, expires: expires.toISOString() },
      },
    };
    return sendThrough(this.#middleware, envelope, async (sent) => {
      const bytes = Buffer.from(
        json.stringify({ id, task: sent.task, args: sent.args, kwargs: sent.kwargs, ...sent.options }),
      );
      this.#store.put({ id, queue, bytes, attempt: 1, ...(at === undefined ? {} : { atMs: at.getTime() }) });
      this.events.emit('job:enqueued', { system: 'toy', id, task: sent.task, queue, at });
      return { id };
    });
  }

  async close(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
