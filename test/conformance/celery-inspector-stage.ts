import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { encodeEnvelope } from '../../protocols/celery/brokers/envelope.ts';
import { encodeTask } from '../../protocols/celery/message/message.ts';
import * as json from '../../protocols/formats/json.ts';
import { celery, type CeleryOptions } from '../../src/drivers/celery/index.ts';
import { pause } from '../../src/source.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { type PythonWorker, startPythonWorker } from '../support/python.ts';
import { type RabbitServer, startRabbit } from '../support/rabbit.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import type { Planted } from './inspector-suite.ts';

export const QUEUES = ['inspected', 'inspected-too'];
const REVOKED = { revokedKey: 'revoked' } as const;

/** Servers of one run of the suite, and what a test has started. */
export class Stage implements AsyncDisposable {
  readonly redis: RedisServer;
  readonly rabbit: RabbitServer | undefined;
  readonly store: Redis;
  readonly app: CeleryOptions;
  readonly #started: (() => Promise<void>)[] = [];
  /** Counts names that must differ. */
  claims = 0;

  static async start(broker: 'redis' | 'amqp'): Promise<Stage> {
    return new Stage(await startRedis(), broker === 'amqp' ? await startRabbit() : undefined);
  }

  constructor(redis: RedisServer, rabbit: RabbitServer | undefined) {
    this.redis = redis;
    this.rabbit = rabbit;
    this.store = redis.client();
    this.app =
      rabbit === undefined
        ? { broker: redis.url, backend: redis.urlOf(1), brokerTransportOptions: REVOKED, queues: QUEUES }
        : { broker: rabbit.url, backend: redis.urlOf(1), queues: QUEUES };
  }

  async node(queues: readonly string[]): Promise<string> {
    const tasks = new Tasks().handle(defineTask<(seconds: number) => void>('node.slow'), async (job, { signal }) => {
      await pause(job.args[0] * 1000, signal);
      signal.throwIfAborted();
    });
    for (const task of this.tasks) tasks.handle(defineTask(task), () => undefined);
    const nodename = `node-${(this.claims += 1)}@test`;
    const worker = new Worker({ tasks, sources: [celery({ ...this.app, queues, nodename })], shutdownTimeoutMs: 0 });
    await worker.start();
    this.#started.push(() => worker.stop());
    this.worker = worker;
    return nodename;
  }
  worker: Worker | undefined;
  /** Tasks that a Node worker knows beside `node.slow`. */
  tasks: readonly string[] = [];

  async python(queues: readonly string[]): Promise<PythonWorker> {
    const python = await startPythonWorker('5.6', {
      broker: this.app.broker as string,
      backend: this.app.backend as string,
      queues,
      pool: 'threads',
    });
    this.#started.push(() => python.kill());
    return python;
  }

  async reset(): Promise<void> {
    for (const stop of this.#started.splice(0)) await stop();
    await this.store.flushall();
    if (this.rabbit !== undefined) for (const { name } of await this.rabbit.queues()) await this.rabbit.purge(name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.reset();
    await this.rabbit?.[Symbol.asyncDispose]();
    await this.redis[Symbol.asyncDispose]();
  }
}

/** The bytes of a message in a list of Redis. */
export function envelope({ id, task, args, queue }: Planted): string {
  const message = encodeTask({
    id,
    task,
    args: json.parseExact(args) as readonly unknown[],
    kwargs: {},
    origin: 'gen1@test',
    exchange: '',
    routingKey: queue,
  });
  return encodeEnvelope(message, randomUUID());
}
