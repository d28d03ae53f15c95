import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import {
  type ActiveJob,
  activeJob,
  Duration,
  GlobalId,
  PlainDate,
  RubyModule,
  RubySymbol,
  RubyTime,
  symbolKeys,
  TimeWithZone,
} from '../../src/drivers/sidekiq/index.ts';
import { Discard, Retry } from '../../src/signals.ts';
import { defineTask, type Handler, Tasks } from '../../src/task.ts';
import { RubyStage, until } from './support/ruby-stage.ts';

interface Got {
  readonly args: readonly unknown[];
  readonly kwargs: Readonly<Record<string, unknown>>;
  readonly id: string;
  readonly attempt: number;
  readonly activeJob: ActiveJob;
}

describe('Active Job on Sidekiq', () => {
  let stage: RubyStage;
  let got: Got[] = [];
  beforeAll(async () => {
    stage = await RubyStage.start();
  });
  afterEach(async () => {
    got = [];
    await stage.end();
  });
  afterAll(() => stage[Symbol.asyncDispose]());

  /** A worker that keeps what its handlers got. */
  async function node(handlers: Readonly<Record<string, (job: Got) => void>>): Promise<void> {
    const tasks = new Tasks();
    for (const [name, handle] of Object.entries(handlers)) {
      const handler: Handler = (job) => {
        const { args, kwargs, id, attempt } = job;
        got.push({ args, kwargs, id, attempt, activeJob: activeJob(job) as ActiveJob });
        handle(got.at(-1) as Got);
      };
      tasks.handle(defineTask(name), handler);
    }
    await stage.node({ tasks, queues: ['default', 'again', 'low'] });
  }

  const runs = (count: number): Promise<void> => until(`${count} runs in Node`, () => got.length >= count);

  test('Ruby to Node: arguments of every type, and keywords', async () => {
    await node({ EchoJob: () => {} });
    const id = await stage.ruby.run<string>(
      `EchoJob.perform_later(
         1, 'é', nil, :daily, [1, [:two]], { 'str' => 1, sym: 2 }, Order.new(42), Billing::Invoice.new('a/b'),
         Date.new(2024, 2, 29), Time.utc(2024, 2, 29, 12, 34, 56.789r), Time.utc(2024, 7, 1, 7).in_time_zone('Europe/Paris'),
         1.month + 3.days, String, Money.new(5, 'EUR'), times: 2, nested: { x: :y }
       ).job_id`,
    );
    await runs(1);
    const [job] = got as [Got];
    expect(job.args.slice(0, 9)).toEqual([
      ...[1, 'é', null, new RubySymbol('daily'), [1, [new RubySymbol('two')]], { str: 1, sym: 2 }],
      ...[
        new GlobalId('shop', 'Order', 42),
        new GlobalId('shop', 'Billing::Invoice', 'a/b'),
        new PlainDate('2024-02-29'),
      ],
    ]);
    const [time, zoned, duration, module, money] = job.args.slice(9) as [
      RubyTime,
      TimeWithZone,
      Duration,
      RubyModule,
      unknown,
    ];
    expect([time.getTime(), time.iso]).toEqual([
      Date.UTC(2024, 1, 29, 12, 34, 56, 789),
      '2024-02-29T12:34:56.789000000Z',
    ]);
    expect([zoned.constructor.name, zoned.getTime()]).toEqual(['TimeWithZone', Date.UTC(2024, 6, 1, 7)]);
    expect(duration).toEqual(Duration.of({ months: 1, days: 3 }));
    expect(module).toEqual(new RubyModule('String'));
    expect(money).toMatchObject({ serializer: 'MoneySerializer' });
    expect(job.kwargs).toEqual({ times: 2, nested: { x: new RubySymbol('y') } });
    expect(job.activeJob).toMatchObject({
      jobId: id,
      jobClass: 'EchoJob',
      executions: 0,
      locale: 'en',
      timezone: 'UTC',
    });
    await stage.empty();
  });

  test('Node to Ruby: arguments of every type, and keywords', async () => {
    await stage.sidekiq({ queues: ['low'] });
    const { jid, jobId } = await stage.client().performLater('EchoJob', {
      args: [
        ...[1, 'é', null, new RubySymbol('daily'), [1, [new RubySymbol('two')]], { str: 1 }, symbolKeys({ sym: 2 })],
        ...[new GlobalId('shop', 'Order', 42), new PlainDate('2024-02-29'), new Date('2024-02-29T12:34:56.789Z')],
        ...[Duration.of({ months: 1, days: 3 }), new RubyModule('String'), 2n ** 64n],
      ],
      kwargs: { times: 2, nested: { x: new RubySymbol('y') } },
      ...{ queue: 'low', priority: 7, locale: 'en', timezone: 'Asia/Kolkata', retry: 3, tags: ['t'] },
    });
    const [ran] = await stage.runsOf(jobId);
    const parts = ['months', ['int', '1']];
    expect(ran).toMatchObject({
      side: 'ruby',
      provider: jid,
      executions: 1,
      timezone: 'Asia/Kolkata',
      args: [
        ...[['int', '1'], ['str', 'é'], ['nil'], ['sym', 'daily']],
        [
          'list',
          [
            ['int', '1'],
            ['list', [['sym', 'two']]],
          ],
        ],
        [
          'hash',
          [
            [
              ['str', 'str'],
              ['int', '1'],
            ],
          ],
        ],
        [
          'hash',
          [
            [
              ['sym', 'sym'],
              ['int', '2'],
            ],
          ],
        ],
        ['record', 'gid://shop/Order/42'],
        ['date', '2024-02-29'],
        ['time', '2024-02-29T12:34:56.789000000Z'],
        ['duration', ['int', '2888946'], [parts, ['days', ['int', '3']]]],
        ['module', 'String'],
        ['int', '18446744073709551616'],
      ],
      keywords: [
        'hash',
        [
          [
            ['sym', 'times'],
            ['int', '2'],
          ],
          [
            ['sym', 'nested'],
            [
              'hash',
              [
                [
                  ['str', 'x'],
                  ['sym', 'y'],
                ],
              ],
            ],
          ],
        ],
      ],
    });
  });

  test('Node to Ruby: keywords reach a method with keywords, later too', async () => {
    await stage.sidekiq();
    const client = stage.client();
    const now = await client.performLater('GreetJob', { args: ['Ann'], kwargs: { times: 2 } });
    const later = await client.performLater('GreetJob', { args: ['Bob'], in: 3600 });
    const [ran] = await stage.runsOf(now.jobId);
    expect(ran?.args).toEqual([
      ['str', 'Ann'],
      ['int', '2'],
    ]);
    const seen = await stage.ruby.run(
      `Sidekiq::ScheduledSet.new.map { |job| [job.display_class, job.display_args, job.jid] }`,
    );
    expect(seen).toEqual([['GreetJob', ['Bob'], later.jid]]);
    await stage.due('schedule');
    expect((await stage.runsOf(later.jobId))[0]?.args).toEqual([
      ['str', 'Bob'],
      ['int', '1'],
    ]);
  });

  test('retry_on of Ruby, taken up by Node, which asks for another and counts on', async () => {
    const id = await stage.ruby.run<string>(`StubbornJob.set(queue: 'default').perform_later('retry').job_id`);
    const ruby = await stage.sidekiq({ queues: ['default', 'again'] });
    await stage.runsOf(id);
    await until('Ruby has put it off', async () => (await stage.members('schedule')).length === 1);
    await ruby.stop();
    await node({
      StubbornJob: ({ attempt }) => {
        throw new Retry({ delayMs: 3_600_000, cause: new RangeError(`attempt ${attempt}`) });
      },
    });
    await stage.due('schedule');
    await runs(1);
    expect(got[0]).toMatchObject({ attempt: 2, activeJob: { jobId: id, executions: 1, queueName: 'again' } });
    await until('Node has put it off', async () => (await stage.members('schedule')).some(({ score }) => score > 2));
    const { hash = {} } = (await stage.members('schedule')).find(({ score }) => score > 2) ?? {};
    expect(hash).toMatchObject({ wrapped: 'StubbornJob', queue: 'again' });
    expect((hash['args'] as readonly unknown[])[0]).toMatchObject({
      job_id: id,
      executions: 2,
      exception_executions: { '[Boom]': 1, '[RangeError]': 1 },
    });
  });

  test('what Node puts off is run by Ruby, which counts on', async () => {
    await node({
      StubbornJob: () => {
        throw new Retry({ delayMs: 3_600_000 });
      },
    });
    const id = await stage.ruby.run<string>(`StubbornJob.set(queue: 'default').perform_later('ok').job_id`);
    await runs(1);
    await until('Node has put it off', async () => (await stage.members('schedule')).length === 1);
    // Its queue is another now, where no worker of Node listens.
    const [member] = await stage.members('schedule');
    await stage.store.del('schedule');
    await stage.store.zadd('schedule', '1', (member?.text ?? '').replace('"queue":"default"', '"queue":"ruby"'));
    await stage.sidekiq({ queues: ['ruby'] });
    const [ran] = await stage.runsOf(id);
    expect(ran).toMatchObject({ side: 'ruby', executions: 2 });
    expect(ran?.provider).toBe(member?.hash['jid']);
  });

  test("what fails without retry_on is retried by Sidekiq, under Active Job's name, on both sides", async () => {
    const id = await stage.ruby.run<string>(`StubbornJob.set(queue: 'default').perform_later('fail').job_id`);
    const ruby = await stage.sidekiq();
    await stage.runsOf(id);
    await until('Ruby has failed it', async () => (await stage.members('retry')).length === 1);
    await ruby.stop();
    await node({
      StubbornJob: () => {
        throw new TypeError('in Node');
      },
    });
    await stage.due('retry');
    await runs(1);
    await until('Node has failed it', async () => (await stage.members('retry'))[0]?.text.includes('in Node') === true);
    const seen = await stage.ruby.run(
      `job = Sidekiq::RetrySet.new.first; [job.display_class, job.display_args, job['retry_count'], job['error_class']]`,
    );
    expect(seen).toEqual(['StubbornJob', ['fail'], 1, 'TypeError']);
    expect(got[0]).toMatchObject({ activeJob: { jobId: id, executions: 0 } });
  });

  test('what is discarded is gone', async () => {
    await node({
      EchoJob: () => {
        throw new Discard('not wanted');
      },
    });
    await stage.ruby.run(`EchoJob.perform_later(1)`);
    await runs(1);
    await stage.empty();
    expect([await stage.members('retry'), await stage.members('dead'), await stage.members('schedule')]).toEqual([
      [],
      [],
      [],
    ]);
  });

  test('arguments that cannot be read fail the job as in Rails, and it is kept', async () => {
    await node({ EchoJob: () => {} });
    const jid = await stage.ruby.run<string>(
      `data = EchoJob.new(1).serialize.merge('arguments' => [{ '_aj_globalid' => 'nonsense' }])
       Sidekiq::Client.push('class' => ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper, 'wrapped' => 'EchoJob', 'args' => [data])`,
    );
    const { hash } = await stage.member('retry', jid);
    expect(hash).toMatchObject({ error_class: 'ActiveJob::DeserializationError' });
    expect(hash['error_message']).toContain('not a GlobalID: "nonsense"');
    expect(got).toEqual([]);
  });
});
