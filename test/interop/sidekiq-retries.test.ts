import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { RubyStage, until } from './support/ruby-stage.ts';

const SIDES = [
  ['ruby', 'node'],
  ['node', 'ruby'],
] as const;

describe('failures', () => {
  let stage: RubyStage;
  beforeAll(async () => {
    stage = await RubyStage.start();
  });
  afterEach(() => stage.end());
  afterAll(() => stage[Symbol.asyncDispose]());

  /** One worker, of this language. */
  const worker = (side: 'ruby' | 'node'): Promise<AsyncDisposable> =>
    side === 'ruby' ? stage.sidekiq() : stage.node({ heartbeatInterval: 5 });

  test.each(SIDES)('of %s are retried in %s, and counted on', async (first, second) => {
    const job = `'class' => 'FlakyJob', 'args' => [2], 'backtrace' => true, 'extra' => 1e20, 'queue' => 'default'`;
    const jid = await stage.ruby.run<string>(`Sidekiq::Client.push(${job})`);
    const one = await worker(first);
    const once = await stage.member('retry', jid);
    expect(once.hash).toMatchObject({
      class: 'FlakyJob',
      retry_count: 0,
      error_class: 'Boom',
      error_message: 'run 1 é',
      queue: 'default',
    });
    await one[Symbol.asyncDispose]();
    const other = await worker(second);
    await stage.due('retry');
    await stage.runsOf(jid, 2);
    const twice = await stage.member('retry', jid);
    expect(twice.hash).toMatchObject({ retry_count: 1, error_message: 'run 2 é', failed_at: once.hash['failed_at'] });
    expect(twice.hash).toHaveProperty('retried_at');
    // 1.0e+20 is another number's text in JavaScript.
    expect(twice.text).toContain('"extra":1.0e+20');
    expect(Object.keys(twice.hash).slice(0, 5)).toEqual(Object.keys(once.hash).slice(0, 5));
    await stage.due('retry');
    await stage.runsOf(jid, 3);
    await stage.empty();
    expect((await stage.ran()).map(({ side, run }) => [side, run])).toEqual([
      [first, 1],
      [second, 2],
      [second, 3],
    ]);
    expect(await stage.members('retry')).toEqual([]);
    await other[Symbol.asyncDispose]();
  });

  test.each(SIDES)('of %s have the delay of Sidekiq, and are shown by Ruby as its own', async (side) => {
    await worker(side);
    const jid = await stage.push({ class: 'FailJob', args: [1], backtrace: 3 });
    const before = Date.now() / 1000;
    const { score } = await stage.member('retry', jid);
    const delay = score - before;
    expect(delay).toBeGreaterThan(14);
    expect(delay).toBeLessThan(15 + 10 + 5);
    const seen = await stage.ruby.run<readonly unknown[]>(
      `job = Sidekiq::RetrySet.new.find_job(values['jid'])
       trace = job.error_backtrace
       [job.klass, job.jid, job['error_class'], job['error_message'], job['retry_count'], trace.size, trace.all?(String),
        Time.at(job['failed_at'] > 1e11 ? job['failed_at'] / 1000.0 : job['failed_at']).year, job.queue]`,
      { jid },
    );
    const year = new Date().getUTCFullYear();
    expect(seen).toEqual(['FailJob', jid, 'Boom', 'on purpose', 0, 3, true, year, 'default']);
  });

  test.each(SIDES)('of %s without retries are dead, and run again in %s', async (first, second) => {
    const jid = await stage.push({ class: 'FlakyJob', args: [1], retry: 0 });
    const one = await worker(first);
    await stage.member('dead', jid);
    await one[Symbol.asyncDispose]();
    await worker(second);
    const revived = await stage.ruby.run(`Sidekiq::DeadSet.new.find_job(values['jid']).retry`, { jid });
    expect(revived).toBeDefined();
    const ran = await stage.runsOf(jid, 2);
    expect(ran.map(({ side }) => side)).toEqual([first, second]);
    await until('it is not dead any more', async () => (await stage.members('dead')).length === 0);
  });

  test.each(SIDES)('of %s with retry false are forgotten, and counted', async (side) => {
    const one = await worker(side);
    const jid = await stage.push({ class: 'FailJob', args: [], retry: false });
    await stage.runsOf(jid);
    await one[Symbol.asyncDispose]();
    expect([await stage.members('retry'), await stage.members('dead')]).toEqual([[], []]);
    expect(await stage.ruby.run('stats = Sidekiq::Stats.new; [stats.processed, stats.failed]')).toEqual([1, 1]);
  });

  test.each(SIDES)('of %s with a retry_queue are moved to it', async (side) => {
    await worker(side);
    const jid = await stage.push({ class: 'FailJob', args: [], retry_queue: 'low' });
    expect((await stage.member('retry', jid)).hash).toMatchObject({ queue: 'low' });
  });

  test.each(SIDES)('of %s that kill the job are dead at once', async (side) => {
    await worker(side);
    const jid =
      side === 'node'
        ? await stage.push({ class: 'KillJob', args: [] })
        : await stage.push({ class: 'FailJob', args: [], retry: 0 });
    const { text } = await stage.member('dead', jid);
    expect(text).toContain(side === 'node' ? 'never again' : 'on purpose');
  });

  test('a failure that Node wrote is retried by the poller of Ruby, and its job is the same', async () => {
    const text =
      '{"retry":true,"queue":"default","class":"FlakyJob","args":[1],"jid":"aaaaaaaaaaaaaaaaaaaaaaaa","x":1.0,"y":12345678901234567890,"created_at":1795219358.8211396,"enqueued_at":1795219358.8218334}';
    await stage.store.rpush('queue:default', text);
    const node = await stage.node({ poll: false });
    const { text: failed } = await stage.member('retry', 'aaaaaaaaaaaaaaaaaaaaaaaa');
    expect(failed).toContain('"x":1.0,"y":12345678901234567890,"created_at":1795219358.8211396,');
    await node.stop();
    await stage.sidekiq();
    await stage.due('retry');
    expect((await stage.runsOf('aaaaaaaaaaaaaaaaaaaaaaaa', 2))[1]?.side).toBe('ruby');
  });

  test('what is scheduled in Ruby is moved by the poller of Node, and run by Ruby', async () => {
    const jid = await stage.ruby.run<string>('RubyJob.perform_in(3600, 1.0)');
    const node = await stage.node({ queues: ['nothing'] });
    await stage.due('schedule');
    await until('it is in its queue', async () => (await stage.store.llen('queue:default')) === 1);
    await node.stop();
    expect(
      await stage.ruby.run('job = Sidekiq::Queue.new.first; [job.jid, job.latency < 60, job.enqueued_at.year]'),
    ).toEqual([jid, true, new Date().getUTCFullYear()]);
    expect(await stage.store.lindex('queue:default', 0)).toContain('"args":[1.0]');
    await stage.sidekiq();
    expect((await stage.runsOf(jid))[0]?.side).toBe('ruby');
  });

  test('a job that runs when Ruby is told to stop is pushed back, and run by Node', async () => {
    // With a second thread, that one's BRPOP may still be waiting: it takes the job, and dies with it.
    const ruby = await stage.sidekiq({ timeout: 1, concurrency: 1 });
    const jid = await stage.push({ class: 'SlowJob', args: [60] });
    await stage.runsOf(jid);
    await ruby.stop();
    const waiting = await stage.store.lrange('queue:default', 0, -1);
    expect(waiting, `${JSON.stringify(await stage.ran())}\n${ruby.log()}`).toHaveLength(1);
    await stage.node();
    expect((await stage.runsOf(jid, 2)).map(({ side }) => side)).toEqual(['ruby', 'node']);
  });

  test('a job that runs when Node is told to stop is pushed back as it was, and run by Ruby', async () => {
    const node = await stage.node();
    const jid = await stage.push({ class: 'SlowJob', args: [60], x: 1.0 });
    const text = '"class":"SlowJob"';
    await stage.runsOf(jid);
    await node.worker.stop({ timeoutMs: 100 });
    expect(await stage.store.lrange('queue:default', 0, -1)).toEqual([expect.stringContaining(text) as string]);
    expect(await stage.members('retry')).toEqual([]);
    await stage.store.set('before', (await stage.store.lindex('queue:default', 0)) ?? '');
    expect(await stage.store.get('before')).not.toContain('retry_count');
    await stage.sidekiq();
    expect((await stage.runsOf(jid, 2)).map(({ side }) => side)).toEqual(['node', 'ruby']);
  });
});
