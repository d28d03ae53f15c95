// A Redis of the bench's own: free port, nothing written to disk, gone when the bench ends.
import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from './redis.mjs';

/** Starts a server and returns its URL, its pid, a connection, and `stop()`. */
export async function startRedis(file) {
  const port = await freePort();
  const dir = mkdtempSync(join(tmpdir(), 'jobglot-bench-'));
  const child = spawn(
    file,
    ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', dir],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  process.once('exit', () => child.kill('SIGKILL'));
  const url = `redis://127.0.0.1:${port}/0`;
  const redis = new Redis(url, { retryStrategy: () => 20, maxRetriesPerRequest: null });
  redis.on('error', () => {}); // refused until the server listens
  const info = await redis.info('server');
  // The port was free a moment ago; make sure that who answers is who was started.
  if (Number(/process_id:(\d+)/.exec(info)?.[1]) !== child.pid) {
    throw new Error(`bench: another Redis answers on port ${port}; run it again`);
  }
  return {
    url,
    redis,
    pid: child.pid,
    version: /redis_version:(\S+)/.exec(info)?.[1] ?? 'unknown',
    async stop() {
      redis.disconnect();
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      await gone;
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}
