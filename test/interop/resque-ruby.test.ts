import fc from 'fast-check';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { stringify } from '../../protocols/formats/ruby-json.ts';
import { queueList } from '../../protocols/resque/queues.ts';
import { retryIdentifier } from '../../protocols/resque/retry.ts';
import {
  GlobalId,
  PlainDate,
  resque,
  ResqueClient,
  type ResqueJob,
  type ResqueOptions,
  RubySymbol,
} from '../../src/drivers/resque/index.ts';
import { Retry } from '../../src/signals.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { Ruby } from '../support/ruby.ts';
import { until } from '../support/until.ts';

/** Active Job 6.1 in Ruby, over as much of Resque as apps/ruby/resque.rb is: Debian has no Resque, the captures say what it sends. */
let server: RedisServer;
let redis: Redis;
let ruby: Ruby;
let client: ResqueClient;
const workers: Worker[] = [];

beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
  ruby = await Ruby.start({ redis: server.url });
  await ruby.run("require File.join(Dir.pwd, 'resque.rb')");
  client = new ResqueClient({ url: server.url, defaultQueue: 'default' });
});
afterEach(async () => {
  for (const worker of workers.splice(0)) await worker.stop();
  await redis.flushall();
});
afterAll(async () => {
  await client.close();
  await ruby[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

async function startWorker(tasks: Tasks, options: Partial<ResqueOptions> = {}): Promise<void> {
  const source = resque({ url: server.url, queues: ['default', 'again'], processTitle: false, ...options });
  const worker = new Worker({ tasks, sources: [source] });
  workers.push(worker);
  await worker.start();
}

interface Noted {
  readonly class: string;
  readonly id: string;
  readonly executions: number;
  readonly args: readonly unknown[];
}

const noted = async (): Promise<readonly Noted[]> =>
  (await redis.lrange('ran', 0, -1)).map((text) => JSON.parse(text) as Noted);

describe('Active Job', () => {
  test('what Ruby enqueues is run here, its arguments decoded', async () => {
    const jobs: ResqueJob[] = [];
    const id = await ruby.run<string>(
      `on_resque { EchoJob.perform_later(1, :sym, 'zwölf 🎉', { 'a' => 1.5 }, Date.new(2026, 11, 21), flag: true).job_id }`,
    );
    await startWorker(new Tasks().handle(defineTask('EchoJob'), (job) => void jobs.push(job)));
    await until('it has run', () => jobs.length === 1);
    const [job] = jobs;
    expect(job).toMatchObject({ id, task: 'EchoJob', attempt: 1, queue: 'default', kwargs: { flag: true } });
    expect(job!.args.slice(0, 3)).toEqual([1, new RubySymbol('sym'), 'zwölf 🎉']);
    expect(job!.args[3]).toMatchObject({ a: 1.5 });
    expect(job!.args[4]).toBeInstanceOf(PlainDate);
    expect(job!.activeJob).toMatchObject({ jobClass: 'EchoJob', queueName: 'default', executions: 0, locale: 'en' });
  });

  test('what is enqueued here is run by Ruby', async () => {
    const jobId = await client.performLater('GreetJob', { args: ['Ann'], kwargs: { times: 2 } });
    expect(await ruby.run("Resque.work_one('default')['class']")).toBe(
      'ActiveJob::QueueAdapters::ResqueAdapter::JobWrapper',
    );
    expect(await redis.lrange('resque:failed', 0, -1)).toEqual([]);
    expect(await noted()).toMatchObject([{ class: 'GreetJob', id: jobId, executions: 1 }]);
  });

  test('delayed on either side, moved here, run on the other', async () => {
    const ran: string[] = [];
    await ruby.run(`on_resque { EchoJob.set(wait: 1).perform_later('from ruby') }`);
    await startWorker(
      new Tasks().handle(defineTask('EchoJob'), ({ args: [word] }) => void ran.push(String(word))),
      {
        scheduler: true,
      },
    );
    await until('it has run', () => ran.length === 1);
    await client.performLater('GreetJob', { args: ['late'], queue: 'elsewhere', in: 1 });
    await until('it is moved', async () => (await client.size('elsewhere')) === 1);
    await ruby.run("Resque.work_one('elsewhere')");
    expect(await noted()).toMatchObject([{ class: 'GreetJob' }]);
    expect(await redis.keys('resque:timestamps:*')).toEqual([]);
  });

  test('a job that fails in Ruby is retried here, and the reverse, by one count', async () => {
    const attempts: number[] = [];
    const jobId = await ruby.run<string>(`on_resque { StubbornJob.perform_later('retry').job_id }`);
    // retry_on of the first run, in Ruby: a delayed job with the same id.
    await ruby.run(`on_resque { Resque.work_one('default') }`);
    expect(await redis.zcard('resque:delayed_queue_schedule')).toBe(1);
    await startWorker(
      new Tasks().handle(
        defineTask('StubbornJob'),
        ({ attempt }) => {
          attempts.push(attempt);
          throw new Retry({ delayMs: 0, cause: Object.assign(new Error('again'), { name: 'Boom' }) });
        },
        { retry: { max: 2 } },
      ),
      { scheduler: true },
    );
    await until('it has run here', () => attempts.length > 0);
    await workers[0]!.stop();
    expect(attempts[0]).toBe(2);
    const [text] = await redis.lrange('resque:queue:again', 0, -1);
    const [left] = text === undefined ? [undefined] : (JSON.parse(text) as { args: { executions: number }[] }).args;
    if (left !== undefined) {
      expect(left).toMatchObject({ job_id: jobId, executions: 2, exception_executions: { '[Boom]': 2 } });
      await ruby.run(`on_resque { Resque.work_one('again') }`);
      expect((await noted()).map(({ id, executions }) => [id, executions])).toEqual([
        [jobId, 1],
        [jobId, 3],
      ]);
    }
  });

  test('arguments that cannot be read fail the job, as in Rails', async () => {
    const text =
      '{"class":"ActiveJob::QueueAdapters::ResqueAdapter::JobWrapper","args":[{"job_class":"EchoJob","arguments":[{"_aj_serialized":"ActiveJob::Serializers::DurationSerializer"}]}]}';
    await redis.rpush('resque:queue:default', text);
    let ran = 0;
    await startWorker(new Tasks().handle(defineTask('EchoJob'), () => void ran++));
    await until('it has failed', async () => (await redis.llen('resque:failed')) === 1);
    const [failure] = await redis.lrange('resque:failed', 0, -1);
    expect(JSON.parse(failure!)).toMatchObject({ exception: 'ActiveJob::DeserializationError', queue: 'default' });
    expect(failure).toContain(`"payload":${text}`);
    expect(ran).toBe(0);
  });

  test('references to models come as references', async () => {
    const seen: unknown[] = [];
    await client.performLater('EchoJob', { args: [GlobalId.parse('gid://shop/Order/42')] });
    await startWorker(new Tasks().handle(defineTask('EchoJob'), ({ args }) => void seen.push(...args)));
    await until('it has run', () => seen.length === 1);
    expect(String(seen[0])).toBe('gid://shop/Order/42');
  });
});

describe('resque-retry', () => {
  test('Ruby and Node take turns at a job that fails, and count together', async () => {
    const args = [1, 'two words', { a: 1.5, 'b c': [null, true] }, [2, ['x']]];
    await client.enqueue('RetryingJob', { args });
    const runs = async (): Promise<unknown[]> => (await redis.lrange('ran', 0, -1)).map((text) => JSON.parse(text));
    const inNode = async (): Promise<void> => {
      const seen = (await runs()).length;
      const tasks = new Tasks().handle(
        defineTask('RetryingJob'),
        async ({ attempt }) => {
          await redis.rpush('ran', JSON.stringify({ side: 'node', attempt: attempt - 1 }));
          throw new Error('not yet');
        },
        { retry: { max: 3, delayMs: 1_000 } },
      );
      // It leaves with the job that it has: the next run is the other's.
      await startWorker(tasks, { concurrency: 1, scheduler: { run: false } });
      await until('it has run', async () => (await runs()).length > seen);
      await workers.pop()!.stop();
    };
    const due = async (): Promise<void> => {
      await startWorker(
        new Tasks().handle(defineTask('Nothing'), () => undefined),
        { queues: ['none'], scheduler: true },
      );
      await until('it is in its queue again', async () => (await client.size('default')) === 1);
      await workers.pop()!.stop();
    };
    await ruby.run("Resque.work_one('default')");
    await inNode();
    const [key] = await redis.keys('resque:resque-retry:RetryingJob:*');
    expect(key).toBe(await ruby.run(`RetryingJob.retry_key(*values['args'])`, { args }));
    expect(await redis.get(key!)).toBe('1');
    expect(await redis.ttl(`resque:failure-${key!.slice('resque:'.length)}`)).toBeGreaterThanOrEqual(1);
    await due();
    await ruby.run("Resque.work_one('default')");
    await inNode();
    expect(await runs()).toEqual([
      { side: 'ruby', attempt: 0 },
      { side: 'node', attempt: 1 },
      { side: 'ruby', attempt: 2 },
      { side: 'node', attempt: 3 },
    ]);
    expect(await redis.keys('resque:*resque-retry*')).toEqual([]);
    const failed = (await redis.lrange('resque:failed', 0, -1)).map((text) => JSON.parse(text) as { error: string });
    // Ruby's here has no suppression of failures that are retried: its two, and our last.
    expect(failed.map(({ error }) => error)).toEqual(['not yet', 'not yet', 'not yet']);
  });
});

describe("Ruby's own words", () => {
  const json = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: 'small' },
      fc.string({ unit: 'binary-ascii' }),
      fc.constantFrom(
        '#{x}',
        '#$x',
        '#@x',
        '#',
        'tab\t',
        '\u001b[0m',
        '\u00e9\u200b\u2028\u0085',
        '"\\',
        '\ue000 中文 🎉 \u{f1229}',
      ),
      fc.integer(),
      fc.double({ noNaN: true, noDefaultInfinity: true }).filter((value) => !Object.is(value, -0)),
      fc.boolean(),
      fc.constant(null),
      fc.array(tie('value'), { maxLength: 3 }),
      fc.dictionary(fc.string({ maxLength: 4 }), tie('value'), { maxKeys: 3, noNullPrototype: true }),
    ),
  })).value;

  test('arguments are joined as Ruby joins them: the key of resque-retry', async () => {
    const lists = fc.sample(fc.array(json, { maxLength: 4 }), { numRuns: 300, seed: 7 }) as unknown[][];
    const texts = lists.map((list) => stringify(list));
    const theirs = await ruby.run<string[]>(`values['texts'].map { |text| JSON.parse(text).join('-') }`, { texts });
    const ours = lists.map((list) => retryIdentifier(list));
    for (const [at, text] of texts.entries()) expect([text, ours[at]]).toEqual([text, theirs[at]]);
  });

  test('patterns of queues take what fnmatch takes', async () => {
    const patterns = [
      '*',
      'a*',
      '*a',
      '?',
      '??',
      '[ab]',
      '[a-c]*',
      '[!a]*',
      '[^a]?',
      'a[b',
      '\\*',
      'a\\?',
      '{a,b}*',
      '.*',
      'a*b*c',
      '*:*',
      '[.]x',
    ];
    const names = ['a', 'b', 'ab', 'abc', 'axbxc', '.x', '.', 'a/b', 'a:b', '*', 'a?', '{a,b}', 'é', 'éa', 'a[b', 'c1'];
    const theirs = await ruby.run<string[][]>(
      `values['patterns'].map { |pattern| values['names'].select { |name| File.fnmatch?(pattern, name) }.sort }`,
      { patterns, names },
    );
    const ours = patterns.map((pattern) =>
      queueList([pattern]).dynamic ? queueList([pattern]).expand(names) : undefined,
    );
    for (const [at, pattern] of patterns.entries()) {
      // Without a letter that makes it a pattern it is a name, in Ruby too.
      if (ours[at] === undefined) continue;
      expect([pattern, ours[at]]).toEqual([pattern, theirs[at]]);
    }
  });

  test('what is written here can be read by the pages of Resque', async () => {
    await startWorker(
      new Tasks().handle(defineTask('FailJob'), () => {
        throw new TypeError('zwölf');
      }),
    );
    await client.enqueue('FailJob', { args: [1] });
    await until('it has failed', async () => (await redis.llen('resque:failed')) === 1);
    const read = await ruby.run<Record<string, unknown>>(
      `failure = JSON.parse(Resque.redis.lindex('resque:failed', 0))
       host, pid, queues = failure['worker'].split(':')
       beats = Resque.redis.hgetall('resque:workers:heartbeat').values.map { |beat| Time.parse(beat).to_i }
       { at: Time.parse(failure['failed_at']).to_i, trace: failure['backtrace'].join("\\n"), pid: pid.to_i, queues: queues,
         beats: beats.all? { |beat| (Time.now.to_i - beat).abs < 60 },
         started: Resque.redis.smembers('resque:workers').all? { |id| Time.parse(Resque.redis.get("resque:worker:#{id}:started")) } }`,
    );
    expect(read).toMatchObject({ pid: process.pid, queues: 'default,again', beats: true, started: true });
    expect(Math.abs((read['at'] as number) - Date.now() / 1000)).toBeLessThan(60);
  });
});
