import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { silent } from '../../src/log.ts';
import { Postpone } from '../../src/signals.ts';
import { type Host, pause, type Source, type UnknownTaskPolicy } from '../../src/source.ts';
import type { WorkerEvents } from '../../src/worker/events.ts';
import type { Middleware } from '../../src/worker/middleware.ts';
import { Worker } from '../../src/worker/worker.ts';
import { PATIENCE_MS, until } from '../support/until.ts';
import { AGAIN, LATER, OTHER, SCRIPT, type Script, ScriptedHandlers } from './script.ts';

/** What is asked of every system; a system says what it lacks, and why. */
export interface System<Store extends AsyncDisposable> {
  readonly name: string;
  /** A store of the test's own. `durable`: it keeps what it holds over `restart`. */
  readonly store: (options: { readonly durable: boolean }) => Promise<Store>;
  /** Stop it, start it again. `between` runs while it is away. Undefined where there is no server. */
  readonly restart?: (store: Store, between: () => Promise<void>) => Promise<void>;
  readonly source: (store: Store, options: SourceOptions) => Source;
  readonly client: (store: Store) => Sender;
  /** Past our own client and codec. */
  readonly raw: (store: Store) => Raw;
  /** Around every handler: for a system without results, what keeps them for the test. */
  readonly middleware?: (store: Store) => readonly Middleware[];
  /** Jobs have keyword arguments. @default true */
  readonly keywords?: boolean;
  /** Cases that cannot be here, each with its reason. */
  readonly without: Readonly<Record<string, string>>;
}

export interface SourceOptions {
  readonly queues: readonly string[];
  readonly concurrency: number;
  /** Acknowledge after the run, where the system leaves the choice. */
  readonly late: boolean;
  /** The first pause of an unknown task is 200 ms in every system. @default 'requeue' */
  readonly unknownTask?: UnknownTaskPolicy;
}

export interface Call {
  readonly task?: string;
  readonly queue: string;
  readonly script: Script;
  readonly kwargs?: Readonly<Record<string, unknown>>;
  readonly id?: string;
  readonly delayMs?: number;
  readonly at?: Date;
  readonly expiresAt?: Date;
  readonly timeoutMs?: number;
  readonly softTimeoutMs?: number;
}

export interface Sender {
  send(call: Call): Promise<string>;
  close(): Promise<void>;
}

export interface StoredResult {
  readonly state: 'succeeded' | 'failed' | 'retrying' | 'cancelled' | (string & {});
  /** The value as JSON.parse has it. */
  readonly value: unknown;
  readonly error: { readonly type: string; readonly message: string } | undefined;
  /** The whole record, as stored. */
  readonly text: string;
}

/** A message as somebody else writes it: a script's arguments as JSON text, and a field that nobody here knows. */
export interface Foreign {
  readonly task: string;
  readonly id: string;
  /** JSON of the list of arguments. */
  readonly args: string;
  readonly at?: string;
  readonly extra?: Readonly<Record<string, unknown>>;
}

export interface Raw {
  put(queue: string, bytes: Uint8Array): Promise<void>;
  message(queue: string, foreign: Foreign): Uint8Array;
  /** What waits, the next to run first. */
  waiting(queue: string): Promise<readonly Buffer[]>;
  /** The id in a message's bytes. */
  idOf(bytes: Buffer): string;
  argsOf(bytes: Buffer): string;
  /** How many messages are claimed and not settled. */
  claimed(): Promise<number>;
  /** What was set aside, and why. */
  aside(queue: string): Promise<readonly { readonly bytes: Buffer; readonly reason: string }[]>;
  result(id: string): Promise<StoredResult | undefined>;
  /** Postponed jobs of a queue, wherever this system keeps them: its schedule, a queue of delays, the claims of the worker. */
  postponed?(queue: string): Promise<readonly Buffer[]>;
  /** What of a message stays as it is when the job goes back: without a mark that it was delivered before. @default all of it */
  lasting?(bytes: Buffer): unknown;
}

interface Held<Store> {
  readonly store: Store;
  readonly raw: Raw;
  readonly sender: Sender;
}

/** The worker of a test, and what became of its jobs. */
class TestWorker implements AsyncDisposable {
  readonly worker: Worker;
  readonly poison: WorkerEvents['job:poison'][] = [];
  readonly #settled = new Map<string, WorkerEvents['job:settled'][]>();

  constructor(worker: Worker) {
    this.worker = worker;
    worker.on('job:settled', (event) => {
      this.#settled.set(event.job.id, [...this.settledOf(event.job.id), event]);
    });
    worker.on('job:poison', (event) => this.poison.push(event));
  }

  /** In the order of the runs: the next one may be over before the last is settled. */
  settledOf(id: string): readonly WorkerEvents['job:settled'][] {
    return (this.#settled.get(id) ?? []).toSorted((a, b) => a.job.attempt - b.job.attempt);
  }

  /** Resolves when so many runs of this job are settled, with the last one's disposition. */
  async settled(id: string, runs = 1): Promise<string> {
    if (this.settledOf(id).length < runs)
      await this.worker.once('job:settled', ({ job }) => job.id === id && this.settledOf(id).length >= runs);
    return this.settledOf(id)[runs - 1]?.disposition.state ?? '';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.worker.stop({ timeoutMs: 0 });
  }
}

/** What a source may ask of its worker, without one. */
function hostOf({ tasks }: ScriptedHandlers): Host {
  return {
    identity: { hostname: 'conformance', pid: process.pid, nonce: randomUUID().slice(0, 12) },
    tasks,
    log: silent,
    cancel: () => false,
    unknownHeld: () => 0,
    resized: () => {},
    poison: () => {},
    quiet: () => {},
    stop: () => {},
  };
}

let queues = 0;

export function conformance<Store extends AsyncDisposable>(system: System<Store>): void {
  const known = new Set<string>();
  let held: Held<Store>;
  let hands: ScriptedHandlers;
  let queue: string;
  const crews: TestWorker[] = [];

  const sourceOf = (options: Partial<SourceOptions> = {}): Source =>
    system.source(held.store, { queues: [queue], concurrency: 4, late: false, ...options });
  const startWorker = async (
    options: Partial<SourceOptions> = {},
    run: { readonly hands?: ScriptedHandlers; readonly middleware?: readonly Middleware[] } = {},
  ): Promise<TestWorker> => {
    const testWorker = new TestWorker(workerOf(sourceOf(options), run));
    crews.push(testWorker);
    await testWorker.worker.start();
    return testWorker;
  };
  const workerOf = (
    source: Source,
    { hands: own = hands, middleware: more = [] }: Parameters<typeof startWorker>[1] = {},
  ): Worker => {
    const middleware = [...(system.middleware?.(held.store) ?? []), ...more];
    return new Worker({ tasks: own.tasks, sources: [source], middleware, abortGraceMs: 200 });
  };
  const postponed = (): Promise<readonly Buffer[]> => {
    if (held.raw.postponed === undefined)
      throw new Error(`${system.name}: say where postponed jobs stand: Raw.postponed`);
    return held.raw.postponed(queue);
  };
  /** Of the next to run first. */
  const lasting = async (of = queue): Promise<readonly unknown[]> =>
    (await held.raw.waiting(of)).map((bytes) => held.raw.lasting?.(bytes) ?? String(bytes));
  const send = (script: Script, call: Partial<Call> = {}): Promise<string> =>
    held.sender.send({ queue, script, ...call });
  const put = (foreign: Foreign): Promise<void> => held.raw.put(queue, held.raw.message(queue, foreign));
  const started = (id: string, runs = 1): Promise<void> =>
    until(`run ${runs} of ${id} has started`, () => hands.runsOf(id).length >= runs);
  const emptied = (what = 'nothing waits and nothing is claimed'): Promise<void> =>
    until(what, async () => (await held.raw.waiting(queue)).length === 0 && (await held.raw.claimed()) === 0);
  const waitingIds = async (): Promise<readonly string[]> =>
    (await held.raw.waiting(queue)).map((bytes) => held.raw.idOf(bytes));
  const resultOf = async (id: string): Promise<StoredResult> => {
    const result = await held.raw.result(id);
    if (result === undefined) throw new Error(`no result of ${id}`);
    return result;
  };

  /** A case, or the gap in its place. */
  const it = (name: string, check: () => Promise<void>): void => {
    known.add(name);
    const gap = system.without[name];
    test(gap === undefined ? name : `${name} [skipped: ${gap}]`, async ({ skip }) => {
      if (gap !== undefined) return skip(gap);
      await check();
    });
  };

  const stage = (durable: boolean): void => {
    beforeAll(async () => {
      const store = await system.store({ durable });
      held = { store, raw: system.raw(store), sender: system.client(store) };
    });
    beforeEach(() => {
      hands = new ScriptedHandlers();
      queue = `${system.name}-${++queues}`;
    });
    afterEach(async () => {
      for (const testWorker of crews.splice(0)) await testWorker[Symbol.asyncDispose]();
    });
    afterAll(async () => {
      await held.sender.close();
      await held.store[Symbol.asyncDispose]();
    });
  };

  describe(system.name, () => {
    describe('on a running store', () => {
      stage(false);

      describe('values', () => {
        const comesBack = async (value: unknown): Promise<void> => {
          const testWorker = await startWorker();
          const kwargs = system.keywords === false ? {} : { value };
          await testWorker.settled(await sendAs('id', ['echo', value], { kwargs }));
          expect((await resultOf(ids['id'] as string)).value).toEqual([[value], kwargs]);
        };
        const ids: Record<string, string> = {};
        const sendAs = async (name: string, script: Script, call: Partial<Call> = {}): Promise<string> =>
          (ids[name] = await send(script, call));

        it('unicode comes back as it was', () => comesBack('zwölf · 中文 · العربية · 🎉 · \u0000 · \u2028 · "\\'));
        it('nothing comes back as nothing', async () => {
          const testWorker = await startWorker();
          const id = await send(['echo']);
          await testWorker.settled(id);
          expect((await resultOf(id)).value).toEqual([[], {}]);
        });
        it('empty texts, lists and maps stay what they are', () => comesBack(['', [], {}, [[]], { '': '' }]));
        it('null, true and false stay what they are', () => comesBack([null, true, false]));
        it('a hundred levels of nesting come back', () => {
          let value: unknown = 'inside';
          for (let level = 0; level < 50; level++) value = { list: [value] };
          return comesBack(value);
        });
        it('floats come back to the last digit', () => comesBack([0.1 + 0.2, 1.5e300, 5e-324, -1.25, 1e21]));
        it('names that JavaScript gives meaning are plain names', () =>
          comesBack(JSON.parse('{"__proto__": 1, "constructor": 2, "toString": 3}')));
        it('integers beyond 2^53 keep every digit', async () => {
          const testWorker = await startWorker();
          const id = await send(['echo', 18_446_744_073_709_551_617n, -9_007_199_254_740_993n]);
          await testWorker.settled(id);
          const { text } = await resultOf(id);
          expect(text).toContain('18446744073709551617');
          expect(text).toContain('-9007199254740993');
        });
        it('a float of a whole number, put by somebody else, is run', async () => {
          const testWorker = await startWorker();
          const id = randomUUID();
          await put({ task: SCRIPT, id, args: '["echo", 1.0]' });
          await testWorker.settled(id);
          expect((await resultOf(id)).state).toBe('succeeded');
        });
        it('bytes come back as bytes', async () => {
          const testWorker = await startWorker();
          const id = await send(['echo', Buffer.from([0, 255, 10])]);
          await testWorker.settled(id);
          const { value } = await resultOf(id);
          expect(value).toMatchObject([[{ __type__: 'base64', __value__: 'AP8K' }], {}]);
        });
      });

      describe('outcomes', () => {
        it('success: the value is stored, nothing is left in the queue', async () => {
          const testWorker = await startWorker();
          const id = await send(['ok', { answer: 42 }]);
          expect(await testWorker.settled(id)).toBe('succeeded');
          expect(await resultOf(id)).toMatchObject({ state: 'succeeded', value: { answer: 42 } });
          await emptied();
        });
        it('success without a value is stored as null', async () => {
          const testWorker = await startWorker();
          const id = await send(['ok', undefined]);
          await testWorker.settled(id);
          expect(await resultOf(id)).toMatchObject({ state: 'succeeded', value: null });
        });
        it('error: the failure is stored with its type and message', async () => {
          const testWorker = await startWorker();
          const id = await send(['error', 'ValueError', 'no such thing: ü']);
          expect(await testWorker.settled(id)).toBe('failed');
          const error = { type: 'ValueError', message: 'no such thing: ü' };
          expect(await resultOf(id)).toMatchObject({ state: 'failed', error });
          await emptied();
        });
        it('fail: no retry, whatever the policy of the task', async () => {
          const testWorker = await startWorker();
          const id = await send(['fail', 'never'], { task: AGAIN });
          expect(await testWorker.settled(id)).toBe('failed');
          expect(await resultOf(id)).toMatchObject({ state: 'failed', error: { message: 'never' } });
          expect(hands.runsOf(id)).toHaveLength(1);
          await emptied();
        });
        it('discard: no result, and nothing is left in the queue', async () => {
          const testWorker = await startWorker();
          const id = await send(['discard']);
          expect(await testWorker.settled(id)).toBe('discarded');
          expect(await held.raw.result(id)).toBeUndefined();
          await emptied();
        });
        it('timeout: a handler that hears nothing is settled as failed at its limit', async () => {
          const testWorker = await startWorker();
          const id = await send(['deaf'], { timeoutMs: 200 });
          expect(await testWorker.settled(id)).toBe('failed');
          expect(await resultOf(id)).toMatchObject({ state: 'failed', error: { type: 'TimeLimitExceeded' } });
          await emptied();
        });
        it('a handler that lets its soft limit pass through fails by that limit', async () => {
          const testWorker = await startWorker();
          const id = await send(['hang'], { softTimeoutMs: 100, timeoutMs: 20_000 });
          expect(await testWorker.settled(id)).toBe('failed');
          expect(await resultOf(id)).toMatchObject({ state: 'failed', error: { type: 'SoftTimeLimitExceeded' } });
        });
        it('a value that cannot be written fails the job', async () => {
          const testWorker = await startWorker();
          const id = await send(['unwritable']);
          expect(await testWorker.settled(id)).toBe('failed');
          expect((await resultOf(id)).state).toBe('failed');
          await emptied();
        });
        it("a state of the handler's own is stored while it runs, and the result after it", async () => {
          const testWorker = await startWorker();
          const id = await send(['progress', 'done']);
          await until('the state is stored', async () => (await held.raw.result(id))?.state === 'PROGRESS');
          expect((await resultOf(id)).value).toEqual({ step: 1 });
          hands.open('done');
          expect(await testWorker.settled(id)).toBe('succeeded');
          expect((await resultOf(id)).value).toBe('passed');
        });
        it('cancelled: a running job that is cancelled is stored as such', async () => {
          const source = sourceOf({ concurrency: 1 });
          let cancel: (id: string) => boolean = () => false;
          const spy: Source = Object.create(source, {
            open: {
              value: (host: Parameters<Source['open']>[0]) => {
                cancel = (id) => host.cancel(id, 'not needed any more');
                return source.open(host);
              },
            },
            receive: { value: source.receive.bind(source) },
            quiet: { value: source.quiet.bind(source) },
            close: { value: source.close.bind(source) },
          }) as Source;
          const testWorker = new TestWorker(workerOf(spy));
          crews.push(testWorker);
          await testWorker.worker.start();
          const id = await send(['hang']);
          await started(id);
          expect(cancel(id)).toBe(true);
          expect(await testWorker.settled(id)).toBe('cancelled');
          expect((await resultOf(id)).state).toBe('cancelled');
          await emptied();
        });
      });

      describe('retries', () => {
        it('a job that asks for it runs again, and says which attempt it is', async () => {
          const testWorker = await startWorker();
          const id = await send(['retry', 2, 0]);
          expect(await testWorker.settled(id, 3)).toBe('succeeded');
          expect(hands.runsOf(id).map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
          expect(await resultOf(id)).toMatchObject({ state: 'succeeded', value: 3 });
          await emptied();
        });
        it('a retry waits for its delay', async () => {
          const testWorker = await startWorker();
          const id = await send(['retry', 1, 400]);
          await testWorker.settled(id, 2);
          const [first, second] = hands.runsOf(id);
          expect(second!.at - first!.at).toBeGreaterThanOrEqual(399);
        });
        it('between the runs the result says that it will run again', async () => {
          const testWorker = await startWorker();
          const id = await send(['retry', 1, 60_000]);
          expect(await testWorker.settled(id)).toBe('retrying');
          expect(await resultOf(id)).toMatchObject({ state: 'retrying', error: { message: 'attempt 1' } });
        });
        it("errors are retried as often as the task's policy says, then stored as they are", async () => {
          const testWorker = await startWorker();
          const id = await send(['error', 'ValueError', 'still'], { task: AGAIN });
          expect(await testWorker.settled(id, 3)).toBe('failed');
          expect(hands.runsOf(id)).toHaveLength(3);
          expect(await resultOf(id)).toMatchObject({
            state: 'failed',
            error: { type: 'ValueError', message: 'still' },
          });
          await emptied();
        });
        it('a retry outlives the worker that asked for it', async () => {
          const first = await startWorker();
          const id = await send(['error', 'ValueError', 'once more'], { task: LATER });
          expect(await first.settled(id)).toBe('retrying');
          await first.worker.stop();
          expect(await waitingIds()).toEqual([id]);
          const second = await startWorker();
          expect(await second.settled(id)).toBe('failed');
          expect(hands.runsOf(id).map(({ attempt }) => attempt)).toEqual([1, 2]);
        });
        it('what somebody else wrote is retried in its own words', async () => {
          const testWorker = await startWorker();
          const id = randomUUID();
          const args = '["retry", 1, 60000, 1.0, 12345678901234567890123]';
          await put({ task: SCRIPT, id, args, extra: { 'x-future': { kept: [1] } } });
          await testWorker.settled(id);
          await testWorker.worker.stop();
          const [message] = await held.raw.waiting(queue);
          expect(held.raw.argsOf(message!)).toContain(args);
          expect(String(message)).toMatch(/"x-future": ?\{"kept": ?\[1\]\}/);
        });
      });

      describe('postponed jobs', () => {
        it('a postponed job runs again after its delay, and no attempt is counted', async () => {
          const testWorker = await startWorker();
          const id = await send(['postpone', 2, 400]);
          expect(await testWorker.settled(id)).toBe('postponed');
          await until('it has run three times', () => hands.runsOf(id).length === 3);
          await testWorker.settled(id, 3);
          expect(hands.runsOf(id).map(({ attempt }) => attempt)).toEqual([1, 1, 1]);
          const [first, second, third] = hands.runsOf(id);
          expect(second!.at - first!.at).toBeGreaterThanOrEqual(399);
          expect(third!.at - second!.at).toBeGreaterThanOrEqual(399);
          expect(await resultOf(id)).toMatchObject({ state: 'succeeded', value: 3 });
          await emptied();
        });
        it('a postponed job is an ordinary job in the store, and no error is recorded', async () => {
          const testWorker = await startWorker();
          const id = await send(['postpone', 1, 60_000], { task: AGAIN });
          await testWorker.settled(id);
          expect((await postponed()).map((bytes) => held.raw.idOf(bytes))).toEqual([id]);
          expect(await held.raw.result(id)).toBeUndefined();
          expect(await held.raw.aside(queue)).toEqual([]);
        });
        it('a postponed job keeps what other programs wrote into it', async () => {
          const testWorker = await startWorker();
          const id = randomUUID();
          const args = '["postpone", 1, 60000, 1.0, 12345678901234567890123]';
          await put({ task: SCRIPT, id, args, extra: { 'x-future': { kept: [1] } } });
          await testWorker.settled(id);
          const [message] = await postponed();
          expect(held.raw.argsOf(message!)).toContain(args);
          expect(String(message)).toMatch(/"x-future": ?\{"kept": ?\[1\]\}/);
        });
        it('other jobs of the queue run while one is postponed', async () => {
          const testWorker = await startWorker({ concurrency: 1 });
          const id = await send(['postpone', 1, 60_000]);
          await testWorker.settled(id);
          expect(await testWorker.settled(await send(['ok', 'now']))).toBe('succeeded');
          expect(hands.runsOf(id)).toHaveLength(1);
        });
        it('a postponed job outlives a worker that stops at once', async () => {
          const first = await startWorker();
          const id = await send(['postpone', 1, 1_500]);
          await first.settled(id);
          await first.worker.stop({ timeoutMs: 0 });
          const second = await startWorker();
          expect(await second.settled(id)).toBe('succeeded');
          expect(hands.runsOf(id)).toHaveLength(2);
          expect(await resultOf(id)).toMatchObject({ state: 'succeeded', value: 2 });
          await emptied();
        });
        it('a postponed job outlives a source that is closed without a word', async () => {
          const id = await send(['ok', 'after all']);
          const source = sourceOf();
          await source.open(hostOf(hands));
          const stop = new AbortController();
          let deliveries: Awaited<ReturnType<Source['receive']>> = [];
          await until('it is received', async () => {
            deliveries = await source.receive(1, stop.signal);
            return deliveries.length > 0;
          });
          await deliveries[0]!.begin();
          await deliveries[0]!.settle({ kind: 'postpone', delayMs: 1_000, reason: 'not now' });
          stop.abort();
          await source.close();
          const testWorker = await startWorker();
          expect(await testWorker.settled(id)).toBe('succeeded');
          await emptied();
        });
        it('a job that a middleware postpones for a second runs at most twice in two seconds', async () => {
          let runs = 0;
          const later: Middleware = () => {
            runs++;
            throw new Postpone({ delayMs: 1_000 });
          };
          const testWorker = await startWorker({}, { middleware: [later] });
          await testWorker.settled(await send(['ok', 1]));
          await pause(1_900);
          expect(runs).toBeLessThanOrEqual(2);
        });
      });

      describe('time', () => {
        it('a delayed job does not run before its time', async () => {
          const testWorker = await startWorker();
          const sentAt = Date.now();
          const id = await send(['ok', 1], { delayMs: 400 });
          await testWorker.settled(id);
          expect(hands.runsOf(id)[0]!.at - sentAt).toBeGreaterThanOrEqual(399);
        });
        it('a job whose time has passed runs at once', async () => {
          const testWorker = await startWorker();
          const id = await send(['ok', 1], { at: new Date(Date.now() - 3_600_000) });
          expect(await testWorker.settled(id)).toBe('succeeded');
        });
        it('a delayed job holds up nobody', async () => {
          const testWorker = await startWorker({ concurrency: 1 });
          await send(['ok', 'late'], { delayMs: 60_000 });
          expect(await testWorker.settled(await send(['ok', 'now']))).toBe('succeeded');
        });
        it('a time with an offset, by a clock of another zone, is the same time', async () => {
          const testWorker = await startWorker();
          const id = randomUUID();
          const now = Date.now();
          const local = new Date(now + 300 + 5.5 * 3_600_000).toISOString().replace('Z', '000+05:30');
          await put({ task: SCRIPT, id, args: '["ok", 1]', at: local });
          await testWorker.settled(id);
          expect(hands.runsOf(id)[0]!.at - now).toBeGreaterThanOrEqual(299);
          expect(hands.runsOf(id)[0]!.at - now).toBeLessThan(PATIENCE_MS);
        });
        it('an expired job is not run, and its result says so', async () => {
          const id = await send(['ok', 1], { expiresAt: new Date(Date.now() - 1_000) });
          await startWorker();
          await until('its result is stored', async () => (await held.raw.result(id)) !== undefined);
          expect((await resultOf(id)).state).toBe('cancelled');
          expect(hands.runs).toEqual([]);
          await emptied();
        });
        it('a job that expires while it waits for its time is not run', async () => {
          await startWorker();
          const id = await send(['ok', 1], { delayMs: 300, expiresAt: new Date(Date.now() + 150) });
          await until('its result is stored', async () => (await held.raw.result(id)) !== undefined);
          expect((await resultOf(id)).state).toBe('cancelled');
          expect(hands.runs).toEqual([]);
        });
      });

      describe('shutdown', () => {
        it('quiet gives back what waits, in its order, and running jobs go on', async () => {
          const first = await send(['gate', 'first']);
          const rest = [await send(['ok', 1]), await send(['ok', 2]), await send(['ok', 3])];
          const testWorker = await startWorker({ concurrency: 1 });
          await started(first);
          await testWorker.worker.quiet();
          expect(await waitingIds()).toEqual(rest);
          hands.open('first');
          expect(await testWorker.settled(first)).toBe('succeeded');
        });
        it('quiet gives back what waits for its time', async () => {
          const testWorker = await startWorker();
          const id = await send(['ok', 1], { delayMs: 60_000 });
          await until('it is claimed', async () => (await held.raw.claimed()) === 1);
          await testWorker.worker.quiet();
          expect(await waitingIds()).toEqual([id]);
          expect(await held.raw.claimed()).toBe(0);
        });
        it('stop waits for a running job', async () => {
          const testWorker = await startWorker();
          const id = await send(['gate', 'end']);
          await started(id);
          const stopped = testWorker.worker.stop();
          hands.open('end');
          await stopped;
          expect((await resultOf(id)).value).toBe('passed');
          expect(await waitingIds()).toEqual([]);
        });
        it('a job that does not end in time is given back to the head of its queue, and runs again', async () => {
          const id = await send(['hang']);
          const next = await send(['ok', 1]);
          const testWorker = await startWorker({ concurrency: 1, late: true });
          await started(id);
          await testWorker.worker.stop({ timeoutMs: 50 });
          expect(await waitingIds()).toEqual([id, next]);
          await startWorker({ concurrency: 1, late: true });
          await started(id, 2);
          expect(hands.runsOf(id).map(({ attempt }) => attempt)).toEqual([1, 1]);
        });
        it('a handler that does not hear is given back without it', async () => {
          const testWorker = await startWorker({ concurrency: 1, late: true });
          const id = await send(['deaf']);
          await started(id);
          await testWorker.worker.stop({ timeoutMs: 0 });
          expect(await waitingIds()).toEqual([id]);
          expect(await held.raw.claimed()).toBe(0);
        });
        it('a second, shorter stop hurries the first', async () => {
          const testWorker = await startWorker({ concurrency: 1, late: true });
          const id = await send(['hang']);
          await started(id);
          const stopped = testWorker.worker.stop({ timeoutMs: 60_000 });
          void testWorker.worker.stop({ timeoutMs: 0 });
          await stopped;
          expect(await waitingIds()).toEqual([id]);
        });
        it('a job acknowledged at its start that is stopped ends as one whose worker was lost', async () => {
          const testWorker = await startWorker({ late: false });
          const id = await send(['hang']);
          await started(id);
          await testWorker.worker.stop({ timeoutMs: 0 });
          expect(await resultOf(id)).toMatchObject({ state: 'failed', error: { type: 'WorkerLostError' } });
          expect(await waitingIds()).toEqual([]);
        });
        it('no job is lost and none is run twice while workers come and go', async () => {
          const ids = await Promise.all(Array.from({ length: 120 }, (_, number) => send(['ok', number])));
          for (let number = 1; number <= 3; number++) {
            const testWorker = await startWorker({ concurrency: 5 });
            await until('some more have run', () => hands.runs.length >= number * 20);
            await testWorker.worker.stop();
          }
          await startWorker({ concurrency: 5 });
          await until('all have run', () => hands.runs.length >= ids.length);
          await emptied();
          for (const id of ids)
            await until(`${id} has a result`, async () => (await held.raw.result(id)) !== undefined);
          expect(hands.runs.map(({ id }) => id).sort()).toEqual([...ids].sort());
          for (const [number, id] of ids.entries()) expect((await resultOf(id)).value).toBe(number);
        });
      });

      describe('unknown tasks and messages', () => {
        it('a task that nobody here knows stays in the queue, and others run', async () => {
          const testWorker = await startWorker();
          const stranger = randomUUID();
          await put({ task: 'somebody.elses', id: stranger, args: '[1]' });
          expect(await testWorker.settled(await send(['ok', 1]))).toBe('succeeded');
          await testWorker.worker.stop();
          expect(await waitingIds()).toEqual([stranger]);
          expect(await held.raw.result(stranger)).toBeUndefined();
        });
        it('an unknown task goes back as it was, and is run once by a worker that has its handler', async () => {
          const id = randomUUID();
          await put({ task: OTHER, id, args: '["ok", 1.0, 12345678901234567890123]', extra: { 'x-future': [1.0] } });
          const before = await lasting();
          const first = await startWorker();
          expect(await first.settled(id)).toBe('requeued');
          await first.worker.stop();
          expect(await lasting()).toEqual(before);
          expect(await held.raw.result(id)).toBeUndefined();
          const other = new ScriptedHandlers({ other: true });
          const second = await startWorker({}, { hands: other });
          expect(await second.settled(id)).toBe('succeeded');
          expect(other.runsOf(id).map(({ attempt }) => attempt)).toEqual([1]);
          expect(hands.runs).toEqual([]);
          await emptied();
        });
        it('unknown tasks are run once each by another worker, while this one sends them back', async () => {
          const ids = await Promise.all(Array.from({ length: 30 }, () => send(['ok', 1], { task: OTHER })));
          await startWorker();
          const other = new ScriptedHandlers({ other: true });
          const second = await startWorker({ concurrency: 1 }, { hands: other });
          for (const id of ids) await second.settled(id);
          await emptied();
          expect(other.runs.map(({ id }) => id).sort()).toEqual([...ids].sort());
          expect(hands.runs).toEqual([]);
        });
        it("an unknown task is claimed until the worker stops, with unknownTask: 'hold'", async () => {
          const ids = [await send(['ok', 1], { task: OTHER }), await send(['ok', 2], { task: OTHER })];
          const before = await lasting();
          const testWorker = await startWorker({ unknownTask: 'hold' });
          expect(await testWorker.settled(await send(['ok', 3]))).toBe('succeeded');
          await until('both are claimed', async () => (await held.raw.claimed()) === 2);
          expect(await waitingIds()).toEqual([]);
          await testWorker.worker.stop();
          expect(await waitingIds()).toEqual(ids);
          expect(await lasting()).toEqual(before);
          expect(await held.raw.claimed()).toBe(0);
        });
        it("an unknown task ends as the system ends it, with unknownTask: 'reject'", async () => {
          const testWorker = await startWorker({ unknownTask: 'reject' });
          const id = await send(['ok', 1], { task: OTHER });
          await testWorker.settled(id);
          expect(testWorker.settledOf(id)[0]!.outcome.kind).not.toBe('unknown');
          expect((await resultOf(id)).error).toBeDefined();
          expect(hands.runs).toEqual([]);
          expect(await held.raw.claimed()).toBe(0);
        });
        it('an unknown task goes to another queue, with unknownTask: { forward }', async () => {
          const forward = `${queue}-python`;
          await send(['ok', 1], { task: OTHER, queue: forward });
          const testWorker = await startWorker({ unknownTask: { forward } });
          const id = await send(['ok', 2], { task: OTHER });
          expect(await testWorker.settled(id)).toBe('requeued');
          await emptied();
          const waiting = await held.raw.waiting(forward);
          expect(waiting.map((bytes) => held.raw.idOf(bytes))).toEqual([expect.any(String), id]);
        });
        it('bytes that are no message are set aside as they are, with the reason, and others run', async () => {
          const bytes = Buffer.from([0x7b, 0xff, 0x00, 0x22, 0x7d]);
          await held.raw.put(queue, bytes);
          const testWorker = await startWorker();
          expect(await testWorker.settled(await send(['ok', 1]))).toBe('succeeded');
          await until('it is set aside', async () => (await held.raw.aside(queue)).length === 1);
          const [aside] = await held.raw.aside(queue);
          expect(aside!.bytes.equals(bytes)).toBe(true);
          expect(aside!.reason).not.toBe('');
          await until('the worker says so', () => testWorker.poison.length === 1);
          await emptied();
        });
        it('a message without a body that can be read is set aside', async () => {
          const testWorker = await startWorker();
          await put({ task: SCRIPT, id: randomUUID(), args: '[1, ' });
          await until('it is set aside', async () => (await held.raw.aside(queue)).length === 1);
          await until('the worker says so', () => testWorker.poison.length === 1);
          expect(hands.runs).toEqual([]);
          await emptied();
        });
        it('fields that nobody here knows do not matter', async () => {
          const testWorker = await startWorker();
          const id = randomUUID();
          await put({ task: SCRIPT, id, args: '["ok", 7]', extra: { 'x-future': { deep: [null, 1.0] } } });
          expect(await testWorker.settled(id)).toBe('succeeded');
          expect((await resultOf(id)).value).toBe(7);
        });
        it('a message of five megabytes is run', async () => {
          const testWorker = await startWorker();
          const id = await send(['echo', 'x'.repeat(5 * 2 ** 20)]);
          expect(await testWorker.settled(id)).toBe('succeeded');
          expect((await resultOf(id)).text.length).toBeGreaterThan(5 * 2 ** 20);
        });
      });
    });

    describe('on a store that goes away', () => {
      stage(true);
      const away = (between: () => Promise<void> = async () => {}): Promise<void> => {
        if (system.restart === undefined) throw new Error(`${system.name} has no server to restart: say so in without`);
        return system.restart(held.store, between);
      };

      describe('loss', () => {
        it('an idle worker consumes again', async () => {
          const testWorker = await startWorker();
          await testWorker.settled(await send(['ok', 1]));
          await away();
          expect(await testWorker.settled(await send(['ok', 2]))).toBe('succeeded');
        });
        it('what waits is still there, and is run once', async () => {
          const ids = await Promise.all(Array.from({ length: 40 }, (_, number) => send(['slow', number % 3])));
          const testWorker = await startWorker({ concurrency: 2 });
          await until('some have run', () => hands.runs.length > 4);
          await away();
          for (const id of ids) await testWorker.settled(id);
          await emptied();
          for (const id of ids) expect((await resultOf(id)).state).toBe('succeeded');
        });
        it('a job that runs meanwhile ends, and its result is stored', async () => {
          const testWorker = await startWorker();
          const id = await send(['gate', 'end']);
          await started(id);
          await away();
          hands.open('end');
          expect(await testWorker.settled(id)).toBe('succeeded');
          expect((await resultOf(id)).value).toBe('passed');
          expect(hands.runsOf(id)).toHaveLength(1);
          await emptied();
        });
        it('a job that ends while the store is away is settled when it is back', async () => {
          const testWorker = await startWorker({ late: true });
          const id = await send(['gate', 'end']);
          await started(id);
          const unsettled = testWorker.worker.once('job:unsettled');
          await away(async () => {
            hands.open('end');
            await unsettled;
          });
          expect(await testWorker.settled(id)).toBe('succeeded');
          expect((await resultOf(id)).value).toBe('passed');
          expect(hands.runsOf(id)).toHaveLength(1);
          await emptied();
        });
      });
    });

    test('every gap names a case', () => {
      expect(Object.keys(system.without).filter((name) => !known.has(name))).toEqual([]);
    });
  });
}
