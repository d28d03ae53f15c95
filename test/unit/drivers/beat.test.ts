import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { encodeEnvelope } from '../../../protocols/celery/brokers/envelope.ts';
import type { Publication } from '../../../protocols/celery/message/message.ts';
import {
  Beat,
  type BeatOptions,
  type BeatScheduleEntry,
  crontab,
  interval,
} from '../../../src/drivers/celery/index.ts';
import { MemoryBroker } from '../../../src/drivers/celery/brokers/memory.ts';
import { ConnectionError } from '../../../src/errors.ts';
import { silent } from '../../../src/log.ts';
import { defineTask } from '../../../src/task.ts';
import { temporaryFolder } from '../../support/folder.ts';
import { holdFolder } from '../../support/leash.mjs';
import { until } from '../../support/until.ts';

interface Sent {
  readonly task: string;
  readonly id: string;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: unknown;
  readonly routingKey: string;
}

/** A broker that remembers what was published, and fails as it is told. */
class Recorder extends MemoryBroker {
  readonly sent: Sent[] = [];
  before: () => void | Promise<void> = () => {};
  after: () => void | Promise<void> = () => {};

  override async publish(publications: Iterable<Publication>): Promise<void> {
    for (const publication of publications) {
      await this.before();
      const envelope = JSON.parse(encodeEnvelope(publication, 'tag')) as {
        readonly body: string;
        readonly headers: Readonly<Record<string, unknown>>;
      };
      const { headers } = envelope;
      this.sent.push({
        task: headers['task'] as string,
        id: headers['id'] as string,
        headers,
        body: JSON.parse(Buffer.from(envelope.body, 'base64').toString()),
        routingKey: publication.routingKey,
      });
      await this.after();
    }
  }

  /** How often each task was sent. */
  count(task: string): number {
    return this.sent.filter((one) => one.task === task).length;
  }
}

const START = Date.UTC(2026, 10, 21, 10, 0, 0);
const beats: Beat[] = [];

beforeEach(() => {
  // Time stands still until a test moves it; timers go on.
  vi.useFakeTimers({ toFake: ['Date'], now: START });
});

afterEach(async () => {
  vi.useRealTimers();
  for (const beat of beats.splice(0)) await beat.stop();
});

type Entries = Readonly<Record<string, BeatScheduleEntry>>;

/** A beat that looks at its schedule without pause, with an entry that shows when it has looked at the others. */
async function start(broker: Recorder, entries: Entries, options: Partial<BeatOptions> = {}): Promise<Beat> {
  const beat = new Beat({
    broker,
    beatMaxLoopInterval: 0.005,
    beatSchedule: { ...entries, looked: { task: 'looked', schedule: 1 } },
    ...options,
  });
  beats.push(beat);
  await beat.start();
  await until('the beat leads', () => beat.leads);
  return beat;
}

/** Sets the clock, and waits until every entry was looked at. */
async function at(broker: Recorder, seconds: number): Promise<void> {
  const before = broker.count('looked');
  vi.setSystemTime(START + seconds * 1000);
  await until('all entries were looked at', () => broker.count('looked') > before);
}

describe('an entry', () => {
  test('runs one interval after the start, and then each interval', async () => {
    const broker = new Recorder('beat');
    await start(broker, { tick: { task: 'tick', schedule: 10 } });
    await at(broker, 9);
    expect(broker.count('tick')).toBe(0);
    await at(broker, 10);
    expect(broker.count('tick')).toBe(1);
    await at(broker, 19);
    expect(broker.count('tick')).toBe(1);
    await at(broker, 21);
    expect(broker.count('tick')).toBe(2);
    // From the last run on, as in Celery, not from when it was due.
    await at(broker, 30);
    expect(broker.count('tick')).toBe(2);
    await at(broker, 31);
    expect(broker.count('tick')).toBe(3);
  });

  test('that was due many times is made up for once', async () => {
    const broker = new Recorder('beat');
    await start(broker, {
      tick: { task: 'tick', schedule: 10 },
      minutely: { task: 'minutely', schedule: '* * * * *' },
    });
    await at(broker, 86_400);
    await at(broker, 86_402);
    expect([broker.count('tick'), broker.count('minutely')]).toEqual([1, 1]);
  });

  test('is left out where it is later than the starting deadline', async () => {
    const broker = new Recorder('beat');
    await start(broker, { hourly: { task: 'hourly', schedule: '0 * * * *' } }, { beatCronStartingDeadline: 60 });
    await at(broker, 3_600 + 61);
    expect(broker.count('hourly')).toBe(0);
    await at(broker, 7_200 + 30);
    expect(broker.count('hourly')).toBe(1);
  });

  test('waits where the clock was set back a little', async () => {
    const broker = new Recorder('beat');
    await start(broker, { minutely: { task: 'minutely', schedule: '* * * * *' } });
    await at(broker, 61);
    vi.setSystemTime(START + 50_000);
    await at(broker, 65);
    expect(broker.count('minutely')).toBe(1);
    await at(broker, 121);
    expect(broker.count('minutely')).toBe(2);
  });

  test('counts from now where its last run lies far in the future', async () => {
    const broker = new Recorder('beat');
    const warnings: string[] = [];
    const log = { ...silent, warn: (_fields: object, message: string) => void warnings.push(message) };
    await start(broker, { tick: { task: 'tick', schedule: 10 } }, { log });
    await at(broker, 5 * 365 * 86_400);
    expect(broker.count('tick')).toBe(1);
    vi.setSystemTime(START + 60_000);
    await until('both entries were told of', () => warnings.length === 2);
    await at(broker, 69);
    expect(broker.count('tick')).toBe(1);
    await at(broker, 70);
    expect(broker.count('tick')).toBe(2);
    expect(warnings).toEqual(Array(2).fill('beat: the last run lies in the future; counting from now'));
  });

  test('is sent with its arguments and its options, by our names or those of Celery', async () => {
    const broker = new Recorder('beat');
    const report = defineTask<(kind: string) => void>('proj.report');
    await start(broker, {
      ours: {
        task: report,
        schedule: interval(1),
        args: ['daily'],
        kwargs: { to: 'x' },
        options: { queue: 'slow', expires: 60, timeLimit: 30 },
      },
      theirs: {
        task: 'proj.report',
        schedule: crontab({ minute: '*' }),
        options: { routing_key: 'fast', soft_time_limit: 5, headers: { my: 'own' } },
      },
    });
    await at(broker, 60);
    const [ours, theirs] = broker.sent.filter(({ task }) => task === 'proj.report');
    expect(ours).toMatchObject({
      routingKey: 'slow',
      headers: { timelimit: [30, null], expires: '2026-11-21T10:02:00+00:00' },
    });
    expect(ours?.body).toMatchObject([['daily'], { to: 'x' }, {}]);
    expect(theirs).toMatchObject({ routingKey: 'fast', headers: { timelimit: [null, 5], my: 'own' } });
    expect(ours?.headers).not.toHaveProperty('periodic_task_name');
  });

  test('that cannot be sent does not keep the others from running', async () => {
    const broker = new Recorder('beat');
    await start(broker, { bad: { task: 'bad', schedule: 1, args: [Symbol('no')] } });
    await at(broker, 1);
    await at(broker, 2);
    expect([broker.count('bad'), broker.count('looked')]).toEqual([0, 2]);
  });
});

describe('a run of a process that died', () => {
  const entries: Entries = { tick: { task: 'tick', schedule: 10 } };

  /** Starts a beat that comes to `when` of its first run, and no further. The file it leaves. */
  async function dies(when: 'before' | 'after'): Promise<{ readonly path: string; readonly id: string }> {
    const folder = temporaryFolder('jobglot-beat-');
    holdFolder(folder);
    const path = join(folder, 'schedule.json');
    const broker = new Recorder('beat');
    let over = false;
    broker[when] = () => {
      over = true;
      return new Promise(() => {});
    };
    const beat = new Beat({
      broker,
      beatScheduler: 'file',
      beatScheduleFilename: path,
      beatSchedule: entries,
      beatMaxLoopInterval: 0.005,
    });
    await beat.start();
    await until('it leads', () => beat.leads);
    vi.setSystemTime(START + 10_000);
    await until('it dies', () => over);
    const { tick } = (
      JSON.parse(await readFile(path, 'utf8')) as { entries: { tick: { pending: { id: string }; total_run_count: 1 } } }
    ).entries;
    expect(tick.total_run_count).toBe(1);
    expect(broker.sent.map(({ id }) => id)).toEqual(when === 'before' ? [] : [tick.pending.id]);
    return { path, id: tick.pending.id };
  }

  async function next(path: string): Promise<Recorder> {
    const broker = new Recorder('beat');
    await start(broker, entries, { beatScheduler: 'file', beatScheduleFilename: path });
    return broker;
  }

  const ticks = ({ sent }: Recorder): readonly string[] =>
    sent.filter(({ task }) => task === 'tick').map(({ id }) => id);

  test('before it was sent is sent once by the next, under the id it was claimed with', async () => {
    const { path, id } = await dies('before');
    const broker = await next(path);
    await at(broker, 12);
    await at(broker, 14);
    expect(ticks(broker)).toEqual([id]);
    expect(JSON.parse(await readFile(path, 'utf8'))).toMatchObject({
      entries: { tick: { last_run_at: '2026-11-21T10:00:10+00:00', total_run_count: 1 } },
    });
  });

  test('before it was sent gives way to the next run, where that is due by then', async () => {
    const { path, id } = await dies('before');
    vi.setSystemTime(START + 25_000);
    const broker = await next(path);
    await at(broker, 27);
    expect(ticks(broker)).toHaveLength(1);
    expect(ticks(broker)).not.toContain(id);
  });

  test('after it was sent and before that was written down is sent again, under the same id', async () => {
    const { path, id } = await dies('after');
    const broker = await next(path);
    await at(broker, 12);
    await at(broker, 14);
    expect(ticks(broker)).toEqual([id]);
  });
});

test('a broker that is away gets the run when it is back, under the same id', async () => {
  const broker = new Recorder('beat');
  let away = true;
  let tried = 0;
  await start(broker, { tick: { task: 'tick', schedule: 100 } }, { taskPublishRetry: false });
  broker.before = () => {
    tried++;
    if (away) throw new ConnectionError('away');
  };
  vi.setSystemTime(START + 100_000);
  await until('it was tried', () => tried > 1);
  expect(broker.count('tick')).toBe(0);
  away = false;
  await until('it is sent', () => broker.count('tick') === 1);
  await at(broker, 103);
  await at(broker, 106);
  expect(broker.count('tick')).toBe(1);
});

describe('the file', () => {
  test('keeps last runs over a restart, and forgets entries that are no more', async () => {
    const folder = temporaryFolder('jobglot-beat-');
    holdFolder(folder);
    const beatScheduleFilename = join(folder, 'schedule.json');
    const options = { beatScheduler: 'file', beatScheduleFilename } as const;
    const broker = new Recorder('beat');
    const first = await start(
      broker,
      { tick: { task: 'tick', schedule: 10 }, old: { task: 'old', schedule: 5 } },
      options,
    );
    await at(broker, 8);
    await first.stop();
    await start(broker, { tick: { task: 'tick', schedule: 10 } }, options);
    await at(broker, 11);
    expect(broker.count('tick')).toBe(1);
    const { entries } = JSON.parse(await readFile(beatScheduleFilename, 'utf8')) as { readonly entries: object };
    expect(Object.keys(entries)).toEqual(['tick', 'looked']);
    expect(entries).toMatchObject({ tick: { last_run_at: '2026-11-21T10:00:11+00:00', total_run_count: 1 } });
  });

  test('of another program is refused and left as it is', async () => {
    const folder = temporaryFolder('jobglot-beat-');
    holdFolder(folder);
    const path = join(folder, 'celerybeat-schedule');
    await writeFile(path, 'a Python database');
    const beat = new Beat({ broker: new Recorder('beat'), beatScheduler: 'file', beatScheduleFilename: path });
    await expect(beat.start()).rejects.toThrow("is not a file of jobglot's beat");
    expect(await readFile(path, 'utf8')).toBe('a Python database');
  });
});

test.each<[Partial<BeatOptions>, string]>([
  [{ beatSchedule: { x: { task: 't', schedule: 0 } } }, "the beat entry 'x': schedule: an interval must be"],
  [
    { beatSchedule: { x: { task: 't', schedule: '61 * * * *' } } },
    "the beat entry 'x': minute: Invalid end range: 61 > 59.",
  ],
  [
    { beatSchedule: { dusk: { task: 't', schedule: { event: 'sunset', lat: 48.1, lon: 11.6 } as never } } },
    "the beat entry 'dusk': schedule: solar schedules are computed by Python only. Leave this entry to a beat of Python",
  ],
  [{ beatSchedule: { x: { task: 't', schedule: '0 0 30 2 *' } } }, "the beat entry 'x': unable to rollover"],
  [
    { beatSchedule: { x: { task: 't', schedule: 1, options: { qeue: 'a' } } } },
    "the beat entry 'x': unknown option 'qeue'; did you mean 'queue'?",
  ],
  [{ timezone: 'Mars/Olympus' }, "timezone: there is no time zone 'Mars/Olympus'"],
  [{ beatMaxLoopInterval: -1 }, 'beatMaxLoopInterval must be a number of seconds, 0 or more, not -1'],
  [{ beatScheduler: 'redis' }, 'need a Redis, and the broker is not one; pass beatRedisUrl'],
  [
    { beatScheduler: 'shelve' as 'file' },
    "beatScheduler must be 'redis', 'redbeat', 'file' or 'memory', not \"shelve\"",
  ],
])('the option %j is refused', (options, message) => {
  expect(() => new Beat({ broker: 'memory://', ...options })).toThrow(message);
});
