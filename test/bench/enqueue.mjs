// How fast one producer process enqueues; it times itself, after a warm-up, with its connection open.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

export async function enqueueRate({ line, producer: { file, args, cwd, env }, mode, count }) {
  await line.empty();
  const { stdout } = await promisify(execFile)(file, [...args, mode, String(count)], {
    cwd,
    env: { ...process.env, ...env },
  });
  const row = JSON.parse(stdout);
  const found = await line.left();
  if (found < count) throw new Error(`${found} messages in the queue after ${count} were enqueued`);
  return row;
}
