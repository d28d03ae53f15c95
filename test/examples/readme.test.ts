import { execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { hold } from '../support/leash.mjs';
import { startRedis, until } from '../support/redis.ts';
import { root } from '../support/setup.mjs';

const run = promisify(execFile);
const tsx = ['--import', 'tsx'];

describe('the README', () => {
  it.each([
    'tasks.ts',
    'worker.ts',
    'client.ts',
    'workflow.ts',
    'rq-worker.ts',
    'rq-client.ts',
    'rails-worker.ts',
    'rails-client.ts',
    'resque-worker.ts',
    'resque-client.ts',
  ])('shows test/examples/%s word for word', (file) => {
    const readme = readFileSync(join(root, 'README.md'), 'utf8');
    expect(readme).toContain(`\`\`\`ts\n${readFileSync(join(root, 'test/examples', file), 'utf8').trimEnd()}\n\`\`\``);
  });

  it('has a worker and a client that work together as they stand', async () => {
    await using redis = await startRedis();
    const env = { ...process.env, CELERY_BROKER_URL: redis.url };
    const worker = spawn(process.execPath, [...tsx, join(root, 'test/examples/worker.ts')], { env, stdio: 'ignore' });
    hold(worker);
    const gone = new Promise<number | null>((resolve) => worker.once('exit', resolve));
    try {
      // It waits at its queue.
      await until('the worker is ready', async () => /cmd=blmove/.test(String(await redis.client().client('LIST'))));
      const { stdout } = await run(process.execPath, [...tsx, join(root, 'test/examples/client.ts')], { env });
      expect(stdout).toMatch(/^5\n/);
      expect(stdout).toContain('not an image: notes.txt');
      const workflow = await run(process.execPath, [...tsx, join(root, 'test/examples/workflow.ts')], { env });
      expect(workflow.stdout).toBe("16 8\n[ 2, 'img/a.png@640' ]\n12\n");
    } finally {
      worker.kill('SIGTERM');
    }
    expect(await gone).toBe(0);
  });

  it('has a worker and a client of RQ that work together as they stand', async () => {
    await using redis = await startRedis();
    const env = { ...process.env, RQ_REDIS_URL: redis.url };
    const worker = spawn(process.execPath, [...tsx, join(root, 'test/examples/rq-worker.ts')], {
      env,
      stdio: 'ignore',
    });
    hold(worker);
    const gone = new Promise<number | null>((resolve) => worker.once('exit', resolve));
    try {
      await until('the worker is ready', async () => (await redis.client().scard('rq:workers')) === 1);
      const { stdout } = await run(process.execPath, [...tsx, join(root, 'test/examples/rq-client.ts')], { env });
      expect(stdout).toMatch(/^5 img\/a\.png@320\nfinished \{/);
    } finally {
      worker.kill('SIGTERM');
    }
    expect(await gone).toBe(0);
  });

  it('has a worker for Sidekiq and a client that work together as they stand', async () => {
    await using redis = await startRedis();
    const env = { ...process.env, REDIS_URL: redis.url };
    const worker = spawn(process.execPath, [...tsx, join(root, 'test/examples/rails-worker.ts')], { env });
    hold(worker);
    let said = '';
    worker.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
    const gone = new Promise<number | null>((resolve) => worker.once('exit', resolve));
    try {
      const { stdout } = await run(process.execPath, [...tsx, join(root, 'test/examples/rails-client.ts')], { env });
      expect(stdout).toMatch(/^[0-9a-f]{24}\n$/);
      for (const words of ['hard 42', 'hard 3', 'ship gid://shop/Order/42'])
        await until(`it says '${words}'`, () => said.includes(words));
    } finally {
      worker.kill('SIGTERM');
    }
    expect(await gone).toBe(0);
  });

  it('has a worker for Resque and a client that work together as they stand', async () => {
    await using redis = await startRedis();
    const env = { ...process.env, REDIS_URL: redis.url };
    const worker = spawn(process.execPath, [...tsx, join(root, 'test/examples/resque-worker.ts')], { env });
    hold(worker);
    let said = '';
    worker.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
    const gone = new Promise<number | null>((resolve) => worker.once('exit', resolve));
    try {
      const { stdout } = await run(process.execPath, [...tsx, join(root, 'test/examples/resque-client.ts')], { env });
      expect(stdout).toBe('1\n');
      for (const words of ['about to archive 44', 'archive 44 masterbrew', 'row 7, attempt 2'])
        await until(`it says '${words}'`, () => said.includes(words));
    } finally {
      worker.kill('SIGTERM');
    }
    expect(await gone).toBe(0);
  });
});
