import { afterAll, describe, expect, test } from 'vitest';
import * as json from '../../protocols/formats/json.ts';
import { program } from '../../src/cli/program.ts';
import { resolveSources } from '../../src/cli/sources.ts';
import { defineConfig } from '../../src/config.ts';
import { registeredSystems } from '../../src/system.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { toy, ToyClient } from '../toy/driver.ts';
import { ToyInspector } from '../toy/inspector.ts';
import { type Entry, ToyStore } from '../toy/store.ts';
import { addToySystem } from '../toy/system.ts';
import { inspectorConformance, type Planted } from './inspector-suite.ts';
import { SCRIPT } from './script.ts';
import { conformance } from './suite.ts';

/** A fifth system, made of public parts: it shows that no file below the drivers knows which systems exist. */
addToySystem();

interface Stage extends AsyncDisposable {
  readonly url: string;
  readonly store: ToyStore;
}

let stages = 0;

async function newStage(): Promise<Stage> {
  const url = `toy://${++stages}`;
  const store = ToyStore.of(url);
  return { url, store, [Symbol.asyncDispose]: () => Promise.resolve(store.clear()) };
}

const NO_SERVER = 'the store lives as long as its process';
const JSON_ONLY = 'its messages are JSON, which has no bytes';

conformance<Stage>({
  name: 'toy',
  store: newStage,
  source: ({ url }, { queues, concurrency, unknownTask = 'requeue' }) => toy({ url, queues, concurrency, unknownTask }),
  client({ url }) {
    const client = new ToyClient({ url });
    return {
      async send({ task = SCRIPT, queue, script, kwargs, id, delayMs, at, expiresAt, timeoutMs, softTimeoutMs }) {
        const due = delayMs === undefined ? at : new Date(Date.now() + delayMs);
        const sent = await client.enqueue(task, {
          ...{ queue, args: script },
          ...(kwargs === undefined ? {} : { kwargs }),
          ...(id === undefined ? {} : { id }),
          ...(due === undefined ? {} : { at: due }),
          ...(expiresAt === undefined ? {} : { expires: expiresAt }),
          ...(timeoutMs === undefined ? {} : { timeoutMs }),
          ...(softTimeoutMs === undefined ? {} : { softTimeoutMs }),
        });
        return sent.id;
      },
      close: () => client.close(),
    };
  },
  raw({ store }) {
    const idOf = (bytes: Buffer): string => (JSON.parse(String(bytes)) as { readonly id: string }).id;
    return {
      async put(queue, bytes) {
        const { id = '', at } = readable(bytes);
        const atMs = at === undefined ? {} : { atMs: Date.parse(at) };
        store.put({ id, queue, bytes: Buffer.from(bytes), attempt: 1, ...atMs });
      },
      message: (_queue, { task, id, args, at, extra = {} }) =>
        Buffer.from(
          `{"id": "${id}", "task": "${task}", "args": ${args}${at === undefined ? '' : `, "at": "${at}"`}${Object.entries(
            extra,
          )
            .map(([name, value]) => `, ${JSON.stringify(name)}: ${JSON.stringify(value)}`)
            .join('')}}`,
        ),
      waiting: (queue) => Promise.resolve((store.queues.get(queue) ?? []).map(({ bytes }) => bytes)),
      postponed: (queue) =>
        Promise.resolve(
          (store.queues.get(queue) ?? []).filter(({ atMs }) => atMs !== undefined).map(({ bytes }) => bytes),
        ),
      idOf,
      argsOf: (bytes) => String(bytes),
      claimed: () => Promise.resolve(store.claimed.size),
      aside: (queue) =>
        Promise.resolve(
          store.quarantine
            .filter((one) => one.queue === queue)
            .map(({ bytes, reason }) => ({ bytes, reason: reason?.message ?? '' })),
        ),
      result(id) {
        const stored = store.results.get(id);
        if (stored === undefined) return Promise.resolve(undefined);
        const { state, value, error } = JSON.parse(stored) as { state: string; value: unknown; error: never };
        return Promise.resolve({ state, value, error, text: stored });
      },
    };
  },
  without: {
    'bytes come back as bytes': JSON_ONLY,
    'quiet gives back what waits for its time': 'a delayed job waits in its queue, and is not claimed before its time',
    'a job acknowledged at its start that is stopped ends as one whose worker was lost':
      'a job is acknowledged after its run',
    'an idle worker consumes again': NO_SERVER,
    'what waits is still there, and is run once': NO_SERVER,
    'a job that runs meanwhile ends, and its result is stored': NO_SERVER,
    'a job that ends while the store is away is settled when it is back': NO_SERVER,
  },
});

function readable(bytes: Uint8Array): { readonly id?: string; readonly at?: string } {
  try {
    return JSON.parse(String(bytes)) as { readonly id?: string; readonly at?: string };
  } catch {
    return {};
  }
}

function entryOf({ id, task, args, queue }: Planted): Entry {
  const bytes = Buffer.from(`{"id":${json.stringify(id)},"task":${json.stringify(task)},"args":${args}}`);
  return { id, queue, bytes, attempt: 1 };
}

const NO_WORKERS = 'workers do not show themselves';

inspectorConformance<Stage>({
  name: 'toy',
  stage: newStage,
  reset: ({ store }) => Promise.resolve(store.clear()),
  inspector: ({ url }, options) => new ToyInspector({ url, ...options }),
  plant: {
    async queued({ store }, jobs) {
      for (const job of jobs) store.put(entryOf(job));
      return jobs.map(({ id }) => id);
    },
    async failed({ store }, jobs) {
      store.failed.push(...jobs.map((job) => ({ ...entryOf(job), reason: { type: 'Boom', message: 'é' } })));
      return jobs.map(({ id }) => id);
    },
  },
  actions: { retry: { from: 'failed', to: 'queued' }, delete: { from: 'queued', to: undefined } },
  raw: {
    set: 'queued',
    put: ({ store }, bytes) =>
      Promise.resolve(store.put({ id: '', queue: 'inspected', bytes: Buffer.from(bytes), attempt: 1 })),
  },
  without: {
    'workers of both languages are shown with what they run': NO_WORKERS,
    'a failure of the other language is shown with its traceback': 'it has one language',
    'a periodic task is shown as it is stored': 'it has no periodic tasks',
  },
});

describe('a system that is not part of the package', () => {
  const add = defineTask<(a: number, b: number) => number>('add', { names: { toy: 'toy.add' } });
  const workers: Worker[] = [];
  afterAll(() => Promise.all(workers.map((worker) => worker.stop({ timeoutMs: 0 }))));

  async function command(...words: readonly string[]): Promise<{ readonly code: number; readonly text: string }> {
    let text = '';
    let code = -1;
    const context = { env: {}, cwd: '/', err: (more: string) => (text += more), out: (more: string) => (text += more) };
    await program({ ...context, done: (status) => (code = status) }).parseAsync(words, { from: 'user' });
    return { code, text };
  }

  test('is on the list, and its section of a config file is checked', () => {
    expect(registeredSystems().at(-1)?.name).toBe('toy');
    expect(defineConfig({ toy: { url: 'toy://shelf' } })).toEqual({ toy: { url: 'toy://shelf' } });
    expect(() => defineConfig({ toy: 'toy://shelf' as never })).toThrow(
      "toy must be an object of options: { url: 'toy://shelf' }",
    );
  });

  test('has options of tasks, which are checked', () => {
    expect(() => new Tasks().handle(add, () => 1, { colour: 'red' })).not.toThrow();
    expect(() => new Tasks().handle(add, () => 1, { colour: 7 as never })).toThrow('colour must be a text, not 7');
  });

  test('has a source of `jobglot worker`, which runs its jobs under their names there', async () => {
    const [resolved] = await resolveSources({}, {}, defineConfig({ toy: { url: 'toy://run' } }), '/', undefined);
    const tasks = new Tasks().handle(add, ({ args: [a, b] }) => a + b);
    const worker = new Worker({ tasks, sources: [resolved!.source] });
    workers.push(worker);
    await worker.start();
    const settled = worker.once('job:settled');
    await new ToyClient({ url: 'toy://run' }).enqueue(add, { args: [2, 3], id: 'sum' });
    expect((await settled).job.task).toBe('toy.add');
    expect(ToyStore.of('toy://run').results.get('sum')).toBe('{"state": "succeeded", "value": 5}');
  });

  test('is inspected and controlled from the command line', async () => {
    const store = ToyStore.of('toy://cli');
    store.put(entryOf({ id: 'first', task: 'toy.add', args: '[1.0,2]', queue: 'toys' }));
    expect(await command('inspect', 'toy', 'overview', '--url', 'toy://cli')).toMatchObject({ code: 0 });
    const { text } = await command('inspect', 'toy', 'job', 'first', '--url', 'toy://cli');
    expect(text).toContain('toy.add');
    expect(await command('control', 'toy', 'delete', 'first', '--url', 'toy://cli')).toMatchObject({ code: 0 });
    expect(store.queues.get('toys')).toEqual([]);
  });
});
