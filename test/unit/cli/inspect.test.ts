import { Command } from 'commander';
import { beforeEach, describe, expect, test } from 'vitest';
import * as json from '../../../protocols/formats/json.ts';
import { PyGlobal, PyObject, Tuple } from '../../../protocols/formats/pickle/index.ts';
import { float } from '../../../protocols/formats/values.ts';
import { addInspectorActions, addInspectorViews } from '../../../src/cli/inspector-commands.ts';
import { ConfigError } from '../../../src/index.ts';
import {
  type ActOptions,
  type ActResult,
  type Action,
  canDo,
  type InspectedJob,
  type Inspector,
  type JobsQuery,
  type Target,
} from '../../../src/inspector.ts';

const NOTHING = {
  queue: undefined,
  enqueuedAt: undefined,
  dueAt: undefined,
  startedAt: undefined,
  endedAt: undefined,
  attempts: undefined,
  error: undefined,
  result: undefined,
  worker: undefined,
  explanation: undefined,
  links: {},
} as const;

const JOB: InspectedJob = {
  ...NOTHING,
  id: 'j1',
  set: 'broken',
  task: 'app.\u001b[2Jadd\nmore',
  queue: 'high',
  state: 'broken',
  args: [
    float(1),
    12345678901234567890n,
    Tuple.of(1),
    new PyObject(new PyGlobal('app', 'Money'), Tuple.of('5'), 'new'),
  ],
  kwargs: {},
  attempts: 2,
  endedAt: new Date(0),
  error: { type: 'ValueError', message: 'no\nsecond', traceback: 'Traceback\n  line \u0007\n', at: undefined },
  raw: new Uint8Array([0x80, 0xff]),
};

class ToyInspector implements Inspector {
  readonly system = 'toy';
  readonly address = 'toy://';
  readonly sets = [
    { name: 'ready', kind: 'waiting', byQueue: true },
    { name: 'broken', kind: 'failed', byQueue: false },
  ] as const;
  readonly can = canDo('retry', 'delete', 'pause', 'stop');
  readonly asked: unknown[] = [];
  answer: ActResult = { done: 1, gone: [], refused: [] };
  closed = 0;

  overview(): ReturnType<Inspector['overview']> {
    return Promise.resolve({ counts: { ready: 5, broken: 1 }, workers: 2, busy: 1, processed: 9, failed: 3 });
  }
  queues(): ReturnType<Inspector['queues']> {
    return Promise.resolve([
      { name: 'high', size: 1, latencyMs: 1_500, paused: true, consumers: 2 },
      { name: 'a\tb', size: 0, latencyMs: undefined, paused: false, consumers: undefined },
    ]);
  }
  jobs(set: string, query?: JobsQuery): ReturnType<Inspector['jobs']> {
    this.asked.push([set, query]);
    return Promise.resolve({ jobs: [JOB], cursor: 'next', total: 7, cut: false });
  }
  job(id: string): ReturnType<Inspector['job']> {
    return Promise.resolve(id === 'j1' ? JOB : undefined);
  }
  workers(): ReturnType<Inspector['workers']> {
    return Promise.resolve([]);
  }
  schedules(): ReturnType<Inspector['schedules']> {
    return Promise.resolve([]);
  }
  act(action: Action, target: Target, options?: ActOptions): Promise<ActResult> {
    this.asked.push([action, target]);
    options?.onProgress?.({ done: 500, total: 1_000 });
    return Promise.resolve(this.answer);
  }
  close(): Promise<void> {
    this.closed += 1;
    return Promise.resolve();
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

let toy: ToyInspector;
let out: string;
let err: string;
let code: number | undefined;

beforeEach(() => {
  toy = new ToyInspector();
  out = err = '';
  code = undefined;
});

async function run(...words: readonly string[]): Promise<void> {
  const context = {
    env: {},
    cwd: '/',
    out: (text: string) => void (out += text),
    err: (text: string) => void (err += text),
    done: (ended: number) => void (code = ended),
  };
  const root = new Command('jobglot').exitOverride().configureOutput({ writeErr: context.err, writeOut: context.out });
  const flags: unknown[] = [];
  const open = (given: object): Promise<Inspector> => {
    flags.push(given);
    return Promise.resolve(toy);
  };
  const inspect = root.command('inspect').command('toy').option('-u, --url <url>').argument('[queues...]');
  inspect.action((queues: readonly string[]) => void (out += `own ${queues.join(' ')}\n`));
  addInspectorViews(inspect, context, open);
  const control = root.command('control').command('toy').option('-u, --url <url>');
  const own = { usage: 'WORKER', help: 'a word of its own', run: () => Promise.resolve(7) };
  addInspectorActions(control, context, open, { shout: own });
  await root.parseAsync(words, { from: 'user' });
  for (const one of flags) expect(one).toMatchObject({ url: 'toy://x' });
}

describe('inspect', () => {
  test('leaves the words of the system itself to it', async () => {
    await run('inspect', 'toy', 'high', 'low');
    expect(out).toBe('own high low\n');
  });

  test('shows sizes by the names of the sets', async () => {
    await run('inspect', 'toy', 'overview', '-u', 'toy://x');
    expect(out).toBe('ready      5\nbroken     1\nworkers    2, 1 busy\nprocessed  9, 3 failed\n');
    expect([code, toy.closed]).toEqual([0, 1]);
  });

  test('shows a line for each queue', async () => {
    await run('inspect', 'toy', '-u', 'toy://x', 'queues');
    expect(out).toBe('high  1 job   the oldest has waited 1.5 s, 2 consumers, paused\na\\tb  0 jobs\n');
  });

  test('shows a job on one line and none of its control characters', async () => {
    await run('inspect', 'toy', 'jobs', 'broken', '-u', 'toy://x', '-q', 'high', '--limit', '3', '--task', 'app.add');
    expect(toy.asked).toEqual([['broken', { queue: 'high', limit: 3, filter: { task: 'app.add' } }]]);
    expect(out).toBe(
      'j1 app.\\u001b[2Jadd\\nmore(1.0, 12345678901234567890, (1,), <app.Money object>), of high, broken, run 2 times, ended 1970-01-01T00:00:00.000Z; ValueError: no\nmore with --cursor next; 7 in all\n',
    );
  });

  test('goes on at a cursor', async () => {
    await run('inspect', 'toy', 'jobs', 'ready', '--cursor', 'next', '--text', 'x', '-u', 'toy://x');
    expect(toy.asked).toEqual([['ready', { cursor: 'next', filter: { text: 'x' } }]]);
  });

  test('prints JSON that loses no digit and no byte', async () => {
    await run('inspect', 'toy', 'job', 'j1', '--json', '-u', 'toy://x');
    expect(out).toContain('"args": [1.0, 12345678901234567890, [1], "<app.Money object>"]');
    expect(json.parse(out)).toMatchObject({ id: 'j1', raw: { base64: 'gP8=' }, endedAt: '1970-01-01T00:00:00.000Z' });
  });

  test('prints a value that JSON cannot hold as a text', async () => {
    const circle: unknown[] = [];
    circle.push(circle);
    toy.job = () => Promise.resolve({ ...JOB, result: circle });
    await run('inspect', 'toy', 'job', 'j1', '--json', '-u', 'toy://x');
    expect(json.parse(out)).toMatchObject({ result: '[[...]]' });
  });

  test('shows the traceback of a job, with its lines', async () => {
    await run('inspect', 'toy', 'job', 'j1', '-u', 'toy://x');
    expect(out).toContain('\nValueError: no\\nsecond\nTraceback\n  line \\u0007\n');
  });

  test('ends with 1 where there is no such job', async () => {
    await run('inspect', 'toy', 'job', 'no\u0007', '-u', 'toy://x');
    expect([out, err, code]).toEqual(['', 'there is no job no\\u0007\n', 1]);
  });

  test('names the sets there are', async () => {
    await expect(run('inspect', 'toy', 'jobs', 'dead', '-u', 'toy://x')).rejects.toThrow(
      new ConfigError("toy has no set 'dead'; there are ready, broken"),
    );
    await expect(run('inspect', 'toy', 'jobs', '-u', 'toy://x')).rejects.toThrow(/which set\? There are ready, broken/);
    expect(toy.closed).toBe(2);
  });
});

describe('control', () => {
  test.each<[string, readonly Target[]]>([
    ['retry a b', [{ ids: ['a', 'b'] }]],
    ['retry a --set broken', [{ ids: ['a'], set: 'broken' }]],
    [
      'delete --set broken -q high --task T --text x',
      [{ set: 'broken', queue: 'high', filter: { task: 'T', text: 'x' } }],
    ],
    ['delete --queue high', [{ queue: 'high' }]],
    ['pause high low', [{ queue: 'high' }, { queue: 'low' }]],
    ['pause --all', [{ all: true }]],
    ['stop w1 w2', [{ worker: 'w1' }, { worker: 'w2' }]],
    ['stop --worker w1', [{ worker: 'w1' }]],
  ])('%s', async (words, targets) => {
    await run('control', 'toy', ...words.split(' '), '-u', 'toy://x');
    const [action] = words.split(' ');
    expect(toy.asked).toEqual(targets.map((target) => [action, target]));
    expect([code, out]).toEqual([0, `${action}: ${targets.length} done\n`]);
    expect(err).toContain(`${action}: 500 of 1000 …\n`);
  });

  test.each([
    ['retry', /to what\? Pass ids of jobs/],
    ['stop', /Pass names of workers/],
    ['retry a --all', /not both/],
    ['retry a --task T', /among the jobs of a --set/],
    ['delete --queue q --all', /either --queue or --all/],
    ['delete --worker w --set broken', /--worker is a target of its own/],
    ['retry a --set dead', /no set 'dead'; there are ready, broken/],
    ['kill a', /no command 'kill'; there are shout, retry, delete, pause, stop/],
  ])('%s is refused', async (words, message) => {
    const ran = run('control', 'toy', ...words.split(' '), '-u', 'toy://x');
    await expect(ran).rejects.toThrow(ConfigError);
    await expect(ran).rejects.toThrow(message);
    expect(toy.asked).toEqual([]);
  });

  test('ends with 1 where a target was gone or refused, and says which', async () => {
    toy.answer = { done: 1, gone: ['b\n'], refused: [{ id: 'c', reason: 'it runs' }] };
    await run('control', 'toy', 'retry', 'a', 'b', 'c', '-u', 'toy://x');
    expect([code, out]).toEqual([1, 'retry: 1 done, 1 gone, 1 refused\n']);
    expect(err).toBe('retry: 500 of 1000 …\nb\\n: gone\nc: refused: it runs\n');
  });

  test('prints JSON', async () => {
    await run('control', 'toy', 'retry', 'a', '--json', '-u', 'toy://x');
    expect(json.parse(out)).toEqual({ action: 'retry', done: 1, gone: [], refused: [] });
  });

  test('runs a command of the system itself', async () => {
    await run('control', 'toy', 'shout', 'w1');
    expect([code, toy.asked]).toEqual([7, []]);
  });
});
