import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DateTime, Decimal, type RqClient, Tuple } from '../../src/drivers/rq/index.ts';
import { defineTask } from '../../src/task.ts';
import { temporaryFolder } from '../support/folder.ts';
import { type RqDashboard, startRqDashboard } from '../support/python-rq.ts';
import { BROWSER, CHROMIUM } from '../support/browser.ts';
import { rqTasks } from './apps/rq-tasks.ts';
import { type NodeRqWorker, RqStage, until } from './support/rq-stage.ts';

type Json = Readonly<Record<string, unknown>>;

describe('rq-dashboard', () => {
  let stage: RqStage;
  let client: RqClient;
  let node: NodeRqWorker;
  let dashboard: RqDashboard;
  const folder = temporaryFolder('jobglot-rq-');
  const gate = join(folder, 'gate');

  beforeAll(async () => {
    stage = await RqStage.start('2.10');
    client = stage.client();
    const tasks = rqTasks(stage.store)
      .handle(defineTask('node.types'), () => [new Decimal('1.50'), new DateTime('2026-11-21T00:00:00Z'), 2n ** 70n])
      .handle(defineTask('node.tuple'), () => Tuple.of<unknown>(1, 'zwölf', null));
    node = await stage.node({ queues: ['high', 'low'], tasks, name: 'node-1' });
    dashboard = await startRqDashboard(stage.redis.url);
  });
  afterAll(async () => {
    await dashboard?.[Symbol.asyncDispose]();
    await client?.close();
    await node?.[Symbol.asyncDispose]();
    await stage?.[Symbol.asyncDispose]();
  });

  async function get(path: string): Promise<Json> {
    const response = await fetch(dashboard.url + path);
    expect({ path, status: response.status }, dashboard.log()).toEqual({ path, status: 200 });
    return (await response.json()) as Json;
  }

  async function page(path: string): Promise<string> {
    const response = await fetch(dashboard.url + path);
    expect({ path, status: response.status }, dashboard.log()).toEqual({ path, status: 200 });
    return response.text();
  }

  async function post(path: string): Promise<void> {
    const response = await fetch(dashboard.url + path, { method: 'POST' });
    expect({ path, status: response.status }, dashboard.log()).toEqual({ path, status: 200 });
  }

  const jobs = async (queue: string, registry: string): Promise<readonly Json[]> =>
    (await get(`/0/data/jobs/${queue}/${registry}/50/asc/1.json`))['jobs'] as readonly Json[];

  test('shows the worker of ours, idle and busy', async () => {
    const shown = async (): Promise<Json> =>
      ((await get('/0/data/workers.json'))['workers'] as readonly Json[])[0] ?? {};
    expect(await shown()).toMatchObject({ name: 'node-1', queues: ['high', 'low'], pid: process.pid });
    const job = await client.enqueue('rq_app.gate', { args: [gate], queue: 'low' });
    await until('it runs', async () => (await job.status()) === 'started');
    const busy = await shown();
    expect(busy['current_job']).toMatchObject({ job_id: job.id, call_string: expect.stringContaining('rq_app.gate(') });
    expect(await jobs('low', 'started')).toMatchObject([{ id: job.id }]);
    writeFileSync(gate, '');
    await job.get({ timeoutMs: 30_000 });
    await until('it is idle', async () => (await shown())['current_job'] === 'idle');
    expect(await shown()).toMatchObject({ successful_job_count: expect.any(Number) as number });
  });

  test('lists our jobs in every registry, with results that it can load', async () => {
    const done = await client.enqueue('node.tuple', { queue: 'high' });
    const typed = await client.enqueue('node.types', { queue: 'high' });
    const failed = await client.enqueue('rq_app.fail', { args: ['no such account'], queue: 'high' });
    const waits = await client.enqueue('rq_app.who', { queue: 'high', dependsOn: failed });
    const later = await client.enqueue('rq_app.add', {
      args: [1, 2],
      queue: 'high',
      in: '1h',
      meta: { tenant: 'acme' },
    });
    const canceled = await client.enqueue('rq_app.who', { queue: 'high', in: '1h' });
    await canceled.cancel();
    await typed.get({ timeoutMs: 30_000 });
    await until('it has failed', async () => (await failed.status()) === 'failed');
    expect((await jobs('high', 'finished')).map(({ id }) => id)).toEqual(expect.arrayContaining([done.id, typed.id]));
    const [one] = await jobs('high', 'failed');
    expect(one).toMatchObject({ id: failed.id, description: "rq_app.fail('no such account')" });
    expect(String(one?.['exc_info'])).toContain('ValueError: no such account');
    expect((await jobs('high', 'deferred')).map(({ id }) => id)).toEqual([waits.id]);
    expect((await jobs('high', 'scheduled')).map(({ id }) => id)).toEqual([later.id]);
    expect((await jobs('high', 'canceled')).map(({ id }) => id)).toEqual([canceled.id]);
    expect(await get(`/0/data/job/${done.id}.json`)).toMatchObject({ status: 'finished', result: [1, 'zwölf', null] });
    expect(await get(`/0/data/job/${later.id}.json`)).toMatchObject({
      status: 'scheduled',
      metadata: '{"tenant": "acme"}',
    });
    const queues = (await get('/0/data/queues.json'))['queues'] as readonly Json[];
    expect(queues.find(({ name }) => name === 'high')).toMatchObject({
      count: 0,
      failed_job_registry_count: 1,
      deferred_job_registry_count: 1,
      scheduled_job_registry_count: 1,
      canceled_job_registry_count: 1,
    });
  });

  test('its buttons work: requeue, delete, empty', async () => {
    const [failed] = await jobs('high', 'failed');
    const before = (await client.job(String(failed?.['id'])).results()).length;
    await post(`/job/${String(failed?.['id'])}/requeue`);
    await until('it ran again', async () => (await client.job(String(failed?.['id'])).results()).length > before);
    const [later] = await jobs('high', 'scheduled');
    await post(`/job/${String(later?.['id'])}/delete`);
    expect(await jobs('high', 'scheduled')).toEqual([]);
    await post('/queue/high/finished/empty');
    expect(await jobs('high', 'finished')).toEqual([]);
    expect(node.worker.state).toBe('running');
  });

  test('its pages are drawn', async () => {
    const job = await client.enqueue('rq_app.add', { args: [20, 3], queue: 'low' });
    await job.get({ timeoutMs: 30_000 });
    for (const path of ['/', '/0/view/queues', '/0/view/workers', '/0/view/jobs/low/finished/8/asc/1'])
      expect(await page(path)).toContain('RQ');
    expect(await page(`/0/view/job/${job.id}`)).toContain(job.id);
  });

  test.skipIf(CHROMIUM === undefined)(`a browser draws queues, jobs and workers${BROWSER}`, async () => {
    const job = await client.enqueue('rq_app.add', { args: [20, 3], queue: 'low', description: 'twenty and three' });
    await job.get({ timeoutMs: 30_000 });
    const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--virtual-time-budget=8000', '--dump-dom'];
    const drawn = async (path: string): Promise<string> => {
      const { stdout } = await promisify(execFile)(CHROMIUM as string, [...flags, dashboard.url + path], {
        timeout: 40_000,
      });
      return stdout;
    };
    expect(await drawn('/0/view/workers')).toContain('node-1');
    expect(await drawn('/0/view/jobs/low/finished/50/dsc/1')).toContain('twenty and three');
    const page = await drawn(`/0/view/job/${job.id}`);
    for (const word of [job.id, 'twenty and three', 'finished', '23']) expect(page).toContain(word);
  });
});
