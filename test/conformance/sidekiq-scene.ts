import type { Redis } from 'ioredis';
import {
  sidekiq,
  SidekiqClient,
  type SidekiqClientOptions,
  type SidekiqOptions,
} from '../../src/drivers/sidekiq/index.ts';
import type { Source } from '../../src/source.ts';
import type { Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';

/** A Redis with Sidekiq's keys in it, and who works there: for tests that look past what all systems have in common. */
export class SidekiqScene implements AsyncDisposable {
  readonly server: RedisServer;
  readonly redis: Redis;
  readonly client: SidekiqClient;
  readonly #clients: SidekiqClient[] = [];
  readonly #workers: Worker[] = [];

  private constructor(server: RedisServer) {
    this.server = server;
    this.redis = server.client();
    this.client = this.clientWith({});
  }

  static async start(): Promise<SidekiqScene> {
    return new SidekiqScene(await startRedis());
  }

  clientWith(options: Partial<SidekiqClientOptions>): SidekiqClient {
    const client = new SidekiqClient({ url: this.server.url, ...options });
    this.#clients.push(client);
    return client;
  }

  source(options: Partial<SidekiqOptions> = {}): ReturnType<typeof sidekiq> {
    return sidekiq({ url: this.server.url, heartbeatInterval: 0.2, ...options });
  }

  /** A worker that runs until the end of the test. */
  async startWorker(tasks: Tasks, sources: Partial<SidekiqOptions> | readonly Source[] = {}): Promise<Worker> {
    const all = Array.isArray(sources) ? (sources as readonly Source[]) : [this.source(sources as SidekiqOptions)];
    const worker = new Worker({ tasks, sources: all, abortGraceMs: 100 });
    this.#workers.push(worker);
    await worker.start();
    return worker;
  }

  /** Members of a set as they are, soonest first. */
  async set(
    name: 'retry' | 'schedule' | 'dead',
  ): Promise<readonly { readonly text: string; readonly score: number }[]> {
    const flat = await this.redis.zrange(name, '0', '-1', 'WITHSCORES');
    const found: { readonly text: string; readonly score: number }[] = [];
    for (let at = 0; at < flat.length; at += 2) found.push({ text: flat[at] as string, score: Number(flat[at + 1]) });
    return found;
  }

  /** Jobs of a queue as they are, the next first. */
  async queue(name = 'default'): Promise<readonly string[]> {
    return (await this.redis.lrange(`queue:${name}`, 0, -1)).reverse();
  }

  /** After a test: nobody works, nothing is left. */
  async reset(): Promise<void> {
    for (const worker of this.#workers.splice(0)) await worker.stop({ timeoutMs: 0 });
    await this.redis.flushall();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const worker of this.#workers) await worker.stop({ timeoutMs: 0 });
    for (const client of this.#clients) await client.close().catch(() => undefined);
    await this.server[Symbol.asyncDispose]();
  }
}
