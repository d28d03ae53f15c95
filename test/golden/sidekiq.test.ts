import { Buffer } from 'node:buffer';
import { describe, expect, test } from 'vitest';
import { parseExact } from '../../protocols/formats/json.ts';
import {
  api,
  type Command,
  decodeJob,
  dialect,
  dueJob,
  type Failure,
  flushMetrics,
  interrupted,
  type Item,
  item,
  iteration,
  json,
  type JobOptions,
  keyspace,
  Metrics,
  type Moment,
  payload,
  presence,
  readBacktrace,
  readTimestamp,
  redis,
  release,
  type RetryIn,
  settle,
  type Timing,
  timestamp,
  toJob,
} from '../../protocols/sidekiq/index.ts';
import { type Capture, capture, captures, jobTexts, type RubySet, type Seen } from './ruby-support.ts';

const keys = keyspace();

/** Captures of what this package does not do, each with its reason. */
const NOT_HERE: Readonly<Record<string, string>> = {
  'client-strict-args': 'what is no JSON is refused by the encoder: test/unit/formats/ruby-json.test.ts',
  'deploy-mark': 'marks are made by deployments of Ruby',
};

const covered = new Set<string>();

function the(set: RubySet, name: string): Capture {
  covered.add(`${set}/${name}`);
  return capture(set, name);
}

describe.each(['6.4', '8.1'] as const)('Sidekiq %s', (version) => {
  const set: RubySet = `sidekiq/${version}`;
  const spoken = dialect(version);
  const has = (name: string): boolean => captures(set).some((one) => one.name === name);

  test('every job of it is read, and none of its text is lost', () => {
    const all = captures(set)
      .flatMap(jobTexts)
      .filter((text) => text !== '{not json');
    expect(all.length).toBeGreaterThan(25);
    for (const text of all) {
      const message = decodeJob(Buffer.from(text), 'default');
      const exact = parseExact(text) as ReadonlyMap<string, unknown>;
      expect(message.text).toBe(text);
      expect(json.stringify(exact.get('args'))).toBe(json.stringify(parseExact(json.stringify(exact.get('args')))));
      const job = toJob(message);
      expect({ id: job.id, task: job.task, args: job.args.length }).toEqual({
        id: exact.get('jid'),
        task: exact.get('class'),
        args: (exact.get('args') as readonly unknown[]).length,
      });
      expect(job.attempt).toBe(((exact.get('retry_count') as number | undefined) ?? -1) + 2);
      // All of it was made by Ruby, and so has Ruby's form.
      expect(json.stringify(exact)).toBe(text);
    }
  });

  describe('a client', () => {
    test.each(['client-push-simple', 'client-push-options', 'client-push-set'])('%s: the same bytes', (name) => {
      const [text = ''] = jobTexts(the(set, name));
      expect(toTheMillisecond(payload(itemOf(text), { now: madeAt(text), dialect: spoken }).text as string)).toBe(
        toTheMillisecond(text),
      );
    });

    test.each([
      'client-push-string-class',
      'client-scheduled',
      'client-scheduled-past',
      'client-push-bulk',
      'client-push-bulk-at',
    ])('%s: the same members', (name) => {
      const { monitor } = the(set, name);
      const [pushed = ['']] = monitor
        .map(({ words }) => words)
        .filter(([command]) => command !== 'SELECT')
        .slice(-1);
      const [command, , ...rest] = pushed;
      const jobs = command === 'ZADD' ? rest.filter((_, index) => index % 2 === 1) : rest;
      const scores = command === 'ZADD' ? rest.filter((_, index) => index % 2 === 0) : [];
      for (const [index, text] of jobs.entries()) {
        const at = scores[index] === undefined ? undefined : Number(scores[index]) * 1000;
        const made = payload({ ...itemOf(text), at }, { now: madeAt(text), dialect: spoken });
        expect(sorted(toTheMillisecond(made.text as string))).toEqual(sorted(toTheMillisecond(text)));
      }
    });

    test('the options of a class by their own names', () => {
      const calls: readonly (readonly [string, string, readonly unknown[], JobOptions & Timing])[] = [
        [
          'client-push-options',
          'OptJob',
          ['x'],
          {
            ...{ queue: 'critical', retry: 5, backtrace: 3, tags: ['alpha', 'beta'], retryQueue: 'low', dead: false },
            custom: { custom_flag: { a: 1 } },
          },
        ],
        ['client-push-set', 'OkJob', [1], { queue: 'low', retry: 3, tags: ['t'] }],
        [
          'client-push-string-class',
          'Foreign::Job',
          [{ a: 1 }],
          { queue: 'foreign', custom: { tenant_id: 7, apartment: 'acme' } },
        ],
        ['client-scheduled', 'OkJob', [1, 2], { in: 3600 }],
        [
          'client-scheduled-past',
          'OkJob',
          parsed(jobTexts(the(set, 'client-scheduled-past'))[0])['args'] as unknown[],
          { in: -1 },
        ],
      ];
      for (const [name, task, args, options] of calls) {
        const [text = ''] = jobTexts(the(set, name));
        const now = madeAt(text);
        const { jid } = parsed(text);
        const one = item(task, args, options, { now, dialect: spoken, newId: () => String(jid) });
        const made = payload(one, { now, dialect: spoken });
        expect(sorted(toTheMillisecond(made.text as string)), name).toEqual(sorted(toTheMillisecond(text)));
      }
    });

    test.each([
      'client-push-simple',
      'client-push-options',
      'client-push-set',
      'client-push-string-class',
      'client-push-bulk',
      'client-push-bulk-at',
      'client-scheduled',
    ])('%s: the same commands', (name) => {
      const { monitor } = the(set, name);
      const seen = monitor.map(({ words }) => words).filter(([command]) => command !== 'SELECT');
      const payloads = seen.flatMap(([command, key = '', ...rest]) => {
        if (command === 'LPUSH') return rest.map((text) => ({ queue: key.slice('queue:'.length), text }));
        if (command !== 'ZADD') return [];
        return rest.flatMap((text, index) =>
          index % 2 === 0 ? [] : [{ queue: 'default', text, at: Number(rest[index - 1]) * 1000 }],
        );
      });
      expect(wordsOf(redis.push(keys, payloads).commands)).toEqual(seen.map(rounded));
    });
  });

  describe('a run that fails', () => {
    const retryIn: Readonly<Record<string, RetryIn>> = {
      FailIn: () => 100,
      FailDiscard: () => 'discard',
      FailKill: () => 'kill',
    };

    const cases = captures(set, 'fail-')
      .map(({ name }) => name)
      .filter((name) => !/invalid-json|no-retry|discard/.test(name));
    test.each(cases)('%s: the same job in the same set', (name) => {
      const { monitor } = the(set, name);
      const seen = monitor.map(({ words }) => words);
      const at = seen.findLastIndex(([command, key]) => command === 'ZADD' && (key === 'retry' || key === 'dead'));
      const [, target = '', score = '', text = ''] = seen[at] ?? [];
      const fetched = seen.slice(0, at).findLast(([command]) => command === 'LPUSH')?.[2] ?? '';
      const after = parsed(text);
      const failure: Failure = {
        type: String(after['error_class']),
        message: String(after['error_message']),
        traceback: (readBacktrace(after['error_backtrace']) ?? []).join('\n'),
      };
      const nowMs = Math.floor(readTimestamp(after['retried_at'] ?? after['failed_at']) as number);
      const count = after['retry_count'] as number;
      // What chance was, seen from how long Ruby waits.
      const delay = retryIn[String(after['class'])] === undefined ? count ** 4 + 15 : 100;
      const chance = Math.round(Number(score) - nowMs / 1000 - delay) / (count + 1) / 10;
      const moment: Moment = {
        now: new Date(nowMs),
        random: target === 'retry' ? chance + 0.01 : 0,
        newId: () => 'id',
      };
      const settled = settle(
        decodeJob(Buffer.from(fetched), 'default'),
        { kind: 'error', error: failure, retriable: false },
        { keys, dialect: spoken, retryIn: retryIn[String(after['class'])] },
        moment,
      );
      const commands = wordsOf(settled.write.commands);
      expect(toTheMillisecond(commands[0]?.[3] ?? '')).toBe(toTheMillisecond(text));
      expect(commands[0]?.slice(0, 2)).toEqual(['ZADD', target]);
      expect(Math.abs(Number(commands[0]?.[2]) - Number(score))).toBeLessThan(0.1);
      expect(settled.write.atomic).toBe(target === 'dead');
      const trims = seen.slice(at + 1).filter(([command = '']) => command.startsWith('ZREMRANGE'));
      expect(commands.slice(1).map(wholeSeconds)).toEqual(trims.map(wholeSeconds));
      expect(settled.exhausted).toBe(target === 'dead');
    });

    test.each(['fail-no-retry', 'fail-discard'].filter(has))('%s: nothing is kept of it', (name) => {
      const { monitor } = the(set, name);
      const seen = monitor.map(({ words }) => words);
      expect(seen.filter(([command, key]) => command === 'ZADD' && key !== 'schedule')).toEqual([]);
      const fetched = seen.find(([command]) => command === 'LPUSH')?.[2] ?? '';
      const settled = settle(
        decodeJob(Buffer.from(fetched), 'default'),
        { kind: 'error', error: { type: 'E', message: 'm', traceback: '' }, retriable: false },
        { keys, dialect: spoken, retryIn: () => 'discard' },
        { now: new Date(), random: 0, newId: () => 'id' },
      );
      expect(settled.write.commands).toEqual([]);
      expect(settled.failed).toBe(true);
    });

    test('fail-invalid-json: what is no job is in the dead set as it was', () => {
      const seen = the(set, 'fail-invalid-json').monitor.map(({ words }) => words);
      const at = seen.findIndex(([command]) => command === 'ZADD');
      const [, , score = '', raw = ''] = seen[at] ?? [];
      expect(raw).toBe('{not json');
      expect(() => decodeJob(Buffer.from(raw), 'default')).toThrow('sidekiq: ');
      const expected = seen.slice(at, at + 3).map(wholeSeconds);
      expect(wordsOf(redis.bury(keys, Number(score) * 1000, Buffer.from(raw))).map(wholeSeconds)).toEqual(expected);
    });
  });

  describe('what is moved', () => {
    const when = (text: string): number => Math.floor(readTimestamp(parsed(text)['enqueued_at']) as number);

    test.each(['scheduled-enqueue', 'fail-second-time'])('%s: by the poller, the same job', (name) => {
      const { monitor } = the(set, name);
      const at = monitor.findIndex(({ words, byScript }) => byScript && words[0] === 'ZREM');
      const [, from = '', member = ''] = monitor[at]?.words ?? [];
      const [, list, text = ''] = monitor.slice(at).find(({ words }) => words[0] === 'LPUSH')?.words ?? [];
      const due = dueJob(Buffer.from(member), { dialect: spoken, nowMs: when(text) });
      expect([from, `queue:${due.queue}`]).toEqual([name === 'scheduled-enqueue' ? 'schedule' : 'retry', list]);
      expect(sorted(enqueuedThen(String(due.text)))).toEqual(sorted(enqueuedThen(text)));
    });

    test('api-kill, api-dead-retry: by a person, with a failure less', () => {
      const killed = the(set, 'api-kill').monitor.map(({ words }) => words);
      const [, , , member = ''] = killed.find(([command, key]) => command === 'ZADD' && key === 'dead') ?? [];
      const back = the(set, 'api-dead-retry').monitor.map(({ words }) => words);
      const [, , text = ''] = back.find(([command]) => command === 'LPUSH') ?? [];
      const hash = parsed(member);
      const entry: api.SetEntry = { set: 'dead', member: Buffer.from(member), hash, atMs: 0, jid: 'a', class: 'X' };
      const moved = api.toQueue(entry, { dialect: spoken, nowMs: when(text) });
      expect(sorted(enqueuedThen(String(moved?.text)))).toEqual(sorted(enqueuedThen(text)));
      // A job that is killed is the same in the dead set, and the set is trimmed as after a death.
      const trims = killed.filter(([command = '']) => command.startsWith('ZREMRANGEBYRANK'));
      expect(trims).toEqual([wordsOf(redis.bury(keys, 0, member)).at(-1)]);
    });

    if (version === '6.4') return;
    test('iterable-interrupted: a job that goes on later, behind the others', () => {
      const pushes = the(set, 'iterable-interrupted')
        .monitor.map(({ words }) => words)
        .filter(([command]) => command === 'LPUSH');
      const [[, , before = ''] = [], [, , after = ''] = []] = pushes;
      const made = interrupted(
        decodeJob(Buffer.from(before), 'default'),
        { keys, dialect: spoken },
        new Date(when(after)),
      );
      expect(wordsOf(made.write.commands)).toEqual([['SADD', 'queues', 'default'], pushes[1]]);
    });
  });

  describe('a process', () => {
    const infos = (one: Capture): readonly (readonly string[])[] =>
      one.monitor
        .map(({ words }) => words)
        .filter(([command, , field]) => /^HM?SET$/.test(command ?? '') && field === 'info');

    test.each(['server-ok-and-heartbeat', 'server-quiet-beat', 'server-busy'])('%s: its beat', (name) => {
      const one = the(set, name);
      const beats = infos(one);
      expect(beats.length).toBeGreaterThan(0);
      for (const beat of beats) {
        const [, identity = '', ...rest] = beat;
        const fields = new Map(
          rest.flatMap((field, index) => (index % 2 === 0 ? [[field, rest[index + 1] ?? '']] : [])),
        );
        const info = parsed(fields.get('info'));
        const made = presence.beat(keys, {
          identity,
          info: fields.get('info') ?? '',
          concurrency: Number(fields.get('concurrency') ?? info['concurrency']),
          busy: Number(fields.get('busy')),
          nowMs: Number(fields.get('beat')) * 1000,
          rttMicros: Number(fields.get('rtt_us')),
          quiet: fields.get('quiet') === 'true',
          rssKilobytes: Number(fields.get('rss')),
        });
        expect(made.atomic).toBe(true);
        const [sadd, exists, hset, ...others] = wordsOf(made.commands);
        expect([sadd, exists, ...others]).toEqual([
          ['SADD', 'processes', identity],
          ['EXISTS', identity],
          ['EXPIRE', identity, '60'],
          ['RPOP', `${identity}-signals`],
        ]);
        const ours = new Map(
          (hset ?? [])
            .slice(2)
            .flatMap((field, index, all) => (index % 2 === 0 ? [[field, all[index + 1] ?? '']] : [])),
        );
        for (const [field, value] of fields) {
          if (field === 'beat') expect(Number(ours.get(field))).toBeCloseTo(Number(value), 2);
          else expect({ field, value: ours.get(field) }).toEqual({ field, value });
        }
      }
    });

    test('what it says of itself has all that Ruby says, of the same types', () => {
      const [[, identity = '', , text = ''] = []] = infos(the(set, 'server-ok-and-heartbeat'));
      const info = parsed(text);
      const weights: readonly (readonly [string, number])[] =
        version === '6.4'
          ? [
              ['critical', 2],
              ['default', 1],
            ]
          : Object.entries((info['weights'] as readonly Record<string, number>[])[0] ?? {});
      const made = parsed(
        presence.infoText(
          {
            identity,
            hostname: String(info['hostname']),
            pid: Number(info['pid']),
            startedAtMs: Number(info['started_at']) * 1000,
            tag: String(info['tag']),
            labels: info['labels'] as readonly string[],
            capsules: [{ name: 'default', concurrency: 2, mode: 'weighted', weights }],
            embedded: false,
            jobglot: '0.1.0',
          },
          dialect(version === '8.1' ? '8.1.7' : '6.4.1'),
        ),
      );
      // Ruby 6.4 names a queue as often as its weight.
      const queues = [...new Set(info['queues'] as readonly string[])];
      expect(made).toMatchObject({
        ...info,
        queues,
        started_at: expect.closeTo(Number(info['started_at']), 2) as number,
      });
    });

    test('server-busy: the work it shows', () => {
      const one = the(set, 'server-busy');
      const kind = version === '6.4' ? 'workers' : 'work';
      const entry = [...one.keys].find(([key]) => key.endsWith(`:${kind}`));
      const [key = '', { fields: [tid = ''], values: [text = ''] } = { fields: [], values: [] }] = entry ?? [];
      const {
        queue,
        payload: job,
        run_at: runAt,
      } = parsed(text) as { queue: string; payload: unknown; run_at: number };
      const identity = key.slice(0, -kind.length - 1);
      // Up to 6.4 the job is an object in it, since then a text.
      const work = { tid, queue, payload: typeof job === 'string' ? job : json.stringify(job), runAtMs: runAt * 1000 };
      const commands = wordsOf(presence.showWork(keys, identity, [work], spoken));
      expect(commands.map(([command, name]) => [command, name])).toEqual([
        ['UNLINK', key],
        ['HSET', key],
        ['EXPIRE', key],
      ]);
      if (typeof job === 'string') expect(commands[1]).toEqual(['HSET', key, tid, text]);
    });

    test('api-quiet-signal: how it is told to take nothing more', () => {
      const seen = the(set, 'api-quiet-signal').monitor.map(({ words }) => words);
      const identity = seen.find(([command]) => command === 'LPUSH')?.[1]?.slice(0, -'-signals'.length) ?? '';
      const made = presence.signal(keys, identity, 'TSTP');
      expect(made.atomic).toBe(true);
      expect(wordsOf(made.commands)).toEqual(between(seen, 'MULTI', 'EXEC'));
    });

    test('server-term-clean, server-term-requeue: its end', () => {
      for (const name of ['server-term-clean', 'server-term-requeue']) {
        const one = the(set, name);
        const seen = one.monitor.map(({ words }) => words);
        const identity = seen.find(([command]) => command === 'SREM')?.[2] ?? '';
        const processed = Number(seen.find(([command]) => command === 'INCRBY')?.[2]);
        const failed = Number(seen.findLast(([command]) => command === 'INCRBY')?.[2]);
        const counts = wordsOf(presence.flushCounts(keys, { processed, failed }, whenOf(one.monitor[0]), spoken));
        const goodbye = wordsOf(presence.sayGoodbye(keys, identity, spoken));
        const order = version === '6.4' ? [...goodbye, ...counts] : [...counts, ...goodbye];
        expect(
          seen.filter(([command = '']) => /^(INCRBY|SREM|UNLINK|EXPIRE)$/.test(command)).slice(0, order.length),
        ).toEqual(order);
        const back = seen.find(([command]) => command === 'RPUSH');
        if (back === undefined) continue;
        expect(wordsOf(release(decodeJob(Buffer.from(back[2] ?? ''), 'default'), keys))).toEqual([back]);
      }
    });
  });

  if (version === '6.4') return;

  test('the metrics of a run', () => {
    const at = (one: Capture): number =>
      one.monitor.findIndex(({ words }) => /^(BITFIELD|HINCRBY)$/.test(words[0] ?? ''));
    const runs: readonly (readonly [string, string, boolean, number])[] = [
      ['server-term-clean', 'OkJob', false, 0],
      ['server-term-requeue', 'SlowJob', true, 0],
      ['fail-dead', 'FailDead', true, 0],
      ['iterable-interrupted', 'IterJob', false, 5409],
    ];
    for (const [name, task, failed, ms] of runs) {
      const one = the(set, name);
      const metrics = new Metrics();
      metrics.add(task, failed, ms);
      const seen = one.monitor
        .slice(at(one))
        .map(({ words }) => words)
        .filter(([, key = '']) => /^[hj]\|/.test(key));
      const made = wordsOf(flushMetrics(keys, metrics.take(), whenOf(one.monitor[at(one)]), spoken));
      expect(made.toSorted(), name).toEqual(seen.toSorted());
    }
  });

  test('iterable-interrupted, iterable-cancelled: the state of an iterable job', () => {
    const interrupted = the(set, 'iterable-interrupted').monitor.map(({ words }) => words);
    const saves = interrupted.filter(([command, key = '']) => command === 'HSET' && key.startsWith('it-'));
    expect(saves.length).toBeGreaterThan(1);
    for (const save of saves) {
      const [, key = '', , executions, , cursor = '', , runtime] = save;
      const jid = key.slice(3);
      const state = { executions: Number(executions), cursor: JSON.parse(cursor) as unknown, runtime: Number(runtime) };
      const made = iteration.saveIteration(keys, jid, state);
      expect(made.atomic).toBe(true);
      expect(wordsOf(made.commands)).toEqual([save, ['EXPIRE', key, '2592000'], ['HGET', key, 'cancelled']]);
    }
    const kept = [...the(set, 'iterable-interrupted').keys].find(([name]) => name.startsWith('it-'));
    const [key = '', state] = kept ?? [];
    const flat = (state?.fields ?? []).flatMap((field, index) => [
      Buffer.from(field),
      Buffer.from(state?.values[index] ?? ''),
    ]);
    expect(iteration.iteration(keys, key.slice(3)).read([flat])).toMatchObject({
      executions: 1,
      cursor: 27,
      cancelledAt: undefined,
    });
    const cancelled = the(set, 'iterable-cancelled').monitor.map(({ words }) => words);
    const asked = wordsOf(iteration.cancel(keys, key.slice(3), 1_795_219_761).commands);
    // With what Ruby needs to find in a job that never ran.
    expect(asked).toEqual(expect.arrayContaining(cancelled.map((words) => words.filter((word) => word !== 'nx'))));
    const end = the(set, 'iterable-cancelled-run').monitor.map(({ words }) => words);
    expect(end).toContainEqual(wordsOf([iteration.endIteration(keys, key.slice(3))])[0]);
  });
});

test('every capture is held against ours, or has its reason', () => {
  const names = (['sidekiq/6.4', 'sidekiq/8.1'] as const).flatMap((set) =>
    captures(set).map(({ name }) => `${set}/${name}`),
  );
  const missing = names.filter((name) => !covered.has(name) && NOT_HERE[name.split('/')[2] as string] === undefined);
  expect(missing).toEqual([]);
});

function parsed(text: string | undefined): Record<string, unknown> {
  return JSON.parse(text ?? '{}') as Record<string, unknown>;
}

/** Members in the order of their names. */
function sorted(text: string): unknown {
  return [...(parseExact(text) as ReadonlyMap<string, unknown>)].toSorted(([a], [b]) => (a < b ? -1 : 1));
}

function madeAt(text: string): Date {
  return new Date(Math.floor(readTimestamp(parsed(text)['created_at']) as number));
}

/** A job as what a client says of it. */
function itemOf(text: string): Item {
  const members = new Map(parseExact(text) as ReadonlyMap<string, unknown>);
  const take = (key: string): unknown => {
    const value = members.get(key);
    members.delete(key);
    return value;
  };
  const own = { class: String(take('class')), args: take('args') as readonly unknown[], jid: String(take('jid')) };
  const queue = String(take('queue'));
  take('created_at');
  take('enqueued_at');
  return { ...own, queue, members, at: undefined };
}

const TIMES = /"(created_at|enqueued_at|failed_at|retried_at)":(\d+\.\d+)/g;
const ENQUEUED = /("enqueued_at":)[\d.]+/;
const BACKTRACE = /"error_backtrace":("[^"]*")/;

/** JavaScript's clock has milliseconds; a job is made and enqueued at one moment; and zlib packs as it likes. */
function toTheMillisecond(text: string): string {
  const [, made = ''] = /"created_at":([\d.]+)/.exec(text) ?? [];
  return text
    .replace(ENQUEUED, (all, start: string) => (text.includes('"failed_at"') ? all : `${start}${made}`))
    .replace(TIMES, (_, key: string, at: string) => {
      const ms = Math.floor(Number(at) * 1000 + 1e-4);
      return `"${key}":${timestamp(ms, dialect('7.0'))}`;
    })
    .replace(BACKTRACE, (_, packed: string) => JSON.stringify(readBacktrace(JSON.parse(packed))));
}

/** The moment of the push, to the millisecond. */
function enqueuedThen(text: string): string {
  return text.replace(
    /("enqueued_at":)(\d+\.\d+)/,
    (_, start: string, at: string) => `${start}${Math.floor(Number(at) * 1000 + 1e-4)}`,
  );
}

function wordsOf(commands: readonly Command[]): string[][] {
  return commands.map((words) =>
    words.map((word) => (typeof word === 'object' ? Buffer.from(word).toString() : String(word))),
  );
}

/** The scores of a ZADD as JavaScript writes the doubles they are. */
function rounded(words: readonly string[]): readonly string[] {
  if (words[0] !== 'ZADD') return words;
  return words.map((word, index) => (index >= 2 && index % 2 === 0 ? redis.score(Number(word) * 1000) : word));
}

function wholeSeconds(words: readonly string[]): readonly string[] {
  return words.map((word) => (/^\d{10}\.\d+$/.test(word) ? word.slice(0, 10) : word));
}

function between(all: readonly (readonly string[])[], from: string, to: string): readonly (readonly string[])[] {
  const start = all.findIndex(([command]) => command === from);
  return all.slice(
    start + 1,
    all.findIndex(([command], index) => index > start && command === to),
  );
}

function whenOf(seen: Seen | undefined): Date {
  return new Date(Number(seen?.at) * 1000);
}
