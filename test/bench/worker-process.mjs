// One worker under measurement: started in a process group of its own, so that stopping it stops all of it.
import { spawn } from 'node:child_process';

const alive = new Set();
process.once('exit', () => alive.forEach((pid) => signal(-pid, 'SIGKILL')));

/** `kill()` asks, then insists; `died` rejects when it ends before it was asked to. */
export function startWorker({ file, args, cwd, env }) {
  const child = spawn(file, args, {
    cwd,
    env: { ...process.env, ...env },
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  if (child.pid !== undefined) alive.add(child.pid);
  let said = '';
  child.stderr.on('data', (chunk) => (said = (said + chunk).slice(-4000)));
  let asked = false;
  const exit = new Promise((resolve) => child.once('exit', resolve).once('error', resolve));
  const died = new Promise((_, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      if (!asked) reject(new Error(`${file} ${args.join(' ')} ended (${code ?? signal})\n${said}`));
    });
  });
  died.catch(() => {}); // whoever waits for it hears of it
  return {
    pid: child.pid,
    died,
    /** The end of what it wrote to stderr. */
    said: () => said,
    async kill() {
      asked = true;
      if (child.pid === undefined) return; // it never started
      signal(-child.pid, 'SIGTERM');
      const insist = setTimeout(() => signal(-child.pid, 'SIGKILL'), 10_000);
      await exit;
      clearTimeout(insist);
      signal(-child.pid, 'SIGKILL'); // children that outlived it
      alive.delete(child.pid);
    },
  };
}

function signal(pid, name) {
  try {
    process.kill(pid, name);
  } catch {
    // Gone already.
  }
}
