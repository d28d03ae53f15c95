import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Publication } from '../../protocols/celery/message/message.ts';
import type { Claim } from '../../src/drivers/celery/brokers/broker.ts';
import { FilesystemBroker, filesystemOptions } from '../../src/drivers/celery/brokers/filesystem.ts';
import { FileResults, fileResultsFolder } from '../../src/drivers/celery/results/file.ts';
import { silent } from '../../src/log.ts';
import { temporaryFolder } from '../support/folder.ts';
import { hold } from '../support/leash.mjs';
import { pythonFor } from '../support/python.ts';

const never = new AbortController().signal;

/** Celery and kombu as a user sets them up for a folder: `app`, `connection`, and a task that fails and one that does not. */
const APP = `
import json, os, socket, sys
from celery import Celery
from kombu import Connection, Exchange, Queue

folder = os.environ['FOLDER']
options = {
    'data_folder_in': folder, 'data_folder_out': folder, 'control_folder': folder + '/control', 'polling_interval': 0.01,
}
app = Celery('shop', broker='filesystem://', backend='file://' + folder + '/results')
app.conf.update(
    broker_transport_options=options, broker_connection_retry_on_startup=True, worker_hijack_root_logger=False,
)
connection = Connection('filesystem://', transport_options=options)

@app.task(name='shop.add')
def add(a, b):
    return a + b

def take(queue, count, ack=lambda message: message.ack()):
    """Receives from one kombu queue; what came, as [body, headers, delivery_info] each."""
    taken = []
    def on_message(body, message):
        taken.append([body, message.headers, message.delivery_info])
        ack(message)
    with connection.Consumer([queue], callbacks=[on_message], accept=['json']):
        while len(taken) < count:
            connection.drain_events(timeout=30)
    return taken
`;

let folder: string;
let broker: FilesystemBroker;
let results: FileResults;
let children: ChildProcess[];

beforeEach(async () => {
  folder = temporaryFolder('jobglot-folder-');
  await mkdir(join(folder, 'results'));
  await writeFile(join(folder, 'shop.py'), APP);
  broker = new FilesystemBroker(filesystemOptions(`filesystem://${folder}`));
  await broker.open(silent);
  results = new FileResults({ folder: fileResultsFolder(`file://${folder}/results`) });
  await results.open(silent);
  children = [];
});

afterEach(async () => {
  for (const child of children) await ended(child, 'SIGKILL');
  await broker.close();
  await results.close();
  await rm(folder, { recursive: true, force: true });
});

describe('Celery 5.6 publishes', () => {
  test('a task that is received with its headers and body', async () => {
    await broker.consume([{ name: 'celery', exchange: 'celery', routingKey: 'celery' }]);
    const receiving = broker.receive(1, never);
    const id = await python(`print(app.send_task('shop.add', (1, 2), {'note': 'é'}).id)`);
    const [claim] = await receiving;
    expect(claim!.message!.headers).toMatchObject({ id, task: 'shop.add', lang: 'py' });
    expect(claim!.message!.properties['delivery_info']).toEqual({ exchange: '', routing_key: 'celery' });
    expect(JSON.parse(textOf(claim!)).slice(0, 2)).toEqual([[1, 2], { note: 'é' }]);
    await broker.ack(claim!);
  });

  test('many, while we publish too: all arrive, ours in their order', async () => {
    await broker.consume([{ name: 'celery' }]);
    const sending = python(`
for number in range(100):
    app.send_task('shop.add', (number, 0))
`);
    await broker.publish(Array.from({ length: 100 }, (_, number) => task(`js-${number}`, [number, 1])));
    await sending;
    const bodies = (await drain(100 + 100)).map((claim) => JSON.parse(textOf(claim))[0]);
    const ours = bodies.filter(([, from]) => from === 1).map(([number]) => number);
    expect(ours).toEqual(Array.from({ length: 100 }, (_, number) => number));
    const theirs = bodies.filter(([, from]) => from === 0).map(([number]) => number);
    expect(theirs.sort((a, b) => a - b)).toEqual(ours);
  });

  test('to a topic exchange that our queue is bound to', async () => {
    await broker.consume([{ name: 'logs', exchange: 'events', exchangeType: 'topic', routingKey: 'log.*' }]);
    await python(`
producer = connection.Producer(serializer='json')
events = Exchange('events', 'topic')
for key in 'log.info', 'metric.cpu', 'log.error':
    producer.publish({'key': key}, exchange=events, routing_key=key, declare=[events])
`);
    // kombu's names say nothing of the order within a millisecond.
    expect((await drain(2)).map((claim) => JSON.parse(textOf(claim)).key).sort()).toEqual(['log.error', 'log.info']);
    expect(await messageFiles()).toEqual([]);
  });
});

describe('we publish', () => {
  test('a message that kombu receives, with body and headers', async () => {
    await broker.publish([task('the-id', [1, 'zwölf'])]);
    const [body, headers, info] = JSON.parse(await python(`print(json.dumps(take(Queue('celery'), 1)[0]))`));
    expect(body).toEqual([[1, 'zwölf'], {}, { callbacks: null, errbacks: null, chain: null, chord: null }]);
    expect(headers).toMatchObject({ id: 'the-id', task: 'shop.add' });
    expect(info).toEqual({ exchange: '', routing_key: 'celery' });
    expect(await messageFiles()).toEqual([]);
  });

  test('a task that a Celery worker runs, and read its result when it is stored', async () => {
    await broker.publish([task('the-id', [20, 22])]);
    const metas: Buffer[] = [];
    const end = await results.watch('the-id', (meta) => metas.push(meta));
    const worker = spawnPython(['-m', 'celery', '-A', 'shop', 'worker', '-P', 'solo', '-l', 'info', '-n', 'w@test']);
    await expect.poll(() => (worker.exitCode === null ? metas.length : log(worker))).toBe(1);
    end();
    expect(JSON.parse(String(metas[0]))).toMatchObject({ status: 'SUCCESS', result: 42, task_id: 'the-id' });
    expect(await results.fetch('the-id')).toEqual(metas[0]);
    await ended(worker, 'SIGTERM');
  });

  test('to the topic, direct and fanout exchanges that a Python process declared', async () => {
    await python(`
for type, key in ('topic', 'log.#'), ('direct', 'log'), ('fanout', ''):
    Queue('of-' + type, Exchange('events-' + type, type), routing_key=key)(connection.channel()).declare()
`);
    const fanning = new FilesystemBroker({
      ...filesystemOptions(`filesystem://${folder}`),
      exchangeTypes: { 'events-fanout': 'fanout' },
    });
    await fanning.open(silent);
    for (const [exchange, routingKey] of [
      ['events-topic', 'log.disk.full'],
      ['events-topic', 'metric'],
      ['events-direct', 'log'],
      ['events-direct', 'log.disk'],
      ['events-fanout', 'anything'],
    ] as const) {
      await fanning.publish([{ ...task(`${exchange} ${routingKey}`, []), exchange, routingKey }]);
    }
    await fanning.close();
    const ids = await python(`
for type in 'topic', 'direct', 'fanout':
    print(*[headers['id'] for _, headers, _ in take(Queue('of-' + type), 1)])
`);
    expect(ids.split('\n')).toEqual(['events-topic log.disk.full', 'events-direct log', 'events-fanout anything']);
    expect(await messageFiles()).toEqual([]);
  });
});

describe('both at one folder', () => {
  test('a message given back to the front is the next one kombu takes, and says that it was redelivered', async () => {
    await broker.consume([{ name: 'celery' }]);
    await broker.publish([task('first', []), task('second', [])]);
    const [first] = await broker.receive(1, never);
    await broker.requeue(first!, 'front');
    await broker.quiet();
    const taken = JSON.parse(await python(`print(json.dumps([t[1:] for t in take(Queue('celery'), 2)]))`));
    expect(taken).toMatchObject([
      [{ id: 'first', redelivered: true }, { redelivered: true }],
      [{ id: 'second' }, { exchange: '' }],
    ]);
  });

  test('a message kombu requeues comes back', async () => {
    await broker.consume([{ name: 'celery' }]);
    await python(`
app.send_task('shop.add', (1, 2), task_id='again')
message = connection.channel().basic_get('celery')
message.requeue()
`);
    expect((await drain(1)).map((claim) => claim.message!.headers['id'])).toEqual(['again']);
  });

  test('every message goes to exactly one of kombu and us', async () => {
    await broker.consume([{ name: 'celery' }]);
    const count = 400;
    const ids = Array.from({ length: count }, (_, number) => `${number}`);
    const consumer = spawnPython([
      '-c',
      `
from shop import *
queue = Queue('celery')
def on_message(body, message):
    print(message.headers['id'], flush=True)
    message.ack()
with connection.Consumer([queue], callbacks=[on_message], accept=['json']):
    print('ready', flush=True)
    while True:
        connection.drain_events()
`,
    ]);
    await expect.poll(() => log(consumer)).toContain('ready');
    const seen: string[] = [];
    const theirs = (): string[] => log(consumer).split('\n').slice(1, -1);
    const stop = new AbortController();
    const ours = (async () => {
      for (let claims; (claims = await broker.receive(1, stop.signal)).length > 0;) {
        for (const claim of claims) {
          seen.push(claim.message!.headers['id'] as string);
          await broker.ack(claim);
        }
        // We do not take all of them before kombu has one.
        await expect.poll(() => theirs().length).toBeGreaterThan(0);
      }
    })();
    await broker.publish(ids.map((id) => task(id, [])));
    await expect.poll(() => seen.length + theirs().length).toBeGreaterThanOrEqual(count);
    stop.abort();
    await ours;
    expect([...seen, ...theirs()].sort()).toEqual([...ids].sort());
    expect(Math.min(seen.length, theirs().length)).toBeGreaterThan(0);
  });
});

describe('results', () => {
  test('that we store are what AsyncResult gives', async () => {
    const meta = { traceback: null, children: [], date_done: '2026-11-21T00:01:35.637079+00:00' };
    await results.store('good', JSON.stringify({ status: 'SUCCESS', result: [1, 'é'], ...meta, task_id: 'good' }));
    const error = { exc_type: 'ValueError', exc_message: ['no stock'], exc_module: 'builtins' };
    await results.store('bad', JSON.stringify({ status: 'FAILURE', result: error, ...meta, task_id: 'bad' }));
    await results.storeGroup('both', '{"result": [["both", null], [[["good", null], null], [["bad", null], null]]]}');
    const printed = await python(`
print(json.dumps(app.AsyncResult('good').get(timeout=30)))
print(repr(app.AsyncResult('bad').get(timeout=30, propagate=False)))
print([child.id for child in app.GroupResult.restore('both').results])
`);
    expect(printed.split('\n')).toEqual(['[1, "\\u00e9"]', "ValueError('no stock')", "['good', 'bad']"]);
  });

  test('that Celery stores are fetched and watched; a SUCCESS of Python stays', async () => {
    const seen: string[] = [];
    await results.watch('1', (meta) => seen.push(JSON.parse(String(meta)).status));
    await python(`
app.backend.store_result('1', {'half': True}, 'PROGRESS')
app.backend.store_result('1', 42, 'SUCCESS')
app.GroupResult('g', [app.AsyncResult('1')]).save()
`);
    await expect.poll(() => seen.at(-1)).toBe('SUCCESS');
    await results.store('1', '{"status": "FAILURE"}');
    expect(JSON.parse(String(await results.fetch('1')))).toMatchObject({ status: 'SUCCESS', result: 42, task_id: '1' });
    expect(JSON.parse(String(await results.fetchGroup('g')))).toEqual({ result: [['g', null], [[['1', null], null]]] });
    await results.forget('1');
    expect(await python(`print(app.AsyncResult('1').status)`)).toBe('PENDING');
  });
});

function task(id: string, args: readonly unknown[]): Publication {
  const embed = { callbacks: null, errbacks: null, chain: null, chord: null };
  return {
    exchange: '',
    routingKey: 'celery',
    body: Buffer.from(JSON.stringify([args, {}, embed])),
    contentType: 'application/json',
    contentEncoding: 'utf-8',
    headers: new Map<string, unknown>([
      ['lang', 'js'],
      ['task', 'shop.add'],
      ['id', id],
      ['root_id', id],
      ['parent_id', null],
      ['group', null],
    ]),
    priority: 0,
    properties: new Map([['correlation_id', id]]),
  };
}

function textOf(claim: Claim): string {
  return Buffer.from(claim.message!.body).toString();
}

async function drain(count: number): Promise<Claim[]> {
  const claims: Claim[] = [];
  while (claims.length < count) {
    const some = await broker.receive(count - claims.length, never);
    if (some.length === 0) throw new Error(`the broker ended with ${claims.length} of ${count} messages`);
    claims.push(...some);
  }
  return claims;
}

async function messageFiles(): Promise<string[]> {
  return (await readdir(folder)).filter((name) => name.endsWith('.msg'));
}

const logs = new WeakMap<ChildProcess, string[]>();

function spawnPython(args: readonly string[]): ChildProcess {
  const env = { ...process.env, FOLDER: folder, PYTHONPATH: folder, PYTHONDONTWRITEBYTECODE: '1', C_FORCE_ROOT: '1' };
  const child = spawn(pythonFor('5.6'), args, { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
  const chunks: string[] = [];
  logs.set(child, chunks);
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => chunks.push(text));
  hold(child);
  children.push(child);
  return child;
}

function log(child: ChildProcess): string {
  return logs.get(child)!.join('');
}

/** Runs a piece of Python with the names of APP; what it printed. */
async function python(code: string): Promise<string> {
  const child = spawnPython(['-c', `from shop import *\n${code}`]);
  const [exit] = await once(child, 'close');
  expect(exit, log(child)).toBe(0);
  return log(child).trim();
}

async function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill(signal);
  await exit;
}
