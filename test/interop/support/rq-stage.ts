import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Redis } from 'ioredis';
import { rq, RqClient, type RqClientOptions, type RqOptions } from '../../../src/drivers/rq/index.ts';
import type { Tasks } from '../../../src/task.ts';
import type { WorkerEvents } from '../../../src/worker/events.ts';
import { Worker } from '../../../src/worker/worker.ts';
import {
  PythonRq,
  type PythonRqWorker,
  type RqVersion,
  type RqWorkerOptions,
  runRq,
  startRqWorker,
} from '../../support/python-rq.ts';
import { hold } from '../../support/leash.mjs';
import { type RedisServer, startRedis, until } from '../../support/redis.ts';
import { rqCallbacks, rqTasks } from '../apps/rq-tasks.ts';

export { until };

/** A Node worker in this process. */
export interface NodeRqWorker extends AsyncDisposable {
  readonly worker: Worker;
  readonly queues: readonly string[];
  readonly name: string;
  /** The next run of this job that is settled. Ask before it is enqueued. */
  settled(id: string): Promise<WorkerEvents['job:settled']>;
}

/** A Node worker in a process of its own, which can be killed. */
export interface NodeRqProcess extends AsyncDisposable {
  readonly name: string;
  readonly child: ChildProcess;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  /** SIGTERM; resolves when it is gone. */
  stop(): Promise<void>;
}

export type NodeRqOptions = Partial<RqOptions> & { readonly tasks?: Tasks };

let queues = 0;
let workers = 0;

/** A Redis, one real RQ as a client, and workers of both languages. */
export class RqStage implements AsyncDisposable {
  readonly version: RqVersion;
  readonly redis: RedisServer;
  readonly python: PythonRq;
  /** What Redis holds, past any codec of ours. */
  readonly store: Redis;

  private constructor(version: RqVersion, redis: RedisServer, python: PythonRq) {
    this.version = version;
    this.redis = redis;
    this.python = python;
    this.store = redis.client();
  }

  static async start(version: RqVersion): Promise<RqStage> {
    const redis = await startRedis();
    return new RqStage(version, redis, await PythonRq.start(version, redis.url));
  }

  /** A queue that no other test uses. */
  queue(name = 'queue'): string {
    return `${name}-${++queues}`;
  }

  /** A worker of ours with the twins of rq_app.py, or with `tasks`. */
  async node(options: NodeRqOptions & { readonly queues: readonly string[] }): Promise<NodeRqWorker> {
    const { tasks = rqTasks(this.store), ...own } = options;
    const name = own.name ?? `node-${process.pid}-${++workers}`;
    const source = rq({ url: this.redis.url, concurrency: 4, callbacks: rqCallbacks(this.store), ...own, name });
    const worker = new Worker({ tasks, sources: [source], abortGraceMs: 200 });
    await worker.start();
    return {
      worker,
      name,
      queues: own.queues,
      settled: (id) => worker.once('job:settled', ({ job }) => job.id === id),
      [Symbol.asyncDispose]: () => worker.stop({ timeoutMs: 1_000 }),
    };
  }

  /** A worker of ours with the twins of rq_app.py, in a process of its own. */
  async nodeProcess(options: Partial<RqOptions> & { readonly queues: readonly string[] }): Promise<NodeRqProcess> {
    const name = options.name ?? `node-process-${process.pid}-${++workers}`;
    const path = fileURLToPath(new URL('../apps/rq-node-worker.ts', import.meta.url));
    const child = fork(path, [JSON.stringify({ url: this.redis.url, concurrency: 4, ...options, name })], {
      execArgv: ['--import', 'tsx'],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    hold(child);
    const end = async (signal: NodeJS.Signals): Promise<void> => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = once(child, 'exit');
      child.kill(signal);
      await gone;
    };
    const [first] = await Promise.race([once(child, 'message'), once(child, 'exit')]);
    if (first !== 'ready') throw new Error(`the worker process ended with ${String(first)}`);
    return {
      name,
      child,
      kill: () => end('SIGKILL'),
      stop: () => end('SIGTERM'),
      [Symbol.asyncDispose]: () => end('SIGKILL'),
    };
  }

  client(options: Partial<RqClientOptions> = {}): RqClient {
    return new RqClient({ url: this.redis.url, ...options });
  }

  /** As if much time had passed without a word of whoever runs these jobs, or has taken them. */
  async forget(queue: string): Promise<void> {
    const running = await this.store.zrange(`rq:wip:${queue}`, 0, '-1');
    for (const member of running) await this.store.call('ZADD', `rq:wip:${queue}`, 'XX', '1', member);
    const held = await this.store.lrange(`rq:queue:${queue}:intermediate`, 0, -1);
    for (const id of held) await this.store.set(`rq:queue:${queue}:intermediate:first_seen:${id}`, '1.0');
  }

  /** A real RQ worker. */
  worker(options: Omit<RqWorkerOptions, 'url'>): Promise<PythonRqWorker> {
    return startRqWorker(this.version, { url: this.redis.url, ...options });
  }

  /** `rq <command> -u <url> …`: what it printed. Throws when it fails. */
  async rq(command: string, ...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await runRq(this.version, [command, '-u', this.redis.url, ...args]);
    if (code !== 0) throw new Error(`rq ${command} ended with ${code}:\n${stdout}${stderr}`);
    return stdout;
  }

  /** What callbacks of either language said: `[name, id, …]`. */
  async callbacks(id: string): Promise<readonly (readonly unknown[])[]> {
    const said = (await this.store.lrange('callbacks', 0, -1)).map((line) => JSON.parse(line) as unknown[]);
    return said.filter(([, job]) => job === id);
  }

  /** Nothing runs, and nothing is between a queue and its worker. */
  async nothingRuns(queue: string): Promise<void> {
    const keys = [`rq:wip:${queue}`, `rq:queue:${queue}:intermediate`];
    await until('nothing runs', async () => (await this.store.exists(...keys)) === 0);
    // Of other queues, too: their workers end by themselves.
    await until('no execution is left', async () => (await this.store.keys('rq:execution*')).length === 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.python.stop();
    await this.redis[Symbol.asyncDispose]();
  }
}
