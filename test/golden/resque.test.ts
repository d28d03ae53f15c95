import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { Outcome } from '../../protocols/job.ts';
import type { Command, Exchange } from '../../protocols/redis.ts';
import { decodeFailure, encodeFailure, removeFailure, requeueFailure } from '../../protocols/resque/failure.ts';
import { keyspace, queueKey } from '../../protocols/resque/keys.ts';
import { type ResqueRun, type ResqueWrites, settle } from '../../protocols/resque/lifecycle.ts';
import { decodeDelayed, decodePayload, encodeDelayed, encodePayload } from '../../protocols/resque/message.ts';
import * as presence from '../../protocols/resque/presence.ts';
import * as redis from '../../protocols/resque/redis.ts';
import { retryIdentifier, retryName } from '../../protocols/resque/retry.ts';
import * as scheduler from '../../protocols/resque/schedule.ts';
import { readTime } from '../../protocols/resque/times.ts';
import { answers, type Capture, capture, captures, jobTexts, type Seen } from './ruby-support.ts';

const SET = 'resque/3.0';
const keys = keyspace();
const all = captures(SET);
const activeJobs = [...captures('active-job/6.1', 'resque-'), ...captures('active-job/8.1', 'resque-')];

/** Commands that change nothing, or whose part is done by the one step of a claim here. */
const READS = new Set(
  ['SELECT', 'TIME', 'PING', 'GET', 'MGET', 'SMEMBERS', 'HGETALL', 'LPOP', 'LRANGE', 'LINDEX', 'LLEN', 'KEYS'].concat([
    'EXISTS',
    'ZRANGEBYSCORE',
    'SCARD',
    'EVALSHA',
    'EVAL',
    'WATCH',
    'UNWATCH',
    'MULTI',
    'EXEC',
    'ZCARD',
    'TYPE',
  ]),
);

function writes({ monitor }: Capture): readonly (readonly string[])[] {
  return monitor.filter(({ words: [name = ''], byScript }) => !READS.has(name) && !byScript).map(({ words }) => words);
}

function texts(commands: readonly Command[]): readonly (readonly string[])[] {
  return commands.map((command) => command.map(String));
}

function of(exchange: Exchange<unknown>): readonly Command[] {
  return exchange.commands;
}

function seen({ monitor }: Capture, ...start: readonly string[]): Seen {
  const found = monitor.find(({ words }) => start.every((word, at) => words[at]?.startsWith(word)));
  if (found === undefined) throw new Error(`nobody sent ${start.join(' ')}`);
  return found;
}

function at({ at: seconds }: Seen): Date {
  return new Date(Math.floor(Number(seconds)) * 1000);
}

describe('payloads', () => {
  const payloads = [...all, ...activeJobs].flatMap((one) => jobTexts(one).map((text) => ({ name: one.name, text })));
  const plain = payloads.filter(({ text }) => text.startsWith('{"class":'));

  test('are there', () => {
    expect(plain.length).toBeGreaterThan(40);
  });

  test.each(plain)('of $name are written as Ruby wrote them', ({ text }) => {
    const { queue } = JSON.parse(text) as { queue?: string };
    if (queue === undefined) {
      const payload = decodePayload(Buffer.from(text));
      expect(encodePayload(payload.class, payload.args)).toBe(text);
    } else {
      const item = decodeDelayed(Buffer.from(text));
      expect(encodePayload(item.payload.class, item.payload.args)).toBe(item.payload.text);
      expect(encodeDelayed(item.payload.text, item.queue)).toBe(text);
    }
  });

  test('that are no JSON are refused, saying why', () => {
    // What a Ruby worker dies of: job-invalid-json, and the page of a queue.
    expect(() => decodePayload(Buffer.from('{nope'))).toThrow(/^resque: the payload is not JSON: /);
  });
});

describe('a client', () => {
  const enqueued = (name: string): readonly (readonly string[])[] => {
    const one = capture(SET, name);
    const { words } = seen(one, 'RPUSH', 'resque:queue:');
    const { class: className, args } = decodePayload(Buffer.from(words[2] as string));
    return texts(redis.push(keys, words[1]!.slice('resque:queue:'.length), [encodePayload(className, args)]));
  };

  test.each(['enqueue-simple', 'enqueue-no-args', 'enqueue-to', 'push-raw', 'sched-enqueue-at-past'])(
    '%s: the same commands',
    (name) => {
      expect(enqueued(name)).toEqual(writes(capture(SET, name)));
    },
  );

  test('takes jobs of exactly these arguments out of their queue', () => {
    const one = capture(SET, 'api-dequeue-args');
    const { words } = seen(one, 'LREM');
    const { class: className, args } = decodePayload(Buffer.from(words[3] as string));
    const ours = redis.remove(keys, 'default', [encodePayload(className, args)]);
    expect(texts(of(ours))).toEqual([words]);
    expect(ours.read([one.returned])).toBe(one.returned);
  });

  test('takes jobs of a class out of their queue by their own texts', () => {
    const { words } = seen(capture(SET, 'api-dequeue-class'), 'LREM');
    expect(texts(of(redis.remove(keys, 'default', [words[3] as string])))).toEqual([words]);
  });

  test('removes a queue', () => {
    expect(texts(of(redis.removeQueue(keys, 'default')))).toEqual(writes(capture(SET, 'api-remove-queue')).slice(-2));
  });

  test.each(['sched-enqueue-at', 'sched-enqueue-in-with-queue'])('%s: the same three commands, in one step', (name) => {
    const sent = writes(capture(SET, name));
    const ours = sent
      .filter(([command]) => command === 'RPUSH')
      .flatMap(([, key, item]) => {
        const { queue, payload } = decodeDelayed(Buffer.from(item as string));
        const due = new Date(Number(key!.split(':').at(-1)) * 1000);
        const exchange = scheduler.enqueueDelayed(keys, encodeDelayed(payload.text, queue), due);
        expect(exchange.atomic).toBe(true);
        return texts(of(exchange));
      });
    expect(ours).toEqual(sent);
  });

  test.each(['sched-enqueue-at', 'sched-enqueue-in-with-queue'])('%s: a job postponed to then is the same', (name) => {
    const sent = writes(capture(SET, name));
    const ours = sent
      .filter(([command]) => command === 'RPUSH')
      .flatMap(([, key, item]) => {
        const { queue, payload } = decodeDelayed(Buffer.from(item as string));
        const due = Number(key!.split(':').at(-1)) * 1000;
        const run = { queue, payload: payload.text, attempt: 1, worker: 'w:1:q', retryName: undefined };
        const moment = { now: new Date(due - 1_500), random: 0, newId: () => '' };
        const outcome: Outcome = { kind: 'postpone', delayMs: 1_500, reason: '' };
        return texts(settle(run, outcome, { keys, failures: ['redis'], retry: {} }, moment).write.commands);
      });
    expect(ours).toEqual(sent);
  });

  test('takes delayed jobs back', () => {
    const one = capture(SET, 'sched-remove-delayed');
    const item = '{"class":"OkJob","args":[1],"queue":"default"}';
    const removed = writes(one).filter(([command]) => command === 'LREM' || command === 'SREM');
    const names = removed.filter(([command]) => command === 'SREM').map((words) => words[2] as string);
    const ours = scheduler.removeDelayed(keys, item, names);
    expect(texts(of(ours))).toEqual(removed);
    expect(ours.read([1, 1, 1, 1])).toBe(one.returned);
  });

  test('sets a dynamic schedule', () => {
    const sent = writes(capture(SET, 'sched-set-schedule'));
    const [, , name, config] = sent.find(([command]) => command === 'HSET')!;
    const ours = scheduler.setSchedule(keys, name!, JSON.parse(config!) as Record<string, unknown>);
    expect(texts(of(ours))).toEqual(sent.filter(([command]) => command !== 'DEL'));
  });
});

/** What a worker of ours writes for a life of one job, as Ruby's did. */
function life(one: Capture, outcome: Outcome | undefined): readonly (readonly string[])[] {
  const registered = seen(one, 'SADD', 'resque:workers');
  const id = registered.words[2] as string;
  const commands: Command[] = [...of(presence.register(keys, [id], at(registered)))];
  for (const { words, at: seconds } of one.monitor) {
    if (words[0] !== 'SET' || words[1] !== `resque:worker:${id}`) continue;
    const { queue, payload } = presence.readWork(words[2] as string)!;
    const now = at({ at: seconds } as Seen);
    commands.push(presence.working(keys, id, queue, payload, now));
    if (outcome === undefined) continue;
    const failure = one.monitor.find((line) => line.words[0] === 'RPUSH' && line.words[1]?.endsWith('failed') === true);
    const written = settled(
      one,
      { queue, payload, attempt: 1, worker: id, retryName: undefined },
      outcome,
      failure ?? registered,
    );
    commands.push(...written.commands, ...presence.done(keys, id));
  }
  const stopped = one.monitor.some(({ words }) => words[0] === 'SREM' && words[1] === 'resque:workers');
  return texts([...commands, ...(stopped ? presence.unregister(keys, [id]) : [])]);
}

function settled(one: Capture, run: ResqueRun, outcome: Outcome, when: Seen): ResqueWrites {
  const multi = one.monitor.some(({ words }) => words[1] === 'resque:failed_queues');
  return settle(
    run,
    outcome,
    { keys, failures: [multi ? 'redis_multi_queue' : 'redis'], retry: undefined },
    { now: at(when), random: 0, newId: () => '' },
  ).write;
}

/** The failure that Ruby recorded, as the error a handler would have thrown. */
function errorOf(one: Capture): Outcome {
  const { words } = one.monitor.find(
    (line) => line.words[0] === 'RPUSH' && line.words[1]?.endsWith('failed') === true,
  )!;
  const { exception: type, error: message, backtrace } = decodeFailure(Buffer.from(words[2] as string));
  return { kind: 'error', error: { type, message, traceback: backtrace.join('\n') }, retriable: false };
}

/** What only Ruby's way of starting and of counting down to a job writes. */
function beside(words: readonly string[]): boolean {
  const [command, key = ''] = words;
  return (
    (command === 'SET' && key === keys.pruning) ||
    (command === 'HDEL' && key === keys.heartbeat) ||
    (command === 'RPUSH' && key === 'resque:hooklog') ||
    (key.startsWith('resque:queue') && (command === 'RPUSH' || command === 'SADD'))
  );
}

describe('a worker', () => {
  const lives: readonly (readonly [string, Outcome | undefined | 'recorded'])[] = [
    ['worker-idle', undefined],
    ['worker-busy', undefined],
    ['worker-quit', undefined],
    ['pause-all', undefined],
    ['job-invalid-json', undefined],
    ['job-ok', { kind: 'success', value: null }],
    ['job-ok-nofork', { kind: 'success', value: null }],
    ['job-hooks', { kind: 'success', value: null }],
    ['job-exit3', { kind: 'success', value: null }],
    ['job-dont-perform', { kind: 'discard', reason: '' }],
    ['job-fail', 'recorded'],
    ['job-fail-live-stop', 'recorded'],
    ['job-fail-fork-off-live', 'recorded'],
    ['failed-multi-queue', 'recorded'],
    ['job-unknown-class', 'recorded'],
    ['worker-term-child', 'recorded'],
    [
      'worker-term-old',
      { kind: 'cancelled', reason: 'Child process received unhandled signal pid 10997 SIGKILL (signal 9)' },
    ],
    [
      'job-dirty-exit',
      { kind: 'cancelled', reason: 'Child process received unhandled signal pid 11190 SIGKILL (signal 9)' },
    ],
  ];

  test.each(lives)('%s: the same commands', (name, outcome) => {
    const one = capture(SET, name);
    if (!one.monitor.some(({ words }) => words[0] === 'SADD' && words[1] === 'resque:workers')) {
      // The capture begins with the worker at work: what is left of it is its end.
      const { words } = seen(one, 'SREM', 'resque:workers');
      const ours = texts(presence.unregister(keys, [words[2] as string]));
      expect(writes(one).slice(-ours.length)).toEqual(ours);
      return;
    }
    const ours = life(one, outcome === 'recorded' ? errorOf(one) : outcome);
    const theirs = writes(one);
    const end = theirs.findLastIndex(([command]) => command === 'HDEL');
    const kept = theirs.filter((words, index) => !beside(words) || (index === end && ours.some(([c]) => c === 'HDEL')));
    expect(ours.map((words) => words.join(' '))).toEqual(kept.map((words) => words.join(' ')));
  });

  test('prunes one that does not beat any more, and records what it died with', () => {
    const one = capture(SET, 'prune-stale-heartbeat');
    const id = 'otherhost:99:default';
    const pushed = seen(one, 'RPUSH', 'resque:failed');
    const { queue, args, class: className } = decodeFailure(Buffer.from(pushed.words[2] as string));
    const doing = `{"queue":"${queue}","run_at":"2026-11-21T00:10:00Z","payload":${encodePayload(className, args)}}`;
    const [command] = of(presence.prune(keys, { id, beat: 'x', doing }, ['redis'], at(pushed)));
    const words = command!.map(String);
    const from = words.indexOf(doing) + 1;
    const commands: string[][] = [];
    for (let index = from; index < words.length; index += Number(words[index]) + 1)
      commands.push(words.slice(index + 1, index + 1 + Number(words[index])));
    const theirs = writes(one);
    const start = theirs.findIndex(([name]) => name === 'RPUSH');
    expect(commands).toEqual(theirs.slice(start, start + commands.length));
  });

  test('a neighbour with a title like ours was left alone by Ruby, and is by us', () => {
    const one = capture(SET, 'prune-foreign-same-host-resque-title');
    const { ps, still_registered: left } = one.returned as { readonly ps: string; readonly still_registered: number };
    expect(left).toBe(1);
    expect(ps).toContain(presence.procline('3.0.0', 'Waiting'));
    const { fields, values } = one.keys.get(keys.heartbeat)!;
    const beats = new Map(fields.map((id, index) => [id, values[index]!]));
    expect(presence.expired(beats, at(seen(one, 'SREM', 'resque:workers')))).toEqual([]);
  });

  test('takes only those for dead that have not beaten for five minutes', () => {
    const now = new Date('2026-11-21T00:17:04Z');
    const beats = new Map([
      ['vm:13388:default', '2026-11-21T00:17:03Z'],
      ['old:1:default', '2026-11-21T00:12:03+00:00'],
      ['east:1:default', '2026-11-21T02:17:00+02:00'],
      ['strange:1:default', 'soon'],
    ]);
    expect(presence.expired(beats, now).map(({ id }) => id)).toEqual(['old:1:default']);
  });
});

describe('failures', () => {
  const records = all.flatMap((one) =>
    one.monitor.flatMap(({ words: [command, key = '', ...values] }) =>
      command === 'RPUSH' && key.endsWith('failed') ? [{ name: one.name, text: values[0] as string }] : [],
    ),
  );

  test.each(records)('of $name are written as Ruby wrote them', ({ text }) => {
    const { failedAt, exception, error, backtrace, worker, queue } = decodeFailure(Buffer.from(text));
    const payload = JSON.parse(text) as { payload: { class: string; args: unknown[] } };
    const record = { exception, error, backtrace, worker, queue, failedAt: readTime(failedAt)! };
    expect(encodeFailure({ ...record, payload: encodePayload(payload.payload.class, payload.payload.args) })).toBe(
      text,
    );
  });

  test('are put back as Ruby puts them back', () => {
    const one = capture(SET, 'failed-requeue');
    const before = seen(one, 'RPUSH', 'resque:failed').words[2] as string;
    const after = seen(one, 'LSET');
    const [command] = of(requeueFailure(keys, { index: 0, text: before }, at(after)));
    const words = command!.map(String);
    expect(words.slice(3, 6)).toEqual([keys.failed, keys.queues, queueKey(keys, 'default')]);
    expect(words.slice(6)).toEqual(['0', before, after.words[3], 'default', '{"class":"FailJob","args":[1]}']);
  });

  test('are taken away as Ruby takes them away', () => {
    const { words } = seen(capture(SET, 'failed-remove'), 'LSET');
    const [command] = of(removeFailure(keys, { index: Number(words[2]), text: 'x' }));
    expect(command!.slice(6, 9)).toEqual([0, 'x', words[3]]);
  });
});

describe('resque-retry', () => {
  const policy = (max: number) => ({
    keys,
    failures: ['redis'] as const,
    retry: { max, delayMs: () => 60_000 },
  });
  const run = (one: Capture, attempt: number): ResqueRun => {
    const working = seen(one, 'SET', 'resque:worker:', '{"queue"');
    const { payload, queue } = presence.readWork(working.words[2] as string)!;
    const { class: name, args } = decodePayload(Buffer.from(payload));
    const digest = createHash('sha1').update(retryIdentifier(args)).digest('hex');
    const worker = working.words[1]!.slice('resque:worker:'.length);
    return { queue, payload, attempt, worker, retryName: retryName(name, digest) };
  };

  test('a first failure leaves the same keys', () => {
    const one = capture(SET, 'retry-first-failure');
    const suppressed = seen(one, 'SETEX');
    const { exception: type, error: message, backtrace } = decodeFailure(Buffer.from(suppressed.words[3] as string));
    const outcome: Outcome = {
      kind: 'error',
      error: { type, message, traceback: backtrace.join('\n') },
      retriable: true,
    };
    const { write, disposition } = settle(run(one, 1), outcome, policy(3), {
      now: at(suppressed),
      random: 0,
      newId: () => '',
    });
    expect(disposition.state).toBe('retrying');
    const theirs = writes(one).filter(
      ([name, key = '']) =>
        !/^(?:SETNX|INCR|DEL|SREM|HDEL|HSET)$/.test(name!) &&
        !/queue:|queues|worker|pruning|processed/.test(key.replace(/^resque:timestamps.*/, 'timestamps')),
    );
    const [counted, ...rest] = texts(write.commands);
    expect(rest.slice(0, 4)).toEqual(theirs.slice(0, 4));
    expect(rest.slice(4, 5)).toEqual([['INCRBY', 'resque:stat:failed', '1']]);
    const [key, value] = [counted![1]!, counted![2]!];
    expect(one.keys.get(key)?.values).toEqual([value]);
  });

  test('a last failure takes them away and is recorded', () => {
    const one = capture(SET, 'retry-exhausted');
    const pushed = seen(one, 'RPUSH', 'resque:failed');
    const { write } = settle(run(one, 4), { ...errorOf(one), retriable: true } as Outcome, policy(3), {
      now: at(pushed),
      random: 0,
      newId: () => '',
    });
    const theirs = writes(one);
    const start = theirs.findIndex(([name, key = '']) => name === 'DEL' && key.includes('resque-retry'));
    expect(texts(write.commands)).toEqual(theirs.slice(start, start + write.commands.length));
  });
});

describe('resque-scheduler', () => {
  test('the lead is under the same key, for the same time', () => {
    const one = capture(SET, 'sched-cron-fired');
    expect(one.keys.get(keys.masterLock)?.values).toHaveLength(1);
    expect(of(scheduler.lead(keys, 'localhost:13283'))[0]!.slice(2)).toEqual([
      1,
      keys.masterLock,
      'localhost:13283',
      180,
    ]);
  });

  test('a schedule is read, and what it sends is noted in the same words', () => {
    const one = capture(SET, 'sched-cron-fired');
    const config = one.keys.get(keys.persistentSchedules)!.values[0] as string;
    const { entry } = scheduler.readSchedule('tick', JSON.parse(config) as Record<string, unknown>);
    expect(entry).toMatchObject({ class: 'OkJob', queue: 'ticks', args: ['tick'], every: '2s' });
    const payload = encodePayload(entry!.class, entry!.args);
    expect(one.keys.get('resque:queue:ticks')?.values).toContain(payload);
    const noted = one.keys.get(keys.lastEnqueuedAt)!.values[0] as string;
    const [command] = of(scheduler.fire(keys, 'me', { name: 'tick', queue: 'ticks', payload }, readTime(noted)!));
    expect(command!.slice(-6, -1)).toEqual(['me', 'ticks', payload, 'tick', noted]);
  });
});

describe('every capture', () => {
  /** Not of Resque, resque-scheduler or resque-retry: plugins whose keys are left alone. */
  const PLUGINS = ['lock-enqueue', 'workers-lock', 'workers-lock-done'];

  test('is asked for above, or of a plugin we do not speak', () => {
    const asked = readFileSync(new URL(import.meta.url), 'utf8');
    expect(all.map(({ name }) => name).filter((name) => !asked.includes(`'${name}'`))).toEqual([]);
    expect(PLUGINS).toHaveLength(3);
  });

  test('has no key that ours has not, and of the same kind', () => {
    const kinds: readonly (readonly [RegExp, string])[] = [
      [/^resque:(queues|workers|schedules_changed|failed_queues)$/, 'set'],
      [/^resque:queue:/, 'list'],
      [/^resque:(failed|\w+_failed)$/, 'list'],
      [/^resque:worker:/, 'string'],
      [/^resque:workers:heartbeat$/, 'hash'],
      [/^resque:stat:/, 'string'],
      [/^resque:(pruning_dead_workers_in_progress|pause-all-workers)$/, 'string'],
      [/^resque:delayed_queue_schedule$/, 'zset'],
      [/^resque:delayed:\d+$/, 'list'],
      [/^resque:timestamps:/, 'set'],
      [/^resque:(persistent_schedules|delayed:last_enqueued_at)$/, 'hash'],
      [/^resque:resque:resque_scheduler_master_lock$/, 'string'],
      [/^resque:(failure-)?resque-retry:/, 'string'],
    ];
    for (const { name, keys: found } of all.filter((one) => !PLUGINS.includes(one.name))) {
      for (const [key, { type }] of found) {
        if (key === 'resque:hooklog') continue; // the test's own
        expect([name, key, kinds.find(([pattern]) => pattern.test(key))?.[1]]).toEqual([name, key, type]);
      }
    }
  });

  test('that pauses does so by the key that ours reads, and that stops gives up the lead by deleting it', () => {
    expect(texts(of(redis.pauseAll(keys, true)))).toEqual([['SET', keys.pause, 'true']]);
    expect(capture(SET, 'pause-all').keys.get(keys.pause)?.values).toEqual(['true']);
    const { words } = seen(capture(SET, 'sched-stop'), 'DEL');
    expect(of(scheduler.stepDown(keys, 'me'))[0]![3]).toBe(words[1]);
  });
});

test("what breaks Resque's web pages is not what we write", () => {
  const text = answers(SET, 'foreign-data-acceptance.txt');
  const breaks = text.split('\n').filter((line) => line.includes('!!'));
  expect(breaks.map((line) => line.split(':')[0])).toEqual([
    '/failed no worker',
    '/failed backtrace string',
    '/failed failed_at epoch',
    '/queues/poison invalid json',
    '/workers with id lacking colons',
    '/workers id with empty queues',
    'Worker.all with empty queues',
  ]);
  const record = encodeFailure({
    failedAt: new Date(0),
    payload: '{"class":"A","args":[]}',
    exception: 'Error',
    error: '',
    backtrace: [],
    worker: 'a:1:b',
    queue: 'b',
  });
  expect(JSON.parse(record)).toMatchObject({ worker: 'a:1:b', backtrace: [], failed_at: '1970/01/01 00:00:00 UTC' });
  const id = presence.workerId({ process: presence.processName('fe80::1', '1f2e'), pid: 77, queues: 'q' }, 2);
  expect(id).toBe('fe80--1-1f2e-2:77:q');
  expect(presence.readWorkerId(id)).toEqual({ host: 'fe80--1-1f2e-2', pid: '77', queues: ['q'] });
});
