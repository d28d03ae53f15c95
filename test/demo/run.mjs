/**
 * `npm run demo`: a real Python Celery application sends five tasks to a Node worker and prints what it got back.
 *
 *     npm run demo                                          the embedded broker: a temporary folder, no server
 *     npm run demo -- --broker redis://localhost:6379/0     the same over Redis; results there too, or in --backend
 *     npm run demo -- --broker amqp://localhost//           over RabbitMQ; results as messages (rpc://), or in --backend
 *
 * Sets itself up first. Exits 0 only when every result was right, and leaves nothing running.
 */
import { fork, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { hold, holdFolder } from '../support/leash.mjs';
import { ensureBuild, ensureDependencies, ensureVenv, SetupError } from '../support/setup.mjs';

const here = dirname(fileURLToPath(import.meta.url));

try {
  process.exitCode = await demo(readOptions());
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}

function readOptions() {
  try {
    return parseArgs({ options: { broker: { type: 'string' }, backend: { type: 'string' } } }).values;
  } catch (error) {
    throw new SetupError(
      `${error.message}\nusage: npm run demo [-- --broker redis://host:port/db | amqp://host:port/vhost [--backend redis://…]]`,
    );
  }
}

/** @param {{ broker?: string, backend?: string }} options @returns {Promise<number>} */
async function demo(options) {
  await ensureDependencies();
  await ensureBuild();
  const python = await ensureVenv('celery-5.6');
  const env = { ...process.env, PYTHONDONTWRITEBYTECODE: '1', PYTHONUNBUFFERED: '1', ...brokerAndBackend(options) };
  process.stdout.write(`broker ${withoutPassword(env.DEMO_BROKER)}, results ${withoutPassword(env.DEMO_BACKEND)}\n`);

  const worker = fork(join(here, 'worker.mjs'), { env, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
  hold(worker);
  const workerEnded = ended(worker);
  let log = '';
  worker.stdout?.on('data', (chunk) => (log += chunk));
  worker.stderr?.on('data', (chunk) => (log += chunk));
  const ready = new Promise((resolve) => worker.once('message', () => resolve('ready')));
  if ((await Promise.race([ready, workerEnded])) !== 'ready') {
    process.stderr.write(`the Node worker did not start:\n${log}`);
    return 1;
  }
  process.stdout.write(`Node ${process.version}: a worker is ready\n`);

  const sender = spawn(python, [join(here, 'app.py')], { env, stdio: ['ignore', 'inherit', 'inherit'] });
  hold(sender);
  const senderEnded = ended(sender);
  // The sender stops, the worker follows below.
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => sender.kill('SIGINT'));
  const first = await Promise.race([senderEnded, workerEnded.then(() => undefined)]);
  if (first === undefined) sender.kill('SIGINT');
  const sent = await senderEnded;

  // The worker stops as a deployment would stop it, and has to end well too.
  worker.kill('SIGTERM');
  const patience = setTimeout(() => worker.kill('SIGKILL'), 10_000);
  const stopped = await workerEnded;
  clearTimeout(patience);
  // Last, when nobody consumes it: a worker would make its queue anew.
  const cleaned = await ended(
    spawn(python, [join(here, 'app.py'), 'clean'], { env, stdio: ['ignore', 'ignore', 'inherit'] }),
  );
  if (cleaned !== 0) process.stderr.write(`the queue ${env.DEMO_QUEUE} could not be deleted\n`);
  if (first === undefined || stopped !== 0) process.stderr.write(`the Node worker ended with ${stopped}:\n${log}`);
  else if (sent !== 0) process.stderr.write(`the log of the Node worker:\n${log}`);
  return first !== undefined && sent === 0 && stopped === 0 ? 0 : 1;
}

/** What both sides are given. Without a broker: two folders that both can see. @param {{ broker?: string, backend?: string }} options */
function brokerAndBackend({ broker, backend }) {
  // A queue of the demo's own: on a shared Redis, `celery` is somebody's.
  const DEMO_QUEUE = `jobglot-demo-${randomBytes(4).toString('hex')}`;
  if (broker !== undefined && !broker.startsWith('filesystem:'))
    return { DEMO_BROKER: broker, DEMO_BACKEND: backend ?? ofBroker(broker), DEMO_QUEUE };
  const folder = mkdtempSync(join(tmpdir(), 'jobglot-demo-'));
  holdFolder(folder);
  for (const name of ['broker', 'broker/control', 'results']) mkdirSync(join(folder, name));
  return {
    DEMO_BROKER: broker ?? `filesystem://${join(folder, 'broker')}`,
    DEMO_BACKEND: backend ?? `file://${join(folder, 'results')}`,
    DEMO_QUEUE,
  };
}

/** RabbitMQ keeps no results: there they are messages to who asked. @param {string} broker */
function ofBroker(broker) {
  return /^(py)?amqps?:/.test(broker) ? 'rpc://' : broker;
}

/** @param {import('node:child_process').ChildProcess} child @returns {Promise<number | string>} */
function ended(child) {
  return new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => resolve(code ?? signal ?? 'unknown'));
  });
}

/** @param {string} url */
function withoutPassword(url) {
  return url.replace(/:[^:@/]*@/, ':***@');
}
