import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { iterable } from '../../src/drivers/sidekiq/index.ts';
import { pause } from '../../src/source.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { sidekiqVersion } from '../support/ruby.ts';
import { RubyStage, type SidekiqNode, until } from './support/ruby-stage.ts';

const version = sidekiqVersion();
const [major = 0, minor = 0] = version.split('.').map(Number);
const isThere = major > 7 || (major === 7 && minor >= 3);
const why = isThere ? '' : ` [skipped: Sidekiq ${version} has none, 7.3 has]`;

const ITEMS = 60;

describe.skipIf(!isThere)(`iterable jobs, begun on one side and ended on the other${why}`, () => {
  let stage: RubyStage;
  beforeAll(async () => {
    stage = await RubyStage.start();
  });
  afterEach(() => stage.end());
  afterAll(() => stage[Symbol.asyncDispose]());

  /** The twin of IterJob in apps/ruby/app.rb. */
  function node(): Promise<SidekiqNode> {
    const steps = iterable<[number], number, number>({
      *items({ args: [count] }, cursor = 0) {
        for (let at = cursor; at < count; at += 1) yield [at, at];
      },
      async each(item, { id }) {
        await stage.store.rpush('ran', JSON.stringify({ side: 'node', class: 'IterJob', jid: id, args: [item] }));
        await pause(50);
      },
    });
    const tasks = new Tasks().handle(defineTask<(count: number) => void>('IterJob'), steps);
    return stage.node({ tasks });
  }

  /** Which items each side has run, once there are so many. */
  async function items(jid: string, count: number): Promise<Readonly<Record<'ruby' | 'node', readonly unknown[]>>> {
    const ran = await stage.runsOf(jid, count);
    const of = (which: string): unknown[] => ran.filter(({ side }) => side === which).map(({ args }) => args[0]);
    return { ruby: of('ruby'), node: of('node') };
  }

  const ended = (jid: string): Promise<void> =>
    until('it has ended, and nothing of it is left', async () => (await stage.store.exists(`it-${jid}`)) === 0);

  test.each([
    ['ruby', 'node'],
    ['node', 'ruby'],
  ] as const)('begun in %s, which stops: %s goes on from there, and every item is run', async (first, second) => {
    const jid = await stage.push({ class: 'IterJob', args: [ITEMS] });
    const one = first === 'ruby' ? await stage.sidekiq({ timeout: 5 }) : await node();
    await items(jid, 5);
    await one.stop();
    expect(await stage.store.llen('queue:default')).toBe(1);
    const before = (await stage.ran()).length;
    expect(before).toBeLessThan(ITEMS);
    expect(Number(await stage.store.hget(`it-${jid}`, 'c'))).toBe(before);
    await (second === 'ruby' ? stage.sidekiq() : node());
    await ended(jid);
    const all = await items(jid, ITEMS);
    expect([...all[first], ...all[second]]).toEqual(Array.from({ length: ITEMS }, (_, item) => item));
    expect(all[first]).toHaveLength(before);
    expect([await stage.members('retry'), await stage.members('dead')]).toEqual([[], []]);
  });

  test('cancelled by Ruby while it runs in Node', async () => {
    const jid = await stage.push({ class: 'IterJob', args: [100_000] });
    await node();
    await items(jid, 3);
    await stage.ruby.run(`Sidekiq::Client.new.cancel!(values['jid'])`, { jid });
    await ended(jid);
    await stage.empty();
  });

  test('cancelled by Node while it runs in Ruby, and before it ran at all', async () => {
    const client = stage.client();
    const never = await stage.push({ class: 'IterJob', args: [ITEMS], queue: 'low' });
    await client.cancel(never);
    const jid = await stage.push({ class: 'IterJob', args: [100_000] });
    await stage.sidekiq({ queues: ['default', 'low'] });
    await items(jid, 3);
    await client.cancel(jid);
    await ended(jid);
    await ended(never);
    await stage.empty();
    expect((await stage.ran()).filter((one) => one.jid === never)).toEqual([]);
    expect(await stage.members('retry')).toEqual([]);
  });
});
