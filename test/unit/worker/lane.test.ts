import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { silent } from '../../../src/log.ts';
import { Events } from '../../../src/events.ts';
import type { WorkerEvents } from '../../../src/worker/events.ts';
import { Lane } from '../../../src/worker/lane.ts';
import { Gate, ScriptedSource, tasksOf } from './scripted.ts';

const ids = (from: number, to: number): { readonly id: string }[] =>
  Array.from({ length: to - from + 1 }, (_, index) => ({ id: `${from + index}` }));

function laneOf(source: ScriptedSource, gate: Gate, events = new Events<WorkerEvents>()): Lane {
  const lane = new Lane({
    source,
    tasks: tasksOf(gate.handler),
    middleware: [],
    log: silent,
    events,
    cancelGraceMs: 20,
  });
  lane.start();
  return lane;
}

describe('a lane', () => {
  test('never runs more handlers at once than its source allows', async () => {
    const source = new ScriptedSource({ concurrency: 3, prefetch: 6 });
    const gate = new Gate();
    const lane = laneOf(source, gate);
    source.push(...ids(1, 50));
    await expect.poll(() => gate.started.length).toBe(3);
    while (gate.started.length < 50) {
      const before = gate.started.length;
      gate.open();
      await expect.poll(() => gate.started.length).toBeGreaterThan(before);
    }
    gate.open();
    await lane.drained();
    expect(gate.most).toBe(3);
    expect(gate.started).toEqual(ids(1, 50).map(({ id }) => id));
    expect(lane.processed).toBe(50);
    await lane.quiet();
  });

  test('holds no more messages than its slots and its prefetch', async () => {
    const source = new ScriptedSource({ concurrency: 2, prefetch: 4 });
    const gate = new Gate();
    const lane = laneOf(source, gate);
    source.push(...ids(1, 100));
    await expect.poll(() => source.queue.length).toBe(94);
    await expect.poll(() => gate.started.length).toBe(2);
    expect(Math.max(...source.asked)).toBeLessThanOrEqual(6);
    expect(lane.running.map(({ id }) => id)).toEqual(['1', '2']);
    await lane.quiet();
    gate.open();
    await lane.drained();
  });

  test('quiet gives back what waits, the oldest last, so that it is next again; what runs goes on', async () => {
    const source = new ScriptedSource({ concurrency: 2, prefetch: 4 });
    const gate = new Gate();
    const lane = laneOf(source, gate);
    source.push(...ids(1, 6));
    await expect.poll(() => gate.started.length).toBe(2);
    await expect.poll(() => source.queue.length).toBe(0);
    await lane.quiet();
    expect(source.log).toEqual(['begin 1', 'begin 2', 'quiet', 'release 6', 'release 5', 'release 4', 'release 3']);
    gate.open();
    await lane.drained();
    expect(source.log.slice(-2)).toEqual(['settle 1 success', 'settle 2 success']);
    expect(gate.started).toEqual(['1', '2']);
  });

  test('a release that fails is tried again', async () => {
    const source = new ScriptedSource({ concurrency: 1, prefetch: 1 });
    const gate = new Gate();
    const lane = laneOf(source, gate);
    const [, waiting] = source.push(...ids(1, 2));
    waiting!.releaseFailures = 2;
    await expect.poll(() => source.queue.length).toBe(0);
    await lane.quiet();
    expect(waiting!.released).toBe(true);
    gate.open();
    await lane.drained();
  });

  test('a source that cannot be quieted does not keep the lane from giving back what waits', async () => {
    const source = new ScriptedSource({ concurrency: 1, prefetch: 1 });
    const gate = new Gate();
    const lane = laneOf(source, gate);
    const [, waiting] = source.push(...ids(1, 2));
    await expect.poll(() => source.queue.length).toBe(0);
    source.quiet = () => Promise.reject(new Error('away'));
    await lane.quiet();
    expect(waiting!.released).toBe(true);
    gate.open();
    await lane.drained();
  });

  test('a store that takes no outcomes stops the fetching, not the memory', async () => {
    const source = new ScriptedSource({ concurrency: 10 });
    const gate = new Gate();
    const lane = laneOf(source, gate);
    let store = (): void => {};
    const stored = new Promise<void>((resolve) => (store = resolve));
    for (const delivery of source.push(...ids(1, 1_000))) delivery.settling = stored;
    // Ten start in a turn: without a bound all of them would have by then.
    for (let turn = 0; turn < 1_000; turn++) {
      gate.open();
      await nextTurn();
    }
    expect(gate.started.length).toBeGreaterThanOrEqual(100);
    expect(gate.started.length).toBeLessThanOrEqual(120);
    store();
    while (gate.started.length < 1_000) {
      gate.open();
      await nextTurn();
    }
    gate.open();
    await lane.drained();
    await lane.quiet();
  });

  test('an outcome that cannot be written is tried again until it sticks; its slot is free meanwhile', async () => {
    const source = new ScriptedSource({ concurrency: 1 });
    const gate = new Gate();
    const events = new Events<WorkerEvents>();
    const unsettled: string[] = [];
    events.on('job:unsettled', ({ job }) => unsettled.push(job.id));
    const lane = laneOf(source, gate, events);
    const [first] = source.push(...ids(1, 2));
    first!.settleFailures = 2;
    await expect.poll(() => gate.started).toEqual(['1']);
    gate.open();
    await expect.poll(() => gate.started).toEqual(['1', '2']);
    gate.open();
    await lane.drained();
    expect(unsettled).toEqual(['1', '1']);
    expect(first!.outcome).toEqual({ kind: 'success', value: '1' });
    await lane.quiet();
  });

  test('a start that cannot be written is tried again, and the handler runs once', async () => {
    const source = new ScriptedSource({ concurrency: 1 });
    const gate = new Gate();
    const lane = laneOf(source, gate);
    const [first] = source.push({ id: '1' });
    first!.beginFailures = 2;
    await expect.poll(() => gate.started).toEqual(['1']);
    gate.open();
    await lane.drained();
    expect(source.log).toContain('settle 1 success');
    await lane.quiet();
  });

  test('a job whose start could not be written is given back when the worker stops', async () => {
    const source = new ScriptedSource({ concurrency: 1 });
    const gate = new Gate();
    const lane = laneOf(source, gate);
    const [first] = source.push({ id: '1' });
    first!.beginFailures = Number.POSITIVE_INFINITY;
    await expect.poll(() => lane.running.length).toBe(1);
    await lane.quiet();
    lane.abort();
    await lane.drained();
    expect(first!.released).toBe(true);
    expect(gate.started).toEqual([]);
  });

  test('a source that does not answer is asked again, said once, and said to be back', async () => {
    const source = new ScriptedSource({ concurrency: 1 });
    const gate = new Gate();
    const events = new Events<WorkerEvents>();
    const said: string[] = [];
    events.on('source:down', ({ error }) => said.push(`down ${(error as Error).message}`));
    events.on('source:up', () => said.push('up'));
    const lane = laneOf(source, gate, events);
    source.fail(new Error('first'));
    await expect.poll(() => said).toEqual(['down first']);
    source.fail(new Error('second'));
    source.push({ id: '1' });
    await expect.poll(() => gate.started).toEqual(['1']);
    expect(said).toEqual(['down first', 'up']);
    await lane.quiet();
    gate.open();
    await lane.drained();
  });

  test('a cancelled job ends when its handler notices, or after the grace without it', async () => {
    const source = new ScriptedSource({ concurrency: 2 });
    const gate = new Gate();
    const lane = laneOf(source, gate);
    const [deaf] = source.push({ id: 'deaf' });
    await expect.poll(() => gate.started).toEqual(['deaf']);
    expect(lane.cancel('nobody', 'why not')).toBe(false);
    expect(lane.cancel('deaf', 'revoked')).toBe(true);
    await lane.drained();
    expect(deaf!.outcome).toEqual({ kind: 'cancelled', reason: 'revoked' });
    await lane.quiet();
  });
});
