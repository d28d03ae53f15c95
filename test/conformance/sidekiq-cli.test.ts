import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { explain } from '../../protocols/sidekiq/explain.ts';
import { program } from '../../src/cli/program.ts';
import { readSidekiqYml } from '../../src/cli/sidekiq/sidekiq-yml.ts';
import { resolveSidekiq, weighted } from '../../src/cli/sidekiq/settings.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { temporaryFolder } from '../support/folder.ts';
import { until } from '../support/until.ts';
import { SidekiqScene } from './sidekiq-scene.ts';

let scene: SidekiqScene;
const folder = temporaryFolder('jobglot-sidekiq-cli-');
beforeAll(async () => {
  scene = await SidekiqScene.start();
});
afterEach(() => scene.reset());
afterAll(() => scene[Symbol.asyncDispose]());

/** The command line, in this process. */
async function jobglot(
  ...args: readonly string[]
): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  const said = { code: -1, out: '', err: '' };
  const context = {
    env: { REDIS_URL: scene.server.url },
    cwd: folder,
    out: (text: string) => void (said.out += text),
    err: (text: string) => void (said.err += text),
    done: (code: number) => void (said.code = code),
  };
  await program(context).parseAsync([...args], { from: 'user' });
  return said;
}

describe('enqueue', () => {
  test('prints the jid; numbers go as they are written', async () => {
    const { code, out } = await jobglot(
      'enqueue',
      'sidekiq',
      'HardJob',
      '[1.0, 12345678901234567890]',
      '-q',
      'low',
      '--retry',
      '5',
      '--set',
      'tenant_id=7',
      '--set',
      'note=hi',
    );
    expect([code, out]).toEqual([0, expect.stringMatching(/^[0-9a-f]{24}\n$/)]);
    const [job] = await scene.queue('low');
    expect(job).toContain('"args":[1.0,12345678901234567890]');
    expect(JSON.parse(job!)).toMatchObject({ jid: out.trim(), retry: 5, tenant_id: 7, note: 'hi' });
  });
  test('for later, and for Active Job', async () => {
    await jobglot('enqueue', 'sidekiq', 'ShipJob', '[42]', '--in', '300', '--active-job');
    const [later] = await scene.set('schedule');
    expect(JSON.parse(later!.text)).toMatchObject({
      wrapped: 'ShipJob',
      args: [{ job_class: 'ShipJob', arguments: [42] }],
    });
  });
  test.each([
    [['{}'], 'ARGS must be a JSON list'],
    [['[1'], 'ARGS is not JSON'],
    [['[]', '--in', '1', '--at', '2026-01-01T00:00:00Z'], '--in and --at both say when'],
  ])('%j is refused', async (args, why) => {
    await expect(jobglot('enqueue', 'sidekiq', 'X', ...args)).rejects.toThrow(why);
  });
});

describe('inspect and control', () => {
  test('show and change what there is', async () => {
    const soon = String(Date.now() / 1000 + 60);
    for (const jid of ['one', 'two', 'three'])
      await scene.redis.zadd(
        'retry',
        soon,
        `{"class":"X","args":[],"jid":"${jid}","queue":"q","retry_count":1,"error_class":"Boom","error_message":"no\\u0007"}`,
      );
    expect((await jobglot('inspect', 'sidekiq')).out).toMatch(/retries +3\n/);
    expect((await jobglot('inspect', 'sidekiq', 'retry')).out).toMatch(/X one of q failed 2 times, Boom: no\\u0007\n/);
    expect(JSON.parse((await jobglot('inspect', 'sidekiq', 'retry', '--json', '--find', 'two')).out)).toMatchObject([
      { jid: 'two' },
    ]);
    expect(await jobglot('control', 'sidekiq', 'retry', 'one', 'missing')).toEqual({
      code: 1,
      out: 'retry: 1 done, 1 gone\n',
      err: expect.stringMatching(/(?:^|\n)missing: gone\n$/) as string,
    });
    expect((await jobglot('control', 'sidekiq', 'kill', 'two')).out).toBe('kill: 1 done\n');
    expect((await jobglot('control', 'sidekiq', 'delete', '--all')).out).toBe('delete: 1 done\n');
    expect((await jobglot('inspect', 'sidekiq', 'dead')).out).toContain('X two of q');
    expect((await jobglot('inspect', 'sidekiq', 'queues')).out).toMatch(/^q +1 job +the oldest has waited /);
    expect((await jobglot('inspect', 'sidekiq', 'queue', 'q')).out).toContain('"jid":"one"');
    expect((await jobglot('control', 'sidekiq', 'pause', 'q')).out).toBe('pause: 1 done\n');
    expect((await jobglot('inspect', 'sidekiq', 'queues')).out).toContain('paused');
    expect((await jobglot('control', 'sidekiq', 'unpause', 'q')).out).toBe('resume: 1 done\n');
    expect((await jobglot('inspect', 'sidekiq', 'overview')).out).toMatch(/^queued +1\n/);
    expect((await jobglot('inspect', 'sidekiq', 'jobs', 'dead')).out).toMatch(/^two X\(\), of q, dead/);
    expect((await jobglot('inspect', 'sidekiq', 'job', 'one')).out).toContain('error_class');
    expect((await jobglot('control', 'sidekiq', 'clear', 'q')).out).toBe('delete: 1 done\n');
  });

  test('times that are none are no reason to fail', async () => {
    const odd = '{"class":"X","args":[],"jid":"a","enqueued_at":1e300,"failed_at":1e17,"expiry":1e300,"retry_count":1}';
    await scene.redis.zadd('retry', '1e28', odd, 'inf', odd.replace('"a"', '"b"'));
    const { out } = await jobglot('inspect', 'sidekiq', 'retry');
    expect(out).toMatch(/^at no time \(1e\+31\) X a .*\nat no time \(.*\) X b /);
    const { fields } = explain(Buffer.from(odd), new Date()).sections.find(({ title }) => title === 'Times')!;
    expect(JSON.stringify(fields)).toContain('no time');
  });

  test('a worker is shown, and told to be quiet and to stop', async () => {
    const worker = await scene.startWorker(new Tasks().handle(defineTask('X'), () => undefined));
    expect((await jobglot('inspect', 'sidekiq', 'processes')).out).toMatch(/\[jobglot\] jobglot \d.*: 0 of 10 busy/);
    expect((await jobglot('inspect', 'sidekiq', 'workers')).out).toMatch(/: idle; 0 of 10 running; Node, /);
    expect((await jobglot('inspect', 'sidekiq', 'work')).out).toBe('nothing runs\n');
    expect((await jobglot('control', 'sidekiq', 'quiet')).out).toBe('quiet: 1 done\n');
    await until('it is quiet', () => worker.state === 'quiet');
    await jobglot('control', 'sidekiq', 'stop');
    await until('it has stopped', () => worker.state === 'stopped');
  });
});

describe('what a worker is told', () => {
  test('weights by flags', () => {
    expect(weighted(['critical', '5', 'default'])).toEqual([
      ['critical', 5],
      ['default', 0],
    ]);
    expect(() => weighted(['5'])).toThrow('a weight without a queue');
  });

  test('config/sidekiq.yml: symbols, weights, capsules, the environment, and ERB that reads it', async () => {
    await mkdir(join(folder, 'config'), { recursive: true });
    await writeFile(
      join(folder, 'config/sidekiq.yml'),
      [
        '---',
        ':concurrency: <%= ENV.fetch("RAILS_MAX_THREADS") { 7 } %>',
        ':timeout: 30',
        ':max_retries: 10',
        ':verbose: true',
        ':queues:',
        '  - [critical, 3]',
        '  - default',
        ':capsules:',
        '  :single:',
        '    :concurrency: 1',
        '    :queues: [unsafe]',
        'production:',
        '  :concurrency: 20',
        'tag: <%= ENV["APP"] || "shop" %>',
      ].join('\n'),
    );
    expect(readSidekiqYml(folder, undefined, {})).toMatchObject({
      options: { concurrency: 7, maxRetries: 10, queues: [['critical', 3], 'default'], tag: 'shop' },
      capsules: [['single', { concurrency: 1, queues: ['unsafe'] }]],
      shutdownTimeoutMs: 30_000,
      ignored: ['verbose'],
    });
    expect(readSidekiqYml(folder, undefined, { RAILS_ENV: 'production' })?.options.concurrency).toBe(20);
    expect(readSidekiqYml(folder, undefined, { RAILS_MAX_THREADS: '3' })?.options.concurrency).toBe(3);
    const { options, from } = resolveSidekiq(
      { queues: ['only'], concurrency: 2 },
      { REDIS_URL: 'redis://elsewhere' },
      {},
      folder,
    );
    expect(options).toMatchObject({ url: 'redis://elsewhere', queues: [['only', 0]], concurrency: 2, maxRetries: 10 });
    expect(from).toBe('REDIS_URL');
  });

  test.each([
    [':concurrency: <%= `date` %>', 'would have to be run as Ruby'],
    [':concurrency: <%= ENV.fetch("NOBODY_SETS_THIS") %>', 'NOBODY_SETS_THIS is not set'],
    [':concurrency: many', 'concurrency must be a number'],
    [':queues: [[1, 2]]', 'is no name'],
    ['[1]', 'must be a mapping'],
  ])('a file that says %s is refused', async (text, why) => {
    const file = join(folder, 'bad.yml');
    await writeFile(file, text);
    expect(() => readSidekiqYml(folder, file, {})).toThrow(why);
  });

  test('REDIS_PROVIDER names the variable', () => {
    const env = { REDIS_PROVIDER: 'OTHER_URL', OTHER_URL: 'redis://other' };
    expect(resolveSidekiq({}, env, {}, '/nowhere').options.url).toBe('redis://other');
    expect(() => resolveSidekiq({}, { REDIS_PROVIDER: 'redis://x' }, {}, '/nowhere')).toThrow('must name the variable');
  });
});
