import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { sidekiqVersion } from '../support/ruby.ts';
import { RubyStage, until } from './support/ruby-stage.ts';

const version = sidekiqVersion();
const hasMetrics = Number.parseInt(version, 10) >= 7;

describe('Sidekiq::API on what Node wrote', () => {
  let stage: RubyStage;
  beforeAll(async () => {
    stage = await RubyStage.start();
  });
  afterEach(() => stage.end());
  afterAll(() => stage[Symbol.asyncDispose]());

  const ruby = <T = unknown>(source: string, values: Readonly<Record<string, unknown>> = {}): Promise<T> =>
    stage.ruby.run<T>(source, values);

  test('ProcessSet has the process, with everything a process of Ruby has', async () => {
    await stage.node({ queues: { critical: 2, default: 1 }, concurrency: 7, tag: 'shop', labels: ['node', 'eu'] });
    const seen = await ruby<readonly unknown[]>(
      `process = Sidekiq::ProcessSet.new.first
       [process['tag'], process.labels, process.queues.sort, process['concurrency'], process['busy'], process.stopping?, process['quiet'],
        process['identity'] == process.identity, process['rss'] > 1000, process['rtt_us'].class.name, process['pid'], Time.at(process['started_at']).year,
        Time.now.to_f - process['beat'] < 60, Sidekiq::ProcessSet.new.size]`,
    );
    const year = new Date().getUTCFullYear();
    expect(seen).toEqual([
      ...['shop', ['node', 'eu'], ['critical', 'default'], 7, 0, false, 'false'],
      ...[true, true, 'Integer', process.pid, year, true, 1],
    ]);
  });

  test('WorkSet has what runs, and no more once it has ended', async () => {
    await stage.node();
    const jid = await stage.push({ class: 'SlowJob', args: [3] });
    await stage.runsOf(jid);
    await until('Ruby sees it run', async () => (await ruby<number>('Sidekiq::WorkSet.new.size')) === 1);
    const [row] = await ruby<readonly (readonly unknown[])[]>(
      `Sidekiq::WorkSet.new.map { |process, thread, work|
         work = { 'queue' => work.queue, 'payload' => work.payload, 'run_at' => work.run_at.to_i } unless work.is_a?(Hash)
         payload = work['payload']
         payload = JSON.parse(payload) if payload.is_a?(String)
         [process.count(':'), thread.class.name, work['queue'], payload['jid'], payload['args'], Time.now.to_i - work['run_at'] < 60] }`,
    );
    expect(row).toEqual([2, 'String', 'default', jid, [3], true]);
    await stage.runsOf(jid, 2);
    await until('Ruby sees nothing run', async () => (await ruby<number>('Sidekiq::WorkSet.new.size')) === 0);
  });

  test('Stats count what ran, what failed, what waits', async () => {
    await stage.node();
    const ok = await stage.push({ class: 'NodeJob', args: [] });
    const bad = await stage.push({ class: 'FailJob', args: [] });
    await stage.push({ class: 'FailJob', args: [], retry: 0 });
    await ruby(`Sidekiq::Client.push('class' => 'NodeJob', 'args' => [], 'queue' => 'elsewhere')`);
    await stage.client().enqueue('NodeJob', { in: 3600 });
    await stage.runsOf(ok);
    await stage.member('retry', bad);
    await until('the statistics are written', async () => (await ruby<number>('Sidekiq::Stats.new.processed')) === 3);
    const seen = await ruby(
      `stats = Sidekiq::Stats.new
       [stats.failed, stats.enqueued, stats.scheduled_size, stats.retry_size, stats.dead_size, stats.processes_size, stats.default_queue_latency,
        Sidekiq::Stats::History.new(1).processed.to_a]`,
    );
    expect(seen).toEqual([2, 1, 1, 1, 1, 1, 0, [[new Date().toISOString().slice(0, 10), 3]]]);
  });

  test.skipIf(!hasMetrics)(
    `the metrics count runs and failures by class${hasMetrics ? '' : ` [skipped: Sidekiq ${version} has none, 7.0 has]`}`,
    async () => {
      const { worker } = await stage.node();
      // Which dialect is spoken is seen from the processes; so one of Ruby is there.
      await stage.sidekiq({ queues: ['nothing'] });
      await worker.stop();
      await stage.node();
      const jids = [
        await stage.push({ class: 'NodeJob', args: [] }),
        await stage.push({ class: 'NodeJob', args: [] }),
        await stage.push({ class: 'FailJob', args: [] }),
      ];
      for (const jid of jids) await stage.runsOf(jid);
      const counted = (): Promise<Readonly<Record<string, readonly number[]>>> =>
        ruby(
          `require 'sidekiq/metrics/query'
           Sidekiq::Metrics::Query.new.top_jobs.job_results.transform_values { |one| [one.totals['p'].to_i, one.totals['f'].to_i] }`,
        );
      await until('Ruby has the counts', async () => (await counted())['FailJob'] !== undefined);
      expect(await counted()).toMatchObject({ NodeJob: [2, 0], FailJob: [1, 1] });
    },
  );

  test('Queue reads, finds and deletes jobs', async () => {
    const client = stage.client();
    const pushed = await client.enqueueMany('NodeJob', [{ args: [1, { a: 'é' }] }, { args: [1.5] }, { args: ['b'] }]);
    const seen = await ruby(
      `queue = Sidekiq::Queue.new
       [queue.size, queue.latency < 60, queue.map(&:args), queue.find_job(values['jid']).delete, queue.size]`,
      { jid: pushed[1]?.jid },
    );
    expect(seen).toEqual([3, true, [['b'], [1.5], [1, { a: 'é' }]], true, 2]);
    expect(await ruby('Sidekiq::Queue.new.clear; [Sidekiq::Queue.all.size, Sidekiq::Queue.new.size]')).toEqual([0, 0]);
  });

  test('a retry is found, put off without a second copy, and deleted', async () => {
    await stage.node({ poll: false });
    const jid = await stage.push({ class: 'FailJob', args: [1.0, 'é', { 'a b': [null] }], backtrace: true });
    await stage.member('retry', jid);
    await ruby(`Sidekiq::RetrySet.new.find_job(values['jid']).reschedule(Time.now + 7200)`, { jid });
    const members = await stage.members('retry');
    expect(members).toHaveLength(1);
    expect(members[0]?.score).toBeGreaterThan(Date.now() / 1000 + 7000);
    expect(
      await ruby(`Sidekiq::RetrySet.new.find_job(values['jid']).delete; Sidekiq::RetrySet.new.size`, { jid }),
    ).toBe(0);
  });

  test('a retry is killed, and the dead one is retried in Node with one failure less', async () => {
    const node = await stage.node({ poll: false });
    const jid = await stage.push({ class: 'FlakyJob', args: [1] });
    await stage.member('retry', jid);
    await node.stop();
    await ruby(`Sidekiq::RetrySet.new.find_job(values['jid']).kill`, { jid });
    expect((await stage.member('dead', jid)).hash).toMatchObject({ retry_count: 0, error_class: 'Boom' });
    await ruby('Sidekiq::DeadSet.new.retry_all');
    expect(await stage.store.lindex('queue:default', 0)).toContain('"retry_count":-1');
    await stage.node();
    expect((await stage.runsOf(jid, 2)).map(({ run }) => run)).toEqual([1, 2]);
    await stage.empty();
  });

  test('a scheduled job is run now', async () => {
    const { jid } = await stage.client().enqueue('NodeJob', { args: ['x'], in: 3600 });
    await ruby(`Sidekiq::ScheduledSet.new.find_job(values['jid']).add_to_queue`, { jid });
    await stage.node();
    expect((await stage.runsOf(jid))[0]?.args).toEqual(['x']);
  });

  test('quiet! makes it take nothing more, and stop! ends it', async () => {
    const { worker } = await stage.node();
    await until('Ruby sees it', async () => (await ruby<number>('Sidekiq::ProcessSet.new.size')) === 1);
    await ruby('Sidekiq::ProcessSet.new.first.quiet!');
    await until('it is quiet', () => worker.state === 'quiet');
    await until('Ruby sees that it is', () => ruby<boolean>('Sidekiq::ProcessSet.new.first.stopping?'));
    const jid = await stage.push({ class: 'NodeJob', args: [] });
    await ruby('Sidekiq::ProcessSet.new.first.stop!');
    await until('it has stopped', () => worker.state === 'stopped');
    expect(await ruby('Sidekiq::ProcessSet.new.size')).toBe(0);
    expect((await stage.ran()).filter((one) => one.jid === jid)).toEqual([]);
    expect(await stage.store.llen('queue:default')).toBe(1);
  });

  test('a queue that is paused is not fetched from until it goes on', async () => {
    await stage.store.sadd('paused', 'default');
    await stage.node();
    const jid = await stage.push({ class: 'NodeJob', args: [] });
    const other = await stage.node({ queues: ['other'] });
    const later = await stage.push({ class: 'NodeJob', args: [], queue: 'other' });
    await stage.runsOf(later);
    await other.stop();
    expect((await stage.ran()).map((one) => one.jid)).toEqual([later]);
    await stage.store.srem('paused', 'default');
    await stage.runsOf(jid);
  });
});
