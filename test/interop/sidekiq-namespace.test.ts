import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sidekiqVersion } from '../support/ruby.ts';
import { RubyStage, until } from './support/ruby-stage.ts';

const isThere = Number.parseInt(sidekiqVersion(), 10) < 7;
const why = isThere ? '' : ' [skipped: Sidekiq 7 has no namespaces]';

describe.skipIf(!isThere)(`under a redis-namespace, as Sidekiq up to 6.x may be${why}`, () => {
  let stage: RubyStage;
  beforeAll(async () => {
    stage = await RubyStage.start('shop');
  });
  afterAll(() => stage[Symbol.asyncDispose]());

  test('jobs, failures and processes of either language are where the other looks', async () => {
    const node = await stage.node();
    const web = await stage.web();
    const fromRuby = await stage.push({ class: 'NodeJob', args: ['a'] });
    expect((await stage.runsOf(fromRuby))[0]?.side).toBe('node');
    expect(await stage.ruby.run('Sidekiq::ProcessSet.new.map { |one| one["tag"] }')).toEqual(['jobglot']);
    const flaky = await stage.push({ class: 'FlakyJob', args: [1] });
    await stage.member('retry', flaky);
    const busy = await (await fetch(`${web.url}/busy`)).text();
    expect(busy).toContain('jobglot');
    await node.stop();
    await stage.due('retry');
    const fromNode = await stage.client().enqueue('RubyJob', { args: ['b'] });
    await stage.client().enqueue('RubyJob', { args: ['c'], in: 3600 });
    await stage.sidekiq();
    expect((await stage.runsOf(fromNode.jid))[0]?.side).toBe('ruby');
    expect((await stage.runsOf(flaky, 2)).map(({ side }) => side)).toEqual(['node', 'ruby']);
    await stage.due('schedule');
    await until('what was scheduled has run', async () => (await stage.ran()).some(({ args }) => args[0] === 'c'));
    const all = await stage.redis.client().keys('*');
    expect(all.filter((key) => !key.startsWith('shop:'))).toEqual([]);
    expect(all.length).toBeGreaterThan(3);
  });
});
