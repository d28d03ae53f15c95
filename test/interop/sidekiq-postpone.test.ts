import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { Postpone } from '../../src/signals.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { RubyStage } from './support/ruby-stage.ts';

/** Node postpones every job. */
const postponing = new Tasks().handle(defineTask('BothJob'), () => {
  throw new Postpone({ delayMs: 60_000 });
});

describe('Jobs that Node postpones', () => {
  let stage: RubyStage;
  beforeAll(async () => {
    stage = await RubyStage.start();
  });
  afterEach(() => stage.end());
  afterAll(() => stage[Symbol.asyncDispose]());

  test('a job that Node postpones is an ordinary scheduled job to Ruby, which runs it', async () => {
    const node = await stage.node({ tasks: postponing, poll: false });
    const jid = await stage.push({ class: 'BothJob', args: [1.0, 'é', { a: [null] }], tags: ['x'] });
    const { hash } = await stage.member('schedule', jid);
    expect(hash).not.toHaveProperty('retry_count');
    await node.stop();
    const seen = await stage.ruby.run(
      `set = Sidekiq::ScheduledSet.new
       job = set.find_job(values['jid'])
       [set.size, job.klass, job.args, job.tags, job.at > Time.now + 30, Sidekiq::RetrySet.new.size]`,
      { jid },
    );
    expect(seen).toEqual([1, 'BothJob', [1, 'é', { a: [null] }], ['x'], true, 0]);
    await stage.due('schedule');
    await stage.sidekiq();
    const [ran] = await stage.runsOf(jid);
    expect(ran).toMatchObject({ side: 'ruby', class: 'BothJob', args: [1, 'é', { a: [null] }] });
    await stage.empty();
  });

  test('a retry that Node postpones keeps its count, and fails on from there in Ruby', async () => {
    const flaky = new Tasks().handle(defineTask('FailJob'), () => {
      throw new Postpone({ delayMs: 60_000 });
    });
    const node = await stage.node({ tasks: flaky, poll: false });
    await stage.store.sadd('queues', 'default');
    const text = `{"retry":5,"queue":"default","class":"FailJob","args":[],"jid":"aa","created_at":1795219633.5,"error_message":"m","error_class":"Boom","failed_at":1795219634.5,"retry_count":1,"retried_at":1795219650.5}`;
    await stage.store.lpush('queue:default', text);
    expect((await stage.member('schedule', 'aa')).text).toBe(text);
    await node.stop();
    await stage.due('schedule');
    await stage.sidekiq();
    expect((await stage.member('retry', 'aa')).hash['retry_count']).toBe(2);
  });
});
