import * as beat from '../../../../protocols/celery/schedule/beat.ts';
import * as redbeat from '../../../../protocols/celery/schedule/redbeat.ts';
import {
  type BeatEntry,
  isDue,
  type Schedule,
  type Zone,
  zoneOf,
} from '../../../../protocols/celery/schedule/schedule.ts';
import type { Exchange } from '../../../../protocols/redis.ts';
import type { ScheduleInfo } from '../../../inspector.ts';
import { entriesOf } from '../beat/beat-entries.ts';
import { elsewhere } from '../beat/beat-store-redis.ts';
import type { BrokerRedis } from '../brokers/broker.ts';
import type { BeatSettings } from '../options.ts';
import { silent } from '../../../log.ts';

/** A page is no longer than this many entries of RedBeat. */
const MOST_ENTRIES = 10_000;

type Run = <Reply>(exchange: Exchange<Reply>) => Promise<Reply>;

/**
 * The periodic tasks of a `beatSchedule` with the last runs that `Beat` keeps in Redis, and those that RedBeat keeps there. Entries of which only the runs
 * are stored are shown without their task: a beat has its schedule from its own configuration.
 */
export async function schedulesIn(
  broker: BrokerRedis | undefined,
  settings: BeatSettings,
): Promise<readonly ScheduleInfo[]> {
  const now = Date.now();
  const zone = zoneOf(settings.timezone ?? 'UTC');
  const {
    beatSchedule = {},
    beatRedisUrl,
    beatKeyPrefix = 'jobglot:beat:',
    redbeatRedisUrl,
    redbeatKeyPrefix,
  } = settings;
  const entries = new Map(entriesOf(beatSchedule).map((entry) => [entry.name, entry]));
  const prefix = beatRedisUrl === undefined ? (broker?.prefix ?? '') + beatKeyPrefix : beatKeyPrefix;
  const runs =
    (await inRedis(broker, beatRedisUrl, (run) => run(beat.runs(beat.beatKeys(prefix))))) ?? new Map<string, string>();
  const own = [...new Set([...entries.keys(), ...runs.keys()])].map((name) =>
    shown('beat', entries.get(name), name, beat.decodeRun(runs.get(name) ?? '')?.lastRunAt, now, zone),
  );
  const shared = (await inRedis(broker, redbeatRedisUrl, (run) => redbeats(run, redbeatKeyPrefix, now, zone))) ?? [];
  return [...own, ...shared];
}

async function redbeats(
  run: Run,
  prefix: string | undefined,
  now: number,
  zone: Zone,
): Promise<readonly ScheduleInfo[]> {
  const keys = redbeat.redbeatKeys(prefix);
  const records = await run(redbeat.allKeys(keys, MOST_ENTRIES)).then((found) => run(redbeat.records(found)));
  return records.flatMap(({ key, definition, meta }): readonly ScheduleInfo[] => {
    const name = key.startsWith(keys.prefix) ? key.slice(keys.prefix.length) : key;
    if (definition === undefined) return [];
    try {
      const entry = redbeat.decodeDefinition(definition);
      const { lastRunAt } = redbeat.decodeMeta(meta);
      return [{ ...shown('redbeat', entry, entry.name, lastRunAt, now, zone), enabled: entry.enabled }];
    } catch {
      return [shown('redbeat', undefined, name, undefined, now, zone)];
    }
  });
}

function shown(
  kind: string,
  entry: BeatEntry | undefined,
  name: string,
  lastRunAt: number | undefined,
  now: number,
  zone: Zone,
): ScheduleInfo {
  const queue = entry?.options['queue'];
  return {
    name,
    kind,
    task: entry?.task,
    queue: typeof queue === 'string' ? queue : undefined,
    when: entry === undefined ? 'unknown' : scheduleText(entry.schedule),
    enabled: true,
    lastRunAt: lastRunAt === undefined ? undefined : new Date(lastRunAt),
    nextRunAt:
      entry === undefined
        ? undefined
        : new Date(lastRunAt === undefined ? now : isDue(entry.schedule, lastRunAt, now, zone).at),
  };
}

/** `every 30s`, or cron's five fields. */
export function scheduleText(schedule: Schedule): string {
  if (schedule.kind === 'interval') return `every ${schedule.everyMs / 1000}s`;
  const { minute, hour, dayOfMonth, monthOfYear, dayOfWeek } = schedule.fields;
  return [minute, hour, dayOfMonth, monthOfYear, dayOfWeek]
    .map((field) => String(field).replaceAll(/\s/g, ''))
    .join(' ');
}

/** Asks the Redis of a URL, else that of the broker; undefined where there is neither. */
async function inRedis<Result>(
  broker: BrokerRedis | undefined,
  url: string | undefined,
  ask: (run: Run) => Promise<Result>,
): Promise<Result | undefined> {
  if (url === undefined) return broker === undefined ? undefined : ask((exchange) => broker.run(exchange));
  const redis = elsewhere(url);
  await redis.open(silent);
  try {
    return await ask((exchange) => redis.run(exchange));
  } finally {
    await redis.close();
  }
}
