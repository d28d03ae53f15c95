import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { pause } from '../../src/source.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { freePort } from '../support/free-port.ts';
import { type RunningCelery, startCelery } from '../support/python.ts';
import { BROWSER, CHROMIUM } from '../support/browser.ts';
import { type NodeWorker, Stage, until } from './support/stage.ts';
import { facts } from './support/table.ts';

const NODE = 'node@flower';

type Json = Readonly<Record<string, unknown>>;

describe.each(['redis', 'amqp'] as const)('Flower over %s', (broker) => {
  const toNode = facts('flower', { version: '5.6', broker }, 'Python → Node');
  let stage: Stage;
  let node: NodeWorker;
  let flower: RunningCelery;
  let url: string;

  beforeAll(async () => {
    stage = await Stage.start('5.6', {}, { broker });
    const tasks = new Tasks()
      .handle(defineTask<(x: number, y: number) => number>('both.add'), ({ args: [x, y] }) => x + y)
      .handle(defineTask<() => never>('node.fail'), () => {
        throw new TypeError('on purpose');
      })
      .handle(defineTask<() => string>('both.slow'), async (_job, { signal }) => {
        await pause(60_000, signal);
        return 'ended';
      });
    node = await stage.node({ nodename: NODE, queues: ['node'], tasks });
    const port = await freePort();
    url = `http://127.0.0.1:${port}`;
    const options = { ...stage.app, env: { FLOWER_UNAUTHENTICATED_API: 'true' } };
    flower = startCelery('flower', options, ['flower', '--address=127.0.0.1', `--port=${port}`]);
    await until('Flower answers', 30_000, () =>
      fetch(`${url}/healthcheck`).then(
        ({ ok }) => ok,
        () => false,
      ),
    );
    await until('Flower has switched events on', 30_000, async () => {
      const replies = await stage.python.control('enable_events', {}, { reply: true, timeout: 5, limit: 1 });
      return JSON.stringify(replies).includes('already enabled');
    });
    await until('Flower knows the worker', 30_000, async () => NODE in (await get('/api/workers?refresh=1')));
  });
  afterAll(async () => {
    await flower[Symbol.asyncDispose]();
    await node[Symbol.asyncDispose]();
    await stage[Symbol.asyncDispose]();
  });

  async function get(path: string): Promise<Json> {
    const response = await fetch(url + path);
    expect({ path, status: response.status }).toEqual({ path, status: 200 });
    return (await response.json()) as Json;
  }

  async function page(path: string): Promise<string> {
    const response = await fetch(url + path);
    expect({ path, status: response.status }).toEqual({ path, status: 200 });
    return response.text();
  }

  async function post(path: string, fields: Readonly<Record<string, string>> = {}): Promise<unknown> {
    const response = await fetch(url + path, { method: 'POST', body: new URLSearchParams(fields) });
    const text = await response.text();
    expect({ path, status: response.status, text }).toEqual({ path, status: 200, text });
    return JSON.parse(text);
  }

  /** What Flower shows of a task, once it shows this state. */
  async function shown(id: string, state: string): Promise<Json> {
    let task: Json = {};
    await until(`Flower shows ${id} as ${state}`, 15_000, async () => {
      const response = await fetch(`${url}/api/task/info/${id}`);
      if (!response.ok) return false;
      task = (await response.json()) as Json;
      return task['state'] === state;
    });
    return task;
  }

  toNode('Flower', 'shows the worker with everything it asks a worker for', async () => {
    const worker = (await get(`/api/workers?workername=${NODE}`))[NODE] as Json;
    expect(Object.keys(worker)).toEqual(
      expect.arrayContaining([
        'active',
        'active_queues',
        'conf',
        'registered',
        'reserved',
        'revoked',
        'scheduled',
        'stats',
      ]),
    );
    expect(worker['registered']).toEqual(['both.add', 'both.slow', 'node.fail']);
    expect(worker['active_queues']).toEqual([expect.objectContaining({ name: 'node' })]);
    const status = await get('/api/workers?status=1');
    expect(status[NODE]).toBe(true);
  });

  toNode('Flower', 'shows tasks with states, arguments, results and runtimes', async () => {
    const added = await stage.python.send('both.add', [1, 2], {}, { queue: 'node' });
    const failing = await stage.python.send('node.fail', [], {}, { queue: 'node' });
    expect(await shown(added, 'SUCCESS')).toMatchObject({
      name: 'both.add',
      args: '[1, 2]',
      kwargs: '{}',
      result: '3',
      worker: NODE,
      runtime: expect.any(Number) as number,
      started: expect.any(Number) as number,
    });
    const failed = await shown(failing, 'FAILURE');
    expect(failed).toMatchObject({ exception: "TypeError('on purpose')" });
    expect(failed['traceback']).toContain('on purpose');
  });

  toNode('Flower', 'its pages are drawn', async () => {
    const id = await stage.python.send('both.add', [20, 3], {}, { queue: 'node' });
    await shown(id, 'SUCCESS');
    expect(await page('/workers')).toContain(NODE);
    const worker = await page(`/worker/${NODE}`);
    for (const word of ['Implementation', 'Max concurrency', 'both.add', 'utime', 'worker_concurrency', 'broker_url'])
      expect(worker).toContain(word);
    const task = await page(`/task/${id}`);
    for (const word of [id, 'both.add', '[20, 3]', '23', NODE]) expect(task).toContain(word);
    // Of RabbitMQ it asks the management plugin, which is not there.
    if (broker === 'redis') expect(await page('/broker')).toMatch(/<td>\s*node\s*<\/td>/);
  });

  test.skipIf(CHROMIUM === undefined)(`a browser draws its dashboard${BROWSER}`, async () => {
    const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--virtual-time-budget=5000', '--dump-dom'];
    const { stdout } = await promisify(execFile)(CHROMIUM as string, [...flags, `${url}/workers`], {
      timeout: 40_000,
    });
    expect(stdout).toContain(NODE);
    expect(stdout).toMatch(/Online/);
  });

  toNode('Flower', 'its revoke button stops a running task', async () => {
    const id = await stage.python.send('both.slow', [], {}, { queue: 'node' });
    await shown(id, 'STARTED');
    await post(`/api/task/revoke/${id}`, { terminate: 'true' });
    expect(await shown(id, 'REVOKED')).toMatchObject({ name: 'both.slow' });
    expect(await stage.python.state(id)).toBe('REVOKED');
    expect(node.worker.running).toEqual([]);
  });

  toNode('Flower', 'its limits, pool and queues buttons work', async () => {
    const said = { message: expect.any(String) as string };
    expect(await post('/api/task/rate-limit/both.add', { workername: NODE, ratelimit: '100/m' })).toEqual(said);
    expect(await post('/api/task/timeout/both.slow', { workername: NODE, hard: '2', soft: '1' })).toEqual(said);
    expect(await post(`/api/worker/pool/grow/${NODE}`, { n: '3' })).toEqual(said);
    expect(await post(`/api/worker/pool/shrink/${NODE}`, { n: '1' })).toEqual(said);
    expect(await post(`/api/worker/queue/add-consumer/${NODE}`, { queue: 'more' })).toEqual(said);
    const worker = (await get(`/api/workers?refresh=1&workername=${NODE}`))[NODE] as Json;
    expect(worker['registered']).toContain('both.add [rate_limit=100/m]');
    expect(worker['active_queues']).toMatchObject([{ name: 'node' }, { name: 'more' }]);
    expect(worker['stats']).toMatchObject({ pool: { 'max-concurrency': 6 } });
    expect(await post(`/api/worker/queue/cancel-consumer/${NODE}`, { queue: 'more' })).toEqual(said);
  });

  toNode('Flower', 'its shutdown button stops the worker, and it is shown as gone', async () => {
    await post(`/api/worker/shutdown/${NODE}`);
    await until('the worker has stopped', 10_000, () => node.worker.state === 'stopped');
    await until('Flower shows it as gone', 15_000, async () => (await get('/api/workers?status=1'))[NODE] === false);
  });
});
