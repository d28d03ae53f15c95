import type { Redis } from 'ioredis';
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
import { type RedisServer, startRedis, until } from '../../support/redis.ts';
import { type Tally, tally } from '../../support/tally.ts';
import { interopTasks } from '../apps/tasks.ts';

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

let queues = 0;

/** One Redis, one real Celery as a client, and workers of both languages on queues of their own. */
export class Stage implements AsyncDisposable {
  readonly version: CeleryVersion;
  readonly redis: RedisServer;
  readonly python: PythonCelery;
  /** What the store holds, past any codec of ours. */
  readonly store: Redis;
  readonly #config: PythonAppOptions;

  private constructor(version: CeleryVersion, redis: RedisServer, python: PythonCelery, config: PythonAppOptions) {
    this.version = version;
    this.redis = redis;
    this.python = python;
    this.store = redis.client();
    this.#config = config;
  }

  static async start(version: CeleryVersion, config: PythonAppOptions['config'] = {}): Promise<Stage> {
    const redis = await startRedis();
    const options: PythonAppOptions = {
      broker: redis.url,
      backend: redis.urlOf(1),
      config: { accept_content: ['json', 'yaml', 'msgpack'], ...config },
    };
    return new Stage(version, redis, await PythonCelery.start(version, options), options);
  }

  get urls(): { readonly broker: string; readonly backend: string } {
    return { broker: this.redis.url, backend: this.redis.urlOf(1) };
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
      sources: [celery({ ...this.urls, queues: [queue], concurrency: 4, ...celeryOptions })],
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

  /** The keys that hold a task's result. */
  async stored(id: string): Promise<string | null> {
    const client = this.redis.client({ db: 1 });
    try {
      return await client.get(`celery-task-meta-${id}`);
    } finally {
      client.disconnect();
    }
  }

  /** How many messages workers hold. */
  async unacked(): Promise<number> {
    return Math.max(await this.store.hlen('unacked'), await this.store.zcard('unacked_index'));
  }

  /** Counts what anybody, scripts included, pushes to a list from now on. */
  pushes(list: string): Promise<Tally> {
    return tally(this.store, /^[LR]PUSH$/i, list);
  }

  /** Every message was acknowledged: nothing is left in `unacked` and its index. */
  async nothingHeld(): Promise<void> {
    await until('unacked and unacked_index are empty', async () => (await this.unacked()) === 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.python.stop();
    await this.redis[Symbol.asyncDispose]();
  }
}

const OTHER = `
def other(**settings):
    made = celery.Celery('other', broker=app.conf.broker_url, backend=app.conf.result_backend)
    made.conf.update(accept_content=['json', 'yaml', 'msgpack'], **settings)
    return made
`;
