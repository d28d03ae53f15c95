import type { Redis } from 'ioredis';
import {
  sidekiq,
  SidekiqClient,
  type SidekiqClientOptions,
  type SidekiqOptions,
} from '../../../src/drivers/sidekiq/index.ts';
import type { Tasks } from '../../../src/task.ts';
import { Worker } from '../../../src/worker/worker.ts';
import { type RedisServer, startRedis, until } from '../../support/redis.ts';
import {
  Ruby,
  type RubySidekiq,
  type RubySidekiqOptions,
  type SidekiqWeb,
  startSidekiq,
  startSidekiqWeb,
} from '../../support/ruby.ts';
import { type Ran, sidekiqTasks } from '../apps/sidekiq-tasks.ts';

export { until };

export interface SidekiqNode extends AsyncDisposable {
  readonly worker: Worker;
  stop(): Promise<void>;
}

export type SidekiqNodeOptions = Partial<SidekiqOptions> & { readonly tasks?: Tasks };

/** A Redis, a Ruby to ask things of, and workers of both languages on it. */
export class RubyStage implements AsyncDisposable {
  readonly redis: RedisServer;
  readonly ruby: Ruby;
  /** What Redis holds, past any codec. */
  readonly store: Redis;
  readonly #started: AsyncDisposable[] = [];

  readonly #own: { readonly redis: string; readonly namespace?: string };

  private constructor(redis: RedisServer, ruby: Ruby, own: { readonly redis: string; readonly namespace?: string }) {
    this.redis = redis;
    this.ruby = ruby;
    this.#own = own;
    this.store = redis.client({ keyPrefix: this.#prefix });
  }

  /** With a namespace all is under it, what `store` reads too. */
  static async start(namespace?: string): Promise<RubyStage> {
    const redis = await startRedis();
    const own = { redis: redis.url, ...(namespace === undefined ? {} : { namespace }) };
    return new RubyStage(redis, await Ruby.start(own), own);
  }

  get #app(): { readonly url: string; readonly namespace?: string } {
    const { redis: url, ...more } = this.#own;
    return { url, ...more };
  }

  get #prefix(): string {
    return this.#own.namespace === undefined ? '' : `${this.#own.namespace}:`;
  }

  /** Whether this Sidekiq is at least so new: `7.0`. */
  isSince(version: string): boolean {
    const [major = 0, minor = 0] = version.split('.').map(Number);
    const [ownMajor = 0, ownMinor = 0] = this.ruby.versions.sidekiq.split('.').map(Number);
    return ownMajor > major || (ownMajor === major && ownMinor >= minor);
  }

  /** A worker of ours, gone at the end of the test. */
  async node({ tasks, ...options }: SidekiqNodeOptions = {}): Promise<SidekiqNode> {
    const source = sidekiq({
      ...this.#app,
      concurrency: 4,
      pollIntervalAverage: 0.3,
      heartbeatInterval: 0.5,
      ...options,
    });
    const worker = new Worker({ tasks: tasks ?? sidekiqTasks(this.store), sources: [source], abortGraceMs: 200 });
    await worker.start();
    const stop = (): Promise<void> => worker.stop({ timeoutMs: 1_000 });
    const node = { worker, stop, [Symbol.asyncDispose]: stop };
    this.#started.push(node);
    return node;
  }

  /** A real Sidekiq, gone at the end of the test. */
  async sidekiq(options: Partial<RubySidekiqOptions> = {}): Promise<RubySidekiq> {
    const started = await startSidekiq({ ...this.#own, ...options });
    this.#started.push(started);
    return started;
  }

  async web(): Promise<SidekiqWeb> {
    const started = await startSidekiqWeb(this.#own);
    this.#started.push(started);
    return started;
  }

  client(options: Partial<SidekiqClientOptions> = {}): SidekiqClient {
    const client = new SidekiqClient({ ...this.#app, ...options });
    this.#started.push(client);
    return client;
  }

  /** A job pushed by Ruby; its jid. `job` are the members of Sidekiq::Client.push. */
  push(job: object): Promise<string> {
    return this.ruby.run('Sidekiq::Client.push(values)', job as Record<string, unknown>);
  }

  /** What ran so far. */
  async ran(): Promise<readonly Ran[]> {
    return (await this.store.lrange('ran', 0, -1)).map((text) => JSON.parse(text) as Ran);
  }

  /** What ran of this job, once that is `count` times or more. */
  async runsOf(jid: string, count = 1): Promise<readonly Ran[]> {
    let found: readonly Ran[] = [];
    await until(`${count} runs of ${jid}`, async () => {
      found = (await this.ran()).filter((one) => one.jid === jid || one.id === jid);
      return found.length >= count;
    });
    return found;
  }

  /** Everything in a sorted set, as text and as what it says. */
  async members(set: 'schedule' | 'retry' | 'dead'): Promise<readonly Member[]> {
    const flat = await this.store.zrange(set, '0', '-1', 'WITHSCORES');
    return flat.flatMap((text, index) =>
      index % 2 === 1 ? [] : [{ text, score: Number(flat[index + 1]), hash: parsed(text) }],
    );
  }

  /** The member of this job, once it is there. */
  async member(set: 'schedule' | 'retry' | 'dead', jid: string): Promise<Member> {
    let found: Member | undefined;
    await until(`${jid} is in the set ${set}`, async () => {
      found = (await this.members(set)).find(({ hash }) => hash['jid'] === jid);
      return found !== undefined;
    });
    return found as Member;
  }

  /** Makes all of a set due. */
  async due(set: 'schedule' | 'retry'): Promise<void> {
    for (const { text } of await this.members(set)) await this.store.zadd(set, 'XX', '1', text);
  }

  /** Keys of this pattern, with their namespace. */
  keys(pattern: string): Promise<string[]> {
    return this.store.keys(this.#prefix + pattern);
  }

  /** Nothing waits, and no job of ours is claimed. */
  async empty(): Promise<void> {
    await until('no job is left in queues and claims', async () => {
      const keys = await this.keys('queue:*');
      const claims = await this.keys('jobglot:sidekiq:claims:*');
      return keys.length === 0 && claims.length === 0;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
    await this.ruby[Symbol.asyncDispose]();
    await this.redis[Symbol.asyncDispose]();
  }

  /** Stops what a test started, and forgets its data. */
  async end(): Promise<void> {
    for (const one of this.#started.splice(0).toReversed()) await one[Symbol.asyncDispose]();
    await this.store.flushall();
  }
}

export interface Member {
  readonly text: string;
  readonly score: number;
  readonly hash: Readonly<Record<string, unknown>>;
}

function parsed(text: string): Readonly<Record<string, unknown>> {
  try {
    return JSON.parse(text) as Readonly<Record<string, unknown>>;
  } catch {
    // What is no JSON is text only.
    return {};
  }
}
