import type { Redis } from 'ioredis';
import { afterAll } from 'vitest';
import {
  celery,
  CeleryClient,
  type CeleryClientOptions,
  type CeleryOptions,
} from '../../../src/drivers/celery/index.ts';
import type { Tasks } from '../../../src/task.ts';
import type { WorkerEvents } from '../../../src/worker/events.ts';
import { Worker } from '../../../src/worker/worker.ts';
import {
  type CeleryVersion,
  PythonCelery,
  type PythonAppOptions,
  type PythonWorker,
  type PythonWorkerOptions,
  startPythonWorker,
} from '../../support/python.ts';
import { type RabbitServer, startRabbit } from '../../support/rabbit.ts';
import { type RedisServer, startRedis, until } from '../../support/redis.ts';
import { type Tally, tally } from '../../support/tally.ts';
import { interopTasks } from '../apps/tasks.ts';
import type { BrokerKind } from './table.ts';

export { until };

/** A Node worker in this process, and the queue it consumes. */
export interface NodeWorker extends AsyncDisposable {
  readonly worker: Worker;
  readonly queue: string;
  /** The next run of this task that is settled. Ask before the task is sent. */
  settled(task: string): Promise<WorkerEvents['job:settled']>;
  started(task: string): Promise<WorkerEvents['job:started']>;
}

export type NodeWorkerOptions = Partial<CeleryOptions> & { readonly tasks?: Tasks };

export interface StageOptions {
  /** @default 'redis' */
  readonly broker?: BrokerKind;
  /** Where results go: Redis, or `rpc://`, the reply queue of who sent the task (with the broker `amqp`). @default 'redis' */
  readonly results?: 'redis' | 'rpc';
}

let queues = 0;
let vhosts = 0;
let sharedRabbit: Promise<RabbitServer> | undefined;

// One RabbitMQ for all stages of a test file: it takes seconds to start.
afterAll(async () => {
  await (await sharedRabbit)?.[Symbol.asyncDispose]();
});

/** A virtual host that no other stage uses. */
async function ownVhost(): Promise<Vhost> {
  const rabbit = await (sharedRabbit ??= startRabbit());
  const name = `stage-${++vhosts}`;
  await rabbit.addVhost(name);
  return { rabbit, name, url: rabbit.urlOf(name) };
}

interface Vhost {
  readonly rabbit: RabbitServer;
  readonly name: string;
  readonly url: string;
}

/** A broker, a store of results, one real Celery as a client, and workers of both languages on queues of their own. */
export class Stage implements AsyncDisposable {
  readonly version: CeleryVersion;
  readonly redis: RedisServer;
  readonly python: PythonCelery;
  /** What Redis as the broker holds, past any codec of ours. */
  readonly store: Redis;
  readonly urls: { readonly broker: string; readonly backend: string };
  readonly #vhost: Vhost | undefined;
  readonly #config: PythonAppOptions;

  private constructor(
    version: CeleryVersion,
    redis: RedisServer,
    vhost: Vhost | undefined,
    python: PythonCelery,
    config: StageConfig,
  ) {
    this.version = version;
    this.redis = redis;
    this.python = python;
    this.store = redis.client();
    this.urls = { broker: config.broker, backend: config.backend };
    this.#vhost = vhost;
    this.#config = config;
  }

  static async start(
    version: CeleryVersion,
    config: PythonAppOptions['config'] = {},
    { broker = 'redis', results = 'redis' }: StageOptions = {},
  ): Promise<Stage> {
    const vhost = broker === 'amqp' ? await ownVhost() : undefined;
    const redis = await startRedis();
    const options: StageConfig = {
      broker: vhost?.url ?? redis.url,
      backend: results === 'rpc' ? 'rpc://' : redis.urlOf(1),
      config: { accept_content: ['json', 'yaml', 'msgpack'], ...config },
    };
    return new Stage(version, redis, vhost, await PythonCelery.start(version, options), options);
  }

  /** What the Python application is made from, for a `celery -A app` of the test's own. */
  get app(): PythonAppOptions {
    return this.#config;
  }

  /** The RabbitMQ, which is shared: what stops it has one of its own. */
  get rabbit(): RabbitServer {
    return this.#onRabbit().rabbit;
  }

  /** This stage's virtual host on it. */
  get vhost(): string {
    return this.#onRabbit().name;
  }

  /** A queue that no other test uses. */
  queue(name = 'queue'): string {
    return `${name}-${this.version}-${++queues}`;
  }

  /** A worker of ours with the twins of the Python tasks, or with `tasks`. */
  async node(options: NodeWorkerOptions = {}): Promise<NodeWorker> {
    const { tasks = interopTasks(), ...celeryOptions } = options;
    const own = celeryOptions.queues?.[0] ?? this.queue('node');
    const queue = typeof own === 'string' ? own : own.name;
    const worker = new Worker({
      tasks,
      // Its neighbours' answers would be waited for, a second.
      sources: [celery({ ...this.urls, mingle: false, queues: [queue], concurrency: 4, ...celeryOptions })],
      abortGraceMs: 200,
    });
    await worker.start();
    return {
      worker,
      queue,
      settled: (task) => worker.once('job:settled', ({ job }) => job.task === task),
      started: (task) => worker.once('job:started', ({ job }) => job.task === task),
      [Symbol.asyncDispose]: () => worker.stop({ timeoutMs: 1_000 }),
    };
  }

  client(options: Partial<CeleryClientOptions> = {}): CeleryClient {
    return new CeleryClient({ ...this.urls, ...options });
  }

  /** A real Celery worker. */
  worker(options: Partial<PythonWorkerOptions> = {}): Promise<PythonWorker> {
    const args = ['--without-gossip', '--without-mingle', ...(options.args ?? [])];
    const config = { ...this.#config.config, ...options.config };
    return startPythonWorker(this.version, { ...this.#config, ...options, config, args });
  }

  /** Python source run beside `app`; `other(**settings)` is an application of other settings. */
  run(source: string, values: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    return this.python.run(`${OTHER}\n${source}`, values);
  }

  /** What Redis holds of a task's result. */
  async stored(id: string): Promise<string | null> {
    if (this.urls.backend === 'rpc://') throw new Error('a result over rpc:// is a message, and is not stored');
    const client = this.redis.client({ db: 1 });
    try {
      return await client.get(`celery-task-meta-${id}`);
    } finally {
      client.disconnect();
    }
  }

  /** How many messages workers hold. */
  async unacked(): Promise<number> {
    if (this.#vhost === undefined)
      return Math.max(await this.store.hlen('unacked'), await this.store.zcard('unacked_index'));
    const counts = Object.values(await this.rabbit.allMessages(this.vhost));
    return counts.reduce((sum, { unacked }) => sum + unacked, 0);
  }

  /** How many messages of a queue wait for a worker, of any priority. */
  async waiting(queue: string): Promise<number> {
    if (this.#vhost !== undefined) return (await this.rabbit.allMessages(this.vhost))[queue]?.ready ?? 0;
    const keys = [queue, ...REDIS_PRIORITIES.map((priority) => `${queue}\x06\x16${priority}`)];
    const lengths = await Promise.all(keys.map((key) => this.store.llen(key)));
    return lengths.reduce((sum, length) => sum + length, 0);
  }

  /** All that the broker keeps, wherever it is, as text to look for words in. */
  async kept(): Promise<string> {
    if (this.#vhost === undefined) {
      const keys = await this.store.keys('*');
      return (await Promise.all(keys.map((key) => this.#dump(key)))).join('\n');
    }
    const texts: string[] = [];
    for (const { name } of await this.rabbit.queues(this.vhost)) {
      for (const { properties, content } of await this.rabbit.get(name, this.vhost))
        texts.push(`${name} ${JSON.stringify(properties)} ${content.toString('latin1')}`);
    }
    return texts.join('\n');
  }

  /** Counts what anybody, scripts included, pushes to a list of Redis from now on. */
  pushes(list: string): Promise<Tally> {
    return tally(this.store, /^[LR]PUSH$/i, list);
  }

  /** Every message was acknowledged: workers hold none. */
  async nothingHeld(): Promise<void> {
    await until('no message is unacknowledged', async () => (await this.unacked()) === 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.python.stop();
    await this.redis[Symbol.asyncDispose]();
  }

  async #dump(key: string): Promise<string> {
    switch (await this.store.type(key)) {
      case 'list':
        return (await this.store.lrange(key, 0, -1)).join('\n');
      case 'hash':
        return JSON.stringify(await this.store.hgetall(key));
      case 'stream':
        return JSON.stringify(await this.store.xrange(key, '-', '+'));
      default:
        return '';
    }
  }

  #onRabbit(): Vhost {
    if (this.#vhost === undefined) throw new Error("this stage's broker is Redis");
    return this.#vhost;
  }
}

type StageConfig = PythonAppOptions & { readonly backend: string };

/** Priority 0 is in the queue's bare name. */
const REDIS_PRIORITIES = [3, 6, 9];

const OTHER = `
def other(**settings):
    made = celery.Celery('other', broker=app.conf.broker_url, backend=app.conf.result_backend)
    made.conf.update(accept_content=['json', 'yaml', 'msgpack'], **settings)
    return made
`;
