import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import * as json from '../../protocols/formats/json.ts';
import { ConfigError } from '../../src/errors.ts';
import {
  type Action,
  ACTIONS,
  type ActResult,
  type InspectedJob,
  type Inspector,
  type JobsQuery,
  type WorkerInfo,
} from '../../src/inspector.ts';
import { until } from '../support/until.ts';

/** What is asked of every system's inspector; a system says what it lacks, and why. */
export interface InspectorSystem<Stage extends AsyncDisposable> {
  readonly name: string;
  /** A store of the suite's own. */
  readonly stage: () => Promise<Stage>;
  /** After each test: whatever it started is stopped, and the store is empty. */
  readonly reset: (stage: Stage) => Promise<void>;
  /** A new inspector; the suite closes it. `scanLimit`: a search for one page looks at so many jobs. */
  readonly inspector: (stage: Stage, options: { readonly scanLimit?: number }) => Inspector;
  /** Puts jobs into a set, in this order; resolves with the ids by which the inspector finds them. */
  readonly plant: Readonly<Record<string, (stage: Stage, jobs: readonly Planted[]) => Promise<readonly string[]>>>;
  /**
   * What each action on jobs does: from which set, and in which set the job is then; `undefined`: in none. An action that `can` says and that is neither
   * here nor in `told` fails the suite.
   */
  readonly actions: Readonly<Partial<Record<Action, { readonly from: string; readonly to: string | undefined }>>>;
  /**
   * Starts a worker of this package and a real one of another language, each of which runs one job of `queue` until the end of the test, and resolves
   * when both show it.
   */
  readonly workers?: (stage: Stage, queue: string) => Promise<readonly ShownWorker[]>;
  /** Lets a real worker of another language fail a job; resolves when the failure is stored. */
  readonly failure?: (stage: Stage) => Promise<ShownFailure>;
  /** Actions on workers: starts one, and resolves with its id and with what must become true of it. */
  readonly told?: Readonly<Partial<Record<Action, (stage: Stage) => Promise<Told>>>>;
  /** Puts these bytes where jobs wait. Absent where the store takes no bytes of its own. */
  readonly raw?: { readonly set: string; readonly put: (stage: Stage, bytes: Uint8Array) => Promise<void> };
  /** Periodic tasks: stores one, and says how it is shown. */
  readonly schedule?: (
    stage: Stage,
  ) => Promise<{ readonly name: string; readonly task: string; readonly when: string }>;
  /** Arguments that lose something in careless hands, as JSON. @default `[12345678901234567890,1.0,"é\u0000",{"a":[null,-0.5]}]` */
  readonly exactArgs?: string;
  /** Arguments as a text that shows every difference. @default `json.stringify` */
  readonly printArgs?: (args: readonly unknown[]) => string;
  /** Cases that cannot be here, each with its reason. */
  readonly without: Readonly<Record<string, string>>;
}

/** A job for a set. The system may give it another id. */
export interface Planted {
  readonly id: string;
  readonly task: string;
  /** JSON of the list of arguments. */
  readonly args: string;
  readonly queue: string;
}

export interface ShownWorker {
  readonly language: string;
  readonly running: { readonly id: string; readonly task: string };
}

export interface ShownFailure {
  readonly id: string;
  readonly set: string;
  readonly type: string;
  readonly message: string;
  /** Undefined where the system stores none. */
  readonly traceback: RegExp | undefined;
}

export interface Told {
  readonly worker: string;
  readonly becomes: () => Promise<boolean>;
}

const EXACT = '[12345678901234567890,1.0,"é\\u0000",{"a":[null,-0.5]}]';

/** Each is asked for in one set: the first that the system plants. */
export function inspectorConformance<Stage extends AsyncDisposable>(system: InspectorSystem<Stage>): void {
  const known = new Set<string>();
  const sets = Object.keys(system.plant);
  const first = sets[0] as string;
  let stage: Stage;
  const opened: Inspector[] = [];
  let number = 0;

  const open = (options: { readonly scanLimit?: number } = {}): Inspector => {
    const inspector = system.inspector(stage, options);
    opened.push(inspector);
    return inspector;
  };
  const planted = (more: Partial<Planted> = {}): Planted => {
    const id = `00000000-0000-4000-8000-${String((number += 1)).padStart(12, '0')}`;
    return { id, task: 'shop.charge', args: `[${number}]`, queue: 'inspected', ...more };
  };
  const plant = async (set: string, jobs: readonly Planted[]): Promise<readonly string[]> => {
    const put = system.plant[set];
    if (put === undefined) throw new Error(`${system.name} plants nothing in '${set}'`);
    return put(stage, jobs);
  };
  const some = (count: number, more: Partial<Planted> = {}): readonly Planted[] =>
    Array.from({ length: count }, () => planted(more));

  const check = (title: string, run: () => Promise<void>): void => {
    known.add(title);
    const reason = system.without[title];
    test.skipIf(reason !== undefined)(reason === undefined ? title : `${title} [skipped: ${reason}]`, run);
  };

  describe(`the inspector of ${system.name}`, () => {
    beforeAll(async () => {
      stage = await system.stage();
    });
    afterEach(async () => {
      for (const one of opened.splice(0)) await one.close();
      await system.reset(stage);
    });
    afterAll(() => stage[Symbol.asyncDispose]());

    describe('what there is', () => {
      check('an empty system has no jobs, and every set is an empty page', async () => {
        const inspector = open();
        expect(inspector.system).not.toBe('');
        expect(inspector.address).not.toMatch(/:[^/@]*@/);
        const { counts } = await inspector.overview();
        expect(Object.keys(counts).filter((set) => !inspector.sets.some(({ name }) => name === set))).toEqual([]);
        expect(Object.values(counts).filter((count) => count !== 0)).toEqual([]);
        for (const { name } of inspector.sets)
          expect(await inspector.jobs(name), name).toMatchObject({ jobs: [], cursor: undefined, cut: false });
        expect(await inspector.job('00000000-0000-4000-8000-ffffffffffff')).toBeUndefined();
      });

      check('the overview counts the jobs of each set', async () => {
        const inspector = open();
        const { counts: before } = await inspector.overview();
        for (const set of sets) await plant(set, some(3));
        const { counts } = await inspector.overview();
        const more = Object.fromEntries(sets.map((set) => [set, (counts[set] ?? 0) - (before[set] ?? 0)]));
        expect(more).toEqual(Object.fromEntries(sets.map((set) => [set, 3])));
      });

      check('queues have a name, a size and an age', async () => {
        const waiting = open().sets.find(({ kind, name }) => kind === 'waiting' && sets.includes(name));
        await plant(waiting?.name ?? first, some(2, { queue: 'inspected' }));
        const queue = (await open().queues()).find(({ name }) => name === 'inspected');
        expect(queue).toMatchObject({ name: 'inspected', size: 2, paused: false });
        if (queue?.latencyMs !== undefined) expect(queue.latencyMs).toBeGreaterThanOrEqual(0);
      });
    });

    describe('pages', () => {
      for (const set of sets) {
        check(`pages of ${set}: every job once, none twice`, async () => {
          const ids = await plant(set, some(60));
          const inspector = open();
          const seen = await pages(inspector, set, { limit: 25 });
          expect(seen.map(({ length }) => length)).toEqual([25, 25, 10]);
          expect(
            seen
              .flat()
              .map(({ id }) => id)
              .toSorted(),
          ).toEqual(ids.toSorted());
          expect(seen.flat().every((job) => job.set === set && job.task === 'shop.charge')).toBe(true);
          const whole = await inspector.jobs(set, { limit: 60 });
          expect(whole.jobs.map(({ id }) => id)).toEqual(seen.flat().map(({ id }) => id));
          expect(whole.cursor).toBeUndefined();
          expect([60, undefined]).toContain(whole.total);
        });
      }

      check('a set that there is not, a cursor that no page gave and a limit out of range are refused', async () => {
        const inspector = open();
        await expect(inspector.jobs('no such set')).rejects.toThrow(ConfigError);
        await expect(inspector.jobs(first, { cursor: '\u0000 no cursor' })).rejects.toThrow(ConfigError);
        for (const limit of [0, 1001, 1.5]) await expect(inspector.jobs(first, { limit })).rejects.toThrow(ConfigError);
      });

      check('a set that is kept by queue shows one queue, or all', async () => {
        const byQueue = open().sets.filter(({ name, byQueue: is }) => is && sets.includes(name));
        expect(byQueue.length, 'no set is kept by queue: say so in `without`').toBeGreaterThan(0);
        for (const { name } of byQueue) {
          const here = await plant(name, some(3, { queue: 'inspected' }));
          const there = await plant(name, some(3, { queue: 'inspected-too' }));
          const inspector = open();
          const one = await pages(inspector, name, { queue: 'inspected-too', limit: 2 });
          expect(
            one
              .flat()
              .map(({ id }) => id)
              .toSorted(),
          ).toEqual(there.toSorted());
          const all = await pages(inspector, name, { limit: 2 });
          expect(
            all
              .flat()
              .map(({ id }) => id)
              .toSorted(),
          ).toEqual([...here, ...there].toSorted());
        }
      });

      check('a filter finds jobs by task, by id and by text', async () => {
        const plain = await plant(first, some(5));
        const [odd] = await plant(first, [planted({ task: 'shop.refund', args: '["needle in the args"]' })]);
        const inspector = open();
        const found = async (filter: JobsQuery['filter']): Promise<readonly string[]> =>
          (await inspector.jobs(first, { filter: filter ?? {} })).jobs.map(({ id }) => id);
        expect(await found({ task: 'shop.refund' })).toEqual([odd]);
        expect(await found({ id: plain[2] as string })).toEqual([plain[2]]);
        expect(await found({ text: 'needle in' })).toEqual([odd]);
        expect(await found({ task: 'shop.charge', text: 'needle in' })).toEqual([]);
      });

      check('a search ends at its bound, says so, and goes on from there', async () => {
        await plant(first, some(70));
        const last = await plant(first, [planted({ task: 'shop.rare' })]);
        await plant(first, some(70));
        const inspector = open({ scanLimit: 50 });
        const filter = { task: 'shop.rare' };
        const page = await inspector.jobs(first, { filter });
        expect(page).toMatchObject({ jobs: [], cut: true });
        expect(page.cursor).toBeDefined();
        const rest = await pages(inspector, first, { filter });
        expect(rest.flat().map(({ id }) => id)).toEqual(last);
      });
    });

    describe('one job', () => {
      for (const set of sets) {
        check(`a job of ${set} is shown with its exact arguments, its bytes and what they mean`, async () => {
          const args = system.exactArgs ?? EXACT;
          const [id] = await plant(set, [planted(), planted({ args })].slice(1));
          const job = (await open().job(id as string)) as InspectedJob;
          expect(job).toMatchObject({ id, set, task: 'shop.charge', queue: 'inspected' });
          expect(job.state).not.toBe('');
          const print = system.printArgs ?? ((value: readonly unknown[]) => json.stringify(value));
          expect(print(job.args ?? [])).toBe(print(json.parseExact(args) as readonly unknown[]));
          expect(job.raw.length).toBeGreaterThan(0);
          expect(job.explanation?.summary).not.toBe('');
          expect(job.explanation?.sections.length).toBeGreaterThan(0);
          const [listed] = (await open().jobs(set)).jobs;
          expect(listed?.explanation).toBeUndefined();
        });
      }

      check('a failure of the other language is shown with its traceback', async () => {
        const failure = await failureOf();
        const inspector = open();
        const job = await inspector.job(failure.id);
        expect(job?.set).toBe(failure.set);
        expect(job?.error).toMatchObject({ type: failure.type, message: failure.message });
        if (failure.traceback === undefined) expect(job?.error?.traceback).toBeUndefined();
        else expect(job?.error?.traceback).toMatch(failure.traceback);
        expect(Math.abs((job?.error?.at?.getTime() ?? Date.now()) - Date.now())).toBeLessThan(120_000);
        const listed = (await inspector.jobs(failure.set)).jobs.find(({ id }) => id === failure.id);
        expect(listed?.error).toEqual(job?.error);
      });
    });

    describe('workers and schedules', () => {
      check('workers of both languages are shown with what they run', async () => {
        if (system.workers === undefined) throw new Error('no hook `workers`: say why in `without`');
        const shown = await system.workers(stage, 'inspected');
        const inspector = open();
        const workers = await inspector.workers();
        for (const { language, running } of shown) {
          const own = workers.filter((one) => one.language === language);
          expect(own.length, language).toBeGreaterThan(0);
          const runs = own.flatMap((one) => one.running.map(({ id, task }) => ({ id, task })));
          expect(runs).toContainEqual(running);
          expect(own.some(({ queues }) => queues.includes('inspected'))).toBe(true);
          for (const one of own) expect(one.id).not.toBe('');
        }
        const { workers: count, busy } = await inspector.overview();
        expect(count).toBeGreaterThanOrEqual(shown.length);
        expect(busy).toBeGreaterThanOrEqual(shown.length);
        const consumers = (await inspector.queues()).find(({ name }) => name === 'inspected')?.consumers;
        if (consumers !== undefined) expect(consumers).toBeGreaterThanOrEqual(shown.length);
      });

      check('a periodic task is shown as it is stored', async () => {
        if (system.schedule === undefined) throw new Error('no hook `schedule`: say why in `without`');
        expect(await open().schedules()).toEqual([]);
        const { name, task, when } = await system.schedule(stage);
        expect(await open().schedules()).toMatchObject([{ name, task, when, enabled: true }]);
      });
    });

    describe('actions', () => {
      const onJobs = ACTIONS.filter((action) => system.actions[action] !== undefined);

      /** The ids that are in a set. */
      const inSet = async (set: string | undefined): Promise<readonly string[]> =>
        set === undefined ? [] : (await pages(open(), set, { limit: 1_000 })).flat().map(({ id }) => id);
      const moved = async (action: Action, ids: readonly string[]): Promise<void> => {
        const { from, to } = system.actions[action] as { readonly from: string; readonly to: string | undefined };
        if (from !== to) expect((await inSet(from)).filter((id) => ids.includes(id))).toEqual([]);
        if (to !== undefined)
          expect((await inSet(to)).filter((id) => ids.includes(id)).toSorted(), `in ${to}`).toEqual(ids.toSorted());
      };

      for (const action of onJobs) {
        const { from } = system.actions[action] as { readonly from: string };

        check(`${action}: one job`, async () => {
          const [id, other] = await plant(from, some(2));
          const inspector = open();
          expect(await inspector.act(action, { ids: [id as string], set: from })).toEqual(done(1));
          await moved(action, [id as string]);
          expect(await inSet(from)).toContain(other);
        });

        check(`${action}: several jobs, without saying where they are`, async () => {
          const ids = await plant(from, some(5));
          expect(await open().act(action, { ids: ids.slice(0, 4) })).toEqual(done(4));
          await moved(action, ids.slice(0, 4));
          expect(await inSet(from)).toEqual([ids[4]]);
        });

        check(`${action}: a job that is not there is gone`, async () => {
          const ids = await plant(from, some(2));
          const inspector = open();
          const missing = '00000000-0000-4000-8000-eeeeeeeeeeee';
          expect(await inspector.act(action, { ids: [missing, ids[0] as string], set: from })).toEqual({
            ...done(1),
            gone: [missing],
          });
          // What was done is done once.
          if (system.actions[action]?.from !== system.actions[action]?.to)
            expect(await inspector.act(action, { ids: [ids[0] as string], set: from })).toEqual({
              ...done(0),
              gone: [ids[0]],
            });
        });

        check(`${action}: all jobs that match, in steps`, async () => {
          const wanted = await plant(from, some(130, { task: 'shop.refund' }));
          const others = await plant(from, some(3));
          const steps: number[] = [];
          const result = await open().act(
            action,
            { set: from, filter: { task: 'shop.refund' } },
            { onProgress: ({ done: count }) => steps.push(count) },
          );
          expect(result).toEqual(done(130));
          expect(steps.length).toBeGreaterThan(0);
          expect(steps).toEqual(steps.toSorted((a, b) => a - b));
          await moved(action, wanted);
          expect((await inSet(from)).toSorted()).toEqual(others.toSorted());
        });

        check(`${action}: twice at once does it once`, async () => {
          const ids = await plant(from, some(40));
          const results = await Promise.all([1, 2].map(() => open().act(action, { ids, set: from })));
          expect(sum(results)).toBe(40);
          await moved(action, ids);
        });

        check(`${action}: twice at once to a whole set does it once`, async () => {
          const ids = await plant(from, some(40));
          const results = await Promise.all([1, 2].map(() => open().act(action, { set: from })));
          expect(sum(results)).toBe(40);
          await moved(action, ids);
        });
      }

      check('delete: a queue is emptied', async () => {
        const waiting = open().sets.find(
          ({ kind, byQueue, name }) => kind === 'waiting' && byQueue && sets.includes(name),
        );
        const set = waiting?.name ?? first;
        await plant(set, some(3, { queue: 'inspected' }));
        const kept = await plant(set, some(2, { queue: 'inspected-too' }));
        const inspector = open();
        expect(await inspector.act('delete', { queue: 'inspected' })).toMatchObject({ gone: [], refused: [] });
        expect((await inSet(set)).toSorted()).toEqual(kept.toSorted());
      });

      check('pause and resume: a queue', async () => {
        const waiting = open().sets.find(({ kind, name }) => kind === 'waiting' && sets.includes(name));
        await plant(waiting?.name ?? first, some(1));
        const inspector = open();
        const paused = async (): Promise<unknown> =>
          (await inspector.queues()).find(({ name }) => name === 'inspected')?.paused;
        expect(await inspector.act('pause', { queue: 'inspected' })).toMatchObject({ done: 1, refused: [] });
        expect(await paused()).toBe(true);
        expect(await inspector.act('resume', { queue: 'inspected' })).toMatchObject({ done: 1, refused: [] });
        expect(await paused()).toBe(false);
      });

      for (const action of ACTIONS) {
        const tell = system.told?.[action];
        if (tell === undefined) continue;
        check(`${action}: a worker`, async () => {
          const { worker, becomes } = await tell(stage);
          const inspector = open();
          expect(await inspector.act(action, { worker })).toEqual(done(1));
          await until(`the worker has done: ${action}`, becomes);
          const missing = `no-such-host:1:${action}`;
          expect(await inspector.act(action, { worker: missing })).toMatchObject({ done: 0, gone: [missing] });
        });
      }

      check('every action that can be done is tested here', () => {
        const { can } = open();
        const tested = new Set<string>([...Object.keys(system.actions), ...Object.keys(system.told ?? {})]);
        if (!('pause and resume: a queue' in system.without)) tested.add('pause').add('resume');
        expect(ACTIONS.filter((action) => can[action] && !tested.has(action))).toEqual([]);
        expect(ACTIONS.filter((action) => !can[action] && system.actions[action] !== undefined)).toEqual([]);
        return Promise.resolve();
      });

      check('an action that cannot be done is refused, and so is one on an unfit target', async () => {
        const inspector = open();
        const ids = ['00000000-0000-4000-8000-dddddddddddd'];
        for (const action of ACTIONS.filter((one) => !inspector.can[one]))
          await expect(inspector.act(action, { ids }), action).rejects.toThrow(ConfigError);
        for (const action of onJobs)
          await expect(inspector.act(action, { set: 'no such set' }), action).rejects.toThrow(ConfigError);
        for (const action of onJobs.filter((one) => one !== 'delete' && system.told?.[one] === undefined))
          await expect(inspector.act(action, { worker: 'host:1' }), action).rejects.toThrow(ConfigError);
      });
    });

    describe('hostile contents', () => {
      const hostile: readonly Uint8Array[] = [
        Buffer.from([0xff, 0xfe, 0x00, 0x1b, 0x5b, 0x33, 0x31, 0x6d]),
        Buffer.from('{"class":'),
        Buffer.from('[]'),
        Buffer.from('null'),
        Buffer.from(''),
      ];

      check('bytes that are no job are shown, found by their id, and deleted', async () => {
        const { raw } = system;
        if (raw === undefined) throw new Error('no hook `raw`: say why in `without`');
        const [sane] = await plant(raw.set, some(1));
        for (const bytes of hostile) await raw.put(stage, bytes);
        const inspector = open();
        const { jobs } = await inspector.jobs(raw.set);
        expect(jobs).toHaveLength(hostile.length + 1);
        expect(new Set(jobs.map(({ id }) => id)).size).toBe(jobs.length);
        expect(jobs.map(({ raw: bytes }) => hex(bytes))).toEqual(expect.arrayContaining(hostile.map(hex)));
        for (const { id, raw: bytes } of jobs) {
          const job = await inspector.job(id);
          expect(job === undefined ? undefined : hex(job.raw)).toBe(hex(bytes));
        }
        if (inspector.can.delete) {
          const ids = jobs.map(({ id }) => id).filter((id) => id !== sane);
          expect(await inspector.act('delete', { ids, set: raw.set })).toEqual(done(hostile.length));
          expect((await inspector.jobs(raw.set)).jobs.map(({ id }) => id)).toEqual([sane]);
        }
      });

      check('names and texts with control characters are shown as they are', async () => {
        const task = 'shop.\u001b[31mred\u0007';
        const [id] = await plant(first, [planted({ id: 'id\u001b[2J "é*?[', task })]);
        const inspector = open();
        expect((await inspector.jobs(first)).jobs).toMatchObject([{ id, task }]);
        expect(await inspector.job(id as string)).toMatchObject({ id, task });
        expect((await inspector.jobs(first, { filter: { task } })).jobs).toHaveLength(1);
      });
    });

    const failureOf = (): Promise<ShownFailure> => {
      if (system.failure === undefined) throw new Error('no hook `failure`: say why in `without`');
      return system.failure(stage);
    };

    test('nothing is missing for a case that is not here', () => {
      expect(Object.keys(system.without).filter((title) => !known.has(title))).toEqual([]);
    });
  });
}

/** Every page, by its cursor. */
async function pages(
  inspector: Inspector,
  set: string,
  query: JobsQuery,
): Promise<readonly (readonly InspectedJob[])[]> {
  const found: (readonly InspectedJob[])[] = [];
  for (let cursor: string | undefined; ;) {
    const page = await inspector.jobs(set, { ...query, ...(cursor === undefined ? {} : { cursor }) });
    found.push(page.jobs);
    if (page.cut) expect(page.cursor).toBeDefined();
    cursor = page.cursor;
    if (cursor === undefined) return found;
  }
}

function done(count: number): ActResult {
  return { done: count, gone: [], refused: [] };
}

function sum(results: readonly ActResult[]): number {
  return results.reduce((total, one) => total + one.done, 0);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** Resolves when the inspector shows what `workers` started: for hooks. */
export async function shownRunning(
  inspector: Inspector,
  matches: (worker: WorkerInfo) => boolean,
  running: number,
): Promise<void> {
  await until('workers show what they run', async () => {
    const workers = (await inspector.workers()).filter(matches);
    return workers.reduce((sumOf, one) => sumOf + one.running.length, 0) >= running;
  });
}
