import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { parseExact } from '../../protocols/formats/json.ts';
import { stringify } from '../../protocols/formats/ruby-json.ts';
import { float } from '../../src/drivers/sidekiq/index.ts';
import { RubyStage, until } from './support/ruby-stage.ts';

/** What each is as JSON, in the form that Ruby gives it. */
const ARGUMENTS: readonly (readonly [string, unknown, string])[] = [
  ['integers', [0, -1, 2 ** 31, Number.MAX_SAFE_INTEGER], '[0,-1,2147483648,9007199254740991]'],
  ['large integers', [12345678901234567890n, -(2n ** 64n)], '[12345678901234567890,-18446744073709551616]'],
  ['floats', [1.5, -0, 0.1, 1e-5, 1e20, 5e-324], '[1.5,-0.0,0.1,1.0e-05,1.0e+20,5.0e-324]'],
  ['whole floats', [float(1), float(1e15), float(-3)], '[1.0,1.0e+15,-3.0]'],
  [
    'texts',
    ['', 'é 😀 \u2028 </x>', 'a\nb\u0000', '"\\', '\u007f'],
    '["","é 😀 \u2028 </x>","a\\nb\\u0000","\\"\\\\","\u007f"]',
  ],
  ['true, false, null', [true, false, null], '[true,false,null]'],
  ['nested', [[1, [2, []]], { k: { n: [null] } }], '[[1,[2,[]]],{"k":{"n":[null]}}]'],
  [
    'keys in order',
    [
      new Map([
        ['b', 1],
        ['10', 2],
        ['a', 3],
        ['9', 4],
      ]),
    ],
    '[{"b":1,"10":2,"a":3,"9":4}]',
  ],
  ['a key that is a trap', [JSON.parse('{"__proto__": 1, "constructor": 2}')], '[{"__proto__":1,"constructor":2}]'],
  ['none', [], '[]'],
];

describe('enqueued on one side, run on the other', () => {
  let stage: RubyStage;
  beforeAll(async () => {
    stage = await RubyStage.start();
  });
  afterEach(() => stage.end());
  afterAll(() => stage[Symbol.asyncDispose]());

  test('Node to Ruby: every value of JSON is the same text', async () => {
    const client = stage.client();
    await stage.sidekiq();
    const jids: string[] = [];
    for (const [, args] of ARGUMENTS) jids.push((await client.enqueue('RubyJob', { args: args as unknown[] })).jid);
    for (const jid of jids) await stage.runsOf(jid);
    const texts = new Map(
      (await stage.store.lrange('ran', 0, -1)).map((text) => {
        const entry = parseExact(text) as ReadonlyMap<string, unknown>;
        return [entry.get('jid'), stringify(entry.get('args'))];
      }),
    );
    expect(jids.map((jid, at) => [ARGUMENTS[at]?.[0], texts.get(jid)])).toEqual(
      ARGUMENTS.map(([name, , text]) => [name, text]),
    );
  });

  test('Ruby to Node: every value of JSON is what it is in JavaScript', async () => {
    await stage.node();
    for (const [name, args, text] of ARGUMENTS) {
      const jid = await stage.ruby.run<string>(
        `Sidekiq::Client.push('class' => 'NodeJob', 'args' => JSON.parse(values['text']))`,
        { text },
      );
      const [ran] = await stage.runsOf(jid);
      const plain = JSON.stringify(args, (_, value: unknown) =>
        typeof value === 'bigint'
          ? String(value)
          : value instanceof Map
            ? Object.fromEntries(value)
            : Object.is(value, -0)
              ? 0
              : typeof (value as { text?: unknown } | null)?.text === 'string'
                ? Number(value)
                : value,
      );
      expect([name, ran?.side, ran?.args]).toEqual([name, 'node', JSON.parse(plain)]);
    }
    await stage.empty();
  });

  test('Node to Ruby: a class with its options, as perform_async writes it', async () => {
    const client = stage.client();
    await client.enqueue('RubyJob', {
      args: ['x'],
      ...{ queue: 'critical', retry: 5, backtrace: 3, tags: ['alpha'], retryQueue: 'low', dead: false },
      custom: { tenant_id: 7 },
      cattr: { user_id: 7 },
    });
    const seen = await stage.ruby.run(
      `job = Sidekiq::Queue.new('critical').first
       [job.klass, job.args, job.queue, job.tags, job['retry'], job['tenant_id'], job['dead'], job.latency < 60, job.created_at.year,
        job.enqueued_at.year, Sidekiq::Queue.all.map(&:name)]`,
    );
    const year = new Date().getUTCFullYear();
    expect(seen).toEqual(['RubyJob', ['x'], 'critical', ['alpha'], 5, 7, false, true, year, year, ['critical']]);
  });

  test('Node to Ruby: later, at a time, in the past, and many', async () => {
    const client = stage.client();
    const at = new Date(Date.now() + 3_600_000);
    await client.enqueue('RubyJob', { args: ['later'], in: 3600 });
    await client.enqueue('RubyJob', { args: ['at'], at });
    const past = await client.enqueue('RubyJob', { args: ['past'], in: -5 });
    const many = await client.enqueueMany(
      'RubyJob',
      [1, 2, 3].map((one) => ({ args: [one], queue: 'default' })),
    );
    const seen = await stage.ruby.run<readonly (readonly [unknown, number, boolean])[]>(
      'Sidekiq::ScheduledSet.new.map { |job| [job.args.first, job.at.to_f, job.item.key?("enqueued_at")] }',
    );
    expect(seen.map(([name, , enqueued]) => [name, enqueued])).toEqual([
      ['later', false],
      ['at', false],
    ]);
    expect(seen[1]?.[1]).toBeCloseTo(at.getTime() / 1000, 3);
    await stage.sidekiq();
    for (const { jid } of [past, ...many]) await stage.runsOf(jid);
    await stage.due('schedule');
    await until('what was scheduled has run in Ruby', async () => (await stage.ran()).length === 6);
    expect((await stage.ran()).map(({ side }) => side)).toEqual(Array.from({ length: 6 }, () => 'ruby'));
  });

  test('Ruby to Node: later, at a time, in the past, and many', async () => {
    await stage.node();
    const jids = await stage.ruby.run<string[]>(
      `class NodeJob; include Sidekiq::Worker; end
       [NodeJob.perform_async('now'), NodeJob.perform_in(0.5, 'soon'), NodeJob.perform_at(Time.now - 5, 'past'),
        *Sidekiq::Client.push_bulk('class' => 'NodeJob', 'args' => [[1], [2]]),
        *Sidekiq::Client.push_bulk('class' => 'NodeJob', 'args' => [[3], [4]], 'at' => Time.now.to_f + 0.5)]`,
    );
    for (const jid of jids) expect((await stage.runsOf(jid))[0]?.side).toBe('node');
    expect((await stage.ran()).map(({ args }) => args[0]).toSorted()).toEqual([1, 2, 3, 4, 'now', 'past', 'soon']);
    await stage.empty();
  });

  test('what Ruby and Node wrote into a job is there in Node, with all that nobody knows', async () => {
    await stage.node();
    const jid = await stage.push({
      class: 'HashJob',
      args: [],
      tenant_id: 7,
      apartment: { a: [1.5] },
      queue: 'default',
    });
    const [ran] = (await stage.runsOf(jid)) as readonly { readonly hash?: Readonly<Record<string, unknown>> }[];
    expect(ran?.hash).toMatchObject({ class: 'HashJob', jid, tenant_id: 7, apartment: { a: [1.5] }, retry: true });
  });

  test('a job that both know is run once, by either', async () => {
    await stage.node();
    await stage.sidekiq();
    const jids = await stage.ruby.run<string[]>(
      `Sidekiq::Client.push_bulk('class' => 'BothJob', 'args' => Array.new(200) { |n| [n] })`,
    );
    await until('all have run', async () => (await stage.ran()).length >= 200);
    await stage.empty();
    const ran = await stage.ran();
    expect(ran.map(({ jid }) => jid).toSorted()).toEqual(jids.toSorted());
    expect(new Set(ran.map(({ side }) => side))).toEqual(new Set(['node', 'ruby']));
  });

  test('a class that only Ruby knows is left for Ruby', async () => {
    await stage.node({ unknownTaskDelayMs: 200 });
    const jid = await stage.push({ class: 'RubyJob', args: ['mine'] });
    await stage.sidekiq();
    expect((await stage.runsOf(jid))[0]?.side).toBe('ruby');
    expect(await stage.members('retry')).toEqual([]);
  });
});
