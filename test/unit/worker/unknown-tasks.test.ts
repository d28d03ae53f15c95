import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Disposition, Outcome } from '../../../protocols/job.ts';
import { Events } from '../../../src/events.ts';
import type { Logger } from '../../../src/log.ts';
import type { WorkerEvents } from '../../../src/worker/events.ts';
import { Lane } from '../../../src/worker/lane.ts';
import { Gate, ScriptedDelivery, ScriptedSource, tasksOf } from './scripted.ts';

/** An unknown task goes to the back of this source's queue and is delivered again. */
class SharedQueue extends ScriptedSource {
  readonly returned: { readonly id: string; readonly at: number }[] = [];

  foreign(...ids: readonly string[]): readonly ScriptedDelivery[] {
    const deliveries = ids.map((id) => this.#delivery(id));
    this.queue.push(...deliveries);
    this.push();
    return deliveries;
  }

  #delivery(id: string): ScriptedDelivery {
    const delivery = new ScriptedDelivery(this.log, { id, task: 'foreign' });
    const settle = delivery.settle.bind(delivery);
    delivery.settle = async (outcome: Outcome): Promise<Disposition> => {
      const disposition = await settle(outcome);
      if (outcome.kind !== 'unknown' || outcome.queue !== undefined) return disposition;
      this.returned.push({ id, at: Date.now() });
      this.foreign(id);
      return { state: 'requeued' };
    };
    return delivery;
  }
}

interface Line {
  readonly level: string;
  readonly fields: object;
  readonly message: string;
}

const names = (count: number, prefix = 'f'): readonly string[] =>
  Array.from({ length: count }, (_, at) => `${prefix}${at}`);

describe('an unknown task', () => {
  const lanes: Lane[] = [];
  const lines: Line[] = [];
  let gate: Gate;

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] });
    gate = new Gate();
    lines.length = 0;
  });
  afterEach(async () => {
    vi.useRealTimers();
    for (const lane of lanes.splice(0)) {
      gate.open();
      await lane.quiet();
      await lane.drained();
    }
  });

  const laneOf = (source: ScriptedSource): Lane => {
    // As every source: nothing for a while is an answer.
    const receive = source.receive.bind(source);
    source.receive = (max, signal) => {
      const soon = new AbortController();
      const both = AbortSignal.any([signal, soon.signal]);
      setTimeout(() => soon.abort(), 200);
      return receive(max, both);
    };
    const at =
      (level: string) =>
      (fields: object, message: string): void =>
        void lines.push({ level, fields, message });
    const log: Logger = { level: 'info', debug: () => {}, info: at('info'), warn: at('warn'), error: at('error') };
    const lane = new Lane({
      source,
      tasks: tasksOf(gate.handler),
      middleware: [],
      log,
      events: new Events<WorkerEvents>(),
      cancelGraceMs: 20,
    });
    lanes.push(lane);
    lane.start();
    return lane;
  };
  /** Lets what is under way go on, without letting time pass. */
  const settle = async (ms = 0): Promise<void> => {
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
    if (ms > 0) await vi.advanceTimersByTimeAsync(ms);
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
  };

  test('takes no slot, and goes to the back of its queue after a pause', async () => {
    const source = new ScriptedSource({ concurrency: 1 });
    const lane = laneOf(source);
    source.push({ id: 'foreign', task: 'foreign' }, { id: 'own' });
    await settle();
    expect(gate.started).toEqual(['own']);
    expect([lane.unknownHeld, source.held]).toEqual([1, 1]);
    await settle(999);
    expect(source.log).toEqual(['begin own']);
    await settle(201);
    expect(source.log).toEqual(['begin own', 'settle foreign unknown']);
    expect([lane.unknownHeld, source.held, lane.processed]).toEqual([0, 0, 0]);
  });

  test('is one that the source calls unknown, too', async () => {
    const source = new ScriptedSource({ unknownTask: 'reject' });
    laneOf(source);
    const [limited] = source.push({ id: '1' });
    limited!.unknown = 'it has a rate limit';
    limited!.rejectUnknown = (why) => ({ kind: 'discard', reason: why });
    await settle();
    expect(limited!.outcome).toEqual({ kind: 'discard', reason: 'it has a rate limit' });
    expect(gate.started).toEqual([]);
  });

  test('waits twice as long each time it comes back, a quarter of a minute at most', async () => {
    const source = new SharedQueue({ concurrency: 1 });
    laneOf(source);
    source.foreign('1');
    const start = Date.now();
    await settle();
    for (let second = 0; second < 80; second++) await settle(1_000);
    const pauses = source.returned.map(({ at }, index) => at - (source.returned[index - 1]?.at ?? start));
    // Each goes back with others, between two fetches.
    for (const [index, least] of [1, 2, 4, 8, 15, 15].entries()) {
      expect(pauses[index]! / 1_000).toBeGreaterThanOrEqual(least);
      expect(pauses[index]! / 1_000).toBeLessThanOrEqual(least + 1);
    }
  });

  test('without an id is recognised by its key', async () => {
    const source = new ScriptedSource({ concurrency: 1 });
    laneOf(source);
    source.push({ id: 'first', task: 'foreign' })[0]!.unknownKey = 'digest';
    await settle(1_500);
    source.push({ id: 'second', task: 'foreign' })[0]!.unknownKey = 'digest';
    await settle(1_500);
    expect(source.log).toEqual(['settle first unknown']);
    await settle(1_500);
    expect(source.log).toEqual(['settle first unknown', 'settle second unknown']);
  });

  test('is left to other workers for a moment when it goes back', async () => {
    const source = new SharedQueue({ concurrency: 1 });
    laneOf(source);
    source.foreign('1');
    while (source.returned.length === 0) await settle(10);
    const asked = source.asked.length;
    await settle(50);
    expect([source.queue.length, source.asked.length - asked]).toEqual([1, 0]);
    await settle(100);
    expect(source.queue).toEqual([]);
  });

  test('is rejected by the default failure where the system has none of its own', async () => {
    const source = new ScriptedSource({ unknownTask: 'reject' });
    laneOf(source);
    const [foreign] = source.push({ id: '1', task: 'foreign' });
    await settle();
    expect(foreign!.outcome).toMatchObject({ kind: 'fail', error: { type: 'UnknownTaskError' } });
  });

  test('is forwarded to the queue of the policy at once', async () => {
    const source = new ScriptedSource({ unknownTask: { forward: 'python' } });
    laneOf(source);
    const [foreign] = source.push({ id: '1', task: 'foreign' });
    await settle();
    expect(foreign!.outcome).toEqual({ kind: 'unknown', queue: 'python' });
  });

  test('is held until the worker stops, where the policy says so', async () => {
    const source = new ScriptedSource({ unknownTask: 'hold' });
    const lane = laneOf(source);
    const [foreign] = source.push({ id: '1', task: 'foreign' });
    await settle(60_000);
    expect([foreign!.outcome, foreign!.released, lane.unknownHeld]).toEqual([undefined, false, 1]);
    await lane.quiet();
    expect([foreign!.outcome, foreign!.released, lane.unknownHeld]).toEqual([undefined, true, 0]);
  });

  test('goes back to the head of its queue at quiet, in its order among the known ones', async () => {
    const source = new ScriptedSource({ concurrency: 1, prefetch: 10 });
    const lane = laneOf(source);
    const jobs = ['own0', 'f1', 'own1', 'f2', 'f3', 'own2', 'own3', 'f4'];
    source.push(...jobs.map((id) => ({ id, task: id.startsWith('f') ? 'foreign' : 'work' })));
    await settle();
    await lane.quiet();
    const back = jobs.slice(1).toReversed();
    expect(source.log).toEqual(['begin own0', 'quiet', ...back.map((id) => `release ${id}`)]);
  });

  test('that comes after quiet is released, not settled', async () => {
    const source = new ScriptedSource({ unknownTask: 'reject' });
    let answer: (deliveries: readonly ScriptedDelivery[]) => void = () => {};
    source.receive = () => new Promise((resolve) => (answer = resolve));
    const lane = laneOf(source);
    await settle();
    const quieted = lane.quiet();
    const late = new ScriptedDelivery(source.log, { id: 'late', task: 'foreign' });
    answer([late]);
    await quieted;
    expect([late.released, late.outcome]).toEqual([true, undefined]);
  });

  test('can be cancelled while it is held', async () => {
    const source = new ScriptedSource({ unknownTask: 'hold' });
    const lane = laneOf(source);
    const [foreign] = source.push({ id: '1', task: 'foreign' });
    await settle();
    expect(lane.cancel('1', 'revoked', 'waiting')).toBe(true);
    await settle();
    expect(foreign!.outcome).toEqual({ kind: 'cancelled', reason: 'revoked' });
    expect(lane.unknownHeld).toBe(0);
  });

  test('whose claim is lost is given up without an outcome', async () => {
    const source = new ScriptedSource();
    const lane = laneOf(source);
    const [foreign] = source.push({ id: '1', task: 'foreign' });
    await settle();
    foreign!.lost = true;
    await settle(1_200);
    expect([foreign!.outcome, foreign!.released, lane.unknownHeld]).toEqual([undefined, true, 0]);
  });

  test('is settled again until the store has it, and counts as held until then', async () => {
    const source = new ScriptedSource();
    const lane = laneOf(source);
    const [foreign] = source.push({ id: '1', task: 'foreign' });
    foreign!.settleFailures = 2;
    await settle(1_000);
    expect([foreign!.outcome, lane.unknownHeld]).toEqual([undefined, 1]);
    await settle(1_000);
    expect([foreign!.outcome, lane.unknownHeld]).toEqual([{ kind: 'unknown' }, 0]);
  });

  test('is logged once a minute for each task, with what happens to it and what to do', async () => {
    const source = new SharedQueue();
    laneOf(source);
    source.foreign(...names(20));
    source.push({ id: 'long', task: 'x'.repeat(1_000) });
    await settle();
    for (let second = 0; second < 59; second++) await settle(1_000);
    expect(lines).toHaveLength(2);
    expect(lines[0]).toMatchObject({ level: 'warn', fields: { task: 'foreign', queue: 'default', id: 'f0' } });
    expect(lines[0]!.message).toMatch(
      /^no handler here for the task 'foreign', which shares the queue 'default'.*go back to their queue.*Register a handler, /,
    );
    expect(lines[1]).toMatchObject({ fields: { task: 'x'.repeat(200) } });
    for (let second = 0; second < 60; second++) await settle(1_000);
    expect(lines.filter(({ fields }) => 'task' in fields && fields.task === 'foreign')).toHaveLength(2);
  });

  test('ahead of a known one never keeps it waiting: ten known behind a thousand unknown start at once', async () => {
    const source = new SharedQueue({ concurrency: 10 });
    laneOf(source);
    source.foreign(...names(1_000));
    source.push(...names(10, 'own').map((id) => ({ id })));
    await vi.waitUntil(() => gate.started.length === 10, { timeout: 5_000, interval: 0 });
    expect(source.returned).toEqual([]);
  });

  test('over the bound makes the one held longest go back early, at a bounded rate', async () => {
    const source = new SharedQueue({ concurrency: 100, unknownTask: 'hold' });
    const lane = laneOf(source);
    source.foreign(...names(10_500));
    source.push({ id: 'own' });
    await vi.waitUntil(() => lane.unknownHeld >= 10_000, { timeout: 20_000, interval: 0 });
    for (let second = 0; second < 3; second++) await settle(1_000);
    expect(gate.started).toEqual(['own']);
    expect(source.returned.slice(0, 3).map(({ id }) => id)).toEqual(['f0', 'f1', 'f2']);
    // At most 500 a second go round, and what one more fetch brings.
    expect(source.returned.length).toBeGreaterThan(1_000);
    expect(source.returned.length).toBeLessThanOrEqual(4 * 600);
    expect(lane.unknownHeld).toBeLessThanOrEqual(10_000 + 256);
  });

  test('counts by its bytes, where they are known', async () => {
    const source = new ScriptedSource({ concurrency: 1, unknownTask: 'hold' });
    const lane = laneOf(source);
    for (const one of source.push(...names(10).map((id) => ({ id, task: 'foreign' })))) one.bytes = 16 * 2 ** 20;
    await settle(1_000);
    expect(source.log).toEqual(names(6).map((id) => `settle ${id} unknown`));
    expect(lane.unknownHeld).toBe(4);
  });
});
