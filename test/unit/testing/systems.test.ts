import { describe, expect, expectTypeOf, test } from 'vitest';
import type { EnqueuedJob } from '../../../src/drivers/rq/index.ts';
import type { Pushed } from '../../../src/drivers/sidekiq/index.ts';
import {
  ConfigError,
  defineTask,
  Discard,
  Fail,
  Postpone,
  RemoteError,
  ResultTimeoutError,
  Retry,
  Tasks,
  UnknownTaskError,
  WireError,
} from '../../../src/index.ts';
import { inline, type InlineRun, recorder } from '../../../src/testing/index.ts';

const send = defineTask<(to: string, times?: number) => string>('app.send', {
  names: { sidekiq: 'Send', resque: 'Send' },
});
const mail = defineTask<(to: string) => void, { urgent?: boolean }>('MailJob');
const flaky = defineTask<(failures: number) => number>('Flaky');
const ends = defineTask<(how: string) => string>('Ends');

/** Handlers that fail in each way; each try of a job is one run. */
function tasksOf(): Tasks {
  let postponed = false;
  return new Tasks()
    .handle(send, ({ args: [to, times = 1] }) => to.repeat(times))
    .handle(mail, () => {})
    .handle(
      flaky,
      ({ args: [failures], attempt }) => {
        if (attempt <= failures) throw new TypeError(`try ${attempt}`);
        return attempt;
      },
      { retry: { max: 3, delayMs: 60_000 } },
    )
    .handle(ends, ({ args: [how] }) => {
      if (how === 'fail') throw new Fail('no more');
      if (how === 'discard') throw new Discard();
      if (how === 'retry') throw new Retry({ delayMs: 3_600_000 });
      if (how === 'postpone' && !postponed) {
        postponed = true;
        throw new Postpone({ delayMs: 3_600_000 });
      }
      return how;
    });
}

const outcomes = (runs: readonly InlineRun[]): readonly string[] => runs.map(({ outcome }) => outcome.kind);
const states = (runs: readonly InlineRun[]): readonly string[] => runs.map(({ disposition }) => disposition.state);

describe('a recorder of Sidekiq', () => {
  test('remembers arguments as a worker sees them, and options as they were passed', async () => {
    const tape = recorder('sidekiq');
    const receipt = await tape.enqueue(send, { args: ['a'], queue: 'mail', in: 60 });
    expect(receipt).toEqual({ jid: expect.stringMatching(/^[0-9a-f]{24}$/) as string, state: 'pushed' });
    await tape.enqueue('Other', { args: [undefined, { a: undefined, b: 1 }] });
    expect(tape.enqueued(send)).toEqual([{ args: ['a'], kwargs: {}, queue: 'mail', in: 60 }]);
    expect(tape.enqueued().map(({ task }) => task)).toEqual(['Send', 'Other']);
    expect(tape.enqueued('Other')[0]?.queue).toBe('default');
    tape.clear();
    expect(tape.enqueued()).toEqual([]);
  });

  test('records jobs of Active Job by their own class', async () => {
    const tape = recorder('sidekiq');
    await tape.performLater(mail, { args: ['a'], kwargs: { urgent: true }, queue: 'mailers' });
    expect(tape.enqueued(mail)).toEqual([{ args: ['a'], kwargs: { urgent: true }, queue: 'mailers' }]);
  });

  test('refuses what the real client refuses, and records none of it', async () => {
    const tape = recorder('sidekiq');
    const call = (options: object): Promise<unknown> => tape.enqueue('Send', options);
    await expect(call({ args: [new Date()] })).rejects.toThrow(WireError);
    await expect(call({ args: [() => 1] })).rejects.toThrow(WireError);
    await expect(call({ kwargs: { a: 1 } })).rejects.toThrow(ConfigError);
    await expect(call({ args: [], in: 'soon' })).rejects.toThrow(/in must be/);
    expect(tape.enqueued()).toEqual([]);
  });

  test('has no server to ask', async () => {
    await expect(recorder('sidekiq').cancel('a')).rejects.toThrow(/has no server/);
  });

  test('has the types of the client', () => {
    const tape = recorder('sidekiq');
    expectTypeOf(tape.enqueue(send, { args: ['a'] })).resolves.toEqualTypeOf<Pushed>();
    const typed = (): Parameters<(to: string, times?: number) => void> | undefined => tape.enqueued(send)[0]?.args;
    expect(typed()).toBeUndefined();
    const refused = (): unknown[] => [
      // @ts-expect-error: the argument is missing
      tape.enqueue(send),
      // @ts-expect-error: a job of Sidekiq has no keywords
      tape.enqueue('Send', { kwargs: { a: 1 } }),
      // @ts-expect-error: an option of Celery
      tape.enqueue(send, { args: ['a'], countdown: 1 }),
    ];
    expect(refused).toBeTypeOf('function');
  });
});

describe('a recorder of Resque', () => {
  test('remembers what was pushed and what was delayed', async () => {
    const tape = recorder('resque', { defaultQueue: 'low' });
    expect(await tape.enqueue(send, { args: ['a', 2] })).toBe(true);
    expect(await tape.enqueue(send, { args: ['b'], queue: 'high', in: 60 })).toBe(true);
    await tape.enqueueTo('mail', send, 'c');
    await tape.performLater(mail, { args: ['d'], kwargs: { urgent: true } });
    expect(tape.enqueued(send)).toEqual([
      { args: ['a', 2], kwargs: {}, queue: 'low' },
      { args: ['b'], kwargs: {}, queue: 'high', in: 60 },
      { args: ['c'], kwargs: {}, queue: 'mail' },
    ]);
    expect(tape.enqueued(mail)).toEqual([{ args: ['d'], kwargs: { urgent: true }, queue: 'low' }]);
  });

  test('refuses what the real client refuses', async () => {
    const tape = recorder('resque');
    const call = (options: object): Promise<unknown> => tape.enqueue('Send', options);
    await expect(call({ args: ['a'] })).rejects.toThrow(/needs a queue/);
    await expect(call({ args: [new Date()], queue: 'a' })).rejects.toThrow(WireError);
    await expect(call({ kwargs: { a: 1 }, queue: 'a' })).rejects.toThrow(ConfigError);
    await expect(tape.size('a')).rejects.toThrow(/has no server/);
    expect(tape.enqueued()).toEqual([]);
  });
});

describe('a recorder of RQ', () => {
  test('remembers what was enqueued, with keywords and options', async () => {
    const tape = recorder('rq');
    const job = await tape.enqueue(send, { args: ['a'], queue: 'mail', in: '10m', jobId: 'one' });
    expect([job.id, job.registered]).toEqual(['one', 'scheduled']);
    await tape.enqueueMany(mail, [{ args: ['a'] }, { args: ['b'], kwargs: { urgent: true } }]);
    expect(tape.enqueued(send)).toEqual([{ args: ['a'], kwargs: {}, queue: 'mail', in: '10m', jobId: 'one' }]);
    expect(tape.enqueued(mail)).toEqual([
      { args: ['a'], kwargs: {}, queue: 'default' },
      { args: ['b'], kwargs: { urgent: true }, queue: 'default' },
    ]);
    expectTypeOf(tape.enqueue(send, { args: ['a'] })).resolves.toEqualTypeOf<EnqueuedJob<string>>();
  });

  test('refuses what the real client refuses, and has no results', async () => {
    const tape = recorder('rq', { serializer: 'json' });
    await expect(tape.enqueue('a.b', { args: [() => 1] })).rejects.toThrow(WireError);
    await expect(tape.enqueue('a.b', { args: [], retry: { max: 0 } })).rejects.toThrow(ConfigError);
    expect(tape.enqueued()).toEqual([]);
    await expect((await tape.enqueue('a.b')).get()).rejects.toThrow(/recorded, not run/);
  });
});

describe('an inline client of Sidekiq', () => {
  test('runs a job as it is pushed, with what the wire makes of its arguments', async () => {
    const now = inline(
      tasksOf().handle(defineTask('Echo'), ({ args }) => args),
      { system: 'sidekiq' },
    );
    expect(await now.enqueue(send, { args: ['a', 2], in: 3600 })).toMatchObject({ state: 'pushed' });
    await now.enqueue('Echo', { args: [undefined, { a: undefined }] });
    expect(now.runs.map(({ outcome }) => outcome)).toEqual([
      { kind: 'success', value: 'aa' },
      { kind: 'success', value: [null, {}] },
    ]);
    await expect(now.enqueue('Missing')).rejects.toThrow(UnknownTaskError);
    await expect(now.enqueue('Echo', { args: [new Date()] })).rejects.toThrow(WireError);
  });

  test('retries without waiting, and ends in the dead set', async () => {
    const now = inline(tasksOf(), { system: 'sidekiq' });
    await now.enqueue(flaky, { args: [2] });
    expect(states(now.runs)).toEqual(['retrying', 'retrying', 'succeeded']);
    expect(now.runs.map(({ job }) => job.attempt)).toEqual([1, 2, 3]);
    await now.enqueue(flaky, { args: [99], retry: 1 });
    expect(states(now.runs).slice(3)).toEqual(['retrying', 'failed']);
    expect(now.dead).toEqual([expect.objectContaining({ class: 'Flaky', error_class: 'TypeError', retry_count: 1 })]);
  });

  test('settles Fail, Discard and Postpone by its rules', async () => {
    const now = inline(tasksOf(), { system: 'sidekiq' });
    await now.enqueue(ends, { args: ['fail'] });
    await now.enqueue(ends, { args: ['discard'] });
    expect(states(now.runs)).toEqual(['failed', 'discarded']);
    await now.enqueue(ends, { args: ['postpone'] });
    expect(outcomes(now.runs).slice(2)).toEqual(['postpone', 'success']);
    expect(now.runs.at(-1)?.job.attempt).toBe(1);
  });

  test('runs jobs of Active Job', async () => {
    const now = inline(tasksOf(), { system: 'sidekiq' });
    await now.performLater(mail, { args: ['a'], kwargs: { urgent: true } });
    expect(now.runs[0]?.job).toMatchObject({ task: 'MailJob', args: ['a'], kwargs: { urgent: true } });
  });

  test('ends a job at its time limit', async () => {
    const slow = defineTask('Slow');
    const tasks = new Tasks().handle(slow, () => new Promise(() => {}), { timeoutMs: 5, retry: { max: 0 } });
    const now = inline(tasks, { system: 'sidekiq' });
    await now.enqueue(slow, { retry: false });
    expect(outcomes(now.runs)).toEqual(['timeout']);
  });

  test('ends retries that never end', async () => {
    const tasks = new Tasks().handle(ends, () => Promise.reject(new Postpone({ delayMs: 1 })));
    await expect(inline(tasks, { system: 'sidekiq' }).enqueue(ends, { args: ['a'] })).rejects.toThrow(
      /more than 1000 runs/,
    );
  });
});

describe('an inline client of Resque', () => {
  test('runs a job as it is pushed', async () => {
    const now = inline(tasksOf(), { system: 'resque', defaultQueue: 'low' });
    expect(await now.enqueue(send, { args: ['a', 2] })).toBe(true);
    await now.enqueueIn(3600, send, { args: ['b'] });
    expect(now.runs.map(({ outcome }) => outcome)).toEqual([
      { kind: 'success', value: 'aa' },
      { kind: 'success', value: 'b' },
    ]);
    await expect(now.enqueue('Missing')).rejects.toThrow(UnknownTaskError);
  });

  test('retries with a scheduler, and fails at once without one', async () => {
    const now = inline(tasksOf(), { system: 'resque', defaultQueue: 'low' });
    await now.enqueue(flaky, { args: [2] });
    expect(states(now.runs)).toEqual(['retrying', 'retrying', 'succeeded']);
    await now.enqueue(flaky, { args: [99] });
    expect(states(now.runs).slice(3)).toEqual(['retrying', 'retrying', 'retrying', 'failed']);
    expect(now.failures).toEqual([expect.objectContaining({ exception: 'TypeError', error: 'try 4' })]);
    const alone = inline(tasksOf(), { system: 'resque', defaultQueue: 'low', scheduler: false });
    await alone.enqueue(flaky, { args: [2] });
    expect(states(alone.runs)).toEqual(['failed']);
  });

  test('settles Fail, Discard and Postpone by its rules', async () => {
    const now = inline(tasksOf(), { system: 'resque', defaultQueue: 'low' });
    await now.enqueue(ends, { args: ['fail'] });
    await now.enqueue(ends, { args: ['discard'] });
    expect(states(now.runs)).toEqual(['failed', 'discarded']);
    await now.enqueue(ends, { args: ['postpone'] });
    expect(outcomes(now.runs).slice(2)).toEqual(['postpone', 'success']);
  });
});

describe('an inline client of RQ', () => {
  test('runs a job and gives its result as the real receipt does', async () => {
    const now = inline(tasksOf(), { system: 'rq' });
    const job = await now.enqueue(send, { args: ['a', 2] });
    expectTypeOf(job).toEqualTypeOf<EnqueuedJob<string>>();
    expect(await job.get()).toBe('aa');
    expect([await job.status(), (await job.result())?.type]).toEqual(['finished', 'successful']);
    expect(await (await now.enqueue(send, { args: ['b'], in: '1h' })).get()).toBe('b');
    await expect(now.enqueue('missing.task')).rejects.toThrow(UnknownTaskError);
  });

  test('retries by the job and by the task, without waiting', async () => {
    const now = inline(tasksOf(), { system: 'rq' });
    expect(await (await now.enqueue(flaky, { args: [2] })).get()).toBe(3);
    expect(states(now.runs)).toEqual(['retrying', 'retrying', 'succeeded']);
    const failed = await now.enqueue(flaky, { args: [99], retry: { max: 1 } });
    await expect(failed.get()).rejects.toThrow(RemoteError);
    await expect(failed.get()).rejects.toMatchObject({ type: 'TypeError' });
    expect(states(now.runs).slice(3)).toEqual(['retrying', 'failed']);
    expect(await failed.status()).toBe('failed');
  });

  test('settles Fail, Retry and Postpone by its rules', async () => {
    const now = inline(tasksOf(), { system: 'rq' });
    await expect((await now.enqueue(ends, { args: ['fail'] })).get()).rejects.toMatchObject({ type: 'Fail' });
    await expect((await now.enqueue(ends, { args: ['retry'] })).get()).rejects.toThrow(RemoteError);
    expect(await (await now.enqueue(ends, { args: ['postpone'] })).get()).toBe('postpone');
    expect(outcomes(now.runs).slice(-2)).toEqual(['postpone', 'success']);
  });

  test('lets a job wait for the one it depends on', async () => {
    const now = inline(tasksOf(), { system: 'rq' });
    const failed = await now.enqueue(ends, { args: ['fail'] });
    const never = await now.enqueue(send, { args: ['a'], dependsOn: failed.id });
    expect([never.registered, await never.status()]).toEqual(['deferred', 'deferred']);
    await expect(never.get()).rejects.toThrow(ResultTimeoutError);
    const first = now.prepare(send, { args: ['a'] });
    const second = now.prepare(send, { args: ['b'], dependsOn: first.id });
    const jobs = await now.enqueuePrepared([second, first]);
    expect(await Promise.all(jobs.map((job) => job.get()))).toEqual(['b', 'a']);
  });

  test('calls the callbacks that a job names', async () => {
    const told: string[] = [];
    const callbacks = { 'app.done': ({ event }: { readonly event: string }) => void told.push(event) };
    const now = inline(tasksOf(), { system: 'rq', callbacks });
    await now.enqueue(send, { args: ['a'], onSuccess: 'app.done' });
    expect(told).toEqual(['success']);
  });
});

describe('testing', () => {
  test('names the systems it knows', () => {
    expect(() => recorder('kafka' as never)).toThrow(/must be one of celery, rq, sidekiq, resque, not 'kafka'/);
    expect(() => inline(new Tasks(), { system: 'kafka' as never })).toThrow(ConfigError);
  });

  test('runs client middleware, and tells of each task, as the real client does', async () => {
    const tape = recorder();
    const told: (string | undefined)[] = [];
    tape.events.on('job:enqueued', ({ task, queue }) => told.push(task, queue));
    tape.use((envelope, next) => {
      envelope.headers['tenant'] = 7;
      envelope.queue = 'other';
      return next();
    });
    await tape.enqueue('a.b', { args: [1], countdown: 60 });
    expect(tape.enqueued()).toEqual([{ task: 'a.b', args: [1], kwargs: {}, queue: 'other', countdown: 60 }]);
    expect(told).toEqual(['a.b', 'other']);
    const now = inline(tasksOf());
    now.use(() => 'refused');
    expect(await now.enqueue(send, { args: ['a'] })).toBe('refused');
    expect(now.runs).toEqual([]);
  });

  test('a handler may enqueue with the client that runs it', async () => {
    const outer = defineTask('Outer');
    const tasks = tasksOf().handle(outer, async () => void (await now.enqueue(send, { args: ['inner'] })));
    const now = inline(tasks, { system: 'sidekiq' });
    await now.enqueue(outer);
    expect(now.runs.map(({ job }) => job.task)).toEqual(['Send', 'Outer']);
  });
});
