import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { RqClient } from '../../src/drivers/rq/index.ts';
import { hold } from '../support/leash.mjs';
import { type RedisServer, startRedis, until } from '../support/redis.ts';
import { root } from '../support/setup.mjs';
import { linked, shown } from './shown.mjs';

const run = promisify(execFile);
const readme = readFileSync(join(root, 'README.md'), 'utf8');

/** An example that runs until it is told to stop: what it said so far, and how it ended. */
class Example implements AsyncDisposable {
  said = '';
  readonly #child: ChildProcess;
  readonly #gone: Promise<number | null>;

  constructor(name: string, env: NodeJS.ProcessEnv) {
    this.#child = spawn(process.execPath, ['--import', 'tsx', path(name)], {
      env,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    hold(this.#child);
    this.#child.stdout?.on('data', (chunk: Buffer) => (this.said += chunk.toString()));
    this.#gone = new Promise((resolve) => this.#child.once('exit', resolve));
  }

  async says(...words: readonly string[]): Promise<void> {
    for (const one of words) await until(`it says '${one}'`, () => this.said.includes(one));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGTERM');
    expect(await this.#gone).toBe(0);
  }
}

function path(name: string): string {
  return join(root, 'test/examples', `${name}.ts`);
}

function environment(redis: RedisServer): NodeJS.ProcessEnv {
  return { ...process.env, CELERY_BROKER_URL: redis.url, RQ_REDIS_URL: redis.url, REDIS_URL: redis.url };
}

/** What an example that ends by itself printed. */
async function output(name: string, env: NodeJS.ProcessEnv): Promise<string> {
  return (await run(process.execPath, ['--import', 'tsx', path(name)], { env })).stdout;
}

describe('the README', () => {
  it.each(shown)('shows test/examples/%s.ts word for word', (name) => {
    expect(readme).toContain(`\`\`\`ts\n${readFileSync(path(name), 'utf8').trimEnd()}\n\`\`\``);
  });

  it.each(linked)('links to test/examples/%s.ts', (name) => {
    expect(readme).toContain(`(test/examples/${name}.ts)`);
  });

  it('has a worker and a client that work together as they stand', async () => {
    await using redis = await startRedis();
    const env = environment(redis);
    await using _worker = new Example('worker', env);
    // It waits at its queue.
    await until('the worker is ready', async () => /cmd=blmove/.test(String(await redis.client().client('LIST'))));
    const said = await output('client', env);
    expect(said).toMatch(/^5\n/);
    expect(said).toContain('not an image: notes.txt');
    expect(await output('workflow', env)).toBe("16 8\n[ 2, 'img/a.png@640' ]\n12\n");
  });

  it('has a worker and a client of RQ that work together as they stand', async () => {
    await using redis = await startRedis();
    const env = environment(redis);
    await using _worker = new Example('rq-worker', env);
    await until('the worker is ready', async () => (await redis.client().scard('rq:workers')) === 1);
    expect(await output('rq-client', env)).toMatch(/^5 img\/a\.png@320\nfinished \{/);
  });

  it('has a worker that runs what Frappe sends', async () => {
    await using redis = await startRedis();
    await using _worker = new Example('frappe-worker', { ...environment(redis), BENCH_ID: 'bench' });
    await using client = new RqClient({ url: redis.url });
    // As frappe/utils/background_jobs.py enqueue does.
    const job = await client.enqueue('frappe.utils.background_jobs.execute_job', {
      kwargs: {
        ...{ site: 'shop.local', user: 'Guest', method: 'shop.images.resize', event: null, job_name: 'resize' },
        ...{ is_async: true, kwargs: { key: 'a.png' } },
      },
      queue: 'bench:node',
      onFailure: 'frappe.utils.background_jobs.truncate_failed_registry',
    });
    expect(await job.get({ timeoutMs: 30_000 })).toBe('shop.local: a.png');
  });

  it('has a worker for Sidekiq and a client that work together as they stand', async () => {
    await using redis = await startRedis();
    const env = environment(redis);
    await using worker = new Example('sidekiq-worker', env);
    expect(await output('sidekiq-client', env)).toMatch(/^[0-9a-f]{24}\n$/);
    await worker.says('hard 42', 'hard 3');
  });

  it('has an iterable job', async () => {
    await using redis = await startRedis();
    await using worker = new Example('sidekiq-iterable', environment(redis));
    await worker.says('row 0', 'row 1', 'row 2');
  });

  it('has a worker and a client of Active Job that work together as they stand', async () => {
    await using redis = await startRedis();
    const env = environment(redis);
    await using worker = new Example('active-job-worker', env);
    await output('active-job-client', env);
    await worker.says('ship gid://shop/Order/42, attempt 2');
  });

  it('has a worker for Resque and a client that work together as they stand', async () => {
    await using redis = await startRedis();
    const env = environment(redis);
    await using worker = new Example('resque-worker', env);
    expect(await output('resque-client', env)).toBe('1\n');
    await worker.says('archive 44 masterbrew');
  });

  it('has hooks, schedules and attempts of Resque', async () => {
    await using redis = await startRedis();
    const env = environment(redis);
    await using worker = new Example('resque-scheduler', env);
    await output('resque-client', env);
    await worker.says('about to archive 44', 'archive 44 masterbrew', 'row 7, attempt 2');
  });

  it('has tests without a broker', async () => {
    expect(await output('testing', process.env)).toBe('all of it holds\n');
  });

  it('has a task that two systems share', async () => {
    await using redis = await startRedis();
    await using move = new Example('move', environment(redis));
    await move.says('5\n5\n');
  });
});
